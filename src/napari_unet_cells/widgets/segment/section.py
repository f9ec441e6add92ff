"""Segment section of the dock: image, model, button, progress, result, adjustment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Signal
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.segment.adjust_form import AdjustForm
from napari_unet_cells.widgets.segment.channels import show_plane, shown_plane
from napari_unet_cells.widgets.segment.controller import SegmentController
from napari_unet_cells.widgets.segment.earlier_results import Choice
from napari_unet_cells.widgets.segment.image_form import ImageForm
from napari_unet_cells.widgets.segment.model_form import ModelForm
from napari_unet_cells.widgets.segment.result_box import ResultBox
from napari_unet_cells.widgets.segment.size_circle import SizeCircle, circle_over
from napari_unet_cells.widgets.segment.values import SegmentValues, StackValues
from napari_unet_cells.widgets.segment.view import Runners
from napari_unet_cells.widgets.status_line import device_label
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

#: Of the progress bar; pixels of a large image do not fit Qt's 32-bit integers.
STEPS = 1000


class SegmentSection(Wired, QWidget):
    """Image and model in, labels out: the window of a `SegmentController`, whose `View` it is.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine

    Attributes
    ----------
    run_bar, message, device_label : QWidget
        Progress and Cancel, the last sentence, what computes: the dock has them below all pages.
    """

    finished = Signal()

    #: A layer that was removed is back, with its corrections.
    came_back = Signal()

    #: The labels layer that the controls act on, or None; also where it is the same as before.
    followed = Signal(object)

    def __init__(self, viewer: Viewer, engine: Engine) -> None:
        super().__init__()
        self._viewer, self.engine = viewer, engine
        self._circle: SizeCircle | None = None
        self._offered_size = 0.0
        self._said_of: Image | None = None
        self.worker = Worker(self)
        self.warming = Worker(self)
        self.adjusting = Worker(self)
        runners = Runners(self.worker, self.warming, self.adjusting)
        self.controller = SegmentController(viewer, engine, self, runners)
        self._build()
        self._connect()
        self._show_running(False)
        self._show_plane()  # the image may have been there before the form
        self.model_form.fill()

    def _build(self) -> None:
        self.image_form = ImageForm(self._viewer)
        self.model_form = ModelForm()
        self.adjust_form = AdjustForm()
        align_labels(self.adjust_form.form)
        self.button = named_button("Segment", "segment_button")
        self.button.setMinimumHeight(44)
        self.button.setStyleSheet("font-size: 15pt; font-weight: bold;")
        key = preferences().segment_key
        self.button.setToolTip(
            "Find the cells in the image with the model" + (f" ({key})" if key else "")
        )
        self.folder_button = named_button("Folder...", "folder_button")
        self.folder_button.setMinimumHeight(44)
        self.folder_button.setToolTip(
            "Segment all images of a folder, or several files, with this model and these settings, "
            "and correct them one by one"
        )
        self.size_button = named_button(
            "",
            "size_button",
            "The cell size was a guess. Take the other one that is likely; Result goes back to the "
            "cells of now.",
        )
        self.size_button.hide()
        self.cancel_button = named_button(
            "Cancel", "cancel_button", "Stop the run and keep the tiles that are done."
        )
        self.progress = QProgressBar()
        self.progress.setRange(0, STEPS)
        self.run_bar = QWidget()
        run = QHBoxLayout(self.run_bar)
        run.setContentsMargins(0, 0, 0, 0)
        run.addWidget(self.progress, 1)
        run.addWidget(self.cancel_button)
        self.device_label = device_label()
        self.message = wrapped_label("message")
        self.result_box = ResultBox()
        self.adjust_note = wrapped_label("adjust_note")
        layout = QVBoxLayout(self)
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.folder_button)
        layout.addWidget(self.image_form)
        layout.addWidget(self.model_form)
        layout.addLayout(buttons)
        for widget in (self.size_button, self.adjust_form, self.adjust_note, self.result_box):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self.controller
        self.button.clicked.connect(self.start)
        self.size_button.clicked.connect(self._start_with_size)
        self.cancel_button.clicked.connect(self.worker.cancel)
        self.model_form.changed.connect(controller.choose_model)
        self.image_form.changed.connect(self.model_form.show_diameter)
        self.image_form.changed.connect(self._show_plane)
        self.image_form.changed.connect(self._show_circle)
        self.image_form.changed.connect(self._forget_message)
        self.model_form.circle_button.toggled.connect(self._show_circle)
        self.model_form.changed.connect(self._size_circle)
        self.model_form.fields.widgets["diameter"].changed.connect(self._size_circle)
        self.image_form.stack_form.plane_wanted.connect(self._turn_to)
        dims = self._viewer.dims.events
        self.wiring.connect(self._show_plane, dims.point, dims.ndim)
        self.wiring.connect(self._show_circle, dims.ndisplay)
        self.adjust_form.changed.connect(self._adjust)
        self.result_box.chosen.connect(controller.choose_result)
        self.result_box.opening.connect(controller.look)
        layers = self._viewer.layers
        self.wiring.connect(self._layer_removed, layers.events.removed)
        self._of_cells = self.wiring.part()
        self.wiring.connect(self._follow, layers.selection.events.active)
        self.worker.progressed.connect(controller.receive)
        self.worker.done.connect(self._run_done)
        self.worker.failed.connect(self._run_failed)
        self.worker.cancelled.connect(self._run_cancelled)
        self.warming.progressed.connect(controller.warmed)
        self.warming.failed.connect(controller.warming_failed)
        self.adjusting.progressed.connect(controller.show_adjusted)
        self.adjusting.failed.connect(controller.adjusting_failed)

    # ------------------------------------------------------------ what the user does

    @property
    def values(self) -> SegmentValues:
        """Image, model and options that a press of the button would take now."""
        return replace(
            self.model_form.values,
            image=self.image_form.layer,
            stack=self.image_form.stack_form.values,
        )

    def fragments_of(self, layer: Labels) -> KeptFragments:
        """Fragments of each plane that the run of a layer kept; see `SegmentController`."""
        return self.controller.fragments_of(layer)

    @property
    def running(self) -> bool:
        """Whether a run is going."""
        return self.worker.running

    def start(self, *_: object) -> None:
        """Segment the chosen image; what prevents it is said in a sentence."""
        if self.controller.start(self.values):
            self._show_running(True)

    def _start_with_size(self) -> None:
        self.model_form.diameter_box.setValue(round(self._offered_size))
        self.start()

    def _adjust(self) -> None:
        problem = self.adjust_form.values.problem()
        if problem is not None:
            self.warn(problem)
            return
        self.controller.adjust(self.adjust_form.options)

    def _layer_removed(self, event: Any) -> None:
        self.controller.layer_removed(event.value)
        self._follow()

    def _follow(self, event: object = None) -> None:
        """Turn to the selected cells, whose undo history moves the sliders too."""
        self._of_cells.release()
        labels = self.controller.followed
        if labels is not None:
            self._of_cells.connect(self.controller.look, *emitters(labels, PIXEL_EVENTS))
        self.controller.look()
        self.followed.emit(self.controller.selected)

    # ----------------------------------------------------------------- what is shown

    def _show_running(self, running: bool) -> None:
        self.button.setEnabled(not running)
        self.run_bar.setVisible(running)
        self.image_form.image_box.setEnabled(not running)
        self.image_form.stack_form.setEnabled(not running)
        self.model_form.show_running(running)
        self._follow()

    def _show_plane(self, *_: object) -> None:
        layer = self.image_form.layer
        if layer is not None:
            self.image_form.stack_form.show_plane(shown_plane(self._viewer, layer))

    def _forget_message(self, *_: object) -> None:
        """Take away what was said of another image."""
        layer = self.image_form.layer
        if layer is not self._said_of and not self.worker.running:
            self.say("")
        self._said_of = layer

    def _turn_to(self, index: tuple[int, ...]) -> None:
        layer = self.image_form.layer
        if layer is not None:
            show_plane(self._viewer, layer, index)

    def _show_circle(self, *_: object) -> None:
        """Lay the circle of the cell size over the image that is chosen, or take it away."""
        if self._circle is not None:
            self._circle.deleteLater()
            self._circle = None
        button, layer = self.model_form.circle_button, self.image_form.layer
        if button.isChecked() and self.isVisible():  # not below the tools of another page
            diameter = self.model_form.shown_diameter
            self._circle = circle_over(self, self._viewer, layer, diameter)
            if self._circle is not None:
                self._circle.changed.connect(self.model_form.diameter_box.setValue)

    def showEvent(self, event: QShowEvent) -> None:
        """Show the circle again with the page."""
        super().showEvent(event)
        self._show_circle()

    def hideEvent(self, event: QHideEvent) -> None:
        """Take the circle away with the page."""
        super().hideEvent(event)
        self._show_circle()

    def _size_circle(self, *_: object) -> None:
        """Give the circle the size that was typed; one that is being drawn has it already."""
        shown = self.model_form.shown_diameter
        if self._circle is not None and round(self._circle.diameter) != round(shown):
            self._circle.show_diameter(shown)

    def say(self, sentence: str) -> None:
        """Show a sentence below the pages."""
        self.message.setText(sentence)
        self.size_button.hide()

    def warn(self, sentence: str) -> None:
        """Say what prevents something, also as a notification."""
        self.say(sentence)
        show_warning(sentence)

    def offer_size(self, diameter: float) -> None:
        """Offer to segment again with a cell size, in pixels, until something else is said."""
        self._offered_size = diameter
        self.size_button.setText(f"Segment again with {diameter:.0f} px")
        self.size_button.show()

    def inform(self, sentence: str) -> None:
        """Say something as a notification alone."""
        show_info(sentence)

    def show_device(self, device: str) -> None:
        """Show what computes, or how far it is."""
        self.device_label.setText(device)
        self.device_label.setToolTip(device)  # a narrow dock cuts off the end of the line

    def show_diameter(self, estimated: float) -> None:
        """Show the diameter that was estimated, in pixels."""
        self.model_form.show_diameter(estimated)
        self._size_circle()

    def show_progress(self, done: float, text: str) -> None:
        """Show the part that is done, 0 to 1, and say it; at 0 that something is being done."""
        self.progress.setRange(0, STEPS if done else 0)  # without an end the bar moves
        self.progress.setFormat(text)
        self.progress.setValue(int(STEPS * done))

    def show_stack(self, stack: StackValues) -> None:
        """Choose planes and linking in the form of a channel that was split off."""
        self.image_form.stack_form.set_planes(stack.all_planes, stack.link)

    def offer_adjustment(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show the options of a run; see `AdjustForm.show_options`."""
        self.adjust_form.show_options(options, zoom, median_area)

    def show_adjustable(self, problem: str | None) -> None:
        """Show whether the selected cells can be adjusted, and why not; None without cells."""
        self.adjust_form.setVisible(problem == "")
        self.adjust_note.setVisible(bool(problem))
        self.adjust_note.setText(problem or "")

    def show_results(self, choice: Choice) -> None:
        """Show the results of the image, of which one can be chosen."""
        self.result_box.show_choice(choice)

    def layer_came_back(self) -> None:
        """Tell others that corrections need not be restored, since their layer is back."""
        self.came_back.emit()

    def ask_folder(self, sentence: str) -> Path | None:
        """Ask for a folder, for a reason; None where the user has none."""
        self.warn(sentence)
        name = QFileDialog.getExistingDirectory(self, "Folder for the result", str(Path.home()))
        return Path(name) if name else None

    def start_again(self) -> None:
        """Press Segment again, for the user."""
        self.start()

    # ------------------------------------------------------------------ how it ends

    def _run_done(self) -> None:
        self._show_running(False)
        self.controller.finished()
        self.finished.emit()

    def _run_cancelled(self) -> None:
        self._show_running(False)
        self.controller.cancelled()

    def _run_failed(self, problem: str) -> None:
        self._show_running(False)
        self.say(problem)
        show_error(problem)
        self.controller.failed()
