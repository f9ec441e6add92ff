"""Protocol of an array of pixels, in memory or on the disk."""

from __future__ import annotations

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
