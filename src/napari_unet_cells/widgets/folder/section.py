"""The list of images of a dock: its threads, its window, and what joins them.

The list may be closed and opened again; its run and its rows stay with the dock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QWidget

from napari_unet_cells.widgets.folder.at_hand import AtHand
from napari_unet_cells.widgets.folder.controller import (
    FolderController,
    ListState,
    Runners,
)
from napari_unet_cells.widgets.folder.dialog import FolderDialog
from napari_unet_cells.widgets.folder.folder_list import FolderList
from napari_unet_cells.widgets.folder.values import FolderValues
from napari_unet_cells.widgets.wiring import when_destroyed
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer


class FolderSection(QObject):
    """Opens the list below the image, and is the `View` of its controller.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    at_hand : callable () -> AtHand
        Gives model and options for a new list.
    parent : QWidget
        Over which the dialog appears.
    """

    def __init__(self, viewer: Viewer, at_hand: Callable[[], AtHand], parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer, self._at_hand, self._parent = viewer, at_hand, parent
        self._list: FolderList | None = None
        self.worker = Worker(self)
        self.looking = Worker(self)
        # Not a daemon: closing napari waits until a mark is written.
        self.marking = Worker(self, daemon=False)
        self.controller = FolderController(self, Runners(self.worker, self.looking, self.marking))
        self._connect()

    def _connect(self) -> None:
        controller = self.controller
        self.worker.progressed.connect(controller.receive)
        for signal in (self.worker.done, self.worker.cancelled):
            signal.connect(controller.ended)
        self.worker.failed.connect(controller.failed)
        self.looking.progressed.connect(controller.found)
        self.looking.done.connect(controller.refresh)
        self.looking.failed.connect(controller.looking_failed)
        self.marking.progressed.connect(controller.marked)
        self.marking.done.connect(controller.marking_ended)
        self.marking.failed.connect(controller.marking_failed)
        for worker in (self.worker, self.looking):
            when_destroyed(self, worker.stop)

    @property
    def list(self) -> FolderList | None:
        """The list, where it is open or hidden."""
        return self._list

    @property
    def running(self) -> bool:
        """Whether a batch goes on."""
        return self.worker.running

    # --------------------------------------------------------------- what the user does

    def open(self, *_: object) -> None:
        """Show the list, with what was in it the last time; without any, ask for one."""
        if self.controller.reopen():
            self._show_list()
        else:
            self.ask()

    def ask(self) -> None:
        """Ask for the images of a new list, and begin it."""
        at_hand = self._at_hand()
        dialog = FolderDialog(FolderValues.of(self._proposed(at_hand)), at_hand, self._parent)
        if dialog.exec():
            self._show_list()
            self.controller.start(at_hand.chosen(dialog.values.named), dialog.values.folder)
        dialog.deleteLater()

    def _proposed(self, at_hand: AtHand) -> tuple[str, ...]:
        """Propose the folder of the image at hand."""
        path = at_hand.path
        return () if path is None else (str(path.parent),)

    def _show_list(self) -> None:
        """Dock the list below the image, or bring it up again."""
        if self._list is not None:
            # The dock is not kept: while somebody holds it, its X does not destroy it.
            self._list.parentWidget().show()
            self._list.parentWidget().raise_()
            return
        shown = self._list = FolderList()
        shown.new_wanted.connect(self.ask)
        shown.pressed.connect(self.controller.press)
        shown.approved.connect(self.controller.approve)
        self._viewer.window.add_dock_widget(shown, name="Images", area="bottom")
        # Not what napari returned: to a plugin that is a proxy, which ends with this function.
        when_destroyed(shown.parentWidget(), partial(_forget, weakref.ref(self)))
        self.show_rows()
        self.show_state(self.controller.state)

    def forget_list(self) -> None:
        """Let go of a list whose dock was closed by its X; what runs goes on."""
        shown, self._list = self._list, None
        if shown is not None:
            shown.deleteLater()

    # ------------------------------------------------------- what the controller asks for

    def show_rows(self) -> None:
        """Show all rows anew."""
        if self._list is not None:
            self._list.show_rows(self.controller.rows, self.controller.output)

    def show_row(self, index: int) -> None:
        """Show one row anew, also its picture."""
        if self._list is not None:
            self._list.show_row(index, self.controller.rows[index])

    def show_state(self, state: ListState) -> None:
        """Bring buttons, texts and the bar in line with a state."""
        if self._list is not None:
            self._list.show_state(state)

    def show_failed(self) -> None:
        """Bring the first image that failed into view."""
        if self._list is not None:
            self._list.show_failed()

    def warn(self, sentence: str) -> None:
        """Say what prevents something."""
        show_warning(sentence)


def _forget(reference: weakref.ref[FolderSection]) -> None:
    section = reference()
    if section is not None:
        try:
            section.forget_list()
        except RuntimeError:  # at the end of the window it is gone already
            return
