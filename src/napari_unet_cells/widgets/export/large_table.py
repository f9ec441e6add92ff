"""Table of the cells of a large result, docked below the image: a page of its rows at a time."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QIntValidator, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.measure import Table
from napari_unet_cells.files.label_levels import with_hole
from napari_unet_cells.layers.metadata import OURS, ZARR
from napari_unet_cells.widgets.camera import centre_on
from napari_unet_cells.widgets.export.cell_on_disk import DiskCell, ReadCell, read_cell
from napari_unet_cells.widgets.export.cell_outlines import CellOutlines
from napari_unet_cells.widgets.export.column_histogram import ColumnHistogram
from napari_unet_cells.widgets.export.deleting import Changed, Deleting, Kept
from napari_unet_cells.widgets.export.docked_tables import open_docked, open_tables
from napari_unet_cells.widgets.export.page_controller import Busy, Page, PageController, Sorting
from napari_unet_cells.widgets.export.removing import Cells
from napari_unet_cells.widgets.export.table import LARGEST, SMALLEST, Rows
from napari_unet_cells.widgets.export.table_model import TableModel, heading
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size, levels_of
from napari_unet_cells.widgets.wiring import Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Events of the labels after which a part of them may have been put back.
_CHANGES = ("data",)


def open_large_table(viewer: Viewer, layer: Labels) -> LargeTable:
    """Open the table of labels on the disk at the bottom of the window, or bring it up again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
        Read from an OME-Zarr, see `layers.metadata.ZARR`.
    """
    return open_docked(
        viewer, layer, LargeTable, lambda table: table.controller.look(), _stop_updating
    )


def look_at_large_tables() -> None:
    """Have the tables that are open read again where their files were written anew."""
    for table in open_tables(LargeTable):
        table.controller.look()


def _stop_updating(table: LargeTable) -> None:
    """Stop what a table that is closed was measuring, and say so."""
    if table.updating.running:
        table.updating.stop()
        show_warning(
            f"Measuring the cells of '{table.layer.name}' was stopped, as you closed its table. "
            f"'Show table' on the page Export says whether it is out of date; press "
            f"'{table.update_button.text()}' there, and leave it open until that is done."
        )


class LargeTable(Wired, QWidget):
    """Pages of the table of labels that are read from the disk.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
    """

    #: Folder of an OME-Zarr whose table was seen to hold all cells as they are.
    is_true = Signal(object)

    def __init__(self, viewer: Viewer, layer: Labels) -> None:
        super().__init__()
        self.setObjectName("large_table")
        self._viewer, self.layer = viewer, layer
        self._following = False
        self._pixel_size = (1.0, 1.0)
        self._columns: list[str] = []
        #: Plane and id of the chosen row.
        self._key: tuple[int, ...] = ()
        self.model = TableModel()
        self.reading = Worker(self)
        self.updating = Worker(self, daemon=False)
        self.outlining = Worker(self)
        self.removing = Worker(self, daemon=False)
        self.deleting = Deleting(self._folder, lambda: self._viewer.layers, self.removing)
        self._first, self._note = 0, ""
        self.outlines = CellOutlines(viewer, layer, self)
        self.controller = PageController(self._folder, self, self.reading, self.updating)
        self._build()
        self._lay_out()
        self._connect()
        self.show_busy(None)
        self.controller.open()

    def _folder(self) -> Path:
        return Path(self.layer.metadata[OURS][ZARR])

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.message = QLabel("")
        self.message.setObjectName("large_table_message")
        self.message.setWordWrap(True)
        self.message.setVisible(False)
        self.where = QLabel("")
        self.where.setObjectName("large_table_where")
        self.where.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.first_button = _button("First", "first_page_button", "Show the first page.")
        self.previous_button = _button("Previous", "previous_page_button", "Show the page before.")
        self.next_button = _button("Next", "next_page_button", "Show the page after.")
        self.last_button = _button("Last", "last_page_button", "Show the last page.")
        self.label_edit = QLineEdit()
        self.label_edit.setObjectName("go_to_cell")
        self.label_edit.setPlaceholderText("number of a cell")
        self.label_edit.setToolTip("Type the number of a cell, and press Enter to go to it.")
        self.label_edit.setValidator(QIntValidator(1, 2**31 - 1, self.label_edit))
        self.label_edit.setMaximumWidth(140)
        self.update_button = _button(
            "Bring up to date",
            "update_table_button",
            "Measure the cells that were changed, and write their rows into the table.",
        )
        self.progress = QProgressBar()
        self.progress.setObjectName("large_table_progress")
        self.cancel_button = _button(
            "Cancel", "cancel_table_button", "Stop; the table stays as it is."
        )
        self.columns = ColumnHistogram(self._viewer)
        self.delete_button = _button(
            "Delete cell",
            "delete_large_row_button",
            "Make the cell of the chosen row background, on the disk (Delete). Ctrl+Z brings it "
            "back.",
        )
        self._build_rows()

    def _build_rows(self) -> None:
        self.view = Rows()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setToolTip(
            "Click a row to go to its cell; Delete removes that, Ctrl+Z brings it back. Click a "
            "header to sort all rows, not only these."
        )
        # On a low screen a row is seen at least; Qt asks for three.
        self.view.setMinimumHeight(2 * self.fontMetrics().height() + 16)
        rows = self.view.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        header = self.view.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)

    def _lay_out(self) -> None:
        pager = QHBoxLayout()
        for button in (
            self.first_button,
            self.previous_button,
            self.next_button,
            self.last_button,
            self.label_edit,
        ):
            pager.addWidget(button)
        pager.addWidget(self.where, 1)
        pager.addWidget(self.delete_button)
        state = QHBoxLayout()
        state.addWidget(self.message, 1)
        for widget in (self.update_button, self.progress, self.cancel_button):
            state.addWidget(widget)
        rows = QWidget()
        left = QVBoxLayout(rows)
        left.setContentsMargins(0, 0, 0, 0)
        left.addLayout(state)
        left.addWidget(self.view, 1)
        left.addLayout(pager)
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.addWidget(rows)
        self.splitter.addWidget(self.columns)
        self.splitter.setSizes([720, 300])
        self.splitter.setStretchFactor(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.splitter)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Leave most of the window to the image."""
        return QSize(900, 240)

    def _connect(self) -> None:
        controller = self.controller
        for worker in (self.reading, self.updating):
            worker.progressed.connect(controller.receive)
            worker.done.connect(controller.ended)
            worker.done.connect(self._tell)
            worker.failed.connect(controller.failed)
            self.wiring.at_end(worker.stop)
        self.updating.cancelled.connect(controller.ended)
        self.first_button.clicked.connect(lambda: controller.show_from(0))
        self.previous_button.clicked.connect(lambda: controller.turn(-1))
        self.next_button.clicked.connect(lambda: controller.turn(1))
        self.last_button.clicked.connect(lambda: controller.turn_to_end())
        self.update_button.clicked.connect(lambda: controller.bring_up_to_date())
        self.cancel_button.clicked.connect(lambda: self.updating.cancel())
        self.label_edit.returnPressed.connect(self._typed)
        self.view.clicked.connect(self._clicked)
        # Not with the current row: the table takes one when it gets the keyboard.
        self.view.selectionModel().selectionChanged.connect(self._moved)
        header = self.view.horizontalHeader()
        header.sortIndicatorChanged.connect(self._sort)
        header.sectionClicked.connect(self.columns.column_box.setCurrentIndex)
        self.columns.failed.connect(self._not_counted)
        self.outlining.progressed.connect(self._receive_cell)
        self.outlining.failed.connect(self.say)
        self.wiring.at_end(self.outlining.stop)
        self.removing.progressed.connect(self._receive_change)
        self.removing.failed.connect(self._not_changed)
        self.delete_button.clicked.connect(self.delete_chosen)
        self.view.keys = (
            (QKeySequence.StandardKey.Delete, self.delete_chosen),
            (QKeySequence.StandardKey.Undo, self.take_back),
        )
        self.wiring.connect(self._outline, *emitters(self.layer, _CHANGES))
        self.wiring.connect(controller.look, *emitters(self.layer, _CHANGES))
        self.wiring.connect(self._removed, self._viewer.layers.events.removed)
        self.wiring.append(self.layer.mouse_drag_callbacks, self._pressed)

    # ----------------------------------------------------------------- what is shown of it

    def show_page(self, page: Page) -> None:
        """Show rows, and whether they are true."""
        self._following = True
        self.deleting.look(page.run)
        try:
            self._pixel_size = page.pixel_size
            self._show_rows(page.table)
            if self.model.names != self._columns:
                self._columns = list(self.model.names)
                self._fit_columns()
            self._show_sorting(page.sorting)
            self._choose(self._row_to_choose(page))
        finally:
            self._following = False
        self.columns.set_table(page.pages, self.model.names, page.table.unit)
        self._note_chosen()
        self._show_where(page)
        if page.remark or page.first != self._first or page.chosen is not None:
            self._note = ""
        if page.chosen is not None and self._chosen_row() < 0:
            self._note = (
                f"Cell {page.chosen:,} is not there any more: it was deleted here. Ctrl+Z brings "
                "back what was deleted, the last cell first."
            )
        self._first = page.first
        said = f"{self.deleting.sentence(page.state)} {page.remark} {self._note}"
        self.say(" ".join(said.split()))
        self.update_button.setText(
            "Bring up to date" if page.state.is_there else "Measure all cells"
        )
        self.update_button.setVisible(not page.state.is_true)
        if page.chosen is not None and page.goes:
            self._go(self._chosen_row())

    def _fit_columns(self) -> None:
        metrics = self.view.horizontalHeader().fontMetrics()
        for section, name in enumerate(self.model.names):
            words = heading(name, self.model.table.unit)
            self.view.setColumnWidth(section, metrics.horizontalAdvance(words) + 36)

    def _show_sorting(self, sorting: Sorting) -> None:
        names, header = self.model.names, self.view.horizontalHeader()
        section = names.index(sorting.name) if sorting.name in names else -1
        order = Qt.SortOrder.DescendingOrder if sorting.descending else Qt.SortOrder.AscendingOrder
        header.setSortIndicator(section, order)

    def show_busy(self, busy: Busy | None) -> None:
        """Show what is being done; None where it has ended."""
        page = self.controller.page
        updates = busy is not None and self.updating.running
        self.progress.setVisible(busy is not None)
        self.cancel_button.setVisible(updates)
        if busy is not None:
            self.progress.setFormat(f"{busy.text}: %p %")
            self.progress.setValue(round(100 * busy.done))
        is_free = busy is None and page is not None and page.pages is not None
        self.update_button.setEnabled(busy is None)
        self.label_edit.setEnabled(is_free)
        first, last = (0, 0) if page is None else (page.first, page.last)
        for button in (self.first_button, self.previous_button):
            button.setEnabled(is_free and first > 0)
        for button in (self.next_button, self.last_button):
            button.setEnabled(is_free and first < last)

    def _tell(self) -> None:
        """Tell others that the table is true, unless that is still to be looked for."""
        page = self.controller.page
        if page is not None and page.state.is_true and not self.controller.busy:
            self.is_true.emit(self._folder())

    def say(self, sentence: str) -> None:
        """Show a sentence; without one its line is left to the rows."""
        self.message.setText(sentence)
        self.message.setVisible(bool(sentence))

    def _removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.say(
                f"The layer '{self.layer.name}' was deleted; its table stays beside the result."
            )

    # ------------------------------------------------------------------- what the user does

    def _sort(self, section: int, order: Qt.SortOrder) -> None:
        if not self._following and 0 <= section < len(self.model.names):
            descending = order == Qt.SortOrder.DescendingOrder
            self.controller.sort(Sorting(self.model.names[section], descending))

    def _typed(self) -> None:
        if self.label_edit.hasAcceptableInput():
            self.controller.go_to(int(self.label_edit.text()))

    def _clicked(self, index: QModelIndex) -> None:
        """Go to the cell, also where its row is the chosen one already."""
        self._go(index.row())

    def _moved(self, *_: object) -> None:
        """Go to the cell that the arrow keys come to."""
        if self._following:
            return
        row = self._chosen_row()
        if row >= 0:
            self._go(row)
        self._note_chosen()

    def _chosen_row(self) -> int:
        """Row that is chosen, -1 without."""
        rows = self.view.selectionModel().selectedRows()
        return int(rows[0].row()) if rows else -1

    def _show_rows(self, table: Table) -> None:
        """Show the rows of a page, without those of cells that were deleted here since."""
        names = (*table.stack, "label")
        keys = zip(*(table.columns[name].tolist() for name in names), strict=True)
        kept = [row for row, key in enumerate(keys) if key not in self.deleting.gone]
        columns = {name: column[kept] for name, column in table.columns.items()}
        self.model.set_table(replace(table, columns=columns))

    def _show_where(self, page: Page) -> None:
        """Say which rows of the file are shown, and how many of these are left out."""
        n_gone = len(page.table) - self.model.rowCount()
        self.where.setText(page.where() + (f", {n_gone:,} of them deleted" if n_gone else ""))

    def _row_to_choose(self, page: Page) -> int:
        if page.chosen is None:
            return self._row_of_key()
        columns = page.table.columns
        self._key = tuple(int(columns[name][page.row]) for name in (*page.table.stack, "label"))
        return self._row_of_key()

    def _key_of(self, row: int) -> tuple[int, ...]:
        names = (*self.model.table.stack, "label")
        return tuple(int(self.model.value(row, name)) for name in names) if row >= 0 else ()

    def _row_of_key(self) -> int:
        """Row of the cell that was chosen; -1 where it is not on this page."""
        if not self._key:
            return -1
        rows = self.model.rows_of(self._key[-1]).tolist()
        return next((row for row in rows if self._key_of(row) == self._key), -1)

    def _note_chosen(self) -> None:
        """Outline the cell of the chosen row, and mark it in the histogram."""
        row = self._chosen_row()
        self._key = self._key_of(row)
        names = self.model.names if row >= 0 else []
        self.delete_button.setEnabled(row >= 0)
        self.columns.mark({name: float(self.model.value(row, name)) for name in names})
        self._outline()

    def _choose(self, row: int) -> None:
        if row < 0:
            self.view.clearSelection()
            return
        index = self.model.index(row, 0)
        self.view.setCurrentIndex(index)
        self.view.selectRow(row)
        self.view.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    def _not_counted(self, problem: str) -> None:
        """Say why no histogram is shown, unless the table is just being written anew."""
        if not self.updating.running:
            self.say(problem)

    # ------------------------------------------------------------------- what is deleted

    def delete_chosen(self, *_: object) -> None:
        """Delete the cell of the chosen row on the disk."""
        row = self._chosen_row()
        if row < 0 or self.layer not in self._viewer.layers:
            return
        if self.updating.running:
            self.say("Cells are being measured. Wait until that is done, or cancel it.")
            return
        key, cell, page = self._key_of(row), self._cell_of(row), self.controller.page
        stamp = None if page is None or page.pages is None else page.pages.stamp
        self.say(self.deleting.delete(key, cell, self._n_before, stamp) or "deleting...")

    def take_back(self, *_: object) -> None:
        """Bring the cell back that was deleted last."""
        if self.layer in self._viewer.layers:
            self.say(self.deleting.take_back(self._n_before) or "bringing it back...")

    @property
    def _n_before(self) -> int:
        n_before: int = self.layer.data[0].n_before
        return n_before

    def _receive_change(self, event: object) -> None:
        """Show the cells as they are, and go on to the next row."""
        assert isinstance(event, Changed | Kept)
        self._note = self.deleting.receive(event)
        if isinstance(event, Kept):
            self._not_changed(self._note)
            return
        page = self.controller.page
        if page is not None:
            following = self._chosen_row() if self._key == event.key and not event.back else -1
            self._following = True
            try:
                self._show_rows(page.table)
                self._show_where(page)
                if event.back:
                    self._key = event.key
                elif following >= 0:
                    self._key = self._key_of(min(following, self.model.rowCount() - 1))
                self._choose(self._row_of_key())
            finally:
                self._following = False
            if event.back or following >= 0:
                self._go(self._chosen_row())
        if self.layer in self._viewer.layers:
            hole = self.layer.data[0].hole  # a part may have been taken meanwhile
            self.layer.data = levels_of(with_hole(event.levels, hole))
        self._note_chosen()

    def _not_changed(self, problem: str) -> None:
        """Say why, also beside rows that are read again where the table is another by now."""
        self._note = problem
        self.say(problem)
        self.controller.look()

    # ------------------------------------------------------------- from rows to their cells

    def _outline(self, event: object = None) -> None:
        """Read the cell of the chosen row as it is now, to outline it."""
        row = self._chosen_row()
        if row < 0 or self.layer not in self._viewer.layers:
            self.outlining.stop()
            self.outlines.choose(Cells.none())
            return
        cell = self._cell_of(row)
        self.outlining.start(partial(read_cell, list(self.layer.data), cell))

    def _receive_cell(self, event: object) -> None:
        assert isinstance(event, ReadCell)
        row = self._chosen_row()
        if row >= 0 and self._cell_of(row) == event.cell:
            self.outlines.choose(event.cell.cells, event.window)

    def _cell_of(self, row: int) -> DiskCell:
        first, last = (self._position(row, end) for end in ("min", "max"))
        shape = self.layer.data[0].shape
        y, x = (
            slice(*np.clip(np.rint([first[axis], last[axis]]).astype(int), 0, shape[axis]).tolist())
            for axis in (-2, -1)
        )
        plane = tuple(first[:-2].astype(int).tolist())
        return DiskCell(int(self.model.value(row, "label")), plane, (y, x))

    def showEvent(self, event: Any) -> None:
        """Outline the chosen cell again."""
        super().showEvent(event)
        self.outlines.look()

    def hideEvent(self, event: Any) -> None:
        """Outline nothing while the table is closed, or below another one."""
        super().hideEvent(event)
        self.outlines.look()

    def _go(self, row: int) -> None:
        """Bring a cell to the middle of the view, at a size at which it is seen."""
        if self.layer not in self._viewer.layers or not 0 <= row < self.model.rowCount():
            return
        ends = [self.layer.data_to_world(self._position(row, end)) for end in ("min", "mid", "max")]
        corners = np.asarray(ends)
        shown = centre_on(self._viewer, corners[1])
        extent = float(np.abs(corners[2] - corners[0])[shown].max())
        canvas, camera = min(canvas_size(self._viewer)), camera_of(self._viewer)
        if extent > 0:
            least, most = SMALLEST * canvas / extent, LARGEST * canvas / extent
            camera.zoom = float(np.clip(camera.zoom, least, most))
        self.layer.selected_label = int(self.model.value(row, "label"))

    def _position(self, row: int, end: str) -> NDArray[np.float64]:
        """First or last corner of a cell's box, or its centroid, in pixels of the layer."""
        position, stack = np.zeros(self.layer.ndim), self.model.table.stack
        before = self.layer.ndim - 2 - len(stack)
        for axis, name in enumerate(stack):
            position[before + axis] = self.model.value(row, name)
        for axis, letter, size in zip((-2, -1), "yx", self._pixel_size, strict=True):
            name = f"centroid_{letter}" if end == "mid" else f"bbox_{letter}_{end}"
            position[axis] = self.model.value(row, name) / size
        return position

    def _pressed(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        """Show the row of the cell that is clicked."""
        if event.button != 1:
            return
        yield
        if event.type == "mouse_move":
            return  # the image is being moved
        found: Any = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        label = found[1] if isinstance(found, tuple) else found  # of several levels
        if label:
            self.controller.go_to(int(label), self._plane_at(event.position), goes=False)

    def _plane_at(self, position: Any) -> tuple[int, ...]:
        """Plane of the table at a point of the world."""
        n = len(self.model.table.stack)
        at = np.rint(self.layer.world_to_data(position[-self.layer.ndim :])).astype(int)
        return tuple(at[: self.layer.ndim - 2][self.layer.ndim - 2 - n :].tolist())


def _button(text: str, name: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tip)
    return button
