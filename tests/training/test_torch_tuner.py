"""Tuning in PyTorch moves what tuning with TensorFlow moves, and makes a model of Keras."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.runtimes import table
from napari_unet_cells.sample_data import simulate_nuclei

pytestmark = pytest.mark.torch

SIDE = 32


@pytest.fixture(scope="module")
def batch() -> Any:
    rng = np.random.default_rng(0)
    images = rng.random((2, SIDE, SIDE, 3), np.float32)
    targets = rng.integers(0, 3, (2, SIDE, SIDE)).astype(np.uint8)
    return images, targets, np.ones((2, SIDE, SIDE), np.float32)


def network() -> Any:
    """Build a network in two parts, each a convolution with its batch norm."""
    import keras
    from keras import layers

    image = x = keras.Input((None, None, 3))
    for name, width in (("encoder", 8), ("decoder", 6)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(image, layers.Conv2D(3, 1, name="head")(x))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    from napari_unet_cells.training import fine_tuning
    from napari_unet_cells.training.torch_tuner import TorchTuner

    encoder = SimpleNamespace(skips=("encoder_relu",))
    monkeypatch.setattr(fine_tuning, "ENCODERS", {"small": encoder})

    def made(**recipe: Any) -> Any:
        tuner = TorchTuner(network(), "small", recipe=fine_tuning.Recipe(**recipe))
        tuner.trace(2, SIDE)
        return tuner

    return made


def moved(tuner: Any, done: float, batch: Any) -> set[str]:
    before = tuner.get_weights()
    tuner.step(batch, done)
    pairs = zip(tuner.model.weights, before, tuner.get_weights(), strict=True)
    paths = [variable.path for variable, old, new in pairs if (old != new).any()]
    sides = {"encoder" if path.startswith("encoder") else "decoder" for path in paths}
    norms = {f"{side} norms" for side in sides if any(f"{side}_bn" in path for path in paths)}
    kernels = {side for side in sides if any("_bn" not in p and side == _side(p) for p in paths)}
    return norms | kernels


def _side(path: str) -> str:
    return "encoder" if path.startswith("encoder") else "decoder"


@pytest.mark.parametrize(
    ("recipe", "early", "late"),
    [
        ({"decoder": 0.0}, {"encoder", "decoder"}, {"encoder", "decoder"}),
        ({"decoder": 0.5}, {"decoder"}, {"encoder", "decoder"}),
        (
            {"decoder": 0.0, "norms": True, "kernels": False},
            {"encoder norms", "decoder norms"},
            {"encoder norms", "decoder norms"},
        ),
    ],
)
def test_what_moves_is_what_the_recipe_says(
    make: Any, batch: Any, recipe: dict[str, Any], early: set[str], late: set[str]
) -> None:
    tuner = make(**recipe)
    assert moved(tuner, 0.1, batch) == early
    assert moved(tuner, 0.9, batch) == late


def test_steps_are_learned_from_and_a_restart_forgets_them(make: Any, batch: Any) -> None:
    tuner = make()
    start = tuner.get_weights()
    before = tuner.loss(batch)
    first = [tuner.step(batch, 0.5) for _ in range(8)]
    assert tuner.loss(batch) < before
    tuner.restart()
    for old, new in zip(start, tuner.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [tuner.step(batch, 0.5) for _ in range(8)] == pytest.approx(first, rel=1e-3)


def test_full_memory_while_the_norms_adapt_is_told(make: Any) -> None:
    tuner = make()

    def batches() -> Any:
        yield np.ones((2, SIDE, SIDE, 3), np.float32)
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(OutOfMemory):
        tuner.adapt(batches())
    with pytest.raises(RuntimeError, match="another fault"):
        tuner.adapt(_failing("another fault"))


def _failing(what: str) -> Any:
    raise RuntimeError(what)
    yield


def test_norms_take_the_mean_of_the_batches_that_adapt_them(make: Any) -> None:
    tuner = make()
    rng = np.random.default_rng(3)
    batches = [rng.random((2, SIDE, SIDE, 3), np.float32) + i for i in range(3)]
    kernel = tuner.model.get_layer("encoder").get_weights()[0]
    tuner.adapt(iter(batches))
    mean, variance = tuner.model.get_layer("encoder_bn").get_weights()[2:]
    from scipy.signal import correlate

    def convolved(image: Any, filters: int) -> Any:
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        return correlate(padded, kernel[..., filters], mode="valid")

    values = [[convolved(image, 0) for image in images] for images in batches]
    assert mean[0] == pytest.approx(np.mean(values), abs=1e-4)
    assert variance[0] == pytest.approx(np.var(values), rel=0.01)


def test_predictions_and_the_model_have_the_weights_in_use(make: Any, batch: Any) -> None:
    tuner = make()
    tuner.step(batch, 0.5)
    probabilities = tuner.predict(batch[0])
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    logits = tuner.model.predict_on_batch(batch[0])
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=0.02)


def test_the_library_is_the_one_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table.training_library() == "torch"
    monkeypatch.setattr(table, "library_here", lambda: "")
    monkeypatch.setattr(table, "_gpu_in_sight", lambda name: name == "torch")
    assert table.training_library() == "torch"
    monkeypatch.setattr(table, "_gpu_in_sight", lambda name: False)
    assert table.training_library() == "tensorflow"
    monkeypatch.setattr(table, "chosen_runtime", lambda: "torch")
    assert table.training_library() == "torch"
    monkeypatch.setattr(table, "installed", lambda name: name == "tensorflow")
    assert table.training_library() == "tensorflow"


_RETRAIN = """
import json, sys
from napari_unet_cells.models.runtimes import table
table._gpu_in_sight = lambda name: name == "torch"
from napari_unet_cells.training.events import RetrainOptions
from napari_unet_cells.training.retrain import retrain
*_, last = retrain(*sys.argv[1:], options=RetrainOptions(steps=3, batch=1))
print(json.dumps([last.card.name, last.card.parent["name"],
    [n for n in ("keras", "tensorflow", "torch") if n in sys.modules]]))
"""


def test_a_retraining_with_a_gpu_in_sight_never_loads_tensorflow(
    tmp_path: Path, tiny_model: Path
) -> None:
    for i in range(3):
        made = simulate_nuclei((96, 96), diameter=16, seed=i)
        for kind, pixels in zip(("images", "masks"), made, strict=True):
            (tmp_path / kind).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / kind / f"{i}.tif", pixels.astype(np.uint16))
    output = tmp_path / "better.keras"
    done = subprocess.run(
        [sys.executable, "-c", _RETRAIN, str(tmp_path), str(tiny_model), str(output)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["better", "tiny", ["keras", "torch"]]
    assert output.is_file()
