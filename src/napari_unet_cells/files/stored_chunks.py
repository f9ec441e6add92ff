"""An array of zarr in a folder, of which only chunks that are stored are read.

::

    . . . . . . .      . not stored: the fill value, without asking the disk
    . # # . . # .      # stored: each run of them in a row is read at once
    . . . . . . .

zarr takes a millisecond or two to find that a chunk is not there, and a sample of a huge plane
touches tens of thousands. The folder is listed instead. What is written to it meanwhile is not
seen, so it serves for one look at an image, as before a run, which compares the stamp later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.files.lazy import LazyArray
from napari_unet_cells.files.zarr_metadata import chunk_grid, chunks_there

#: Part of the chunks of a key up to which being stored they are read run by run: zarr reads what is
#: mostly there faster as a whole.
_FEW = 0.5

#: Numbers of colours.
_COLORS = (3, 4)


def stored_only(data: ImageArray) -> ImageArray:
    """Give an image whose chunks that are not stored are not asked for, from now on.

    Parameters
    ----------
    data : array
        Any; one that does not lie in a folder of zarr is given as it is.
    """
    folder = _folder_of(data.stored) if isinstance(data, LazyArray) else None
    grid = None if folder is None else chunk_grid(folder)
    if not isinstance(data, LazyArray) or folder is None or grid is None:
        return data
    counts = [ceil(n / chunk) for n, chunk in zip(data.stored.shape, grid, strict=True)]
    # Counted first: the places of all chunks of a slide that is whole would fill the memory.
    if sum(1 for _ in chunks_there(folder)) >= prod(counts):
        return data
    there = frozenset(chunks_there(folder))
    return replace(data, stored=StoredChunks.of(data.stored, grid, there))


def _folder_of(stored: Any) -> Path | None:
    """Folder of an array of zarr; None where it is none, or lies elsewhere."""
    root = getattr(getattr(stored, "store", None), "root", None)
    return root / stored.path if isinstance(root, Path) else None


@dataclass(frozen=True, eq=False)
class StoredChunks:
    """An array of zarr, and which of its chunks are stored.

    Attributes
    ----------
    stored : array
    chunks : tuple of int
        Shape of a chunk.
    n_after : int
        Axes after (y, x), of which each chunk holds all: 1 for colours, else 0.
    columns : mapping
        Of the chunks that are stored: by their place along (..., y) that along x, rising.
    """

    stored: ImageArray
    chunks: tuple[int, ...]
    n_after: int
    columns: Mapping[tuple[int, ...], NDArray[np.int64]]

    @classmethod
    def of(
        cls, stored: ImageArray, chunks: tuple[int, ...], there: frozenset[tuple[int, ...]]
    ) -> StoredChunks:
        """Sort the places of the chunks that are stored by their rows."""
        n = stored.shape[-1]
        n_after = int(len(chunks) > 2 and n in _COLORS and chunks[-1] >= n)
        rows = defaultdict[tuple[int, ...], list[int]](list)
        for place in there:
            *row, column = place[: len(place) - n_after]
            rows[tuple(row)].append(column)
        columns = {row: np.array(sorted(found), np.int64) for row, found in rows.items()}
        return cls(stored, chunks, n_after, columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.stored.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as it is stored."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return dtype

    def __getitem__(self, key: Any, /) -> Any:
        """Read a part; of a plane (y, x) without the chunks that are not stored."""
        parts, first = spelt_out(key, len(self.shape)), len(self.shape) - 2 - self.n_after
        before, after = parts[:first], parts[first + 2 :]
        y, x = (_range_of(parts[axis], self.shape[axis]) for axis in (first, first + 1))
        is_plane = all(
            isinstance(part, int | np.integer) and 0 <= part < n
            for part, n in zip(before, self.shape, strict=False)
        )
        if y is None or x is None or not is_plane or any(part != slice(None) for part in after):
            return self.stored[key]
        height, width = self.chunks[first : first + 2]
        runs = list(self._runs(before, y, x, (height, width)))
        if sum(run.n for run in runs) > _FEW * _n_chunks(y, height) * _n_chunks(x, width):
            return self.stored[key]
        out = np.full((len(y), len(x), *self.shape[first + 2 :]), self._fill, self.dtype)
        for run in runs:
            rows, columns = y[run.rows], x[run.columns]
            if rows and columns:
                inside = (*before, _slice(rows), _slice(columns), *after)
                out[run.rows, run.columns] = self.stored[inside]
        return out

    def _runs(
        self, before: Sequence[int], y: range, x: range, chunk: tuple[int, int]
    ) -> Iterator[_Run]:
        """Give chunks that are stored beside each other, and what of two ranges lies in them."""
        height, width = chunk
        place = tuple(int(at) // step for at, step in zip(before, self.chunks, strict=False))
        first, last = x[0] // width, x[-1] // width
        for row in range(y[0] // height, y[-1] // height + 1):
            found = self.columns.get((*place, row))
            if found is None:
                continue
            inside = found[np.searchsorted(found, first) : np.searchsorted(found, last + 1)]
            for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
                if len(run):
                    rows = _among(y, row * height, (row + 1) * height)
                    columns = _among(x, int(run[0]) * width, (int(run[-1]) + 1) * width)
                    yield _Run(rows, columns, len(run))

    @property
    def _fill(self) -> Any:
        """Value of what is not stored: zarr fills with 0 where an array does not say it."""
        value = getattr(self.stored, "fill_value", None)
        return 0 if value is None else value


@dataclass(frozen=True)
class _Run:
    """Places in two ranges that lie in so many chunks."""

    rows: slice
    columns: slice
    n: int


def _range_of(part: Any, length: int) -> range | None:
    """Pixels that a slice of positive step takes; None where it takes none, or is no such slice."""
    if not isinstance(part, slice) or (part.step or 1) < 1:
        return None
    return range(*part.indices(length)) or None


def _n_chunks(side: range, chunk: int) -> int:
    """Count the chunks that a range touches."""
    return min(len(side), side[-1] // chunk - side[0] // chunk + 1)


def _among(side: range, start: int, stop: int) -> slice:
    """Places in a range of the numbers from `start` to below `stop`."""
    first, last = (
        min(len(side), max(0, ceil((at - side.start) / side.step))) for at in (start, stop)
    )
    return slice(first, last)


def _slice(side: range) -> slice:
    """Write a range of pixels as a slice."""
    return slice(side[0], side[-1] + 1, side.step)
