"""The histogram of one column, in the colours of napari."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet_cells.widgets.export.column_bins import Bins

#: Pixels; lower, the numbers at the axes lie on each other, and nothing is drawn.
LEAST_HEIGHT = 60


def preload() -> None:
    """Import matplotlib and draw once, off the GUI thread.

    Its first figure loads fonts and takes a quarter of a second, the next ones 20 ms.
    """
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(2, 2))
    importlib.import_module("matplotlib.backends.backend_qtagg")
    agg = importlib.import_module("matplotlib.backends.backend_agg")
    figure.add_subplot().bar([1, 2], [1e-3, 10], label="0123456789 (micrometer)")
    agg.FigureCanvasAgg(figure).draw()


class Histogram(QWidget):
    """Bars for the cells; a line for the chosen one.

    Make it when `preload` is done.

    Parameters
    ----------
    theme : napari.utils.theme.Theme
    """

    def __init__(self, theme: Any) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        super().__init__()
        self.setObjectName("histogram")
        figure = Figure()
        self.axes = figure.add_subplot()
        self.canvas = FigureCanvasQTAgg(figure)
        # These are changed, never made anew: that takes a third of the time.
        self.bars = self.axes.stairs([0], [0, 1], fill=True)
        self.line = self.axes.axvline(0, linewidth=2, visible=False)
        self.nothing = self.axes.text(
            0.5, 0.5, "no values", ha="center", va="center", transform=self.axes.transAxes
        )
        self.axes.set_ylabel("cells")
        self.axes.locator_params(axis="y", integer=True, nbins=5)
        self.axes.locator_params(axis="x", nbins=5)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.colour(theme)

    def resizeEvent(self, event: Any) -> None:
        """Give the words beside the axes their room, which does not grow with the widget."""
        super().resizeEvent(event)
        self.canvas.setVisible(self.height() >= LEAST_HEIGHT)
        width, height = max(200, self.width()), max(120, self.height())
        self.canvas.figure.subplots_adjust(
            left=54 / width, right=1 - 16 / width, bottom=44 / height, top=1 - 10 / height
        )

    def show_values(self, values: NDArray[Any], title: str, chosen: float | None = None) -> None:
        """Draw a histogram.

        Parameters
        ----------
        values : array, (n,)
            What is not finite is left out.
        title : str
            Of the horizontal axis.
        chosen : float, optional
            Value of the chosen cell.
        """
        self.show_bins(Bins.of(values), title, chosen)

    def show_bins(self, bins: Bins, title: str, chosen: float | None = None) -> None:
        """Draw a histogram that was counted elsewhere; see `show_values`."""
        self._draw_bars(bins)
        self.axes.set_xlabel(title)
        self._say("" if bins.n_values else "no values")
        self.mark(chosen)

    def show_text(self, text: str, title: str) -> None:
        """Say why nothing is drawn yet."""
        self._draw_bars(Bins.of(np.empty(0)))
        self.axes.set_xlabel(title)
        self._say(text)
        self.mark(None)

    def _draw_bars(self, bins: Bins) -> None:
        self.bars.set_data(bins.counts, bins.edges)
        self.axes.set_xlim(bins.edges[0], bins.edges[-1])
        self.axes.set_ylim(0, 1.05 * max(1, bins.counts.max()))

    def _say(self, text: str) -> None:
        self.nothing.set_text(text)
        self.nothing.set_visible(bool(text))

    def mark(self, chosen: float | None) -> None:
        """Draw a line at the value of the chosen cell, or none."""
        at = np.nan if chosen is None else chosen
        self.line.set_visible(bool(np.isfinite(at)))
        self.line.set_xdata([at, at])
        self.canvas.draw_idle()

    def colour(self, theme: Any) -> None:
        """Take the colours of a theme of napari."""
        text = hex_of(theme.text)
        self.canvas.figure.set_facecolor(hex_of(theme.background))
        self.axes.set_facecolor(hex_of(theme.foreground))
        self.bars.set_color(hex_of(theme.current))
        self.line.set_color(hex_of(theme.warning))
        self.axes.tick_params(colors=text, labelsize=8)
        for words in (self.axes.xaxis.label, self.axes.yaxis.label, self.nothing):
            words.set(color=text, fontsize=9)
        for name, spine in self.axes.spines.items():
            spine.set(color=text, visible=name in ("left", "bottom"))
        self.canvas.draw_idle()


def hex_of(color: Any) -> str:
    """Colour of a theme as matplotlib takes it, such as "#262930"."""
    return str(color.as_hex(format="long"))
