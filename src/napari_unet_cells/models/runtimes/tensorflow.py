"""The one file that names TensorFlow: it picks the device and compiles the forward pass."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import in_bytes
from napari_unet_cells.errors import LostDevice, OutOfMemory
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import load_model
from napari_unet_cells.models.runtimes.library import claim
from napari_unet_cells.models.runtimes.network import (
    GPU_FULL,
    LONGEST_TILE,
    DeviceNetwork,
    cpu_name,
    max_tile_of,
    usable_cores,
    warm_up,
)

if TYPE_CHECKING:
    import keras

#: For the device line.
TITLE = "TensorFlow float32"

_CPU = "/CPU:0"


@dataclass(frozen=True)
class TensorFlowNetwork(DeviceNetwork):
    """A compiled network in this process; see `network.DeviceNetwork`."""

    _functions: Mapping[int, Any]  # by the channels of the batch

    def _computed(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        output: NDArray[np.uint8] = self._functions[batch.shape[-1]](batch).numpy()
        return output

    def _says_lost(self, error: BaseException) -> bool:
        errors = _import_tensorflow().errors
        theirs = (errors.InternalError, errors.UnavailableError, errors.AbortedError)
        return isinstance(error, (*theirs, errors.UnknownError))

    def _opened_on_cpu(self) -> TensorFlowNetwork:
        return open_network(self.card, cpu=True)


def open_network(card: ModelCard, cpu: bool = False, why: str = "") -> TensorFlowNetwork:
    """Load a model, compile it for the best device and run it once.

    A GPU that cannot run it is left alone: the CPU computes, and `device` says why.

    Parameters
    ----------
    card : ModelCard
    cpu : bool
        Compute on the CPU.
    why : str
        Why it is the CPU's turn, or this runtime's, for `device`; where there is a GPU, its
        full memory by default.

    Raises
    ------
    OutOfMemory
        Where not even the CPU has the memory for it.
    UserError
        Where the model file is not what its card says.
    """
    tf = _import_tensorflow()
    gpus = prepare_gpus()
    with tf.device(_CPU):  # the weights become constants, so no GPU needs a copy of them
        model = load_model(card)
    if not gpus:
        return _ready(tf, model, card, _cpu_name(tf, why), on_cpu=True, why=why)
    why = why or GPU_FULL
    if not cpu:
        try:
            # On a GPU multiplications may take 19 bits of the 32 (TF32).
            return _ready(tf, model, card, f"GPU, TensorFlow, {gpus[0]}", on_cpu=False)
        except LostDevice:
            why = "the GPU failed"
        except OutOfMemory:
            pass
        except tf.errors.OpError:  # drivers, CUDA and cuDNN that do not fit together
            why = "the GPU failed"
    return _ready(tf, model, card, _cpu_name(tf, why), on_cpu=True, why=why)


def _ready(
    tf: Any, model: keras.Model, card: ModelCard, device: str, on_cpu: bool, why: str = ""
) -> TensorFlowNetwork:
    # Without a place TensorFlow puts on the GPU what it can compute there.
    place = _CPU if on_cpu else None
    accepted = {1, 3} if card.channels == 3 else {card.channels}
    functions = {n: _compiled(tf, model, card, n, place) for n in sorted(accepted)}
    network = TensorFlowNetwork(
        card,
        device,
        # No function of TensorFlow tells how much memory of a GPU is free, but there it always
        # reports in order that it is full.
        max_tile=max_tile_of(card) if on_cpu else LONGEST_TILE,
        on_cpu=on_cpu,
        why=why,
        _functions=functions,
    )
    warm_up(network, min(functions))
    return network


def prepare_gpus() -> list[str]:
    """Name the GPUs that TensorFlow can use, and have it take of their memory what it needs.

    By default it takes all, which other programs need too. To be called before anything is
    computed; afterwards it changes nothing.
    """
    tf = _import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            break  # already in use by this process, with whatever was set then
    details = tf.config.experimental.get_device_details
    return [details(gpu).get("device_name", gpu.name) for gpu in gpus]


def multiplies_bfloat16() -> bool:
    """Whether convolutions of bfloat16 take less time than those of 32 bits: with AMX they do.

    Other processors compute them in 32 bits after all, and convert on the way.
    """
    if prepare_gpus():
        return False
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return False


def _import_tensorflow() -> Any:
    """Import TensorFlow without its start-up messages, which tell a biologist nothing.

    Some are written straight to file descriptor 2 before any log level counts.

    Raises
    ------
    SecondLibrary
        Where this process holds PyTorch.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    claim("tensorflow")
    with _no_stderr():
        import tensorflow as tf
    return tf


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # a program without a console has none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _cpu_name(tf: Any, why: str) -> str:
    threads = tf.config.threading.get_intra_op_parallelism_threads() or usable_cores()
    return cpu_name(TITLE, threads, why)


def _compiled(
    tf: Any, model: keras.Model, card: ModelCard, channels: int, place: str | None
) -> Any:
    """Freeze the network and what becomes 8 bit of its logits into one graph.

    Constants let the graph optimizer fold the batch norms into the convolutions, and a new
    size of input costs nothing extra.

    Parameters
    ----------
    tf : module
    model : keras.Model
    card : ModelCard
    channels : int
        Of the batches; grey ones are repeated.
    place : str or None
        TensorFlow's name of the device, None for the best one.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    head, block = _without_last(model)

    def forward(batch: Any) -> Any:
        with tf.device(place):
            if channels < card.channels:
                batch = tf.repeat(batch, card.channels, axis=-1)
            logits = _unstacked(tf, head(batch, training=False), block, model.output_shape[-1])
            planes = (
                _probabilities(tf, logits, card) if card.makes_cells else _certainty(tf, logits)
            )
            return tf.transpose(tf.stack(planes), (1, 2, 3, 0))

    signature = tf.TensorSpec((None, None, None, channels), tf.float32)
    concrete = tf.function(forward, input_signature=[signature]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)

    def run(batch: NDArray[np.float32]) -> Any:
        with tf.device(place):
            return frozen(tf.constant(batch))[0]  # it takes tensors and gives a list of them

    return run


def traced_logits(card: ModelCard) -> tuple[Any, int]:
    """Trace a network up to its logits, for a runtime that converts it.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    function : tensorflow.ConcreteFunction
        From (n, y, x, channels) to (n, y / block, x / block, class * block * block): the pixels
        that are made of one follow each other, class by class.
    block : int
        How many pixels a side are made of one.

    Raises
    ------
    UserError
        Where the model file is not what its card says.
    """
    tf = _import_tensorflow()
    with tf.device(_CPU):
        model = load_model(card)
    head, block = _without_last(model)
    n = model.output_shape[-1]
    order = np.arange(n * block**2).reshape(block**2, n).T.ravel()
    last = head.layers[-1]
    moved = type(last).__name__ == "Conv2D" and last.output is head.outputs[0]
    if moved:  # in the weights it costs nothing
        last.set_weights([weight[..., order] for weight in last.get_weights()])

    def forward(batch: Any) -> Any:
        logits = head(batch, training=False)
        return logits if moved else tf.gather(logits, order, axis=-1)

    signature = tf.TensorSpec((None, None, None, card.channels), tf.float32)
    with tf.device(_CPU):
        return tf.function(forward, input_signature=[signature]).get_concrete_function(), block


def _without_last(model: keras.Model) -> tuple[keras.Model, int]:
    """Give a network without its last depth-to-space, and how many pixels a side that makes of one.

    `_unstacked` does that work on its way.
    """
    import keras

    last, node, _ = model.outputs[0]._keras_history
    if type(last).__name__ != "DepthToSpace":
        return model, 1
    return keras.Model(model.inputs, last._inbound_nodes[node].input_tensors[0]), last.block_size


def _unstacked(tf: Any, logits: Any, block: int, n: int) -> list[Any]:
    """Give the n channels of logits, each as a plane of its own (batch, y, x).

    What is computed of planes that lie in one piece takes less time than of every n-th value;
    one transposition brings them there, and with depth-to-space in it the forward pass of the
    fastest network takes a tenth less.
    """
    size, height, width = tf.unstack(tf.shape(logits)[:3])
    blocks = tf.reshape(logits, (size, height, width, block, block, n))
    planes = tf.transpose(blocks, (5, 0, 1, 3, 2, 4))
    planes = tf.reshape(planes, (n, size, height * block, width * block))
    channels: list[Any] = tf.unstack(planes)
    return channels


def _probabilities(tf: Any, channels: list[Any], card: ModelCard) -> list[Any]:
    """Class and probabilities of some classes, as `Network.predict` gives them for cells."""
    depth = [tf.sigmoid(channels.pop())] if card.distance else []
    largest, classes = _largest(tf, channels)
    powers = [tf.exp(channel - largest) for channel in channels]
    scale = 1.0 / tf.add_n(powers)
    _, *columns = card.columns
    kept = [powers[column] * scale for column in columns] + depth
    return [classes, *(_in_bytes(tf, p) for p in kept)]


def _in_bytes(tf: Any, values: Any) -> Any:
    return in_bytes(values, lambda scaled: tf.cast(scaled, tf.uint8))


def _largest(tf: Any, channels: list[Any]) -> tuple[Any, Any]:
    """Largest of the logits, and the number of the channel it is in: the first of equals."""
    largest, classes = channels[0], tf.zeros_like(channels[0], tf.uint8)
    for number, channel in enumerate(channels[1:], 1):
        classes = tf.where(channel > largest, tf.constant(number, tf.uint8), classes)
        largest = tf.maximum(largest, channel)
    return largest, classes


def _certainty(tf: Any, channels: list[Any]) -> list[Any]:
    """Class and uncertainty, as `Network.predict` gives them for classes alone.

    With x1 >= x2 the two largest logits x, the margin of the softmax is
    ``(1 - exp(x2 - x1)) / sum(exp(x - x1))``. Channel by channel it costs a third of what
    argmax, softmax and top-k over the last axis do, of few values each.
    """
    first, *others = channels
    classes, second = tf.zeros_like(first, tf.uint8), first - float("inf")
    for number, channel in enumerate(others, 1):
        classes = tf.where(channel > first, tf.constant(number, tf.uint8), classes)
        second = tf.maximum(second, tf.minimum(first, channel))
        first = tf.maximum(first, channel)
    total = tf.add_n([tf.exp(channel - first) for channel in channels])
    margin = (1.0 - tf.exp(second - first)) / total
    return [classes, _in_bytes(tf, 1.0 - margin)]
