"""Form for labels that are read from the disk: a part is taken, put back, the next one found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout

from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.correct.part_controller import (
    EDIT,
    PUT_BACK,
    PartController,
    PartState,
)
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_DOES = {
    EDIT: "Take the cells in view into a layer that all tools work on; those at its border stay.",
    PUT_BACK: "Write the part to the disk, as a new version. What was there before is kept.",
}


class PartForm(ControlledForm):
    """Button for a part of the labels at hand, shown where these are read from the disk.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    labels : callable () -> labels layer or None
        Those at hand.
    """

    def __init__(self, viewer: Viewer, labels: Callable[[], Labels | None]) -> None:
        super().__init__()
        self.button = named_button(EDIT, "part_button")
        self.next_button = named_button(
            "Next uncertain",
            "uncertain_button",
            "Go to the place where the network was least sure, of those that are not approved yet.",
        )
        self.note = wrapped_label("part_note")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        beside = QHBoxLayout()
        beside.addWidget(self.button)
        beside.addWidget(self.next_button)
        layout.addLayout(beside)
        layout.addWidget(self.note)
        # a part that is being written comes to its end, also when napari is closed
        self.worker = Worker(self, daemon=False)
        self.controller = PartController(viewer, self, self.worker, labels, self.wiring)
        self.button.clicked.connect(lambda: self.controller.press())
        self.next_button.clicked.connect(lambda: self.controller.show_uncertain())
        self.worker.progressed.connect(self.controller.receive)
        self.worker.done.connect(self.controller.ended)
        self.worker.failed.connect(self.controller.failed)
        self.controller.look()

    def show_part(self, state: PartState) -> None:
        """Bring button and sentence in line with a state."""
        self.setVisible(state.shown)
        self.button.setText(state.action)
        self.button.setToolTip(_DOES[state.action])
        self.button.setEnabled(state.enabled)
        self.next_button.setVisible(state.action == EDIT)
        self.next_button.setEnabled(state.enabled)
        self.note.setText(state.sentence)
        self.note.setVisible(bool(state.sentence))
