"""The list of images of a dock: its threads, its window, and what joins them.

The list may be closed and opened again; its run and its rows stay with the dock.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_unet_cells.widgets.correct.restored_layers import (
    compute_projection,
    waits_for_projection,
)
from napari_unet_cells.widgets.folder.at_hand import AtHand
from napari_unet_cells.widgets.folder.controller import (
    FolderController,
    ListState,
    Runners,
)
from napari_unet_cells.widgets.folder.correcting import Correcting
from napari_unet_cells.widgets.folder.dialog import FolderDialog
from napari_unet_cells.widgets.folder.folder_list import FolderList
from napari_unet_cells.widgets.folder.values import FolderValues
from napari_unet_cells.widgets.segment.channels import show_projection
from napari_unet_cells.widgets.wiring import Wired, when_destroyed
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer


#: Seconds after which what others wait for can be left.
PATIENCE = 2.0


class FolderSection(Wired, QObject):
    """Opens the list below the image, and is the `View` of its controller.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    at_hand : callable () -> AtHand
        Gives model and options for a new list.
    parent : QWidget
        Over which the dialog appears.
    """

    #: Corrected cells were put into a result.
    saved = Signal()
    #: The table of an OME-Zarr, a path, holds the parts that were put back.
    followed = Signal(object)

    def __init__(self, viewer: Viewer, at_hand: Callable[[], AtHand], parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer, self._at_hand, self._parent = viewer, at_hand, parent
        self._list: FolderList | None = None
        self._said_following, self._following_since = False, 0.0
        self.worker = Worker(self)
        self.looking = Worker(self)
        # Not a daemon: closing napari waits until a mark is written.
        self.marking = Worker(self, daemon=False)
        self.reporting = Worker(self)
        # Not daemons either: corrections that are being written are written. What is measured for
        # a table ends with the next step.
        self.opening = Worker(self, daemon=False)
        self.projecting = Worker(self)
        runners = Runners(self.worker, self.looking, self.marking, self.reporting)
        self.controller = FolderController(self, runners)
        self.correcting = Correcting(viewer, self.controller, self, self.opening)
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
        self.reporting.done.connect(controller.report_ended)
        self.reporting.failed.connect(controller.report_ended)
        self.opening.progressed.connect(self.correcting.receive)
        self.opening.done.connect(self.correcting.ended)
        self.opening.failed.connect(self.correcting.failed)
        self.projecting.progressed.connect(self._show_projection)
        self.projecting.failed.connect(self.warn)
        self.wiring.connect(self._layer_removed, self._viewer.layers.events.removed)
        for worker in (
            self.worker,
            self.looking,
            self.reporting,
            self.projecting,
            self.opening,
        ):
            self.wiring.at_end(worker.stop)
        self.wiring.at_end(self.correcting.wiring.release)

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
        proposed = FolderValues.of(self._proposed(at_hand), self.controller.format)
        dialog = FolderDialog(proposed, at_hand, self._parent)
        if dialog.exec():
            self._show_list()
            self.controller.start(dialog.asked.chosen(dialog.values.named), dialog.values.folder)
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
        shown.approved.connect(self.correcting.approve)
        shown.opened.connect(self.correcting.open)
        shown.save_wanted.connect(self.correcting.save)
        shown.later_wanted.connect(self.correcting.leave_table)
        shown.next_wanted.connect(self.correcting.approve_and_next)
        self._viewer.window.add_dock_widget(shown, name="Images", area="bottom")
        # Not what napari returned: to a plugin that is a proxy, which ends with this function.
        when_destroyed(shown.parentWidget(), partial(_forget, weakref.ref(self)))
        self.show_rows()
        self.show_state(self.controller.state)
        self.show_open("" if self.correcting.pair is None else self.correcting.pair.name)

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

    def show_open(self, name: str) -> None:
        """Show which image is open; empty for none."""
        if self._list is not None:
            self._list.show_open(name)

    def give_back(self) -> None:
        """Give the keyboard from the list to the image."""
        if self._list is not None:
            self._list.give_back()

    def corrections_saved(self) -> None:
        """Tell others that corrections lie in a result now."""
        self.saved.emit()

    def show_following(self, sentence: str, going: bool = True) -> None:
        """Say how far the table of an image is that others wait for; empty once it is done."""
        if sentence or self._said_following:
            self._viewer.status = sentence
        going = going and bool(sentence)
        if going and not self._said_following:
            self._following_since = time.monotonic()
        self._said_following = going
        if self._list is not None:
            waits = going and time.monotonic() - self._following_since > PATIENCE
            self._list.show_following(sentence if waits else "")

    def parts_followed(self, folder: Path) -> None:
        """Tell others that the table of an OME-Zarr holds the parts that were put back."""
        self.followed.emit(folder)

    def project(self, image: Image) -> None:
        """Compute an image that is empty until its channels are projected."""
        if waits_for_projection(image):
            self.projecting.start(partial(_project, image))

    def _show_projection(self, event: object) -> None:
        assert isinstance(event, tuple)
        image, levels = event
        if image in self._viewer.layers and waits_for_projection(image):
            show_projection(image, levels)

    def _layer_removed(self, event: Any) -> None:
        self.correcting.layer_removed(event.value)

    def show_failed(self) -> None:
        """Bring the first image that failed into view."""
        if self._list is not None:
            self._list.show_failed()

    def warn(self, sentence: str) -> None:
        """Say what prevents something."""
        show_warning(sentence)

    def tell(self, sentence: str) -> None:
        """Say what was done without being asked for."""
        show_info(sentence)


def _project(image: Image, stop: threading.Event) -> Generator[object, None, None]:
    yield image, compute_projection(image)


def _forget(reference: weakref.ref[FolderSection]) -> None:
    section = reference()
    if section is not None:
        try:
            section.forget_list()
        except RuntimeError:  # at the end of the window it is gone already
            return
