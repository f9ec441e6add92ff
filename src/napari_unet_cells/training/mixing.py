"""Mixing of tuned weights with those of the base: how far to go, as held-out images say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_unet_cells.core.intervals import Interval

#: How far the tuned weights go from those of the base.
MIXTURES = (1.0, 0.75, 0.5, 0.25)

#: Standard errors by which a gain over the base is clear.
CLEAR = 2.0

#: Score on held-out images below which a base has little to lose. Not higher: one that finds half
#: of the cells is often measured as worse than it is on the few of one region.
LITTLE_TO_LOSE = 0.25

#: Part of the mistakes of a base that go where it learns something, on the images that are learned
#: from. There the tuned network is the better one always: of four regions of spread cells and of
#: yeast two thirds of the mistakes went, of tissue in H&E, which became no better, a quarter.
WORTH_LEARNING = 0.5


@dataclass(frozen=True)
class Measurement:
    """AP50 (for class models mean IoU) on held-out images.

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


def how_far(
    scored: Mapping[float, Measurement], before: Measurement, held_out: bool = True
) -> float:
    """Choose a mixture: the best one, and in doubt a short way where there is something to lose.

    A network that knows such images already gains little from a few regions, and going all the way
    for a gain that is within the error of a few cells costs it what it knew of others: then it is
    the shortest way that is as good as the best within one standard error, after Breiman et al.,
    "Classification and Regression Trees", 1984.

    A network that does not know them has little to lose, and a few cells hardly tell half of the
    way from all of it: then it is the longest way that is better than the network, and as good as
    the best within one standard error.

    Parameters
    ----------
    scored : mapping of float to Measurement
        By the mixture.
    before : Measurement
        Of the base.
    held_out : bool
        Whether the images that these scores are of were held out. Else they were learned from,
        which favours the long way: a gain is clear only where half of the mistakes of the base are
        gone as well, and in doubt two standard errors are allowed for. Where the error is not known
        (classes), the best mixture is taken either way.

    Returns
    -------
    float
        0 where none is better than the base.
    """
    best, furthest = max((found.score, t) for t, found in scored.items())
    if best < before.score or best == before.score > 0:
        return 0.0
    error = scored[furthest].error

    def near(doubt: float) -> list[float]:
        least = max(best - doubt, before.score)
        return [t for t, found in scored.items() if found.score >= least]

    if before.score < LITTLE_TO_LOSE:
        return max([t for t in near(error) if scored[t].score > before.score] or near(error))
    clear = CLEAR * error
    if held_out or not error:  # of classes it is not known; of 1.0 it is 0, and no mistake is left
        return furthest if best - before.score >= clear else min(near(error))
    worth = WORTH_LEARNING * (1 - before.score)
    return furthest if best - before.score >= max(clear, worth) else min(near(clear))
