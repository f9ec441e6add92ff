"""Cells of several planes become one array of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.segmentation.result import CellStack


def dots(n: int, offset: int) -> NDArray[np.uint16]:
    """Cells of one pixel each, every other one of a plane."""
    cells = np.zeros((2, 45_000), np.uint16)
    cells[offset, : 2 * n : 2] = np.arange(1, n + 1)
    return cells


def stacked(
    planes: list[NDArray[np.uint16]], shape: tuple[int, ...], axis: int | None = None
) -> tuple[NDArray[Any], int]:
    stack = CellStack(shape)
    for index, plane in zip(np.ndindex(shape[:-2]), planes, strict=True):
        stack.put(index, plane, int(plane.max()))
    return stack.linked(axis)


def test_planes_are_put_together() -> None:
    planes = [dots(3, 0), dots(2, 1), dots(0, 0), dots(5, 1)]
    cells, n = stacked(planes, (2, 2, 2, 45_000))
    assert n == 10
    assert cells.dtype == np.uint16
    np.testing.assert_array_equal(cells.reshape(4, 2, 45_000), np.stack(planes))


def test_one_plane_is_not_copied() -> None:
    plane = dots(3, 0)
    cells, n = stacked([plane], plane.shape)
    assert n == 3
    assert cells is plane


def test_a_plane_in_its_room_is_not_copied_either() -> None:
    stack = CellStack((2, 2, 45_000))
    room = stack.room((1,))
    assert room is not None
    room[:] = dots(4, 0)
    stack.put((1,), room, 4)
    cells, n = stack.linked()
    assert n == 4
    assert np.shares_memory(cells, room)
    np.testing.assert_array_equal(cells, np.stack([dots(0, 0), dots(4, 0)]))


def test_a_plane_of_many_cells_widens_the_stack() -> None:
    stack = CellStack((3, 2, 45_000))
    stack.put((0,), dots(3, 0), 3)
    many = np.arange(90_000, dtype=np.uint32).reshape(2, 45_000)
    stack.put((1,), many, 89_999)
    room = stack.room((2,))
    assert room is not None
    assert room.dtype == np.uint32
    room[:] = dots(2, 1)
    stack.put((2,), room, 2)
    cells, n = stack.linked()
    assert n == 90_004
    np.testing.assert_array_equal(cells, np.stack([dots(3, 0), many, dots(2, 1)]))


@pytest.mark.parametrize("axis", [0, 1])
def test_links_number_each_stack_on_its_own(axis: int) -> None:
    planes = [dots(3, 0), dots(2, 1), dots(4, 0), dots(2, 1)]
    planes[0][0, 6] = 9  # in the place of the fourth cell of the third plane
    cells, n = stacked(planes, (2, 2, 2, 45_000), axis)
    first, second = np.moveaxis(cells, axis, 1)
    assert first[0, 0, :8:2].tolist() == [1, 2, 3, 4]
    if axis == 0:  # planes 0 and 2 hold the same cells
        assert first[1, 0, :8:2].tolist() == [1, 2, 3, 4]
        assert second[1, 1, :4:2].tolist() == second[0, 1, :4:2].tolist() == [1, 2]
        assert n == 4
    else:
        assert first[1, 1, :4:2].tolist() == [5, 6]
        assert second[0, 0, :8:2].tolist() == [1, 2, 3, 4]
        assert second[1, 1, :4:2].tolist() == [5, 6]
        assert n == 6


def test_more_linked_cells_than_16_bits_hold() -> None:
    """The stack that was linked before keeps its numbers."""
    few = [dots(2, 0), dots(3, 1), dots(2, 0)]
    many = [dots(22_000, 0), dots(22_000, 1), dots(22_000, 0)]
    cells, n = stacked(few + many, (2, 3, 2, 45_000), 1)
    assert n == 66_000
    assert cells.dtype == np.uint32
    np.testing.assert_array_equal(np.unique(cells[0]), np.arange(8))
    np.testing.assert_array_equal(cells[0, 0], few[0])
    np.testing.assert_array_equal(np.unique(cells[1]), np.arange(66_001))
    np.testing.assert_array_equal(cells[1, 0], many[0])
