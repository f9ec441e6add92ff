"""Measure the cells of a labels layer in a thread, and again where they were edited."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import image_channels
from napari_unet_cells.layers.export_source import export_source
from napari_unet_cells.widgets.export.measurement import (
    Features,
    Measured,
    Measurement,
    MeasureValues,
    fragments_of,
)
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, SCALE_EVENTS, Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Milliseconds without an edit before the edited cells are measured.
QUIET = 300


class Measuring(Wired, QObject):
    """Keeps the table and the features of a labels layer up to date.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
    parent : QObject, optional

    Attributes
    ----------
    problem : str
        Why intensities are missing; empty where they are not.
    file : Path or None
        Where the image is not open, but its file is there.
    edits : int
        How often the pixels may have changed so far.
    gone : bool
        Whether the layer was deleted; the table then stays as it is.
    """

    started = Signal()
    measured = Signal(object)
    failed = Signal(str)
    deleted = Signal()

    def __init__(self, viewer: Viewer, layer: Labels, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._layer = viewer, layer
        self._last: Measurement | None = None
        self._dirty = False
        self._columns: tuple[str, ...] = ()
        self.gone = False
        self.edits = 0
        self.problem = ""
        self.file: Path | None = None
        self.worker = Worker(self)
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(QUIET)
        self._quiet.timeout.connect(self._look)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(self._done)
        self.worker.failed.connect(self._failed)
        self.wiring.connect(self._mark, *emitters(layer, PIXEL_EVENTS + SCALE_EVENTS))
        self.wiring.connect(self._removed, viewer.layers.events.removed)
        self.wiring.connect(self._added, viewer.layers.events.inserted)
        self.wiring.at_end(self.worker.stop)

    @property
    def busy(self) -> bool:
        """Whether an edit waits to be measured, or something is being measured."""
        return self._dirty or self.worker.running

    def start(self) -> None:
        """Measure all cells, in the images that are there now."""
        if self.gone:
            return
        try:
            values = MeasureValues.of(self._layer, self._viewer.layers)
        except UserError as error:
            self._failed(str(error))
            return
        self._dirty = False
        self.problem, self.file = values.problem() or "", values.channels.file
        self._last = Measurement(values)
        self._run(self._last.all)

    def _run(self, job: Callable[[threading.Event], Generator[object, None, None]]) -> None:
        self.worker.start(job)
        self.started.emit()

    def _mark(self, event: object = None) -> None:
        """Note that there may have been an edit; the pixels are looked at when all is quiet."""
        self._dirty = True
        self.edits += 1
        self._quiet.start()

    def _added(self, event: object = None) -> None:
        """Measure again where a new layer is the image that was missing."""
        if not self.problem or self.gone:
            return
        if image_channels(self._layer, self._viewer.layers).arrays:
            self.start()

    def _look(self) -> None:
        if self.gone or self.worker.running:  # `_done` looks again
            return
        try:
            source = export_source(self._layer, self._viewer.layers)
        except UserError as error:
            self._dirty = False
            self._failed(str(error))
            return
        self._dirty = False
        if self._last is None or not self._last.fits(source, fragments_of(self._layer)):
            self.start()
            return
        self._last.source = source
        self.worker.start(self._last.edited)

    def _receive(self, event: object) -> None:
        if isinstance(event, Measured):
            self.measured.emit(event)
        elif isinstance(event, Features) and not self.gone:
            self._set_features(event.columns or {})

    def _set_features(self, ours: dict[str, NDArray[Any]]) -> None:
        """Set the features; columns that others made are kept."""
        known = self._layer.features
        others = [name for name in known if name not in self._columns and name not in ours]
        if not ours and not self._columns:
            return  # nothing to set, nothing to take back
        n = max([len(known) if others else 0, *map(len, ours.values())])
        columns = {name: _lengthened(name, column, n) for name, column in ours.items()}
        columns |= {name: known[name].reindex(range(n)) for name in others}
        self._columns = tuple(ours)
        self._layer.features = columns

    def _done(self) -> None:
        if self._dirty and not self._quiet.isActive():
            self._quiet.start()

    def _failed(self, problem: str) -> None:
        self._last = None
        self.failed.emit(problem)

    def _removed(self, event: Any) -> None:
        if event.value is not self._layer:
            return
        self.gone, self._dirty = True, False
        self._quiet.stop()
        self.worker.cancel()
        self.deleted.emit()


def _lengthened(name: str, column: NDArray[Any], n: int) -> NDArray[Any]:
    if name == "index":
        return np.arange(n)
    longer = np.full(n, np.nan)
    longer[: len(column)] = column
    return longer
