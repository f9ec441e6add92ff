"""Image and label files on disk.

Reading keeps what a measurement needs: the pixels as they were stored, the meaning of
each axis, the pixel size and its unit. Writing is atomic, and labels come out as TIFFs
that Fiji opens with the right pixel size and that say how they were made::

    file ──read_image──> Image(data, axes, pixel_size, unit)
                                     │  segmentation
    file <─write_labels── labels ────┘  + provenance

Every mistake of the user and every refusal of the disk becomes a `UserError`: a
sentence that names the file, what is wrong with it, and the way out.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import json
import logging
import math
import os
import re
import secrets
import shutil
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "FileExists",
    "Image",
    "atomic_write",
    "find_images",
    "pixel_size_of",
    "read_image",
    "read_provenance",
    "write_json",
    "write_labels",
]

PathLike: TypeAlias = str | os.PathLike[str]

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

# Pillow's formats by name: a closed list, since some of its readers start other programs.
_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
_PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm", ".jp2"}
)

IMAGE_SUFFIXES = TIFF_SUFFIXES | _PICTURE_SUFFIXES
"""Endings, in lower case, that `read_image` reads."""

_RESULT_NAME = re.compile(r".*_(cells|classes)\.tiff?", re.IGNORECASE)


class FileExists(UserError):
    """The file to be written is there already, and nobody allowed its replacement.

    Parameters
    ----------
    path : str or os.PathLike
        The existing file.

    Attributes
    ----------
    path : Path
        The existing file, under the name it would have been written: with its extension.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        super().__init__(
            f"{self.path.name} exists already in {self.path.absolute().parent} and was left "
            "as it is. Choose another name, or allow it to be replaced."
        )


@dataclass(frozen=True, eq=False)
class Image:
    """One image as it was stored, with what its numbers mean.

    Attributes
    ----------
    data : NDArray
        Pixels in native byte order, shape ``tuple(length of each axis)``; the dtype is
        the file's, except that 1-bit images become uint8 of 0 and 255.
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
    """

    data: NDArray[Any]
    axes: str
    pixel_size: tuple[float, float] | None
    unit: str
    path: Path
    z_step: float | None = None
    n_images: int = 1


# --- reading ----------------------------------------------------------------------------


def read_image(path: PathLike) -> Image:
    """Read a TIFF (plain, ImageJ, OME) or a picture (PNG, JPEG, BMP, ...).

    The content decides which of the two it is, so a JPEG named ``.tif`` is read too.
    RGB comes as ``"YXC"``, alpha is dropped, indexed colours become RGB; an intensity
    image with a false-colour table (as ImageJ and microscopes save it) stays an
    intensity image. Pictures carry no pixel size that could be trusted.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    Image
        All planes of the first image in the file, in memory.

    Raises
    ------
    UserError
        If the file is missing, a folder, of an unknown kind, empty, cut off, damaged or
        incomplete (nothing is ever filled up with zeros), or too large for the memory.
    """
    path = Path(path)
    try:
        header = _header_of(path)
        reader = _read_tiff if header[:4] in _TIFF_LAYOUTS else _read_picture
        image = reader(path, header)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{path.name} does not fit into this computer's memory. Save a smaller region "
            "of it, or one plane, from Fiji."
        ) from error
    except OSError as error:
        raise _read_failure(path, error) from error
    if image.data.size == 0:
        raise UserError(f"{path.name} holds no pixels. Save the image again.")
    return image


def pixel_size_of(path: PathLike) -> tuple[tuple[float, float] | None, str]:
    """Look up the pixel size of a TIFF without reading its pixels.

    For napari layers, whose built-in reader drops it. Never raises: a file that cannot be
    read has no pixel size.

    Parameters
    ----------
    path : str or os.PathLike
        Any file, or none.

    Returns
    -------
    pixel_size : tuple of (float, float), or None
        Height and width of a pixel (y, x) in `unit`.
    unit : str
        As in `Image`; ``"pixel"`` without a size.
    """
    try:
        # a named pipe would block for ever, a web address is no file
        if not Path(path).is_file():
            return None, "pixel"
        with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
            scale = _scale_of(tif)
    except Exception:  # tifffile and the XML parser raise a dozen kinds on damaged files
        return None, "pixel"
    return scale.pixel_size, scale.unit


def read_provenance(path: PathLike) -> dict[str, Any]:
    """Read back what `write_labels` wrote about the making of a label image.

    Parameters
    ----------
    path : str or os.PathLike
        A TIFF.

    Returns
    -------
    dict
        The provenance; empty for a TIFF that is not ours.

    Raises
    ------
    UserError
        If the file is missing or no TIFF.
    """
    path = Path(path)
    try:
        with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
            text = _description_of(tif)
    except OSError as error:
        raise _read_failure(path, error) from error
    except Exception as error:
        raise _damaged(path, "TIFF", error) from error
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == _PROVENANCE_KEY:
            with contextlib.suppress(ValueError):
                return dict(json.loads(value))
    return {}


def _header_of(path: Path) -> bytes:
    """First bytes of a file that exists, is no folder, and has an ending that we read."""
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, not an image. Name a file in it.")
    with open(path, "rb") as file:
        header = file.read(32)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            f"{path.name} cannot be read: files ending in {path.suffix or 'nothing'!r} are not "
            "known here. Open it in Fiji (Bio-Formats) and save it as a TIFF; PNG, JPEG "
            "and BMP are read too."
        )
    if not header:
        raise UserError(f"{path.name} is empty (0 bytes). Copy it again from its source.")
    return header


_READ_FAILURES = {
    errno.ENOENT: "does not exist. Check the name and the folder",
    errno.ENOTDIR: "does not exist. Check the name and the folder",
    errno.ENAMETOOLONG: "does not exist: no file has so long a name. Check the name",
    errno.EACCES: "may not be read by you. Ask its owner for the permission, or copy it",
    errno.EPERM: "may not be read by you. Ask its owner for the permission, or copy it",
    errno.EISDIR: "is a folder, not an image. Name a file in it",
}


def _read_failure(path: Path, error: OSError) -> UserError:
    reason = _READ_FAILURES.get(
        error.errno or 0,
        f"could not be read ({error.strerror or error}). See that its disk is still "
        "connected, or copy it again",
    )
    return UserError(f"{path} {reason}.")


def _damaged(path: Path, kind: str, error: Exception) -> UserError:
    return UserError(
        f"{path.name} cannot be read as a {kind}: it is damaged, or stored in a way that is "
        f"not known here ({error}). Copy it again from its source, or open it in Fiji and "
        "save it as an uncompressed TIFF."
    )


def _cut_off(path: Path, kind: str) -> UserError:
    return UserError(
        f"{path.name} cannot be read as a {kind}: the file ends too early (it may be a broken "
        "download or copy). Copy it again from its source, or, if Fiji opens it in full, "
        "save it there again."
    )


# what a file is that has an image's ending and is none: by its first bytes
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"ZISRAWFILE", "a Zeiss CZI file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF", "a PDF"),
    (b"<", "a web page or XML text"),
    (b"{", "a JSON text"),
)


def _kind_named(path: Path) -> str:
    """Name the kind of file that an ending promises."""
    kind = path.suffix[1:].upper()
    return {"TIF": "TIFF", "JPG": "JPEG"}.get(kind, kind)


def _kind_of(header: bytes) -> str:
    """Name what a file that is no image probably is."""
    if not header.strip(b"\0"):
        return "a broken copy, it begins with zeros only"
    named = (name for magic, name in _SIGNATURES if header.startswith(magic))
    is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in header)
    return next(named, "a text file" if is_text else "something else")


# --- pictures ---------------------------------------------------------------------------

# Pillow's mode -> the mode that holds the same picture without palette and alpha
_PLAIN_MODES = {"1": "L", "LA": "L", "La": "L"} | dict.fromkeys(
    ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"
)


def _read_picture(path: Path, header: bytes) -> Image:
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    try:
        if header[:8] == b"\x89PNG\r\n\x1a\n" and header[24] == 16 and header[25] != 0:
            data = _read_deep_png(path)
        else:
            # Pillow's size limit holds, as an error; its warning at half of that is noise
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
                picture = pillow.open(path, formats=_PILLOW_FORMATS)
            with picture:
                data = _picture_data(picture)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path.name} is not a {_kind_named(path)}, although its name says so: it is "
            f"{_kind_of(header)}. Choose the image itself, or save it again from the program "
            "that made it."
        ) from error
    except pillow.DecompressionBombError as error:
        raise UserError(
            f"{path.name} has more pixels than a picture file is trusted with. Open it in "
            "Fiji and save it as a TIFF."
        ) from error
    except (OSError, MemoryError) as error:
        # Pillow reports a file that ends too early without an error number
        if isinstance(error, OSError) and error.errno is None:
            raise _cut_off(path, _kind_named(path)) from error
        raise
    except Exception as error:
        raise _damaged(path, _kind_named(path), error) from error
    axes = "TYXC"[4 - data.ndim :] if data.shape[-1:] == (3,) and data.ndim > 2 else "TYX"
    return Image(data, axes[-data.ndim :], None, "pixel", path)


def _picture_data(picture: Any) -> NDArray[Any]:
    """Pixels of a Pillow image: (Y, X) or (Y, X, 3), with T in front for an animation."""
    from PIL import ImageSequence

    # the second frame that some cameras put in a JPEG is a preview
    n_frames = 1 if picture.format in {"JPEG", "MPO"} else getattr(picture, "n_frames", 1)
    frames = itertools.islice(ImageSequence.Iterator(picture), n_frames)
    planes = [np.array(frame.convert(_PLAIN_MODES.get(frame.mode, frame.mode))) for frame in frames]
    data = planes[0] if n_frames == 1 else np.stack(planes)
    # 16-bit grey comes as int32 from some of Pillow's readers
    if data.dtype == np.int32 and data.min(initial=0) >= 0 and data.max(initial=0) < 2**16:
        data = data.astype(np.uint16)
    return _native(data)


def _read_deep_png(path: Path) -> NDArray[Any]:
    """Colour or grey + alpha PNG of 16 bits, of which Pillow would drop the lower eight."""
    import imagecodecs

    data = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return data[..., 0] if data.shape[-1] == 2 else data[..., :3]


# --- TIFF -------------------------------------------------------------------------------


def _read_tiff(path: Path, header: bytes) -> Image:
    with open(path, "rb") as file:
        if _structure_end(file, header) > path.stat().st_size:
            raise _cut_off(path, "TIFF")
    try:
        with _quiet_tifffile(), tifffile.TiffFile(path) as tif:
            if len(tif.pages) == 0:
                raise UserError(f"{path.name} is a TIFF without a page. Save the image again.")
            series = tif.series[0]
            _check_complete(path, tif, series)
            data, axes = _plain_axes(path, series)
            scale = _scale_of(tif)
            n_images = len(tif.series)
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise _read_failure(path, error) from error
    except Exception as error:  # each codec has its own exceptions
        raise _damaged(path, "TIFF", error) from error
    return Image(data, axes, scale.pixel_size, scale.unit, path, scale.z_step, n_images)


@contextlib.contextmanager
def _quiet_tifffile() -> Iterator[None]:
    """Keep tifffile's log lines off this thread's stderr: the user gets a sentence instead."""
    thread = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = tifffile.logger()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


class _TiffLayout(NamedTuple):
    """How a TIFF of one byte order and pointer width stores its page directories."""

    first: int
    offset: struct.Struct
    n_tags: struct.Struct
    entry: struct.Struct  # tag, type, number of values, value or its position


def _layout(order: str, first: int, count: str, offset: str) -> _TiffLayout:
    return _TiffLayout(
        first,
        struct.Struct(order + offset),
        struct.Struct(order + count),
        struct.Struct(order + "HH" + offset * 2),
    )


_TIFF_LAYOUTS = {
    b"II*\0": _layout("<", 4, "H", "I"),
    b"MM\0*": _layout(">", 4, "H", "I"),
    b"II+\0": _layout("<", 8, "Q", "Q"),
    b"MM\0+": _layout(">", 8, "Q", "Q"),
}

# Only these decide on pixels and pixel size; private tags of sloppy writers may dangle.
# Description, strips, tiles, resolution, colour map, ImageJ's own.
_VITAL_TAGS = frozenset({270, 273, 279, 324, 325, 282, 283, 320, 50838, 50839})
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8} | {
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


def _structure_end(file: BinaryIO, header: bytes) -> int:
    """Position behind the last byte of the page directories and the tags they point at.

    Beyond the file's end: it was cut off. tifffile only logs that and goes on with the
    pages and tags that are left, which would silently lose planes or the pixel size.
    """
    layout = _TIFF_LAYOUTS[header[:4]]
    size = file.seek(0, os.SEEK_END)
    position = layout.first
    end = position + layout.offset.size
    seen: set[int] = set()
    while end <= size:
        file.seek(position)
        (position,) = layout.offset.unpack(file.read(layout.offset.size))
        if position == 0 or position in seen:
            break
        seen.add(position)
        end = max(end, position + layout.n_tags.size)
        if end > size:
            break
        file.seek(position)
        (n_tags,) = layout.n_tags.unpack(file.read(layout.n_tags.size))
        tags_end = position + layout.n_tags.size + n_tags * layout.entry.size
        end = max(end, tags_end + layout.offset.size)
        if end <= size:
            end = max(end, _values_end(file.read(n_tags * layout.entry.size), layout))
        position = tags_end
    return end


def _values_end(tags: bytes, layout: _TiffLayout) -> int:
    """Position behind the last value that is stored outside of a page directory."""
    end = 0
    for tag, dtype, count, where in layout.entry.iter_unpack(tags):
        n_bytes = count * _TYPE_SIZES.get(dtype, 0)
        if tag in _VITAL_TAGS and n_bytes > layout.offset.size:
            end = max(end, where + n_bytes)
    return end


def _check_complete(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse a series of which planes, strips or tiles are missing: they would read as 0."""
    pages = list(series.pages)
    if any(page is None for page in pages):
        raise UserError(
            f"{path.name} describes {len(pages)} planes, of which "
            f"{sum(page is None for page in pages)} are missing. If it is one file of a set, put "
            "the whole set into one folder; else open it in Fiji and save what is there."
        )
    # ImageJ stores large stacks behind one page; where they are cut off, tifffile falls back
    # to reading that page alone
    if tif.is_imagej and series.kind in {"generic", "uniform"}:
        raise _cut_off(path, "TIFF")
    for page in pages:
        if page is not None and not _is_stored(page):
            raise _cut_off(path, "TIFF")


def _is_stored(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether all strips or tiles of a page lie within its file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not any(offsets) or len(offsets) < math.prod(page.chunked):
        return False
    if page.compression == tifffile.COMPRESSION.NONE:
        # tifffile raises by itself where these are short; the stated length of the last
        # strip is often too large
        return True
    size = page.parent.filehandle.size
    return all(offset + count <= size for offset, count in zip(offsets, counts, strict=False))


def _plain_axes(path: Path, series: tifffile.TiffPageSeries) -> tuple[NDArray[Any], str]:
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
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise UserError(
                f"{path.name} is in the CMYK colours of a printer. Convert it to RGB in Fiji."
            )
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


# --- pixel size -------------------------------------------------------------------------


class _Scale(NamedTuple):
    pixel_size: tuple[float, float] | None
    unit: str
    z_step: float | None


_NO_SCALE = _Scale(None, "pixel", None)

# our name -> micrometers, ImageJ's and OME's name for it
_MICROMETERS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}
_IMAGEJ_UNITS = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm"}
_OME_UNITS = _IMAGEJ_UNITS | {"micrometer": "\N{MICRO SIGN}m"}

# what files and napari write, in lower case -> (our name, factor)
_UNIT_ALIASES: dict[str, tuple[str, float]] = {
    alias: (name, factor)
    for name, factor, aliases in (
        ("nanometer", 1.0, "nm nanometer nanometers nanometre nanometres"),
        (
            "micrometer",
            1.0,
            "um \N{MICRO SIGN}m \N{GREEK SMALL LETTER MU}m \\u00b5m \\u03bcm micron microns "
            "micrometer micrometers micrometre micrometres",
        ),
        ("millimeter", 1.0, "mm millimeter millimeters millimetre millimetres"),
        ("nanometer", 0.1, "\N{LATIN SMALL LETTER A WITH RING ABOVE} angstrom angstroms"),
        ("nanometer", 1e-3, "pm picometer picometers"),
        ("micrometer", 1e4, "cm centimeter centimeters centimetre centimetres"),
        ("micrometer", 25400.0, "inch inches in"),
        ("micrometer", 1e6, "m meter meters metre metres"),
    )
    for alias in aliases.split()
}

# units in which programs state a print resolution that nobody measured
_PRINT_UNITS = frozenset({"cm", "inch"})
_PRINT_DPI = (72, 96, 150, 300, 600)
_LARGEST_PIXEL_UM = 1000.0


def _scale_of(tif: tifffile.TiffFile) -> _Scale:
    """Pixel size from the first kind of metadata that states one."""
    found = (read(tif) for read in (_ome_scale, _imagej_scale, _resolution_scale))
    return next((scale for scale in found if scale is not None), _NO_SCALE)


def _ome_scale(tif: tifffile.TiffFile) -> _Scale | None:
    if not tif.ome_metadata:
        return None
    with contextlib.suppress(ElementTree.ParseError):
        pixels = ElementTree.fromstring(tif.ome_metadata).find(".//{*}Pixels")
        if pixels is not None:
            # the OME schema's default unit is the micrometer
            stated = {
                axis: (
                    pixels.get(f"PhysicalSize{axis.upper()}"),
                    pixels.get(f"PhysicalSize{axis.upper()}Unit", "um"),
                )
                for axis in "yxz"
            }
            return _scale_from(stated)
    return None


def _imagej_scale(tif: tifffile.TiffFile) -> _Scale | None:
    metadata = tif.imagej_metadata
    if not metadata:
        return None
    unit = str(metadata.get("unit", "pixel"))
    return _scale_from(
        {
            "y": (_resolution(tif, 283), str(metadata.get("yunit", unit))),
            "x": (_resolution(tif, 282), unit),
            "z": (metadata.get("spacing"), str(metadata.get("zunit", unit))),
        }
    )


def _resolution_scale(tif: tifffile.TiffFile) -> _Scale | None:
    """Plain resolution tags, where they are in centimeters: inches are a printer's."""
    unit = tif.pages.first.tags.valueof(296)
    if unit != tifffile.RESUNIT.CENTIMETER:
        return None
    return _scale_from({"y": (_resolution(tif, 283), "cm"), "x": (_resolution(tif, 282), "cm")})


def _resolution(tif: tifffile.TiffFile, tag: int) -> float | None:
    """Invert a tag that holds pixels per unit length."""
    pixels, length = tif.pages.first.tags.valueof(tag, default=(0, 0))
    return length / pixels if pixels else None


def _scale_from(stated: Mapping[str, tuple[Any, str]]) -> _Scale | None:
    """Normalise sizes as a file states them: axis -> (size, unit)."""
    sizes = {axis: _length(size, unit) for axis, (size, unit) in stated.items()}
    y, x, z = sizes["y"], sizes["x"], sizes.get("z")
    if y is None or x is None:
        return None
    known = [length for length in (y, x, z) if length is not None]
    unit = x[1] if len({unit for _, unit in known}) == 1 else "micrometer"

    def to_unit(length: tuple[float, str]) -> float:
        value, own = length
        return value if own == unit else value * _MICROMETERS[own] / _MICROMETERS[unit]

    return _Scale((to_unit(y), to_unit(x)), unit, None if z is None else to_unit(z))


def _length(size: Any, unit: str) -> tuple[float, str] | None:
    """Return a positive, believable length in one of our units, else None."""
    unit = unit.strip().lower()
    try:
        value = float(size)
    except (TypeError, ValueError):
        return None
    if unit not in _UNIT_ALIASES or not (0 < value < math.inf):
        return None
    name, factor = _UNIT_ALIASES[unit]
    if unit in _PRINT_UNITS and _is_print_resolution(value * factor):
        return None
    return value * factor, name


def _is_print_resolution(micrometers: float) -> bool:
    """Whether a pixel size is a page layout's default rather than a microscope's."""
    dpi = 25400.0 / micrometers
    # 2 %: 72 dpi is often rounded to 28 pixels per centimeter
    is_default = any(math.isclose(dpi, default, rel_tol=0.02) for default in _PRINT_DPI)
    return is_default or micrometers > _LARGEST_PIXEL_UM


# --- writing ----------------------------------------------------------------------------

_PROVENANCE_KEY = "napari_unet_cells"

# ImageJ cannot place compressed planes beyond 32-bit positions; leave room for metadata
_IMAGEJ_MAX_BYTES = 2**32 - 2**25


def write_labels(
    path: PathLike,
    labels: ArrayLike,
    *,
    axes: str = "YX",
    pixel_size: tuple[float, float] | None = None,
    unit: str = "pixel",
    z_step: float | None = None,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Write a label image as a TIFF that Fiji opens in the right size.

    uint8 and uint16 become an ImageJ TIFF, uint32 (which ImageJ's format has not) an
    OME-TIFF, both with zlib compression. uint8 stays uint8; other integers become uint16
    where all ids fit, else uint32: no id is ever clipped. The provenance is one line
    ``napari_unet_cells={...}`` of the description, and Fiji shows it under
    Image > Show Info.

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.tif`` is appended where it has no TIFF ending.
    labels : array_like of int or bool
        Label ids, background 0, one axis per letter of `axes`.
    axes : str
        Of TZCYX, in this order, the last two YX.
    pixel_size : tuple of (float, float), optional
        Height and width of a pixel (y, x) in `unit`.
    unit : str
        Unit of length, under any usual name; ``"pixel"`` for none.
    z_step : float, optional
        Distance of two planes in `unit`.
    provenance : mapping
        What made the labels; anything JSON can hold, and paths, dates and numpy numbers.
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
        If it cannot be written (an older file stays whole), if an id is negative or above
        2**32 - 1, or if the unit is none of length.
    ValueError, TypeError
        If `axes` do not fit the labels, or the labels are no integers.
    """
    target = _with_suffix(path, TIFF_SUFFIXES, ".tif")
    array = _fitting_labels(target, np.asarray(labels), axes)
    scale = _scale_to_write(target, pixel_size, unit, z_step)
    record = _jsonable(provenance)
    is_imagej = array.dtype != np.uint32 and array.nbytes <= _IMAGEJ_MAX_BYTES
    options = (_imagej_options if is_imagej else _ome_options)(scale, record)
    options["metadata"]["axes"] = axes
    with atomic_write(target, overwrite) as temporary:
        tifffile.imwrite(temporary, array, photometric="minisblack", compression="zlib", **options)
    return target


def write_json(path: PathLike, mapping: Mapping[str, Any], overwrite: bool = False) -> Path:
    """Write a mapping as indented JSON, atomically.

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.json`` is appended where it is missing.
    mapping : mapping
        Anything JSON can hold, and paths, dates and numpy numbers; NaN and infinity,
        which JSON has not, become null.
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
        If it cannot be written; an older file stays whole.
    """
    target = _with_suffix(path, frozenset({".json"}), ".json")
    text = json.dumps(_jsonable(mapping), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(target, overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return target


def _with_suffix(path: PathLike, suffixes: frozenset[str], default: str) -> Path:
    """Append an ending, never replace one: ``cells.v2`` becomes ``cells.v2.tif``."""
    target = Path(path)
    if not target.name or os.path.isdir(target):
        raise UserError(f"{target} is a folder, not a file. Add a file name to it.")
    return target if target.suffix.lower() in suffixes else target.with_name(target.name + default)


def _fitting_labels(target: Path, labels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Cast to the smallest of uint8 (only from uint8), uint16, uint32 that holds all ids."""
    in_order = "".join(axis for axis in "TZCYX" if axis in axes)
    if len(axes) != labels.ndim or axes != in_order or not axes.endswith("YX"):
        raise ValueError(f"axes {axes!r} do not describe labels of shape {labels.shape}")
    if labels.dtype.kind not in "bui":
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    if labels.size == 0:
        raise UserError(f"{target.name} was not written: the label image has no pixels.")
    if labels.dtype.kind == "b" or labels.dtype == np.uint8:
        return labels.astype(np.uint8, copy=False)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= 2**32:
        raise UserError(
            f"{target.name} was not written: its labels run from {low} to {high}, and a TIFF "
            "holds 0 to 4294967295. Renumber the labels first."
        )
    return labels.astype(np.uint16 if high < 2**16 else np.uint32, copy=False)


def _scale_to_write(
    target: Path, pixel_size: tuple[float, float] | None, unit: str, z_step: float | None
) -> _Scale:
    """Convert the caller's sizes to a unit that a TIFF can name, numpy numbers to floats."""
    if pixel_size is None or unit in ("pixel", "pixels", ""):
        # a size in pixels says nothing that Fiji could show
        return _NO_SCALE
    if unit.strip().lower() not in _UNIT_ALIASES:
        known = ", ".join(_MICROMETERS)
        raise UserError(
            f"{target.name} was not written: {unit!r} is no unit of length that a TIFF can name. "
            f"Set the layer's unit to one of {known} or pixel."
        )
    name, factor = _UNIT_ALIASES[unit.strip().lower()]
    sizes = [float(size) * factor for size in pixel_size]
    if len(sizes) != 2 or not all(0 < size < math.inf for size in sizes):
        raise UserError(
            f"{target.name} was not written: its pixel size {tuple(pixel_size)} is not two "
            "positive numbers. Correct the layer's scale."
        )
    return _Scale((sizes[0], sizes[1]), name, None if z_step is None else float(z_step) * factor)


def _imagej_options(scale: _Scale, record: Any) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` for ImageJ: pixels per unit, the unit by name."""
    metadata = {
        _PROVENANCE_KEY: json.dumps(record, separators=(",", ":"), allow_nan=False),
        # what Fiji shows under Image > Show Info
        "Info": json.dumps(record, indent=1, ensure_ascii=False),
    }
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if scale.pixel_size is not None:
        y, x = scale.pixel_size
        options["resolution"] = (1 / x, 1 / y)
        metadata["unit"] = _IMAGEJ_UNITS[scale.unit]
        if scale.z_step is not None:
            metadata["spacing"] = str(scale.z_step)
    return options


def _ome_options(scale: _Scale, record: Any) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` for OME, with resolution tags for other readers."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    metadata: dict[str, Any] = {"Description": f"{_PROVENANCE_KEY}={text}"}
    options: dict[str, Any] = {"ome": True, "metadata": metadata}
    if scale.pixel_size is not None:
        sizes = dict(zip("YXZ", (*scale.pixel_size, scale.z_step), strict=True))
        for axis, size in sizes.items():
            if size is not None:
                metadata[f"PhysicalSize{axis}"] = size
                metadata[f"PhysicalSize{axis}Unit"] = _OME_UNITS[scale.unit]
        per_cm = [1e4 / (size * _MICROMETERS[scale.unit]) for size in scale.pixel_size[::-1]]
        options |= {"resolution": tuple(per_cm), "resolutionunit": "CENTIMETER"}
    return options


def _description_of(tif: tifffile.TiffFile) -> str:
    """Free text of a TIFF: ImageJ's description, or that of OME's first image."""
    if not tif.ome_metadata:
        return tif.pages.first.description
    text = ElementTree.fromstring(tif.ome_metadata).findtext(".//{*}Image/{*}Description")
    return text or ""


def _jsonable(value: Any) -> Any:
    """Return the same value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# --- atomic writing ---------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Let a file appear whole or not at all.

    Yields a temporary file beside the target, with the target's ending, for any library
    to write to; at the end of the block it is flushed to the disk and takes the target's
    name::

        with atomic_write("model.keras") as temporary:
            model.save(temporary)

    If the block raises, the temporary file is removed and an older target stays as it is.
    Without `overwrite`, a target that another program makes meanwhile is not replaced.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    Path
        The temporary file; it exists and is empty.

    Raises
    ------
    FileExists
        If the target exists and `overwrite` is False.
    UserError
        If the disk refuses: folder missing or read-only, disk full, name too long, ...
        An `OSError` that the block raises is taken for such a refusal.
    """
    target = Path(path)
    try:
        real = Path(os.path.realpath(target))
        _check_target(target, real, overwrite)
        temporary = _create_beside(real)
        try:
            yield temporary
            _sync(temporary)
            _publish(temporary, real, overwrite)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        # on Windows a folder cannot be opened, and need not be
        with contextlib.suppress(OSError):
            _sync(real.parent)
    except FileExistsError as error:
        raise FileExists(target) from error
    except OSError as error:
        raise _write_failure(target, error) from error


def _check_target(target: Path, real: Path, overwrite: bool) -> None:
    if real.is_dir():
        raise UserError(f"{target} is a folder, not a file. Add a file name to it.")
    if not real.exists():
        return
    if not overwrite:
        raise FileExists(target)
    if not os.access(real, os.W_OK):
        raise UserError(f"{target} is write-protected and was left as it is. Choose another name.")


def _create_beside(real: Path) -> Path:
    """Make an empty hidden file on the target's disk, with the rights of a normal new file."""
    # mkstemp would make it readable by its owner only; a name of fixed length, so that it
    # is not the temporary file whose name is too long
    temporary = real.with_name(f".{secrets.token_hex(6)}.part{real.suffix[:12]}")
    with open(temporary, "xb"):
        pass
    with contextlib.suppress(OSError):
        shutil.copymode(real, temporary)
    return temporary


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(temporary: Path, real: Path, overwrite: bool) -> None:
    """Give the finished file its name; without `overwrite` only a name that is free."""
    if overwrite:
        os.replace(temporary, real)
        return
    try:
        os.link(temporary, real)
    except FileExistsError:
        raise
    except OSError:
        # no hard links on this disk (FAT, some network shares): claim the name, then move
        with open(real, "xb"):
            pass
        try:
            os.replace(temporary, real)
        except OSError:
            real.unlink(missing_ok=True)
            raise


_READ_ONLY = "the folder {folder} may not be written to, or another program holds the file open"
_WRITE_FAILURES = {
    errno.EACCES: (_READ_ONLY, "Choose another folder, or close the other program"),
    errno.EPERM: (_READ_ONLY, "Choose another folder, or close the other program"),
    errno.EROFS: ("the folder {folder} is on a read-only disk", "Choose another folder"),
    errno.ENOSPC: ("the disk of {folder} is full", "Free some space or choose another disk"),
    errno.EDQUOT: (
        "your share of the disk of {folder} is used up",
        "Free some space or choose another disk",
    ),
    errno.EFBIG: (
        "the disk of {folder} does not take so large a file",
        "Choose another disk or a smaller region",
    ),
    errno.ENOENT: ("there is no folder {folder}", "Make it, or choose another folder"),
    errno.ENOTDIR: ("{folder} is not a folder", "Choose another folder"),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter name"),
    errno.EINVAL: ("its name holds a character that this disk refuses", "Choose another name"),
}


def _write_failure(target: Path, error: OSError) -> UserError:
    reason, way_out = _WRITE_FAILURES.get(
        error.errno or 0,
        (
            f"the disk refused it ({error.strerror or error})",
            "See that the disk is connected and not full, or choose another one",
        ),
    )
    folder = target.absolute().parent
    return UserError(f"{target.name} was not written: {reason.format(folder=folder)}. {way_out}.")


# --- finding ----------------------------------------------------------------------------


def find_images(paths: Iterable[PathLike]) -> list[Path]:
    """List the image files that paths, folders and patterns stand for.

    A file stands for itself, whatever it is; a folder for the images in it, not in its
    subfolders; a pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth) for the
    images it matches. Hidden files and our own results (``*_cells.tif``,
    ``*_classes.tif``) are left out, unless named or asked for by a pattern that ends so.

    Parameters
    ----------
    paths : iterable of str or os.PathLike
        What the user named, in her order.

    Returns
    -------
    list of Path
        Without duplicates; ``cell2.tif`` stands before ``cell10.tif``.

    Raises
    ------
    UserError
        If a path does not exist, or a folder or pattern holds no image.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for image in _images_of(Path(path)):
            found.setdefault(os.path.realpath(image), image)
    return list(found.values())


def _images_of(path: Path) -> list[Path]:
    is_pattern = glob.has_magic(str(path))
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            candidates = list(path.iterdir())
        elif is_pattern:
            candidates = [Path(name) for name in glob.glob(str(path), recursive=True)]
        else:
            raise UserError(f"{path} does not exist. Check the name and the folder.")
        images = [candidate for candidate in candidates if _is_image(candidate)]
    except OSError as error:
        raise _read_failure(path, error) from error
    wanted = images if _is_result(path) else [image for image in images if not _is_result(image)]
    if not wanted:
        raise _nothing_found(path, images, is_pattern and not path.is_dir())
    return sorted(wanted, key=_natural_key)


def _nothing_found(path: Path, results: Sequence[Path], is_pattern: bool) -> UserError:
    if results:
        return UserError(
            f"{path} holds results only ({results[0].name}). To segment such a file, name it."
        )
    reason = "matches no image" if is_pattern else "is a folder without images"
    return UserError(f"{path} {reason} (TIFF, PNG, JPEG, BMP). Check the name and the folder.")


def _is_image(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return not is_hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _is_result(path: Path) -> bool:
    return _RESULT_NAME.fullmatch(path.name) is not None


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers by value, text by letter; the name itself decides between 1 and 01."""
    parts = re.findall(r"\d+|\D+", str(path).lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], str(path)
