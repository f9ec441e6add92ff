"""Outlines on and off without a window: the layer, the button and what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.layers.metadata import CELLS, CLASSES, result_metadata
from napari_unet_cells.widgets.correct.outlines_switch import OutlinesSwitch, width_for
from napari_unet_cells.widgets.wiring import Wiring

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui


class View:
    shown, problem = False, ""

    def show_outlines(self, shown, problem):
        self.shown, self.problem = shown, problem


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))


@pytest.fixture
def viewer():
    return ViewerModel()


def switch_of(viewer, wiring=None):
    view = View()
    return OutlinesSwitch(viewer, view, wiring or Wiring()), view


def cells(viewer, name="cells", role=CELLS, diameter=None):
    made = {"parameters": {"scale": {"diameter": diameter}}}
    return viewer.add_labels(
        np.ones((9, 9), np.uint16), name=name, metadata=result_metadata(role, "", made)
    )


def press(layer, key="O"):
    next(call for bound, call in layer.keymap.items() if str(bound) == key)(layer)


def test_the_key_and_the_layer_itself_change_the_button(viewer):
    _, view = switch_of(viewer)
    assert (view.shown, view.problem) == (False, "There are no cells yet. Press Segment.")
    layer = cells(viewer)
    assert (layer.contour, view.shown, view.problem) == (0, False, "")
    press(layer)
    assert (layer.contour, view.shown) == (2, True)
    layer.contour = 0  # in napari's layer controls
    assert not view.shown
    layer.contour = 5
    assert view.shown
    press(layer)
    assert (layer.contour, view.shown) == (0, False)


def test_it_follows_the_selected_layer_and_gives_the_key_back(viewer):
    wiring = Wiring()
    switch, view = switch_of(viewer, wiring)
    first, second = cells(viewer, "first"), cells(viewer, "second")
    first.contour = 1
    assert not view.shown
    viewer.layers.selection.active = first
    assert view.shown
    assert [str(key) for key in second.keymap] == []
    viewer.add_image(np.zeros((9, 9)))
    assert view.shown  # still that of the cells that were selected last
    switch.toggle()
    assert (first.contour, second.contour) == (0, 0)
    viewer.layers.remove(first)
    switch.toggle()
    assert (first.contour, second.contour) == (0, 2)
    wiring.release()
    assert [str(key) for key in second.keymap] == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_key_works_as_long_as_one_of_two_docks_is_there(viewer, order):
    layer = cells(viewer)
    pressed = []
    layer.bind_key("O", pressed.append)
    wirings = Wiring(), Wiring()
    docks = [switch_of(viewer, wiring) for wiring in wirings]
    wirings[order[0]].release()
    press(layer)
    assert (layer.contour, pressed) == (2, [])
    assert docks[order[1]][1].shown
    wirings[order[1]].release()
    press(layer)
    assert (layer.contour, pressed) == (2, [layer])  # what it did before both


def test_a_key_that_somebody_else_took_since_is_left_to_him(viewer):
    wiring = Wiring()
    layer = cells(viewer)
    dock = switch_of(viewer, wiring)
    pressed = []
    layer.bind_key("O", pressed.append, overwrite=True)
    wiring.release()
    press(layer)
    assert (layer.contour, pressed) == (0, [layer])
    assert dock


def test_new_cells_come_as_the_user_left_it_also_after_a_restart(viewer):
    switch, _ = switch_of(viewer)
    cells(viewer)
    switch.toggle()
    assert cells(viewer, "next").contour == 2
    assert cells(viewer, "classes", CLASSES).contour == 0
    assert viewer.add_labels(np.ones((9, 9), np.uint16)).contour == 0
    another = ViewerModel()
    again, view = switch_of(another)
    assert cells(another).contour == 2
    assert view.shown
    again.toggle()
    third = ViewerModel()
    switch_of(third)
    assert cells(third).contour == 0


def test_small_cells_have_thinner_outlines(viewer):
    assert width_for(cells(viewer)) == 2
    assert width_for(cells(viewer, diameter=19.0)) == 2
    assert width_for(cells(viewer, diameter=12.0)) == 1
