"""Pages of a table on the disk: rows in any order, columns to sort by, what is refused."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.measure import Table
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import table_pages
from napari_unet_cells.files.table_pages import TablePages
from napari_unet_cells.files.tables import write_table

N = 3_000


def result_of(steps: Generator[float, None, Any]) -> Any:
    """Run a generator to its end; what it yields rises to 1."""
    said = []
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            assert said == sorted(said)
            assert said[-1:] in ([], [1.0])
            return end.value


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(3)
    area = rng.random(N) * 100
    area[7] = np.nan
    label, counts = np.arange(1, N + 1), rng.integers(1, 99, N)
    columns = {"label": label, "z": label % 4, "area": area, "area_pixels": counts}
    return Table(columns, (0.5, 0.5), "micrometer", ("z",))


@pytest.fixture
def pages(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> TablePages:
    monkeypatch.setattr(table_pages, "_CHUNK", 1_000)  # rows lie across what is read at once
    monkeypatch.setattr(table_pages, "_ROWS", 700)
    opened: TablePages = result_of(TablePages.open(write_table(tmp_path / "cells.csv", table)))
    return opened


def test_a_page_holds_the_rows_that_are_asked_for(pages: TablePages, table: Table) -> None:
    assert len(pages) == N
    assert (pages.names, pages.stack, pages.unit) == (tuple(table.columns), ("z",), "micrometer")
    rows = np.array([2_999, 0, 7, 1_500])
    page = pages.page(rows, (0.5, 0.5))
    assert (page.unit, page.stack, page.pixel_size) == ("micrometer", ("z",), (0.5, 0.5))
    for name, column in table.columns.items():
        np.testing.assert_allclose(page.columns[name], column[rows], rtol=1e-11)
        assert page.columns[name].dtype.kind == column.dtype.kind


def test_a_column_is_read_of_all_rows(pages: TablePages, table: Table) -> None:
    for name, column in table.columns.items():
        np.testing.assert_allclose(result_of(pages.column(name)), column, rtol=1e-11)


def test_tables_of_other_programs_ends_of_lines_and_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(b"\xef\xbb\xbflabel,area,unit\r\n1,2.5,pixel\r\n2,3,pixel")
    pages = result_of(TablePages.open(path))
    assert len(pages) == 2
    assert pages.page(np.array([1])).columns["area"].tolist() == [3]
    assert result_of(pages.column("area")).tolist() == [2.5, 3]
    path.write_bytes(b"label,area,unit\n")
    pages = result_of(TablePages.open(path))
    assert len(pages) == 0
    assert len(pages.page(np.empty(0, np.intp))) == 0
    assert result_of(pages.column("area")).tolist() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"label;area;unit\n1;2;pixel\n", "does not begin with 'label'"),
        (b"", "does not begin with 'label'"),
        (b"\xff\xfe,area\n", "names no columns"),
        (b"label,area,unit\n1,2\n", "a row has 2 fields"),
        (b"label,area,unit\none,2,pixel\n", "a field is no number"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"cells\.csv is no table of cells any more.*{why}"):
        result_of(TablePages.open(path))


def test_a_table_that_changed_or_went_is_said(pages: TablePages) -> None:
    os.utime(pages.path, (1, 1))
    with pytest.raises(UserError, match="changed by another program"):
        pages.page(np.array([0]))
    pages.path.unlink()
    with pytest.raises(UserError, match=r"cells\.csv"):
        pages.page(np.array([0]))
    with pytest.raises(UserError, match=r"cells\.csv"):
        result_of(TablePages.open(pages.path))
