"""Base of forms that have a controller: it gives them what needs Qt."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_unet_cells.widgets.canvas import focus_canvas
from napari_unet_cells.widgets.timers import Timer
from napari_unet_cells.widgets.wiring import Wired


class ControlledForm(Wired, QWidget):
    """Form that shows what its controller says, and offers it timers and the keyboard."""

    def timer(self, milliseconds: int, action: Callable[[], None], repeats: bool = False) -> Timer:
        """Make a timer that ends with the form; see `timers.MakesTimers`."""
        timer = QTimer(self)
        timer.setSingleShot(not repeats)
        timer.setInterval(milliseconds)
        timer.timeout.connect(action)
        made: Timer = timer
        return made

    def focus_canvas(self) -> None:
        """Give the keyboard to the image, so that Ctrl+Z and the layer's own keys work."""
        focus_canvas(self)
