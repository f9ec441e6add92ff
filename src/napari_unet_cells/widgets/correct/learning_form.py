"""Form of learning while correcting: a box, what goes on, and what becomes of the new model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QVBoxLayout

from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.widgets.controlled_form import ControlledForm
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.correct.learning import Learning, LearningRunners, LearningState
from napari_unet_cells.widgets.correct.review_controller import ReviewController
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.viewer import Viewer


class LearningForm(ControlledForm):
    """Box that switches the learning on, and buttons for the model that came of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
        Whose child trains.
    review : ReviewController
        Knows the labels and the region at hand.
    chosen : callable () -> str
        Name of the model that is chosen for the next run.
    """

    #: There is a model more, or less.
    models_changed = Signal()

    def __init__(
        self,
        viewer: Viewer,
        engine: Engine,
        review: ReviewController,
        chosen: Callable[[], str],
    ) -> None:
        super().__init__()
        self._build()
        self.teaching, self.placing, self.keeping = Worker(self), Worker(self), Worker(self)
        self.controller = Learning(
            viewer,
            engine,
            self,
            LearningRunners(self.teaching, self.placing, self.keeping),
            lambda: review.labels,
            review.at_work,
            chosen,
        )
        self._connect()

    def _build(self) -> None:
        self.box = QCheckBox("Learn while I correct")
        self.box.setObjectName("learning_box")
        self.box.setToolTip(
            "After each approved region the network learns for some seconds in the background, "
            "and the labels that you did not touch are made anew. What you corrected or approved "
            "stays; your models stay as they are."
        )
        self.keep_button = named_button("Keep", "learning_keep_button")
        self.drop_button = named_button("Drop", "learning_drop_button")
        self.note = wrapped_label("learning_note")
        row = QHBoxLayout()
        row.addWidget(self.box, 1)
        row.addWidget(self.keep_button)
        row.addWidget(self.drop_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.note)

    def _connect(self) -> None:
        controller = self.controller
        self.box.toggled.connect(controller.switch)
        self.keep_button.clicked.connect(controller.keep)
        self.drop_button.clicked.connect(controller.drop)
        self.teaching.progressed.connect(controller.receive)
        self.teaching.done.connect(controller.ended)
        self.teaching.failed.connect(controller.failed)
        self.placing.progressed.connect(controller.placed)
        self.placing.failed.connect(controller.placing_failed)
        self.keeping.progressed.connect(controller.kept)
        self.keeping.failed.connect(controller.keeping_failed)
        self.wiring.at_end(controller.school.close)
        self.wiring.at_end(controller.wiring.release)
        for worker in (self.teaching, self.placing, self.keeping):
            self.wiring.at_end(worker.stop)

    # ------------------------------------------------------------- what the controller asks for

    def show_learning(self, state: LearningState) -> None:
        """Bring box, sentence and buttons in line with a state."""
        self.box.blockSignals(True)  # the controller knows
        self.box.setChecked(state.on)
        self.box.blockSignals(False)
        self.note.setText(state.sentence)
        self.note.setVisible(bool(state.sentence))
        model = state.model
        for button, does in (
            (self.keep_button, f"Keep {model} in your models, under a name of its own."),
            (self.drop_button, f"Forget what was learned: {model} goes, your labels stay."),
        ):
            button.setVisible(bool(model))
            button.setToolTip(does)

    def tell_models(self) -> None:
        """Tell others that the list of models changed."""
        self.models_changed.emit()
