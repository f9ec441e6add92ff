"""Parse the record of a result: in ``NAME_cells.tif``, and in the JSON beside it.

`files/result.schema.json` describes it. Records of version 0.1.0 have other names of parameters.
What is not known here is kept: a later version may have written it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.core.instance_options import DROPPED_NAME, OLD_NAMES
from napari_unet_cells.untrusted.card import parse_instances
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

#: A factor, a shift, or an angle of a layer; napari computes with no more digits.
_WIDEST = 1e12

#: Axes of a layer of ours.
_MOST_AXES = 10


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
    values = plain_mapping(document)
    for name, rule in _USED.items():
        try:
            if name in values:
                rule(values[name])
        except Malformed:
            del values[name]
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


def _parameters(parameters: Fields) -> dict[str, Any]:
    parameters.optional("instances", fields(_thresholds))  # null where there are no cells
    parameters.optional("test_time_augmentation", flag)
    parameters.optional("quality", text(NAME))  # of version 0.1.0
    parameters.optional("linked_along_axis", whole(0, _MOST_AXES))
    values = parameters.as_they_are()
    if "scale" in values:
        parameters.take("scale", fields(_scale))
    return values


def _thresholds(thresholds: Fields) -> dict[str, Any]:
    """Check those that are known; a later version may have others."""
    known = {"cell_threshold", "smoothing", "min_size", "fill_holes", "split", "min_probability"}
    known |= {"drop_border", DROPPED_NAME, *OLD_NAMES}
    values = thresholds.as_they_are()
    parse_instances({name: value for name, value in values.items() if name in known})
    return values


def _scale(scale: Fields) -> dict[str, Any]:
    known = {"diameter": number(0, 1e9), "estimated": flag, "zoom": number(0, 1e9)}
    values = scale.as_they_are()
    for name in known.keys() & values.keys():
        scale.take(name, known[name])
    return values


def _model(model: Fields) -> dict[str, Any]:
    for name in ("name", "sha256", "architecture"):
        model.optional(name, text(PATH))
    return model.as_they_are()


def _source(source: Fields) -> dict[str, Any]:
    source.optional("path", text(PATH))
    source.optional("layer", text(PATH))
    source.optional("shape", _SHAPE)
    source.optional("axes", text(NAME))
    source.optional("plane", either(_PLACE, whole(0, 2**40)))
    source.optional("channel", either(whole(0, 10**6), text(NAME)))
    source.optional("channels", items(either(whole(0, 10**6), text(NAME))))
    source.optional("projection", text(NAME))
    source.optional("fixed", mapping(whole(0, 2**40)))
    return source.as_they_are()


_SHAPE = items(whole(0, 2**40), 0, _MOST_AXES)
_PLACE = items(whole(0, 2**40), 0, _MOST_AXES)
_ROLE = one_of(("cells", "classes", "strokes"))
_CLASSES = items(text(NAME), most=255)
_COLORS = items(color, most=255)
_SIZE = fields(lambda size: [size.take(axis, number(0, _WIDEST)) for axis in "yx"])


def _or_null(rule: Rule[Any]) -> Rule[Any]:
    return lambda value: None if value is None else rule(value)


#: What the program reads of a record, wherever it does.
_USED: dict[str, Rule[Any]] = {
    "role": _ROLE,
    "layer": text(PATH),
    "classes": _CLASSES,
    "colors": _COLORS,
    "corrected_by_hand": _or_null(flag),
    "transform": parse_transform,
    "model": fields(_model),
    "parameters": fields(_parameters),
    "source": fields(_source),
    "date": text(NAME),
    "device": text(PATH),
    "seconds": number(0, _WIDEST),
    "complete": flag,
    "cells": _or_null(whole(0, 2**40)),
    "files": items(text(PATH)),
    "pixel_size": _or_null(either(_SIZE, pair(number(0, _WIDEST)))),
    "unit": text(NAME),  # of version 0.1.0
}
