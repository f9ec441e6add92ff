"""A part of a plane, and cells that are found in it and put among those that are there.

::

    +------ seen ------+     a    lies mostly in the part: it is taken
    |  +-- part --+    |     b    lies mostly beside it: it stays as it was, or is not there
    |  |  aa   bbbbb   |
    |  |  aa   bbbbb   |     No cell is cut at the border of the part: what is found is seen with
    |  +----------+    |     a margin, and belongs to the part as a whole or not at all.
    +------------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.frozen import left_over
from napari_unet_cells.core.labels import FEW_IDS
from napari_unet_cells.core.masks import bounding_box
from napari_unet_cells.core.resample import Box


@dataclass(frozen=True, eq=False)
class Part:
    """Pixels of a plane, at least one.

    Attributes
    ----------
    box : (slice, slice)
        Rows and columns that hold all of them.
    mask : bool array, (y, x), or None
        Which pixels of the box; None for all.
    """

    box: Box
    mask: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the box."""
        return self.box[0].stop - self.box[0].start, self.box[1].stop - self.box[1].start

    def pixels(self, window: NDArray[Any], place: Box) -> NDArray[Any]:
        """Give the pixels of the part, in one row.

        Parameters
        ----------
        window : array, (y, x)
            Of a part of the plane that holds the box.
        place : (slice, slice)
            Of the window, in the plane.
        """
        inner = window[_within(self.box, place)]
        return inner.ravel() if self.mask is None else inner[self.mask]

    def write(self, window: NDArray[Any], place: Box, values: NDArray[Any]) -> None:
        """Write the pixels of the part from an array of the shape of the box; see `pixels`."""
        inner = window[_within(self.box, place)]
        np.copyto(inner, values, where=True if self.mask is None else self.mask)


@dataclass(frozen=True, eq=False)
class PartCells:
    """Cells that were found in a part of a plane, and those around it.

    Attributes
    ----------
    part : Part
    seen : (slice, slice)
        Pixels of the plane that were looked at; they hold the part.
    labels : integer array, (y, x)
        The cell of each of these pixels, 1 to n; 0 is background.
    """

    part: Part
    seen: Box
    labels: NDArray[Any]

    @cached_property
    def taken(self) -> NDArray[np.bool_]:
        """Marks of the cells that belong to the part, (n + 1,), with half of their pixels."""
        return _belongs(self.labels, self.part, self.seen)

    @property
    def chosen(self) -> NDArray[Any]:
        """Labels of the cells that belong to the part, (y, x) as `labels`."""
        return np.where(self.taken[self.labels], self.labels, 0)

    def touches(self, shape: tuple[int, int]) -> bool:
        """Whether a cell of the part goes on beyond what was seen of a plane of this shape."""
        (y, x), labels = self.seen, self.labels
        lines = [
            line
            for line, goes_on in (
                (labels[0], y.start > 0),
                (labels[-1], y.stop < shape[0]),
                (labels[:, 0], x.start > 0),
                (labels[:, -1], x.stop < shape[1]),
            )
            if goes_on
        ]
        return any(bool(self.taken[line].any()) for line in lines)


def part_inside(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> Part | None:
    """Find the pixels of a plane whose middle lies inside of a polygon.

    Parameters
    ----------
    polygons : sequence of float arrays, (corners, 2)
        Rows and columns; the middle of a pixel is a whole number. They may reach beyond the
        plane. What a polygon goes around twice is outside of it.
    shape : (int, int)
        Of the plane.

    Returns
    -------
    Part or None
        None where no pixel does.
    """
    usable = _usable(polygons)
    ends = _ends(usable, shape)
    if ends is None:
        return None
    first, last = ends
    mask = np.zeros((last[0] - first[0], last[1] - first[1]), bool)
    for polygon in usable:  # each in the rectangle around it: there may be a thousand
        own = _ends([polygon], shape)
        if own is not None:
            (top, left), (bottom, right) = (np.subtract(end, first).tolist() for end in own)
            window = mask[top:bottom, left:right]
            window |= _filled(polygon - own[0], window.shape)
    if not mask.any():
        return None
    inner = bounding_box(mask)
    y, x = (slice(s.start + at, s.stop + at) for s, at in zip(inner, first, strict=True))
    mask = mask[inner]
    return Part((y, x), None if mask.all() else mask)


def touches_plane(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> bool:
    """Whether the rectangle around polygons holds pixels of a plane; see `part_inside`."""
    return _ends(_usable(polygons), shape) is not None


def _usable(polygons: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    return [one for one in polygons if len(one) > 2 and np.isfinite(one).all()]


def _ends(
    polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]
) -> tuple[list[int], list[int]] | None:
    """Give the first row and column of polygons in a plane, and those after the last ones."""
    if not polygons:
        return None
    corners = np.concatenate(polygons)
    first = np.clip(np.ceil(corners.min(axis=0)), 0, shape).astype(int).tolist()
    last = np.clip(np.floor(corners.max(axis=0)) + 1, 0, shape).astype(int).tolist()
    if first[0] >= last[0] or first[1] >= last[1]:
        return None
    return first, last


def _filled(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Fill one polygon, row by row between its sides."""
    turns = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for one, other in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        (y0, x0), (y1, x1) = sorted((one.tolist(), other.tolist()))
        rows = np.arange(max(0, int(np.ceil(y0))), min(shape[0], int(np.ceil(y1))))
        if len(rows):
            x = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
            turns[rows, np.clip(np.ceil(x), 0, shape[1]).astype(int)] ^= 1
    # Summed up along a row, which overflows to even numbers: odd is inside.
    inside: NDArray[np.bool_] = np.cumsum(turns, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1
    return inside


def replace_in_part(
    shown: NDArray[Any], frozen: NDArray[np.bool_], found: PartCells, first_id: int
) -> NDArray[Any]:
    """Put the cells that were found in a part among those of its plane.

    A cell of the plane that lies mostly in the part is replaced as a whole, unless it is frozen,
    or what was found there lies mostly beside the part. All others stay as they are, and what
    was found gives way to them.

    Parameters
    ----------
    shown : integer array, (y, x)
        The plane as it is.
    frozen : bool array, (y, x)
        Pixels that stay, see `frozen.replace_rest`.
    found : PartCells
    first_id : int
        Free, as are all above it.

    Returns
    -------
    integer array, (y, x), of a data type that holds all ids
        A new cell that is nearly an old one has the id of that one.
    """
    ids, old = _compact(shown)
    whole = slice(0, shown.shape[0]), slice(0, shown.shape[1])
    goes = _belongs(old, found.part, whole)
    goes[np.unique(old[frozen])] = False
    goes[0] = False
    pairs = _Pairs.of(found.labels, old[found.seen])
    total = np.bincount(old.ravel(), minlength=len(goes))
    beside = ~found.taken[pairs.new]
    elsewhere = np.bincount(pairs.old[beside], pairs.shared[beside], minlength=len(goes))
    goes &= 2 * elsewhere <= total
    there = old[found.seen]
    held = ((there > 0) & ~goes[there]) | frozen[found.seen]
    rest = left_over(found.chosen, held)
    numbers = _numbers(found, pairs, goes, total, ids)
    fresh = np.setdiff1d(np.unique(rest), np.append(0, np.flatnonzero(numbers)))
    numbers[fresh] = first_id + np.arange(len(fresh))
    dtype = np.promote_types(shown.dtype, np.min_scalar_type(int(numbers.max(initial=0))))
    result = shown.astype(dtype)
    result[goes[old]] = 0
    is_new = rest > 0
    result[found.seen][is_new] = numbers[rest[is_new]]
    return result


def _numbers(
    found: PartCells,
    pairs: _Pairs,
    goes: NDArray[np.bool_],
    total: NDArray[np.intp],
    ids: NDArray[Any],
) -> NDArray[np.int64]:
    """Give new cells the ids of old ones that they share more than half with; 0 for the rest."""
    sizes = np.bincount(found.labels.ravel(), minlength=len(found.taken))
    union = sizes[pairs.new] + total[pairs.old] - pairs.shared
    is_same = found.taken[pairs.new] & goes[pairs.old] & (2 * pairs.shared > union)
    numbers = np.zeros(len(found.taken), np.int64)
    numbers[pairs.new[is_same]] = ids[pairs.old[is_same]]
    return numbers


@dataclass(frozen=True, eq=False)
class _Pairs:
    """New and old cells that overlap, and by how many pixels."""

    new: NDArray[np.intp]
    old: NDArray[np.intp]
    shared: NDArray[np.intp]

    @classmethod
    def of(cls, new: NDArray[Any], old: NDArray[Any]) -> _Pairs:
        both = (new > 0) & (old > 0)
        size = int(old.max(initial=0)) + 1
        codes, shared = np.unique(new[both].astype(np.int64) * size + old[both], return_counts=True)
        return cls(*np.divmod(codes, size), shared)


def _compact(plane: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the id of each number, and the plane in numbers that a table of all of them holds."""
    top = int(plane.max(initial=0))
    if top < FEW_IDS:
        return np.arange(top + 1), plane
    ids = np.union1d(0, plane)
    return ids, np.searchsorted(ids, plane)


def _belongs(labels: NDArray[Any], part: Part, place: Box) -> NDArray[np.bool_]:
    """Tell for each number whether at least half of its pixels lie in a part."""
    total = np.bincount(labels.ravel())
    inside = np.bincount(part.pixels(labels, place), minlength=len(total))
    belongs: NDArray[np.bool_] = (2 * inside >= total) & (total > 0)
    belongs[0] = False
    return belongs


def _within(part: Box, whole: Box) -> Box:
    y, x = (
        slice(one.start - other.start, one.stop - other.start)
        for one, other in zip(part, whole, strict=True)
    )
    return y, x
