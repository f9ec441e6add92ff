"""Pixels and metadata of an image that was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.files.zarr_metadata import AxisPlace


@dataclass(frozen=True, eq=False)
class Image:
    """One image as it was stored, with what its numbers mean.

    Attributes
    ----------
    data : array, in memory or `files.lazy.LazyArray`
        Pixels in native byte order, shape ``tuple(length of each axis)``; the dtype is
        the file's, except that 1-bit images become uint8 of 0 and 255. Of a zarr, and of
        a TIFF of more than a quarter of the free memory, they stay on the disk until
        they are sliced.
    axes : str
        One letter an axis, of T (time), Z, C (channel), Y, X, or what else the file
        names (Q or I: pages of unknown meaning). Axes of length 1 are dropped, Y and X
        never. ``"YXC"`` is RGB; anywhere else than last, C are true channels.
    pixel_size : tuple of (float, float), or None
        Height and width of a pixel (y, x) in `unit`; None where the file does not say.
    unit : str
        ``"nanometer"``, ``"micrometer"``, ``"millimeter"``, or ``"pixel"`` without a size.
    path : Path
        Where it was read from.
    z_step : float or None
        Distance of two planes in `unit`.
    n_images : int
        Images that the file holds; only the first of them is read.
    channel_names : tuple of str
        One for each channel; empty where the file does not say.
    place : mapping of str to AxisPlace
        Of an OME-Zarr, by the letters of its axes in lower case; empty where it states none.
    missing : str
        Which parts of it are not there and were read as empty, in words; empty where none is.
    is_guessed : bool
        Whether the file names no axes, and the letters follow from their number alone.
    """

    data: ImageArray
    axes: str
    pixel_size: tuple[float, float] | None
    unit: str
    path: Path
    z_step: float | None = None
    n_images: int = 1
    channel_names: tuple[str, ...] = ()
    missing: str = ""
    place: Mapping[str, AxisPlace] = field(default_factory=dict)
    is_guessed: bool = False
