"""The networks, each a row of `ARCHITECTURES`: Keras functional models, fully convolutional.

Every network takes ``(batch, y, x, channels)`` with intensities in [0, 1] and y, x multiples
of its stride, and gives logits ``(batch, y, x, n_classes)``.  Padding to the stride is the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import MAX_CHANNELS, MAX_CLASSES, ModelCard
from napari_unet_cells.models.encoders import ENCODERS, load_encoder_weights
from napari_unet_cells.models.runtimes.library import claim_any
from napari_unet_cells.untrusted.rules import (
    Fields,
    Malformed,
    items,
    number,
    printable,
    shown,
    whole,
)

if TYPE_CHECKING:
    import keras


#: Times the width of a MobileNet: narrower a layer of 32 filters would have none, and wider nobody
#: has any.
NARROWEST, WIDEST = 1 / 32, 4


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes
    ----------
    build : callable (n_classes, channels, options) -> keras.Model
    stride : int
        Pixels; the sides of the input must be multiples of it.
    bytes_per_pixel : int
        A little more than a tile of 1024 x 1024 was measured to take, forward, on the CPU.
    encoder : str or None
        A name of `ENCODERS`, for pretrained weights.
    options : mapping
        Further options of `build` with their defaults.
    """

    build: Callable[[int, int, Mapping[str, Any]], keras.Model]
    stride: int
    bytes_per_pixel: int
    encoder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def build(name: str, n_classes: int, channels: int = 3, **options: Any) -> keras.Model:
    """Build an untrained network.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`.
    n_classes : int
        Channels of the logits, 2 to `MAX_CLASSES`.
    channels : int
        Channels of the input: 1 for grey, 3 for RGB, at most `MAX_CHANNELS`.
    **options
        What the architecture knows besides, such as ``alpha=0.25``.

    Returns
    -------
    keras.Model
        ``(None, None, None, channels)`` to logits ``(None, None, None, n_classes)``.

    Raises
    ------
    UserError
        Where no architecture has this name, or there are too few or many classes or channels.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UserError(f"There is no architecture '{name}'. Known are: {known}.")
    if not 2 <= n_classes <= MAX_CLASSES or not 1 <= channels <= MAX_CHANNELS:
        raise UserError(
            f"A network has 2 to {MAX_CLASSES} classes and 1 to {MAX_CHANNELS} channels, not "
            f"{n_classes} and {channels}."
        )
    check_options(name, options)
    claim_any()
    return ARCHITECTURES[name].build(n_classes, channels, options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that no network can have, as a stranger's card may state them.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES`.
    options : mapping
        Of `build`.

    Raises
    ------
    UserError
    """
    values = Fields(options)
    try:
        values.optional("alpha", number(NARROWEST, WIDEST))
        values.optional("decoder", items(whole(1, 4096), 3, 3))
    except Malformed as error:
        raise UserError(f"There is no such {name}: its {error}.") from error


def load_pretrained(
    model: keras.Model, name: str, source: str | Path, options: Mapping[str, Any]
) -> int:
    """Copy pretrained weights into the encoder of a network; see `load_encoder_weights`.

    Parameters
    ----------
    model : keras.Model
        Of the architecture `name`, built with `options`.
    name : str
    source : str or Path
        A file, or "imagenet".
    options : mapping
    """
    encoder = ENCODERS.get(ARCHITECTURES[name].encoder or "")
    return load_encoder_weights(model, source, encoder, options)


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


def _unet(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """U-Net of Ronneberger et al., MICCAI 2015: 64 to 1024 filters, no batch normalisation.

    Unlike theirs its convolutions are padded, so that the logits have the input's size.
    """
    import keras
    from keras import layers

    def conv(x: Any, filters: int, name: str) -> Any:
        for step in "ab":
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"{name}{step}",
            )(x)
        return x

    image = x = keras.Input((None, None, channels))
    skips = []
    for level, filters in enumerate((64, 128, 256, 512)):
        skip = conv(x, filters, f"encoder_{level}")
        skips.append((skip, filters))
        x = layers.MaxPooling2D(name=f"pool_{level}")(skip)
    x = layers.Dropout(0.5, name="dropout")(conv(x, 1024, "bottom_"))
    for level, (skip, filters) in enumerate(reversed(skips)):
        x = layers.Conv2DTranspose(
            filters, 2, strides=2, kernel_initializer="he_normal", name=f"up_{level}"
        )(x)
        x = layers.Concatenate(name=f"join_{level}")([x, skip])
        x = conv(x, filters, f"decoder_{level}")
    logits = layers.Conv2D(n_classes, 1, name="logits")(x)
    return keras.Model(image, logits, name="unet")


def _mobilenet_unet(n_classes: int, channels: int, options: Mapping[str, Any]) -> keras.Model:
    """MobileNet v1 encoder, decoder of plain 3x3 convolutions, sub-pixel head.

    Plain convolutions after 2x2 transposed ones train a third faster on a CPU than
    separable ones after bilinear upsampling, and a head at half resolution
    (a 1x1 convolution to 4 x classes, then depth-to-space; Shi et al. 2016) saves the
    most expensive level altogether.
    """
    alpha = float(options.get("alpha", 0.25))
    # 192, 128, 96 filters at strides 8, 4, 2 for alpha 1, where nothing else is said.
    usual = [max(8, round(width * alpha / 8) * 8) for width in (192, 128, 96)]
    filters = [int(width) for width in options.get("decoder") or usual]
    return encoder_unet("mobilenet", filters, n_classes, channels, options)


def encoder_unet(
    encoder_name: str,
    filters: Sequence[int],
    n_classes: int,
    channels: int,
    options: Mapping[str, Any],
) -> keras.Model:
    """Build a U-Net on a pretrained encoder.

    Parameters
    ----------
    encoder_name : str
        A name of `ENCODERS`.
    filters : sequence of int
        Of each level of the decoder, from the bottom up; one less than the encoder has skips.
    n_classes, channels : int
        See `build`.
    options : mapping
        Of the encoder, such as ``{"alpha": 0.25}``.
    """
    import keras
    from keras import layers, ops

    encoder = ENCODERS[encoder_name]
    backbone = encoder.build(channels, options)
    features = keras.Model(
        backbone.inputs, [backbone.get_layer(name).output for name in encoder.skips]
    )
    image = keras.Input((None, None, channels))
    *skips, x = _inlined(features, encoder.preprocess(image, channels))
    for level, (skip, width) in enumerate(zip(reversed(skips), filters, strict=True)):
        x = layers.Conv2DTranspose(width, 2, strides=2, use_bias=False, name=f"up_{level}")(x)
        x = layers.Concatenate(name=f"join_{level}")([x, skip])
        for step in "ab":
            x = layers.Conv2D(
                width, 3, padding="same", use_bias=False, name=f"decoder_{level}{step}"
            )(x)
            x = layers.BatchNormalization(name=f"decoder_{level}{step}_bn")(x)
            x = layers.ReLU(name=f"decoder_{level}{step}_relu")(x)
    size = encoder.first_stride
    x = layers.Conv2D(size**2 * n_classes, 1, name="head")(x)
    logits = ops.depth_to_space(x, size) if size > 1 else x
    return keras.Model(image, logits, name=f"{encoder_name}_unet")


def _inlined(features: keras.Model, x: Any) -> list[Any]:
    """Apply a functional model layer by layer, so that its layers become the caller's.

    A nested model would hide its layers from `load_encoder_weights` and from freezing.
    """
    outputs = {features.layers[0].name: x}
    for layer in features.layers[1:]:
        before = layer._inbound_nodes[0].input_tensors
        inputs = [outputs[tensor._keras_history.operation.name] for tensor in before]
        outputs[layer.name] = layer(inputs if len(inputs) > 1 else inputs[0])
    return [outputs[tensor._keras_history.operation.name] for tensor in features.outputs]


def _row(
    encoder: str, build: Callable[..., keras.Model], bytes_per_pixel: int, **options: Any
) -> Architecture:
    return Architecture(build, ENCODERS[encoder].stride, bytes_per_pixel, encoder, options)


ARCHITECTURES: dict[str, Architecture] = {
    "unet_mini": Architecture(_unet_mini, stride=4, bytes_per_pixel=950),
    "unet": Architecture(_unet, stride=16, bytes_per_pixel=1600),
    "mobilenet_unet": _row("mobilenet", _mobilenet_unet, 450, alpha=0.25),  # alpha 1.0
    # Narrower decoders than the U-Net of 2015 has: the skips are as wide as its own or wider.
    "resnet50_unet": _row("resnet50", partial(encoder_unet, "resnet50", (256, 128, 64)), 550),
    "vgg16_unet": _row("vgg16", partial(encoder_unet, "vgg16", (256, 128, 64, 32)), 1100),
}


def unknown_architecture(card: ModelCard) -> str:
    """Say what a model of an architecture that is not known here cannot do.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    str
        Two sentences; empty where the architecture is known.
    """
    if card.architecture in ARCHITECTURES:
        return ""
    return (
        f"The model {printable(card.name)} is of an architecture that this version does not know "
        f"({shown(card.architecture)}). It segments, and cannot be retrained."
    )


def measure_halo(model: keras.Model, stride: int) -> int:
    """Measure how far, in pixels, an input pixel reaches: the halo that makes tiles exact.

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
    # The first pixel of a stride cell reaches farthest to the left, the last one to the right.
    strips = np.zeros((2, stride, length, model.input_shape[-1]), np.float32)
    for strip, pixel in zip(strips, (middle, middle + stride - 1), strict=True):
        strip[:, pixel] = np.nan
    # A maximum may drop what is not a number, an average does not.
    probe = keras.models.model_from_json(
        model.to_json().replace('"MaxPooling2D"', '"AveragePooling2D"')
    )
    # Not on a GPU: its fast convolutions (Winograd, FFT) spread NaN over whole blocks.
    with keras.device("cpu:0"):
        logits = keras.ops.convert_to_numpy(probe(strips, training=False))
    first, last = np.flatnonzero(np.isnan(logits).any(axis=(0, 1, 3)))[[0, -1]]
    # From the edges of the pixel's own stride cell, since tiles begin at multiples of it.
    reach = max(middle - first, last + 1 - (middle + stride))
    return int(np.ceil(reach / stride) * stride)
