"""Outlines of cells on the disk, traced a part of a plane at a time.

::

    1  blocks of labels --> the box of each cell        no more than a block and
    2  boxes --> parts that hold cells whole            5 numbers a cell in memory
    3  parts --> outlines, moved to their place

A cell is traced in one piece, so its outline is that of the labels in memory, corner by corner.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import product

import numpy as np

from napari_unet_cells.core.outlines import Outline, outlines
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import LabelLevel
from napari_unet_cells.segmentation.zarr_cells import (
    MOST_PIXELS,
    boxes_of_plane,
    joined,
    windows_of,
)


@dataclass(frozen=True, eq=False)
class Counted:
    """Number of cells of the planes up to now, known before they are traced."""

    n_cells: int


@dataclass(frozen=True, eq=False)
class Traced:
    """Outlines of some cells of a plane."""

    plane: tuple[int, ...]
    outlines: list[Outline]


#: The part that is done, 0 to 1, and what was found.
Steps = Generator[tuple[float, Counted | Traced | None], None, None]


def trace(finest: LabelLevel) -> Steps:
    """Trace all cells of labels, plane by plane.

    Parameters
    ----------
    finest : LabelLevel
        With no axes but those that are stored.

    Raises
    ------
    UserError
        Where the labels cannot be read, or a cell lies in pieces too far from each other.
    """
    planes, n_cells = list(product(*map(range, finest.shape[:-2]))), 0
    for number, plane in enumerate(planes):
        for done, event in _trace_plane(finest, plane, n_cells):
            n_cells = event.n_cells if isinstance(event, Counted) else n_cells
            yield (number + done) / len(planes), event


def _trace_plane(finest: LabelLevel, plane: tuple[int, ...], n_before: int) -> Steps:
    found = []
    for done, boxes in boxes_of_plane(finest, plane):
        found.append(boxes)
        yield 0.3 * done, None
    ids, sides = joined(found)
    yield 0.3, Counted(n_before + len(ids))
    n_done = 0
    for (y, x), own in windows_of(ids, sides):
        if (y.stop - y.start) * (x.stop - x.start) > MOST_PIXELS:
            raise UserError(
                f"Cell {int(own[0])} lies in pieces too far apart to be outlined together, in "
                f"rows {y.start:,} to {y.stop:,} and columns {x.start:,} to {x.stop:,}. Delete one "
                "of the pieces, or draw it as a cell of its own, and try again. No file was "
                "written."
            )
        labels = finest.read((*plane, y, x))
        here = outlines(np.where(np.isin(labels, own), labels, 0))
        n_done += len(own)
        done = 0.3 + 0.7 * n_done / len(ids)
        yield done, Traced(plane, [outline.moved(y.start, x.start) for outline in here])
    yield 1.0, None
