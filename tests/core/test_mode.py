"""Halved labels: the most frequent of four."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet_cells.core.mode import halve_by_mode, halved_shape


def slowly(four: list[int]) -> int:
    most = max(four.count(label) for label in four)
    return next(label for label in four if four.count(label) == most)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_the_most_frequent_wins_and_the_first_of_equals(four: list[int]) -> None:
    found = halve_by_mode(np.array(four, np.uint32).reshape(2, 2))
    assert found.tolist() == [[slowly(four)]]


@given(st.integers(1, 7), st.integers(1, 7))
def test_an_odd_line_at_the_end_counts(height: int, width: int) -> None:
    labels = np.random.default_rng(height * 8 + width).integers(0, 3, (height, width))
    found = halve_by_mode(labels)
    assert found.shape == halved_shape((height, width))
    for y, x in np.ndindex(found.shape):
        rows, columns = ([2 * i, min(2 * i + 1, n - 1)] for i, n in ((y, height), (x, width)))
        assert found[y, x] == slowly([int(labels[r, c]) for r in rows for c in columns])


def test_the_type_stays() -> None:
    assert halve_by_mode(np.full((4, 4), 2**40, np.uint64)).dtype == np.uint64
