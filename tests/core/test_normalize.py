"""Limits of a plane and the map to [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet_cells.core import normalize as module
from napari_unet_cells.core.normalize import Limits, normalize, percentile_limits

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_mapped_to_the_same_intensities(dtype: str) -> None:
    ramp = np.linspace(0, 100, 101).astype(dtype).reshape(1, -1)
    pixels = normalize(ramp, Limits(20, 70))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels[0], np.clip((np.arange(101) - 20) / 50, 0, 1), atol=1e-6, strict=False
    )


@pytest.mark.parametrize("dtype", ["u4", "i8", "f8"])
@pytest.mark.parametrize("offset", [1e6, 4e9])
def test_a_small_contrast_on_a_large_offset_survives(dtype: str, offset: float) -> None:
    small = np.arange(200, dtype=np.int64).reshape(10, 20)
    shifted = (small + int(offset)).astype(dtype)
    limits, far = percentile_limits(small), percentile_limits(shifted)
    assert limits is not None
    assert far is not None
    np.testing.assert_allclose(normalize(shifted, far), normalize(small, limits), atol=1e-6)


def test_float32_with_an_offset_keeps_the_digits_it_has() -> None:
    image = (1e6 + np.arange(16, dtype=np.float32) / 16).reshape(4, 4).astype(np.float32)
    limits = Limits(1e6, 1e6 + 15 / 16)
    np.testing.assert_allclose(normalize(image, limits).ravel(), np.arange(16) / 15, atol=1e-6)


def test_not_a_number_becomes_zero_and_infinity_is_clipped() -> None:
    for dtype in ("f2", "f4", "f8"):
        pixels = normalize(np.array([np.nan, np.inf, -np.inf, 0.5], dtype), Limits(0, 1))
        assert pixels.tolist() == [0, 1, 0, 0.5]


def test_the_input_is_left_as_it_was() -> None:
    image = np.array([[0.0, np.nan, 5.0]], np.float64)
    normalize(image, Limits(1, 2))
    np.testing.assert_array_equal(image, [[0.0, np.nan, 5.0]])


def test_limits_are_the_percentiles_of_the_plane() -> None:
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    assert percentile_limits(image) == Limits(10.0, 998.0)


@given(
    st.sampled_from(["u1", "u2"]),
    st.lists(st.integers(0, 255), min_size=2, max_size=60),
    st.sampled_from([1, 100]),
)
def test_limits_of_counted_integers_are_those_of_sorted_ones(
    dtype: str, values: list[int], times: int
) -> None:
    image = (np.array(values) * times).astype(dtype).reshape(1, -1)
    counted = percentile_limits(image, 20, 70.3)
    sorted_ = percentile_limits(image.astype(np.float64), 20, 70.3)
    if sorted_ is None:
        assert counted is None
    else:
        assert counted is not None
        assert (counted.low, counted.high) == pytest.approx((sorted_.low, sorted_.high), abs=1e-9)


def test_limits_ignore_what_is_not_finite() -> None:
    image = np.arange(1001, dtype=np.float32).reshape(7, 143)
    dirty = image.copy()
    dirty[0, 0], dirty[-1, -1] = np.nan, np.inf
    clean = percentile_limits(image.ravel()[1:-1].reshape(1, -1))
    assert percentile_limits(dirty) == clean


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_a_plane_of_one_value_has_no_limits(value: float) -> None:
    assert percentile_limits(np.full((20, 30), value, np.float32)) is None


def test_an_almost_empty_plane_gets_its_extremes() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[3, 4] = 9
    assert percentile_limits(image) == Limits(0.0, 9.0)


def test_channels_share_their_limits_which_keeps_the_hue() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[..., 0] = np.arange(100).reshape(10, 10)
    assert percentile_limits(image, 0, 100) == Limits(0.0, 99.0)


def test_booleans_have_limits() -> None:
    assert percentile_limits(np.eye(5, dtype=bool)) == Limits(0.0, 1.0)


class Recorder:
    """A lazy image that remembers what was asked of it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = shape, np.dtype(np.float64)
        self.keys: list[Any] = []
        self.pixels = 0

    def __getitem__(self, key: Any) -> Any:  # noqa: D105
        self.keys.append(key)
        rows, columns = (range(n)[k] for n, k in zip(self.shape, key, strict=False))
        self.pixels += len(rows) * len(columns)
        return np.add.outer(np.arange(len(rows)), np.arange(len(columns)))


def test_a_large_lazy_plane_is_sampled_in_one_strided_read() -> None:
    image = Recorder((40_000, 30_000))
    limits = percentile_limits(image)
    assert limits is not None
    assert len(image.keys) == 1
    rows, columns = image.keys[0]
    assert rows.step == columns.step > 1
    assert image.pixels <= 1.2 * module.SAMPLE_PIXELS


def test_a_small_plane_is_read_whole() -> None:
    image = Recorder((1000, 1000))
    percentile_limits(image)
    assert image.pixels == 1_000_000


def test_the_sample_gives_the_limits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).normal(500, 100, (1000, 800))
    whole = percentile_limits(image)
    monkeypatch.setattr(module, "SAMPLE_PIXELS", 20_000)
    sampled = percentile_limits(image)
    assert whole is not None
    assert sampled is not None
    assert whole != sampled
    assert abs(sampled.low - whole.low) < 10
    assert abs(sampled.high - whole.high) < 30


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (np.nan, 1)])
def test_limits_that_do_not_rise_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="limits must rise"):
        Limits(low, high)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=50),
    st.sampled_from(["f4", "f8"]),
)
def test_whatever_the_image_the_network_sees_zero_to_one(values: list[float], dtype: str) -> None:
    image = np.array([values], dtype)
    limits = percentile_limits(image)
    if limits is None:
        assert image.min() == image.max()
        return
    pixels = normalize(image, limits)
    assert np.isfinite(pixels).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    order = np.argsort(image[0], kind="stable")
    assert (np.diff(pixels[0][order]) >= 0).all()
