"""Lines that were drawn: their pixels are unbroken."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet_cells.core.lines import pixels_along


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 40), st.integers(-9, 40)), min_size=1, max_size=6))
def test_a_line_is_unbroken(path: list[tuple[int, int]]) -> None:
    rows, columns = pixels_along(np.array(path) + 100, (200, 200))
    assert (np.abs(np.diff(rows)) <= 1).all()
    assert (np.abs(np.diff(columns)) <= 1).all()
    assert (rows[0], columns[0]) == (path[0][0] + 100, path[0][1] + 100)
    assert (rows[-1], columns[-1]) == (path[-1][0] + 100, path[-1][1] + 100)
