"""The scale of a network and back: parts fit together, labels keep their shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.transform import resize_local_mean

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.predict import FunctionNetwork, Output, predict_tiles
from napari_unet_cells.core.resample import (
    NormalizedPlane,
    covered,
    neighbours_of,
    read_for,
    resize_classes,
    resize_labels,
    resize_part,
    resized_of,
    scaled_shape,
    shrink,
)
from napari_unet_cells.core.tiling import TileGrid
from napari_unet_cells.sample_data import simulate_nuclei

UNIT = Limits(0.0, 1.0)


def whole(shape: tuple[int, int]) -> tuple[slice, slice]:
    return slice(0, shape[0]), slice(0, shape[1])


def test_a_plane_is_never_without_pixels() -> None:
    assert scaled_shape((1000, 3), 0.1) == (100, 1)
    assert scaled_shape((10, 20), 2.5) == (25, 50)


def test_shrinking_averages() -> None:
    image = np.random.default_rng(0).random((120, 90), dtype=np.float32)
    small = NormalizedPlane(image, UNIT, (30, 30)).read(whole((30, 30)))[..., 0]
    expected = resize_local_mean(image, (30, 30))
    # Pillow weighs with a triangle of twice the width: as smooth, a little smoother.
    assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.8
    assert small.std() < 0.5 * image.std()
    assert small.mean() == pytest.approx(image.mean(), rel=0.01)


def test_colours_are_resampled_each_on_its_own() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[..., 1] = 255
    large = NormalizedPlane(image, Limits(0, 255), (100, 100)).read(whole((100, 100)))
    np.testing.assert_array_equal(large[..., 1], 1)
    assert not large[..., ::2].any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scaled=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_a_part_is_what_the_whole_holds_there(shape: Any, scaled: Any, cut: Any) -> None:
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    plane = NormalizedPlane(image, UNIT, scaled)
    part = []
    for (a, b), n in zip((cut[:2], cut[2:]), scaled, strict=True):
        start, stop = sorted((int(a * n), int(b * n)))
        part.append(slice(min(start, n - 1), min(n, stop + 1)))  # of a pixel at least
    box = (part[0], part[1])
    np.testing.assert_allclose(plane.read(box), plane.read(whole(scaled))[box], atol=1e-5)


@given(size=st.integers(1, 300), scaled=st.integers(1, 300), cut=st.integers(0, 300))
def test_parts_cover_every_pixel_once(size: int, scaled: int, cut: int) -> None:
    cut = min(cut, scaled)
    first, second = covered(slice(0, cut), scaled, size), covered(slice(cut, scaled), scaled, size)
    assert first.start == 0
    assert first.stop == second.start
    assert second.stop == size


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 140), st.integers(20, 140)),
    zoom=st.sampled_from([0.2, 0.37, 0.5, 0.9, 1.3, 2.0, 3.1]),
    max_tile=st.integers(20, 64),
)
def test_classes_of_tiles_are_those_of_the_whole(shape: Any, zoom: float, max_tile: int) -> None:
    image = np.random.default_rng(2).random(shape, dtype=np.float32)
    scaled = scaled_shape(shape, zoom)

    def thirds(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        return (np.minimum(batch * 3, 2)).astype(np.uint8)

    network = FunctionNetwork(thirds, stride=4, halo=4)
    made = []
    for longest in (max_tile, 1 << 20):
        grid = TileGrid.plan(scaled, 4, 4, longest, first=16)
        out = Output.empty(shape, probabilities=0)
        for _ in predict_tiles(image, network, UNIT, grid, out):
            pass
        made.append(out.classes)
    # Pillow computes in fixed point, so a tie may fall either way.
    assert np.mean(made[0] != made[1]) < 0.01
    assert made[0].shape == shape


def test_the_class_with_the_largest_share_wins() -> None:
    classes = np.array([[0, 2], [2, 2]], np.uint8)
    large = resize_classes(classes, (0, 0, 2, 2), (8, 8))
    assert large[0, 0] == 0
    assert set(np.unique(large)) == {0, 2}  # never 1, which lies between them as a number
    assert resize_classes(classes, (0, 0, 2, 2), (1, 1)) == 2


@pytest.mark.parametrize("zoom", [0.25, 0.4, 0.5])
def test_labels_come_back_with_smooth_edges(zoom: float) -> None:
    _, truth = simulate_nuclei((400, 380), diameter=60, seed=4)
    small = resize_labels(truth, scaled_shape((400, 380), zoom))
    large = resize_labels(small, (400, 380))
    assert large.dtype == truth.dtype
    assert summarize([compare(truth, large)]).ap75 == 1
    stairs = np.kron(small, np.ones((round(1 / zoom),) * 2, truth.dtype))[:400, :380]
    if zoom == 0.25:  # where the stairs are four pixels high
        assert np.mean(large != truth) < 0.9 * np.mean(stairs != truth)


def test_no_label_is_made_up() -> None:
    labels = np.random.default_rng(0).integers(0, 60_000, (40, 50)).astype(np.uint16)
    for shape in ((40, 50), (133, 171), (11, 9), (80, 25)):
        resized = resize_labels(labels, shape)
        assert resized.shape == shape
        assert np.isin(resized, labels).all()


@pytest.mark.parametrize("side", [37, 90, 200, 400])
def test_outlines_are_as_fine_as_what_was_measured(side: int) -> None:
    """Two halves of a disc, seen in 100 x 100 pixels: its edge lies between pixels."""

    def disc(n: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        y, x = (np.mgrid[:n, :n] + 0.5) * (100 / n)
        depth = 30.3 - np.hypot(y - 50, x - 50)
        return depth, np.where(depth >= 0, 1 + (x > 50), 0).astype(np.int32)

    depth, labels = disc(100)
    inside = np.round(depth * 40).clip(-250, 250).astype(np.int16)
    _, truth = disc(side)
    plain, fine = (resize_labels(labels, (side, side), at) for at in (None, inside))
    wrong = [int(np.sum(found != truth)) for found in (plain, fine)]
    assert wrong[1] < 0.5 * wrong[0]
    assert wrong[1] <= 0.004 * side**2


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30), st.integers(0))
def test_what_is_inside_takes_labels_of_what_is_inside(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.integers(-255, 256, (height, width)).astype(np.int16)
    labels = np.where(inside >= 0, rng.integers(1, 4, (height, width)), 0)
    labels = np.where((inside < 0) & (rng.random((height, width)) < 0.3), 4, labels)  # a hole
    resized = resize_labels(labels, (rows, columns), inside)
    share = np.asarray(
        [
            [
                _bilinear(
                    inside, (y + 0.5) * height / rows - 0.5, (x + 0.5) * width / columns - 0.5
                )
                for x in range(columns)
            ]
            for y in range(rows)
        ]
    )
    if (rows, columns) != (height, width):
        clear = np.abs(share) > 1e-3
        np.testing.assert_array_equal(np.isin(resized, (1, 2, 3))[clear], (share >= 0)[clear])
    assert np.isin(resized, labels).all()


def _bilinear(values: NDArray[Any], y: float, x: float) -> float:
    y, x = (float(np.clip(at, 0, n - 1)) for at, n in zip((y, x), values.shape, strict=True))
    return float(
        sum(
            max(0.0, 1 - abs(y - i)) * max(0.0, 1 - abs(x - j)) * values[i, j]
            for i in range(values.shape[0])
            for j in range(values.shape[1])
        )
    )


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(20, 120), st.integers(20, 120)),
    st.tuples(st.integers(20, 120), st.integers(20, 120)),
    st.tuples(st.integers(0, 15), st.integers(0, 15)),
    st.booleans(),
)
def test_a_window_of_labels_is_resized_as_in_the_whole(
    shape: Any, scaled: Any, start: Any, with_inside: bool
) -> None:
    rng = np.random.default_rng(shape[0] * 121 + scaled[1])
    labels = rng.integers(0, 4, scaled)
    inside = np.where(labels > 0, 1, -1).astype(np.int16) * rng.integers(1, 9, scaled)
    whole = resize_labels(labels, shape, inside if with_inside else None)
    window = slice(start[0], scaled[0]), slice(start[1], scaled[1] - 3)
    rows, columns = (resized_of(*values) for values in zip(window, scaled, shape, strict=True))
    part = rows, columns
    for one, own, size, target in zip(part, window, scaled, shape, strict=True):
        if one.start < one.stop:
            needed = neighbours_of(one, size, target)
            assert own.start <= needed.start
            assert needed.stop <= own.stop
    found = resize_part(
        labels[window], window, part, scaled, shape, inside[window] if with_inside else None
    )
    np.testing.assert_array_equal(found, whole[part])


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 2, 4]), st.booleans())
def test_an_image_is_shrunk_to_the_means_of_squares(
    height: int, width: int, factor: int, has_colors: bool
) -> None:
    shape = (height, width, *(3,) * has_colors)
    pixels = np.random.default_rng(height).integers(0, 60_000, shape).astype(np.uint16)
    found = shrink(pixels, factor)
    assert found.dtype == np.uint16
    assert found.shape[:2] == (-(-height // factor), -(-width // factor))
    for y, x in np.ndindex(found.shape[:2]):
        square = pixels[factor * y : factor * (y + 1), factor * x : factor * (x + 1)]
        np.testing.assert_array_equal(found[y, x], np.rint(square.mean(axis=(0, 1))))


@pytest.mark.parametrize("scaled", [(531, 590), (900, 1390), (1952, 2169), (1, 3)])
def test_a_pixel_is_the_same_to_the_last_bit_whatever_part_is_read(scaled: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    pixels = rng.random((900, 1000, 2), np.float32)
    plane = NormalizedPlane(pixels, Limits(0.0, 1.0), scaled)
    whole = plane.read(np.s_[0 : scaled[0], 0 : scaled[1]])
    assert whole.shape == (*scaled, 2)
    for _ in range(20):
        part = []
        for length in scaled:
            start = int(rng.integers(0, length))
            part.append(slice(start, int(rng.integers(start, length)) + 1))
        np.testing.assert_array_equal(plane.read((part[0], part[1])), whole[part[0], part[1]])
        y, x = map(read_for, part, scaled, pixels.shape[:2])
        seen = np.full_like(pixels, np.nan)
        seen[y, x] = pixels[y, x]
        again = NormalizedPlane(seen, Limits(0.0, 1.0), scaled).read((part[0], part[1]))
        np.testing.assert_array_equal(again, whole[part[0], part[1]])
