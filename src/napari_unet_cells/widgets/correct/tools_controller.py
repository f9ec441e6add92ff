"""Controller of the tools for whole cells: which layer, which tool, what the mouse does.

It knows the viewer's model and no Qt. The form shows what it says::

    ToolsForm  --- choose --->  ToolsController  --- edits, keys, mouse --->  viewer, layer
       ^                               |
       +--- show_tools, say, line -----+
                                       |
                                    Adding       searches for missed cells
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import Edit
from napari_unet_cells.core.track_edits import name_by_tracks
from napari_unet_cells.core.tracks import parents_of
from napari_unet_cells.engine.engine import Engine, shared_engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CELLS, OURS
from napari_unet_cells.layers.selection import cells_of, painting_problem
from napari_unet_cells.widgets.bound_keys import Bound, bind, unbind
from napari_unet_cells.widgets.correct.adding import Adding, AddingView, Segmenting, box_around
from napari_unet_cells.widgets.correct.highlight import Highlight, HighlightView
from napari_unet_cells.widgets.correct.labels_plane import FreeId, LabelsPlane, copy_of
from napari_unet_cells.widgets.correct.tools import TOOLS, Path, Stroke
from napari_unet_cells.widgets.segment.live import follow
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wiring, emitters

if TYPE_CHECKING:
    from napari.components import ViewerModel

#: Frames before and after one, in which tracks are looked for that are missing there.
BESIDE = 2

#: Pixels of the canvas; a mouse that moves less was clicked, and drew nothing.
SLIP = 4.0


class ToolsView(AddingView, HighlightView, Protocol):
    """Form that shows the tools."""

    def show_tools(self, tool: str, problem: str) -> None:
        """Mark the tool that is chosen; `problem` says why none can be, empty where one can."""

    def lengthen_line(self, trail: list[Any]) -> None:
        """Draw the line of the mouse on, through these places (x, y) of the canvas."""

    def show_box(self, begin: Any, end: Any) -> None:
        """Draw a box between two corners (x, y) of the canvas."""

    def end_line(self) -> None:
        """Remove the line, or the box."""

    def focus_canvas(self) -> None:
        """Give the keyboard to the image."""


class _Drag:
    """Path of the mouse from a press on: in the plane, and on the canvas."""

    def __init__(self, plane: LabelsPlane, event: Any) -> None:
        self.plane = plane
        self._begin = np.array(event.pos, float)
        self._from = np.array(event.position, float)
        self._points: list[tuple[float, float]] = []
        #: Places on the canvas that were not drawn yet.
        self.trail: list[Any] = []
        self.moved = 0.0
        self.add(event)

    def add(self, event: Any) -> None:
        self._points.append(self.plane.point(event.position))
        self._to = np.array(event.position, float)
        self.trail.append(event.pos)
        self.corners = self._begin, event.pos
        self.moved = max(self.moved, float(np.linalg.norm(np.array(event.pos) - self._begin)))

    @property
    def path(self) -> Path:
        return np.array(self._points)

    def box(self, displayed: tuple[int, ...]) -> Path:
        """Give the corners, in pixels of the plane, of the box that the view shows."""
        corners = []
        for ends in product((self._from, self._to), repeat=2):
            world = self._to.copy()
            for axis, end in zip(displayed, ends, strict=True):
                world[axis] = end[axis]
            corners.append(self.plane.point(world))
        return np.array(corners)


class ToolsController:
    """Turns what the mouse does in the active cells layer into edits.

    Every stroke is one step of napari's own undo and redo. In a stack it changes the plane that
    is shown: cells of the same id in other planes, which linking gave them, keep it. Holes,
    waists and outlines are those of the plane, too.

    Where an id is needed that the layer's data type cannot hold, a copy of 32 bits takes the
    layer's place; then the undo history ends there.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : ToolsView
    wiring : Wiring
        Of the view: with it the layer gets its mouse and keys back.
    engine : Engine, optional
        Searches for missed cells; by default the one of the dock.
    segmenting : Segmenting, optional
        The section that knows image, model and size of the cells.

    Attributes
    ----------
    adding : Adding
        The tool Add.
    highlight : Highlight
        The outlines over the canvas.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        view: ToolsView,
        wiring: Wiring,
        engine: Engine | None = None,
        segmenting: Segmenting | None = None,
    ) -> None:
        self._viewer, self._view = viewer, view
        self.highlight = Highlight(viewer, view, wiring)
        self.adding = Adding(
            viewer, view, self._write, self.highlight, engine or shared_engine(), segmenting
        )
        self._tool = ""
        self._layer: Any = None
        #: Labels that were the active layer last, as long as they are there.
        self._last: Any = None
        self._free: FreeId | None = None
        self._drawing: _Drag | None = None
        #: Plane, point and id of the cell that the next one to be clicked is merged into.
        self._first: tuple[LabelsPlane, Path, int] | None = None
        self._followed, self._held = wiring.part(), wiring.part()
        # napari makes other layers active for a moment when layers come and go.
        self._soon = view.timer(0, self.look)
        active, dims = viewer.layers.selection.events.active, viewer.dims.events
        come, gone = viewer.layers.events.inserted, viewer.layers.events.removed
        wiring.connect(self._look_soon, active, gone, dims.ndisplay, dims.order)
        wiring.connect(self._look_again, come)
        self.look()

    # ------------------------------------------------------------------ which layer, which tool

    @property
    def tool(self) -> str:
        """Name of the chosen tool; empty for none."""
        return self._tool

    def choose(self, tool: str) -> None:
        """Choose a tool; the one that is chosen already is put away.

        Parameters
        ----------
        tool : str
            A key of `TOOLS`; empty to put the chosen one away.
        """
        self.look()
        wanted = "" if tool == self._tool else tool
        target, problem = self._target(), self._problem()
        if wanted and not problem and target is not self._layer:
            self._viewer.layers.selection.active = target
            self.look()
        self._put_away()
        self._view.say((problem or f"{TOOLS[wanted].how}.") if wanted else "")
        if wanted and not problem:
            self._layer.mode = "pan_zoom"
            self._tool = wanted
            self._hold()
        self._view.show_tools(self._tool, problem)

    def _look_soon(self, event: Any = None) -> None:
        """Look at once where that puts no tool away, else when napari has settled."""
        if self._tool:
            self._soon.start()
        else:
            self.look()

    def _look_again(self, event: Any = None) -> None:
        """Follow cells that came, where an image is active; a layer that comes is active itself."""
        if not isinstance(self._layer, Labels):
            self._follow(self._layer)
            self._look_soon()

    def look(self) -> None:
        """Turn to the active layer; the tool stays chosen as long as it can be used there."""
        self._soon.stop()
        active = self._viewer.layers.selection.active
        if active is not self._layer:
            self._follow(active)
        if self._last not in self._viewer.layers:
            self._last = None
        problem = self._problem()
        elsewhere = self._target() is not self._layer
        if self._tool and (problem or elsewhere or self._layer.mode != "pan_zoom"):
            self._put_away()
        self._view.show_tools(self._tool, problem)

    def _follow(self, layer: Layer | None) -> None:
        self._end_stroke()
        self.adding.stop()
        self.highlight.clear()
        self._held.release()
        self._followed.release()
        self._layer, self._free, self._first = layer, None, None
        if not isinstance(layer, Labels):
            for cells in self._found_in(layer):
                self._followed.connect(self._look_soon, cells.events.editable, cells.events.visible)
            return
        self._last = layer
        self._free = FreeId(layer)
        events = layer.events
        self._followed.connect(self._mode_changed, events.mode)
        self._followed.connect(self._look_soon, events.editable, events.visible, events.data)
        self._followed.connect(self._free.forget, events.data)
        self._followed.connect(self._free.note, events.paint)
        self._followed.connect(self.adding.stop, events.data)
        self._followed.connect(self.adding.painted, events.paint)
        named = {tool.key: self._taker(name) for name, tool in TOOLS.items() if tool.key}
        self._followed.at_end(unbind, bind(layer, named))
        if self._tool and not self._problem() and layer.mode == "pan_zoom":
            self._hold()

    def _taker(self, tool: str) -> Callable[[Labels], None]:
        """Give what a key does: take a tool, or put it away; napari asks for its name."""

        def take(layer: Labels) -> None:
            self.choose(tool)

        return take

    def _target(self) -> Layer | None:
        """Layer that a tool turns to: the active one, or cells that were found in an image.

        Those that were corrected last, where they are of this image; else the topmost that can be.
        """
        made = self._found_in(self._layer)
        if self._last in made:
            return self._last
        usable = [cells for cells in made if not tools_problem(cells, self._viewer.dims)]
        return next(reversed(usable or made), self._layer)

    def _found_in(self, layer: Layer | None) -> list[Any]:
        return [] if layer is None else list(cells_of(layer, self._viewer.layers))

    def _problem(self) -> str:
        return tools_problem(self._target(), self._viewer.dims)

    def _mode_changed(self, event: Any = None) -> None:
        """Put the tool away where the user takes one of napari's own."""
        if self._tool and self._layer.mode != "pan_zoom":
            self._put_away()
            self._view.show_tools(self._tool, self._problem())

    # -------------------------------------------------------------------------- the chosen tool

    def _hold(self) -> None:
        """Take the mouse, Escape and the space bar of the layer."""
        layer, tool = self._layer, TOOLS[self._tool]
        assert self._free is not None
        if layer.ndim > 2:
            self._free.known()  # searched for now, and not in the first stroke
        self._held.append(layer.mouse_drag_callbacks, self._drag)
        if tool.highlights or tool.boxes:
            self._held.append(layer.mouse_move_callbacks, self._move)
            self._held.connect(self._pixels_changed, *emitters(layer, PIXEL_EVENTS))
        keys = bind(layer, {"Escape": self._escape, "Space": self._space, "Enter": self._enter})
        # Two quick clicks would enlarge the image.
        clicks = self._viewer.mouse_double_click_callbacks
        zooming = [c for c in clicks if getattr(c, "__name__", "") == "double_click_to_zoom"]
        for callback in zooming:
            clicks.remove(callback)
        layer.mouse_pan = not tool.draws
        layer.cursor = "cross"
        self._held.at_end(clicks.extend, zooming)
        self._held.at_end(_give_back, self._viewer, layer, keys)
        _show_help(self._viewer, layer, f"{tool.how}; hold <space> to move the image")

    def _put_away(self) -> None:
        if self._tool:
            self._view.say("")  # what it said is of no use any more
        self._tool, self._first = "", None
        self._end_stroke()
        self.adding.stop()
        self.highlight.clear()
        self._held.release()

    def _escape(self, layer: Labels | None = None) -> None:
        """Give up the stroke or the search, else the first of a pair to merge, else the tool."""
        if self._drawing is not None:
            self._end_stroke()
        elif self.adding.searching:
            self.adding.stop()
            self._view.say("")
        elif self._first is not None:
            self._first = None
            self.highlight.clear()
            self._view.say("")
        else:
            self.choose("")

    def _enter(self, layer: Labels) -> None:
        """Take the tool that is offered in place of what was not found."""
        if self.adding.offered:
            self.choose(self.adding.offered)

    def _space(self, layer: Labels) -> Generator[None, None, None]:
        """Move the image as long as the key is held down."""
        layer.mouse_pan = True
        yield
        if self._tool:
            layer.mouse_pan = not TOOLS[self._tool].draws

    # ----------------------------------------------------------------------------- the mouse

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        """Collect a stroke; napari calls this at every press of the mouse in the layer."""
        tool = TOOLS[self._tool]
        draws, removes = tool.draws, tool.boxes and tuple(event.modifiers) == ("Shift",)
        if event.button != 1 or (event.modifiers and not removes) or (draws and layer.mouse_pan):
            return  # napari's own: zooming with Alt, or the image is moved with the space bar
        plane = LabelsPlane.under(self._viewer, layer, event.position)
        if plane is None:
            self._view.say(
                f"'{layer.name}' has no pixels in this plane. Move the slider to one of its own."
            )
            return
        drag = self._drawing = _Drag(plane, event)
        while True:
            yield
            if self._drawing is not drag:  # given up, with Escape or another tool
                return
            drag.add(event)
            if event.type == "mouse_release":
                break
            if draws and drag.moved >= SLIP:
                self._show_stroke(drag, tool.boxes)
        self._end_stroke()
        if removes:
            self._remove(plane, drag)
        elif drag.moved < SLIP:
            self._clicked(plane, drag.path[:1], event.position)
        elif tool.boxes:
            self._boxed(plane, drag, event.position)
        elif draws:
            self._first = None
            self._stroke(plane, drag.path, tool.line)

    def _move(self, layer: Labels, event: Any) -> None:
        """Outline the cell under the mouse; napari calls this at every move in the layer."""
        plane = None
        if self._drawing is None and not event.modifiers:
            plane = LabelsPlane.under(self._viewer, layer, event.position)
        if TOOLS[self._tool].boxes:
            self.adding.previewing.move_to(plane, event.position, event.pos)
            removes = self._drawing is None and tuple(event.modifiers) == ("Shift",)
            plane = LabelsPlane.under(self._viewer, layer, event.position) if removes else None
        self.highlight.move_to(plane, event.position)

    def _pixels_changed(self, event: Any = None) -> None:
        """Outline nothing that may not be there any more, as after undo and in another plane."""
        self.adding.look()
        self.adding.previewing.hide()
        self.highlight.clear()

    def leave(self) -> None:
        """Outline nothing under a mouse that has left the image."""
        self.highlight.leave()
        self.adding.previewing.hide()

    def _show_stroke(self, drag: _Drag, box: bool) -> None:
        if box:
            self._view.show_box(*drag.corners)
        else:
            self._view.lengthen_line(drag.trail)
        drag.trail.clear()

    def _remove(self, plane: LabelsPlane, drag: _Drag) -> None:
        """Delete the cell that was clicked with Shift, or those under a line."""
        self.adding.stop()
        path = drag.path[0] if drag.moved < SLIP else drag.path
        self._stroke(plane, path, lambda p, at, new_id: edits.delete(p, at))

    def _boxed(self, plane: LabelsPlane, drag: _Drag, world: Any) -> None:
        """Search for the cells in a box."""
        box = box_around(drag.box(self._viewer.dims.displayed), plane.labels.shape)
        if box is None:
            self._view.say(f"The box lies beside '{plane.layer.name}'. Draw it around a cell.")
        else:
            self.adding.find(plane, box, world)

    def _end_stroke(self) -> None:
        self._drawing = None
        self._view.end_line()

    def _clicked(self, plane: LabelsPlane, path: Path, world: Any) -> None:
        tool = TOOLS[self._tool]
        if self._tool == "merge":
            self._merge(plane, path)
        elif tool.boxes:
            self._search_at(plane, path[0], world)
        elif tool.click is None:
            self._view.say(
                "A click draws nothing: hold the mouse button down and draw around the cell."
            )
        else:
            self._stroke(plane, path, tool.click)

    def _search_at(self, plane: LabelsPlane, point: Path, world: Any) -> None:
        """Search for the cell at a point."""
        y, x = (float(value) for value in point)
        if box_around([(y, x)], plane.labels.shape) is None:
            self._view.say(f"The click lies beside '{plane.layer.name}'. Click in the image.")
        else:
            self.adding.find(plane, (y, x), world)

    def _merge(self, plane: LabelsPlane, path: Path) -> None:
        """Merge the cell that is clicked into the first of a pair, if there is one still."""
        clicked = edits.id_at(plane.labels, path[0])
        first = self._first
        if first is not None and (
            plane.index != first[0].index
            or edits.id_at(plane.labels, first[1][0]) != first[2]  # undone, or painted over
        ):
            first = self._first = None
        if not clicked:
            self._first = None
            self.highlight.clear()
            self._view.say("Click the first of two cells that belong together.")
        elif first is None or clicked == first[2]:
            self._first = plane, path, clicked
            self.highlight.keep(plane, path[0])
            self._view.say("Now click the cell that belongs to it; press Escape to start over.")
        else:
            self._first = None  # a pair is complete: the next click begins another
            both = np.concatenate([first[1], path])
            self._stroke(plane, both, lambda p, at, new_id: edits.merge(p, at, joined=False))

    # ---------------------------------------------------------------------------- the labels

    def _stroke(self, plane: LabelsPlane, path: Path, stroke: Stroke | None) -> None:
        """Change the cells, or say why they stay as they are."""
        assert stroke is not None
        self._write(plane, lambda labels, new_id: stroke(labels, path, new_id))
        self._view.focus_canvas()

    def _write(
        self, plane: LabelsPlane, make: Callable[[NDArray[Any], Callable[[], int]], Edit]
    ) -> LabelsPlane | None:
        """Paint an edit, or say why not; give the plane of the layer that holds it now."""
        free = self._free_ids(plane)
        labels, said = plane.labels, ""
        try:
            edit = _named(plane, make(labels, partial(free.above, labels)))
            if edit.highest > np.iinfo(labels.dtype).max:
                plane, said = self._widened(plane, edit.highest)
        except UserError as error:
            self._view.say(str(error))
            return None
        plane.paint(edit)
        self._view.say(said)
        return plane

    def _free_ids(self, plane: LabelsPlane) -> FreeId:
        """Ids of the layer; what was searched for may be written when another one is active."""
        if self._free is not None and plane.layer is self._layer:
            return self._free
        return FreeId(plane.layer)

    def _widened(self, plane: LabelsPlane, highest: int) -> tuple[LabelsPlane, str]:
        """Replace a layer by a copy that holds higher ids, and say so."""
        old = plane.layer
        new = copy_of(old, _wider(old, highest))
        layers, name = self._viewer.layers, old.name
        # The old one goes last: without any layer, napari would move the camera.
        layers.insert(layers.index(old) + 1, new)
        layers.selection.active = new
        layers.remove(old)
        new.name = name
        self.look()
        said = (
            f"'{name}' was full at {np.iinfo(old.data.dtype).max:,} ids. A copy with room for more "
            "has taken its place: earlier edits cannot be undone any more, and napari "
            "draws the copy more slowly."
        )
        return LabelsPlane(new, plane.index, plane.rows, plane.columns), said


def _named(plane: LabelsPlane, edit: Edit) -> Edit:
    """Give the new cells of an edit in a movie that was tracked the ids of their tracks."""
    layer = plane.layer
    if "tracks" not in layer.metadata.get(OURS, {}).get("provenance", {}):
        return edit
    follow(layer)  # an undo may have taken the tracks back
    found = layer.metadata[OURS]["provenance"].get("tracks")
    if found is None:
        return edit
    before, after = plane.beside(BESIDE)
    return name_by_tracks(edit, plane.labels, before, after, parents_of(found))


def tools_problem(layer: Layer | None, dims: Any) -> str:
    """Say why the tools cannot be used; empty where they can.

    Parameters
    ----------
    layer : napari layer or None
        The active one.
    dims : napari.components.Dims
        Of the viewer.
    """
    if layer is None:
        return "Choose the cells in the layer list first."
    if not isinstance(layer, Labels):
        return f"'{layer.name}' holds no labels. Choose the cells in the layer list."
    if layer.metadata.get(OURS, {}).get("role", CELLS) != CELLS:
        return f"'{layer.name}' holds classes, not cells: paint with napari's brush there."
    problem = painting_problem(layer)
    if problem:
        return problem
    if not layer.visible:
        return f"'{layer.name}' is hidden. Show it with its eye in the layer list."
    if dims.ndisplay != 2:
        return "The tools work in planes. Switch from 3D back to 2D below the layer list."
    if min(dims.displayed) < dims.ndim - layer.ndim:
        return "The planes of the cells are not in view. Roll the axes back below the layers."
    return ""


def _wider(layer: Labels, highest: int) -> NDArray[Any]:
    """Copy the labels of a layer into a data type that holds a higher id."""
    dtype = np.uint32 if layer.data.min() >= 0 else np.int64
    if highest > np.iinfo(dtype).max:
        raise UserError(
            f"There is no free id in '{layer.name}' above its highest. Give that cell a lower "
            "one with napari's fill bucket."
        )
    wider: NDArray[Any] = layer.data.astype(dtype)
    return wider


def _show_help(viewer: ViewerModel, layer: Labels, sentence: str) -> None:
    """Show what a layer's tool does; napari itself takes it over when the mouse moves next."""
    layer.help = sentence
    if viewer.layers.selection.active == layer:
        viewer.help = sentence


def _give_back(viewer: ViewerModel, layer: Labels, keys: Sequence[Bound]) -> None:
    """Give a layer its keys and its cursor back."""
    unbind(keys)
    _show_help(viewer, layer, "")
    if layer.mode == "pan_zoom":  # the other modes have set these themselves
        layer.mouse_pan, layer.cursor = True, "standard"
