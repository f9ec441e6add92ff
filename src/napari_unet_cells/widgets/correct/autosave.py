"""Corrections kept on the disk while they are made, and offered again after a crash.

A round of saving goes through the thread twice, so that the window never waits::

    GUI thread     mark what may have changed         copy it               note
                             │                        ▲     │                 ▲
    thread                   └──> look where it has ──┘     └──> write it ────┘

The thread may look at labels that are painted on, since it only asks where. What is written
was copied in the GUI thread, region by region, so no region is ever half a stroke.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.corrections.autosave import (
    NotSaved,
    Session,
    Snapshot,
    copy_of,
    describe,
    session_of,
)
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import REVIEW
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wired, Wiring, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Seconds from one save to the next.
INTERVAL = 10

#: Seconds of copying until the window gets a turn.
SLICE = 0.006

#: Seconds that the end of the window may take.
LAST = 3.0

#: Looking through planes that are not shown may take one part in this of the time, unless
#: they were not looked at for so many seconds.
RARELY, LATEST = 20, 60


class _Watched:
    """One labels layer that is corrected, and what of it may differ from the last save."""

    def __init__(self, viewer: Viewer, layer: Labels, review: Review, session: Session) -> None:
        self._viewer = viewer
        self.layer, self.review, self.session = layer, review, session
        self.description: dict[str, Any] = {}
        self.removed = False
        #: Planes that were shown when something happened, and those that a round looks at.
        self.planes: set[tuple[int, ...]] = set()
        self.looking: set[tuple[int, ...]] = set()
        self.anywhere = True
        self.looking_anywhere = False
        self.next_look = 0.0
        self.pending = False
        self._approved: dict[Place, str] = {}
        self.wiring = Wiring()
        self.wiring.connect(self.mark, *emitters(layer, PIXEL_EVENTS))

    @property
    def labels(self) -> NDArray[Any]:
        labels: NDArray[Any] = self.layer.data
        return labels

    @property
    def fits(self) -> bool:
        """Whether the labels are still those of the review."""
        return _review_of(self.layer) is self.review

    def mark(self, event: object = None) -> None:
        """Note that there may have been an edit; the pixels are looked at later."""
        plane = self._shown()
        if plane is not None:
            self.planes.add(plane)
        # undo may reach another plane than the one that is shown; a plane has no others
        self.anywhere = self.anywhere or plane != ()

    def _shown(self) -> tuple[int, ...] | None:
        """Plane that is shown; None where the axes are turned."""
        dims, n = self._viewer.dims, self.layer.ndim
        if dims.ndisplay != 2 or list(dims.order[-2:]) != [dims.ndim - 2, dims.ndim - 1]:
            return None
        if n == 2:
            return ()
        point = self.layer.world_to_data(dims.point[-n:])[: n - 2]
        lengths = self.review.planes
        return tuple(
            min(max(0, round(float(x))), length - 1)
            for x, length in zip(point, lengths, strict=True)
        )

    def places(self, now: float) -> list[Place]:
        """Where to look, the shown planes first; what is asked for is remembered as looked at."""
        self.looking |= self.planes
        self.planes = set()
        if self.anywhere and now >= self.next_look:
            self.looking_anywhere, self.anywhere = True, False
        return self._places()

    def _places(self) -> list[Place]:
        planes = sorted(self.looking)
        if self.looking_anywhere:
            lengths = self.review.planes
            planes += [p for p in product(*map(range, lengths)) if p not in self.looking]
        return list(product(planes, range(len(self.review.grid))))

    @property
    def marked(self) -> bool:
        """Whether something may have changed since the last round began."""
        return self.anywhere or bool(self.planes)

    @property
    def wants_a_save(self) -> bool:
        """Whether there is something to save though no pixel may have changed."""
        return self.pending or self.review.approved != self._approved

    def snapshot(self, copies: dict[Place, NDArray[Any]], dtype: np.dtype[Any]) -> Snapshot:
        self.description = describe(self.layer, self._viewer.layers, self.description)
        self._approved = dict(self.review.approved)
        self.pending = True
        return Snapshot(self.review, self.review.as_dict(), self.description, dtype, copies)

    def note_saved(self) -> None:
        self.looking, self.looking_anywhere, self.pending = set(), False, False


def _review_of(layer: Labels) -> Review | None:
    """Review of a labels layer whose corrections can be saved."""
    review = layer.metadata.get(REVIEW)
    if not isinstance(review, Review) or not isinstance(layer.data, np.ndarray):
        return None
    return review if review.fits(layer.data) else None


class _Watch:
    """All labels layers of a viewer that are corrected. It needs no Qt: that may be gone.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.watched: list[_Watched] = []
        self._warned = self.closed = False
        self._wiring = Wiring()
        self._wiring.connect(self.find, viewer.layers.events.inserted)
        self._wiring.connect(self._remove, viewer.layers.events.removed)
        # at the end of napari it is not certain that any object of Qt says so
        atexit.register(self.close)
        self.find()

    def find(self, event: object = None) -> None:
        """Watch layers that came, or became ours, and end with those that did not stay so."""
        for watched in self.watched[:]:
            if not watched.removed and not watched.fits:
                self._forget(watched)
                # approvals of a result that was replaced, and not corrected, are of no use
                end = Session.discard if watched.session.is_clean else Session.release
                end(watched.session)
        for layer in self._viewer.layers:
            review = _review_of(layer)
            known = any(w.layer is layer and not w.removed for w in self.watched)
            if review is not None and not known:
                self.watched.append(_Watched(self._viewer, layer, review, self._session(review)))

    def _session(self, review: Review) -> Session:
        """Give the session of a review, or another one to a copy of its layer.

        A layer that replaces another one, of another data type, goes on with its session.
        """
        session = session_of(review)
        holder = next((w for w in self.watched if w.session is session), None)
        if holder is None:
            session.claim()
            return session
        if holder.removed:
            self.watched.remove(holder)
            return session
        return Session()

    def _remove(self, event: Any) -> None:
        """Save the labels once more; a layer with the same review takes the session over."""
        gone = next((w for w in self.watched if w.layer is event.value and not w.removed), None)
        if gone is None:
            return
        gone.wiring.release()
        heirs = [w for w in self.watched if w.review is gone.review and w.session.folder is None]
        heir = next((w for w in heirs if w is not gone), None)
        if heir is not None and session_of(gone.review) is gone.session:
            heir.session, heir.anywhere, heir.next_look = gone.session, True, 0.0
            self.watched.remove(gone)
        else:
            gone.removed, gone.next_look = True, 0.0

    def leave(self, watched: _Watched) -> None:
        """Let go of a removed layer that was saved."""
        self._forget(watched)
        watched.session.release()

    def _forget(self, watched: _Watched) -> None:
        watched.wiring.release()
        self.watched.remove(watched)

    def flush(self, seconds: float) -> None:
        """Save all, now and in this thread, as far as the time allows."""
        deadline = time.monotonic() + seconds
        for watched in self.watched[:]:
            if watched.fits:
                self._flush(watched, deadline)

    def _flush(self, watched: _Watched, deadline: float) -> None:
        labels = watched.labels
        places = _until(deadline, watched.places(float("inf")))
        found = watched.session.changed(labels, watched.review, places)
        copies = {place: copy_of(labels, watched.review, place) for place in found}
        if copies or watched.wants_a_save:
            try:
                watched.session.write(watched.snapshot(copies, labels.dtype))
            except NotSaved as error:
                self.warn(str(error))
                return
            self.calm()
        if time.monotonic() <= deadline:  # else the next round looks at what is left
            watched.note_saved()

    def warn(self, problem: str) -> None:
        """Say a sentence, once until a save succeeds again."""
        if self.closed:
            logging.getLogger(__name__).warning(problem)
        elif not self._warned:
            self._warned = True
            show_warning(problem)

    def calm(self) -> None:
        """Note that a save succeeded."""
        self._warned = False

    def close(self) -> None:
        """Save all and let go of all; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        self._wiring.release()
        self.flush(LAST)
        for watched in self.watched[:]:
            self.leave(watched)


def _until(deadline: float, places: Iterable[Place]) -> Generator[Place, None, None]:
    for place in places:
        if time.monotonic() > deadline:
            return
        yield place


@dataclass(frozen=True)
class _Looked:
    """Where the labels of a layer differ from the last save."""

    watched: _Watched
    places: list[Place]
    seconds: float


@dataclass(frozen=True)
class _Wrote:
    """A layer was saved; `problem` says why not."""

    watched: _Watched
    problem: str = ""


def _look(
    jobs: list[tuple[_Watched, NDArray[Any], list[Place]]], stop: threading.Event
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
    snapshots: list[tuple[_Watched, Snapshot]], stop: threading.Event
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
        self._watch = _Watch(viewer)
        # not a daemon: a file that is being written is finished
        self.worker = Worker(self, daemon=False)
        self.timer = QTimer(self)
        self.timer.setInterval(1000 * INTERVAL)
        self._turn = QTimer(self)
        self._turn.setInterval(0)
        self._to_copy: deque[tuple[_Watched, Place]] = deque()
        self._copies: dict[_Watched, dict[Place, NDArray[Any]]] = {}
        self.timer.timeout.connect(self.save)
        self._turn.timeout.connect(self._copy)
        self.worker.progressed.connect(self._receive)
        self.worker.done.connect(self._done)
        self.worker.failed.connect(self._failed)
        self.wiring.at_end(self._watch.close)
        self.wiring.at_end(self.worker.stop)
        self.timer.start()

    @property
    def busy(self) -> bool:
        """Whether a round of saving is on its way."""
        return self.worker.running or self._turn.isActive()

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
        event.watched.note_saved()
        self._let_go(event.watched)

    def _let_go(self, watched: _Watched) -> None:
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
        start = time.monotonic()
        while self._to_copy and time.monotonic() - start < SLICE:
            watched, place = self._to_copy.popleft()
            if watched.fits:
                self._copies[watched][place] = copy_of(watched.labels, watched.review, place)
        if self._to_copy:
            return
        self._turn.stop()
        copies, self._copies = self._copies, {}
        snapshots = [(w, w.snapshot(c, w.labels.dtype)) for w, c in copies.items() if w.fits]
        self.worker.start(partial(_write, snapshots))
