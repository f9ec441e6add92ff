"""The Export section: the chosen labels as files for other programs."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells import layers as facts
from napari_unet_cells.export import EXPORTERS, Export, Exporter, proposed_path
from napari_unet_cells.files import FileExists
from napari_unet_cells.widgets.layer_box import LayerBox
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer


class ExportSection(QWidget):
    """Labels and a button for each format.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.worker = Worker(self)
        self.labels_box = LayerBox(viewer, facts.labels_layers, facts.labels_for)
        self.labels_box.setToolTip("The labels to export. It follows the active layer.")
        self.labels_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.message = QLabel("")
        self.message.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Labels", self.labels_box)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        self.buttons: dict[str, QPushButton] = {}
        for name, exporter in EXPORTERS.items():
            button = self.buttons[name] = QPushButton(exporter.title)
            button.setObjectName(f"export_{name}_button")
            button.clicked.connect(partial(self._ask, exporter))
            layout.addWidget(button)
        layout.addWidget(self.message)
        self.labels_box.currentIndexChanged.connect(self._show_usable)
        self.worker.progressed.connect(self._receive)
        self.worker.failed.connect(self._failed)
        self.worker.done.connect(self._show_usable)
        self._show_usable()

    def _show_usable(self, *_: object) -> None:
        usable = self.labels_box.layer is not None and not self.worker.running
        reason = "" if usable else "There are no labels yet. Press Segment first."
        for button in self.buttons.values():
            button.setEnabled(usable)
            button.setToolTip(reason or "Write the labels to a file, with pixel size and origin")

    def _ask(self, exporter: Exporter, checked: bool = False) -> None:
        layer = self.labels_box.layer
        if layer is None:
            return
        image = facts.image_for(layer, self._viewer.layers)
        image_path = None if image is None else image.source.path
        proposed = proposed_path(image_path, layer.name, exporter.suffix)
        name, _ = QFileDialog.getSaveFileName(
            self,
            "Export labels",
            str(proposed),
            exporter.filter,
            # Qt would ask for the name as it was typed, before its extension is added; the
            # question is asked below for the file that would really be replaced.
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if name:
            self.export(layer, Path(name), exporter)

    def export(self, layer: Any, path: Path, exporter: Exporter, overwrite: bool = False) -> None:
        """Write a layer in the background.

        Parameters
        ----------
        layer : napari labels layer
        path : Path
        exporter : Exporter
        overwrite : bool
            False asks the user before anything is replaced.
        """
        image = facts.image_for(layer, self._viewer.layers)

        def job(stop: threading.Event) -> Generator[object, None, None]:
            # All of it in the thread: the image's file is asked for the pixel size, and the
            # layer's own array is read, since a copy of 512 MB would block the window.
            size = facts.pixel_size(layer, image)
            labels = np.asarray(layer.data)
            export = Export(labels, size, facts.export_record(layer, size))
            try:
                yield exporter.write(path, export, overwrite)
            except FileExists as error:
                yield error

        self._again = partial(self.export, layer, path, exporter, True)
        self.message.setText("writing...")
        self.worker.start(job)
        self._show_usable()

    def _receive(self, event: object) -> None:
        if isinstance(event, FileExists):
            self._ask_to_replace(event)
        elif isinstance(event, tuple):
            files = " and ".join(path.name for path in event)
            sentence = f"Written: {files} in {event[0].parent}"
            self.message.setText(sentence)
            show_info(sentence)

    def _ask_to_replace(self, exists: FileExists) -> None:
        answer = QMessageBox.question(
            self, "Replace the file?", f"{exists.path} exists already. Replace it?"
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._again()
        else:
            self.message.setText(f"{exists.path.name} was kept; nothing was written.")
            show_warning(f"{exists.path.name} was kept; nothing was written.")

    def _failed(self, problem: str) -> None:
        self.message.setText(problem)
        show_error(problem)
        self._show_usable()
