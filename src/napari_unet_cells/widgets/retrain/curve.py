"""The live curve of a retraining, in the colours of napari."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet_cells.files import atomic_write
from napari_unet_cells.widgets.export.histogram import hex_of

#: Pixels; with it, form and result of a retraining fit on a laptop's screen.
HEIGHT = 125


class Curve(QWidget):
    """Loss of training and validation, and the score of the held-out images.

    Make it when `histogram.preload` is done.

    Parameters
    ----------
    theme : napari.utils.theme.Theme
    score_name : str
        Of the right axis, such as "AP50".
    """

    def __init__(self, theme: Any, score_name: str = "AP50") -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        super().__init__()
        self.setObjectName("retrain_curve")
        self.setFixedHeight(HEIGHT)
        self.setToolTip(
            "Training loss falls while the model learns; where the validation loss rises again it "
            f"learns by heart. {score_name} is of the held-out images."
        )
        figure = Figure()
        self.axes = figure.add_subplot()
        self.right = self.axes.twinx()
        self.canvas = FigureCanvasQTAgg(figure)
        (self.training,) = self.axes.plot([], [], color="C0", linewidth=1, label="training loss")
        (self.validation,) = self.axes.plot(
            [], [], "o-", markersize=4, color="C1", label="validation loss"
        )
        (self.score,) = self.right.plot([], [], "s--", markersize=4, color="C2", label=score_name)
        self.axes.set_xlabel("seconds")
        self.axes.set_ylabel("loss")
        self.right.set_ylabel(score_name)
        self.right.set_ylim(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self._colour(theme)
        self.clear()

    def resizeEvent(self, event: Any) -> None:
        """Give the words beside the axes their room, which does not grow with the widget."""
        super().resizeEvent(event)
        width = max(200, self.width())
        self.canvas.figure.subplots_adjust(
            left=52 / width, right=1 - 56 / width, bottom=36 / HEIGHT, top=1 - 24 / HEIGHT
        )

    def _colour(self, theme: Any) -> None:
        text, background = hex_of(theme.text), hex_of(theme.background)
        self.canvas.figure.set_facecolor(background)
        for axes in (self.axes, self.right):
            axes.set_facecolor(background)
            axes.tick_params(colors=text, labelsize=8)
            for label in (axes.xaxis.label, axes.yaxis.label):
                label.set_color(text)
                label.set_fontsize(8)
            for spine in axes.spines.values():
                spine.set_color(text)
        legend = self.axes.legend(
            handles=[self.training, self.validation, self.score],
            fontsize=7,
            loc="lower center",
            ncols=3,
            bbox_to_anchor=(0.5, 0.97),
            frameon=False,
            columnspacing=1,
            handlelength=1.5,
        )
        for entry in legend.get_texts():
            entry.set_color(text)

    def clear(self) -> None:
        """Begin a new curve."""
        self._losses: list[tuple[float, float]] = []
        self._validations: list[tuple[float, float]] = []
        self._scores: list[tuple[float, float]] = []
        self.draw()

    def add(
        self, seconds: float, loss: float, validation: float | None, score: float | None
    ) -> None:
        """Add a step; `draw` shows it."""
        self._losses.append((seconds, loss))
        if validation is not None:
            self._validations.append((seconds, validation))
        if score is not None:
            self._scores.append((seconds, score))

    def add_base(self, score: float) -> None:
        """Mark the score before the first step."""
        self._scores.insert(0, (0.0, score))

    def draw(self) -> None:
        """Draw what was added."""
        pairs = (
            (self.training, self._losses),
            (self.validation, self._validations),
            (self.score, self._scores),
        )
        for line, points in pairs:
            line.set_data([p[0] for p in points], [p[1] for p in points])
        if self._losses:
            self.axes.set_xlim(0, max(1.0, self._losses[-1][0]))
            highest = max(value for _, value in (*self._losses, *self._validations))
            self.axes.set_ylim(0, 1.05 * highest)
        self.canvas.draw_idle()

    def save(self, path: Path) -> None:
        """Write the picture; its ending says as what (.png, .pdf, .svg).

        Raises
        ------
        UserError
            Where the disk refuses.
        """
        with atomic_write(path, overwrite=True) as temporary:
            self.canvas.figure.savefig(temporary, dpi=150, format=path.suffix[1:] or "png")
