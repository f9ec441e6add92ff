"""Views of a plane, with networks that give back what they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.predict import FunctionNetwork, Network, in_bytes
from napari_unet_cells.core.resample import scaled_shape
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.segmentation.views import APART, SIDE, BusyMap, View, see

LIMITS = Limits(0, 255)


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def mirror(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Give class 0, the image as "cell", and its negative as "boundary"."""
    grey = batch.mean(axis=-1)
    return np.stack([np.zeros_like(grey, np.uint8), in_bytes(grey), in_bytes(1 - grey)], axis=-1)


shapes = st.tuples(st.integers(1, 900), st.integers(1, 900))
zooms = st.sampled_from([0.125, 0.25, 0.37, 0.5, 1.0, 1.9, 4.0])


@given(shape=shapes, zoom=zooms, number=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_views_lie_in_the_plane_and_apart(shape: tuple[int, int], zoom: float, number: int) -> None:
    views = list(BusyMap.of(noise(shape), LIMITS).views(zoom, number))
    assert 1 <= len(views) <= number
    for view in views:
        for part, size, seen in zip(view.part, shape, view.scaled, strict=True):
            assert 0 <= part.start < part.stop <= size
            assert 1 <= seen <= SIDE
            # As much of the plane as a tile can show.
            assert part.stop - part.start == min(int(SIDE / zoom), size)
        assert view.scaled == scaled_shape(
            (view.part[0].stop - view.part[0].start, view.part[1].stop - view.part[1].start), zoom
        )
    for one, other in pairwise(views):
        assert one.part != other.part


def test_an_empty_middle_is_left_for_what_is_busy() -> None:
    plane = np.full((2000, 2000), 100, np.uint8)
    plane[1500:1700, 200:500] = noise((200, 300))
    (view,) = BusyMap.of(plane, LIMITS).views(1.0)
    rows, columns = view.part
    assert rows.start < 1600 < rows.stop
    assert columns.start < 350 < columns.stop


def test_one_bright_spot_does_not_draw_the_view_away_from_the_cells() -> None:
    plane = (100 + 0.2 * noise((1200, 1200))).astype(np.uint8)
    plane[:20, :20] = 255 * (noise((20, 20)) > 128)
    (view,) = BusyMap.of(plane, LIMITS).views(1.0)
    assert view.part[0].start > 300


def test_a_second_view_lies_elsewhere() -> None:
    first, second = BusyMap.of(noise((700, 900)), LIMITS).views(1.0, 2)
    apart = [
        abs(one.start - other.start) for one, other in zip(first.part, second.part, strict=True)
    ]
    assert max(apart) >= APART * SIDE - 3


sizes = st.tuples(st.integers(1, SIDE), st.integers(1, SIDE))


@given(several=st.lists(sizes, min_size=1, max_size=7), colour=st.booleans())
@settings(deadline=None, max_examples=30)
def test_each_view_gets_what_the_network_says_of_its_own_pixels(
    several: list[tuple[int, int]], colour: bool
) -> None:
    plane = noise((SIDE, SIDE, 3) if colour else (SIDE, SIDE))
    views = [View((slice(0, y), slice(0, x)), 1.0, (y, x)) for y, x in several]
    # A stride that does not divide the side of a tile.
    network = FunctionNetwork(mirror, stride=48, halo=48, channels=1)
    seen, _ = see(plane, LIMITS, network, views)
    assert sorted(view.scaled for view, _ in seen) == sorted(several)
    for view, probabilities in seen:
        grey = view.read(plane, LIMITS).mean(axis=2)
        assert probabilities.shape == (2, *view.scaled)
        np.testing.assert_allclose(probabilities[0], in_bytes(grey), atol=1)


def test_small_views_share_a_tile() -> None:
    shown = []

    def counted(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        shown.append(batch.shape)
        return mirror(batch)

    plane = noise((256, 256))
    views = [
        view for zoom in (0.125, 0.25, 0.5, 1.0) for view in BusyMap.of(plane, LIMITS).views(zoom)
    ]
    assert len(see(plane, LIMITS, FunctionNetwork(counted), views)[0]) == 4
    assert shown == [(1, SIDE, SIDE, 1)] * 2


@dataclass(frozen=True)
class Full(FunctionNetwork):
    """Has no memory for its second tile, until it computes on the CPU."""

    asked: list[bool] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)
    on_the_cpu: FunctionNetwork = field(default_factory=lambda: FunctionNetwork(mirror))

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        for batch in batches:
            if len(self.tiles) == 1 and not self.asked:
                raise OutOfMemory
            self.tiles.append(1)
            yield self.function(batch)

    def recover(self, cpu: bool) -> Network:
        if self.asked:
            raise OutOfMemory
        self.asked.append(cpu)
        return self.on_the_cpu


def test_full_memory_is_survived_on_the_cpu() -> None:
    network = Full(mirror)
    plane = noise((600, 600))
    views = list(BusyMap.of(plane, LIMITS).views(1.0, 3))
    seen, left = see(plane, LIMITS, network, views)
    assert [view for view, _ in seen] == views
    assert network.asked == [True]
    assert left is network.on_the_cpu
    for view, probabilities in seen:
        expected = in_bytes(view.read(plane, LIMITS)[..., 0])
        np.testing.assert_array_equal(probabilities[0], expected)


def test_no_memory_on_the_cpu_either_is_said() -> None:
    def never(batch: Any) -> NDArray[np.uint8]:
        raise OutOfMemory

    plane = noise((300, 300))
    views = list(BusyMap.of(plane, LIMITS).views(1.0))
    with pytest.raises(OutOfMemory):
        see(plane, LIMITS, FunctionNetwork(never), views)


def test_from_afar_a_view_is_the_mean_of_what_it_covers() -> None:
    ramp = np.tile(np.linspace(0, 255, 2048, dtype=np.float32), (2048, 1))
    (view,) = BusyMap.of(ramp, LIMITS).views(0.125)
    expected = np.linspace(0, 1, 256)
    np.testing.assert_allclose(view.read(ramp, LIMITS)[128, :, 0], expected, atol=0.005)
