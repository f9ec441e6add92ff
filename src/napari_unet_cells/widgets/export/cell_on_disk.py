"""A cell of labels on the disk: where its row says that it is, and its pixels, read in a thread."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_unet_cells.core.resample import Box
from napari_unet_cells.files.label_levels import LabelLevel
from napari_unet_cells.widgets.export.cell_lines import Window
from napari_unet_cells.widgets.export.removing import Cells

#: Pixels that are read of a cell at most; of a larger one a coarser level.
MOST_PIXELS = 2**22


@dataclass(frozen=True)
class DiskCell:
    """A cell.

    Attributes
    ----------
    label : int
    plane : tuple of int
        Its index along the axes of the layer before (y, x).
    box : (slice, slice)
        Rows and columns that hold it, by its row of the table.
    """

    label: int
    plane: tuple[int, ...]
    box: Box

    @property
    def cells(self) -> Cells:
        """The same as the outlines of chosen cells take it."""
        y, x = self.box
        sides = np.array([[y.start, x.start, y.stop, x.stop]], float)
        return Cells(np.array([self.label]), np.array([self.plane], np.int64).reshape(1, -1), sides)


@dataclass(frozen=True, eq=False)
class ReadCell:
    """A cell, and the part of the labels that holds it."""

    cell: DiskCell
    window: Window


def read_cell(
    levels: Sequence[LabelLevel], cell: DiskCell, stop: threading.Event
) -> Generator[object, None, None]:
    """Read what is seen of a cell; this is a thread.

    Parameters
    ----------
    levels : sequence of LabelLevel
        Of the layer.
    cell : DiskCell
    """
    y, x = cell.box
    n_pixels = (y.stop - y.start) * (x.stop - x.start)
    fitting = (level for level in levels if n_pixels <= MOST_PIXELS * level.factor**2)
    level = next(fitting, levels[-1])
    part = [slice(one.start // level.factor, -(-one.stop // level.factor)) for one in cell.box]
    labels = np.where(level[(*cell.plane, *part)] == cell.label, cell.label, 0)
    start = part[0].start * level.factor, part[1].start * level.factor
    yield ReadCell(cell, Window(labels, start, level.factor))
