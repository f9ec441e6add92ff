"""Labels as TIFFs that Fiji opens in the right size and that say how they were made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import PathLike, atomic_write, with_ending
from napari_unet_cells.files.failures import damaged, read_failure
from napari_unet_cells.files.pixel_size import (
    IMAGEJ_UNITS,
    LARGEST_PIXEL,
    MICROMETERS,
    NO_SCALE,
    OME_UNITS,
    SMALLEST_PIXEL,
    UNIT_ALIASES,
    Scale,
    is_believable,
)
from napari_unet_cells.files.quiet import quiet_tifffile
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.tiff import TIFF_SUFFIXES
from napari_unet_cells.files.zarr_metadata import is_zarr, zarr_record
from napari_unet_cells.untrusted.json_text import parse_json
from napari_unet_cells.untrusted.ome_xml import parse_ome
from napari_unet_cells.untrusted.regular import open_regular
from napari_unet_cells.untrusted.result_record import ResultRecord, parse_record
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping

PROVENANCE_KEY = "napari_unet_cells"

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
    target = with_ending(path, TIFF_SUFFIXES, ".tif")
    array = _fitting_labels(target, np.asarray(labels), axes)
    scale = scale_to_write(target, pixel_size, unit, z_step)
    record = jsonable(provenance)
    is_imagej = array.dtype != np.uint32 and array.nbytes <= _IMAGEJ_MAX_BYTES
    options = (_imagej_options if is_imagej else ome_options)(scale, record)
    options["metadata"]["axes"] = axes
    with atomic_write(target, overwrite) as temporary:
        tifffile.imwrite(temporary, array, photometric="minisblack", compression="zlib", **options)
    return target


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


def scale_to_write(
    target: Path, pixel_size: tuple[float, float] | None, unit: str, z_step: float | None
) -> Scale:
    """Convert the caller's sizes to a unit that a TIFF can name, numpy numbers to floats."""
    if pixel_size is None or unit in ("pixel", "pixels", ""):
        # a size in pixels says nothing that Fiji could show
        return NO_SCALE
    if unit.strip().lower() not in UNIT_ALIASES:
        known = ", ".join(MICROMETERS)
        raise UserError(
            f"{target.name} was not written: {unit!r} is no unit of length that a TIFF can name. "
            f"Set the layer's unit to one of {known} or pixel."
        )
    name, factor = UNIT_ALIASES[unit.strip().lower()]
    sizes = [float(size) * factor for size in pixel_size]
    step = None if z_step is None else float(z_step) * factor
    lengths = sizes if step is None else [*sizes, abs(step)]
    if len(sizes) != 2 or not all(is_believable(size * MICROMETERS[name]) for size in lengths):
        said = tuple(pixel_size) if step is None else (*pixel_size, z_step)
        raise UserError(
            f"{target.name} was not written: its pixel size {said} is not of two positive numbers "
            f"between {SMALLEST_PIXEL:g} and {LARGEST_PIXEL:g} micrometers. Correct the layer's "
            "scale."
        )
    return Scale((sizes[0], sizes[1]), name, step)


def _imagej_options(scale: Scale, record: Any) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` for ImageJ: pixels per unit, the unit by name."""
    metadata = {
        PROVENANCE_KEY: json.dumps(record, separators=(",", ":"), allow_nan=False),
        # what Fiji shows under Image > Show Info
        "Info": json.dumps(record, indent=1, ensure_ascii=False),
    }
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if scale.pixel_size is not None:
        y, x = scale.pixel_size
        options["resolution"] = (1 / x, 1 / y)
        metadata["unit"] = IMAGEJ_UNITS[scale.unit]
        if scale.z_step is not None:
            metadata["spacing"] = str(scale.z_step)
    return options


def ome_options(scale: Scale, record: Any) -> dict[str, Any]:
    """Give the arguments of `tifffile.imwrite` for OME, with resolution tags for other readers."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    metadata: dict[str, Any] = {"Description": f"{PROVENANCE_KEY}={text}"}
    options: dict[str, Any] = {"ome": True, "metadata": metadata}
    if scale.pixel_size is not None:
        sizes = dict(zip("YXZ", (*scale.pixel_size, scale.z_step), strict=True))
        for axis, size in sizes.items():
            if size is not None:
                metadata[f"PhysicalSize{axis}"] = size
                metadata[f"PhysicalSize{axis}Unit"] = OME_UNITS[scale.unit]
        per_cm = [1e4 / (size * MICROMETERS[scale.unit]) for size in scale.pixel_size[::-1]]
        options |= {"resolution": tuple(per_cm), "resolutionunit": "CENTIMETER"}
    return options


def read_provenance(path: PathLike) -> dict[str, Any]:
    """Read back what `write_labels` wrote about the making of a label image.

    Parameters
    ----------
    path : str or os.PathLike
        A TIFF, or a zarr folder.

    Returns
    -------
    dict
        The provenance; empty for a file that is not ours, or of which it is damaged.

    Raises
    ------
    UserError
        If the file is missing or no TIFF.
    """
    path = Path(path)
    with contextlib.suppress(Malformed):
        if is_zarr(path):
            return plain_mapping(zarr_record(path))
        for line in _description_of(path).splitlines():
            key, _, value = line.partition("=")
            if key == PROVENANCE_KEY:
                return plain_mapping(parse_json(value))
    return {}


def read_record(path: PathLike) -> ResultRecord:
    """Read the same with what the program uses of it checked; an empty one where there is none.

    Raises
    ------
    UserError
        If the file is missing or no TIFF.
    """
    return parse_record(read_provenance(path))


def _description_of(path: Path) -> str:
    """Free text of a TIFF: ImageJ's description, or that of OME's first image."""
    try:
        with open_regular(path) as file, quiet_tifffile(), tifffile.TiffFile(file) as tif:
            if not tif.ome_metadata:
                return tif.pages.first.description
            return parse_ome(tif.ome_metadata).description
    except (UserError, Malformed):
        raise
    except OSError as error:
        raise read_failure(path, error) from error
    except Exception as error:
        raise damaged(path, "TIFF", error) from error
