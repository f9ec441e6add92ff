"""Preferences and shortcuts, in a real napari."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import pytest
from napari import settings
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_unet_cells.settings import (
    Preferences,
    models_folder,
    preferences,
    set_preferences,
)
from napari_unet_cells.widgets.preferences import Shortcuts, load_preferences

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def _as_before():
    yield
    set_preferences(Preferences())


@pytest.fixture
def stored():
    if not hasattr(settings, "get_plugin_settings"):
        pytest.skip("napari keeps settings of plugins since 0.9")
    section = settings.get_plugin_settings("napari-unet-cells").general
    before = section.model_dump()
    yield section
    for name, value in before.items():
        setattr(section, name, value)


@pytest.fixture
def warned(monkeypatch):
    sentences = []
    monkeypatch.setattr("napari_unet_cells.widgets.preferences.show_warning", sentences.append)
    return sentences


def test_the_manifest_and_the_program_know_the_same_preferences(stored):
    assert Preferences(**stored.model_dump()) == Preferences()


def test_preferences_come_from_napari(stored, tmp_path, warned):
    assert models_folder() != tmp_path
    stored.models_folder = str(tmp_path)
    stored.default_model = "mine"
    load_preferences()
    assert preferences().default_model == "mine"
    assert models_folder() == tmp_path
    assert warned == []


def test_a_folder_that_is_not_there_is_a_sentence(stored, tmp_path, warned):
    stored.results_folder = str(tmp_path / "gone")
    load_preferences()
    assert preferences().results_folder == ""
    assert "There is no folder" in warned[0]
    assert "File > Preferences" in warned[0]


@pytest.mark.parametrize("named", ["auto", "openvino", "tensorflow"])
def test_a_runtime_can_be_preferred(stored, warned, named):
    stored.runtime = named
    load_preferences()
    assert (preferences().runtime, warned) == (named, [])


def test_a_runtime_that_is_none_is_a_sentence(monkeypatch, warned):
    monkeypatch.setattr(
        "napari_unet_cells.widgets.preferences._stored", lambda: Preferences(runtime="onnx")
    )
    load_preferences()
    assert preferences().runtime == "auto"
    assert "There is no runtime onnx" in warned[0]


def test_a_key_acts_on_the_canvas_and_is_given_back(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_labels(np.zeros((8, 8), int))
    pressed = []
    shortcuts = Shortcuts(viewer, {"segment_key": lambda: pressed.append(1)})
    canvas = viewer.window._qt_viewer.canvas.native

    def press():
        qtbot.keyClick(canvas, Qt.Key.Key_S, Qt.KeyboardModifier.ShiftModifier)

    press()
    assert pressed == [1]
    shortcuts.unbind()
    press()
    assert pressed == [1]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_of_two_docks_the_one_that_stays_keeps_its_keys(first_to_end):
    viewer, pressed = ViewerModel(), []
    docks = [
        Shortcuts(cast(Any, viewer), {"segment_key": partial(pressed.append, number)})
        for number in (0, 1)
    ]
    docks[first_to_end].unbind()
    (press,) = viewer.keymap.values()
    press(viewer)
    assert pressed == [1 - first_to_end]
    docks[1 - first_to_end].unbind()
    assert not viewer.keymap


def test_a_key_that_is_none_is_a_sentence(make_napari_viewer, warned):
    set_preferences(Preferences(segment_key="Hyper-Nonsense", cancel_key=""))
    viewer = make_napari_viewer()
    before = dict(viewer.keymap)
    actions = {"segment_key": lambda: None, "cancel_key": lambda: None}
    shortcuts = Shortcuts(viewer, actions)
    assert "'Hyper-Nonsense' is no key that napari knows" in warned[0]
    assert len(viewer.keymap) == len(before) + 1  # the default; the empty one is not bound
    shortcuts.unbind()
    assert dict(viewer.keymap) == before
