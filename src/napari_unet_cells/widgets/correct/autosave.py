"""Save corrections while they are made, in a thread, so that a crash loses none.

A round of saving goes through the thread twice, so that the window never waits::

    GUI thread     mark what may have changed         copy it               note
                             │                        ▲     │                 ▲
    thread                   └──> look where it has ──┘     └──> write it ────┘

The thread may look at labels that are painted on, since it only asks where. What is written
was copied in the GUI thread, region by region, so no region is ever half a stroke.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.corrections.autosave import (
    Snapshot,
    copy_of,
    note_written,
)
from napari_unet_cells.corrections.left_results import settle
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers import writer
from napari_unet_cells.layers.metadata import REVIEW
from napari_unet_cells.widgets.correct.watched_labels import LAST, LabelsWatch, WatchedLabels
from napari_unet_cells.widgets.segment.live import current_result
from napari_unet_cells.widgets.wiring import Wired
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Seconds from one save to the next.
INTERVAL = 10

#: Seconds of copying until the window gets a turn.
SLICE = 0.006

#: Looking through planes that are not shown may take one part in this of the time, unless
#: they were not looked at for so many seconds.
RARELY, LATEST = 20, 60


def _note_saved(path: Path, labels: Any, metadata: Mapping[str, Any]) -> Callable[[], None]:
    """Note corrections that napari saves, and so need not be restored."""
    review = metadata.get(REVIEW)
    if isinstance(review, Review) and isinstance(labels, np.ndarray) and review.fits(labels):
        return note_written(path, labels, review)
    return lambda: None


@dataclass(frozen=True)
class _Looked:
    """Where the labels of a layer differ from the last save."""

    watched: WatchedLabels
    places: list[Place]
    seconds: float


@dataclass(frozen=True)
class _Wrote:
    """A layer was saved; `problem` says why not."""

    watched: WatchedLabels
    problem: str = ""


def _look(
    jobs: list[tuple[WatchedLabels, NDArray[Any], list[Place]]], stop: threading.Event
) -> Generator[object, None, None]:
    """Look where labels were changed; this is the thread."""
    for watched, labels, places in jobs:
        start = time.monotonic()
        found = []
        for place in watched.session.changed(labels, watched.review, places):
            found.append(place)
            if stop.is_set():
                return
        yield _Looked(watched, found, time.monotonic() - start)


def _write(
    snapshots: list[tuple[WatchedLabels, Snapshot]], stop: threading.Event
) -> Generator[object, None, None]:
    """Write what was copied; this is the thread."""
    for watched, snapshot in snapshots:
        try:
            watched.session.write(snapshot, stop)
        except UserError as error:
            yield _Wrote(watched, str(error))
        else:
            yield _Wrote(watched)


class Autosave(Wired, QObject):
    """Saves the corrections of all our labels layers of a viewer every `INTERVAL` seconds.

    It ends by itself with its parent, with napari, or with `close`; what was corrected since
    the last save is saved then.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QObject, optional
    """

    #: A round of saving came to its end, also where there was nothing to save.
    saved = Signal()
    #: A layer left the viewer, and its corrections are there to be restored.
    left = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._watch = LabelsWatch(viewer)
        # not a daemon: a file that is being written is finished
        self.worker = Worker(self, daemon=False)
        self.timer = QTimer(self)
        self.timer.setInterval(1000 * INTERVAL)
        self._turn = QTimer(self)
        self._turn.setInterval(0)
        self._to_copy: deque[tuple[WatchedLabels, Place]] = deque()
        self._copies: dict[WatchedLabels, dict[Place, NDArray[Any]]] = {}
        self.timer.timeout.connect(self.save)
        self._turn.timeout.connect(self._copy)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(self._done)
        self.worker.failed.connect(self._failed)
        self.wiring.append(writer.observers, _note_saved)
        self.wiring.at_end(self._watch.close)
        self.wiring.at_end(self.worker.stop)
        self.timer.start()

    @property
    def busy(self) -> bool:
        """Whether a round of saving is on its way."""
        return self.worker.running or self._turn.isActive()

    def saved_at(self, layer: Labels) -> float | None:
        """Time by `time.monotonic` of the last save of a layer; None before the first."""
        return next((w.saved_at for w in self._watch.watched if w.layer is layer), None)

    @property
    def ended(self) -> bool:
        """Whether it saved for the last time."""
        return self._watch.closed

    def save(self) -> None:
        """Start a round of saving, unless one is on its way."""
        self._watch.find()
        if self.busy:
            return
        now = time.monotonic()
        jobs = [(w, w.labels, w.places(now)) for w in self._watch.watched if w.fits]
        jobs = [job for job in jobs if job[2] or job[0].wants_a_save or job[0].removed]
        if jobs:
            self.worker.start(partial(_look, jobs))
        else:
            self.saved.emit()

    def flush(self) -> None:
        """Save now, in this thread; for tests, and before something that may go wrong."""
        self._stop()
        self._watch.find()
        self._watch.flush(LAST)

    def close(self) -> None:
        """Save now and end."""
        self._stop()
        self.timer.stop()
        self._watch.close()

    def _stop(self) -> None:
        """End a round; what it looked at is looked at again by the next one."""
        self.worker.cancel()
        self._turn.stop()
        self._to_copy.clear()
        self._copies.clear()

    def _receive(self, event: object) -> None:
        if isinstance(event, _Looked):
            self._note_looked(event)
        elif isinstance(event, _Wrote):
            self._note_written(event)

    def _note_looked(self, event: _Looked) -> None:
        watched = event.watched
        if watched.looking_anywhere:
            watched.next_look = time.monotonic() + min(RARELY * event.seconds, LATEST)
        if event.places or watched.wants_a_save:
            self._copies[watched] = {}
            self._to_copy.extend((watched, place) for place in event.places)
        else:
            watched.note_saved()
            self._let_go(watched)

    def _note_written(self, event: _Wrote) -> None:
        if event.problem:
            self._watch.warn(event.problem)
            return
        self._watch.calm()
        event.watched.saved_at = time.monotonic()
        event.watched.note_saved()
        self._settle(event.watched)
        self._let_go(event.watched)

    def _settle(self, watched: WatchedLabels) -> None:
        """Delete what was kept of an earlier result that came back, and is saved here now."""
        result = current_result(watched.layer)
        if result is not None and watched.session.is_current(watched.review):
            settle(result, watched.session)

    def _let_go(self, watched: WatchedLabels) -> None:
        if watched.removed and not watched.marked and watched in self._watch.watched:
            self._watch.leave(watched)
            if watched.session.folder is not None:
                self.left.emit()

    def _done(self) -> None:
        """Go on with the other half of the round, or end it."""
        if self._copies:
            self._turn.start()
        else:
            self.saved.emit()

    def _failed(self, problem: str) -> None:
        self._copies.clear()
        self._to_copy.clear()
        self._watch.warn(problem)

    def _copy(self) -> None:
        """Copy some of the regions; the last turn hands all of them to the thread."""
        end = time.monotonic() + SLICE
        while self._to_copy and time.monotonic() < end:
            watched, place = self._to_copy.popleft()
            if watched.fits:
                self._copies[watched][place] = copy_of(watched.labels, watched.review, place)
        if self._to_copy:
            return
        self._turn.stop()
        copies, self._copies = self._copies, {}
        # Else parts of two results would be saved as one; the next round saves the newer one.
        whole = [(w, c) for w, c in copies.items() if w.fits and w.is_whole]
        snapshots = [(w, w.snapshot(c, w.labels.dtype)) for w, c in whole]
        self.worker.start(partial(_write, snapshots))
