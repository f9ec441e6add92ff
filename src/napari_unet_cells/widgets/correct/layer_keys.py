"""Bind keys of a layer for a while, and give it back those that it had."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.layers import Layer

Pressed = Callable[..., Any]


def bind(layer: Layer, keys: Mapping[str, Pressed]) -> dict[str, Pressed | None]:
    """Bind keys, and give what they did before; see `bind_again`."""
    return {key: layer.bind_key(key, pressed, overwrite=True) for key, pressed in keys.items()}


def bind_again(layer: Layer, keys: Mapping[str, Pressed | None]) -> None:
    """Give a layer the keys back that it had before; None for those it had not."""
    for key, before in keys.items():
        layer.bind_key(key, before, overwrite=True)
