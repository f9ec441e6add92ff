"""Bins of a histogram, counted for a column in memory or for one of a table on the disk. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.files.table_pages import TablePages

MAX_BINS = 60


@dataclass(frozen=True, eq=False)
class Bins:
    """Bars of a histogram.

    Attributes
    ----------
    counts : int array, (bins,)
    edges : float array, (bins + 1,)
    n_values : int
        Those that are finite; others are left out.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    n_values: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> Bins:
        """Count values, (n,)."""
        finite = values[np.isfinite(values)].astype(np.float64)
        edges = _edges(finite)
        counts, _ = np.histogram(finite, bins=edges)
        return cls(counts, edges, len(finite))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give bins that show the shape, never so many that a column of outliers fills the memory."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    n = int(np.clip(np.ceil(np.sqrt(len(values))), 5, MAX_BINS))
    return np.linspace(low, high, n + 1)


@dataclass(frozen=True, eq=False)
class ColumnBins:
    """Histogram of a column of all rows of a table on the disk.

    Attributes
    ----------
    pages : TablePages
    name : str
        Of the column.
    bins : Bins
    """

    pages: TablePages
    name: str
    bins: Bins


def count_column(
    pages: TablePages, name: str, stop: threading.Event
) -> Generator[object, None, None]:
    """Count a column of all rows; this is a thread.

    Yields
    ------
    float
        The part that is done, 0 to 1, in whole percent.
    ColumnBins
        At the end.
    """
    said = -1
    steps = pages.column(name)
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            yield ColumnBins(pages, name, Bins.of(end.value))
            return
        if int(100 * done) > said:
            said = int(100 * done)
            yield said / 100
