"""The list in a window: opened by its button, run, paused, closed by its X, opened again."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import napari
import numpy as np
import psutil
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit

from napari_unet_cells.batch.image_list import LIST, read_list
from napari_unet_cells.batch.marks import read_marks
from napari_unet_cells.corrections.restoring import sessions
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.layers.selection import review_problem, source_image
from napari_unet_cells.models.catalogue import DEFAULT_MODEL
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.folder import section as section_module
from napari_unet_cells.widgets.folder.correcting import Following, Saved
from napari_unet_cells.widgets.folder.dialog import FolderDialog
from napari_unet_cells.widgets.folder.list_model import APPROVED, IMAGE, STATE
from napari_unet_cells.widgets.folder.thumbnails import SIDE, read_thumbnail

pytestmark = pytest.mark.gui

PLUGIN = "napari-unet-cells"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "day1"
    folder.mkdir()
    for n in range(3):
        tifffile.imwrite(folder / f"n{n}.tif", simulate_nuclei((120, 160), seed=n)[0])
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    return folder


@pytest.fixture
def dock(make_napari_viewer, images, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    viewer = make_napari_viewer()
    viewer.open(str(images / "n1.tif"), plugin="napari")
    return viewer.window.add_plugin_dock_widget(PLUGIN)[1]


def answer(monkeypatch, act=lambda dialog: None, accepted=True):
    """Let the dialog be answered at once; gives those that appeared."""
    dialogs = []

    def run(dialog):
        dialogs.append(dialog)
        act(dialog)
        if accepted:
            dialog.accept()
        return dialog.result()

    monkeypatch.setattr(FolderDialog, "exec", run)
    return dialogs


def press_folder(dock):
    dock.segment.folder_button.click()


def wait_for_end(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.folder.running, timeout=120_000)


def children():
    """List the processes that compute, without those that are at their end."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "napari_unet_cells.batch.background_child" in child.cmdline():
                found.append(child)
    return found


def texts(dock):
    return {row.name: row.text for row in dock.folder.controller.rows}


def shown(dock, row, column, role=0):
    model = dock.folder.list.model
    return model.data(model.index(row, column), role)


def test_a_folder_is_segmented_and_shown(qtbot, dock, images, monkeypatch):
    dialogs = answer(monkeypatch)
    press_folder(dock)
    (dialog,) = dialogs
    output = images.with_name("day1_cells")
    assert dialog.values.named == (str(images),)
    assert dialog.values.folder == output
    assert f"Model {DEFAULT_MODEL}, cell size automatic for each image (as set for 'n1')" in (
        dialog.settings.text()
    )
    assert dock.folder.list.run_button.text() == "Pause"
    wait_for_end(qtbot, dock)
    assert read_list(output).named == (str(images),)
    rows = dock.folder.controller.rows
    assert [row.name for row in rows] == ["broken", "n0", "n1", "n2"]
    assert texts(dock)["broken"].startswith("failed: broken.tif cannot be read as a TIFF")
    assert [row.can_open for row in rows] == [False, True, True, True]
    assert shown(dock, 1, IMAGE) == "n0"
    assert shown(dock, 1, STATE) == f"{rows[1].cells} cells"
    assert dock.folder.list.bar.format() == "3 of 4 done, 1 failed"
    assert dock.folder.list.run_button.text() == "Try again"
    decoration = 1
    qtbot.waitUntil(lambda: shown(dock, 1, IMAGE, decoration) is not None, timeout=20_000)
    assert shown(dock, 0, IMAGE, decoration) is None


def test_a_mark_is_set_by_its_box(qtbot, dock, images, monkeypatch):
    from qtpy.QtCore import Qt

    answer(monkeypatch)
    press_folder(dock)
    wait_for_end(qtbot, dock)
    model, role = dock.folder.list.model, Qt.ItemDataRole.CheckStateRole
    assert not model.flags(model.index(0, APPROVED)) & Qt.ItemFlag.ItemIsUserCheckable
    assert model.data(model.index(1, APPROVED), role) == Qt.CheckState.Unchecked
    model.setData(model.index(1, APPROVED), Qt.CheckState.Checked.value, role)
    qtbot.waitUntil(
        lambda: model.data(model.index(1, APPROVED), role) == Qt.CheckState.Checked, timeout=20_000
    )
    assert read_marks(images.with_name("day1_cells")).approved.keys() == {"n0"}


def test_a_run_goes_on_behind_a_closed_list_and_can_be_paused(qtbot, dock, monkeypatch):
    answer(monkeypatch)
    press_folder(dock)
    qtbot.waitUntil(lambda: bool(dock.folder.controller.rows), timeout=60_000)
    (child,) = children()
    child.suspend()  # or it is done before the list is closed
    frame = dock.folder.list.parentWidget()
    frame.destroyOnClose()
    qtbot.waitUntil(lambda: dock.folder.list is None, timeout=20_000)
    assert dock.folder.running
    press_folder(dock)
    assert dock.folder.list.model.rowCount() == 4
    assert dock.folder.list.run_button.text() == "Pause"
    child.resume()
    dock.folder.list.run_button.click()
    assert not dock.folder.running
    assert "waiting" not in texts(dock).values()
    dock.folder.list.run_button.click()
    wait_for_end(qtbot, dock)
    assert dock.folder.list.bar.format() == "3 of 4 done, 1 failed"


def test_no_process_is_left_where_the_dock_ends(qtbot, dock, images, monkeypatch):
    answer(monkeypatch)
    press_folder(dock)
    qtbot.waitUntil(lambda: bool(dock.folder.controller.rows), timeout=60_000)
    assert len(children()) == 1
    dock.deleteLater()
    qtbot.waitUntil(lambda: children() == [], timeout=60_000)
    assert (images.with_name("day1_cells") / LIST).is_file()


def test_a_table_that_follows_is_told_of_and_ends_where_the_dock_ends(qtbot, dock):
    section, ended = dock.folder, threading.Event()

    def follow(stop):
        try:
            for n in range(10_000):
                yield Following("a", n / 10_000)
                time.sleep(0.01)
        finally:
            ended.set()

    section.opening.start(follow)
    said = "The table of a follows what you corrected"
    qtbot.waitUntil(lambda: said in str(section._viewer.status), timeout=10_000)
    section.wiring.release()
    assert ended.wait(5)


def test_a_table_that_takes_long_can_be_left(qtbot, dock, images, monkeypatch):
    answer(monkeypatch)
    press_folder(dock)
    qtbot.waitUntil(lambda: not dock.folder.running, timeout=120_000)
    monkeypatch.setattr(section_module, "PATIENCE", 0.3)
    section, shown, left = dock.folder, dock.folder.list, threading.Event()
    monkeypatch.setattr(section.correcting, "_later", left)

    def follow(stop):
        for n in range(1, 1001):
            if left.is_set():
                break
            yield Following("a", n / 1000)
            time.sleep(0.02)
        pair: Any = Pair()
        yield Saved(pair, None, 0, due=True, left=True)

    class Pair:
        name, cells = "a", None

        def saved(self, *_):
            return self

    assert shown.later_button.isHidden()
    section.opening.start(follow)
    qtbot.waitUntil(lambda: "follows what" in str(section._viewer.status), timeout=10_000)
    assert shown.later_button.isHidden()  # it may be done in a moment
    qtbot.waitUntil(lambda: not shown.later_button.isHidden(), timeout=10_000)
    assert shown.following.text().startswith("The table of a follows what you corrected: ")
    qtbot.mouseClick(shown.later_button, Qt.MouseButton.LeftButton)
    assert left.is_set()
    assert not shown.later_button.isEnabled()
    qtbot.waitUntil(lambda: not section.opening.running, timeout=10_000)
    assert shown.later_button.isHidden()
    assert "does not follow yet" in str(section._viewer.status)


def test_who_cancels_the_dialog_gets_no_list(dock, monkeypatch):
    dialogs = answer(monkeypatch, accepted=False)
    press_folder(dock)
    assert len(dialogs) == 1
    assert (dock.folder.list, dock.folder.running) == (None, False)


def test_the_dialog_says_what_is_wrong_and_keeps_the_users_folder(dock, images, monkeypatch):
    def empty(dialog):
        dialog.fields.widgets["images"].value = ""

    dialogs = answer(monkeypatch, empty)
    press_folder(dock)
    (dialog,) = dialogs
    assert dialog.result() == 0
    assert "No images are chosen." in dialog.note.text()
    files = [str(images / name) for name in ("n0.tif", "n2.tif")]
    dialog.choose(*files)
    assert dialog.values.named == tuple(files)
    output = dialog.fields.native("output")
    output.setText("/elsewhere")
    output.textEdited.emit("/elsewhere")
    dialog.choose(str(images))
    assert str(dialog.values.folder) == "/elsewhere"


def test_a_picture_is_shrunk_and_a_bad_one_is_none(tmp_path):
    from napari_unet_cells.files.pictures import write_jpeg

    write_jpeg(tmp_path / "a.jpg", np.full((3 * SIDE, 90, 3), 200, np.uint8))
    assert read_thumbnail(tmp_path / "a.jpg").shape == (SIDE, 30, 3)
    (tmp_path / "b.jpg").write_bytes(b"nonsense")
    assert read_thumbnail(tmp_path / "b.jpg") is None
    assert read_thumbnail(tmp_path / "none.jpg") is None


# --- correcting --------------------------------------------------------------------------


@pytest.fixture
def finished(qtbot, dock, images, monkeypatch):
    """Give a dock whose list is done; napari reads nothing by itself from now on."""
    answer(monkeypatch)
    press_folder(dock)
    wait_for_end(qtbot, dock)
    viewer = dock.folder._viewer
    viewer.layers.clear()

    def refuse(*args, **kwargs):
        raise AssertionError("napari read a file in the thread of the window")

    monkeypatch.setattr(napari.Viewer, "open", refuse)
    return dock


def open_row(qtbot, dock, name):
    dock.folder.list.opened.emit(name)
    settle(qtbot, dock)


def settle(qtbot, dock):
    section = dock.folder
    threads = (section.opening, section.marking, section.reporting)
    qtbot.waitUntil(
        lambda: not any(thread.running for thread in threads) and section.correcting.idle,
        timeout=120_000,
    )


def layer_names(dock):
    return [layer.name for layer in dock.folder._viewer.layers]


def erase_first(dock):
    """Erase a cell of the pair that is open, as a user does; gives what is left."""
    cells = dock.folder.correcting.pair.cells
    cells.data_setitem(np.nonzero(cells.data == 1), 0)
    return cells.data.copy()


def result(images, name):
    return np.asarray(tifffile.imread(images.with_name("day1_cells") / f"{name}_cells.tif"))


def test_a_click_opens_image_and_cells_for_correction(qtbot, finished):
    open_row(qtbot, finished, "n0")
    viewer, pair = finished.folder._viewer, finished.folder.correcting.pair
    assert layer_names(finished) == ["n0", "n0_cells"]
    assert viewer.layers.selection.active == pair.cells
    assert pair.cells.visible
    assert source_image(pair.cells, viewer.layers) == viewer.layers["n0"]
    assert finished.segment.controller.selected == pair.cells
    assert finished.export.labels_box.layer == pair.cells
    assert finished.correct.review.controller.labels == pair.cells
    assert not review_problem(pair.cells)
    assert len(fitting_review(pair.cells)) > 0
    open_row(qtbot, finished, "n2")
    assert layer_names(finished) == ["n2", "n2_cells"]
    open_row(qtbot, finished, "broken")
    assert layer_names(finished) == ["n2", "n2_cells"]


def test_the_keys_of_the_tools_reach_the_image_that_a_click_opened(qtbot, finished):
    shown, viewer = finished.folder.list, finished.folder._viewer
    image = canvas(shown)
    shown.view.setFocus()
    open_row(qtbot, finished, "n0")
    assert shown.window().focusWidget() is image
    shown.next_button.setFocus()
    open_row(qtbot, finished, "n0")  # its cells are open already
    assert shown.window().focusWidget() is image
    field = QLineEdit()  # of another plugin
    viewer.window.add_dock_widget(field, name="Notes")
    field.setFocus()
    assert shown.window().focusWidget() is field
    open_row(qtbot, finished, "n2")  # while somebody types elsewhere
    assert viewer.layers.selection.active.name == "n2_cells"
    assert shown.window().focusWidget() is field


def test_what_was_corrected_is_saved_where_the_user_goes_on(qtbot, finished, images):
    before = result(images, "n1")
    open_row(qtbot, finished, "n1")
    labels = erase_first(finished)
    assert not np.array_equal(labels, before)
    open_row(qtbot, finished, "n2")
    assert np.array_equal(result(images, "n1"), labels)
    assert np.array_equal(result(images, "n2"), finished.folder.correcting.pair.cells.data)
    output = images.with_name("day1_cells")
    assert np.array_equal(tifffile.imread(output / "as_segmented" / "n1_cells.tif"), before)
    assert not (output / "as_segmented" / "n2_cells.tif").exists()
    row = finished.folder.controller.row("n1")
    assert row.text == f"{len(np.unique(labels)) - 1} cells, corrected"
    rows = (output / "cells.csv").read_text().splitlines()
    assert len([line for line in rows if line.startswith("n1,")]) == row.cells
    assert [one for one in sessions() if not one.exported.complete] == []
    open_row(qtbot, finished, "n1")
    assert np.array_equal(finished.folder.correcting.pair.cells.data, labels)


def test_approve_and_next_goes_through_the_list(qtbot, finished, images):
    finished.folder.list.next_button.click()
    settle(qtbot, finished)
    assert layer_names(finished) == ["n0", "n0_cells"]
    labels = erase_first(finished)
    for expected in ("n1", "n2", "n2"):
        finished.folder.list.next_button.click()
        settle(qtbot, finished)
        assert layer_names(finished) == [expected, f"{expected}_cells"]
    assert np.array_equal(result(images, "n0"), labels)
    marks = read_marks(images.with_name("day1_cells"))
    assert (set(marks.approved), set(marks.corrected)) == ({"n0", "n1", "n2"}, {"n0"})
    assert finished.folder.list.bar.format() == "3 of 4 done, 1 failed, 3 approved"


def test_a_correction_that_cannot_be_saved_stays_open(qtbot, finished, images):
    open_row(qtbot, finished, "n0")
    labels = erase_first(finished)
    (images / "n0.tif").unlink()
    before = result(images, "n0")
    finished.folder.list.opened.emit("n1")
    settle(qtbot, finished)
    assert layer_names(finished) == ["n0", "n0_cells"]
    assert np.array_equal(finished.folder.correcting.pair.cells.data, labels)
    assert np.array_equal(result(images, "n0"), before)


def test_cells_that_are_open_already_are_taken(qtbot, finished):
    open_row(qtbot, finished, "n0")
    cells = finished.folder.correcting.pair.cells
    erase_first(finished)
    finished.folder._viewer.layers.selection.active = finished.folder._viewer.layers["n0"]
    open_row(qtbot, finished, "n0")
    assert finished.folder.correcting.pair.cells == cells
    assert finished.folder._viewer.layers.selection.active == cells
    finished.folder._viewer.layers.remove(cells)
    assert finished.folder.correcting.pair is None
