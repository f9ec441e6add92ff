"""Marks of a person on the results of a batch: approved, corrected. No run changes what has one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.untrusted.folder_record import PROGRAM, MarksRecord, parse_marks
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed

#: Name of the document, in the folder of the results; its lock is hidden.
MARKS = "marks.unet-cells.json"
_LOCK = ".marks.unet-cells.lock"

#: Seconds that another program may take to change the marks.
_PATIENCE = 10.0


class Marked(UserError):
    """A person marked an image while it was segmented: what was found now is thrown away."""


class UnreadableMarks(UserError):
    """Nobody knows what a person approved: nothing may be replaced."""


def read_marks(output: Path) -> MarksRecord:
    """Read the marks on the results in a folder; none where there is no such document.

    Raises
    ------
    UnreadableMarks
        Where it cannot be read: what a person approved would be taken for what nobody did.
    """
    path = output / MARKS
    try:
        found = path.stat()
        return _parsed(path, found.st_mtime_ns, found.st_size, found.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return MarksRecord()
    except (OSError, Malformed) as error:
        raise UnreadableMarks(
            f"{path}, which says what you approved, cannot be read ({error}). Repair it, or move "
            "it away; the results stay as they are."
        ) from error


@lru_cache(maxsize=4)
def _parsed(path: Path, *state: int) -> MarksRecord:
    return parse_marks(read_json(path))


def mark(
    output: Path, name: str, *, approved: bool | None = None, corrected: bool | None = None
) -> MarksRecord:
    """Set or take back the marks of an image, and give all of them.

    Parameters
    ----------
    output : Path
        Folder of the results.
    name : str
        Of the image.
    approved, corrected : bool, optional
        None leaves the mark as it is.

    Raises
    ------
    UserError
        Where the disk refuses; the marks are as they were.
    """
    with _alone(output):
        marks = read_marks(output)
        for kind, wanted in (("approved", approved), ("corrected", corrected)):
            if wanted is None:
                continue
            dates = {key: date for key, date in getattr(marks, kind).items() if key != name}
            if wanted:
                dates[name] = datetime.now().astimezone().isoformat(timespec="seconds")
            marks = replace(marks, **{kind: dates})
        write_json(output / MARKS, {"program": PROGRAM, **asdict(marks)}, overwrite=True)
    return marks


@dataclass(frozen=True)
class MarksThen:
    """Marks of one image when a run began with it, until its results are replaced.

    Attributes
    ----------
    output : Path
        Folder of the results.
    name : str
        Of the image.
    approved, corrected : str
        When each was set; empty where it was not.
    """

    output: Path
    name: str
    approved: str
    corrected: str

    @classmethod
    def read(cls, output: Path, name: str) -> MarksThen:
        """Read them; see `read_marks` for the errors."""
        marks = read_marks(output)
        return cls(output, name, marks.approved.get(name, ""), marks.corrected.get(name, ""))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Hold the marks as they were, while the results are replaced.

        Raises
        ------
        Marked
            Where a person marked the image since.
        UserError
            Where that cannot be known.
        """
        # Who never marked anything in a folder finds no file of ours there.
        there = os.path.lexists(self.output / _LOCK)
        with _alone(self.output) if there else nullcontext():
            now = MarksThen.read(self.output, self.name)
            for kind in ("approved", "corrected"):
                if getattr(now, kind) not in ("", getattr(self, kind)):
                    raise Marked(
                        f"It was {kind} by you while it was segmented, so that what you marked "
                        "stays, and what was found now was thrown away."
                    )
            yield


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let one program at a time change the marks: two may be open on one folder."""
    try:
        descriptor = open_lock(output / _LOCK)
    except OSError as error:
        raise UserError(
            f"Nothing can be written in {output}: {error.strerror or error}. What you marked was "
            "not kept."
        ) from error
    try:
        end = time.monotonic() + _PATIENCE
        while not try_lock(descriptor):
            if time.monotonic() > end:
                raise UserError(
                    f"Another program is changing the marks in {output}. Close it, and try again."
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
