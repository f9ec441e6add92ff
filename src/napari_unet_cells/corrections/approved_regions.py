"""Approved regions of a labels layer, with pixels and metadata for an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import UNKNOWN, holds_cells
from napari_unet_cells.core.planes import Plane, Planes
from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.corrections.scribbles import as_masks, is_strokes
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.layers.metadata import CLASSES, OURS, PART_OF, REVIEW, is_ours
from napari_unet_cells.layers.pixel_size import PixelSize, image_pixel_size
from napari_unet_cells.layers.protocols import ImageLayer, LabelsLayer, Layer
from napari_unet_cells.layers.selection import image_layers, source_image


@dataclass(frozen=True)
class Approved:
    """Pixels and metadata for an export of approved regions.

    Taken at once in the GUI thread; the slow rest of the export needs no layer.

    Attributes
    ----------
    labels : integer array, (..., y, x)
        The layer's own, not a copy; those of a large result are read where they are sliced.
    review : Review
        Of a large result what stands for it, see `large_regions.LargeRegions`.
    dates : mapping of Place to str
        The approved regions, and when each was approved, ISO 8601.
    planes : Planes
        Of the image; either as many as the labels have, or the one that they are of.
    pixel_size : callable
        See `layers.pixel_size.image_pixel_size`.
    made : mapping
        See `layers.metadata.result_metadata`; empty for labels of other origin.
    source : mapping
        See `layers.image_planes.describe_source`.
    labels_name : str
    """

    labels: Any
    review: Review
    dates: Mapping[Place, str]
    planes: Planes
    pixel_size: Callable[[], PixelSize]
    made: Mapping[str, Any]
    source: Mapping[str, Any]
    labels_name: str

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of the run that made the labels."""
        provenance: Mapping[str, Any] = self.made.get("provenance", {})
        return provenance

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the model's classes; empty for labels of other origin."""
        return tuple(self.provenance.get("classes", ()))

    def plane(self, place: Place) -> Plane:
        """Give the plane of the image that a place is in."""
        return self.planes.plane(place[0] if self.planes.free else ())


def approved_of(layer: LabelsLayer, layers: Iterable[Layer]) -> Approved:
    """Take the approved regions of a labels layer.

    Parameters
    ----------
    layer : napari labels layer
    layers : iterable of layers
        All layers of the viewer.

    Raises
    ------
    UserError
        Where nothing is approved, the image is gone or does not fit, or it is a part of a large
        one.
    """
    if is_strokes(layer):
        return _painted(layer, list(layers))
    if PART_OF in layer.metadata.get(OURS, {}):
        raise UserError(
            f"'{layer.name}' is a part of a large image, and its regions go into a dataset once it "
            "is put back. To retrain, save it by 'Put back' on the page Correct; then choose the "
            "cells of the whole image, and add the regions from there."
        )
    review = layer.metadata.get(REVIEW)
    if review is None or not review.approved:
        raise UserError(
            f"No region of '{layer.name}' is approved yet. In Correct, look at a region, put right "
            "what is wrong in it, and press Approve and next."
        )
    approved = _taken(layer, list(layers), np.asarray(layer.data), review)
    if approved.made.get("role") == CLASSES and holds_cells(approved.classes):
        raise UserError(
            f"'{layer.name}' holds the classes that the cells were made of. Correct and approve "
            "the cells themselves, in the layer of this name."
        )
    return approved


def _painted(layer: LabelsLayer, layers: Sequence[Layer]) -> Approved:
    """Take the regions that hold scribbles: who paints one approves it."""
    labels = np.asarray(layer.data)
    review = Review(np.full(labels.shape, UNKNOWN, np.uint8))
    painted = [place for place in review if _window(labels, review, place).any()]
    if not painted:
        raise UserError(
            f"Nothing is painted in '{layer.name}' yet. Paint a few scribbles of each class, "
            "including the background."
        )
    for place in painted:
        review.approve(place)
    return _taken(layer, layers, as_masks(labels), review)


def _taken(
    layer: LabelsLayer, layers: Sequence[Layer], labels: NDArray[Any], review: Review
) -> Approved:
    """Take what was approved of labels, with their image."""
    made = layer.metadata.get(OURS, {})
    image = _image_of(layer, layers)
    shown = made.get("provenance", {}).get("source", {}).get("plane")
    planes = planes_for(image, shown)
    _check_sizes(layer, image, planes, review)
    return Approved(
        labels,
        review,
        dict(review.approved),
        planes,
        image_pixel_size(image),
        made,
        describe_source(image, shown),
        layer.name,
    )


def _window(labels: NDArray[Any], review: Review, place: Place) -> NDArray[Any]:
    at: tuple[int | slice, ...] = (*place[0], *review.grid[place[1]].slices)
    window: NDArray[Any] = labels[at]
    return window


def _image_of(layer: LabelsLayer, layers: Sequence[Layer]) -> ImageLayer:
    if is_ours(layer):
        image = source_image(layer, layers)
    else:  # painted or opened by the user: over the image of the same size
        shape = tuple(layer.data.shape)
        images = image_layers(layers)
        image = next((i for i in reversed(images) if planes_for(i, None).shape == shape), None)
    if image is None:
        raise UserError(
            f"The image of '{layer.name}' is not open any more, and its pixels belong into the "
            "dataset. Open it again and segment it, or undo its removal."
        )
    return image


def _check_sizes(layer: LabelsLayer, image: ImageLayer, planes: Planes, review: Review) -> None:
    shape = () if layer.multiscale else tuple(layer.data.shape)
    leading = shape[:-2] if planes.free else shape[len(planes.shape) - 2 : -2]
    one_plane = not planes.free and all(n == 1 for n in leading)
    if shape[-2:] != planes.shape[-2:] or not (one_plane or shape == planes.shape):
        raise UserError(
            f"'{layer.name}' and its image '{image.name}' differ in size: {_shape(shape)} and "
            f"{_shape(planes.shape)} pixels. Segment the image again."
        )
    if (*review.planes, *review.grid.shape) != shape:
        raise UserError(
            f"'{layer.name}' was changed in size since its regions were approved. Segment the "
            "image again."
        )


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "several levels of"
