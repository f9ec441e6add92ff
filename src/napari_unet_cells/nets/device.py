"""The one file that names TensorFlow: it picks the device and compiles the forward pass."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import ModelCard, load_model

if TYPE_CHECKING:
    import keras

#: A little more than what alpha 1.0 was measured to take, forward, at 2048 x 2048.
BYTES_PER_PIXEL = 450

#: Beyond this a tile takes so long that Cancel and progress become sluggish.
LONGEST_TILE = 2048


@dataclass(frozen=True)
class DeviceNetwork:
    """A compiled network in this process; see `predict.Network`.

    Attributes
    ----------
    card : ModelCard
    device : str
        For the user, such as "CPU, 2 threads".
    max_tile : int
        From the memory that was free when the network was opened.
    """

    card: ModelCard
    device: str
    max_tile: int
    _grey: Any
    _full: Any

    @property
    def stride(self) -> int:
        """Pixels; the sides of every batch are multiples of it."""
        return self.card.stride

    @property
    def halo(self) -> int:
        """Pixels around a tile that are read and not written."""
        return self.card.halo

    @property
    def channels(self) -> int:
        """Channels the network was trained on."""
        return self.card.channels

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, lazily; see `predict.Network.predict`."""
        for batch in batches:
            yield self.forward(batch)

    def forward(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Predict one batch (n, y, x, 1 or `channels`).

        Raises
        ------
        UserError
            Where the memory of the device is full.
        """
        import tensorflow as tf

        function = self._grey if batch.shape[-1] == 1 else self._full
        try:
            output: NDArray[np.uint8] = function(batch).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                "The memory of the device is full. Close other programs that use it, or cut the "
                "image into smaller ones."
            ) from error
        return output


def open_network(card: ModelCard) -> DeviceNetwork:
    """Load a model, compile it for the best device and run it once.

    Raises
    ------
    UserError
        Where the model file is not what its card says.
    """
    tf = _import_tensorflow()
    device = _pick_device(tf)
    model = load_model(card)
    grey = _compiled(tf, model, card, 1)
    full = grey if card.channels == 1 else _compiled(tf, model, card, card.channels)
    network = DeviceNetwork(card, device, _max_tile(), _grey=grey, _full=full)
    # The first run allocates and chooses kernels; it should not be the user's.
    network.forward(np.zeros((1, 16 * card.stride, 16 * card.stride, 1), np.float32))
    return network


def _import_tensorflow() -> Any:
    """Import TensorFlow without its start-up messages, which tell a biologist nothing.

    Some are written straight to file descriptor 2 before any log level counts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:  # whatever else the user runs Keras with
        os.environ["KERAS_BACKEND"] = "tensorflow"
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


def _pick_device(tf: Any) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            # Else TensorFlow takes all of the GPU's memory, which other programs need too.
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            break  # already in use by this process, with whatever was set then
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU, {details.get('device_name', gpus[0].name)}"
    threads = tf.config.threading.get_intra_op_parallelism_threads() or _usable_cores()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _max_tile() -> int:
    pixels = psutil.virtual_memory().available / 4 / BYTES_PER_PIXEL
    return int(min(LONGEST_TILE, max(256, pixels**0.5)))


def _compiled(tf: Any, model: keras.Model, card: ModelCard, channels: int) -> Any:
    """Freeze network, softmax, argmax and the cast to 8 bit into one graph.

    Constants let the graph optimizer fold the batch norms into the convolutions, and a new
    size of input costs nothing extra.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    columns = [card.classes.index(name) for name in ("cell", "boundary") if card.makes_cells]

    def forward(batch: Any) -> Any:
        if channels == 1 and card.channels > 1:
            batch = tf.repeat(batch, card.channels, axis=-1)
        logits = model(batch, training=False)
        parts = [tf.cast(tf.argmax(logits, axis=-1), tf.uint8)[..., tf.newaxis]]
        if columns:
            kept = tf.gather(tf.nn.softmax(logits), columns, axis=-1)
            parts.append(tf.cast(tf.round(kept * 255.0), tf.uint8))
        return tf.concat(parts, axis=-1)

    signature = tf.TensorSpec((None, None, None, channels), tf.float32)
    concrete = tf.function(forward, input_signature=[signature]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    # A frozen function takes tensors and gives a list of them.
    return lambda batch: frozen(tf.constant(batch))[0]
