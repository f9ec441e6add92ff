"""Exports of a large result: its labels as a BigTIFF, its table as a CSV, outlines of its cells."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.core.outlines import AddOutlines
from napari_unet_cells.core.table_tracks import FramesOfTables
from napari_unet_cells.core.tracks import parents_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json, write_together
from napari_unet_cells.files.atomic import atomic_write, refuse_existing, write_failure
from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.large_label_tiff import write_large_labels
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import OF_ONE_FILE, result_record
from napari_unet_cells.files.tables import write_table as write_csv
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.zarr_cells import pixel_size_of, record_of, stack_of
from napari_unet_cells.segmentation.zarr_outlines import Counted, Traced, trace
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date, rows_of


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
    last, levels = versions.last, label_levels(export.folder, CELLS)
    described, scale, axes = _described(export, versions, levels)
    mask, beside = export.targets
    with write_together(export.targets, export.replace) as folder:
        try:
            yield from write_large_labels(folder / mask.name, levels, axes, scale, described)
        except OSError as error:
            raise write_failure(mask, error) from error
        _refuse_changed(versions, last, mask)
        write_json(folder / beside.name, described)


def write_table(export: LargeExport) -> Generator[float, None, None]:
    """Copy the table beside the result, which is brought up to date before; see `write_mask`."""
    (target,) = export.targets
    refuse_existing(export.targets, export.replace)
    brought = yield from bring_up_to_date(export.folder)
    with atomic_write(target, export.replace) as temporary:
        shutil.copyfile(brought.path, temporary)


def write_tracks(export: LargeExport) -> Generator[float, None, None]:
    """Write one row for each track of a movie that was tracked; see `write_mask`.

    The table beside the result is brought up to date before, and the tracks are read off it.
    """
    (target,) = export.targets
    refuse_existing(export.targets, export.replace)
    brought = yield from bring_up_to_date(export.folder)
    record, finest = record_of(export.folder), label_levels(export.folder, CELLS)[0]
    size, unit = pixel_size_of(record)
    frames = FramesOfTables()
    for _ in frames.watch(rows_of(brought.path, size)):
        yield 1.0  # it can be closed here
    tracks = frames.tracks(parents_of(record.get("tracks")), finest.shape[0])
    write_csv(target, tracks.table(size, unit), export.replace)


def write_outlines(
    export: LargeExport,
    open_file: Callable[
        [Path, tuple[int, ...], str, Mapping[str, Any]], AbstractContextManager[AddOutlines]
    ],
    most: int | None = None,
    others: str = "",
) -> Generator[float, None, None]:
    """Write the outlines of all cells, a part of a plane at a time; see `write_mask`.

    Parameters
    ----------
    export : LargeExport
    open_file : callable (path, shape, axes, record)
        Of the format, see `export.outline_formats`.
    most : int, optional
        Outlines that the format sensibly holds.
    others : str
        Formats that hold more.
    """
    (target,) = export.targets
    refuse_existing(export.targets, export.replace)
    versions = LabelVersions(export.folder)
    versions.settle()
    last, levels = versions.last, label_levels(export.folder, CELLS)
    record, _, axes = _described(export, versions, levels)
    n_outlines = 0
    with (
        atomic_write(target, export.replace) as temporary,
        open_file(temporary, levels[0].shape, axes, record) as add,
        closing(trace(levels[0])) as steps,
    ):
        for done, event in steps:
            n = n_outlines
            if isinstance(event, Counted):
                n = event.n_cells
            elif isinstance(event, Traced):
                add(dict(zip(axes[:-2], event.plane, strict=True)), event.outlines)
                n_outlines = n = n_outlines + sum(len(one.polygons) for one in event.outlines)
            if most is not None and n > most:
                raise UserError(
                    f"{target.name} was not written: it would hold {n:,} outlines or more, and "
                    f"other programs open up to {most:,} of them. Choose {others}."
                )
            yield done
        _refuse_changed(versions, last, target)


def _refuse_changed(versions: LabelVersions, last: int, target: Path) -> None:
    """Refuse a file in which cells would be in part as they were, and in part as they are."""
    if versions.last != last:
        raise UserError(
            f"{target.name} was not written: cells of {versions.folder.name} were changed "
            "meanwhile. Export it again."
        )


def _described(
    export: LargeExport, versions: LabelVersions, levels: Sequence[LabelLevel]
) -> tuple[dict[str, Any], Scale, str]:
    """Give the record of the labels, their scale, and a letter for each of their axes."""
    record = record_of(export.folder)
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
    return described, Scale(known, unit, None), axes
