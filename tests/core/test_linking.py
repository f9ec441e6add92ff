"""One id per cell across planes."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_unet_cells.core.linking import link_planes
from napari_unet_cells.errors import UserError


def boxes(*columns: tuple[int, int, int], shape: tuple[int, int] = (4, 40)) -> NDArray[np.uint16]:
    """Draw boxes over all rows: id, first column, one past the last."""
    plane = np.zeros(shape, np.uint16)
    for i, start, stop in columns:
        plane[:, start:stop] = i
    return plane


def ids(plane: NDArray[Any], *columns: int) -> list[int]:
    return [int(plane[0, x]) for x in columns]


def test_a_moving_cell_keeps_its_id_and_a_new_one_gets_a_new_one() -> None:
    stack = np.stack(
        [
            boxes((1, 0, 10), (2, 20, 30)),
            boxes((2, 2, 12), (1, 32, 40), (3, 21, 31)),
            boxes((1, 4, 14), (2, 22, 32)),
        ]
    )
    assert ids(stack[1], 5, 25, 35) == [2, 3, 1]
    linked = link_planes(stack)
    assert ids(linked[0], 5, 25) == [1, 2]
    assert ids(linked[1], 5, 25, 35) == [1, 2, 3]
    assert ids(linked[2], 5, 25, 35) == [1, 2, 0]
    assert linked.dtype == np.uint16
    np.testing.assert_array_equal(linked > 0, stack > 0)


def test_the_threshold_decides() -> None:
    stack = np.stack([boxes((1, 0, 10)), boxes((1, 4, 14))])  # IoU 6 / 14 = 0.43
    assert link_planes(stack, threshold=6 / 14).max() == 1
    assert link_planes(stack, threshold=0.44).max() == 2


def test_a_cell_gone_for_a_plane_comes_back_as_another() -> None:
    stack = np.stack([boxes((1, 0, 10)), boxes(), boxes((1, 0, 10))])
    assert [int(plane.max()) for plane in link_planes(stack)] == [1, 0, 2]


def test_the_sum_of_iou_decides_where_cells_compete() -> None:
    """The best single pair is 1 with 1 (6/14); it would leave the two others alone."""
    stack = np.stack([boxes((1, 10, 20), (2, 20, 30)), boxes((2, 5, 14), (1, 14, 24))])
    assert ids(link_planes(stack, 0.4)[1], 7, 17) == [3, 1]
    assert ids(link_planes(stack, 0.25)[1], 7, 17) == [1, 2]  # 4/15 + 4/16 is more


def test_a_dividing_cell_hands_its_id_to_one_daughter() -> None:
    stack = np.stack([boxes((1, 0, 20)), boxes((1, 0, 9), (2, 9, 20))])
    assert ids(link_planes(stack)[1], 5, 15) == [2, 1]


def test_it_works_in_place_and_on_planes_one_by_one() -> None:
    stack = np.stack([boxes((1, 0, 10)), boxes((1, 20, 30)), boxes((7, 20, 30))])
    expected = [1, 2, 2]
    before = stack.copy()
    assert [int(plane.max()) for plane in link_planes(iter(stack))] == expected
    np.testing.assert_array_equal(stack, before)
    assert link_planes(stack, out=stack) is stack
    assert [int(plane.max()) for plane in stack] == expected


def test_ids_widen_only_when_they_must() -> None:
    plane = np.arange(1, 40_001, dtype=np.uint16).reshape(200, 200)
    same = np.stack([plane, plane])
    assert link_planes(same).dtype == np.uint16
    apart = np.zeros((2, 200, 400), np.uint16)
    apart[0, :, :200] = apart[1, :, 200:] = plane
    wide = link_planes(apart, out=apart)
    assert wide is not apart
    assert (wide.dtype, wide.max()) == (np.dtype(np.uint32), 80_000)
    assert apart.max() == 40_000  # left as it was


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 4, 4), (3, 0, 0), (3, 4, 4)])
def test_nothing_stays_nothing(shape: tuple[int, int, int]) -> None:
    linked = link_planes(np.zeros(shape, np.uint16))
    assert linked.shape[0] == shape[0]
    assert linked.dtype == np.uint16
    assert not linked.any()


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(UserError, match=f"above 0 and up to 1, not {threshold}"):
        link_planes(np.zeros((2, 4, 4), np.uint16), threshold)


def test_what_is_no_labels_is_refused() -> None:
    good = np.zeros((4, 4), np.uint16)
    with pytest.raises(UserError, match=r"Plane 1 holds no labels.*float64"):
        link_planes([good, np.zeros((4, 4))])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"Plane 1 holds no labels.*from -1 on"):
        link_planes([good, np.full((4, 4), -1)])
    with pytest.raises(UserError, match=r"Plane 1 has the size \(4, 5\)"):
        link_planes([good, np.zeros((4, 5), np.uint16)])
    with pytest.raises(UserError, match=r"The result has the shape \(2, 4, 4\)"):
        link_planes([good], out=np.zeros((2, 4, 4), np.uint16))


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def best_sum(old: NDArray[Any], new: NDArray[Any], threshold: float) -> float:
    """Try every way to pair the cells of two planes."""
    a = [old == i for i in np.unique(old[old > 0])]
    b: list[Any] = [new == i for i in np.unique(new[new > 0])]
    b += [None] * len(a)
    gains = [[0.0 if q is None or iou(p, q) < threshold else iou(p, q) for q in b] for p in a]
    ways = permutations(range(len(b)), len(a))
    return max(sum(gains[i][j] for i, j in enumerate(way)) for way in ways)


@settings(max_examples=100, deadline=None)
@given(arrays(np.uint16, (4, 3, 5), elements=st.integers(0, 4)), st.sampled_from([0.1, 0.3, 0.6]))
def test_links_are_one_to_one_overlap_enough_and_are_the_best(
    stack: NDArray[np.uint16], threshold: float
) -> None:
    linked = link_planes(stack, threshold)
    assert sorted(set(linked.ravel().tolist()) - {0}) == list(range(1, int(linked.max()) + 1))
    for plane, result in zip(stack, linked, strict=True):
        pairs = set(zip(plane.ravel().tolist(), result.ravel().tolist(), strict=True))
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    for i in range(1, int(linked.max()) + 1):
        where = np.flatnonzero((linked == i).any(axis=(1, 2)))
        assert (np.diff(where) == 1).all()  # no gaps
    for before, after in pairwise(linked):
        kept = set(before[before > 0].tolist()) & set(after.ravel().tolist())
        overlaps = [iou(before == i, after == i) for i in kept]
        assert min(overlaps, default=1) >= threshold
        assert sum(overlaps) == pytest.approx(best_sum(before, after, threshold))
