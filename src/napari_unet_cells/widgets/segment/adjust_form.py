"""Form of the options that separate cells again after a run, without the network."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QLabel, QSlider, QWidget

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.widgets.segment.values import AdjustValues

#: Steps of a slider.
STEPS = 100

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
        self._largest = 1
        self.min_size = QSlider(Qt.Orientation.Horizontal)
        self.split = QSlider(Qt.Orientation.Horizontal)
        self.min_probability = QSlider(Qt.Orientation.Horizontal)
        sliders = (self.min_size, self.split, self.min_probability)
        for slider in sliders:
            slider.setRange(0, STEPS)
        self._min_size_label, self._split_label, self._min_probability_label = (
            QLabel() for _ in sliders
        )
        self.fill_holes = QCheckBox("Fill holes")
        self.drop_border = QCheckBox("Drop cut cells")
        self.min_size.setToolTip(
            "Cells of fewer pixels join a cell that they touch, or are dropped."
        )
        self.split.setToolTip("Higher splits touching cells more readily.")
        self.min_probability.setToolTip(
            "Drops cells whose mean probability is lower, such as debris. 0 % keeps every cell."
        )
        self.fill_holes.setToolTip("Fill holes inside cells.")
        self.drop_border.setToolTip("Drop cells that touch the border of the image.")
        self.form = form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Minimum size", _row(self.min_size, self._min_size_label))
        form.addRow("Split", _row(self.split, self._split_label))
        # In two lines, else its slider would be short.
        form.addRow(
            "Probability\nthreshold", _row(self.min_probability, self._min_probability_label)
        )
        form.addRow(_row(self.fill_holes, self.drop_border))
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE)
        self._timer.timeout.connect(self.changed)
        for slider in sliders:
            slider.valueChanged.connect(self._changed)
        for box in (self.fill_holes, self.drop_border):
            box.toggled.connect(self._changed)

    def show_options(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show what a run was made with.

        Parameters
        ----------
        options : InstanceOptions
        zoom : float
            Of the run: size that the network saw by the size of the image.
        median_area : float
            Of the cells, in pixels of the image; the slider reaches to four times of it.
        """
        self._made, self._zoom = options, zoom
        values = AdjustValues.of(options, zoom)
        self._largest = max(1, round(4 * median_area), 2 * values.min_size)
        widgets = (
            self.min_size,
            self.split,
            self.min_probability,
            self.fill_holes,
            self.drop_border,
        )
        for widget in widgets:
            widget.blockSignals(True)
        # A square root, since small areas matter most.
        self.min_size.setValue(round(STEPS * (values.min_size / self._largest) ** 0.5))
        self.split.setValue(round(STEPS * values.split))
        self.min_probability.setValue(round(STEPS * values.min_probability))
        self.fill_holes.setChecked(values.fill_holes)
        self.drop_border.setChecked(values.drop_border)
        for widget in widgets:
            widget.blockSignals(False)
        self._before = self.values
        self._show_values()

    @property
    def values(self) -> AdjustValues:
        """Values of the sliders and boxes."""
        return AdjustValues(
            round(self._largest * (int(self.min_size.value()) / STEPS) ** 2),
            self.split.value() / STEPS,
            self.min_probability.value() / STEPS,
            self.fill_holes.isChecked(),
            self.drop_border.isChecked(),
        )

    @property
    def options(self) -> InstanceOptions:
        """Options to separate the cells with, in pixels that the network saw."""
        return self.values.options(self._made, self._before, self._zoom)

    def _changed(self, *_: object) -> None:
        self._show_values()
        self._timer.start()

    def _show_values(self) -> None:
        self._min_size_label.setText(f"{self.values.min_size} px")
        self._split_label.setText(f"{self.split.value()} %")
        self._min_probability_label.setText(f"{self.min_probability.value()} %")


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        if isinstance(widget, QLabel):
            widget.setFixedWidth(60)
        layout.addWidget(widget)
    return row
