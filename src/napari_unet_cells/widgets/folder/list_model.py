"""Model of the list for Qt, and how the state of an image is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QStyledItemDelegate, QStyleOptionViewItem

from napari_unet_cells.widgets.folder.rows import Row, State
from napari_unet_cells.widgets.folder.thumbnails import Thumbnails

#: Columns, from left to right.
IMAGE, STATE, APPROVED = range(3)
_HEADINGS = ("Image", "State", "Approved")

#: Colours of the bar of an image that is segmented, and of what failed.
_BAR, _FAILED = QColor(0, 122, 204, 160), QColor(240, 110, 90)


class ListModel(QAbstractTableModel):
    """Rows of a list for Qt; `approved` says that the user set or took back a mark."""

    approved = Signal(str, bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.rows: Sequence[Row] = ()
        self._output: Path | None = None
        self._thumbnails = Thumbnails(self)
        self._thumbnails.came.connect(self._show_picture)
        self._places: dict[str, int] = {}

    @property
    def thumbnails(self) -> Thumbnails:
        """Pictures of the rows."""
        return self._thumbnails

    def set_rows(self, rows: Sequence[Row], output: Path | None) -> None:
        """Show other rows, or the same in another state."""
        if output != self._output:
            self._thumbnails.forget()
        same = output == self._output and [r.name for r in rows] == [r.name for r in self.rows]
        if same:  # what is selected stays so
            self.rows = list(rows)
            self._changed(0, len(rows) - 1)
            return
        self.beginResetModel()
        self.rows, self._output = list(rows), output
        self._places = {row.name: place for place, row in enumerate(rows)}
        self.endResetModel()

    def set_row(self, place: int, row: Row) -> None:
        """Show one row in another state."""
        if not 0 <= place < len(self.rows):
            return
        before = self.rows[place]
        self.rows[place] = row  # type: ignore[index]  # it is a list of our own
        if row.drawn != before.drawn:
            self._thumbnails.forget(row.name)
        self._changed(place, place)

    def _changed(self, first: int, last: int) -> None:
        if first <= last:
            self.dataChanged.emit(self.index(first, 0), self.index(last, APPROVED))

    def _show_picture(self, name: str) -> None:
        place = self._places.get(name)
        if place is not None:
            self._changed(place, place)

    # ------------------------------------------------------------------ what Qt asks for

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Give the number of images."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Give the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(_HEADINGS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Give the heading of a column."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADINGS[section]
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Say what can be done with a cell of the table."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.column() == APPROVED and self.rows[index.row()].state is State.DONE:
            flags |= Qt.ItemFlag.ItemIsUserCheckable
        return flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give what one cell of the table shows."""
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tooltip(row)
        if role == Qt.ItemDataRole.ForegroundRole and row.state is State.FAILED:
            return _FAILED if column == STATE else None
        if column == IMAGE:
            return self._of_image(row, role)
        if column == STATE and role == Qt.ItemDataRole.DisplayRole:
            return row.text
        if column == APPROVED and role == Qt.ItemDataRole.CheckStateRole:
            if row.state is not State.DONE:
                return None
            return Qt.CheckState.Checked if row.approved else Qt.CheckState.Unchecked
        return None

    def _of_image(self, row: Row, role: int) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            return row.name
        if role == Qt.ItemDataRole.DecorationRole and self._output is not None:
            if row.state is not State.DONE:
                return None
            return self._thumbnails.get(row.name, row.picture(self._output))
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = 0) -> bool:
        """Take a mark that the user set or took back."""
        if role != Qt.ItemDataRole.CheckStateRole or index.column() != APPROVED:
            return False
        checked = Qt.CheckState(value) == Qt.CheckState.Checked
        self.approved.emit(self.rows[index.row()].name, checked)
        return True


def _tooltip(row: Row) -> str:
    lines = [str(row.path), row.said if row.state in (State.DONE, State.FAILED) else row.text]
    if row.can_open:
        lines.append("A click opens the image and its cells for correction.")
    return "\n".join(filter(None, lines))


class StateDelegate(QStyledItemDelegate):
    """Draws a bar behind the state of an image that is being segmented."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw the bar, then the words."""
        model = index.model()
        row = model.rows[index.row()] if isinstance(model, ListModel) else None
        if row is not None and row.state is State.RUNNING:
            box = option.rect.adjusted(2, 6, -2, -6)
            painter.save()
            painter.setPen(_BAR)
            painter.drawRect(box)
            box.setWidth(int(box.width() * row.fraction))
            painter.fillRect(box, _BAR)
            painter.restore()
        super().paint(painter, option, index)
