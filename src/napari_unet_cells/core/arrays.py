"""Protocol of an array of pixels, in memory or on the disk; keys and blocks of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class ImageArray(Protocol):
    """Array that is read by slicing: numpy, dask, zarr, `files.lazy.LazyArray`.

    `numpy.asarray` reads what is still on the disk.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the part at `key`: an array, lazy or not, or a single number."""


def spelt_out(key: Any, ndim: int) -> list[Any]:
    """Write a key of an array with one entry for each of its axes.

    Parameters
    ----------
    key : int, slice, Ellipsis, or a tuple of them
    ndim : int

    Raises
    ------
    IndexError
        Where the key has too many entries.
    """
    parts: Sequence[Any] = key if isinstance(key, tuple) else (key,)
    whole = slice(None)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        missing = ndim - (len(parts) - 1)
        return [*parts[:at], *[whole] * missing, *parts[at + 1 :]]
    if len(parts) > ndim:
        raise IndexError(f"{len(parts)} indices for an array of {ndim} axes")
    return [*parts, *[whole] * (ndim - len(parts))]


def row_blocks(shape: tuple[int, ...], most: int, rows: slice | None = None) -> Iterator[slice]:
    """Cut the rows of an array into blocks of about so many pixels.

    Parameters
    ----------
    shape : tuple of int, (..., y, x)
    most : int
        Pixels of a block, over all planes; a single row may hold more.
    rows : slice, optional
        Rows that are wanted; all where it is not given.
    """
    start, stop, _ = (rows or slice(None)).indices(shape[-2])
    others = int(np.prod(shape[:-2], dtype=np.int64)) * shape[-1]
    step = max(1, most // max(1, others))
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))
