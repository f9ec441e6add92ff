"""The tools for whole cells in a real napari window, driven with mouse and keys."""

from __future__ import annotations

import gc
import threading
import weakref
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QLabel, QSpinBox

from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.engine.process import Cancelled
from napari_unet_cells.layers.metadata import CELLS, CLASSES, image_id, result_metadata
from napari_unet_cells.layers.transforms import PLACE
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import add_cells
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.correct.keys import all_keys
from napari_unet_cells.widgets.correct.tools import TOOLS
from napari_unet_cells.widgets.correct.tools_form import ToolsForm
from napari_unet_cells.widgets.napari_versions import camera_of

pytestmark = pytest.mark.gui

LEFT = Qt.MouseButton.LeftButton


def squares(dtype=np.uint16):
    """Three cells, 1, 2 and 3; 1 and 2 touch, 3 has a hole."""
    labels = np.zeros((60, 90), dtype)
    labels[10:30, 10:30] = 1
    labels[10:30, 30:50] = 2
    labels[10:40, 60:80] = 3
    labels[20:24, 68:72] = 0
    return labels


class Hand:
    """Moves the mouse over the canvas, in pixels of a layer, and presses keys there."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        self.canvas = viewer.window._qt_viewer.canvas

    def position(self, layer, point):
        """Place on the canvas of a point (row, column) of the layer's shown plane."""
        data = np.zeros(layer.ndim)
        data[-2:] = point
        y, x = np.asarray(layer.data_to_world(data))[-2:]
        view = self.canvas.view
        place = (view.transform * view.scene.transform).map([x, y])
        return QPoint(round(float(place[0])), round(float(place[1])))

    def press(self, layer, point):
        QTest.mousePress(self.canvas.native, LEFT, pos=self.position(layer, point))

    def move(self, layer, point):
        QTest.mouseMove(self.canvas.native, self.position(layer, point))
        self.qtbot.wait(12)  # napari looks at moves every 5 ms

    def release(self, layer, point):
        QTest.mouseRelease(self.canvas.native, LEFT, pos=self.position(layer, point))

    def click(self, layer, point):
        self.press(layer, point)
        self.release(layer, point)
        self.qtbot.wait(1)

    def draw(self, layer, *points):
        self.press(layer, points[0])
        for start, stop in pairwise(points):
            for part in (0.25, 0.5, 0.75, 1):
                self.move(layer, np.add(start, part * np.subtract(stop, start)))
        self.release(layer, points[-1])

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        QTest.keyClick(self.canvas.native, key, modifier)


@pytest.fixture
def viewer(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    viewer = make_napari_viewer(show=True)
    qtbot.wait(100)
    return viewer


@pytest.fixture
def form(viewer):
    form = ToolsForm(viewer)
    viewer.window.add_dock_widget(form, name="tools", area="right")
    return form


@pytest.fixture
def said(form):
    sentences = []
    form.message.connect(sentences.append)
    return sentences


@pytest.fixture
def hand(viewer, qtbot):
    return Hand(viewer, qtbot)


def add(viewer, qtbot, labels=None, **arguments):
    layer = viewer.add_labels(squares() if labels is None else labels, name="cells", **arguments)
    qtbot.wait(50)  # the docks take their places, and the canvas what is left
    viewer.reset_view()
    qtbot.wait(50)
    return layer


@pytest.fixture
def cells(viewer, qtbot, form):
    return add(viewer, qtbot, scale=(0.5, 0.5), translate=(30, -20))


def ids(layer):
    return sorted(np.unique(layer.data).tolist())


def state(form):
    assert len({button.isEnabled() for button in form.buttons.values()}) == 1
    return form.buttons["merge"].isEnabled(), form.buttons["merge"].toolTip()


# --- when they can be used -----------------------------------------------------------------


def test_they_are_for_cells_that_can_be_changed(viewer, form, qtbot, tmp_path):
    assert list(form.buttons) == ["add", "merge", "split", "delete", "draw", "smooth", "fill"]
    assert form.buttons["merge"].objectName() == "merge_tool_button"
    assert state(form) == (False, "Choose the cells in the layer list first.")
    cells = add(viewer, qtbot)
    assert state(form)[0]
    assert form.buttons["draw"].toolTip().startswith(TOOLS["draw"].how)

    viewer.add_image(np.zeros((60, 90)), name="DAPI")
    assert state(form) == (False, "'DAPI' holds no labels. Choose the cells in the layer list.")
    classes = result_metadata(CLASSES, "", {})
    viewer.add_labels(squares(np.uint8), metadata=classes, name="kinds")
    assert "'kinds' holds classes" in state(form)[1]
    viewer.add_labels([squares(), squares()[::2, ::2]], multiscale=True, name="levels")
    assert "'levels' lies in a file" in state(form)[1]
    np.save(tmp_path / "labels.npy", squares())
    viewer.add_labels(np.load(tmp_path / "labels.npy", mmap_mode="r"), name="mapped")
    assert "'mapped' is open for reading only" in state(form)[1]

    viewer.layers.selection.active = cells
    assert state(form)[0]
    cells.editable = False
    assert "cannot be edited" in state(form)[1]
    cells.editable = True
    cells.visible = False
    assert "is hidden" in state(form)[1]
    cells.visible = True
    viewer.dims.ndisplay = 3
    assert "Switch from 3D back to 2D" in state(form)[1]
    viewer.dims.ndisplay = 2
    assert state(form)[0]
    viewer.add_image(np.zeros((3, 60, 90)))
    viewer.layers.selection.active = cells
    viewer.dims.order = (1, 0, 2)
    assert "not in view" in state(form)[1]
    viewer.dims.order = (0, 1, 2)
    assert state(form)[0]


def test_a_tool_that_cannot_be_used_is_not_taken(form, said):
    form.choose("split")
    assert form.tool == ""
    assert said == ["Choose the cells in the layer list first."]
    assert not form.buttons["split"].isChecked()


def test_one_tool_at_a_time(form, cells, hand, qtbot):
    def checked():
        return [name for name, button in form.buttons.items() if button.isChecked()]

    cells.mode = "paint"
    form.buttons["merge"].click()
    assert checked() == ["merge"]
    assert cells.mode == "pan_zoom"
    assert not cells.mouse_pan
    assert cells.cursor == "cross"
    form.choose("fill")
    assert checked() == ["fill"]
    assert cells.mouse_pan  # there is nothing to draw, so a drag moves the image
    form.choose("fill")
    assert checked() == []
    assert cells.cursor == "standard"
    assert cells.help == ""

    callbacks, keys = len(cells.mouse_drag_callbacks), dict(cells.keymap)
    form.choose("draw")
    assert len(cells.keymap) > len(keys)
    assert len(cells.mouse_drag_callbacks) == callbacks + 1
    hand.key(Qt.Key.Key_Escape)
    assert checked() == []
    assert len(cells.mouse_drag_callbacks) == callbacks
    assert cells.mouse_pan
    assert dict(cells.keymap) == keys

    form.choose("draw")
    cells.mode = "erase"
    assert checked() == []
    assert (cells.mode, cells.mouse_pan, cells.cursor) == ("erase", False, "circle")


def test_the_tool_goes_with_the_active_cells(viewer, form, cells, qtbot):
    other = viewer.add_labels(squares(), name="other")
    form.choose("split")
    assert not other.mouse_pan
    viewer.layers.selection.active = cells
    qtbot.waitUntil(lambda: not cells.mouse_pan)
    assert other.mouse_pan
    assert form.tool == "split"
    viewer.layers.selection.active = None  # and back before anybody looks
    viewer.layers.selection.active = cells
    qtbot.wait(20)
    assert form.tool == "split"
    viewer.add_image(np.zeros((60, 90)))
    qtbot.waitUntil(lambda: form.tool == "")
    assert cells.mouse_pan
    assert not form.buttons["split"].isChecked()


def test_three_dimensions_put_the_tool_away(viewer, form, cells, qtbot):
    form.choose("split")
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: form.tool == "")
    assert not state(form)[0]


def test_every_button_names_its_key_and_fits_a_narrow_dock(form, cells, qtbot):
    assert form.buttons["merge"].text() == "Merge  J"
    form.resize(280, form.height())
    qtbot.wait(20)
    assert form.minimumSizeHint().width() <= 280
    assert form.minimumSizeHint().height() <= 140
    for button in (*form.buttons.values(), form.outlines_button, form.keys_button):
        assert button.toolTip()
        assert button.width() > button.fontMetrics().horizontalAdvance(button.text())


def test_a_window_lists_the_keys(form, cells, qtbot):
    form.keys_button.click()
    window = form.findChild(QDialog, "keys_window")
    texts = [label.text() for label in window.findChildren(QLabel)]
    for row in all_keys(preferences()):
        assert row.key in texts
        assert row.does in texts
    form.keys_button.click()
    assert len(form.findChildren(QDialog)) == 1
    assert window.isVisible()
    QTest.keyClick(window, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_the_key_and_the_button_show_outlines(form, cells, hand):
    assert not form.outlines_button.isChecked()
    hand.canvas.native.setFocus()
    hand.key(Qt.Key.Key_O)
    assert cells.contour > 0
    assert form.outlines_button.isChecked()
    form.outlines_button.click()
    assert cells.contour == 0
    assert not form.outlines_button.isChecked()


# --- strokes -------------------------------------------------------------------------------


def test_merging_by_clicks(form, cells, hand, said):
    form.choose("merge")
    hand.click(cells, (20, 15))
    assert "Now click the cell that belongs to it" in said[-1]
    hand.click(cells, (20, 40))
    assert ids(cells) == [0, 1, 3]
    assert said[-1] == ""
    hand.click(cells, (35, 70))  # another pair
    assert "Now click the cell that belongs to it" in said[-1]
    assert ids(cells) == [0, 1, 3]
    hand.click(cells, (20, 40))  # does not touch it
    assert ids(cells) == [0, 3]
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert ids(cells) == [0, 1, 3]
    hand.click(cells, (50, 50))  # background: anew
    assert "Click the first" in said[-1]
    hand.click(cells, (35, 70))
    hand.key(Qt.Key.Key_Escape)
    assert form.tool == "merge"
    hand.click(cells, (20, 15))
    hand.click(cells, (20, 15))
    assert ids(cells) == [0, 1, 3]
    hand.click(cells, (35, 70))
    assert ids(cells) == [0, 1]


def test_the_first_of_a_merge_that_was_undone_is_forgotten(form, cells, hand):
    cells.data_setitem((np.array([50, 51, 52]), np.array([5, 5, 5])), 9)
    form.choose("merge")
    hand.click(cells, (51, 5))
    cells.undo()
    hand.click(cells, (20, 15))
    assert ids(cells) == [0, 1, 2, 3]
    hand.click(cells, (20, 40))
    assert ids(cells) == [0, 1, 3]


def test_merging_along_a_line_and_undoing_it_as_one_step(viewer, form, cells, hand, qtbot):
    before = cells.data.copy()
    painted, updated = [], []
    cells.events.paint.connect(painted.append)
    cells.events.labels_update.connect(updated.append)
    form.buttons["merge"].click()
    zoom, center = camera_of(viewer).zoom, camera_of(viewer).center
    box = viewer.window.add_dock_widget(QSpinBox(), name="box").widget()
    box.setFocus()
    assert box.window().focusWidget() is not hand.canvas.native

    hand.draw(cells, (15, 75), (15, 45), (25, 12))

    assert ids(cells) == [0, 3]
    assert (len(painted), len(updated)) == (1, 1)
    after = cells.data.copy()
    assert viewer.layers.selection.active is cells
    assert hand.canvas.native.window().focusWidget() is hand.canvas.native
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(cells.data, before)
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(cells.data, after)
    assert (camera_of(viewer).zoom, camera_of(viewer).center) == (zoom, center)
    assert list(viewer.layers) == [cells]


def test_a_line_is_seen_while_it_is_drawn_and_escape_gives_it_up(form, cells, hand, qtbot):
    form.choose("split")
    hand.press(cells, (5, 20))
    assert form._trace is None
    hand.move(cells, (20, 20))
    hand.move(cells, (35, 20))
    trace: Any = form._trace
    assert trace.isVisible()
    assert trace.geometry() == hand.canvas.native.rect()
    picture = trace.grab().toImage()
    place = hand.position(cells, (15, 20))
    assert picture.pixelColor(place).name() == "#ffffff"
    hand.key(Qt.Key.Key_Escape)
    hand.release(cells, (35, 20))
    assert not trace.isVisible()
    assert form.tool == "split"
    assert ids(cells) == [0, 1, 2, 3]


def test_splitting(form, cells, hand, said):
    form.choose("split")
    hand.draw(cells, (5, 18), (35, 18))
    assert ids(cells) == [0, 1, 2, 3, 4]
    assert set(cells.data[10:30, 10:18].ravel()) == {4}
    assert set(cells.data[10:30, 19:30].ravel()) == {1}
    hand.draw(cells, (20, 40), (20, 55))
    assert "does not cut through" in said[-1]
    hand.click(cells, (20, 40))
    assert "no waist" in said[-1]
    cells.undo()
    np.testing.assert_array_equal(cells.data, squares())
    cells.data[18:22, 10:50] = 1
    cells.data[10:18, 28:32] = cells.data[22:30, 28:32] = 0
    cells.data[cells.data == 2] = 1
    cells.refresh()
    hand.click(cells, (20, 40))
    assert ids(cells) == [0, 1, 3, 4]


def test_delete_fill_and_smooth(form, cells, hand, said):
    form.choose("delete")
    hand.click(cells, (20, 40))
    assert ids(cells) == [0, 1, 3]
    hand.click(cells, (20, 40))
    assert "no cell under the mouse" in said[-1]
    hand.draw(cells, (20, 15), (20, 75))
    assert ids(cells) == [0]
    cells.undo()
    form.choose("fill")
    hand.click(cells, (38, 70))
    assert (cells.data[20:24, 68:72] == 3).all()
    hand.click(cells, (38, 70))
    assert "no background that could be filled" in said[-1]
    form.choose("smooth")
    hand.click(cells, (38, 70))
    assert cells.data[10, 60] == 0
    assert cells.data[25, 70] == 3
    for _ in range(3):
        cells.undo()
    np.testing.assert_array_equal(cells.data, squares())


def test_a_new_cell(form, cells, hand, said):
    form.choose("draw")
    hand.click(cells, (50, 50))
    assert "hold the mouse button down" in said[-1]
    hand.draw(cells, (5, 5), (5, 55), (55, 55), (55, 5), (5, 5))
    assert ids(cells) == [0, 1, 2, 3, 4]
    assert cells.data[50, 50] == cells.data[7, 7] == 4
    assert (cells.data[10:30, 10:50] == squares()[10:30, 10:50]).all()


def test_preserved_labels_do_not_stop_the_tools(form, cells, hand):
    cells.preserve_labels = True
    form.choose("delete")
    hand.click(cells, (20, 40))
    assert ids(cells) == [0, 1, 3]


def test_the_space_bar_moves_the_image(viewer, form, cells, hand):
    form.choose("merge")
    center = camera_of(viewer).center
    QTest.keyPress(hand.canvas.native, Qt.Key.Key_Space)
    assert cells.mouse_pan
    hand.draw(cells, (20, 15), (20, 45))
    assert camera_of(viewer).center != center
    assert ids(cells) == [0, 1, 2, 3]
    QTest.keyRelease(hand.canvas.native, Qt.Key.Key_Space)
    assert not cells.mouse_pan


def test_a_drag_without_a_line_moves_the_image_and_clicks_nothing(viewer, form, cells, hand):
    form.choose("fill")
    center = camera_of(viewer).center
    hand.draw(cells, (38, 70), (38, 40))
    assert camera_of(viewer).center != center
    np.testing.assert_array_equal(cells.data, squares())


def test_two_quick_clicks_do_not_enlarge_the_image(viewer, form, cells, hand):
    zoom, callbacks = camera_of(viewer).zoom, list(viewer.mouse_double_click_callbacks)
    form.choose("delete")
    QTest.mouseDClick(hand.canvas.native, LEFT, pos=hand.position(cells, (20, 15)))
    assert camera_of(viewer).zoom == zoom
    form.choose("")
    assert viewer.mouse_double_click_callbacks == callbacks


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (0.5, 0.25), "translate": (30, -20)},
        {"affine": [[1, 0.3, 4], [-0.2, 1.5, 9], [0, 0, 1]]},
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_outline_lies_where_the_cell_is_seen(viewer, form, hand, qtbot, place, turned):
    layer = add(viewer, qtbot, **place)
    if turned:
        camera_of(viewer).orientation2d = ("up", "left")
    camera_of(viewer).zoom *= 0.7
    viewer.window.resize(900, 600)
    qtbot.wait(50)
    form.choose("delete")
    hand.move(layer, (25, 20))
    hand.move(layer, (20, 20))
    outlines = form._cells
    assert outlines.geometry() == hand.canvas.native.rect()
    (line,) = outlines._lines
    corners = [(9.5, 9.5), (9.5, 29.5), (29.5, 29.5), (29.5, 9.5), (9.5, 9.5)]
    for corner in corners:
        place = hand.position(layer, corner)
        assert min(abs(p.x() - place.x()) + abs(p.y() - place.y()) for p in line) < 1.6
    QApplication.sendEvent(hand.canvas.native, QEvent(QEvent.Type.Leave))
    assert outlines._lines == []


def test_the_outline_goes_with_the_dock(viewer, form, cells, hand, qtbot):
    form.choose("delete")
    hand.move(cells, (25, 20))
    hand.move(cells, (20, 20))
    outlines = form._cells
    assert outlines.isVisible()
    gone: list[bool] = []
    outlines.destroyed.connect(lambda: gone.append(True))
    viewer.window.remove_dock_widget(form)
    form.deleteLater()
    del form, outlines
    qtbot.waitUntil(lambda: bool(gone))


# --- adding --------------------------------------------------------------------------------


class SlowEngine:
    """Network of squares that are bright, opened when the test lets it."""

    def __init__(self):
        self.may_open = threading.Event()
        self.may_open.set()

    def open(self, card, stop):
        while not self.may_open.wait(0.01):
            if stop.is_set():
                raise Cancelled
        return FunctionNetwork(_bright_is_cell)


def _bright_is_cell(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 230, np.zeros_like(cell)], axis=-1)


@pytest.fixture
def engine(monkeypatch):
    classes = ("background", "cell", "boundary")
    card = ModelCard("cells", "none", classes, 1, 1, 0, sha256="", diameters=(10.0, 40.0))
    monkeypatch.setattr(add_cells, "find_model", lambda name: card)
    return SlowEngine()


@pytest.fixture
def adding(viewer, qtbot, engine):
    """Show the form with an image of three cells, of which two were missed."""
    form = ToolsForm(viewer, engine)
    viewer.window.add_dock_widget(form, name="tools", area="right")
    y, x = np.indices((120, 150))
    image = np.random.default_rng(0).normal(20, 2, (120, 150))
    for column in (60, 110):
        image[(y - 60) ** 2 + (x - column) ** 2 <= 100] = 100
    source = viewer.add_image(image, scale=(0.5, 0.5))
    made = {"parameters": {"scale": {"diameter": 20.0}}}
    labels = np.zeros((120, 150), np.uint16)
    labels[5:25, 5:25] = 1
    metadata = result_metadata(CELLS, image_id(source), made)
    add(viewer, qtbot, labels, scale=(0.5, 0.5), metadata=metadata)
    return form


def _found(form, layer, number):
    """Wait for a cell, whose search may still run."""
    return lambda: not form.searching.running and number in layer.data


def turn_wheel(hand, layer, point, notches):
    canvas, pos = hand.canvas.native, QPointF(hand.position(layer, point))
    event = QWheelEvent(
        pos, canvas.mapToGlobal(pos), QPoint(), QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(canvas, event)


def test_adding_by_a_click_with_plus_minus_and_the_wheel(viewer, adding, hand, qtbot):
    layer = viewer.layers["cells"]
    before = layer.data.copy()
    hand.canvas.native.setFocus()
    hand.key(Qt.Key.Key_A)
    assert adding.tool == "add"
    hand.click(layer, (60, 60))
    qtbot.waitUntil(_found(adding, layer, 2))
    areas = [int((layer.data == 2).sum())]
    assert layer.data[60, 110] == 0

    def resized(change):
        change()
        areas.append(int((layer.data == 2).sum()))
        return areas[-1] - areas[-2]

    shown = layer.selected_label
    assert resized(lambda: QTest.keyClicks(hand.canvas.native, "+")) > 0
    assert resized(lambda: hand.key(Qt.Key.Key_Minus)) < 0
    assert layer.selected_label == shown  # napari's own - and = change it
    zoom = camera_of(viewer).zoom
    hand.move(layer, (60, 60))
    assert resized(lambda: turn_wheel(hand, layer, (60, 60), 1)) > 0
    assert camera_of(viewer).zoom == zoom
    hand.move(layer, (100, 20))
    assert resized(lambda: turn_wheel(hand, layer, (100, 20), 1)) == 0
    qtbot.waitUntil(lambda: camera_of(viewer).zoom != zoom)
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(layer.data, before)
    hand.key(Qt.Key.Key_Minus)
    assert layer.selected_label == shown - 1  # napari's again
    np.testing.assert_array_equal(layer.data, before)


def test_the_window_stays_free_and_the_last_click_counts(viewer, adding, hand, qtbot, engine):
    layer = viewer.layers["cells"]
    adding.choose("add")
    engine.may_open.clear()
    hand.click(layer, (60, 60))
    assert adding.searching.running
    hand.click(layer, (60, 110))
    ticks: list[int] = []
    QTimer.singleShot(0, lambda: ticks.append(1))
    qtbot.waitUntil(lambda: bool(ticks))
    assert ids(layer) == [0, 1]
    engine.may_open.set()
    qtbot.waitUntil(_found(adding, layer, 2))
    assert (layer.data[60, 60], layer.data[60, 110]) == (0, 2)


def test_a_box_is_drawn_and_adds_both_cells(viewer, adding, hand, qtbot):
    layer = viewer.layers["cells"]
    adding.choose("add")
    center = camera_of(viewer).center
    hand.press(layer, (35, 40))
    hand.move(layer, (60, 100))
    hand.move(layer, (85, 130))
    trace = adding._trace
    assert trace.isVisible()
    picture = trace.grab().toImage()
    assert picture.pixelColor(hand.position(layer, (35, 80))).name() == "#ffffff"
    assert picture.pixelColor(hand.position(layer, (60, 80))).name() != "#ffffff"
    hand.release(layer, (85, 130))
    assert not trace.isVisible()
    qtbot.waitUntil(_found(adding, layer, 3))
    assert camera_of(viewer).center == center
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert ids(layer) == [0, 1]


def test_a_preview_is_drawn_where_the_mouse_rests(viewer, adding, hand, qtbot):
    layer = viewer.layers["cells"]
    adding.choose("add")
    hand.move(layer, (58, 58))
    hand.move(layer, (60, 60))
    qtbot.waitUntil(lambda: adding._cells is not None and bool(adding._cells._lines))
    (line,) = adding._cells._lines
    assert line.boundingRect().contains(QPointF(hand.position(layer, (60, 60))))
    assert ids(layer) == [0, 1]
    hand.click(layer, (60, 60))
    assert ids(layer) == [0, 1, 2]
    assert adding._cells._lines == []
    layer.undo()
    adding.preview_box.click()
    assert not adding.controller.adding.previewing.on
    hand.move(layer, (60, 109))
    hand.move(layer, (60, 110))
    qtbot.wait(250)
    assert not adding.searching.running
    assert adding._cells._lines == []


def test_shift_click_removes_and_nothing_offers_the_drawing_tool(viewer, adding, hand, qtbot):
    layer = viewer.layers["cells"]
    said: list[str] = []
    adding.message.connect(said.append)
    adding.choose("add")
    shift, place = Qt.KeyboardModifier.ShiftModifier, hand.position(layer, (15, 15))
    QTest.mouseClick(hand.canvas.native, LEFT, shift, place)
    assert ids(layer) == [0]
    layer.undo()
    hand.click(layer, (100, 20))
    qtbot.waitUntil(lambda: not adding.searching.running)
    assert "Enter takes it: Draw" in said[-1]
    assert "orange" in adding.buttons["draw"].styleSheet()
    hand.key(Qt.Key.Key_Return)
    assert adding.tool == "draw"
    assert adding.buttons["draw"].styleSheet() == ""


def test_the_layer_may_go_while_its_cell_is_searched_for(viewer, adding, hand, qtbot, engine):
    layer = viewer.layers["cells"]
    adding.choose("add")
    engine.may_open.clear()
    hand.click(layer, (60, 60))
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: adding.tool == "")
    assert not adding.searching.running
    engine.may_open.set()
    qtbot.wait(50)
    assert ids(layer) == [0, 1]


# --- places --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (2, 0.5), "translate": (-7, 100)},
        {"scale": (0.5, 0.5), "rotate": 30, "translate": (5, 5)},
        {"affine": [[1, 0.3, 4], [-0.2, 1.5, 9], [0, 0, 1]]},
    ],
)
def test_wherever_the_cells_lie(viewer, form, hand, qtbot, place):
    layer = add(viewer, qtbot, **place)
    form.choose("split")
    hand.draw(layer, (5, 20), (35, 20))
    assert layer.data[20, 12] != layer.data[20, 28] != 0
    form.choose("delete")
    hand.click(layer, (35, 70))
    assert 3 not in ids(layer)


def test_in_a_stack_the_shown_plane_changes(viewer, form, hand, qtbot):
    stack = np.stack([[squares()] * 3] * 2)  # t, z, y, x
    layer = add(viewer, qtbot, stack, scale=(1, 2, 0.5, 0.5), translate=(0, 10, 3, 3))
    before = stack.copy()
    viewer.dims.current_step = (1, 2, 0, 0)
    form.choose("merge")
    hand.draw(layer, (20, 15), (20, 45))
    assert ids(layer) == [0, 1, 2, 3]
    assert sorted(np.unique(layer.data[1, 2])) == [0, 1, 3]
    others = np.ones((2, 3), bool)
    others[1, 2] = False
    np.testing.assert_array_equal(layer.data[others], before[others])

    layer.data_setitem(tuple(np.array([n]) for n in (0, 0, 50, 50)), 30)
    form.choose("split")
    hand.draw(layer, (5, 20), (35, 20))
    assert layer.data[1, 2].max() == 31  # above that of the other plane
    layer.undo()
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)

    form.choose("merge")
    hand.click(layer, (20, 15))
    viewer.dims.current_step = (1, 1, 0, 0)
    hand.click(layer, (20, 45))  # the first one of this plane
    np.testing.assert_array_equal(layer.data, before)


def test_a_single_plane_in_a_stack(viewer, form, hand, qtbot, said):
    viewer.add_image(np.zeros((4, 60, 90)), scale=(2, 1, 1))
    layer = add(viewer, qtbot, squares()[np.newaxis], scale=(2, 1, 1), translate=(4, 0, 0))
    form.choose("delete")
    viewer.dims.current_step = (1, 0, 0)
    hand.click(layer, (20, 15))
    assert "no pixels in this plane" in said[-1]
    assert ids(layer) == [0, 1, 2, 3]
    viewer.dims.current_step = (2, 0, 0)
    hand.click(layer, (20, 15))
    assert ids(layer) == [0, 2, 3]
    layer.undo()
    assert ids(layer) == [0, 1, 2, 3]


def test_planes_seen_from_the_side(viewer, form, hand, qtbot):
    stack = np.zeros((20, 30, 40), np.uint16)
    stack[5:15, 10:20, 10:30] = 1
    layer = add(viewer, qtbot, stack)
    viewer.dims.order = (1, 2, 0)  # rows are x, columns are z
    viewer.dims.current_step = (0, 15, 0)
    viewer.reset_view()
    qtbot.wait(50)
    form.choose("split")
    view = hand.canvas.view
    places = [(view.transform * view.scene.transform).map([z, 20]) for z in (0, 7, 12, 19)]
    points = [QPoint(round(float(p[0])), round(float(p[1]))) for p in places]
    QTest.mousePress(hand.canvas.native, LEFT, pos=points[0])
    for point in points[1:]:
        QTest.mouseMove(hand.canvas.native, point)
        qtbot.wait(12)
    QTest.mouseRelease(hand.canvas.native, LEFT, pos=points[-1])
    assert ids(layer) == [0, 1, 2]
    assert set(np.unique(layer.data[:, 15, 21:])) != set(np.unique(layer.data[:, 15, :19]))
    assert set(np.unique(layer.data[:, :15])) == {0, 1}


# --- ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "wide"), [("uint16", "uint32"), ("uint8", "uint32")])
def test_where_ids_run_out_a_copy_takes_the_layers_place(
    viewer, form, hand, said, qtbot, dtype, wide
):
    full = np.iinfo(dtype).max
    labels = squares(dtype)
    labels[50:55, 50:55] = full
    viewer.add_image(np.zeros((60, 90)), name="image")
    place = {
        "scale": (0.5, 0.25), "translate": (3, 4), "rotate": 20, "units": ("um", "um"),
        "axis_labels": ("y", "x"), "opacity": 0.4, "metadata": {"kept": [1]},
        "blending": "additive", "features": {"index": [0, 1]},
    }  # fmt: skip
    old = add(viewer, qtbot, labels, **place)
    old.contour = 2
    old.selected_label = 2
    old.new_colormap(seed=3)
    viewer.add_points([[1, 1]], name="above")
    viewer.layers.selection.active = old
    form.choose("split")

    hand.draw(old, (5, 20), (35, 20))

    assert [layer.name for layer in viewer.layers] == ["image", "cells", "above"]
    new = viewer.layers["cells"]
    assert new is not old
    assert viewer.layers.selection.active is new
    assert list(viewer.layers.selection) == [new]
    assert new.data.dtype == wide
    assert ids(new) == [0, 1, 2, 3, full, full + 1]
    assert ids(old) == [0, 1, 2, 3, full]
    assert new.metadata["kept"] is old.metadata["kept"]
    for name in (*PLACE, "opacity", "contour", "selected_label", "visible", "blending"):
        expected = getattr(old, name)
        if name == "affine":
            new_affine = new.affine.affine_matrix
            np.testing.assert_array_equal(new_affine, expected.affine_matrix)
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(getattr(new, name), expected)
        else:
            assert getattr(new, name) == expected, name
    np.testing.assert_array_equal(new.get_color(2), old.get_color(2))
    assert new.features["index"].tolist() == [0, 1]
    assert f"was full at {full:,} ids" in said[-1]
    assert "cannot be undone" in said[-1]

    assert form.tool == "split"  # the user goes on
    new.undo()
    assert ids(new) == [0, 1, 2, 3, full]
    hand.draw(new, (5, 40), (35, 40))
    assert ids(new) == [0, 1, 2, 3, full, full + 1]


def test_where_no_id_is_left_it_is_said(viewer, form, hand, said, qtbot):
    labels = squares(np.uint32)
    labels[50, 50] = np.iinfo(np.uint32).max
    layer = add(viewer, qtbot, labels)
    form.choose("split")
    hand.draw(layer, (5, 20), (35, 20))
    assert "no free id in 'cells'" in said[-1]
    np.testing.assert_array_equal(layer.data, labels)


def test_ids_stay_unique_beside_the_brush(viewer, form, hand, qtbot):
    layer = add(viewer, qtbot, np.stack([squares(), squares()]))
    form.choose("split")
    hand.draw(layer, (5, 20), (35, 20))
    assert layer.data.max() == 4
    form.choose("")
    layer.brush_size = 3
    layer.paint((1, 50, 50), 77)  # in another plane
    layer.fill((1, 35, 70), 78)
    form.choose("split")
    hand.draw(layer, (5, 40), (35, 40))
    assert layer.data[0].max() == 79
    layer.data = np.stack([squares(np.uint16)] * 2) * 5
    hand.draw(layer, (5, 40), (35, 40))
    assert layer.data.max() == 16


def test_after_an_undo_ids_below_the_limit_are_found_again(viewer, form, hand, qtbot):
    layer = add(viewer, qtbot, np.stack([squares(np.uint8), squares(np.uint8)]))
    form.choose("split")
    layer.paint((1, 50, 50), 255)
    layer.undo()
    hand.draw(layer, (5, 20), (35, 20))
    assert viewer.layers["cells"] is layer
    assert layer.data.max() == 4


# --- the end -------------------------------------------------------------------------------


def test_closed_for_good_it_leaves_nothing_behind(viewer, qtbot):
    cells = add(viewer, qtbot)

    def listeners():
        emitters = (
            viewer.layers.selection.events.active, viewer.dims.events.ndisplay,
            viewer.dims.events.order, cells.events.paint, cells.events.mode, cells.events.data,
        )  # fmt: skip
        callbacks = cells.mouse_drag_callbacks, viewer.mouse_double_click_callbacks
        return [len(e.callbacks) for e in emitters], [len(c) for c in callbacks]

    before = listeners()
    form = ToolsForm(viewer)
    form.choose("merge")
    assert listeners() != before
    reference = weakref.ref(form)
    form.deleteLater()
    del form
    qtbot.waitUntil(lambda: listeners() == before)
    assert cells.mouse_pan
    assert not cells.keymap
    cells.mode = "paint"
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: gc.collect() >= 0 and reference() is None)


def test_the_window_closes_with_a_tool_in_the_hand(form, cells, hand):
    form.choose("merge")
    hand.press(cells, (20, 15))
    hand.move(cells, (20, 40))
    assert form._trace is not None


def test_a_layer_that_is_deleted_takes_the_tool_along(viewer, form, cells, hand, qtbot):
    form.choose("merge")
    hand.press(cells, (20, 15))
    hand.move(cells, (20, 30))
    viewer.layers.remove(cells)
    qtbot.waitUntil(lambda: form.tool == "")
    hand.release(cells, (20, 45))
    assert ids(cells) == [0, 1, 2, 3]
    assert form._trace is None
    assert not state(form)[0]
