"""Parse the record of a result: in ``NAME_cells.tif``, and in the JSON beside it.

`files/result.schema.json` describes it. Records of version 0.1.0 have other names of parameters.
What is not known here is kept: a later version may have written it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.core.instance_options import DROPPED_NAME, OLD_NAMES
from napari_unet_cells.untrusted.card import THRESHOLDS, parse_instances
from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    Fields,
    Malformed,
    Rule,
    color,
    either,
    fields,
    flag,
    items,
    mapping,
    number,
    one_of,
    pair,
    plain_mapping,
    text,
    whole,
)

#: A factor or a shift of a layer: what can be multiplied with another one.
_WIDEST = 1e100

#: Axes of a layer of ours.
_MOST_AXES = 10

#: Daughters among the tracks of a movie.
_MOST_TRACKS = 1_000_000

#: Parts of an image that were segmented on their own.
_MOST_PARTS = 100_000


@dataclass(frozen=True)
class Transform:
    """Transform of a layer of n axes into the world, as napari's layers take it.

    Attributes
    ----------
    scale, translate : tuple of n floats
    rotate : n tuples of n floats
    shear : tuple of floats, or n tuples of n
    affine : n + 1 tuples of n + 1 floats
    units, axis_labels : tuple of n str
    """

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    rotate: tuple[tuple[float, ...], ...]
    shear: tuple[Any, ...]
    affine: tuple[tuple[float, ...], ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    def as_lists(self) -> dict[str, list[Any]]:
        """Give it as JSON holds it."""
        return {name: _listed(value) for name, value in vars(self).items()}


def parse_transform(value: object) -> Transform:
    """Check the transform of a layer of two to ten axes.

    Raises
    ------
    Malformed
    """
    stated = Fields(value)
    # a scale of zero cannot be turned back
    scale = stated.take("scale", items(_not_zero, 2, _MOST_AXES))
    n = len(scale)
    row = number(-_WIDEST, _WIDEST)
    names = items(text(NAME), n, n)
    return Transform(
        scale,
        stated.take("translate", items(row, n, n)),
        stated.take("rotate", _square(n)),
        stated.take("shear", either(_square(n), items(row, 0, _MOST_AXES**2))),
        stated.take("affine", _square(n + 1)),
        stated.take("units", names),
        stated.take("axis_labels", names),
    )


def _square(n: int) -> Callable[[object], tuple[tuple[float, ...], ...]]:
    return items(items(number(-_WIDEST, _WIDEST), n, n), n, n)


def _not_zero(value: object) -> float:
    size = number(-_WIDEST, _WIDEST)(value)
    if abs(size) < 1 / _WIDEST:
        raise Malformed(f"must be further from zero than {1 / _WIDEST:g}, not {size:g}")
    return size


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class ResultRecord:
    """Record of a result.

    Attributes
    ----------
    document : mapping
        All of it, as it was read; the values of `parse_record` in it have their types.
    role : str
        "cells", "classes", "strokes", or empty.
    layer : str
        Name of the layer that was exported.
    classes, colors : tuple of str
    corrected_by_hand : bool
    transform : Transform or None
    """

    document: Mapping[str, Any]
    role: str = ""
    layer: str = ""
    classes: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    corrected_by_hand: bool = False
    transform: Transform | None = None


def parse_record(document: object) -> ResultRecord:
    """Check a record.

    What the program uses of it and makes no sense is left out, as if it had not been written: the
    labels are there all the same, and lie where their file says.

    Raises
    ------
    Malformed
        Where it is no object.
    """
    values = _cleaned(_USED)(document)
    record = Fields(values)
    return ResultRecord(
        values,
        record.take_or("role", _ROLE, ""),
        record.take_or("layer", text(PATH), ""),
        record.take_or("classes", _CLASSES, ()),
        record.take_or("colors", _COLORS, ()),
        record.take_or("corrected_by_hand", flag, False),
        record.optional("transform", parse_transform),
    )


_SHAPE = items(whole(0, 2**40), 0, _MOST_AXES)
_LENGTH = number(0, 1e9)
_ROLE = one_of(("cells", "classes", "strokes"))
_CLASSES = items(text(NAME), most=255)
_COLORS = items(color, most=255)
_PIXELS = pair(whole(0, 2**40))
_PART = fields(
    lambda part: (
        part.take("rows", _PIXELS),
        part.take("columns", _PIXELS),
        part.take_or("plane", _SHAPE, ()),
        part.take_or("date", text(NAME), ""),
    )
)
_SIZE = fields(lambda size: [size.take(axis, number(0, 1e12)) for axis in "yx"])


def _threshold(name: str) -> Rule[Any]:
    return lambda value: parse_instances({name: value})


def _cleaned(rules: Mapping[str, Rule[Any]]) -> Rule[dict[str, Any]]:
    """Rule for an object that leaves out the values of known names that break their rules.

    What is not known stays: a later version may have written it.
    """

    def clean(value: object) -> dict[str, Any]:
        values = plain_mapping(value)
        for name in rules.keys() & values.keys():
            try:
                values[name] = rules[name](values[name])
            except Malformed:
                del values[name]
        return values

    return clean


def _same(rule: Rule[Any]) -> Rule[Any]:
    """Check a value, and keep it as JSON holds it."""

    def check(value: object) -> object:
        rule(value)
        return value

    return check


def _or_null(rule: Rule[Any]) -> Rule[Any]:
    return lambda value: None if value is None else rule(value)


_THRESHOLDS = {name: _same(_threshold(name)) for name in (*THRESHOLDS, *OLD_NAMES, DROPPED_NAME)}

_PARAMETERS: dict[str, Rule[Any]] = {
    "instances": _or_null(_cleaned(_THRESHOLDS)),  # null where there are no cells
    "scale": _cleaned(
        {"diameter": _LENGTH, "estimated": flag, "zoom": _LENGTH, "begun_with": _LENGTH}
    ),
    "test_time_augmentation": flag,
    "quality": text(NAME),  # of version 0.1.0
    "linked_along_axis": _or_null(whole(0, _MOST_AXES)),
}

_MODEL: dict[str, Rule[Any]] = dict.fromkeys(("name", "sha256", "architecture"), text(PATH))

_SOURCE: dict[str, Rule[Any]] = {
    "path": _or_null(text(PATH)),
    "layer": text(PATH),
    "shape": _same(_SHAPE),
    "axes": text(NAME),
    "plane": _same(either(_SHAPE, whole(0, 2**40))),
    "channel": _or_null(either(whole(0, 10**6), text(NAME))),
    "channels": _same(items(either(whole(0, 10**6), text(NAME)))),
    "projection": text(NAME),
    "fixed": mapping(whole(0, 2**40)),
}

#: What the program reads of a record, wherever it does.
_USED: dict[str, Rule[Any]] = {
    "role": _ROLE,
    "layer": text(PATH),
    "classes": _same(_CLASSES),
    "colors": _same(_COLORS),
    "corrected_by_hand": _or_null(flag),
    "transform": _same(parse_transform),
    "model": _cleaned(_MODEL),
    "parameters": _cleaned(_PARAMETERS),
    "source": _cleaned(_SOURCE),
    "date": text(NAME),
    "device": text(PATH),
    "seconds": _same(number(0, 1e12)),
    "complete": flag,
    "parts": _same(items(_PART, most=_MOST_PARTS)),
    "tracks": _cleaned({"parents": _same(items(pair(whole(1, 2**63 - 1)), most=_MOST_TRACKS))}),
    "cells": _or_null(whole(0, 2**40)),
    "files": _same(items(text(PATH))),
    "pixel_size": _or_null(_same(either(_SIZE, pair(number(0, 1e12))))),
    "unit": text(NAME),  # of version 0.1.0
}
