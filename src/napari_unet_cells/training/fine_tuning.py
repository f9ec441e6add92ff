"""Fine-tuning: a trained network goes on learning from a few images of its user's own.

First the batch norms take mean and variance from the new images, and keep them. A fifth of the
time moves the decoder only, then everything moves. The weights that count are an
exponential moving average (see `loop`), and may be mixed with those of the start::

    mixed(t) = start + t (average - start)          0 <= t <= 1

Mixing takes back some of what was learned by heart (Wortsman et al., "Robust fine-tuning of
zero-shot models", CVPR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.encoders import ENCODERS
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory
from napari_unet_cells.models.runtimes.tensorflow import prepare_gpus
from napari_unet_cells.training.backends import KerasSteps, LossForm
from napari_unet_cells.training.loop import Batch, Weights

if TYPE_CHECKING:
    import keras

#: Part of the time in which only the decoder moves, and the learning rates then and at the top
#: of the cosine afterwards.
DECODER_TIME, DECODER_RATE, FULL_RATE = 0.2, 1e-3, 1e-3

#: Of the batch norms while they adapt; twenty batches then make them nearly all new.
ADAPT_MOMENTUM = 0.8


class Tuner:
    """A network, twice compiled: to move its decoder, and to move all of it; see `loop.Learner`.

    Parameters
    ----------
    model : keras.Model
        Logits; its weights are where every tuning starts.
    encoder : str or None
        Name of its encoder in `ENCODERS`.
    distance : bool
        Whether the last logit is that of the distance to the boundary.
    """

    def __init__(self, model: keras.Model, encoder: str | None, distance: bool = False) -> None:
        import keras

        prepare_gpus()
        self._model, self._distance = model, distance
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        first = _encoder_layers(model, encoder)
        for layer in first:
            layer.trainable = False
        self._decoder = _steps_of(model, distance)
        for layer in first:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        self._full = _steps_of(model, distance)
        self.start: Weights = [weight.copy() for weight in model.get_weights()]

    def trace(self, batch: int, size: int) -> None:
        """Have the graphs made, which takes longer than many steps; nothing is learned.

        Parameters
        ----------
        batch, size : int
            Crops in a step, and their side in pixels.

        Raises
        ------
        OutOfMemory
        """
        channels = self._model.input_shape[-1]
        images = np.zeros((batch, size, size, channels), np.float32)
        targets = np.zeros((batch, size, size, *((2,) if self._distance else ())), np.uint8)
        weights = np.zeros((batch, size, size), np.float32)
        try:
            for steps in (self._decoder, self._full):
                steps.step(images, targets, weights, rate=0.0)
            self._full.loss(images, targets, weights)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            raise
        self.restart()

    def restart(self) -> None:
        """Go back to where the tuning started, with a fresh optimizer."""
        import keras

        self._model.set_weights(self.start)
        for steps in (self._decoder, self._full):
            for variable in steps.model.optimizer.variables:
                variable.assign(keras.ops.zeros_like(variable))

    def adapt(self, batches: Iterable[NDArray[np.float32]]) -> None:
        """Have the batch norms take mean and variance from other images (Li et al. 2016, AdaBN).

        Parameters
        ----------
        batches : iterable of float32 arrays, (n, y, x, channels)
        """
        import keras

        norms = [
            layer
            for layer in self._model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        momenta = [layer.momentum for layer in norms]
        for layer in norms:
            layer.trainable, layer.momentum = True, ADAPT_MOMENTUM
        for images in batches:
            self._model(images, training=True)
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.trainable, layer.momentum = False, momentum

    def step(self, batch: Batch, done: float) -> float:
        """Learn from one batch.

        Parameters
        ----------
        batch : tuple
            As `Cropper.batch` gives it.
        done : float
            How much of the time is over, 0 to 1.

        Returns
        -------
        float
            Loss, nats a pixel.
        """
        images, targets, weights = batch
        steps, rate = self._decoder, DECODER_RATE
        if done >= DECODER_TIME:
            left = (min(done, 1.0) - DECODER_TIME) / (1 - DECODER_TIME)
            steps = self._full
            rate = FULL_RATE * max(0.5 * (1 + math.cos(math.pi * left)), 0.01)
        return steps.step(images, targets, _normalized(weights), rate)

    def loss(self, batch: Batch) -> float:
        """Give the loss of the weights in use on one batch, nats a pixel."""
        images, targets, weights = batch
        return self._full.loss(images, targets, _normalized(weights))

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights."""
        weights: list[NDArray[np.float32]] = self._model.get_weights()
        return weights

    def set_weights(self, weights: Weights) -> None:
        """Put weights into the network."""
        self._model.set_weights(weights)

    def mix(self, average: Weights, t: float) -> None:
        """Use weights between those of the start (0) and these (1)."""
        pairs = zip(self.start, average, strict=True)
        self.set_weights([start + np.float32(t) * (other - start) for start, other in pairs])

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (n, y, x, classes) of a batch (n, y, x, channels).

        The distance, where the network gives one, is the last channel.
        """
        channels = self._model.input_shape[-1]
        if batch.shape[-1] < channels:
            batch = np.repeat(batch, channels, axis=-1)
        logits = self._full.model.predict_on_batch(batch)
        classes = logits[..., :-1] if self._distance else logits
        probabilities: NDArray[np.float32] = special.softmax(classes, axis=-1)
        if not self._distance:
            return probabilities
        return np.concatenate([probabilities, special.expit(logits[..., -1:])], axis=-1)

    @property
    def model(self) -> keras.Model:
        """The network, with the weights in use; without optimizer, ready to save."""
        return self._model


def _encoder_layers(model: keras.Model, encoder: str | None) -> list[Any]:
    """Layers up to the deepest one that the decoder joins; none without an encoder."""
    if encoder is None:
        return []
    names = [layer.name for layer in model.layers]
    last = max(names.index(name) for name in ENCODERS[encoder].skips if name in names)
    return list(model.layers[: last + 1])


def _steps_of(model: keras.Model, distance: bool) -> KerasSteps:
    """Wrap the layers of a network for training those of them that are trainable now."""
    import keras

    wrapped = keras.Model(model.inputs, model.outputs)
    return KerasSteps(wrapped, LossForm(distance, soft=False))


def _normalized(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale weights to a mean of 1: where much is unknown, the rest counts for it."""
    return weights / max(float(weights.mean()), 1e-3)
