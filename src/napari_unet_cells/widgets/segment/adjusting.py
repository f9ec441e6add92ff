"""Adjust cells after the run: other thresholds separate them anew. No Qt here."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.regions import Place
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.layers.selection import review_problem
from napari_unet_cells.segmentation.messages import describe_count
from napari_unet_cells.segmentation.replacing import Origin, Replacement, ResultState, adjust
from napari_unet_cells.widgets.runner import Runner
from napari_unet_cells.widgets.segment.live import bare, current, follow, is_for, put
from napari_unet_cells.widgets.segment.runs import Answer, Runs
from napari_unet_cells.widgets.segment.selected import Selected
from napari_unet_cells.widgets.segment.view import View

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Cells of a layer that were separated again."""

    layer: Labels
    options: InstanceOptions
    change: Replacement


class Adjusting:
    """Offers the thresholds of the selected cells, and separates these anew.

    It owns what the sliders show: the thresholds of which run, and in which layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    view : View
    selected : Selected
    runs : Runs
    thread : Runner
        Its answers come to `show`.
    """

    def __init__(
        self, viewer: Viewer, view: View, selected: Selected, runs: Runs, thread: Runner
    ) -> None:
        self._viewer, self._view, self._selected = viewer, view, selected
        self._runs, self._thread = runs, thread
        self._offered: Origin | None = None
        self._offered_of: Labels | None = None

    @property
    def problem(self) -> str | None:
        """Say why the selected cells cannot be adjusted; empty where they can, None without."""
        layer = self._selected.cells
        if layer is None or self._runs.running:
            return None
        problem = review_problem(layer)
        if problem:
            return problem
        state = current(layer)
        if state is not None and state.origin.is_of_parts:
            return (
                "A part of these cells comes from a run of its own, so they cannot be adjusted "
                "together. To adjust them, segment the whole image (under Where)."
            )
        if state is None or not state.origin.fragments:
            return (
                "These cells were opened from a file; run Segment to adjust them."
                if state is None or state.origin.details is None
                else "What is needed to adjust these cells was given up for memory; run Segment."
            )
        return ""

    def offer(self) -> None:
        """Let the sliders show the thresholds of the selected cells, or say why there are none."""
        problem = self.problem
        layer = self._selected.cells if problem == "" else None
        if layer is not None:
            state = current(layer)
            assert state is not None
            self._offer(layer, state.origin)
        self._view.show_adjustable(problem)

    def _offer(self, layer: Labels, origin: Origin) -> None:
        if origin is self._offered or origin.options is None:
            return
        if layer is self._offered_of:
            self._view.say("")  # undo or redo: the cells that were counted are not these
        self._offered, self._offered_of = origin, layer
        zoom = origin.fragments.zoom
        self._view.offer_adjustment(origin.options, zoom, origin.median_area)

    def forget_layer(self, layer: Layer | None = None) -> None:
        """Let what is said no longer be about a layer that was offered; by default about any."""
        if layer is None or self._offered_of is bare(layer):
            self._offered_of = None

    def adjust(self, options: InstanceOptions) -> None:
        """Separate the selected cells anew, except what was corrected or approved."""
        layer = self._selected.cells
        if layer is None or self.problem != "":
            return
        follow(layer)
        state, review = current(layer), fitting_review(layer)
        assert state is not None
        if review is None:
            self._view.warn(
                f"The pixels of '{layer.name}' were replaced by others of another size. Run "
                "Segment to adjust the cells."
            )
            return
        job = partial(_adjust, layer, state, frozenset(review.approved), options)
        self._thread.start(self._runs.numbered(job))

    def show(self, answer: Answer) -> None:
        """Show cells that were separated anew, unless another run has begun since."""
        event = answer.event
        assert isinstance(event, Adjusted)
        layer, change = event.layer, event.change
        is_there = layer in self._viewer.layers and current(layer) is change.old
        if self._runs.is_late(answer) or not is_there:
            return
        if not is_for(change, layer):  # corrected or approved meanwhile
            if layer is self._selected.cells:
                self.adjust(event.options)
            return
        # The sliders are where the user put them.
        self._offered, self._offered_of = change.new.origin, layer
        put(layer, change)
        self._view.say(describe_count(change.n_cells))


def _adjust(
    layer: Labels,
    state: ResultState,
    approved: frozenset[Place],
    options: InstanceOptions,
    stop: threading.Event,
) -> Generator[object, None, None]:
    yield Adjusted(layer, options, adjust(layer.data, state, approved, options))
