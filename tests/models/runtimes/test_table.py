"""Which runtime opens a model, and what is said where it is not the first choice."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes import table
from napari_unet_cells.models.runtimes.table import (
    RUNTIMES,
    Runtime,
    UnusableRuntime,
    chosen_runtime,
    open_network,
)
from napari_unet_cells.settings import Preferences, preferences, set_preferences

CARD = ModelCard("some", "unet", ("background", "cell"), 1, 16, 16, sha256="5" * 64)


class Stage:
    """Runtimes that are installed or not, and say who was asked for what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.fails = ""
        self.gpus: list[str] = []
        for name in RUNTIMES:
            module = types.ModuleType(f"{table.__package__}.stand_in_of_{name}")
            module.open_network = self._opener(name)  # type: ignore[attr-defined]
            module.prepare_gpus = lambda: self.gpus  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
            self.install(name)
            if name == "tensorflow":
                monkeypatch.setitem(sys.modules, f"{table.__package__}.tensorflow", module)

    def install(self, name: str, library: str = "json") -> None:
        known = replace(RUNTIMES[name], module=f"stand_in_of_{name}", library=library)
        self.monkeypatch.setitem(RUNTIMES, name, known)

    def _opener(self, name: str) -> Any:
        def open_network(card: ModelCard, cpu: bool = False, why: str = "") -> Any:
            if self.fails and name == "openvino":
                raise UnusableRuntime(self.fails)
            return name, cpu, why

        return open_network


def opened(*arguments: Any, **named: Any) -> Any:
    """Give what a stand-in says instead of a network."""
    return open_network(*arguments, **named)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(table, "_nvidia_driver", lambda: False)
    return Stage(monkeypatch)


def test_openvino_computes_on_the_cpu(stage: Stage) -> None:
    assert opened(CARD) == ("openvino", False, "")
    assert opened(CARD, "tensorflow") == ("tensorflow", False, "")


def test_without_openvino_tensorflow_does_and_the_other_way_round(stage: Stage) -> None:
    stage.install("openvino", "no_such_library")
    assert opened(CARD) == ("tensorflow", False, "")
    stage.install("openvino")
    stage.install("tensorflow", "no_such_library")
    assert opened(CARD) == ("openvino", False, "")


def test_a_second_choice_says_why(stage: Stage) -> None:
    stage.fails = "some.int8.xml is damaged"
    assert opened(CARD) == ("tensorflow", False, "some.int8.xml is damaged")
    with pytest.raises(UnusableRuntime, match="is damaged"):
        opened(CARD, "openvino")


def test_tensorflow_has_the_gpu_where_it_can_use_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.gpus = ["Imaginary 9000"]
    assert opened(CARD)[0] == "openvino"  # without a driver it is not even asked
    monkeypatch.setattr(table, "_nvidia_driver", lambda: True)
    assert opened(CARD)[0] == "tensorflow"
    assert opened(CARD, cpu=True)[0] == "openvino"
    stage.gpus = []
    assert opened(CARD)[0] == "openvino"


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_is_none(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert table._nvidia_driver() == (sys.platform == "linux")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not table._nvidia_driver()


def test_the_preference_is_the_default(stage: Stage) -> None:
    before = preferences()
    try:
        set_preferences(Preferences(runtime="tensorflow"))
        assert chosen_runtime() == "tensorflow"
        assert opened(CARD)[0] == "tensorflow"
        assert opened(CARD, "openvino")[0] == "openvino"
        assert opened(CARD, "auto")[0] == "openvino"
    finally:
        set_preferences(before)
    assert chosen_runtime() == "auto"


def test_a_runtime_that_is_not_there_is_a_sentence(stage: Stage) -> None:
    with pytest.raises(UserError, match=r"no runtime 'onnx'; there are auto, openvino, tensor"):
        chosen_runtime("onnx")
    stage.install("openvino", "no_such_library")
    with pytest.raises(UserError, match=r"^OpenVINO is not installed\. Install it \(python -m"):
        opened(CARD, "openvino")


def test_asking_whether_a_library_is_there_does_not_import_it() -> None:
    assert Runtime("Some", "antigravity", "none").installed
    assert "antigravity" not in sys.modules
