"""Description of a labels layer and its image, from which both can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.image_planes import pixels_of
from napari_unet_cells.layers.metadata import INPUT, OURS, file_of
from napari_unet_cells.layers.protocols import ImageLayer, Layer, SavedLayer
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.layers.transforms import describe_transform


def describe(
    layer: SavedLayer, layers: Iterable[Layer], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe a labels layer so that it can be made again.

    Parameters
    ----------
    layer : napari labels layer
    layers : iterable of layers
        Of the viewer.
    before : mapping, optional
        The last description; it knows the image also after that was removed.

    Returns
    -------
    dict
        As JSON holds it: ``name``; ``place``, the arguments of `add_labels` that put it in
        the world; ``metadata``, ours; ``image``, the same for the image, None where nothing
        is known of it.
    """
    image = source_image(layer, layers)
    ours = (OURS, INPUT)
    described: dict[str, Any] = jsonable(
        {
            "name": layer.name,
            "place": describe_transform(layer),
            "metadata": {key: layer.metadata[key] for key in ours if key in layer.metadata},
        }
    )
    if image is not None:
        return described | {"image": _describe_image(image)}
    known = before.get("image") if before else None
    return described | {"image": known or _image_in_provenance(layer)}


def _describe_image(image: ImageLayer) -> dict[str, Any]:
    path = file_of(image)
    pixels = pixels_of(image)
    described: dict[str, Any] = jsonable(
        {
            "path": None if path is None else path.absolute(),
            "name": image.name,
            "shape": pixels.shape,
            "dtype": str(pixels.dtype),
            "place": describe_transform(image),
            "told": image.metadata.get(INPUT, {}),
            "reader": image.source.reader_plugin,
        }
    )
    return described


def _image_in_provenance(layer: SavedLayer) -> dict[str, Any] | None:
    source = layer.metadata.get(OURS, {}).get("provenance", {}).get("source", {})
    if "layer" not in source:
        return None
    kept: dict[str, Any] = jsonable({key: source.get(key) for key in ("path", "shape")})
    return kept | {"name": str(source["layer"])}
