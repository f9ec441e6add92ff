"""Blocks cover a plane once, and see of it what they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet_cells.core.plane_blocks import (
    LONGEST_SIDE,
    UNIT,
    PlaneBlocks,
    side_of_blocks,
)
from napari_unet_cells.core.resample import scaled_shape

SHAPES = st.tuples(st.integers(1, 200), st.integers(1, 200))


@settings(max_examples=40, deadline=None)
@given(
    SHAPES,
    st.sampled_from([0.12, 0.5, 0.87, 1.0, 1.3, 4.0]),
    st.integers(20, 90),
    st.integers(0, 60),
    st.sampled_from([1, 16]),
)
def test_blocks_cover_a_plane_once_and_see_what_they_need(
    shape: tuple[int, int], zoom: float, side: int, margin: int, stride: int
) -> None:
    scaled = scaled_shape(shape, zoom)
    blocks = PlaneBlocks(shape, scaled, side, margin, stride)
    written = np.zeros(shape, int)
    owned = np.zeros(scaled, int)
    keys = np.arange(scaled[0] * scaled[1])
    owners = blocks.owners(keys).reshape(scaled)
    for number in range(len(blocks)):
        block = blocks.block(number)
        assert block.number == number
        written[block.core] += 1
        for axis in (0, 1):
            core, needed = block.core[axis], block.needed[axis]
            window, seen = block.window[axis], block.seen[axis]
            assert core.start % side == 0
            assert seen.start <= core.start < core.stop <= seen.stop
            assert window.start % stride == 0
            assert window.stop % stride == 0 or window.stop == scaled[axis]
            assert window.start <= max(0, needed.start - margin)
            assert window.stop >= min(scaled[axis], needed.stop + margin)
            assert window.stop - window.start <= blocks.longest
        mine = owners == number
        owned += mine
        if margin >= 1:  # what a block owns, it sees
            inside = np.zeros(scaled, bool)
            inside[block.window] = True
            assert inside[mine].all()
    assert (written == 1).all()
    assert (owned == 1).all()


@pytest.mark.parametrize(
    ("shape", "zoom", "side"),
    [
        ((12_000, 12_000), 1.0, 3072),
        ((100_000, 100_000), 1.0, 3072),
        ((8000, 8000), 1.0, 3072),
        ((12_000, 12_000), 0.1, LONGEST_SIDE),
        ((12_000, 12_000), 0.75, 3072),
        ((12_000, 12_000), 4.0, UNIT),
        ((300, 200), 1.0, UNIT),
        ((3100, 10), 1.0, 2048),
    ],
)
def test_blocks_suit_the_network_and_the_chunks(
    shape: tuple[int, int], zoom: float, side: int
) -> None:
    assert side_of_blocks(shape, zoom) == side
    assert side % UNIT == 0
