"""Fold batch norms that keep their statistics into the convolutions before them.

Such a batch norm scales and shifts each channel. The kernel can do the former and the bias the
latter, so that a step does not go through the pixels for it::

    norm(x * kernel) = x * (kernel s) + (beta - mean s)        s = gamma / sqrt(variance + eps)

What is learned stays the kernel, in 32 bits: s is computed in every step. Where the processor
multiplies bfloat16, convolutions take it; depthwise ones do not, whose gradients TensorFlow
computes in it in eight times the time.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

BRIEF, FULL = "bfloat16", "float32"


def fold(model: keras.Model, brief: bool) -> keras.Model:
    """Give a network of the same variables that computes the same logits in less time.

    Parameters
    ----------
    model : keras.Model
        Functional. Its batch norms may be learned, but not their means and variances.
    brief : bool
        Whether convolutions compute in bfloat16.
    """
    import keras
    from keras import layers, ops

    followers = _followers(model)
    folded: set[str] = set()

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if layer.name in folded:
            return inputs[0]
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Conv2DTranspose):
            norm, activation = _after(layer, followers)
            folded.update(one.name for one in (norm, activation) if one is not None)
            return _folded_class()(layer, norm, activation, brief)(inputs[0])
        if isinstance(layer, layers.Concatenate):
            joined = [ops.cast(tensor, BRIEF if brief else FULL) for tensor in inputs[0]]
            return ops.concatenate(joined, axis=layer.axis)
        return layer(*(_in_full(tensor) for tensor in inputs), **options)

    network = keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=call
    )
    return keras.Model(network.inputs[0], _in_full(network.outputs[0]))


@functools.cache
def _folded_class() -> type:
    """Make the class when it is needed, since its base is one of Keras."""
    import keras
    from keras import layers, ops

    class _Folded(layers.Layer):  # type: ignore[misc]
        """A convolution with what follows it; it has no variables of its own."""

        def __init__(self, convolution: Any, norm: Any, activation: Any, brief: bool) -> None:
            super().__init__(name=f"{convolution.name}_folded", dtype=FULL, autocast=False)
            self.convolution, self.norm, self.activation = convolution, norm, activation
            self._depthwise = isinstance(convolution, layers.DepthwiseConv2D)
            self._type = BRIEF if brief and not self._depthwise else FULL
            self.built = True

        def call(self, x: Any) -> Any:
            """Compute convolution, batch norm and activation."""
            layer = self.convolution
            kernel, bias = layer.kernel, layer.bias if layer.use_bias else None
            if self.norm is not None:
                kernel, bias = self._normalized(kernel, bias)
            convolve = {layers.Conv2DTranspose: ops.conv_transpose}.get(
                type(layer), ops.depthwise_conv if self._depthwise else ops.conv
            )
            x = convolve(
                ops.cast(x, self._type),
                ops.cast(kernel, self._type),
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
            )
            if bias is not None:
                x = x + ops.cast(bias, self._type)
            x = layer.activation(x)
            return x if self.activation is None else _activated(x, self.activation)

        def _normalized(self, kernel: Any, bias: Any) -> tuple[Any, Any]:
            norm = self.norm
            scale = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
            shift = norm.beta - norm.moving_mean * scale
            if bias is not None:
                shift = shift + bias * scale
            # The outputs are the last axis of a kernel; of a depthwise one the last but one.
            return kernel * (scale[:, None] if self._depthwise else scale), shift

        def compute_output_spec(self, x: Any) -> Any:
            """Say shape and type of what `call` returns."""
            return keras.KerasTensor(self.convolution.compute_output_shape(x.shape), self._type)

    return _Folded


def _activated(x: Any, activation: Any) -> Any:
    from keras import ops

    return ops.relu6(x) if activation.max_value else ops.relu(x)


def _after(layer: Any, followers: dict[str, list[Any]]) -> tuple[Any, Any]:
    """Give the batch norm and the ReLU that alone follow a convolution, or None."""
    import keras
    from keras import layers

    norm = _only(followers[layer.name], layers.BatchNormalization)
    if (
        isinstance(layer, layers.Conv2DTranspose)
        or layer.activation is not keras.activations.linear
    ):
        norm = None
    if isinstance(layer, layers.DepthwiseConv2D) and layer.depth_multiplier != 1:
        norm = None
    if norm is None or not (norm.center and norm.scale):
        return None, None
    activation = _only(followers[norm.name], layers.ReLU)
    plain = (
        activation is not None
        and activation.max_value in (None, 6)
        and not (activation.negative_slope or activation.threshold)
    )
    return norm, activation if plain else None


def _only(found: list[Any], kind: type) -> Any:
    return found[0] if len(found) == 1 and isinstance(found[0], kind) else None


def _followers(model: keras.Model) -> dict[str, list[Any]]:
    """List for each operation of a network those that read what it gives."""
    followers: dict[str, list[Any]] = {operation.name: [] for operation in model.operations}
    # Of this network only: a layer may have been called before, in the one it was taken from.
    for node in (node for nodes in model._nodes_by_depth.values() for node in nodes):
        for tensor in node.input_tensors:
            followers[tensor._keras_history.operation.name].append(node.operation)
    return followers


def _in_full(tensor: Any) -> Any:
    import keras
    from keras import ops

    brief = isinstance(tensor, keras.KerasTensor) and tensor.dtype == BRIEF
    return ops.cast(tensor, FULL) if brief else tensor
