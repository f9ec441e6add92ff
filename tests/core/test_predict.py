"""Tiled equals untiled: with plain functions, and with real networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.normalize import Limits, percentile_limits
from napari_unet_cells.core.predict import (
    FunctionNetwork,
    Output,
    TileDone,
    in_bytes,
    predict_tiles,
)
from napari_unet_cells.core.tiling import TileGrid

UNIT = Limits(0.0, 1.0)


def blur(reach: int, stride: int) -> Any:
    """Make a stand-in for a network: the mean of cells of `stride`, blurred, zero padded.

    As a network does it, it mixes all pixels of an aligned cell, and reaches a known number
    of cells beyond it; beyond the borders of its input it sees zeros.
    """
    weights = np.random.default_rng(reach).uniform(0.1, 1.0, (2 * reach + 1, 2 * reach + 1))

    def function(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        n, height, width, _ = batch.shape
        assert n == 1
        assert height % stride == width % stride == 0
        image = batch[0].astype(np.float64).mean(axis=2)
        cells = image.reshape(height // stride, stride, width // stride, stride)
        means = ndimage.convolve(cells.mean(axis=(1, 3)), weights, mode="constant")
        spread = np.kron(means, np.ones((stride, stride)))
        # All bits of the result, so that nothing is equal by rounding.
        bits = (spread + image).astype(np.float64).view(np.uint64)
        return np.stack([(bits >> shift & 255).astype(np.uint8) for shift in (0, 16, 32)], -1)[None]

    return function


def predicted(plane: Any, network: FunctionNetwork, grid: TileGrid, limits: Limits = UNIT) -> Any:
    out = Output.empty(grid.shape, probabilities=2)
    for _ in predict_tiles(plane, network, limits, grid, out):
        pass
    return np.stack([out.classes, *out.probabilities])


def untiled(plane: Any, network: FunctionNetwork, limits: Limits = UNIT) -> Any:
    whole = TileGrid.plan(plane.shape[:2], network.stride, network.halo, 1 << 20)
    assert len(whole) == 1
    return predicted(plane, network, whole, limits)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    stride=st.sampled_from([1, 2, 4, 8]),
    reach=st.integers(0, 3),
    extra=st.integers(0, 60),
    first=st.integers(0, 64),
    colours=st.sampled_from([0, 3]),
)
@example(shape=(33, 33), stride=8, reach=0, extra=0, first=0, colours=0)
@example(shape=(1, 150), stride=8, reach=1, extra=0, first=8, colours=3)
def test_tiled_equals_untiled(
    shape: tuple[int, int], stride: int, reach: int, extra: int, first: int, colours: int
) -> None:
    network = FunctionNetwork(blur(reach, stride), stride, halo=reach * stride)
    full_shape = (*shape, colours) if colours else shape
    plane = np.random.default_rng(1).random(full_shape, dtype=np.float32)
    grid = TileGrid.plan(shape, stride, network.halo, 2 * network.halo + stride + extra, first)
    np.testing.assert_array_equal(predicted(plane, network, grid), untiled(plane, network))


def test_a_halo_too_small_by_one_stride_shows() -> None:
    plane = np.random.default_rng(1).random((120, 120), dtype=np.float32)
    network = FunctionNetwork(blur(3, 4), 4, halo=12)
    short = TileGrid.plan((120, 120), 4, 8, max_tile=48, first=0)
    enough = TileGrid.plan((120, 120), 4, 12, max_tile=48, first=0)
    np.testing.assert_array_equal(predicted(plane, network, enough), untiled(plane, network))
    assert (predicted(plane, network, short) != untiled(plane, network)).any()


def test_the_plane_is_padded_by_reflection_at_its_end_only() -> None:
    seen: list[NDArray[np.float32]] = []

    def keep(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen.append(batch)
        return np.zeros((*batch.shape[:3], 3), np.uint8)

    plane = np.arange(30, dtype=np.float32).reshape(5, 6)
    predicted(plane, FunctionNetwork(keep, 4), TileGrid.plan((5, 6), 4, 0), Limits(0, 29))
    (batch,) = seen
    assert batch.shape == (1, 8, 8, 1)
    assert batch.dtype == np.float32
    expected = np.pad(plane, ((0, 3), (0, 2)), mode="reflect") / 29
    np.testing.assert_allclose(batch[0, ..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (2, 3)])
@pytest.mark.parametrize("colours", [(), (3,)])
def test_the_smallest_planes_are_predicted(
    shape: tuple[int, int], colours: tuple[int, ...]
) -> None:
    plane = np.ones((*shape, *colours), np.uint8)
    result = untiled(plane, FunctionNetwork(blur(1, 16), 16, 16))
    assert result.shape == (3, *shape)


def uncertainty_of(values: NDArray[np.uint8], shape: tuple[int, int] = (40, 50)) -> Any:
    """Predict `values` (y, x, 1 + k) tile by tile and give the uncertainty."""

    def look_up(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        y, x = (np.round(batch[0, ..., c] * 64).astype(int) for c in (0, 1))
        return values[np.minimum(y, shape[0] - 1), np.minimum(x, shape[1] - 1)][None]

    out = Output.empty(shape, probabilities=2 if values.shape[2] == 3 else 0)
    out = replace(out, uncertainty=np.zeros(shape, np.uint8))
    positions = np.stack([*np.indices(shape), np.zeros(shape)], axis=-1) / 64
    network = FunctionNetwork(look_up, 4, 4, channels=3)
    grid = TileGrid.plan(shape, 4, 4, max_tile=24)
    assert len(grid) > 4
    for _ in predict_tiles(positions, network, UNIT, grid, out):
        pass
    return out.uncertainty


def test_the_uncertainty_is_the_margin_of_cell_boundary_and_background() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((0.5, 0.5, 0.5), (40, 50))
    values = np.zeros((40, 50, 3), np.uint8)
    values[..., 1:] = np.round(shares[..., 1:] * 255)
    values[0, :3, 1:] = [(128, 128), (255, 0), (0, 0)]  # rounded, more than 255
    result = uncertainty_of(values).astype(int)
    assert result[0, :3].tolist() == [255, 0, 0]
    low, high = np.sort(shares, axis=-1)[..., 1:].transpose(2, 0, 1)
    exact = 255 * (1 - (high - low))
    np.testing.assert_allclose(result.flat[3:], exact.flat[3:], atol=1.5)


def test_the_uncertainty_of_a_class_network_is_its_own() -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 2)).astype(np.uint8)
    np.testing.assert_array_equal(uncertainty_of(values), values[..., 1])


def channels_seen(plane: Any, channels: int) -> int:
    seen: list[int] = []

    def count(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen.append(batch.shape[-1])
        return np.zeros((*batch.shape[:3], 3), np.uint8)

    untiled(plane, FunctionNetwork(count, channels=channels))
    return seen[0]


def test_grey_planes_stay_grey_and_colour_planes_fit_the_network() -> None:
    grey, colour = np.eye(9), np.ones((9, 9, 3))
    assert channels_seen(grey, channels=1) == 1
    assert channels_seen(grey, channels=3) == 1  # the network repeats it, which is less to send
    assert channels_seen(colour, channels=1) == 1
    assert channels_seen(colour, channels=3) == 3


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f2", "f4", "f8"])
def test_the_dtype_of_the_plane_does_not_matter(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 120, (40, 40))
    network = FunctionNetwork(blur(1, 2), 2, 2)
    limits = percentile_limits(values)
    assert limits is not None
    expected = untiled(values.astype(np.uint8), network, limits)
    result = untiled(values.astype(dtype), network, limits)
    # The blur shows all bits, so only the highest are alike between float32 and float64.
    assert np.mean(result[2] == expected[2]) > 0.9


class Lazy:
    """A plane that counts what is read of it."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.shape, self.largest = data, data.shape, 0

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: D105
        part: NDArray[Any] = self.data[key]
        self.largest = max(self.largest, part.size)
        return part


def test_a_lazy_plane_is_read_tile_by_tile() -> None:
    plane = Lazy(np.random.default_rng(0).random((300, 300)))
    network = FunctionNetwork(blur(1, 4), 4, 4)
    grid = TileGrid.plan((300, 300), 4, 4, max_tile=64)
    np.testing.assert_array_equal(predicted(plane, network, grid), untiled(plane.data, network))
    plane.largest = 0
    predicted(plane, network, grid)
    assert plane.largest <= 64 * 64


def test_progress_counts_every_pixel_after_it_was_written() -> None:
    plane = np.ones((100, 90))
    network = FunctionNetwork(lambda b: np.full((*b.shape[:3], 1), 2, np.uint8), 4, 4)
    grid = TileGrid.plan((100, 90), 4, 4, max_tile=40, first=16)
    out = Output.empty((100, 90), probabilities=0)
    assert out.probabilities is None
    for event in predict_tiles(plane, network, UNIT, grid, out):
        assert event.pixels_total == 9000
        assert event.pixels_done == np.count_nonzero(out.classes)
    assert isinstance(event, TileDone)
    assert event.pixels_done == 9000


class Watched(FunctionNetwork):
    """A network that knows whether its generator was closed."""

    closed = 0

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        try:
            for batch in batches:
                yield self.function(batch)
        finally:
            type(self).closed += 1


def test_a_generator_that_is_closed_leaves_the_tiles_so_far() -> None:
    Watched.closed = 0
    network = Watched(lambda b: np.ones((*b.shape[:3], 1), np.uint8))
    grid = TileGrid.plan((100, 100), 1, 0, max_tile=10, first=0)
    out = Output.empty((100, 100), probabilities=0)
    events = predict_tiles(np.ones((100, 100)), network, UNIT, grid, out)
    for _ in range(3):
        next(events)
    assert Watched.closed == 0
    events.close()  # type: ignore[attr-defined]
    assert Watched.closed == 1
    assert np.count_nonzero(out.classes) == 300


def test_the_network_is_told_at_once_when_writing_fails() -> None:
    class Full:
        shape = (100, 100)

        def __setitem__(self, key: Any, value: Any) -> None:
            raise OSError("no space left")

    Watched.closed = 0
    network = Watched(lambda b: np.ones((*b.shape[:3], 1), np.uint8))
    grid = TileGrid.plan((100, 100), 1, 0, max_tile=10)
    with pytest.raises(OSError, match="no space") as error:
        list(predict_tiles(np.ones((100, 100)), network, UNIT, grid, Output(Full())))
    assert Watched.closed == 1  # although the traceback still holds the generator
    assert error.traceback


def test_a_network_that_gives_too_few_answers_is_a_defect() -> None:
    class Lazybones(FunctionNetwork):
        def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
            yield self.function(next(iter(batches)))

    network = Lazybones(lambda b: np.ones((*b.shape[:3], 1), np.uint8))
    grid = TileGrid.plan((100, 100), 1, 0, max_tile=50, first=0)
    with pytest.raises(ValueError, match="zip"):
        list(predict_tiles(np.ones((100, 100)), network, UNIT, grid, Output.empty((100, 100), 0)))


# With real networks. Untrained weights would hardly show pixels at the rim of the field of
# view, so every kernel is made to look at its rim only, to one side: a network that shifts.
LEFT, RIGHT, UP, DOWN = (1, 0), (1, 2), (0, 1), (2, 1)


def looking(model: Any, side: tuple[int, int]) -> None:
    """Give every 3x3 kernel weights at one (row, column) only, of about 1 in sum."""
    rng = np.random.default_rng(3)
    for layer in model.layers:
        weights = [np.zeros_like(w) for w in layer.get_weights()]
        if layer.name == "logits" or layer.name == "head":
            weights = [rng.normal(size=w.shape) for w in weights]
        elif "BatchNormalization" in type(layer).__name__:
            weights = [np.ones_like(w) * (i in (0, 3)) for i, w in enumerate(weights)]
        elif weights:
            kernel = weights[0]
            at = side if kernel.shape[0] == 3 else (slice(None), slice(None))
            inputs = 1 if "Depthwise" in type(layer).__name__ else kernel.shape[2]
            if "Transpose" in type(layer).__name__:
                inputs = kernel.shape[3]
            kernel[at] = rng.uniform(0.8, 1.2, kernel[at].shape) / inputs
        layer.set_weights(weights)


def network_of(model: Any, stride: int, halo: int) -> FunctionNetwork:
    """Give the argmax and two logits as they are, which a float `Output` takes."""
    import tensorflow as tf

    compiled = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)

    def function(batch: NDArray[np.float32]) -> Any:
        if batch.shape[-1] != model.input_shape[-1]:
            batch = np.repeat(batch, model.input_shape[-1], axis=-1)
        logits = compiled(batch).numpy()
        return np.concatenate([logits.argmax(axis=-1)[..., None], logits[..., :2]], axis=-1)

    return FunctionNetwork(function, stride, halo, model.input_shape[-1])


def logits_of(plane: Any, network: FunctionNetwork, grid: TileGrid) -> Any:
    out = Output(np.zeros(grid.shape), np.zeros((2, *grid.shape)))
    for _ in predict_tiles(plane, network, UNIT, grid, out):
        pass
    return np.stack([out.classes, *out.probabilities])


def whole_logits(plane: Any, network: FunctionNetwork) -> Any:
    grid = TileGrid.plan(plane.shape[:2], network.stride, network.halo, 1 << 20)
    assert len(grid) == 1
    return logits_of(plane, network, grid)


@pytest.fixture(
    scope="module", params=[(n, s) for n in ("mobilenet_unet", "unet_mini") for s in (LEFT, DOWN)]
)
def real(request: pytest.FixtureRequest) -> FunctionNetwork:
    from napari_unet_cells.models import architectures

    name, side = request.param
    model = architectures.build(name, n_classes=3, channels=3)
    stride = architectures.ARCHITECTURES[name].stride
    halo = architectures.measure_halo(model, stride)
    looking(model, side)
    return network_of(model, stride, halo)


#: Between logits of the order of 1: sums of other orders for other sizes.
ROUNDING = 1e-5


@pytest.mark.network
@pytest.mark.parametrize(
    ("shape", "extra"), [((401, 390), 0), ((250, 700), 48), ((611, 16), 32), ((1, 401), 0)]
)
def test_a_real_network_gives_the_same_in_tiles(
    real: FunctionNetwork, shape: tuple[int, int], extra: int
) -> None:
    plane = np.random.default_rng(0).uniform(0.5, 1.0, shape)
    limit = 2 * real.halo + 96 + extra
    grid = TileGrid.plan(shape, real.stride, real.halo, limit, first=32)
    assert len(grid) > 1
    tiles, whole = logits_of(plane, real, grid), whole_logits(plane, real)
    assert shape[0] == 1 or whole[1:].std(axis=(1, 2)).min() > 0.01
    np.testing.assert_allclose(tiles[1:], whole[1:], rtol=0, atol=ROUNDING)
    assert np.mean(tiles[0] != whole[0]) < 1e-4  # where two logits are equal but for rounding


@pytest.mark.network
def test_a_real_network_shows_a_halo_too_small_by_one_stride() -> None:
    from napari_unet_cells.models import architectures

    plane = np.random.default_rng(0).uniform(0.5, 1.0, (64, 700, 3))
    for name in ("mobilenet_unet", "unet_mini"):
        model = architectures.build(name, n_classes=3, channels=3)
        stride = architectures.ARCHITECTURES[name].stride
        exact = architectures.measure_halo(model, stride)
        worst = dict.fromkeys((exact, exact - stride), 0.0)
        for side in (LEFT, RIGHT):
            looking(model, side)
            network = network_of(model, stride, exact)
            whole = whole_logits(plane, network)
            for halo in worst:
                grid = TileGrid.plan((64, 700), stride, halo, 2 * halo + 64, first=0)
                difference = np.abs(logits_of(plane, network, grid) - whole)[1:].max()
                worst[halo] = max(worst[halo], float(difference))
        assert worst[exact] < ROUNDING, name
        assert worst[exact - stride] > 1000 * ROUNDING, name


def test_probabilities_become_bytes_of_the_nearest_step() -> None:
    values = np.array([0.0, 0.49 / 255, 0.51 / 255, 0.5, 254.4 / 255, 1.0], np.float32)
    rounded = in_bytes(values)
    assert rounded.dtype == np.uint8
    assert rounded.tolist() == [0, 0, 1, 128, 254, 255]
