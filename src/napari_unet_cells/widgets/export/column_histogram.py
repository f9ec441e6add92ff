"""Histogram of a column of all rows of a table on the disk, and the box to choose the column."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.theme import get_theme
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_unet_cells.files.table_pages import TablePages
from napari_unet_cells.widgets.export import histogram
from napari_unet_cells.widgets.export.column_bins import ColumnBins, count_column
from napari_unet_cells.widgets.export.table_model import heading
from napari_unet_cells.widgets.wiring import Wired
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Pixels; below, the numbers at the axis lie on each other.
LEAST_WIDTH = 240


class ColumnHistogram(Wired, QWidget):
    """Box of columns above their histogram, which a thread counts.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: Why a column could not be read.
    failed = Signal(str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._pages: TablePages | None = None
        self._names: list[str] = []
        self._unit = ""
        self._wanted = "area"
        self._counted: ColumnBins | None = None
        self._chosen: Mapping[str, float] = {}
        self.histogram: histogram.Histogram | None = None
        self.counting, self.preloading = Worker(self), Worker(self)
        self._build()
        self.preloading.done.connect(self._add_histogram)
        self.preloading.failed.connect(self.failed)
        self.counting.progressed.connect(self._receive)
        self.counting.failed.connect(self._not_counted)
        self.wiring.at_end(self.counting.stop)
        self.wiring.connect(self._colour, viewer.events.theme)
        self.preloading.start(_preload)

    def _build(self) -> None:
        self.column_box = QComboBox()
        self.column_box.setObjectName("large_histogram_box")
        self.column_box.setToolTip(
            "Column shown in the histogram, of all rows; clicking a header selects it, too."
        )
        self.column_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.column_box.currentIndexChanged.connect(self._choose)
        self.setMinimumWidth(LEAST_WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.column_box)
        layout.addStretch(0)

    @property
    def name(self) -> str:
        """Column that is shown; empty without any."""
        if self._wanted in self._names:
            return self._wanted
        return self._names[0] if self._names else ""

    def set_table(self, pages: TablePages | None, names: Sequence[str], unit: str) -> None:
        """Show the histogram of a table, counted again where it is another one.

        Parameters
        ----------
        pages : TablePages or None
            None where there is no table.
        names : sequence of str
            Columns in the order of the box.
        unit : str
            Of length.
        """
        self._pages = pages
        if (list(names), unit) != (self._names, self._unit):
            self._names, self._unit = list(names), unit
            self.column_box.blockSignals(True)
            self.column_box.clear()
            self.column_box.addItems([heading(name, unit) for name in names])
            self.column_box.setCurrentIndex(self._names.index(self.name) if names else -1)
            self.column_box.blockSignals(False)
        self._count()

    def mark(self, values: Mapping[str, float]) -> None:
        """Draw a line at the value of the chosen row, or none.

        Parameters
        ----------
        values : mapping of str to float
            Of its columns; empty without a row.
        """
        self._chosen = values
        if self.histogram is not None:
            self.histogram.mark(self._value() if self._counted is not None else None)

    def _value(self) -> float | None:
        return self._chosen.get(self.name)

    def _title(self) -> str:
        return heading(self.name, self._unit)

    def _add_histogram(self) -> None:
        self.histogram = histogram.Histogram(get_theme(self._viewer.theme))
        self.layout().addWidget(self.histogram, 1)
        self._count()

    def _choose(self, index: int) -> None:
        if 0 <= index < len(self._names):
            self._wanted = self._names[index]
            self._count()

    def _count(self) -> None:
        """Count the column again where it, or the table, is another one."""
        pages, name, counted = self._pages, self.name, self._counted
        if self.histogram is None:
            return
        if pages is None or name not in pages.names:
            self._counted = None
            self.counting.stop()
            self.histogram.show_text("no values", "")
        elif counted is None or (counted.pages, counted.name) != (pages, name):
            self._counted = None
            self.histogram.show_text("counting...", self._title())
            self.counting.start(partial(count_column, pages, name))

    def _receive(self, event: object) -> None:
        if self.histogram is None or self._pages is None:
            return
        if isinstance(event, ColumnBins):
            self._counted = event
            self.histogram.show_bins(event.bins, self._title(), self._value())
        elif isinstance(event, float):
            self.histogram.show_text(f"counting: {100 * event:.0f} %", self._title())

    def _not_counted(self, problem: str) -> None:
        if self.histogram is not None:
            self.histogram.show_text("not counted", self._title())
        self.failed.emit(problem)

    def _colour(self, event: object = None) -> None:
        if self.histogram is not None:
            self.histogram.colour(get_theme(self._viewer.theme))


def _preload(stop: threading.Event) -> Generator[object, None, None]:
    histogram.preload()
    yield from ()
