"""Masks of pixels: their area, and the smallest box that holds one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def area_of(mask: NDArray[np.bool_]) -> int:
    """Count the pixels of a mask."""
    return int(np.count_nonzero(mask))


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, slice]:
    """Find the rows and columns that hold a mask, and a margin around them.

    Parameters
    ----------
    mask : bool array, (y, x)
        True somewhere.
    margin : int
        The box may reach beyond the last row and column, where slicing stops at them.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )
