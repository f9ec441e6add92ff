"""Parse ``plan.json`` of a run that writes an OME-Zarr block by block.

It lies in the hidden folder of the run until the result has its name. Whoever computes a block, in
this process or on another computer, knows nothing but this file and the number of the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from napari_unet_cells.core.instance_options import InstanceOptions
from napari_unet_cells.untrusted.card import parse_instances
from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    Fields,
    Malformed,
    Rule,
    anything,
    either,
    flag,
    items,
    matching,
    number,
    one_of,
    pair,
    plain_mapping,
    text,
    whole,
)

#: Pixels of a plane: a square of 262,144 a side.
MOST_PIXELS = 2**36

#: Planes of a stack.
_MOST_PLANES = 10**6

_LENGTH = whole(1, 2**36)

_DIAMETER = number(0, 1e9)

#: What is known of a run before it, apart from what the plan holds under its own names.
KNOWN: dict[str, Rule[Any]] = {
    "diameter": _DIAMETER,
    "diameter_given": flag,
    "diameter_unsure": flag,
    "other_diameter": _DIAMETER,
    "confirmed_diameter": _DIAMETER,
    "zoom": number(1e-6, 1e6),
}


@dataclass(frozen=True)
class ZarrPlan:
    """Plain values that all blocks of a run share.

    Attributes
    ----------
    key : str
        Digest of image, model, settings and version: where it differs the run begins anew.
    stamp : str
        Digest of sizes and times of change of the files of the image.
    image, model : str
        Paths.
    runtime : str
        See `models.runtimes.table.open_network`.
    channel : int, str, tuple of them, or None
    projection : str or None
    plane : int, "all" or None
    allow_missing_chunks : bool
        See `segmentation.to_zarr.ZarrRequest`.
    axes : str
        Of the labels, as NGFF names them.
    shape : tuple of int
        Of the labels, (..., y, x).
    scaled : (int, int)
        Of what the network sees of a plane.
    side, margin, stride : int
        See `core.plane_blocks.PlaneBlocks`.
    limits : tuple of (float, float) or None
        For each plane; None where it is empty.
    options : InstanceOptions, or None
        None where the model makes classes only.
    test_time_augmentation, overwrite : bool
    version : str
        Of NGFF.
    pixel_size : (float, float), or None
    unit : str
    z_step : float or None
    place : mapping of str to (float, float, str), or None
        See `files.zarr_metadata.AxisPlace`; None in plans of earlier versions.
    details : mapping
        `KNOWN` of `segmentation.details.RunDetails`, by their names.
    source : mapping
        Where the image came from, for the record.
    told_axes : str or None
        See `segmentation.to_zarr.ZarrRequest`; None where nobody said anything.
    track : mapping or None
        Of the fields of `tracking.TrackingOptions`; None where cells are not tracked.
    """

    key: str
    stamp: str
    image: str
    model: str
    runtime: str
    channel: int | str | tuple[int | str, ...] | None
    projection: str | None
    plane: int | str | None
    allow_missing_chunks: bool
    axes: str
    shape: tuple[int, ...]
    scaled: tuple[int, int]
    side: int
    margin: int
    stride: int
    limits: tuple[tuple[float, float] | None, ...]
    options: InstanceOptions | None
    test_time_augmentation: bool
    overwrite: bool
    version: str
    pixel_size: tuple[float, float] | None
    unit: str
    z_step: float | None
    place: Mapping[str, tuple[float, float, str]] | None
    details: Mapping[str, Any]
    source: Mapping[str, Any]
    told_axes: str | None = None
    track: Mapping[str, Any] | None = None


def parse_plan(document: object) -> ZarrPlan:
    """Check a plan.

    Raises
    ------
    Malformed
    """
    plan = Fields(document)
    values: dict[str, Any] = {name: plan.take(name, rule) for name, rule in _REQUIRED.items()}
    values |= {name: plan.optional(name, rule) for name, rule in _OPTIONAL.items()}
    found = ZarrPlan(**values)
    if len(found.axes) != len(found.shape):
        raise Malformed("has axes that do not fit its shape")
    if prod(found.shape[-2:]) > MOST_PIXELS or prod(found.shape[:-2]) > _MOST_PLANES:
        raise Malformed("has too many pixels")
    if len(found.limits) != prod(found.shape[:-2]):
        raise Malformed("has no limits for each plane")
    if found.track is not None and (found.axes != "tyx" or found.options is None):
        raise Malformed("tracks what is no movie of cells")
    return found


def _limits(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = pair(number())(value)
    if not low < high:
        raise Malformed("must rise")
    return low, high


def _details(value: object) -> dict[str, float | bool]:
    details = Fields(value)
    details.refuse_others(KNOWN)
    return {name: details.take(name, rule) for name, rule in KNOWN.items()}


def _track(value: object) -> dict[str, float]:
    track = Fields(value)
    track.refuse_others(_TRACK)
    return {name: track.take(name, rule) for name, rule in _TRACK.items()}


def _place(value: object) -> dict[str, tuple[float, float, str]]:
    place = Fields(value)
    place.refuse_others("tczyx")
    return {name: place.take(name, _axis_place) for name in "tczyx" if name in place}


def _axis_place(value: object) -> tuple[float, float, str]:
    step, origin, unit = items(anything, 3, 3)(value)
    return number()(step), number()(origin), text(NAME)(unit)


#: Limits of the tracking, as `tracking.TrackingOptions` has them.
_TRACK: dict[str, Rule[Any]] = {
    "distance": number(1e-9, 100),
    "missing": whole(0, 100),
    "division_distance": number(0, 100),
}

_SIZE = number(1e-9, 1e12)
_CHANNEL: Rule[Any] = either(whole(0, 10**6), text(NAME))

_REQUIRED: dict[str, Rule[Any]] = {
    "key": matching("[0-9a-f]{64}", "a sha256"),
    "stamp": matching("[0-9a-f]{64}", "a sha256"),
    "image": text(PATH, 1),
    "model": text(PATH, 1),
    "runtime": text(NAME),
    "allow_missing_chunks": flag,
    "axes": matching("t?c?z?yx", "the axes of labels"),
    "shape": items(_LENGTH, 2, 5),
    "scaled": pair(_LENGTH),
    "side": whole(1, 2**20),
    "margin": whole(0, 2**20),
    "stride": whole(1, 2**12),
    "limits": items(_limits, 1, _MOST_PLANES),
    "test_time_augmentation": flag,
    "overwrite": flag,
    "version": one_of(("0.4", "0.5")),
    "unit": text(NAME),
    "details": _details,
    "source": plain_mapping,
}

_OPTIONAL: dict[str, Rule[Any]] = {
    "channel": either(_CHANNEL, items(_CHANNEL)),
    "projection": text(NAME),
    "plane": either(whole(0, 2**40), one_of(("all",))),
    "options": parse_instances,
    "pixel_size": pair(_SIZE),
    "z_step": _SIZE,
    "place": _place,
    "told_axes": matching("[?]*C[?]*YX", "axes of which one holds the channels"),
    "track": _track,
}
