"""Pixel sizes and their units, as OME, ImageJ and plain TIFFs state them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from napari_unet_cells.files.atomic import PathLike
from napari_unet_cells.files.quiet import quiet_tifffile
from napari_unet_cells.files.zarr_metadata import is_zarr, zarr_image
from napari_unet_cells.untrusted.ome_xml import parse_ome
from napari_unet_cells.untrusted.rules import Malformed


class Scale(NamedTuple):
    """Height and width of a pixel and the distance of planes, in `unit`."""

    pixel_size: tuple[float, float] | None
    unit: str
    z_step: float | None


NO_SCALE = Scale(None, "pixel", None)

# our name -> micrometers, ImageJ's and OME's name for it
MICROMETERS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}

#: Symbols of the units, as they are shown.
SYMBOLS = {"micrometer": "\N{MICRO SIGN}m", "nanometer": "nm", "millimeter": "mm", "pixel": "px"}
IMAGEJ_UNITS = {"nanometer": "nm", "micrometer": "um", "millimeter": "mm"}
OME_UNITS = IMAGEJ_UNITS | {"micrometer": "\N{MICRO SIGN}m"}

#: Micrometers. A pixel is no smaller than a tenth of an atom and no larger than a metre; beyond
#: that a file is damaged, and areas and volumes leave what a number can hold.
SMALLEST_PIXEL, LARGEST_PIXEL = 1e-5, 1e6

# what files and napari write, in lower case -> (our name, factor)
UNIT_ALIASES: dict[str, tuple[str, float]] = {
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


def scale_of(tif: tifffile.TiffFile) -> Scale:
    """Pixel size from the first kind of metadata that states one."""
    found = (read(tif) for read in (_ome_scale, _imagej_scale, _resolution_scale))
    return next((scale for scale in found if scale is not None), NO_SCALE)


def zarr_scale(lengths: Mapping[str, tuple[float, str]]) -> Scale:
    """Pixel size as `zarr_metadata.ZarrImage` states it."""
    stated = {axis: lengths.get(axis, (None, "")) for axis in "yxz"}
    return _scale_from(stated) or NO_SCALE


_NOTHING_STATED: dict[str, tuple[Any, str]] = {"y": (None, ""), "x": (None, "")}


def _ome_scale(tif: tifffile.TiffFile) -> Scale | None:
    if not tif.ome_metadata:
        return None
    with contextlib.suppress(Malformed):
        return _scale_from({**_NOTHING_STATED, **parse_ome(tif.ome_metadata).sizes})
    return None


def _imagej_scale(tif: tifffile.TiffFile) -> Scale | None:
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


def _resolution_scale(tif: tifffile.TiffFile) -> Scale | None:
    """Plain resolution tags, where they are in centimeters: inches are a printer's."""
    unit = tif.pages.first.tags.valueof(296)
    if unit != tifffile.RESUNIT.CENTIMETER:
        return None
    return _scale_from({"y": (_resolution(tif, 283), "cm"), "x": (_resolution(tif, 282), "cm")})


def _resolution(tif: tifffile.TiffFile, tag: int) -> float | None:
    """Invert a tag that holds pixels per unit length."""
    value = tif.pages.first.tags.valueof(tag, default=(0, 0))
    try:
        pixels, length = value
        return float(length / pixels) if pixels else None
    except (TypeError, ValueError, OverflowError):  # a tag of another type, or of more values
        return None


def _scale_from(stated: Mapping[str, tuple[Any, str]]) -> Scale | None:
    """Normalise sizes as a file states them: axis -> (size, unit)."""
    sizes = {axis: _length(size, unit) for axis, (size, unit) in stated.items()}
    y, x, z = sizes["y"], sizes["x"], sizes.get("z")
    if y is None or x is None:
        return None
    known = [length for length in (y, x, z) if length is not None]
    unit = x[1] if len({unit for _, unit in known}) == 1 else "micrometer"

    def to_unit(length: tuple[float, str]) -> float:
        value, own = length
        return value if own == unit else value * MICROMETERS[own] / MICROMETERS[unit]

    return Scale((to_unit(y), to_unit(x)), unit, None if z is None else to_unit(z))


def _length(size: Any, unit: str) -> tuple[float, str] | None:
    """Return a positive, believable length in one of our units, else None."""
    unit = unit.strip().lower()
    try:
        value = float(size)
    except (TypeError, ValueError, OverflowError):
        return None
    if unit not in UNIT_ALIASES or not (0 < value < math.inf):
        return None
    name, factor = UNIT_ALIASES[unit]
    if not is_believable(value * factor * MICROMETERS[name]):
        return None
    if unit in _PRINT_UNITS and _is_print_resolution(value * factor):
        return None
    return value * factor, name


def is_believable(micrometers: float) -> bool:
    """Whether a length can be that of a pixel, or from one plane to the next."""
    return SMALLEST_PIXEL <= micrometers <= LARGEST_PIXEL


def _is_print_resolution(micrometers: float) -> bool:
    """Whether a pixel size is a page layout's default rather than a microscope's."""
    dpi = 25400.0 / micrometers
    # 2 %: 72 dpi is often rounded to 28 pixels per centimeter
    is_default = any(math.isclose(dpi, default, rel_tol=0.02) for default in _PRINT_DPI)
    return is_default or micrometers > _LARGEST_PIXEL_UM


def pixel_size_of(path: PathLike) -> tuple[tuple[float, float] | None, str]:
    """Look up the pixel size of a TIFF or a zarr without reading its pixels.

    For napari layers, whose built-in reader drops it. Never raises: a file that cannot be
    read has no pixel size.

    Parameters
    ----------
    path : str or os.PathLike
        Any file or zarr folder, also one within another; or none.

    Returns
    -------
    pixel_size : tuple of (float, float), or None
        Height and width of a pixel (y, x) in `unit`.
    unit : str
        As in `Image`; ``"pixel"`` without a size.
    """
    try:
        if is_zarr(Path(path)):
            scale = zarr_scale(zarr_image(Path(path)).lengths)
            return scale.pixel_size, scale.unit
        # a named pipe would block for ever, a web address is no file
        if not Path(path).is_file():
            return None, "pixel"
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            scale = scale_of(tif)
    except Exception:  # tifffile and the XML parser raise a dozen kinds on damaged files
        return None, "pixel"
    return scale.pixel_size, scale.unit
