"""Labels layers that are corrected: what of them may differ from the last save. Without Qt."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Generator, Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.corrections.autosave import (
    NotSaved,
    Session,
    Snapshot,
    copy_of,
    session_of,
)
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wiring, emitters

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

#: Seconds that the end of the window may take.
LAST = 3.0


class WatchedLabels:
    """One labels layer that is corrected, and what of it may differ from the last save."""

    def __init__(
        self, viewer: ViewerModel, layer: Labels, review: Review, session: Session
    ) -> None:
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
        #: By `time.monotonic`; None before the first time.
        self.saved_at: float | None = None
        self._approved: dict[Place, str] = {}
        self._baseline = review.baseline
        self.wiring = Wiring()
        self.wiring.connect(self.mark, *emitters(layer, PIXEL_EVENTS))

    @property
    def labels(self) -> NDArray[Any]:
        """The layer's own pixels, not a copy."""
        labels: NDArray[Any] = self.layer.data
        return labels

    @property
    def fits(self) -> bool:
        """Whether the labels are still those of the review."""
        return fitting_review(self.layer) is self.review

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
        """Places to look at, the shown planes first; they are remembered as looked at."""
        self.looking |= self.planes
        self.planes = set()
        self._baseline = self.review.baseline
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
    def is_whole(self) -> bool:
        """Whether the program replaced no labels since the round looked where they changed."""
        return self._baseline is self.review.baseline

    @property
    def marked(self) -> bool:
        """Whether something may have changed since the last round began."""
        return self.anywhere or bool(self.planes)

    @property
    def wants_a_save(self) -> bool:
        """Whether there is something to save though no pixel may have changed."""
        changed = self.review.approved != self._approved
        return self.pending or changed or not self.session.is_current(self.review)

    def snapshot(self, copies: dict[Place, NDArray[Any]], dtype: np.dtype[Any]) -> Snapshot:
        """Take what is saved with copies of the regions that changed."""
        self.description = describe(self.layer, self._viewer.layers, self.description)
        self._approved = dict(self.review.approved)
        self.pending = True
        values = self.review.as_dict()
        return Snapshot(self.review.baseline, values, self.description, dtype, copies)

    def note_saved(self) -> None:
        """Note that what was looked at is saved."""
        self.looking, self.looking_anywhere, self.pending = set(), False, False


class LabelsWatch:
    """All labels layers of a viewer that are corrected. It needs no Qt: that may be gone.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self.watched: list[WatchedLabels] = []
        self._warned = self.closed = False
        self._wiring = Wiring()
        self._wiring.connect(self.find, viewer.layers.events.inserted)
        self._wiring.connect(self._remove, viewer.layers.events.removed)
        # when napari ends, no object of Qt may be left to say so
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
            review = fitting_review(layer)
            known = any(w.layer is layer and not w.removed for w in self.watched)
            if review is not None and not known:
                self.watched.append(
                    WatchedLabels(self._viewer, layer, review, self._session(review))
                )

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

    def leave(self, watched: WatchedLabels) -> None:
        """Let go of a removed layer that was saved."""
        self._forget(watched)
        watched.session.release()

    def _forget(self, watched: WatchedLabels) -> None:
        watched.wiring.release()
        self.watched.remove(watched)

    def flush(self, seconds: float) -> None:
        """Save all, now and in this thread, as far as the time allows."""
        deadline = time.monotonic() + seconds
        for watched in self.watched[:]:
            if watched.fits:
                self._flush(watched, deadline)

    def _flush(self, watched: WatchedLabels, deadline: float) -> None:
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
