"""Parts of images as TIFFs, in their own data type and with their pixel size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.files.atomic import PathLike, atomic_write, with_ending
from napari_unet_cells.files.labels import scale_to_write
from napari_unet_cells.files.pixel_size import IMAGEJ_UNITS, MICROMETERS
from napari_unet_cells.files.tiff import TIFF_SUFFIXES

#: What ImageJ's format holds; all else becomes a plain TIFF.
_IMAGEJ_TYPES = frozenset({"uint8", "uint16", "float32"})
_IMAGEJ_MAX_BYTES = 2**32 - 2**25


def write_pixels(
    path: PathLike,
    pixels: NDArray[Any],
    *,
    axes: str = "YX",
    pixel_size: tuple[float, float] | None = None,
    unit: str = "pixel",
    z_step: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an image as a TIFF that `read_image` gives back as it was, and Fiji opens.

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.tif`` is appended where it has no TIFF ending.
    pixels : array of real numbers
        One axis per letter of `axes`.
    axes : str
        Of TZCYX, in this order; or ending in YXC for RGB.
    pixel_size : tuple of (float, float), optional
        Height and width of a pixel (y, x) in `unit`.
    unit : str
        Unit of length, under any usual name; ``"pixel"`` for none.
    z_step : float, optional
        Distance of two planes in `unit`.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file as written, with its ending.

    Raises
    ------
    FileExists
        If the file exists and `overwrite` is False. Nothing is changed.
    UserError
        If it cannot be written, or the unit is none of length.
    """
    target = with_ending(path, TIFF_SUFFIXES, ".tif")
    scale = scale_to_write(target, pixel_size, unit, z_step)
    is_rgb = axes.endswith("YXC")
    metadata: dict[str, Any] = {"axes": axes[:-1] + "S" if is_rgb else axes}
    options: dict[str, Any] = {"photometric": "rgb" if is_rgb else "minisblack"}
    if _fits_imagej(pixels, is_rgb):
        options["imagej"] = True
        if scale.pixel_size is not None:
            y, x = scale.pixel_size
            options["resolution"] = (1 / x, 1 / y)
            metadata |= {"unit": IMAGEJ_UNITS[scale.unit], **_spacing(scale.z_step)}
    elif scale.pixel_size is not None:
        y, x = (size * MICROMETERS[scale.unit] for size in scale.pixel_size)
        options |= {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
    with atomic_write(target, overwrite) as temporary:
        tifffile.imwrite(temporary, pixels, compression="zlib", metadata=metadata, **options)
    return target


def _spacing(z_step: float | None) -> Mapping[str, str]:
    return {} if z_step is None else {"spacing": str(z_step)}


def _fits_imagej(pixels: NDArray[Any], is_rgb: bool) -> bool:
    if pixels.nbytes > _IMAGEJ_MAX_BYTES or pixels.dtype.name not in _IMAGEJ_TYPES:
        return False
    return pixels.dtype == np.uint8 or not is_rgb
