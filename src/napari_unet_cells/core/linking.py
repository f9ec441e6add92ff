"""One id per cell across planes: along z, or along time.

Cells of consecutive planes are the same cell where they overlap enough::

    plane 0        plane 1        linked
    1 1 1 . .      . 2 2 2 .      . 1 1 1 .      IoU(1, 2) = 4 / 8 = 0.5
    1 1 1 . .      . 2 2 2 .      . 1 1 1 .      2 of plane 1 becomes 1
    . . . . .      . . . . 1      . . . . 2      its 1 overlaps nothing: a new id

The overlap of ``A`` and ``B`` is ``IoU = |A n B| / |A u B|`` (Jaccard 1912). Of all ways to pair
the cells of two planes one to one, each pair with at least the threshold, the one with the
largest sum of IoU is taken (the assignment problem, Kuhn 1955).

References
----------
.. [1] Jaccard, "The distribution of the flora in the alpine zone", New Phytologist 11, 1912.
.. [2] Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics
   Quarterly 2, 1955.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet_cells.errors import UserError

#: Least IoU of one cell in two planes. A disc that moves by a third of its diameter has 0.41,
#: by half of it 0.24.
THRESHOLD = 0.25

Plane = NDArray[np.integer[Any]]
_Matches = tuple[NDArray[np.intp], NDArray[np.intp]]


def link_planes(
    planes: NDArray[np.integer[Any]] | Iterable[Plane],
    threshold: float = THRESHOLD,
    out: NDArray[np.unsignedinteger[Any]] | None = None,
) -> NDArray[np.unsignedinteger[Any]]:
    """Give a cell the same id in all consecutive planes in which it overlaps itself.

    Two planes are in memory at a time, and the result; a lazy array is read twice.

    Parameters
    ----------
    planes : integer array, (n, y, x), or iterable of (y, x)
        Labels of one plane at a time, 0 is background.
    threshold : float
        Least IoU, above 0 and up to 1.
    out : unsigned integer array, (n, y, x), optional
        Where to write; may be `planes` itself. It is left as it is where its dtype cannot
        hold the ids, so go on with what is returned.

    Returns
    -------
    uint16 array, (n, y, x); uint32 where there are more than 65,535 cells; or `out`
        Ids 1 to the number of cells of the stack, in the order in which they appear; a cell
        that is gone for one plane comes back under another id.

    Raises
    ------
    UserError
        Where the threshold is out of range, the labels are no integers or negative, or the
        planes differ in size.
    """
    if not 0 < threshold <= 1:
        raise UserError(
            f"Cells are linked by an overlap (IoU) above 0 and up to 1, not {threshold}. "
            f"Usual is {THRESHOLD}."
        )
    stack: Sequence[Plane] | NDArray[Any] = planes if hasattr(planes, "__len__") else list(planes)  # type: ignore[assignment]
    tables = list(_tables(stack, threshold))
    n = max((int(table.max()) for table in tables), default=0)
    shape = (len(stack), *(np.shape(stack[0]) if len(stack) else (0, 0)))
    if out is None or n > np.iinfo(out.dtype).max:
        out = np.empty(shape, np.uint16 if n <= np.iinfo(np.uint16).max else np.uint32)
    if out.shape != shape:
        raise UserError(f"The result has the shape {out.shape}; the labels are {shape}.")
    for i, table in enumerate(tables):
        out[i] = table[np.asarray(stack[i])]
    return out


def _tables(planes: Iterable[Plane], threshold: float) -> Iterator[NDArray[np.int64]]:
    """Give for each plane the table from its ids to those of the stack."""
    n = 0
    before: Plane | None = None
    ids: NDArray[np.int64] = np.zeros(1, np.int64)
    for number, lazy in enumerate(planes):
        plane = _check(np.asarray(lazy), number, before)
        table = np.zeros(int(plane.max(initial=0)) + 1, np.int64)
        if before is not None:
            old, new = _match(before, plane, threshold)
            table[new] = ids[old]
        fresh = np.bincount(plane.ravel(), minlength=1) > 0
        fresh &= table == 0
        fresh[0] = False
        added = int(np.count_nonzero(fresh))
        table[fresh] = np.arange(n + 1, n + 1 + added)
        n += added
        yield table
        before, ids = plane, table


def _check(plane: Plane, number: int, before: Plane | None) -> Plane:
    if plane.dtype.kind not in "ui" or plane.min(initial=0) < 0:
        raise UserError(
            f"Plane {number} holds no labels: they are integers from 0 on, and these are "
            f"{plane.dtype} from {plane.min(initial=0)} on. Choose the cells, not the image."
        )
    if before is not None and plane.shape != before.shape:
        raise UserError(
            f"Plane {number} has the size {plane.shape}, the one before {before.shape}; only "
            "planes of one size can be linked."
        )
    return plane


def _match(old: Plane, new: Plane, threshold: float) -> _Matches:
    """Pair the ids of two planes one to one, with the largest sum of IoU."""
    rows, columns, iou = _overlaps(old, new)
    enough = iou >= threshold
    rows, columns, iou = rows[enough], columns[enough], iou[enough]
    # Above an IoU of 1/2 a cell has one partner at most, and below it rarely more: what
    # competes for each other falls into groups of a few, where the matrix of all cells of two
    # large planes would not fit into memory.
    n_rows = int(rows.max(initial=0)) + 1
    n = n_rows + int(columns.max(initial=0)) + 1
    graph = coo_array((np.ones(len(rows), bool), (rows, n_rows + columns)), shape=(n, n))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
    chosen = [np.zeros(0, np.intp)]
    for start, stop in pairwise(bounds):
        rivals = order[start:stop]
        if len(rivals) > 1:
            rivals = rivals[_assign(rows[rivals], columns[rivals], iou[rivals])]
        chosen.append(rivals)
    pairs = np.concatenate(chosen)
    return rows[pairs], columns[pairs]


def _overlaps(old: Plane, new: Plane) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Give the pairs of ids that share a pixel, and their IoU, counted by runs in the rows."""
    a, b = old.ravel(), new.ravel()
    is_start = np.ones(a.size, bool)
    is_start[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    starts = np.flatnonzero(is_start)
    runs = np.diff(starts, append=a.size)
    a, b = a[starts].astype(np.intp), b[starts].astype(np.intp)
    both = (a > 0) & (b > 0)
    old_areas = np.bincount(a, runs, minlength=1)
    new_areas = np.bincount(b, runs, minlength=1)
    table = coo_array((runs[both], (a[both], b[both])), shape=(len(old_areas), len(new_areas)))
    table.sum_duplicates()
    union = old_areas[table.row] + new_areas[table.col] - table.data
    return table.row, table.col, table.data / union


def _assign(
    rows: NDArray[np.intp], columns: NDArray[np.intp], iou: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Choose among competing pairs; returns indices into them."""
    from scipy.optimize import linear_sum_assignment  # slow to import, and seldom needed

    old, i = np.unique(rows, return_inverse=True)
    new, j = np.unique(columns, return_inverse=True)
    gain = np.zeros((len(old), len(new)))
    gain[i, j] = iou
    matched = linear_sum_assignment(gain, maximize=True)
    taken = np.zeros(gain.shape, bool)
    taken[matched] = True
    return np.flatnonzero(taken[i, j])
