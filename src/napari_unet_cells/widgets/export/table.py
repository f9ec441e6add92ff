"""Table of the cells beside the histogram of a column, docked below the image."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.measure import POWERS, Table
from napari_unet_cells.files.pixel_size import SYMBOLS
from napari_unet_cells.layers.export_source import export_source
from napari_unet_cells.layers.metadata import image_id
from napari_unet_cells.widgets.camera import centre_on
from napari_unet_cells.widgets.export import histogram
from napari_unet_cells.widgets.export.measurement import Measured
from napari_unet_cells.widgets.export.measuring import Measuring
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.wiring import Wired, when_destroyed
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


#: After a click on a row, its cell fills at least and at most this fraction of the canvas.
SMALLEST, LARGEST = 0.05, 0.8

#: Tables that are open, by the id of their labels layer.
_open_tables: weakref.WeakValueDictionary[str, TableView] = weakref.WeakValueDictionary()


def open_table(viewer: Viewer, layer: Labels) -> TableView:
    """Open the table of a labels layer at the bottom of the window, or bring it up again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
        One table is shown for each; opened again it measures again, in the images that are
        there now.

    Raises
    ------
    UserError
        Where the layer cannot be measured: several levels, or too many axes.
    """
    export_source(layer, viewer.layers)
    key = image_id(layer)
    view = _open_tables.get(key)
    if view is not None:
        # The dock is not kept: while somebody holds it, its X does not destroy it.
        view.parentWidget().show()
        view.parentWidget().raise_()
        view.measuring.start()
        return view
    view = TableView(viewer, layer)
    dock = viewer.window.add_dock_widget(
        view, name=f"{layer.name} table", area="bottom", tabify=bool(_open_tables)
    )
    _open_tables[key] = view
    when_destroyed(dock, partial(_forget, key, weakref.ref(view)))
    return view


def _forget(key: str, reference: weakref.ref[TableView]) -> None:
    """Close a table: the X of a dock destroys the dock and leaves what was in it."""
    _open_tables.pop(key, None)
    view = reference()
    if view is not None:
        with contextlib.suppress(RuntimeError):  # at the end of the window it is gone already
            view.deleteLater()


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
        # The box is asked for least and takes most room.
        self._names = sorted(table.columns, key=lambda name: name.startswith("bbox_"))
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


class TableView(Wired, QWidget):
    """Table and histogram of the cells of a labels layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
    """

    def __init__(self, viewer: Viewer, layer: Labels) -> None:
        super().__init__()
        self.setObjectName("cells_table")
        self._viewer, self.layer = viewer, layer
        self._following = False
        self._histogram_of = "area"
        self._chosen: tuple[int, ...] | None = None
        self.histogram: histogram.Histogram | None = None
        self.model = TableModel()
        self.measuring = Measuring(viewer, layer, self)
        self.preloading = Worker(self)
        self._build()
        self._connect()
        self.preloading.start(_preload)
        self.measuring.start()

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.message = QLabel("")
        self.message.setWordWrap(True)
        self.column_box = QComboBox()
        self.column_box.setToolTip(
            "Column shown in the histogram; clicking a header selects it, too"
        )
        self.column_box.setMinimumWidth(180)
        top = QHBoxLayout()
        top.addWidget(self.message, 1)
        top.addWidget(QLabel("Histogram of"))
        top.addWidget(self.column_box)
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setToolTip("Click a row to go to its cell; click a header to sort")
        # Rows of one height: Qt then asks for the rows that are seen, and not for all.
        rows = self.view.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        self.view.horizontalHeader().setHighlightSections(False)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.view.setSortingEnabled(True)
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.addWidget(self.view)
        self._right = QWidget()
        self._right.setMinimumWidth(220)
        QVBoxLayout(self._right).setContentsMargins(0, 0, 0, 0)
        self.splitter.addWidget(self._right)
        self.splitter.setSizes([700, 320])
        self.splitter.setStretchFactor(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(top)
        layout.addWidget(self.splitter, 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Leave most of the window to the image."""
        return QSize(900, 240)

    def _connect(self) -> None:
        self.measuring.started.connect(self._show_started)
        self.measuring.measured.connect(self._show_measured)
        self.measuring.failed.connect(self.message.setText)
        self.measuring.deleted.connect(self._show_deleted)
        self.preloading.done.connect(self._add_histogram)
        self.preloading.failed.connect(self.message.setText)
        self.column_box.currentIndexChanged.connect(self._choose_column)
        self.view.horizontalHeader().sectionClicked.connect(self.column_box.setCurrentIndex)
        self.view.clicked.connect(self._clicked)
        self.view.selectionModel().currentRowChanged.connect(self._moved)
        self.wiring.connect(self._colour, self._viewer.events.theme)
        self.wiring.connect(self._follow, self.layer.events.selected_label)
        self.wiring.append(self.layer.mouse_drag_callbacks, self._pressed)

    # ------------------------------------------------------------------- what was measured

    def _show_started(self) -> None:
        self.message.setText("measuring...")

    def _show_measured(self, event: Measured) -> None:
        chosen, scroll = self._chosen, self.view.verticalScrollBar().value()
        columns = self.model.names
        self.model.set_table(event.table)
        if self.model.names != columns:
            self._show_columns()
        self._select(chosen)
        self.view.verticalScrollBar().setValue(scroll)
        self.message.setText(self._sentence(event))
        self._draw()

    def _show_columns(self) -> None:
        """Fill the box and give each column the width of its words."""
        headings = [heading(name, self.model.table.unit) for name in self.model.names]
        self.column_box.blockSignals(True)
        self.column_box.clear()
        self.column_box.addItems(headings)
        if self._histogram_of not in self.model.names:
            self._histogram_of = "area"
        self.column_box.setCurrentIndex(self.model.names.index(self._histogram_of))
        self.column_box.blockSignals(False)
        metrics = self.view.horizontalHeader().fontMetrics()
        for section, words in enumerate(headings):
            self.view.setColumnWidth(section, metrics.horizontalAdvance(words) + 36)

    def _sentence(self, event: Measured) -> str:
        n = len(np.unique(event.table.columns["label"]))
        if n == 0:
            return "There are no cells in these labels. Paint some, or press Segment."
        words = "1 cell" if n == 1 else f"{n:,} cells"
        if len(event.table) > n:
            words = f"{words} in {len(event.table):,} rows, one for each plane"
        if event.n_again is not None:
            words = f"{words}, {event.n_again} of them measured again after an edit"
        return f"{words}. {self.measuring.problem}" if self.measuring.problem else f"{words}."

    def _show_deleted(self) -> None:
        self.message.setText(
            f"The layer '{self.layer.name}' was deleted; the table shows what was measured last."
        )

    # ----------------------------------------------------------------------- the histogram

    def _add_histogram(self) -> None:
        self.histogram = histogram.Histogram(get_theme(self._viewer.theme))
        self._right.layout().addWidget(self.histogram)
        self._draw()

    def _choose_column(self, index: int) -> None:
        if 0 <= index < len(self.model.names):
            self._histogram_of = self.model.names[index]
            self._draw()

    def _draw(self) -> None:
        name = self._histogram_of
        if self.histogram is None or name not in self.model.names:
            return
        self.histogram.show_values(
            self.model.table.columns[name],
            heading(name, self.model.table.unit),
            self._chosen_value(name),
        )

    def _colour(self, event: object = None) -> None:
        if self.histogram is not None:
            self.histogram.colour(get_theme(self._viewer.theme))

    def _chosen_value(self, name: str) -> float | None:
        index = self.view.currentIndex()
        return float(self.model.value(index.row(), name)) if index.isValid() else None

    def _mark(self) -> None:
        name = self._histogram_of
        if self.histogram is not None and name in self.model.names:
            self.histogram.mark(self._chosen_value(name))

    # ------------------------------------------------------------- from a row to its cell

    def _clicked(self, index: QModelIndex) -> None:
        """Go to the cell, also where its row is the current one already."""
        self._go(index.row())

    def _moved(self, current: QModelIndex, previous: QModelIndex) -> None:
        if current.isValid() and not self._following:
            self._go(current.row())

    def _go(self, row: int) -> None:
        """Bring a cell to the middle, make it the selected label and its layer active."""
        self._chosen = self._key(row)
        self._mark()
        if self.layer not in self._viewer.layers:
            return
        self._following = True
        try:
            self._viewer.layers.selection.active = self.layer
            self.layer.selected_label = int(self.model.value(row, "label"))
        finally:
            self._following = False
        self._show_cell(row)

    def _key(self, row: int) -> tuple[int, ...]:
        """Label and plane of a row."""
        return tuple(int(self.model.value(row, n)) for n in ("label", *self.model.table.stack))

    def _show_cell(self, row: int) -> None:
        corners = np.asarray(
            [self.layer.data_to_world(self._position(row, e)) for e in ("min", "mid", "max")]
        )
        shown = centre_on(self._viewer, corners[1])
        extent = float(np.abs(corners[2] - corners[0])[shown].max())
        canvas, camera = min(canvas_size(self._viewer)), camera_of(self._viewer)
        if extent > 0:
            camera.zoom = float(
                np.clip(camera.zoom, SMALLEST * canvas / extent, LARGEST * canvas / extent)
            )

    def _position(self, row: int, end: str) -> NDArray[np.float64]:
        """First or last corner of a cell's box, or its centroid, in pixels of the layer."""
        table, position = self.model.table, np.zeros(self.layer.ndim)
        lengths = np.shape(self.layer.data)
        stacked = [axis for axis in range(self.layer.ndim - 2) if lengths[axis] > 1]
        for axis, name in zip(stacked, table.stack, strict=False):
            position[axis] = self.model.value(row, name)
        for axis, letter, size in zip((-2, -1), "yx", table.pixel_size, strict=True):
            name = f"centroid_{letter}" if end == "mid" else f"bbox_{letter}_{end}"
            position[axis] = self.model.value(row, name) / size
        return position

    # ------------------------------------------------------------- from a cell to its row

    def _follow(self, event: object = None) -> None:
        """Select the row of the layer's selected label."""
        if not self._following:
            self._select_label(int(self.layer.selected_label))

    def _pressed(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        """Select the row of the cell that is clicked while nothing is painted."""
        if str(layer.mode) != "pan_zoom" or event.button != 1:
            return
        yield
        if event.type == "mouse_move":
            return  # the image is being moved
        label = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        if label:
            self._select_label(int(label))

    def _select_label(self, label: int) -> None:
        rows = self.model.rows_of(label)
        if self._chosen is not None and self._chosen[0] == label and len(rows):
            return  # of a stack, the plane that was clicked
        self._select(self._key(int(rows[0])) if len(rows) else None)
        self._mark()

    def _select(self, key: tuple[int, ...] | None) -> None:
        """Make the row of a label and plane the current one; the camera stays."""
        rows = [] if key is None else self.model.rows_of(key[0]).tolist()
        row = next((row for row in rows if self._key(row) == key), None)
        self._chosen = None if row is None else key
        self._following = True
        try:
            if row is None:
                self.view.selectionModel().clear()
            else:
                index = self.model.index(row, max(0, self.view.currentIndex().column()))
                flags = QItemSelectionModel.SelectionFlag
                self.view.selectionModel().setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
                self.view.scrollTo(index)
        finally:
            self._following = False


def _preload(stop: threading.Event) -> Generator[object, None, None]:
    histogram.preload()
    yield from ()


def _as_text(value: Any) -> str:
    if isinstance(value, np.floating | float):
        return "" if np.isnan(value) else f"{value:.5g}"
    return str(value)
