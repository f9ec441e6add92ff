"""State of a result in its layer, which follows napari's undo and redo.

Every change by the program is one item of the layer's history, between two marks::

    undo history   stroke, [mark 1 | mark 2], stroke | here | [mark 2 | mark 3]   redo history

So the mark that holds here is known from the history alone, however far the user went back.
"""

from __future__ import annotations

import weakref
from copy import deepcopy
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels, Place, Review
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    OURS,
    RESULTS,
    REVIEW,
    STATE,
    fitting_review,
    result_metadata,
)
from napari_unet_cells.segmentation.earlier import EarlierResult, EarlierResults, Left
from napari_unet_cells.segmentation.replacing import Origin, Replacement, ResultState

if TYPE_CHECKING:
    from napari.layers import Labels


class Mark:
    """A place in the undo history, the state of the result there, and which result it is."""

    def __init__(self, layer: Labels, state: ResultState, result: EarlierResult) -> None:
        self.state, self.result = state, result
        self._began = state
        self._layer = weakref.ref(bare(layer))

    def take_thresholds(self, origin: Origin) -> None:
        """Note thresholds that gave the same labels: there is no step of undo from the old ones."""
        moved = _differing(self._began.origin.options, self.state.origin.options)
        if not _differing(self.state.origin.options, origin.options) <= moved:
            self._began = self.state  # another slider
        self.state = replace(self.state, origin=origin)

    def begin_step(self, origin: Origin) -> None:
        """Go back to where a slider began to move, which has now changed the labels."""
        moved = _differing(self._began.origin.options, self.state.origin.options)
        if moved and _differing(self.state.origin.options, origin.options) <= moved:
            self.state = self._began

    def is_of(self, layer: Labels) -> bool:
        """Whether it belongs to a layer, and not to one that this is a copy of."""
        return self._layer() is bare(layer)


class _Pixels:
    """Pixels of one region in the undo history, unpacked when they are asked for."""

    def __init__(self, packed: PackedLabels, place: Place, mark: Mark) -> None:
        self.packed, self.place, self.mark = packed, place, mark

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return self.packed[self.place].astype(dtype or self.packed.dtype)


def bare(layer: Any) -> Any:
    """Give a layer itself: napari hands plugins a proxy, which warns of private names."""
    return getattr(layer, "__wrapped__", layer)


def begin(layer: Labels, result: EarlierResult) -> None:
    """Keep with its layer what is known of a result that has just been made."""
    layer.metadata[STATE] = Mark(layer, result.left.state, result)


def own(layer: Labels) -> None:
    """Give a copy of a layer a review and results of its own: napari hands both on as they are."""
    mark, review = layer.metadata.get(STATE), layer.metadata.get(REVIEW)
    if not isinstance(mark, Mark) or mark.is_of(layer):
        return
    results, result = deepcopy((layer.metadata.pop(RESULTS, None), mark.result))
    layer.metadata[STATE] = Mark(layer, mark.state, result)
    if isinstance(results, EarlierResults):
        results.layer = bare(layer)
        layer.metadata[RESULTS] = results
    if isinstance(review, Review):
        layer.metadata[REVIEW] = review.copy()


def adopt(layer: Labels) -> EarlierResult | None:
    """Give the result in a layer; labels that were restored from the disk become one.

    None of labels that are no cells of ours, and no classes that can be corrected.
    """
    own(layer)
    mark = _current_mark(layer)
    if mark is not None:
        follow(layer)
        return mark.result
    state, review = current(layer), fitting_review(layer)
    if state is None or review is None:
        return None
    # Nobody counts the cells here: of a large image that would take a second.
    result = EarlierResult(Left(state.made, state, dict(review.approved), None))
    begin(layer, result)
    return result


def current(layer: Labels) -> ResultState | None:
    """Give the state of a result as the undo history has it; None of other layers.

    Labels that were restored from the disk have one without fragments.
    """
    mark = _current_mark(layer)
    if mark is not None:
        return mark.state
    review, ours = fitting_review(layer), layer.metadata.get(OURS, {})
    if review is None or ours.get("role") not in (CELLS, CLASSES):
        return None
    origin = Origin(None, ours.get("provenance", {}))
    return ResultState.of(origin, review.baseline, ours.get("digest", 0))


def shown_result(layer: Labels) -> EarlierResult | None:
    """Give the result that a layer had when its undo history was last followed."""
    mark = bare(layer).metadata.get(STATE)
    return mark.result if isinstance(mark, Mark) else None


def current_result(layer: Labels) -> EarlierResult | None:
    """Give the result that a layer shows, as the undo history has it."""
    mark = _current_mark(layer)
    return None if mark is None else mark.result


def steps_back(layer: Labels) -> int:
    """Count the steps that undo took back and redo can still bring."""
    return len(getattr(bare(layer), "_redo_history", ()))


def _current_mark(layer: Labels) -> Mark | None:
    layer = bare(layer)
    mark = layer.metadata.get(STATE)
    if not isinstance(mark, Mark):
        return None
    # Copies, made at once: a thread looks while the user paints.
    for item in reversed(tuple(getattr(layer, "_undo_history", ()))):
        if (marks := _marks(item)) is not None:
            return marks[1].mark
    for item in reversed(tuple(getattr(layer, "_redo_history", ()))):
        if (marks := _marks(item)) is not None:
            return marks[0].mark
    return mark


def _marks(item: Any) -> tuple[_Pixels, _Pixels] | None:
    """Pixels before and after an item of the history; None where it is none of ours."""
    atom = item[0] if item else None
    if isinstance(atom, tuple) and isinstance(atom[-1], _Pixels):
        return atom[-2], atom[-1]
    return None


def follow(layer: Labels) -> bool:
    """Bring metadata and review in line with the undo history; whether they were not."""
    mark = _current_mark(layer)
    if mark is None or mark is layer.metadata[STATE]:
        return False
    _hold(layer, mark)
    return True


def _hold(layer: Labels, mark: Mark, now: PackedLabels | None = None) -> None:
    """Let the layer tell of itself what is so at a mark; `now` are its labels, where known."""
    state, before = mark.state, layer.metadata.get(STATE)
    ours = layer.metadata.get(OURS, {})
    role, image = ours.get("role", CELLS), ours.get("image", "")
    layer.metadata[STATE] = mark
    layer.metadata.update(result_metadata(role, image, state.origin.provenance, state.checksum))
    review = fitting_review(layer)
    if review is not None:
        review.rebase(state.made, layer.data if now is None else now)
        if isinstance(before, Mark) and before.result is not mark.result:
            before.result.approved = dict(review.approved)
            review.approved.clear()
            review.approved.update(mark.result.approved)
        seen = state.origin.seen
        if seen is not None and (seen.grid, seen.planes) == (review.grid, review.planes):
            review.take_uncertainty(seen)


def is_for(change: Replacement, layer: Labels) -> bool:
    """Whether labels and approvals are still those that a replacement was made for."""
    review = fitting_review(layer)
    approved = frozenset() if review is None else frozenset(review.approved)
    return approved == change.approved and digest(layer.data) == change.checksum


def put(
    layer: Labels,
    change: Replacement,
    result: EarlierResult | None = None,
    whole: NDArray[Any] | None = None,
) -> None:
    """Replace the labels, as one step of the undo history.

    Adjustments of the same thresholds that follow each other become one step; one that ends
    where they began takes it back.

    Parameters
    ----------
    layer : napari labels layer
    change : Replacement
        Of its labels as they are, see `is_for`.
    result : EarlierResult, optional
        Another result that is shown from now on.
    whole : integer array, optional
        The new labels, where nearly all pixels are others: they are taken as they are, which is
        faster than to write them.
    """
    layer = bare(layer)
    shown = adopt(layer)
    assert shown is not None
    mark = _current_mark(layer)
    assert mark is not None
    before = change.before
    known = _last_step(layer, change) if result is None else None
    if known is not None:
        layer._undo_history.pop()
        layer._redo_history.clear()
        before, mark = known[0].packed, known[0].mark
    _write(layer, change, whole)
    if not before.differing(change.after) and result is None:
        # No step: what was corrected before it is still to be found there.
        mark.take_thresholds(change.new.origin)
        _hold(layer, mark, change.after)
    else:
        mark.begin_step(change.new.origin)
        after = Mark(layer, change.new, result or mark.result)
        _hold(layer, after, change.after)
        _remember(layer, before, change.after, mark, after)
    layer.refresh(extent=False)


def _last_step(layer: Labels, change: Replacement) -> tuple[_Pixels, _Pixels] | None:
    """Give the last step of the history, where a change continues it."""
    history = getattr(layer, "_undo_history", None)
    step = _marks(history[-1]) if history else None
    if step is None:
        return None
    first, last, now = (
        state.origin for state in (step[0].mark.state, step[1].mark.state, change.new)
    )
    same_run = first.fragments is last.fragments is now.fragments
    same_run = same_run and last.is_tracked == now.is_tracked  # tracking is a step of its own
    moved = _differing(first.options, last.options)
    return step if same_run and _differing(last.options, now.options) <= moved else None


def _differing(one: InstanceOptions | None, other: InstanceOptions | None) -> set[str]:
    if one is None or other is None:
        return set()
    names = (field.name for field in fields(InstanceOptions))
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def _write(layer: Labels, change: Replacement, whole: NDArray[Any] | None) -> None:
    if whole is not None:
        layer.data = whole
        return
    dtype = np.promote_types(layer.data.dtype, change.after.dtype)
    if dtype != layer.data.dtype:
        layer.data = layer.data.astype(dtype)  # its history fits the wider type, too
    for place in change.after.differing(change.before):
        layer.data[change.after.window(place)] = change.after[place]


def _remember(
    layer: Labels, before: PackedLabels, after: PackedLabels, old: Mark, new: Mark
) -> None:
    """Append one step to the undo history; napari has no public way for windows of pixels."""
    if getattr(layer, "_staged_history", None):
        # The mouse is still down: what it painted so far is a step of its own.
        layer._commit_staged_history()
    with layer.block_history():
        # Another result of the same pixels is a step, too: the history tells which is shown.
        for place in after.differing(before) or list(after.regions)[:1]:
            pixels = _Pixels(before, place, old), _Pixels(after, place, new)
            layer._save_history((after.window(place), *pixels))
