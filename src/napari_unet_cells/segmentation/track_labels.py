"""Track the cells of a result that a person may have corrected, as one step that can be undone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place
from napari_unet_cells.core.tracks import Tracks
from napari_unet_cells.segmentation.replacing import (
    Replacement,
    ResultState,
    find_frozen,
    pack_replacement,
)
from napari_unet_cells.tracking import TrackingOptions, track_cells


@dataclass(frozen=True, eq=False)
class TrackedLabels:
    """Labels whose ids are those of tracks.

    Attributes
    ----------
    change : Replacement
        Of the labels; only ids change, no outline does.
    tracks : Tracks
    labels : integer array, (t, y, x)
        As they shall be.
    """

    change: Replacement
    tracks: Tracks
    labels: NDArray[Any]


def track_labels(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    options: TrackingOptions | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> TrackedLabels:
    """Track the cells of a result.

    Where they were tracked before, tracks keep their ids, and cells that were corrected since stay
    linked to those of the same id.

    Parameters
    ----------
    shown : integer array, (t, y, x)
        The labels as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
    approved : collection of Place
    options : TrackingOptions, optional
    stopped : callable () -> bool
        See `track_cells`.

    Raises
    ------
    UserError
        See `track_cells`.
    """
    shown = shown.copy()
    again = old.origin.link == 0
    held = _corrected_cells(shown, old) if again else ()
    found = track_cells(shown, options, keep_ids=again, held=held, stopped=stopped)
    labels = np.empty(shown.shape, np.promote_types(shown.dtype, found.dtype))
    for number, plane in enumerate(shown):
        labels[number] = found.renamed(number, plane, labels.dtype)
    changed, _ = find_frozen(shown, old, ())
    origin = old.origin.tracked(found.tracks.parents)
    change = pack_replacement(shown, old, approved, origin, (labels, changed, changed))
    return TrackedLabels(change, found.tracks, labels)


def _corrected_cells(shown: NDArray[Any], old: ResultState) -> set[tuple[int, int]]:
    """Give frame and id of the cells that differ from what the program left."""
    left = old.left.unpacked()
    before = None if old.corrected is None else old.corrected.unpacked()
    cells = set()
    for number, plane in enumerate(shown):
        differs = plane != left[number]
        if before is not None:
            differs = differs | before[number]
        cells |= {(number, label) for label in np.unique(plane[differs]).tolist() if label}
    return cells
