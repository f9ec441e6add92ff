"""Pages of the table of a large result: turned, sorted, out of date, brought up to date."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.measure import measure
from napari_unet_cells.files import label_zarr, write_table
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.table_pages import TablePages
from napari_unet_cells.segmentation.zarr_place import table_of
from napari_unet_cells.segmentation.zarr_table import TableState, bring_up_to_date
from napari_unet_cells.widgets.export import page_controller
from napari_unet_cells.widgets.export.page_controller import Busy, Page, PageController, Sorting

# Workers are Qt objects, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

N = 400


class View:
    """Keeps what it is to show."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.said: list[str] = []

    def show_page(self, page: Page) -> None:
        self.shown.append(page)

    def show_busy(self, busy: Busy | None) -> None:
        pass

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


class Table:
    """A result with 400 cells, whose areas fall and rise, and its pages of 50."""

    def __init__(self, folder: Path, make_thread: Any) -> None:
        self.zarr = folder / "slide_cells.ome.zarr"
        labels = np.zeros((800, 800), np.uint16)
        for number in range(N):
            top, left = 40 * (number // 20) + 5, 40 * (number % 20) + 5
            size = 5 + (number * 7) % 23
            labels[top : top + size, left : left + size] = number + 1
        made = LabelZarr(self.zarr, labels.shape, "yx", 1024, Scale((0.5, 0.5), "micrometer", None))
        made.create("cells", np.uint16)
        made.write("cells", (), (slice(0, 800), slice(0, 800)), labels)
        size_of = {"y": 0.5, "x": 0.5, "unit": "micrometer"}
        made.finish("cells", {"cells": N, "pixel_size": size_of}, {})
        self.labels = labels
        for _ in bring_up_to_date(self.zarr):  # measures all, as there is no table
            pass
        self.view, self.reading, self.updating = View(), make_thread(), make_thread()
        self.controller = PageController(lambda: self.zarr, self.view, self.reading, self.updating)

    def do(self) -> Page:
        """Let what was asked for be done."""
        thread = self.reading if self.reading.running else self.updating
        assert thread.running
        for event in thread.take():
            self.controller.receive(event)
        self.controller.ended()
        page: Page = self.view.shown[-1]
        return page

    def put_back(self) -> None:
        """Delete the cells 1 and 2, and draw 401."""
        before = self.labels[:100, :100].astype(np.int64)
        after = before.copy()
        after[np.isin(after, (1, 2))] = 0
        after[0:3, 0:3] = N + 1
        box = slice(0, 100), slice(0, 100)
        assert LabelVersions(self.zarr).replace((), box, before, after, N + 1)
        self.labels[:100, :100] = after


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_thread: Any) -> Table:
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(page_controller, "PAGE", 50)
    return Table(tmp_path, make_thread)


def ids(page: Page) -> list[int]:
    found: list[int] = page.table.columns["label"].tolist()
    return found


def test_pages_are_turned(table: Table) -> None:
    table.controller.open()
    page = table.do()
    assert (page.where(), page.sentence()) == ("rows 1 to 50 of 400", "")
    assert ids(page) == list(range(1, 51))
    assert (page.table.unit, page.pixel_size) == ("micrometer", (0.5, 0.5))
    table.controller.turn(1)
    assert ids(table.do()) == list(range(51, 101))
    table.controller.turn_to_end()
    assert ids(table.do()) == list(range(351, 401))
    table.controller.turn(1)  # there is none
    assert ids(table.do()) == list(range(351, 401))
    table.controller.turn(-1)
    assert table.do().where() == "rows 301 to 350 of 400"
    table.controller.show_from(0)
    assert table.do().first == 0


def test_all_rows_are_sorted_not_only_those_that_are_shown(table: Table) -> None:
    table.controller.open()
    table.do()
    table.controller.sort(Sorting("area", descending=True))
    page = table.do()
    assert page.where() == "rows 1 to 50 of 400, by area, largest first"
    areas = np.bincount(table.labels.ravel())[1:] * 0.25
    assert page.table.columns["area"].tolist() == sorted(areas, reverse=True)[:50]
    table.controller.turn_to_end()
    assert table.do().table.columns["area"].tolist() == sorted(areas, reverse=True)[-50:]
    table.controller.sort(Sorting("area", descending=True))  # it is
    assert not table.controller.busy
    table.controller.sort(Sorting())
    assert ids(table.do()) == list(range(1, 51))


def test_the_row_of_a_cell_is_found_also_where_rows_are_sorted(table: Table) -> None:
    table.controller.open()
    table.do()
    table.controller.go_to(222)
    page = table.do()
    assert (page.where(), page.chosen, page.goes) == ("rows 201 to 250 of 400", 222, True)
    table.controller.sort(Sorting("area"))
    table.do()
    table.controller.go_to(222, goes=False)
    page = table.do()
    assert 222 in ids(page)
    assert (page.sorting.name, page.chosen, page.goes) == ("area", 222, False)
    table.controller.go_to(5_000)
    page = table.do()
    assert (page.sentence(), page.chosen) == ("There is no cell 5,000 in this table.", None)


def test_a_table_that_is_out_of_date_says_so_and_is_brought_up_to_date(table: Table) -> None:
    table.controller.open()
    table.do()
    table.controller.go_to(60)
    assert table.do().state.is_true
    table.put_back()
    table.controller.look()
    page = table.do()
    assert page.sentence() == "Out of date: cells were changed since this table was written."
    assert (page.first, ids(page)[:2]) == (50, [51, 52])  # what was shown stays
    table.controller.bring_up_to_date()
    page = table.do()
    assert page.state.is_true
    assert page.sentence().startswith("Up to date: 1 cell measured, 2 gone.")
    assert page.where() == "rows 51 to 100 of 399"
    table.controller.turn_to_end()
    assert ids(table.do())[-1] == N + 1
    table.controller.look()  # nothing new
    shown = len(table.view.shown)
    table.do()
    assert len(table.view.shown) == shown


def test_what_is_put_back_while_something_is_read_is_seen_afterwards(table: Table) -> None:
    table.controller.open()
    table.controller.look()
    table.put_back()
    table.do()
    assert table.controller.busy
    assert not table.do().state.is_true


def test_a_table_that_is_not_there_can_be_made(table: Table) -> None:
    table_of(table.zarr).unlink()
    table.controller.open()
    page = table.do()
    assert (page.n_rows, page.where()) == (0, "no rows")
    assert page.sentence() == "There is no table slide_cells.csv beside the result."
    table.controller.turn(1)
    table.controller.sort(Sorting("area"))
    table.controller.go_to(1)
    assert not table.controller.busy
    table.controller.bring_up_to_date()
    page = table.do()
    assert (page.where(), page.state.is_true) == ("rows 1 to 50 of 400", True)


def test_why_it_failed_is_said_and_what_was_shown_stays(table: Table) -> None:
    table.controller.open()
    table.do()
    table.controller.failed("The disk is full.")
    assert table.view.said == ["The disk is full."]
    assert table.controller.page is table.view.shown[-1]


def test_of_planes_with_the_same_numbers_the_one_that_was_clicked_counts(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "slide_cells.csv",
        measure(np.ones((3, 4, 4), np.uint8), None, axes="ZYX"),
    )
    pages = list(run(TablePages.open(path)))[-1]
    page = Page(TableState(path, True), pages)
    for plane, row in ((None, 0), ((2,), 2), ((1,), 1)):
        found = list(page_controller._found(page, 1, plane, True, threading.Event()))[-1]
        assert isinstance(found, Page)
        assert (found.row, found.chosen) == (row, 1)


def run(steps: Any) -> Any:
    yield (yield from steps)
