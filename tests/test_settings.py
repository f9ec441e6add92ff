"""Where the user's own things lie; and shortcuts that take no key from anybody."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from napari_unet_cells import settings
from napari_unet_cells.settings import (
    Preferences,
    models_folder,
    preferences,
    set_preferences,
    user_folder,
)

KEYS = [field.name for field in fields(Preferences) if field.name.endswith("_key")]


@pytest.fixture(autouse=True)
def _as_before():
    yield
    set_preferences(Preferences())


def test_a_variable_moves_all_that_is_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv("NAPARI_UNET_CELLS_HOME")
    default = user_folder()
    assert default == Path(platformdirs.user_data_dir("napari-unet-cells", appauthor=False))
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    assert (user_folder(), models_folder()) == (tmp_path, tmp_path / "models")
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", "~/cells")
    assert user_folder() == Path.home() / "cells"


def test_a_preferred_folder_comes_before_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    assert models_folder() == tmp_path / "home" / "models"
    set_preferences(Preferences(models_folder=str(tmp_path / "mine")))
    assert models_folder() == tmp_path / "mine"
    assert user_folder() == tmp_path / "home"


def test_preferences_are_values():
    assert preferences() == Preferences()
    with pytest.raises(FrozenInstanceError):
        preferences().default_model = "mine"  # type: ignore[misc]


def test_settings_need_no_window():
    script = (
        f"import sys, {settings.__name__}; "
        "print(sorted({'napari', 'qtpy'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.gui
def test_no_default_key_is_one_of_naparis(make_napari_viewer):
    from app_model.types import KeyBinding
    from napari.layers import Image, Labels, Points, Shapes
    from napari.settings import get_settings

    viewer = make_napari_viewer()
    taken = {
        str(KeyBinding.from_str(str(key)))
        for keys in get_settings().shortcuts.shortcuts.values()
        for key in keys
    }
    taken |= {str(KeyBinding.validate(key)) for key in viewer.class_keymap}
    for layer in (Image, Labels, Points, Shapes):
        taken |= {str(KeyBinding.validate(key)) for key in layer.class_keymap}
    assert "Ctrl+Shift+T" in taken
    ours = {
        str(KeyBinding.from_str(getattr(Preferences(), name).replace("-", "+"))) for name in KEYS
    }
    assert len(ours) == len(KEYS) == 5
    assert not ours & taken


@pytest.mark.gui
@pytest.mark.parametrize(("kind", "acts"), [("QLineEdit", 0), ("QSpinBox", 0), ("QPushButton", 1)])
def test_a_key_is_not_taken_from_who_types(make_napari_viewer, qtbot, kind, acts):
    """What has no use for a key, such as a button, leaves it to the viewer."""
    from qtpy import QtWidgets
    from qtpy.QtCore import Qt

    from napari_unet_cells.widgets.preferences import Shortcuts

    viewer = make_napari_viewer(show=True)
    viewer.add_labels(np.zeros((8, 8), int))
    field = getattr(QtWidgets, kind)()
    viewer.window.add_dock_widget(field)
    pressed = []
    shortcuts = Shortcuts(viewer, {"segment_key": lambda: pressed.append(1)})
    canvas = viewer.window._qt_viewer.canvas.native
    for widget, expected in ((field, acts), (canvas, acts + 1)):
        widget.setFocus()
        qtbot.keyClick(widget, Qt.Key.Key_S, Qt.KeyboardModifier.ShiftModifier)
        assert len(pressed) == expected
    if kind == "QLineEdit":
        assert field.text().lower() == "s"
    shortcuts.unbind()
