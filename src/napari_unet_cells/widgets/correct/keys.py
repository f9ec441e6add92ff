"""Table of all keys: those of the tools, those that a tool takes, and those of the preferences.

The window of the button *Keys* and the page of the manual show this table; a test compares them,
and finds keys that napari has taken already.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet_cells.settings import Preferences
from napari_unet_cells.widgets.correct.tools import TOOLS

#: Shows the cells as outlines, and filled again.
OUTLINES_KEY = "O"

#: Places in which keys work.
ANYWHERE, CELLS_LAYER, TOOL = "anywhere", "cells layer", "with a tool"


@dataclass(frozen=True)
class KeyRow:
    """Row of the table.

    Attributes
    ----------
    key : str
        As people write it, such as "Shift+N"; also what the mouse does with a key.
    does : str
        Of a few words.
    where : str
        `ANYWHERE` in the window but in text fields, in the `CELLS_LAYER` while it is the active
        one, or there `TOOL` while one is chosen.
    """

    key: str
    does: str
    where: str


#: Fields of `Preferences` that hold keys, and what they do.
_PREFERRED = {
    "segment_key": "Segment",
    "cancel_key": "Cancel the run",
    "table_key": "Show the table of the cells",
    "next_key": "Next region of the review",
    "approve_key": "Approve the region and go on",
}

_OF_TOOLS = (
    KeyRow("Space", "Move the image while the key is held down", TOOL),
    KeyRow("Escape", "Give up the stroke or the search, else the tool", TOOL),
    KeyRow("Enter", "Take the tool Draw where Add found nothing", TOOL),
    KeyRow("+ and -", "Make the previewed or just added cell larger and smaller", TOOL),
    KeyRow("Wheel", "The same, with the mouse over the cell just added", TOOL),
    KeyRow("Shift+click", "Remove a cell, with the tool Add", TOOL),
)


def readable(key: str) -> str:
    """Write a key of napari's preferences, such as "Shift-N", as people do."""
    return key.replace("-", "+")


def all_keys(chosen: Preferences) -> tuple[KeyRow, ...]:
    """Give the rows of the table; a key that the user has emptied is left out."""
    preferred = [
        KeyRow(readable(getattr(chosen, name)), does, ANYWHERE)
        for name, does in _PREFERRED.items()
        if getattr(chosen, name)
    ]
    tools = [
        KeyRow(tool.key, f"Tool {name.capitalize()}; again: no tool", CELLS_LAYER)
        for name, tool in TOOLS.items()
    ]
    layer = (
        KeyRow(OUTLINES_KEY, "Outlines only, and filled again", CELLS_LAYER),
        KeyRow("Ctrl+Z", "Undo", CELLS_LAYER),
        KeyRow("Ctrl+Shift+Z", "Redo", CELLS_LAYER),
    )
    return (*tools, *layer, *_OF_TOOLS, *preferred)
