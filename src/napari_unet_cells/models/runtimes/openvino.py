"""The one file that names OpenVINO: it converts a network, and computes it.

On the CPU; where the user chose this runtime, on a GPU of Intel's if OpenVINO finds one.

What is converted is the network up to its logits; what follows (softmax, class, 8 bit) is written
here a second time in OpenVINO's own operations, on planes that lie in one piece::

    image (n, y, x, 1 or c)                                          classes (n, y, x, 1 + k)
        | grey: repeated                                                        ^
        v                                                                       |
    network --> logits (n, class * block * block, y / block, x / block) --> head, 8 bit

A graph is computed at whatever size comes; `derived` says where it is kept.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import OutOfMemory, UserError, reason
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.derived import DamagedGraph, DerivedGraph, find_graph, keep_graph
from napari_unet_cells.models.runtimes.conversion import converted
from napari_unet_cells.models.runtimes.full_memory import says_full
from napari_unet_cells.models.runtimes.network import (
    GPU_FULL,
    LocalNetwork,
    cpu_name,
    max_tile_of,
    warm_up,
)
from napari_unet_cells.models.runtimes.table import UnusableRuntime

TITLE = "OpenVINO"

#: How the names of OpenVINO's GPUs begin.
GPU = "GPU"

#: Part of the pixels of a test image that a GPU has to give the class that the CPU gives.
ENOUGH = 0.995


class OftenUsed:
    """Graphs that are compiled for the sizes of batches that come again and again.

    They give the same, bit by bit, in half of the time or less; to compile one takes 0.15 s, which
    a small image does not earn back.

    Parameters
    ----------
    compiled : callable (shape) -> request
        Compiles the graph for a size.
    """

    #: Pixels of one size that are computed before a graph is compiled for it, and graphs kept.
    EARNED, KEPT = 1_500_000, 3

    def __init__(self, compiled: Callable[[tuple[int, ...]], Any]) -> None:
        self._compiled = compiled
        self._pixels: Counter[tuple[int, ...]] = Counter()
        self._requests: dict[tuple[int, ...], Any] = {}

    def request(self, shape: tuple[int, ...]) -> Any:
        """Give what computes a size; None where nothing was compiled for it."""
        if shape in self._requests:
            return self._requests[shape]
        self._pixels[shape] += math.prod(shape[:3])
        if self._pixels[shape] <= self.EARNED:
            return None
        if len(self._requests) == self.KEPT:
            del self._requests[next(iter(self._requests))]
        self._pixels[shape] = 0
        try:
            self._requests[shape] = self._compiled(shape)
        except Exception:  # such as for lack of memory: what computes any size goes on
            self._requests[shape] = None
        return self._requests[shape]


@dataclass(frozen=True)
class OpenvinoNetwork(LocalNetwork):
    """A compiled network in this process; see `network.LocalNetwork`."""

    _request: Any
    _often: OftenUsed
    _lock: Any  # one request computes one batch at a time

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Predict one batch (n, y, x, c): c is `channels`, or 1 where that is 3.

        Raises
        ------
        OutOfMemory
            Where the memory of the computer is full. The process may end instead, as with
            TensorFlow: see `full_memory.is_out_of_memory`.
        """
        try:
            with self._lock:
                request = self._often.request(batch.shape) or self._request
                outputs = request.infer(np.ascontiguousarray(batch), share_inputs=True)
                output: NDArray[np.uint8] = outputs[0]
                return output
        except (MemoryError, RuntimeError) as error:
            if not _is_full(error):
                raise
        raise OutOfMemory

    def recover(self, cpu: bool) -> OpenvinoNetwork:
        """Give itself, or the model on the CPU, to go on with less after `OutOfMemory`.

        Raises
        ------
        OutOfMemory
            Where the CPU is asked for and it computes there already.
        """
        if not cpu:
            return self
        if self.on_cpu:
            raise OutOfMemory
        return open_network(self.card, cpu=True, why=GPU_FULL)


def open_network(card: ModelCard, cpu: bool = True, why: str = "") -> OpenvinoNetwork:
    """Read the graph of a model, or make it, compile it and run it once.

    Parameters
    ----------
    card : ModelCard
    cpu : bool
        Compute on the CPU, even where there is a GPU of Intel's.
    why : str
        Reason for a second choice, for `device`.

    Raises
    ------
    UnusableRuntime
        Where there is no graph and none can be made, or it is damaged.
    OutOfMemory
    """
    network = open_graph(card, _graph_of(card), why)
    return network if cpu else _on_gpu(network)


def _graph_of(card: ModelCard) -> DerivedGraph:
    """Find the graph of a model, or make it and keep it."""
    try:
        derived = find_graph(card)
    except DamagedGraph as error:
        raise UnusableRuntime(str(error)) from error
    if derived is None:
        try:
            derived = converted(card)
        except UserError as error:
            raise UnusableRuntime(f"it was not converted for {TITLE}: {error}") from error
        keep_graph(card, derived)
    return derived


def _on_gpu(network: OpenvinoNetwork) -> OpenvinoNetwork:
    """Give a network on a GPU of Intel's; itself where there is none, or it does not do.

    What computes on a GPU for the first time there is not taken on trust: it has to find the same
    classes as the CPU.
    """
    try:
        gpus = [d for d in import_openvino().Core().available_devices if d.startswith(GPU)]
    except Exception:  # a driver that fails is no reason to fail
        gpus = []
    if not gpus:
        return network
    try:
        there = _ready(network.card, _graph_of(network.card), "", gpus[0])
        same = _same_classes(there, network)
    except Exception as error:
        return _staying(network, f"the GPU failed: {reason(error)}")
    if same < ENOUGH:
        return _staying(network, f"the GPU finds other classes in {1 - same:.0%} of the pixels")
    return there


def _staying(network: OpenvinoNetwork, why: str) -> OpenvinoNetwork:
    return replace(network, device=f"{network.device} ({why})", why=why)


def _same_classes(one: OpenvinoNetwork, other: OpenvinoNetwork) -> float:
    """Part of the pixels of some round cells for which two networks find the same class."""
    side = 16 * one.card.stride
    y, x = np.mgrid[:side, :side] / 24.0
    cells = np.clip(4 * np.sin(np.pi * y) * np.sin(np.pi * x), 0, 1).astype(np.float32)
    n = 1 if one.card.channels in (1, 3) else one.card.channels
    batch = np.repeat(cells[np.newaxis, ..., np.newaxis], n, axis=-1)
    return float((one.forward(batch)[..., 0] == other.forward(batch)[..., 0]).mean())


def open_graph(card: ModelCard, derived: DerivedGraph, why: str = "") -> OpenvinoNetwork:
    """Compile a graph and run it once.

    Raises
    ------
    UnusableRuntime
        Where OpenVINO cannot compute it.
    OutOfMemory
    """
    try:
        return _ready(card, derived, why)
    except UserError:
        raise
    except ImportError as error:
        raise UnusableRuntime(f"{TITLE} cannot be imported: {reason(error)}") from error
    except Exception as error:  # it has classes of its own, and raises those of Python, too
        if _is_full(error):
            raise OutOfMemory from None
        raise UnusableRuntime(f"{TITLE} cannot compute it: {reason(error)}") from error


def prepare(card: ModelCard) -> None:
    """Make the graph of a model where there is none, and keep it for its first use.

    Raises
    ------
    UserError
        Where it cannot be converted.
    """
    if find_graph(card) is None:
        keep_graph(card, converted(card))


def _ready(
    card: ModelCard, derived: DerivedGraph, why: str, device: str = "CPU"
) -> OpenvinoNetwork:
    ov = import_openvino()
    core = ov.Core()
    weights = ov.Tensor(np.frombuffer(derived.weights, np.uint8))
    # Of integers alone nothing large is left to bfloat16.
    on_cpu = device == "CPU"
    brief = on_cpu and derived.precision != "int8" and _multiplies_bfloat16(core)
    hints = _hints(brief) if on_cpu else _GPU_HINTS

    def compiled(shape: tuple[int, ...] = ()) -> Any:
        model = core.read_model(derived.graph, weights)
        if shape:
            model.reshape(list(shape))
        return core.compile_model(model, device, hints)

    any_size = compiled()
    floats = "bfloat16" if brief else "float32"
    precision = {"int8": "int8", "mixed": f"int8 and {floats}"}.get(derived.precision, floats)
    if on_cpu:
        threads = any_size.get_property("INFERENCE_NUM_THREADS")
        name = cpu_name(f"{TITLE} {precision}", threads, why)
    else:
        name = f"GPU, {TITLE} {precision}, {core.get_property(device, 'FULL_DEVICE_NAME')}"
    network = OpenvinoNetwork(
        card,
        name,
        max_tile=max_tile_of(card),
        on_cpu=on_cpu,
        why=why,
        _request=any_size.create_infer_request(),
        _often=OftenUsed(lambda shape: compiled(shape).create_infer_request()),
        _lock=threading.Lock(),
    )
    # What OpenVINO chooses is for one size; this only shows that it computes.
    warm_up(network, 1 if card.channels in (1, 3) else card.channels, strides=4)
    return network


#: Options of compiling for a GPU, whose own choice would be 16-bit floats.
_GPU_HINTS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def _hints(brief: bool) -> dict[str, Any]:
    """Options of compiling; `brief` takes bfloat16."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if brief else "f32",
        # What it keeps of each size of tile, in kernels: those of about eight sizes. By default
        # all are kept, and a long session needs a gigabyte.
        "CPU_RUNTIME_CACHE_CAPACITY": "256",
        # Two processes whose threads hold the same cores would wait for each other.
        "ENABLE_CPU_PINNING": False,
    }


def _multiplies_bfloat16(core: Any) -> bool:
    """Whether OpenVINO takes bfloat16 by itself, as it does where the processor multiplies it."""
    return str(core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()) == "bf16"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every import to its makers."""
    hidden = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if hidden:  # without this package OpenVINO goes on with a stand-in that sends nothing
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules["openvino_telemetry"]
    return openvino


def _is_full(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or says_full(error)


def convert(card: ModelCard) -> DerivedGraph:
    """Make the graph of a model, in 32-bit floats; loads TensorFlow (see `conversion`).

    Parameters
    ----------
    card : ModelCard

    Raises
    ------
    UserError
        Where the model file is not what its card says.
    """
    body, block = body_of(card)
    return finished(body, card, block, "float32")


def body_of(card: ModelCard) -> tuple[Any, int]:
    """Convert a network up to its logits.

    Returns
    -------
    model : openvino.Model
        From (n, y, x, channels) to (n, class * block * block, y / block, x / block).
    block : int
        Pixels a side that the head makes of one.
    """
    from napari_unet_cells.models.runtimes.tensorflow import traced_logits

    ov = import_openvino()
    ops = ov.opset13
    traced, block = traced_logits(card)
    model = ov.convert_model(traced)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ConvolutionBackpropData":
            _unfold_upsampling(ops, node)
    last = model.get_results()[0].input_value(0)
    planes = ops.transpose(last, ops.constant(np.array([0, 3, 1, 2])))
    return ov.Model([planes], model.get_parameters(), card.architecture), block


def _unfold_upsampling(ops: Any, node: Any) -> None:
    """Replace a transposed convolution of 2 x 2 by one of 1 x 1 and a depth-to-space.

    The same numbers; only at a size that is known beforehand does OpenVINO compute the former with
    integers.
    """
    weights = node.input_value(1).get_node()
    usual = node.get_attributes()["strides"] == [2, 2] and weights.get_type_name() == "Constant"
    if not usual or list(weights.shape[2:]) != [2, 2]:
        return
    kernel = weights.data  # (in, out, 2, 2)
    flat = kernel.transpose(2, 3, 1, 0).reshape(4 * kernel.shape[1], kernel.shape[0], 1, 1)
    one = ops.convolution(
        node.input_value(0),
        ops.constant(np.ascontiguousarray(flat)),
        [1, 1],
        [0, 0],
        [0, 0],
        [1, 1],
    )
    up = ops.depth_to_space(one, "blocks_first", 2)
    up.set_friendly_name(node.get_friendly_name())
    for user in list(node.output(0).get_target_inputs()):
        user.replace_source_output(up.output(0))


def finished(body: Any, card: ModelCard, block: int, precision: str) -> DerivedGraph:
    """Add what stands before and after the network, and write all as bytes.

    Parameters
    ----------
    body : openvino.Model
        Of `body_of`, or quantised.
    card : ModelCard
    block : int
        Of `body_of`.
    precision : str
        One of `derived.PRECISIONS`.
    """
    ov = import_openvino()
    ops = ov.opset13
    inputs = body.get_parameters()
    if card.channels == 3:
        inputs = [_also_grey(ov, ops, body)]
    logits = body.get_results()[0].input_value(0)
    n = len(card.classes) + card.distance
    channels = ops.split(logits, ops.constant(np.int64(1)), n).outputs()
    planes = _probabilities(ops, channels, card) if card.makes_cells else _certainty(ops, channels)
    pixels = ops.concat(planes, 1)
    if block > 1:
        pixels = ops.depth_to_space(pixels, "depth_first", block)
    output = ops.transpose(pixels, ops.constant(np.array([0, 2, 3, 1])))
    model = ov.Model([output], inputs, card.architecture)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.xml")
        ov.save_model(model, path, compress_to_fp16=False)
        return DerivedGraph(precision, path.read_bytes(), path.with_suffix(".bin").read_bytes())


def _also_grey(ov: Any, ops: Any, body: Any) -> Any:
    """Let a network of three channels take grey images too; give its new input."""
    old = body.get_parameters()[0]
    any_size = ov.PartialShape([-1, -1, -1, ov.Dimension(1, 3)])
    image = ops.parameter(any_size, np.float32, "image")
    shape = ops.constant(np.array([1, 1, 1, 3]))
    repeated = ops.broadcast(image, shape, broadcast_spec="BIDIRECTIONAL")
    for user in list(old.output(0).get_target_inputs()):
        user.replace_source_output(repeated.output(0))
    return image


def _probabilities(ops: Any, channels: list[Any], card: ModelCard) -> list[Any]:
    """Class and probabilities of some classes, as `tensorflow._probabilities` makes them."""
    depth = [ops.sigmoid(channels.pop())] if card.distance else []
    largest, classes = channels[0], _constant(ops, 0.0)
    for number, channel in enumerate(channels[1:], 1):
        larger = ops.greater(channel, largest)
        classes = ops.select(larger, _constant(ops, number), classes)
        largest = ops.maximum(channel, largest)
    powers = [ops.exp(ops.subtract(channel, largest)) for channel in channels]
    scale = ops.divide(_constant(ops, 1.0), _sum(ops, powers))
    _, *columns = card.columns
    kept = [ops.multiply(powers[column], scale) for column in columns] + depth
    return [_as_bytes(ops, classes), *(_in_bytes(ops, p) for p in kept)]


def _certainty(ops: Any, channels: list[Any]) -> list[Any]:
    """Class and uncertainty, as `tensorflow._certainty` makes them."""
    first, *others = channels
    classes, second = _constant(ops, 0.0), None
    for number, channel in enumerate(others, 1):
        classes = ops.select(ops.greater(channel, first), _constant(ops, number), classes)
        less = ops.minimum(first, channel)
        second = less if second is None else ops.maximum(second, less)
        first = ops.maximum(first, channel)
    total = _sum(ops, [ops.exp(ops.subtract(channel, first)) for channel in channels])
    rest = ops.subtract(_constant(ops, 1.0), ops.exp(ops.subtract(second, first)))
    uncertainty = ops.subtract(_constant(ops, 1.0), ops.divide(rest, total))
    return [_as_bytes(ops, classes), _in_bytes(ops, uncertainty)]


def _constant(ops: Any, value: float) -> Any:
    return ops.constant(np.float32(value))


def _sum(ops: Any, terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = ops.add(total, term)
    return total


def _in_bytes(ops: Any, values: Any) -> Any:
    """Round to units of 1/255, as `core.predict.in_bytes` does."""
    scaled = ops.add(ops.multiply(values, _constant(ops, 255.0)), _constant(ops, 0.5))
    return _as_bytes(ops, ops.floor(scaled))


def _as_bytes(ops: Any, values: Any) -> Any:
    return ops.convert(values, "u8")
