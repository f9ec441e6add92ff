"""Metadata of zarr folders and OME-Zarr images: shapes, paths, axes, scales and names.

Other programs write these files, with much that is not read here; what is not read is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from operator import add, mul
from pathlib import Path
from typing import Any

from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.names import path_inside
from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    Fields,
    Malformed,
    anything,
    either,
    fields,
    items,
    mapping,
    number,
    printable,
    text,
    whole,
)

#: Axes of an array, and its pixels: a hundred thousand slides.
_MOST_AXES, _MOST_PIXELS = 32, 2**53

#: Images of a plate, levels of an image, transformations of a level.
_MOST_IMAGES, _MOST_LEVELS = 100_000, 100

#: Key of our record of a result among the attributes.
RECORD = "napari_unet_cells"

#: Attribute with the digest of what a result of ours was made of.
RUN = "napari_unet_cells_run"

#: Characters of a digest.
_DIGEST = 64


@dataclass(frozen=True)
class Axis:
    """An axis of an OME-Zarr image; `kind` and `unit` are empty where they are not stated."""

    name: str
    kind: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Transform:
    """Scale and shift that bring pixels to their place: ``scale * pixel + translation``, by axis.

    Either is empty where it is not stated.
    """

    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()

    def then(self, other: Transform) -> Transform:
        """Give the transform that does this one first, and another one on top."""
        lengths = {len(one) for one in (*vars(self).values(), *vars(other).values()) if one}
        if len(lengths) > 1:
            raise Malformed("has scales of different lengths")
        shift, larger = self.translation, other.scale
        if shift and larger:
            shift = tuple(a * b for a, b in zip(shift, larger, strict=True))
        return Transform(_each(mul, self.scale, other.scale), _each(add, shift, other.translation))


def _each(
    of: Callable[[float, float], float], one: tuple[float, ...], other: tuple[float, ...]
) -> tuple[float, ...]:
    return tuple(map(of, one, other)) if one and other else one or other


@dataclass(frozen=True)
class Level:
    """One resolution of an image: where its array lies, and what brings it to its place."""

    path: str
    transform: Transform = Transform()


@dataclass(frozen=True)
class Multiscale:
    """An image of OME-Zarr.

    Attributes
    ----------
    levels : tuple of Level
        The finest first, at least one.
    axes : tuple of Axis, or None
        None in versions before 0.3.
    transform : Transform
        Of all levels, after their own.
    """

    levels: tuple[Level, ...]
    axes: tuple[Axis, ...] | None = None
    transform: Transform = Transform()


@dataclass(frozen=True)
class Node:
    """A group or an array of zarr.

    Attributes
    ----------
    shape : tuple of int, or None
        None for a group.
    chunks : tuple of int, or None
        Of the files of an array: a shard where it has shards.
    axis_names : tuple of str
        Of an array; empty where it has none.
    images : tuple of Multiscale
    channel_names : tuple of str
    well_images, plate_wells : tuple of str, or None
        Paths; None where the group is no well, or no plate.
    is_labels : bool
    key_form : (str, str)
        Of the files of an array: what their names begin with, and what stands between numbers.
    record : object
        Of a result of ours, not looked at; see `result_record.parse_record`.
    run : str
        Digest of what a result of ours was made of; empty elsewhere.
    """

    shape: tuple[int, ...] | None
    chunks: tuple[int, ...] | None = None
    axis_names: tuple[str, ...] = ()
    images: tuple[Multiscale, ...] = ()
    channel_names: tuple[str, ...] = ()
    well_images: tuple[str, ...] | None = None
    plate_wells: tuple[str, ...] | None = None
    is_labels: bool = False
    key_form: tuple[str, str] = ("", ".")
    record: object = field(default=None, repr=False)
    run: str = ""


def read_node(folder: Path) -> Node | None:
    """Read the metadata of one folder; None where zarr wrote none there.

    Raises
    ------
    Malformed
    OSError
        Where the disk refuses.
    """
    if (folder / "zarr.json").is_file():
        document = Fields(read_json(folder / "zarr.json", lenient=True))
        attributes = document.take_or("attributes", _attributes, {})
        is_array = document.take("node_type", text(NAME)) == "array"
        array = _array_3(document) if is_array else {"shape": None}
        names = document.take_or("dimension_names", _AXIS_NAMES, ())
    elif any((folder / name).is_file() for name in (".zarray", ".zgroup", ".zattrs")):
        array = {"shape": None}
        if (folder / ".zarray").is_file():
            array = _array_2(Fields(read_json(folder / ".zarray", lenient=True)))
        attributes = {}
        if (folder / ".zattrs").is_file():
            attributes = _attributes(read_json(folder / ".zattrs", lenient=True))
        # as xarray writes it
        names = Fields(attributes).take_or("_ARRAY_DIMENSIONS", _AXIS_NAMES, ())
    else:
        return None
    ome = Fields(attributes).take_or("ome", _attributes, {})
    return Node(**array, axis_names=names, **_ome_values(Fields({**attributes, **ome})))


#: Attributes, most of which nobody reads here.
_attributes = mapping(anything, most=10**6, longest_key=PATH)


def _name_or_nothing(value: object) -> str:
    return "" if value is None else text(NAME)(value)


_AXIS_NAMES = items(_name_or_nothing, most=_MOST_AXES)


def _shape(value: object) -> tuple[int, ...]:
    shape = items(whole(0, _MOST_PIXELS), 0, _MOST_AXES)(value)
    if prod(shape) > _MOST_PIXELS:
        raise Malformed(f"must have at most {_MOST_PIXELS} pixels, not {prod(shape):.3g}")
    return shape


def _chunks(n: int) -> Any:
    return items(whole(1, _MOST_PIXELS), n, n)


def _array_2(array: Fields) -> dict[str, Any]:
    shape = array.take("shape", _shape)
    separator = array.take_or("dimension_separator", text(1, 1), ".")
    return {
        "shape": shape,
        "chunks": array.take("chunks", _chunks(len(shape))),
        "key_form": ("", separator),
    }


def _array_3(array: Fields) -> dict[str, Any]:
    shape = array.take("shape", _shape)
    grid = array.take("chunk_grid", fields(lambda grid: grid.take("configuration", fields(_same))))
    keys = array.take_or("chunk_key_encoding", fields(_same), Fields({}))
    is_old = keys.take_or("name", text(NAME), "default") == "v2"
    between = keys.take_or("configuration", fields(_same), Fields({})).take_or(
        "separator", text(1, 1), "." if is_old else "/"
    )
    return {
        "shape": shape,
        "chunks": grid.take("chunk_shape", _chunks(len(shape))),
        "key_form": ("" if is_old else f"c{between}", between),
    }


def _same(values: Fields) -> Fields:
    return values


def _ome_values(ome: Fields) -> dict[str, Any]:
    omero = ome.take_or("omero", fields(_channel_names), ())
    return {
        "images": ome.take_or("multiscales", items(fields(_multiscale), most=_MOST_IMAGES), ()),
        "channel_names": omero,
        "well_images": ome.optional("well", fields(lambda well: _paths(well, "images"))),
        "plate_wells": ome.optional("plate", fields(lambda plate: _paths(plate, "wells"))),
        "is_labels": "image-label" in ome,
        "record": ome.as_they_are().get(RECORD),
        "run": ome.take_or(RUN, either(text(_DIGEST), lambda _: ""), ""),
    }


def _channel_names(omero: Fields) -> tuple[str, ...]:
    """Names of the channels; what is no name is none, for the pixels can be read without."""
    label = fields(lambda channel: printable(channel.take_or("label", text(10_000), "")))
    return omero.take_or("channels", items(either(label, lambda _: ""), most=10**6), ())


def _paths(group: Fields, key: str) -> tuple[str, ...]:
    inside = fields(lambda one: one.take("path", _level_path))
    return group.take(key, items(inside, most=_MOST_IMAGES))


_level_path = either(lambda value: str(whole(0, 10**9)(value)), path_inside)


def _multiscale(image: Fields) -> Multiscale:
    axes = image.optional("axes", items(_axis, most=_MOST_AXES))
    levels = image.take("datasets", items(fields(_level), 1, _MOST_LEVELS))
    return Multiscale(levels, axes, _transform(image))


def _axis(value: object) -> Axis:
    if isinstance(value, str):
        return Axis(text(NAME, 1)(value))
    axis = Fields(value)
    kind, unit = (axis.take_or(key, text(NAME), "") for key in ("type", "unit"))
    return Axis(axis.take("name", text(NAME, 1)), kind, unit)


def _level(level: Fields) -> Level:
    return Level(level.take("path", _level_path), _transform(level))


def _transform(described: Fields) -> Transform:
    """Join the transformations in their order; a kind that is not known is left out."""
    found = described.take_or(
        "coordinateTransformations", items(fields(_one_transform), most=_MOST_LEVELS), ()
    )
    return reduce(Transform.then, found, Transform())


def _one_transform(transformation: Fields) -> Transform:
    kind = transformation.take_or("type", text(NAME), "")
    if kind not in ("scale", "translation") or kind not in transformation:
        return Transform()  # the second: it lies in a file of its own
    return Transform(**{kind: transformation.take(kind, items(number(-1e30, 1e30), 0, _MOST_AXES))})


def finest_transform(image: Multiscale) -> Transform:
    """Give what brings the finest level to its place: its own, then that of all levels."""
    return image.levels[0].transform.then(image.transform)


def only(image: Multiscale, level: Level) -> Multiscale:
    """Give an image of one of its levels."""
    return Multiscale((level,), image.axes, image.transform)
