"""Cells of a result are replaced, except what was corrected or approved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels, RegionGrid
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    adjust,
    count_cells,
    replace_cells,
    replace_classes,
)
from napari_unet_cells.segmentation.result import Fragments, cells_of

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")
GRID = RegionGrid((40, 60), (2, 3))


def fragments() -> Fragments:
    """Oversegmentation of three squares: of 25, 100 and 300 pixels."""
    probabilities = np.zeros((2, 40, 60), np.uint8)
    for window in (np.s_[2:7, 2:7], np.s_[5:15, 25:35], np.s_[22:37, 30:50]):
        probabilities[0][window] = 230
    return Fragments.of(probabilities, CARD.instances, (40, 60), 1.0)


def result(planes: int = 0, link: int | None = None) -> tuple[NDArray[Any], ResultState]:
    """Labels of a run, and their state; without planes those of an image."""
    parts = (fragments(),) * max(1, planes)
    shape = (planes, 40, 60) if planes else (40, 60)
    options = replace(CARD.instances, min_size=5)
    details = RunDetails(card=CARD, options=options, link=link, is_stack=bool(planes))
    cells, _ = cells_of(parts, options, shape, link)
    origin = Origin(details, details.provenance(), KeptFragments(parts), 100.0)
    return cells, ResultState.of(origin, PackedLabels.of(cells, GRID), digest(cells))


def options_of(state: ResultState, **values: Any) -> InstanceOptions:
    assert state.origin.options is not None
    return replace(state.origin.options, **values)


def change(labels: NDArray[Any], made: Replacement) -> ResultState:
    """Do as the layer does."""
    labels[...] = made.after.unpacked()
    return made.new


@pytest.mark.parametrize(("planes", "link"), [(0, None), (3, None), (3, 0)])
def test_without_corrections_the_cells_are_those_of_the_options(
    planes: int, link: int | None
) -> None:
    labels, state = result(planes, link)
    made = adjust(labels, state, (), options_of(state, min_size=50))
    alone = 2 * max(1, planes) if link is None else 2
    assert made.n_cells == alone
    assert made.checksum == digest(labels)
    np.testing.assert_array_equal(made.before.unpacked(), labels)
    np.testing.assert_array_equal(made.new.made.unpacked(), made.after.unpacked())
    assert made.new.checksum == digest(made.after.unpacked())
    assert made.new.corrected is None
    assert made.new.origin.provenance["parameters"]["instances"]["min_size"] == 50


@pytest.mark.parametrize(("planes", "link"), [(0, None), (3, None), (3, 0)])
def test_what_was_corrected_or_approved_stays_and_the_way_back_is_the_same(
    planes: int, link: int | None
) -> None:
    labels, state = result(planes, link)
    plane = labels[1] if planes else labels
    plane[22:30, 30:50] = 0  # the large cell was cut
    plane[30:34, 2:6] = 77  # a cell was added
    before = labels.copy()
    approved = [((1,) if planes else (), 0)]  # the region of the small cell

    state = change(labels, adjust(labels, state, approved, options_of(state, min_size=150)))

    small = labels[..., 4, 4] > 0
    assert small.ravel().tolist() == ([link is not None, True, link is not None] if planes else [1])
    middle, large = labels[..., 10, 30], labels[..., 35, 40]
    assert not middle.any()
    assert large.all()
    np.testing.assert_array_equal((labels[1] if planes else labels)[22:, :], before_plane(before))
    made = state.made.unpacked()
    assert (made[1] if planes else made)[32, 4] == 0  # the program made no such cell
    assert state.corrected is not None

    for min_size in (50, 5):
        options = options_of(state, min_size=min_size)
        state = change(labels, adjust(labels, state, approved, options))
    np.testing.assert_array_equal(labels, before)


def before_plane(before: NDArray[Any]) -> NDArray[Any]:
    return (before[1] if before.ndim == 3 else before)[22:, :]


def test_a_correction_after_an_adjustment_stays_as_well() -> None:
    labels, state = result()
    state = change(labels, adjust(labels, state, (), options_of(state, min_size=50)))
    labels[labels == labels[30, 40]] = 0  # the large cell is deleted
    state = change(labels, adjust(labels, state, (), options_of(state, min_size=5)))
    assert labels[30, 40] == 0
    assert labels[4, 4] > 0
    state = change(labels, adjust(labels, state, (), options_of(state, min_size=6)))
    assert labels[30, 40] == 0


def test_an_approval_that_was_withdrawn_holds_nothing() -> None:
    labels, state = result()
    state = change(labels, adjust(labels, state, [((), 0)], options_of(state, min_size=50)))
    assert labels[4, 4] > 0
    state = change(labels, adjust(labels, state, (), options_of(state, min_size=51)))
    assert labels[4, 4] == 0


def test_another_run_replaces_what_was_not_corrected() -> None:
    labels, state = result()
    labels[22:30, 30:50] = 0
    cells = np.zeros((40, 60), np.uint16)
    cells[3:8, 3:8], cells[22:37, 30:50] = 1, 2
    made = replace_cells(labels, state, (), cells, Origin(None, {"of": "another"}))
    after = made.after.unpacked()
    np.testing.assert_array_equal(after[20:], labels[20:])
    assert after[7, 7] > 0
    assert after[2, 2] == 0
    assert made.n_cells == 2
    assert made.new.origin.provenance == {"of": "another"}


def test_the_data_type_stays_where_it_is_wide_enough() -> None:
    labels, state = result()
    wide = labels.astype(np.uint32)
    assert adjust(wide, state, (), options_of(state)).after.dtype == np.uint32
    labels[0, 0] = 65535  # corrected
    cells = np.where(labels > 0, 65535, 0).astype(np.uint16)
    made = replace_cells(labels, state, (), cells, state.origin)
    assert made.after.dtype == np.uint32
    assert made.after.unpacked().max() == 65536


def test_a_restored_result_knows_along_which_axis_it_was_linked() -> None:
    details = RunDetails(card=CARD, options=CARD.instances, link=0, is_stack=True)
    assert Origin(None, details.provenance()).link == 0
    assert Origin(None, {}).link is None


def test_corrected_pixels_and_approved_regions_of_classes_stay() -> None:
    details = RunDetails(card=CARD, options=None)
    made = np.zeros((40, 60), np.uint8)
    made[:, :20] = 1
    origin = Origin(details, details.provenance())
    assert origin.is_classes
    state = ResultState.of(origin, PackedLabels.of(made, GRID), digest(made))
    labels = made.copy()
    labels[30, 30] = 2  # corrected
    made_now = replace_classes(labels, state, [((), 0)], np.full((40, 60), 2, np.uint8), origin)
    state = change(labels, made_now)
    wanted = np.full((40, 60), 2)
    wanted[:20, :20] = 1  # approved
    np.testing.assert_array_equal(labels, wanted)
    assert labels.dtype == np.uint8
    assert made_now.n_cells == 0
    baseline = state.made.unpacked()
    assert baseline[30, 30] == 0
    assert baseline[30, 31] == 2
    # The correction is known in the next run, too, and an approval that was withdrawn is not.
    change(labels, replace_classes(labels, state, (), np.ones((40, 60), np.uint8), origin))
    assert labels[30, 30] == 2
    assert (labels == 2).sum() == 1


def test_cells_are_told_from_classes() -> None:
    details = RunDetails(card=CARD, options=CARD.instances)
    assert not Origin(details, details.provenance()).is_classes
    assert not Origin(None, {}).is_classes


@pytest.mark.parametrize(("link", "n"), [(None, 5), (0, 3)])
def test_cells_are_counted_as_they_are_numbered(link, n):
    labels = np.zeros((2, 4, 5), np.uint16)
    labels[0, 0, :2] = 1, 2
    labels[1, 1, :3] = 1, 2, 3
    assert count_cells(labels, link) == n
