"""Outlines over the canvas: of the cell under the mouse, of the first of a pair, of a proposal.

No layer is drawn again for them. No Qt here: the form draws closed lines on the canvas::

    pixels of a plane  --- layer's transform --->  world  --- camera --->  canvas (x, y)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core import edits
from napari_unet_cells.core.outlines import outlines
from napari_unet_cells.widgets.camera import on_canvas
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.wiring import Wiring

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Side in pixels of the box of a cell above which it is not outlined: tracing one of 400 pixels
#: takes 10 ms, one of 1200 pixels 100 ms, and the mouse would stick.
LARGEST = 400

Rings = tuple[NDArray[np.float64], ...]


class HighlightView(Protocol):
    """Form that draws over the canvas."""

    def draw_cells(self, rings: Sequence[NDArray[np.float64]], dashed: bool) -> None:
        """Draw closed lines, each (n, 2) of (x, y) on the canvas, in place of those of before."""


@dataclass(frozen=True, eq=False)
class _Cell:
    """Part of a plane that is outlined."""

    plane: LabelsPlane
    top: int
    left: int
    mask: NDArray[np.bool_]
    rings: Rings

    def holds(self, plane: LabelsPlane, point: tuple[float, float]) -> bool:
        """Whether a point of a plane lies in it."""
        y, x = round(point[0]) - self.top, round(point[1]) - self.left
        inside = 0 <= y < self.mask.shape[0] and 0 <= x < self.mask.shape[1]
        return plane.is_same(self.plane) and inside and bool(self.mask[y, x])


class Highlight:
    """Draws the outlines, and follows the camera.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : HighlightView
    wiring : Wiring
        Of the view.
    """

    def __init__(self, viewer: ViewerModel, view: HighlightView, wiring: Wiring) -> None:
        self._viewer, self._view = viewer, view
        self._under: _Cell | None = None
        self._first: _Cell | None = None
        self._proposed: _Cell | None = None
        self._drawn = False
        #: Planes and labels of cells that were too large.
        self._passed: set[tuple[tuple[int | None, ...], int]] = set()
        camera = camera_of(viewer).events
        wiring.connect(self._redraw, camera.center, camera.zoom)
        wiring.connect(self.clear, viewer.dims.events.current_step, viewer.dims.events.order)

    def move_to(self, plane: LabelsPlane | None, position: Any) -> None:
        """Outline the cell under the mouse, none on the background."""
        under = None
        if plane is not None:
            point = plane.point(position)
            if self._under is not None and self._under.holds(plane, point):
                return
            label = plane.index, edits.id_at(plane.labels, point)
            under = None if label in self._passed else _cell_at(plane, point)
            if under is None and label[1]:
                self._passed.add(label)
        if under is not self._under:
            self._under = under
            self._redraw()

    def keep(self, plane: LabelsPlane, point: Any) -> None:
        """Outline the first of a pair until the second is found."""
        self._first = _cell_at(plane, point)
        self._redraw()

    def propose(self, plane: LabelsPlane, top: int, left: int, mask: NDArray[np.bool_]) -> None:
        """Outline a cell that is not there yet, with dashes."""
        self._proposed = _Cell(plane, top, left, mask, _rings(mask, top, left))
        self._redraw()

    def proposes(self, plane: LabelsPlane, point: tuple[float, float]) -> bool:
        """Whether a point of a plane lies in the cell that is not there yet."""
        return self._proposed is not None and self._proposed.holds(plane, point)

    def leave(self) -> None:
        """Outline no cell under the mouse any more; the first of a pair stays."""
        if self._under is not None:
            self._under = None
            self._redraw()

    def clear(self, event: object = None) -> None:
        """Outline nothing."""
        self._passed.clear()
        self._under = self._first = self._proposed = None
        self._redraw()

    def _redraw(self, event: object = None) -> None:
        cells = [cell for cell in (self._first, self._under, self._proposed) if cell is not None]
        if not cells and not self._drawn:
            return
        self._drawn = bool(cells)
        rings = [
            on_canvas(self._viewer, cell.plane.to_world(ring))
            for cell in cells
            for ring in cell.rings
        ]
        self._view.draw_cells(rings, dashed=self._proposed is not None)


def _cell_at(plane: LabelsPlane, point: Any) -> _Cell | None:
    piece = edits.piece_at(plane.labels, point, LARGEST)
    if piece is None:
        return None
    top, left, mask = piece
    return _Cell(plane, top, left, mask, _rings(mask, top, left))


def _rings(mask: NDArray[np.bool_], top: int, left: int) -> Rings:
    """Corners (row, column) of a mask's outlines, in pixels of the plane."""
    traced = outlines(mask.view(np.uint8))
    offset = np.array([top, left]) - 0.5  # from the middles of pixels to their corners
    return tuple(
        ring[:, ::-1] + offset
        for outline in traced
        for polygon in outline.polygons
        for ring in polygon
    )
