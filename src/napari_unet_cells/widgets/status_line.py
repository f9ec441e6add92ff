"""Line at the foot of the dock: cells now, saved when, and what computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget
from superqt import QElidingLabel

from napari_unet_cells.corrections.times import ago
from napari_unet_cells.layers.metadata import OURS
from napari_unet_cells.segmentation.messages import describe_count
from napari_unet_cells.segmentation.replacing import count_cells
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels

#: Milliseconds without a change after which the cells are counted.
PAUSE = 250

#: Milliseconds after which "saved 10 s ago" is brought up to date.
TICK = 5000


class StatusLine(Wired, QWidget):
    """Follows the corrections of one labels layer at a time.

    Parameters
    ----------
    device_label : QLabel
        What computes; the section that knows it writes it.
    saved_at : callable (labels layer) -> float or None
        When the corrections of a layer were written last, by `time.monotonic`.
    """

    def __init__(
        self, device_label: QLabel, saved_at: Callable[[Labels], float | None] = lambda layer: None
    ) -> None:
        super().__init__()
        self._saved_at = saved_at
        self._layer: Labels | None = None
        self._of_layer = self.wiring.part()
        self._counting = Worker(self)
        self._counting.progressed.connect(self._show_count)
        self.wiring.at_end(self._counting.stop)
        self._build(device_label)
        self._pause = _timer(self, PAUSE, self._count)
        self._pause.setSingleShot(True)
        _timer(self, TICK, self.show_saved).start()

    def _build(self, device_label: QLabel) -> None:
        self.count_label = QLabel("")
        self.count_label.setObjectName("status_count")
        self.count_label.setToolTip("Cells in the selected result, with your corrections.")
        self.saved_label = QLabel("")
        self.saved_label.setObjectName("status_saved")
        self.saved_label.setToolTip(
            "Corrections are saved every ten seconds, and can be restored after a crash."
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2, 0, 2, 0)
        layout.addWidget(self.count_label)
        layout.addWidget(self.saved_label)
        layout.addWidget(device_label, 1)

    def follow(self, layer: Labels | None) -> None:
        """Tell of another layer from now on; None for none."""
        if layer is not self._layer:
            self._layer = layer
            self._of_layer.release()
            if layer is not None:
                self._of_layer.connect(self._changed, *emitters(layer, PIXEL_EVENTS))
            self._count()
            self.show_saved()

    def _changed(self, event: object = None) -> None:
        self._pause.start()

    def _count(self) -> None:
        labels = None if self._layer is None else self._layer.data
        if isinstance(labels, np.ndarray):
            self._counting.start(partial(_count, labels, _linked_axis(self._layer)))
        else:
            self._counting.stop()
            self.count_label.setText("")

    def _show_count(self, n: object) -> None:
        if self._layer is not None:
            assert isinstance(n, int)
            self.count_label.setText(describe_count(n))

    def show_saved(self) -> None:
        """Say how long ago the corrections were saved; nothing before the first time."""
        at = None if self._layer is None else self._saved_at(self._layer)
        said = "" if at is None else f"· saved {ago(time.monotonic() - at)}"
        self.saved_label.setText(said)


def device_label() -> QLabel:
    """Make the label of the device, whose end is cut off in a narrow dock."""
    label = QElidingLabel("starting...")
    label.setObjectName("device_label")
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def _timer(parent: QWidget, milliseconds: int, action: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer


def _linked_axis(layer: Any) -> int | None:
    """Axis along which cells have one number; without any each plane is numbered on its own."""
    made = layer.metadata.get(OURS, {}).get("provenance", {})
    axis = 0 if "tracks" in made else made.get("parameters", {}).get("linked_along_axis")
    return axis if isinstance(axis, int) and 0 <= axis < layer.ndim - 2 else None


def _count(
    labels: NDArray[Any], link: int | None, stop: threading.Event
) -> Generator[int, None, None]:
    n = count_cells(labels, link, stop.is_set)
    if not stop.is_set():
        yield n
