"""Search for regions that were edited, in slices that do not stop the window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.widgets.correct.review_state import review_of
from napari_unet_cells.widgets.timers import MakesTimers

#: Milliseconds without an event before the pixels are looked at, and between two slices of that.
QUIET, PAUSE = 100, 10

#: Seconds that one slice may take.
SLICE = 0.005


class EditedRegions:
    """Compares regions with what the run made, once the labels have been quiet for a moment.

    Parameters
    ----------
    view : MakesTimers
    at_hand : callable () -> (labels layer, Review or None)
    nearest : callable () -> Place
        The region to begin with.
    found : callable () -> None
        Called where the state of some region changed.
    """

    def __init__(
        self,
        view: MakesTimers,
        at_hand: Callable[[], tuple[Any, Review | None]],
        nearest: Callable[[], Place],
        found: Callable[[], None],
    ) -> None:
        self._at_hand, self._nearest, self._found = at_hand, nearest, found
        self._layer: Any = None
        self._review: Review | None = None
        self._places: Iterator[Place] = iter(())
        self._quiet = view.timer(QUIET, self._begin)
        self._looking = view.timer(PAUSE, self._look_on, repeats=True)

    @property
    def busy(self) -> bool:
        """Whether it searches, or is going to."""
        return self._quiet.isActive() or self._looking.isActive()

    def look_soon(self) -> None:
        """Search everywhere as soon as nothing was edited for a moment."""
        self._quiet.start()

    def start_anew(self) -> None:
        """Drop a search in other labels, and search in those at hand now."""
        self._review = None
        self._quiet.start()

    def _begin(self) -> None:
        self._layer, self._review = self._at_hand()
        if self._review is not None:
            self._places = self._nearest_first(self._review)
            self._looking.start()

    def _nearest_first(self, review: Review) -> Iterator[Place]:
        plane, number = self._nearest()
        yield plane, number
        yield from ((plane, other) for other in range(len(review.grid)) if other != number)
        yield from (place for place in review if place[0] != plane)

    def _look_on(self) -> None:
        review = self._review
        if review is None or review is not review_of(self._layer):
            self._looking.stop()
            return
        changed, end = False, time.perf_counter() + SLICE
        for place in self._places:
            changed |= review.look(self._layer.data, [place])
            if time.perf_counter() > end:
                break
        else:
            self._looking.stop()
        if changed:
            self._found()
