"""The networks, each a row of `ARCHITECTURES`: Keras functional models, fully convolutional.

Every network takes ``(batch, y, x, channels)`` with intensities in [0, 1] and y, x multiples
of its stride, and gives logits ``(batch, y, x, n_classes)``.  Padding to the stride is the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.errors import UserError
from napari_unet_cells.nets.encoders import ENCODERS

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Architecture:
    """A kind of network: how it is built and what its input must be a multiple of."""

    build: Callable[[int, int, Mapping[str, Any]], keras.Model]
    stride: int


def build(name: str, n_classes: int, channels: int = 3, **options: Any) -> keras.Model:
    """Build an untrained network.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`.
    n_classes : int
        Channels of the logits.
    channels : int
        Channels of the input: 1 for grey, 3 for RGB.
    **options
        What the architecture knows besides, such as ``alpha=0.25``.

    Returns
    -------
    keras.Model
        ``(None, None, None, channels)`` to logits ``(None, None, None, n_classes)``.

    Raises
    ------
    UserError
        Where no architecture has this name.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(f"There is no architecture '{name}'. Known are: {known}.")
    return ARCHITECTURES[name].build(n_classes, channels, options)


def _unet_mini(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """Plain U-Net with two poolings, 32-64-128 filters, dropout and nearest upsampling."""
    import keras
    from keras import layers

    def block(x: Any, filters: int) -> Any:
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.Dropout(0.2)(x)
        return layers.Conv2D(filters, 3, activation="relu", padding="same")(x)

    image = keras.Input((None, None, channels))
    full = block(image, 32)
    half = block(layers.MaxPooling2D()(full), 64)
    quarter = block(layers.MaxPooling2D()(half), 128)
    up = block(layers.Concatenate()([layers.UpSampling2D()(quarter), half]), 64)
    up = block(layers.Concatenate()([layers.UpSampling2D()(up), full]), 32)
    logits = layers.Conv2D(n_classes, 1, name="logits")(up)
    return keras.Model(image, logits, name="unet_mini")


def _mobilenet_unet(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """MobileNet v1 encoder, decoder of plain 3x3 convolutions, sub-pixel head.

    Plain convolutions after 2x2 transposed ones train a third faster on a CPU than
    separable ones after bilinear upsampling, and a head at half resolution
    (a 1x1 convolution to 4 x classes, then depth-to-space; Shi et al. 2016) saves the
    most expensive level altogether.
    """
    alpha = float(options.get("alpha", 0.25))
    # 192, 128, 96 filters at strides 8, 4, 2 for alpha 1.
    filters = [max(8, round(width * alpha / 8) * 8) for width in (192, 128, 96)]
    return _encoder_unet("mobilenet", filters, n_classes, channels, options)


def _encoder_unet(
    encoder_name: str,
    filters: list[int],
    n_classes: int,
    channels: int,
    options: Mapping[str, Any],
) -> keras.Model:
    import keras
    from keras import layers, ops

    encoder = ENCODERS[encoder_name]
    backbone = encoder.construct(channels, options)
    features = keras.Model(
        backbone.inputs, [backbone.get_layer(name).output for name in encoder.skips]
    )
    image = keras.Input((None, None, channels))
    scale, offset = encoder.preprocess
    *skips, x = _inlined(features, layers.Rescaling(scale, offset)(image))
    for level, (skip, width) in enumerate(zip(reversed(skips), filters, strict=True)):
        x = layers.Conv2DTranspose(width, 2, strides=2, use_bias=False, name=f"up_{level}")(x)
        x = layers.Concatenate(name=f"join_{level}")([x, skip])
        for step in "ab":
            x = layers.Conv2D(
                width, 3, padding="same", use_bias=False, name=f"decoder_{level}{step}"
            )(x)
            x = layers.BatchNormalization(name=f"decoder_{level}{step}_bn")(x)
            x = layers.ReLU(name=f"decoder_{level}{step}_relu")(x)
    x = layers.Conv2D(4 * n_classes, 1, name="head")(x)
    logits = ops.depth_to_space(x, 2)
    return keras.Model(image, logits, name=f"{encoder_name}_unet")


def _inlined(features: keras.Model, x: Any) -> list[Any]:
    """Apply a functional model layer by layer, so that its layers become the caller's.

    A nested model would hide its layers from `load_encoder_weights` and from freezing.
    """
    outputs: dict[str, Any] = {}
    for layer in features.layers[1:]:
        x = outputs[layer.name] = layer(x)
    return [outputs[tensor._keras_history.operation.name] for tensor in features.outputs]


ARCHITECTURES: dict[str, Architecture] = {
    "unet_mini": Architecture(_unet_mini, stride=4),
    "mobilenet_unet": Architecture(_mobilenet_unet, stride=ENCODERS["mobilenet"].stride),
}


def measure_halo(model: keras.Model, stride: int) -> int:
    """How far, in pixels, an input pixel reaches: the halo that makes tiles exact.

    A strip with one pixel that is not a number shows it: every output that depends on the
    pixel is not a number either, whatever the weights are.

    Parameters
    ----------
    model : keras.Model
        Takes (batch, y, x, channels).
    stride : int
        Pixels; the result is a multiple of it.

    Returns
    -------
    int
        Pixels on the farther side, rounded up to the stride.
    """
    import keras

    length = 1024
    middle = length // 2
    strips = np.zeros((stride, 2 * stride, length, model.input_shape[-1]), np.float32)
    for phase in range(stride):
        strips[phase, :, middle + phase] = np.nan
    # Not on a GPU: its fast convolutions (Winograd, FFT) spread NaN over whole blocks.
    with keras.device("cpu:0"):
        logits = keras.ops.convert_to_numpy(model(strips, training=False))
    reached = np.isnan(logits).any(axis=(1, 3))
    first, last = np.flatnonzero(reached.any(axis=0))[[0, -1]]
    # From the edges of the pixel's own stride cell, since tiles begin at multiples of it.
    reach = max(middle - first, last + 1 - (middle + stride))
    return int(np.ceil(reach / stride) * stride)
