"""Read and write the metadata that the plugin keeps with napari layers.

Neither napari nor Qt is imported; see `layers.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.protocols import Layer, SavedLayer

#: Key of `layer.metadata` for what a result layer of ours is; see `result_metadata`.
OURS = "napari_unet_cells"

#: Key for the metadata of an input image: pixel size that the user typed, channel, file.
INPUT = "napari_unet_cells_input"

#: Key for the `regions.Review` of a labels layer.
REVIEW = "napari_unet_cells_review"

#: Key for what the program knows of a result that it made in this session.
STATE = "napari_unet_cells_state"

#: Key for the `earlier.EarlierResults` of a result layer; at an image, for a list of all of them.
RESULTS = "napari_unet_cells_results"


#: Of what `OURS` holds: the OME-Zarr that a layer is read from.
ZARR = "zarr"

#: Of what `OURS` holds: which part of an OME-Zarr a layer is, that is put back once it is edited.
PART_OF = "part_of"

#: Key for the `core.edited_part.TakenPart` of such a layer, as long as napari is open.
TAKEN = "napari_unet_cells_taken"

#: Roles of the result layers.
CELLS, CLASSES = "cells", "classes"

#: Role of what was found in a look at a part of a large image, shown until all is segmented.
PREVIEW = "preview"

#: Role of the cells of a new model, shown beside a result to compare the two.
COMPARISON = "comparison"


def fitting_review(layer: Layer) -> Review | None:
    """Review of labels in memory; None where there is none, or one of another shape.

    Parameters
    ----------
    layer : napari layer
    """
    review = layer.metadata.get(REVIEW)
    if not isinstance(review, Review) or not isinstance(layer.data, np.ndarray):
        return None
    return review if review.fits(layer.data) else None


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


def set_input_metadata(image: Layer, **values: Any) -> None:
    """Set values of an image layer's metadata, such as the pixel size typed; None deletes one."""
    known = {**image.metadata.get(INPUT, {}), **values}
    image.metadata[INPUT] = {key: value for key, value in known.items() if value is not None}


def result_metadata(
    role: str, image: str, provenance: Mapping[str, Any], checksum: int | None = None
) -> dict[str, Any]:
    """Metadata of a result layer: its role, its image, its provenance.

    Parameters
    ----------
    role : str
        `CELLS` or `CLASSES`.
    image : str
        `image_id` of the source.
    provenance : mapping
        Of the run.
    checksum : int, optional
        `digest` of the labels as the run made them; it differs once they are corrected.
    """
    made = {"role": role, "image": image, "provenance": dict(provenance)}
    return {OURS: made if checksum is None else {**made, "digest": checksum}}


#: Roles of the layers that help to review: lines between regions, and the heat map.
REGIONS, UNCERTAINTY = "regions", "uncertainty"


def helper_metadata(role: str, labels: SavedLayer) -> dict[str, Any]:
    """Metadata of a layer that helps to review labels: its role, and the image of the labels.

    Parameters
    ----------
    role : str
        `REGIONS` or `UNCERTAINTY`.
    labels : napari labels layer
    """
    return {OURS: {"role": role, "image": labels.metadata.get(OURS, {}).get("image")}}
