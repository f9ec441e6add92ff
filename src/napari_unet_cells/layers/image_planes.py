"""Axes and planes of an image layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.files import FileAxes
from napari_unet_cells.layers.metadata import INPUT, file_of
from napari_unet_cells.layers.protocols import Layer

#: Names of axes as readers and files write them, in lower case -> as the user reads them.
_WORDS = {
    **dict.fromkeys(("c", "ch", "channel", "channels"), "channel"),
    **dict.fromkeys(("z", "plane", "depth"), "z"),
    **dict.fromkeys(("t", "time", "frame"), "time"),
}

#: napari's names of axes that nobody named, such as "-3".
_UNNAMED = re.compile(r"-?\d*")

#: Letters of `files.FileAxes` that say what an axis holds; Q, I and others do not.
_KNOWN_LETTERS = frozenset("CZT")

#: Ordinal numbers of axes.
ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass(frozen=True)
class StackAxis:
    """An axis of an image layer before height and width.

    Attributes
    ----------
    axis, length : int
    label : str
        Its name, such as "z"; "-3" and the like where nobody named it.
    """

    axis: int
    length: int
    label: str

    @property
    def name(self) -> str:
        """Name as the user reads it; empty where nobody named it."""
        label = self.label.strip()
        return "" if _UNNAMED.fullmatch(label) else _WORDS.get(label.lower(), label)

    @property
    def is_channel(self) -> bool:
        """Whether its name is that of a channel axis."""
        return self.name == "channel"

    def title(self, n_axes: int) -> str:
        """Words for the axis among all that a stack has before height and width."""
        if self.name:
            return f"{self.name} ({self.length} long)"
        return f"axis {self.axis + 1} of {n_axes} ({self.length} long)"

    def position(self, index: int, alone: bool) -> str:
        """Words for a position along the axis, such as "z 4 of 5", counted from 1.

        Parameters
        ----------
        index : int
            Counted from 0.
        alone : bool
            Whether it is the only axis, and needs no number.
        """
        name = self.name or ("plane" if alone else f"axis {self.axis + 1}:")
        return f"{name} {index + 1} of {self.length}"


def name_axes(axes: Sequence[StackAxis], file: FileAxes, split: bool) -> tuple[StackAxis, ...]:
    """Name the axes of a layer as its file does, where the layer does not.

    Parameters
    ----------
    axes : sequence of StackAxis
        Of the layer.
    file : FileAxes
    split : bool
        Whether the layer is one channel of the file.
    """
    n = file.letters.find("YX")
    letters = list(zip(file.letters[: max(n, 0)], file.shape or [None] * n, strict=False))
    if split:
        letters = [one for one in letters if one[0] != "C"]
    fits = len(letters) == len(axes) and all(
        length in (None, axis.length) for (_, length), axis in zip(letters, axes, strict=True)
    )
    if not fits:
        return tuple(axes)
    return tuple(
        replace(axis, label=letter.lower()) if not axis.name and letter in _KNOWN_LETTERS else axis
        for (letter, _), axis in zip(letters, axes, strict=True)
    )


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
    for key in ("channel", "channels", "projection"):
        if key in given:
            source[key] = given[key]
    if shown:
        source["plane"] = [int(index) for index in shown]
    return source


def axis_letters(axis_labels: Sequence[str]) -> str:
    """Letters of a layer's axes: from their names where these are known, else z before t."""
    n = len(axis_labels) - 2
    named = "".join(str(label)[:1].upper() for label in axis_labels[:n])
    return ("TZ"[2 - n :] if named not in ("T", "Z", "TZ") else named) + "YX"
