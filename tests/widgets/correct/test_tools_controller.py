"""The controller of the tools without a window: layers, the mouse as napari reports it, keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from napari.components import ViewerModel
from scipy import ndimage

from napari_unet_cells.layers.metadata import CELLS, CLASSES, image_id, result_metadata
from napari_unet_cells.widgets.correct.highlight import LARGEST
from napari_unet_cells.widgets.correct.labels_plane import FreeId, LabelsPlane
from napari_unet_cells.widgets.correct.tools import TOOLS
from napari_unet_cells.widgets.correct.tools_controller import ToolsController, tools_problem
from napari_unet_cells.widgets.wiring import Wiring

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui


def squares(dtype=np.uint16):
    """Cells 1 and 2 touch, 3 lies apart."""
    labels = np.zeros((40, 60), dtype)
    labels[5:20, 5:20] = 1
    labels[5:20, 20:35] = 2
    labels[25:35, 40:50] = 3
    return labels


class View:
    """Form that keeps what it is told."""

    def __init__(self, timers):
        self.timer = timers.timer
        self.cells, self.dashed = [], False
        self.tool, self.problem, self.said = "", "", [""]
        self.line: list[tuple[float, float]] = []
        self.focused = 0

    def show_tools(self, tool, problem):
        self.tool, self.problem = tool, problem

    def say(self, sentence):
        self.said.append(sentence)

    def lengthen_line(self, trail):
        self.line += trail

    def show_preview(self, on):
        self.preview = on

    def draw_cells(self, rings, dashed):
        self.cells, self.dashed = [ring.tolist() for ring in rings], dashed

    def end_line(self):
        self.line = []

    def focus_canvas(self):
        self.focused += 1


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def view(timers):
    return View(timers)


@pytest.fixture
def wiring():
    return Wiring()


@pytest.fixture
def tools(viewer, view, wiring):
    return ToolsController(viewer, view, wiring)


def press(layer, *points, **changed):
    """Drag the mouse through points of the layer, ten pixels of the canvas for each of it."""
    (drag,) = layer.mouse_drag_callbacks[-1:]

    def event(point, kind):
        values = {"button": 1, "modifiers": (), "type": kind, "pos": tuple(10.0 * p for p in point)}
        return SimpleNamespace(position=layer.data_to_world(point), **values | changed)

    event_now = event(points[0], "mouse_press")
    steps = drag(layer, event_now)
    next(steps, None)
    kinds = [*["mouse_move"] * (len(points) - 1), "mouse_release"]
    for point, kind in zip([*points[1:], points[-1]], kinds, strict=True):
        event_now.__dict__.update(event(point, kind).__dict__)
        yield
        next(steps, None)


def drag(layer, *points, **changed):
    for _ in press(layer, *points, **changed):
        pass


def ids(layer):
    return sorted(np.unique(layer.data).tolist())


def test_a_tool_needs_cells_that_can_be_changed(viewer, tools, view):
    assert view.problem == "Choose the cells in the layer list first."
    tools.choose("split")
    assert (tools.tool, view.said[-1]) == ("", view.problem)
    cells = viewer.add_labels(squares(), name="cells")
    assert view.problem == ""
    tools.choose("split")
    assert tools.tool == view.tool == "split"
    assert (cells.mouse_pan, cells.cursor) == (False, "cross")
    assert cells.help.startswith(TOOLS["split"].how)
    tools.choose("split")
    assert tools.tool == view.tool == ""
    assert (cells.mouse_pan, cells.cursor, cells.help) == (True, "standard", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda viewer, layer: setattr(layer, "visible", False), "is hidden"),
        (lambda viewer, layer: setattr(layer, "editable", False), "cannot be edited"),
        (lambda viewer, layer: setattr(viewer.dims, "ndisplay", 3), "back to 2D"),
        (
            lambda viewer, layer: layer.metadata.update(result_metadata(CLASSES, "", {})),
            "holds classes, not cells",
        ),
        (lambda viewer, layer: layer.data.setflags(write=False), "open for reading only"),
    ],
)
def test_what_prevents_the_tools_is_said_with_the_way_out(viewer, change, said):
    layer = viewer.add_labels(squares(), name="cells")
    assert tools_problem(layer, viewer.dims) == ""
    change(viewer, layer)
    assert said in tools_problem(layer, viewer.dims)


@pytest.fixture
def found(viewer):
    """Give two images, and a function that adds cells that were found in one of them."""
    images = [viewer.add_image(np.zeros((40, 60)), name=name) for name in ("a", "b")]

    def add(image, role=CELLS, **more):
        made = result_metadata(role, image_id(image), {})
        return viewer.add_labels(squares(), metadata=made, **more)

    return *images, add


def test_from_an_image_a_tool_turns_to_the_cells_that_were_found_in_it(viewer, found, tools, view):
    first, second, add = found
    below, cells = add(first), add(first)
    add(first, CLASSES)
    viewer.layers.selection.active = second
    assert view.problem == "'b' holds no labels. Choose the cells in the layer list."
    tools.choose("delete")
    assert (viewer.layers.selection.active, tools.tool) == (second, "")

    tools._last = None
    viewer.layers.selection.active = first
    assert (view.problem, view.tool) == ("", "")
    tools.choose("delete")
    assert viewer.layers.selection.active is cells
    assert tools.tool == view.tool == "delete"
    drag(cells, (30, 45))
    assert (ids(cells), ids(below)) == ([0, 1, 2], [0, 1, 2, 3])

    viewer.layers.selection.active = first
    tools.look()  # as the timer does, once napari has settled
    assert (tools.tool, view.tool, view.problem) == ("", "", "")
    assert cells.mouse_drag_callbacks == below.mouse_drag_callbacks  # the mouse is given back
    viewer.layers.remove(cells)
    viewer.layers.remove(below)
    viewer.layers.selection.active = first
    assert view.problem == "'a' holds no labels. Choose the cells in the layer list."
    assert tools._last not in (cells, below)  # nor held in memory


def test_from_an_image_a_tool_turns_back_to_the_cells_that_were_corrected(viewer, found, tools):
    image, _, add = found
    below, _ = add(image), add(image)
    viewer.layers.selection.active = below
    tools.choose("delete")
    viewer.layers.selection.active = image
    tools.choose("delete")
    assert viewer.layers.selection.active is below


def test_from_an_image_the_tools_follow_what_becomes_of_its_cells(viewer, found, tools, view):
    image, _, add = found
    viewer.layers.selection.active = image
    assert view.problem
    cells = add(image, visible=False, name="cells")
    viewer.layers.selection.active = image
    assert view.problem == "'cells' is hidden. Show it with its eye in the layer list."
    tools.choose("split")
    assert (viewer.layers.selection.active, tools.tool) == (image, "")
    cells.visible = True
    assert view.problem == ""
    cells.editable = False
    assert "cannot be edited" in view.problem
    other = add(image)
    viewer.layers.selection.active = image
    tools.choose("split")
    assert viewer.layers.selection.active is other


def test_a_line_is_shown_and_becomes_one_edit(viewer, tools, view):
    layer = viewer.add_labels(squares(), name="cells")
    tools.choose("merge")
    steps = press(layer, (10, 10), (10, 20), (10, 30))
    next(steps)
    assert view.line == []
    next(steps)
    assert view.line == [(100.0, 100.0), (100.0, 200.0)]
    for _ in steps:
        pass
    assert view.line == []
    assert ids(layer) == [0, 1, 3]
    assert (view.said[-1], view.focused) == ("", 1)
    layer.undo()
    assert ids(layer) == [0, 1, 2, 3]


def test_escape_gives_up_the_stroke_then_the_tool(viewer, tools, view):
    layer = viewer.add_labels(squares(), name="cells")
    tools.choose("merge")
    steps = press(layer, (10, 10), (10, 20), (10, 30))
    next(steps)
    next(steps)
    escape = layer.keymap[next(key for key in layer.keymap if "Esc" in str(key))]
    escape(layer)
    assert view.line == []
    for _ in steps:
        pass
    assert ids(layer) == [0, 1, 2, 3]
    assert tools.tool == "merge"
    escape(layer)
    assert tools.tool == view.tool == ""


def test_two_clicks_merge_a_pair_and_the_next_begins_another(viewer, tools, view):
    labels = squares()
    labels[25:35, 5:15] = 4
    layer = viewer.add_labels(labels, name="cells")
    tools.choose("merge")
    drag(layer, (30, 45))
    assert view.said[-1].startswith("Now click")
    drag(layer, (10, 10))
    assert ids(layer) == [0, 2, 3, 4]
    drag(layer, (10, 25))
    assert view.said[-1].startswith("Now click")
    drag(layer, (30, 10))
    assert ids(layer) == [0, 2, 3]
    assert (layer.data[5:20, 5:20] == 3).all()
    drag(layer, (0, 0))
    assert view.said[-1].startswith("Click the first")


def test_a_line_deletes_all_cells_that_it_crosses_in_one_step(viewer, tools, view):
    layer = viewer.add_labels(squares(), name="cells")
    tools.choose("delete")
    drag(layer, (10, 10), (10, 30))
    assert ids(layer) == [0, 3]
    layer.undo()
    assert ids(layer) == [0, 1, 2, 3]


def test_what_a_tool_does_is_shown_before_the_mouse_moves(viewer, tools):
    viewer.add_labels(squares(), name="cells")
    for name in ("split", "delete"):
        tools.choose(name)
        assert viewer.help.startswith(TOOLS[name].how)
    tools.choose("")
    assert viewer.help == ""


def move(layer, point, **changed):
    """Move the mouse to a point of the layer."""
    values = {"modifiers": (), "type": "mouse_move", "position": layer.data_to_world(point)}
    for callback in list(layer.mouse_move_callbacks):
        callback(layer, SimpleNamespace(**values | changed))


def test_the_cell_under_the_mouse_is_outlined_where_a_click_changes_it(viewer, tools, view):
    layer = viewer.add_labels(squares(), name="cells")
    tools.choose("draw")
    move(layer, (10, 10))
    assert view.cells == []
    tools.choose("delete")
    move(layer, (10, 10))
    (ring,) = view.cells
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    height, width = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    corners = (
        [(x - camera.center[-1]) * camera.zoom + width / 2 for x in (4.5, 4.5, 19.5, 19.5)],
        [(y - camera.center[-2]) * camera.zoom + height / 2 for y in (4.5, 19.5, 4.5, 19.5)],
    )
    np.testing.assert_allclose(sorted(ring), np.transpose(corners))
    drawn = view.cells
    view.cells = ["as before"]
    move(layer, (12, 13))
    assert view.cells == ["as before"]  # the same cell is not drawn again
    move(layer, (10, 25))
    assert view.cells != drawn
    move(layer, (0, 0))
    assert view.cells == []
    move(layer, (10, 10))
    camera.zoom *= 2
    assert np.ptp(view.cells[0], axis=0)[0] == pytest.approx(2 * np.ptp(drawn[0], axis=0)[0])
    drag(layer, (10, 10))
    assert ids(layer) == [0, 2, 3]
    assert view.cells == []
    move(layer, (10, 25))
    tools.choose("")
    assert view.cells == []
    assert layer.mouse_move_callbacks == []


def test_a_cell_too_large_to_be_traced_at_once_is_not_outlined(viewer, tools, view, monkeypatch):
    labels = np.zeros((900, 1900), np.uint16)
    labels[100:450, 100:450] = 1
    labels[500:880, 20:880] = 2
    labels[5:10, :900] = labels[:480, 895:900] = 3  # long, but thin
    for i in range(900):
        labels[i, 950 + i : 953 + i] = 4  # short along every row and column
    layer = viewer.add_labels(labels, name="cells")
    tools.choose("delete")
    looked: list[int] = []
    label = ndimage.label
    monkeypatch.setattr(
        ndimage, "label", lambda part, *how: looked.append(part.size) or label(part, *how)
    )
    for point in ((600, 100), (450, 896), (450, 1401), (700, 800), (451, 897), (451, 1402)):
        move(layer, point)
        assert view.cells == []
    assert len(looked) <= 3 * 4  # each cell once, in windows that grow no further than needed
    assert max(looked) <= (2 * LARGEST) ** 2 < labels[:, 950:1852].size
    move(layer, (200, 200))
    assert len(view.cells) == 1
    drag(layer, (600, 100))
    assert ids(layer) == [0, 1, 3, 4]


def test_the_first_of_a_pair_stays_outlined(viewer, tools, view):
    layer = viewer.add_labels(squares(), name="cells")
    tools.choose("merge")
    drag(layer, (10, 10))
    (first,) = view.cells
    move(layer, (30, 45))
    assert len(view.cells) == 2
    assert view.cells[0] == first
    tools.highlight.leave()
    assert view.cells == [first]
    drag(layer, (10, 25))
    assert view.cells == []
    drag(layer, (30, 45))
    assert len(view.cells) == 1
    next(call for key, call in layer.keymap.items() if "Esc" in str(key))(layer)
    assert view.cells == []


def test_nothing_is_outlined_in_other_planes_nor_while_a_line_is_drawn(viewer, tools, view):
    layer = viewer.add_labels(np.stack([squares(), np.zeros((40, 60), np.uint16)]), name="cells")
    tools.choose("delete")
    move(layer, (0, 10, 10))
    assert len(view.cells) == 1
    viewer.dims.set_point(0, 1)
    assert view.cells == []
    move(layer, (1, 10, 10))
    assert view.cells == []
    viewer.dims.set_point(0, 0)
    steps = press(layer, (0, 0, 0), (0, 10, 10), (0, 10, 30))
    next(steps)
    move(layer, (0, 10, 10))
    assert view.cells == []
    for _ in steps:
        pass
    assert ids(layer) == [0, 3]


def test_other_buttons_and_other_planes_are_not_ours(viewer, tools, view):
    viewer.add_image(np.zeros((3, 40, 60)))
    layer = viewer.add_labels(squares()[np.newaxis], name="cells", translate=(1, 0, 0))
    tools.choose("delete")
    drag(layer, (0, 10, 10), button=2)
    drag(layer, (0, 10, 10), modifiers=("Alt",))
    assert view.said[-1] == f"{TOOLS['delete'].how}."
    drag(layer, (1, 10, 10))
    assert "has no pixels in this plane" in view.said[-1]
    assert ids(layer) == [0, 1, 2, 3]
    drag(layer, (0, 10, 10))
    assert ids(layer) == [0, 2, 3]


def test_the_tool_waits_until_napari_has_settled(viewer, tools, view, timers):
    cells = viewer.add_labels(squares(), name="cells")
    tools.choose("fill")
    viewer.layers.selection.active = None
    assert tools.tool == "fill"
    viewer.layers.selection.active = cells
    timers.settle()
    assert tools.tool == "fill"
    assert view.said[-1] == f"{TOOLS['fill'].how}."
    viewer.layers.selection.active = None
    timers.settle()
    assert tools.tool == view.tool == ""
    assert view.said[-1] == ""
    assert cells.mouse_pan


def test_at_the_end_the_layer_has_its_mouse_and_keys_back(viewer, tools, wiring):
    layer = viewer.add_labels(squares(), name="cells")
    callbacks = list(layer.mouse_drag_callbacks)
    assert [str(key) for key in layer.keymap] == [tool.key for tool in TOOLS.values()]
    tools.choose("draw")
    assert layer.mouse_drag_callbacks != callbacks
    wiring.release()
    assert layer.mouse_drag_callbacks == callbacks
    assert not layer.keymap
    assert (layer.mouse_pan, layer.cursor) == (True, "standard")


def test_of_two_docks_the_one_that_stays_keeps_the_keys(viewer, tools, wiring, timers):
    layer = viewer.add_labels(squares(), name="cells")
    second, seen = Wiring(), cast(Any, View(timers))
    other = ToolsController(viewer, seen, second)
    wiring.release()
    take = next(t for key, t in layer.keymap.items() if str(key) == TOOLS["add"].key)
    take(layer)
    assert (other.tool, tools.tool) == ("add", "")
    second.release()
    assert not layer.keymap


def test_a_full_data_type_gives_way_to_a_wider_one(viewer, tools, view):
    labels = squares(np.uint8)
    labels[38, 58] = 255
    old = viewer.add_labels(labels, name="cells")
    tools.choose("split")
    drag(old, (2, 12), (25, 12))
    (new,) = viewer.layers
    assert new is not old
    assert new.data.dtype == np.uint32
    assert ids(new) == [0, 1, 2, 3, 255, 256]
    assert "was full at 255 ids" in view.said[-1]


# --- planes and ids ------------------------------------------------------------------------


def test_a_plane_is_found_painted_and_its_ids_are_free(viewer):
    layer = viewer.add_labels(np.stack([squares(), 10 * squares()]), scale=(2, 0.5, 0.5))
    viewer.dims.set_point(0, 2)
    position = layer.data_to_world((1, 10, 30))
    plane = LabelsPlane.under(viewer, layer, position)
    assert plane.index == (1, None, None)
    assert plane.point(position) == (10.0, 30.0)
    np.testing.assert_array_equal(plane.labels, 10 * squares())
    assert LabelsPlane.under(viewer, layer, layer.data_to_world((2, 10, 30))) is None
    free = FreeId(layer)
    layer.events.paint.connect(free.note)
    assert free.above(squares()) == 31
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 40)
    assert free.above(squares()) == 41
    free.forget()
    assert free.known() == 40
