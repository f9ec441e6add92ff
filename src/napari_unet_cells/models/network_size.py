"""Count the weights of a network by its Keras configuration, without Keras.

Keras fills the arrays of a layer before it looks whether the file holds as many numbers, so a
file of a few kilobytes could ask for all memory there is. A convolution has::

    kernel height x kernel width x channels of its input x filters
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from napari_unet_cells.untrusted.rules import (
    Fields,
    Malformed,
    Rule,
    either,
    items,
    one_of,
    printable,
    whole,
)

#: Pixels, and times: ours are 7 at most, and a stride of 64 is the largest that a card may state.
_MOST_STEPS = 64

#: Of a layer; ours have 4096 at most.
_MOST_FILTERS = 65_536

_STEPS = either(whole(0, _MOST_STEPS), items(whole(0, _MOST_STEPS), 1, 2))

#: Values of a layer's configuration that multiply what it computes or keeps.
_BOUNDS: Mapping[str, Rule[Any]] = {
    "filters": whole(1, _MOST_FILTERS),
    "depth_multiplier": whole(1, _MOST_STEPS),
    "kernel_size": _STEPS,
    "strides": _STEPS,
    "pool_size": _STEPS,
    "size": _STEPS,
    "block_size": whole(1, _MOST_STEPS),
    "padding": either(
        one_of(("same", "valid")), _STEPS, items(items(whole(0, _MOST_STEPS), 2, 2), 2, 2)
    ),
}


def check_network_size(config: Any, weights: int) -> None:
    """Refuse a network with layers that none of ours has, or with more weights than its file.

    Parameters
    ----------
    config : JSON
        ``config.json`` of a `.keras` file.
    weights : int
        Bytes of its ``model.weights.h5``.

    Raises
    ------
    Malformed
    """
    layers = [(_name(layer), _values(layer), layer) for layer in _objects(config)]
    widest = max((values.get("filters", 1) for _, values, _ in layers), default=1)
    asked = sum(_weights(values, _channels(layer, widest)) for _, values, layer in layers)
    # Weights of any type take a byte at least.
    if asked > weights:
        raise Malformed(f"its layers have {asked:,} weights, and its file has {weights:,} bytes")


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Iterate over all that Keras makes objects of, wherever it lies."""
    pending: list[Any] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
            if "class_name" in value:
                yield value
        elif isinstance(value, list):
            pending.extend(value)


def _name(layer: Mapping[str, Any]) -> str:
    return printable(str(layer.get("name", layer["class_name"])), 60)


def _values(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of a layer that multiply, checked."""
    try:
        values = Fields(layer.get("config") or {})
        return {name: values.take(name, _BOUNDS[name]) for name in _BOUNDS if name in values}
    except Malformed as error:
        raise error.within(f"the layer {_name(layer)}:") from error


def _weights(values: Mapping[str, Any], channels: int) -> int:
    """Count the weights of the kernel of a convolution; 0 for a layer without one."""
    if "kernel_size" not in values:
        return 0
    sides = values["kernel_size"]
    area = sides**2 if isinstance(sides, int) else math.prod((*sides, *sides)[:2])
    filters = values.get("filters", values.get("depth_multiplier", 1))
    return int(area * channels * filters)


def _channels(layer: Mapping[str, Any], widest: int) -> int:
    """Give the channels for which a layer is built; where none are said, as many as any has."""
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, dict) else None
    last = shape[-1] if isinstance(shape, list) and shape else None
    return last if isinstance(last, int) and last > 0 else widest
