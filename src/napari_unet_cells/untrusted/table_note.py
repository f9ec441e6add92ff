"""Parse the note of what a table beside an OME-Zarr holds: see `segmentation.zarr_table`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_unet_cells.untrusted.rules import Fields, whole

#: Bytes, and nanoseconds, beyond which a number is none of a file.
_MOST = 2**63 - 1

#: Versions that an OME-Zarr may have.
_MOST_VERSIONS = 10**9


@dataclass(frozen=True)
class TableNote:
    """Up to which version of the labels a table was brought.

    Attributes
    ----------
    version : int
    stamp : (int, int)
        Size and time of change of the table then: with another one it is another table.
    """

    version: int
    stamp: tuple[int, int]

    def document(self) -> dict[str, Any]:
        """Give it as JSON holds it."""
        size, changed = self.stamp
        return {"version": self.version, "size": size, "mtime_ns": changed}


def parse_table_note(document: object) -> TableNote:
    """Check a note.

    Raises
    ------
    Malformed
    """
    stated = Fields(document)
    return TableNote(
        stated.take("version", whole(0, _MOST_VERSIONS)),
        (stated.take("size", whole(0, _MOST)), stated.take("mtime_ns", whole(-_MOST, _MOST))),
    )
