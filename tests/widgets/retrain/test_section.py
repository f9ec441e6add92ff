"""The Retrain section in a real napari window, with an engine that only pretends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import read_card
from napari_unet_cells.models.catalogue import (
    DEFAULT_MODEL,
    default_model,
    find_model,
    installed_models,
    make_default,
)
from napari_unet_cells.training.events import (
    Choosing,
    Preparing,
    Retrained,
    StepDone,
    event_as_dict,
)

pytestmark = pytest.mark.gui


class PretendedEngine:
    """Tells what a child would, and waits before the last event until it may go on."""

    def __init__(self, made: Path | None = None, problem: str = "") -> None:
        self.made, self.problem = made, problem
        self.prepared: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.scores: tuple[float | None, float | None] = (0.4, 0.6)

    def prepare(self, base: str, stop: threading.Event) -> None:
        self.prepared.append(base)

    def retrain(self, request, stop, finish):
        self.requests.append(request)
        if self.problem:
            raise UserError(self.problem)
        yield event_as_dict(Preparing(8, 2))
        for step in range(1, 4):
            value = 0.5 if step == 3 else None
            yield event_as_dict(StepDone(step, step * 0.3, step / 10, 1 / step, value, value))
        while not (finish.is_set() or stop.is_set()):
            time.sleep(0.01)
        yield event_as_dict(Choosing())
        if self.made is not None:
            card = read_card(self.made)
            yield event_as_dict(Retrained(card, *self.scores, 1.0, 3.0))


@pytest.fixture
def home(tmp_path, tiny_model, monkeypatch) -> Path:
    """Make a user's folder with the models tiny and tiny-2."""
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    for name in ("tiny", "tiny-2"):
        card = json.loads(tiny_model.with_suffix(".json").read_text()) | {"name": name}
        (models / f"{name}.keras").write_bytes(tiny_model.read_bytes())
        (models / f"{name}.json").write_text(json.dumps(card))
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(models.parent))
    return models.parent


@pytest.fixture
def section(make_napari_viewer, home, qtbot):
    from napari_unet_cells.widgets.retrain.section import RetrainSection

    viewer = make_napari_viewer(show=True)
    engine: Any = PretendedEngine(home / "models" / "tiny-2.keras")
    section = RetrainSection(viewer, engine)
    viewer.window.add_dock_widget(section, name="retrain")
    return section


def steps_of(section) -> int:
    return 0 if section.curve is None else len(section.curve.training.get_xdata())


def start(qtbot, section, tmp_path) -> None:
    section.base_box.setCurrentText("tiny")
    section.choose_dataset(tmp_path)
    section.button.click()
    qtbot.waitUntil(lambda: steps_of(section) == 3, timeout=20_000)


def test_nothing_to_learn_from_is_said(qtbot, section):
    section.dataset_edit.setText("")
    section.button.click()
    assert "There is no dataset to learn from" in section.message.text()
    assert not section.worker.running
    assert section.engine.requests == []


def test_a_retraining_shows_its_curve_and_its_model(qtbot, section, home, tmp_path):
    assert section.again_button.isHidden()
    names = []
    section.retrained.connect(names.append)

    start(qtbot, section, tmp_path)

    assert not section.button.isEnabled()
    assert section.cancel_button.isVisible()
    assert "2 held out" in section.message.text()
    assert list(section.curve.validation.get_ydata()) == [0.5]
    section.cancel_button.click()
    assert not section.cancel_button.isEnabled()
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)
    assert names == ["tiny-2"]
    assert "tiny-2 is made: AP50 0.60" in section.message.text()
    assert "the default model from now on" in section.message.text()
    assert default_model() == "tiny-2"
    assert section.again_button.text() == "Segment again with tiny-2"
    assert section.again_button.isVisible()
    again = []
    section.segment_again.connect(again.append)
    section.again_button.click()
    assert again == ["tiny-2"]
    assert section.engine.requests == [
        {
            "dataset": str(tmp_path),
            "base": str(home / "models" / "tiny.keras"),
            "output": str(home / "models" / "tiny-3.keras"),
            "options": {"minutes": 1.0, "start": "model"},
        }
    ]


def test_a_worse_model_is_said_to_be_worse(qtbot, section, tmp_path):
    section.engine.scores = (0.6, 0.4)
    start(qtbot, section, tmp_path)
    section.finish()
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)
    assert "it is worse" in section.message.text()
    assert default_model() == DEFAULT_MODEL


def test_the_curve_can_be_saved(qtbot, section, tmp_path):
    start(qtbot, section, tmp_path)
    section.finish()
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)
    assert section.save_button.isVisible()
    section.save_curve(tmp_path / "curve")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    section.save_curve(tmp_path / "nowhere" / "curve.png")
    assert "there is no folder" in section.message.text()


def test_what_fails_is_a_sentence(qtbot, section, tmp_path):
    section.engine.problem = "The masks hold no cell at all."
    section.choose_dataset(tmp_path)
    section.button.click()
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)
    assert section.message.text() == "The masks hold no cell at all."
    assert section.button.isEnabled()


def test_a_model_deleted_while_it_is_chosen_is_a_sentence(qtbot, section, home, tmp_path):
    section.base_box.setCurrentText("tiny")
    (home / "models" / "tiny.keras").unlink()
    section.choose_dataset(tmp_path)
    section.button.click()
    assert "There is no model 'tiny'" in section.message.text()
    listed = [section.base_box.itemText(i) for i in range(section.base_box.count())]
    assert "tiny" not in listed


def test_opening_the_section_makes_the_network_ready(qtbot, section, home):
    section.base_box.setCurrentText("tiny")
    section.warm_up()
    qtbot.waitUntil(
        lambda: section.engine.prepared == [str(home / "models" / "tiny.keras")], timeout=20_000
    )


def test_the_default_model_is_the_one_to_start_from(section, home):
    make_default("tiny-2")
    assert set(installed_models()) >= {"tiny", "tiny-2"}
    section.base_box.clear()
    section.fill_models()
    assert section.base_box.currentText() == "tiny-2"
    assert find_model("tiny-2").name == "tiny-2"
