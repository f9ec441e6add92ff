"""Samples of an image on the disk: kept, and the same as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core import normalize, sampled
from napari_unet_cells.core.normalize import percentile_limits, sample_step
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.sampled import SampledArray


class Stored:
    """An array that counts what is read of it."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels, self.read = pixels, list[Any]()
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __getitem__(self, key: Any, /) -> Any:
        """Read a part, and note it."""
        self.read.append(key)
        return self.pixels[key]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "SAMPLE_PIXELS", 400)
    monkeypatch.setattr(sampled, "STRIP", 16)


def stored(*shape: int) -> Stored:
    return Stored(np.random.default_rng(1).integers(0, 60_000, shape, np.uint16))


@pytest.mark.parametrize("shape", [(100, 150), (97, 60, 3), (2, 90, 81)])
def test_what_is_looked_at_once_is_not_read_again(shape: tuple[int, ...]) -> None:
    data = stored(*shape)
    color = len(shape) == 3 and shape[-1] == 3
    n_before = len(shape) - 2 - color
    seen = SampledArray(data, n_before)
    done = list(seen.look((1,) * n_before))
    assert done == sorted(done)
    assert (done[-1], len(done)) == (1.0, -(-shape[n_before] // 16))
    n_read = len(data.read)
    plane = Planes(seen, color).plane((1,) * n_before)
    expected = Planes(data.pixels, color).plane((1,) * n_before)
    step = sample_step(*plane.shape[:2])
    assert step > 2
    for times in (1, 3):
        every = slice(None, None, times * step)
        np.testing.assert_array_equal(plane[every, every], expected[every, every])
    assert percentile_limits(plane) == percentile_limits(expected)
    assert len(data.read) == n_read


def test_all_else_is_read_as_it_is() -> None:
    data = stored(3, 90, 81)
    seen = SampledArray(data, 1)
    list(seen.look((0,)))
    every = slice(None, None, 7)
    for key in (
        (0, every, slice(None, None, 8)),
        (0, slice(3, None, 7), slice(3, None, 7)),
        (1, every, every),
        (slice(None), every, every),
        (0, slice(4, 9), slice(1, 5)),
        (0,),
        (2, 5, 6),
    ):
        np.testing.assert_array_equal(seen[key], data.pixels[key])
    step = sample_step(90, 81)
    off = slice(None, None, step + 1)
    np.testing.assert_array_equal(seen[0, off, off], data.pixels[0, off, off])


def test_a_sample_that_was_asked_for_is_kept_and_few_are() -> None:
    data = stored(20, 60, 60)
    seen = SampledArray(data, 1)
    every, other = slice(None, None, 5), slice(None, None, 10)
    for _ in range(2):
        seen[3, every, every]
    np.testing.assert_array_equal(seen[3, other, other], data.pixels[3, other, other])
    assert len(data.read) == 1
    for index in range(20):
        seen[index, every, every]
    seen[3, every, every]
    assert len(data.read) == 21
