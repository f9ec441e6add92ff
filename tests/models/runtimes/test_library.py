"""A process holds TensorFlow or PyTorch, and refuses the other with a sentence."""

from __future__ import annotations

import importlib
import os
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.models.runtimes import library
from napari_unet_cells.models.runtimes.library import (
    SecondLibrary,
    claim,
    claim_any,
    give_back,
    installed,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that this process holds nothing yet, and that all is installed."""
    for name in ("tensorflow", "torch", "keras"):
        # Set first, so that what a test imports is taken out again.
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setattr(library, "_claimed", "")
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not _refuses(f)])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "jax")


def _refuses(finder: object) -> bool:
    return isinstance(finder, library._Refusal)


def hold(monkeypatch: pytest.MonkeyPatch, name: str, backend: str = "") -> None:
    module: Any = types.ModuleType(name)
    module.config = types.SimpleNamespace(backend=lambda: backend)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", ["tensorflow", "torch"])
def test_keras_gets_the_library_that_was_claimed(name: str) -> None:
    claim(name)
    assert os.environ["KERAS_BACKEND"] == name
    claim(name)  # again
    assert sum(map(_refuses, sys.meta_path)) == 1


@pytest.mark.parametrize(("here", "asked"), [("tensorflow", "torch"), ("torch", "tensorflow")])
def test_a_second_library_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, here: str, asked: str
) -> None:
    hold(monkeypatch, here)
    titles = library.TITLES
    with pytest.raises(
        SecondLibrary, match=f"^{titles[asked]} cannot be .* holds {titles[here]}: .*another Python"
    ):
        claim(asked)
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert claim_any() == here
    assert os.environ["KERAS_BACKEND"] == here


def test_a_claim_holds_before_the_library_is_loaded() -> None:
    claim("torch")
    assert claim_any() == "torch"
    with pytest.raises(SecondLibrary, match=r"^TensorFlow cannot .* holds PyTorch"):
        claim("tensorflow")


def test_keras_that_runs_on_something_else_already_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold(monkeypatch, "keras", "jax")
    with pytest.raises(SecondLibrary, match=r"^PyTorch cannot .* holds Keras with jax"):
        claim("torch")
    hold(monkeypatch, "keras", "torch")
    claim("torch")
    assert claim_any() == "torch"


@pytest.mark.parametrize(("here", "other"), [("torch", "tensorflow"), ("tensorflow", "torch")])
def test_nobody_loads_the_other_one_by_accident(here: str, other: str) -> None:
    claim(here)
    said = f"^{library.TITLES[other]} cannot be loaded .* holds {library.TITLES[here]}"
    with pytest.raises(ImportError, match=said):
        importlib.import_module(other)
    assert other not in sys.modules  # Keras asks for it by this
    assert find_spec(other) is not None  # PyTorch looks where it lies
    assert installed(other)  # for another process
    assert importlib.import_module(here)


def test_a_claim_is_given_back_where_the_library_cannot_be_loaded() -> None:
    claim("torch")
    give_back("torch")
    claim("tensorflow")
    assert importlib.import_module("tensorflow")
    give_back("torch")
    assert claim_any() == "tensorflow"


def test_what_is_not_installed_is_not_found_either(monkeypatch: pytest.MonkeyPatch) -> None:
    claim("torch")
    monkeypatch.setattr(sys, "path", [])
    assert not installed("tensorflow")
    assert not installed("torch")


def test_without_a_claim_tensorflow_computes_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "installed", lambda name: name == "torch")
    assert claim_any() == "torch"
    monkeypatch.setattr(library, "_claimed", "")
    monkeypatch.setattr(library, "installed", lambda name: True)
    assert claim_any() == "tensorflow"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_a_forked_process_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_inherited", False)
    hold(monkeypatch, "openvino")
    library._note_fork()
    with pytest.raises(
        SecondLibrary, match=r"was forked from one that had loaded a network.*spawn"
    ):
        claim("tensorflow")
    with pytest.raises(SecondLibrary, match="was forked"):
        claim_any()


def test_a_process_that_was_forked_before_any_library_was_there_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "_inherited", False)
    for name in library._WITH_THREADS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    library._note_fork()
    assert claim_any() == "tensorflow"
