"""Label images with the record of how they were made, in one schema.

::

    NAME.tif    labels, and the record in its description ──┐ the same record
    NAME.json   the record, for people and programs ────────┘

`SCHEMA` is the JSON Schema of the record, docs/results.md describes it for users. Records
without a ``schema_version`` are older than the schema: their names are brought up to date when
they are written again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from napari_unet_cells.core.instance_options import DROPPED_NAME, OLD_NAMES
from napari_unet_cells.files.file_set import write_together
from napari_unet_cells.files.labels import write_labels
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import write_json

#: Raised where a key of the record changes its name or meaning.
SCHEMA_VERSION = 1

SCHEMA = Path(__file__).with_name("result.schema.json")

#: Keys of a record that say something about one file, not about the run that made the labels.
OF_ONE_FILE = (
    "schema_version",
    "batch",
    "cells",
    "corrected_by_hand",
    "counted_version",
    "files",
    "label_version",
    "layer",
    "pixel_size",
    "role",
    "transform",
)


def result_record(
    provenance: Mapping[str, Any],
    pixel_size: tuple[float, float] | None,
    unit: str,
    **others: Any,
) -> dict[str, Any]:
    """Describe a result for its files.

    Parameters
    ----------
    provenance : mapping
        Of the run, by any version of the program; empty for labels of other origin.
    pixel_size : (float, float) or None
        Height and width of a pixel in `unit`.
    unit : str
    **others
        Others of `OF_ONE_FILE`.

    Returns
    -------
    dict
        As `SCHEMA` describes it, once `files.records.jsonable` has made it JSON.
    """
    size = None if pixel_size is None else {"y": pixel_size[0], "x": pixel_size[1], "unit": unit}
    return {
        "schema_version": SCHEMA_VERSION,
        **_up_to_date(provenance),
        **others,
        "pixel_size": size,
    }


def _up_to_date(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the names of records that are older than the schema."""
    current = {name: value for name, value in provenance.items() if name != "unit"}
    parameters = dict(current.get("parameters", {}))
    if "quality" in parameters:
        parameters["test_time_augmentation"] = parameters.pop("quality") == "high"
    if parameters:
        parameters.setdefault("scale", {"diameter": 0.0, "estimated": False, "zoom": 1.0})
    if parameters.get("instances"):
        parameters["instances"] = {
            OLD_NAMES.get(name, name): value
            for name, value in parameters["instances"].items()
            if name != DROPPED_NAME
        }
    return current | {"parameters": parameters} if parameters else current


def write_result(
    mask: Path,
    labels: ArrayLike,
    record: Mapping[str, Any],
    *,
    axes: str,
    scale: Scale,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write labels as a TIFF, and their record inside it and as a JSON of the same name.

    Parameters
    ----------
    mask : Path
        With its TIFF ending.
    labels : array_like of int
    record : mapping
        See `result_record`.
    axes : str
        One letter for each axis of the labels, see `write_labels`.
    scale : Scale
    overwrite : bool
        Replace both files.

    Returns
    -------
    (Path, Path)
        The TIFF and the JSON.

    Raises
    ------
    FileExists
        Where one of the two exists and `overwrite` is False.
    UserError
        Where the disk refuses; none of the two is left then that was not there before.
    """
    beside = mask.with_suffix(".json")
    with write_together((mask, beside), overwrite) as folder:
        write_labels(
            folder / mask.name,
            labels,
            axes=axes,
            pixel_size=scale.pixel_size,
            unit=scale.unit,
            z_step=scale.z_step,
            provenance=record,
        )
        write_json(folder / beside.name, record)
    return mask, beside
