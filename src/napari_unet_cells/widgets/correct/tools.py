"""Table of the tools for whole cells: what a click or a line of each does to the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import Edit

Path = NDArray[np.float64]
Stroke = Callable[[Any, Path, Callable[[], int]], Edit]


@dataclass(frozen=True)
class Tool:
    """Tool of the mouse: the actions of a click and of a drawn line.

    Attributes
    ----------
    how : str
        Instructions, for the tooltip and the status bar.
    click, line : callable (plane, path, new_id) -> Edit, or None
        The path is a float array, (n, 2), in pixels (row, column) of the plane; that of a click
        has one point. `new_id` finds the first free id. Where there is no line, the mouse moves
        the image while a button is held down.
    key : str
        Takes the tool while the cells are the active layer; none of napari's own there.
    boxes : bool
        Whether the mouse draws a box.
    highlights : bool
        Whether the cell under the mouse is outlined, because a click there changes it.
    """

    how: str
    click: Stroke | None = None
    line: Stroke | None = None
    key: str = ""
    boxes: bool = False
    highlights: bool = False

    @property
    def draws(self) -> bool:
        """Whether the mouse draws a line or a box instead of moving the image."""
        return self.line is not None or self.boxes

    @property
    def title(self) -> str:
        """Instructions with the key, for the tooltip."""
        return f"{self.how}. Key: {self.key}" if self.key else self.how


def _at(stroke: Callable[[Any, Any], Edit]) -> Stroke:
    """Make the stroke of a click that needs no new id."""
    return lambda plane, path, new_id: stroke(plane, path[0])


#: By the names of their buttons, in the order of these. Merging by clicks takes two of them: see
#: `ToolsController`; what is added must be searched for: see `adding.Adding`. No key is one of
#: napari's own in its viewer or in a labels layer: M, X, F, E, L, P, Z, B and V are.
TOOLS = {
    "add": Tool(
        "Click a cell that was missed, or draw a box around cells; Shift-click removes one",
        key="A",
        boxes=True,
    ),
    "merge": Tool(
        "Click two cells that belong together, or draw a line through all that do; they get the "
        "id of the first",
        line=lambda plane, path, new_id: edits.merge(plane, path),
        key="J",
        highlights=True,
    ),
    "split": Tool(
        "Draw a line across a cell, or click a cell to cut it at its waist",
        click=lambda plane, path, new_id: edits.split_by_distance(plane, path[0], new_id()),
        line=lambda plane, path, new_id: edits.split_along(plane, path, new_id()),
        key="C",
        highlights=True,
    ),
    "delete": Tool(
        "Click a cell to make it background, or draw a line through several",
        click=_at(edits.delete),
        line=lambda plane, path, new_id: edits.delete(plane, path),
        key="D",
        highlights=True,
    ),
    "draw": Tool(
        "Draw around a cell that was missed; other cells are not painted over",
        line=lambda plane, path, new_id: edits.draw(plane, path, new_id()),
        key="W",
    ),
    "smooth": Tool(
        "Click a cell to smooth its outline", click=_at(edits.smooth), key="S", highlights=True
    ),
    "fill": Tool(
        "Click a cell to fill the holes in it",
        click=_at(edits.fill_holes),
        key="H",
        highlights=True,
    ),
}
