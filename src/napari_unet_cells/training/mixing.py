"""Mixing of tuned weights with those of the base: how far to go, as measured images say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_unet_cells.core.intervals import Interval

#: How far the tuned weights go from those of the base.
MIXTURES = (1.0, 0.75, 0.5, 0.25)

#: Standard errors by which a gain over the base is clear.
CLEAR = 2.0

#: Score below which a base has little to lose. Not higher: one that finds half of the cells is
#: often measured as worse than it is on the few of one region.
LITTLE_TO_LOSE = 0.25

#: Part of the mistakes of a base that are gone where it learned something, on the images that it
#: learned from. There the tuned network is nearly always the better one: of four regions of spread
#: cells and of yeast two thirds of the mistakes went, of tissue in H&E, which became no better,
#: over a quarter.
WORTH_LEARNING = 0.5


@dataclass(frozen=True)
class Measurement:
    """AP50 (for class models mean IoU) on images, those that were held out where there are any.

    Attributes
    ----------
    score : float
    interval : (float, float)
        See `core.intervals`.
    images : int
    cells : int
        Those that were found, were missed or are none, of which the score is a fraction; 0 where
        it is none.
    """

    score: float
    interval: Interval
    images: int
    cells: int = 0

    @property
    def error(self) -> float:
        """Standard error of the score, that of a binomial fraction; 0 where it is not known."""
        return math.sqrt(self.score * (1 - self.score) / self.cells) if self.cells else 0.0

    @property
    def cautious_error(self) -> float:
        """The same with a cell more that was found and one more that was not: not 0 at 1.

        After Laplace's rule of succession. 0 where the error is not known.
        """
        score = (self.score * self.cells + 1) / (self.cells + 2)
        return math.sqrt(score * (1 - score) / self.cells) if self.cells else 0.0


def how_far(
    scored: Mapping[float, Measurement], before: Measurement, learned_from: bool = False
) -> float:
    """Choose a mixture: the best one, and in doubt a short way where there is something to lose.

    A network that knows such images already gains little from a few regions, and going all the way
    for a gain that is within the error of a few cells costs it what it knew of others: then it is
    the shortest way that is as good as the best within one standard error, after Breiman et al.,
    "Classification and Regression Trees", 1984.

    A network that does not know them has little to lose, and a few cells hardly tell half of the
    way from all of it: then it is the longest way that is better than the network, and as good as
    the best within one standard error.

    Images that were learned from favour the long way. There a network that knows some of the cells
    goes as far as is best only where the gain is clear and half of its mistakes are gone; else it
    is the shortest way that is better than the network, and as good as the best within two standard
    errors. Of classes, whose error is not known, the best mixture is taken.

    Parameters
    ----------
    scored : mapping of float to Measurement
        By the mixture.
    before : Measurement
        Of the base.
    learned_from : bool
        Whether these are scores of the images that were learned from, as none is held out.

    Returns
    -------
    float
        0 where none is better than the base; 1 where nothing finds anything.
    """
    best, furthest = max((found.score, t) for t, found in scored.items())
    if best < before.score or best == before.score > 0:
        return 0.0
    error = scored[furthest].error
    if learned_from and before.cells and before.score >= LITTLE_TO_LOSE:
        doubt = CLEAR * scored[furthest].cautious_error
        if best - before.score >= max(doubt, WORTH_LEARNING * (1 - before.score)):
            return furthest
        return min(t for t, found in _near(scored, best - doubt) if found.score > before.score)
    near = [t for t, _ in _near(scored, max(best - error, before.score))]
    if before.score < LITTLE_TO_LOSE:
        return max([t for t in near if scored[t].score > before.score] or near)
    return furthest if best - before.score >= CLEAR * error else min(near)


def _near(scored: Mapping[float, Measurement], least: float) -> list[tuple[float, Measurement]]:
    return [(t, found) for t, found in scored.items() if found.score >= least]
