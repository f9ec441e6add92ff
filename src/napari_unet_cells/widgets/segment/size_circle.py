"""Show the cell size as a circle over the image, which can be moved and drawn out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QRegion
from qtpy.QtWidgets import QWidget

from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.wiring import SCALE_EVENTS, Wired, emitters

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

#: Pixels of the screen around the line within which the mouse takes the line.
GRIP = 6

#: Pixels of the screen; a smaller circle could not be taken.
SMALLEST = 12


class SizeCircle(Wired, QWidget):
    """Lies over the canvas; inside it is moved, at its line the diameter is changed.

    It stays where it is on the screen while the image is moved below it, and follows the zoom.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    below : QWidget
        The canvas.
    image : napari image layer
        In whose pixels the diameter is.
    diameter : float
    """

    #: The diameter that the user drew, in pixels of the image.
    changed = Signal(float)

    def __init__(self, viewer: Viewer, below: QWidget, image: Image, diameter: float) -> None:
        super().__init__(below)
        self.setObjectName("size_circle")
        self.setToolTip("Move it onto a cell, and draw its line out to fit.")
        self.setMouseTracking(True)
        self._viewer, self._image = viewer, image
        self._centre = QPointF(below.rect().center())
        self._diameter = diameter
        self._held: QPointF | None = None  # from the mouse to the centre
        self.wiring.connect(
            self._place, camera_of(viewer).events.zoom, *emitters(image, SCALE_EVENTS)
        )
        self._place()
        self.show()

    @property
    def diameter(self) -> float:
        """Diameter in pixels of the image."""
        return self._diameter

    def show_diameter(self, diameter: float) -> None:
        """Draw the circle of another diameter."""
        self._diameter = diameter
        self._place()

    @property
    def _screen_pixel(self) -> float:
        """Pixels of the screen by a pixel of the image."""
        return float(camera_of(self._viewer).zoom * self._image.scale[-1])

    def _place(self, event: object = None) -> None:
        """Bring place and size on the screen in line with diameter and zoom."""
        radius = max(SMALLEST, self._diameter * self._screen_pixel) / 2
        side = round(2 * (radius + GRIP))
        corner = self._centre - QPointF(side / 2, side / 2)
        self.setGeometry(round(corner.x()), round(corner.y()), side, side)
        # The mouse beside the circle belongs to the canvas.
        self.setMask(QRegion(self.rect(), QRegion.RegionType.Ellipse))
        self.update()

    def _from_centre(self, event: QMouseEvent) -> QPointF:
        return QPointF(event.position()) - QPointF(self.rect().center())

    def _at_line(self, event: QMouseEvent) -> bool:
        inside: float = self.width() / 2 - 2 * GRIP
        return _length(self._from_centre(event)) > inside

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it bright within dark, to be seen on any image."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        around = QRectF(self.rect()).adjusted(GRIP, GRIP, -GRIP, -GRIP)
        for color, width in (("black", 4.0), ("white", 2.0)):
            painter.setPen(QPen(QColor(color), width))
            painter.drawEllipse(around)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take the line, or the circle as a whole."""
        self._held = None if self._at_line(event) else self._from_centre(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move the circle, or change its size; else show what a press would do."""
        if not event.buttons():
            at_line = self._at_line(event)
            shape = Qt.CursorShape.SizeFDiagCursor if at_line else Qt.CursorShape.SizeAllCursor
            self.setCursor(shape)
            return
        from_centre = self._from_centre(event)
        if self._held is None:
            drawn = max(1.0, 2 * _length(from_centre) / self._screen_pixel)
            self.show_diameter(drawn)
            self.changed.emit(drawn)
            return
        self._centre = self._within(self._centre + from_centre - self._held)
        self._place()

    def _within(self, place: QPointF) -> QPointF:
        """Keep the centre on the canvas, where it can be taken again."""
        room = self.parentWidget().rect()
        inside = QPoint(
            min(max(round(place.x()), room.left()), room.right()),
            min(max(round(place.y()), room.top()), room.bottom()),
        )
        return QPointF(inside)


def circle_over(
    form: QWidget, viewer: Viewer, image: Image | None, diameter: float
) -> SizeCircle | None:
    """Lay a circle over the canvas of the window that a form is docked in.

    Returns
    -------
    SizeCircle or None
        None where there is no canvas, or no image whose pixels could measure it.
    """
    below = canvas(form)
    if below is None or image is None or viewer.dims.ndisplay != 2:
        return None
    circle = SizeCircle(viewer, below, image, diameter)
    form.destroyed.connect(circle.deleteLater)  # the canvas lives longer
    return circle


def _length(vector: QPointF) -> float:
    return float((vector.x() ** 2 + vector.y() ** 2) ** 0.5)
