"""The tools for whole cells in a real napari viewer, driven by the mouse's events."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet_cells import layers as facts

pytestmark = pytest.mark.gui


def two_cells() -> np.ndarray:
    labels = np.zeros((60, 80), np.uint16)
    labels[10:30, 10:30], labels[10:30, 40:60] = 1, 2
    return labels


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def form(viewer, qtbot):
    from napari_unet_cells.widgets.cell_tools import ToolsForm

    form = ToolsForm(viewer)
    viewer.window.add_dock_widget(form, name="tools")
    return form


def drag(viewer, layer, points, modifiers=()) -> None:
    """Press, move and release the mouse at data coordinates, as napari tells its callbacks."""
    world = [layer.data_to_world(point) for point in points]
    for callback in list(viewer.mouse_drag_callbacks):
        event = SimpleNamespace(
            type="mouse_press", button=1, modifiers=modifiers, position=world[0], pos=(0, 0)
        )
        stroke = callback(viewer, event)
        if stroke is None:
            continue
        next(stroke, None)
        for number, position in enumerate(world[1:], 1):
            event.type, event.position, event.pos = "mouse_move", position, (20 * number, 0)
            next(stroke, None)
        event.type = "mouse_release"
        next(stroke, None)


def test_tools_are_for_cells_only(viewer, form):
    assert not form.buttons["merge"].isEnabled()
    assert "Select a layer of cells" in form.buttons["merge"].toolTip()
    cells = viewer.add_labels(two_cells())
    assert form.buttons["merge"].isEnabled()
    viewer.add_labels(
        two_cells().astype(np.uint8), metadata=facts.result_metadata(facts.CLASSES, "x", {})
    )
    assert "the brush is enough" in form.buttons["merge"].toolTip()
    viewer.add_image(np.zeros((5, 5)))
    assert not form.buttons["merge"].isEnabled()
    viewer.layers.selection.active = cells
    assert form.buttons["merge"].isEnabled()
    cells.editable = False
    viewer.layers.selection.active = None
    viewer.layers.selection.active = cells
    assert not form.buttons["merge"].isEnabled()


def test_one_tool_at_a_time_and_napari_s_own_put_it_away(viewer, form):
    cells = viewer.add_labels(two_cells())
    cells.mode = "paint"
    form.buttons["delete"].click()
    assert str(cells.mode) == "pan_zoom"
    assert not cells.mouse_pan
    form.buttons["split"].click()
    assert not form.buttons["delete"].isChecked()
    cells.mode = "erase"
    assert not any(button.isChecked() for button in form.buttons.values())
    form.buttons["split"].click()
    form.buttons["split"].click()
    assert cells.mouse_pan
    assert not any(button.isChecked() for button in form.buttons.values())


@pytest.mark.parametrize(
    ("tool", "strokes", "ids"),
    [
        ("merge", [[(20, 20)], [(20, 50)]], {1}),
        ("merge", [[(20, 12), (20, 30), (20, 55)]], {1}),
        ("split", [[(5, 20), (35, 20)]], {1, 2, 3}),
        ("delete", [[(20, 20)]], {2}),
        ("new", [[(40, 10), (40, 50), (55, 50), (55, 10)]], {1, 2, 3}),
    ],
)
def test_a_stroke_is_one_step_of_undo(viewer, form, tool, strokes, ids):
    cells = viewer.add_labels(two_cells(), scale=(0.5, 0.5), translate=(7, 3), rotate=15)
    form.choose(tool)
    for stroke in strokes:
        drag(viewer, cells, stroke)
    assert set(np.unique(cells.data)) - {0} == ids
    assert viewer.layers.selection.active is cells
    cells.undo()
    np.testing.assert_array_equal(cells.data, two_cells())
    cells.redo()
    assert set(np.unique(cells.data)) - {0} == ids


def test_a_stack_changes_in_the_plane_that_is_shown(viewer, form):
    stack = np.stack([two_cells()] * 3)
    cells = viewer.add_labels(stack.copy())
    viewer.dims.set_current_step(0, 2)
    form.choose("delete")
    drag(viewer, cells, [(2, 20, 20)])
    np.testing.assert_array_equal(cells.data[:2], stack[:2])
    assert not (cells.data[2] == 1).any()
    viewer.dims.ndisplay = 3
    assert "3D view" in form.buttons["merge"].toolTip()
    assert not form.buttons["delete"].isChecked()


def test_a_click_on_nothing_is_a_sentence_and_no_step(viewer, form):
    said = []
    form.message.connect(said.append)
    cells = viewer.add_labels(two_cells())
    form.choose("delete")
    drag(viewer, cells, [(50, 5)])
    assert "no cell under the mouse" in said[-1]
    drag(viewer, cells, [(500, 5)])
    drag(viewer, cells, [(20, 20)], modifiers=("Control",))
    np.testing.assert_array_equal(cells.data, two_cells())


def test_a_stroke_of_a_tool_that_clicks_does_nothing(viewer, form):
    cells = viewer.add_labels(two_cells())
    form.choose("delete")
    drag(viewer, cells, [(20, 20), (50, 50)])
    np.testing.assert_array_equal(cells.data, two_cells())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ids_that_do_not_fit_make_a_copy_of_32_bits(viewer, form, dtype):
    labels = two_cells().astype(dtype)
    labels[0, 0] = np.iinfo(dtype).max
    image = viewer.add_image(np.zeros((60, 80)))
    cells = viewer.add_labels(
        labels, name="cells", scale=(2, 2), metadata=facts.result_metadata(facts.CELLS, "x", {})
    )
    viewer.add_points([[1, 1]])
    viewer.layers.selection.active = cells
    form.choose("split")
    drag(viewer, cells, [(5, 20), (35, 20)])
    new = viewer.layers.selection.active
    assert new is not cells
    assert [layer.name for layer in viewer.layers[:2]] == [image.name, "cells"]
    assert new.data.dtype == np.uint32
    assert new.data.max() == int(np.iinfo(dtype).max) + 1
    assert new.metadata[facts.OURS]["role"] == facts.CELLS
    np.testing.assert_allclose(new.scale, (2, 2))
    assert form.buttons["split"].isChecked()
    form.choose("delete")
    drag(viewer, new, [(20, 50)])
    assert not (new.data == 2).any()


def test_closing_the_form_leaves_nothing_behind(viewer, form, qtbot):
    before = len(viewer.mouse_drag_callbacks)
    cells = viewer.add_labels(two_cells())
    form.choose("delete")
    viewer.window.remove_dock_widget("all")
    form.deleteLater()
    qtbot.wait(50)
    assert len(viewer.mouse_drag_callbacks) == before - 1
    viewer.layers.selection.active = None
    viewer.layers.selection.active = cells
