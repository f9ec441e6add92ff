"""Parse what the list of a folder keeps beside its results: what is segmented how, and the marks.

Both are documents of our own, but they lie in the user's folder, where anybody may change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_unet_cells.untrusted.rules import (
    NAME,
    PATH,
    SENTENCE,
    Fields,
    either,
    fields,
    flag,
    items,
    mapping,
    number,
    one_of,
    text,
    whole,
)

#: Value of "program" in both documents: what has another one is of somebody else.
PROGRAM = "napari-unet-cells"

#: Images that a list may name; a folder counts as one name.
_MOST = 10**6

#: Pixels; the width of a cell, and its area.
_WIDEST = 10**6


@dataclass(frozen=True)
class ListOptions:
    """Options of a segmentation, as `batch.request.Request` and its settings have them."""

    diameter: float | None = None
    min_size: int | None = None
    split: float | None = None
    min_probability: float | None = None
    fill_holes: bool | None = None
    drop_border: bool | None = None
    test_time_augmentation: bool = False
    channel: int | str | tuple[int | str, ...] | None = None
    projection: str | None = None
    plane: int | str | None = None
    link: str | None = None
    pixel_size: float | None = None
    runtime: str = ""
    format: str = "tiff"
    track: bool = False
    axes: str = ""


@dataclass(frozen=True)
class ListRecord:
    """Images of a list, and how they are segmented.

    Attributes
    ----------
    named : tuple of str
        Files and folders, as the user chose them.
    model : str
        Name, or path of a `.keras` file.
    options : ListOptions
    said : str
        The options in words, for the user.
    """

    named: tuple[str, ...]
    model: str
    options: ListOptions = field(default_factory=ListOptions)
    said: str = ""


@dataclass(frozen=True)
class MarksRecord:
    """Images of a folder of results that a person approved, or corrected, by name.

    Attributes
    ----------
    approved, corrected : mapping of str to str
        Name of the image to the date.
    """

    approved: Mapping[str, str] = field(default_factory=dict)
    corrected: Mapping[str, str] = field(default_factory=dict)


def parse_list(document: object) -> ListRecord:
    """Read the document of a list.

    Raises
    ------
    Malformed
        Where it is none, or was damaged.
    """
    record = Fields(document)
    record.take("program", one_of((PROGRAM,)))
    return ListRecord(
        record.take("images", items(text(PATH, 1), 1, _MOST)),
        record.take("model", text(PATH, 1)),
        record.take("options", fields(_options)),
        record.take_or("said", text(SENTENCE), ""),
    )


def parse_marks(document: object) -> MarksRecord:
    """Read the document of the marks.

    Raises
    ------
    Malformed
        Where it is none, or was damaged.
    """
    record = Fields(document)
    record.take("program", one_of((PROGRAM,)))
    dates = mapping(text(NAME), _MOST, PATH)
    return MarksRecord(
        record.take_or("approved", dates, {}), record.take_or("corrected", dates, {})
    )


_CHANNEL = either(whole(0, 10**6), text(NAME, 1))


def _options(values: Fields) -> ListOptions:
    share = number(0, 1)
    return ListOptions(
        diameter=values.optional("diameter", number(1e-3, _WIDEST)),
        min_size=values.optional("min_size", whole(0, _WIDEST**2)),
        split=values.optional("split", share),
        min_probability=values.optional("min_probability", share),
        fill_holes=values.optional("fill_holes", flag),
        drop_border=values.optional("drop_border", flag),
        test_time_augmentation=values.take_or("test_time_augmentation", flag, False),
        channel=values.optional("channel", either(_CHANNEL, items(_CHANNEL, 1, 1000))),
        projection=values.optional("projection", one_of(("max", "mean"))),
        plane=values.optional("plane", either(whole(0, 2**40), one_of(("all",)))),
        link=values.optional("link", one_of(("Z", "T", "z", "t"))),
        pixel_size=values.optional("pixel_size", number(1e-9, 1e9)),
        runtime=values.take_or("runtime", text(NAME), ""),
        format=values.take_or("format", one_of(("tiff", "ome-zarr")), "tiff"),
        track=values.take_or("track", flag, False),
        axes=values.take_or("axes", text(NAME), ""),
    )
