"""Parts of a plane, and what is found in them among the cells that are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet_cells.core.parts import Part, PartCells, part_inside, replace_in_part

WHOLE = np.s_[0:20, 0:30]
PART = Part(np.s_[2:12, 3:15])


def square(top: float, left: float, bottom: float, right: float) -> NDArray[np.float64]:
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], float)


def plane(**cells: Any) -> NDArray[np.uint8]:
    labels = np.zeros((20, 30), np.uint8)
    for name, window in cells.items():
        labels[window] = int(name[1:])
    return labels


def replaced(shown: NDArray[Any], new: NDArray[Any], part: Part = PART, **frozen: Any) -> Any:
    held = plane(**frozen) > 0
    return replace_in_part(shown, held, PartCells(part, WHOLE, new), int(shown.max()) + 1)


def test_a_rectangle_holds_the_pixels_whose_middle_lies_in_it() -> None:
    part = part_inside([square(1.5, 2.5, 4.5, 7.5)], (20, 30))
    assert part is not None
    assert part.box == np.s_[2:5, 3:8]
    assert part.mask is None
    assert part.shape == (3, 5)


def test_what_reaches_beyond_the_plane_is_clipped() -> None:
    part = part_inside([square(-100, -1e9, 2.5, 1e9)], (20, 30))
    assert part is not None
    assert (part.box, part.mask) == (np.s_[0:3, 0:30], None)


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        [square(30, 3, 40, 9)],
        [square(2.1, 2.1, 2.9, 2.9)],  # between the middles of pixels
        [square(2, 2, 9, 9)[:2]],
        [np.full((4, 2), np.nan)],
    ],
)
def test_a_part_without_a_pixel_is_none(polygons: list[NDArray[np.float64]]) -> None:
    assert part_inside(polygons, (20, 30)) is None


@given(st.integers(3, 7), st.integers(0, 2**32 - 1))
def test_polygons_are_filled_by_the_even_odd_rule(corners: int, seed: int) -> None:
    from skimage.measure import points_in_poly

    polygon = np.random.default_rng(seed).uniform(-5, 35, (corners, 2))
    part = part_inside([polygon], (20, 30))
    mask = np.zeros((20, 30), bool)
    if part is not None:
        part.write(mask, WHOLE, np.ones(part.shape, bool))
    points = np.argwhere(np.ones((20, 30)))
    np.testing.assert_array_equal(mask.ravel(), points_in_poly(points, polygon))


def test_several_polygons_are_one_part_also_where_they_overlap() -> None:
    both = [square(1, 1, 5, 5), square(3, 3, 8, 8)]
    part = part_inside(both, (20, 30))
    assert part is not None
    mask = np.zeros((20, 30), bool)
    part.write(mask, WHOLE, np.ones(part.shape, bool))
    expected = np.zeros((20, 30), bool)
    for polygon in both:
        one = part_inside([polygon], (20, 30))
        assert one is not None
        one.write(expected, WHOLE, np.ones(one.shape, bool))
    np.testing.assert_array_equal(mask, expected)
    assert part.pixels(mask, WHOLE).all()


def test_a_cell_is_taken_where_at_least_half_of_it_lies_in_the_part() -> None:
    new = plane(_1=np.s_[4:7, 12:18], _2=np.s_[8:10, 13:18], _3=np.s_[10:14, 4:6])
    found = PartCells(PART, WHOLE, new)
    assert found.taken.tolist() == [False, True, False, True]
    after = replaced(np.zeros_like(new), new)
    assert (after[4:7, 12:18] > 0).all()  # whole, beyond the border too
    assert not after[8:10, 13:18].any()


def test_cells_beside_the_part_stay_and_those_in_it_are_replaced() -> None:
    shown = plane(_1=np.s_[3:6, 4:7], _2=np.s_[8:11, 4:7], _3=np.s_[15:19, 20:25])
    new = plane(_1=np.s_[3:6, 9:12], _2=np.s_[15:19, 24:28])
    after = replaced(shown, new)
    assert after[4, 10] == 4
    np.testing.assert_array_equal(np.unique(after), [0, 3, 4])
    np.testing.assert_array_equal(after == 3, shown == 3)


def test_a_cell_that_is_found_again_keeps_its_id() -> None:
    shown = plane(_7=np.s_[3:6, 4:7], _9=np.s_[15:19, 20:25])
    new = plane(_1=np.s_[8:10, 4:7], _2=np.s_[3:7, 4:7])
    after = replaced(shown, new)
    assert after[6, 5] == 7
    assert after[9, 5] == 10


def test_a_new_cell_gives_way_to_one_that_stays() -> None:
    shown = plane(_1=np.s_[4:8, 13:23])  # mostly beside the part
    new = plane(_1=np.s_[4:8, 9:14], _2=np.s_[3:9, 12:17])
    found = PartCells(PART, WHOLE, new)
    assert found.taken.tolist() == [False, True, True]
    after = replaced(shown, new)
    np.testing.assert_array_equal(after == 1, shown == 1)
    assert (after[4:8, 9:12] == after[4, 9]).all()


def test_an_old_cell_stays_where_it_is_found_mostly_beside_the_part() -> None:
    shown = plane(_5=np.s_[4:8, 11:18])  # 16 of 28 pixels in the part
    new = plane(_1=np.s_[4:8, 12:19])  # 12 of 28
    np.testing.assert_array_equal(replaced(shown, new), shown)


def test_frozen_pixels_stay_and_cut_what_is_found() -> None:
    shown = plane(_1=np.s_[3:7, 4:7])
    new = plane(_1=np.s_[3:7, 6:11], _2=np.s_[3:5, 4:6])
    after = replaced(shown, new, _1=np.s_[3:7, 4:7])
    np.testing.assert_array_equal(after == 1, shown == 1)
    assert (after[3:7, 7:11] == 2).all()
    assert after.max() == 2


def test_ids_beyond_the_table_and_beyond_the_data_type_go_on() -> None:
    shown = plane(_255=np.s_[15:18, 20:23])
    after = replaced(shown, plane(_1=np.s_[3:6, 4:7]))
    assert (after.dtype, after[4, 5], after[16, 21]) == (np.uint16, 256, 255)
    great = shown.astype(np.uint32) * 2**23
    after = replaced(great, plane(_1=np.s_[3:6, 4:7]))
    assert after[4, 5] == 255 * 2**23 + 1
    assert after[16, 21] == 255 * 2**23


def test_a_cell_that_goes_on_beyond_what_was_seen_is_told() -> None:
    labels = np.zeros((12, 14), np.uint8)
    labels[3:6, 11:14] = 1
    for part, expected in ((Part(np.s_[2:12, 6:19]), True), (Part(np.s_[2:12, 6:8]), False)):
        found = PartCells(part, np.s_[2:14, 5:19], labels)
        assert found.touches((20, 30)) is expected
        assert not found.touches((20, 19))


@given(st.integers(0, 2**32 - 1))
def test_no_id_is_twice_and_nothing_else_changes(seed: int) -> None:
    random = np.random.default_rng(seed)
    shown, new = (cells(random) for _ in range(2))
    part = part_inside([random.uniform(-3, 33, (5, 2))], (20, 30)) or PART
    found = PartCells(part, WHOLE, new)
    frozen = np.isin(shown, random.choice(30, 3)) & (shown > 0)
    after = replace_in_part(shown, frozen, found, int(shown.max()) + 1)
    np.testing.assert_array_equal(after[frozen], shown[frozen])
    before = {i: np.argwhere(shown == i).tolist() for i in np.unique(shown[shown > 0]).tolist()}
    for label in np.unique(after[after > 0]).tolist():
        if label in before and before[label] == np.argwhere(after == label).tolist():
            continue
        sources = np.unique(new[after == label])
        assert len(sources) == 1  # a piece of one cell that was found
        assert found.taken[sources[0]]
    inside = np.zeros((20, 30), bool)
    part.write(inside, WHOLE, np.ones(part.shape, bool))
    for label, pixels in before.items():
        if 2 * inside[shown == label].sum() < len(pixels):
            np.testing.assert_array_equal(after == label, shown == label)


def cells(random: np.random.Generator) -> NDArray[np.uint8]:
    labels = np.zeros((20, 30), np.uint8)
    for number in range(1, 12):
        top, left = random.integers(0, (16, 26))
        labels[top : top + random.integers(1, 6), left : left + random.integers(1, 6)] = number
    return labels
