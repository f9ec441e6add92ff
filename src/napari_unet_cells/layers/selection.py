"""Choose the layers that can be segmented, corrected or exported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.layers.metadata import OURS, file_of, image_id, is_ours


def image_layers(layers: Iterable[Any]) -> list[Any]:
    """Layers that can be segmented: images that are not results of ours."""
    return [layer for layer in layers if _kind(layer) == "image" and not is_ours(layer)]


def labels_layers(layers: Iterable[Any]) -> list[Any]:
    """Layers that can be exported: all labels."""
    return [layer for layer in layers if _kind(layer) == "labels"]


def image_for(active: Any, layers: Iterable[Any], current: Any = None) -> Any:
    """Choose the image that the dock should show.

    Parameters
    ----------
    active : layer or None
        The viewer's active layer.
    layers : iterable of layers
        All layers of the viewer.
    current : layer or None
        The image shown so far.

    Returns
    -------
    layer or None
        The active image; the source of an active result of ours; else what was shown so
        far, as long as it exists; else the topmost image.
    """
    images = image_layers(layers)
    if active in images:
        return active
    if active is not None and is_ours(active):
        source = active.metadata[OURS].get("image")
        for image in images:
            if image_id(image) == source:
                return image
    if current in images:
        return current
    return images[-1] if images else None


def labels_for(active: Any, layers: Iterable[Any], current: Any = None) -> Any:
    """Choose the labels to export: the active ones, else those shown so far, else the top."""
    labels = labels_layers(layers)
    if active in labels:
        return active
    if current in labels:
        return current
    return labels[-1] if labels else None


def source_image(layer: Any, layers: Iterable[Any]) -> Any:
    """Image layer that a result was made of; None where it is not there any more."""
    made = layer.metadata.get(OURS, {})
    return next((i for i in image_layers(layers) if image_id(i) == made.get("image")), None)


def source_path(layer: Any, layers: Iterable[Any]) -> Path | None:
    """File that the image of a result was read from; None where it is not known.

    Only the very image counts, never another one that happens to be open: its pixel size
    would be wrong. Where it was removed from the viewer, the provenance still names its file.
    """
    image = source_image(layer, layers)
    if image is not None:
        return file_of(image)
    path = layer.metadata.get(OURS, {}).get("provenance", {}).get("source", {}).get("path")
    return None if path is None else Path(path)


def _kind(layer: Any) -> str:
    """Name of the layer's class; napari itself is not imported to compare it."""
    return next(
        (name for cls in type(layer).__mro__ if (name := cls.__name__.lower()) in _KINDS), ""
    )


_KINDS = ("image", "labels")


def review_problem(layer: Any) -> str:
    """Say why labels cannot be reviewed; empty where they can.

    Parameters
    ----------
    layer : napari labels layer, or None
    """
    if layer is None:
        return "There are no labels yet. Press Segment, or open a result."
    if getattr(layer, "multiscale", False) or not isinstance(layer.data, np.ndarray):
        return (
            f"'{layer.name}' lies in a file and cannot be corrected here. Open a part of it as "
            "labels in memory."
        )
    if not layer.editable:
        return f"'{layer.name}' cannot be edited. Choose the cells in the layer list."
    return ""
