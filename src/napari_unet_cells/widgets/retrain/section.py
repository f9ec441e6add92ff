"""Retrain section of the dock: annotated images in, a new model out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.engine.engine import Engine, shared_engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.catalogue import default_model, installed_models, make_default
from napari_unet_cells.segmentation.pipeline import Progress
from napari_unet_cells.settings import LAST_DATASET, recall, remember
from napari_unet_cells.training.events import (
    Choosing,
    Preparing,
    Retrained,
    StepDone,
    Verdict,
    describe_outcome,
    event_of_dict,
)
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.export.histogram import preload
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.retrain.comparison import Compared, Comparison
from napari_unet_cells.widgets.retrain.curve import Curve
from napari_unet_cells.widgets.retrain.decision import Decision
from napari_unet_cells.widgets.retrain.values import RetrainValues, describe_use
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Of the progress bar.
STEPS = 1000

#: Milliseconds between two pictures of the curve.
REDRAW = 500


class RetrainSection(QWidget):
    """Dataset, base model and minutes; a live curve; the new model.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
        Whose child trains: not the one that segments, which stays free.
    segmenting : Engine, optional
        Whose child segments, for comparisons; by default the shared one.
    """

    #: The user wants to add approved regions to a dataset, to learn from it.
    dataset_wanted = Signal()

    #: Name of a new model, which the list of models should show.
    retrained = Signal(str)

    #: A comparison begins or has ended: the network that segments was used.
    comparing_changed = Signal(bool)

    #: A retraining begins or has ended.
    running_changed = Signal(bool)

    #: Names of the model that the user goes on with: the one of before, or the new one.
    kept = Signal(str)
    used = Signal(str)

    def __init__(self, viewer: Viewer, engine: Engine, segmenting: Engine | None = None) -> None:
        super().__init__()
        self._viewer, self.engine = viewer, engine
        self._finish = threading.Event()
        self._made = self._old = self._in_use = ""
        #: Whether the network that segments is at work.
        self.is_busy: Callable[[], bool] = lambda: False
        self.curve: Curve | None = None
        self.worker = Worker(self)
        self.warming = Worker(self)
        self.comparing = Worker(self)
        self.comparison = Comparison(viewer, segmenting or shared_engine())
        self._redraw = QTimer(self)
        self._redraw.setInterval(REDRAW)
        self._build()
        self._connect()
        self.fill_models()
        self._show_running(False)

    def _build(self) -> None:
        start = RetrainValues(dataset=str(recall(LAST_DATASET) or ""))
        self.fields = Fields(start, base={"choices": [""]})
        self.dataset_edit = self.fields.native("dataset")
        self.dataset_edit.setPlaceholderText("images and masks")
        self._about_dataset = self.dataset_edit.toolTip()
        self._show_path(self.dataset_edit.text())
        self.base_box = self.fields.native("base")
        self.start_box = self.fields.native("start")
        self.minutes_box = self.fields.native("minutes")
        self.minutes_box.setDecimals(1)
        self.minutes_box.setSuffix(" min")
        for widget, name in (
            (self.dataset_edit, "retrain_dataset"),
            (self.base_box, "retrain_base_box"),
            (self.start_box, "retrain_start_box"),
            (self.minutes_box, "retrain_minutes_box"),
        ):
            widget.setObjectName(name)
        self.browse_button = named_button("...", "retrain_browse_button")
        self.browse_button.setFixedWidth(30)
        self.browse_button.setToolTip("Choose a folder that is there.")
        self.approved_button = named_button(
            "Approved regions to a dataset...",
            "retrain_approved_button",
            "Add the regions that you approved to a new dataset or one that is there, and learn "
            "from it.",
        )
        self.button = named_button(
            "Retrain",
            "retrain_button",
            "Make a new model that has learned from the dataset. The model in use stays as it is.",
        )
        self.cancel_button = named_button(
            "Stop and keep the best so far",
            "retrain_cancel_button",
            "End now: the best model so far is measured and kept under a new name.",
        )
        self.progress = QProgressBar()
        self.progress.setObjectName("retrain_progress")
        self.progress.setToolTip("The part of the time that is over.")
        self.progress.setRange(0, STEPS)
        self.message = wrapped_label("retrain_message")
        self.decision = Decision()
        self.save_button = named_button(
            "Save the curve...",
            "save_curve_button",
            "Write the curve as a picture (PNG, PDF or SVG).",
        )
        self._layout()

    def _layout(self) -> None:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.dataset_edit, 1)
        row.addWidget(self.browse_button)
        form = QFormLayout()
        form.addRow("Dataset", row)
        form.addRow(self.approved_button)
        self.fields.add_to(form, "base", "start", "minutes")
        align_labels(form)
        self._curve_place = QVBoxLayout()
        layout = QVBoxLayout(self)
        layout.setSpacing(4)
        layout.addLayout(form)
        for widget in (self.button, self.cancel_button, self.progress):
            layout.addWidget(widget)
        layout.addLayout(self._curve_place)
        for widget in (self.decision, self.save_button, self.message):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.finish)
        self.browse_button.clicked.connect(self._browse)
        self.dataset_edit.textChanged.connect(self._show_path)
        self.approved_button.clicked.connect(lambda: self.dataset_wanted.emit())
        self.decision.compare_wanted.connect(self.compare)
        self.decision.kept.connect(self._keep)
        self.decision.used.connect(self._use)
        self.save_button.clicked.connect(self._ask_and_save)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(partial(self._show_running, False))
        for end in (self.worker.done, self.worker.failed, self.worker.cancelled):
            end.connect(lambda *_: self.running_changed.emit(False))
        self.worker.failed.connect(self._failed)
        self.worker.cancelled.connect(partial(self._show_running, False))
        self.comparing.progressed.connect(self._receive_comparison)
        self.comparing.done.connect(self._comparison_ended)
        self.comparing.failed.connect(self._comparison_failed)
        self.comparing.cancelled.connect(self._comparison_ended)
        self._redraw.timeout.connect(self._draw)

    # --------------------------------------------------------------------- what is shown

    def fill_models(self, chosen: str = "") -> None:
        """List the models that are installed now.

        Parameters
        ----------
        chosen : str
            The one to select; by default that of before, else the default model.
        """
        wanted = chosen or self.base_box.currentText() or default_model()
        self.fields.widgets["base"].choices = list(installed_models()) or [""]
        self.base_box.setCurrentText(wanted)

    def _show_running(self, running: bool) -> None:
        self.fields.enable(not running)
        for widget in (self.browse_button, self.approved_button, self.button):
            widget.setEnabled(not running)
        # One takes the place of the other: there is no room for both beside the curve.
        self.button.setVisible(not running)
        self.cancel_button.setVisible(running)
        self.cancel_button.setEnabled(running)
        self.progress.setVisible(running)
        self.decision.setVisible(bool(self._made) and not running)
        self.save_button.setVisible(self.curve is not None and not running)
        if running:
            self._redraw.start()
        else:
            self._redraw.stop()
            self._draw()

    def _draw(self) -> None:
        if self.curve is not None:
            self.curve.draw()

    def warm_up(self) -> None:
        """Start the child that trains, and make the model ready: the user opened the section."""
        card = installed_models().get(self.base_box.currentText())
        if card is not None and not self.worker.running and not self.warming.running:
            self.warming.start(partial(_prepare, self.engine, str(card.path)))

    # --------------------------------------------------------------------------- the work

    def choose_dataset(self, folder: str | Path) -> None:
        """Fill in the folder, such as the one that was just exported to."""
        self.dataset_edit.setText(str(folder))

    def _show_path(self, path: str) -> None:
        """Tell the whole path in the tooltip: the field has room for its end."""
        about = self._about_dataset
        self.dataset_edit.setToolTip(f"{path}\n{about}" if path else about)

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, "Choose a dataset", self.dataset_edit.text() or str(Path.home())
        )
        if folder:
            self.choose_dataset(folder)

    def start(self) -> None:
        """Retrain; what prevents it is said in a sentence."""
        if self.worker.running:
            return
        values = self.values
        problem = values.problem()
        if problem is not None:
            self._warn(problem)
            return
        remember(LAST_DATASET, str(values.folder))
        self._finish = threading.Event()
        self._end_comparison()
        self._made = ""
        self.message.setText("reading the dataset...")
        self.progress.setValue(0)
        self.progress.setFormat("")
        self.running_changed.emit(True)  # what else is trained stands back
        self.worker.start(partial(_retrain, self.engine, values.request(), self._finish))
        self._show_running(True)

    @property
    def values(self) -> RetrainValues:
        """Values of the form."""
        values = self.fields.values
        return replace(values, base=values.base or "")

    def finish(self) -> None:
        """End the tuning now and keep what it came to, where one runs."""
        if not self.worker.running:
            return
        self._finish.set()
        self.cancel_button.setEnabled(False)
        self.message.setText("stopping; the best so far is kept...")

    def _receive(self, event: object) -> None:
        if isinstance(event, Preparing):
            self._show_curve()
            n, held = event.learned_from, event.held_out
            images = "1 image" if n == 1 else f"{n} images"
            self.message.setText(f"Learning from {images}, {held} held out to measure it.")
            self.progress.setFormat("making the network ready...")
            if event.remark:
                show_warning(event.remark)
        elif isinstance(event, StepDone):
            self.progress.setValue(int(STEPS * event.done))
            self.progress.setFormat(f"step {event.step}")
            assert self.curve is not None
            self.curve.add(event.seconds, event.loss, event.validation_loss, event.score)
        elif isinstance(event, Choosing):
            self.progress.setValue(STEPS)
            self.progress.setFormat("choosing and measuring...")
        elif isinstance(event, Retrained):
            self._finished(event)

    def _show_curve(self) -> None:
        """Show an empty curve; matplotlib is imported by now, see `_retrain`."""
        if self.curve is None:
            self.curve = Curve(get_theme(self._viewer.theme))
            self._curve_place.addWidget(self.curve)
        self.curve.clear()

    def _finished(self, event: Retrained) -> None:
        self._made, self._old = event.card.name, self._in_use or event.base
        sentence = f"{describe_outcome(event)} {self._old} stays chosen until you say otherwise."
        self.message.setText(sentence)
        self.decision.ask(event, self._old)
        if event.before is not None and self.curve is not None:
            self.curve.add_base(event.before)
        (show_warning if event.verdict == Verdict.WORSE else show_info)(sentence)
        self.fill_models()
        self.retrained.emit(self._made)

    # --------------------------------------------------------------- the user's decision

    def show_model_in_use(self, name: str) -> None:
        """Remember the model that the next run takes."""
        self._in_use = name

    def compare(self) -> None:
        """Show the cells of the new model as outlines above the last result; again: cancel."""
        if self.comparing.running:
            self.comparing.cancel()
            return
        if self.is_busy():
            self.say("The image is being segmented. Compare when that is done.")
            return
        try:
            job = self.comparison.job(self._made)
        except UserError as error:
            self._warn(str(error))
            return
        self.comparison.remove()
        self.comparing.start(job)
        self.decision.show_comparing(True)
        self.comparing_changed.emit(True)

    def _receive_comparison(self, event: object) -> None:
        if isinstance(event, Progress):
            self.decision.show_progress(event.done / event.total)
        elif isinstance(event, Compared):
            self.comparison.show(event)
            self.decision.show_counts(event.counts)
            self.say(event.sentence)

    def _comparison_ended(self) -> None:
        self.decision.show_comparing(False)
        self.comparing_changed.emit(False)

    def _comparison_failed(self, problem: str) -> None:
        self._comparison_ended()
        self.say(problem)
        show_error(problem)

    def _end_comparison(self) -> None:
        self.comparing.cancel()
        self.comparison.remove()

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self.message.setText(sentence)

    def _keep(self) -> None:
        self.say(f"{self._old} stays chosen. {self._made} stays in the list of models.")
        self._end_comparison()
        self._decided()
        self.kept.emit(self._old)

    def _use(self) -> None:
        made = self._made
        self.comparing.cancel()
        self._decided()
        if made not in installed_models():  # it may have been deleted since
            self._warn(f"There is no model '{made}' any more. {self._old} stays chosen.")
            return
        make_default(made)
        self.say(describe_use(made))
        self.fill_models(made)
        self.used.emit(made)

    def _decided(self) -> None:
        self._made = ""
        self._show_running(False)

    def _failed(self, problem: str) -> None:
        self._show_running(False)
        self.message.setText(problem)
        show_error(problem)
        self.fill_models()

    def _warn(self, problem: str) -> None:
        self.message.setText(problem)
        show_warning(problem)
        self.fill_models()

    def _ask_and_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self,
            "Save the curve",
            str(Path.home() / f"{self._made or 'retraining'}.png"),
            "Pictures (*.png *.pdf *.svg)",
        )
        if name:
            self.save_curve(Path(name))

    def save_curve(self, path: Path) -> None:
        """Write the curve as a picture."""
        assert self.curve is not None
        path = path if path.suffix in (".png", ".pdf", ".svg") else Path(f"{path}.png")
        try:
            self.curve.save(path)
        except UserError as error:
            self._warn(str(error))
        else:
            self.message.setText(f"Written: {path}")


def _prepare(engine: Engine, name: str, stop: threading.Event) -> Generator[object, None, None]:
    preload()
    engine.prepare(name, stop)
    yield from ()


def _retrain(
    engine: Engine, request: dict[str, Any], finish: threading.Event, stop: threading.Event
) -> Generator[object, None, None]:
    preload()
    for event in engine.retrain(request, stop, finish):
        yield event_of_dict(event)
