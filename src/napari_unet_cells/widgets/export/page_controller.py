"""Pages of the table of a large result: what is read, and what is said of it. No Qt.

::

    press, click --> job (a thread) --> Page --> view
                        |
                        +-- TablePages: a page of rows, a column to sort by
                        +-- zarr_table: is the table true? bring it up to date
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.generators import translated
from napari_unet_cells.core.measure import Table
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.table_pages import TablePages, stamp_of
from napari_unet_cells.segmentation.zarr_cells import pixel_size_of, record_of
from napari_unet_cells.segmentation.zarr_table import (
    TableState,
    bring_up_to_date,
    state_of,
)
from napari_unet_cells.widgets.runner import Runner

#: Rows of a page.
PAGE = 1_000


@dataclass(frozen=True)
class Sorting:
    """Column by which rows are sorted; empty for the order of the file."""

    name: str = ""
    descending: bool = False


@dataclass(frozen=True, eq=False)
class Page:
    """Rows that are shown, and the table that they are of.

    Attributes
    ----------
    state : TableState
    pages : TablePages or None
        None where there is no table.
    pixel_size : (float, float)
    sorting : Sorting
    order : integer array, (rows,), or None
        Rows of the file as they are sorted; None for the order of the file.
    labels : float array, (rows,), or None
        Ids of the rows of the file, once somebody asked for one.
    first : int
        Place of the first row that is shown.
    table : Table
    chosen : int or None
        Id of the cell whose row is to be chosen.
    row : int
        Of that cell, among those that are shown.
    goes : bool
        The view is to go to that cell.
    remark : str
        What else there is to say.
    run : str
        That made the cells, see `LabelVersions.run`.
    """

    state: TableState
    pages: TablePages | None = None
    pixel_size: tuple[float, float] = (1.0, 1.0)
    sorting: Sorting = Sorting()
    order: NDArray[np.intp] | None = None
    labels: NDArray[np.float64] | None = None
    first: int = 0
    table: Table = field(default_factory=lambda: Table({"label": np.empty(0, np.int64)}))
    chosen: int | None = None
    row: int = -1
    goes: bool = False
    remark: str = ""
    run: str = ""

    @property
    def n_rows(self) -> int:
        """Count the rows of the whole table."""
        return 0 if self.pages is None else len(self.pages)

    @property
    def last(self) -> int:
        """Place of the first row of the last page."""
        return max(0, self.n_rows - 1) // PAGE * PAGE

    def where(self) -> str:
        """Say which rows are shown."""
        if not self.n_rows:
            return "no rows"
        stop = min(self.n_rows, self.first + PAGE)
        said = f"rows {self.first + 1:,} to {stop:,} of {self.n_rows:,}"
        if not self.sorting.name:
            return said
        words = self.sorting.name.replace("_", " ")
        return f"{said}, by {words}{', largest first' if self.sorting.descending else ''}"

    def sentence(self) -> str:
        """Say whether the table is true, and what else there is to say."""
        return f"{self.state.problem()} {self.remark}".strip()


@dataclass(frozen=True)
class Busy:
    """Work of a thread in words, and the part of it that is done, 0 to 1."""

    text: str
    done: float


class PageView(Protocol):
    """Widget that shows the pages."""

    def show_page(self, page: Page) -> None:
        """Show rows, and whether they are true."""

    def show_busy(self, busy: Busy | None) -> None:
        """Show what is being done; None where it has ended."""

    def say(self, sentence: str) -> None:
        """Show a sentence."""


class PageController:
    """Turns the pages of the table beside an OME-Zarr.

    Parameters
    ----------
    folder : callable () -> Path
        The OME-Zarr.
    view : PageView
    reading, updating : Runner
        Their answers come to `receive`, `ended`, `failed`. What updates stops when the table or
        napari is closed, and the file stays as it was; napari waits for that.
    """

    def __init__(
        self, folder: Callable[[], Path], view: PageView, reading: Runner, updating: Runner
    ) -> None:
        self._folder, self._view = folder, view
        self._reading, self._updating = reading, updating
        self._page: Page | None = None
        self._missed = False

    @property
    def page(self) -> Page | None:
        """Page that is shown."""
        return self._page

    @property
    def busy(self) -> bool:
        """Whether something is being read or measured."""
        return self._reading.running or self._updating.running

    # --- what is asked for ------------------------------------------------------------------

    def open(self) -> None:
        """Read the table, as it is on the disk now."""
        if not self._updating.running:
            self._reading.start(partial(_opened, self._folder(), self._page))

    def look(self, event: object = None) -> None:
        """See whether a part was put back since."""
        if self.busy:
            self._missed = True
        elif self._page is None:
            self.open()
        else:
            self._reading.start(partial(_looked, self._folder(), self._page))

    def bring_up_to_date(self) -> None:
        """Measure the cells that are not in the table as they are."""
        if not self.busy:
            self._updating.start(partial(_brought, self._folder(), self._page))

    def turn(self, pages: int) -> None:
        """Go on by so many pages, or back."""
        if self._page is not None:
            self.show_from(self._page.first + pages * PAGE)

    def turn_to_end(self) -> None:
        """Show the last page."""
        if self._page is not None:
            self.show_from(self._page.last)

    def show_from(self, first: int) -> None:
        """Show the page that begins at a place."""
        page = self._page
        if page is None or page.pages is None or self.busy:
            return
        first = int(np.clip(first // PAGE * PAGE, 0, page.last))
        self._reading.start(partial(_read, replace(page, first=first, chosen=None)))

    def sort(self, sorting: Sorting) -> None:
        """Sort all rows by a column, and show the first page."""
        page = self._page
        if page is None or page.pages is None or self.busy or sorting == page.sorting:
            return
        self._reading.start(partial(_sorted, page, sorting))

    def go_to(self, label: int, plane: tuple[int, ...] | None = None, goes: bool = True) -> None:
        """Show the page with the row of a cell, and perhaps the cell.

        Parameters
        ----------
        label : int
        plane : tuple of int, optional
            Its plane, as in each plane a cell may have this number; the first one by default.
        goes : bool
        """
        page = self._page
        if page is None or page.pages is None or self.busy:
            return
        self._reading.start(partial(_found, page, label, plane, goes))

    # --- what a thread answers --------------------------------------------------------------

    def receive(self, event: object) -> None:
        """Take over what a thread has done."""
        if isinstance(event, Busy):
            self._view.show_busy(event)
        elif isinstance(event, Page):
            self._page = event
            self._view.show_page(event)

    def ended(self) -> None:
        """Offer the next step; what was put back meanwhile is looked for."""
        self._view.show_busy(None)
        if self._missed:
            self._missed = False
            self.look()

    def failed(self, problem: str) -> None:
        """Say why something could not be done; what was shown stays."""
        self.ended()
        self._view.say(problem)


# --- jobs: generators that run in a thread --------------------------------------------------

_Job = Generator[object, None, None]


def _opened(folder: Path, before: Page | None, stop: threading.Event) -> _Job:
    yield from _with_table(folder, before, "")


def _with_table(folder: Path, before: Page | None, remark: str) -> _Job:
    """Open the table, sorted and at the place as before."""
    state = state_of(folder)
    page = Page(state, remark=remark, run=LabelVersions(folder).run)
    if not state.is_there:
        yield page
        return
    pages = yield from translated(TablePages.open(state.path), partial(Busy, "reading the table"))
    size, _ = pixel_size_of(record_of(folder))
    page = replace(page, pages=pages, pixel_size=size)
    if before is not None:
        page = replace(page, first=min(before.first, page.last))
        if before.sorting.name in pages.names:
            order = yield from _order(pages, before.sorting)
            page = replace(page, sorting=before.sorting, order=order)
    yield _with_rows(page)


def _looked(folder: Path, page: Page, stop: threading.Event) -> _Job:
    """See whether the table on the disk is still the one that is shown, and still true."""
    state = state_of(folder)
    is_same = state.is_there and page.pages is not None and stamp_of(state.path) == page.pages.stamp
    if not is_same or LabelVersions(folder).run != page.run:
        yield from _with_table(folder, page, "")
    elif state != page.state:
        # the row that was asked for once is not chosen again: another one may be by now
        yield replace(page, state=state, chosen=None, remark="")


def _brought(folder: Path, before: Page | None, stop: threading.Event) -> _Job:
    brought = yield from translated(bring_up_to_date(folder), partial(Busy, "measuring"))
    yield from _with_table(folder, before, brought.describe())


def _read(page: Page, stop: threading.Event) -> _Job:
    yield _with_rows(page)


def _sorted(page: Page, sorting: Sorting, stop: threading.Event) -> _Job:
    assert page.pages is not None
    order = None
    if sorting.name:
        order = yield from _order(page.pages, sorting)
    yield _with_rows(replace(page, sorting=sorting, order=order, first=0, chosen=None))


def _found(
    page: Page, label: int, plane: tuple[int, ...] | None, goes: bool, stop: threading.Event
) -> _Job:
    """Find the first row of a cell."""
    pages, labels = page.pages, page.labels
    assert pages is not None
    if labels is None:
        labels = yield from translated(pages.column("label"), partial(Busy, "looking for the cell"))
        page = replace(page, labels=labels)
    rows = np.flatnonzero(labels == label)
    if plane is not None and len(rows) > 1:
        known = pages.page(rows).columns
        for name, at in zip(pages.stack, plane, strict=True):
            rows, known = (
                rows[known[name] == at],
                {k: c[known[name] == at] for k, c in known.items()},
            )
    if not len(rows):
        yield replace(page, chosen=None, remark=f"There is no cell {label:,} in this table.")
        return
    places = rows if page.order is None else np.flatnonzero(np.isin(page.order, rows))
    row = int(places[0]) % PAGE
    first = int(places[0]) - row
    yield _with_rows(replace(page, first=first, chosen=label, row=row, goes=goes, remark=""))


def _order(pages: TablePages, sorting: Sorting) -> Generator[Busy, None, NDArray[np.intp]]:
    """Sort rows by a column; what is no number comes last either way."""
    words = sorting.name.replace("_", " ")
    values = yield from translated(pages.column(sorting.name), partial(Busy, f"sorting by {words}"))
    return np.argsort(-values if sorting.descending else values, kind="stable")


def _with_rows(page: Page) -> Page:
    """Read the rows of a page."""
    assert page.pages is not None
    places = np.arange(page.first, min(page.n_rows, page.first + PAGE))
    rows = places if page.order is None else page.order[places]
    return replace(page, table=page.pages.page(rows, page.pixel_size))
