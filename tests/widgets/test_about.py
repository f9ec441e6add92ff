"""What is known of the chosen model, in the dock: the button, the window, the tooltips."""

from __future__ import annotations

import json

import pytest
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices

pytestmark = pytest.mark.gui

PLUGIN = "napari-unet-cells"

FIRST, SECOND = "cells-fast", "roots"


@pytest.fixture
def models(tiny_model, tmp_path, monkeypatch):
    """Install two small models, and none of the package's own."""
    from napari_unet_cells.models import catalogue

    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "none")
    known = json.loads(tiny_model.with_suffix(".json").read_text())
    cards = {
        FIRST: {"works_on": ["Nuclei in <b>H&E</b>."], "fails_on": ["Phase contrast."]},
        SECOND: {"description": "Roots. More of it."},
    }
    for name, said in cards.items():
        (folder / f"{name}.keras").write_bytes(tiny_model.read_bytes())
        (folder / f"{name}.json").write_text(json.dumps(known | {"name": name} | said))
    return folder


@pytest.fixture
def viewer(make_napari_viewer, models):
    return make_napari_viewer()


@pytest.fixture
def segment(viewer):
    return viewer.window.add_plugin_dock_widget(PLUGIN)[1].segment


def opened(segment):
    segment.model_form.about_button.click()
    return segment.findChild(object, "about_dialog")


def test_the_button_opens_what_is_known_of_the_model_beside_the_work(segment):
    assert segment.model_form.about_button.objectName() == "about_model"
    assert segment.model_form.about_button.accessibleName() == "About this model"
    assert "About this model" in segment.model_form.about_button.toolTip()
    assert segment.findChild(object, "about_dialog") is None

    dialog = opened(segment)

    assert dialog.isVisible()
    assert not dialog.isModal()
    assert dialog.text.isReadOnly()
    assert FIRST in dialog.windowTitle()
    said = dialog.text.toPlainText()
    assert "Nuclei in <b>H&E</b>." in said
    assert "When not to use it" in said
    assert opened(segment) is dialog  # one window, however often it is asked for


def test_it_follows_the_chosen_model(segment):
    dialog = opened(segment)
    assert "Roots" not in dialog.text.toPlainText()

    segment.model_form.model_box.setCurrentText(SECOND)

    assert SECOND in dialog.windowTitle()
    assert "Roots. More of it." in dialog.text.toPlainText()
    assert "Nobody wrote down" in dialog.text.toPlainText()
    assert dialog.isVisible()


def test_a_model_that_was_made_again_under_its_name_is_described_anew(segment, models):
    dialog = opened(segment)
    card = models / f"{FIRST}.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"description": "Made again."}))
    segment.model_form.list_models()
    assert "Made again." in dialog.text.toPlainText()


def test_escape_and_close_close_it(qtbot, segment):
    dialog = opened(segment)
    qtbot.keyClick(dialog.text, Qt.Key.Key_Escape)
    assert not dialog.isVisible()
    assert opened(segment).isVisible()
    (button,) = dialog.findChildren(type(segment.model_form.about_button))
    assert button.text() == "Close"
    button.click()
    assert not dialog.isVisible()


def test_it_goes_with_the_dock(qtbot, viewer, segment):
    dialog = opened(segment)
    dock = viewer.window.dock_widgets[f"{PLUGIN} ({PLUGIN})"]
    with qtbot.waitSignal(dialog.destroyed, timeout=5_000):
        viewer.window.remove_dock_widget(dock)
        dock.deleteLater()


def test_a_link_is_not_followed(segment, monkeypatch):
    followed: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", followed.append)
    dialog = opened(segment)
    before = dialog.text.toPlainText()
    assert not dialog.text.openExternalLinks()
    dialog.text.anchorClicked.emit(QUrl("https://example.org"))
    assert dialog.text.toPlainText() == before
    assert not followed


def test_tooltips_say_it_in_short_lines(segment):
    box = segment.model_form.model_box
    tips = [box.itemData(row, Qt.ItemDataRole.ToolTipRole) for row in range(box.count())]
    assert [tip.splitlines()[0].rpartition(">")[2] for tip in tips] == [FIRST, SECOND]
    assert "Not for: Phase contrast." in tips[0]
    assert box.toolTip() == tips[0]
    box.setCurrentIndex(1)
    assert box.toolTip() == tips[1]
    assert "Roots.\n" in tips[1]
    assert "More of it" not in tips[1]


def test_a_card_does_not_write_html_into_the_tooltip(segment, models):
    card = models / f"{FIRST}.json"
    hostile = {"description": "<img src='/etc/passwd'>"}
    card.write_text(json.dumps(json.loads(card.read_text()) | hostile))
    segment.model_form.list_models()
    assert "&lt;img" in segment.model_form.model_box.toolTip()
    assert "<img" not in segment.model_form.model_box.toolTip()


def test_without_a_model_it_is_greyed_and_says_why(segment, models):
    dialog = opened(segment)
    assert segment.model_form.about_button.isEnabled()
    for path in models.glob("*.keras"):
        path.unlink()
    segment.model_form.list_models()
    assert not segment.model_form.about_button.isEnabled()
    assert "No model is installed" in segment.model_form.about_button.toolTip()
    assert not dialog.isVisible()
