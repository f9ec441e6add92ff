"""Parse the card of a model: ``NAME.json``, beside ``NAME.keras``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from napari_unet_cells.core.instance_options import (
    DROPPED_NAME,
    MAX_WEIGHT,
    OLD_NAMES,
    WEIGHTS,
    InstanceOptions,
    MergeRule,
)
from napari_unet_cells.core.smoothing import MAX_SMOOTHING
from napari_unet_cells.untrusted.rules import (
    NAME,
    SENTENCE,
    Fields,
    Malformed,
    anything,
    color,
    flag,
    items,
    mapping,
    matching,
    number,
    pair,
    plain_mapping,
    text,
    whole,
)

#: A class image is 8 bit, and the value 255 stays free.
MAX_CLASSES = 255

MAX_CHANNELS = 16

#: Pixels; no cell is wider.
MAX_DIAMETER = 100_000

#: Pixels: networks halve an image up to six times, and see as far as this.
_MAX_STRIDE, _MAX_HALO = 64, 1024


@dataclass(frozen=True)
class CardValues:
    """Values of a model card.

    Attributes
    ----------
    name : str
        Under which it is chosen.
    architecture : str
        A name of `architectures.ARCHITECTURES`.
    classes : tuple of str
        Names of the channels of the logits; those with "cell" and "boundary" give cells.
    channels, stride, halo : int
        Of the network, in pixels (`channels`: 1 grey, 3 RGB, others as they were trained on).
    sha256 : str
        Of the `.keras` file.
    instances : InstanceOptions
        Limits of the watershed, fitted on training images.
    diameters : (float, float)
        How wide a typical cell was, in pixels, in nine of ten images it was trained on.
    diameter_window : (float, float)
        Median cell diameters, in pixels, into which an image is zoomed for the model; (0, 0)
        shows it every image as it is.
    typical_diameter : float
        Median cell diameter, in pixels, of the images of the one kind that the model was made
        for; 0 where it is made for many, and the diameter is to be estimated.
    tuned_diameter : float
        Median cell diameter, in pixels, of the corrected regions that the model was tuned on,
        where they are of one kind: the estimate of an image begins there, and ends there where it
        is about that (`cell_diameter.as_tuned`). 0 for others.
    colors : tuple of str
        Of the classes, where the user chose them, such as "#ff8800"; else empty.
    distance : bool
        Whether one more channel follows: the logit of how deep a pixel lies in its cell
        (`crops.boundary_distance`). Seeds are its peaks; without it, those of "cell".
    build : mapping
        Options of the architecture.
    parent : mapping
        Name and sha256 of the model that it was retrained from; empty where it was not.
    description, license, date : str
    works_on, fails_on : tuple of str
        Sentences for the biologist: images that it was made for, and when not to use it. A
        retrained model has those of its parent.
    trained_on : tuple of mappings
        Name, licence, origin and number of images of each data set.
    scores : mapping
        Measured ones, by data set.
    """

    name: str
    architecture: str
    classes: tuple[str, ...]
    channels: int
    stride: int
    halo: int
    sha256: str
    instances: InstanceOptions = field(default_factory=InstanceOptions)
    diameters: tuple[float, float] = (0.0, 0.0)
    diameter_window: tuple[float, float] = (0.0, 0.0)
    typical_diameter: float = 0.0
    tuned_diameter: float = 0.0
    colors: tuple[str, ...] = ()
    distance: bool = False
    build: Mapping[str, Any] = field(default_factory=dict)
    parent: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    license: str = ""
    date: str = ""
    works_on: tuple[str, ...] = ()
    fails_on: tuple[str, ...] = ()
    trained_on: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)


def parse_card(document: object) -> dict[str, Any]:
    """Check the JSON of a card.

    Returns
    -------
    dict
        Arguments of `CardValues`; what older cards lack has its default.

    Raises
    ------
    Malformed
    """
    card = Fields(document)
    card.refuse_others({one.name for one in fields(CardValues)})
    required = {name: card.take(name, _RULES[name]) for name in _REQUIRED}
    if required["halo"] % required["stride"]:
        raise Malformed(
            f"halo must be a multiple of the stride {required['stride']}, not {required['halo']}"
        )
    # null is as wrong here as any other value of another type
    others = {
        name: card.take(name, rule)
        for name, rule in _RULES.items()
        if name not in _REQUIRED and name in card.as_they_are()
    }
    return {**required, **others}


def _stride(value: object) -> int:
    stride = whole(1, _MAX_STRIDE)(value)
    if stride & (stride - 1):
        raise Malformed(f"must be a power of two, not {stride}: a network halves an image")
    return stride


def parse_instances(value: object) -> InstanceOptions:
    """Check thresholds of the instance separation, under the names of any version.

    Raises
    ------
    Malformed
    """
    known = plain_mapping(value)
    current = {OLD_NAMES.get(k, k): v for k, v in known.items() if k != DROPPED_NAME}
    options = Fields(current)
    options.refuse_others(_INSTANCES)
    chosen = {name: options.take(name, _INSTANCES[name]) for name in current}
    try:
        return InstanceOptions(**chosen)
    except ValueError as error:
        raise Malformed(f"make no sense: {error}") from error


def _merge_rule(value: object) -> MergeRule | None:
    """Check the weights of a rule to merge by; null where there is none."""
    if value is None:
        return None
    rule = Fields(value)
    rule.refuse_others(_MERGE_RULE)
    return MergeRule(**{name: rule.take(name, check) for name, check in _MERGE_RULE.items()})


_WEIGHT = number(-MAX_WEIGHT, MAX_WEIGHT)

_MERGE_RULE: dict[str, Any] = {"certain": number(0, 1), **dict.fromkeys(WEIGHTS, _WEIGHT)}

_INSTANCES: dict[str, Any] = {
    "cell_threshold": number(0, 1),
    "smoothing": number(0, MAX_SMOOTHING),
    "min_size": whole(0, 10**9),
    "fill_holes": flag,
    "split": number(0, 1),
    "min_probability": number(0, 1),
    "drop_border": flag,
    "merge": _merge_rule,
}

#: Names of the thresholds that are known.
THRESHOLDS = tuple(_INSTANCES)

_DIAMETER = number(0, MAX_DIAMETER)

_SENTENCES = items(text(SENTENCE), most=100)

_REQUIRED = (
    *("name", "architecture", "classes", "channels", "stride", "halo", "sha256"),
    *("instances", "diameters", "trained_on"),
)

_RULES: dict[str, Any] = {
    "name": text(NAME),
    "architecture": text(NAME, 1),
    "classes": items(text(NAME, 1), 2, MAX_CLASSES),
    "channels": whole(1, MAX_CHANNELS),
    "stride": _stride,
    "halo": whole(0, _MAX_HALO),
    "sha256": matching("[0-9a-f]{64}", "64 digits from 0 to f"),
    "instances": parse_instances,
    "diameters": pair(_DIAMETER),
    "diameter_window": pair(_DIAMETER),
    "typical_diameter": _DIAMETER,
    "tuned_diameter": _DIAMETER,
    "colors": items(color, most=MAX_CLASSES),
    "distance": flag,
    "build": plain_mapping,
    "parent": mapping(text(NAME)),
    "description": text(SENTENCE),
    "license": text(SENTENCE),
    "date": text(NAME),
    "works_on": _SENTENCES,
    "fails_on": _SENTENCES,
    "trained_on": items(plain_mapping),
    "scores": mapping(anything),
}
