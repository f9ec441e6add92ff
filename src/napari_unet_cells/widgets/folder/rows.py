"""Rows of the list: what is known of each image, and how that changes with what the batch says.

No Qt here.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from napari_unet_cells.batch.background import Began, Done
from napari_unet_cells.batch.finished import read_unit_record, record_before
from napari_unet_cells.batch.image_list import read_list
from napari_unet_cells.batch.marks import read_marks
from napari_unet_cells.batch.one_image import OME_ZARR, PICTURE
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.untrusted.folder_record import MarksRecord
from napari_unet_cells.untrusted.rules import Malformed, printable
from napari_unet_cells.untrusted.unit_record import UnitRecord, parse_unit_record

#: Images that are looked at until something is shown of them.
_AT_ONCE = 100


class State(Enum):
    """State of an image; `LEFT` is one that waits for a run that is not going."""

    LEFT = "not done"
    WAITING = "waiting"
    RUNNING = "segmenting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """One image of the list.

    Attributes
    ----------
    name : str
        Of its results.
    path : Path
        Of the image.
    state : State
    fraction : float
        Part that is done, 0 to 1, of one that is `RUNNING`.
    cells : int or None
        None where it is not done, or the model makes classes only.
    said : str
        Summary, or why it failed.
    approved, corrected : bool
        Marks of a person, see `batch.marks`.
    drawn : int
        How often its picture was drawn since the list was opened.
    format : str
        Of its results, see `batch.request.Request`.
    """

    name: str
    path: Path
    state: State = State.LEFT
    fraction: float = 0.0
    cells: int | None = None
    said: str = ""
    approved: bool = False
    corrected: bool = False
    drawn: int = 0
    format: str = "tiff"

    @property
    def text(self) -> str:
        """State as the user reads it."""
        if self.state is State.RUNNING:
            return f"segmenting, {self.fraction:.0%}" if self.fraction else "segmenting"
        if self.state is State.FAILED:
            return f"failed: {self.said}"
        if self.state is State.DONE:
            made = "done" if self.cells is None else counted(self.cells, "cell")
            return f"{made}, corrected" if self.corrected else made
        return str(self.state.value)

    @property
    def is_kept(self) -> bool:
        """Whether no run replaces its results."""
        return self.approved or self.corrected

    @property
    def can_open(self) -> bool:
        """Whether there are cells to look at."""
        return self.state is State.DONE and self.cells is not None

    def picture(self, output: Path) -> Path:
        """Small picture with the outlines of the cells."""
        return output / f"{self.name}{PICTURE}"

    def cells_file(self, output: Path) -> Path:
        """Labels of the cells: a TIFF, or the folder of an OME-Zarr."""
        return output / f"{self.name}{'_cells.tif' if self.format == 'tiff' else OME_ZARR}"

    def began(self, event: Began) -> Row:
        """Give the row while its image is segmented."""
        return replace(self, state=State.RUNNING, fraction=event.fraction)

    def ended(self, event: Done) -> Row:
        """Give the row of an image that is done or failed."""
        if event.problem:
            said = for_window(event.problem)
            return replace(self, state=State.FAILED, cells=None, said=said)
        said = for_window(event.summary)
        done = replace(self, state=State.DONE, cells=event.cells, said=said)
        return done if event.before else replace(done, drawn=self.drawn + 1)

    def with_corrected(self, record: UnitRecord) -> Row:
        """Give the row of an image whose corrected cells were put into the result."""
        said, drawn = record.summary, self.drawn + 1
        return replace(self, cells=record.cells, said=said, corrected=True, drawn=drawn)

    def marked(self, marks: MarksRecord) -> Row:
        """Give the row with its marks."""
        approved, corrected = self.name in marks.approved, self.name in marks.corrected
        return replace(self, approved=approved, corrected=corrected)

    def with_run(self, going: bool) -> Row:
        """Give the row as a run begins or ends: what is not done waits for it, or does not.

        A result that a person corrected or approved meanwhile stays, and no run will replace it.
        """
        if going and self.state in (State.LEFT, State.FAILED):
            return replace(self, state=State.WAITING, said="")
        if not going and self.state is State.RUNNING and self.is_kept and self.cells is not None:
            return replace(self, state=State.DONE, fraction=0.0)
        if not going and self.state in (State.WAITING, State.RUNNING):
            return replace(self, state=State.LEFT, fraction=0.0)
        return self


def counted(n: int, what: str) -> str:
    """Give a number and a noun, such as "1,204 cells"."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


#: What the command line says of its options -> what the user of a window does.
_INSTEAD: Mapping[str, str] = {
    "Choose another folder for the results; --overwrite replaces it.": "Choose another folder for "
    "the results.",
    "--overwrite replaces it; or choose another folder.": "Choose another folder for the results, "
    "or move that file away.",
    "; --overwrite replaces it.": ". Choose another folder for the results, or move it away.",
    "Say which: --plane all segments every plane, --plane 0 the first one.": "Open it, choose its "
    "planes under Planes, and make the list anew.",
    "--diameter sets it": "Cell size sets it",
    "; --allow-missing-chunks": "; on the command line --allow-missing-chunks",
}


def for_window(sentence: str) -> str:
    """Say in the words of the window what a batch says in those of the command line."""
    for said, instead in _INSTEAD.items():
        sentence = sentence.replace(said, instead)
    return sentence


@dataclass(frozen=True)
class Found:
    """Rows of a list that is kept on the disk; those after the first of several tell the rest.

    Attributes
    ----------
    output : Path
        Folder of the results.
    said : str
        Options in words.
    rows : tuple of Row
    problems : tuple of str
        Sentences about names that stand for no image.
    first : bool
    format : str
        Of the results.
    """

    output: Path
    said: str
    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()
    first: bool = True
    format: str = "tiff"


def look(output: Path) -> Generator[Found, None, None]:
    """Look up what is done of a list; the run itself looks closer, whether it still counts.

    Raises
    ------
    UserError
        Where there is no list.
    """
    chosen, marks = read_list(output), read_marks(output)
    units = find_units(chosen.named, output)
    rows: list[Row] = []
    first, kind = True, chosen.request.format
    for unit in units.units:
        row = Row(unit.name, unit.path, format=kind).marked(marks)
        if unit.problem:
            row = row.ended(Done(unit.name, for_window(unit.problem)))
        rows.append(_on_disk(row, output))
        if len(rows) == _AT_ONCE:
            yield Found(output, chosen.said, tuple(rows), units.problems * first, first, kind)
            rows, first = [], False
    if rows or first:
        yield Found(output, chosen.said, tuple(rows), units.problems * first, first, kind)


def _on_disk(row: Row, output: Path) -> Row:
    try:
        record = read_unit_record(output / f"{row.name}.json")
        if record is not None and record.begun and row.is_kept:  # a run that was cancelled
            record = parse_unit_record(record_before(output / f"{row.name}.json"))
    except (OSError, Malformed):
        return row
    if record is None or record.begun:
        return row
    is_classes = record.cells is None and row.format == "tiff"
    labels = output / f"{row.name}_classes.tif" if is_classes else row.cells_file(output)
    if not os.path.exists(labels):
        return row
    summary = printable(record.summary, 1000)
    return row.ended(Done(row.name, "", summary, record.cells, before=True))
