"""The table below the image, in a real napari window."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import Qt

from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import image_channels
from napari_unet_cells.layers.image_planes import describe_source
from napari_unet_cells.layers.metadata import CELLS, image_id, result_metadata
from napari_unet_cells.layers.transforms import PLACE, place_of
from napari_unet_cells.widgets.export.table import heading, open_table
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size

pytestmark = pytest.mark.gui


def squares():
    """Labels 1 to 12 (without 5), squares of growing size, each of its own intensity."""
    labels = np.zeros((120, 160), np.uint16)
    image = np.zeros((120, 160), np.uint16)
    for i in range(12):
        y, x = 5 + 40 * (i // 4), 5 + 40 * (i % 4)
        labels[y : y + 6 + i, x : x + 6 + i] = i + 1 if i != 4 else 0
        image[y : y + 6 + i, x : x + 6 + i] = 1000 - 10 * i
    return labels, image


def result_of(image, labels, **provenance):
    metadata = result_metadata(CELLS, image_id(image), provenance)
    return Labels(labels, name="cells", metadata=metadata, **place_of(image))


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer()
    labels, pixels = squares()
    image = viewer.add_image(
        pixels, name="DAPI", scale=(0.5, 0.5), translate=(3, 4), units=("um", "um")
    )
    viewer.add_layer(result_of(image, labels))
    return viewer


def wait(qtbot, table):
    qtbot.waitUntil(
        lambda: not table.measuring.busy and table.histogram is not None, timeout=20_000
    )


@pytest.fixture
def table(qtbot, viewer):
    table = open_table(viewer, viewer.layers["cells"])
    assert table.message.text() == "measuring..."
    wait(qtbot, table)
    return table


def shown(table, name):
    return [table.model.value(row, name) for row in range(table.model.rowCount())]


def click(qtbot, table, row, column=0):
    table.view.scrollTo(table.model.index(row, column))
    place = table.view.visualRect(table.model.index(row, column)).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)


def click_header(qtbot, table, name):
    header = table.view.horizontalHeader()
    section = table.model.names.index(name)
    x = header.sectionViewportPosition(section) + header.sectionSize(section) // 2
    place = header.rect().center()
    place.setX(x)
    qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_table_and_features_hold_what_was_measured(viewer, table):
    layer = viewer.layers["cells"]
    assert table.message.text() == "11 cells."
    assert shown(table, "label") == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert shown(table, "area")[0] == 36 * 0.25
    assert shown(table, "intensity_mean")[0] == 1000
    headers = [
        table.model.headerData(i, Qt.Orientation.Horizontal)
        for i in range(table.model.columnCount())
    ]
    assert headers[:4] == ["label", "area (µm²)", "area pixels", "centroid y (µm)"]
    assert layer.features["index"].tolist() == list(range(13))
    assert layer.features["area"][12] == 17 * 17 * 0.25
    assert np.isnan(layer.features["area"][5])
    assert table.parentWidget().windowTitle() == "cells table"


def test_names_have_their_units():
    assert heading("bbox_x_min", "nanometer") == "bbox x min (nm)"
    assert heading("area", "pixel") == "area (px²)"
    assert heading("intensity_mean_DAPI", "micrometer") == "intensity mean DAPI"


def test_a_click_on_a_header_sorts_and_draws_its_histogram(qtbot, table):
    assert table.column_box.currentText() == "area (µm²)"
    click_header(qtbot, table, "area_pixels")
    first = shown(table, "area_pixels")
    click_header(qtbot, table, "area_pixels")
    second = shown(table, "area_pixels")
    assert sorted([first, second]) == [sorted(first), sorted(first, reverse=True)]
    assert table.column_box.currentText() == "area pixels"
    histogram = table.histogram
    assert histogram.axes.get_xlabel() == "area pixels"
    assert histogram.bars.get_data().values.sum() == 11
    table.column_box.setCurrentText("solidity")
    assert histogram.axes.get_xlabel() == "solidity"


def test_sorting_puts_what_is_no_number_last(table):
    model = table.model
    columns = dict(model.table.columns)
    columns["solidity"] = np.array([3.0, np.nan, 1, *range(4, 12)])
    model.set_table(type(model.table)(columns))
    section = model.names.index("solidity")
    for order in (Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder):
        model.sort(section, order)
        assert np.isnan(model.value(10, "solidity"))
        assert model.data(model.index(10, section)) == ""
    assert model.value(0, "solidity") == 11
    assert model.value(0, "label") == 12


def test_a_click_on_a_row_goes_to_the_cell(qtbot, viewer, table):
    layer, camera = viewer.layers["cells"], camera_of(viewer)
    viewer.layers.selection.active = viewer.layers["DAPI"]
    assert layer.selected_label == 1
    assert not table.histogram.line.get_visible()

    click(qtbot, table, 10)

    assert viewer.layers.selection.active is layer
    assert layer.selected_label == 12
    centre = layer.data_to_world((85 + 8, 125 + 8))
    np.testing.assert_allclose(camera.center[1:], centre)
    assert table.histogram.line.get_visible()
    assert table.histogram.line.get_xdata()[0] == shown(table, "area")[10]

    camera.center = (0, 0)
    click(qtbot, table, 10)  # the same row again
    np.testing.assert_allclose(camera.center[1:], centre)

    qtbot.keyClick(table.view, Qt.Key.Key_Up)
    assert layer.selected_label == 11


@pytest.mark.parametrize("zoom", [1e-3, 1e4])
def test_the_camera_comes_near_or_goes_far_enough(qtbot, viewer, table, zoom):
    camera_of(viewer).zoom = zoom
    click(qtbot, table, 10)
    part = 17 * 0.5 * camera_of(viewer).zoom / min(canvas_size(viewer))
    assert 0.049 < part < 0.81


def test_the_selected_label_selects_its_row(viewer, table):
    layer, centre = viewer.layers["cells"], camera_of(viewer).center
    table.model.sort(1, Qt.SortOrder.DescendingOrder)
    layer.selected_label = 3
    assert table.model.value(table.view.currentIndex().row(), "label") == 3
    assert table.histogram.line.get_visible()
    assert camera_of(viewer).center == centre
    layer.selected_label = 5  # there is no such cell
    assert not table.view.currentIndex().isValid()
    assert not table.histogram.line.get_visible()


class Mouse:
    """A click as napari tells it to a layer."""

    type, button, view_direction, dims_displayed = "mouse_press", 1, None, [0, 1]

    def __init__(self, position):
        self.position = position


def press(layer, position, *moves):
    event = Mouse(layer.data_to_world(position))
    steps = layer.mouse_drag_callbacks[-1](layer, event)
    for event.type in ("mouse_press", *moves, "mouse_release"):
        next(steps, None)


def test_a_click_on_a_cell_selects_its_row(viewer, table):
    layer = viewer.layers["cells"]
    press(layer, (7, 47), "mouse_move")  # the image was moved
    assert not table.view.currentIndex().isValid()
    press(layer, (7, 47))
    assert table.model.value(table.view.currentIndex().row(), "label") == 2
    layer.mode = "paint"
    press(layer, (7, 87))  # a stroke
    assert table.model.value(table.view.currentIndex().row(), "label") == 2


def wait_for_edit(qtbot, table, change):
    seen = []
    table.measuring.measured.connect(seen.append)
    change()
    qtbot.waitUntil(lambda: bool(seen), timeout=10_000)
    wait(qtbot, table)
    table.measuring.measured.disconnect(seen.append)
    assert len(seen) == 1
    return seen[0].n_again


def test_edited_cells_are_measured_again_and_no_others(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    table.model.sort(1, Qt.SortOrder.DescendingOrder)
    layer.selected_label = 12
    before = shown(table, "area_pixels")
    pixels = np.array([0, 1]), np.array([0, 0])

    assert wait_for_edit(qtbot, table, lambda: layer.data_setitem(pixels, 12)) == 1
    assert shown(table, "area_pixels") == [before[0] + 2, *before[1:]]
    assert layer.features["area_pixels"][12] == before[0] + 2
    assert table.model.value(table.view.currentIndex().row(), "label") == 12
    assert "1 of them measured again" in table.message.text()

    assert wait_for_edit(qtbot, table, layer.undo) == 1
    assert shown(table, "area_pixels") == before

    assert wait_for_edit(qtbot, table, lambda: layer.fill((6, 46), 20)) == 2  # 2 becomes 20
    assert 2 not in shown(table, "label")
    assert len(layer.features) == 21
    assert np.isnan(layer.features["area"][2])

    layer.mode = "paint"
    layer.selected_label = 30
    assert wait_for_edit(qtbot, table, lambda: layer.paint((60, 150), 30)) == 1
    assert len(shown(table, "label")) == 12


def test_a_refresh_without_an_edit_measures_nothing(qtbot, viewer, table):
    seen = []
    table.measuring.measured.connect(seen.append)
    viewer.layers["cells"].refresh()
    assert table.measuring.busy
    wait(qtbot, table)
    assert not seen


def test_new_data_or_a_new_scale_measures_all(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    layer.scale = (1, 1)
    qtbot.waitUntil(lambda: shown(table, "area")[0] == 36, timeout=10_000)

    def replace():
        layer.data = np.eye(5, dtype=np.uint8)

    assert wait_for_edit(qtbot, table, replace) is None
    assert shown(table, "area_pixels") == [5]
    assert "'DAPI' has another size than the labels" in table.message.text()


def test_features_of_others_are_kept(qtbot, viewer):
    layer = viewer.layers["cells"]
    layer.features = {"mine": np.arange(20.0)}
    table = open_table(viewer, layer)
    wait(qtbot, table)
    assert layer.features["mine"].tolist() == list(range(20))
    assert len(layer.features) == 20
    assert layer.features["area"][12] == 17 * 17 * 0.25


def test_features_go_where_they_cannot_be(qtbot, viewer):
    layer = viewer.add_labels(np.eye(4, dtype=np.uint32), name="large ids")
    table = open_table(viewer, layer)
    wait(qtbot, table)
    assert len(layer.features) == 2
    place = np.array([0]), np.array([3])
    wait_for_edit(qtbot, table, lambda: layer.data_setitem(place, 4_000_000_000))
    assert shown(table, "label") == [1, 4_000_000_000]
    assert len(layer.features.columns) == 0


def test_no_cells_are_said_in_a_sentence(qtbot, viewer):
    layer = viewer.add_labels(np.zeros((10, 10), np.uint8), name="nothing")
    table = open_table(viewer, layer)
    wait(qtbot, table)
    assert table.message.text().startswith("There are no cells in these labels.")
    assert table.histogram.nothing.get_visible()
    wait_for_edit(qtbot, table, lambda: layer.data_setitem((np.array([2]), np.array([2])), 1))
    assert table.message.text().startswith("1 cell, 1 of them measured again after an edit.")
    assert not table.histogram.nothing.get_visible()


def test_the_table_outlives_its_layer(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    layer.data_setitem((np.array([0]), np.array([0])), 12)  # not measured any more
    viewer.layers.remove(layer)
    assert "'cells' was deleted" in table.message.text()
    assert not table.measuring.busy
    click(qtbot, table, 3)
    table.measuring.start()
    qtbot.wait(400)
    assert len(shown(table, "label")) == 11
    assert "'cells' was deleted" in table.message.text()


def test_deleted_while_it_is_measured(qtbot, viewer):
    table = open_table(viewer, viewer.layers["cells"])
    viewer.layers.remove("cells")
    qtbot.wait(500)
    assert "was deleted" in table.message.text()


def test_opened_again_it_is_the_same_table_in_the_images_of_now(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    place = {name: getattr(viewer.layers["DAPI"], name) for name in PLACE}
    viewer.add_image(viewer.layers["DAPI"].data * 2, name="GFP", **place)
    table.parentWidget().hide()
    assert open_table(viewer, layer) is table
    wait(qtbot, table)
    assert table.parentWidget().isVisibleTo(viewer.window._qt_window)
    assert shown(table, "intensity_mean_GFP")[0] == 2000
    assert "intensity_mean" not in layer.features


def test_closed_for_good_it_leaves_nothing_behind(qtbot, viewer):
    layer = viewer.layers["cells"]

    def listeners():
        emitters = (layer.events.paint, layer.events.set_data, layer.events.selected_label)
        removed = viewer.layers.events.removed
        return [len(e.callbacks) for e in (*emitters, removed)], len(layer.mouse_drag_callbacks)

    before = listeners()
    table = open_table(viewer, layer)
    wait(qtbot, table)
    assert listeners() != before
    reference = weakref.ref(table)
    table.parentWidget().destroyOnClose()  # the X of the dock
    del table
    qtbot.waitUntil(lambda: listeners() == before, timeout=5_000)
    layer.data_setitem((np.array([0]), np.array([0])), 12)
    layer.selected_label = 3
    qtbot.wait(400)
    gc.collect()
    assert reference() is None
    wait(qtbot, open_table(viewer, layer))


def test_a_stack_goes_to_its_plane(qtbot, make_napari_viewer):
    viewer = make_napari_viewer()
    stack = np.zeros((3, 40, 50), np.uint16)
    stack[0, 5:9, 5:9] = stack[2, 20:30, 30:40] = 4
    layer = viewer.add_labels(stack, name="stack", scale=(2, 1, 1))
    table = open_table(viewer, layer)
    wait(qtbot, table)
    assert table.message.text().startswith("1 cell in 2 rows, one for each plane")
    assert shown(table, "z") == [0, 2]
    assert layer.features.empty
    click(qtbot, table, 1)
    assert viewer.dims.current_step[0] == 2
    np.testing.assert_allclose(camera_of(viewer).center[1:], (24.5, 34.5))
    click(qtbot, table, 0)
    assert viewer.dims.current_step[0] == 0
    assert table.view.currentIndex().row() == 0


def test_several_levels_are_refused_in_a_sentence(viewer):
    levels = [np.ones((40, 50), int), np.ones((20, 25), int)]
    layer = viewer.add_labels(levels, multiscale=True, name="levels")
    docks = len(viewer.window.dock_widgets)
    with pytest.raises(UserError, match="'levels' has several levels"):
        open_table(viewer, layer)
    assert len(viewer.window.dock_widgets) == docks


# --- which image is measured -------------------------------------------------------------------


def test_channels_are_the_source_and_what_lies_on_it():
    labels, pixels = squares()
    image = Image(pixels, name="DAPI", scale=(2, 2))
    alike = Image(pixels + 1, name="GFP", scale=(2, 2))
    moved = Image(pixels, name="moved", scale=(2, 2), translate=(1, 0))
    small = Image(pixels[1:], name="small", scale=(2, 2))
    cells = result_of(image, labels)
    found = image_channels(cells, [alike, image, moved, small, cells])
    assert list(found.arrays) == ["DAPI", "GFP"]
    assert found.arrays["DAPI"] is pixels
    assert found.problem == ""
    gone = image_channels(cells, [alike, cells])
    assert not gone.arrays
    assert "is gone" in gone.problem


def test_labels_of_others_take_the_image_below_them():
    labels, pixels = squares()
    image, other = Image(pixels, name="DAPI"), Image(pixels[1:], name="other")
    foreign = Labels(labels, name="by hand")
    assert list(image_channels(foreign, [image, other, foreign]).arrays) == ["DAPI"]
    found = image_channels(foreign, [other, foreign])
    assert not found.arrays
    assert "No image lies pixel on pixel" in found.problem


def test_colours_are_channels():
    labels, pixels = squares()
    colours = np.stack([pixels, pixels + 1, pixels + 2, pixels], -1).astype(np.uint8)
    image = Image(colours, name="stain", rgb=True)
    cells = result_of(image, labels)
    found = image_channels(cells, [image, cells]).arrays
    assert list(found) == ["red", "green", "blue"]
    np.testing.assert_array_equal(found["blue"], colours[..., 2])
    alike = Image(pixels, name="GFP")
    assert list(image_channels(cells, [image, alike, cells]).arrays)[1:] == [
        "stain green", "stain blue", "GFP",
    ]  # fmt: skip


def test_one_plane_of_a_stack_is_measured_in_that_plane():
    labels, pixels = squares()
    image = Image(np.stack([pixels * 0, pixels, pixels * 2]), name="stack")
    metadata = result_metadata(CELLS, image_id(image), {"source": describe_source(image, (2,))})
    cells = Labels(labels[None], metadata=metadata, **place_of(image, (2,)))
    (found,) = image_channels(cells, [image, cells]).arrays.values()
    np.testing.assert_array_equal(found, pixels * 2)


def test_a_lazy_image_is_not_read_for_the_asking():
    array = pytest.importorskip("dask.array")
    labels, pixels = squares()

    def read(block):
        raise AssertionError("read")

    lazy = array.from_array(pixels).map_blocks(read, dtype=pixels.dtype, meta=pixels[:0, :0])
    image = Image(array.from_array(pixels), name="lazy")
    image._data = lazy
    cells = result_of(image, labels)
    assert image_channels(cells, [image, cells]).arrays["lazy"] is lazy
