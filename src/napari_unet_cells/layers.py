"""What a napari layer tells: which image, where it lies, what made it.

It works on any object with a layer's attributes and imports neither napari nor Qt.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import pixel_size_of

#: Key of `layer.metadata` under which our result layers say what they are.
OURS = "napari_unet_cells"

CELLS, CLASSES = "cells", "classes"

#: What places a layer in the world; the arguments of the same names of every napari layer.
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True)
class PixelSize:
    """Height and width of a pixel; without a physical unit `unit` is "pixel"."""

    y: float
    x: float
    unit: str


def is_ours(layer: Any) -> bool:
    """Whether we made this layer; such layers are never offered as input."""
    return OURS in layer.metadata


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


def image_id(layer: Any) -> str:
    """Identify a layer within its session."""
    return str(layer.unique_id)


def plane_of(layer: Any) -> Any:
    """Pixels of an image layer, full resolution, as `segmentation.check_plane` takes them.

    Raises
    ------
    UserError
        Where the layer is a stack.
    """
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    spatial = data.ndim - bool(getattr(layer, "rgb", False))
    if spatial != 2:
        sizes = " x ".join(str(n) for n in data.shape)
        raise UserError(
            f"'{layer.name}' is a stack ({sizes}); one plane is segmented at a time. Split it "
            "first: right-click the layer, Split Stack."
        )
    return data


def describe_source(layer: Any) -> dict[str, Any]:
    """Describe the image for the provenance."""
    path = layer.source.path
    return {
        "layer": layer.name,
        "path": None if path is None else str(Path(path).absolute()),
        "shape": list(plane_of(layer).shape),
    }


def place_of(layer: Any) -> dict[str, Any]:
    """Arguments that put a plane of labels where an image layer lies.

    Nothing is inherited by `viewer.add_labels`: without these the labels of an image with
    a scale would lie elsewhere.
    """
    return {name: getattr(layer, name) for name in PLACE}


def describe_transform(layer: Any) -> dict[str, Any]:
    """Give what places a layer in the world, as JSON can hold it."""
    return {
        "scale": _plain(layer.scale),
        "translate": _plain(layer.translate),
        "rotate": _plain(layer.rotate),
        "shear": _plain(layer.shear),
        "affine": _plain(layer.affine.affine_matrix),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(layer.axis_labels),
    }


def source_path(layer: Any, layers: Iterable[Any]) -> Path | None:
    """File that the image of a result was read from; None where it is not known.

    Only the very image counts, never another one that happens to be open: its pixel size
    would be wrong. Where it was removed from the viewer, the provenance still names its file.
    """
    made = layer.metadata.get(OURS, {})
    for image in image_layers(layers):
        if image_id(image) == made.get("image"):
            return None if image.source.path is None else Path(image.source.path)
    path = made.get("provenance", {}).get("source", {}).get("path")
    return None if path is None else Path(path)


@dataclass(frozen=True)
class ExportSource:
    """All that is asked of a labels layer for an export.

    It is taken at once, in the GUI thread; the rest, which takes time, needs no layer.

    Attributes
    ----------
    labels : integer array, (y, x)
        The layer's own, not a copy.
    name : str
    made : mapping
        What `result_metadata` says, empty for labels of other origin.
    transform : mapping
        See `describe_transform`.
    image_path : Path or None
        See `source_path`.
    """

    labels: NDArray[Any]
    name: str
    made: Mapping[str, Any]
    transform: Mapping[str, Any]
    image_path: Path | None


def export_source(layer: Any, layers: Iterable[Any]) -> ExportSource:
    """Take what an export needs from a labels layer.

    Raises
    ------
    UserError
        Where the layer is not one plane.
    """
    if getattr(layer, "multiscale", False) or layer.ndim != 2:
        raise UserError(
            f"'{layer.name}' is not a single plane; one plane is exported at a time. For a "
            "stack use File > Save Selected Layers."
        )
    return ExportSource(
        np.asarray(layer.data),
        layer.name,
        layer.metadata.get(OURS, {}),
        describe_transform(layer),
        source_path(layer, layers),
    )


def pixel_size(source: ExportSource) -> PixelSize:
    """Pixel size of labels, from their layer or from the file their image was read from.

    napari's own TIFF reader drops the pixel size of a file: its layers have a scale of 1
    in pixels, and then the file is asked.
    """
    y, x = source.transform["scale"]
    unit = source.transform["units"][-1]
    if (y, x, unit) == (1.0, 1.0, "pixel") and source.image_path is not None:
        size, file_unit = pixel_size_of(source.image_path)
        if size is not None:
            return PixelSize(size[0], size[1], file_unit)
    return PixelSize(y, x, unit)


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


def digest(labels: NDArray[Any]) -> int:
    """Checksum of an array, enough to tell whether somebody painted."""
    return zlib.crc32(np.ascontiguousarray(labels).data)


def export_record(source: ExportSource, size: PixelSize) -> dict[str, Any]:
    """Describe an exported mask for the JSON beside it.

    Returns
    -------
    dict
        Provenance of the run (empty for labels of other origin), whether the labels were
        corrected since (None where that cannot be known), transform and pixel size.
    """
    checksum = source.made.get("digest")
    return {
        **source.made.get("provenance", {}),
        "corrected_by_hand": None if checksum is None else digest(source.labels) != checksum,
        "layer": source.name,
        "pixel_size": asdict(size),
        "transform": source.transform,
    }


def _kind(layer: Any) -> str:
    """Name of the layer's class; napari itself is not imported to compare it."""
    return next(
        (name for cls in type(layer).__mro__ if (name := cls.__name__.lower()) in _KINDS), ""
    )


_KINDS = ("image", "labels")


def _plain(value: Any) -> Any:
    return np.asarray(value, dtype=float).tolist()
