"""The same network in PyTorch, whose gradients on a CPU take a third of TensorFlow's time.

Only trainings use it, and only where it is asked for: PyTorch is no dependency of the package.
`TorchNetwork` computes what a Keras model computes, layer by layer, with weights that are copied
from it and back; the model file stays one of Keras.

Measured on two cores that multiply matrices of bfloat16 (AMX): a step of eight crops of
256 x 256 takes the MobileNet U-Net of width 0.75 0.89 s in TensorFlow and 0.33 s here. Keras on
PyTorch took 1.07 s, and 0.94 s with bfloat16, most of it in its batch norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.runtimes.library import claim
from napari_unet_cells.untrusted.arrays import numbered_arrays

if TYPE_CHECKING:
    import keras

#: Axes of a kernel of Keras, in the order in which PyTorch has them, by the class of the layer.
_KERNELS = {
    "Conv2D": (3, 2, 0, 1),
    "DepthwiseConv2D": (2, 3, 0, 1),
    "Conv2DTranspose": (3, 2, 0, 1),
}

#: Names of the weights of a batch norm, which have one axis in both.
_STATISTICS = frozenset({"moving_mean", "moving_variance"})


def import_torch() -> Any:
    """Import PyTorch.

    Raises
    ------
    UserError
        Where it is not installed, or this process holds TensorFlow.
    """
    claim("torch")
    try:
        import torch
    except (ImportError, OSError) as error:  # the latter where its own libraries are incomplete
        raise UserError(
            f"PyTorch cannot be imported ({str(error).partition(chr(10))[0][:200]}). Install it "
            "(python -m pip install torch), or choose another library."
        ) from error
    return torch


class TorchNetwork:
    """A network in PyTorch that takes its form and its weights from a Keras model.

    Parameters
    ----------
    model : keras.Model
        Functional, of the layers of `mobilenet_unet`.

    Raises
    ------
    UserError
        Where PyTorch is not installed, or the model has layers that are not in `_LAYERS`.
    """

    def __init__(self, model: keras.Model) -> None:
        self._torch = import_torch()
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        # Narrower processors take longer for bfloat16 than for float32.
        capability = self._torch.backends.cpu.get_cpu_capability()
        self._half = self._device == "cuda" or capability.startswith("AVX512")
        self._calls = _calls_of(model.outputs[0])
        unknown = sorted({c.kind for c in self._calls if c.kind not in _LAYERS})
        if unknown:
            raise UserError(
                f"PyTorch cannot train this network: its layers {', '.join(unknown)} are known to "
                "TensorFlow only. Leave out --backend torch."
            )
        self._slots = [_Slot(call, name) for call, name in _weights_of(model, self._calls)]
        self._values: dict[str, Any] = {}
        self.set_weights(model.get_weights())

    @property
    def parameters(self) -> list[Any]:
        """Trainable weights as tensors, in the order of Keras."""
        return [self._values[slot.key] for slot in self._slots if slot.is_learned]

    def get_weights(self) -> list[NDArray[np.float32]]:
        """Copy all weights, in the order and with the axes of Keras."""
        return [slot.to_keras(self._values[slot.key]) for slot in self._slots]

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Take over weights, in the order and with the axes of Keras."""
        torch = self._torch
        for slot, weight in zip(self._slots, weights, strict=True):
            array = torch.from_numpy(slot.from_keras(np.asarray(weight, np.float32)))
            if slot.key in self._values:
                with torch.no_grad():
                    self._values[slot.key].copy_(array)
                continue
            tensor = array.to(self._device)
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            self._values[slot.key] = tensor.requires_grad_(slot.is_learned)

    def __call__(self, images: NDArray[np.float32], training: bool) -> Any:
        """Compute logits.

        Parameters
        ----------
        images : float32 array, (n, y, x, channels)
        training : bool
            Whether the batch norms use the statistics of the batch and remember them.

        Returns
        -------
        float32 tensor, (n, y, x, outputs)
        """
        torch = self._torch
        # Without a copy: axes in another order, which PyTorch calls channels last.
        x = self.tensor(images).permute(0, 3, 1, 2)
        results: dict[str, Any] = {}
        with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
            for call in self._calls:
                inputs = [results[name] for name in call.inputs] or [x]
                weights = {name: self._values[f"{call.name}/{name}"] for name in call.weights}
                results[call.name] = _LAYERS[call.kind](torch, call, inputs, weights, training)
        return results[self._calls[-1].name].float().permute(0, 2, 3, 1)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits of images, as the model does where it is used."""
        with self._torch.no_grad():
            logits: NDArray[np.float32] = self(images, training=False).cpu().numpy()
        return logits

    def tensor(self, array: NDArray[Any]) -> Any:
        """Bring an array to where the network is computed."""
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class TorchSteps:
    """Training steps of a Keras model, taken by a copy in PyTorch; see `training.backends.Steps`.

    Parameters
    ----------
    model : keras.Model
        Gives form and first weights; it is not changed.
    weight_decay, clipnorm : float
        Of AdamW; each weight's gradient is clipped on its own, as Keras does.
    distance, soft : bool
        See `loss.make_loss`.
    """

    def __init__(
        self,
        model: keras.Model,
        weight_decay: float,
        clipnorm: float,
        distance: bool,
        soft: bool,
    ) -> None:
        self._network = TorchNetwork(model)
        self._torch = import_torch()
        self._clipnorm = clipnorm
        self._loss = make_torch_loss(self._torch, distance, soft)
        self._optimizer = self._torch.optim.AdamW(
            self._network.parameters, eps=1e-7, weight_decay=weight_decay
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
        gradients = [p.grad for p in self._network.parameters]
        for gradient in gradients:
            gradient.mul_((self._clipnorm / gradient.norm().clamp(min=1e-12)).clamp(max=1.0))
        self._optimizer.step()
        return float(loss.detach())

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
        np.savez(folder / "weights.npz", *self.get_weights())
        self._torch.save(self._optimizer.state_dict(), folder / "optimizer.pt")

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


class _Call:
    """One layer of the network: what it is, what it reads, and what its weights are called."""

    def __init__(self, layer: Any, inputs: Sequence[str]) -> None:
        self.name: str = layer.name
        self.kind = type(layer).__name__
        self.layer = layer
        self.inputs = inputs
        self.variables: Sequence[Any] = getattr(layer, "weights", [])
        self.weights: list[str] = [variable.name for variable in self.variables]


def _calls_of(output: Any) -> list[_Call]:
    """List the layers that a tensor comes from, each after those that it reads."""
    calls: dict[str, _Call] = {}

    def add(tensor: Any) -> str:
        layer, node, _ = tensor._keras_history
        if layer.name not in calls:
            # A layer may have been called before, in the backbone that it was taken from.
            is_input = type(layer).__name__ == "InputLayer"
            read = [] if is_input else layer._inbound_nodes[node].input_tensors
            calls[layer.name] = _Call(layer, [add(one) for one in read])
        return str(layer.name)

    add(output)
    return list(calls.values())


class _Slot:
    """A weight, and how its axes are turned between Keras and PyTorch."""

    def __init__(self, call: _Call, name: str) -> None:
        self.key = f"{call.name}/{name}"
        self.is_learned = name not in _STATISTICS
        self._axes = _KERNELS.get(call.kind) if name == "kernel" else None

    def from_keras(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        turned = weight if self._axes is None else weight.transpose(self._axes)
        return np.array(turned, order="C")  # a copy: the caller may change its own

    def to_keras(self, tensor: Any) -> NDArray[np.float32]:
        array: NDArray[np.float32] = tensor.detach().cpu().numpy()
        turned = array if self._axes is None else array.transpose(np.argsort(self._axes))
        return np.array(turned, order="C")


def _weights_of(model: keras.Model, calls: Sequence[_Call]) -> list[tuple[_Call, str]]:
    """Pair the weights of a model, in its order, with the layers that they belong to."""
    owners = {id(variable): call for call in calls for variable in call.variables}
    return [(owners[id(variable)], variable.name) for variable in model.weights]


def _convolution(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    (x,), layer = inputs, call.layer
    depthwise = call.kind == "DepthwiseConv2D"
    stride, size = layer.strides[0], layer.kernel_size[0]
    padding = 0
    if layer.padding == "same":
        # Of an odd number of missing pixels TensorFlow adds one more at the end.
        missing = max(size - (stride if x.shape[-1] % stride == 0 else x.shape[-1] % stride), 0)
        padding = missing // 2
        if missing % 2:
            x = torch.nn.functional.pad(x, (padding, padding + 1, padding, padding + 1))
            padding = 0
    return torch.nn.functional.conv2d(
        x,
        weights["kernel"],
        weights.get("bias"),
        stride,
        padding,
        groups=x.shape[1] if depthwise else 1,
    )


def _transposed(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    (x,), stride = inputs, call.layer.strides[0]
    return torch.nn.functional.conv_transpose2d(x, weights["kernel"], weights.get("bias"), stride)


def _batch_norm(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    return torch.nn.functional.batch_norm(
        inputs[0],
        weights["moving_mean"],
        weights["moving_variance"],
        weights["gamma"],
        weights["beta"],
        training,
        1 - call.layer.momentum,
        call.layer.epsilon,
    )


def _relu(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    if call.layer.max_value is None:
        return torch.relu(inputs[0])
    # Not clamp, whose gradient takes four times as long.
    return torch.nn.functional.hardtanh(inputs[0], 0.0, call.layer.max_value)


def _zero_padding(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    (top, bottom), (left, right) = call.layer.padding
    return torch.nn.functional.pad(inputs[0], (left, right, top, bottom))


def _depth_to_space(torch: Any, call: _Call, inputs: Any, weights: Any, training: bool) -> Any:
    """Keras counts the blocks before the channels, `pixel_shuffle` after them."""
    size = call.layer.block_size
    n, channels, height, width = inputs[0].shape
    x = inputs[0].reshape(n, size, size, channels // size**2, height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * size, width * size)


_LAYERS: dict[str, Callable[[Any, _Call, Any, Any, bool], Any]] = {
    "InputLayer": lambda torch, call, inputs, weights, training: inputs[0],
    "Rescaling": lambda torch, call, inputs, weights, training: (
        inputs[0] * call.layer.scale + call.layer.offset
    ),
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "Conv2DTranspose": _transposed,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu,
    "ZeroPadding2D": _zero_padding,
    "Concatenate": lambda torch, call, inputs, weights, training: torch.cat(inputs, dim=1),
    "DepthToSpace": _depth_to_space,
}
