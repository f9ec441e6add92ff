"""The dock in a real napari window: opened through the manifest, driven as a user does."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from napari_unet_cells.core.regions import Region
from napari_unet_cells.corrections.restoring import sessions
from napari_unet_cells.engine.engine import shared_engine
from napari_unet_cells.layers.metadata import CELLS, OURS, ZARR, result_metadata
from napari_unet_cells.models.catalogue import (
    DEFAULT_MODEL,
    default_model,
    find_model,
    take_back,
)
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.add_cells import Found
from napari_unet_cells.segmentation.messages import describe_count
from napari_unet_cells.training.events import Retrained
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.correct.part_controller import OUT_OF_DATE
from napari_unet_cells.widgets.correct.teaching import Learned
from napari_unet_cells.widgets.segment.values import DRAWN, WHERE, WHOLE

pytestmark = pytest.mark.gui

PLUGIN = "napari-unet-cells"


@pytest.fixture(scope="module")
def nuclei():
    return simulate_nuclei((300, 340), seed=3)[0]


@pytest.fixture(scope="module", autouse=True)
def _another_dock():
    """Let one child serve the tests one after another, as where another dock stays open."""
    from napari_unet_cells.widgets.dock import _open_docks

    _open_docks.add(0)
    yield
    _open_docks.discard(0)
    shared_engine().close(2.0)


@pytest.fixture
def alone():
    """Begin without a child, and let it end with the last dock of the test."""
    from napari_unet_cells.widgets.dock import _open_docks

    shared_engine().close(2.0)
    _open_docks.discard(0)
    yield
    _open_docks.add(0)
    shared_engine().close(2.0)


@pytest.fixture
def viewer(make_napari_viewer, tiny_home):
    """Open a viewer whose only installed model is small and quick to open."""
    return make_napari_viewer()


@pytest.fixture
def dock(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN)[1]


def wait_for_end(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.segment.worker.running, timeout=120_000)


def press_segment(qtbot, dock):
    dock.segment.button.click()
    assert not dock.segment.button.isEnabled()
    wait_for_end(qtbot, dock)


def names(viewer):
    return [layer.name for layer in viewer.layers]


def test_menus_and_window_open_the_same_dock(viewer, dock):
    from napari._app_model import get_app_model

    full_name = f"{PLUGIN} ({PLUGIN})"
    assert list(viewer.window.dock_widgets) == [full_name]
    app = get_app_model()
    menus = [
        name
        for name, items in app.menus
        for item in items
        if getattr(getattr(item, "command", None), "id", "") == f"{PLUGIN}.dock"
    ]
    assert {"napari/plugins", "napari/layers/segment", app.menus.COMMAND_PALETTE_ID} <= set(menus)

    app.commands.execute_command(f"{PLUGIN}.dock").result()  # shows or hides the one there is

    assert list(viewer.window.dock_widgets) == [full_name]


def test_segment_makes_cells_and_classes_in_the_images_place(qtbot, viewer, dock, nuclei):
    image = viewer.add_image(
        nuclei, name="nuclei", scale=(0.5, 0.25), translate=(3, 4), rotate=20,
        units=("micrometer", "micrometer"),
    )  # fmt: skip
    assert dock.segment.button.objectName() == "segment_button"

    press_segment(qtbot, dock)

    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    cells, classes = viewer.layers["nuclei cells"], viewer.layers["nuclei classes"]
    for layer in (cells, classes):
        assert layer.data.shape == nuclei.shape
        np.testing.assert_allclose(layer.data_to_world((10, 20)), image.data_to_world((10, 20)))
        assert layer.units == image.units
    assert classes.data.dtype == np.uint8
    assert not classes.editable
    assert cells.data.dtype == np.uint16
    assert cells.editable
    assert viewer.layers.selection.active is cells
    assert dock.segment.button.isEnabled()
    assert re.match(rf"{cells.data.max()} cells? in .* s on ", dock.segment.message.text())
    assert "CPU" in dock.segment.device_label.text() or "GPU" in dock.segment.device_label.text()
    assert dock.segment.device_label.toolTip() == dock.segment.device_label.text()
    assert "tensorflow" not in sys.modules


def test_the_key_of_a_tool_opens_the_page_that_says_what_it_does(viewer, dock):
    layer = viewer.add_labels(np.zeros((30, 40), np.uint16), name="cells")
    assert dock.segment.isVisibleTo(dock)
    next(take for key, take in layer.keymap.items() if str(key) == "A")(layer)
    assert dock.correct.tools.tool == "add"
    assert dock.correct.isVisibleTo(dock)
    dock.open("Segment")
    dock.correct.tools.choose("")
    assert dock.segment.isVisibleTo(dock)


def test_the_page_correct_hears_of_a_table_that_is_true_again(viewer, dock, tmp_path):
    layer = viewer.add_labels(
        np.ones((40, 40), np.uint8), metadata=result_metadata(CELLS, "an image", {})
    )
    layer.metadata[OURS][ZARR] = str(tmp_path / "a_cells.ome.zarr")
    part = dock.correct.part.controller
    assert part.at_hand is layer
    part._say(f"Put back as version 1: 1 cell changed. {OUT_OF_DATE}")
    dock.export.table_followed.emit(tmp_path / "another_cells.ome.zarr")
    assert part._sentence.endswith(OUT_OF_DATE)
    dock.export.table_followed.emit(tmp_path / "a_cells.ome.zarr")
    assert part._sentence.endswith("1 cell changed. The table holds it.")


def test_a_missed_cell_is_searched_for_in_the_child_process(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    cells = viewer.layers["nuclei cells"]
    assert len(dock.segment.fragments_of(cells)) == 1
    tools = dock.correct.tools
    tools.choose("add")
    plane = LabelsPlane.under(viewer, cells, (100, 100))
    assert plane is not None
    tools.controller.adding.find(plane, Region(0, 200, 0, 200), (100, 100))
    ended: list[object] = []
    tools.searching.progressed.connect(ended.append)
    tools.searching.failed.connect(ended.append)
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert isinstance(ended[0], Found)


def test_rgb_image_of_a_few_pixels(qtbot, viewer, dock):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    viewer.add_image(pixels, name="small", rgb=True)
    press_segment(qtbot, dock)
    assert viewer.layers["small cells"].data.shape == (5, 7)


def test_pressed_while_warming_up_it_starts_by_itself(qtbot, alone, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    dock.segment.button.click()
    assert "starts by itself" in dock.segment.message.text()
    wait_for_end(qtbot, dock)
    assert "nuclei cells" in names(viewer)


def test_a_second_press_segments_the_same_image_again(qtbot, viewer, dock, nuclei):
    viewer.add_image(np.zeros((4, 4)), name="other")
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    first = viewer.layers["nuclei cells"]
    first.data[:] = 7  # a correction that must survive
    assert viewer.layers.selection.active is first

    press_segment(qtbot, dock)

    assert names(viewer) == ["other", "nuclei", "nuclei classes", "nuclei cells"]
    assert (first.data == 7).all()


def test_results_are_never_offered_as_input(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    box = dock.segment.image_form.image_box
    assert [box.itemText(i) for i in range(box.count())] == ["nuclei"]


def test_selecting_or_deleting_layers_during_the_run_does_no_harm(qtbot, viewer, dock, nuclei):
    image = viewer.add_image(nuclei, name="nuclei", scale=(2, 2))
    dock.segment.button.click()
    viewer.add_points([[1, 1]], name="elsewhere")
    viewer.layers.remove(image)
    wait_for_end(qtbot, dock)
    assert "nuclei cells" in names(viewer)
    np.testing.assert_allclose(viewer.layers["nuclei cells"].scale, (2, 2))


@pytest.mark.parametrize(
    ("add", "sentence"),
    [
        (lambda viewer: None, "There is no image"),
        (lambda viewer: viewer.add_labels(np.ones((4, 4), int)), "There is no image"),
        (lambda viewer: viewer.add_image(np.zeros((9, 20, 20))), "constant"),
        (lambda viewer: viewer.add_image(np.zeros((3, 20, 20))), "Say whether the first axis (3)"),
        (lambda viewer: viewer.add_image(np.full((20, 20), 5.0)), "constant"),
        (lambda viewer: viewer.add_image(np.array([[0.0, np.inf], [1, 2]])), "infinite"),
    ],
    ids=["nothing", "labels", "stack", "unnamed", "constant", "infinite"],
)
def test_what_cannot_be_segmented_is_said_in_a_sentence(qtbot, viewer, dock, add, sentence):
    add(viewer)
    before = names(viewer)
    assert dock.segment.message.text() == ""

    dock.segment.button.click()
    wait_for_end(qtbot, dock)

    assert sentence in dock.segment.message.text()
    assert names(viewer) == before
    assert dock.segment.button.isEnabled()


def large(nuclei):
    return np.tile(nuclei, (12, 12))


def start_and_wait_for_a_tile(qtbot, viewer, dock):
    dock.segment.button.click()
    qtbot.waitUntil(lambda: "large classes" in names(viewer), timeout=120_000)


def test_cancel_keeps_the_tiles_that_are_done(qtbot, viewer, dock, nuclei):
    viewer.add_image(large(nuclei), name="large")
    start_and_wait_for_a_tile(qtbot, viewer, dock)
    assert dock.segment.cancel_button.isVisibleTo(dock)

    dock.segment.cancel_button.click()

    assert dock.segment.button.isEnabled()
    assert "Cancelled" in dock.segment.message.text()
    qtbot.wait(500)
    assert names(viewer) == ["large", "large classes (cancelled)"]
    viewer.layers.remove("large")
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    assert "nuclei cells" in names(viewer)


def test_a_killed_child_is_survived(qtbot, alone, viewer, dock, nuclei):
    viewer.add_image(np.tile(nuclei, (9, 9)), name="large")
    start_and_wait_for_a_tile(qtbot, viewer, dock)
    first = dock.segment.engine.pid

    os.kill(first, signal.SIGKILL)
    wait_for_end(qtbot, dock)

    assert "The memory was full; the run went on" in dock.segment.message.text()
    assert dock.segment.engine.pid not in (None, first)
    assert names(viewer) == ["large", "large classes", "large cells"]


def stack_of(nuclei):
    return np.stack([nuclei, nuclei[::-1], np.roll(nuclei, 5, axis=1)])


def test_the_plane_that_is_shown_is_segmented_and_no_other(qtbot, viewer, dock, nuclei):
    image = viewer.add_image(stack_of(nuclei), name="stack", scale=(2, 0.5, 0.5))
    assert dock.segment.image_form.stack_form.isVisibleTo(dock)
    form = dock.segment.image_form.stack_form
    form.axis_box.setCurrentIndex(form.axis_box.findText("none"))
    assert form.planes_box.currentText() == "plane 2 of 3 (shown)"
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(0, 2)
    assert form.planes_box.currentText() == "plane 3 of 3 (shown)"
    viewer.dims.set_current_step(0, 1)

    press_segment(qtbot, dock)

    cells = viewer.layers["stack cells"]
    assert cells.data.shape == (1, *nuclei.shape)
    np.testing.assert_allclose(cells.data_to_world((0, 3, 4)), image.data_to_world((1, 3, 4)))
    made = cells.metadata["napari_unet_cells"]["provenance"]["source"]
    assert made["plane"] == [1]


def test_all_planes_are_segmented_when_asked(qtbot, viewer, dock, nuclei):
    viewer.add_image(stack_of(nuclei), name="stack", axis_labels=("z", "y", "x"))
    form = dock.segment.image_form.stack_form
    assert form.axis_box.currentText() == "none"
    form.planes_box.setCurrentIndex(1)
    form.link_box.setCurrentIndex(1)
    assert form.link_box.currentText() == "along z (3 long)"
    press_segment(qtbot, dock)
    assert viewer.layers["stack cells"].data.shape == (3, *nuclei.shape)
    assert ", 3 planes, in " in dock.segment.message.text()


def test_channels_are_split_and_the_choice_is_remembered(qtbot, viewer, dock, nuclei):
    data = np.stack([np.stack([nuclei * 0, p]) for p in stack_of(nuclei)])  # z, c, y, x
    image = viewer.add_image(data, name="multi", scale=(3, 1, 0.5, 0.5), translate=(1, 2, 3, 4))
    form = dock.segment.image_form.stack_form
    assert form.axis_box.currentText() == "choose..."
    dock.segment.button.click()
    assert "Say which holds channels, if any: the first axis (3)" in dock.segment.message.text()
    assert names(viewer) == ["multi"]
    form.axis_box.setCurrentIndex(form.axis_box.findText("axis 2 of 2 (2 long)"))
    form.channel_box.setCurrentIndex(form.channel_box.findText("Channel 2 of 2"))
    form.planes_box.setCurrentIndex(1)

    press_segment(qtbot, dock)

    assert names(viewer) == [
        "multi channel 1", "multi channel 2", "multi channel 2 classes", "multi channel 2 cells",
    ]  # fmt: skip
    channel, cells = viewer.layers["multi channel 2"], viewer.layers["multi channel 2 cells"]
    assert cells.data.shape == channel.data.shape == data[:, 1].shape
    for layer in (channel, cells):
        expected = np.delete(image.data_to_world((2, 1, 5, 6)), 1)
        np.testing.assert_allclose(layer.data_to_world((2, 5, 6)), expected)
    # The channel that was split off is not asked about again, another such stack is known.
    assert form.axis_box.currentText() == "none"
    assert form.planes_box.currentText() == "all 3 planes"
    viewer.add_image(data, name="another")
    assert form.axis_box.currentData() == 1


def test_what_a_file_says_of_its_axes_beats_what_was_remembered(
    qtbot, viewer, dock, nuclei, tmp_path
):
    from napari_unet_cells.layers.image_planes import StackAxis
    from napari_unet_cells.settings import remember
    from napari_unet_cells.widgets.segment.values import channel_memory

    shape = (StackAxis(0, 3, "-4"), StackAxis(1, 2, "-3"))
    remember(channel_memory(shape), 0)
    data = np.stack([np.stack([nuclei * 0, p]) for p in stack_of(nuclei)])
    labels = ["DAPI", "GFP"] * 3
    metadata = {"axes": "ZCYX", "Labels": labels}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata=metadata)
    viewer.add_image(data, name="nobody knows")
    form = dock.segment.image_form.stack_form
    assert form.axis_box.currentData() == 0
    viewer.open(str(tmp_path / "a.tif"), plugin="napari")
    qtbot.waitUntil(lambda: form.axis_box.currentData() == 1, timeout=5_000)
    assert form.axis_box.currentText() == "channel (2 long)"
    assert [form.channel_box.itemText(i) for i in range(form.channel_box.count())] == [
        "Channel 1 of 2 (DAPI)", "Channel 2 of 2 (GFP)",
        "max of channels", "mean of channels",
    ]  # fmt: skip
    assert not form.together.isVisibleTo(dock)
    form.channel_box.setCurrentIndex(3)
    assert form.together.isVisibleTo(dock)
    assert (form.values.channel, form.values.projection) == (0, "mean")
    assert form.values.channels == (0, 1)
    form.channel_box.setCurrentIndex(1)
    assert (form.values.channel, form.values.projection) == (1, "")
    viewer.dims.set_current_step(0, 2)
    assert form.planes_box.currentText() == "z 3 of 3 (shown)"
    assert form.planes_box.itemText(1) == "all 3 planes"
    # What is chosen stays when the file of a channel that was split off is looked at.
    form.planes_box.setCurrentIndex(1)
    form.link_box.setCurrentIndex(1)
    press_segment(qtbot, dock)
    assert form.values.n_split == 2
    qtbot.waitUntil(lambda: form.link_box.currentText() == "along z (3 long)", timeout=5_000)
    assert form.values.link == 0


def test_a_file_of_planes_is_no_file_of_channels(qtbot, viewer, dock, nuclei, tmp_path):
    tifffile.imwrite(tmp_path / "z.tif", stack_of(nuclei), imagej=True, metadata={"axes": "ZYX"})
    viewer.open(str(tmp_path / "z.tif"), plugin="napari")
    form = dock.segment.image_form.stack_form
    qtbot.waitUntil(lambda: form.axis_box.currentText() == "none", timeout=5_000)
    assert form.values.problem() is None


def test_the_estimated_diameter_is_shown_until_another_image_is_chosen(viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    box = dock.segment.model_form.diameter_box
    assert box.text() == "auto"
    dock.segment.model_form.show_diameter(23.6)
    viewer.add_labels(np.ones((4, 4), int))  # as the results of a run
    assert box.text() == "auto: 24 px"
    viewer.add_image(nuclei, name="another")
    assert box.text() == "auto"


def test_a_dock_that_opens_late_shows_the_plane_that_is_shown(viewer):
    viewer.add_image(np.zeros((3, 2, 32, 32), np.uint8), name="stack")
    viewer.dims.set_point((0, 1), (2, 1))
    dock = viewer.window.add_plugin_dock_widget(PLUGIN)[1]
    form = dock.segment.image_form.stack_form
    assert form.planes_box.currentText() == "axis 1: 3 of 3, axis 2: 2 of 2 (shown)"
    form.axis_box.setCurrentIndex(form.axis_box.findData(0))
    assert form.channel_box.currentText() == "Channel 3 of 3"
    assert form.planes_box.currentText() == "plane 2 of 2 (shown)"


def test_the_other_cell_size_is_offered_until_something_else_is_said(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    button = dock.segment.size_button
    assert not button.isVisibleTo(dock)
    dock.segment.offer_size(18.6)
    assert (button.isVisibleTo(dock), button.text()) == (True, "Segment again with 19 px")
    viewer.add_image(nuclei, name="another")  # of which it was not said
    assert not button.isVisibleTo(dock)

    dock.segment.offer_size(18.6)
    with qtbot.waitSignal(dock.segment.finished, timeout=120_000):
        button.click()
    assert dock.segment.model_form.values.diameter == 19
    assert not button.isVisibleTo(dock)
    assert viewer.layers["another cells"].data.any()


@pytest.mark.parametrize("name", ["min_size", "min_probability"])
def test_sliders_change_the_cells_without_a_new_run(qtbot, viewer, dock, nuclei, name):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    adjust, cells = dock.segment.adjust_form, viewer.layers["nuclei cells"]
    assert adjust.isVisibleTo(dock)
    before = cells.data.copy()
    assert before.any()

    adjust.fields.widgets[name].value = adjust.fields.widgets[name].max
    qtbot.waitUntil(lambda: "seconds" not in dock.segment.message.text()
                    and not np.array_equal(cells.data, before), timeout=10_000)  # fmt: skip

    assert names(viewer).count("nuclei cells") == 1
    made = cells.metadata["napari_unet_cells"]["provenance"]["parameters"]["instances"]
    assert made[name] == getattr(adjust.options, name) > 0
    fitted = asdict(find_model(DEFAULT_MODEL).instances)
    assert {**made, name: fitted[name]} == fitted  # sliders that were not moved change nothing
    assert re.match(r"\d+ cells?$", dock.segment.message.text())


def test_what_is_said_of_an_image_is_not_shown_beside_another_one(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei[:96, :96], name="first")
    press_segment(qtbot, dock)
    said = dock.segment.message.text()
    assert re.match(r"\d+ cells? in .* on CPU", said)

    second = viewer.add_image(nuclei[96:192, :96], name="second")
    assert dock.segment.image_form.layer is second
    assert dock.segment.message.text() == ""
    press_segment(qtbot, dock)
    assert re.match(r"\d+ cells? in .* on CPU", dock.segment.message.text())


def test_what_is_said_of_a_result_goes_with_its_layers(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei[:96, :96], name="nuclei")
    press_segment(qtbot, dock)
    said = dock.segment.message.text()
    assert re.match(r"\d+ cells? in .* on CPU", said)

    viewer.layers.selection.active = viewer.layers["nuclei"]
    assert dock.segment.message.text() == said
    viewer.layers.remove("nuclei cells")
    assert dock.segment.message.text() == said  # the classes are still there
    assert not dock.segment.adjust_form.isVisibleTo(dock)
    viewer.layers.clear()
    assert dock.segment.message.text() == ""

    viewer.add_points(name="landmarks")
    dock.segment.button.click()
    assert "no image to segment" in dock.segment.message.text()
    viewer.layers.remove("landmarks")
    assert "no image to segment" in dock.segment.message.text()


def test_sliders_never_touch_corrected_cells_and_follow_undo(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    cells, form = viewer.layers["nuclei cells"], dock.segment.adjust_form
    slider = form.fields.widgets["min_size"]
    before, value, options = cells.data.copy(), slider.value, form.options
    assert before.any()

    slider.value = slider.max
    qtbot.waitUntil(lambda: not np.array_equal(cells.data, before), timeout=10_000)
    adjusted, fewer = form.options, cells.data.copy()
    cells.undo()
    np.testing.assert_array_equal(cells.data, before)
    assert slider.value == value
    assert form.options == options
    cells.redo()
    np.testing.assert_array_equal(cells.data, fewer)
    assert form.options == adjusted

    cells.data_setitem((np.array([0]), np.array([0])), 999)
    slider.value = value
    n = np.count_nonzero(fewer)
    qtbot.waitUntil(lambda: np.count_nonzero(cells.data) > n + 1, timeout=10_000)
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert cells.data[0, 0] == 999


def test_the_controls_are_there_when_the_dock_is_opened_again(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    viewer.window.remove_dock_widget(dock)  # as the X of its title bar does
    again = viewer.window.add_plugin_dock_widget(PLUGIN)[1]
    form = again.segment.adjust_form
    assert form.isVisibleTo(again)
    assert form.options == find_model(DEFAULT_MODEL).instances

    metadata = result_metadata(CELLS, "", {}, 5)
    opened = viewer.add_labels(np.zeros((4, 5), np.uint16), metadata=metadata)
    assert not form.isVisibleTo(again)
    assert "opened from a file" in again.segment.adjust_note.text()
    viewer.layers.remove(opened)
    viewer.layers.selection.active = viewer.layers["nuclei"]
    assert form.isVisibleTo(again)
    assert not again.segment.adjust_note.isVisibleTo(again)


def test_time_augmentation_is_chosen_with_a_click(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei[:96, :96], name="nuclei")
    assert dock.segment.model_form.augment_box.isEnabled()
    dock.segment.model_form.augment_box.click()

    press_segment(qtbot, dock)

    cells = viewer.layers["nuclei cells"]
    parameters = cells.metadata["napari_unet_cells"]["provenance"]["parameters"]
    assert parameters["test_time_augmentation"] is True
    assert dock.segment.model_form.augment_box.isEnabled()  # for the next run


def test_nothing_is_cut_off_in_a_narrow_dock_not_even_with_a_stack(qtbot, viewer, dock, nuclei):
    from qtpy.QtWidgets import QScrollArea

    viewer.window.show()
    stack = np.stack([np.stack([nuclei[:96, :96]] * 2)] * 4)
    viewer.add_image(stack, name="stack", axis_labels=("z", "c", "y", "x"))
    form = dock.segment.image_form.stack_form
    qtbot.waitUntil(lambda: form.isVisibleTo(dock), timeout=5_000)
    assert form.channel_box.isVisibleTo(dock)
    scroll = dock.findChild(QScrollArea)
    fits = scroll.viewport().width
    qtbot.waitUntil(lambda: scroll.widget().minimumSizeHint().width() <= fits(), timeout=5_000)
    qtbot.waitUntil(lambda: scroll.widget().width() <= fits(), timeout=5_000)


def test_the_user_tells_pixel_size_and_diameter(qtbot, viewer, dock, nuclei, tmp_path, monkeypatch):
    viewer.add_image(nuclei, name="nuclei")
    box = dock.segment.image_form.pixel_size
    qtbot.waitUntil(box.isEnabled, timeout=5_000)  # nobody knows it
    assert box.text() == "unknown"
    box.setValue(0.3)
    box.editingFinished.emit()
    dock.segment.model_form.diameter_box.setValue(33)

    press_segment(qtbot, dock)
    export_mask(qtbot, dock, monkeypatch, tmp_path / "out.tif")

    record = json.loads((tmp_path / "out.json").read_text())
    assert record["pixel_size"] == {"y": 0.3, "x": 0.3, "unit": "micrometer"}
    assert record["parameters"]["scale"]["diameter"] == 33
    viewer.add_image(nuclei, name="known", scale=(0.2, 0.2), units=("um", "um"))
    qtbot.waitUntil(lambda: box.value() == 0.2, timeout=5_000)
    assert not box.isEnabled()


def test_no_child_is_left_when_the_dock_is_closed(qtbot, alone, viewer, dock):
    qtbot.waitUntil(lambda: dock.segment.engine.pid is not None, timeout=60_000)
    child = psutil.Process(dock.segment.engine.pid)
    assert child.is_running()

    viewer.window.remove_dock_widget(dock)

    qtbot.waitUntil(lambda: gone(child), timeout=5_000)


def test_closing_the_dock_during_a_run_leaves_no_child_and_the_tiles(
    qtbot, alone, viewer, dock, nuclei
):
    viewer.add_image(large(nuclei), name="large")
    start_and_wait_for_a_tile(qtbot, viewer, dock)
    child = psutil.Process(dock.segment.engine.pid)

    viewer.window.remove_dock_widget(dock)

    qtbot.waitUntil(lambda: gone(child), timeout=5_000)
    assert names(viewer) == ["large", "large classes (cancelled)"]
    again = viewer.window.add_plugin_dock_widget(PLUGIN)[1]
    assert again is not dock
    assert again.segment.button.isEnabled()
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, again)
    assert names(viewer)[2:] == ["nuclei", "nuclei classes", "nuclei cells"]


def test_the_child_serves_every_viewer_until_the_last_dock_is_closed(
    qtbot, alone, viewer, dock, make_napari_viewer, nuclei
):
    other = make_napari_viewer()
    other_dock = other.window.add_plugin_dock_widget(PLUGIN)[1]
    other.add_image(nuclei, name="nuclei")
    qtbot.waitUntil(lambda: dock.segment.engine.pid is not None, timeout=60_000)

    viewer.window.remove_dock_widget(dock)
    qtbot.wait(300)
    press_segment(qtbot, other_dock)

    assert "nuclei cells" in names(other)
    assert "nuclei cells" not in names(viewer)
    child = psutil.Process(other_dock.segment.engine.pid)
    other.close()
    qtbot.waitUntil(lambda: gone(child), timeout=5_000)


def test_a_model_that_cannot_be_opened_is_said(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)  # the model is fine...
    folder = Path(os.environ["NAPARI_UNET_CELLS_HOME"]) / "models"
    (folder / f"{DEFAULT_MODEL}.keras").write_bytes(b"no longer")

    press_segment(qtbot, dock)

    assert "damaged" in dock.segment.message.text()
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def export_mask(qtbot, dock, monkeypatch, typed: Path):
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(typed), ""))
    dock.export.button.click()
    qtbot.waitUntil(lambda: not dock.export.worker.running, timeout=10_000)


def test_what_was_exported_is_not_offered_to_be_restored(
    qtbot, viewer, dock, nuclei, tmp_path, monkeypatch
):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    layer = viewer.layers["nuclei cells"]
    layer.data_setitem((np.array([0, 1]), np.array([0, 0])), 999)
    export_mask(qtbot, dock, monkeypatch, tmp_path / "cells")  # without its extension
    with qtbot.waitSignal(dock.autosave.left, timeout=10_000):
        viewer.layers.remove(layer)
        dock.autosave.save()
    (summary,) = sessions()
    assert summary.exported.complete
    assert dock.banner.isHidden()


def test_export_writes_mask_and_record(qtbot, viewer, dock, tmp_path, monkeypatch):
    assert not dock.export.button.isEnabled()
    labels = np.zeros((20, 30), np.uint16)
    labels[2:5, 3:9] = 300
    viewer.add_labels(labels, name="mine", scale=(0.5, 0.5), units=("um", "um"))

    export_mask(qtbot, dock, monkeypatch, tmp_path / "out")

    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), labels)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["pixel_size"] == {"y": 0.5, "x": 0.5, "unit": "micrometer"}
    assert record["transform"]["scale"] == [0.5, 0.5]
    assert "out.tif" in dock.export.message.text()


@pytest.mark.parametrize(("answer", "replaced"), [("No", False), ("Yes", True)])
def test_export_asks_before_it_replaces_a_file(
    qtbot, viewer, dock, tmp_path, monkeypatch, answer, replaced
):
    from qtpy.QtWidgets import QMessageBox

    asked = []

    def question(parent, title, text):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    existing = tmp_path / "out.tif"
    existing.write_bytes(b"precious")
    viewer.add_labels(np.ones((8, 8), np.uint8), name="mine")

    export_mask(qtbot, dock, monkeypatch, tmp_path / "out")  # typed without its extension
    qtbot.waitUntil(lambda: "out.tif" in dock.export.message.text(), timeout=10_000)

    assert len(asked) == 1
    assert "out.tif exists already" in asked[0]
    assert (existing.read_bytes() != b"precious") == replaced


def test_export_names_every_file_that_would_be_replaced(viewer, dock, tmp_path, monkeypatch):
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    for name in ("out.tif", "out.json"):
        (tmp_path / name).write_bytes(b"precious")
    asked = []
    monkeypatch.setattr(
        QMessageBox,
        "question",
        lambda parent, title, text: asked.append(text) or QMessageBox.StandardButton.No,
    )
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / "out.tif"), "")
    )
    viewer.add_labels(np.ones((8, 8), np.uint8), name="mine")
    dock.export.button.click()
    assert "out.tif and out.json exist" in asked[0]
    assert (tmp_path / "out.json").read_bytes() == b"precious"


def test_the_table_stays_open(qtbot, viewer, dock):
    from napari_unet_cells.widgets.export.table import TableView

    viewer.add_labels(np.eye(20, dtype=np.uint16), name="mine")
    dock.export.table_button.click()
    qtbot.wait(200)  # what Qt shall delete is deleted by now
    (table,) = viewer.window._qt_window.findChildren(TableView)
    qtbot.waitUntil(lambda: table.message.text().startswith("1 cell."), timeout=10_000)
    dock.export.table_button.click()
    assert viewer.window._qt_window.findChildren(TableView) == [table]


def test_cancelled_result_names_its_maker_and_that_it_is_partial(qtbot, viewer, dock, nuclei):
    viewer.add_image(large(nuclei), name="large")
    start_and_wait_for_a_tile(qtbot, viewer, dock)
    dock.segment.cancel_button.click()
    classes = viewer.layers["large classes (cancelled)"]
    made = classes.metadata["napari_unet_cells"]["provenance"]
    assert made["complete"] is False
    assert len(made["model"]["sha256"]) == 64
    viewer.layers.selection.active = classes
    assert not dock.export.button.isEnabled()
    assert "holds only the part of the image that was done" in dock.export.button.toolTip()


def test_the_image_selected_during_a_run_is_the_next_one(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="second")
    first = viewer.add_image(large(nuclei), name="large")
    start_and_wait_for_a_tile(qtbot, viewer, dock)
    assert dock.segment.image_form.image_box.layer is first
    viewer.layers.selection.active = viewer.layers["second"]
    assert dock.segment.image_form.image_box.layer is first
    dock.segment.cancel_button.click()
    assert dock.segment.image_form.image_box.layer is viewer.layers["second"]


def test_export_says_whether_labels_were_corrected(
    qtbot, viewer, dock, nuclei, tmp_path, monkeypatch
):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    export_mask(qtbot, dock, monkeypatch, tmp_path / "first.tif")
    viewer.layers["nuclei cells"].data_setitem((np.array([0]), np.array([0])), 9)
    export_mask(qtbot, dock, monkeypatch, tmp_path / "second.tif")

    first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("first.json", "second.json")
    )
    assert first["corrected_by_hand"] is False
    assert second["corrected_by_hand"] is True
    assert first["model"]["sha256"] == second["model"]["sha256"]


def test_each_page_has_its_message_below_all_pages(dock):
    dock.segment.say("found")
    dock.export.message.setText("written")
    for name, message in (("Segment", dock.segment.message), ("Export", dock.export.message)):
        dock.open(name)
        assert message.isVisibleTo(dock)
        assert message.parent() is dock
    assert not dock.segment.message.isVisibleTo(dock)


@pytest.mark.parametrize("name", ["Segment", "Correct", "Export", "Retrain"])
def test_no_page_scrolls_on_a_small_laptop(qtbot, viewer, dock, name):
    """A window of 1280 x 720 leaves 530 pixels for a page; 90 are kept for messages."""
    stack = simulate_nuclei((64, 64), seed=0)[0][None, None].repeat(2, 1)
    viewer.add_image(stack.repeat(3, 0), axis_labels=("z", "c", "y", "x"))
    dock.segment.show_adjustable("")
    dock.open(name)
    page = dock.tabs.currentWidget()
    assert page.widget().minimumSizeHint().height() <= 440
    assert page.widget().minimumSizeHint().width() <= 300


def test_the_status_line_counts_what_was_corrected(qtbot, viewer, dock, nuclei):
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    cells, count = viewer.layers["nuclei cells"], dock.status.count_label
    n = int(np.count_nonzero(np.unique(cells.data)))
    qtbot.waitUntil(lambda: count.text() == describe_count(n), timeout=5000)
    one = int(cells.data[cells.data > 0][0])
    cells.data_setitem(np.nonzero(cells.data == one), 0)
    qtbot.waitUntil(lambda: count.text() == describe_count(n - 1), timeout=5000)
    cells.undo()
    qtbot.waitUntil(lambda: count.text() == describe_count(n), timeout=5000)
    dock.autosave.timer.stop()
    qtbot.waitUntil(lambda: not dock.autosave.busy, timeout=20_000)
    dock.autosave._watch.find()
    for watched in dock.autosave._watch.watched:
        watched.saved_at = None
    dock.status.show_saved()
    assert dock.status.saved_label.text() == ""
    cells.data_setitem(np.nonzero(cells.data == one), 0)
    dock.autosave.save()
    saved = dock.status.saved_label
    qtbot.waitUntil(lambda: saved.text().startswith("· saved"), timeout=20_000)
    viewer.layers.clear()
    qtbot.waitUntil(lambda: count.text() == "", timeout=5000)
    assert dock.status.saved_label.text() == ""


def test_who_goes_to_correct_has_the_network_made_ready_to_learn(dock, monkeypatch):
    asked = []
    monkeypatch.setattr(dock.correct.learning.controller, "make_ready", lambda: asked.append(1))
    for name, n in (("Export", 0), ("Correct", 1)):
        dock.open(name)
        assert len(asked) == n


def test_a_model_that_learned_is_listed_and_a_retraining_goes_first(dock):
    learning = dock.correct.learning
    card = replace(find_model(DEFAULT_MODEL), name="cells (learning)")
    learning.controller.receive(Learned(card, "Learned from 1 region."))
    try:
        boxes = dock.segment.model_form.model_box, dock.retrain.base_box
        assert boxes[0].findText("cells (learning)") >= 0
        dock.open("Retrain")
        assert boxes[1].findText("cells (learning)") >= 0
        dock.retrain.running_changed.emit(True)
        assert learning.controller._paused
        dock.retrain.worker.failed.emit("The dataset is gone.")
        assert not learning.controller._paused
    finally:
        take_back("cells (learning)")
    dock.correct.learning.models_changed.emit()
    assert boxes[0].findText("cells (learning)") < 0


def test_a_new_model_is_compared_kept_or_used(qtbot, viewer, dock, nuclei):
    models = find_model(DEFAULT_MODEL).path.parent
    for ending in (".keras", ".json"):
        source = (models / f"{DEFAULT_MODEL}{ending}").read_bytes()
        (models / f"{DEFAULT_MODEL}-2{ending}").write_bytes(source)
    card = json.loads((models / f"{DEFAULT_MODEL}-2.json").read_text()) | {
        "name": f"{DEFAULT_MODEL}-2",
        "parent": {"name": DEFAULT_MODEL, "sha256": ""},
    }
    (models / f"{DEFAULT_MODEL}-2.json").write_text(json.dumps(card))
    new = find_model(f"{DEFAULT_MODEL}-2")
    viewer.add_image(nuclei, name="nuclei")
    press_segment(qtbot, dock)
    cells = viewer.layers["nuclei cells"]
    cells.data[:9, :9] = cells.data.max() + 1  # corrected by hand
    before = cells.data.copy()
    retrain, box = dock.retrain, dock.segment.model_form.model_box

    def retrained() -> None:
        retrain._finished(Retrained(new, 0.5, 0.5, 1.0, 60.0, 4, (0.4, 0.6), (0.4, 0.6)))
        retrain._show_running(False)
        assert box.currentText() == DEFAULT_MODEL

    def compare() -> None:
        retrain.decision.compare_button.click()
        assert retrain.comparing.running
        assert not dock.segment.button.isEnabled()
        qtbot.waitUntil(lambda: not retrain.comparing.running, timeout=120_000)
        assert dock.segment.button.isEnabled()
        assert names(viewer)[-1] == f"nuclei cells ({new.name})"
        np.testing.assert_array_equal(cells.data, before)
        assert viewer.layers.selection.active is cells
        assert "cells in this image" in retrain.decision.table.text()

    dock.open("Retrain")
    width = dock.retrain.minimumSizeHint().width()
    retrained()
    compare()
    assert retrain.decision.table.minimumSizeHint().width() < width
    compare()  # the outlines of before go
    assert len([name for name in names(viewer) if new.name in name]) == 1
    retrain.decision.keep_button.click()
    assert new.name not in " ".join(names(viewer))
    assert box.currentText() == default_model() == DEFAULT_MODEL

    retrained()
    compare()
    retrain.decision.use_button.click()
    assert box.currentText() == default_model() == new.name
    assert viewer.layers["nuclei cells"] is cells
    np.testing.assert_array_equal(cells.data, before)


def test_the_channel_and_the_slider_follow_each_other(viewer, dock):
    stack = np.zeros((5, 3, 64, 64), np.uint8)
    viewer.dims.set_point(0, 0)
    viewer.add_image(stack, axis_labels=("z", "c", "y", "x"))
    form, box = dock.segment.image_form.stack_form, dock.segment.image_form.stack_form.channel_box
    viewer.dims.set_point((0, 1), (3, 1))
    assert box.currentText() == "Channel 2 of 3"
    assert form.values.channel == 1
    box.setCurrentIndex(2)
    box.activated.emit(2)  # as the user does
    assert tuple(viewer.dims.current_step)[:2] == (3, 2)
    box.setCurrentIndex(3)
    box.activated.emit(3)  # a projection is of all channels, whatever is shown
    viewer.dims.set_point(1, 0)
    assert box.currentText() == "max of channels"


def test_another_image_has_the_channel_that_is_shown(viewer, dock):
    """Not what stands in the row of the list that was chosen for the image before."""
    box = dock.segment.image_form.stack_form.channel_box
    for name, n in (("five", 5), ("three", 3), ("two", 2)):
        stack = np.zeros((2, n, 32, 32), np.uint8)
        viewer.add_image(stack, axis_labels=("z", "c", "y", "x"), name=name)
    layers = viewer.layers
    layers.selection.active = layers["five"]
    viewer.dims.set_point(1, 3)
    assert box.currentText() == "Channel 4 of 5"
    layers.selection.active = layers["three"]
    assert box.currentText() == "Channel 3 of 3"  # the slider is past its last channel
    layers.selection.active = layers["two"]
    box.setCurrentIndex(2)
    assert box.currentText() == "max of channels"
    layers.selection.active = layers["five"]
    assert box.currentText() == "max of channels"
    box.setCurrentIndex(0)
    layers.selection.active = layers["three"]
    viewer.dims.set_point(1, 0)
    layers.selection.active = layers["five"]
    assert box.currentText() == "Channel 1 of 5"


def test_a_long_name_is_cut_in_its_middle(viewer, dock):
    from qtpy.QtWidgets import QStyleOptionComboBox

    name = "2024-03-17_experiment_with_a_long_name_field012_corrected"
    viewer.add_image(np.zeros((30, 40)), name=name)
    box, option = dock.segment.image_form.image_box, QStyleOptionComboBox()
    box.resize(200, 24)
    box.initStyleOption(option)
    cut = box._shortened(option)
    assert box.currentText() == name
    assert re.fullmatch("2024.*….*ected", cut)


@pytest.mark.parametrize("name", ["Segment", "Correct", "Export", "Retrain"])
def test_every_control_has_a_tooltip(viewer, dock, name):
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QScrollBar,
        QTabBar,
    )

    viewer.add_image(np.zeros((3, 2, 30, 40)), axis_labels=("z", "c", "y", "x"))
    dock.segment.show_adjustable("")
    dock.open(name)
    controls = [
        control
        for kind in (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox)
        for control in dock.findChildren(kind)
        if control.isVisibleTo(dock)
        and not isinstance(control, QScrollBar)
        and not isinstance(control.parentWidget(), QTabBar)
    ]
    assert len(controls) > 4
    silent = [c for c in controls if not (c.toolTip() or c.parentWidget().toolTip())]
    assert [c.objectName() or c.__class__.__name__ for c in silent] == []


def test_where_is_chosen_below_the_model_and_not_during_a_run(dock):
    form = dock.segment.model_form
    box = form.where_box
    assert [box.itemText(row) for row in range(box.count())] == list(WHERE)
    assert dock.segment.values.where == WHOLE
    box.setCurrentText("Inside the drawn shapes")
    assert dock.segment.values.where == DRAWN
    form.show_running(True)
    assert not box.isEnabled()
    form.show_running(False)
    assert box.isEnabled()
