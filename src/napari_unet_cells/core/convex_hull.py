"""Pixels in the convex hull of each cell, for all cells of a plane at once.

As in `skimage.morphology.convex_hull_image` a pixel is a diamond, (y +- 1/2, x) and
(y, x +- 1/2), and the border of the hull belongs to it. Coordinates are doubled, so that
all are whole numbers and nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hull_pixels(
    runs: Mapping[str, NDArray[Any]],
    cell: NDArray[np.intp],
    boxes: Sequence[NDArray[np.int64]],
    most: int,
) -> NDArray[np.int64]:
    """Count the pixels whose centres lie in the convex hull of each cell.

    Parameters
    ----------
    runs : mapping of str to integer array, (runs,)
        ``y``, ``start`` and ``stop`` (exclusive) of the horizontal runs of pixels, sorted by cell,
        then from top to bottom.
    cell : integer array, (runs,)
        Number of the cell of each, from 0 on.
    boxes : sequence of 4 integer arrays, (cells,)
        First y, first x, last y and last x of each cell; the last are exclusive.
    most : int
        Rows of hulls that are computed at once, about.

    Returns
    -------
    int64 array, (cells,)
    """
    n = len(boxes[0])
    if n == 0:
        return np.empty(0, np.int64)
    in_row = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(runs["y"], prepend=-1))
    last_in_row = np.append(in_row[1:], len(cell)) - 1
    owner, y = cell[in_row], runs["y"][in_row]
    left, right = runs["start"][in_row], runs["stop"][last_in_row] - 1
    height = boxes[2] - boxes[0]
    counts = np.empty(n, np.int64)
    # Ids that are strewn over the whole image have more rows than pixels: some at a time.
    part = np.cumsum(height) // most
    for some in np.split(np.arange(n), np.flatnonzero(np.diff(part)) + 1):
        low, high = np.searchsorted(owner, (some[0], some[-1] + 1))
        at_cell = np.repeat(some, height[some])
        skipped = np.cumsum(height[some]) - height[some]
        at_y = np.arange(len(at_cell)) + np.repeat(boxes[0][some] - skipped, height[some])
        begin = _first_in_hull(owner[low:high], y[low:high], left[low:high], at_cell, at_y)
        end = -_first_in_hull(owner[low:high], y[low:high], -right[low:high], at_cell, at_y)
        counts[some] = np.bincount(at_cell - some[0], end - begin + 1, len(some))
    return counts


def _first_in_hull(
    cell: NDArray[np.intp],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    at_cell: NDArray[np.intp],
    at_y: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Give the first pixel of each row within the hull, from the first of each row of a cell.

    Parameters
    ----------
    cell, y, x : integer arrays, (rows,)
        Sorted by cell, then y.
    at_cell, at_y : integer arrays, (n,)
        The rows asked for, sorted likewise.
    """
    points = np.repeat(cell, 3), np.repeat(2 * y, 3), np.repeat(2 * x, 3)
    for corner, (dy, dx) in enumerate(((-1, 0), (0, -1), (1, 0))):
        points[1][corner::3] += dy
        points[2][corner::3] += dx
    owner, py, px = _left_corners(*points)
    # one number that grows with cell and y, to look both up at once
    span = int(py.max()) + 2
    place = np.searchsorted(owner * span + py, at_cell * span + 2 * at_y, side="right") - 1
    step = py[place + 1] - py[place]
    doubled = px[place] * step + (px[place + 1] - px[place]) * (2 * at_y - py[place])
    first: NDArray[np.int64] = -(-doubled // (2 * step))
    return first


def _left_corners(
    cell: NDArray[np.intp], y: NDArray[np.int64], x: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Keep the corners of the left side of each cell's convex hull.

    A point that lies on the line between its two neighbours, or to the right of it, is no
    corner. This holds whatever else is dropped, so all such points go at once, until there
    are none; cells that are done are put aside.
    """
    same = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(y, prepend=y[0] - 1))
    cell, y, x = cell[same], y[same], np.minimum.reduceat(x, same)
    done: list[tuple[NDArray[Any], ...]] = []
    while len(cell):
        drop = np.zeros(len(cell), bool)
        rise_y, rise_x = np.diff(y), np.diff(x)
        drop[1:-1] = (rise_x[:-1] * rise_y[1:] >= rise_x[1:] * rise_y[:-1]) & (
            cell[2:] == cell[:-2]
        )
        busy = np.zeros(int(cell[-1]) + 1, bool)
        busy[cell[drop]] = True
        again = busy[cell]
        done.append((cell[~again], y[~again], x[~again]))
        stay = again & ~drop
        cell, y, x = cell[stay], y[stay], x[stay]
    cell, y, x = (np.concatenate(arrays) for arrays in zip(*done, strict=True))
    order = np.argsort(cell, kind="stable")
    return cell[order], y[order], x[order]
