"""Pixels that stay on the disk until a part of them is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import damaged


@dataclass(frozen=True, eq=False)
class LazyArray:
    """An array on the disk, as `Image.data` promises it: native, without dropped axes.

    ::

        stored  (1, 3, 1, y, x)  big endian, or 1 bit
        seen       (3, y, x)     native, 1 bit as 0 and 255

    It is sliced with integers, slices of positive step and an ellipsis; each slice is read
    from the disk and comes as a numpy array. `numpy.asarray` reads all of it.

    Attributes
    ----------
    stored : array
        Such as one of zarr, or mapped into memory.
    dropped : tuple of int
        Axes of length 1 in `stored` that are not seen.
    path, kind : Path, str
        For the sentence where a part of it is damaged.
    keep : object
        What must live as long as the pixels are read, such as an open file.
    """

    stored: ImageArray
    dropped: tuple[int, ...]
    path: Path
    kind: str
    keep: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis that is seen."""
        lengths = enumerate(self.stored.shape)
        return tuple(int(n) for axis, n in lengths if axis not in self.dropped)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of what a slice gives."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes that are seen."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all pixels would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        parts = iter(spelt_out(key, self.ndim))
        full = tuple(0 if axis in self.dropped else next(parts) for axis in self._all_axes)
        try:
            return _plain(np.asarray(self.stored[full]), self.dtype)
        except (UserError, MemoryError, IndexError):
            raise
        except Exception as error:  # each codec has its own exceptions
            raise damaged(self.path, self.kind, error) from error

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all."""
        pixels = self[...]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    @property
    def _all_axes(self) -> range:
        return range(len(self.stored.shape))


def _plain(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    return pixels.astype(dtype, copy=False)
