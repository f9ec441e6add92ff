"""Fit the limits of the watershed to annotated images: one parameter after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.instances import InstanceOptions, label_cells
from napari_unet_cells.metrics import compare, summarize

#: What is tried for each parameter. The smallest cell stays small: it is the one limit that
#: belongs to an image and not to a network.
GRID: dict[str, Sequence[float]] = {
    "seed_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "cell_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "smoothing": (0.5, 1.0, 1.5, 2.0, 2.5),
    "smallest": (6, 12, 20),
}

#: Pixels a side that are looked at of each image; enough to see touching cells.
LARGEST = 512

Example = tuple[NDArray[np.uint8], NDArray[Any]]


def fit_instances(
    examples: Iterable[Example], start: InstanceOptions | None = None, rounds: int = 2
) -> InstanceOptions:
    """Find the limits with the best mean of AP at IoU 0.5 and 0.75.

    Parameters
    ----------
    examples : iterable of (probabilities, truth)
        uint8 (2, y, x) as `label_cells` takes them, and instance labels (y, x).
    start : InstanceOptions, optional
    rounds : int
        How often each parameter is gone through.

    Returns
    -------
    InstanceOptions
        `start`, where nothing of `GRID` is better.
    """
    cut = [(p[:, :LARGEST, :LARGEST], t[:LARGEST, :LARGEST]) for p, t in examples]
    best = start or InstanceOptions()
    best_score = _score(cut, best)
    for _ in range(rounds):
        before = best
        for name, values in GRID.items():
            for value in values:
                trial = replace(best, **{name: value})  # type: ignore[arg-type]
                if trial != best and (score := _score(cut, trial)) > best_score:
                    best, best_score = trial, score
        if best == before:
            break
    return best


def _score(examples: Sequence[Example], options: InstanceOptions) -> float:
    summary = summarize(compare(t, label_cells(p, options)) for p, t in examples)
    return (summary.ap50 + summary.ap75) / 2
