"""Read an image of any kind; the content decides which kind it is, not the name."""

from __future__ import annotations

import math
import os
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import PathLike
from napari_unet_cells.files.complete import TIFF_LAYOUTS
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.image import Image
from napari_unet_cells.files.ome_zarr import read_zarr
from napari_unet_cells.files.pictures import PICTURE_SUFFIXES, read_picture
from napari_unet_cells.files.tiff import TIFF_SUFFIXES, read_tiff
from napari_unet_cells.files.zarr_metadata import is_zarr
from napari_unet_cells.untrusted.regular import open_regular

IMAGE_SUFFIXES = TIFF_SUFFIXES | PICTURE_SUFFIXES
"""Endings, in lower case, of the files that `read_image` reads."""


def read_image(
    path: PathLike, allow_missing_chunks: bool = False, most_held: int | None = None
) -> Image:
    """Read a TIFF (plain, ImageJ, OME), a picture (PNG, JPEG, BMP, ...) or an OME-Zarr.

    The content decides whether a file is a TIFF, so a JPEG named ``.tif`` is read too.
    RGB comes as ``"YXC"``, alpha is dropped, indexed colours become RGB; an intensity
    image with a false-colour table (as ImageJ and microscopes save it) stays an
    intensity image. Pictures carry no pixel size that could be trusted. A zarr is read at
    its full resolution; without OME metadata its last axes are taken for (z, y, x).

    Parameters
    ----------
    path : str or os.PathLike
        The file; of a zarr the folder, or a group or array within it.
    allow_missing_chunks : bool
        Read a zarr image also where none of its chunks is there. Where some are, those that are
        missing are read as its fill value, as most programs leave out chunks that hold nothing
        else; `Image.missing` says so.
    most_held : int, optional
        Bytes of a TIFF beyond which its pixels stay on the disk; by default a quarter of the free
        memory.

    Returns
    -------
    Image
        All planes of the first image in the file; in memory, but for a zarr and a TIFF of
        more than `most_held`, which stay on the disk.

    Raises
    ------
    UserError
        If the file is missing, a folder, of an unknown kind, empty, cut off, damaged or
        incomplete (nothing is ever filled up with zeros), or too large for the memory.
    """
    path = Path(path)
    try:
        if is_zarr(path):
            return _with_pixels(read_zarr(path, allow_missing_chunks))
        header = _header_of(path)
        if header[:4] in TIFF_LAYOUTS:
            image = read_tiff(path, header, most_held)
        else:
            image = read_picture(path, header)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{path.name} does not fit into this computer's memory. Save a smaller region "
            "of it, or one plane, from Fiji."
        ) from error
    except OSError as error:
        raise read_failure(path, error) from error
    return _with_pixels(image)


def _with_pixels(image: Image) -> Image:
    if math.prod(image.data.shape) == 0:
        raise UserError(f"{image.path.name} holds no pixels. Save the image again.")
    if image.data.dtype.kind not in "buif":  # of complex numbers the half would count
        raise UserError(
            f"{image.path.name} has the data type {image.data.dtype}, not real numbers. Convert it "
            "first, for example to its magnitude or to float32."
        )
    return image


def _header_of(path: Path) -> bytes:
    """First bytes of a file that exists, is no folder, and has an ending that we read."""
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, not an image. Name a file in it.")
    with open_regular(path) as file:
        header = file.read(32)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f"{path.name} cannot be read: files ending in {path.suffix or 'nothing'!r} are not "
            "known here. Open it in Fiji (Bio-Formats) and save it as a TIFF; PNG, JPEG, "
            "BMP and OME-Zarr are read too."
        )
    if not header:
        raise UserError(f"{path.name} is empty (0 bytes). Copy it again from its source.")
    return header
