"""Choose the layers that can be segmented, corrected or exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np

from napari_unet_cells.layers.metadata import (
    CELLS,
    COMPARISON,
    INPUT,
    OURS,
    PREVIEW,
    ZARR,
    file_of,
    image_id,
    is_ours,
)
from napari_unet_cells.layers.protocols import ImageLayer, LabelsLayer, Layer, SavedLayer

_L = TypeVar("_L", bound=Layer)


def image_layers(layers: Iterable[Layer]) -> list[ImageLayer]:
    """Layers that can be segmented: images that are not results of ours."""
    return [layer for layer in layers if _is_image(layer) and not is_ours(layer)]


def labels_layers(layers: Iterable[Layer]) -> list[LabelsLayer]:
    """Layers that can be reviewed and exported: all labels but those to compare with."""
    return [layer for layer in layers if _is_labels(layer) and not _is_comparison(layer)]


def image_for(
    active: Layer | None, layers: Iterable[Layer], current: Layer | None = None
) -> ImageLayer | None:
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
    source = None if active is None else source_image(active, images)
    return _first_of((active, source, current), images)


def labels_for(
    active: Layer | None, layers: Iterable[Layer], current: Layer | None = None
) -> LabelsLayer | None:
    """Choose the labels to export: the active ones, else those shown so far, else the top."""
    labels = labels_layers(layers)
    return _first_of((active, current), labels)


def cells_of(image: Layer, layers: Iterable[Layer]) -> list[LabelsLayer]:
    """Layers of the cells that were found in an image, the topmost last; empty for other layers."""
    there = list(layers)
    if image not in image_layers(there):  # not by its class: the active layer may be a proxy
        return []
    made = ((layer, layer.metadata.get(OURS, {})) for layer in labels_layers(there))
    wanted = {"role": CELLS, "image": image_id(image)}
    return [layer for layer, values in made if wanted.items() <= values.items()]


def _first_of(wanted: Iterable[Layer | None], offered: Sequence[_L]) -> _L | None:
    """Choose the first wanted layer that is offered, else the topmost one."""
    # Not `is`: napari hands plugins a viewer whose active layer is a proxy, equal to the layer.
    found = (layer for one in wanted for layer in offered if layer == one)
    return next(found, offered[-1] if offered else None)


def source_image(layer: SavedLayer, layers: Iterable[Layer]) -> ImageLayer | None:
    """Image layer that a result was made of; None where it is not there any more."""
    made = layer.metadata.get(OURS, {})
    return next((i for i in image_layers(layers) if image_id(i) == made.get("image")), None)


def source_path(layer: SavedLayer, layers: Iterable[Layer]) -> Path | None:
    """File that the image of a result was read from; None where it is not known.

    Only the very image counts, never another one that happens to be open: its pixel size
    would be wrong. Where it was removed from the viewer, the provenance still names its file.
    """
    image = source_image(layer, layers)
    if image is not None:
        return file_of(image)
    path = layer.metadata.get(OURS, {}).get("provenance", {}).get("source", {}).get("path")
    return None if path is None else Path(path)


def image_of_file(layer: SavedLayer, layers: Iterable[Layer]) -> ImageLayer | None:
    """Image layer of the file that a result names as its source; None where it is not open.

    So the image of a result is found again that was saved and opened in another session. Of the
    channels of a file only the very one counts.
    """
    source = layer.metadata.get(OURS, {}).get("provenance", {}).get("source", {})
    if not source.get("path"):
        return None
    wanted = Path(source["path"])
    return next((i for i in image_layers(layers) if _is_of(i, wanted, source)), None)


def _is_of(image: ImageLayer, path: Path, source: Mapping[str, Any]) -> bool:
    own, given = file_of(image), image.metadata.get(INPUT, {})
    if own is None or own.absolute() != path.absolute():
        return False
    return all(
        _listed(given.get(key)) == _listed(source.get(key))
        for key in ("channel", "channels", "projection")
    )


def _listed(value: Any) -> Any:
    """Give a tuple as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _is_image(layer: Layer) -> TypeGuard[ImageLayer]:
    return _kind(layer) == "image"


def _is_labels(layer: Layer) -> TypeGuard[LabelsLayer]:
    return _kind(layer) == "labels"


def _is_comparison(layer: SavedLayer) -> bool:
    """Whether a layer only shows what another model or a whole run would find, and goes again."""
    return layer.metadata.get(OURS, {}).get("role") in (COMPARISON, PREVIEW)


def _kind(layer: Layer) -> str:
    """Name of the layer's class; napari itself is not imported to compare it."""
    return next(
        (name for cls in type(layer).__mro__ if (name := cls.__name__.lower()) in _KINDS), ""
    )


_KINDS = ("image", "labels")


def painting_problem(layer: LabelsLayer) -> str:
    """Say why nothing can be painted into labels; empty where it can."""
    problem = review_problem(layer)
    if not problem and isinstance(layer.data, np.ndarray) and not layer.data.flags.writeable:
        return (
            f"'{layer.name}' is open for reading only. Duplicate it in the layer list and "
            "correct the copy."
        )
    return problem


def review_problem(layer: LabelsLayer | None) -> str:
    """Say why labels cannot be reviewed; empty where they can.

    Parameters
    ----------
    layer : napari labels layer, or None
    """
    if layer is None:
        return "There are no labels yet. Press Segment, or open a result."
    if ZARR in layer.metadata.get(OURS, {}):
        return (
            f"'{layer.name}' is read from the disk, as the image is so large. Zoom in, and press "
            "'Edit this part' on the page Correct."
        )
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        return (
            f"'{layer.name}' lies in a file and cannot be corrected here. Open a part of it as "
            "labels in memory."
        )
    if not layer.editable:
        return f"'{layer.name}' cannot be edited. Choose the cells in the layer list."
    return ""
