"""Tools for whole cells: the buttons, and what the mouse does in the image meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QGridLayout, QPushButton, QSizePolicy, QWidget

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import Edit
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CELLS, OURS
from napari_unet_cells.layers.selection import review_problem
from napari_unet_cells.widgets.wiring import Wired

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the buttons.
COLUMNS = 3

#: Pixels of the canvas; a mouse that moves less was clicked, and drew nothing.
SLIP = 4.0

Path = NDArray[np.float64]
Stroke = Callable[[Any, Path, Callable[[], int]], Edit]


@dataclass(frozen=True)
class Tool:
    """Tool of the mouse: the actions of a click and of a drawn line.

    Attributes
    ----------
    how : str
        Said in the tooltip, and while the tool is in the hand.
    click, line : callable (plane, path, new_id) -> Edit, or None
        The path is a float array, (n, 2), in pixels (row, column) of the plane; that of a click
        has one point. `new_id` looks for the first free id. Where there is no line, the mouse
        moves the image while a button is held down.
    """

    how: str
    click: Stroke | None = None
    line: Stroke | None = None


def _at(stroke: Callable[[Any, Any], Edit]) -> Stroke:
    """Make the stroke of a click that takes no new id."""
    return lambda plane, path, new_id: stroke(plane, path[0])


#: By the names of their buttons; merging by clicks takes two of them, see `ToolsForm`.
TOOLS = {
    "merge": Tool(
        "Click the cells that belong together one after another, or draw a line through them; "
        "they get the id of the first",
        line=lambda plane, path, new_id: edits.merge(plane, path),
    ),
    "split": Tool(
        "Draw a line across a cell, or click it to have it cut at its waist",
        click=lambda plane, path, new_id: edits.split_by_distance(plane, path[0], new_id()),
        line=lambda plane, path, new_id: edits.split_along(plane, path, new_id()),
    ),
    "delete": Tool("Click a cell to make it background", click=_at(edits.delete)),
    "fill": Tool("Click a cell to fill the holes in it", click=_at(edits.fill_holes)),
    "smooth": Tool("Click a cell to smooth its outline", click=_at(edits.smooth)),
    "new": Tool(
        "Draw around a cell that was missed; other cells are not painted over",
        line=lambda plane, path, new_id: edits.draw(plane, path, new_id()),
    ),
}


@dataclass(frozen=True, eq=False)
class _Plane:
    """The plane of a labels layer that a stroke began in.

    Attributes
    ----------
    layer : napari labels layer
    index : tuple of int or None
        One for each axis of the layer, None for those that are displayed.
    rows, columns : int
        The axes that are displayed, from top to bottom and from left to right.
    """

    layer: Labels
    index: tuple[int | None, ...]
    rows: int
    columns: int

    @classmethod
    def under(cls, viewer: Viewer, layer: Labels, position: Any) -> _Plane | None:
        """Find the plane of a place in the world; None where the layer has none there."""
        before = viewer.dims.ndim - layer.ndim
        rows, columns = (axis - before for axis in viewer.dims.displayed)
        index: list[int | None] = np.rint(layer.world_to_data(position)).astype(int).tolist()
        index[rows] = index[columns] = None
        shape = layer.data.shape
        if any(i is not None and not 0 <= i < n for i, n in zip(index, shape, strict=True)):
            return None
        return cls(layer, tuple(index), rows, columns)

    @property
    def labels(self) -> NDArray[Any]:
        """The layer's own pixels, (rows, columns), not a copy."""
        part = tuple(slice(None) if i is None else i for i in self.index)
        labels: NDArray[Any] = np.asarray(self.layer.data)[part]
        return labels if self.rows < self.columns else labels.T

    def point(self, position: Any) -> tuple[float, float]:
        """Give the pixel (row, column), not rounded, of a place in the world."""
        data = self.layer.world_to_data(position)
        return float(data[self.rows]), float(data[self.columns])

    def paint(self, edit: Edit) -> None:
        """Change the pixels of an edit, in one step of the layer's undo history."""
        indices = [np.full(len(edit.rows), i or 0) for i in self.index]
        indices[self.rows], indices[self.columns] = edit.rows, edit.columns
        self.layer.data_setitem(tuple(indices), edit.values.astype(self.layer.data.dtype))


class _FreeId:
    """Finds the first id above all others of a layer.

    In a plane that is looked for each time, which is quick. The other planes of a stack are
    searched once, and after that what is painted is added up: it may then be higher than it had
    to be, after an undo, but is never there already.

    Parameters
    ----------
    layer : napari labels layer
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._highest: int | None = None

    def known(self) -> int:
        """Give the highest id so far; all planes are searched where it is not known."""
        if self._highest is None:
            self._highest = max(0, int(np.max(self._layer.data, initial=0)))
        return self._highest

    def above(self, plane: NDArray[Any]) -> int:
        """Give the id for a new cell in a plane."""
        here = max(0, int(plane.max(initial=0)))
        if plane.size == self._layer.data.size:
            return here + 1
        self._highest = max(here, self.known())
        if self._highest >= np.iinfo(plane.dtype).max:  # perhaps only before an undo
            self.forget()
        return self.known() + 1

    def note(self, event: Any) -> None:
        """Note what was painted: napari's steps end with the new ids, or hold them by name."""
        for step in event.value:
            new = getattr(step, "new_value", None) if not isinstance(step, tuple) else step[-1]
            if new is None or self._highest is None:
                self.forget()
                return
            self._highest = max(self._highest, int(np.max(new)))

    def forget(self, event: Any = None) -> None:
        """Forget what is known, as after new data."""
        self._highest = None


class _Trace(QWidget):
    """The line of a stroke, drawn over the canvas, which needs not be drawn again for it.

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


class ToolsForm(Wired, QWidget):
    """A button for each tool; the one that is chosen takes the mouse in the active cells layer.

    Every stroke is one step of napari's own undo and redo. In a stack it changes the plane that
    is shown: cells of the same id in other planes, which linking gave them, keep it. Holes,
    waists and outlines are those of the plane, too.

    Where an id is needed that the layer's data type cannot hold, a copy of 32 bits takes the
    layer's place; then the undo history ends there.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: A sentence for the user; empty where there is nothing to say.
    message = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._tool = ""
        self._layer: Any = None
        self._free: _FreeId | None = None
        self._drawing: list[tuple[float, float]] | None = None
        self._trace: _Trace | None = None
        #: Plane, point and id of the cell that clicked ones are merged into.
        self._first: tuple[_Plane, Path, int] | None = None
        self._followed, self._held = self.wiring.part(), self.wiring.part()
        self._build()
        # napari makes other layers active for a moment when layers come and go.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._look)
        active, dims = viewer.layers.selection.events.active, viewer.dims.events
        self.wiring.connect(self._look_soon, active, dims.ndisplay, dims.order)
        self._look()

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

    # ------------------------------------------------------------------ which layer, which tool

    @property
    def tool(self) -> str:
        """Name of the tool that is in the hand; empty for none."""
        return self._tool

    def choose(self, tool: str) -> None:
        """Take a tool into the hand; the one that is there already is put away.

        Parameters
        ----------
        tool : str
            A key of `TOOLS`; empty to put away what is there.
        """
        self._look()
        wanted = "" if tool == self._tool else tool
        problem = self._problem()
        self._put_away()
        self.message.emit(problem if wanted else "")
        if wanted and not problem:
            self._layer.mode = "pan_zoom"
            self._tool = wanted
            self._hold()
        self._show_tool()

    def _pressed(self, name: str, checked: bool = False) -> None:
        self.choose(name)
        self._focus()

    def _look_soon(self, event: Any = None) -> None:
        """Look at once where that puts no tool away, else when napari has settled."""
        if self._tool:
            self._soon.start()
        else:
            self._look()

    def _look(self) -> None:
        """Turn to the active layer; the tool goes with it as long as it can be used there."""
        self._soon.stop()
        active = self._viewer.layers.selection.active
        if active is not self._layer:
            self._follow(active)
        problem = self._problem()
        for name, button in self.buttons.items():
            button.setEnabled(not problem)
            button.setToolTip(
                problem or f"{TOOLS[name].how}. Escape ends it, Ctrl+Z takes it back."
            )
        if self._tool and (problem or self._layer.mode != "pan_zoom"):
            self._put_away()
        self._show_tool()

    def _follow(self, layer: Layer | None) -> None:
        self._end_stroke()
        self._held.release()
        self._followed.release()
        self._layer, self._free, self._first = layer, None, None
        if not isinstance(layer, Labels):
            return
        self._free = _FreeId(layer)
        events = layer.events
        self._followed.connect(self._mode_changed, events.mode)
        self._followed.connect(self._look_soon, events.editable, events.visible, events.data)
        self._followed.connect(self._free.forget, events.data)
        self._followed.connect(self._free.note, events.paint)
        if self._tool and not self._problem() and layer.mode == "pan_zoom":
            self._hold()

    def _problem(self) -> str:
        """Say why the tools cannot be used; empty where they can."""
        layer, dims = self._layer, self._viewer.dims
        if layer is None:
            return "Choose the cells in the layer list first."
        if not isinstance(layer, Labels):
            return f"'{layer.name}' holds no labels. Choose the cells in the layer list."
        if layer.metadata.get(OURS, {}).get("role", CELLS) != CELLS:
            return f"'{layer.name}' holds classes, not cells: paint with napari's brush there."
        problem = review_problem(layer)
        if problem:
            return problem
        if not layer.data.flags.writeable:
            return (
                f"'{layer.name}' is open for reading only. Duplicate it in the layer list and "
                "correct the copy."
            )
        if not layer.visible:
            return f"'{layer.name}' is hidden. Show it with its eye in the layer list."
        if dims.ndisplay != 2:
            return "The tools work in planes. Switch from 3D back to 2D below the layer list."
        if min(dims.displayed) < dims.ndim - layer.ndim:
            return "The planes of the cells are not in view. Roll the axes back below the layers."
        return ""

    def _mode_changed(self, event: Any = None) -> None:
        """Put the tool away where the user takes one of napari's own."""
        if self._tool and self._layer.mode != "pan_zoom":
            self._put_away()
            self._show_tool()

    def _show_tool(self) -> None:
        for name, button in self.buttons.items():
            button.setChecked(name == self._tool)

    # -------------------------------------------------------------------- the tool in the hand

    def _hold(self) -> None:
        """Take the mouse, Escape and the space bar of the layer."""
        layer, tool = self._layer, TOOLS[self._tool]
        assert self._free is not None
        if layer.ndim > 2:
            self._free.known()  # searched for now, and not in the first stroke
        self._held.append(layer.mouse_drag_callbacks, self._drag)
        keys = {
            key: layer.bind_key(key, pressed, overwrite=True)
            for key, pressed in (("Escape", self._escape), ("Space", self._space))
        }
        # Two quick clicks would enlarge the image.
        clicks = self._viewer.mouse_double_click_callbacks
        zooming = [c for c in clicks if getattr(c, "__name__", "") == "double_click_to_zoom"]
        for callback in zooming:
            clicks.remove(callback)
        layer.mouse_pan = tool.line is None
        layer.cursor = "cross"
        layer.help = f"{tool.how}; hold <space> to move the image"
        self._held.at_end(clicks.extend, zooming)
        self._held.at_end(_give_back, layer, keys)

    def _put_away(self) -> None:
        self._tool, self._first = "", None
        self._end_stroke()
        self._held.release()

    def _escape(self, layer: Labels | None = None) -> None:
        """Give up the stroke, else the cell that others would be merged into, else the tool."""
        if self._drawing is not None:
            self._end_stroke()
        elif self._first is not None:
            self._first = None
            self.message.emit("")
        else:
            self.choose("")

    def _space(self, layer: Labels) -> Generator[None, None, None]:
        """Move the image as long as the key is held down."""
        layer.mouse_pan = True
        yield
        if self._tool:
            layer.mouse_pan = TOOLS[self._tool].line is None

    # ----------------------------------------------------------------------------- the mouse

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        """Collect a stroke; napari calls this at every press of the mouse in the layer."""
        draws = TOOLS[self._tool].line is not None
        if event.button != 1 or event.modifiers or (draws and layer.mouse_pan):
            return  # napari's own: zooming with Alt, or the image is moved with the space bar
        plane = _Plane.under(self._viewer, layer, event.position)
        if plane is None:
            self.message.emit(
                f"'{layer.name}' has no pixels in this plane. Move the slider to one of its own."
            )
            return
        begin, moved = np.array(event.pos, float), 0.0
        path = self._drawing = [plane.point(event.position)]
        trail = [event.pos]
        while True:
            yield
            if self._drawing is not path:  # given up, with Escape or another tool
                return
            if event.type == "mouse_release":
                break
            path.append(plane.point(event.position))
            trail.append(event.pos)
            moved = max(moved, float(np.linalg.norm(np.array(event.pos) - begin)))
            if draws and moved >= SLIP:
                self._show_line(trail)
        path.append(plane.point(event.position))
        moved = max(moved, float(np.linalg.norm(np.array(event.pos) - begin)))
        self._end_stroke()
        if moved < SLIP:
            self._clicked(plane, np.array(path[:1]))
        elif draws:
            self._first = None
            self._stroke(plane, np.array(path), TOOLS[self._tool].line)

    def _show_line(self, trail: list[Any]) -> None:
        canvas = self._canvas()
        if self._trace is None and canvas is not None:
            self._trace = _Trace(canvas)
        if self._trace is not None:
            for pos in trail:
                self._trace.add(pos)
        trail.clear()

    def _end_stroke(self) -> None:
        self._drawing = None
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.hide()
            trace.deleteLater()

    def _clicked(self, plane: _Plane, path: Path) -> None:
        tool = TOOLS[self._tool]
        if self._tool == "merge":
            self._merge(plane, path)
        elif tool.click is None:
            self.message.emit("A click draws nothing: hold the mouse button down and go round.")
        else:
            self._stroke(plane, path, tool.click)

    def _merge(self, plane: _Plane, path: Path) -> None:
        """Merge the cell that is clicked into the first one, if there is one still."""
        clicked = edits.id_at(plane.labels, path[0])
        first = self._first
        if first is not None and (
            plane.index != first[0].index
            or edits.id_at(plane.labels, first[1][0]) != first[2]  # undone, or painted over
        ):
            first = self._first = None
        if not clicked:
            self._first = None
            self.message.emit("Click the first of the cells that belong together.")
        elif first is None or clicked == first[2]:
            self._first = plane, path, clicked
            self.message.emit("Now click the cells that belong to it; Escape begins anew.")
        else:
            both = np.concatenate([first[1], path])
            self._stroke(plane, both, lambda p, at, new_id: edits.merge(p, at, joined=False))

    # ---------------------------------------------------------------------------- the labels

    def _stroke(self, plane: _Plane, path: Path, stroke: Stroke | None) -> None:
        """Change the cells, or say why they stay as they are."""
        assert stroke is not None
        assert self._free is not None
        labels, said = plane.labels, ""
        try:
            edit = stroke(labels, path, partial(self._free.above, labels))
            if edit.highest > np.iinfo(labels.dtype).max:
                plane, said = self._widened(plane, edit.highest)
        except UserError as error:
            said = str(error)
        else:
            plane.paint(edit)
        self.message.emit(said)
        self._focus()

    def _widened(self, plane: _Plane, highest: int) -> tuple[_Plane, str]:
        """Replace a layer by a copy that holds higher ids, and say so."""
        old = plane.layer
        dtype = np.uint32 if old.data.min() >= 0 else np.int64
        if highest > np.iinfo(dtype).max:
            raise UserError(
                f"There is no free id in '{old.name}' above its highest. Give that cell a lower "
                "one with napari's fill bucket."
            )
        new = _copy_of(old, old.data.astype(dtype))
        layers, name = self._viewer.layers, old.name
        # The old one goes last: without any layer, napari would move the camera.
        layers.insert(layers.index(old) + 1, new)
        layers.selection.active = new
        layers.remove(old)
        new.name = name
        self._look()
        said = (
            f"'{name}' was full at {np.iinfo(old.data.dtype).max:,} ids. A copy with room for more "
            "has taken its place: what you did before cannot be undone any more, and napari draws "
            "it more slowly."
        )
        return _Plane(new, plane.index, plane.rows, plane.columns), said

    # ---------------------------------------------------------------------------- the canvas

    def _canvas(self) -> QWidget | None:
        """Widget of the image; napari has no public name for it, so there may be none."""
        try:
            return self._viewer.window._qt_viewer.canvas.native
        except (AttributeError, RuntimeError):
            return None

    def _focus(self) -> None:
        """Give the keyboard to the image, so that Ctrl+Z and Escape work at once."""
        canvas = self._canvas()
        if canvas is not None:
            canvas.setFocus()


#: What a copy of a labels layer takes over besides what makes a layer.
_SETTINGS = (
    "contour", "brush_size", "contiguous", "n_edit_dimensions", "preserve_labels",
    "selected_label", "show_selected_label",
)  # fmt: skip


def _copy_of(layer: Labels, data: NDArray[Any]) -> Labels:
    """Make a labels layer like another one, of other pixels."""
    _, state, _ = layer.as_layer_data_tuple()
    state["metadata"] = layer.metadata
    state.pop("properties", None)  # the same as the features
    copy = Labels(data, **state)
    for name in _SETTINGS:
        setattr(copy, name, getattr(layer, name))
    return copy


def _give_back(layer: Labels, keys: dict[str, Any]) -> None:
    """Give a layer its keys and its cursor back."""
    for key, before in keys.items():
        layer.bind_key(key, before, overwrite=True)
    layer.help = ""
    if layer.mode == "pan_zoom":  # the other modes have set these themselves
        layer.mouse_pan, layer.cursor = True, "standard"
