"""The dialog behind "Open result...", in a real viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.settings import get_settings
from qtpy.QtWidgets import QFileDialog

from napari_unet_cells.files import write_labels
from napari_unet_cells.layers.metadata import file_of, is_ours
from napari_unet_cells.settings import Preferences, set_preferences
from napari_unet_cells.widgets import opening
from napari_unet_cells.widgets.opening import ask_and_open, open_drops, open_files

pytestmark = pytest.mark.gui

RECORD = {"program": "napari-unet-cells", "classes": ["background", "cell"]}


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def said(monkeypatch):
    sentences = []
    monkeypatch.setattr(opening, "show_error", sentences.append)
    return sentences


@pytest.fixture
def choose(monkeypatch):
    """Answer the dialog with files; give the folders it was opened in."""
    folders = []

    def answer(*paths):
        def dialog(parent, title, folder, filters):
            folders.append(folder)
            return [str(path) for path in paths], filters.split(";;")[0]

        monkeypatch.setattr(QFileDialog, "getOpenFileNames", dialog)
        return folders

    return answer


@pytest.fixture
def result(tmp_path):
    cells = np.arange(48, dtype=np.uint16).reshape(6, 8)
    return write_labels(
        tmp_path / "a_cells.tif", cells, pixel_size=(0.5, 0.25), unit="um", provenance=RECORD
    )


def test_a_result_opens_in_its_place_and_as_ours(viewer, choose, result, said):
    choose(result)
    (layer,) = ask_and_open(viewer)
    assert list(viewer.layers) == [layer]
    np.testing.assert_allclose(layer.scale, (0.5, 0.25))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 2
    assert is_ours(layer)
    assert layer.data.max() == 47
    assert file_of(layer) == result
    assert said == []


def test_a_file_of_any_name_can_be_chosen(viewer, choose, tmp_path):
    tifffile.imwrite(tmp_path / "truth.tif", np.eye(9, dtype=np.uint8))
    choose(tmp_path / "truth.tif")
    (layer,) = ask_and_open(viewer)
    assert (type(layer).__name__, layer.name) == ("Labels", "truth")
    assert not is_ours(layer)


def test_cancel_opens_nothing(viewer, choose):
    choose()
    assert ask_and_open(viewer) == []
    assert len(viewer.layers) == 0


def test_a_file_that_is_none_is_a_sentence_and_the_others_open(viewer, tmp_path, result, said):
    (tmp_path / "b_cells.tif").write_bytes(b"%PDF")
    layers = open_files(viewer, tmp_path / "b_cells.tif", result)
    assert [layer.name for layer in layers] == ["a_cells"]
    assert len(said) == 1
    assert said[0].startswith("b_cells.tif is not a TIFF")


def test_the_dialog_opens_where_the_results_are(viewer, choose, result, tmp_path):
    folders = choose(result)
    ask_and_open(viewer)
    ask_and_open(viewer)
    set_preferences(Preferences(results_folder=str(tmp_path / "mine")))
    try:
        ask_and_open(viewer)
    finally:
        set_preferences(Preferences())
    assert folders == ["", str(tmp_path), str(tmp_path / "mine")]


def test_what_is_dropped_comes_to_us_unless_the_user_chose_another(result):
    plugins = get_settings().plugins
    before = dict(plugins.extension2reader)
    plugins.extension2reader = {"*.tif": "napari", "*_cells.tif": "other"}
    try:
        open_drops()
        assert plugins.extension2reader["*_classes.tif"] == "napari-unet-cells"
        assert plugins.extension2reader["*_cells.tif"] == "other"
        assert plugins.extension2reader["*.tif"] == "napari"
        once = dict(plugins.extension2reader)
        open_drops()
        assert plugins.extension2reader == once
    finally:
        plugins.extension2reader = before


def test_a_name_that_was_not_typed_is_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(opening, "show_info", told.append)
    labels = np.ones((6, 8), np.uint16)
    opening.save_labels(str(tmp_path / "a"), labels, {})
    assert told == []
    before = (tmp_path / "a.tif").read_bytes()
    first, _ = opening.save_labels(str(tmp_path / "a"), labels * 2, {})
    assert Path(first).name == "a-2.tif"
    assert "a-2.tif" in told[0]
    assert (tmp_path / "a.tif").read_bytes() == before
