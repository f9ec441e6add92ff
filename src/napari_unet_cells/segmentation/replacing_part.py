"""Put what was found in a part of an image into a result, or begin a result with it.

What a person corrected or approved stays, and so does what lies beside the part
(`core.parts.replace_in_part`). Cells of two runs cannot be separated again together, so such a
result keeps no fragments; the step before it has them still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.parts import replace_in_part
from napari_unet_cells.core.regions import Place, Region, Review
from napari_unet_cells.core.resample import Box
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.part_run import FoundPart
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    find_frozen,
    pack_replacement,
)
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.run import Finished


def replace_part(
    shown: NDArray[Any],
    old: ResultState,
    review: Review,
    found: FoundPart,
    index: tuple[int, ...] = (),
) -> Replacement:
    """Put what was found into a result, except where it was corrected or approved.

    Parameters
    ----------
    shown : integer array, (..., y, x)
        The labels as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
    review : Review
        Of the labels: its approved regions stay, and its uncertainty is that beside the part.
    found : FoundPart
    index : tuple of int
        Of the plane, along the axes of the labels before (y, x).
    """
    shown, approved = shown.copy(), frozenset(review.approved)
    origin = _origin(old.origin, review, found, index)
    if found.cells is None:
        parts = _classes_replaced(shown, old, approved, found, index)
    else:
        parts = _cells_replaced(shown, old, approved, found, index)
    old.origin.fragments.pack()
    return pack_replacement(shown, old, approved, origin, parts)


Parts = tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]


def _cells_replaced(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    found: FoundPart,
    index: tuple[int, ...],
) -> Parts:
    assert found.cells is not None
    changed, frozen = find_frozen(shown, old, approved)
    first = max(int(shown.max(initial=0)), int(old.made.unpacked().max(initial=0))) + 1
    plane = replace_in_part(shown[index], frozen[index], found.cells, first)
    result = shown.astype(np.promote_types(shown.dtype, plane.dtype))
    result[index] = plane
    return result, changed, frozen


def _classes_replaced(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    found: FoundPart,
    index: tuple[int, ...],
) -> Parts:
    changed = shown != old.left.unpacked()
    if old.corrected is not None:
        changed |= old.corrected.unpacked()
    frozen = changed.copy()
    for place in approved:
        frozen[old.left.window(place)] = True
    new = shown.copy()
    found.part.write(new[index], _whole(found.shape), found.classes)
    return np.where(frozen, shown, new), changed, frozen


def is_unsegmented(
    provenance: Mapping[str, Any], region: Region, plane: tuple[int, ...] = ()
) -> bool:
    """Tell whether some of a region was never segmented, since only parts of the image were.

    Of a part inside of drawn shapes all of its rows and columns count.

    Parameters
    ----------
    provenance : mapping
        Of the labels.
    region : Region
    plane : tuple of int
        Its plane, along the axes of the labels before (y, x).
    """
    parts = provenance.get("parts") or []
    if not parts or parts[0].get("date") != provenance.get("date"):
        return False  # all of the image was segmented first
    left = np.ones(region.shape, bool)
    for part in parts:
        of = tuple(part.get("plane", ()))
        if len(of) == len(plane) and of != plane:
            continue
        (top, bottom), (first, last) = (
            np.maximum(np.subtract(part[side], start), 0)
            for side, start in (("rows", region.top), ("columns", region.left))
        )
        left[top:bottom, first:last] = False
    return bool(left.any())


def _origin(old: Origin, review: Review, found: FoundPart, index: tuple[int, ...]) -> Origin:
    """Give the origin of cells of several runs: the first one, and the parts since."""
    parts = [*old.provenance.get("parts", ()), *found.details.parts]
    provenance = {**old.provenance, "parts": [dict(part) for part in parts]}
    return Origin(None, provenance, seen=_seen(review, found, index))


def _seen(review: Review, found: FoundPart, index: tuple[int, ...]) -> Review | None:
    """Give a review with the uncertainty of the run in the part; None where none is known."""
    if review.uncertainty is None:  # of cells from the disk only means are known
        return None
    uncertainty = review.uncertainty.copy()
    planes = uncertainty.reshape(*review.planes, *uncertainty.shape[-2:])
    _write_uncertainty(planes[index], found)
    return review.with_uncertainty(uncertainty)


def _write_uncertainty(plane: NDArray[np.uint8], found: FoundPart) -> None:
    """Write that of the box of the part, at the size that the plane has."""
    size, seen = plane.shape, found.uncertainty
    target, ends = [], []
    for axis, side in enumerate(found.part.box):
        own, there, before = found.shape[axis], size[axis], found.window[axis].start
        start, stop = side.start * there // own, -(-side.stop * there // own)
        ratio = found.scaled[axis] / there
        target.append(slice(start, stop))
        ends.append(
            (max(0.0, start * ratio - before), min(seen.shape[axis], stop * ratio - before))
        )
    (top, bottom), (left, right) = ends
    rows, columns = target
    resized = Image.fromarray(seen).resize(
        (columns.stop - columns.start, rows.stop - rows.start),
        Image.Resampling.BOX,
        box=(left, top, right, bottom),
    )
    plane[rows, columns] = np.asarray(resized)


def begun_with(
    found: FoundPart, n_fixed: int, classes: NDArray[np.uint8] | None = None
) -> Finished:
    """Make a result as large as the image in which only the part holds anything.

    Parameters
    ----------
    found : FoundPart
    n_fixed : int
        Axes of the layer before (y, x), which have a length of 1.
    classes : uint8 array, (y, x), optional
        Those beside the part.
    """
    whole = _whole(found.shape)
    classes = np.zeros(found.shape, np.uint8) if classes is None else classes.copy()
    found.part.write(classes, whole, found.classes)
    uncertainty = np.zeros(found.scaled, np.uint8)
    _write_uncertainty(uncertainty, found)
    cells = None
    if found.cells is not None:
        nothing = np.zeros(found.shape, np.uint16)
        cells = replace_in_part(nothing, nothing > 0, found.cells, 1)
    n = 0 if cells is None else int(cells.max(initial=0))
    result = Result(cells, classes, found.details, n, KeptFragments(), uncertainty)
    labels = classes if cells is None else cells
    review = Review(labels.reshape((1,) * n_fixed + labels.shape), uncertainty)
    return Finished(result, 0 if cells is None else digest(cells), 0.0, review)


def _whole(shape: tuple[int, int]) -> Box:
    return slice(0, shape[0]), slice(0, shape[1])
