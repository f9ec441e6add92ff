"""Question after a retraining: keep the model in use, or use the new one."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.training.events import Retrained, Verdict
from napari_unet_cells.widgets.controls import named_button, wrapped_label
from napari_unet_cells.widgets.retrain.values import decision_table

#: What the button for a comparison says, before it and while it goes on.
COMPARE, CANCEL = "Compare on this image", "Cancel the comparison"

#: Of the progress bar.
STEPS = 1000


class Decision(QWidget):
    """Scores and counts of two models side by side, and what to do about them.

    Only a model that is better is proposed: its button is the one in bold. Otherwise that of the
    model in use is.
    """

    compare_wanted = Signal()
    kept = Signal()
    used = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._done: Retrained | None = None
        self._old = ""
        self.table = wrapped_label("decision_table")  # else its numbers would widen a narrow dock
        self.compare_button = named_button(COMPARE, "compare_models_button")
        self.keep_button = named_button("", "keep_model_button")
        self.use_button = named_button("", "use_model_button")
        self.progress = QProgressBar()
        self.progress.setRange(0, STEPS)
        self.progress.setToolTip("The part of the image that the new model has segmented.")
        row = QHBoxLayout()
        for button in (self.keep_button, self.use_button):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.table)
        layout.addWidget(self.progress)
        layout.addWidget(self.compare_button)
        layout.addLayout(row)
        self.compare_button.clicked.connect(lambda: self.compare_wanted.emit())
        self.keep_button.clicked.connect(lambda: self.kept.emit())
        self.use_button.clicked.connect(lambda: self.used.emit())
        self.show_comparing(False)

    def ask(self, done: Retrained, old: str) -> None:
        """Show what a retraining came to.

        Parameters
        ----------
        done : Retrained
        old : str
            Name of the model in use.
        """
        self._done, self._old = done, old
        new = done.card.name
        self.keep_button.setText(f"Keep using {old}")
        self.keep_button.setToolTip(
            f"{old} stays the model that is used; {new} stays in the list of models. The outlines "
            "of the comparison go."
        )
        self.use_button.setText(f"Use {new}")
        self.use_button.setToolTip(
            f"{new} is the model that is used from now on, also after a restart. Your results and "
            "corrections stay as they are."
        )
        self.compare_button.setToolTip(
            f"Segment the image of the last result with {new} and show its cells as outlines. The "
            "result and its corrections stay as they are."
        )
        better = done.verdict == Verdict.BETTER
        for button, proposed in ((self.keep_button, not better), (self.use_button, better)):
            button.setStyleSheet("font-weight: bold;" if proposed else "")
        self.compare_button.setVisible(done.card.makes_cells)
        self.show_counts(None)

    def show_comparing(self, running: bool) -> None:
        """Show whether a comparison goes on; the button then cancels it."""
        self.compare_button.setText(CANCEL if running else COMPARE)
        self.progress.setVisible(running)
        self.show_progress(0.0)

    def show_progress(self, done: float) -> None:
        """Show the part of a comparison that is done, 0 to 1."""
        self.progress.setFormat("%p %" if done else "opening the model...")
        self.progress.setValue(int(STEPS * done))

    def show_counts(self, counts: tuple[int, int] | None) -> None:
        """Show how many cells the image has with the old and the new model; None without."""
        assert self._done is not None
        table = decision_table(self._done, self._old, counts)
        self.table.setText(table)
        self.table.setVisible(bool(table))
