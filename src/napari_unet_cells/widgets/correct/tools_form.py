"""Form of the tools for whole cells: their buttons, and what the mouse draws."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QPushButton, QSizePolicy, QWidget

from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.widgets.camera import in_world
from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.correct.adding import Segmenting
from napari_unet_cells.widgets.correct.keys import OUTLINES_KEY
from napari_unet_cells.widgets.correct.keys_window import KeysWindow
from napari_unet_cells.widgets.correct.outlines_switch import OutlinesSwitch
from napari_unet_cells.widgets.correct.overlay import OutlineOverlay, Trace
from napari_unet_cells.widgets.correct.tools import TOOLS
from napari_unet_cells.widgets.correct.tools_controller import ToolsController
from napari_unet_cells.widgets.runner import Job
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the buttons.
COLUMNS = 3

#: Pixels beside the text of a button, so that no letter is cut off.
TEXT_MARGIN = 12

#: Keys that change the size of a cell; napari knows no plus as a key of its own.
SIZE_KEYS = {Qt.Key.Key_Plus: 1, Qt.Key.Key_Equal: 1, Qt.Key.Key_Minus: -1}

#: What Qt counts for a notch of the mouse wheel.
NOTCH = 120


class ToolsForm(ControlledForm):
    """A button for each tool; the one that is chosen takes the mouse in the active cells layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine, optional
    segmenting : Segmenting, optional
        See `ToolsController`.
    """

    #: A sentence for the user; empty where there is nothing to say.
    message = Signal(str)

    #: A tool was chosen by its key, perhaps while the form is out of sight.
    taken = Signal()

    def __init__(
        self,
        viewer: Viewer,
        engine: Engine | None = None,
        segmenting: Segmenting | None = None,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._trace: Trace | None = None
        self._cells: OutlineOverlay | None = None
        self._turned = 0
        self._keys: KeysWindow | None = None
        self._build()
        self.searching = Worker(self)
        self.wiring.at_end(self.searching.stop)
        self.controller = ToolsController(viewer, self, self.wiring, engine, segmenting)
        self.preview_box.setChecked(self.controller.adding.previewing.on)
        self.preview_box.clicked.connect(self.controller.adding.previewing.switch)
        self.outlines = OutlinesSwitch(viewer, self, self.wiring)
        self.outlines_button.clicked.connect(self._outlines_pressed)
        self._resizing = _Resizing(self)
        adding = self.controller.adding
        self.searching.progressed.connect(adding.receive)
        self.searching.failed.connect(adding.failed)

    def _build(self) -> None:
        self.buttons: dict[str, QPushButton] = {}
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for name, tool in TOOLS.items():
            button = self.buttons[name] = _button(
                f"{name.capitalize()}  {tool.key}", checkable=True
            )
            button.setObjectName(f"{name}_tool_button")
            button.clicked.connect(partial(self._pressed, name))
        self.outlines_button = _button(f"Outlines  {OUTLINES_KEY}", checkable=True)
        self.outlines_button.setObjectName("outlines_button")
        self.keys_button = _button("Keys...")
        self.keys_button.setObjectName("keys_button")
        self.keys_button.setToolTip("List all keys in a small window")
        self.keys_button.clicked.connect(self._list_keys)
        shown = (*self.buttons.values(), self.outlines_button, self.keys_button)
        for place, button in enumerate(shown):
            layout.addWidget(button, *divmod(place, COLUMNS))
        self.preview_box = QCheckBox("Preview the cell that Add would find")
        self.preview_box.setObjectName("preview_box")
        self.preview_box.setToolTip(
            "Outline the cell with dashes where the mouse rests; a click takes it at once, + and - "
            "change its size before"
        )
        layout.addWidget(self.preview_box, layout.rowCount(), 0, 1, COLUMNS)

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

    def _outlines_pressed(self, checked: bool = False) -> None:
        self.outlines.toggle()
        self.focus_canvas()

    def _list_keys(self, checked: bool = False) -> None:
        """Show the window of the keys, the same one again where it is open."""
        if self._keys is None:
            self._keys = KeysWindow(self)
        self._keys.show()
        self._keys.raise_()

    # ------------------------------------------------------------ what the controllers ask for

    def show_outlines(self, shown: bool, problem: str) -> None:
        """Press the button of the outlines or not, as the layer has them."""
        self.outlines_button.setChecked(shown)
        self.outlines_button.setEnabled(not problem)
        self.outlines_button.setToolTip(
            problem or f"Show the cells as outlines, or filled again. Key: {OUTLINES_KEY}"
        )

    def show_tools(self, tool: str, problem: str) -> None:
        """Mark the chosen tool; tooltips say what each does, or why none can be used."""
        newly = tool and not self.buttons[tool].isChecked()
        for name, button in self.buttons.items():
            button.setEnabled(not problem)
            button.setToolTip(
                problem or f"{TOOLS[name].title}. Escape ends it, Ctrl+Z takes it back."
            )
            button.setChecked(name == tool)
        if newly:
            self.taken.emit()
        below = canvas(self) if tool else None
        if below is not None:
            below.installEventFilter(self._resizing)  # a second time changes nothing

    def show_preview(self, on: bool) -> None:
        """Tick the checkbox of the preview or not."""
        self.preview_box.setChecked(on)

    def say(self, sentence: str) -> None:
        """Pass a sentence on to the section."""
        self.message.emit(sentence)

    def lengthen_line(self, trail: list[Any]) -> None:
        """Draw the line of the mouse on, through these places (x, y) of the canvas."""
        trace = self._shown_trace()
        if trace is not None:
            for pos in trail:
                trace.add(pos)

    def show_box(self, begin: Any, end: Any) -> None:
        """Draw a box between two corners (x, y) of the canvas."""
        trace = self._shown_trace()
        if trace is not None:
            trace.span(begin, end)

    def _shown_trace(self) -> Trace | None:
        below = canvas(self)
        if self._trace is None and below is not None:
            self._trace = Trace(below)
        return self._trace

    def end_line(self) -> None:
        """Remove the line, or the box."""
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.hide()
            trace.deleteLater()

    def draw_cells(self, rings: Sequence[NDArray[np.float64]], dashed: bool) -> None:
        """Draw outlines of cells over the canvas, in place of those of before."""
        below = canvas(self)
        if below is None:
            return
        if self._cells is None and rings:
            self._cells = OutlineOverlay(below)
            self.wiring.at_end(_discard, self._cells)
        if self._cells is not None:
            self._cells.draw(rings, dashed)

    # ------------------------------------------------------------------------ adding cells

    def search(self, job: Job) -> None:
        """Run a job in a thread, in place of one that still runs."""
        self.searching.start(job)

    def stop_search(self) -> None:
        """Stop the job, and drop its answer."""
        self.searching.cancel()

    def offer(self, tool: str) -> None:
        """Draw the eye to the button of a tool; an empty name ends it."""
        for name, button in self.buttons.items():
            button.setStyleSheet("border: 2px solid orange;" if name == tool else "")

    def resize_cell(self, event: QEvent) -> bool:
        """Change the size of the cell that was added last by a key or the wheel over it.

        Returns
        -------
        bool
            Whether the event is used up.
        """
        adding = self.controller.adding
        if event.type() == QEvent.Type.KeyPress:
            steps = SIZE_KEYS.get(event.key(), 0)
            return steps != 0 and _plain(event) and adding.resize(steps)
        if event.type() == QEvent.Type.Leave:
            self.controller.leave()
            return False
        if event.type() == QEvent.Type.Wheel and _plain(event):
            # Not napari's cursor, which follows the mouse a moment later.
            place = event.position()
            if not adding.is_over(in_world(self._viewer, (place.x(), place.y()))):
                return False
            turned = self._turned + event.angleDelta().y()
            notches = int(turned / NOTCH)
            self._turned = turned - notches * NOTCH
            return adding.resize(notches) if notches else True
        return False


def _discard(overlay: QWidget) -> None:
    """Take an overlay off a canvas that outlives the form."""
    with contextlib.suppress(RuntimeError):  # it went with the canvas
        overlay.hide()
        overlay.deleteLater()


def _button(text: str, checkable: bool = False) -> QPushButton:
    """Make a button that leaves the width of its column to the form."""
    button = QPushButton(text)
    button.setCheckable(checkable)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + TEXT_MARGIN)
    return button


class _Resizing(QObject):
    """Looks at the keys and the wheel of the canvas before napari does."""

    def __init__(self, form: ToolsForm) -> None:
        super().__init__(form)
        self._form = form

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Use up what changes the size of a cell."""
        return self._form.resize_cell(event)


def _plain(event: Any) -> bool:
    """Whether no key is held down that makes it another one; Shift makes a plus of other keys."""
    held = event.modifiers()
    usual = Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier
    return not held & ~usual if event.type() == QEvent.Type.KeyPress else not held
