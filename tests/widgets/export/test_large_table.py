"""The table of a large result in a napari window: pages, clicks both ways, what was put back."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFocusEvent

from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.metadata import CELLS, OURS, PART_OF, ZARR, result_metadata
from napari_unet_cells.segmentation.zarr_place import table_of
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date
from napari_unet_cells.widgets.export import large_table, page_controller
from napari_unet_cells.widgets.export.cell_lines import BRIGHT
from napari_unet_cells.widgets.export.large_table import LargeTable
from napari_unet_cells.widgets.export.section import ExportSection
from napari_unet_cells.widgets.export.values import ExportValues
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size

pytestmark = pytest.mark.gui

#: 20 x 20 squares of 30 pixels, 40 apart, numbered row by row from 1.
PLANE = np.zeros((800, 800), np.uint16)
for _number in range(400):
    _top, _left = 40 * (_number // 20) + 5, 40 * (_number % 20) + 5
    PLANE[_top : _top + 30, _left : _left + 30] = _number + 1


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(page_controller, "PAGE", 100)
    folder = tmp_path / "slide_cells.ome.zarr"
    labels = LabelZarr(folder, PLANE.shape, "yx", 1024, Scale((0.5, 0.5), "micrometer", None))
    labels.create(CELLS, np.uint16)
    labels.write(CELLS, (), (slice(0, 800), slice(0, 800)), PLANE)
    size = {"y": 0.5, "x": 0.5, "unit": "micrometer"}
    labels.finish(CELLS, {"cells": 400, "pixel_size": size}, {})
    for _ in bring_up_to_date(folder):
        pass
    return folder


@pytest.fixture
def layer(make_napari_viewer, folder):
    viewer = make_napari_viewer()
    metadata = result_metadata(CELLS, "an image", {})
    metadata[OURS][ZARR] = str(folder)
    levels: Any = list(label_levels(folder, CELLS))
    return viewer.add_labels(
        levels,
        multiscale=True,
        name="slide cells",
        metadata=metadata,
        scale=(0.5, 0.5),
        translate=(10, 20),
    )


@pytest.fixture
def viewer(layer):
    from napari import current_viewer

    return current_viewer()


@pytest.fixture
def section(viewer, qtbot) -> ExportSection:
    section = ExportSection(viewer)
    qtbot.addWidget(section)
    return section


def counted(qtbot, table):
    """Histogram of the table, once it is drawn."""
    columns = table.columns
    qtbot.waitUntil(lambda: columns._counted is not None, timeout=20_000)
    return columns.histogram


def lines(table):
    picture = table.outlines.picture
    return None if picture is None or not picture.isVisible() else picture.lines


def wait(qtbot, table):
    qtbot.waitUntil(lambda: not table.controller.busy, timeout=20_000)


@pytest.fixture
def table(qtbot, section, viewer) -> LargeTable:
    section.table_button.click()
    table = viewer.window._qt_window.findChild(LargeTable, "large_table")
    wait(qtbot, table)
    return table


def centre(viewer, layer):
    return layer.world_to_data(camera_of(viewer).center[-2:])


def test_the_export_page_shows_pages_of_a_large_result(qtbot, table, section, viewer, layer):
    assert (table.model.rowCount(), table.where.text()) == (100, "rows 1 to 100 of 400")
    assert (table.message.text(), table.update_button.isHidden()) == ("", True)
    assert not table.previous_button.isEnabled()
    assert table.model.headerData(1, Qt.Orientation.Horizontal) == "area (µm²)"
    table.next_button.click()
    wait(qtbot, table)
    assert table.model.value(0, "label") == 101
    assert table.previous_button.isEnabled()
    table.last_button.click()
    wait(qtbot, table)
    assert (table.model.value(99, "label"), table.next_button.isEnabled()) == (400, False)
    section.table_button.click()  # the same one comes up again
    assert viewer.window._qt_window.findChildren(LargeTable, "large_table") == [table]


def test_a_click_on_a_row_goes_to_the_cell_in_its_place(qtbot, table, viewer, layer):
    table.last_button.click()
    wait(qtbot, table)
    index = table.model.index(50, 0)
    table.view.scrollTo(index)
    place = table.view.visualRect(index).center()
    before = centre(viewer, layer)
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    label = int(table.model.value(50, "label"))
    middle = np.argwhere(label == PLANE).mean(axis=0)
    assert np.abs(np.subtract(before, middle)).max() > 50
    np.testing.assert_allclose(centre(viewer, layer), middle, atol=0.01)
    assert layer.selected_label == label


def test_the_arrow_keys_go_on_and_the_keyboard_alone_goes_nowhere(qtbot, table, viewer, layer):
    before = camera_of(viewer).center
    table.next_button.click()
    wait(qtbot, table)
    assert not table.view.currentIndex().isValid()
    table.view.focusInEvent(QFocusEvent(QEvent.Type.FocusIn))
    assert table.view.currentIndex().isValid()
    assert camera_of(viewer).center == before
    table.view.selectRow(3)
    assert layer.selected_label == 104
    qtbot.keyClick(table.view, Qt.Key.Key_Down)
    assert layer.selected_label == 105
    np.testing.assert_allclose(centre(viewer, layer), np.argwhere(PLANE == 105).mean(axis=0))


def test_a_header_sorts_all_rows(qtbot, table):
    header = table.view.horizontalHeader()
    section = table.model.names.index("centroid_x")
    header.setSortIndicator(section, Qt.SortOrder.DescendingOrder)
    wait(qtbot, table)
    assert table.model.value(0, "label") == 20
    assert "by centroid x, largest first" in table.where.text()


def test_a_number_that_is_typed_and_a_cell_that_is_clicked_show_their_rows(
    qtbot, table, viewer, layer
):
    table.label_edit.setText("250")
    qtbot.keyClick(table.label_edit, Qt.Key.Key_Return)
    wait(qtbot, table)
    rows = {index.row() for index in table.view.selectionModel().selectedRows()}
    assert [table.model.value(row, "label") for row in rows] == [250]
    np.testing.assert_allclose(centre(viewer, layer), np.argwhere(PLANE == 250).mean(axis=0))

    class Event:
        position = tuple(layer.data_to_world(np.argwhere(PLANE == 77)[40]))
        view_direction, dims_displayed, button, type = None, [0, 1], 1, "mouse_press"

    list(table._pressed(layer, Event()))
    wait(qtbot, table)
    assert layer.selected_label == 250  # the view stays
    rows = {index.row() for index in table.view.selectionModel().selectedRows()}
    assert [table.model.value(row, "label") for row in rows] == [77]


def test_the_histogram_is_of_all_rows_and_marks_the_chosen_one(qtbot, table):
    histogram = counted(qtbot, table)
    assert table.model.rowCount() == 100
    assert histogram.axes.get_xlabel() == "area (µm²)"
    assert histogram.bars.get_data().values.sum() == 400
    assert not histogram.line.get_visible()
    table.view.selectRow(30)
    assert histogram.line.get_visible()
    assert histogram.line.get_xdata()[0] == table.model.value(30, "area") == 225
    section = table.model.names.index("centroid_x")
    table.view.horizontalHeader().sectionClicked.emit(section)
    assert table.columns.column_box.currentIndex() == section
    assert table.columns.column_box.currentText() == "centroid x (µm)"
    assert counted(qtbot, table) is histogram
    assert histogram.axes.get_xlabel() == "centroid x (µm)"
    counts, edges, _ = histogram.bars.get_data()
    assert (counts.sum(), edges[0], edges[-1]) == (400, 9.75, 389.75)
    assert histogram.line.get_xdata()[0] == table.model.value(30, "centroid_x")
    table.next_button.click()  # its row is on another page
    wait(qtbot, table)
    assert not histogram.line.get_visible()
    assert histogram.bars.get_data().values.sum() == 400


def test_the_cell_of_the_chosen_row_is_outlined(qtbot, table, viewer, layer):
    viewer.window._qt_window.show()
    qtbot.waitUntil(table.isVisible, timeout=10_000)
    assert lines(table) is None
    table.view.selectRow(41)  # cell 42
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=10_000)
    drawn = lines(table)
    camera, (height, width) = camera_of(viewer), canvas_size(viewer)
    top, left = layer.data_to_world(np.argwhere(PLANE == 42).min(axis=0) - 0.5)
    y, x = np.nonzero(drawn.pixels == BRIGHT)
    at = drawn.top + y.min(), drawn.left + x.min()
    expected = (
        (top - camera.center[-2]) * camera.zoom + height / 2,
        (left - camera.center[-1]) * camera.zoom + width / 2,
    )
    np.testing.assert_allclose(at, expected, atol=1.5)
    layer.visible = False
    qtbot.waitUntil(lambda: lines(table) is None, timeout=10_000)
    layer.visible = True
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=10_000)
    table.next_button.click()  # its row is on another page
    wait(qtbot, table)
    qtbot.waitUntil(lambda: lines(table) is None, timeout=10_000)


def test_the_outline_follows_what_is_put_back(qtbot, table, viewer, layer, folder):
    viewer.window._qt_window.show()
    qtbot.waitUntil(table.isVisible, timeout=10_000)
    table.view.selectRow(0)
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=10_000)
    before = PLANE[:100, :100].astype(np.int64)
    after = np.where(before == 1, 0, before)
    LabelVersions(folder).replace((), (slice(0, 100), slice(0, 100)), before, after, 400)
    layer.data = list(label_levels(folder, CELLS))
    qtbot.waitUntil(lambda: "Out of date" in table.message.text(), timeout=20_000)
    wait(qtbot, table)
    # its row is still chosen, but of the cell nothing is left
    assert table.model.value(table._chosen_row(), "label") == 1

    def is_empty():
        drawn = lines(table)
        return drawn is None or not drawn.pixels.any()

    qtbot.waitUntil(is_empty, timeout=10_000)


def test_what_is_put_back_makes_it_out_of_date_and_a_press_makes_it_true(
    qtbot, table, folder, layer
):
    before = PLANE[:100, :100].astype(np.int64)
    after = np.where(before == 1, 0, before)
    LabelVersions(folder).replace((), (slice(0, 100), slice(0, 100)), before, after, 400)
    layer.data = list(label_levels(folder, CELLS))  # as it is after a part is put back
    qtbot.waitUntil(lambda: "Out of date" in table.message.text(), timeout=20_000)
    wait(qtbot, table)
    assert (table.update_button.text(), table.update_button.isHidden()) == (
        "Bring up to date",
        False,
    )
    assert table.model.value(0, "label") == 1
    table.update_button.click()
    wait(qtbot, table)
    assert table.model.value(0, "label") == 2
    assert table.where.text() == "rows 1 to 100 of 399"
    assert table.message.text().startswith("Up to date: 0 cells measured, 1 gone")
    assert table.update_button.isHidden()
    assert counted(qtbot, table).bars.get_data().values.sum() == 399


@pytest.mark.parametrize("by", ["export", "button"])
def test_an_export_is_seen_by_the_open_table_and_others_are_told(
    qtbot, table, section, folder, layer, tmp_path, by
):
    told: list[Path] = []
    section.table_followed.connect(told.append)
    section.table_button.click()  # again
    wait(qtbot, table)
    told.clear()
    before = PLANE[:100, :100].astype(np.int64)
    after = np.where(before == 1, 0, before)
    LabelVersions(folder).replace((), (slice(0, 100), slice(0, 100)), before, after, 400)
    layer.data = list(label_levels(folder, CELLS))
    qtbot.waitUntil(lambda: "Out of date" in table.message.text(), timeout=20_000)
    wait(qtbot, table)
    assert told == []
    if by == "export":
        section.export(ExportValues(layer, "table", tmp_path / "copy.csv"))
        qtbot.waitUntil(lambda: not section.worker.running, timeout=20_000)
    else:
        table.update_button.click()
    wait(qtbot, table)
    assert "Out of date" not in table.message.text()
    assert table.update_button.isHidden()
    assert table.model.value(0, "label") == 2
    assert set(told) == {folder}
    table.next_button.click()
    wait(qtbot, table)
    assert table.where.text() == "rows 101 to 200 of 399"
    told.clear()
    LabelVersions(folder).replace((), (slice(0, 100), slice(0, 100)), after, before, 400)
    layer.data = list(label_levels(folder, CELLS))
    wait(qtbot, table)
    assert told == []


def chosen(table):
    row = table._chosen_row()
    return table.model.value(row, "label") if row >= 0 else None


def changed(qtbot, table):
    """Wait until a deletion, and the look at the table after it, is done."""
    qtbot.waitUntil(lambda: not table.removing.running, timeout=20_000)
    wait(qtbot, table)


def on_disk(folder):
    return label_levels(folder, CELLS)[0].read((slice(None), slice(None)))


def test_delete_removes_the_cell_of_the_chosen_row_and_undo_brings_it_back(
    qtbot, table, folder, layer
):
    assert not table.delete_button.isEnabled()
    table.view.selectRow(4)
    assert table.delete_button.isEnabled()
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    np.testing.assert_array_equal(on_disk(folder), np.where(PLANE == 5, 0, PLANE))
    np.testing.assert_array_equal(np.asarray(layer.data[0]), on_disk(folder))
    assert table.message.text() == (
        "Out of date: cells were deleted since this table was written. Cell 5 deleted; Ctrl+Z "
        "brings it back."
    )
    assert (chosen(table), layer.selected_label) == (6, 6)  # the next one
    assert 5 not in table.model.table.columns["label"]
    table.delete_button.click()
    changed(qtbot, table)
    assert chosen(table) == 7
    assert not table.update_button.isHidden()
    qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    changed(qtbot, table)
    assert (chosen(table), layer.selected_label) == (6, 6)
    assert table.message.text().endswith("Cell 6 is back.")
    np.testing.assert_array_equal(on_disk(folder), np.where(PLANE == 5, 0, PLANE))
    table.next_button.click()
    wait(qtbot, table)
    table.previous_button.click()
    wait(qtbot, table)
    assert 5 not in table.model.table.columns["label"]  # also on a page that was left
    assert "is back" not in table.message.text()
    table.update_button.click()
    wait(qtbot, table)
    assert table.message.text().startswith("Up to date: 1 cell measured, 1 gone")
    assert table.where.text() == "rows 1 to 100 of 399"
    qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    changed(qtbot, table)
    np.testing.assert_array_equal(on_disk(folder), PLANE)
    table.update_button.click()
    wait(qtbot, table)
    assert table.where.text() == "rows 1 to 100 of 400"
    table.last_button.click()
    wait(qtbot, table)
    assert table.model.value(99, "label") == 5  # it came last


def test_delete_on_an_old_row_of_a_table_that_was_written_anew_reads_it_again(qtbot, table, folder):
    table.view.selectRow(1)
    far = slice(700, 800), slice(700, 800)
    before = PLANE[far].astype(np.int64)
    after = before.copy()
    after[60:62, 40:42] = 2  # where there is none
    LabelVersions(folder).replace((), far, before, after, 400)
    for _ in bring_up_to_date(folder):  # as another napari does it
        pass
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    assert (on_disk(folder) == 2).sum() == 30 * 30 + 4
    assert table.message.text().startswith("Cell 2 was not deleted: slide_cells.csv was written")
    assert chosen(table) == 2
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    assert not (on_disk(folder) == 2).any()
    assert table.message.text().endswith("Cell 2 deleted; Ctrl+Z brings it back.")


def test_a_deleted_cell_that_is_asked_for_is_said_to_be_gone(qtbot, table, folder):
    def typed(number):
        table.label_edit.setText(str(number))
        qtbot.keyClick(table.label_edit, Qt.Key.Key_Return)
        wait(qtbot, table)

    typed(5)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    assert chosen(table) == 6  # also where the one that went was asked for
    assert table.message.text().endswith("Cell 5 deleted; Ctrl+Z brings it back.")
    assert table.where.text() == "rows 1 to 100 of 400, 1 of them deleted"
    assert table.model.rowCount() == 99
    typed(5)
    assert chosen(table) is None
    assert "Cell 5 is not there any more: it was deleted here." in table.message.text()
    typed(7)
    assert chosen(table) == 7
    assert "Cell 5" not in table.message.text()
    qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    changed(qtbot, table)
    assert (chosen(table), table.where.text()) == (5, "rows 1 to 100 of 400")


def test_rows_of_a_result_that_was_made_anew_are_all_shown(qtbot, table, folder):
    table.view.selectRow(4)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    assert 5 not in table.model.table.columns["label"]
    shutil.rmtree(folder)
    labels = LabelZarr(folder, PLANE.shape, "yx", 1024, Scale((0.5, 0.5), "micrometer", None))
    labels.create(CELLS, np.uint16)
    labels.write(CELLS, (), (slice(0, 800), slice(0, 800)), PLANE)
    size = {"y": 0.5, "x": 0.5, "unit": "micrometer"}
    labels.finish(CELLS, {"cells": 400, "pixel_size": size, "date": "2026-11-30T14:00:00"}, {})
    qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    changed(qtbot, table)
    assert "was made anew since it was deleted" in table.message.text()
    assert table.where.text() == "rows 1 to 100 of 400"
    assert 5 in table.model.table.columns["label"]
    np.testing.assert_array_equal(on_disk(folder), PLANE)


def test_the_last_row_of_a_page_goes_and_the_one_before_is_chosen(qtbot, table, folder):
    table.last_button.click()
    wait(qtbot, table)
    table.view.selectRow(99)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    changed(qtbot, table)
    assert (chosen(table), table.model.rowCount()) == (399, 99)


def test_while_a_part_is_edited_or_cells_are_measured_nothing_is_deleted(
    qtbot, table, folder, viewer, layer, monkeypatch
):
    metadata = result_metadata(CELLS, "", {})
    metadata[OURS][PART_OF] = {"zarr": str(folder), "plane": []}
    part = viewer.add_labels(np.ones((4, 4), np.uint8), name="a part", metadata=metadata)
    table.view.selectRow(4)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    assert "A part of these cells is being edited. Put 'a part' back" in table.message.text()
    metadata[OURS].pop(PART_OF)
    part.metadata.clear()
    monkeypatch.setattr(type(table.updating), "running", True)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    assert table.message.text().startswith("Cells are being measured. Wait")
    monkeypatch.undo()
    assert LabelVersions(folder).last == 0
    layer.visible = True
    viewer.layers.remove(layer)
    qtbot.keyClick(table.view, Qt.Key.Key_Delete)
    assert not table.removing.running
    assert (on_disk(folder) == PLANE).all()


def test_a_table_that_is_gone_is_measured_on_request_and_can_be_cancelled(
    qtbot, section, folder, viewer
):
    table_of(folder).unlink()
    section.table_button.click()
    table = viewer.window._qt_window.findChild(LargeTable, "large_table")
    wait(qtbot, table)
    assert table.update_button.text() == "Measure all cells"
    qtbot.waitUntil(lambda: table.columns.histogram is not None, timeout=20_000)
    assert table.columns.histogram.nothing.get_text() == "no values"
    table.update_button.click()
    table.cancel_button.click()
    wait(qtbot, table)
    assert not table_of(folder).exists()
    table.update_button.click()
    wait(qtbot, table)
    assert table.where.text() == "rows 1 to 100 of 400"
    assert counted(qtbot, table).axes.get_xlabel() == "area (µm²)"


def test_a_table_that_is_closed_while_it_is_measured_says_so(
    qtbot, section, folder, viewer, monkeypatch
):
    said: list[str] = []
    ended = threading.Event()
    table_of(folder).unlink()

    def measure(folder):
        try:
            while True:
                yield 0.1
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(page_controller, "bring_up_to_date", measure)
    monkeypatch.setattr(large_table, "show_warning", said.append)
    section.table_button.click()
    table = viewer.window._qt_window.findChild(LargeTable, "large_table")
    wait(qtbot, table)
    table.update_button.click()
    qtbot.waitUntil(lambda: "measuring" in table.progress.format(), timeout=10_000)
    table.parentWidget().destroyOnClose()
    qtbot.waitUntil(lambda: bool(said), timeout=10_000)
    (sentence,) = said
    assert "'slide cells' was stopped, as you closed its table" in sentence
    assert "press 'Measure all cells' there" in sentence
    assert ended.wait(10)
    assert not table_of(folder).exists()


def test_a_table_that_is_closed_at_rest_says_nothing(qtbot, section, viewer, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(large_table, "show_warning", said.append)
    section.table_button.click()
    table = viewer.window._qt_window.findChild(LargeTable, "large_table")
    wait(qtbot, table)
    gone: list[bool] = []
    table.destroyed.connect(lambda: gone.append(True))
    table.parentWidget().destroyOnClose()
    qtbot.waitUntil(lambda: bool(gone), timeout=10_000)
    assert said == []
