"""Outlines: filled, they are the labels again; and each is a valid polygon."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.outlines import Ring, fill, outlines

few_labels = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.integers(0, 3),
)


def signed_area(ring: Ring) -> float:
    x, y = ring.astype(float).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@given(few_labels)
def test_filled_they_are_the_labels_again(labels: NDArray[Any]) -> None:
    found = outlines(labels)
    assert [outline.label for outline in found] == [n for n in np.unique(labels) if n]
    for outline in found:
        inside = labels == outline.label
        np.testing.assert_array_equal(fill(outline.polygons, labels.shape), inside)
        assert outline.area == np.count_nonzero(inside)


@given(few_labels)
def test_each_part_is_one_valid_polygon(labels: NDArray[Any]) -> None:
    for outline in outlines(labels):
        parts, n = ndimage.label(labels == outline.label)
        assert len(outline.polygons) == n
        for number, (outer, *holes) in enumerate(outline.polygons, 1):
            part = fill([[outer, *holes]], labels.shape)
            np.testing.assert_array_equal(part, parts == number)
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
            for ring in (outer, *holes):
                # It comes to no corner twice, and every corner is one.
                assert len(np.unique(ring, axis=0)) == len(ring) >= 4
                steps = np.roll(ring, -1, axis=0) - ring
                turned = (steps != 0) != (np.roll(steps, -1, axis=0) != 0)
                assert turned.all()
                assert ((steps != 0).sum(axis=1) == 1).all()


def test_a_hole_that_touches_the_outside_at_a_corner_is_a_hole() -> None:
    """The part is connected around it: one outer ring, cut where it would touch itself."""
    labels = np.array([[0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0]], np.uint8)
    labels[0, 0] = 0
    (outline,) = outlines(labels)
    ((outer, hole),) = outline.polygons
    assert sorted(map(tuple, hole.tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert (1, 1) in map(tuple, outer.tolist())


def test_a_single_pixel_and_nothing() -> None:
    labels = np.zeros((3, 3), np.uint16)
    assert outlines(labels) == []
    assert outlines(np.zeros((0, 0), np.uint8)) == []
    labels[1, 2] = 65_535
    (outline,) = outlines(labels)
    assert outline.label == 65_535
    assert outline.polygons[0][0].tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]


def test_a_rectangle_has_four_corners_whatever_its_size() -> None:
    labels = np.zeros((50, 70), np.int32)
    labels[10:40, 20:60] = 7
    (outline,) = outlines(labels)
    assert outline.polygons[0][0].tolist() == [[20, 10], [60, 10], [60, 40], [20, 40]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.slow
def test_five_thousand_cells_are_a_matter_of_seconds(dtype: Any) -> None:
    y, x = np.mgrid[:4096, :4096]
    discs = ((y % 57) - 28) ** 2 + ((x % 57) - 28) ** 2 < 25**2
    labels = (discs * ((y // 57) * 72 + x // 57 + 1)).astype(dtype)
    started = time.perf_counter()
    found = outlines(labels)
    assert time.perf_counter() - started < 20  # 2 s on two idle cores
    assert len(found) > 5000
    assert sum(outline.area for outline in found) == np.count_nonzero(labels)
