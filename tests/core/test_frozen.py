"""New labels replace old ones, except what was corrected or approved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from napari_unet_cells.core.frozen import corrected, replace_rest, whole_cells


def row(text: str) -> NDArray[np.uint16]:
    """Labels of one row, such as "11.22."."""
    return np.array([[0 if c == "." else int(c) for c in text]], np.uint16)


def mask(text: str) -> NDArray[np.bool_]:
    return np.array([[c == "x" for c in text]])


@pytest.mark.parametrize(
    ("made", "shown", "marked"),
    [
        ("11.22.3", "11.22.3", "......."),
        ("11.22.3", "11.22..", "......x"),  # deleted
        ("11.22..", "11.22.5", "......x"),  # drawn
        ("11.22.3", "11.222.", "...xxxx"),  # grown, and another deleted
        ("11.22.3", "11.22.7", "......x"),  # given another id
        ("1122...", "1111...", "xxxx..."),  # merged
        ("1111...", "1122...", "xxxx..."),  # split
        (".......", ".......", "......."),
    ],
)
def test_corrected_cells_are_marked(made: str, shown: str, marked: str) -> None:
    np.testing.assert_array_equal(corrected(row(shown), row(made)), mask(marked))


@pytest.mark.parametrize(
    ("regions", "marked"),
    [
        (".......", "......."),
        ("xxxx...", "xxxxx.."),
        ("..x....", "..x...."),
        ("......x", "......x"),
    ],
)
def test_cells_that_reach_into_a_region_belong_to_it(regions: str, marked: str) -> None:
    np.testing.assert_array_equal(whole_cells(row("11.22.3"), mask(regions)), mask(marked))


@pytest.mark.parametrize(
    ("shown", "frozen", "new", "result"),
    [
        # nothing is frozen: the new labels as they are
        ("11.22.3", ".......", "11122..", "11122.."),
        # a redrawn cell stays, the rest follows
        ("11.9993", "...xxx.", "111222.", "111999."),
        # a deleted cell stays deleted
        ("11....3", "...xx..", "11.22.3", "11....3"),
        # a new cell that lies on frozen pixels for the most part is dropped
        (".999...", ".xxx...", "1111...", ".999..."),
        # one that lies outside of them for the most part is cut
        (".99....", ".xx....", "..11111", ".991111"),
        # an id that is taken is given to nobody else
        ("11.....", "xx.....", "....122", "11..322"),
        # of a cell that is cut in two the larger piece stays
        ("..9....", "..x....", "1111111", "..91111"),
    ],
)
def test_the_rest_is_replaced(shown: str, frozen: str, new: str, result: str) -> None:
    found = replace_rest(row(shown), row(new), mask(frozen))
    np.testing.assert_array_equal(found, row(result))


def test_ids_beyond_16_bits_are_held() -> None:
    shown = np.array([[65535, 0, 0, 0]], np.uint16)
    new = np.array([[0, 0, 0, 65535]], np.uint16)
    found = replace_rest(shown, new, shown > 0)
    assert found.dtype == np.uint32
    assert found.tolist() == [[65535, 0, 0, 65536]]


LABELS = arrays(np.uint16, (7, 8), elements=st.integers(0, 4))
MASKS = arrays(np.bool_, (7, 8))
STROKES = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 7), st.sampled_from([0, 1, 2, 4, 6, 7])), max_size=8
)


def painted(labels: NDArray[Any], strokes: list[tuple[int, int, int]]) -> NDArray[Any]:
    shown = labels.copy()
    for y, x, label in strokes:
        shown[max(0, y - 1) : y + 1, x : x + 2] = label
    return shown


@settings(max_examples=200, deadline=None)
@given(LABELS, STROKES, LABELS, MASKS)
def test_what_is_frozen_stays_and_back_again_changes_nothing(
    made: NDArray[Any],
    strokes: list[tuple[int, int, int]],
    new: NDArray[Any],
    approved: NDArray[np.bool_],
) -> None:
    shown = painted(made, strokes)
    frozen = corrected(shown, made) | whole_cells(shown, approved)
    there = replace_rest(shown, new, frozen)
    np.testing.assert_array_equal(there[frozen], shown[frozen])
    for label in set(np.unique(shown[frozen]).tolist()) - {0}:  # nobody else gets its id
        assert not (there == label)[~frozen].any()
    np.testing.assert_array_equal(replace_rest(there, made, frozen), shown)
