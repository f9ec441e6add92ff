"""Predictions with PyTorch: those of TensorFlow, on the device that there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes import library
from napari_unet_cells.models.runtimes import torch as runtime
from napari_unet_cells.models.runtimes.network import GPU_FULL, LONGEST_TILE
from napari_unet_cells.models.runtimes.table import UnusableRuntime
from napari_unet_cells.models.runtimes.torch import TorchDeviceNetwork, import_torch, open_network
from napari_unet_cells.sample_data import simulate_nuclei

pytestmark = pytest.mark.torch

GREY = np.random.default_rng(0).random((1, 64, 96, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def network(tiny_model: Path) -> TorchDeviceNetwork:
    return open_network(find_model(tiny_model), cpu=True)


@pytest.fixture(scope="module")
def reference() -> Iterator[Engine]:
    """Give a process that may hold TensorFlow."""
    engine = Engine()
    yield engine
    engine.close(5.0)


def picture(shape: tuple[int, int], channels: int = 1) -> NDArray[np.float32]:
    plane = simulate_nuclei(shape, seed=3)[0].astype(np.float32)
    plane = (plane - plane.min()) / np.ptp(plane)
    return np.repeat(plane[np.newaxis, ..., np.newaxis], channels, axis=-1)


@pytest.mark.parametrize("name", ["cells", "cells-fast"])
def test_the_models_that_ship_give_what_tensorflow_gives(name: str, reference: Engine) -> None:
    card = find_model(name)
    here, there = open_network(card, cpu=True), reference.open(card, cpu=True, runtime="tensorflow")
    assert here.device.startswith("CPU, PyTorch float32, ")
    assert there.device.startswith("CPU, TensorFlow float32, ")
    for batch in (picture((304, 400)), picture((256, 256), 3)):
        ours, (theirs,) = here.forward(batch), there.predict([batch])
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert (ours[..., 0] == theirs[..., 0]).mean() >= 0.9999
        assert np.abs(ours[..., 1:].astype(int) - theirs[..., 1:]).max() <= 1


def plain(monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], distance: bool) -> ModelCard:
    """Make a network whose logits are the channels of the image, scaled."""
    import keras

    n = len(classes) + distance
    image = keras.Input((None, None, n))
    model = keras.Model(image, keras.layers.Rescaling(9.0, -4.0)(image))
    monkeypatch.setattr(runtime, "load_model", lambda card: model)
    return ModelCard("plain", "unet_mini", classes, n, 1, 0, "", distance=distance)


@pytest.mark.parametrize(
    ("classes", "distance"),
    [
        (("background", "cell", "boundary"), True),
        (("boundary", "x", "cell"), False),
        (("a", "b"), False),
        (tuple("abcde"), False),
    ],
)
def test_classes_and_bytes_are_those_of_the_logits(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], distance: bool
) -> None:
    card = plain(monkeypatch, classes, distance)
    batch = np.random.default_rng(0).random((2, 33, 48, card.channels), dtype=np.float32)
    batch[0, 0, :3] = 0.5  # of equals the first
    made = open_network(card, cpu=True).forward(batch)
    logits = 9.0 * batch.astype(float) - 4.0
    shares = np.exp(logits[..., : len(classes)])
    shares /= shares.sum(axis=-1, keepdims=True)
    np.testing.assert_array_equal(made[..., 0], batch[..., : len(classes)].argmax(axis=-1))
    if card.makes_cells:
        expected = [shares[..., column] for column in card.columns[1:]]
        expected += [1 / (1 + np.exp(-logits[..., -1]))] if distance else []
    else:
        ordered = np.sort(shares, axis=-1)
        expected = [1 - (ordered[..., -1] - ordered[..., -2])]
    assert made.shape[-1] == 1 + len(expected)
    assert np.abs(made[..., 1:] - 255 * np.stack(expected, axis=-1)).max() <= 0.51


def failing(network: TorchDeviceNetwork, error: BaseException, on_cpu: bool) -> TorchDeviceNetwork:
    def planes(x: Any) -> Any:
        raise error

    stand_in = SimpleNamespace(planes=planes, tensor=network._network.tensor, device="mps")
    return replace(network, on_cpu=on_cpu, _network=stand_in)


def test_a_full_memory_is_a_sentence_that_says_whose(network: TorchDeviceNetwork) -> None:
    full = import_torch().OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(OutOfMemory, match=r"^The memory of the computer is full\. Close"):
        failing(network, full, on_cpu=True).forward(GREY)
    with pytest.raises(OutOfMemory, match=r"^The memory of the GPU is full\. Close") as caught:
        failing(network, full, on_cpu=False).forward(GREY)
    assert caught.value.__context__ is None  # it would keep the batch on the device


def test_a_gpu_that_goes_away_is_said_to_whoever_can_go_on(network: TorchDeviceNetwork) -> None:
    gone = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(LostDevice, match=r"^The GPU failed while it computed\."):
        failing(network, gone, on_cpu=False).forward(GREY)
    with pytest.raises(RuntimeError, match="unspecified"):
        failing(network, gone, on_cpu=True).forward(GREY)
    for ours in (ZeroDivisionError(), RuntimeError("shape '[1, 3]' is invalid")):
        with pytest.raises(type(ours)) as caught:
            failing(network, ours, on_cpu=False).forward(GREY)
        assert caught.value is ours


def test_recovering_on_the_cpu_has_an_end(network: TorchDeviceNetwork) -> None:
    assert network.on_cpu
    assert network.recover(cpu=False) is network
    with pytest.raises(OutOfMemory, match="memory of the computer"):
        network.recover(cpu=True)


def test_a_gpu_computes_and_a_recovery_leaves_it(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is made up: what would be put there computes here."""
    real = runtime._on_device

    def on_device(model: Any, card: ModelCard, device: str, *rest: Any) -> Any:
        return real(model, card, "cpu", *rest)

    monkeypatch.setattr(runtime, "best_device", lambda: "mps")
    monkeypatch.setattr(runtime, "_on_device", on_device)
    gpu = open_network(find_model(tiny_model))
    assert (gpu.device, gpu.on_cpu) == ("GPU, PyTorch float32, Apple", False)
    assert gpu.max_tile == LONGEST_TILE
    cpu = gpu.recover(cpu=True)
    assert cpu.on_cpu
    assert cpu.device.startswith("CPU, PyTorch float32, ")
    assert cpu.device.endswith(f"({GPU_FULL})")
    np.testing.assert_array_equal(cpu.forward(GREY), gpu.forward(GREY))


def test_a_gpu_that_cannot_run_the_network_is_left_alone(
    network: TorchDeviceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "best_device", lambda: "mps")  # which this build has not
    opened = open_network(network.card)
    assert opened.on_cpu
    assert opened.device == f"{network.device} (the GPU failed)"
    assert opened.why == "the GPU failed"
    np.testing.assert_array_equal(opened.forward(GREY), network.forward(GREY))


def test_a_network_that_says_something_else_than_keras_is_not_used(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_unet_cells.models.runtimes import torch_network

    def leaky(network: Any, call: Any, inputs: Any, weights: Any, training: bool) -> Any:
        return inputs[0].clamp(min=-0.1)

    monkeypatch.setitem(torch_network._LAYERS, "ReLU", leaky)
    with pytest.raises(UnusableRuntime, match="does not give what Keras gives"):
        open_network(find_model(tiny_model), cpu=True)


_SEGMENT = """
import json, sys
from napari_unet_cells.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, [n for n in ("keras", "openvino", "tensorflow", "torch")
    if n in sys.modules]]))
"""


def test_a_command_that_names_it_loads_no_other(tmp_path: Path, tiny_model: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", simulate_nuclei((64, 64), seed=0)[0])
    command = ["segment", str(tmp_path / "a.tif"), "-o", str(tmp_path), "--runtime", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", _SEGMENT, *command, "--model", str(tiny_model), "--diameter", "20"],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, ["keras", "torch"]]
    assert "PyTorch float32" in (tmp_path / "a.json").read_text()


def test_a_broken_installation_leaves_the_work_to_another_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_torch()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(library, "_claimed", "torch")
    with pytest.raises(UnusableRuntime, match=r"^PyTorch cannot be imported \(.*\)\. Install it"):
        import_torch()
    assert library._claimed == ""
