"""List of images beside what starts and pauses their batch, docked below the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QModelIndex, QSize, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.batch.report import REPORT
from napari_unet_cells.widgets.canvas import focus_canvas, main_window
from napari_unet_cells.widgets.folder.controller import ListState
from napari_unet_cells.widgets.folder.list_model import (
    APPROVED,
    IMAGE,
    STATE,
    ListModel,
    StateDelegate,
)
from napari_unet_cells.widgets.folder.rows import Row, State

#: Pixels of a row, and of the picture in it.
HEIGHT, PICTURE = 36, QSize(44, 34)


class FolderList(QWidget):
    """Rows and buttons; what they mean is the business of `FolderController`."""

    new_wanted = Signal()
    pressed = Signal()
    approved = Signal(str, bool)
    #: The name of an image that the user wants to look at.
    opened = Signal(str)
    save_wanted = Signal()
    #: The table that follows what was corrected is to follow later.
    later_wanted = Signal()
    next_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("folder_list")
        self._output: Path | None = None
        self.model = ListModel(self)
        self._build_rows()
        self._build_buttons()
        self._lay_out()
        self.model.approved.connect(self.approved)
        self.view.clicked.connect(self._clicked)
        self.view.activated.connect(self._clicked)
        self.new_button.clicked.connect(lambda: self.new_wanted.emit())
        self.run_button.clicked.connect(lambda: self.pressed.emit())
        self.report_button.clicked.connect(self._open_report)
        self.save_button.clicked.connect(lambda: self.save_wanted.emit())
        self.next_button.clicked.connect(lambda: self.next_wanted.emit())
        self.later_button.clicked.connect(self._leave)

    def _build_rows(self) -> None:
        self.view = QTableView()
        self.view.setObjectName("folder_rows")
        self.view.setModel(self.model)
        self.view.setItemDelegateForColumn(STATE, StateDelegate(self.view))
        self.view.setIconSize(PICTURE)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.view.verticalHeader().setVisible(False)
        self.view.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.view.verticalHeader().setDefaultSectionSize(HEIGHT)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(IMAGE, QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(STATE, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(APPROVED, QHeaderView.ResizeMode.ResizeToContents)
        header.resizeSection(IMAGE, 230)
        self.view.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)

    def _build_buttons(self) -> None:
        self.new_button = QPushButton("New list...")
        self.new_button.setObjectName("folder_new_button")
        self.new_button.setToolTip(
            "Choose a folder or files. They are segmented with the model and the settings of the "
            "page Segment as they are now."
        )
        self.run_button = QPushButton("Start")
        self.run_button.setObjectName("folder_run_button")
        self.report_button = QPushButton("Report")
        self.report_button.setObjectName("folder_report_button")
        self.report_button.setToolTip("Open the report of all images in the browser.")
        self.save_button = QPushButton("Save")
        self.save_button.setObjectName("folder_save_button")
        self.save_button.setToolTip(
            "Put the cells as you corrected them into the result: labels, table, picture and "
            "report. That happens also when you open another image or approve this one. The cells "
            "as they were found stay in the folder as_segmented."
        )
        self.next_button = QPushButton("Approve, next")
        self.next_button.setObjectName("folder_next_button")
        self.next_button.setToolTip(
            "Save and approve the image that is open, and open the next one that is not approved."
        )
        self.following = QLabel("")
        self.following.setObjectName("folder_following")
        self.following.setWordWrap(True)
        self.later_button = QPushButton("Cancel")
        self.later_button.setObjectName("folder_later_button")
        self.later_button.setToolTip(
            "Go on without it: what you corrected is in the result. Its table, picture and record "
            "follow when you press Save, or leave the image again; until then it is not approved."
        )
        self.show_following("")
        self.bar = QProgressBar()
        self.bar.setObjectName("folder_bar")
        self.settings = QLabel("")
        self.settings.setObjectName("folder_settings")
        self.note = QLabel("")
        self.note.setObjectName("folder_message")
        for label in (self.settings, self.note):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        right = QWidget()
        right.setMinimumWidth(250)
        buttons = QGridLayout()
        for place, button in enumerate((self.run_button, self.new_button, self.report_button)):
            buttons.addWidget(button, 0, place)
        buttons.addWidget(self.save_button, 1, 0)
        buttons.addWidget(self.next_button, 1, 1, 1, 2)
        column = QVBoxLayout(right)
        column.setContentsMargins(4, 0, 0, 0)
        column.addWidget(self.bar)
        column.addLayout(buttons)
        following = QHBoxLayout()
        following.addWidget(self.following, 1)
        following.addWidget(self.later_button)
        column.addLayout(following)
        column.addWidget(self.settings)
        column.addWidget(self.note)
        column.addStretch()
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.addWidget(self.view)
        self.splitter.addWidget(right)
        self.splitter.setSizes([700, 320])
        self.splitter.setStretchFactor(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.splitter)
        # The controls of a labels layer, which are high, leave no less on a small laptop.
        self.setMinimumHeight(3 * HEIGHT + 32)

    def sizeHint(self) -> QSize:
        """Ask for the room of five rows: on a small screen the image needs the rest."""
        return QSize(700, 5 * HEIGHT + 40)

    # --------------------------------------------------------------------- what is shown

    def show_rows(self, rows: Sequence[Row], output: Path | None) -> None:
        """Show all rows."""
        self.model.set_rows(rows, output)

    def show_row(self, place: int, row: Row) -> None:
        """Show one row in another state."""
        self.model.set_row(place, row)
        if row.state is State.RUNNING and not row.fraction:
            self.view.scrollTo(self.model.index(place, 0))

    def show_failed(self) -> None:
        """Scroll to the first image that failed, where there is one."""
        for place, row in enumerate(self.model.rows):
            if row.state is State.FAILED:
                self.view.scrollTo(self.model.index(place, 0))
                return

    def show_state(self, state: ListState) -> None:
        """Bring buttons, texts and the bar in line with a state."""
        self._output = state.output
        self.run_button.setText(state.button)
        self.run_button.setEnabled(state.can_press)
        self.run_button.setToolTip(
            "Stop after what is being segmented; what is done stays done."
            if state.running
            else "Segment what is not done yet, and try again what failed."
        )
        self.report_button.setEnabled(state.total > state.left)
        self.next_button.setEnabled(state.total > state.left)
        self.bar.setRange(0, max(1, state.total))
        self.bar.setValue(state.total - state.left)
        self.bar.setFormat(state.said)
        self.settings.setText(state.settings)
        self.settings.setToolTip("" if state.output is None else f"Results in {state.output}")
        self.note.setText(state.note)
        self.note.setVisible(bool(state.note))

    def show_following(self, sentence: str) -> None:
        """Show what others wait for, and the button that leaves it; nothing where it is empty."""
        if not self.following.text():  # else it may have been pressed
            self.later_button.setEnabled(True)
        self.following.setText(sentence)
        for widget in (self.following, self.later_button):
            widget.setVisible(bool(sentence))

    def show_open(self, name: str) -> None:
        """Show which image is open; empty for none."""
        self.save_button.setEnabled(bool(name))
        for place, row in enumerate(self.model.rows):
            if row.name == name:
                self.view.selectRow(place)
                self.view.scrollTo(self.model.index(place, 0))

    def give_back(self) -> None:
        """Give the keyboard to the image, where the list has it and nothing else is typed into."""
        focused, window = self.window().focusWidget(), main_window(self)
        if window is None or focused is None or not self.isAncestorOf(focused):
            return
        if self.isActiveWindow():  # the list may float
            window.activateWindow()
        focus_canvas(self)

    # --------------------------------------------------------------- what the user does

    def _clicked(self, index: QModelIndex) -> None:
        row = self.model.rows[index.row()]
        if index.column() != APPROVED and row.can_open:
            self.opened.emit(row.name)

    def _leave(self) -> None:
        self.later_button.setEnabled(False)  # it ends within a step
        self.later_wanted.emit()

    def _open_report(self) -> None:
        if self._output is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._output / REPORT)))
