"""Backends that take the training steps: Keras on TensorFlow, or the same network in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.array_file import write_numbered
from napari_unet_cells.models.runtimes.library import TITLES, claim, installed
from napari_unet_cells.models.runtimes.tensorflow import prepare_gpus
from napari_unet_cells.models.runtimes.torch import import_torch
from napari_unet_cells.training.loss import make_loss
from napari_unet_cells.untrusted.arrays import numbered_arrays

if TYPE_CHECKING:
    import keras

Images = NDArray[np.float32]

#: Weights and optimizer of version 0.1.0.
_OLD = "model.weights.h5"

#: Of AdamW. Each weight's gradient is clipped to this norm on its own.
WEIGHT_DECAY, CLIPNORM = 1e-4, 1.0


@dataclass(frozen=True)
class LossForm:
    """Form of the targets and the loss; see `loss.make_loss`."""

    distance: bool
    soft: bool


class Steps(Protocol):
    """A network that is being trained, with its optimizer."""

    def step(self, images: Images, targets: NDArray[Any], weights: Images, rate: float) -> float:
        """Take one step at a learning rate, and give the loss before it."""

    def loss(self, images: Images, targets: NDArray[Any], weights: Images) -> float:
        """Give the loss of a batch that is not learned from."""

    def forget(self) -> None:
        """Begin with a fresh optimizer."""

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights, in the order of Keras."""

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take over weights, in the order of Keras."""

    def save(self, folder: Path) -> None:
        """Write weights and optimizer into a folder."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; raises whatever damaged files bring about."""


class KerasSteps:
    """Steps of a Keras model, in place; see `Steps`."""

    def __init__(self, model: keras.Model, form: LossForm) -> None:
        import keras

        self.model = model
        model.compile(
            optimizer=keras.optimizers.AdamW(weight_decay=WEIGHT_DECAY, clipnorm=CLIPNORM),
            loss=make_loss(form.distance, form.soft),
            jit_compile=False,
        )

    def step(self, images: Images, targets: NDArray[Any], weights: Images, rate: float) -> float:
        """Take one step at a learning rate, and give the loss before it."""
        self.model.optimizer.learning_rate = rate
        return float(self.model.train_on_batch(images, targets, sample_weight=weights))

    def loss(self, images: Images, targets: NDArray[Any], weights: Images) -> float:
        """Give the loss of a batch that is not learned from."""
        return float(self.model.test_on_batch(images, targets, sample_weight=weights))

    def forget(self) -> None:
        """Begin with a fresh optimizer."""
        import keras

        for variable in self.model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights."""
        weights: list[NDArray[np.float32]] = self.model.get_weights()
        return weights

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take over weights."""
        self.model.set_weights(weights)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer into a folder.

        As plain arrays: HDF5 ends the process where a disk has no room for what it still holds.
        """
        state = [np.asarray(variable) for variable in self.model.optimizer.variables]
        write_numbered(folder / "weights.npz", self.get_weights())
        write_numbered(folder / "optimizer.npz", state)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; raises whatever damaged files bring about."""
        # The optimizer's slots exist only after it was built; without them Keras would
        # silently restore the weights alone.
        self.model.optimizer.build(self.model.trainable_variables)
        if (folder / _OLD).is_file():
            self.model.load_weights(folder / _OLD)
            return
        self.set_weights(numbered_arrays(folder / "weights.npz"))
        variables, state = self.model.optimizer.variables, numbered_arrays(folder / "optimizer.npz")
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)


def _torch_steps(model: keras.Model, form: LossForm) -> Steps:
    from napari_unet_cells.training.torch_steps import TorchSteps

    return TorchSteps(model, WEIGHT_DECAY, CLIPNORM, form.distance, form.soft)


def _torch_forward(model: keras.Model) -> Callable[[Images], Images]:
    from napari_unet_cells.models.runtimes.torch import best_device
    from napari_unet_cells.models.runtimes.torch_network import TorchNetwork

    return TorchNetwork(model, best_device()).logits


@dataclass(frozen=True)
class Backend:
    """A library that can train.

    Attributes
    ----------
    library : str
        One of `models.runtimes.library.TITLES`.
    prepare : callable
        Loads the library, to be called before Keras is imported.
    steps : callable (model, form) -> Steps
        Makes the model ready for training.
    forward : callable (model) -> callable (images) -> logits
        Makes a function of a network that is not trained, such as a teacher.
    """

    library: str
    prepare: Callable[[], object]
    steps: Callable[[keras.Model, LossForm], Steps]
    forward: Callable[[keras.Model], Callable[[Images], Images]]

    def check(self) -> None:
        """Make sure of the library before the time is spent that reading the images takes.

        Raises
        ------
        UserError
            Where it is not installed, or this process holds another one.
        """
        if not installed(self.library):
            title = TITLES[self.library]
            raise UserError(
                f"{title} is not installed, and this training was to use it. Install it with 'pip "
                f"install {self.library}', or choose another one by --backend."
            )
        claim(self.library)


BACKENDS: dict[str, Backend] = {
    "tensorflow": Backend(
        "tensorflow", prepare_gpus, KerasSteps, lambda model: model.predict_on_batch
    ),
    "torch": Backend("torch", import_torch, _torch_steps, _torch_forward),
}
