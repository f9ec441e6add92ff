"""State of the list: which images, which run, and what each event changes.

No Qt here. The window hands over what the user chose and what the threads answer, and shows what
it is told through `View`::

    FolderDialog --ImageList--> FolderController --job--> Runner (a thread) == batch.background
                                  |      ^                  |
    FolderList  <----- View ------+      +----- event ------+
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from napari_unet_cells.batch.background import (
    Began,
    Done,
    DoneBefore,
    Event,
    Listed,
    Said,
    follow,
)
from napari_unet_cells.batch.image_list import ImageList, save_list
from napari_unet_cells.batch.marks import mark, read_marks
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.errors import UserError
from napari_unet_cells.settings import recall, remember
from napari_unet_cells.untrusted.folder_record import MarksRecord
from napari_unet_cells.untrusted.unit_record import UnitRecord
from napari_unet_cells.widgets.folder.rows import Found, Row, State, for_window, look
from napari_unet_cells.widgets.runner import CancellableRunner, Job, Runner

#: Key of `recall`: folder of the results of the list that was open last.
LAST_LIST = "folder_list"


class View(Protocol):
    """The window as the controller sees it."""

    def show_rows(self) -> None:
        """Show all rows anew."""

    def show_row(self, index: int) -> None:
        """Show one row anew, also its picture."""

    def show_state(self, state: ListState) -> None:
        """Bring buttons, texts and the bar in line with a state."""

    def show_failed(self) -> None:
        """Bring the first image that failed into view."""

    def warn(self, sentence: str) -> None:
        """Say what prevents something, also as a notification."""


@dataclass(frozen=True)
class Runners:
    """The threads of the list: its batch, looking at the disk, writing marks, the report."""

    run: CancellableRunner
    looking: Runner
    marking: Runner
    reporting: Runner


@dataclass(frozen=True)
class ListState:
    """State of the list as the window shows it besides the rows.

    Attributes
    ----------
    output : Path or None
        Folder of the results; None where there is no list.
    running, looking : bool
        Whether the batch goes on, and whether the list is being read.
    settings : str
        Options in words.
    counts : Counter of State
    approved : int
    note : str
        The last sentence about the list as a whole.
    """

    output: Path | None = None
    running: bool = False
    looking: bool = False
    settings: str = ""
    counts: Counter[State] | None = None
    approved: int = 0
    note: str = ""

    @property
    def total(self) -> int:
        """Number of images."""
        return sum((self.counts or Counter()).values())

    @property
    def left(self) -> int:
        """Number of images that a run would do."""
        return self.total - (self.counts or Counter())[State.DONE]

    @property
    def button(self) -> str:
        """Text of the button that starts and stops."""
        if self.running:
            return "Pause"
        counts = self.counts or Counter()
        if counts[State.FAILED] == self.left > 0:
            return "Try again"
        return "Go on" if counts[State.DONE] else "Start"

    @property
    def can_press(self) -> bool:
        """Whether that button does anything."""
        return self.running or (self.output is not None and self.left > 0 and not self.looking)

    @property
    def said(self) -> str:
        """Count of what is done, such as "3 of 8 done, 1 failed, 2 approved"."""
        if self.looking and not self.total:
            return "Reading the list..."
        if not self.total:
            return ""
        counts = self.counts or Counter()
        parts = [f"{counts[State.DONE]:,} of {self.total:,} done"]
        parts += [f"{counts[State.FAILED]:,} failed"] if counts[State.FAILED] else []
        parts += [f"{self.approved:,} approved"] if self.approved else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Marked:
    """Marks as they are now on the disk."""

    output: Path
    marks: MarksRecord


class FolderController:
    """One list at a time: its rows, its run, its marks.

    Parameters
    ----------
    view : View
    runners : Runners
        Their answers come to `receive`, `found`, `marked`.

    Attributes
    ----------
    rows : list of Row
    output : Path or None
        Folder of the results.
    """

    def __init__(self, view: View, runners: Runners) -> None:
        self._view, self._runners = view, runners
        self.rows: list[Row] = []
        self.output: Path | None = None
        self._settings = self._note = ""
        self._format = "tiff"
        self._index: dict[str, int] = {}
        self._to_mark: list[tuple[Path, Callable[[], MarksRecord]]] = []
        self._report_due = False

    @property
    def format(self) -> str:
        """Format of the results of the list that is open, see `batch.request.Request`."""
        return self._format

    @property
    def state(self) -> ListState:
        """State as the window shows it besides the rows."""
        return ListState(
            self.output,
            self._runners.run.running,
            self._runners.looking.running,
            self._settings,
            Counter(row.state for row in self.rows),
            sum(row.approved for row in self.rows),
            self._note,
        )

    def refresh(self) -> None:
        """Show the state."""
        self._view.show_state(self.state)

    # -------------------------------------------------------------------- which list

    def reopen(self) -> bool:
        """Open the list of the last time, where there is none; whether there was one."""
        last = recall(LAST_LIST)
        if self.output is None and isinstance(last, str) and Path(last).is_dir():
            self.open(Path(last))
        return self.output is not None

    def open(self, output: Path) -> None:
        """Show the list whose results lie in a folder; a run of another one is paused."""
        self.pause()
        self._take(output)
        self._runners.looking.start(partial(_look, output))
        self.refresh()

    def start(self, chosen: ImageList, output: Path) -> None:
        """Begin a new list; a run of another one is paused."""
        self.pause()
        self._take(output)
        self._settings, self._format = chosen.said, chosen.request.format
        self._run(partial(_begin, chosen, output))

    def _take(self, output: Path) -> None:
        if output != self.output:
            self._set_rows([])
        self.output, self._note = output, ""

    def found(self, event: object) -> None:
        """Take rows that were read from the disk."""
        assert isinstance(event, Found)
        if event.output != self.output:
            return
        self._settings, self._format = event.said, event.format
        rows = list(event.rows) if event.first else [*self.rows, *event.rows]
        self._set_rows(rows)
        if event.problems:
            self._note = " ".join(event.problems)
        self.refresh()

    def _set_rows(self, rows: list[Row]) -> None:
        self.rows = rows
        self._index = {row.name: index for index, row in enumerate(rows)}
        self._view.show_rows()

    def _set_row(self, row: Row) -> None:
        index = self._index.get(row.name)
        if index is not None and self.rows[index] != row:
            self.rows[index] = row
            self._view.show_row(index)

    def row(self, name: str) -> Row | None:
        """Row of an image; None where the list has none of this name."""
        index = self._index.get(name)
        return None if index is None else self.rows[index]

    # ----------------------------------------------------------------------- the run

    def press(self) -> None:
        """Pause the run, or go on with it."""
        if self._runners.run.running:
            self.pause()
        elif self.output is not None and self.state.can_press:
            self._note = ""
            self._run(partial(_go_on, self.output))

    def _run(self, job: Job) -> None:
        self._set_rows([row.with_run(True) for row in self.rows])
        self._runners.run.start(job)
        self.refresh()

    def pause(self) -> None:
        """Stop the run; what is done stays done."""
        if self._runners.run.running:
            self._runners.run.cancel()

    def receive(self, event: object) -> None:
        """Take over what the run says."""
        if isinstance(event, Listed):
            self._list(event)
        elif isinstance(event, Began | Done):
            row = self.row(event.name)
            if row is not None:
                self._set_row(row.began(event) if isinstance(event, Began) else row.ended(event))
        elif isinstance(event, DoneBefore):
            done = {image.name: image for image in event.images}
            ended = [row.ended(done[row.name]) if row.name in done else row for row in self.rows]
            self._set_rows(ended)
        elif isinstance(event, Said):
            self._note = f"{self._note} {for_window(event.text)}".strip()
        elif isinstance(event, Marked):
            self.marked(event)
        self.refresh()

    def _list(self, event: Listed) -> None:
        """Take the images of the run, with what is known of them already."""
        rows = []
        for name, path, _ in event.rows:
            known = self.row(name)
            if known is None or known.format != self._format:
                known = Row(name, Path(path), State.WAITING, format=self._format)
            rows.append(known)
        self._set_rows(rows if event.first else [*self.rows, *rows])

    def ended(self) -> None:
        """Show that the run is over, or was paused."""
        self._set_rows([row.with_run(False) for row in self.rows])
        self.refresh()
        self._view.show_failed()
        self._report()

    def failed(self, problem: str) -> None:
        """Show why the run cannot begin or go on."""
        self._note = for_window(problem)
        if not self.rows:  # it did not begin
            self.output = None
        self.ended()
        self._view.warn(self._note)

    def looking_failed(self, problem: str) -> None:
        """Show why a list cannot be opened."""
        self.output = None
        self._set_rows([])
        self._note = problem
        self.refresh()

    # ---------------------------------------------------------------- what was corrected

    def corrected(self, name: str, record: UnitRecord) -> None:
        """Show an image whose corrected cells were put into the result."""
        if self.row(name) is not None:
            self._report_due = True
            self.counted(name, record)
            self._report()

    def counted(self, name: str, record: UnitRecord) -> None:
        """Show an image whose cells were counted anew; its table and picture follow later."""
        row = self.row(name)
        if row is not None:
            self._set_row(row.with_corrected(record))
            self.refresh()

    def _report(self) -> None:
        """Have the table of all cells and the report written anew, where no run does it."""
        reporting = self._runners.reporting
        if not self._report_due or self._runners.run.running or reporting.running:
            return
        if self.output is not None:
            self._report_due = False
            reporting.start(partial(_write_report, self.output))

    def report_ended(self, problem: str = "") -> None:
        """Write the report again where cells were corrected meanwhile; say why it cannot be."""
        if problem:
            self._view.warn(problem)
        self._report()

    # ---------------------------------------------------------------------- the marks

    def approve(self, name: str, approved: bool) -> None:
        """Mark the results of an image as right, or take that back."""
        row, output = self.row(name), self.output
        if row is None or output is None or row.state is not State.DONE:
            return
        self._to_mark.append((output, partial(mark, output, name, approved=approved)))
        self._mark()

    def _mark(self) -> None:
        if self._to_mark and not self._runners.marking.running:
            jobs, self._to_mark = self._to_mark, []
            self._runners.marking.start(partial(_write_marks, jobs))

    def marked(self, event: object) -> None:
        """Show the marks as they are on the disk."""
        assert isinstance(event, Marked)
        if event.output == self.output:
            for row in list(self.rows):
                self._set_row(row.marked(event.marks))
            self.refresh()

    def marking_ended(self) -> None:
        """Write the marks that were set meanwhile."""
        self._mark()

    def marking_failed(self, problem: str) -> None:
        """Say that marks were not kept, and show those that were."""
        self._view.show_rows()
        self._view.warn(problem)
        self._mark()


# --- in the threads ----------------------------------------------------------------------


def _look(output: Path, stop: threading.Event) -> Generator[Found, None, None]:
    for found in look(output):
        yield found
        remember(LAST_LIST, str(output))


def _begin(
    chosen: ImageList, output: Path, stop: threading.Event
) -> Generator[Event | Marked, None, None]:
    units = find_units(chosen.named, output)
    if not units.units:
        raise UserError(" ".join(units.problems))
    save_list(output, chosen)
    yield from _go_on(output, stop)


def _go_on(output: Path, stop: threading.Event) -> Generator[Event | Marked, None, None]:
    remember(LAST_LIST, str(output))
    first = True
    for event in follow(output, stop):
        yield event
        if isinstance(event, Listed) and first:
            first = False
            yield Marked(output, read_marks(output))


def _write_report(output: Path, stop: threading.Event) -> Generator[Event, None, None]:
    for _ in follow(output, stop, report_only=True):
        yield from ()


def _write_marks(
    jobs: list[tuple[Path, Callable[[], MarksRecord]]], stop: threading.Event
) -> Generator[Marked, None, None]:
    for output, job in jobs:  # the list may be another one by now
        yield Marked(output, job())
