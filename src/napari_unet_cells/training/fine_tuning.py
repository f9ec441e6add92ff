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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.encoders import ENCODERS
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory
from napari_unet_cells.models.runtimes.tensorflow import multiplies_bfloat16, prepare_gpus
from napari_unet_cells.training.backends import KerasSteps, LossForm, Steps
from napari_unet_cells.training.loop import Batch, Weights

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """Recipe of a tuning: what learns, and how fast.

    Where the decoder moves alone first, the encoder is spared the first steps, which are as long as
    the learning rate whatever the gradient is. On the five small tasks that were measured the two
    ways came to about the same (docs/retraining.md).

    Attributes
    ----------
    decoder : float
        Part of the time, 0 to 1, in which only the decoder moves; in what is left all does.
    decoder_rate, rate : float
        Learning rates while only the decoder moves, and at the top of the cosine afterwards.
    norms : bool
        Whether the batch norms learn as well how they scale and shift.
    kernels : bool
        Whether the kernels learn; else the norms alone.
    """

    decoder: float = 0.2
    decoder_rate: float = 1e-3
    rate: float = 1e-3
    norms: bool = False
    kernels: bool = True


#: The one that is used.
RECIPE = Recipe()


class Tuner:
    """A network, twice compiled: to move its decoder, and to move all of it; see `loop.Learner`.

    By Keras on TensorFlow; `torch_tuner.TorchTuner` does the same in PyTorch.

    Parameters
    ----------
    model : keras.Model
        Logits; its weights are where every tuning starts.
    encoder : str or None
        Name of its encoder in `ENCODERS`.
    distance : bool
        Whether the last logit is that of the distance to the boundary.
    recipe : Recipe
    """

    def __init__(
        self,
        model: keras.Model,
        encoder: str | None,
        distance: bool = False,
        recipe: Recipe = RECIPE,
    ) -> None:
        prepare_gpus()
        import keras

        from napari_unet_cells.training.folded import fold

        self._model, self._distance, self._recipe = model, distance, recipe
        self._encoder = {layer.name for layer in encoder_layers(model, encoder)}
        self._network = fold(model, brief=multiplies_bfloat16())
        form = LossForm(distance, soft=False)
        self._full: Steps = KerasSteps(self._network, form)
        self._decoder: Steps = self._full
        if recipe.decoder > 0 and self._encoder:
            again = keras.Model(self._network.inputs[0], self._network.outputs[0])
            self._decoder = KerasSteps(again, form)
        self._trained: Steps | None = None
        self.start: Weights = [weight.copy() for weight in model.get_weights()]

    def _train(self, steps: Steps) -> None:
        """Let those layers move that are to; Keras asks for them whenever it makes a graph."""
        import keras

        if steps is self._trained:
            return
        self._trained = steps
        for layer in self._model.layers:
            norm = isinstance(layer, keras.layers.BatchNormalization)
            frozen = self._decoder is not self._full and steps is self._decoder
            moves = self._recipe.norms if norm else self._recipe.kernels
            layer.trainable = moves and not (frozen and layer.name in self._encoder)

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
                self._train(steps)
                steps.step(images, targets, weights, rate=0.0)
            self._full.loss(images, targets, weights)
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            raise
        self.restart()

    def restart(self) -> None:
        """Go back to where the tuning started, with a fresh optimizer."""
        self.set_weights(self.start)
        for steps in (self._decoder, self._full):
            steps.forget()

    def adapt(self, batches: Iterable[NDArray[np.float32]]) -> None:
        """Have the batch norms take mean and variance from other images (Li et al. 2016, AdaBN).

        Parameters
        ----------
        batches : iterable of float32 arrays, (n, y, x, channels)

        Raises
        ------
        OutOfMemory
        """
        import keras

        norms = [
            layer
            for layer in self._model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if not norms:
            return
        momenta = [layer.momentum for layer in norms]
        found: list[list[Any]] = [[] for _ in norms]
        try:
            for layer in norms:  # each batch leaves its own statistics
                layer.trainable, layer.momentum = True, 0.0
            for images in batches:
                self._model(images, training=True)
                for layer, seen in zip(norms, found, strict=True):
                    seen.append(_statistics(layer))
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            raise
        finally:
            for layer, momentum in zip(norms, momenta, strict=True):
                layer.momentum = momentum
            self._trained = None  # what moves is to be said again
        for layer, seen in zip(norms, found, strict=True):
            if not seen:
                continue
            means, variances = (np.stack(part) for part in zip(*seen, strict=True))
            layer.moving_mean.assign(means.mean(axis=0))
            # Images that differ spread more than the pixels of one batch do.
            layer.moving_variance.assign(variances.mean(axis=0) + means.var(axis=0))

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
        recipe = self._recipe
        steps, rate = self._decoder, recipe.decoder_rate
        if done >= recipe.decoder:
            left = (min(done, 1.0) - recipe.decoder) / (1 - recipe.decoder)
            steps = self._full
            rate = recipe.rate * max(0.5 * (1 + math.cos(math.pi * left)), 0.01)
        self._train(steps)
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
        logits = self._logits(batch)
        classes = logits[..., :-1] if self._distance else logits
        probabilities: NDArray[np.float32] = special.softmax(classes, axis=-1)
        if not self._distance:
            return probabilities
        return np.concatenate([probabilities, special.expit(logits[..., -1:])], axis=-1)

    def _logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # In 32 bits, as the model that is saved computes: scores and thresholds are of that one.
        logits: NDArray[np.float32] = self._model.predict_on_batch(batch)
        return logits

    @property
    def model(self) -> keras.Model:
        """The network, with the weights in use; without optimizer, ready to save."""
        return self._model


def encoder_layers(model: keras.Model, encoder: str | None) -> list[Any]:
    """Layers up to the deepest one that the decoder joins; none without an encoder."""
    if encoder is None:
        return []
    names = [layer.name for layer in model.layers]
    last = max(names.index(name) for name in ENCODERS[encoder].skips if name in names)
    return list(model.layers[: last + 1])


def _statistics(norm: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Copy mean and variance of a batch norm."""
    import keras

    mean, variance = map(keras.ops.convert_to_numpy, (norm.moving_mean, norm.moving_variance))
    return mean.copy(), variance.copy()


def _normalized(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale weights to a mean of 1: where much is unknown, the rest counts for it."""
    return weights / max(float(weights.mean()), 1e-3)
