"""Documents of a list of images: what is no list or no mark is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from napari_unet_cells.untrusted.folder_record import (
    ListOptions,
    ListRecord,
    MarksRecord,
    parse_list,
    parse_marks,
)
from napari_unet_cells.untrusted.rules import Malformed

LIST: dict[str, Any] = {
    "program": "napari-unet-cells",
    "images": ["/data/day1"],
    "model": "cells",
    "options": {"diameter": 30, "channel": [0, "GFP"], "plane": "all", "link": "Z"},
}


def test_a_list_is_read() -> None:
    options = ListOptions(diameter=30.0, channel=(0, "GFP"), plane="all", link="Z")
    assert parse_list(LIST) == ListRecord(("/data/day1",), "cells", options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"program": "other"}, "program must be one of 'napari-unet-cells'"),
        ({"images": []}, "images must be a list of 1 to"),
        ({"model": ""}, "model must be a text of 1 to"),
        ({"options": {"diameter": -1}}, "options.diameter must be a number"),
        ({"options": {"split": 2}}, "options.split must be a number from 0 to 1"),
        ({"options": {"plane": "some"}}, "options.plane must be one of 'all'"),
        ({"options": {"link": "X"}}, "options.link must be one of"),
        ({"options": None}, "options"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        parse_list(LIST | change)


def test_marks_are_read() -> None:
    document = {"program": "napari-unet-cells", "approved": {"a": "2026-11-29"}, "corrected": {}}
    assert parse_marks(document) == MarksRecord({"a": "2026-11-29"}, {})


@pytest.mark.parametrize(
    "document", [None, [], {}, {"program": "napari-unet-cells", "approved": {"a": 1}}]
)
def test_what_are_no_marks_is_refused(document: Any) -> None:
    with pytest.raises(Malformed):
        parse_marks(document)
