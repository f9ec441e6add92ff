"""Cells in an OME-Zarr of ours as a layer: all of them in memory, or read where they are seen.

::

    NAME.ome.zarr/labels/cells    up to MOST_SIDE a side    one array, which every tool edits
                                  beyond                    levels, edited part by part
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.results import OF_ONE_FILE
from napari_unet_cells.files.zarr_metadata import zarr_image, zarr_record
from napari_unet_cells.layers.metadata import CELLS, OURS, ZARR, result_metadata
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed

#: Pixels a side, and of all planes, up to which labels are one array.
MOST_SIDE, MOST_PIXELS = 16_384, 16_384**2

#: No value of `core.labels.digest`: labels that were corrected count as such.
_CORRECTED = -1


def is_large(folder: Path) -> bool:
    """Whether the cells of an OME-Zarr are edited part by part.

    Raises
    ------
    UserError
        Where they are not there, or damaged.
    """
    finest = label_levels(folder, CELLS)[0]
    return max(finest.shape[-2:]) > MOST_SIDE or finest.size > MOST_PIXELS


def zarr_cells(folder: Path) -> NDArray[Any]:
    """Read all cells, as `layers.reader` gives those of a TIFF.

    What a program that was killed had put back is written first.

    Raises
    ------
    UserError
        Where they cannot be read.
    """
    LabelVersions(folder).settle()
    finest = label_levels(folder, CELLS)[0]
    try:
        labels = finest.read((slice(None),) * len(finest.stored.shape))
    except MemoryError as error:
        raise OutOfMemory from error
    smallest = np.promote_types(np.min_scalar_type(int(labels.max(initial=0))), np.uint16)
    return labels.astype(smallest, copy=False)


def zarr_levels(folder: Path) -> tuple[LabelLevel, ...]:
    """Give the levels of the cells, of which what is seen is read; see `zarr_cells`."""
    LabelVersions(folder).settle()
    return label_levels(folder, CELLS)


def zarr_attributes(folder: Path, labels: NDArray[Any] | None) -> dict[str, Any]:
    """Attributes of a layer of the cells: name, metadata, and the place that the OME-Zarr gives.

    Parameters
    ----------
    folder : Path
    labels : integer array, or None
        None where they are read from the disk.
    """
    try:
        document = dict(parse_record(zarr_record(folder / "labels" / CELLS)).document)
    except Malformed:
        document = {}
    made = {key: value for key, value in document.items() if key not in OF_ONE_FILE}
    is_edited = LabelVersions(folder).last > 0
    checksum = None if labels is None else _CORRECTED if is_edited else digest(labels)
    metadata = result_metadata(CELLS, "", made, checksum)
    if labels is None:
        metadata[OURS][ZARR] = str(folder)
    found = zarr_image(folder / "labels" / CELLS)
    places = [found.place.get(axis) for axis in found.axes.lower()]
    return {
        "name": f"{folder.name.removesuffix('.ome.zarr')}_cells",
        "metadata": metadata,
        "scale": [1.0 if place is None else place.step for place in places],
        "translate": [0.0 if place is None else place.origin for place in places],
        "units": ["pixel" if place is None else place.known_unit for place in places],
        "axis_labels": list(found.axes.lower()),
    }
