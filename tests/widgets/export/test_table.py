"""The table below the image, in a real napari window."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from qtpy.QtCore import QItemSelectionModel, Qt

from napari_unet_cells.core.regions import Review
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import image_channels
from napari_unet_cells.layers.image_planes import describe_source
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    OURS,
    REVIEW,
    image_id,
    result_metadata,
    set_input_metadata,
)
from napari_unet_cells.layers.transforms import PLACE, place_of
from napari_unet_cells.segmentation.earlier import EarlierResult, Left
from napari_unet_cells.segmentation.replacing import Origin, ResultState, replace_cells
from napari_unet_cells.widgets import opening
from napari_unet_cells.widgets.export import removing
from napari_unet_cells.widgets.export.removing import Cells
from napari_unet_cells.widgets.export.table import open_table
from napari_unet_cells.widgets.export.table_model import TableModel, heading
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.segment.live import begin, current

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


def test_choosing_all_rows_asks_for_no_row_in_each_column(qtbot, viewer, table, monkeypatch):
    n = 3000
    columns = {name: np.resize(column, n) for name, column in table.model.table.columns.items()}
    table.model.set_table(replace(table.model.table, columns=columns))
    qtbot.wait(50)
    asked = []
    count = TableModel.rowCount
    monkeypatch.setattr(
        TableModel, "rowCount", lambda self, parent=None: asked.append(1) or count(self, parent)
    )
    table.view.selectAll()
    assert len(table.chosen_rows()) == n
    table.view.horizontalHeader().grab()
    assert len(asked) < n / 2  # else each column asks for each of the rows


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


def choose_rows(table, *labels):
    """Choose rows as Ctrl+click does."""
    flags = QItemSelectionModel.SelectionFlag
    table.view.selectionModel().clear()
    for label in labels:
        index = table.model.index(int(table.model.rows_of(label)[0]), 0)
        table.view.selectionModel().select(index, flags.Select | flags.Rows)


def chosen(table):
    return [table.model.value(int(row), "label") for row in table.chosen_rows()]


def test_delete_removes_the_cells_of_the_rows_in_one_step(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    before = layer.data.copy()
    assert not table.delete_button.isEnabled()
    choose_rows(table, 3, 7, 12)
    assert table.delete_button.isEnabled()

    def press():
        qtbot.keyClick(table.view, Qt.Key.Key_Delete)
        # The rows are gone before anything is measured.
        assert shown(table, "label") == [1, 2, 4, 6, 8, 9, 10, 11]

    assert wait_for_edit(qtbot, table, press) == 3
    assert shown(table, "label") == [1, 2, 4, 6, 8, 9, 10, 11]
    expected = np.where(np.isin(before, (3, 7, 12)), 0, before)
    np.testing.assert_array_equal(layer.data, expected)
    assert "3 cells deleted; Ctrl+Z brings them back." in table.message.text()
    assert chosen(table) == []

    def undo():
        qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        np.testing.assert_array_equal(layer.data, before)

    assert wait_for_edit(qtbot, table, undo) == 3
    assert len(shown(table, "label")) == 11
    assert wait_for_edit(qtbot, table, layer.redo) == 3
    np.testing.assert_array_equal(layer.data, expected)


def test_many_cells_are_deleted_in_one_step_too(qtbot, viewer, table, monkeypatch):
    monkeypatch.setattr(removing, "FEW", 2)
    layer = viewer.layers["cells"]
    before = layer.data.copy()
    choose_rows(table, 3, 7, 12)
    table.delete_button.click()
    assert table.message.text() == "deleting..."
    qtbot.waitUntil(lambda: not np.isin(layer.data, (3, 7, 12)).any(), timeout=10_000)
    expected = np.where(np.isin(before, (3, 7, 12)), 0, before)
    np.testing.assert_array_equal(layer.data, expected)
    assert shown(table, "label") == [1, 2, 4, 6, 8, 9, 10, 11]
    qtbot.waitUntil(lambda: "3 cells deleted" in table.message.text(), timeout=10_000)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    layer.redo()
    np.testing.assert_array_equal(layer.data, expected)


def test_what_is_painted_while_many_are_prepared_is_not_lost(qtbot, viewer, table, monkeypatch):
    monkeypatch.setattr(removing, "FEW", 0)
    layer = viewer.layers["cells"]
    choose_rows(table, 1, 2)
    table.delete_button.click()
    layer.data_setitem((np.array([6, 6]), np.array([30, 5])), 9)  # beside the cells, and in one
    qtbot.waitUntil(lambda: not np.isin(layer.data, (1, 2)).any(), timeout=10_000)
    assert layer.data[6, 30] == layer.data[6, 5] == 9
    layer.undo()
    assert layer.data[6, 30] == layer.data[6, 5] == 9
    assert {1, 2} <= set(np.unique(layer.data))


def test_large_cells_are_not_removed_in_the_window():
    small = Cells(np.arange(3), np.zeros((3, 0), int), np.tile([0.0, 0, 30, 30], (3, 1)))
    assert small.is_quick
    large = Cells(np.arange(3), np.zeros((3, 0), int), np.tile([0.0, 0, 200, 200], (3, 1)))
    assert not large.is_quick
    many = small[np.zeros(1000, int)]
    assert not many.is_quick


@pytest.mark.parametrize("few", [300, 0])
def test_the_rows_of_the_press_are_deleted_whichever_are_chosen_later(
    qtbot, viewer, table, monkeypatch, few
):
    monkeypatch.setattr(removing, "FEW", few)
    layer = viewer.layers["cells"]
    layer.data_setitem((np.array([0]), np.array([100])), 3)  # is measured now
    assert table.measuring.busy
    choose_rows(table, 3, 7)
    table.delete_button.click()
    choose_rows(table, 12)
    qtbot.waitUntil(lambda: not np.isin(layer.data, (3, 7)).any(), timeout=10_000)
    qtbot.waitUntil(lambda: 3 not in shown(table, "label"), timeout=10_000)
    assert 12 in layer.data
    assert chosen(table) == [12]


def test_after_a_cell_the_next_row_is_chosen(qtbot, viewer, table):
    table.model.sort(1, Qt.SortOrder.DescendingOrder)
    click(qtbot, table, 0)
    assert chosen(table) == [12]
    table.delete_button.click()
    assert chosen(table) == [11]
    assert viewer.layers["cells"].selected_label == 11
    table.delete_button.click()  # at once, while the first one is still being measured
    wait(qtbot, table)
    assert 12 not in viewer.layers["cells"].data
    assert 11 not in viewer.layers["cells"].data
    assert chosen(table) == [10]


def test_a_cell_that_is_painted_on_is_deleted_as_it_is_now(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    layer.data_setitem((np.array([0, 119]), np.array([0, 159])), 3)
    choose_rows(table, 3)
    table.delete_button.click()
    assert 3 in layer.data  # where it lies is not known yet
    qtbot.waitUntil(lambda: 3 not in layer.data, timeout=10_000)


def test_what_cannot_be_deleted_from_is_said(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    choose_rows(table, 3)
    layer.editable = False
    table.delete_button.click()
    assert "'cells' cannot be edited" in table.message.text()
    layer.editable = True
    layer.metadata[OURS]["role"] = CLASSES
    table.delete_button.click()
    assert "'cells' holds classes, not cells" in table.message.text()
    assert 3 in layer.data


def test_deleted_cells_count_as_corrected(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    review = Review(layer.data)
    state = ResultState.of(Origin(None, {}), review.baseline, 0)
    layer.metadata[REVIEW] = review
    begin(layer, EarlierResult(Left.of(state.made, state, {})))
    assert not any(review.is_edited(place) for place in review)

    choose_rows(table, 12)
    table.delete_button.click()

    review.look(layer.data, review)
    assert any(review.is_edited(place) for place in review)
    made = state.left.unpacked()
    change = replace_cells(layer.data, current(layer) or state, (), made, state.origin)
    assert 12 not in change.after.unpacked()  # a further run does not bring it back
    assert 11 in change.after.unpacked()


def test_the_chosen_rows_stay_chosen_where_they_go(qtbot, viewer, table):
    choose_rows(table, 2, 3, 9)
    assert chosen(table) == [2, 3, 9]
    click_header(qtbot, table, "area_pixels")
    click_header(qtbot, table, "area_pixels")
    assert sorted(chosen(table)) == [2, 3, 9]
    model = table.view.selectionModel()
    rows = sorted({index.row() for index in model.selectedRows()})
    assert sorted(int(table.model.value(row, "label")) for row in rows) == [2, 3, 9]
    layer = viewer.layers["cells"]
    wait_for_edit(qtbot, table, lambda: layer.data_setitem((np.array([0]), np.array([0])), 40))
    assert sorted(chosen(table)) == [2, 3, 9]


def test_a_stack_loses_the_part_in_the_plane(qtbot, make_napari_viewer):
    viewer = make_napari_viewer()
    stack = np.zeros((3, 1, 40, 50), np.uint16)
    stack[0, 0, 5:9, 5:9] = stack[2, 0, 20:30, 30:40] = 4
    layer = viewer.add_labels(stack, name="stack")
    table = open_table(viewer, layer)
    wait(qtbot, table)
    click(qtbot, table, 1)
    table.delete_button.click()
    qtbot.waitUntil(lambda: not layer.data[2].any(), timeout=10_000)
    assert np.count_nonzero(layer.data[0]) == 16


# --- the image of a result that was opened again -------------------------------------------------


@pytest.fixture
def reopened(viewer, tmp_path):
    """Add a result of a file whose image is not open, as Open result does."""
    labels, pixels = squares()
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, pixels)
    metadata = result_metadata(CELLS, "", {"source": {"path": str(path), "shape": [120, 160]}})
    return viewer.add_labels(labels, name="again", metadata=metadata)


def test_the_image_is_found_by_its_file(qtbot, viewer, reopened, tmp_path):
    table = open_table(viewer, reopened)
    wait(qtbot, table)
    assert "intensity_mean" not in table.model.names
    assert "field.tif, the image of the cells, is not open" in table.message.text()
    assert table.image_button.isVisibleTo(table)

    table.image_button.click()

    qtbot.waitUntil(lambda: "intensity_mean" in table.model.names, timeout=10_000)
    wait(qtbot, table)
    assert shown(table, "intensity_mean")[0] == 1000
    assert table.message.text() == "11 cells."
    assert not table.image_button.isVisibleTo(table)
    names = [layer.name for layer in viewer.layers]
    assert names.index("field") == names.index("again") - 1
    assert viewer.layers.selection.active == reopened


def test_an_image_that_the_user_opens_is_found_too(qtbot, viewer, reopened, tmp_path):
    table = open_table(viewer, reopened)
    wait(qtbot, table)
    viewer.add_image(np.ones((5, 5)), name="another")
    qtbot.wait(100)
    assert "intensity_mean" not in table.model.names
    viewer.open(str(tmp_path / "field.tif"))
    qtbot.waitUntil(lambda: "intensity_mean" in table.model.names, timeout=10_000)


def test_a_file_that_is_gone_is_said(qtbot, viewer, reopened, tmp_path):
    (tmp_path / "field.tif").unlink()
    table = open_table(viewer, reopened)
    wait(qtbot, table)
    assert f"field.tif, the image of the cells, is not at {tmp_path} any more" in (
        table.message.text()
    )
    assert not table.image_button.isVisibleTo(table)


def test_a_file_that_cannot_be_read_is_said(qtbot, viewer, reopened, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(opening, "show_error", said.append)
    table = open_table(viewer, reopened)
    wait(qtbot, table)
    (tmp_path / "field.tif").write_bytes(b"nothing")
    n = len(viewer.layers)
    table.image_button.click()
    assert len(viewer.layers) == n
    assert "field.tif cannot be opened" in said[0]


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


def test_closed_and_opened_in_the_same_turn_it_is_another_table(qtbot, viewer):
    layer = viewer.layers["cells"]
    first = open_table(viewer, layer)
    wait(qtbot, first)
    viewer.window.remove_dock_widget(first)  # the dock is destroyed a turn later
    second = open_table(viewer, layer)
    assert second is not first
    wait(qtbot, second)
    qtbot.wait(100)
    assert open_table(viewer, layer) is second
    assert second.parentWidget().isVisibleTo(viewer.window._qt_window)


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


def test_the_image_of_a_file_is_the_very_channel(tmp_path):
    labels, pixels = squares()
    path = tmp_path / "two.tif"
    images = [Image(pixels + c, name=f"c{c}") for c in (0, 1)]
    for channel, image in enumerate(images):
        set_input_metadata(image, path=str(path), channel=channel)
    source = {"path": str(path), "channel": 1}
    cells = Labels(labels, metadata=result_metadata(CELLS, "", {"source": source}))
    assert next(iter(image_channels(cells, [*images, cells]).arrays)) == "c1"
    source["path"] = str(tmp_path / "other.tif")
    assert not image_channels(cells, [*images, cells]).arrays


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
