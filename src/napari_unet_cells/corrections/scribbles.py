"""Scribbles: a labels layer for classes of the user's own, and its masks for training.

::

    in the layer        0 not painted    1 first class    2 second class    ...
    in a dataset      255 unknown        0 first class    1 second class    ...

So the first class, mostly the background, can be painted too, and training ignores what was
not painted. In 8 bits, 0 less 1 is 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import makes_cells
from napari_unet_cells.core.regions import Review
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.layers.metadata import OURS, REVIEW, image_id, result_metadata
from napari_unet_cells.layers.protocols import ImageLayer, SavedLayer
from napari_unet_cells.layers.reader import CLASS_COLORS
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.models.card import MAX_CLASSES

#: Role of such a layer in its metadata, beside `metadata.CELLS` and `metadata.CLASSES`.
STROKES = "strokes"


@dataclass(frozen=True)
class OwnClass:
    """A class that the user named.

    Attributes
    ----------
    name : str
    color : str
        Such as "#ff8800".
    """

    name: str
    color: str


#: Colour of the first class, where it is painted.
BACKGROUND_COLOR = "#808080"


@dataclass(frozen=True)
class OwnClasses:
    """Classes that the user named; the first is 1 in the layer, 0 in a dataset.

    Attributes
    ----------
    classes : tuple of OwnClass
    """

    classes: tuple[OwnClass, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, without spaces around them."""
        return tuple(own.name.strip() for own in self.classes)

    def problem(self) -> str | None:
        """Say why no network can be trained for these classes; None where one can."""
        names = self.names
        if not 2 <= len(names) <= MAX_CLASSES or not all(names) or len(set(names)) < len(names):
            return (
                f"Name 2 to {MAX_CLASSES} classes, each with a name of its own. The first is "
                "usually the background."
            )
        if makes_cells(names):
            return (
                "The program itself makes classes named cell and boundary from cells. Choose "
                "other names."
            )
        return None

    def to_saved(self) -> list[list[str]]:
        """Give them as `settings` keeps them."""
        return [[own.name, own.color] for own in self.classes]

    @classmethod
    def from_saved(cls, saved: Any) -> OwnClasses:
        """Take those that were saved, else a background and a row to fill in."""
        try:
            return cls(tuple(OwnClass(str(name), str(color)) for name, color in saved))
        except (TypeError, ValueError):
            return cls((OwnClass("background", BACKGROUND_COLOR), OwnClass("", proposed_color(1))))


def proposed_color(index: int) -> str:
    """Colour of a class that has none yet."""
    return str(CLASS_COLORS[1:][(index - 1) % (len(CLASS_COLORS) - 1)])


def layer_arguments(
    image: ImageLayer, classes: OwnClasses, shown: Sequence[int] | None = None
) -> dict[str, Any]:
    """Arguments of `viewer.add_labels` for a layer to paint classes in.

    Parameters
    ----------
    image : napari image layer
    classes : OwnClasses
    shown : sequence of int, optional
        See `layers.image_planes.planes_for`: the plane that is painted on; None for all.

    Returns
    -------
    dict
        data (uint8, zeros), name, metadata, and the place of the image; without colours.

    Raises
    ------
    UserError
        Where the classes or the image cannot be used.
    """
    if problem := classes.problem():
        raise UserError(problem)
    planes = planes_for(image, shown)
    data = np.zeros((1,) * len(shown or ()) + planes.shape, np.uint8)
    provenance = {
        "classes": list(classes.names),
        "colors": [own.color for own in classes.classes],
        "source": describe_source(image, shown),
    }
    return {
        "data": data,
        "name": f"{image.name} strokes",
        "metadata": {
            **result_metadata(STROKES, image_id(image), provenance),
            REVIEW: Review(data),
        },
        **place_of(image, shown),
    }


def stroke_colors(made: Mapping[str, Any]) -> dict[int | None, str]:
    """Colours of a scribbles layer by value, as napari takes them."""
    colors: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colors.update(enumerate(made["provenance"]["colors"], 1))
    return colors


def is_strokes(layer: SavedLayer) -> bool:
    """Whether the user paints classes of their own in this layer."""
    return bool(layer.metadata.get(OURS, {}).get("role") == STROKES)


def as_masks(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert painted values to those of a dataset, see above.

    Parameters
    ----------
    labels : uint8 array, (..., y, x)
    """
    masks: NDArray[np.uint8] = labels.astype(np.uint8) - np.uint8(1)
    return masks
