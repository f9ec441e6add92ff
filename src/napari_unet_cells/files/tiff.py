"""TIFFs: pixels with the meaning of their axes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.axes import tiff_channel_names
from napari_unet_cells.files.complete import check_complete, structure_end
from napari_unet_cells.files.failures import cut_off, damaged, read_failure
from napari_unet_cells.files.image import Image
from napari_unet_cells.files.lazy import LazyArray
from napari_unet_cells.files.pixel_size import scale_of
from napari_unet_cells.files.quiet import quiet_tifffile

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

# part of the free memory above which the pixels stay on the disk
_IN_MEMORY = 0.25

# a strip or tile is decoded for each slice that touches it: larger ones are read once, at once
_LARGEST_CHUNK = 2**26


def read_tiff(path: Path, header: bytes, most_held: int | None = None) -> Image:
    """Read the first image of a TIFF that begins with `header`; see `read_image`."""
    with open(path, "rb") as file:
        if structure_end(file, header) > path.stat().st_size:
            raise cut_off(path, "TIFF")
    try:
        with quiet_tifffile(), contextlib.ExitStack() as stack:
            tif = stack.enter_context(tifffile.TiffFile(path))
            if len(tif.pages) == 0:
                raise UserError(f"{path.name} is a TIFF without a page. Save the image again.")
            series = tif.series[0]
            check_complete(path, tif, series)
            if most_held is None:
                most_held = int(_IN_MEMORY * psutil.virtual_memory().available)
            lazy = _lazy_pixels(path, tif, series, most_held)
            if lazy is not None:
                stack.pop_all()  # the file stays open as long as the pixels may be read
            data: ImageArray
            data, axes = lazy or _plain_axes(series)
            scale = scale_of(tif)
            n_images = len(tif.series)
            names = tiff_channel_names(tif, axes, data.shape)
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise read_failure(path, error) from error
    except Exception as error:  # each codec has its own exceptions
        raise damaged(path, "TIFF", error) from error
    return Image(data, axes, scale.pixel_size, scale.unit, path, scale.z_step, n_images, names)


def _lazy_pixels(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, most_held: int
) -> tuple[LazyArray, str] | None:
    """Leave the pixels on the disk; None where they are few bytes or cannot be left there.

    Uncompressed pixels that lie in one piece are mapped; others are decoded strip by strip or
    tile by tile. Palettes and samples that have to be moved are always read.
    """
    page, axes = series.keyframe, series.axes
    is_plain = "S" not in axes or (axes.endswith("YXS") and series.shape[-1] == 3)
    is_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    small = series.nbytes <= most_held
    if small or not is_plain or is_palette or "Y" not in axes:
        return None
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        stored: ImageArray = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    else:
        import zarr  # takes half a second

        chunked = zarr.open_array(series.aszarr(), mode="r")
        if np.prod(chunked.chunks) * chunked.dtype.itemsize > _LARGEST_CHUNK:
            return None
        stored = chunked
    dropped = tuple(
        axis
        for axis, (name, length) in enumerate(zip(axes, series.shape, strict=True))
        if length == 1 and name not in "YX"
    )
    kept = "".join(name for axis, name in enumerate(axes) if axis not in dropped)
    return LazyArray(stored, dropped, path, "TIFF", tif), kept.replace("S", "C")


def _plain_axes(series: tifffile.TiffPageSeries) -> tuple[NDArray[Any], str]:
    """Pixels and axes without length-1 axes, palette and alpha; samples as C."""
    page = series.keyframe
    data, axes = _native(np.asarray(series.asarray())), series.axes
    if "Y" not in axes:
        data, axes = data[np.newaxis], "Y" + axes
    if data.dtype == np.bool_:
        data = data.astype(np.uint8) * np.uint8(255)
    data, axes = _squeeze(data, axes)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        data, axes = _apply_palette(data, axes, page.colormap)
    elif "S" in axes:
        data, axes = _place_samples(data, axes, page)
    return data, axes


def _native(data: NDArray[Any]) -> NDArray[Any]:
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _squeeze(data: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    drop = tuple(
        i
        for i, (name, length) in enumerate(zip(axes, data.shape, strict=True))
        if length == 1 and name not in "YX"
    )
    return data.squeeze(drop), "".join(name for i, name in enumerate(axes) if i not in drop)


def _apply_palette(
    data: NDArray[Any], axes: str, colormap: NDArray[np.uint16] | None
) -> tuple[NDArray[Any], str]:
    """Indexed colours -> RGB, but an intensity with a false-colour ramp -> the intensity."""
    if colormap is None or (np.diff(colormap.astype(np.int64), axis=1) >= 0).all():
        return data, axes
    colours = (colormap.T >> 8).astype(np.uint8)
    return colours[data], axes + "C"


def _place_samples(
    data: NDArray[Any], axes: str, page: tifffile.TiffPage
) -> tuple[NDArray[Any], str]:
    """Put RGB last, reduce grey + alpha to grey, make other samples channels."""
    is_rgb = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    data, axes = np.moveaxis(data, axes.index("S"), -1), axes.replace("S", "") + "S"
    n_samples = data.shape[-1]
    if is_rgb and n_samples in (3, 4):
        return data[..., :3], axes[:-1] + "C"
    if n_samples == 2 and any(page.extrasamples):
        return data[..., 0], axes[:-1]
    if "C" in axes:
        return data, axes
    y = axes.index("Y")
    return np.moveaxis(data, -1, y), f"{axes[:y]}C{axes[y:-1]}"
