"""Exports of a large result: its labels as a BigTIFF, its table as a CSV."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from napari_unet_cells.files import write_json, write_together
from napari_unet_cells.files.atomic import atomic_write, refuse_existing, write_failure
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.large_label_tiff import write_large_labels
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import OF_ONE_FILE, result_record
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.zarr_cells import pixel_size_of, record_of, stack_of
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date


@dataclass(frozen=True)
class LargeExport:
    """Export of a large result.

    Attributes
    ----------
    folder : Path
        The OME-Zarr.
    targets : tuple of Path
        Files that are written.
    replace : bool
        They may be replaced.
    layer : str
        Name of the layer.
    transform : mapping
        See `layers.transforms.describe_transform`.
    """

    folder: Path
    targets: tuple[Path, ...]
    replace: bool
    layer: str
    transform: Mapping[str, Any]


def write_mask(export: LargeExport) -> Generator[float, None, None]:
    """Write the labels as a tiled BigTIFF of several scales, and their record beside it.

    Yields
    ------
    float
        The part that is done, 0 to 1. A generator that is closed leaves no file.

    Raises
    ------
    UserError
        Where the labels cannot be read, or the disk refuses.
    """
    versions = LabelVersions(export.folder)
    versions.settle()
    record, levels = record_of(export.folder), label_levels(export.folder, CELLS)
    size, unit = pixel_size_of(record)
    known = None if unit == "pixel" else size
    made = {key: value for key, value in record.items() if key not in OF_ONE_FILE}
    described = result_record(
        made,
        known,
        unit,
        role=CELLS,
        corrected_by_hand=versions.last > 0,
        layer=export.layer,
        transform=export.transform,
    )
    axes = "".join(stack_of(export.folder, levels[0].ndim)).upper() + "YX"
    mask, beside = export.targets
    with write_together(export.targets, export.replace) as folder:
        try:
            scale = Scale(known, unit, None)
            yield from write_large_labels(folder / mask.name, levels, axes, scale, described)
        except OSError as error:
            raise write_failure(mask, error) from error
        write_json(folder / beside.name, described)


def write_table(export: LargeExport) -> Generator[float, None, None]:
    """Copy the table beside the result, which is brought up to date before; see `write_mask`."""
    (target,) = export.targets
    refuse_existing(export.targets, export.replace)
    brought = yield from bring_up_to_date(export.folder)
    with atomic_write(target, export.replace) as temporary:
        shutil.copyfile(brought.path, temporary)


#: What is exported of a large result, by the names of `export.exporters.EXPORTERS`.
LARGE_EXPORTS: Mapping[str, Callable[[LargeExport], Generator[float, None, None]]] = (
    MappingProxyType({"mask": write_mask, "table": write_table})
)
