"""Adding cells without a window: a network that sees squares, and a thread that waits."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.regions import Region
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CELLS, image_id, result_metadata
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import add_cells
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.widgets.correct.adding import box_around
from napari_unet_cells.widgets.correct.tools_controller import ToolsController
from napari_unet_cells.widgets.wiring import Wiring

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui

CARD = ModelCard(
    "cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="", diameters=(10.0, 40.0)
)


def bright_is_cell(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 230, np.zeros_like(cell)], axis=-1)


def discs(*middles, shape=(120, 150), radius=10):
    y, x = np.indices(shape)
    image = np.random.default_rng(0).normal(20, 2, shape)
    for row, column in middles:
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = 100
    return image


class View:
    """Form that keeps what it is told, and a thread that runs when the test lets it."""

    def __init__(self, timers):
        self.timer = timers.timer
        self.cells, self.dashed = [], False
        self.said, self.offered, self.box = [""], "", None
        self.preview = True
        self.job: Any = None

    def show_tools(self, tool, problem):
        self.tool, self.problem = tool, problem

    def say(self, sentence):
        self.said.append(sentence)

    def show_box(self, begin, end):
        self.box = begin, end

    def show_preview(self, on):
        self.preview = on

    def draw_cells(self, rings, dashed):
        self.cells, self.dashed = [ring.tolist() for ring in rings], dashed

    def end_line(self):
        self.box = None

    def lengthen_line(self, trail):
        raise AssertionError("nothing draws a line here")

    def offer(self, tool):
        self.offered = tool

    def focus_canvas(self):
        pass

    def search(self, job):
        self.job = job

    def stop_search(self):
        self.job = None


class Tools(ToolsController):
    """The tools with their form at hand."""

    def __init__(self, viewer, view, engine, segmenting):
        super().__init__(viewer, view, Wiring(), engine, segmenting)
        self.view, self.segmenting = view, segmenting

    def answer(self):
        """Let the thread find what it can."""
        job, self.view.job = self.view.job, None
        assert job is not None
        try:
            for found in job(threading.Event()):
                # However long it takes here: see `slow`.
                self.adding.receive(replace(found, seconds=0.0))
        except UserError as error:
            self.adding.failed(str(error))


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def engine():
    opened = []

    def open_card(card, stop):
        opened.append(card)
        return FunctionNetwork(bright_is_cell)

    return SimpleNamespace(open=open_card, opened=opened)


@pytest.fixture
def tools(viewer, timers, engine, monkeypatch):
    monkeypatch.setattr(add_cells, "find_model", lambda name: CARD)
    segmenting = SimpleNamespace(
        values=SimpleNamespace(image=None, model="cells", diameter=0),
        fragments_of=lambda layer: KeptFragments(),
        running=False,
    )
    return Tools(viewer, View(timers), engine, segmenting)


def labels_of(viewer, shape=(120, 150), diameter=20.0, image=None, **place):
    """Add cells as a run of this diameter leaves them; cell 1 lies at the top."""
    labels = np.zeros(shape, np.uint16)
    labels[..., 5:25, 5:25] = 1
    made = {"model": {"name": "cells"}, "parameters": {"scale": {"diameter": diameter}}}
    source = "" if image is None else image_id(image)
    metadata = result_metadata(CELLS, source, made)
    return viewer.add_labels(labels, name="cells", metadata=metadata, **place)


def mouse(layer, *points, **changed):
    """Drag the mouse through points of the layer, ten pixels of the canvas for each of it."""

    def event(point, kind):
        pos = tuple(10.0 * p for p in point[:-3:-1])
        values = {"button": 1, "modifiers": (), "type": kind, "pos": pos}
        return SimpleNamespace(position=layer.data_to_world(point), **values | changed)

    now = event(points[0], "mouse_press")
    steps = layer.mouse_drag_callbacks[-1](layer, now)
    next(steps, None)
    kinds = [*["mouse_move"] * (len(points) - 1), "mouse_release"]
    for point, kind in zip([*points[1:], points[-1]], kinds, strict=True):
        now.__dict__.update(event(point, kind).__dict__)
        next(steps, None)


def key(layer, name):
    next(call for key, call in layer.keymap.items() if str(key) == name)(layer)


def ids(layer):
    return np.unique(layer.data).tolist()


def area(layer, number=2):
    return int((layer.data == number).sum())


TRUE_AREA = np.pi * 10**2


# --- a click -------------------------------------------------------------------------------


def test_a_click_adds_the_cell_and_one_undo_takes_it_back(viewer, tools, engine):
    image = viewer.add_image(discs((60, 70), (60, 110)))
    layer = labels_of(viewer, image=image)
    key(layer, "A")
    assert tools.tool == "add"
    mouse(layer, (60, 70))
    assert ids(layer) == [0, 1]
    assert tools.adding.searching
    tools.answer()
    assert ids(layer) == [0, 1, 2]
    assert layer.data[60, 70] == 2
    assert 0.7 * TRUE_AREA < area(layer) < 1.4 * TRUE_AREA
    assert layer.data[60, 110] == 0
    assert "+ or -" in tools.view.said[-1]
    assert engine.opened == [CARD]
    layer.undo()
    assert ids(layer) == [0, 1]
    assert tools.view.said[-1] == ""  # there is no cell any more that + or - could change


def test_growing_and_shrinking_stay_one_step_of_undo(viewer, tools):
    image = viewer.add_image(discs((60, 70)))
    layer = labels_of(viewer, image=image)
    before = layer.data.copy()
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    areas = [area(layer)]
    for steps in (1, 1, -1, -1, -1):
        assert tools.adding.resize(steps)
        assert "+ or -" in tools.view.said[-1]
        areas.append(area(layer))
    assert areas[0] < areas[1] < areas[2]
    assert areas[3:5] == [areas[1], areas[0]]
    assert areas[5] < areas[0]
    assert ids(layer) == [0, 1, 2]
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    assert not tools.adding.resize(1)
    np.testing.assert_array_equal(layer.data, before)


def test_the_limit_of_growing_is_said(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    tools.adding.resize(100)
    largest = layer.data.copy()
    tools.adding.resize(1)
    assert "as large as it gets" in tools.view.said[-1]
    np.testing.assert_array_equal(layer.data, largest)


def test_after_another_stroke_the_cell_is_left_as_it_is(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    assert tools.adding.resizable
    layer.data_setitem((np.array([100]), np.array([100])), 9)
    assert not tools.adding.resizable
    assert not tools.adding.resize(1)
    assert ids(layer) == [0, 1, 2, 9]


def test_the_wheel_counts_over_the_cell_only(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    assert not tools.adding.is_over((60, 70))
    mouse(layer, (60, 70))
    tools.answer()
    assert tools.adding.is_over((60, 70))
    assert not tools.adding.is_over((10, 140))


def test_other_cells_are_never_painted_over_not_even_those_of_meanwhile(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    (found,) = tools.view.job(threading.Event())
    rows, columns = np.indices((20, 20)).reshape(2, -1) + 60
    layer.data_setitem((rows, columns), 7)
    tools.adding.receive(found)
    assert (layer.data[60:80, 60:80] == 7).all()
    assert area(layer, 8) > 0
    tools.adding.resize(100)
    assert (layer.data[60:80, 60:80] == 7).all()
    layer.undo()
    layer.data_setitem(tuple(np.indices(layer.data.shape).reshape(2, -1)), 7)
    mouse(layer, (60, 70), modifiers=("Shift",))
    assert ids(layer) == [0]


def test_a_second_click_replaces_the_first(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70), (60, 120))))
    tools.choose("add")
    mouse(layer, (60, 70))
    mouse(layer, (60, 120))
    tools.answer()
    assert tools.view.job is None
    assert (layer.data[60, 70], layer.data[60, 120]) == (0, 2)


def test_nothing_there_offers_the_drawing_tool(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (100, 20))
    tools.answer()
    assert ids(layer) == [0, 1]
    assert "No cell was found here" in tools.view.said[-1]
    assert "Enter takes it: Draw" in tools.view.said[-1]
    assert tools.view.offered == "draw"
    key(layer, "Enter")
    assert tools.tool == "draw"
    assert tools.view.offered == ""


def test_shift_removes_the_cell(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (10, 10), modifiers=("Shift",))
    assert ids(layer) == [0]
    assert tools.view.job is None
    layer.undo()
    assert ids(layer) == [0, 1]
    mouse(layer, (60, 70), modifiers=("Shift",))
    assert "no cell under the mouse" in tools.view.said[-1]
    mouse(layer, (60, 70), modifiers=("Alt",))
    assert tools.view.job is None


def test_what_a_run_dropped_comes_back_without_the_network(viewer, tools, engine):
    image = viewer.add_image(discs((60, 70)))
    layer = labels_of(viewer, image=image)
    seen = np.zeros((2, 120, 150), np.uint8)
    seen[0] = np.where(image.data > 50, 120, 0)
    kept = KeptFragments([Fragments.of(seen, InstanceOptions(0.3, 0.0, 1), (120, 150), 1.0)])
    kept.pack()  # as after a step back to an earlier run
    tools.segmenting.fragments_of = lambda asked: kept if asked == layer else KeptFragments()
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    assert ids(layer) == [0, 1, 2]
    np.testing.assert_array_equal(layer.data == 2, image.data > 50)
    assert engine.opened == []
    assert "+ or -" in tools.view.said[-1]
    before = area(layer)
    assert tools.adding.resize(1)
    assert area(layer) > before
    assert engine.opened == []


# --- the preview ---------------------------------------------------------------------------


def hover(layer, point, **changed):
    """Move the mouse to a point of the layer, ten pixels of the canvas for each of it."""
    pos = tuple(10.0 * p for p in point[:-3:-1])
    values = {"modifiers": (), "type": "mouse_move", "pos": pos}
    event = SimpleNamespace(position=layer.data_to_world(point), **values | changed)
    for callback in list(layer.mouse_move_callbacks):
        callback(layer, event)


@pytest.fixture
def layer(viewer, tools):
    """Cells of an image with two missed ones, and the tool Add."""
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70), (60, 110))))
    tools.choose("add")
    return layer


def rest(tools, timers, layer, point):
    hover(layer, point)
    timers.settle()
    tools.answer()


def test_where_the_mouse_rests_the_cell_is_outlined_and_a_click_takes_it(
    viewer, tools, timers, layer
):
    hover(layer, (60, 70))
    assert tools.view.job is None  # it has not rested yet
    timers.settle()
    assert not tools.adding.searching
    tools.answer()
    assert tools.view.dashed
    assert len(tools.view.cells) == 1
    assert ids(layer) == [0, 1]
    assert tools.view.said[-1].startswith("Click a cell that was missed")
    mouse(layer, (60, 70))
    assert tools.view.job is None
    assert tools.view.cells == []
    assert ids(layer) == [0, 1, 2]
    assert 0.7 * TRUE_AREA < area(layer) < 1.4 * TRUE_AREA
    assert "+ or -" in tools.view.said[-1]
    assert tools.adding.resizable
    layer.undo()
    assert ids(layer) == [0, 1]


def test_the_preview_goes_as_the_mouse_moves_on(tools, timers, layer):
    rest(tools, timers, layer, (60, 70))
    shown = tools.view.cells
    hover(layer, (60, 74))  # within the cell
    assert tools.view.cells == shown
    hover(layer, (60, 110))
    assert tools.view.cells == []
    timers.settle()
    assert tools.view.job is not None
    hover(layer, (60, 110.2))  # a hand that trembles
    assert tools.view.job is not None
    hover(layer, (100, 20))
    assert tools.view.job is None  # given up
    hover(layer, (10, 10))  # a cell that is there
    timers.settle()
    assert tools.view.job is None


def test_a_click_before_the_preview_is_there_waits_for_it(tools, timers, layer):
    hover(layer, (60, 70))
    timers.settle()
    job = tools.view.job
    mouse(layer, (60, 71))
    assert tools.view.job is job
    assert tools.adding.searching
    tools.answer()
    assert ids(layer) == [0, 1, 2]


def test_a_click_elsewhere_searches_there(tools, timers, layer):
    hover(layer, (60, 70))
    timers.settle()
    job = tools.view.job
    mouse(layer, (60, 110))  # faster than the mouse was seen to move
    assert tools.view.job is not job
    tools.answer()
    assert (layer.data[60, 70], layer.data[60, 110]) == (0, 2)
    rest(tools, timers, layer, (60, 70))
    mouse(layer, (100, 20))
    tools.answer()
    assert "No cell was found here" in tools.view.said[-1]


def test_the_preview_can_be_resized_before_the_click(tools, timers, layer):
    rest(tools, timers, layer, (60, 70))
    before = np.ptp(tools.view.cells[0], axis=0)
    assert tools.adding.resize(2)
    assert (np.ptp(tools.view.cells[0], axis=0) > before).all()
    assert ids(layer) == [0, 1]
    mouse(layer, (60, 70))
    grown = area(layer)
    layer.undo()
    rest(tools, timers, layer, (60, 70))
    mouse(layer, (60, 70))
    assert area(layer) < grown


def test_nothing_there_previews_nothing_and_says_nothing(tools, timers, layer):
    said = list(tools.view.said)
    rest(tools, timers, layer, (100, 20))
    assert (tools.view.cells, tools.view.said, tools.view.offered) == ([], said, "")


def test_a_preview_of_labels_that_changed_is_not_taken(viewer, tools, timers, layer):
    rest(tools, timers, layer, (60, 70))
    layer.data_setitem((np.array([60, 60, 60]), np.array([69, 70, 71])), 9)
    assert tools.view.cells == []
    rest(tools, timers, layer, (60, 110))
    assert len(tools.view.cells) == 1
    tools.choose("delete")
    assert tools.view.cells == []
    tools.choose("add")
    rest(tools, timers, layer, (60, 110))
    viewer.layers.remove(layer)
    timers.settle()
    assert tools.view.cells == []


def test_undo_ends_a_preview_whose_cell_comes_back_with_redo(tools, timers, layer):
    rest(tools, timers, layer, (60, 70))
    mouse(layer, (60, 70))
    whole = layer.data.copy()
    layer.undo()
    rest(tools, timers, layer, (60, 70))
    assert len(tools.view.cells) == 1
    layer.redo()
    assert tools.view.cells == []
    np.testing.assert_array_equal(layer.data, whole)
    rest_again = (60, 110)
    hover(layer, rest_again)
    timers.settle()
    layer.undo()
    assert tools.view.job is None


def test_with_shift_the_cell_that_a_click_removes_is_outlined(tools, timers, layer):
    hover(layer, (10, 10), modifiers=("Shift",))
    assert len(tools.view.cells) == 1
    assert not tools.view.dashed
    mouse(layer, (10, 10), modifiers=("Shift",))
    assert ids(layer) == [0]
    assert tools.view.cells == []


def test_the_network_is_left_to_a_run_and_keys_held_down_preview_nothing(tools, timers, layer):
    tools.segmenting.running = True
    hover(layer, (60, 70))
    timers.settle()
    assert tools.view.job is None
    tools.segmenting.running = False
    hover(layer, (60, 75), modifiers=("Shift",))
    timers.settle()
    assert tools.view.job is None


def test_without_a_known_size_a_preview_waits_for_the_first_click(viewer, tools, timers):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))), diameter=0.0)
    tools.choose("add")
    hover(layer, (60, 70))
    timers.settle()
    assert tools.view.job is None


def slow(tools, seconds):
    """Answer as a machine does that takes so long."""
    for found in tools.view.job(threading.Event()):
        tools.adding.receive(replace(found, seconds=seconds))
    tools.view.job = None


def test_slow_previews_end_and_say_so_but_not_where_they_are_wanted(tools, timers, layer):
    places = iter([(60, 70), (60, 110)] * 4)

    def once(seconds):
        hover(layer, next(places))
        timers.settle()
        slow(tools, seconds)

    once(0.9)
    once(0.1)
    once(0.9)
    assert tools.adding.previewing.on
    once(0.8)
    assert not tools.adding.previewing.on
    assert not tools.view.preview
    assert tools.view.said[-1].startswith("A preview takes 0.8 s here, so they are off")
    hover(layer, (60, 70))
    timers.settle()
    assert tools.view.job is None
    mouse(layer, (60, 70))
    tools.answer()
    assert ids(layer) == [0, 1, 2]
    layer.undo()
    tools.adding.previewing.switch(True)
    for _ in range(3):
        once(0.9)
    assert tools.adding.previewing.on
    assert tools.view.cells


def test_what_the_user_chose_is_remembered_but_not_that_it_was_slow(tools, timers, layer):
    tools.adding.previewing.end()
    again = Tools(ViewerModel(), View(timers), None, None)
    assert again.adding.previewing.on
    tools.adding.previewing.switch(False)
    again = Tools(ViewerModel(), View(timers), None, None)
    assert not again.adding.previewing.on


def test_a_preview_that_fails_ends_them_with_a_sentence(tools, timers, layer, engine):
    def broken(card, stop):
        raise UserError("The memory is full.")

    engine.open = broken
    rest(tools, timers, layer, (60, 70))
    assert tools.view.said[-1] == "The memory is full."
    assert not tools.adding.previewing.on


# --- a box ---------------------------------------------------------------------------------


def test_a_box_adds_all_in_it_as_one_step(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 50), (60, 80), (100, 130))))
    tools.choose("add")
    mouse(layer, (30, 30), (50, 60), (90, 105))
    assert tools.view.box is None  # it was shown, and is gone
    tools.answer()
    assert ids(layer) == [0, 1, 2, 3]
    assert layer.data[60, 50] != layer.data[60, 80]
    assert layer.data[100, 130] == 0
    assert tools.view.said[-1].startswith("2 cells were added")
    layer.undo()
    assert ids(layer) == [0, 1]


def test_a_box_is_shown_while_it_is_drawn(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 50))))
    tools.choose("add")
    event = SimpleNamespace(
        position=(40, 30), pos=(300.0, 400.0), button=1, modifiers=(), type="mouse_press"
    )
    steps = layer.mouse_drag_callbacks[-1](layer, event)
    next(steps)
    event.position, event.pos, event.type = (80, 100), (1000.0, 800.0), "mouse_move"
    next(steps)
    begin, end = tools.view.box
    assert (tuple(begin), tuple(end)) == ((300, 400), (1000, 800))
    key(layer, "Escape")
    assert tools.view.box is None
    next(steps, None)
    assert tools.view.job is None
    assert tools.tool == "add"


def test_a_box_around_one_cell_can_be_changed(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 50))))
    tools.choose("add")
    mouse(layer, (48, 38), (60, 50), (72, 62))
    tools.answer()
    assert ids(layer) == [0, 1, 2]
    assert tools.adding.resizable


def test_a_box_is_cut_to_the_plane():
    assert box_around([(-3, 2), (4, 99)], (10, 20)) == Region(0, 5, 2, 20)
    assert box_around([(3.4, 2.6)], (10, 20)) == Region(3, 4, 3, 4)
    assert box_around([(-9, 0), (-3, 5)], (10, 20)) is None


def test_beside_the_labels_nothing_is_searched_for(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 50))))
    tools.choose("add")
    mouse(layer, (60, 170))
    assert "lies beside 'cells'" in tools.view.said[-1]
    mouse(layer, (60, 170), (70, 180))
    assert "lies beside 'cells'" in tools.view.said[-1]
    assert tools.view.job is None


# --- images, planes and places -------------------------------------------------------------


def test_without_an_image_the_way_out_is_said(viewer, tools):
    layer = labels_of(viewer)
    tools.choose("add")
    mouse(layer, (60, 70))
    assert tools.view.said[-1].startswith("There is no image under 'cells' here. Open the image")
    assert tools.view.job is None


def test_in_a_stack_the_plane_that_is_shown_is_changed(viewer, tools):
    planes = np.stack([discs((60, 70)), discs((30, 110)), discs((90, 40))])
    image = viewer.add_image(planes, scale=(3, 0.5, 0.5))
    layer = labels_of(viewer, (3, 120, 150), image=image, scale=(3, 0.5, 0.5))
    viewer.dims.set_point(0, 3)
    tools.choose("add")
    mouse(layer, (1, 30, 110))
    viewer.dims.set_point(0, 6)
    tools.answer()
    assert [int(plane.max()) for plane in layer.data] == [1, 2, 1]
    assert layer.data[1, 30, 110] == 2


def test_a_cell_in_a_plane_that_is_not_shown_keeps_its_size(viewer, tools):
    planes = np.stack([discs((60, 70))] * 3)
    image = viewer.add_image(planes, scale=(3, 0.5, 0.5))
    layer = labels_of(viewer, (3, 120, 150), image=image, scale=(3, 0.5, 0.5))
    viewer.dims.set_point(0, 3)
    tools.choose("add")
    mouse(layer, (1, 60, 70))
    tools.answer()
    assert tools.adding.is_over((3, 30, 35))
    viewer.dims.set_point(0, 6)
    before = layer.data.copy()
    assert not tools.adding.is_over((6, 30, 35))
    assert not tools.adding.resize(-1)
    np.testing.assert_array_equal(layer.data, before)
    viewer.dims.set_point(0, 3)
    assert tools.adding.resize(-1)
    assert area(layer) < (before == 2).sum()


def test_one_plane_of_a_stack_with_channels(viewer, tools):
    planes = np.zeros((2, 3, 120, 150))
    planes[:] = discs()
    planes[1, 2] = discs((60, 70))
    viewer.add_image(planes)
    layer = labels_of(viewer, (1, 120, 150), translate=(2, 0, 0))
    viewer.dims.set_point((0, 1), (1, 2))
    tools.choose("add")
    event = SimpleNamespace(
        position=(1, 2, 60, 70), pos=(1, 1), button=1, modifiers=(), type="mouse_press"
    )
    steps = layer.mouse_drag_callbacks[-1](layer, event)
    next(steps)
    event.type = "mouse_release"
    next(steps, None)
    tools.answer()
    assert layer.data[0, 60, 70] == 2


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (2, 2), "translate": (10, 20)},
        {"scale": (0.5, 0.5)},
        {"affine": [[0, 1, 5], [1, 0, 3], [0, 0, 1]]},
    ],
)
def test_the_image_may_have_another_place_and_scale(viewer, tools, place):
    image = viewer.add_image(discs((60, 70)), **place)
    world = np.asarray(image.data_to_world((60, 70)))
    layer = labels_of(viewer, (300, 320), diameter=0.0)
    radius = 10 * np.sqrt(abs(np.linalg.det(np.asarray(place.get("affine", np.eye(3)))[:2, :2])))
    radius *= place.get("scale", (1, 1))[0]
    tools.segmenting.values = SimpleNamespace(image=image, model="cells", diameter=20)
    tools.choose("add")
    mouse(layer, tuple(world))
    tools.answer()
    assert layer.data[tuple(np.rint(world).astype(int))] == 2
    assert 0.6 < area(layer) / (np.pi * radius**2) < 1.5


def test_the_image_of_the_result_comes_first(viewer, tools):
    image = viewer.add_image(discs((60, 70)))
    layer = labels_of(viewer, image=image)
    viewer.add_image(discs(), name="another")
    viewer.layers.selection.active = layer
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    assert ids(layer) == [0, 1, 2]


def test_the_diameter_is_estimated_once(viewer, tools, monkeypatch):
    estimates = []

    def estimate(*asked):
        estimates.append(asked)
        return 20.0

    monkeypatch.setattr(add_cells, "typical_diameter", estimate)
    layer = labels_of(viewer, diameter=0.0, image=viewer.add_image(discs((60, 70), (60, 110))))
    tools.choose("add")
    for column in (70, 110):
        mouse(layer, (60, column))
        tools.answer()
    assert ids(layer) == [0, 1, 2, 3]
    assert len(estimates) == 1


# --- in another order ----------------------------------------------------------------------


def test_a_layer_removed_meanwhile_is_left_alone(viewer, tools, timers):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    job = tools.view.job
    viewer.layers.remove(layer)
    timers.settle()
    assert tools.tool == ""
    for found in job(threading.Event()):  # said before it was stopped
        tools.adding.receive(found)
    assert ids(layer) == [0, 1]


def test_escape_and_other_tools_stop_the_search(viewer, tools):
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    key(layer, "Escape")
    assert tools.view.job is None
    assert (tools.tool, tools.adding.searching) == ("add", False)
    mouse(layer, (60, 70))
    tools.choose("delete")
    assert tools.view.job is None


def test_what_went_wrong_is_said_and_nothing_changes(viewer, tools, engine):
    def broken(card, stop):
        raise UserError("The memory is full.")

    engine.open = broken
    layer = labels_of(viewer, image=viewer.add_image(discs((60, 70))))
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    assert tools.view.said[-1] == "The memory is full."
    assert ids(layer) == [0, 1]
    assert not tools.adding.searching


def test_a_full_data_type_gives_way_to_a_wider_one(viewer, tools):
    image = viewer.add_image(discs((60, 70)))
    labels = np.zeros((120, 150), np.uint8)
    labels[0, 0] = 255
    layer = viewer.add_labels(
        labels,
        name="cells",
        metadata=result_metadata(
            CELLS, image_id(image), {"parameters": {"scale": {"diameter": 20.0}}}
        ),
    )
    tools.choose("add")
    mouse(layer, (60, 70))
    tools.answer()
    new = viewer.layers["cells"]
    assert new.data.dtype == np.uint32
    assert new.data[60, 70] == 256
