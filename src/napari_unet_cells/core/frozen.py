"""Replace labels, except cells that were corrected and regions that were approved.

::

    made    1 1 . 2 2 . 3      as the program left the labels
    shown   1 1 . 9 9 9 3      as they are: cell 2 was redrawn
    frozen  . . . x x x .      `corrected`
    new     1 1 1 2 2 . .      what the program makes now
    result  1 1 1 9 9 9 .      `replace_rest`: the correction stays, the rest follows
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: A new cell of which less than this fraction lies outside of frozen pixels is dropped.
LEAST_LEFT = 0.5


def corrected(shown: NDArray[Any], made: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the cells of a plane that were corrected, and the pixels of those deleted.

    Parameters
    ----------
    shown, made : integer array, (y, x)
        The labels as they are, and as the program left them; 0 is background.

    Returns
    -------
    bool array, (y, x)
        All pixels of each id, in both arrays, that has a pixel where they differ.
    """
    differs: NDArray[np.bool_] = shown != made
    if not differs.any():
        return differs
    return _all_of(shown, made, np.union1d(shown[differs], made[differs]))


def whole_cells(labels: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Extend a mask by all pixels of the cells that reach into it.

    Parameters
    ----------
    labels : integer array, (y, x)
    mask : bool array, (y, x)
        Such as the approved regions.
    """
    return mask | _all_of(labels, labels, np.unique(labels[mask]))


def _all_of(one: NDArray[Any], other: NDArray[Any], ids: NDArray[Any]) -> NDArray[np.bool_]:
    wanted = np.zeros(1 + int(max(one.max(initial=0), other.max(initial=0))), bool)
    wanted[ids] = True
    wanted[0] = False
    marked: NDArray[np.bool_] = wanted[one] | wanted[other]
    return marked


def replace_rest(shown: NDArray[Any], new: NDArray[Any], frozen: NDArray[np.bool_]) -> NDArray[Any]:
    """Put new cells into a plane, except where it is frozen.

    Parameters
    ----------
    shown : integer array, (y, x)
        The labels as they are.
    new : integer array, (y, x)
        What the program makes now.
    frozen : bool array, (y, x)
        Pixels that stay: `corrected`, and `whole_cells` of what was approved.

    Returns
    -------
    integer array, (y, x), of a data type that holds all ids
        Kept cells keep their ids; new ones have theirs, or one above all others where a kept
        cell has it. So with the labels as the program left them for `new`, and all that was
        corrected frozen, the result is `shown`.
    """
    if not frozen.any():
        return new
    kept = np.where(frozen, shown, 0)
    rest = _renumbered(left_over(new, frozen), np.unique(kept))
    dtype = np.promote_types(shown.dtype, np.min_scalar_type(int(rest.max(initial=0))))
    result = kept.astype(dtype, copy=False)
    result[rest > 0] = rest[rest > 0]
    return result


def left_over(new: NDArray[Any], frozen: NDArray[np.bool_]) -> NDArray[Any]:
    """Cut frozen pixels off the new cells; of a cell in pieces the largest stays."""
    rest = np.where(frozen, 0, new)
    whole = np.bincount(new.ravel())
    left = np.bincount(rest.ravel(), minlength=len(whole))
    dropped = left < LEAST_LEFT * whole
    dropped[0] = False
    rest[dropped[rest]] = 0
    is_cut = (left < whole) & ~dropped
    is_cut[0] = False
    boxes = ndimage.find_objects(rest)
    for label in np.flatnonzero(is_cut).tolist():
        window = rest[boxes[label - 1]]
        pieces, n = ndimage.label(window == label)
        if n > 1:
            largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
            window[(pieces > 0) & (pieces != largest)] = 0
    return rest


def _renumbered(rest: NDArray[Any], taken: NDArray[Any]) -> NDArray[Any]:
    """Give new ids, above all others, to the cells whose ids are taken."""
    ids = np.unique(rest)
    clashing = np.intersect1d(ids[ids > 0], taken)
    if not clashing.size:
        return rest
    first = int(max(ids.max(), taken.max())) + 1
    lut = np.arange(int(ids.max()) + 1)
    lut[clashing] = np.arange(first, first + len(clashing))
    renumbered: NDArray[Any] = lut[rest]
    return renumbered
