"""Training steps in PyTorch: the loss of `loss`, and the optimizer that Keras would take.

How much less time they take than those of Keras stands in docs/architecture.md, 15.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.files.array_file import write_numbered
from napari_unet_cells.models.runtimes.torch import best_device, import_torch
from napari_unet_cells.models.runtimes.torch_network import TorchNetwork
from napari_unet_cells.untrusted.arrays import numbered_arrays

if TYPE_CHECKING:
    import keras


class TorchSteps:
    """Training steps of a Keras model, taken by a copy in PyTorch; see `backends.Steps`.

    Parameters
    ----------
    model : keras.Model
        Gives form and first weights; it is not changed.
    weight_decay, clipnorm : float
        Of AdamW; each weight's gradient is clipped on its own, as Keras does.
    distance, soft : bool
        See `loss.make_loss`.
    network : TorchNetwork, optional
        Copy of the model that is there already.
    parameters : list of tensors, optional
        Of that network, which learn; by default all.
    """

    def __init__(
        self,
        model: keras.Model,
        weight_decay: float,
        clipnorm: float,
        distance: bool,
        soft: bool,
        network: TorchNetwork | None = None,
        parameters: list[Any] | None = None,
    ) -> None:
        self._network = network or TorchNetwork(model, best_device())
        self._parameters = self._network.parameters if parameters is None else parameters
        self._torch = import_torch()
        self._clipnorm = clipnorm
        self._loss = make_torch_loss(self._torch, distance, soft)
        self._optimizer = self._torch.optim.AdamW(
            self._parameters, eps=1e-7, weight_decay=weight_decay
        )

    def step(
        self,
        images: NDArray[np.float32],
        targets: NDArray[Any],
        weights: NDArray[np.float32],
        rate: float,
    ) -> float:
        """Take one step and give the loss before it."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._mean_loss(images, targets, weights, training=True)
        loss.backward()
        gradients = [p.grad for p in self._parameters]
        for gradient in gradients:
            gradient.mul_((self._clipnorm / gradient.norm().clamp(min=1e-12)).clamp(max=1.0))
        self._optimizer.step()
        return float(loss.detach())

    def forget(self) -> None:
        """Begin with a fresh optimizer."""
        self._optimizer.state.clear()

    def loss(
        self, images: NDArray[np.float32], targets: NDArray[Any], weights: NDArray[np.float32]
    ) -> float:
        """Give the loss of a batch that is not learned from."""
        with self._torch.no_grad():
            return float(self._mean_loss(images, targets, weights, training=False))

    def batch_loss(self, targets: Any, logits: Any, weights: Any) -> Any:
        """Give the weighted mean of the loss over the pixels of a batch, of tensors."""
        return (self._loss(targets, logits) * weights).mean()

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights, in the order of Keras."""
        return self._network.get_weights()

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take over weights, in the order of Keras."""
        self._network.set_weights(weights)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer into a folder."""
        write_numbered(folder / "weights.npz", self.get_weights())
        with open(folder / "optimizer.pt", "wb") as file:
            self._torch.save(self._optimizer.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; whatever numpy and PyTorch raise on damaged files."""
        self.set_weights(numbered_arrays(folder / "weights.npz"))
        # Tensors and numbers only, so no program hides in the file.
        state = self._torch.load(folder / "optimizer.pt", weights_only=True)
        self._optimizer.load_state_dict(state)

    def _mean_loss(
        self,
        images: NDArray[np.float32],
        targets: NDArray[Any],
        weights: NDArray[np.float32],
        training: bool,
    ) -> Any:
        logits = self._network(images, training)
        return self.batch_loss(self._network.tensor(targets), logits, self._network.tensor(weights))


def make_torch_loss(torch: Any, distance: bool, soft: bool) -> Callable[[Any, Any], Any]:
    """`loss.make_loss` for tensors of PyTorch: the same formula, and the same number."""
    functional = torch.nn.functional

    def of_classes(classes: Any, logits: Any) -> Any:
        if soft:
            return -(classes * functional.log_softmax(logits, dim=-1)).sum(dim=-1)
        return functional.cross_entropy(logits.movedim(-1, 1), classes.long(), reduction="none")

    def of_distance(depth: Any, logit: Any) -> Any:
        cross = functional.binary_cross_entropy_with_logits(logit, depth, reduction="none")
        part = depth.clamp(1e-6, 1 - 1e-6)
        return cross + part * part.log() + (1 - part) * (1 - part).log()

    def loss(targets: Any, logits: Any) -> Any:
        if not distance:
            return of_classes(targets, logits)
        depth = targets[..., -1] if soft else targets[..., -1].float() / 255
        classes = targets[..., :-1] if soft else targets[..., 0]
        return of_classes(classes, logits[..., :-1]) + of_distance(depth, logits[..., -1])

    return loss
