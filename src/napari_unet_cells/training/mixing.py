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


def how_far(scored: Mapping[float, Measurement], before: Measurement) -> float:
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
        By the mixture, on held-out images.
    before : Measurement
        Of the base.

    Returns
    -------
    float
        0 where none is better than the base.
    """
    best, furthest = max((found.score, t) for t, found in scored.items())
    if best < before.score or best == before.score > 0:
        return 0.0
    error = scored[furthest].error
    near = [t for t, found in scored.items() if found.score >= max(best - error, before.score)]
    if before.score < LITTLE_TO_LOSE:
        return max([t for t in near if scored[t].score > before.score] or near)
    return furthest if best - before.score >= CLEAR * error else min(near)
