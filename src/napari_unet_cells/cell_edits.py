"""Changes to whole cells of a label image: merge, split, delete, fill, smooth, draw.

Each function looks at a plane of labels, changes nothing, and gives the one window in which
labels become others. Cells that are not meant never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import line, polygon
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from napari_unet_cells.errors import UserError

Point = tuple[float, float]

#: Pixels; what is smaller is a slip of the hand and no cell.
SMALLEST = 3

#: Cells that are looked for one by one; of more, a table is made.
FEW_IDS = 6


@dataclass(frozen=True)
class Edit:
    """New labels in a window of a plane.

    Attributes
    ----------
    rows, columns : slice
    after : int64 array, of the size of the window
        May hold ids that the labels' data type cannot: check before writing.
    """

    rows: slice
    columns: slice
    after: NDArray[np.int64]

    def changes(self, plane: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], Any]:
        """Rows and columns of the pixels that change, and their new labels."""
        rows, columns = np.nonzero(plane[self.rows, self.columns] != self.after)
        values = self.after[rows, columns]
        return rows + self.rows.start, columns + self.columns.start, values


def ids_along(plane: NDArray[Any], path: Sequence[Point]) -> list[int]:
    """Ids of the cells under a path, in the order in which it meets them.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : sequence of (y, x)
        One point, or the corners of a line; what lies outside of the plane meets nothing.
    """
    rows, columns = _drawn(path, plane.shape)
    met = plane[rows, columns].tolist()
    return [int(label) for label in dict.fromkeys(met) if label]


def merge(plane: NDArray[Any], ids: Sequence[int]) -> Edit | None:
    """Make one cell of several, under the id of the first; None of fewer than two."""
    if len(set(ids)) < 2:
        return None
    rows, columns, inside = _window(plane, ids)
    after = plane[rows, columns].astype(np.int64)
    after[inside] = ids[0]
    return Edit(rows, columns, after)


def split_along(plane: NDArray[Any], path: Sequence[Point], next_id: int) -> Edit:
    """Cut every cell that a line crosses.

    The largest part keeps the id, the others get new ones; the pixels of the line go to the
    nearest part.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : sequence of (y, x)
    next_id : int
        The first free id.

    Raises
    ------
    UserError
        Where the line cuts through no cell.
    """
    ids = ids_along(plane, path)
    if not ids:
        raise UserError("There is no cell under the line. Draw it across the cell to split.")
    rows, columns, _ = _window(plane, ids)
    after = plane[rows, columns].astype(np.int64)
    cut = np.zeros(plane.shape, bool)[rows, columns]
    drawn = _drawn(path, plane.shape)
    y, x = drawn[0] - rows.start, drawn[1] - columns.start
    hit = (y >= 0) & (x >= 0) & (y < cut.shape[0]) & (x < cut.shape[1])
    cut[y[hit], x[hit]] = True
    first = next_id
    for label in ids:
        next_id = _cut_cell(after, after == label, cut, next_id)
    if next_id == first:
        raise UserError(
            "The line does not cut through the cell. Begin and end it outside of the cell."
        )
    return Edit(rows, columns, after)


def _cut_cell(
    after: NDArray[np.int64], cell: NDArray[np.bool_], cut: NDArray[np.bool_], next_id: int
) -> int:
    """Give all but the largest part of each piece of a cell new ids; return the next free one."""
    pieces, n_pieces = ndimage.label(cell)
    parts, _ = ndimage.label(cell & ~cut)  # 4-connected, so a line of pixels separates
    for piece in range(1, n_pieces + 1):
        own = parts[(pieces == piece) & (parts > 0)]
        numbers, sizes = np.unique(own, return_counts=True)
        if len(numbers) < 2:
            continue
        nearest = ndimage.distance_transform_edt(
            ~np.isin(parts, numbers), return_distances=False, return_indices=True
        )
        owner = parts[tuple(nearest)]
        for number in numbers[np.argsort(-sizes)][1:]:
            after[(pieces == piece) & (owner == number)] = next_id
            next_id += 1
    return next_id


def split_at_waist(plane: NDArray[Any], point: Point, next_id: int) -> Edit:
    """Cut a cell in two where it is narrowest: watershed of the distance to its border.

    Raises
    ------
    UserError
        Where there is no cell, or it has no waist.
    """
    rows, columns, cell = _cell_at(plane, point)
    distance = ndimage.distance_transform_edt(np.pad(cell, 1))[1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(distance, 1.0)
    apart = max(2, round(float(distance.max()) / 2))
    peaks = peak_local_max(
        smooth, min_distance=apart, labels=cell.astype(np.int32), num_peaks=2, exclude_border=False
    )
    if len(peaks) < 2:
        raise UserError("The cell has no waist to cut it at. Draw a line across it instead.")
    seeds = np.zeros(cell.shape, np.int32)
    seeds[tuple(peaks.T)] = (1, 2)
    parts = watershed(-smooth, seeds, mask=cell)
    after = plane[rows, columns].astype(np.int64)
    smaller = 1 if (parts == 1).sum() < (parts == 2).sum() else 2
    after[parts == smaller] = next_id
    return Edit(rows, columns, after)


def delete(plane: NDArray[Any], point: Point) -> Edit:
    """Make background of a cell.

    Raises
    ------
    UserError
        Where there is no cell.
    """
    rows, columns, cell = _cell_at(plane, point)
    after = plane[rows, columns].astype(np.int64)
    after[cell] = 0
    return Edit(rows, columns, after)


def fill_holes(plane: NDArray[Any], point: Point) -> Edit:
    """Give a cell the background that it encloses; other cells in its holes stay.

    Raises
    ------
    UserError
        Where there is no cell, or it has no hole.
    """
    rows, columns, cell = _cell_at(plane, point)
    after = plane[rows, columns].astype(np.int64)
    holes = ndimage.binary_fill_holes(cell) & (after == 0)
    if not holes.any():
        raise UserError("The cell has no hole.")
    after[holes] = _label_at(plane, point)
    return Edit(rows, columns, after)


def smooth(plane: NDArray[Any], point: Point) -> Edit:
    """Smooth the outline of a cell; it never grows over others, and stays in one piece.

    A Gaussian of a fifteenth of its diameter, cut at one half.

    Raises
    ------
    UserError
        Where there is no cell, or nothing would be left of it.
    """
    label = _label_at(plane, point)
    rows, columns, cell = _cell_at(plane, point)
    margin = 3
    rows, columns = _grown(rows, margin, plane.shape[0]), _grown(columns, margin, plane.shape[1])
    after = plane[rows, columns].astype(np.int64)
    cell = after == label
    sigma = max(1.0, float(np.sqrt(cell.sum() * 4 / np.pi)) / 15)
    # A cell that the border of the plane cuts goes on behind it.
    wanted = ndimage.gaussian_filter(cell.astype(np.float32), sigma, mode="nearest") > 0.5
    parts, n = ndimage.label(wanted & (cell | (after == 0)))
    if n == 0:
        raise UserError("The cell is too thin to be smoothed: nothing would be left of it.")
    sizes = np.bincount(parts.ravel())[1:]
    after[cell] = 0
    after[parts == 1 + int(sizes.argmax())] = label
    return Edit(rows, columns, after)


def draw(plane: NDArray[Any], outline: Sequence[Point], next_id: int) -> Edit:
    """Make a new cell of the background within an outline.

    Parameters
    ----------
    plane : integer array, (y, x)
    outline : sequence of (y, x)
        The last point is joined to the first.
    next_id : int

    Raises
    ------
    UserError
        Where hardly a pixel of background lies within.
    """
    points = np.array(outline)
    rows, columns = polygon(points[:, 0], points[:, 1], plane.shape)
    free = plane[rows, columns] == 0
    rows, columns = rows[free], columns[free]
    if len(rows) < SMALLEST:
        raise UserError(
            "Hardly a pixel of background lies within the outline. Draw around the cell; other "
            "cells are never painted over."
        )
    window = _box(rows, columns)
    after = plane[window].astype(np.int64)
    after[rows - window[0].start, columns - window[1].start] = next_id
    return Edit(*window, after)


def _label_at(plane: NDArray[Any], point: Point) -> int:
    y, x = (round(float(value)) for value in point)
    inside = 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]
    label = int(plane[y, x]) if inside else 0
    if label == 0:
        raise UserError("There is no cell under the mouse. Click on one.")
    return label


def _cell_at(plane: NDArray[Any], point: Point) -> tuple[slice, slice, NDArray[np.bool_]]:
    return _window(plane, [_label_at(plane, point)])


def _window(plane: NDArray[Any], ids: Iterable[int]) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Window that holds all pieces of some cells, and where in it they are.

    The whole plane is looked at, because a cell need not hang together; of the ways to do it
    one comparison an id is the fastest, as long as the ids are few.
    """
    listed = sorted(set(ids))
    if len(listed) <= FEW_IDS:
        inside = plane == listed[0]
        for label in listed[1:]:
            inside |= plane == label
    else:
        wanted = np.zeros(max(int(plane.max()), listed[-1]) + 1, bool)
        wanted[listed] = True
        inside = wanted[plane]
    rows = _extent(inside.any(axis=1))
    columns = _extent(inside[rows].any(axis=0))
    return rows, columns, inside[rows, columns]


def _extent(seen: NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(seen)
    return slice(int(where[0]), int(where[-1]) + 1)


def _box(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[slice, slice]:
    return (
        slice(int(rows.min()), int(rows.max()) + 1),
        slice(int(columns.min()), int(columns.max()) + 1),
    )


def _grown(part: slice, margin: int, size: int) -> slice:
    return slice(max(0, part.start - margin), min(size, part.stop + margin))


def _drawn(
    path: Sequence[Point], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixels of a path within a plane, in order."""
    corners = [(round(float(y)), round(float(x))) for y, x in path]
    ends = zip(corners, corners[1:] or corners, strict=False)
    pieces = [line(*start, *stop) for start, stop in ends]
    rows, columns = (np.concatenate([piece[axis] for piece in pieces]) for axis in (0, 1))
    inside = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
    return rows[inside], columns[inside]
