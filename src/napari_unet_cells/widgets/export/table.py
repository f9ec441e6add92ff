"""Table of the cells beside the histogram of a column, docked below the image."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QItemSelection, QItemSelectionModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.layers.export_source import export_source
from napari_unet_cells.layers.metadata import CLASSES, OURS
from napari_unet_cells.widgets.camera import centre_on
from napari_unet_cells.widgets.export import histogram
from napari_unet_cells.widgets.export.cell_outlines import CellOutlines
from napari_unet_cells.widgets.export.docked_tables import open_docked
from napari_unet_cells.widgets.export.measurement import Measured
from napari_unet_cells.widgets.export.measuring import Measuring
from napari_unet_cells.widgets.export.removing import (
    Cells,
    Removal,
    prepare,
    removal_problem,
    remove,
    write,
)
from napari_unet_cells.widgets.export.table_model import TableModel, heading
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.opening import open_image
from napari_unet_cells.widgets.wiring import Wired
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


#: Corners of a cell's box in the table, as the outlines want them.
_BOX = ("bbox_y_min", "bbox_x_min", "bbox_y_max", "bbox_x_max")

#: After a click on a row, its cell fills at least and at most this fraction of the canvas.
SMALLEST, LARGEST = 0.05, 0.8


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
    return open_docked(viewer, layer, TableView, lambda view: view.measuring.start())


class Rows(QTableView):
    """Rows with keys of their own: the canvas has the same ones, but not the keyboard now."""

    #: Keys and what they do.
    keys: tuple[tuple[QKeySequence.StandardKey, Callable[[], object]], ...] = ()

    def event(self, event: QEvent) -> bool:
        """Keep the keys from the shortcuts of the window."""
        if event.type() == QEvent.Type.ShortcutOverride and self._action(event) is not None:
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Do what a key does."""
        action = self._action(event)
        if action is None:
            super().keyPressEvent(event)
        else:
            action()

    def _action(self, event: QEvent) -> Callable[[], object] | None:
        return next((action for key, action in self.keys if event.matches(key)), None)


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
        self._note = ""
        #: Keys of the chosen rows, see `TableModel.keys`.
        self._chosen = np.empty(0, np.int64)
        #: Keys of rows whose cells are to go, once they are measured; and of those that go now.
        self._to_delete = self._being_deleted = self._chosen
        self._edits = 0
        self.histogram: histogram.Histogram | None = None
        self.model = TableModel()
        self.measuring = Measuring(viewer, layer, self)
        self.outlines = CellOutlines(viewer, layer, self)
        self.preloading = Worker(self)
        self.removing = Worker(self)
        self._build()
        self._connect()
        self.preloading.start(_preload)
        self.measuring.start()

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.message = QLabel("")
        self.message.setObjectName("table_message")
        self.message.setWordWrap(True)
        self.column_box = QComboBox()
        self.column_box.setObjectName("histogram_box")
        self.column_box.setToolTip(
            "Column shown in the histogram; clicking a header selects it, too"
        )
        self.column_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.delete_button = QPushButton("Delete cells")
        self.delete_button.setObjectName("delete_rows_button")
        self.image_button = QPushButton("Open the image")
        self.image_button.setObjectName("open_image_button")
        self.image_button.setVisible(False)
        self._build_rows()
        # All but the rows beside them: below the image there is little height.
        beside = QHBoxLayout()
        for widget in (self.image_button, self.delete_button):
            beside.addWidget(widget)
        beside.addWidget(self.column_box, 1)
        self._right = QWidget()
        self._right.setMinimumWidth(260)
        right = QVBoxLayout(self._right)
        right.setContentsMargins(0, 0, 0, 0)
        right.addWidget(self.message)
        right.addLayout(beside)
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.addWidget(self.view)
        self.splitter.addWidget(self._right)
        self.splitter.setSizes([700, 340])
        self.splitter.setStretchFactor(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.splitter)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def _build_rows(self) -> None:
        self.view = Rows()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setToolTip(
            "Click a row to go to its cell, Ctrl+click or Shift+click for several; Delete removes "
            "their cells, Ctrl+Z brings them back. Click a header to sort."
        )
        # Rows of one height: Qt then asks for the rows that are seen, and not for all.
        rows = self.view.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        self.view.horizontalHeader().setHighlightSections(False)
        # An empty selection of its own: else each column asks each of the chosen rows, and the
        # window stands still where 15,000 are chosen.
        nothing = QItemSelectionModel(self.model, self.view)
        self.view.horizontalHeader().setSelectionModel(nothing)
        self.view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.view.setSortingEnabled(True)

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
        self.view.selectionModel().selectionChanged.connect(self._selection_changed)
        self.model.layoutChanged.connect(self._select_again)
        self.measuring.worker.done.connect(self._delete_late)
        self.removing.progressed.connect(self._receive)
        self.removing.failed.connect(self.message.setText)
        self.wiring.at_end(self.removing.stop)
        self.delete_button.clicked.connect(self.delete_chosen)
        self.image_button.clicked.connect(self._open_image)
        self.view.keys = (
            (QKeySequence.StandardKey.Delete, self.delete_chosen),
            (QKeySequence.StandardKey.Undo, self.layer.undo),
            (QKeySequence.StandardKey.Redo, self.layer.redo),
        )
        self.wiring.connect(self._colour, self._viewer.events.theme)
        self.wiring.connect(self._follow, self.layer.events.selected_label)
        self.wiring.append(self.layer.mouse_drag_callbacks, self._pressed)

    # ------------------------------------------------------------------- what was measured

    def _show_started(self) -> None:
        self.message.setText("measuring...")

    def _show_measured(self, event: Measured) -> None:
        scroll = self.view.verticalScrollBar().value()
        columns = self.model.names
        self.model.set_table(event.table)
        if self.model.names != columns:
            self._show_columns()
        self._select_again()
        self.view.verticalScrollBar().setValue(scroll)
        self.message.setText(f"{self._sentence(event)}{self._note}")
        self._note = ""
        self.image_button.setVisible(self.measuring.file is not None)
        self.image_button.setToolTip(f"Open {self.measuring.file} and measure the cells in it.")
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
        if self.layer.metadata.get(OURS, {}).get("role") == CLASSES:
            words = "1 class" if n == 1 else f"{n} classes"
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
        self._right.layout().addWidget(self.histogram, 1)
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
        rows = self.chosen_rows()
        return float(self.model.value(int(rows[0]), name)) if len(rows) == 1 else None

    def _mark(self) -> None:
        name = self._histogram_of
        if self.histogram is not None and name in self.model.names:
            self.histogram.mark(self._chosen_value(name))

    # ------------------------------------------------------------- from rows to their cells

    def chosen_rows(self) -> NDArray[np.intp]:
        """Rows that are chosen, from the top."""
        return self._rows_of(self._chosen)

    def _rows_of(self, keys: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.flatnonzero(np.isin(self.model.keys(), keys))

    def _clicked(self, index: QModelIndex) -> None:
        """Go to the cell, also where its row is the chosen one already."""
        if len(self._chosen) == 1:
            self._go(int(self.chosen_rows()[0]))

    def _selection_changed(self, *_: object) -> None:
        """Outline the cells of the chosen rows; a single one is brought into view."""
        if self._following:
            return
        rows = self._selected_rows()
        self._chosen = self.model.keys()[rows]
        if len(rows) == 1:
            self._go(int(rows[0]))
        self._show_chosen()

    def _selected_rows(self) -> NDArray[np.intp]:
        spans = [range(s.top(), s.bottom() + 1) for s in self.view.selectionModel().selection()]
        return np.unique(np.array([row for span in spans for row in span], np.intp))

    def _cells_of(self, rows: NDArray[np.intp]) -> Cells:
        table = self.model.table
        planes = np.zeros((len(rows), self.layer.ndim - 2), np.int64)
        for axis, name in zip(self._stacked_axes(), table.stack, strict=False):
            planes[:, axis] = self.model.values(rows, name)
        sizes = (*table.pixel_size, *table.pixel_size)
        boxes = np.empty((len(rows), 4))
        for corner, name in enumerate(_BOX if len(rows) else ()):
            boxes[:, corner] = self.model.values(rows, name) / sizes[corner]
        return Cells(self.model.values(rows, "label"), planes, boxes)

    def _show_chosen(self) -> None:
        """Outline the chosen cells, and mark a single one in the histogram."""
        cells = self._cells_of(self.chosen_rows())
        self._mark()
        self.outlines.choose(cells)
        self.delete_button.setEnabled(len(cells) > 0)
        self.delete_button.setToolTip(
            "Make the cells of the chosen rows background, as one step of Ctrl+Z (Delete)"
            if len(cells)
            else "Choose rows first."
        )

    def _go(self, row: int) -> None:
        """Bring a cell to the middle, make it the selected label and its layer active."""
        if self.layer not in self._viewer.layers:
            return
        self._following = True
        try:
            self._viewer.layers.selection.active = self.layer
            self.layer.selected_label = int(self.model.value(row, "label"))
        finally:
            self._following = False
        self._show_cell(row)

    def _stacked_axes(self) -> list[int]:
        """Axes of the layer that the columns of the table's planes stand for."""
        lengths = np.shape(self.layer.data)
        return [axis for axis in range(self.layer.ndim - 2) if lengths[axis] > 1]

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
        for axis, name in zip(self._stacked_axes(), table.stack, strict=False):
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
        if len(self._chosen) == 1 and np.isin(self._chosen, self.model.keys()[rows]).all():
            return  # of a stack, the plane that was clicked
        self._chosen = self.model.keys()[rows[:1]]
        self._select_again()

    def _select_again(self) -> None:
        """Select the chosen rows where they are now; the camera stays."""
        rows = self.chosen_rows()
        self._chosen = self.model.keys()[rows]  # without those that are gone
        flags = QItemSelectionModel.SelectionFlag
        self._following = True
        try:
            column = max(0, self.view.currentIndex().column())
            selection = self.view.selectionModel()
            if len(rows):
                index = self.model.index(int(rows[0]), column)
                selection.setCurrentIndex(index, flags.NoUpdate)
                selection.select(self._spans(rows), flags.ClearAndSelect | flags.Rows)
                self.view.scrollTo(index)
            else:
                selection.clear()
        finally:
            self._following = False
        self._show_chosen()

    def _spans(self, rows: NDArray[np.intp]) -> QItemSelection:
        """Give rows as a selection of as few spans as they have."""
        spans = QItemSelection()
        last = self.model.columnCount() - 1
        for span in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            first, end = int(span[0]), int(span[-1])
            spans.select(self.model.index(first, 0), self.model.index(end, last))
        return spans

    # ------------------------------------------------------------------- what is removed

    def delete_chosen(self, *_: object) -> None:
        """Remove the cells of the chosen rows from the layer, as one step of its undo history."""
        self._delete(self._chosen)

    def _delete(self, keys: NDArray[np.int64]) -> None:
        """Remove the cells of some rows, whichever are chosen by the time it is done."""
        if self.measuring.gone or self.removing.running or not len(keys):
            return
        problem = removal_problem(self.layer)
        if problem:
            self.message.setText(problem)
        elif self.measuring.busy:
            self._to_delete = keys  # where the cells are is known in a moment
        else:
            cells = self._cells_of(self._rows_of(keys))
            if cells.is_quick:
                remove(self.layer, cells)
                self._deleted(keys)
            else:
                self._being_deleted, self._edits = keys, self.measuring.edits
                self.message.setText("deleting...")
                self.removing.start(partial(_prepare, self.layer.data, cells))

    def _delete_late(self) -> None:
        if not self.measuring.busy:
            keys, self._to_delete = self._to_delete, self._to_delete[:0]
            self._delete(keys)

    def _receive(self, prepared: list[Removal]) -> None:
        """Remove many cells; where something was painted meanwhile, all are looked for again."""
        if self.measuring.gone:
            return
        if self.measuring.edits == self._edits:
            write(self.layer, prepared)
            self._deleted(self._being_deleted)
        else:
            self._to_delete = self._being_deleted

    def _deleted(self, keys: NDArray[np.int64]) -> None:
        """Take the rows away at once: what was removed is known before it is measured."""
        rows = self._rows_of(keys)
        n = len(rows)
        cells, them = ("1 cell", "it") if n == 1 else (f"{n:,} cells", "them")
        self._note = f" {cells} deleted; Ctrl+Z brings {them} back."
        self.model.set_table(self.model.without(rows))
        self._chosen = self._chosen[~np.isin(self._chosen, keys)]
        goes_on = n == 1 and not len(self._chosen) and self.model.rowCount() > 0
        following = min(int(rows[0]), self.model.rowCount() - 1) if n else 0
        if goes_on:
            self._chosen = self.model.keys()[following : following + 1]
        self._select_again()
        if goes_on:
            self._go(following)

    def _open_image(self, checked: bool = False) -> None:
        """Open the image that the cells were found in, below them, and measure in it."""
        if self.measuring.file is not None:
            open_image(self._viewer, self.measuring.file, self.layer)

    def showEvent(self, event: Any) -> None:
        """Outline the chosen cells again."""
        super().showEvent(event)
        self.outlines.look()

    def hideEvent(self, event: Any) -> None:
        """Outline nothing while the table is closed, or below another one."""
        super().hideEvent(event)
        self.outlines.look()


def _prepare(
    labels: NDArray[Any], cells: Cells, stop: threading.Event
) -> Generator[object, None, None]:
    yield prepare(labels, cells)


def _preload(stop: threading.Event) -> Generator[object, None, None]:
    histogram.preload()
    yield from ()
