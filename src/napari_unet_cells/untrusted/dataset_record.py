"""Parse records of ``index.json``, the list of a dataset's images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.regions import Region
from napari_unet_cells.untrusted.names import path_inside
from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    SENTENCE,
    Fields,
    Malformed,
    color,
    either,
    fields,
    flag,
    items,
    number,
    one_of,
    pair,
    plain_mapping,
    text,
    whole,
)

#: Of a plane or an axis; no image is wider.
_LONGEST_AXIS = 2**40

#: Records of an index.
MOST_RECORDS = 1_000_000

#: Empty where nobody decided.
SPLITS = ("", "train", "val", "test")


@dataclass(frozen=True)
class DatasetRecord:
    """Record of one image or region of a dataset.

    Attributes
    ----------
    name : str
        Of the image and its mask, a path inside of their folders; it tells records apart.
    image, mask : str
        Paths inside the dataset; empty where they follow from the name.
    modality : str
        Microscopy and object, such as "fluorescence nuclei".
    split : str
        One of `SPLITS`.
    version : int
    replaced_by : str
        Name of the newer version of the region; empty for the newest.
    region, inside : Region or None
        In the source, and in the image.
    plane : tuple of int
        Of the source.
    channel : int, str, tuple of them, or None
    classes, colors : tuple of str
    limits : Limits or None
    source : mapping
        What is known of the image that it was cut from: sha256, path, pixels, layer and others.
    approved : str
        Date.
    edited : bool
        Whether the user changed what the run made.
    """

    name: str
    image: str = ""
    mask: str = ""
    modality: str = "unknown"
    split: str = ""
    version: int = 1
    replaced_by: str = ""
    region: Region | None = None
    inside: Region | None = None
    plane: tuple[int, ...] = ()
    channel: Any = None
    classes: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    limits: Limits | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    approved: str = ""
    edited: bool = False
    #: As it was read, with what this version does not know.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def in_split(self, split: str) -> DatasetRecord:
        """Give the record with another split."""
        return replace(self, split=split, document={**self.document, "split": split})

    def replaced(self, name: str) -> DatasetRecord:
        """Give the record of what a newer version of a name replaced."""
        return replace(self, replaced_by=name, document={**self.document, "replaced_by": name})


def parse_record(document: object) -> DatasetRecord:
    """Check one record.

    Raises
    ------
    Malformed
        Its text names the record where that has a name.
    """
    record = Fields(document)
    name = record.take("name", path_inside)
    try:
        return _record_of(name, record)
    except Malformed as error:
        raise Malformed(f"says of {name} that its {error}") from error


def _record_of(name: str, record: Fields) -> DatasetRecord:
    return DatasetRecord(
        name=name,
        image=record.take_or("image", _PATH_OR_NOTHING, ""),
        mask=record.take_or("mask", _PATH_OR_NOTHING, ""),
        modality=record.take_or("kind", _word, "unknown"),
        split=record.take_or("split", _split, ""),
        version=record.take_or("version", whole(1, 10**6), 1),
        replaced_by=record.take_or("replaced_by", _PATH_OR_NOTHING, ""),
        region=record.optional("region", _REGION),
        inside=record.optional("inside", _REGION),
        plane=record.take_or("plane", items(whole(0, _LONGEST_AXIS), 0, 10), ()),
        channel=record.optional("channel", either(_CHANNEL, items(_CHANNEL))),
        classes=record.take_or("classes", items(_word, most=255), ()),
        colors=record.take_or("colors", either(items(color, most=255), _no_colors), ()),
        limits=record.optional("limits", _limits),
        source=record.take_or("source", fields(_source), {}),
        approved=record.take_or("approved", either(text(NAME), _yes_or_no), ""),
        edited=bool(record.take_or("edited", either(flag, whole(0, 1)), False)),
        document=record.as_they_are(),
    )


def _word(value: object) -> str:
    """Take a name that was written by hand, also where it looks like a number."""
    if isinstance(value, bool) or not isinstance(value, int):
        return text(SENTENCE)(value)
    return str(whole(-(10**9), 10**9)(value))


#: What people write for the splits.
_SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val"}


def _split(value: object) -> str:
    word = value.strip().lower() if isinstance(value, str) else ""
    return one_of(SPLITS)(_SPLIT_WORDS.get(word, value))


def _no_colors(value: object) -> tuple[str, ...]:
    """Take colours by their names as none: napari's own are shown."""
    items(text(NAME), most=255)(value)
    return ()


def _yes_or_no(value: object) -> str:
    """Take an approval without its date."""
    flag(value)
    return ""


def _nothing(value: object) -> str:
    """Take an empty text, which says that there is none."""
    return text(0)(value)


_PATH_OR_NOTHING = either(_nothing, path_inside)

_CHANNEL = either(whole(0, 10**6), text(NAME))


def _region(sides: Fields) -> Region:
    side = whole(0, _LONGEST_AXIS)
    return Region(*(sides.take(name, side) for name in ("top", "bottom", "left", "right")))


_REGION = fields(_region)


def _limits(value: object) -> Limits:
    low, high = pair(number())(value)
    if not low < high:
        raise Malformed(f"must rise, and go from {low:g} to {high:g}")
    return Limits(low, high)


def _source(source: Fields) -> dict[str, Any]:
    """Check what tells one source from another, and keep the rest as it is."""
    for key in ("sha256", "path", "pixels", "layer"):
        source.optional(key, text(PATH))
    return plain_mapping(source.as_they_are())
