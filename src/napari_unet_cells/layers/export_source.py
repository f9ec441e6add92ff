"""Labels, metadata and transform of a layer, taken for an export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.pixel_size import MICROMETERS, UNIT_ALIASES
from napari_unet_cells.files.results import result_record
from napari_unet_cells.layers.image_planes import axis_letters
from napari_unet_cells.layers.metadata import OURS, ZARR
from napari_unet_cells.layers.pixel_size import PixelSize, known_pixel_size, typed_pixel_size
from napari_unet_cells.layers.protocols import Layer, SavedLayer
from napari_unet_cells.layers.selection import source_image, source_path
from napari_unet_cells.layers.transforms import describe_transform


@dataclass(frozen=True)
class ExportSource:
    """Pixels, metadata and transform of a labels layer for an export.

    Taken at once in the GUI thread; the slow rest of the export needs no layer.

    Attributes
    ----------
    labels : integer array, (y, x), or up to (t, z, y, x)
        The layer's own, not a copy.
    axes : str
        One letter for each axis of the labels, of "TZYX".
    name : str
    made : mapping
        See `result_metadata`; empty for labels of other origin.
    transform : mapping
        See `describe_transform`.
    image_path : Path or None
        See `source_path`.
    typed : PixelSize or None
        See `typed_pixel_size`.
    """

    labels: NDArray[Any]
    axes: str
    name: str
    made: Mapping[str, Any]
    transform: Mapping[str, Any]
    image_path: Path | None
    typed: PixelSize | None = None


def export_problem(layer: SavedLayer) -> str | None:
    """Say why a labels layer can be neither measured nor exported; reads no pixels."""
    there = layer.metadata.get(OURS, {}).get(ZARR)
    if there is not None:
        return (
            f"'{layer.name}' is so large that it is read from the disk: its labels lie in {there}, "
            "and the table of all cells beside it."
        )
    if layer.multiscale or not 2 <= layer.ndim <= 4:
        return (
            f"'{layer.name}' has several levels or more axes than (t, z, y, x). Export the full "
            "resolution of one position: File > Save Selected Layers keeps anything."
        )
    return None


def export_source(layer: SavedLayer, layers: Iterable[Layer]) -> ExportSource:
    """Take what an export needs from a labels layer; a lazy one is read.

    Raises
    ------
    UserError
        See `export_problem`.
    """
    problem = export_problem(layer)
    if problem is not None:
        raise UserError(problem)
    labels = np.asarray(layer.data)
    single = tuple(axis for axis in range(layer.ndim - 2) if labels.shape[axis] == 1)
    letters = axis_letters(layer.axis_labels)
    axes = "".join(letter for axis, letter in enumerate(letters) if axis not in single)
    if axes == "ZYX" and "tracks" in layer.metadata.get(OURS, {}).get("provenance", {}):
        axes = "TYX"  # of an axis that nobody named it was found out when the cells were tracked
    return ExportSource(
        labels.squeeze(single),
        axes,
        layer.name,
        layer.metadata.get(OURS, {}),
        describe_transform(layer),
        source_path(layer, layers),
        typed_pixel_size(source_image(layer, layers)) or typed_pixel_size(layer),
    )


def pixel_size(source: ExportSource) -> PixelSize:
    """Pixel size of labels: of their layer, else of their image's file, else typed.

    napari's own TIFF reader drops the pixel size of a file: its layers have a scale of 1
    in pixels, and then the file is read.
    """
    y, x = source.transform["scale"][-2:]
    unit = source.transform["units"][-1]
    return known_pixel_size(PixelSize(y, x, unit), source.image_path, source.typed)


def plane_step(source: ExportSource, size: PixelSize) -> float | None:
    """Distance of the planes in the unit of the pixels; None where it is not known."""
    z_unit, unit = (str(u).lower() for u in (source.transform["units"][-3:][0], size.unit))
    if "Z" not in source.axes or not {z_unit, unit} <= UNIT_ALIASES.keys():
        return None
    step = abs(float(source.transform["scale"][-3]))
    return step if z_unit == unit else step * _micrometers(z_unit) / _micrometers(unit)


def _micrometers(unit: str) -> float:
    name, factor = UNIT_ALIASES[unit]
    return factor * MICROMETERS[name]


def export_record(source: ExportSource, size: PixelSize) -> dict[str, Any]:
    """Describe an exported mask for the JSON beside it.

    Returns
    -------
    dict
        See `files.results.result_record`; `corrected_by_hand` is None where it cannot be known.
    """
    checksum = source.made.get("digest")
    return result_record(
        source.made.get("provenance", {}),
        (size.y, size.x),
        size.unit,
        **({"role": source.made["role"]} if "role" in source.made else {}),
        corrected_by_hand=None if checksum is None else digest(source.labels) != checksum,
        layer=source.name,
        transform=source.transform,
    )
