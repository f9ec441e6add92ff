"""Tune post-processing thresholds by coordinate search on annotated images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions, Oversegmentation, oversegment
from napari_unet_cells.core.metrics import compare, summarize

#: What is tried for each option. The smallest cell stays small: it is the one limit that
#: belongs to an image and not to a network.
GRID: dict[str, Sequence[float]] = {
    "split": (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.95),
    "min_size": (6, 12, 20),
    "min_probability": (0.0, 0.6, 0.65, 0.7, 0.72, 0.74, 0.76, 0.78, 0.8, 0.82, 0.84, 0.87, 0.9),
    "cell_threshold": (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8),
    "smoothing": (0.5, 1.0, 1.25, 1.5, 2.0, 2.5),
}

#: Options that drop cells are judged by AP at IoU 0.5 alone: that at 0.75 rises where cells that
#: are there, but roughly outlined, are dropped. All others are judged by the mean of both.
DROPS = ("min_size", "min_probability")

#: Pixels a side that are looked at of each image; enough to see touching cells.
LARGEST = 512

Example = tuple[NDArray[np.uint8], NDArray[Any]]


def fit_instances(
    examples: Iterable[Example], start: InstanceOptions | None = None, rounds: int = 2
) -> InstanceOptions:
    """Find the options with the best AP at IoU 0.5 and 0.75, see `DROPS`.

    Parameters
    ----------
    examples : iterable of (probabilities, truth)
        uint8 (2, y, x) as `oversegment` takes them, and instance labels (y, x).
    start : InstanceOptions, optional
    rounds : int
        How often each option is gone through.

    Returns
    -------
    InstanceOptions
        `start`, where nothing of `GRID` is better.
    """
    trials = _Trials([(p[:, :LARGEST, :LARGEST], t[:LARGEST, :LARGEST]) for p, t in examples])
    best = start or InstanceOptions()
    for _ in range(rounds):
        before = best
        for name, values in GRID.items():
            weight = 0.0 if name in DROPS else 0.5
            best_score = trials.score(best, weight)
            for value in values:
                trial = replace(best, **{name: value})  # type: ignore[arg-type]
                if trial != best and (score := trials.score(trial, weight)) > best_score:
                    best, best_score = trial, score
        if best == before:
            break
    return best


class _Trials:
    """Score options on the examples; their parts are kept as long as they serve."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        self.made_with: tuple[object, ...] | None = None
        self.oversegmented: list[Oversegmentation] = []

    def score(self, options: InstanceOptions, weight: float) -> float:
        """Give the mean of AP at IoU 0.5 and, with this weight, at 0.75."""
        needed = options.cell_threshold, options.smoothing, options.merge
        if self.made_with != needed:
            self.oversegmented = [oversegment(p, options) for p, _ in self.examples]
            self.made_with = needed
        pairs = zip(self.examples, self.oversegmented, strict=True)
        summary = summarize(compare(truth, parts.cells(options)) for (_, truth), parts in pairs)
        return (1 - weight) * summary.ap50 + weight * summary.ap75
