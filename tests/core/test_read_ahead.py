"""What was read is kept, what is next is read ahead, and all is as in the array itself."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core import read_ahead
from napari_unet_cells.core.read_ahead import ReadAhead


class Counted:
    """An array that notes what is read."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels, self.read = pixels, list[Any]()
        self.shape, self.dtype = pixels.shape, pixels.dtype
        #: Whether the planes behind the second cannot be read.
        self.lost = False

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        if self.lost and key[0] > 1:
            raise OSError("lost")
        self.read.append(key)
        return self.pixels[key]


@pytest.fixture
def stack() -> Counted:
    return Counted(np.arange(5 * 1 * 6 * 8).reshape(5, 1, 6, 8))


@pytest.fixture(autouse=True)
def no_quiet(monkeypatch) -> None:
    monkeypatch.setattr(read_ahead, "QUIET", 0.0)


def settle(array: ReadAhead) -> None:
    end = time.monotonic() + 20
    while array.busy and time.monotonic() < end:
        time.sleep(0.002)
    assert not array.busy


@pytest.mark.parametrize(
    "key",
    [
        2,
        (0, 0),
        (slice(1, 2), slice(0, 1), slice(0, 3), slice(2, 8)),
        (np.int64(4), slice(None), slice(None, None, 2)),
        (..., 3),
        (slice(None),),
        (slice(-1, None), 0),
        ([0, 2], 0),
    ],
)
def test_parts_are_those_of_the_array(stack, key) -> None:
    array = ReadAhead(stack)
    for _ in range(2):
        np.testing.assert_array_equal(array[key], stack.pixels[key])
    settle(array)
    np.testing.assert_array_equal(array[key], stack.pixels[key])
    np.testing.assert_array_equal(np.asarray(array), stack.pixels)


def test_a_part_is_read_once_and_then_that_of_the_planes_beside_it(stack) -> None:
    array = ReadAhead(stack)
    window = slice(0, 1), slice(0, 3), slice(0, 4)
    array[(slice(2, 3), *window)]
    settle(array)
    assert [key[0] for key in stack.read] == [slice(2, 3), slice(1, 2), slice(3, 4)]
    stack.read.clear()
    array[(slice(3, 4), *window)]
    settle(array)
    assert [key[0] for key in stack.read] == [slice(4, 5)]
    stack.read.clear()
    array[(slice(4, 5), *window)]  # the last plane
    settle(array)
    assert stack.read == []


def test_what_was_asked_for_longest_ago_goes_where_there_is_no_room(stack) -> None:
    plane = 6 * 8 * 8
    array = ReadAhead(stack, most_bytes=2 * plane)
    for number in (0, 1, 0, 2):
        array[number, 0]
    assert not array.busy  # with its neighbours a plane would not fit
    assert array.n_bytes == 2 * plane
    stack.read.clear()
    array[0, 0]
    assert stack.read == []
    array[1, 0]
    assert len(stack.read) == 1


def test_what_is_kept_cannot_be_written_into(stack) -> None:
    array = ReadAhead(stack)
    with pytest.raises(ValueError, match="read-only"):
        array[1, 0][0, 0] = 7
    settle(array)


def test_a_part_that_cannot_be_read_ahead_is_told_to_who_asks(stack) -> None:
    array = ReadAhead(stack)
    stack.lost = True
    array[1, 0]
    settle(array)
    assert [key[0] for key in stack.read] == [1, 0]
    with pytest.raises(OSError, match="lost"):
        array[2, 0]
    settle(array)
