"""What a napari layer tells: which image, where it lies, what made it.

It works on any object with a layer's attributes and imports neither napari nor Qt.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import pixel_size_of
from napari_unet_cells.files.pixel_size import MICROMETERS, UNIT_ALIASES

#: Key of `layer.metadata` under which our result layers say what they are.
OURS = "napari_unet_cells"

#: Key under which an image layer keeps what its user told about it: pixel size, channel, file.
INPUT = "napari_unet_cells_input"

#: Key under which a labels layer keeps its `regions.Review`.
REVIEW = "napari_unet_cells_review"

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


@dataclass(frozen=True)
class StackAxis:
    """An axis of an image layer before height and width."""

    axis: int
    length: int
    label: str

    @property
    def is_channel(self) -> bool:
        """Whether its name says that it holds channels."""
        return self.label.lower() in ("c", "channel", "channels")


def stack_axes(layer: Any) -> tuple[StackAxis, ...]:
    """Axes of a layer besides (y, x) and colour, in order."""
    data = pixels_of(layer)
    n = len(data.shape) - 2 - bool(getattr(layer, "rgb", False))
    labels = tuple(layer.axis_labels)[:n]
    return tuple(
        StackAxis(axis, int(length), str(label))
        for axis, (length, label) in enumerate(zip(data.shape[:n], labels, strict=True))
    )


def pixels_of(layer: Any) -> Any:
    """Array of an image layer at full resolution; it may be lazy."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def planes_for(layer: Any, shown: Sequence[int] | None) -> Planes:
    """Planes of an image layer.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int, or None
        Index, along each axis of `stack_axes`, of the one plane that is segmented; None
        takes all planes.

    Raises
    ------
    UserError
        Where the layer holds no planes of real numbers.
    """
    fixed = {} if shown is None else dict(enumerate(shown))
    return Planes(pixels_of(layer), bool(getattr(layer, "rgb", False)), fixed)


def describe_source(layer: Any, shown: Sequence[int] | None = None) -> dict[str, Any]:
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


def file_of(layer: Any) -> Path | None:
    """File that a layer was read from, also where its channels were split since."""
    path = layer.source.path or layer.metadata.get(INPUT, {}).get("path")
    return None if path is None else Path(path)


def place_of(layer: Any, shown: Sequence[int] | None = None) -> dict[str, Any]:
    """Arguments that put labels where an image layer lies.

    Nothing is inherited by `viewer.add_labels`: without these the labels of an image with
    a scale would lie elsewhere.

    Parameters
    ----------
    layer : napari image layer
    shown : sequence of int, optional
        Where the labels are of one plane, its index along each axis of `stack_axes`. The
        labels then have a length of 1 along these axes, and are seen in this plane only.
    """
    place = {name: getattr(layer, name) for name in PLACE}
    if shown and any(shown):
        index = np.zeros(layer.ndim)
        index[: len(shown)] = shown
        moved = np.subtract(layer.data_to_world(index), layer.data_to_world(np.zeros(layer.ndim)))
        # The affine comes after the translation, so the way is taken back through it.
        linear = np.asarray(layer.affine.linear_matrix)
        place["translate"] = np.asarray(layer.translate) + np.linalg.solve(linear, moved)
    return place


def place_without(layer: Any, axis: int) -> dict[str, Any]:
    """Arguments that put one channel of a layer where the layer lies.

    Parameters
    ----------
    layer : napari image layer
    axis : int
        Of the channels; the others must not be mixed with it by a rotation or shear.
    """
    kept = [i for i in range(layer.ndim) if i != axis]
    zero = np.zeros(layer.ndim)
    origin = np.asarray(layer.data_to_world(zero))
    steps = np.stack([np.subtract(layer.data_to_world(row), origin) for row in np.eye(layer.ndim)])
    linear = steps.T[np.ix_(kept, kept)]
    scale = np.asarray(layer.scale)[kept]
    place: dict[str, Any] = {
        "scale": scale,
        "units": [layer.units[i] for i in kept],
        "axis_labels": [layer.axis_labels[i] for i in kept],
    }
    if np.array_equal(linear, np.diag(scale)):
        return place | {"translate": origin[kept]}
    affine = np.eye(len(kept) + 1)
    affine[:-1, :-1] = linear / scale
    affine[:-1, -1] = origin[kept]
    return place | {"affine": affine}


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


def told_pixel_size(image: Any) -> PixelSize | None:
    """Pixel size that the user typed for an image, None where she did not."""
    told = None if image is None else image.metadata.get(INPUT, {}).get("pixel_size")
    return None if told is None else PixelSize(*told)


def tell(image: Any, **facts: Any) -> None:
    """Keep with an image what the user told about it; None forgets it."""
    known = {**image.metadata.get(INPUT, {}), **facts}
    image.metadata[INPUT] = {key: value for key, value in known.items() if value is not None}


@dataclass(frozen=True)
class ExportSource:
    """All that is asked of a labels layer for an export.

    It is taken at once, in the GUI thread; the rest, which takes time, needs no layer.

    Attributes
    ----------
    labels : integer array, (y, x), or up to (t, z, y, x)
        The layer's own, not a copy.
    axes : str
        One letter for each axis of the labels, of "TZYX".
    name : str
    made : mapping
        What `result_metadata` says, empty for labels of other origin.
    transform : mapping
        See `describe_transform`.
    image_path : Path or None
        See `source_path`.
    told : PixelSize or None
        See `told_pixel_size`.
    """

    labels: NDArray[Any]
    axes: str
    name: str
    made: Mapping[str, Any]
    transform: Mapping[str, Any]
    image_path: Path | None
    told: PixelSize | None = None


def export_source(layer: Any, layers: Iterable[Any]) -> ExportSource:
    """Take what an export needs from a labels layer.

    Raises
    ------
    UserError
        Where the layer has several levels or more than four axes.
    """
    if getattr(layer, "multiscale", False) or not 2 <= layer.ndim <= 4:
        raise UserError(
            f"'{layer.name}' has several levels or more axes than (t, z, y, x). Export the full "
            "resolution of one position: File > Save Selected Layers keeps anything."
        )
    labels = np.asarray(layer.data)
    single = tuple(axis for axis in range(layer.ndim - 2) if labels.shape[axis] == 1)
    letters = axis_letters(layer.axis_labels)
    axes = "".join(letter for axis, letter in enumerate(letters) if axis not in single)
    return ExportSource(
        labels.squeeze(single),
        axes,
        layer.name,
        layer.metadata.get(OURS, {}),
        describe_transform(layer),
        source_path(layer, layers),
        told_pixel_size(source_image(layer, layers)) or told_pixel_size(layer),
    )


def axis_letters(axis_labels: Sequence[str]) -> str:
    """Letters of a layer's axes: by their names where these say it, else z before t."""
    n = len(axis_labels) - 2
    named = "".join(str(label)[:1].upper() for label in axis_labels[:n])
    return ("TZ"[2 - n :] if named not in ("T", "Z", "TZ") else named) + "YX"


def pixel_size(source: ExportSource) -> PixelSize:
    """Pixel size of labels: of their layer, else of their image's file, else as told.

    napari's own TIFF reader drops the pixel size of a file: its layers have a scale of 1
    in pixels, and then the file is asked.
    """
    y, x = source.transform["scale"][-2:]
    unit = source.transform["units"][-1]
    return _known(PixelSize(y, x, unit), source.image_path, source.told)


def plane_step(source: ExportSource, size: PixelSize) -> float | None:
    """Distance of the planes in the unit of the pixels; None where it is not known."""
    z_unit, unit = (str(u).lower() for u in (source.transform["units"][-3:][0], size.unit))
    if "Z" not in source.axes or not {z_unit, unit} <= UNIT_ALIASES.keys():
        return None
    step = abs(float(source.transform["scale"][-3]))
    return step if z_unit == unit else step * _micrometers(z_unit) / _micrometers(unit)


def _micrometers(unit: str) -> float:
    name, factor = UNIT_ALIASES[unit]
    return factor * MICROMETERS[name]


def image_pixel_size(image: Any) -> Callable[[], PixelSize]:
    """Pixel size of an image layer: its own, else of its file, else as told.

    Returns
    -------
    callable
        Gives it; it may read a file, and needs no layer: any thread may call it.
    """
    y, x = (float(size) for size in image.scale[-2:])
    own = PixelSize(y, x, str(image.units[-1]))
    return partial(_known, own, file_of(image), told_pixel_size(image))


def _known(size: PixelSize, path: Path | None, told: PixelSize | None) -> PixelSize:
    if size != PixelSize(1.0, 1.0, "pixel"):
        return size
    if path is not None:
        in_file, unit = pixel_size_of(path)
        if in_file is not None:
            return PixelSize(in_file[0], in_file[1], unit)
    return told or size


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
        **({"role": source.made["role"]} if "role" in source.made else {}),
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


#: What a layer of ours is that helps to review: the lines between regions, and the heat map.
REGIONS, UNCERTAINTY = "regions", "uncertainty"


def helper_metadata(role: str, labels: Any) -> dict[str, Any]:
    """Metadata of a layer that helps to review labels: it is ours, and of the same image.

    Parameters
    ----------
    role : str
        `REGIONS` or `UNCERTAINTY`.
    labels : napari labels layer
    """
    return {OURS: {"role": role, "image": labels.metadata.get(OURS, {}).get("image")}}


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


def world_matrix(layer: Any) -> NDArray[np.float64]:
    """Matrix (n + 1, n + 1) that takes homogeneous pixels of a layer into the world."""
    zero = np.zeros(layer.ndim)
    origin = np.asarray(layer.data_to_world(zero))
    matrix = np.eye(layer.ndim + 1)
    for axis, step in enumerate(np.eye(layer.ndim)):
        matrix[:-1, axis] = np.subtract(layer.data_to_world(step), origin)
    matrix[:-1, -1] = origin
    return matrix


def place_resized(layer: Any, shape: tuple[int, int], step: int = 1) -> dict[str, Any]:
    """Arguments that put an image of another pixel grid over the same ground as labels.

    Parameters
    ----------
    layer : napari labels layer, (..., y, x)
    shape : (int, int)
        Height and width of the image, which covers what the labels cover.
    step : int
        Where only every second, third... row and column of the image is there: 2, 3...
    """
    ratio = np.ones(layer.ndim)
    ratio[-2:] = np.divide(layer.data.shape[-2:], shape) * step
    # Positions count from the middle of the first pixel, and the corners must meet.
    return {
        "scale": ratio,
        "translate": (ratio - 1) / 2,
        "affine": world_matrix(layer),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
