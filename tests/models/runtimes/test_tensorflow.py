"""The one file that names TensorFlow: which device computes, and what a full memory does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.predict import in_bytes
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes import tensorflow as device
from napari_unet_cells.models.runtimes.network import GPU_FULL, LONGEST_TILE, max_tile_of
from napari_unet_cells.models.runtimes.tensorflow import (
    TensorFlowNetwork,
    open_network,
)

pytestmark = pytest.mark.network

GREY = np.random.default_rng(0).random((1, 64, 96, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def network(tiny_model: Path) -> TensorFlowNetwork:
    return open_network(find_model(tiny_model))


def tensorflow_error(name: str, text: str) -> Exception:
    import tensorflow as tf

    error: Exception = getattr(tf.errors, name)(None, None, text)
    return error


def raising(error: BaseException) -> Callable[[Any], Any]:
    def function(batch: Any) -> Any:
        raise error

    return function


def test_a_full_memory_is_a_sentence_that_says_whose(network: TensorFlowNetwork) -> None:
    error = tensorflow_error("ResourceExhaustedError", "OOM when allocating tensor")
    full = replace(network, _functions={1: raising(error)})
    with pytest.raises(OutOfMemory, match=r"^The memory of the computer is full\. Close"):
        full.forward(GREY)
    gone = {1: raising(tensorflow_error("AbortedError", "the device is gone"))}
    with pytest.raises(LostDevice, match=r"^The GPU failed"):
        replace(full, on_cpu=False, _functions=gone).forward(GREY)
    with pytest.raises(OutOfMemory, match=r"^The memory of the GPU is full\. Close") as caught:
        list(replace(full, on_cpu=False).predict([GREY]))
    assert caught.value.__context__ is None  # it would keep the batch on the device


def test_other_errors_stay_what_they_are(network: TensorFlowNetwork) -> None:
    with pytest.raises(ZeroDivisionError, match="by nothing"):
        replace(network, _functions={1: raising(ZeroDivisionError("by nothing"))}).forward(GREY)


def test_recovering_on_the_cpu_changes_nothing_and_has_an_end(network: TensorFlowNetwork) -> None:
    assert network.on_cpu
    assert network.recover(cpu=False) is network
    with pytest.raises(OutOfMemory, match="memory of the computer"):
        network.recover(cpu=True)


# A machine with a GPU is made up: what would be put there computes here.


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "prepare_gpus", lambda: ["Imaginary 9000"])


def failing_gpu(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = device._compiled

    def failing(*arguments: Any) -> Any:
        return raising(error) if arguments[-1] is None else compiled(*arguments)

    monkeypatch.setattr(device, "_compiled", failing)


def test_a_gpu_is_taken_and_its_tiles_do_not_depend_on_the_ram(
    gpu: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(available=0)
    monkeypatch.setattr("psutil.virtual_memory", lambda: little)
    network = open_network(find_model(tiny_model))
    assert network.device == "GPU, TensorFlow, Imaginary 9000"
    assert not network.on_cpu
    assert network.max_tile == LONGEST_TILE
    assert network.recover(cpu=False) is network
    cpu = network.recover(cpu=True)
    assert cpu.device.startswith("CPU, ")
    assert cpu.device.endswith(f"({GPU_FULL})")
    assert cpu.on_cpu
    assert cpu.max_tile == 256
    np.testing.assert_array_equal(cpu.forward(GREY), network.forward(GREY))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("ResourceExhaustedError", "OOM", GPU_FULL),
        ("InternalError", "no kernel image is available", "the GPU failed"),
    ],
)
def test_a_gpu_that_cannot_run_the_network_is_left_alone(
    gpu: None,
    network: TensorFlowNetwork,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    why: str,
) -> None:
    failing_gpu(tensorflow_error(name, text), monkeypatch)
    opened = open_network(network.card)
    assert opened.on_cpu
    assert opened.device == f"{network.device} ({why})"
    np.testing.assert_array_equal(opened.forward(GREY), network.forward(GREY))


def test_a_defect_of_ours_is_not_taken_for_one_of_the_gpu(
    gpu: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_gpu(ZeroDivisionError("by nothing"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        open_network(find_model(tiny_model))


def placed(on_cpu: bool, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where the operations of a compiled network are put, its constants aside."""
    import tensorflow.python.framework.convert_to_constants as module

    convert, graphs = module.convert_variables_to_constants_v2, []

    def record(function: Any) -> Any:
        frozen = convert(function)
        graphs.append(frozen.graph.as_graph_def())
        return frozen

    monkeypatch.setattr(module, "convert_variables_to_constants_v2", record)
    assert open_network(card, cpu=on_cpu).on_cpu == on_cpu
    nodes = [node for graph in graphs for node in graph.node]
    return {node.device for node in nodes if node.op in ("Conv2D", "Softmax", "ArgMax", "ConcatV2")}


@pytest.mark.parametrize(("cpu", "places"), [(True, {"/device:CPU:0"}), (False, {""})])
def test_the_graph_says_where_it_computes(
    gpu: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, cpu: bool, places: set[str]
) -> None:
    assert placed(cpu, find_model(tiny_model), monkeypatch) == places


def test_gpus_give_away_the_memory_they_do_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    gpus = [SimpleNamespace(name="/physical_device:GPU:0"), SimpleNamespace(name="second")]
    grown: list[Any] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    experimental = tf.config.experimental
    monkeypatch.setattr(experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on)))
    known: Iterator[dict[str, str]] = iter([{"device_name": "Imaginary 9000"}, {}])
    monkeypatch.setattr(experimental, "get_device_details", lambda gpu: next(known))
    assert device.prepare_gpus() == ["Imaginary 9000", "second"]
    assert grown == [(gpus[0], True), (gpus[1], True)]

    def refuse(gpu: Any, on: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(experimental, "set_memory_growth", refuse)
    known = iter([{}, {}])
    assert device.prepare_gpus() == ["/physical_device:GPU:0", "second"]


def test_tiles_on_the_cpu_fit_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def sides(architecture: str) -> list[int]:
        card = ModelCard("some", architecture, ("background", "cell"), 3, 16, 144, "")
        found = []
        for gigabytes in (0, 1, 2, 64):
            free = SimpleNamespace(available=gigabytes << 30)
            monkeypatch.setattr("psutil.virtual_memory", lambda free=free: free)
            found.append(max_tile_of(card))
        return found

    assert sides("mobilenet_unet") == [256, 772, 1092, LONGEST_TILE]
    assert sides("unet") == [256, 409, 579, LONGEST_TILE]  # takes four times as much


@pytest.mark.parametrize(("channels", "accepted"), [(1, {1}), (2, {2}), (3, {1, 3}), (5, {5})])
def test_networks_of_any_number_of_channels(
    monkeypatch: pytest.MonkeyPatch, channels: int, accepted: set[int]
) -> None:
    from napari_unet_cells.models import architectures

    model = architectures.build("unet_mini", 3, channels)
    card = ModelCard("many", "unet_mini", ("background", "cell", "boundary"), channels, 4, 24, "")
    monkeypatch.setattr(device, "load_model", lambda card: model)
    network = open_network(card)
    rng = np.random.default_rng(0)
    batch: NDArray[np.float32] = rng.random((2, 32, 48, channels), dtype=np.float32)
    expected = np.argmax(model.predict(batch, verbose=0), axis=-1)
    assert (network.forward(batch)[..., 0] == expected).mean() > 0.999
    assert set(network._functions) == accepted


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_class_networks_know_how_sure_they_are(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    import keras

    # Logits that are the channels of the input, scaled: 0 is all alike, 20 no doubt at all.
    image = keras.Input((None, None, len(classes)))
    logits = keras.layers.Rescaling(20.0, name="logits")(image)
    card = ModelCard("plain", "unet_mini", classes, len(classes), 1, 0, "")
    monkeypatch.setattr(device, "load_model", lambda card: keras.Model(image, logits))
    batch = np.random.default_rng(0).random((2, 33, 48, len(classes)), dtype=np.float32)
    batch[0, 0, :2] = 0.0
    batch[0, 0, 1, -1] = 1.0
    output = open_network(card).forward(batch)
    assert output.shape == (2, 33, 48, 2)
    np.testing.assert_array_equal(output[..., 0], batch.argmax(axis=-1))
    shares = np.exp(20.0 * (batch - batch.max(axis=-1, keepdims=True)))
    low, high = np.sort(shares / shares.sum(axis=-1, keepdims=True), axis=-1)[..., -2:].T
    np.testing.assert_allclose(output[..., 1].T, 255 * (1 - (high - low)), atol=0.51)
    assert output[0, 0, :2, 1].tolist() == [255, 0]


@pytest.mark.parametrize("classes", [("background", "cell", "boundary"), ("boundary", "x", "cell")])
@pytest.mark.parametrize("distance", [False, True])
def test_cell_networks_give_probabilities_and_the_distance(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], distance: bool
) -> None:
    import keras
    from scipy import special

    # Logits that are the channels of the input, scaled.
    n = len(classes) + distance
    image = keras.Input((None, None, n))
    logits = keras.layers.Rescaling(8.0, -4.0, name="logits")(image)
    card = ModelCard("plain", "unet_mini", classes, n, 1, 0, "", distance=distance)
    monkeypatch.setattr(device, "load_model", lambda card: keras.Model(image, logits))
    batch = np.random.default_rng(0).random((2, 33, 48, n), dtype=np.float32)
    batch[0, 0, 0, :3] = 0.5  # of equals the first
    network = open_network(card)
    output = network.forward(batch)
    assert network.probabilities == 2 + distance
    assert output.shape == (2, 33, 48, 3 + distance)
    np.testing.assert_array_equal(output[..., 0], batch[..., :3].argmax(axis=-1))
    shares = 255 * special.softmax(8.0 * batch[..., :3] - 4.0, axis=-1)
    for column, name in enumerate(("cell", "boundary"), 1):
        expected = shares[..., classes.index(name)]
        np.testing.assert_allclose(output[..., column], expected, atol=0.51)
    if distance:
        depth = 255 * special.expit(8.0 * batch[..., 3] - 4.0)
        np.testing.assert_allclose(output[..., 3], depth, atol=0.51)


def test_bytes_are_rounded_as_numpy_rounds_them() -> None:
    import tensorflow as tf

    values = np.linspace(0.0, 1.0, 100_001, dtype=np.float32)
    values = np.concatenate([values, (np.arange(255, dtype=np.float32) + 0.5) / 255])
    np.testing.assert_array_equal(device._in_bytes(tf, tf.constant(values)), in_bytes(values))
