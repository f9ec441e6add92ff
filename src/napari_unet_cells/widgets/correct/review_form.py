"""Form of the review: its buttons, and the work that its controller leaves to Qt."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QMainWindow,
    QProgressBar,
    QVBoxLayout,
)

from napari_unet_cells.core.regions import Review
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.canvas import main_window
from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.correct.keys import readable
from napari_unet_cells.widgets.correct.review_controller import SOON, ReviewController
from napari_unet_cells.widgets.correct.review_drawing import Drawing
from napari_unet_cells.widgets.correct.review_state import ReviewState
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer


class ReviewForm(ControlledForm):
    """Buttons that go from region to region of the labels at hand, and approve them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: Approved regions, and all of them; 0 and 0 where nothing is reviewed.
    counted = Signal(int, int)

    #: The labels layer whose approvals changed.
    changed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._counted = (0, 0)
        self._making = Worker(self)
        self._build()
        self.controller = ReviewController(viewer, self, self.wiring)
        self._counted = (0, 0)  # for those who will connect to `counted`
        self._connect()

    def _build(self) -> None:
        self.review_button = named_button("Review", "review_button")
        self.review_button.setCheckable(True)
        self.uncertainty_box = QCheckBox("Uncertainty")
        self.uncertainty_box.setObjectName("review_uncertainty_box")
        self.next_button = named_button(_with_key("Next", "next_key"), "review_next_button")
        self.approve_button = named_button(
            _with_key("Approve and next", "approve_key"), "review_approve_button"
        )
        self.bar = QProgressBar()
        self.bar.setObjectName("review_bar")
        self.bar.setToolTip("Regions of these labels that you have approved")
        self.note = wrapped_label("review_note")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for left, right in (
            (self.review_button, self.uncertainty_box),
            (self.bar, self.next_button),
        ):
            row = QHBoxLayout()
            row.addWidget(left, 3)
            row.addWidget(right, 2)
            layout.addLayout(row)
        layout.addWidget(self.approve_button)
        layout.addWidget(self.note)

    def _connect(self) -> None:
        controller = self.controller
        self.review_button.toggled.connect(controller.switch)
        self.uncertainty_box.toggled.connect(controller.show_uncertainty)
        self.next_button.clicked.connect(self.next)
        self.approve_button.clicked.connect(self.approve)
        self._making.progressed.connect(controller.take_review)
        self._making.done.connect(controller.refresh)  # also where what was made fits no more
        self._making.failed.connect(controller.fail)
        # Not now: where the window goes too, its canvas is half gone. A partial, because Qt does
        # not keep the object of a method alive.
        self.wiring.at_end(QTimer.singleShot, 0, partial(_clear_up, controller.drawing))
        self.wiring.at_end(self._making.stop)

    def next(self, *_: object) -> None:
        """Go to the most uncertain region that is not approved; switch the review on for it."""
        self.controller.next()

    def approve(self, *_: object) -> None:
        """Mark the region in the middle of the view as right and go on, or take that back."""
        self.controller.approve()

    # ------------------------------------------------------------- what the controller asks for

    def show_state(self, state: ReviewState) -> None:
        """Bring buttons and texts in line with a state."""
        for name, widget in (
            ("review", self.review_button),
            ("next", self.next_button),
            ("approve", self.approve_button),
            ("uncertainty", self.uncertainty_box),
        ):
            control = state.controls[name]
            widget.setEnabled(control.usable)
            widget.setToolTip(control.tooltip)
        for box, checked in ((self.review_button, state.on), (self.uncertainty_box, state.heat)):
            box.blockSignals(True)  # the controller knows
            box.setChecked(checked)
            box.blockSignals(False)
        self.approve_button.setText(_with_key(state.approve_text, "approve_key"))
        self.bar.setRange(0, max(1, state.regions))
        self.bar.setValue(state.approved)
        self.bar.setFormat(state.counted)
        self.note.setText(state.note)
        self.note.setVisible(bool(state.note))
        counted = (state.approved, state.regions)
        if counted != self._counted:
            self._counted = counted
            self.counted.emit(*counted)

    def tell_changed(self, layer: Any) -> None:
        """Tell others that the approvals of a labels layer changed."""
        self.changed.emit(layer)

    @property
    def making(self) -> bool:
        """Whether a review is being made."""
        return self._making.running

    def make_review(self, labels: NDArray[Any]) -> None:
        """Make a review in the background."""
        self._making.start(partial(_make, labels))

    def stop_making(self) -> None:
        """Make no review, where one is being made."""
        self._making.cancel()

    def inform(self, sentence: str) -> None:
        """Show a notification."""
        show_info(sentence)

    def warn(self, sentence: str) -> None:
        """Show a warning."""
        show_warning(sentence)

    def window_probe(self) -> Callable[[], bool]:
        """Give a function that says whether the window is open; it works without the form."""
        window = main_window(self)
        return partial(_is_open, None if window is None else weakref.ref(window))


def _clear_up(drawing: Drawing) -> None:
    """Remove what was drawn, one layer a turn."""
    if drawing.clear_up():
        QTimer.singleShot(SOON, partial(_clear_up, drawing))


def _make(labels: NDArray[Any], stop: threading.Event) -> Generator[Review, None, None]:
    yield Review(labels)


def _with_key(text: str, name: str) -> str:
    """Text of a button with its shortcut, such as "Next  N"."""
    key = readable(getattr(preferences(), name))
    return f"{text}  {key}" if key else text


def _is_open(reference: weakref.ref[QMainWindow] | None) -> bool:
    window = None if reference is None else reference()
    try:
        return window is not None and window.centralWidget() is not None
    except RuntimeError:  # it was closed, and its Qt object is gone
        return False
