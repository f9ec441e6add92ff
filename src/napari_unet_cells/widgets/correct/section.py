"""Section Correct: the review of the regions, the tools for whole cells, and tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet_cells.engine.engine import Engine, training_engine
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.correct.adding import Segmenting
from napari_unet_cells.widgets.correct.learning_form import LearningForm
from napari_unet_cells.widgets.correct.part_form import PartForm
from napari_unet_cells.widgets.correct.review_form import ReviewForm
from napari_unet_cells.widgets.correct.tools_form import ToolsForm
from napari_unet_cells.widgets.correct.tracks_form import TracksForm

if TYPE_CHECKING:
    from napari.viewer import Viewer


class CorrectSection(QWidget):
    """Tools, tracks and review, one above the other.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine, optional
    segmenting : Segmenting, optional
        The section that made the cells; see `ToolsController`.
    training : Engine, optional
        Whose child learns while the user corrects; by default the shared one that trains.
    """

    #: Approved regions, and all of them.
    counted = Signal(int, int)

    #: The user wants to name classes and paint them.
    classes_wanted = Signal()

    def __init__(
        self,
        viewer: Viewer,
        engine: Engine | None = None,
        segmenting: Segmenting | None = None,
        training: Engine | None = None,
    ) -> None:
        super().__init__()
        self.review = ReviewForm(viewer)
        self.learning = LearningForm(
            viewer,
            training or training_engine(),
            self.review.controller,
            lambda: "" if segmenting is None else segmenting.values.model,
        )
        self.tools = ToolsForm(viewer, engine, segmenting)
        self.tracks = TracksForm(viewer, lambda: self.review.controller.labels)
        self.part = PartForm(viewer, lambda: self.review.controller.labels)
        self.message = wrapped_label("correct_message")
        self.classes_button = named_button(
            "Paint classes of your own...",
            "own_classes_button",
            "Name classes and paint scribbles of them, to train a network that tells them apart",
        )
        layout = QVBoxLayout(self)
        for widget in (
            self.part,
            self.tools,
            self.tracks,
            self.review,
            self.learning,
            self.classes_button,
            self.message,
        ):
            layout.addWidget(widget)
        self.review.counted.connect(self.counted)
        self.review.changed.connect(self.learning.controller.approved)
        self.classes_button.clicked.connect(lambda: self.classes_wanted.emit())
        self.tools.message.connect(self.message.setText)
