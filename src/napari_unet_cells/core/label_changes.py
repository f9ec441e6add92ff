"""Differences of two arrays of labels: the window that holds them, and their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import row_blocks

#: Pixels compared at once, so that temporary arrays stay small.
BLOCK = 2**22

#: Rows and columns.
Window = tuple[slice, slice]


def changed_window(before: NDArray[Any], after: NDArray[Any]) -> Window | None:
    """Find the smallest rectangle that holds all differences of two arrays.

    Parameters
    ----------
    before, after : arrays of one shape, (..., y, x)

    Returns
    -------
    tuple of 2 slices, or None where the arrays are equal
        Rows and columns; over all planes of a stack.
    """
    if before.shape != after.shape:
        raise ValueError(f"arrays of one shape are compared, not {before.shape} and {after.shape}")
    rows: list[NDArray[np.intp]] = []
    in_columns = np.zeros(before.shape[-1], bool)
    for block in row_blocks(before.shape, BLOCK):
        differs = before[..., block, :] != after[..., block, :]
        differs = differs.any(axis=tuple(range(differs.ndim - 2)))
        changed = np.flatnonzero(differs.any(axis=1))
        if len(changed):
            rows.append(changed + block.start)
            in_columns |= differs[changed].any(axis=0)
    if not rows:
        return None
    columns = np.flatnonzero(in_columns)
    return (
        slice(int(rows[0][0]), int(rows[-1][-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def changed_ids(
    before: NDArray[Any], after: NDArray[Any], window: Window | None = None
) -> NDArray[Any]:
    """Find the ids whose pixels differ between two label arrays.

    Parameters
    ----------
    before, after : integer arrays of one shape, (..., y, x)
    window : tuple of 2 slices, optional
        The rows and columns to compare, where they are known.

    Returns
    -------
    integer array, (n,)
        Sorted; of each changed pixel the old and the new id, without background.
    """
    window = window or changed_window(before, after)
    if window is None:
        return np.empty(0, after.dtype)
    old, new = before[(..., *window)], after[(..., *window)]
    differs = old != new
    ids = np.unique(np.concatenate([np.unique(old[differs]), np.unique(new[differs])]))
    return ids[ids > 0]
