"""The note of what a table holds: read as it was written, refused where it is another thing."""

from __future__ import annotations

import pytest

from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.table_note import TableNote, parse_table_note


def test_a_note_is_read_as_it_was_written() -> None:
    note = TableNote(3, (1_000, 1_700_000_000_000_000_000))
    assert parse_table_note(note.document()) == note


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"version": 1, "size": 2},
        {"version": -1, "size": 2, "mtime_ns": 3},
        {"version": 1.5, "size": 2, "mtime_ns": 3},
        {"version": True, "size": 2, "mtime_ns": 3},
        {"version": 1, "size": "2", "mtime_ns": 3},
        {"version": 1, "size": 2, "mtime_ns": 2**64},
    ],
)
def test_what_is_no_note_is_refused(document: object) -> None:
    with pytest.raises(Malformed):
        parse_table_note(document)
