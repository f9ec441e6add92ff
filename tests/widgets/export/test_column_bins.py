"""Bins of columns: in memory, and of a table on the disk a few rows at a time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.core.generators import result_of
from napari_unet_cells.core.measure import measure
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import table_pages, write_table
from napari_unet_cells.files.table_pages import TablePages
from napari_unet_cells.widgets.export.column_bins import MAX_BINS, Bins, ColumnBins, count_column

# Modules of the widgets share the process of the windows.
pytestmark = pytest.mark.gui


def test_bins_hold_all_finite_values_from_the_least_to_the_largest() -> None:
    values = np.append(np.linspace(2, 10, 100), [np.nan, np.inf])
    bins = Bins.of(values)
    assert (bins.counts.sum(), bins.n_values, len(bins.counts)) == (100, 100, 10)
    assert (bins.edges[0], bins.edges[-1]) == (2, 10)
    assert len(Bins.of(np.arange(1e6)).counts) == MAX_BINS
    alone = Bins.of(np.full(3, 7.0))
    assert (alone.counts.max(), alone.edges[0], alone.edges[-1]) == (3, 6.5, 7.5)
    nothing = Bins.of(np.array([np.nan]))
    assert (nothing.n_values, nothing.counts.sum()) == (0, 0)


@pytest.fixture
def pages(tmp_path: Path) -> TablePages:
    labels = np.zeros((40, 4_000), np.uint16)
    for number in range(400):
        labels[: 1 + number % 30, 10 * number : 10 * number + 8] = number + 1
    return result_of(TablePages.open(write_table(tmp_path / "cells.csv", measure(labels, None))))


def test_a_column_of_all_rows_is_counted(
    pages: TablePages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_pages, "_ROWS", 7)
    *done, last = count_column(pages, "area", threading.Event())
    numbers = [one for one in done if isinstance(one, float)]
    assert len(done) == len(set(numbers)) > 40
    assert numbers == sorted(numbers)
    assert isinstance(last, ColumnBins)
    expected = Bins.of(8.0 * (1 + np.arange(400) % 30))
    np.testing.assert_array_equal(last.bins.counts, expected.counts)
    np.testing.assert_array_equal(last.bins.edges, expected.edges)
    assert (last.pages, last.name) == (pages, "area")


def test_a_table_that_was_written_anew_is_said(pages: TablePages) -> None:
    pages.path.write_text("label,area,unit\n")
    with pytest.raises(UserError, match="was changed by another program"):
        list(count_column(pages, "area", threading.Event()))
