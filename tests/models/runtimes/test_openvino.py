"""OpenVINO gives what TensorFlow gives, from graphs that are made, kept, damaged and exchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.predict import Output, predict_tiles
from napari_unet_cells.core.tiling import TileGrid
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models import derived
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes import openvino, table, tensorflow
from napari_unet_cells.models.runtimes.conversion import FailedConversion
from napari_unet_cells.models.runtimes.network import GPU_FULL
from napari_unet_cells.models.runtimes.openvino import OftenUsed, OpenvinoNetwork
from napari_unet_cells.sample_data import simulate_nuclei

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed"),
]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home in which nothing was derived yet."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def in_floats(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> OpenvinoNetwork:
    """Open a model in 32-bit floats, whatever the processor would take."""
    monkeypatch.setattr(openvino, "_multiplies_bfloat16", lambda core: False)
    network = openvino.open_graph(card, openvino.convert(card))
    assert network.device.startswith("CPU, OpenVINO float32, ")
    return network


def picture(shape: tuple[int, int], channels: int = 1) -> NDArray[np.float32]:
    plane = simulate_nuclei(shape, seed=3)[0].astype(np.float32)
    plane = (plane - plane.min()) / np.ptp(plane)
    return np.repeat(plane[np.newaxis, ..., np.newaxis], channels, axis=-1)


@pytest.mark.parametrize("name", ["cells", "cells-fast"])
def test_in_floats_the_models_that_ship_give_what_tensorflow_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = find_model(name)
    here, there = in_floats(card, monkeypatch), tensorflow.open_network(card, cpu=True)
    for batch in (picture((304, 400)), picture((256, 256), 3), picture((512, 512))):
        ours, theirs = here.forward(batch), there.forward(batch)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert (ours[..., 0] == theirs[..., 0]).mean() >= 0.9999
        assert np.abs(ours[..., 1:].astype(int) - theirs[..., 1:]).max() <= 1


def plain(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], distance: bool
) -> tuple[ModelCard, Any]:
    """Make a network whose logits are the channels of the image, scaled."""
    import keras

    n = len(classes) + distance
    image = keras.Input((None, None, n))
    model = keras.Model(image, keras.layers.Rescaling(9.0, -4.0)(image))
    monkeypatch.setattr(tensorflow, "load_model", lambda card: model)
    return ModelCard("plain", "unet_mini", classes, n, 1, 0, "", distance=distance), model


@pytest.mark.parametrize("distance", [False, True])
@pytest.mark.parametrize(
    "classes",
    [("background", "cell", "boundary"), ("boundary", "x", "cell"), ("a", "b"), tuple("abcde")],
)
def test_what_follows_the_logits_is_what_tensorflow_makes_of_them(
    monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...], distance: bool
) -> None:
    if distance and "cell" not in classes:
        pytest.skip("networks of classes give no distance")
    card, _ = plain(monkeypatch, classes, distance)
    batch = np.random.default_rng(0).random((2, 33, 48, card.channels), dtype=np.float32)
    batch[0, 0, :3] = 0.5  # of equals the first
    ours = in_floats(card, monkeypatch).forward(batch)
    theirs = tensorflow.open_network(card, cpu=True).forward(batch)
    np.testing.assert_array_equal(ours[..., 0], theirs[..., 0])
    assert np.abs(ours[..., 1:].astype(int) - theirs[..., 1:]).max() <= 1
    assert len(np.unique(ours[..., 1])) > 50


@pytest.mark.parametrize(
    ("architecture", "channels"),
    [("unet_mini", 1), ("unet_mini", 2), ("unet_mini", 3), ("mobilenet_unet", 3)],
)
def test_architectures_and_channels(
    monkeypatch: pytest.MonkeyPatch, architecture: str, channels: int
) -> None:
    from napari_unet_cells.models import architectures

    small = {"mobilenet_unet": {"alpha": 0.25, "decoder": [16, 16, 8]}}.get(architecture, {})
    model = architectures.build(architecture, 4, channels, **small)
    monkeypatch.setattr(tensorflow, "load_model", lambda card: model)
    classes = ("background", "cell", "boundary")
    card = ModelCard("some", architecture, classes, channels, 16, 16, "", distance=True)
    batch = np.random.default_rng(0).random((1, 48, 64, channels), dtype=np.float32)
    theirs = tensorflow.open_network(card, cpu=True)
    ours = in_floats(card, monkeypatch)
    for look in [batch, batch[..., :1]][: 1 + (channels == 3)]:
        a, b = ours.forward(look), theirs.forward(look)
        assert (a[..., 0] == b[..., 0]).mean() >= 0.999
        assert np.abs(a[..., 1:].astype(int) - b[..., 1:]).max() <= 1


@pytest.mark.parametrize("name", ["cells", "cells-fast"])
def test_tiles_leave_no_seams(name: str) -> None:
    card = find_model(name)
    network = openvino.open_network(card)
    plane = simulate_nuclei((700, 650), seed=5)[0]
    limits = percentile_limits(plane)

    def output(max_tile: int) -> Output:
        out = Output.empty(plane.shape, network.probabilities)
        grid = TileGrid.plan(plane.shape, network.stride, network.halo, max_tile)
        list(predict_tiles(plane, network, limits, grid, out))
        return out

    tiled, whole = output(2 * network.halo + 128), output(2048)
    np.testing.assert_array_equal(tiled.classes, whole.classes)
    np.testing.assert_array_equal(tiled.probabilities, whole.probabilities)


def test_the_same_comes_whatever_was_computed_before(tiny_model: Path) -> None:
    network = openvino.open_network(find_model(tiny_model))
    first = network.forward(picture((256, 320)))
    kept = first.copy()
    for side in (64, 128, 512):
        network.forward(picture((side, side), 3))
    np.testing.assert_array_equal(network.forward(picture((256, 320))), first)
    np.testing.assert_array_equal(first, kept)  # it is no window into the network's memory


@pytest.mark.parametrize("name", ["cells", "cells-fast"])
def test_a_size_that_comes_often_gives_the_same_faster(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = openvino.open_network(find_model(name))
    batch = picture((256, 320), 3)
    monkeypatch.setattr(OftenUsed, "EARNED", 2 * 256 * 320)
    outputs = [network.forward(batch) for _ in range(4)]
    assert list(network._often._requests) == [batch.shape]
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])


def test_graphs_of_three_sizes_are_kept_and_a_failure_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def compiled(shape: tuple[int, ...]) -> Any:
        asked.append(shape[1])
        if shape[1] == 3:
            raise RuntimeError("bad_alloc")
        return f"for {shape[1]}"

    monkeypatch.setattr(OftenUsed, "EARNED", 5)
    often = OftenUsed(compiled)
    sizes = [(1, n, 4, 1) for n in (1, 1, 2, 2, 3, 3, 4, 1, 1)]
    found = [often.request(size) for size in sizes]
    assert found == [None, "for 1", "for 2", "for 2", None, None, "for 4", None, "for 1"]
    assert asked == [1, 2, 3, 4, 1]


def test_a_model_of_the_user_is_converted_once(
    tiny_model: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = find_model(tiny_model)
    network = table.open_network(card)
    assert network.device.startswith("CPU, OpenVINO ")
    assert network.on_cpu
    assert (derived.cache_folder() / f"{card.sha256}.float32.xml").is_file()

    def never(card: ModelCard) -> None:
        raise AssertionError("it is there")

    monkeypatch.setattr(openvino, "converted", never)
    again = table.open_network(card)
    np.testing.assert_array_equal(
        again.forward(picture((64, 64))), network.forward(picture((64, 64)))
    )


def test_what_was_retrained_is_converted_beforehand(tiny_model: Path, empty_home: Path) -> None:
    card = find_model(tiny_model)
    table.derive(card)
    assert (derived.cache_folder() / f"{card.sha256}.float32.xml").is_file()


def test_a_folder_that_refuses_costs_time_only(tiny_model: Path, empty_home: Path) -> None:
    empty_home.write_text("no folder")
    assert table.open_network(find_model(tiny_model)).device.startswith("CPU, OpenVINO ")


def test_a_damaged_graph_is_named_and_tensorflow_computes(
    tiny_model: Path, empty_home: Path
) -> None:
    card = find_model(tiny_model)
    table.open_network(card)
    weights = derived.cache_folder() / f"{card.sha256}.float32.bin"
    weights.write_bytes(weights.read_bytes()[:-9])
    network = table.open_network(card)
    assert network.device.startswith("CPU, TensorFlow float32, ")
    assert network.device.endswith(f"({weights.with_suffix('.xml')} is damaged; delete it)")
    with pytest.raises(UserError, match=r"cannot compute the model tiny: .* Or choose the runtime"):
        table.open_network(card, "openvino")


def test_a_graph_that_openvino_cannot_read_is_named(tiny_model: Path, empty_home: Path) -> None:
    card = find_model(tiny_model)
    derived.keep_graph(card, derived.DerivedGraph("float32", b"<?xml?>\n<net>", b""))
    network = table.open_network(card)
    assert network.device.startswith("CPU, TensorFlow float32, ")
    assert "(OpenVINO cannot compute it: " in network.device


def test_a_model_that_cannot_be_converted_is_computed_by_tensorflow(
    tiny_model: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(card: ModelCard) -> None:
        raise FailedConversion("exit code -11")

    monkeypatch.setattr(openvino, "converted", fails)
    network = table.open_network(find_model(tiny_model))
    assert network.device.endswith("(it was not converted for OpenVINO: exit code -11)")


@pytest.mark.parametrize(
    "error",
    [
        "OpConversionFailure",
        "GeneralFailure",
        "OpValidationFailure",
        RuntimeError,
        TypeError,
        FileNotFoundError,
    ],
)
def test_whatever_openvino_raises_tensorflow_computes(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    if isinstance(error, str):
        error = getattr(openvino.import_openvino().frontend, error)

    def fails(*arguments: Any) -> None:
        raise error("no such\noperation")

    monkeypatch.setattr(openvino, "_ready", fails)
    network = table.open_network(find_model(tiny_model))
    assert network.device.endswith("(OpenVINO cannot compute it: no such)")


def test_one_that_cannot_be_imported_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ImportError("DLL load failed while importing _pyopenvino")

    monkeypatch.setattr(openvino, "import_openvino", fails)
    network = table.open_network(find_model(tiny_model))
    assert "(OpenVINO cannot be imported: DLL load failed" in network.device


def test_telemetry_is_hidden_from_openvino_alone() -> None:
    code = (
        "import sys; from napari_unet_cells.models.runtimes.openvino import import_openvino\n"
        "import_openvino(); assert 'openvino_telemetry' not in sys.modules\n"
        "from openvino.tools.ovc import telemetry; print(type(telemetry).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


class _Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def infer(self, batch: Any, share_inputs: bool) -> Any:
        raise self.error


#: The last two as OpenVINO raised them in a process whose memory was limited.
_FULL = [
    MemoryError(),
    RuntimeError("Exception from src/x.cpp:7:\nstd::bad_alloc"),
    RuntimeError(
        "Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
        "Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\n"
        "Failed to allocate 4194304 bytes of memory\n\n"
    ),
    RuntimeError(
        "Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
        "Exception from src/plugins/intel_cpu/src/node.cpp:823:\n"
        "[CPU] Convolution node with name 'Transpose_9574' can't alloc\n\n"
    ),
]


@pytest.mark.parametrize("error", _FULL)
def test_a_full_memory_is_told_and_recovered_from(tiny_model: Path, error: Exception) -> None:
    network = openvino.open_network(find_model(tiny_model))
    full = replace(network, _request=_Raising(error))
    with pytest.raises(OutOfMemory, match=r"^The memory of the computer is full\. Close"):
        full.forward(picture((64, 64)))
    assert full.recover(cpu=False) is full
    with pytest.raises(OutOfMemory):
        full.recover(cpu=True)
    with pytest.raises(RuntimeError, match="other"):
        replace(network, _request=_Raising(RuntimeError("other"))).forward(picture((64, 64)))


class _Computer:
    """OpenVINO with a GPU, for which the CPU stands in."""

    def __init__(self, changes: Any = None) -> None:
        self._core = openvino.import_openvino().Core()
        self._changes = changes or (lambda model: model)
        self.available_devices = ["CPU", "GPU.0", "NPU"]
        self.hints: list[dict[str, Any]] = []

    def compile_model(self, model: Any, device: str, hints: dict[str, Any]) -> Any:
        if device == "CPU":
            return self._core.compile_model(model, device, hints)
        assert device == "GPU.0"
        self.hints.append(hints)
        return self._core.compile_model(self._changes(model), "CPU", hints)

    def get_property(self, device: str, name: str) -> Any:
        if device == "GPU.0":
            return {"FULL_DEVICE_NAME": "Intel(R) Imaginary Graphics (iGPU)"}[name]
        return self._core.get_property(device, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


def with_gpu(monkeypatch: pytest.MonkeyPatch, computer: _Computer) -> None:
    ov = openvino.import_openvino()
    there = SimpleNamespace(Core=lambda: computer, Tensor=ov.Tensor, opset13=ov.opset13)
    monkeypatch.setattr(openvino, "import_openvino", lambda: there)


def test_a_gpu_computes_where_this_runtime_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_model("cells-fast")
    cpu = openvino.open_network(card)
    with_gpu(monkeypatch, computer := _Computer())
    network = table.open_network(card, "openvino")
    assert network.device.startswith("GPU, OpenVINO ")
    assert network.device.endswith(", Intel(R) Imaginary Graphics (iGPU)")
    assert not network.on_cpu
    assert {hints["INFERENCE_PRECISION_HINT"] for hints in computer.hints} == {"f32"}
    batch = picture((128, 128))
    assert (network.forward(batch)[..., 0] == cpu.forward(batch)[..., 0]).mean() > 0.99
    assert network.recover(cpu=False) is network
    assert network.recover(cpu=True).device.endswith(f"({GPU_FULL})")
    assert table.open_network(card).on_cpu, "where nobody chose, the CPU is ready at once"


def test_a_gpu_that_finds_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(model: Any) -> Any:
        ov = real()
        last = model.get_results()[0].input_value(0)
        zeros = ov.opset13.multiply(last, ov.opset13.constant(np.uint8(0)))
        return ov.Model([zeros], model.get_parameters(), "other")

    real = openvino.import_openvino
    with_gpu(monkeypatch, _Computer(other))
    network = openvino.open_network(find_model("cells-fast"), cpu=False)
    assert network.on_cpu
    assert re.search(r"\(the GPU finds other classes in \d+% of the pixels\)$", network.device)


def test_a_gpu_that_fails_is_named_and_the_cpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Any) -> None:
        raise RuntimeError("CL_OUT_OF_RESOURCES\nsomewhere")

    with_gpu(monkeypatch, _Computer(fails))
    network = openvino.open_network(find_model("cells-fast"), cpu=False)
    assert network.on_cpu
    assert network.device.endswith("(the GPU failed: CL_OUT_OF_RESOURCES)")


_LOADED = """
import json, sys
from napari_unet_cells.cli.main import main
code = main(sys.argv[1:])
names = ("dask", "keras", "matplotlib", "napari", "openvino_telemetry", "pandas", "qtpy", "skimage",
    "scipy.interpolate", "scipy.optimize", "scipy.spatial", "scipy.stats", "tensorflow", "torch",
    "zarr")
print(json.dumps([code, [name for name in names if sys.modules.get(name) is not None]]))
"""


def test_a_run_on_the_command_line_loads_neither_tensorflow_nor_telemetry(
    tiny_model: Path, tmp_path: Path
) -> None:
    from PIL import Image

    table.open_network(find_model(tiny_model))  # it is converted once, with TensorFlow
    image = tmp_path / "image.png"
    Image.fromarray(simulate_nuclei((128, 128), seed=1)[0].astype(np.uint8)).save(image)
    arguments = ["segment", str(image), "-o", str(tmp_path), "--model", str(tiny_model)]
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    record = json.loads((tmp_path / "image.json").read_text(encoding="utf-8"))
    assert record["device"].startswith("CPU, OpenVINO ")


_SITE = "site-packages"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has mapped")
def test_the_child_does_not_load_tensorflow(tiny_model: Path) -> None:
    import psutil

    from napari_unet_cells.engine.engine import Engine

    card = find_model(tiny_model)
    table.open_network(card)
    engine = Engine()
    try:
        assert engine.open(card).device.startswith("CPU, OpenVINO ")
        assert engine.pid is not None
        mapped = {Path(part.path).parts for part in psutil.Process(engine.pid).memory_maps()}
    finally:
        engine.close(5.0)
    libraries = {parts[parts.index(_SITE) + 1] for parts in mapped if _SITE in parts}
    assert "openvino" in libraries
    assert not libraries & {"tensorflow", "torch", "h5py"}
