"""Tiles: every pixel written once, everything it depends on read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_unet_cells.core.tiling import Span, Tile, TileGrid, length_of_tiles, window_tiles


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[int, int], int, int, int, int]:
    """Shape, stride, halo, max_tile, first."""
    stride = draw(st.sampled_from([1, 2, 4, 8, 16, 32]))
    shape = (draw(st.integers(1, 3000)), draw(st.integers(1, 3000)))
    halo = stride * draw(st.integers(0, 12))
    # Not so small that a plane has millions of tiles.
    max_tile = draw(st.integers(max(1, 2 * halo + min(shape) // 25), 2048))
    return shape, stride, halo, max_tile, draw(st.integers(0, 600))


@settings(max_examples=300, deadline=None)
@given(plans())
@example(((1, 1), 16, 160, 512, 256))
@example(((3000, 1), 16, 0, 128, 16))
@example(((257, 513), 16, 0, 256, 256))
def test_tiles_write_each_pixel_once_and_read_all_it_depends_on(
    plan: tuple[tuple[int, int], int, int, int, int],
) -> None:
    shape, stride, halo, max_tile, first = plan
    grid = TileGrid.plan(shape, stride, halo, max_tile, first)
    limit = max(max_tile // stride * stride, 2 * max(halo, stride) + stride)
    written = np.zeros(shape, np.uint8)
    for number, tile in enumerate(grid):
        assert tile.written > 0
        written[tile.write] += not tile.is_preview
        if tile.is_preview:
            assert number == 0
            again = grid.tiles[1]
            assert not again.is_preview
            assert again.written > 2 * tile.written
            assert (again.write[0].stop, again.write[1].stop) >= (
                tile.write[0].stop,
                tile.write[1].stop,
            )
        for span, size in ((tile.y, shape[0]), (tile.x, shape[1])):
            assert_sound(span, size, stride, halo, limit)
        assert tile.shape == (tile.y.length, tile.x.length)
    assert written.min() == written.max() == 1
    assert sum(t.written for t in grid if not t.is_preview) == shape[0] * shape[1]
    assert grid.done == 0
    assert len({tile.shape for tile in grid if not tile.is_preview}) == 1


def assert_sound(span: Span, size: int, stride: int, halo: int, limit: int) -> None:
    assert 0 <= span.start <= span.write_start < span.write_stop <= span.stop <= size
    assert span.start % stride == 0
    assert span.length % stride == 0
    assert span.length <= limit
    assert span.pad == (0 if span.stop < size else -size % stride)
    if span.start > 0:
        assert span.write_start - span.start >= halo
    if span.stop < size:
        assert span.stop - span.write_stop >= halo
    else:
        assert span.write_stop == size
    # A reflection of `pad` pixels needs one more than that, or the whole axis.
    assert span.stop - span.start > min(span.pad, size - 1)


def test_the_drawing_of_the_module() -> None:
    grid = TileGrid.plan((8, 41), stride=1, halo=3, max_tile=16, first=0)
    assert [(t.x.start, t.x.stop) for t in grid] == [(0, 15), (9, 24), (18, 33), (26, 41)]
    assert [(t.x.write_start, t.x.write_stop) for t in grid] == [
        (0, 12),
        (12, 21),
        (21, 30),
        (30, 41),
    ]


def test_a_plane_that_fits_is_one_tile_padded_at_its_end() -> None:
    (tile,) = TileGrid.plan((100, 64), stride=16, halo=32)
    assert tile == Tile(Span(0, 100, 0, 100, 12), Span(0, 64, 0, 64, 0))
    assert tile.pad == ((0, 12), (0, 0))
    assert tile.shape == (112, 64)
    assert tile.inner == (slice(0, 100), slice(0, 64))


def test_tiles_are_of_equal_size_rather_than_a_large_one_and_a_rest() -> None:
    grid = TileGrid.plan((64, 1040), stride=16, halo=0, max_tile=1024, first=0)
    assert [t.x.length for t in grid] == [544, 544]


def test_the_first_tile_is_small_so_that_something_is_seen_at_once() -> None:
    whole = TileGrid.plan((3000, 3000), 16, 96, 1024, first=0)
    cut = TileGrid.plan((3000, 3000), 16, 96, 1024, first=256)
    assert cut.tiles[0].is_preview
    assert cut.tiles[0].shape == (352, 352)
    assert cut.tiles[0].written == 256 * 256
    assert cut.tiles[1:] == whole.tiles


def test_a_small_plane_is_not_cut_for_a_first_tile() -> None:
    assert len(TileGrid.plan((600, 600), 16, 96, 1024, first=256)) == 1


def test_a_limit_without_room_between_two_halos_is_raised() -> None:
    grid = TileGrid.plan((700, 16), stride=16, halo=160, max_tile=64, first=0)
    assert {t.y.length for t in grid} == {336}
    assert len(grid) == 24


def test_tiles_come_row_by_row() -> None:
    grid = TileGrid.plan((300, 300), 1, 0, 100, first=0)
    starts = [(t.y.start, t.x.start) for t in grid]
    assert starts == sorted(starts)
    assert len(starts) == 9


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_empty_plane_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="has no tiles"):
        TileGrid.plan(shape, 16, 160)


def test_a_halo_that_would_shift_the_alignment_is_refused() -> None:
    with pytest.raises(ValueError, match="halo 40 must be a multiple of the stride 16"):
        TileGrid.plan((100, 100), 16, 40)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.integers(1, 300),
    st.sampled_from([0, 16, 48]),
    st.sampled_from([96, 160, 1024]),
)
def test_tiles_of_a_window_write_it_once_and_see_its_halo(
    blocks: tuple[int, int], start: tuple[int, int], end: int, halo: int, max_tile: int
) -> None:
    stride = 16
    height, width = (
        stride * (first + n) - end % stride for n, first in zip(blocks, start, strict=True)
    )
    shape = height, width
    window = slice(stride * start[0], height), slice(stride * start[1], width)
    least = max(halo, 16)
    lengths = [part.stop - part.start for part in window]
    length = length_of_tiles(max(lengths), stride, halo, max_tile)
    assert length <= max(max_tile, 2 * least + stride)
    grid = window_tiles(shape, window, stride, halo, length)
    written = np.zeros(shape, int)
    for tile in grid:
        written[tile.write] += 1
        for span, size in ((tile.y, height), (tile.x, width)):
            padded = -(-size // stride) * stride
            assert span.start % stride == 0
            assert span.length == min(length, padded)
            assert span.start <= max(0, span.write_start - least)
            assert span.stop >= min(size, span.write_stop + least)
            assert span.pad < span.stop - span.start or size < 32
    inside = np.zeros(shape, int)
    inside[window] = 1
    np.testing.assert_array_equal(written, inside)
