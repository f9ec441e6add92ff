"""The Segment section: which image, which model, go; progress, cancel, result, adjustment."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, default_model, installed_models
from napari_unet_cells.segmentation.messages import (
    describe_change,
    describe_count,
    describe_memory,
    describe_progress,
    describe_result,
)
from napari_unet_cells.segmentation.pipeline import Event, Progress, Separating, Started
from napari_unet_cells.segmentation.result import Adjustable
from napari_unet_cells.segmentation.run import Adjusted, Finished, adjust, open_model, run
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.settings import preferences, remember
from napari_unet_cells.widgets.about import AboutDialog, tooltip
from napari_unet_cells.widgets.section import align_labels
from napari_unet_cells.widgets.segment.adjust_form import AdjustForm
from napari_unet_cells.widgets.segment.channels import chosen_plane, split_channels
from napari_unet_cells.widgets.segment.image_form import ImageForm
from napari_unet_cells.widgets.segment.results import ResultLayers, preload
from napari_unet_cells.widgets.segment.values import SegmentValues
from napari_unet_cells.widgets.wiring import Wired
from napari_unet_cells.widgets.worker import Job, Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the progress bar; pixels of a large image do not fit Qt's 32-bit integers.
STEPS = 1000

#: Pixels; height and width of the round button beside the model.
ABOUT_SIZE = 22

#: Pixels; no cell is wider.
LARGEST_DIAMETER = 999


class SegmentSection(Wired, QWidget):
    """Image and model in, labels out.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
    """

    finished = Signal()

    #: How much the cells changed, see `start`.
    compared = Signal(str)

    def __init__(self, viewer: Viewer, engine: Engine) -> None:
        super().__init__()
        self._viewer, self.engine = viewer, engine
        self._cards: dict[str, ModelCard] = {}
        self._about: AboutDialog | None = None
        self._results: ResultLayers | None = None
        self._before: np.ndarray[Any, Any] | None = None
        self._adjustable: tuple[Adjustable, ...] = ()
        self._link: int | None = None
        self._warm = False
        self._started = 0.0
        self._remark = ""
        self.worker = Worker(self)
        self.warming = Worker(self)
        self.adjusting = Worker(self)
        self.comparing = Worker(self)
        self._build()
        self._connect()
        self._fill_models()

    # ---------------------------------------------------------------- what the user sees

    def _build(self) -> None:
        self.image_form = ImageForm(self._viewer)
        self.model_box = QComboBox()
        self.model_box.setObjectName("model_box")
        # One letter, so that names of models have room; who cannot see it hears the words.
        self.about_button = QPushButton("i")
        self.about_button.setObjectName("about_model")
        self.about_button.setAccessibleName("About this model")
        self.about_button.setFixedSize(ABOUT_SIZE, ABOUT_SIZE)
        self.about_button.setStyleSheet(
            f"font-weight: bold; padding: 0px; border-radius: {ABOUT_SIZE // 2}px;"
        )
        self.diameter_box = QSpinBox()
        self.diameter_box.setObjectName("diameter_box")
        self.diameter_box.setRange(0, LARGEST_DIAMETER)
        self.diameter_box.setSuffix(" px")
        self.diameter_box.setToolTip(
            "How wide a typical cell is, in pixels of the image. The image is zoomed so that the "
            "network sees cells of a size it knows. 0 has it estimated."
        )
        self.quality_box = QCheckBox("Test-time augmentation (slower)")
        self.quality_box.setObjectName("quality_box")
        self.quality_box.setToolTip(
            "Averages predictions over four mirrored copies: slightly more accurate, up to 4 times "
            "slower. For models that separate cells."
        )
        self.device_label = QLabel("starting...")
        self.button = QPushButton("Segment")
        self.button.setObjectName("segment_button")
        self.button.setMinimumHeight(44)
        self.button.setStyleSheet("font-size: 15pt; font-weight: bold;")
        key = preferences().segment_key
        self.button.setToolTip(
            "Find the cells in the image, with the model" + (f" ({key})" if key else "")
        )
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setObjectName("cancel_button")
        self.cancel_button.setToolTip("Stop the run and keep what is done")
        self.progress = QProgressBar()
        self.progress.setRange(0, STEPS)
        self.message = QLabel("")
        self.message.setObjectName("message")
        self.message.setWordWrap(True)
        self.adjust_form = AdjustForm()
        self.model_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        model_row = QHBoxLayout()
        model_row.addWidget(self.model_box, 1)
        model_row.addWidget(self.about_button)
        form = QFormLayout()
        form.addRow("Model", model_row)
        form.addRow("Cells are about", self.diameter_box)
        form.addRow("", self.quality_box)
        form.addRow("Device", self.device_label)
        align_labels(form)
        align_labels(self.adjust_form.form)
        layout = QVBoxLayout(self)
        layout.addWidget(self.image_form)
        layout.addLayout(form)
        for widget in (self.button, self.cancel_button, self.progress, self.message):
            layout.addWidget(widget)
        layout.addWidget(self.adjust_form)
        self._show_diameter()
        self._show_running(False)

    def _connect(self) -> None:
        self.button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.worker.cancel)
        self.model_box.currentTextChanged.connect(self._model_changed)
        self.about_button.clicked.connect(self._open_about)
        self.image_form.changed.connect(self._show_diameter)
        self.adjust_form.changed.connect(self._adjust)
        self.wiring.connect(self._layer_removed, self._viewer.layers.events.removed)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(self._run_done)
        self.worker.failed.connect(self._run_failed)
        self.worker.cancelled.connect(self._run_cancelled)
        self.warming.progressed.connect(self._receive)
        self.warming.failed.connect(self._warming_failed)
        self.adjusting.progressed.connect(self._show_adjusted)
        self.adjusting.failed.connect(self._warn)
        self.comparing.progressed.connect(lambda said: self.compared.emit(str(said)))
        self.comparing.failed.connect(self._warn)

    def _fill_models(self) -> None:
        preferred = preferences().default_model
        if preferred and preferred not in installed_models():
            show_warning(
                f"There is no model '{preferred}', which the preferences name as the default. "
                "Change it under File > Preferences."
            )
        self.list_models(default_model())

    def list_models(self, chosen: str = "") -> None:
        """List the models that are installed now.

        Parameters
        ----------
        chosen : str
            The one to select; by default that of before. It is warmed up where it is another.
        """
        before = self.model_box.currentText()
        self._cards = installed_models()
        self.model_box.blockSignals(True)
        self.model_box.clear()
        for row, (name, card) in enumerate(self._cards.items()):
            self.model_box.addItem(name)
            self.model_box.setItemData(row, tooltip(card), Qt.ItemDataRole.ToolTipRole)
        for wanted in (chosen, before, default_model(), DEFAULT_MODEL):
            if wanted in self._cards:
                self.model_box.setCurrentText(wanted)
                break
        self.model_box.blockSignals(False)
        self._show_card()
        if self.model_box.currentText() != before:
            self._model_changed(self.model_box.currentText())

    def _show_card(self) -> None:
        """Describe the chosen model in the tooltip, and in the window where it is open."""
        card = self._cards.get(self.model_box.currentText())
        self.model_box.setToolTip("" if card is None else tooltip(card))
        self.about_button.setEnabled(card is not None)
        self.about_button.setToolTip(
            "No model is installed" if card is None else "About this model: what it is good for"
        )
        if self._about is None:
            return
        if card is None:
            self._about.close()
        else:
            self._about.show_card(card)

    def _open_about(self) -> None:
        if self._about is None:
            self._about = AboutDialog(self)
        self._show_card()
        self._about.show()
        self._about.raise_()
        self._about.activateWindow()  # Escape closes it

    def _show_diameter(self, estimated: float = 0.0) -> None:
        """Show what 0, the special value, stands for."""
        text = f"auto: {estimated:.0f} px" if estimated else "auto"
        self.diameter_box.setSpecialValueText(text)

    def _show_running(self, running: bool) -> None:
        self.button.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.progress.setVisible(running)
        for widget in (
            self.image_form.image_box,
            self.image_form.stack_form,
            self.model_box,
            self.diameter_box,
        ):
            widget.setEnabled(not running)
        self._show_quality(running)
        self._show_adjustable()

    def _show_quality(self, running: bool) -> None:
        """Offer the choice where it changes something: only networks of cells are augmented."""
        card = self._cards.get(self.model_box.currentText())
        self.quality_box.setEnabled(not running and card is not None and card.makes_cells)

    def _layer_removed(self, event: Any) -> None:
        results = self._results
        if results is not None and not self.worker.running and results.ended_with(event.value):
            self.message.setText("")  # it tells of what is gone
        self._show_adjustable()

    def _show_adjustable(self) -> None:
        usable = bool(self._adjustable) and self._results is not None and self._results.adjustable
        self.adjust_form.setVisible(usable and not self.worker.running)

    # ---------------------------------------------------------------------- the work

    def _model_changed(self, name: str) -> None:
        """Warm the network up while the user looks at her image."""
        self._warm = False
        self._show_card()
        self._show_quality(self.worker.running)
        if not name:
            return
        self.device_label.setText("warming up...")
        self.warming.start(partial(self._warm_up, name))

    def _warm_up(self, name: str, stop: threading.Event) -> Generator[object, None, None]:
        preload()
        yield from open_model(self.engine, name, stop)

    def start(self, *_: object, compare: bool = False) -> None:
        """Segment the chosen image; what prevents it is said in a sentence.

        Parameters
        ----------
        compare : bool
            Say through `compared` how much the cells differ from those of the run before.
        """
        if self.worker.running:
            return
        self._before = None
        if compare and self._results is not None and self._results.adjustable:
            self._before = self._results.cells.data
        values = self.values
        problem = values.problem()
        if problem is not None:
            self._warn(problem)
            return
        job = self._job(values, self._split(values))
        self._adjustable, self._remark = (), ""
        self.progress.setValue(0)
        self.progress.setFormat("")
        self.message.setText(
            "" if self._warm else "The network is warming up; the run starts by itself."
        )
        self.worker.start(job)
        self._show_running(True)

    @property
    def values(self) -> SegmentValues:
        """Image, model and options that a press of the button would take now."""
        return SegmentValues(
            self.image_form.layer,
            self.image_form.stack_form.values,
            self.model_box.currentText(),
            self.diameter_box.value(),
            self.quality_box.isChecked(),
        )

    def _split(self, values: SegmentValues) -> Any:
        """Split the channels where the user chose one, and give its layer; else the image."""
        axis = values.stack.channel_axis
        if axis is None:
            return values.image
        layer = split_channels(self._viewer, values.image, axis, values.stack.channel)
        # The form shows the new layer, and what it had for another image of as many axes.
        self.image_form.stack_form.set_planes(values.stack.all_planes, values.stack.link)
        return layer

    def _job(self, values: SegmentValues, layer: Any) -> Job:
        """Prepare the run: planes to read, and where their results lie."""
        stack, settings = values.stack, values.settings
        shown = chosen_plane(self._viewer, layer, stack.all_planes)
        planes, source = planes_for(layer, shown), describe_source(layer, shown)
        self._results = ResultLayers(self._viewer, layer, shown)
        self._link = stack.link

        def job(stop: threading.Event) -> Generator[object, None, None]:
            if stack.memory:
                remember(stack.memory, stack.channel_axis)
            yield from run(self.engine, values.model, planes, settings, source, stop)

        return job

    def _receive(self, event: Opened | Event | Finished) -> None:
        if isinstance(event, Opened):
            self._warm = True
            self.device_label.setText(event.device)
            return
        assert self._results is not None
        if isinstance(event, Started):
            self._started = time.monotonic()
            self.message.setText("")
            self._results.begin(event)
            if not event.details.diameter_given:
                self._show_diameter(event.details.diameter)
        elif isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, MemoryFull):
            self._remark = describe_memory(event)
            self.message.setText(self._remark)
            self.device_label.setText(event.network.device)
        elif isinstance(event, Separating):
            self.progress.setFormat("separating the cells")
        elif isinstance(event, Finished):
            self._results.finish(event)
            self.message.setText(f"{describe_result(event.result)}\n{self._remark}".strip())
            self._offer_adjustment(event)

    def _show_progress(self, event: Progress) -> None:
        assert self._results is not None
        # The bar first: it paints at once whatever waits in the window, and a canvas with a
        # new layer would make one long stop of two short ones.
        seconds = time.monotonic() - self._started
        self.progress.setFormat(describe_progress(event.done, event.total, seconds))
        self.progress.setValue(STEPS * event.done // event.total)
        self._results.refresh()

    # ----------------------------------------------------------------- after the run

    def _offer_adjustment(self, event: Finished) -> None:
        self._adjustable = event.result.adjustable
        options = event.result.options
        if options is not None:
            self.adjust_form.show_options(options, self._adjustable[0].zoom, event.median_area)

    def _adjust(self) -> None:
        """Separate the cells anew with what the sliders say."""
        if self._results is None or not self._results.adjustable:
            return
        job = partial(
            _adjust,
            self._adjustable,
            self.adjust_form.options,
            self._link,
            self._results.cells.data,
            self._results.cells_digest,
        )
        self.adjusting.start(job)

    def _show_adjusted(self, event: object) -> None:
        assert isinstance(event, Adjusted)
        if self._results is None or not self._results.adjustable:
            return
        self._results.replace(event)
        self.message.setText(describe_count(event.n_cells))
        if event.corrected:
            show_info("The cells you have corrected were kept in their own layer, hidden.")

    # ------------------------------------------------------------------ how it ends

    def _run_done(self) -> None:
        self._show_running(False)
        self._compare()
        self.finished.emit()

    def _compare(self) -> None:
        before, self._before = self._before, None
        if before is None or self._results is None or not self._results.adjustable:
            return
        after = self._results.cells.data
        if before.shape == after.shape:
            self.comparing.start(partial(_compared, before, after))

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


def _adjust(
    adjustable: tuple[Adjustable, ...],
    options: InstanceOptions,
    link: int | None,
    shown: np.ndarray[Any, Any],
    shown_digest: int,
    stop: threading.Event,
) -> Generator[Adjusted, None, None]:
    yield adjust(adjustable, options, link, shown, shown_digest)


def _compared(
    before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], stop: threading.Event
) -> Generator[str, None, None]:
    yield describe_change(before, after)
