"""Bootstrap confidence intervals of scores of a set of images.

Images are drawn with replacement, as many as there are, and the counts of each such set are summed
before anything is divided, as `metrics.summarize` does. The limits are the percentiles 2.5 and
97.5 of what comes out (Efron, "Bootstrap methods", Annals of Statistics 7, 1979). They say within
which scores other images of the same kind would leave a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.core.metrics import THRESHOLDS, ClassScore, ImageScore
from napari_unet_cells.errors import UserError

#: A lower and an upper limit.
Interval = tuple[float, float]

#: How many sets are drawn.
RESAMPLES = 2000


def bootstrap(
    counts: ArrayLike,
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a score; of one image both limits are its score.

    `scipy.stats.bootstrap` gives the same and refuses one image.

    Parameters
    ----------
    counts : array of int, (images, ...)
    score : callable
        Turns summed counts (resamples, ...) into scores (resamples,).
    resamples : int
    seed : int
        The same one draws the same sets.

    Raises
    ------
    UserError
        If there is no image at all.
    """
    numbers = np.asarray(counts)
    if not len(numbers):
        raise UserError("There is nothing to summarize: no image was scored.")
    drawn = np.random.default_rng(seed).integers(0, len(numbers), (resamples, len(numbers)))
    low, high = np.percentile(score(numbers[drawn].sum(axis=1)), (2.5, 97.5))
    return float(low), float(high)


def ratio(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Divide counts (n, 2), good ones by all; 0/0 is 1, because nothing was to be found."""
    good, whole = sums.T
    values: NDArray[np.float64] = np.where(whole > 0, good / np.maximum(whole, 1), 1.0)
    return values


def ap50_interval(scores: Sequence[ImageScore]) -> Interval:
    """Interval of AP at IoU 0.5."""
    tp = np.array([s.tp[THRESHOLDS.index(0.5)] for s in scores], int)
    cells = np.array([s.n_true + s.n_predicted for s in scores], int)
    return bootstrap(np.stack([tp, cells - tp], axis=1), ratio)


def mean_iou_interval(scores: Sequence[ClassScore]) -> Interval:
    """Interval of the mean IoU over the classes that occur."""

    def mean_iou(sums: NDArray[Any]) -> NDArray[np.float64]:
        both, areas = sums[:, 0], sums[:, 1] + sums[:, 2]
        occurs = areas > 0
        iou = np.where(occurs, both / np.maximum(areas - both, 1), 0.0)
        means: NDArray[np.float64] = iou.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
        return means

    return bootstrap([(s.both, s.true, s.predicted) for s in scores], mean_iou)
