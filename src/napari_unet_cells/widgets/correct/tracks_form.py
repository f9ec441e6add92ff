"""Form that tracks the cells of a movie: one button, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout

from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.correct.tracks_controller import TrackingState, TracksController
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_DOES = (
    "Link the cells of the frames: a cell keeps its id over time, also where it is missing in a "
    "frame or two, and divisions are found. One step of undo; what you correct then is followed."
)


class TracksForm(ControlledForm):
    """Button that tracks the labels at hand, shown for stacks only.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    labels : callable () -> labels layer or None
        Those at hand.
    """

    def __init__(self, viewer: Viewer, labels: Callable[[], Labels | None]) -> None:
        super().__init__()
        self.button = QPushButton("Track cells")
        self.button.setObjectName("track_button")
        self.note = QLabel("")
        self.note.setObjectName("track_note")
        self.note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.button)
        layout.addWidget(self.note)
        self.tracking, self.reading = Worker(self), Worker(self)
        self.controller = TracksController(
            viewer, self, self.tracking, self.reading, labels, self.wiring
        )
        self.button.clicked.connect(lambda: self.controller.track())
        self.tracking.progressed.connect(self.controller.found)
        self.tracking.done.connect(self.controller.ended)
        self.tracking.failed.connect(self.controller.failed)
        self.reading.progressed.connect(self.controller.read)
        self.reading.done.connect(self.controller.read_ended)
        self.reading.failed.connect(self.controller.failed)
        for worker in (self.tracking, self.reading):
            self.wiring.at_end(worker.stop)

    def show_tracking(self, state: TrackingState) -> None:
        """Bring button and sentence in line with a state."""
        self.setVisible(state.shown)
        self.button.setEnabled(not state.problem and not state.running)
        self.button.setToolTip(state.problem or _DOES)
        self.note.setText(state.sentence)
        self.note.setVisible(bool(state.sentence))
