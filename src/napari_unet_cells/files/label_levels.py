"""Label images of an OME-Zarr of ours, read level by level where they are sliced.

They may still be written to: what is not there yet, or cannot be read, is background.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.core.resample import Box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import damaged
from napari_unet_cells.files.zarr_metadata import KIND

#: Rows of labels that are looked through at once: whole shards of the usual blocks.
_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Hole:
    """Part of a plane that is shown elsewhere, but for some cells.

    Attributes
    ----------
    plane : tuple of int
        Index along the axes before (y, x).
    box : (slice, slice)
        Rows and columns of the finest level.
    stays : integer array, (n,)
        Ids of the cells that are seen here all the same.
    """

    plane: tuple[int, ...]
    box: Box
    stays: NDArray[Any]

    def cut(
        self, pixels: NDArray[Any], key: Sequence[Any], shape: Sequence[int], factor: int
    ) -> None:
        """Take cells out of pixels that were read with a key from a level of this shape."""
        *before, rows, columns = key
        for at, own in zip(before, self.plane, strict=False):
            if not isinstance(at, slice) and at != own:
                return
        inside = []
        for at, length, side in zip((rows, columns), shape[-2:], self.box, strict=True):
            places = np.atleast_1d(np.arange(length)[at])
            inside.append((places >= side.start // factor) & (places < -(-side.stop // factor)))
        here = inside[0][:, np.newaxis] & inside[1]
        window = pixels.reshape(-1, *here.shape)
        window[here & ~np.isin(window, self.stays)] = 0


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
    factor : int
        Pixels of the finest level along a side of one of this.
    hole : Hole or None
    path : Path
        Of the OME-Zarr.
    is_whole : bool
        It is not written to any more: what cannot be read is damaged, and that is said.
    """

    stored: ImageArray
    n_before: int = 0
    factor: int = 1
    hole: Hole | None = None
    path: Path = Path()
    is_whole: bool = False

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

    def read(self, key: Any) -> NDArray[Any]:
        """Read a part as it is on the disk, with a key of the axes that are stored.

        Raises
        ------
        UserError
            Where it cannot be read: whoever writes must not take it for background.
        """
        try:
            return np.asarray(self.stored[key]).astype(self.dtype, copy=False)
        except (MemoryError, IndexError):
            raise
        except Exception as error:  # each codec has its own
            raise damaged(self.path, KIND, error) from error

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part to be looked at: what cannot be read is background, as napari draws it."""
        parts = spelt_out(key, self.ndim)
        before, own = parts[: self.n_before], tuple(parts[self.n_before :])
        try:
            pixels = self.read(own)
        except UserError as error:
            if self.is_whole:  # napari shows it as a notification
                warnings.warn(f"Labels that cannot be read are not shown. {error}", stacklevel=2)
            else:
                logging.getLogger(__name__).info("labels were not read", exc_info=True)
            shape = np.broadcast_to(np.uint8(0), self.stored.shape)[own].shape
            pixels = np.zeros(shape, self.dtype)
        if self.hole is not None and pixels.ndim:
            pixels = np.array(pixels)  # it may be read-only
            self.hole.cut(pixels, own, self.stored.shape, self.factor)
        kept = [part for part in before if isinstance(part, slice)]
        return pixels.reshape((1,) * len(kept) + pixels.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all."""
        pixels = self[(slice(None),) * self.ndim]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def label_levels(
    folder: Path, name: str, n_before: int = 0, is_whole: bool = True
) -> tuple[LabelLevel, ...]:
    """Open a label image of an OME-Zarr that we wrote, or are writing; the finest level is first.

    Parameters
    ----------
    folder : Path
        Of the OME-Zarr.
    name : str
        "cells" or "classes".
    n_before, is_whole
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
            stored = zarr.open_array(path, mode="r")
            levels.append(LabelLevel(stored, n_before, 2**number, None, folder, is_whole))
        except Exception as error:
            raise damaged(folder, KIND, error) from error
    raise AssertionError("the levels end")


def largest_id(level: LabelLevel) -> int:
    """Look for the largest id in labels on the disk, some rows of a plane at a time.

    Raises
    ------
    UserError
        Where they cannot be read.
    """
    *others, height, _ = level.stored.shape
    largest = 0
    for plane in product(*(range(int(n)) for n in others)):
        for top in range(0, height, _ROWS):
            rows = level.read((*plane, slice(top, top + _ROWS)))
            largest = max(largest, int(rows.max(initial=0)))
    return largest


def with_hole(levels: Sequence[LabelLevel], hole: Hole | None) -> list[LabelLevel]:
    """Give levels in which a part of a plane is not seen, or all of it is again."""
    return [replace(level, hole=hole) for level in levels]
