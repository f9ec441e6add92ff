"""Which runtime opens a model, and what is said where it is not the first choice."""

from __future__ import annotations

import platform
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes import table
from napari_unet_cells.models.runtimes.library import SecondLibrary
from napari_unet_cells.models.runtimes.network import GPU_FULL
from napari_unet_cells.models.runtimes.table import (
    RUNTIMES,
    Runtime,
    UnusableRuntime,
    chosen_runtime,
    open_network,
)
from napari_unet_cells.settings import RUNTIME_NAMES, Preferences, preferences, set_preferences

CARD = ModelCard("some", "unet", ("background", "cell"), 1, 16, 16, sha256="5" * 64)


class Said(NamedTuple):
    """What a stand-in was asked for."""

    name: str
    cpu: bool
    why: str
    on_cpu: bool = True


class Stage:
    """Runtimes that are installed or not, and say who was asked for what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.fails = ""
        self.gpu_fails = ""
        self.gpu = ""
        self.second: tuple[str, ...] = ()
        self.broken: tuple[str, ...] = ()
        for name in RUNTIMES:
            module = types.ModuleType(f"{table.__package__}.stand_in_of_{name}")
            module.open_network = self._opener(name)  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
            self.install(name)

    def install(self, name: str, library: str = "json") -> None:
        known = replace(RUNTIMES[name], module=f"stand_in_of_{name}", library=library)
        self.monkeypatch.setitem(RUNTIMES, name, known)

    def _opener(self, name: str) -> Any:
        def open_network(card: ModelCard, cpu: bool = False, why: str = "") -> Any:
            if self.fails and name == "openvino":
                raise UnusableRuntime(self.fails)
            if name in self.broken:
                raise UnusableRuntime(f"{name} cannot be imported")
            if name in self.second:
                raise SecondLibrary(f"{name} cannot be loaded")
            on_cpu = name == "openvino" or cpu or not self.gpu or bool(self.gpu_fails)
            return Said(name, cpu, why or (self.gpu_fails if on_cpu else ""), on_cpu)

        return open_network


def opened(*arguments: Any, **named: Any) -> Any:
    """Give what a stand-in says instead of a network."""
    return open_network(*arguments, **named)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(monkeypatch)
    monkeypatch.setattr(table, "_gpu_in_sight", lambda name: name in stage.gpu)
    return stage


def test_openvino_computes_on_the_cpu(stage: Stage) -> None:
    assert opened(CARD)[:3] == ("openvino", True, "")
    assert opened(CARD, "tensorflow")[:3] == ("tensorflow", False, "")


def test_without_openvino_tensorflow_does_and_the_other_way_round(stage: Stage) -> None:
    stage.install("openvino", "no_such_library")
    assert opened(CARD)[:3] == ("tensorflow", False, "")
    stage.install("openvino")
    stage.install("tensorflow", "no_such_library")
    assert opened(CARD)[:3] == ("openvino", True, "")
    stage.install("openvino", "no_such_library")
    assert opened(CARD)[:3] == ("torch", False, "")
    stage.install("torch", "no_such_library")
    with pytest.raises(UserError, match=r"^Nothing that computes networks is installed"):
        opened(CARD)


def test_a_library_that_may_not_be_loaded_here_leaves_the_work_to_the_next(stage: Stage) -> None:
    stage.fails = "some.int8.xml is damaged"
    stage.second = ("tensorflow",)
    assert opened(CARD)[:3] == ("torch", False, "some.int8.xml is damaged")
    stage.second = ("tensorflow", "torch")
    with pytest.raises(SecondLibrary):
        opened(CARD)
    stage.gpu = "torch"  # the child has room for it
    with pytest.raises(SecondLibrary):
        opened(CARD)


def test_a_second_choice_says_why(stage: Stage) -> None:
    stage.fails = "some.int8.xml is damaged"
    assert opened(CARD)[:3] == ("tensorflow", False, "some.int8.xml is damaged")
    with pytest.raises(
        UserError, match=r"^OpenVINO cannot compute the model some: .* damaged\. Or"
    ):
        opened(CARD, "openvino")


def test_pytorch_or_tensorflow_has_the_gpu_where_it_can_use_one(stage: Stage) -> None:
    assert opened(CARD).name == "openvino"  # without one in sight it is not even asked
    stage.gpu = "tensorflow and torch"
    assert opened(CARD) == ("torch", False, "", False)
    stage.gpu = "tensorflow"
    assert opened(CARD) == ("tensorflow", False, "", False)
    assert opened(CARD, cpu=True)[:3] == ("openvino", True, GPU_FULL)
    stage.gpu, stage.broken = "tensorflow and torch", ("torch",)
    assert opened(CARD) == ("tensorflow", False, "", False)
    stage.broken = ("torch", "tensorflow")
    assert opened(CARD)[:3] == ("openvino", True, "tensorflow cannot be imported")
    stage.broken = ()
    stage.gpu_fails = "the GPU failed"
    assert opened(CARD)[:3] == ("openvino", True, "the GPU failed")


@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow has GPUs under Linux only")
def test_a_gpu_takes_a_driver_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for driver in (False, True):
        for libraries in (False, True):
            monkeypatch.setattr(Path, "exists", lambda path, driver=driver: driver)
            monkeypatch.setattr(table, "_cuda_installed", lambda there=libraries: there)
            monkeypatch.setattr(table, "_torch_has_cuda", lambda there=libraries: not there)
            assert table._gpu_in_sight("tensorflow") == (driver and libraries)
            assert table._gpu_in_sight("torch") == (driver and not libraries)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not table._gpu_in_sight("tensorflow")
        assert not table._gpu_in_sight("torch")


def test_an_apple_processor_has_one_for_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for machine, there in (("arm64", True), ("x86_64", False)):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert table._gpu_in_sight("torch") == there
        assert not table._gpu_in_sight("tensorflow")


def test_a_build_of_pytorch_for_gpus_is_known_by_its_libraries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = types.SimpleNamespace(origin=str(tmp_path / "torch" / "__init__.py"))
    monkeypatch.setattr(table, "find_spec", lambda name: spec)
    assert not table._torch_has_cuda()
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "lib" / "libtorch_cuda.so").touch()
    assert table._torch_has_cuda()


def test_libraries_of_cuda_are_found_where_pip_or_the_system_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_package(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(table, "find_spec", no_package)
    monkeypatch.setattr(table, "find_library", lambda name: None)
    assert not table._cuda_installed()
    monkeypatch.setattr(table, "find_library", lambda name: f"lib{name}.so.9")
    assert table._cuda_installed()


def test_what_can_be_preferred_is_what_there_is() -> None:
    assert ("auto", *RUNTIMES) == RUNTIME_NAMES


def test_the_preference_is_the_default(stage: Stage) -> None:
    before = preferences()
    try:
        set_preferences(Preferences(runtime=" TensorFlow"))
        assert chosen_runtime() == "tensorflow"
        assert opened(CARD).name == "tensorflow"
        assert opened(CARD, "openvino").name == "openvino"
        assert opened(CARD, "auto").name == "openvino"
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
