"""Read and write what the plugin keeps in the metadata of napari layers.

It works on any object with a layer's attributes and imports neither napari nor Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_unet_cells.layers.protocols import Layer, SavedLayer

#: Key of `layer.metadata` under which our result layers say what they are.
OURS = "napari_unet_cells"

#: Key under which an image layer keeps what its user told about it: pixel size, channel, file.
INPUT = "napari_unet_cells_input"

#: Key under which a labels layer keeps its `regions.Review`.
REVIEW = "napari_unet_cells_review"


CELLS, CLASSES = "cells", "classes"


def is_ours(layer: SavedLayer) -> bool:
    """Whether we made this layer; such layers are never offered as input."""
    return OURS in layer.metadata


def image_id(layer: Layer) -> str:
    """Identify a layer within its session."""
    return str(layer.unique_id)


def file_of(layer: Layer) -> Path | None:
    """File that a layer was read from, also where its channels were split since."""
    path = layer.source.path or layer.metadata.get(INPUT, {}).get("path")
    return None if path is None else Path(path)


def tell(image: Layer, **facts: Any) -> None:
    """Keep with an image what the user told about it; None forgets it."""
    known = {**image.metadata.get(INPUT, {}), **facts}
    image.metadata[INPUT] = {key: value for key, value in known.items() if value is not None}


def result_metadata(
    role: str, image: str, provenance: Mapping[str, Any], checksum: int | None = None
) -> dict[str, Any]:
    """Metadata of a result layer: what it is, of which image, how it was made.

    Parameters
    ----------
    role : str
        `CELLS` or `CLASSES`.
    image : str
        `image_id` of the source.
    provenance : mapping
        Of the run.
    checksum : int, optional
        `digest` of the labels as the run made them, to tell later whether they were corrected.
    """
    made = {"role": role, "image": image, "provenance": dict(provenance)}
    return {OURS: made if checksum is None else {**made, "digest": checksum}}


#: What a layer of ours is that helps to review: the lines between regions, and the heat map.
REGIONS, UNCERTAINTY = "regions", "uncertainty"


def helper_metadata(role: str, labels: SavedLayer) -> dict[str, Any]:
    """Metadata of a layer that helps to review labels: it is ours, and of the same image.

    Parameters
    ----------
    role : str
        `REGIONS` or `UNCERTAINTY`.
    labels : napari labels layer
    """
    return {OURS: {"role": role, "image": labels.metadata.get(OURS, {}).get("image")}}
