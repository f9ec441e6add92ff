"""Parse the list of windows of a large result that a person approved before they were put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.untrusted.rules import (
    NAME,
    Fields,
    Malformed,
    fields,
    items,
    pair,
    text,
    whole,
)

#: Pixels along an axis of labels, and axes before (y, x).
_LONGEST, _MOST_AXES = 10**9, 8

#: Windows of one part that was put back; a part of 16,384 pixels a side has 4,096 of 256.
_MOST = 10_000


@dataclass(frozen=True)
class ApprovedWindow:
    """A part of a plane that was approved.

    Attributes
    ----------
    plane : tuple of int
        Index along the axes before (y, x).
    rows, columns : (int, int)
        The first, and the one after the last.
    date : str
        ISO 8601.
    """

    plane: tuple[int, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]
    date: str

    @property
    def slices(self) -> tuple[slice, slice]:
        """As an index of a plane (y, x)."""
        return slice(*self.rows), slice(*self.columns)

    def overlap(self, other: ApprovedWindow) -> int:
        """Count the pixels that are in both."""
        if self.plane != other.plane:
            return 0
        sides = ((self.rows, other.rows), (self.columns, other.columns))
        lengths = [min(a[1], b[1]) - max(a[0], b[0]) for a, b in sides]
        return max(0, lengths[0]) * max(0, lengths[1])

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.overlap(self)


def parse_approved_windows(document: object) -> tuple[ApprovedWindow, ...]:
    """Check a list of windows.

    Raises
    ------
    Malformed
    """
    windows: tuple[ApprovedWindow, ...] = Fields(document).take(
        "approved", items(fields(_window), 0, _MOST)
    )
    return windows


def document_of(windows: tuple[ApprovedWindow, ...]) -> Mapping[str, Any]:
    """Give windows as JSON holds them."""
    listed = [
        {
            "plane": list(window.plane),
            "rows": list(window.rows),
            "columns": list(window.columns),
            "date": window.date,
        }
        for window in windows
    ]
    return {"approved": listed}


def _window(stated: Fields) -> ApprovedWindow:
    side = pair(whole(0, _LONGEST))
    window = ApprovedWindow(
        stated.take("plane", items(whole(0, _LONGEST), 0, _MOST_AXES)),
        stated.take("rows", side),
        stated.take("columns", side),
        stated.take("date", text(NAME)),
    )
    if not window.size:
        raise Malformed("holds a window without pixels")
    return window
