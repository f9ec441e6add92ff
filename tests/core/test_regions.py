"""Regions of a plane, and what is known of the review of each."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet_cells.core.regions import (
    PackedLabels,
    Region,
    RegionGrid,
    Review,
    State,
    cuts_cells,
)

SIDES = st.integers(1, 60)


@st.composite
def grids(draw: st.DrawFn) -> RegionGrid:
    return RegionGrid.plan((draw(SIDES), draw(SIDES)), longest=draw(st.integers(1, 40)))


def numbers(grid: RegionGrid) -> NDArray[np.int_]:
    """Give the number of its region for every pixel, the slow way."""
    owner = np.full(grid.shape, -1)
    for number, region in enumerate(grid):
        assert (owner[region.slices] == -1).all()
        owner[region.slices] = number
    return owner


@given(grids(), st.integers(1, 40))
def test_regions_cover_a_plane_once_and_are_of_one_size(grid: RegionGrid, longest: int) -> None:
    owner = numbers(grid)
    assert (owner >= 0).all()
    heights, widths = zip(*(region.shape for region in grid), strict=True)
    assert max(heights) - min(heights) <= 1
    assert max(widths) - min(widths) <= 1
    assert len(list(grid)) == len(grid) == owner.max() + 1


@given(st.tuples(SIDES, SIDES), st.integers(1, 40))
def test_regions_are_as_large_as_asked_for(shape: tuple[int, int], longest: int) -> None:
    for region in RegionGrid.plan(shape, longest):
        for side, whole in zip(region.shape, shape, strict=True):
            assert min(whole, longest // 2) <= side <= longest


@given(grids(), st.data())
def test_the_region_at_a_pixel(grid: RegionGrid, data: st.DataObject) -> None:
    owner = numbers(grid)
    y, x = (data.draw(st.floats(-5, size + 5)) for size in grid.shape)
    inside = [int(np.clip(np.floor(v), 0, n - 1)) for v, n in zip((y, x), grid.shape, strict=True)]
    assert grid.at(y, x) == owner[inside[0], inside[1]]


@given(grids(), st.data())
def test_the_regions_that_a_window_touches(grid: RegionGrid, data: st.DataObject) -> None:
    window = []
    for size in grid.shape:
        start = data.draw(st.integers(0, size - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, size))))
    assert grid.touching(*window) == np.unique(numbers(grid)[tuple(window)]).tolist()


def test_a_region_grows_as_far_as_the_plane_reaches() -> None:
    region = Region(2, 10, 30, 40)
    assert region.grown(5, (20, 42)) == Region(0, 15, 25, 42)
    assert region.grown(0, (20, 42)) == region


def test_there_are_no_other_regions() -> None:
    grid = RegionGrid.plan((10, 10), 5)
    for number in (-1, 4):
        with pytest.raises(IndexError):
            grid[number]


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((slice(2, 5), slice(2, 5)), False),  # inside of the first region
        ((slice(4, 5), slice(4, 5)), False),  # at its corner
        ((slice(5, 9), slice(1, 4)), False),  # touches it from below
        ((slice(4, 6), slice(2, 3)), True),
        ((slice(2, 3), slice(4, 6)), True),
        ((slice(5, 7), slice(5, 7)), False),
    ],
)
def test_cells_that_the_border_of_a_region_cuts(box: tuple[slice, slice], cut: bool) -> None:
    grid = RegionGrid((15, 15), (3, 3))
    plane = np.zeros((15, 15), np.uint16)
    plane[box] = 7
    plane[0:5, 0] = 9  # reaches the border of the plane, which cuts nothing of ours
    assert cuts_cells(plane, grid[0]) == cut
    assert cuts_cells(plane[::-1, ::-1], grid[8]) == cut


def test_two_cells_on_both_sides_of_a_border_are_not_cut() -> None:
    plane = np.repeat([[1, 2]], 4, axis=0).repeat(2, axis=1)
    assert not cuts_cells(plane, RegionGrid((4, 4), (1, 2))[0])


def some_labels(shape: tuple[int, ...], dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_the_run_made_is_kept(dtype: str, order: Any) -> None:
    labels = np.asarray(some_labels((2, 30, 41), dtype), order=order)
    before = labels.copy()
    review = Review(labels, grid=RegionGrid.plan((30, 41), 16))
    labels[:] = 0
    for plane, number in review:
        region = review.grid[number]
        made = review.made((plane, number))
        assert made.dtype == before.dtype
        at: tuple[int | slice, ...] = (*plane, *region.slices)
        np.testing.assert_array_equal(made, before[at])


@settings(deadline=None)
@given(st.data())
def test_edits_are_seen_where_they_are_and_undone(data: st.DataObject) -> None:
    labels = some_labels((3, 20, 30))
    review = Review(labels, grid=RegionGrid.plan((20, 30), 8))
    before = labels.copy()
    pixels = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 19), st.integers(0, 29)), max_size=6)
    )
    for pixel in pixels:
        labels[pixel] = 999
    edited = {((z,), review.grid.at(y, x)) for z, y, x in pixels}
    assert review.look(labels, review) == bool(edited)
    assert {place for place in review if review.is_edited(place)} == edited
    for place in review:
        assert review.state(place) == (State.EDITED if place in edited else State.UNSEEN)
    assert not review.look(labels, review)  # nothing new

    labels[:] = before
    assert review.look(labels, review) == bool(edited)
    assert not any(review.is_edited(place) for place in review)


def test_labels_of_another_data_type_are_compared_by_their_values() -> None:
    labels = some_labels((20, 20))
    review = Review(labels)
    assert not review.look(labels.astype(np.int64), review)


def test_approvals_are_given_and_withdrawn() -> None:
    labels = some_labels((20, 20))
    review = Review(labels, grid=RegionGrid.plan((20, 20), 10))
    first = ((), 0)
    assert review.state(first) is State.UNSEEN
    labels[0, 0] += 1
    review.look(labels, [first])
    review.approve(first)
    assert review.state(first) is State.APPROVED
    assert review.is_edited(first)
    assert list(review.approved) == [first]
    review.withdraw(first)
    review.withdraw(first)
    assert review.state(first) is State.EDITED
    assert not review.approved


def uncertain() -> Review:
    """Give a review of four regions, the third the most uncertain, of a coarser network."""
    uncertainty = np.zeros((10, 12), np.uint8)
    uncertainty[5:, :6] = 200
    uncertainty[5:, 6:] = 100
    uncertainty[:5, 6:] = 50
    return Review(np.zeros((40, 48), np.uint16), uncertainty, RegionGrid((40, 48), (2, 2)))


def test_a_copy_of_a_review_goes_its_own_way() -> None:
    labels = np.zeros((40, 60), np.uint8)
    review = Review(labels, None, RegionGrid((40, 60), (2, 3)))
    review.approve(((), 1), "then")
    copied = review.copy()
    assert copied.approved == {((), 1): "then"}
    copied.approve(((), 2))
    labels[0, 0] = 1
    copied.look(labels, copied)
    assert list(review.approved) == [((), 1)]
    assert copied.is_edited(((), 0))
    assert not review.is_edited(((), 0))


def test_the_most_uncertain_region_comes_first() -> None:
    review = uncertain()
    assert [review.mean_uncertainty(place) * 255 for place in review] == pytest.approx(
        [0, 50, 200, 100]
    )
    assert review.next_place() == ((), 2)
    assert review.next_place({((), 2)}) == ((), 3)
    review.approve(((), 2))
    assert review.next_place() == ((), 3)
    for place in review:
        review.approve(place)
    assert review.next_place() is None


def test_where_all_were_passed_the_first_comes_again() -> None:
    review = uncertain()
    assert review.next_place(set(review)) == ((), 2)
    review.approve(((), 2))
    assert review.next_place(set(review)) == ((), 3)


def test_without_uncertainty_the_regions_come_in_their_order() -> None:
    review = Review(np.zeros((2, 40, 48), np.uint16), grid=RegionGrid((40, 48), (2, 2)))
    assert review.next_place() == ((0,), 0)
    assert review.mean_uncertainty(((1,), 3)) == 0


def test_uncertainty_is_of_each_plane_whatever_its_leading_axes() -> None:
    uncertainty = np.zeros((2, 5, 6), np.uint8)
    uncertainty[1] = 255
    review = Review(np.zeros((2, 1, 40, 48), np.uint16), uncertainty)
    assert len(review) == 2
    assert review.next_place() == ((1, 0), 0)
    assert review.mean_uncertainty(((1, 0), 0)) == 1


def test_a_plane_that_the_network_saw_as_a_few_pixels() -> None:
    grid = RegionGrid((40, 40), (4, 4))
    review = Review(np.zeros((40, 40), np.uint16), np.full((2, 2), 255, np.uint8), grid)
    assert {review.mean_uncertainty(place) for place in review} == {0.0, 1.0}


def test_new_cells_take_the_uncertainty_and_no_approvals() -> None:
    old = uncertain()
    old.approve(((), 2))
    new = Review(np.ones((40, 48), np.uint16), grid=old.grid)
    assert new.next_place() == ((), 0)
    new.take_uncertainty(old)
    assert new.next_place() == ((), 2)
    assert new.uncertainty is old.uncertainty
    assert not new.approved


def test_a_review_knows_whose_it_is() -> None:
    review = Review(np.zeros((2, 40, 48), np.uint16))
    assert review.fits(np.zeros((2, 40, 48), np.int64))
    for shape in ((40, 48), (2, 48, 40), (3, 40, 48)):
        assert not review.fits(np.zeros(shape))


@settings(deadline=None)
@given(st.sets(st.integers(0, 7)))
def test_a_review_comes_back_from_json(approved: set[int]) -> None:
    labels = some_labels((2, 40, 48))
    uncertainty = some_labels((2, 20, 24), np.uint8)
    review = Review(labels, uncertainty, RegionGrid((40, 48), (2, 2)))
    places = list(review)
    for index in sorted(approved):
        review.approve(places[index], f"2025-01-0{index + 1}T10:00:00+00:00")
    before = labels.copy()
    labels[0, 0, 0] += 1
    review.look(labels, review)

    values = json.loads(json.dumps(review.as_dict()))
    again = Review.restored(before, review.grid, review.approved, values["uncertainty"])
    assert again.approved == review.approved
    assert again.grid == review.grid
    assert again.uncertainty is None
    again.look(labels, again)
    for place in places:
        assert again.state(place) == review.state(place)
        assert again.mean_uncertainty(place) == pytest.approx(
            review.mean_uncertainty(place), abs=1e-4
        )
    if len(approved) < 8:
        assert again.next_place() == review.next_place()


def test_a_layer_and_its_review_can_be_duplicated() -> None:
    review = uncertain()
    twin = deepcopy(review)
    twin.approve(((), 0))
    assert not review.approved


def test_packed_labels_are_unpacked_as_they_were() -> None:
    labels = np.arange(2 * 30 * 50, dtype=np.uint16).reshape(2, 30, 50)
    grid = RegionGrid((30, 50), (2, 3))
    packed = PackedLabels.of(labels, grid)
    assert packed.planes == (2,)
    assert packed.dtype == np.uint16
    np.testing.assert_array_equal(packed.unpacked(), labels)
    place = ((1,), 4)
    np.testing.assert_array_equal(packed[place], labels[packed.window(place)])

    labels[1, 29, 49] = 0
    changed = PackedLabels.of(labels, grid, like=packed)
    assert changed.differing(packed) == [((1,), 5)]
    assert changed.regions[place] is packed.regions[place]
    assert PackedLabels.of(labels.astype(np.uint32), grid).differing(packed) == [((1,), 5)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_new_baseline_keeps_approvals_and_corrections(packed: bool) -> None:
    labels = np.zeros((20, 40), np.uint16)
    labels[2:5, 2:5] = 1
    review = Review(labels, None, RegionGrid((20, 40), (1, 4)))
    review.approve(((), 3))
    labels[0, 0] = 9  # a correction in region 0
    review.look(labels, review)
    made = review.baseline.unpacked()
    labels[10, 25] = made[10, 25] = 2  # the program adds a cell in region 2
    review.look(labels, review)
    assert review.state(((), 2)) is State.EDITED

    now = PackedLabels.of(labels, review.grid) if packed else labels
    review.rebase(PackedLabels.of(made, review.grid), now)

    states = [review.state(place).value for place in review]
    assert states == ["edited", "unseen", "unseen", "approved"]
