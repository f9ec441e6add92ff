"""Tools for whole cells: buttons, and what the mouse does in the image while one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_unet_cells import cell_edits
from napari_unet_cells import layers as facts
from napari_unet_cells.cell_edits import Edit, Point
from napari_unet_cells.errors import UserError
from napari_unet_cells.strokes_layer import is_strokes
from napari_unet_cells.widgets.stroke_line import StrokeLine

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the buttons.
COLUMNS = 3

#: Pixels of the screen; a mouse that moves less was clicked, and drew nothing.
SLIP = 4.0


@dataclass(frozen=True)
class Tool:
    """What a stroke does.

    Attributes
    ----------
    title, tip : str
        Of the button.
    edit : callable (plane, path, next_id) -> Edit or None
        The path has one point where the mouse was clicked.
    draws : bool
        Whether a line may be drawn with it.
    """

    title: str
    tip: str
    edit: Callable[[Any, list[Point], int], Edit | None]
    draws: bool = False


def _split(plane: Any, path: list[Point], next_id: int) -> Edit:
    if len(path) < 2:
        return cell_edits.split_at_waist(plane, path[0], next_id)
    return cell_edits.split_along(plane, path, next_id)


def _new(plane: Any, path: list[Point], next_id: int) -> Edit:
    if len(path) < 3:
        raise UserError("Draw the outline of the cell with the mouse button held down.")
    return cell_edits.draw(plane, path, next_id)


def _merge(plane: Any, path: list[Point], next_id: int) -> Edit | None:
    ids = cell_edits.ids_along(plane, path)
    if len(ids) < 2:
        raise UserError("The line meets fewer than two cells. Draw it through those to merge.")
    return cell_edits.merge(plane, ids)


def _clicked(edit: Callable[[Any, Point], Edit]) -> Callable[[Any, list[Point], int], Edit]:
    return lambda plane, path, next_id: edit(plane, path[0])


TOOLS: dict[str, Tool] = {
    "merge": Tool(
        "Merge", "Click cells one after another, or draw a line through them", _merge, draws=True
    ),
    "split": Tool(
        "Split", "Draw a line across a cell; or click it to cut its waist", _split, draws=True
    ),
    "delete": Tool("Delete", "Click a cell", _clicked(cell_edits.delete)),
    "fill": Tool("Fill", "Click a cell with holes", _clicked(cell_edits.fill_holes)),
    "smooth": Tool("Smooth", "Click a cell with a ragged outline", _clicked(cell_edits.smooth)),
    "new": Tool("New", "Draw the outline of a cell that was missed", _new, draws=True),
}


class ToolsForm(QWidget):
    """A button for each tool; one of them at a time takes the mouse.

    Every stroke is one step of napari's own undo. In a stack it changes the plane that is
    shown, and nothing in the others.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: A sentence for the user; empty where all is well.
    message = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._tool = ""
        self._layer: Any = None
        self._merging = 0
        self._ours = False
        self._line = StrokeLine(viewer)
        self.buttons: dict[str, QPushButton] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for place, (name, tool) in enumerate(TOOLS.items()):
            button = self.buttons[name] = QPushButton(tool.title)
            button.setObjectName(f"{name}_tool_button")
            button.setCheckable(True)
            button.clicked.connect(partial(self._pressed, name))
            layout.addWidget(button, *divmod(place, COLUMNS))
        events = viewer.layers.selection.events.active, viewer.dims.events.ndisplay
        for event in events:
            event.connect(self._follow)
        viewer.mouse_drag_callbacks.append(self._drag)
        viewer.bind_key("Escape", self._escape, overwrite=True)
        self.destroyed.connect(partial(_close, viewer, events, self._drag, self._follow))
        self._follow()

    # ------------------------------------------------------------------ which layer, which tool

    def choose(self, tool: str) -> None:
        """Take a tool into the hand, an empty name puts it away."""
        self._tool = tool if tool and not self._problem(self._layer) else ""
        self._merging = 0
        for name, button in self.buttons.items():
            button.setChecked(name == self._tool)
        if self._layer is not None and self._layer in self._viewer.layers:
            self._ours = True  # the layer's mode changes, and not by the user
            if self._tool:
                self._layer.mode = "pan_zoom"
            self._layer.mouse_pan = not self._tool and self._layer.mode == "pan_zoom"
            self._ours = False
        self.message.emit(TOOLS[self._tool].tip if self._tool else "")

    def _pressed(self, name: str, checked: bool) -> None:
        self.choose(name if checked else "")
        _focus_canvas(self._viewer)

    def _escape(self, viewer: Viewer) -> None:
        if self._merging:
            self._merging = 0
        else:
            self.choose("")

    def _follow(self, event: Any = None) -> None:
        """Turn to the active labels; a tool stays in the hand only where it can be used."""
        active = self._viewer.layers.selection.active
        if active is not self._layer:
            self._leave()
            self._layer = active if active is not None and _is_labels(active) else None
            if self._layer is not None:
                self._layer.events.mode.connect(self._mode_changed)
        problem = self._problem(self._layer)
        for name, button in self.buttons.items():
            button.setEnabled(not problem)
            button.setToolTip(problem or f"{TOOLS[name].tip}. Escape ends it, Ctrl+Z undoes it.")
        if problem and self._tool:
            self.choose("")

    def _leave(self) -> None:
        if self._layer is None:
            return
        self._layer.events.mode.disconnect(self._mode_changed)
        if self._tool:
            self.choose("")

    def _mode_changed(self, event: Any) -> None:
        """Put the tool away where the user takes one of napari's own."""
        if not self._ours and self._tool:
            self.choose("")

    def _problem(self, layer: Any) -> str:
        """Say why the tools cannot be used; empty where they can."""
        if layer is None:
            return "Select a layer of cells first."
        role = layer.metadata.get(facts.OURS, {}).get("role")
        if role == facts.CLASSES or is_strokes(layer):
            return "This layer holds classes, not cells: the brush is enough for it."
        if getattr(layer, "multiscale", False) or not isinstance(layer.data, np.ndarray):
            return "This layer cannot be changed: it is not in memory."
        if not layer.editable:
            return "This layer cannot be changed now."
        dims = self._viewer.dims
        if dims.ndisplay != 2 or tuple(dims.order) != tuple(range(dims.ndim)):
            return "The tools work in 2D: switch the 3D view off, and do not roll the axes."
        return ""

    # -------------------------------------------------------------------------- the mouse

    def _drag(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        """Collect a stroke; napari calls this at every press of the mouse."""
        layer, tool = self._layer, TOOLS.get(self._tool)
        usable = tool is not None and layer is viewer.layers.selection.active
        if not usable or event.button != 1 or event.modifiers:
            return
        assert tool is not None
        where, path = [np.array(event.pos)], [np.array(layer.world_to_data(event.position))]
        world = [np.array(event.position)]
        yield
        while event.type == "mouse_move":
            where.append(np.array(event.pos))
            path.append(np.array(layer.world_to_data(event.position)))
            world.append(np.array(event.position))
            if tool.draws:
                self._line.show(world)
            yield
        self._line.hide()
        moved = max(float(np.linalg.norm(pixel - where[0])) for pixel in where)
        if moved < SLIP:
            path = path[:1]
        elif not tool.draws:
            return  # she slipped away from the cell, and meant none
        if self._layer is layer:
            self.stroke(path)

    def stroke(self, path: list[Any]) -> None:
        """Do what the tool in the hand does along a path.

        Parameters
        ----------
        path : list of arrays, (ndim,)
            In data coordinates of the layer; one point for a click.
        """
        index = self._index(path[0])
        if index is None:
            return
        plane = self._layer.data[index]
        points = [(float(point[-2]), float(point[-1])) for point in path]
        try:
            edit = self._edit(plane, points)
        except UserError as error:
            self.message.emit(str(error))
            return
        if edit is not None:
            self._write(index, plane, edit)
            self.message.emit("")

    def _index(self, point: Any) -> tuple[int, ...] | None:
        """Index of the plane that a point lies in, along the axes before (y, x)."""
        shape = self._layer.data.shape
        index = tuple(round(float(value)) for value in point[: len(shape) - 2])
        return index if all(0 <= i < n for i, n in zip(index, shape, strict=False)) else None

    def _edit(self, plane: Any, points: list[Point]) -> Edit | None:
        if self._tool == "merge" and len(points) == 1:
            return self._merge_click(plane, points[0])
        self._merging = 0
        return TOOLS[self._tool].edit(plane, points, self._next_id())

    def _merge_click(self, plane: Any, point: Point) -> Edit | None:
        """Remember the first cell that is clicked; the next ones are merged into it."""
        met = cell_edits.ids_along(plane, [point])
        if not met:
            self._merging = 0
            self.message.emit("Click the first of the cells to merge.")
            return None
        first = self._merging if (plane == self._merging).any() else 0
        if not first:
            self._merging = met[0]
            self.message.emit("Now click the cells that belong to it.")
            return None
        return cell_edits.merge(plane, [first, met[0]])

    def _next_id(self) -> int:
        return int(self._layer.data.max()) + 1

    # ------------------------------------------------------------------------- the labels

    def _write(self, index: tuple[int, ...], plane: Any, edit: Edit) -> None:
        """Change the pixels in one step of the undo history."""
        rows, columns, values = edit.changes(plane)
        if not len(rows):
            return
        if int(values.max()) > np.iinfo(self._layer.data.dtype).max:
            self._widen()
        leading = [np.full(len(rows), i) for i in index]
        dtype = self._layer.data.dtype
        self._layer.data_setitem((*leading, rows, columns), values.astype(dtype))
        _focus_canvas(self._viewer)

    def _widen(self) -> None:
        """Replace the layer by a 32-bit copy: napari would let ids start from 0 again."""
        old, tool = self._layer, self._tool
        largest = np.iinfo(old.data.dtype).max
        arguments = {name: getattr(old, name) for name in (*facts.PLACE, *_LOOKS)}
        place, name = self._viewer.layers.index(old), old.name
        data = old.data.astype(np.uint32)
        new = self._viewer.add_labels(data, metadata=old.metadata, **arguments)
        new.contour = old.contour
        self._viewer.layers.remove(old)  # last: whatever fails before, it is still there
        new.name = name
        self._viewer.layers.move(len(self._viewer.layers) - 1, place)
        self._viewer.layers.selection.active = new
        self._follow()
        self.choose(tool)
        show_info(
            f"'{name}' has ids beyond {largest} now and was replaced by a 32-bit copy. What was "
            "done before cannot be undone any more, and napari redraws it more slowly."
        )


#: What a copy of a labels layer takes over besides its place.
_LOOKS = ("opacity", "blending", "visible")


def _is_labels(layer: Any) -> bool:
    return bool(facts.labels_layers([layer]))


def _focus_canvas(viewer: Viewer) -> None:
    """Give the canvas the keyboard, so that Ctrl+Z works at once."""
    with_window = getattr(viewer, "window", None)
    canvas = getattr(getattr(with_window, "_qt_viewer", None), "canvas", None)
    if canvas is not None:
        canvas.native.setFocus()


def _close(viewer: Viewer, events: tuple[Any, ...], drag: Any, follow: Any, *_: object) -> None:
    for event in events:
        event.disconnect(follow)
    viewer.bind_key("Escape", None)
    if drag in viewer.mouse_drag_callbacks:
        viewer.mouse_drag_callbacks.remove(drag)
