"""Label images of an OME-Zarr of ours, read level by level where they are sliced.

They may still be written to: what is not there yet, or cannot be read, is background.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.files.failures import damaged
from napari_unet_cells.files.zarr_metadata import KIND


@dataclass(frozen=True, eq=False)
class LabelLevel:
    """One level of a label image on the disk, as a layer reads it.

    It is sliced with integers and slices of positive step, and each slice comes as a numpy array.

    Attributes
    ----------
    stored : array
        Of zarr.
    n_before : int
        Axes of length 1 that are seen before those that are stored.
    """

    stored: ImageArray
    n_before: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (1,) * self.n_before + tuple(int(n) for n in self.stored.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the labels."""
        return np.dtype(self.stored.dtype).newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod([float(n) for n in self.shape]))

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        parts = spelt_out(key, self.ndim)
        before, own = parts[: self.n_before], tuple(parts[self.n_before :])
        try:
            pixels = np.asarray(self.stored[own]).astype(self.dtype, copy=False)
        except (MemoryError, IndexError):
            raise
        except Exception:  # each codec has its own; napari draws in the midst of everything
            logging.getLogger(__name__).warning("labels were not read", exc_info=True)
            shape = np.broadcast_to(np.uint8(0), self.stored.shape)[own].shape
            pixels = np.zeros(shape, self.dtype)
        kept = [part for part in before if isinstance(part, slice)]
        return pixels.reshape((1,) * len(kept) + pixels.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all."""
        pixels = self[(slice(None),) * self.ndim]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def label_levels(folder: Path, name: str, n_before: int = 0) -> tuple[LabelLevel, ...]:
    """Open a label image of an OME-Zarr that we wrote, or are writing; the finest level is first.

    Parameters
    ----------
    folder : Path
        Of the OME-Zarr.
    name : str
        "cells" or "classes".
    n_before : int
        See `LabelLevel`.

    Raises
    ------
    UserError
        Where it is not there.
    """
    import zarr  # takes half a second

    levels: list[LabelLevel] = []
    for number in count():
        path = folder / "labels" / name / str(number)
        if number and not path.is_dir():
            return tuple(levels)
        try:
            levels.append(LabelLevel(zarr.open_array(path, mode="r"), n_before))
        except Exception as error:
            raise damaged(folder, KIND, error) from error
    raise AssertionError("the levels end")
