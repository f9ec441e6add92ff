"""The Segment section: which image, which model, go; progress, cancel, result."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells import layers as facts
from napari_unet_cells.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import DEFAULT_MODEL, installed_models
from napari_unet_cells.predict import TileDone
from napari_unet_cells.run import (
    Finished,
    Opened,
    Started,
    describe_progress,
    describe_result,
    open_model,
    run,
)
from napari_unet_cells.segmentation import Separating
from napari_unet_cells.widgets.layer_box import LayerBox
from napari_unet_cells.widgets.results import ResultLayers, preload
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the progress bar; pixels of a large image do not fit Qt's 32-bit integers.
STEPS = 1000


class SegmentSection(QWidget):
    """Image and model in, labels out.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
    """

    finished = Signal()

    def __init__(self, viewer: Viewer, engine: Engine) -> None:
        super().__init__()
        self._viewer, self.engine = viewer, engine
        self._results: ResultLayers | None = None
        self._warm = False
        self._started = 0.0
        self.worker = Worker(self)
        self.warming = Worker(self)
        self._build()
        self._connect()
        self._fill_models()

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.image_box = LayerBox(self._viewer, facts.image_layers, facts.image_for)
        self.image_box.setToolTip("The image to segment. It follows the active layer.")
        self.model_box = QComboBox()
        self.model_box.setObjectName("model_box")
        self.device_label = QLabel("starting...")
        self.button = QPushButton("Segment")
        self.button.setObjectName("segment_button")
        self.button.setMinimumHeight(44)
        self.button.setStyleSheet("font-size: 15pt; font-weight: bold;")
        self.button.setToolTip("Find the cells in the image, with the model")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setObjectName("cancel_button")
        self.cancel_button.setToolTip("Stop the run and keep what is done")
        self.progress = QProgressBar()
        self.progress.setRange(0, STEPS)
        self.message = QLabel("")
        self.message.setObjectName("message")
        self.message.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Image", self.image_box)
        form.addRow("Model", self.model_box)
        form.addRow("Device", self.device_label)
        # A long layer name must not widen the dock.
        for box in (self.image_box, self.model_box):
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for widget in (self.button, self.cancel_button, self.progress, self.message):
            layout.addWidget(widget)
        self._show_running(False)

    def _connect(self) -> None:
        self.button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.worker.cancel)
        self.model_box.currentTextChanged.connect(self._model_changed)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(self._run_done)
        self.worker.failed.connect(self._run_failed)
        self.worker.cancelled.connect(self._run_cancelled)
        self.warming.progressed.connect(self._receive)
        self.warming.failed.connect(self._warming_failed)

    def _fill_models(self) -> None:
        cards = installed_models()
        for name, card in cards.items():
            self.model_box.addItem(name)
            self.model_box.setItemData(self.model_box.count() - 1, card.description, 3)  # tooltip
        if DEFAULT_MODEL in cards:
            self.model_box.setCurrentText(DEFAULT_MODEL)

    def _show_running(self, running: bool) -> None:
        self.button.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.progress.setVisible(running)
        for box in (self.image_box, self.model_box):
            box.setEnabled(not running)

    # ---------------------------------------------------------------------- the work

    def _model_changed(self, name: str) -> None:
        """Warm the network up while the user looks at her image."""
        self._warm = False
        if not name:
            return
        self.model_box.setToolTip(self.model_box.currentData(3) or "")
        self.device_label.setText("warming up...")
        self.warming.start(partial(self._warm_up, name))

    def _warm_up(self, name: str, stop: threading.Event) -> Generator[object, None, None]:
        preload()
        yield from open_model(self.engine, name, stop)

    def start(self) -> None:
        """Segment the chosen image; what prevents it is said in a sentence."""
        if self.worker.running:
            return
        try:
            layer, image = self._image()
        except UserError as error:
            self._warn(str(error))
            return
        self._results = ResultLayers(self._viewer, layer)
        self._show_running(True)
        self.progress.setValue(0)
        self.progress.setFormat("")
        self.message.setText(
            "" if self._warm else "The network is warming up; the run starts by itself."
        )
        job = partial(
            run,
            self.engine,
            self.model_box.currentText(),
            image,
            facts.describe_source(layer),
        )
        self.worker.start(job)

    def _image(self) -> tuple[Any, Any]:
        layer = self.image_box.layer
        if layer is None:
            raise UserError(
                "There is no image to segment. Open one: File > Open Files, or drop a file on "
                "the window."
            )
        if not self.model_box.currentText():
            raise UserError("No model is installed. Install the package again.")
        return layer, facts.plane_of(layer)

    def _receive(self, event: object) -> None:
        if isinstance(event, Opened):
            self._warm = True
            self.device_label.setText(event.device)
        elif isinstance(event, Started):
            self._started = time.monotonic()
            self.message.setText("")
            assert self._results is not None
            self._results.begin(event.out, event.provenance)
        elif isinstance(event, TileDone):
            self._show_tile(event)
        elif isinstance(event, Separating):
            self.progress.setFormat("separating the cells")
        elif isinstance(event, Finished):
            assert self._results is not None
            self._results.finish(event)
            self.message.setText(describe_result(event.result))

    def _show_tile(self, event: TileDone) -> None:
        assert self._results is not None
        # The bar first: it paints at once whatever waits in the window, and a canvas with a
        # new layer would make one long stop of two short ones.
        done, total = event.pixels_done, event.pixels_total
        seconds = time.monotonic() - self._started
        self.progress.setFormat(describe_progress(done, total, seconds))
        self.progress.setValue(STEPS * done // total)
        self._results.refresh()

    # ------------------------------------------------------------------ how it ends

    def _run_done(self) -> None:
        self._show_running(False)
        self.finished.emit()

    def _run_cancelled(self) -> None:
        self._show_running(False)
        kept = self._results is not None and self._results.shown
        self.message.setText(
            "Cancelled. The classes of the finished tiles are kept."
            if kept
            else "Cancelled before the first tile was done."
        )

    def _run_failed(self, problem: str) -> None:
        self._show_running(False)
        self.message.setText(problem)
        show_error(problem)
        if self.engine.pid is None:
            self._model_changed(self.model_box.currentText())  # a fresh child for the next press

    def _warming_failed(self, problem: str) -> None:
        self.device_label.setText("not ready")
        self._warn(problem)

    def _warn(self, problem: str) -> None:
        self.message.setText(problem)
        show_warning(problem)
