"""The form of learning while correcting: its box and buttons reach the controller, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.settings import recall
from napari_unet_cells.widgets.correct.learning import LAST_LEARNING, LearningState
from napari_unet_cells.widgets.correct.learning_form import LearningForm
from napari_unet_cells.widgets.correct.review_form import ReviewForm
from napari_unet_cells.widgets.correct.teaching import Learned, Lesson

pytestmark = pytest.mark.gui


class Idle:
    """An engine whose child is never ready."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, base, stop):
        self.asked.append(base)


@pytest.fixture
def form(make_napari_viewer, qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    viewer = make_napari_viewer(show=True)
    engine: Any = Idle()
    review = ReviewForm(viewer)
    form = LearningForm(viewer, engine, review.controller, lambda: "cells-fast")
    review.setParent(form)
    viewer.window.add_dock_widget(form, name="learning")
    form.engine = engine
    return form


def test_the_box_is_remembered_and_warms_up(qtbot, form):
    assert not form.box.isChecked()
    assert not form.keep_button.isVisible()
    form.box.click()
    assert recall(LAST_LEARNING) is True
    qtbot.waitUntil(lambda: len(form.engine.asked) == 1, timeout=20_000)
    assert Path(form.engine.asked[0]).stem == "cells-fast"
    qtbot.waitUntil(lambda: not form.controller.busy, timeout=20_000)
    form.box.click()
    assert recall(LAST_LEARNING) is False


def test_a_model_of_the_session_shows_its_buttons(qtbot, form, tmp_path):
    told = []
    form.models_changed.connect(lambda: told.append(True))
    card = ModelCard("cells (learning)", "none", ("a", "b"), 1, 1, 0, "", path=tmp_path / "a.keras")
    lesson = Lesson(card, tmp_path / "lesson", None, card)
    lesson.folder.mkdir()
    form.controller.school.lessons["one"] = lesson
    form.controller.receive(Learned(card, "Learned from 2 regions."))
    assert told == [True]
    assert form.note.text() == "Learned from 2 regions."
    assert form.keep_button.isVisible()
    form.keep_button.click()  # its file is not there
    qtbot.waitUntil(lambda: "a.keras" in form.note.text(), timeout=20_000)
    form.drop_button.click()
    assert not form.drop_button.isVisible()
    assert told == [True, True]
    assert not lesson.folder.exists()


def test_the_state_is_shown_without_asking_for_anything(form):
    form.show_learning(LearningState(on=True, sentence="Learning from 1 region: 40%"))
    assert form.box.isChecked()
    assert form.note.isVisible()
    assert recall(LAST_LEARNING) is None
    form.show_learning(LearningState())
    assert not form.note.isVisible()
