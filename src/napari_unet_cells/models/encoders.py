"""Encoders: a table of backbones and of the layers whose outputs the decoder joins.

A new encoder is a row of `ENCODERS`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import read_card
from napari_unet_cells.models.catalogue import load_model
from napari_unet_cells.models.loading_problem import loading_problem
from napari_unet_cells.untrusted.arrays import read_arrays
from napari_unet_cells.untrusted.rules import Malformed

if TYPE_CHECKING:
    import keras

#: Instead of a file: the weights that `keras.applications` offers.
IMAGENET = "imagenet"

#: Files that only Keras can read into a backbone.
KERAS_SUFFIXES = frozenset({".h5", ".hdf5"})


@dataclass(frozen=True)
class Encoder:
    """A backbone of `keras.applications` and where its features are taken.

    Attributes
    ----------
    construct : callable (channels, options, weights) -> keras.Model
        Builds the backbone for input (None, None, channels). `weights` is None, the path of
        a Keras file, or `IMAGENET`, which Keras downloads.
    skips : tuple of str
        Layers, each at twice the stride of the one before; the last is the bottom of the U.
    preprocess : callable (tensor, channels) -> tensor
        Maps the [0, 1] of this project to what the pretrained weights saw.
    first_stride : int
        Pixels of the input a pixel of the first skip stands for.
    """

    construct: Callable[[int, Mapping[str, Any], str | None], keras.Model]
    skips: tuple[str, ...]
    preprocess: Callable[[Any, int], Any]
    first_stride: int = 2

    @property
    def stride(self) -> int:
        """Pixels of the input a pixel of the bottom stands for."""
        return int(self.first_stride * 2 ** (len(self.skips) - 1))

    def build(
        self, channels: int, options: Mapping[str, Any], weights: str | None = None
    ) -> keras.Model:
        """Build the backbone without Keras' advice on input shapes: ours takes any."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.construct(channels, options, weights)


def _mobilenet(channels: int, options: Mapping[str, Any], weights: str | None) -> keras.Model:
    import keras

    return keras.applications.MobileNet(
        input_shape=(None, None, channels),
        alpha=float(options.get("alpha", 0.25)),
        include_top=False,
        weights=weights,
    )


def _resnet50(channels: int, options: Mapping[str, Any], weights: str | None) -> keras.Model:
    import keras

    return keras.applications.ResNet50(
        input_shape=(None, None, channels), include_top=False, weights=weights
    )


def _vgg16(channels: int, options: Mapping[str, Any], weights: str | None) -> keras.Model:
    import keras

    return keras.applications.VGG16(
        input_shape=(None, None, channels), include_top=False, weights=weights
    )


def _signed(image: Any, channels: int) -> Any:
    """Scale [0, 1] to [-1, 1], as MobileNet saw it."""
    from keras import layers

    return layers.Rescaling(2.0, -1.0)(image)


def _blue_green_red(image: Any, channels: int) -> Any:
    """Scale [0, 1] to blue, green, red minus the means of ImageNet, as Caffe's networks saw it.

    Images of other channels than RGB lose the mean of the three.
    """
    from keras import layers, ops

    means = (103.939, 116.779, 123.68)
    if channels != 3:
        return layers.Rescaling(255.0, -sum(means) / 3)(image)
    return layers.Rescaling(255.0, [-mean for mean in means])(ops.flip(image, axis=-1))


ENCODERS: dict[str, Encoder] = {
    # Stops at conv_pw_11: with conv_pw_13 the field of view, and with it the halo of every
    # tile, grows from 160 to 256 pixels (docs/architecture.md, 2).
    "mobilenet": Encoder(
        construct=_mobilenet,
        skips=("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu"),
        preprocess=_signed,
    ),
    # Stops at conv4: conv5 would widen the halo from 176 to 320 pixels.
    "resnet50": Encoder(
        construct=_resnet50,
        skips=("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out"),
        preprocess=_blue_green_red,
    ),
    "vgg16": Encoder(
        construct=_vgg16,
        skips=(
            "block1_conv2",
            "block2_conv2",
            "block3_conv3",
            "block4_conv3",
            "block5_conv3",
        ),
        preprocess=_blue_green_red,
        first_stride=1,
    ),
}


def load_encoder_weights(
    model: keras.Model,
    source: str | Path,
    encoder: Encoder | None = None,
    options: Mapping[str, Any] | None = None,
) -> int:
    """Copy pretrained weights into the layers of the same names.

    Where the network does not have three channels, the first kernel is averaged over those of
    the file, so that its answer to a grey image stays the same.

    Parameters
    ----------
    model : keras.Model
        Any model that holds the encoder's layers.
    source : str or Path
        An ``.npz`` whose keys are ``LAYER/VARIABLE``, such as ``conv1/kernel``; a file of
        `keras.applications` (``..._no_top.h5``); `IMAGENET`; or a ``.keras`` model of this
        program, of which decoder and head are taken too.
    encoder : Encoder, optional
        Of the model. Only an ``.npz`` can be read without.
    options : mapping, optional
        Of the architecture, such as ``{"alpha": 0.25}``.

    Returns
    -------
    int
        How many arrays were copied.

    Raises
    ------
    UserError
        Where the file is missing or of another kind, where no layer or one of another
        shape carries a name of the file, or where `IMAGENET` cannot be downloaded.
    """
    arrays = _read_weights(str(source), encoder, options or {})
    copied = 0
    for layer in model.layers:
        for variable in layer.weights:
            value = arrays.get(f"{layer.name}/{variable.name}")
            if value is None:
                continue
            shape = tuple(variable.shape)
            with np.errstate(over="ignore"):  # becomes infinite, which is refused
                value = _for_channels(value, shape).astype(np.float32)
            if shape != value.shape:
                raise UserError(
                    f"{source} does not fit the network: {layer.name}/{variable.name} is "
                    f"{value.shape} in the file and {shape} in the network. Choose the file of "
                    "the same architecture, and for a MobileNet of the same alpha."
                )
            if not np.isfinite(value).all():
                raise UserError(
                    f"{source} holds numbers that are none (NaN or infinite) in "
                    f"{layer.name}/{variable.name}. Copy it again from where it came from."
                )
            variable.assign(value)
            copied += 1
    if copied == 0:
        raise UserError(f"{source} holds no weights for the layers of this network.")
    return copied


def _for_channels(kernel: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Turn a kernel (y, x, 3, filters) for colours into one for another number of channels."""
    height, width, channels, filters = shape if len(shape) == 4 else (0, 0, 0, 0)
    if channels == 3 or kernel.shape != (height, width, 3, filters):
        return kernel
    mean = kernel.mean(axis=2, keepdims=True) * (3 / channels)
    return np.repeat(mean, channels, axis=2)


def _read_weights(
    source: str, encoder: Encoder | None, options: Mapping[str, Any]
) -> Mapping[str, NDArray[Any]]:
    """Arrays by ``LAYER/VARIABLE``."""
    if Path(source).suffix == ".keras":
        return _by_name(load_model(read_card(Path(source))))
    if source == IMAGENET or Path(source).suffix in KERAS_SUFFIXES:
        if encoder is None:
            raise UserError(
                f"This architecture has no encoder that {source} could be loaded into. Train it "
                "without pretrained weights, or choose an architecture such as mobilenet_unet."
            )
        return _by_name(_pretrained(encoder, source, options))
    try:
        return read_arrays(Path(source))
    except (OSError, Malformed) as error:
        raise UserError(
            f"{source} cannot be read as pretrained weights (.npz): {error}."
        ) from error


def _by_name(model: keras.Model) -> dict[str, NDArray[Any]]:
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable)
        for layer in model.layers
        for variable in layer.weights
    }


def _pretrained(encoder: Encoder, source: str, options: Mapping[str, Any]) -> keras.Model:
    if source != IMAGENET and not os.path.isfile(source):
        raise UserError(f"{source} cannot be read as pretrained weights: there is no such file.")
    try:
        return encoder.build(3, options, source)
    except Exception as error:  # of Keras, h5py or the network
        raise UserError(_why_not(source, error)) from error


def _why_not(source: str, error: Exception) -> str:
    if source != IMAGENET:
        return (
            f"{source} cannot be read as pretrained weights of this encoder: "
            f"{loading_problem(error, 'its layers are others')}. Choose the file of "
            "keras.applications for the same network, the one without top."
        )
    why = str(error).partition("\n")[0].rstrip(".:")
    if isinstance(error, ValueError):  # an alpha for which there are none
        return f"These ImageNet weights cannot be used: {why}."
    cache = Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))) / "models"
    return (
        f"The ImageNet weights could not be downloaded: {why}. Without a network, fetch that "
        f"file on another computer and put it into {cache}, or name it with --init FILE."
    )
