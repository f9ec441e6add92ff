"""Form of the tools for whole cells: their buttons, and the line that the mouse draws."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QGridLayout, QPushButton, QSizePolicy, QWidget

from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.correct.tools import TOOLS
from napari_unet_cells.widgets.correct.tools_controller import ToolsController

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the buttons.
COLUMNS = 3


class _Trace(QWidget):
    """Line of a stroke, drawn over the canvas, which need not be drawn again for it.

    Parameters
    ----------
    canvas : QWidget
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setGeometry(canvas.rect())
        self._line = QPolygonF()
        self.show()

    def add(self, pos: Any) -> None:
        """Lengthen the line to a place on the canvas, (x, y)."""
        self._line.append(QPointF(float(pos[0]), float(pos[1])))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it bright within dark, to be seen on any image."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for color, width in (("black", 4.0), ("white", 2.0)):
            painter.setPen(QPen(QColor(color), width))
            painter.drawPolyline(self._line)


class ToolsForm(ControlledForm):
    """A button for each tool; the one that is chosen takes the mouse in the active cells layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: A sentence for the user; empty where there is nothing to say.
    message = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._trace: _Trace | None = None
        self._build()
        self.controller = ToolsController(viewer, self, self.wiring)

    def _build(self) -> None:
        self.buttons: dict[str, QPushButton] = {}
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for place, name in enumerate(TOOLS):
            button = self.buttons[name] = QPushButton(name)
            button.setObjectName(f"{name}_tool_button")
            button.setCheckable(True)
            button.clicked.connect(partial(self._pressed, name))
            layout.addWidget(button, *divmod(place, COLUMNS))

    @property
    def tool(self) -> str:
        """Name of the chosen tool; empty for none."""
        return self.controller.tool

    def choose(self, tool: str) -> None:
        """Choose a tool, as its button does; see `ToolsController.choose`."""
        self.controller.choose(tool)

    def _pressed(self, name: str, checked: bool = False) -> None:
        self.choose(name)
        self.focus_canvas()

    # ------------------------------------------------------------- what the controller asks for

    def show_tools(self, tool: str, problem: str) -> None:
        """Mark the chosen tool; tooltips say what each does, or why none can be used."""
        for name, button in self.buttons.items():
            button.setEnabled(not problem)
            button.setToolTip(
                problem or f"{TOOLS[name].how}. Escape ends it, Ctrl+Z takes it back."
            )
            button.setChecked(name == tool)

    def say(self, sentence: str) -> None:
        """Pass a sentence on to the section."""
        self.message.emit(sentence)

    def lengthen_line(self, trail: list[Any]) -> None:
        """Draw the line of the mouse on, through these places (x, y) of the canvas."""
        below = canvas(self)
        if self._trace is None and below is not None:
            self._trace = _Trace(below)
        if self._trace is not None:
            for pos in trail:
                self._trace.add(pos)

    def end_line(self) -> None:
        """Remove the line."""
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.hide()
            trace.deleteLater()
