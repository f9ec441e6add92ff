"""A Keras network in PyTorch: layer by layer, with weights that are copied from it and back.

The one implementation in PyTorch, for trainings and for predictions; the model file stays one of
Keras. Keras on PyTorch computes the same and takes longer (docs/architecture.md, 15).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.runtimes.torch import cpu_multiplies_bfloat16, import_torch

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


class TorchNetwork:
    """A network in PyTorch that takes its form and its weights from a Keras model.

    Parameters
    ----------
    model : keras.Model
        Functional; it is not changed.
    device : str
        As PyTorch names it, such as "cpu".

    Attributes
    ----------
    half : bool
        Whether calls compute in bfloat16.
    norms_learn : bool
        Whether the batch norms use the statistics of the batch, and remember them, in a training.
    momentum : float or None
        Of those statistics; None for that of the layers.

    Raises
    ------
    UserError
        Where PyTorch is not installed, or the model has layers that are not in `_LAYERS`.
    """

    def __init__(self, model: keras.Model, device: str) -> None:
        self._torch = import_torch()
        self.device = device
        self.norms_learn = True
        self.momentum: float | None = None
        self.half = device == "cuda" or (device == "cpu" and cpu_multiplies_bfloat16())
        self._calls = _calls_of(model.outputs[0])
        unknown = sorted({c.kind for c in self._calls if c.kind not in _LAYERS})
        if unknown:
            raise UserError(
                f"PyTorch cannot compute this network: its layers {', '.join(unknown)} are known "
                "to TensorFlow only. Choose TensorFlow."
            )
        self._slots = [_Slot(call, name) for call, name in _weights_of(model, self._calls)]
        self._values: dict[str, Any] = {}
        self.set_weights(model.get_weights())

    @property
    def parameters(self) -> list[Any]:
        """Trainable weights as tensors, in the order of Keras."""
        return self.parameters_of()

    def parameters_of(self, frozen: Collection[str] = (), kinds: Collection[str] = ()) -> list[Any]:
        """Give the trainable weights of the layers whose names and classes are not frozen.

        Parameters
        ----------
        frozen : collection of str
            Names of layers.
        kinds : collection of str
            Names of classes of layers.
        """
        return [
            self._values[slot.key]
            for slot in self._slots
            if slot.is_learned and slot.layer not in frozen and slot.kind not in kinds
        ]

    @property
    def statistics(self) -> list[tuple[Any, Any]]:
        """Mean and variance of each batch norm, as the tensors that it computes with."""
        return [
            (self._values[f"{call.name}/moving_mean"], self._values[f"{call.name}/moving_variance"])
            for call in self._calls
            if call.kind == "BatchNormalization"
        ]

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
            tensor = array.to(self.device)
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            self._values[slot.key] = tensor.requires_grad_(slot.is_learned)

    def __call__(self, images: NDArray[np.float32], training: bool) -> Any:
        """Compute logits, where the processor does it faster in bfloat16.

        Parameters
        ----------
        images : float32 array, (n, y, x, channels)
        training : bool

        Returns
        -------
        float32 tensor, (n, y, x, outputs)
        """
        # Without a copy: axes in another order, which PyTorch calls channels last.
        x = self.tensor(images).permute(0, 3, 1, 2)
        with self._torch.autocast(self.device, self._torch.bfloat16, enabled=self.half):
            logits = self._computed(x, training)
        return logits.float().permute(0, 2, 3, 1)

    def planes(self, x: Any) -> Any:
        """Compute the logits (n, outputs, y, x) of a tensor (n, channels, y, x), as it is."""
        return self._computed(x, training=False)

    def _computed(self, x: Any, training: bool) -> Any:
        results: dict[str, Any] = {}
        last = {name: call for call in self._calls for name in call.inputs}
        for call in self._calls:
            inputs = [results[name] for name in call.inputs] or [x]
            weights = {name: self._values[f"{call.name}/{name}"] for name in call.weights}
            results[call.name] = _LAYERS[call.kind](self, call, inputs, weights, training)
            for name in call.inputs:
                if last[name] is call:  # nobody reads it any more
                    results.pop(name, None)
        return results[self._calls[-1].name]

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits of images, as the model does where it is used."""
        with self._torch.no_grad():
            logits: NDArray[np.float32] = self(images, training=False).cpu().numpy()
        return logits

    def tensor(self, array: NDArray[Any]) -> Any:
        """Bring an array to where the network is computed."""
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def fold_norms(self) -> None:
        """Make each batch norm part of the convolution before it; afterwards nothing is learned.

        With ``s = gamma / sqrt(variance + epsilon)`` a convolution of ``s kernel`` and of the bias
        ``beta + s (bias - mean)`` gives what the batch norm made of it.
        """
        torch = self._torch
        readers = [name for call in self._calls for name in call.inputs]
        by_name = {call.name: call for call in self._calls}
        with torch.no_grad():
            for norm in self._calls:
                before = by_name.get(norm.inputs[0]) if norm.inputs else None
                if (
                    norm.kind != "BatchNormalization"
                    or before is None
                    or before.kind not in _KERNELS
                    or before.activation != "linear"
                    or readers.count(before.name) > 1
                ):
                    continue
                values = [self._values.pop(f"{norm.name}/{name}") for name in norm.weights]
                weight = dict(zip(norm.weights, values, strict=True))
                mean, variance = weight["moving_mean"], weight["moving_variance"]
                scale = weight.get("gamma", 1.0) / (variance + norm.layer.epsilon).sqrt()
                kernel = self._values[f"{before.name}/kernel"]
                filters = (1, -1, 1, 1) if before.kind == "Conv2DTranspose" else (-1, 1, 1, 1)
                kernel.mul_(scale.view(filters))
                bias = self._values.get(f"{before.name}/bias", 0.0)
                folded = weight.get("beta", 0.0) + (bias - mean) * scale
                self._values[f"{before.name}/bias"] = folded.detach()
                before.weights = ["kernel", "bias"]
                norm.kind, norm.weights = "InputLayer", []  # gives what it gets

    def cast(self, dtype: Any) -> None:
        """Hold all weights in another precision; afterwards nothing is learned."""
        self._values = {name: value.detach().to(dtype) for name, value in self._values.items()}


class _Call:
    """One layer of the network: what it is, what it reads, and what its weights are called."""

    def __init__(self, layer: Any, inputs: Sequence[str]) -> None:
        self.name: str = layer.name
        self.kind = type(layer).__name__
        self.layer = layer
        self.inputs = inputs
        self.variables: Sequence[Any] = getattr(layer, "weights", [])
        self.weights: list[str] = [variable.name for variable in self.variables]
        self.activation: str = getattr(getattr(layer, "activation", None), "__name__", "linear")


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
        self.layer, self.kind = call.name, call.kind
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


_Layer = Callable[[TorchNetwork, _Call, list[Any], dict[str, Any], bool], Any]


def _convolution(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    (x,), layer, torch = inputs, call.layer, network._torch
    depthwise = call.kind == "DepthwiseConv2D"
    stride, dilation = layer.strides[0], layer.dilation_rate[0]
    size = dilation * (layer.kernel_size[0] - 1) + 1  # from the first pixel to the last
    padding = 0
    if layer.padding == "same":
        # Of an odd number of missing pixels TensorFlow adds one more at the end.
        missing = max(size - (stride if x.shape[-1] % stride == 0 else x.shape[-1] % stride), 0)
        padding = missing // 2
        if missing % 2:
            x = torch.nn.functional.pad(x, (padding, padding + 1, padding, padding + 1))
            padding = 0
    y = torch.nn.functional.conv2d(
        x,
        weights["kernel"],
        weights.get("bias"),
        stride,
        padding,
        dilation,
        groups=x.shape[1] if depthwise else 1,
    )
    return _ACTIVATIONS[call.activation](torch, y)


def _transposed(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    torch, stride = network._torch, call.layer.strides[0]
    y = torch.nn.functional.conv_transpose2d(
        inputs[0], weights["kernel"], weights.get("bias"), stride
    )
    return _ACTIVATIONS[call.activation](torch, y)


def _batch_norm(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    momentum = call.layer.momentum if network.momentum is None else network.momentum
    return network._torch.nn.functional.batch_norm(
        inputs[0],
        weights["moving_mean"],
        weights["moving_variance"],
        weights.get("gamma"),
        weights.get("beta"),
        training and network.norms_learn,
        1 - momentum,
        call.layer.epsilon,
    )


def _relu(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    if call.layer.max_value is None:
        return network._torch.relu(inputs[0])
    # Not clamp, whose gradient takes four times as long.
    return network._torch.nn.functional.hardtanh(inputs[0], 0.0, call.layer.max_value)


def _zero_padding(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    (top, bottom), (left, right) = call.layer.padding
    return network._torch.nn.functional.pad(inputs[0], (left, right, top, bottom))


def _depth_to_space(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    """Keras counts the blocks before the channels, `pixel_shuffle` after them."""
    size = call.layer.block_size
    n, channels, height, width = inputs[0].shape
    x = inputs[0].reshape(n, size, size, channels // size**2, height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * size, width * size)


def _rescaling(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    def of_channels(value: Any) -> Any:
        made = network._torch.as_tensor(value, dtype=inputs[0].dtype, device=network.device)
        return made.view(-1, 1, 1) if made.ndim else made

    return inputs[0] * of_channels(call.layer.scale) + of_channels(call.layer.offset)


def _max_pooling(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    layer = call.layer
    return network._torch.nn.functional.max_pool2d(inputs[0], layer.pool_size, layer.strides)


def _upsampling(
    network: TorchNetwork, call: _Call, inputs: list[Any], weights: dict[str, Any], training: bool
) -> Any:
    size = [float(factor) for factor in call.layer.size]
    return network._torch.nn.functional.interpolate(inputs[0], scale_factor=size, mode="nearest")


#: Of the layers that have one built in.
_ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda torch, x: x,
    "relu": lambda torch, x: torch.relu(x),
}

_LAYERS: dict[str, _Layer] = {
    "InputLayer": lambda network, call, inputs, weights, training: inputs[0],
    "Rescaling": _rescaling,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "Conv2DTranspose": _transposed,
    "BatchNormalization": _batch_norm,
    "ReLU": _relu,
    "Activation": lambda network, call, inputs, weights, training: _ACTIVATIONS[call.activation](
        network._torch, inputs[0]
    ),
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _max_pooling,
    "UpSampling2D": _upsampling,
    "Dropout": lambda network, call, inputs, weights, training: (
        network._torch.nn.functional.dropout(inputs[0], call.layer.rate, training)
    ),
    "Add": lambda network, call, inputs, weights, training: inputs[0] + inputs[1],
    "Flip": lambda network, call, inputs, weights, training: inputs[0].flip(1),
    "Concatenate": lambda network, call, inputs, weights, training: network._torch.cat(
        inputs, dim=1
    ),
    "DepthToSpace": _depth_to_space,
}
