"""Form of the options that separate cells again after a run, without the network."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QWidget
from superqt.utils import QSignalDebouncer

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.segment.values import AdjustValues

#: Milliseconds without a change after which the cells are separated anew.
PAUSE = 40


class AdjustForm(QWidget):
    """Sliders and boxes for `InstanceOptions`, in pixels of the image.

    `changed` comes when the user has changed a value and paused for a moment.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._made = InstanceOptions()
        self._before = AdjustValues()
        self._zoom = 1.0
        self.fields = Fields(AdjustValues())
        title = QLabel("Adjust what you have not corrected")
        title.setStyleSheet("font-weight: bold;")
        boxes = QHBoxLayout()
        for name in ("fill_holes", "drop_border"):
            boxes.addWidget(self.fields.native(name))
        self.form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(title)
        self.fields.add_to(form, "min_size", "split", "min_probability")
        form.addRow(boxes)
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(PAUSE)
        self._pause.triggered.connect(self.changed)
        self.fields.changed.connect(self._pause.throttle)

    def show_options(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show what a run was made with.

        Parameters
        ----------
        options : InstanceOptions
        zoom : float
            Of the run: size that the network saw by the size of the image.
        median_area : float
            Of the cells, in pixels of the image; the slider reaches to two times of it.
        """
        self._made, self._zoom = options, zoom
        values = AdjustValues.of(options, zoom)
        with self.fields.quiet():
            self.fields.widgets["min_size"].max = max(
                1, round(2 * median_area), 2 * values.min_size
            )
        self.fields.show(values)
        self._before = self.values

    @property
    def values(self) -> AdjustValues:
        """Values of the sliders and boxes."""
        return self.fields.values

    @property
    def options(self) -> InstanceOptions:
        """Options to separate the cells with, in pixels that the network saw."""
        return self.values.options(self._made, self._before, self._zoom)
