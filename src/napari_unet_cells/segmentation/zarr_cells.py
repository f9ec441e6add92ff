"""Cells of labels on the disk, measured in their image a part at a time.

::

    1  blocks of labels --> the box of each cell        no more than a block and
    2  boxes --> measured where they lie                5 numbers a cell in memory

A cell is measured in one piece, with all of its pixels, also where these do not hang together. One
with pieces that lie farther apart than a block is measured alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.measure import Columns, Table, measure
from napari_unet_cells.core.planes import Planes, planes_of
from napari_unet_cells.core.resample import Box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.files.zarr_metadata import zarr_image, zarr_record
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.blocks import channel_parts
from napari_unet_cells.segmentation.chosen_planes import with_told_axes
from napari_unet_cells.segmentation.zarr_request import MOST_HELD
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed

#: Side of the blocks in which all cells are looked for, in pixels.
SIDE = 2048

#: Pixels of a plane that are measured at once.
MOST_PIXELS = 2**26


@dataclass(frozen=True, eq=False)
class ZarrCells:
    """Labels of an OME-Zarr, and the image that they are measured in.

    Attributes
    ----------
    finest : LabelLevel
    pixel_size : (float, float)
    unit : str
        Of length.
    stack : tuple of str
        Columns of the plane, see `measure.Table`.
    planes : Planes or None
        None where the image cannot be read.
    channel_names : tuple of str
        Of the image.
    problem : str
        Why intensities are left empty; else empty.
    """

    finest: LabelLevel
    pixel_size: tuple[float, float]
    unit: str
    stack: tuple[str, ...]
    planes: Planes | None
    channel_names: tuple[str, ...] = ()
    problem: str = ""

    @classmethod
    def open(cls, folder: Path) -> ZarrCells:
        """Open the cells of an OME-Zarr, and the image that the record names.

        Raises
        ------
        UserError
            Where the labels cannot be read.
        """
        finest, record = label_levels(folder, CELLS)[0], record_of(folder)
        size, unit = pixel_size_of(record)
        planes: Planes | None = None
        names: tuple[str, ...] = ()
        problem = ""
        try:
            planes, names = _image_of(record)
            if planes.shape != finest.shape:
                planes, problem = None, "The image has another size than the cells."
        except UserError as error:
            problem = str(error)
        if problem:
            problem = f"Intensities of the cells that were measured are left empty: {problem}"
        return cls(finest, size, unit, stack_of(folder, finest.ndim), planes, names, problem)

    def measured(self, plane: tuple[int, ...], box: Box, ids: NDArray[Any]) -> Table:
        """Measure cells whose pixels all lie in a part of a plane.

        Parameters
        ----------
        plane : tuple of int
        box : (slice, slice)
        ids : integer array, (n,)
            Those that are not there have no row.

        Raises
        ------
        UserError
            Where the part is too large, as only that of a cell in pieces far from each other is.
        """
        y, x = box
        if (y.stop - y.start) * (x.stop - x.start) > MOST_PIXELS:
            raise UserError(
                f"Cell {int(ids[0])} lies in pieces too far apart to be measured together, in rows "
                f"{y.start:,} to {y.stop:,} and columns {x.start:,} to {x.stop:,}. Delete one of "
                "the pieces, or draw it as a cell of its own, and try again. The table stays as "
                "it was."
            )
        labels = self.finest.read((*plane, *box))
        labels = np.where(np.isin(labels, ids), labels, 0)
        channels = None
        if self.planes is not None:
            whole = self.planes.plane(plane)
            channels = channel_parts(whole, whole, box, self.channel_names)
        table: Columns = dict(measure(labels, channels, self.pixel_size, self.unit).columns)
        for axis, side, step in zip("yx", box, self.pixel_size, strict=True):
            for name in (f"centroid_{axis}", f"bbox_{axis}_min", f"bbox_{axis}_max"):
                table[name] = table[name] + side.start * step
        n = len(table["label"])
        where = {name: np.full(n, at, np.int64) for name, at in zip(self.stack, plane, strict=True)}
        columns = {"label": table.pop("label"), **where, **table}
        return Table(columns, self.pixel_size, self.unit, self.stack)

    def all(self) -> Generator[tuple[float, Table | None], None, None]:
        """Measure all cells, block by block.

        Yields
        ------
        float
            The part that is done, 0 to 1.
        Table or None
            Of some cells, with at least one in all.
        """
        planes = list(product(*map(range, self.finest.shape[:-2])))
        for number, plane in enumerate(planes):
            for done, event in self._of_plane(plane):
                yield (number + done) / len(planes), event

    def _of_plane(
        self, plane: tuple[int, ...]
    ) -> Generator[tuple[float, Table | None], None, None]:
        found = []
        for done, boxes in boxes_of_plane(self.finest, plane):
            found.append(boxes)
            yield 0.4 * done, None
        corner = (slice(0, 1), slice(0, 1))
        windows = [*windows_of(*joined(found))] or [(corner, np.empty(0, np.int64))]
        for number, (window, ids) in enumerate(windows):
            table = self.measured(plane, window, ids)
            yield 0.4 + 0.6 * (number + 1) / len(windows), table


def boxes_of_plane(
    finest: LabelLevel, plane: tuple[int, ...]
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Look for the cells of a plane, block by block.

    Yields
    ------
    float
        The part that is done, 0 to 1.
    integer array, (n, 5)
        See `boxes_in`.
    """
    height, width = finest.shape[-2:]
    blocks = [
        (slice(y, min(height, y + SIDE)), slice(x, min(width, x + SIDE)))
        for y in range(0, height, SIDE)
        for x in range(0, width, SIDE)
    ]
    for number, box in enumerate(blocks, 1):
        yield number / len(blocks), boxes_in(finest.read((*plane, *box)), box)


def boxes_in(labels: NDArray[Any], part: Box) -> NDArray[np.int64]:
    """Give id, top, bottom, left and right of each cell in a part of a plane, (n, 5)."""
    if not labels.any():
        return np.empty((0, 5), np.int64)
    ids, local = _numbered(labels)
    y, x = part[0].start, part[1].start
    rows = [
        (label, y + one[0].start, y + one[0].stop, x + one[1].start, x + one[1].stop)
        for label, one in zip(ids.tolist(), ndimage.find_objects(local), strict=True)
    ]
    return np.array(rows, np.int64)


def _numbered(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Give the ids of the cells of a part, and the part with cells numbered from 1 in that order.

    Neighbours have ids near each other, so a table of them is short; sorting the pixels takes
    twenty times as long.
    """
    inside = labels > 0
    values = labels[inside].astype(np.int64)
    low = int(values.min())
    n = int(values.max()) - low + 1
    local = np.zeros(labels.shape, np.int32)
    if n <= 8 * labels.size:
        is_there = np.zeros(n, bool)
        is_there[values - low] = True
        ids = np.flatnonzero(is_there) + low
        local[inside] = np.cumsum(is_there, dtype=np.int32)[values - low]
    else:
        ids, number = np.unique(values, return_inverse=True)
        local[inside] = number + 1
    return ids, local


def joined(
    found: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join the boxes of cells that several parts hold a piece of.

    Parameters
    ----------
    found : sequence of integer array, (n, 5)
        See `boxes_in`.

    Returns
    -------
    ids : integer array, (cells,)
    boxes : integer array, (cells, 4)
        Top, bottom, left and right.
    """
    rows = np.concatenate([np.empty((0, 5), np.int64), *found])
    ids, first, place = np.unique(rows[:, 0], return_index=True, return_inverse=True)
    boxes = rows[first, 1:]
    for column, reduce in enumerate((np.minimum, np.maximum, np.minimum, np.maximum)):
        reduce.at(boxes[:, column], place, rows[:, column + 1])
    return ids, boxes


def windows_of(
    ids: NDArray[np.int64], boxes: NDArray[np.int64]
) -> Iterator[tuple[Box, NDArray[np.int64]]]:
    """Divide cells among parts of a plane of at most 2 blocks a side.

    A cell that is larger than a block, as one in pieces far from each other is, gets its own part.

    Parameters
    ----------
    ids, boxes : integer array, (n,) and (n, 4)
        See `joined`.

    Yields
    ------
    window : (slice, slice)
    ids : integer array, (m,)
        Of the cells in it.
    """
    tops, bottoms, lefts, rights = boxes.T
    n_columns = int(lefts.max(initial=0)) // SIDE + 1
    owners = tops // SIDE * n_columns + lefts // SIDE
    large = np.flatnonzero((bottoms - tops > SIDE) | (rights - lefts > SIDE))
    owners[large] = -1 - np.arange(len(large))
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order])) + 1
    for own in np.split(order, starts) if len(order) else ():
        window = (
            slice(int(tops[own].min()), int(bottoms[own].max())),
            slice(int(lefts[own].min()), int(rights[own].max())),
        )
        yield window, ids[own]


def record_of(folder: Path) -> Mapping[str, Any]:
    """Record of the run that made the cells of an OME-Zarr; empty where it is damaged."""
    try:
        return parse_record(zarr_record(folder / "labels" / CELLS)).document
    except Malformed:
        return {}


def pixel_size_of(record: Mapping[str, Any]) -> tuple[tuple[float, float], str]:
    """Height and width of a pixel of labels, and their unit, as the table of a run has them."""
    size = record.get("pixel_size")
    if not isinstance(size, Mapping):
        return (1.0, 1.0), "pixel"
    return (float(size["y"]), float(size["x"])), str(size["unit"])


def stack_of(folder: Path, n_axes: int) -> tuple[str, ...]:
    """Names of the columns of the plane: the letters of the axes, as a run writes them."""
    if n_axes == 2:
        return ()
    letters = zarr_image(folder / "labels" / CELLS).axes.lower()
    return tuple(letters[: n_axes - 2])


def _image_of(record: Mapping[str, Any]) -> tuple[Planes, tuple[str, ...]]:
    """Open the planes that cells were found in, and name the channels of the image."""
    source = record.get("source")
    path = source.get("path") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or not path:
        raise UserError("it is not known which image the cells were found in.")
    if not Path(path).exists():
        raise UserError(f"{path}, the image of the cells, is not there any more.")
    found = with_told_axes(read_image(Path(path), False, MOST_HELD), str(source.get("axes") or ""))
    fixed = dict(source.get("fixed") or {})
    channel = source.get("channels") or fixed.pop("C", None)
    planes = planes_of(
        found.data,
        found.axes,
        tuple(channel) if isinstance(channel, list | tuple) else channel,
        source.get("projection"),
        found.channel_names,
    )
    at = {found.axes.index(one): int(index) for one, index in fixed.items() if one in found.axes}
    return replace(planes, fixed={**planes.fixed, **at}), found.channel_names
