"""Lines drawn over the canvas, which need not be drawn again for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

#: Bright within dark, to be seen on any image.
PENS = (("black", 4.0), ("white", 2.0))


class _Overlay(QWidget):
    """Transparent widget over a canvas that lets the mouse through.

    Parameters
    ----------
    canvas : QWidget
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setGeometry(canvas.rect())
        self._lines: list[QPolygonF] = []
        self._dashed = False
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the lines; the dark below dashes is whole, so that they are one line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for color, width in PENS:
            pen = QPen(QColor(color), width)
            if self._dashed and color != PENS[0][0]:
                pen.setStyle(Qt.PenStyle.DashLine)
            painter.setPen(pen)
            for line in self._lines:
                painter.drawPolyline(line)


class Trace(_Overlay):
    """Line or box of a stroke."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._lines = [QPolygonF()]

    def add(self, pos: Any) -> None:
        """Lengthen the line to a place on the canvas, (x, y)."""
        self._lines[0].append(QPointF(float(pos[0]), float(pos[1])))
        self.update()

    def span(self, begin: Any, end: Any) -> None:
        """Draw a box between two places instead of a line."""
        corners = QRectF(QPointF(*map(float, begin)), QPointF(*map(float, end)))
        self._lines = [QPolygonF(corners)]
        self.update()


class OutlineOverlay(_Overlay):
    """Outlines of cells."""

    def draw(self, rings: Sequence[NDArray[np.float64]], dashed: bool) -> None:
        """Draw closed lines through places on the canvas, each (n, 2) of (x, y)."""
        self.setGeometry(self._canvas.rect())
        self._lines = [_closed(ring) for ring in rings]
        self._dashed = dashed
        self.update()


def _closed(ring: NDArray[np.float64]) -> QPolygonF:
    points = [QPointF(x, y) for x, y in ring.tolist()]
    return QPolygonF([*points, *points[:1]])
