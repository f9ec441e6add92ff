"""Encoders: a table of backbones and of the layers whose outputs the decoder joins.

A new encoder is a row of `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.errors import UserError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Encoder:
    """A backbone of `keras.applications` and where its features are taken.

    Attributes
    ----------
    construct : callable (channels, options) -> keras.Model
        Builds the backbone for input (None, None, channels), without weights.
    skips : tuple of str
        Layers at strides 2, 4, 8, ...; the last one is the bottom of the U.
    preprocess : (scale, offset)
        Maps the [0, 1] of this project to what the pretrained weights saw.
    """

    construct: Callable[[int, Mapping[str, Any]], keras.Model]
    skips: tuple[str, ...]
    preprocess: tuple[float, float]

    @property
    def stride(self) -> int:
        """Pixels of the input a pixel of the bottom stands for."""
        return int(2 ** len(self.skips))


def _mobilenet(channels: int, options: Mapping[str, Any]) -> keras.Model:
    import keras

    return keras.applications.MobileNet(
        input_shape=(None, None, channels),
        alpha=float(options.get("alpha", 0.25)),
        include_top=False,
        weights=None,
    )


ENCODERS: dict[str, Encoder] = {
    # Stops at conv_pw_11: with conv_pw_13 the field of view, and with it the halo of every
    # tile, grows from 160 to 256 pixels (design, decision 2).
    "mobilenet": Encoder(
        construct=_mobilenet,
        skips=("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu"),
        preprocess=(2.0, -1.0),
    ),
}


def load_encoder_weights(model: keras.Model, path: str | Path) -> int:
    """Copy pretrained weights into the layers of the same names.

    Parameters
    ----------
    model : keras.Model
        Any model that holds the encoder's layers.
    path : str or Path
        An ``.npz`` whose keys are ``LAYER/VARIABLE``, such as ``conv1/kernel``.

    Returns
    -------
    int
        How many arrays were copied.

    Raises
    ------
    UserError
        Where the file is missing or not an ``.npz``, where no layer or one of another
        shape carries a name of the file.
    """
    try:
        arrays = dict(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as pretrained weights (.npz): {error}.") from error
    copied = 0
    for layer in model.layers:
        for variable in layer.weights:
            value = arrays.get(f"{layer.name}/{variable.name}")
            if value is None:
                continue
            if tuple(variable.shape) != value.shape:
                raise UserError(
                    f"{path} does not fit the network: {layer.name}/{variable.name} is "
                    f"{value.shape} in the file and {tuple(variable.shape)} in the network. "
                    "Choose the file of the same alpha, and three input channels."
                )
            variable.assign(value)
            copied += 1
    if copied == 0:
        raise UserError(f"{path} holds no weights for the layers of this network.")
    return copied
