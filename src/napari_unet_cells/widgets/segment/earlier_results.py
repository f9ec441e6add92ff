"""Find the list of earlier results of a layer or an image, and bring one of them back.

The list lies with the layer of cells and with its image, so that it outlives a closed dock, a
removed layer of cells, and an image that was removed::

    image.metadata[RESULTS]    [list of plane 1, list of plane 4]
    cells.metadata[RESULTS]     list of plane 1: run A, run B (shown), run C
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import PackedLabels
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.metadata import (
    CLASSES,
    OURS,
    RESULTS,
    STATE,
    fitting_review,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.segmentation.earlier import (
    EarlierResult,
    EarlierResults,
    Left,
    RemovedLayer,
)
from napari_unet_cells.segmentation.replacing import Replacement
from napari_unet_cells.widgets.segment.live import (
    adopt,
    bare,
    begin,
    current,
    current_result,
    put,
    shown_result,
)

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class BroughtBack:
    """An earlier result that comes back into a layer.

    Attributes
    ----------
    layer : napari labels layer
    result : EarlierResult
    change : Replacement
    left : Left
        What is shown until then.
    """

    layer: Labels
    result: EarlierResult
    change: Replacement
    left: Left

    def show(self) -> None:
        """Put it into its layer, as one step of the undo history."""
        shown = adopt(self.layer)
        assert shown is not None
        shown.leave(self.left)
        self.result.approved = dict(self.result.left.approved)
        put(self.layer, self.change, self.result)
        results = self.layer.metadata[RESULTS]
        results.keep_within(self.result)


def list_of(viewer: Viewer, layer: Labels, left: Left | None = None) -> EarlierResults:
    """Give the list of results that a layer of cells shows one of.

    A layer that takes the place of one that was removed goes on with the list of that one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari labels layer
        Of cells.
    left : Left, optional
        What is in the layer that was removed, where a thread has packed it.
    """
    layer = bare(layer)
    image, results = layer.metadata[OURS]["image"], layer.metadata.get(RESULTS)
    if not isinstance(results, EarlierResults) or results.layer not in (None, layer):
        role = layer.metadata[OURS]["role"]
        gone = removed_list(viewer, (role, image), layer.data.shape, layer.translate)
        results = gone or EarlierResults()
        if gone is not None and gone.layer is not None:
            _leave(gone.layer, left)
    results.layer, results.removed = layer, None
    layer.metadata[RESULTS] = results
    known = _lists_of(viewer, image)
    if known is not None and results not in known:
        known.append(results)
    return results


def _leave(layer: Labels, left: Left | None) -> None:
    """Keep what is in a layer that was removed, since another one takes its place."""
    result = adopt(layer)
    if result is not None and (packed := left or left_in(layer)) is not None:
        result.leave(packed)


def left_in(layer: Labels) -> Left | None:
    """Pack what is in a layer; None where it is no result."""
    state, review = current(layer), fitting_review(layer)
    if state is None or review is None:
        return None
    labels = PackedLabels.of(layer.data, state.left.grid, like=state.left)
    state.origin.fragments.pack()
    return Left.of(labels, state, review.approved)


def described_as(layer: Labels, viewer: Viewer, result: EarlierResult) -> dict[str, Any]:
    """Describe a layer for its session, as it was while it showed a result.

    Parameters
    ----------
    layer : napari labels layer
    viewer : napari.viewer.Viewer
    result : EarlierResult
    """
    made, state = layer.metadata[OURS], result.left.state
    then = result_metadata(made["role"], made["image"], state.origin.provenance, state.checksum)
    described = describe(layer, viewer.layers)
    return {**described, "metadata": {**described["metadata"], **jsonable(then)}}


def removed_list(
    viewer: Viewer, made: tuple[str, str], shape: Sequence[int], translate: Any
) -> EarlierResults | None:
    """Find the list of a place of an image whose layer was removed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    made : (str, str)
        Role and image of the layer.
    shape : sequence of int
        Of its labels.
    translate : array
        Of the layer.
    """
    role, image = made
    for one in removed_lists(viewer, image):
        gone = one.removed or pack(one.layer)
        is_alike = gone.metadata[OURS]["role"] == role and gone.shape == tuple(shape)
        if is_alike and np.allclose(gone.attributes["translate"], translate):
            return one
    return None


def removed_lists(viewer: Viewer, image: str) -> list[EarlierResults]:
    """Find the lists of an image whose layers were removed, the newest first.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : str
        See `layers.metadata.image_id`.
    """
    known, there = _lists_of(viewer, image) or [], viewer.layers
    return [
        one
        for one in reversed(known)
        if one.removed is not None or (one.layer is not None and one.layer not in there)
    ]


def pack(layer: Labels) -> RemovedLayer:
    """Describe a layer that was removed, so that it can be made again of its result."""
    result = shown_result(layer)
    assert result is not None
    attributes = {**place_of(layer), "name": layer.name, "opacity": layer.opacity}
    if layer.metadata[OURS]["role"] == CLASSES:
        attributes["colormap"] = layer.colormap
    # Whoever hears of a layer with these takes it for a copy of another one.
    metadata = {k: v for k, v in layer.metadata.items() if k not in (STATE, RESULTS)}
    return RemovedLayer(result, layer.data.shape, metadata, attributes)


def add_again(viewer: Viewer, results: EarlierResults, labels: NDArray[Any]) -> Labels:
    """Make a layer again that was removed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    results : EarlierResults
        With a removed layer.
    labels : integer array
        Of its result.
    """
    gone = results.removed
    assert gone is not None
    layer: Labels = bare(viewer.add_labels(labels, metadata={**gone.metadata}, **gone.attributes))
    results.layer, results.removed = layer, None
    layer.metadata[RESULTS] = results
    begin(layer, gone.result)
    return layer


def _lists_of(viewer: Viewer, image: str) -> list[EarlierResults] | None:
    """Give the lists of an image; None where it is gone."""
    for layer in viewer.layers:
        if image_id(layer) == image:
            lists: list[EarlierResults] = layer.metadata.setdefault(RESULTS, [])
            return lists
    return None


@dataclass(frozen=True)
class Choice:
    """Results that the list offers, and the one that is shown.

    Attributes
    ----------
    names : tuple of str
        Of the results, the newest first.
    shown : int
        The one in the layer; -1 where the layer was removed.
    """

    names: tuple[str, ...] = ()
    shown: int = -1

    @classmethod
    def of(cls, viewer: Viewer, results: EarlierResults | None) -> Choice:
        """Name the results of a list; a single one that is shown is no choice."""
        if results is None:
            return cls()
        gone = results.removed
        is_there = gone is None and results.layer in viewer.layers
        mark = current_result(results.layer) if gone is None else gone.result
        if len(results.items) < (2 if is_there else 1):
            return cls()
        names, shown = [], -1
        for number, one in enumerate(reversed(results.items)):
            review = fitting_review(results.layer) if one is mark and gone is None else None
            is_corrected = one.left.is_corrected if review is None else review.any_edited
            is_counted = gone is not None or one is not mark or not is_corrected
            names.append(one.describe(is_corrected, is_counted))
            shown = number if one is mark and is_there else shown
        return cls(tuple(names), shown)
