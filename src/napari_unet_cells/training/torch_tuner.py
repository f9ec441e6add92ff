"""Fine-tuning in PyTorch: on a GPU, and without the graphs that TensorFlow makes first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.runtimes.full_memory import is_out_of_memory
from napari_unet_cells.models.runtimes.torch import best_device, import_torch
from napari_unet_cells.models.runtimes.torch_network import TorchNetwork
from napari_unet_cells.training.backends import CLIPNORM, WEIGHT_DECAY, Steps
from napari_unet_cells.training.fine_tuning import RECIPE, Recipe, Tuner, encoder_layers
from napari_unet_cells.training.loop import Weights
from napari_unet_cells.training.torch_steps import TorchSteps

if TYPE_CHECKING:
    import keras

_NORM = "BatchNormalization"


class TorchTuner(Tuner):
    """A `fine_tuning.Tuner` whose network is that of `torch_network`; the model stays one of Keras.

    Parameters
    ----------
    model, encoder, distance, recipe
        As for `fine_tuning.Tuner`.
    """

    def __init__(
        self,
        model: keras.Model,
        encoder: str | None,
        distance: bool = False,
        recipe: Recipe = RECIPE,
    ) -> None:
        self._model, self._distance, self._recipe = model, distance, recipe
        self._encoder = {layer.name for layer in encoder_layers(model, encoder)}
        self._copy = TorchNetwork(model, best_device())
        self._copy.norms_learn = False
        self._learned = {
            early: self._copy.parameters_of(self._encoder if early else (), self._still())
            for early in (True, False)
        }
        self._full: Steps = self._steps(False)
        self._decoder: Steps = self._full
        if recipe.decoder > 0 and self._encoder:
            self._decoder = self._steps(True)
        self._trained: Steps | None = None
        self.start: Weights = [weight.copy() for weight in model.get_weights()]

    def _still(self) -> set[str]:
        """Name the kinds of layers that never learn."""
        others = {type(layer).__name__ for layer in self._model.layers} - {_NORM}
        return ({_NORM} if not self._recipe.norms else set()) | (
            others if not self._recipe.kernels else set()
        )

    def _steps(self, early: bool) -> Steps:
        return TorchSteps(
            self._model,
            WEIGHT_DECAY,
            CLIPNORM,
            self._distance,
            False,
            self._copy,
            self._learned[early],
        )

    def _train(self, steps: Steps) -> None:
        """Have gradients computed of what moves only."""
        if steps is self._trained:
            return
        self._trained = steps
        moving = self._learned[self._decoder is not self._full and steps is self._decoder]
        for parameter in self._copy.parameters:
            parameter.requires_grad_(False)
        for parameter in moving:
            parameter.requires_grad_(True)

    def adapt(self, batches: Iterable[NDArray[np.float32]]) -> None:
        """Have the batch norms take mean and variance from other images; see `Tuner.adapt`."""
        copy, half, torch = self._copy, self._copy.half, import_torch()
        found: list[list[Any]] = [[] for _ in copy.statistics]
        # A momentum of 0: each batch leaves its own statistics.
        copy.norms_learn, copy.half, copy.momentum = True, False, 0.0
        try:
            with torch.no_grad():
                for images in batches:
                    copy(images, training=True)
                    for seen, pair in zip(found, copy.statistics, strict=True):
                        seen.append(torch.stack(pair))
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            raise
        finally:
            copy.norms_learn, copy.half, copy.momentum = False, half, None
        for seen, (mean, variance) in zip(found, copy.statistics, strict=True):
            if not seen:
                continue
            means, variances = torch.stack(seen).unbind(1)
            mean.copy_(means.mean(dim=0))
            # Images that differ spread more than the pixels of one batch do.
            variance.copy_(variances.mean(dim=0) + means.var(dim=0, correction=0))

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights."""
        return self._copy.get_weights()

    def set_weights(self, weights: Weights) -> None:
        """Put weights into the network."""
        self._copy.set_weights(weights)

    def _logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._copy.logits(batch)

    @property
    def model(self) -> Any:
        """The network of Keras, with the weights in use; without optimizer, ready to save."""
        self._model.set_weights(self.get_weights())
        return self._model
