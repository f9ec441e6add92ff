"""Parse a version of labels on the disk: a part of them as it was, and as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.untrusted.rules import Malformed

_NAMES = frozenset({"plane", "start", "before", "after", "n_used"})


@dataclass(frozen=True, eq=False)
class Version:
    """A part of a plane that was replaced.

    Attributes
    ----------
    plane : tuple of int
        Index along the axes before (y, x).
    box : (slice, slice)
    before, after : integer array, (y, x)
        Labels of the part.
    n_used : int
        The largest id that was ever used, up to this version.
    """

    plane: tuple[int, ...]
    box: tuple[slice, slice]
    before: NDArray[Any]
    after: NDArray[Any]
    n_used: int


def parse_version(
    arrays: Mapping[str, NDArray[Any]], shape: Sequence[int], dtype: np.dtype[Any]
) -> Version:
    """Check a version against the labels that it is of.

    Parameters
    ----------
    arrays : mapping of str to array
        As the file holds them.
    shape : sequence of int
        Of the labels, (..., y, x).
    dtype : dtype
        Of the labels.

    Raises
    ------
    Malformed
    """
    if arrays.keys() != _NAMES:
        raise Malformed("holds other arrays than a version")
    if any(array.dtype.kind not in "iu" for array in arrays.values()):
        raise Malformed("holds other numbers than whole ones")
    before, after = arrays["before"], arrays["after"]
    if before.ndim != 2 or before.shape != after.shape or not before.size:
        raise Malformed("holds parts that do not fit each other")
    for labels in (before, after):
        if int(labels.min()) < 0 or int(labels.max()) > np.iinfo(dtype).max:
            raise Malformed("holds ids that the labels cannot hold")
    place = [*_whole(arrays["plane"], len(shape) - 2), *_whole(arrays["start"], 2)]
    sides = [*(1 for _ in shape[:-2]), *before.shape]
    if any(at < 0 or at + side > n for at, side, n in zip(place, sides, shape, strict=True)):
        raise Malformed("lies outside of the labels")
    *plane, top, left = place
    n_used = _whole(arrays["n_used"].reshape(-1), 1)[0]
    if not 0 <= n_used < 2**62:
        raise Malformed("holds an id that is none")
    box = slice(top, top + before.shape[0]), slice(left, left + before.shape[1])
    return Version(tuple(plane), box, before, after, n_used)


def _whole(array: NDArray[Any], n: int) -> list[int]:
    if array.shape != (n,):
        raise Malformed(f"holds {array.size} numbers where {n} belong")
    return [int(number) for number in array]
