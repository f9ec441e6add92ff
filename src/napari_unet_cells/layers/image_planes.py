"""Axes and planes of an image layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.layers.metadata import INPUT, file_of
from napari_unet_cells.layers.protocols import Layer


@dataclass(frozen=True)
class StackAxis:
    """An axis of an image layer before height and width."""

    axis: int
    length: int
    label: str

    @property
    def is_channel(self) -> bool:
        """Whether its name is that of a channel axis."""
        return self.label.lower() in ("c", "channel", "channels")


def stack_axes(layer: Layer) -> tuple[StackAxis, ...]:
    """Axes of a layer besides (y, x) and colour, in order."""
    data = pixels_of(layer)
    n = len(data.shape) - 2 - bool(getattr(layer, "rgb", False))
    labels = tuple(layer.axis_labels)[:n]
    return tuple(
        StackAxis(axis, int(length), str(label))
        for axis, (length, label) in enumerate(zip(data.shape[:n], labels, strict=True))
    )


def pixels_of(layer: Layer) -> ImageArray:
    """Array of an image layer at full resolution; it may be lazy."""
    pixels: ImageArray = layer.data[0] if layer.multiscale else layer.data
    return pixels


def planes_for(layer: Layer, shown: Sequence[int] | None) -> Planes:
    """Planes of an image layer.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int, or None
        Index of the one plane that is segmented, along each axis of `stack_axes`; None
        for all planes.

    Raises
    ------
    UserError
        Where the layer holds no planes of real numbers.
    """
    fixed = {} if shown is None else dict(enumerate(shown))
    return Planes(pixels_of(layer), bool(getattr(layer, "rgb", False)), fixed)


def describe_source(layer: Layer, shown: Sequence[int] | None = None) -> dict[str, Any]:
    """Describe the image for the provenance.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int, optional
        See `planes_for`.
    """
    path = file_of(layer)
    source: dict[str, Any] = {
        "layer": layer.name,
        "path": None if path is None else str(path.absolute()),
        "shape": [int(n) for n in pixels_of(layer).shape],
    }
    given = layer.metadata.get(INPUT, {})
    if "channel" in given:
        source["channel"] = given["channel"]
    if shown:
        source["plane"] = [int(index) for index in shown]
    return source


def axis_letters(axis_labels: Sequence[str]) -> str:
    """Letters of a layer's axes: from their names where these are known, else z before t."""
    n = len(axis_labels) - 2
    named = "".join(str(label)[:1].upper() for label in axis_labels[:n])
    return ("TZ"[2 - n :] if named not in ("T", "Z", "TZ") else named) + "YX"
