"""Regions of a large result that were approved in parts of it, and go into a dataset.

::

    part, approved region --Put back--> labels/cells/approved/000001.json   windows of the whole
                                                |
    image of the result, labels as they are <---+---> labels as the run made them
                                                      (versions taken back, the last one first)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.regions import Place, Region, Review
from napari_unet_cells.core.resample import Box
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.atomic import write_failure
from napari_unet_cells.files.label_levels import LabelLevel
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.layers.metadata import CELLS
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.segmentation.zarr_cells import ZarrCells, record_of
from napari_unet_cells.untrusted.approved_windows import (
    ApprovedWindow,
    document_of,
    parse_approved_windows,
)
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed

#: Part of an older window that a newer one holds, from which on it takes its place.
REPLACES = 0.5


def folder_of_approved(folder: Path) -> Path:
    """Folder of the windows of an OME-Zarr: a file each time that a part is put back."""
    return folder / "labels" / CELLS / "approved"


def _files(folder: Path) -> list[Path]:
    """Files of windows, the oldest first."""
    found = folder_of_approved(folder).glob("[0-9]*.json")
    return sorted((path for path in found if path.stem.isdecimal()), key=lambda one: int(one.stem))


def approved_windows(folder: Path) -> tuple[ApprovedWindow, ...]:
    """Windows of an OME-Zarr that were approved, the oldest first; none where none are noted.

    A newer one takes the place of those that it holds the larger part of.

    Raises
    ------
    UserError
        Where a list is damaged.
    """
    windows: tuple[ApprovedWindow, ...] = ()
    for path in _files(folder):
        try:
            new = parse_approved_windows(read_json(path))
        except (OSError, Malformed) as error:
            raise UserError(
                f"The list of approved regions {path} cannot be read ({error}). Remove it, and "
                "approve its regions again."
            ) from error
        windows = (*_not_replaced(windows, new), *new)
    return windows


def note_approved(folder: Path, plane: tuple[int, ...], box: Box, review: Review) -> Path | None:
    """Note the approved regions of a part that is put back.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    plane, box
        The part.
    review : Review
        Of the labels of the part.

    Returns
    -------
    Path or None
        The file that holds them, which is never written again; None where there are none.

    Raises
    ------
    UserError
        Where the disk refuses.
    """
    new = tuple(
        _window(plane, box, review.grid[number], date)
        for (_, number), date in sorted(review.approved.items())
    )
    if not new:
        return None
    place, files = folder_of_approved(folder), _files(folder)
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise write_failure(place, error) from error
    target = place / f"{int(files[-1].stem) + 1 if files else 1:06}.json"
    write_json(target, document_of(new))
    return target


def _window(plane: tuple[int, ...], box: Box, region: Region, date: str) -> ApprovedWindow:
    (rows, columns), (top, left) = region.slices, (side.start for side in box)
    return ApprovedWindow(
        plane,
        (top + rows.start, top + rows.stop),
        (left + columns.start, left + columns.stop),
        date,
    )


def _not_replaced(
    old: Sequence[ApprovedWindow], new: Iterable[ApprovedWindow]
) -> Iterator[ApprovedWindow]:
    """Give the older windows of which no newer one holds the larger part."""
    sides = np.array([(*window.rows, *window.columns) for window in old], float).reshape(-1, 4)
    top, bottom, left, right = sides.T
    enough = REPLACES * (bottom - top) * (right - left)
    planes = {plane: number for number, plane in enumerate({window.plane for window in old})}
    lies_in = np.array([planes[window.plane] for window in old], int)
    replaced = np.zeros(len(old), bool)
    for window in new:  # each with all older ones at once: a list may hold thousands
        height = np.minimum(bottom, window.rows[1]) - np.maximum(top, window.rows[0])
        width = np.minimum(right, window.columns[1]) - np.maximum(left, window.columns[0])
        shared = np.maximum(height, 0) * np.maximum(width, 0)
        replaced |= (lies_in == planes.get(window.plane, -1)) & (shared >= enough)
    return (window for window, gone in zip(old, replaced, strict=True) if not gone)


def labels_as_made(folder: Path, finest: LabelLevel, window: ApprovedWindow) -> NDArray[Any]:
    """Give the labels of a window as the run made them: versions are taken back, the last first."""
    labels = np.array(finest.read((*window.plane, *window.slices)))
    versions = LabelVersions(folder)
    for number in reversed(versions.numbers):
        version = versions.version(number)
        if version.plane != window.plane:
            continue
        there, here = [], []
        for own, part in zip(window.slices, version.box, strict=True):
            start, stop = max(own.start, part.start), min(own.stop, part.stop)
            here.append(slice(start - own.start, max(start, stop) - own.start))
            there.append(slice(start - part.start, max(start, stop) - part.start))
        labels[tuple(here)] = version.before[tuple(there)]
    return labels


@dataclass(frozen=True, eq=False)
class LargeRegions:
    """Windows in the place of a `Review`: all of it that `dataset_writer.add` uses."""

    folder: Path
    finest: LabelLevel
    windows: tuple[ApprovedWindow, ...]

    @property
    def grid(self) -> Mapping[int, Region]:
        """Windows by their numbers."""
        return {
            number: Region(*window.rows, *window.columns)
            for number, window in enumerate(self.windows)
        }

    def made(self, place: Place) -> NDArray[Any]:
        """Labels of a window as the run made them."""
        return labels_as_made(self.folder, self.finest, self.windows[place[1]])


def large_approved(folder: Path, name: str) -> Approved:
    """Take the approved windows of a large result; this opens files, and is for a thread.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    name : str
        Of the labels layer.

    Raises
    ------
    UserError
        Where nothing is approved, or the image is gone.
    """
    windows = approved_windows(folder)
    if not windows:
        raise UserError(none_approved(name))
    LabelVersions(folder).settle()
    cells, record = ZarrCells.open(folder), record_of(folder)
    if not all(_lies_inside(window, cells.finest.shape) for window in windows):
        raise UserError(
            f"A region that was approved lies outside of '{name}': the lists in "
            f"{folder_of_approved(folder)} belong to another result. Remove them, and approve its "
            "regions again."
        )
    planes: Planes | None = cells.planes
    if planes is None:
        raise UserError(
            f"The image of '{name}' is needed for the dataset, and is not there: {cells.problem} "
            "Put it back to its place."
        )
    (y, x), source = cells.pixel_size, dict(record.get("source") or {})
    dates = {(window.plane, number): window.date for number, window in enumerate(windows)}
    review: Any = LargeRegions(folder, cells.finest, windows)
    return Approved(
        cells.finest,
        review,
        dates,
        planes,
        partial(PixelSize, y, x, cells.unit),
        {"role": CELLS, "provenance": dict(record)},
        {"layer": name, **source},
        name,
    )


def _lies_inside(window: ApprovedWindow, shape: Sequence[int]) -> bool:
    *before, height, width = shape
    return (
        len(window.plane) == len(before)
        and all(index < length for index, length in zip(window.plane, before, strict=True))
        and window.rows[1] <= height
        and window.columns[1] <= width
    )


def none_approved(name: str) -> str:
    """Say that nothing of a large result is approved yet."""
    return (
        f"No region of '{name}' is approved yet. Press 'Edit this part' on the page Correct, put "
        "right what is wrong, approve regions with Approve and next, and press 'Put back'."
    )
