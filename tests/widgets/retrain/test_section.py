"""The Retrain section in a real napari window, with an engine that only pretends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QProgressBar, QPushButton

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import read_card
from napari_unet_cells.models.catalogue import (
    DEFAULT_MODEL,
    default_model,
    find_model,
    installed_models,
    make_default,
)
from napari_unet_cells.settings import Preferences, set_preferences
from napari_unet_cells.training.events import (
    Choosing,
    Preparing,
    Retrained,
    StepDone,
    event_as_dict,
)
from napari_unet_cells.widgets.retrain.values import RetrainValues

pytestmark = pytest.mark.gui

#: Scores and what they were measured on, as a `Retrained` takes them.
MEASURED = (0.4, 0.6, 1.0, 3.0, 4, (0.35, 0.45), (0.55, 0.65))


class PretendedEngine:
    """Tells what a child would, and waits before the last event until it may go on."""

    def __init__(self, made: Path | None = None, problem: str = "") -> None:
        self.made, self.problem = made, problem
        self.prepared: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.remark = ""
        self.scores: tuple[float | None, float | None] = (0.4, 0.6)
        self.measured: tuple[Any, ...] = (4, (0.35, 0.45), (0.55, 0.65))

    def prepare(self, base: str, stop: threading.Event) -> None:
        self.prepared.append(base)

    def retrain(self, request, stop, finish):
        self.requests.append(request)
        if self.problem:
            raise UserError(self.problem)
        yield event_as_dict(Preparing(8, 2, self.remark))
        for step in range(1, 4):
            value = 0.5 if step == 3 else None
            yield event_as_dict(StepDone(step, step * 0.3, step / 10, 1 / step, value, value))
        while not (finish.is_set() or stop.is_set()):
            time.sleep(0.01)
        yield event_as_dict(Choosing())
        if self.made is not None:
            card = read_card(self.made)
            yield event_as_dict(Retrained(card, *self.scores, 1.0, 3.0, *self.measured))


@pytest.fixture
def home(tmp_path, tiny_model, monkeypatch) -> Path:
    """Make a user's folder with the models tiny and tiny-2."""
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    for name in ("tiny", "tiny-2"):
        card = json.loads(tiny_model.with_suffix(".json").read_text()) | {"name": name}
        card["parent"] = {"name": "tiny", "sha256": ""} if name == "tiny-2" else {}
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


def test_what_is_typed_is_what_is_asked_for(section, tmp_path):
    assert section.values.dataset == ""
    section.choose_dataset("elsewhere")
    section.choose_dataset(tmp_path)
    section.base_box.setCurrentText("tiny")
    section.start_box.setCurrentIndex(1)
    section.minutes_box.setValue(2.5)
    assert section.values == RetrainValues(str(tmp_path), "tiny", "encoder", 2.5)
    assert section.minutes_box.text() == "2.5 min"
    assert section.dataset_edit.toolTip().startswith(f"{tmp_path}\nA folder of approved regions")


def test_every_control_says_what_it_does(section):
    section.decision.ask(Retrained(read_card(find_model("tiny-2").path), *MEASURED), "tiny")
    controls = [
        *section.findChildren(QPushButton),
        *section.findChildren(QComboBox),
        *section.findChildren(QDoubleSpinBox),
        *section.findChildren(QProgressBar),
    ]
    assert len(controls) > 10
    assert [control.objectName() for control in controls if not control.toolTip()] == []


def test_a_dataset_of_approved_regions_is_asked_for(section):
    asked = []
    section.dataset_wanted.connect(lambda: asked.append(True))
    section.approved_button.click()
    assert asked == [True]


@pytest.mark.parametrize("state", ["running", "done"])
def test_all_fits_a_small_screen(qtbot, section, tmp_path, state):
    start(qtbot, section, tmp_path)
    if state == "done":
        section.finish()
        qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)
        section.decision.show_counts((125, 131))
    section.message.setVisible(False)  # the dock shows it below the pages
    section.resize(300, 500)
    for _ in range(3):
        qtbot.wait(30)
    needed = section.sizeHint()
    assert section.minimumSizeHint().width() <= 300
    assert max(needed.height(), section.layout().heightForWidth(300)) <= 500


def test_a_retraining_shows_its_curve_and_its_model(qtbot, section, home, tmp_path):
    assert section.decision.isHidden()
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
    assert "tiny-2 is made, and it is better: AP50 0.60 (0.55 to 0.65)" in section.message.text()
    assert "tiny stays chosen until you say otherwise" in section.message.text()
    assert default_model() == DEFAULT_MODEL
    assert section.decision.isVisible()
    assert section.engine.requests == [
        {
            "dataset": str(tmp_path),
            "base": str(home / "models" / "tiny.keras"),
            "output": str(home / "models" / "tiny-3.keras"),
            "options": {"minutes": 1.0, "start": "model"},
        }
    ]


def retrained(qtbot, section, tmp_path):
    start(qtbot, section, tmp_path)
    section.finish()
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)


def test_what_is_odd_about_the_images_is_a_warning(qtbot, section, tmp_path, monkeypatch):
    warnings = []
    name = "napari_unet_cells.widgets.retrain.section.show_warning"
    monkeypatch.setattr(name, warnings.append)
    section.engine.remark = "Cells of about 10 and of 80 pixels lie side by side in an image."
    retrained(qtbot, section, tmp_path)
    assert warnings == [section.engine.remark]


def is_proposed(button) -> bool:
    return "bold" in button.styleSheet()


def test_the_new_model_is_used_where_the_user_says_so(qtbot, section, tmp_path):
    used, kept = [], []
    section.used.connect(used.append)
    section.kept.connect(kept.append)
    retrained(qtbot, section, tmp_path)
    decision = section.decision
    assert decision.use_button.text() == "Use tiny-2"
    assert decision.keep_button.text() == "Keep using tiny"
    assert is_proposed(decision.use_button)
    assert not is_proposed(decision.keep_button)
    for said in ("4 held-out images", "0.40 (0.35 to 0.45)", "0.60 (0.55 to 0.65)"):
        assert said in decision.table.text()
    assert default_model() == DEFAULT_MODEL

    decision.use_button.click()

    assert default_model() == "tiny-2"
    assert (used, kept) == (["tiny-2"], [])
    assert section.message.text() == "tiny-2 is used from now on."
    assert section.base_box.currentText() == "tiny-2"
    assert decision.isHidden()


def test_the_model_in_use_is_kept_where_the_user_says_so(qtbot, section, tmp_path):
    used, kept = [], []
    section.used.connect(used.append)
    section.kept.connect(kept.append)
    section.show_model_in_use("other")
    retrained(qtbot, section, tmp_path)
    assert section.decision.keep_button.text() == "Keep using other"
    assert section.decision.table.text() == ""  # it was not measured

    section.decision.keep_button.click()

    assert (used, kept) == ([], ["other"])
    assert default_model() == DEFAULT_MODEL
    assert "other stays chosen" in section.message.text()
    assert section.decision.isHidden()


@pytest.mark.parametrize(
    ("scores", "measured", "sentence"),
    [
        ((0.6, 0.4), (4, (0.5, 0.7), (0.3, 0.5)), "it is worse"),
        ((1.0, 1.0), (4, (1.0, 1.0), (1.0, 1.0)), "no clear difference"),
        ((0.4, 0.6), (4, (0.3, 0.6), (0.5, 0.7)), "no clear difference"),
        ((0.4, 0.6), (1, (0.4, 0.4), (0.6, 0.6)), "So few do not tell"),
        ((None, None), (0, None, None), "No image was held out"),
    ],
)
def test_without_a_clear_gain_the_old_model_is_proposed(
    qtbot, section, tmp_path, scores, measured, sentence
):
    section.engine.scores, section.engine.measured = scores, measured
    retrained(qtbot, section, tmp_path)
    assert sentence in section.message.text()
    assert "tiny stays chosen" in section.message.text()
    assert is_proposed(section.decision.keep_button)
    assert not is_proposed(section.decision.use_button)
    assert default_model() == DEFAULT_MODEL


def test_a_preferred_model_stays_the_default_and_that_is_said(qtbot, section, tmp_path):
    set_preferences(Preferences(default_model="tiny"))
    try:
        retrained(qtbot, section, tmp_path)
        section.decision.use_button.click()
        assert "The preferences name tiny as the default model" in section.message.text()
    finally:
        set_preferences(Preferences())


def test_a_new_model_deleted_meanwhile_is_not_used(qtbot, section, home, tmp_path):
    used = []
    section.used.connect(used.append)
    retrained(qtbot, section, tmp_path)
    (home / "models" / "tiny-2.keras").unlink()
    section.decision.use_button.click()
    assert "There is no model 'tiny-2' any more" in section.message.text()
    assert used == []
    assert default_model() == DEFAULT_MODEL


def test_without_a_result_there_is_nothing_to_compare_with(qtbot, section, tmp_path):
    changes = []
    section.comparing_changed.connect(changes.append)
    retrained(qtbot, section, tmp_path)
    section.decision.compare_button.click()
    assert "There is no result to compare with" in section.message.text()
    section.is_busy = lambda: True
    section.decision.compare_button.click()
    assert section.message.text() == "The image is being segmented. Compare when that is done."
    assert changes == []
    assert section.decision.isVisible()


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
