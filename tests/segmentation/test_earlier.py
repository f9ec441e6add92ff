"""Earlier results: kept as they were left, named, bounded, and put back."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels, RegionGrid
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import earlier
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.earlier import (
    EarlierResult,
    EarlierResults,
    Left,
    brought_back,
)
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.replacing import Origin, ResultState, replace_cells
from napari_unet_cells.segmentation.result import Fragments

CARD = ModelCard("cells-fast", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def labels_of(x: int) -> np.ndarray[Any, Any]:
    labels = np.zeros((40, 60), np.uint16)
    labels[5:15, x : x + 10], labels[22:37, 30:50] = 1, 2
    return labels


def state_of(labels: np.ndarray[Any, Any], fragments: bool = False) -> ResultState:
    details = RunDetails(card=CARD, options=CARD.instances, diameter=18.7)
    kept = KeptFragments()
    if fragments:
        probabilities = np.zeros((2, 40, 60), np.uint8)
        probabilities[0] = 230 * (labels > 0)
        kept = KeptFragments([Fragments.of(probabilities, CARD.instances, (40, 60), 1.0)])
    origin = Origin(details, details.provenance(), kept)
    return ResultState.of(origin, PackedLabels.of(labels), digest(labels))


def result_of(x: int, fragments: bool = False) -> EarlierResult:
    state = state_of(labels_of(x), fragments)
    return EarlierResult(Left.of(state.made, state, {}))


def corrected(result: EarlierResult) -> EarlierResult:
    labels = result.left.labels.unpacked()
    labels[0, 0] = 9
    result.leave(Left.of(PackedLabels.of(labels), result.left.state, {}))
    return result


def test_a_result_comes_back_as_it_was_left() -> None:
    first = corrected(result_of(5))
    shown = labels_of(25)
    shown[30, 40] = 0
    state = state_of(labels_of(25))
    change = brought_back(shown, state, [((), 0)], first.left)
    back = change.after.unpacked()
    assert back[0, 0] == 9
    np.testing.assert_array_equal(back[1:], labels_of(5)[1:])
    np.testing.assert_array_equal(change.before.unpacked(), shown)
    assert change.checksum == digest(shown)
    assert change.new is first.left.state
    assert change.n_cells == 3
    assert list(change.approved) == [((), 0)]
    # It was corrected, so the next run keeps that.
    again = replace_cells(back, change.new, (), labels_of(45), state.origin).after.unpacked()
    assert again[0, 0] == 9
    assert again[10, 50]


def test_a_result_that_was_divided_into_other_regions_fits_the_layer() -> None:
    first = corrected(result_of(5))
    grid = RegionGrid((40, 60), (2, 3))
    state = replace(state_of(labels_of(25)), left=PackedLabels.of(labels_of(25), grid))
    change = brought_back(labels_of(25), state, (), first.left)
    for packed in (change.before, change.after, change.new.left, change.new.made):
        assert packed.grid == grid
    np.testing.assert_array_equal(change.after.unpacked(), first.left.labels.unpacked())


def test_a_result_of_other_planes_is_refused() -> None:
    state = state_of(labels_of(25))
    with pytest.raises(UserError, match="of other planes"):
        brought_back(np.stack([labels_of(5)] * 3), state, (), result_of(5).left)


def test_it_is_named_by_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    result = result_of(5)
    assert result.describe(False) == f"{result.time}, 2 cells (cells-fast, 19 px)"
    assert (
        result.describe(True, is_counted=False) == f"{result.time}, corrected (cells-fast, 19 px)"
    )
    origin = Origin(None, {"date": datetime(2026, 1, 2, 3, 4, tzinfo=UTC).isoformat()})
    old = EarlierResult(replace(result.left, state=replace(result.left.state, origin=origin)))
    assert old.describe(False) == "2026-01-02 03:04, 2 cells"
    unknown = replace(result.left.state, origin=Origin(None, {}))
    assert EarlierResult(replace(result.left, state=unknown)).describe(False) == "2 cells"


def test_corrected_or_approved_ones_are_told_from_others() -> None:
    assert not result_of(5).is_touched
    assert corrected(result_of(5)).is_touched
    assert corrected(result_of(5)).left.is_corrected
    approved = result_of(5)
    approved.leave(Left.of(approved.left.labels, approved.left.state, {((), 0): "today"}))
    assert approved.is_touched
    assert not approved.left.is_corrected


def test_the_oldest_without_corrections_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "MOST", 2)
    results = EarlierResults()
    made = [corrected(result_of(5)), *(result_of(5 + i, fragments=True) for i in range(4))]
    for one in made:
        results.add(one)
    assert results.items == [made[0], made[2], made[3], made[4]]
    assert not made[1].origin.fragments  # napari's history may hold it, but not its memory
    assert made[2].origin.fragments


def test_the_oldest_fragments_are_freed_and_the_results_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [result_of(5 + i, fragments=True) for i in range(4)]
    monkeypatch.setattr(earlier, "MOST_BYTES", 2 * made[0].origin.fragments.n_bytes)
    results = EarlierResults()
    for one in made:
        results.add(one)
    assert results.items == made
    assert [len(one.origin.fragments) for one in made] == [0, 1, 1, 1]


def test_a_copy_of_a_layer_has_a_list_of_its_own() -> None:
    results = EarlierResults()
    results.layer = object()
    results.add(result_of(5))
    copied, shown = deepcopy((results, results.items[0]))
    assert copied.items == [shown]
    assert shown is not results.items[0]
    assert copied.layer is None
    assert shown.left is results.items[0].left
