"""Outlines of the cells of chosen rows over the canvas; they follow the camera and edits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, QObject, QPoint, Qt, QTimer
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.export.cell_lines import (
    Lines,
    Mapping,
    Window,
    cell_lines,
    shown_plane,
)
from napari_unet_cells.widgets.export.removing import Cells
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, PLACE_EVENTS, Wired, emitters

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Of nothing, of the dark around a line, of the line.
COLORS = ("#00000000", "#c0000000", "#ffffe600")


class Picture(QWidget):
    """Lines over a canvas, which need not be drawn again for them and keeps the mouse."""

    def __init__(self, below: QWidget) -> None:
        super().__init__(below)
        self.setObjectName("cell_outlines")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.lines: Lines | None = None

    def draw(self, lines: Lines | None) -> None:
        """Show lines, or none."""
        self.lines = lines
        self.setGeometry(self.parentWidget().rect())
        self.setVisible(lines is not None)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the picture where it lies on the canvas."""
        if self.lines is None:
            return
        pixels = np.ascontiguousarray(self.lines.pixels)
        height, width = pixels.shape
        image = QImage(pixels.data, width, height, width, QImage.Format.Format_Indexed8)
        image.setColorTable([QColor(color).rgba() for color in COLORS])
        QPainter(self).drawImage(QPoint(self.lines.left, self.lines.top), image)


class CellOutlines(Wired, QObject):
    """Outlines chosen cells of a layer in the plane that is shown.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
    table : QWidget
        Docked in the window of the canvas; without being seen it outlines nothing.
    """

    def __init__(self, viewer: Viewer, layer: Labels, table: QWidget) -> None:
        super().__init__(table)
        self._viewer, self._layer, self._table = viewer, layer, table
        self.picture: Picture | None = None
        self._cells = Cells.none()
        self._window: Window | None = None
        # Several events of one turn, as of the camera's centre and zoom, make one picture.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._draw)
        camera, dims = camera_of(viewer).events, viewer.dims.events
        self.wiring.connect(self.look, camera.center, camera.zoom)
        self.wiring.connect(self.look, dims.point, dims.order, dims.ndisplay, dims.ndim)
        names = (*PIXEL_EVENTS, *PLACE_EVENTS, "visible")
        self.wiring.connect(self.look, *emitters(layer, names))
        self.wiring.connect(self.look, viewer.layers.events.removed)

    def choose(self, cells: Cells, window: Window | None = None) -> None:
        """Outline these cells and no others.

        Parameters
        ----------
        cells : Cells
        window : Window, optional
            Part of their plane that holds them, where the labels of the layer are on the disk.
        """
        self._cells, self._window = cells, window
        self.look()

    def look(self, event: object = None) -> None:
        """Draw again, in this turn of the window once."""
        if len(self._cells) or self.picture is not None:
            self._soon.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the size of the canvas."""
        if event.type() == QEvent.Type.Resize:
            self.look()
        return False

    def _draw(self) -> None:
        lines = self._lines()
        with contextlib.suppress(RuntimeError):  # the window closes, and the canvas is gone
            if self.picture is None and lines is not None:
                self.picture = self._made()
            if self.picture is not None:
                self.picture.draw(lines)

    def _made(self) -> Picture | None:
        below = canvas(self._table)
        if below is None:
            return None
        below.installEventFilter(self)
        picture = Picture(below)
        self.wiring.at_end(_delete, picture)
        return picture

    def _lines(self) -> Lines | None:
        viewer, layer = self._viewer, self._layer
        if not (len(self._cells) and self._table.isVisible() and layer in viewer.layers):
            return None
        plane = shown_plane(viewer, layer)
        if plane is None:
            return None
        cells = self._cells
        for axis in range(cells.planes.shape[1]):
            if plane.index[axis] is not None:
                cells = cells[cells.planes[:, axis] == plane.index[axis]]
        boxes, mapping = cells.boxes, Mapping.of(viewer, plane)
        if self._window is not None:
            return self._lines_of_window(self._window, cells, plane, mapping)
        if {plane.rows, plane.columns} != {layer.ndim - 2, layer.ndim - 1}:
            # The axes are rolled: all of the cell's id in view is outlined.
            boxes = np.tile(np.array([0.0, 0, *plane.labels.shape]), (len(cells), 1))
        elif plane.rows > plane.columns:
            boxes = boxes[:, [1, 0, 3, 2]]
        return cell_lines(plane.labels, cells.ids, boxes, mapping)

    def _lines_of_window(
        self, window: Window, cells: Cells, plane: LabelsPlane, mapping: Mapping
    ) -> Lines | None:
        axes = (self._layer.ndim - 2, self._layer.ndim - 1)
        if (plane.rows, plane.columns) == axes:
            return window.lines(cells.ids, cells.boxes, mapping)
        if (plane.columns, plane.rows) == axes:
            return window.transposed.lines(cells.ids, cells.boxes[:, [1, 0, 3, 2]], mapping)
        return None  # the axes are rolled, and the plane that is seen was not read


def _delete(picture: Picture) -> None:
    with contextlib.suppress(RuntimeError):
        picture.hide()
        picture.deleteLater()
