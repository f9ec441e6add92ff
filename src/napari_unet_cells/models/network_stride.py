"""Stride of a network by its Keras configuration, without Keras.

::

    input ─ conv /2 ─ conv /2 ─ up x2 ─┐          stride 4: the sides of the input must be
       └──────────── /2 ───────────────┴─ logits  multiples of it, or two sides do not meet
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

#: Layers that change the sides, and where they say by how much.
_SMALLER = {"Conv2D": "strides", "DepthwiseConv2D": "strides", "MaxPooling2D": "strides"}
_LARGER = {"Conv2DTranspose": "strides", "UpSampling2D": "size", "DepthToSpace": "block_size"}


def network_stride(config: Any) -> int:
    """Give the largest factor by which a network makes its input smaller; 1 where it is not said.

    Parameters
    ----------
    config : JSON
        ``config.json`` of a `.keras` file.
    """
    reduced: dict[str, Fraction] = {}
    for layer in _layers(config):
        before = max((reduced.get(name, Fraction(1)) for name in _inputs(layer)), default=1)
        reduced[str(layer.get("name"))] = before * _factor(layer)
    return int(max((factor for factor in reduced.values()), default=Fraction(1)))


def _layers(config: Any) -> Iterator[Mapping[str, Any]]:
    """Iterate over the layers in their order: each comes after those that it reads."""
    inner = config.get("config") if isinstance(config, Mapping) else None
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, Mapping):
            yield layer


def _inputs(layer: Mapping[str, Any]) -> Iterator[str]:
    """Names of the layers that a layer reads, wherever they stand among its arguments."""
    pending: list[Any] = [layer.get("inbound_nodes")]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            history = value.get("keras_history")
            if isinstance(history, list) and history:
                yield str(history[0])
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _factor(layer: Mapping[str, Any]) -> Fraction:
    kind, values = layer.get("class_name"), layer.get("config")
    if not isinstance(values, Mapping) or not isinstance(kind, str):
        return Fraction(1)
    if kind in _SMALLER:
        steps = values.get(_SMALLER[kind])
        return _side(steps if steps is not None else values.get("pool_size"))
    return 1 / _side(values.get(_LARGER[kind])) if kind in _LARGER else Fraction(1)


def _side(value: Any) -> Fraction:
    sides = value if isinstance(value, list) else [value]
    whole = [side for side in sides if isinstance(side, int) and 1 <= side <= 64]
    return Fraction(max(whole, default=1))
