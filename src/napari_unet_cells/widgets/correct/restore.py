"""Banner that offers to restore corrections of a napari that ended or was killed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.corrections.restoring import (
    Restored,
    Summary,
    discard_exported,
    restore,
    sessions,
    too_much,
)
from napari_unet_cells.corrections.session_files import discard, id_of
from napari_unet_cells.corrections.times import when
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.widgets.correct.restored_layers import (
    add_restored,
    compute_projection,
    waits_for_projection,
)
from napari_unet_cells.widgets.segment.channels import show_projection
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer


class RestoreBanner(QWidget):
    """Says which corrections can be restored; hidden where there are none.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: The labels layer that was restored.
    restored = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.setObjectName("restore_banner")
        self._viewer = viewer
        self._offered: list[Summary] = []
        self._later: set[str] = set()
        self._unmade: list[Image] = []
        self.worker = Worker(self)
        self.projecting = Worker(self)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.box = QComboBox()
        self.box.setToolTip("Corrections of several images can be restored, one after the other")
        # a long file name must not widen the dock
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.buttons = {name: QPushButton(name) for name in ("Restore", "Discard", "Later")}
        self.buttons["Restore"].setToolTip(
            "Open the image and the labels as they were at the last save"
        )
        self.buttons["Discard"].setToolTip("Delete these corrections permanently")
        self.buttons["Later"].setToolTip("Keep them and ask again after a restart")
        self._lay_out()
        self.box.currentIndexChanged.connect(self._show_chosen)
        self.buttons["Restore"].clicked.connect(self.restore)
        self.buttons["Discard"].clicked.connect(self.discard)
        self.buttons["Later"].clicked.connect(self.later)
        self.worker.progressed.connect(self._add)
        self.worker.failed.connect(self._failed)
        self.projecting.progressed.connect(self._show_projection)
        self.projecting.done.connect(self._project)
        self.projecting.failed.connect(show_warning)
        self.refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        for button in self.buttons.values():
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.box)
        layout.addWidget(self.text)
        layout.addLayout(row)

    @property
    def chosen(self) -> Summary | None:
        """The corrections that the buttons are about."""
        index = self.box.currentIndex()
        return self._offered[index] if 0 <= index < len(self._offered) else None

    def refresh(self) -> None:
        """Look again for corrections that can be restored."""
        found = sessions()
        discard_exported(found)
        found = [summary for summary in found if summary.folder.is_dir()]
        self._offered = [
            summary
            for summary in found
            if id_of(summary.folder) not in self._later and not summary.exported.complete
        ]
        self._too_much = too_much(found)
        self.box.blockSignals(True)
        self.box.clear()
        for summary in self._offered:
            date = "" if summary.date is None else f", {when(summary.date)}"
            self.box.addItem(f"{summary.name or summary.folder.name}{date}")
        self.box.blockSignals(False)
        self.box.setVisible(len(self._offered) > 1)
        self._show_chosen()

    def _show_chosen(self, *_: object) -> None:
        chosen = self.chosen
        # without a parent it would open a window of its own until the dock takes it in
        if chosen is None or self.parent() is not None:
            self.setVisible(chosen is not None)
        if chosen is None:
            return
        said = f"{chosen.sentence()} {self._too_much}".strip()
        # a long file name must not widen the dock: it may be broken at these places
        self.text.setText(said.replace("_", "_\u200b").replace("-", "-\u200b"))
        self.buttons["Restore"].setVisible(not chosen.problem)
        self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for widget in (self.box, *self.buttons.values()):
            widget.setEnabled(enabled)

    def restore(self) -> None:
        """Restore the chosen corrections; reading them takes a thread a moment."""
        if self.chosen is None or self.worker.running:
            return
        self._enable(False)
        self.worker.start(partial(_read, self.chosen.folder))

    def discard(self) -> None:
        """Delete the chosen corrections, after one more question."""
        chosen = self.chosen
        if chosen is None:
            return
        what = f"of '{chosen.name}' " if chosen.name else ""
        answer = QMessageBox.question(
            self,
            "Discard corrections?",
            f"The corrections {what}will be deleted permanently. Discard them?",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.No,
        )
        if answer == QMessageBox.StandardButton.Yes:
            discard(chosen.folder)
            self.refresh()

    def later(self) -> None:
        """Offer none of them again before a restart."""
        self._later |= {id_of(summary.folder) for summary in self._offered}
        self.refresh()

    def _add(self, event: object) -> None:
        if isinstance(event, Restored):
            layer = add_restored(self._viewer, event)
            self.refresh()
            self.restored.emit(layer)
            image = source_image(layer, self._viewer.layers)
            if waits_for_projection(image):
                self._unmade.append(image)
                self._project()

    def _project(self) -> None:
        """Compute the next projection of channels in a thread, where an image waits for one."""
        if self._unmade and not self.projecting.running:
            image = self._unmade.pop(0)
            if image in self._viewer.layers and waits_for_projection(image):
                self.projecting.start(partial(_compute, image))

    def _show_projection(self, event: object) -> None:
        assert isinstance(event, tuple)
        image, levels = event
        if image in self._viewer.layers and waits_for_projection(image):
            show_projection(image, levels)

    def _failed(self, problem: str) -> None:
        show_warning(problem)
        self.refresh()


def _read(folder: Path, stop: threading.Event) -> Generator[object, None, None]:
    """Restore a session; this is the thread."""
    yield restore(folder)


def _compute(image: Image, stop: threading.Event) -> Generator[object, None, None]:
    yield image, compute_projection(image)
