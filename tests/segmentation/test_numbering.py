"""Ids of the cells of blocks: one for each cell, also where two blocks saw it differently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.plane_blocks import PlaneBlocks
from napari_unet_cells.segmentation.blocks import SIDES
from napari_unet_cells.segmentation.numbering import BlockIndex, Numbering, number_cells

SHAPE = (8, 12)
BLOCKS = PlaneBlocks(SHAPE, SHAPE, 4, 2)


def index_of(number: int, seen: NDArray[np.int64], cut: tuple[int, ...] = ()) -> BlockIndex:
    """Give what a block knows that sees the plane like this: the key of each pixel, -1 for none."""
    y, x = BLOCKS.block(number).core
    core = seen[y, x]
    keys = np.unique(core[core >= 0])
    owned = [
        key for key in np.unique(seen) if key >= 0 and BLOCKS.owners(np.array([key]))[0] == number
    ]
    local = np.array([-1, *owned, *(key for key in keys if key not in owned)], np.int64)
    beyond = {
        "above": seen[y.start - 1, x] if y.start else seen[:0, 0],
        "below": seen[y.stop, x] if y.stop < SHAPE[0] else seen[:0, 0],
        "left": seen[y, x.start - 1] if x.start else seen[:0, 0],
        "right": seen[y, x.stop] if x.stop < SHAPE[1] else seen[:0, 0],
    }
    rims = dict(zip(SIDES, (core[0], core[-1], core[:, 0], core[:, -1]), strict=True))
    return BlockIndex(local, len(owned), np.isin(local, cut), np.isin(local, keys), beyond, rims)


def keys_of(*cells: tuple[slice, slice]) -> NDArray[np.int64]:
    """Plane of cells that are rectangles, by the key of each."""
    plane = np.full(SHAPE, -1, np.int64)
    for y, x in cells:
        plane[y, x] = y.start * SHAPE[1] + x.start
    return plane


def painted(views: dict[int, NDArray[np.int64]], numbering: Numbering) -> NDArray[np.int64]:
    """Write the ids of all blocks."""
    indices = {number: index_of(number, seen) for number, seen in views.items()}
    plane = np.zeros(SHAPE, np.int64)
    for number, seen in views.items():
        lut = numbering.lut(number, BLOCKS, indices.__getitem__)
        core = BLOCKS.block(number).core
        for local, key in enumerate(indices[number].keys):
            if local:
                plane[core][seen[core] == key] = lut[local]
    return plane


def numbered(
    views: dict[int, NDArray[np.int64]], cut: tuple[int, ...] = ()
) -> tuple[Numbering, NDArray[np.int64]]:
    indices = {number: index_of(number, seen, cut) for number, seen in views.items()}
    numbering = number_cells(BLOCKS, indices.__getitem__)
    return numbering, painted(views, numbering)


ONE, ACROSS, CORNER = np.s_[0:2, 0:2], np.s_[1:3, 3:7], np.s_[3:6, 7:10]
SAME = keys_of(ONE, ACROSS, CORNER)


def test_cells_across_blocks_have_one_id_and_ids_have_no_gaps() -> None:
    numbering, plane = numbered(dict.fromkeys(range(6), SAME))
    assert numbering.n_cells == 3
    np.testing.assert_array_equal(plane > 0, SAME >= 0)
    for cell in (ONE, ACROSS, CORNER):
        assert len(np.unique(plane[cell])) == 1
    assert sorted(np.unique(plane)) == [0, 1, 2, 3]
    assert (numbering.n_disputed, len(numbering.cut)) == (0, 0)


def test_a_cell_that_begins_elsewhere_for_another_block_is_still_one() -> None:
    """The block to the right sees the cell begin one pixel to the right, in its own window."""
    other = keys_of(ONE, np.s_[1:3, 2:7], CORNER)
    assert other[1, 4] != SAME[1, 4]
    for views in ({0: SAME, 1: other}, {0: other, 1: SAME}):
        numbering, plane = numbered(dict.fromkeys(range(6), SAME) | views)
        assert numbering.n_cells == 3
        assert len(np.unique(plane[1:3, 3:7])) == 1
        assert plane[1, 3] > 0
        assert numbering.n_disputed == 1


def test_a_cell_that_two_blocks_own_is_one() -> None:
    """Each of them sees it begin among its own pixels."""
    other = keys_of(ONE, np.s_[1:3, 4:7], CORNER)
    numbering, plane = numbered(dict.fromkeys(range(6), SAME) | {1: other})
    assert numbering.n_cells == 3
    assert len(np.unique(plane[1:3, 3:7])) == 1
    assert sorted(np.unique(plane)) == [0, 1, 2, 3]
    assert numbering.n_disputed == 1


def test_a_cell_that_nobody_owns_gets_an_id() -> None:
    """The block to the left does not see it, the other one sees it begin there."""
    numbering, plane = numbered(dict.fromkeys(range(6), SAME) | {0: keys_of(ONE, CORNER)})
    assert numbering.n_cells == 3
    assert sorted(np.unique(plane)) == [0, 1, 2, 3]
    assert (plane[1:3, 4:7] == 3).all()  # after all others
    assert numbering.n_disputed == 1


def test_a_cell_that_nobody_writes_gets_no_id() -> None:
    """Its owner has none of its pixels, and who has them does not see it."""
    here, there = np.full(SHAPE, -1, np.int64), np.full(SHAPE, -1, np.int64)
    here[1, 4] = 1 * SHAPE[1] + 3  # begins in block 0, by its first pixel that the network sees
    numbering, plane = numbered(dict.fromkeys(range(6), there) | {0: here})
    assert numbering.n_cells == 0
    assert not plane.any()
    numbering, plane = numbered(dict.fromkeys(range(6), there) | {0: here, 1: here})
    assert numbering.n_cells == 1
    assert plane[1, 4] == 1


def test_neighbours_that_both_blocks_know_are_not_joined() -> None:
    """They differ by a pixel on the face, which belongs to either cell."""
    below = np.s_[4:6, 0:3]
    one = keys_of(np.s_[2:4, 0:3], below)
    other = one.copy()
    other[4, 0] = one[3, 0]
    numbering, plane = numbered(dict.fromkeys(range(6), one) | {0: other})
    assert numbering.n_cells == 2
    assert plane[2, 0] != plane[5, 0]


def test_cut_cells_are_counted_once() -> None:
    key = int(SAME[1, 3])
    numbering, _ = numbered(dict.fromkeys(range(6), SAME), cut=(key,))
    assert numbering.cut.tolist() == [key]
    assert numbering.n_disputed == 0
