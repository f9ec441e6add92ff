"""An image on the disk of which regular samples are kept: each chunk is read once for all of them.

::

    plane[::71, ::71]       read strip by strip, and kept      intensities of the whole plane
    plane[::71, ::71]       as it was kept                     ... asked for again
    plane[::426, ::426]     every sixth of what was kept       where something is to be seen

Even one pixel in seventy touches all chunks of a plane: reading is what takes the time, not how
much of it is asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.core.normalize import sample_step

#: Pixels of a plane beyond which each time that it is read is felt.
HUGE = 2**28

#: Rows that are read at once: whole chunks where their height divides it, as that of most does.
STRIP = 4096

#: Samples that are kept: those of the plane at hand, and of some of a stack.
_KEPT = 8


class SampledArray:
    """An image whose regular samples are kept.

    Parameters
    ----------
    data : array, (..., y, x) or (..., y, x, channel)
    first : int
        The axis y.
    """

    def __init__(self, data: ImageArray, first: int) -> None:
        self._data, self._first = data, first
        self._kept: OrderedDict[tuple[Any, ...], tuple[int, NDArray[Any]]] = OrderedDict()

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self._data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self._data.dtype)
        return dtype

    def __getitem__(self, key: Any, /) -> Any:
        """Read a part, or give what is kept of it."""
        parts = spelt_out(key, len(self.shape))
        step = self._step_of(parts)
        if not step:
            return self._data[key]
        plane = self._plane_of(parts)
        known, sample = self._kept.get(plane, (0, np.empty(0)))
        if known and step % known == 0:
            self._kept.move_to_end(plane)
            times = step // known
            return sample[self._among(sample.ndim, times)]
        pixels = np.asarray(self._data[key])
        self._keep(plane, step, pixels)
        return pixels

    def look(self, index: tuple[int, ...]) -> Generator[float, None, None]:
        """Read the sample of a plane from which its intensities are taken, and keep it.

        Parameters
        ----------
        index : tuple of int
            Of the axes before (y, x).

        Yields
        ------
        float
            The part that is done, 0 to 1.
        """
        height, width = self.shape[self._first : self._first + 2]
        step, rest = sample_step(height, width), len(self.shape) - self._first - 2
        if step == 1:
            return
        strips = []
        for top in range(0, height, STRIP):
            begin, stop = -(-top // step) * step, min(height, top + STRIP)
            if begin < stop:
                rows, columns = slice(begin, stop, step), slice(None, None, step)
                key = (*index, rows, columns, *[slice(None)] * rest)
                strips.append(np.asarray(self._data[key]))
            yield stop / height
        parts = [*index, *[slice(None, None, step)] * 2, *[slice(None)] * rest]
        self._keep(self._plane_of(parts), step, np.concatenate(strips))

    def _step_of(self, parts: list[Any]) -> int:
        """Step of a regular sample of a whole plane; 0 for any other part."""
        rows, columns = parts[self._first : self._first + 2]
        if not all(isinstance(part, int | np.integer) for part in parts[: self._first]):
            return 0
        is_sample = isinstance(rows, slice) and rows == columns and rows.start is rows.stop is None
        return int(rows.step or 1) if is_sample and (rows.step or 1) > 1 else 0

    def _plane_of(self, parts: list[Any]) -> tuple[Any, ...]:
        after = parts[self._first + 2 :]
        return (*map(int, parts[: self._first]), *map(repr, after))

    def _among(self, ndim: int, times: int) -> tuple[slice, ...]:
        """Every so many rows and columns of a sample, whose axes begin with y."""
        every = slice(None, None, times)
        return (every, every, *[slice(None)] * (ndim - 2))

    def _keep(self, plane: tuple[Any, ...], step: int, pixels: NDArray[Any]) -> None:
        self._kept[plane] = step, pixels
        self._kept.move_to_end(plane)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
