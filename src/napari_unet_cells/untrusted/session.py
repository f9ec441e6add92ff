"""Parse headers of the files of an autosaved session, and the list of what was exported of it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import prod
from operator import lt
from typing import Any

import numpy as np

from napari_unet_cells.core.regions import Place, RegionGrid
from napari_unet_cells.untrusted.json_text import parse_json
from napari_unet_cells.untrusted.result_record import parse_record, parse_transform
from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    Fields,
    Malformed,
    Rule,
    date,
    fields,
    items,
    number,
    one_of,
    pair,
    plain_mapping,
    shown,
    text,
    whole,
)

#: Bytes of a header, unpacked; a table of 100,000 regions takes a tenth.
LONGEST_HEADER = 2**26

#: Regions of all planes, and pixels of a layer that can be corrected: it lies in the memory.
MOST_REGIONS, MOST_PIXELS = 2**20, 2**36

#: Bytes of a region, compressed.
_LARGEST_REGION = 2**32

_MOST_AXES = 10
_MADE = re.compile(r"made(-\d{6,})?\.labels")

#: Types of labels, as numpy writes them.
_DTYPES = {f"{order}{kind}{size}" for order in "<>|=" for kind in "iu" for size in (1, 2, 4, 8)}
_NAMES = {f"{kind}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)}


def unpack_header(packed: bytes) -> Any:
    """Unpack and parse the header of a file.

    Raises
    ------
    Malformed
    """
    unpacker = zlib.decompressobj()
    try:
        document = unpacker.decompress(packed, LONGEST_HEADER)
    except zlib.error as error:
        raise Malformed(f"its header is damaged ({error})") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise Malformed("its header is cut off, or too long")
    return parse_json(document)


# --- what all files have ------------------------------------------------------------------


@dataclass(frozen=True)
class TableRow:
    """One region of a file: where it belongs, and its bytes."""

    place: Place
    dtype: np.dtype[Any]
    size: int
    crc: int


@dataclass(frozen=True)
class FileHeader:
    """Header of any file of a session.

    Attributes
    ----------
    format : int
    shape : tuple of int
        Of the labels.
    dtype : numpy.dtype
        Of the labels, an integer type.
    table : tuple of TableRow
        In the order of the bytes that follow.
    document : mapping
        The header as it was read.
    """

    format: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    table: tuple[TableRow, ...]
    document: Mapping[str, Any] = field(repr=False, compare=False)


def parse_file_header(document: object) -> FileHeader:
    """Check the header of any file.

    Raises
    ------
    Malformed
    """
    header = Fields(document)
    return FileHeader(
        header.take("format", whole(0, 10**6)),
        header.take("shape", _shape),
        header.take("dtype", _labels_type),
        header.take("table", items(_table_row, most=MOST_REGIONS)),
        header.as_they_are(),
    )


def _shape(value: object) -> tuple[int, ...]:
    shape = items(whole(1, MOST_PIXELS), 2, _MOST_AXES)(value)
    if prod(shape) > MOST_PIXELS:
        raise Malformed(f"must have at most {MOST_PIXELS} pixels, not {prod(shape)}")
    return shape


def _labels_type(value: object) -> np.dtype[Any]:
    name = text(10)(value)
    if name not in _DTYPES | _NAMES:
        raise Malformed(f"must be a type of whole numbers, not {name!r}")
    return np.dtype(name)


_index = items(whole(0, MOST_PIXELS), 0, _MOST_AXES)
_region = whole(0, MOST_REGIONS)
_crc = whole(0, 2**32 - 1)


def _row(value: object, n: int) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != n:
        raise Malformed(f"must be a list of {n} values")
    return tuple(value)


def _table_row(value: object) -> TableRow:
    plane, number_, dtype, size, crc = _row(value, 5)
    place = (_index(plane), _region(number_))
    return TableRow(place, _labels_type(dtype), whole(0, _LARGEST_REGION)(size), _crc(crc))


# --- saves --------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateRow:
    """One corrected region: the save that holds it, and its checksum."""

    place: Place
    save: int
    crc: int


@dataclass(frozen=True)
class ReviewValues:
    """Review of the labels at a save; see `regions.Review.as_dict`.

    Attributes
    ----------
    grid : RegionGrid
    approved : mapping of Place to str
        Dates.
    uncertainty : tuple of float
        Means of all regions, plane by plane.
    """

    grid: RegionGrid
    approved: Mapping[Place, str]
    uncertainty: tuple[float, ...]


@dataclass(frozen=True)
class SaveHeader:
    """Header of a save.

    Attributes
    ----------
    number : int
    date : datetime
    made : str
        Name of the file with what the program had made; empty for the first.
    facts : mapping
        What `autosave.describe` said of the layer: no other names, and each value checked. What
        it left out is not there.
    review : ReviewValues
    state : tuple of StateRow
    file : FileHeader
    """

    number: int
    date: datetime
    made: str
    facts: Mapping[str, Any]
    review: ReviewValues
    state: tuple[StateRow, ...]
    file: FileHeader


#: Name of the file with what the program made, where a save names none.
FIRST_MADE = "made.labels"


def parse_save_header(document: object) -> SaveHeader:
    """Check the header of a save.

    Raises
    ------
    Malformed
    """
    header, file = Fields(document), parse_file_header(document)
    return SaveHeader(
        header.take("number", whole(1, 10**9)),
        header.take("date", date),
        header.take_or("made", _made, FIRST_MADE),
        header.take_or("facts", fields(_facts), {}) if _is_object(document, "facts") else {},
        header.take("review", fields(lambda review: _review(review, file.shape))),
        header.take("state", items(_state_row, most=MOST_REGIONS)),
        file,
    )


def _is_object(document: object, key: str) -> bool:
    return isinstance(plain_mapping(document).get(key), Mapping)


def _made(value: object) -> str:
    name = text()(value)
    if _MADE.fullmatch(name) is None:
        raise Malformed(f"it names a wrong file of what was made: {shown(name)}")
    return name


def _state_row(value: object) -> StateRow:
    plane, number_, save, crc = _row(value, 4)
    return StateRow((_index(plane), _region(number_)), whole(0, 10**9)(save), _crc(crc))


def _review(review: Fields, shape: tuple[int, ...]) -> ReviewValues:
    rows, columns = review.take("counts", pair(whole(1, MOST_REGIONS)))
    n = prod(shape[:-2]) * rows * columns
    if rows > shape[-2] or columns > shape[-1] or n > MOST_REGIONS:
        raise Malformed(f"claims {n} regions of labels of shape {shape}")
    approved = dict(review.take("approved", items(_approved, most=n)))
    for plane, region in approved:
        fits = len(plane) == len(shape) - 2 and all(map(lt, plane, shape))
        if not fits or region >= rows * columns:
            raise Malformed(f"approves a region that is not there: {region} of {list(plane)}")
    uncertainty = review.take("uncertainty", items(number(), n, n))
    return ReviewValues(RegionGrid((shape[-2], shape[-1]), (rows, columns)), approved, uncertainty)


def _approved(value: object) -> tuple[Place, str]:
    region = Fields(value)
    place = (region.take("plane", _index), region.take("region", _region))
    return place, region.take("date", text(64))


# --- the layer and its image --------------------------------------------------------------

#: Keys of what we keep with a layer; see `layers.metadata`.
OURS, INPUT = "napari_unet_cells", "napari_unet_cells_input"

#: Of an array that is an image.
_image_shape = items(whole(0, MOST_PIXELS), 0, _MOST_AXES)


def _facts(facts: Fields) -> dict[str, Any]:
    """Check what was noted of a layer; what is not known or makes no sense is left out.

    It says where the labels lie and what they belong to; the corrections are whole without it.
    """
    return _chosen(
        facts,
        {
            "name": text(PATH),
            "place": _place,
            "metadata": fields(_metadata),
            "image": fields(_image),
        },
    )


def _chosen(values: Fields, rules: Mapping[str, Rule[Any]]) -> dict[str, Any]:
    """Give the values of known names that keep their rules; null stays, where it stood."""
    chosen = {}
    for name in rules.keys() & values.as_they_are().keys():
        try:
            chosen[name] = values.optional(name, rules[name])
        except Malformed:
            if name in _INSTEAD:
                chosen[name] = _INSTEAD[name]
    return {name: chosen[name] for name in rules if name in chosen}


#: What stands for values that make no sense, where others look for some.
_INSTEAD: Mapping[str, Any] = {
    "name": "labels",
    "place": {},
    "metadata": {},
    "path": None,
    "shape": [],
    "told": {},
    "image": None,
}


def _place(value: object) -> dict[str, Any]:
    """Take the transform of a layer; an empty one where it is not known."""
    return parse_transform(value).as_lists() if plain_mapping(value) else {}


def _metadata(metadata: Fields) -> dict[str, Any]:
    return _chosen(metadata, {OURS: fields(_ours), INPUT: fields(_told)})


def _ours(ours: Fields) -> dict[str, Any]:
    return _chosen(
        ours,
        {
            "role": text(NAME),
            "image": text(NAME),
            "digest": whole(-(2**63), 2**63 - 1),
            "provenance": lambda value: dict(parse_record(value).document),
            "part_of": fields(_part),
        },
    )


def _part(part: Fields) -> dict[str, Any]:
    """Take which part of an OME-Zarr labels are."""
    place = whole(0, 2**36)
    run = part.optional("run", text(NAME))
    return {
        "zarr": part.take("zarr", text(PATH, 1)),
        "plane": list(part.take("plane", items(place, most=8))),
        "rows": list(part.take("rows", pair(place))),
        "columns": list(part.take("columns", pair(place))),
        **({} if run is None else {"run": run}),
    }


def _told(told: Fields) -> dict[str, Any]:
    return _chosen(
        told,
        {
            "path": text(PATH),
            "pixel_size": _told_size,
            "channel": whole(0, 10**6),
            "channels": lambda value: list(items(whole(0, 10**6))(value)),
            "projection": one_of(("max", "mean")),
        },
    )


def _told_size(value: object) -> list[Any]:
    y, x, unit = _row(value, 3)
    size = number(0, 1e12)
    return [size(y), size(x), text(NAME)(unit)]


def _image(image: Fields) -> dict[str, Any]:
    return _chosen(
        image,
        {
            "path": text(PATH, 1),
            "name": text(PATH),
            "shape": lambda value: list(_image_shape(value)),
            "dtype": text(NAME),
            "place": _place,
            "told": fields(_told),
            "reader": text(NAME),
        },
    )


# --- what was exported --------------------------------------------------------------------


@dataclass(frozen=True)
class ExportRow:
    """One export of a session; see `corrections.exported.Written`."""

    path: str
    date: datetime
    regions: Mapping[Place, int]
    approved: frozenset[Place]
    files: Mapping[str, tuple[int, int]]


def parse_exports(document: object) -> tuple[ExportRow, ...]:
    """Check the list of what was exported.

    Raises
    ------
    Malformed
    """
    return Fields(document).take("exports", items(fields(_export)))


def _export(row: Fields) -> ExportRow:
    most = MOST_REGIONS
    return ExportRow(
        row.take("path", text(PATH, 1)),
        row.take("date", date),
        dict(row.take("regions", items(_exported_region, most=most))),
        frozenset(row.take("approved", items(_exported_place, most=most))),
        dict(row.take("files", items(_exported_file, most=most))),
    )


def _exported_place(value: object) -> Place:
    plane, number_ = _row(value, 2)
    return _index(plane), _region(number_)


def _exported_region(value: object) -> tuple[Place, int]:
    plane, number_, crc = _row(value, 3)
    return (_index(plane), _region(number_)), _crc(crc)


def _exported_file(value: object) -> tuple[str, tuple[int, int]]:
    name, size, time = _row(value, 3)
    stamp = whole(0, 2**63 - 1)
    return text(PATH, 1)(name), (stamp(size), stamp(time))
