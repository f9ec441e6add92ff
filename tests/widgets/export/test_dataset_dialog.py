"""The dialog for the folder of a dataset, driven by its own widgets."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QDialog, QFileDialog, QLineEdit

from napari_unet_cells.widgets.export.dataset_dialog import DatasetDialog
from napari_unet_cells.widgets.export.values import DatasetFolder

pytestmark = pytest.mark.gui


@pytest.fixture
def dialog(qtbot, tmp_path) -> DatasetDialog:
    dialog = DatasetDialog(DatasetFolder(str(tmp_path), "cells_dataset"))
    qtbot.addWidget(dialog)
    return dialog


def retype(qtbot, dialog, name, text):
    edit = dialog.findChild(QLineEdit, name)
    edit.clear()
    qtbot.keyClicks(edit, text)


def test_a_name_that_is_typed_becomes_a_folder_on_accept(qtbot, dialog, tmp_path):
    retype(qtbot, dialog, "dataset_name", "my first")
    assert dialog.note.text() == "The new folder my first is made."
    assert not (tmp_path / "my first").exists()
    dialog.add_button.click()
    assert dialog.result() == QDialog.DialogCode.Accepted
    assert dialog.folder == tmp_path / "my first"
    assert dialog.folder.is_dir()


def test_cancel_makes_nothing(dialog, tmp_path):
    dialog.reject()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_is_said_and_cannot_be_accepted(qtbot, dialog, tmp_path):
    assert dialog.add_button.isEnabled()
    retype(qtbot, dialog, "dataset_name", "a/b")
    assert "cannot hold /" in dialog.note.text()
    assert not dialog.add_button.isEnabled()
    retype(qtbot, dialog, "dataset_name", "good")
    assert dialog.add_button.isEnabled()
    retype(qtbot, dialog, "dataset_parent", str(tmp_path / "nowhere"))
    assert "There is no folder" in dialog.note.text()
    assert not dialog.add_button.isEnabled()


def test_a_disk_that_refuses_keeps_the_dialog_open(dialog, monkeypatch):
    def refuse(self, exist_ok):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    dialog.add_button.click()
    assert dialog.result() != QDialog.DialogCode.Accepted
    assert dialog.note.text() == (
        "The folder cannot be made: Permission denied. Choose another one."
    )


def test_a_dataset_that_is_chosen_is_added_to(dialog, tmp_path, monkeypatch):
    known = tmp_path / "data" / "known"
    known.mkdir(parents=True)
    (known / "index.json").write_text("[]")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(known))
    dialog._browse()
    assert dialog.folder == known
    assert dialog.note.text() == "The regions are added to the dataset known."
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "data"))
    dialog._browse()
    assert dialog.folder == known  # the folder that it lies in
