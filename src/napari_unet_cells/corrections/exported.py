"""Record of the corrections that were exported or saved, and need not be restored.

A file beside the saves of a session names what was written where. A region counts as written
where it has the checksum that it had then::

    exported.json   /a/cells.tif     regions 3 and 4, as they were then
    save-000007     3 as it was then, 4 changed since      so 4 is only here

It counts only while every file is there that was written, with the size and the time of change
that it had then: what was deleted, or replaced by the cells of another image, holds nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import PackedLabels, Place, Review
from napari_unet_cells.corrections.session_files import (
    Damaged,
    Packed,
    plain,
    read_header,
    saves_in,
)
from napari_unet_cells.corrections.times import since
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.records import write_json
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.session import SaveHeader, parse_exports

#: Name of the file in the folder of a session, and how many exports it remembers.
EXPORTED, MOST = "exported.json", 20


@dataclass(frozen=True, eq=False)
class Written:
    """Corrections as they were when they were written to a file or a dataset.

    Attributes
    ----------
    path : str
        Of the file, or the folder of the dataset.
    date : datetime
    regions : mapping of Place to int
        Checksums of the corrected regions.
    approved : frozenset of Place
        Regions that were written as approved ones.
    files : mapping of str to (int, int)
        Size and time of change, in nanoseconds, of each file, relative to the
        folder of `path`.
    """

    path: str
    date: datetime
    regions: Mapping[Place, int]
    approved: frozenset[Place] = frozenset()
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: Path,
        labels: NDArray[Any],
        review: Review,
        approved: Iterable[Place] | None = None,
    ) -> Written:
        """Take the checksums of labels that are about to be written; any thread may.

        Parameters
        ----------
        path : Path
        labels : integer array, (..., y, x)
        review : Review
            Of these labels.
        approved : iterable of Place, optional
            Where only approved regions are written: these. All is written by default.
        """
        places = list(review if approved is None else approved)
        regions = {}
        for place in places:
            window: tuple[int | slice, ...] = (*place[0], *review.grid[place[1]].slices)
            pixels = labels[window]
            if not np.array_equal(pixels, review.baseline[place]):
                regions[place] = Packed.of(pixels).crc
        now = datetime.now().astimezone()
        written_as_approved = frozenset() if approved is None else frozenset(places)
        return cls(str(path.absolute()), now, regions, written_as_approved)

    def done(self, *files: Path) -> Written:
        """Take size and time of what has just been written: of `path`, where no file is given."""
        stamps = {}
        for file in files or (Path(self.path),):
            stamp = _stamp(file)
            if stamp is None:  # gone already: then it never counts
                return replace(self, files={})
            stamps[os.path.relpath(file.absolute(), Path(self.path).parent)] = stamp
        return replace(self, files=stamps)

    @property
    def is_there(self) -> bool:
        """Whether all that was written lies where it was written, and nobody replaced it."""
        folder = Path(self.path).parent
        stamps = ((_stamp(folder / name), stamp) for name, stamp in self.files.items())
        return bool(self.files) and all(now == then for now, then in stamps)


def _stamp(file: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None where it is not there, or is a folder."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if file.is_file() else None


def add(folder: Path, new: Iterable[Written]) -> None:
    """Remember exports in the folder of a session; a refused disk does no harm.

    Of several to one file the last counts.
    """
    latest = {written.path: written for written in (*read(folder), *new)}
    ordered = sorted(latest.values(), key=lambda written: written.date)[-MOST:]
    rows = [
        {
            "path": written.path,
            "date": written.date.isoformat(timespec="seconds"),
            "regions": [[*plain(place), crc] for place, crc in written.regions.items()],
            "approved": [plain(place) for place in sorted(written.approved)],
            "files": [[name, *stamp] for name, stamp in written.files.items()],
        }
        for written in ordered
    ]
    try:
        write_json(folder / EXPORTED, {"exports": rows}, overwrite=True)
    except (OSError, UserError):  # then the corrections are offered once too often
        return


def read(folder: Path) -> tuple[Written, ...]:
    """Read what was exported, the oldest first; nothing where that cannot be read."""
    try:
        rows = parse_exports(read_json(folder / EXPORTED))
    except (OSError, Malformed):
        return ()
    return tuple(Written(r.path, r.date, r.regions, r.approved, r.files) for r in rows)


def begun_from(
    folders: Iterable[Path], path: Path, baseline: PackedLabels
) -> list[tuple[Path, Written]]:
    """Find what earlier sessions wrote to a file, where later corrections began from just that.

    The file is about to be written anew. What lies in it is not lost then: it was corrected
    further, and a person need not be asked whether to restore it.

    Parameters
    ----------
    folders : iterable of Path
        Of the sessions.
    path : Path
        The file, as it is before it is written.
    baseline : PackedLabels
        Labels before the later corrections.

    Returns
    -------
    list of (Path, Written)
        Folder of each session, and what it wrote.
    """
    file = str(path.absolute())
    return [
        (folder, written)
        for folder in folders
        for written in read(folder)
        if written.path == file and written.is_there and _holds(baseline, written.regions)
        # What was painted on after it was written is nowhere else.
        if _is_complete(folder)
    ]


def _is_complete(folder: Path) -> bool:
    """Whether the newest save of a session lies in files whole."""
    for path in saves_in(folder).values():
        with contextlib.suppress(Damaged):
            return coverage_of(folder, read_header(path)).complete
    return False


def coverage_of(folder: Path, header: SaveHeader) -> Coverage:
    """Compare a save to what was exported of its session."""
    regions = {row.place: row.crc for row in header.state}
    there = [written for written in read(folder) if written.is_there]
    return Coverage.of(there, regions, header.review.approved)


def _holds(baseline: PackedLabels, regions: Mapping[Place, int]) -> bool:
    return all(
        place in baseline.regions and Packed.of(baseline[place]).crc == crc
        for place, crc in regions.items()
    )


@dataclass(frozen=True)
class Coverage:
    """Part of a session that lies in files that were written.

    Attributes
    ----------
    path : str
        Of the last one that holds any of it; empty for none.
    date : datetime or None
        Of that.
    missing_regions, missing_approvals : int
        Corrected regions and approvals that no file holds as they are now.
    """

    path: str = ""
    date: datetime | None = None
    missing_regions: int = 0
    missing_approvals: int = 0

    @classmethod
    def of(
        cls, exports: Iterable[Written], regions: Mapping[Place, int], approved: Iterable[Place]
    ) -> Coverage:
        """Compare the regions of a save, with their checksums, to what was written."""
        last, held, held_approved = None, set[Place](), set[Place]()
        for written in exports:
            held |= {place for place, crc in regions.items() if written.regions.get(place) == crc}
            # Approved anew with other pixels, it is another example.
            held_approved |= {
                place
                for place in written.approved
                if written.regions.get(place) == regions.get(place)
            }
            last = written
        if last is None:
            return cls("", None, len(regions), len(set(approved)))
        missing = len(regions) - len(held)
        return cls(last.path, last.date, missing, len(set(approved) - held_approved))

    @property
    def complete(self) -> bool:
        """Whether nothing is lost with the session."""
        return self.date is not None and not self.missing_regions and not self.missing_approvals

    def sentence(self, now: datetime | None = None) -> str:
        """Say where it was written, and what is only here; empty where it was not."""
        if self.date is None:
            return ""
        written = f"Written to {Path(self.path).name} {since(self.date, now)}"
        if self.complete:
            return f"{written}."
        parts = []
        if self.missing_regions:
            parts.append(_counted(self.missing_regions, "changed region"))
        if self.missing_approvals:
            parts.append(_counted(self.missing_approvals, "approval"))
        return f"{written}; {' and '.join(parts)} only here."


NOT_EXPORTED = Coverage()


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
