"""Go back to an earlier result, also where its layer was removed. No Qt here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place
from napari_unet_cells.corrections.autosave import Session, session_of
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.corrections.left_results import keep, keep_soon
from napari_unet_cells.layers.metadata import RESULTS, fitting_review
from napari_unet_cells.segmentation.earlier import (
    EarlierResult,
    EarlierResults,
    RemovedLayer,
    brought_back,
)
from napari_unet_cells.segmentation.messages import describe_count
from napari_unet_cells.segmentation.replacing import ResultState
from napari_unet_cells.widgets.runner import Job, Runner
from napari_unet_cells.widgets.segment.earlier_results import (
    BroughtBack,
    Choice,
    add_again,
    described_as,
    left_in,
    pack,
    removed_lists,
)
from napari_unet_cells.widgets.segment.jobs import left_by
from napari_unet_cells.widgets.segment.live import adopt, bare, current, current_result, is_for
from napari_unet_cells.widgets.segment.runs import Answer, Runs
from napari_unet_cells.widgets.segment.selected import Selected
from napari_unet_cells.widgets.segment.view import View

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class Unpacked:
    """Labels of a layer that was removed, and the result that is wanted in it."""

    results: EarlierResults
    removed: RemovedLayer
    labels: NDArray[Any]
    result: EarlierResult


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a layer shows when an earlier result comes back into it."""

    result: EarlierResult
    state: ResultState
    approved: Mapping[Place, str]
    description: Mapping[str, Any]
    session: Session


class GoingBack:
    """Lists the results of the selected image, and brings one of them back.

    It owns the list as the user last saw it, and the thread that packs a removed layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    view : View
    selected : Selected
    runs : Runs
    thread : Runner
        Its answers come to `show`.
    look : callable
        Shows all that the selected cells have now, such as `SegmentController.look`.

    Attributes
    ----------
    packing : threading.Thread or None
        Packs the layer that was removed last.
    """

    def __init__(
        self,
        viewer: Viewer,
        view: View,
        selected: Selected,
        runs: Runs,
        thread: Runner,
        look: Callable[[], None],
    ) -> None:
        self._viewer, self._view, self._selected = viewer, view, selected
        self._runs, self._thread, self._look = runs, thread, look
        self._choice: Choice | None = None
        self.packing: threading.Thread | None = None

    @property
    def _results(self) -> EarlierResults | None:
        """Results of the selected labels; where those were removed, of the selected image."""
        layer = self._selected.followed
        if layer is not None:
            results = layer.metadata.get(RESULTS)
            is_its = isinstance(results, EarlierResults) and results.layer is layer
            return results if is_its else None
        return next(iter(removed_lists(self._viewer, self._selected.image)), None)

    def show_list(self) -> None:
        """List the results that can be chosen now: none during a run."""
        choice = Choice.of(self._viewer, None if self._runs.running else self._results)
        if choice != self._choice:
            self._choice = choice
            self._view.show_results(choice)

    def forget_list(self) -> None:
        """Have the list shown again: the window shows in it what the user chose."""
        self._choice = None

    def choose(self, number: int) -> None:
        """Bring a result of the list back.

        Parameters
        ----------
        number : int
            From the newest, which is 0.
        """
        results = self._results
        if results is None or self._runs.running or number >= len(results.items):
            return
        layer, result = results.layer, results.items[-1 - number]
        self.forget_list()  # whether the result comes or not
        if results.removed is not None:
            self._start(partial(_unpack, results, result))
            return
        if layer not in self._viewer.layers:
            self._viewer.add_layer(layer)  # it was removed, and not packed
        self._go_to(layer, result)

    def _go_to(self, layer: Labels, result: EarlierResult) -> None:
        self._viewer.layers.selection.active = layer
        layer.visible = True
        self._bring_back(layer, result)

    def _bring_back(self, layer: Labels, result: EarlierResult) -> None:
        shown, state, review = adopt(layer), current(layer), fitting_review(layer)
        if shown is None or shown is result or state is None or review is None:
            self._look()
            return
        description = describe(layer, self._viewer.layers)
        now = _Shown(shown, state, dict(review.approved), description, session_of(review))
        self._start(partial(_bring_back, layer, result, now))

    def _start(self, job: Job) -> None:
        self._thread.start(self._runs.numbered(job))

    def show(self, answer: Answer) -> None:
        """Show a result that comes back, unless another run has begun since."""
        event = answer.event
        if isinstance(event, Unpacked):
            self._show_unpacked(event)
        elif isinstance(event, BroughtBack):
            self._show_brought_back(event, self._runs.is_late(answer))

    def _show_unpacked(self, event: Unpacked) -> None:
        if event.results.removed is event.removed:
            layer = add_again(self._viewer, event.results, event.labels)
            self._view.layer_came_back()
            self._go_to(layer, event.result)

    def _show_brought_back(self, event: BroughtBack, is_late: bool) -> None:
        layer, change = event.layer, event.change
        is_there = layer in self._viewer.layers and current(layer) is change.old
        if is_late or not is_there:
            self._look()
            return
        if not is_for(change, layer):  # corrected or approved meanwhile
            self._bring_back(layer, event.result)
            return
        event.show()
        self._look()
        is_classes = change.new.origin.is_classes
        said = "Classes" if is_classes else describe_count(change.n_cells)
        self._view.say(f"{said}, as you left them. Ctrl+Z takes this back.")

    def keep_undone(self, layer: Labels, result: EarlierResult) -> None:
        """Keep on the disk what undo or redo took away, where a person had made it."""
        review = fitting_review(layer)
        if review is None or not result.was_left or current_result(layer) is result:
            return
        description = described_as(layer, self._viewer, result)
        left = replace(result.left, approved=result.approved)
        keep_soon(result, left, description, session_of(review).exports)

    def pack_removed(self, layer: Layer) -> None:
        """Pack a layer that was removed, where it had results: it can come back."""
        kept = bare(layer).metadata.get(RESULTS)
        if isinstance(kept, EarlierResults) and kept.layer is bare(layer):
            adopt(kept.layer)
            self.packing = threading.Thread(target=_pack, args=(kept, pack(kept.layer)))
            self.packing.start()


def _pack(results: EarlierResults, removed: RemovedLayer) -> None:
    """Pack what is in a layer that was removed, and let go of the layer; this is a thread."""
    layer = results.layer
    left = left_in(layer)
    if left is None or results.layer is not layer:
        return
    removed.result.leave(left)
    results.removed, results.layer = removed, None


def _unpack(
    results: EarlierResults, result: EarlierResult, stop: threading.Event
) -> Generator[object, None, None]:
    removed = results.removed
    if removed is not None:
        labels = removed.result.left.labels.unpacked()
        yield Unpacked(results, removed, labels, result)


def _bring_back(
    layer: Labels, result: EarlierResult, shown: _Shown, stop: threading.Event
) -> Generator[object, None, None]:
    change = brought_back(layer.data, shown.state, shown.approved, result.left)
    left = left_by(change, shown.approved)
    keep(shown.result, left, shown.description, shown.session.exports)
    yield BroughtBack(layer, result, change, left)
