"""Model of the table of the cells: a `Table` for Qt, sorted by an index, with keys of its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_unet_cells.core.measure import POWERS, Table
from napari_unet_cells.files.pixel_size import SYMBOLS
from napari_unet_cells.segmentation.probability import PROBABILITY

#: Planes along an axis that a key can tell apart.
PLANES = 2**15


def heading(column: str, unit: str) -> str:
    """Give the words of a column, such as "area (µm²)"."""
    words = column.replace("_", " ")
    power = POWERS.get(column)
    if power is None:
        return words
    raised = "\N{SUPERSCRIPT TWO}" if power == 2 else ""
    return f"{words} ({SYMBOLS.get(unit, unit)}{raised})"


class TableModel(QAbstractTableModel):
    """A `Table` for Qt; rows are sorted by an index, the columns stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table({"label": np.empty(0, np.int64)})
        self._names: list[str] = ["label"]
        self._order: NDArray[np.intp] = np.empty(0, np.intp)
        self._sorted_by: tuple[str, Qt.SortOrder] | None = None

    @property
    def names(self) -> list[str]:
        """Columns, from left to right."""
        return self._names

    def set_table(self, table: Table) -> None:
        """Show another table, sorted as the one before."""
        self.beginResetModel()
        self.table = table
        first = ("label", *table.stack, PROBABILITY)
        # The box is asked for least and takes most room.
        self._names = sorted(
            table.columns, key=lambda name: 2 * name.startswith("bbox_") + (name not in first)
        )
        self._order = self._sorted()
        self.endResetModel()

    def value(self, row: int, name: str) -> Any:
        """Value of a column in a shown row."""
        return self.table.columns[name][self._order[row]]

    def rows_of(self, label: int) -> NDArray[np.intp]:
        """Shown rows of an id, by plane; none where it is not there."""
        there = np.flatnonzero(self.table.columns["label"] == label)
        place = np.empty(len(self._order), np.intp)
        place[self._order] = np.arange(len(self._order))
        return place[there]

    def keys(self) -> NDArray[np.int64]:
        """Numbers that tell rows apart by id and plane, of all shown rows."""
        keys = self.table.columns["label"].astype(np.int64)
        for name in self.table.stack:
            keys = keys * PLANES + self.table.columns[name]
        return keys[self._order]

    def without(self, rows: NDArray[np.intp]) -> Table:
        """Give the table without some shown rows."""
        kept = np.ones(len(self.table), bool)
        kept[self._order[rows]] = False
        columns = {name: column[kept] for name, column in self.table.columns.items()}
        return replace(self.table, columns=columns)

    def values(self, rows: NDArray[np.intp], name: str) -> NDArray[Any]:
        """Values of a column in shown rows."""
        values: NDArray[Any] = self.table.columns[name][self._order[rows]]
        return values

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Count the rows."""
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Count the columns."""
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give the text of a field, or its place in it."""
        if role == Qt.ItemDataRole.DisplayRole:
            return _as_text(self.value(index.row(), self._names[index.column()]))
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give the name of a column with its unit."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return heading(self._names[section], self.table.unit)
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; what is no number comes last either way."""
        self.layoutAboutToBeChanged.emit()
        known = 0 <= column < len(self._names)
        self._sorted_by = (self._names[column], order) if known else None
        self._order = self._sorted()
        self.layoutChanged.emit()

    def _sorted(self) -> NDArray[np.intp]:
        if self._sorted_by is None or self._sorted_by[0] not in self.table.columns:
            return np.arange(len(self.table))
        name, order = self._sorted_by
        values = self.table.columns[name]
        if order == Qt.SortOrder.DescendingOrder:
            values = -values.astype(np.float64)
        return np.argsort(values, kind="stable")


def _as_text(value: Any) -> str:
    if isinstance(value, np.floating | float):
        return "" if np.isnan(value) else f"{value:.5g}"
    return str(value)
