"""From an image to a result that knows how it was made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.normalize import SAMPLE_PIXELS, Limits
from napari_unet_cells.core.planes import Planes, planes_of
from napari_unet_cells.core.predict import FunctionNetwork, MemoryFull, Network
from napari_unet_cells.errors import LostDevice, OutOfMemory, UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import pipeline
from napari_unet_cells.segmentation.cell_diameter import Estimate
from napari_unet_cells.segmentation.pipeline import (
    Progress,
    Separating,
    Settings,
    Started,
    segment_planes,
)
from napari_unet_cells.segmentation.result import Fragments, Result, cells_of, match_numbers

CARD = ModelCard(
    name="stand-in",
    architecture="none",
    classes=("background", "cell", "boundary"),
    channels=1,
    stride=4,
    halo=4,
    sha256="0" * 64,
)


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    cell = batch.mean(axis=-1, keepdims=True) > 0.5
    return np.concatenate([cell, cell * 255, np.zeros_like(cell)], axis=-1).astype(np.uint8)


NETWORK = FunctionNetwork(bright_is_cell, stride=4, halo=4, max_tile=64)


def squares(dtype: Any = np.uint8) -> NDArray[Any]:
    image = np.zeros((150, 130), np.uint8)
    for y in (10, 60, 110):
        for x in (20, 70):
            image[y : y + 20, x : x + 20] = 100
    return image.astype(dtype)


def events_of(
    image: Any, network: FunctionNetwork = NETWORK, card: ModelCard = CARD, **more: Any
) -> list[Any]:
    planes = image if isinstance(image, Planes) else planes_of(image)
    return list(segment_planes(planes, network, card, **more))


def result_of(image: Any, network: FunctionNetwork = NETWORK, **more: Any) -> Result:
    result = events_of(image, network, **more)[-1]
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((5, 5), complex), "data type complex128, not real numbers.*magnitude"),
        (np.array([["a", "b"]]), "data type <U1, not real numbers"),
        (np.array([[None, 1]]), "data type object, not real numbers"),
        (np.array([["2020-01-01"]], "M8[D]"), r"data type datetime64\[D\], not real numbers"),
        (np.zeros(7), r"shape \(7,\), and a plane has height and width"),
        (np.float32(3), r"shape \(\), and a plane has height"),
        (np.zeros((4, 50, 50)), r"shape \(4, 50, 50\), and it is not known.*axes='ZYX' for a"),
        (np.zeros((50, 50, 2)), r"shape \(50, 50, 2\), and it is not known what its axes are"),
        (np.zeros((2, 9, 9, 3)), r"shape \(2, 9, 9, 3\), and it is not known"),
        (np.zeros((0, 5)), r"image is empty: its shape is \(0, 5\)"),
        (np.zeros((5, 0, 3)), r"image is empty: its shape is \(5, 0, 3\)"),
        (np.full((5, 5), 7, np.uint16), "image is constant: every value is 7. Is it the right"),
        (np.zeros((5, 5), bool), "image is constant: every value is 0"),
        (
            np.array([[1.0, np.nan], [np.inf, 2]]),
            "1 of the image's 4 values are infinite.*nan_to",
        ),
        (np.full((5, 5), np.nan), "all are NaN"),
        ([], r"shape \(0,\), and a plane has height"),
    ],
)
def test_what_cannot_be_segmented_is_a_sentence(image: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        events_of(image)


def test_nan_around_an_image_is_background() -> None:
    """As where tiles were stitched and did not cover the whole canvas."""
    image = squares(np.float32)
    alone = result_of(image)
    for shape in ((), (3,)):
        canvas = np.full((image.shape[0] + 20, image.shape[1] + 30, *shape), np.nan, np.float32)
        canvas[:-20, :-30] = image[(..., *[None] * len(shape))]
        result = result_of(canvas)
        assert result.n_cells == alone.n_cells > 0
        assert not result.cells[-20:].any()
        assert not result.cells[:, -30:].any()


def test_the_alpha_channel_is_dropped_whatever_it_holds() -> None:
    colour = np.stack([squares(np.float32)] * 4, axis=-1)
    colour[..., 3] = np.nan
    assert result_of(colour).n_cells == 6


@pytest.mark.parametrize(
    "image",
    [squares(t) for t in ("?", "u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8")]
    + [squares(float) * 1e-6 + 3, np.stack([squares()] * 3, -1), np.asfortranarray(squares())],
    ids=lambda image: f"{image.dtype}-{image.ndim}",
)
def test_six_squares_are_six_cells(image: NDArray[Any]) -> None:
    before = image.copy()
    result = result_of(image)
    np.testing.assert_array_equal(image, before)
    assert result.n_cells == 6
    assert result.cells is not None
    assert result.cells.dtype == np.uint16
    assert result.classes.dtype == np.uint8
    np.testing.assert_array_equal(result.classes > 0, squares() > 0)
    np.testing.assert_array_equal(result.cells > 0, squares() > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("dtype", ["u1", "u8", "f4", "f8"])
def test_the_smallest_planes(shape: tuple[int, int], dtype: str) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    assert result_of(image).classes.shape == shape


@pytest.mark.parametrize("value", [0.0, -5.0, 1e30, -1e30])
def test_a_single_pixel_of_any_value_is_segmented(value: float) -> None:
    assert result_of(np.array([[value]])).classes.shape == (1, 1)


def test_a_few_bright_pixels_that_the_sample_misses_set_the_limits() -> None:
    image = np.zeros((3000, 3000), np.float32)
    image[1:31, 1:31:2] = 1e-3
    image[::2] = 0
    network = FunctionNetwork(bright_is_cell, max_tile=2048)
    result = result_of(image, network)
    assert np.count_nonzero(result.classes) == np.count_nonzero(image) > 0


def test_events_come_in_order_and_the_result_last() -> None:
    events = events_of(squares())
    kinds = [type(event) for event in events]
    n = kinds.count(Progress)
    assert n > 4
    assert kinds == [Started] + [Progress] * n + [Separating, Result]
    assert [event.done for event in events[1:-2]] == sorted(e.done for e in events[1:-2])
    assert events[-3].done == events[-3].total == 150 * 130


def test_a_closed_generator_leaves_the_tiles_so_far() -> None:
    events = segment_planes(planes_of(squares()), NETWORK, CARD)
    started = next(events)
    assert isinstance(started, Started)
    assert started.details.seconds is None
    assert not started.classes.any()
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert 0 < np.count_nonzero(started.classes) < np.count_nonzero(squares())


def test_a_model_without_boundary_makes_classes_only() -> None:
    card = ModelCard("two", "none", ("background", "cell"), 1, 4, 4, sha256="")
    network = FunctionNetwork(lambda batch: bright_is_cell(batch)[..., :1], 4, 4, max_tile=64)
    *events, result = events_of(squares(), network, card)
    assert isinstance(result, Result)
    assert result.cells is None
    assert result.n_cells == 0
    assert {type(event) for event in events} == {Started, Progress}
    assert result.options is None
    assert result.uncertainty is None


def sure_of_bright(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cells with a probability of 204/255, and no doubt of the background."""
    output = bright_is_cell(batch)
    output[..., 1] = output[..., 0] * 204
    return output


@pytest.mark.parametrize("diameter", [22, 80])
def test_the_uncertainty_has_the_size_that_the_network_saw(diameter: float) -> None:
    network = FunctionNetwork(sure_of_bright, stride=4, halo=4, max_tile=64)
    image = np.stack([squares(), np.zeros_like(squares())])
    settings = Settings(diameter=diameter)
    card = zoom_card((20, 24))
    more = {"card": card, "settings": settings}
    assert result_of(planes_of(image, "ZYX"), network, **more).uncertainty is None
    result = result_of(planes_of(image, "ZYX"), network, uncertainty=True, **more)
    seen = result.uncertainty
    assert seen is not None
    assert seen.dtype == np.uint8
    assert seen.shape == ((2, 150, 130) if diameter == 22 else (2, 45, 39))
    assert not seen[1].any()
    assert np.unique(seen[0]).tolist() == [0, 102]  # 255 - (204 - 51)
    if diameter == 22:
        np.testing.assert_array_equal(seen[0] > 0, squares() > 0)


def test_a_model_without_boundary_knows_its_uncertainty() -> None:
    card = ModelCard("two", "none", ("background", "cell"), 1, 4, 4, sha256="")

    def two(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.concatenate([bright_is_cell(batch)[..., :1], np.full_like(batch, 77, "u1")], -1)

    result = events_of(squares(), FunctionNetwork(two), card, uncertainty=True)[-1]
    assert result.cells is None
    np.testing.assert_array_equal(result.uncertainty, np.full((150, 130), 77))


def stack() -> NDArray[Any]:
    """Three planes: squares, nothing but noise, squares that have moved a little."""
    noise = np.random.default_rng(0).integers(0, 8, (150, 130))
    return np.stack([squares(), noise, np.roll(squares(), 3, axis=1)]).astype(np.uint16)


def test_planes_of_a_stack_are_numbered_each_on_its_own() -> None:
    result = result_of(planes_of(stack(), "TYX"))
    assert result.cells is not None
    assert result.cells.shape == result.classes.shape == (3, 150, 130)
    assert [plane.max() for plane in result.cells] == [6, 0, 6]  # noise is not stretched
    assert result.n_cells == 12
    assert result.limits is None


def test_linked_planes_keep_the_id_of_a_cell() -> None:
    planes = planes_of(np.stack([squares(), np.roll(squares(), 3, axis=1)])[None], "TZYX")
    result = result_of(planes, settings=Settings(link=1))
    assert result.cells is not None
    assert result.cells.shape == (1, 2, 150, 130)
    assert result.n_cells == 6
    first, second = result.cells[0]
    assert (first[15, 30], first[65, 80]) == (second[15, 30], second[65, 80])


@pytest.mark.parametrize(("dtype", "axes"), [("u1", "CYX"), ("f8", "YX")])
def test_lazy_images_give_what_arrays_give(dtype: str, axes: str) -> None:
    dask = pytest.importorskip("dask.array")
    image = squares(dtype)[None] if "C" in axes else squares(dtype)
    lazy = dask.from_array(image, chunks=40)
    direct, read = (result_of(planes_of(i, axes)) for i in (image, lazy))
    assert read.n_cells == 6
    np.testing.assert_array_equal(direct.cells, read.cells)


def test_a_lazy_image_is_never_read_as_a_whole() -> None:
    read: list[int] = []

    class Watched:
        shape, dtype = (3000, 2000), np.dtype(np.uint8)

        def __getitem__(self, key: Any) -> Any:
            pixels = np.broadcast_to(np.arange(2000, dtype=np.uint8), self.shape)[key]
            read.append(pixels.size)
            return pixels.copy()

    result_of(planes_of(Watched()), FunctionNetwork(bright_is_cell, 4, 4, max_tile=256))
    assert len(read) > 50
    assert max(read) <= SAMPLE_PIXELS  # the sample for the limits


def zoom_card(window: tuple[float, float]) -> ModelCard:
    return ModelCard("zoomed", "none", CARD.classes, 1, 4, 4, sha256="", diameter_window=window)


@pytest.mark.parametrize(("diameter", "seen"), [(80, (45, 39)), (5, (600, 520)), (22, (150, 130))])
def test_the_network_sees_cells_of_a_size_it_knows(diameter: float, seen: Any) -> None:
    shapes: list[Any] = []

    def look(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        shapes.append(batch.shape[1:3])
        return bright_is_cell(batch)

    network = FunctionNetwork(look, max_tile=1024)
    result = result_of(
        squares(), network, card=zoom_card((20, 24)), settings=Settings(diameter=diameter)
    )
    assert shapes == [seen]
    assert result.cells is not None
    assert result.cells.shape == result.classes.shape == (150, 130)
    assert result.n_cells == 6
    truth = squares() > 0
    for made in (result.cells > 0, result.classes > 0):
        assert np.count_nonzero(made & truth) / np.count_nonzero(made | truth) > 0.8
    np.testing.assert_array_equal(np.unique(result.cells), np.arange(7))
    assert (result.diameter, result.details.diameter_given) == (diameter, True)
    assert result.zoom == pytest.approx(seen[1] / 130)


def test_cells_are_separated_again_without_the_network() -> None:
    image = squares()
    image[0:6, 100:106] = 100
    result = result_of(image)
    assert result.n_cells == 7
    options = replace(CARD.instances, min_size=50)
    cells, n = cells_of(result.fragments, options, image.shape)
    assert n == 6
    assert not cells[0:6, 100:106].any()
    assert result.adjustable is result.fragments  # its name in version 0.1.0
    again, n = cells_of(result.fragments, CARD.instances, image.shape)
    assert n == 7
    np.testing.assert_array_equal(again, result.cells)


def test_cells_that_stay_keep_their_numbers_when_others_go() -> None:
    image = squares()
    image[0:6, 100:106] = 100
    result = result_of(image)
    assert result.cells is not None
    first = CARD.instances
    for _ in range(2):  # with the same options always the same
        cells, n = cells_of(result.fragments, replace(first, min_size=50), image.shape, None, first)
        assert n == 6
        kept = cells > 0
        np.testing.assert_array_equal(cells[kept], result.cells[kept])
        assert len(np.unique(cells)) == 7
    again, n = cells_of(result.fragments, first, image.shape, None, first)
    assert n == 7
    np.testing.assert_array_equal(again, result.cells)


def test_numbers_are_matched_where_more_than_half_is_shared() -> None:
    # Fragments of 10, 10, 6, 4 and 9 pixels; old cells 1 = (1, 2), 2 = (3, 4), 3 = 5 of a hole.
    areas = np.array([0, 10, 10, 6, 4, 9])
    old = np.array([0, 1, 1, 2, 2, 3, 3], np.uint16)
    same = match_numbers(old, old, areas)
    np.testing.assert_array_equal(same, old)
    # 1 in two halves, neither of which is 1; 6 of 10 pixels are enough to be 2; 3 is as it was.
    new = np.array([0, 1, 2, 3, 4, 5, 5], np.uint16)
    found = match_numbers(new, old, areas)
    assert found[3] == 2
    assert found[5] == found[6] == 3
    others = [int(found[i]) for i in (1, 2, 4)]
    assert len({2, 3, *others}) == 5
    assert found[0] == 0
    # All in one.
    merged = match_numbers(np.array([0, 1, 1, 1, 1, 1, 1], np.uint16), old, areas)
    np.testing.assert_array_equal(merged > 0, np.arange(7) > 0)
    np.testing.assert_array_equal(merged[1:], merged[1])


def test_numbers_beyond_16_bits_are_held() -> None:
    n = 65_530
    areas = np.r_[0, np.ones(n + 20, np.int64)]
    old = np.r_[0, np.minimum(np.arange(1, n + 21), n)].astype(np.uint16)
    new = np.r_[0, np.maximum(np.arange(1, n + 21) - 20, 1)].astype(np.uint16)
    found = match_numbers(new, old, areas)
    assert found.max() > 65_535
    assert found.dtype == np.uint32
    assert len(np.unique(found)) == len(np.unique(new))


def test_settings_are_in_pixels_of_the_image() -> None:
    settings = Settings(
        diameter=40, min_size=100, min_probability=0.6, fill_holes=False, drop_border=True
    )
    options = settings.instances(CARD, zoom=0.5)
    assert (options.min_size, options.fill_holes, options.drop_border) == (25, False, True)
    assert (options.min_probability, options.split) == (0.6, CARD.instances.split)
    assert Settings().instances(CARD, zoom=0.5) == CARD.instances


def test_a_full_memory_is_said_and_survived() -> None:
    def small_only(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        if batch.shape[1] * batch.shape[2] > 150**2:
            raise OutOfMemory
        return bright_is_cell(batch)

    image = np.tile(squares(), (4, 4))
    events = events_of(image, FunctionNetwork(small_only, 4, 4, max_tile=512))
    tiles = [event.tile for event in events if isinstance(event, MemoryFull)]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[-1] <= 150
    np.testing.assert_array_equal(events[-1].classes, result_of(image).classes)


def test_a_gpu_that_fails_leaves_the_rest_to_the_cpu_at_once() -> None:
    asked: list[bool] = []
    calls: list[int] = []

    class Gpu(FunctionNetwork):
        def recover(self, cpu: bool) -> Network:
            asked.append(cpu)
            return FunctionNetwork(bright_is_cell, 4, 4, max_tile=128)

    def fails_in_the_middle(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        calls.append(batch.shape[1])
        if len(calls) == 3:
            raise LostDevice
        return bright_is_cell(batch)

    image = np.tile(squares(), (4, 4))
    settings = Settings(diameter=40)
    events = events_of(image, Gpu(fails_in_the_middle, 4, 4, max_tile=256), settings=settings)
    assert asked == [True]
    assert [event.tile for event in events if isinstance(event, MemoryFull)] == [128]
    np.testing.assert_array_equal(events[-1].classes, result_of(image, settings=settings).classes)


def test_the_result_knows_its_maker() -> None:
    options = replace(CARD.instances, min_size=25)
    result = result_of(squares(), source={"path": "a.tif"}, settings=Settings(min_size=25))
    assert (result.options, result.zoom, result.limits) == (options, 1.0, Limits(0.0, 100.0))
    assert result.device == NETWORK.device != ""
    assert result.seconds > 0
    assert result.details.card is CARD
    assert result.details.source == {"path": "a.tif"}
    assert result.provenance == result.details.provenance()


def test_the_recorded_limits_are_those_that_were_used() -> None:
    image = squares(np.float64) * 1e-3 + 5
    limits = result_of(image).limits
    assert limits is not None
    assert limits.low == pytest.approx(5.0)
    assert limits.high == pytest.approx(5.1)


def test_time_augmentation_predicts_four_times_and_says_so() -> None:
    calls = []

    def counted(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        calls.append(batch.shape)
        return bright_is_cell(batch)

    network = FunctionNetwork(counted, stride=4, halo=4, max_tile=64)
    plain = result_of(squares(), network)
    normal = len(calls)
    high = result_of(squares(), network, settings=Settings(test_time_augmentation=True))
    assert len(calls) == 5 * normal
    assert plain.details.test_time_augmentation is False
    assert high.details.test_time_augmentation is True
    np.testing.assert_array_equal(high.cells, plain.cells)  # squares look the same in any mirror


def test_memory_that_is_full_keeps_test_time_augmentation() -> None:
    calls = []

    def full_at_first(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        calls.append(batch.shape)
        if max(batch.shape[1:3]) > 150:
            raise OutOfMemory("full")
        return bright_is_cell(batch)

    network = FunctionNetwork(full_at_first, stride=4, halo=4, max_tile=256)
    events = events_of(squares(), network, settings=Settings(test_time_augmentation=True))
    assert any(isinstance(event, MemoryFull) for event in events)
    assert len(calls) % 4 == 1  # the one that failed
    assert events[-1].n_cells == 6


def test_the_distance_separates_what_the_probability_does_not() -> None:
    # Two squares that touch; the probability of cell is the same all over them.
    image = np.zeros((40, 60), np.uint8)
    image[10:30, 10:50] = 100

    def both(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        columns = np.arange(batch.shape[2])
        hill = 255 - 20 * np.abs((columns - 10) % 20 - 10)
        depth = np.broadcast_to(hill[None, None, :, None], (*batch.shape[:3], 1))
        return np.concatenate([bright_is_cell(batch), depth], axis=-1).astype(np.uint8)

    network = FunctionNetwork(both, stride=4, halo=0, probabilities=3, max_tile=64)
    card = replace(CARD, distance=True)
    assert result_of(image, network, card=card).n_cells == 2
    assert result_of(image, card=CARD).n_cells == 1


@pytest.mark.parametrize("side", [40, 90, 100, 109, 250])
def test_ids_stay_consecutive_where_specks_are_lost_between_pixels(side: int) -> None:
    rng = np.random.default_rng(0)
    probabilities = np.zeros((2, 100, 100), np.uint8)
    probabilities[0] = np.where(rng.random((100, 100)) < 0.2, rng.integers(128, 255), 0)
    options = InstanceOptions(min_size=1, smoothing=0.0, fill_holes=False)
    plane = Fragments.of(probabilities, options, (side, side), 100 / side)
    cells = plane.cells(options)
    assert cells.shape == (side, side)
    assert np.unique(cells).tolist() == list(range(int(cells.max()) + 1))
    assert 0 < cells.max() <= plane.oversegmentation.n_fragments
    assert (cells.max() == plane.oversegmentation.n_fragments) == (side == 100)


@pytest.mark.parametrize(("settings", "begun"), [(None, 14.0), (Settings(likely_diameter=9), 9.0)])
def test_the_estimate_begins_with_the_cells_that_a_model_was_tuned_on(
    monkeypatch: pytest.MonkeyPatch, settings: Settings | None, begun: float
) -> None:
    def estimated(*given: Any) -> Estimate:
        return Estimate(20.0, confirmed=given[-1])

    monkeypatch.setattr(pipeline, "estimate_diameter", estimated)
    card = replace(CARD, diameter_window=(18.0, 36.0), tuned_diameter=14.0)
    details = events_of(squares(), card=card, settings=settings)[-1].details
    assert (details.diameter, details.confirmed_diameter) == (20.0, begun)


@pytest.mark.parametrize(
    ("settings", "diameter", "in_doubt"),
    [
        (None, 14.0, (True, 60.0, 0.0)),
        (Settings(likely_diameter=9), 14.0, (True, 60.0, 0.0)),
        (Settings(diameter=17.0), 17.0, (False, 0.0, 0.0)),
    ],
)
def test_cells_about_as_wide_as_those_of_the_tuning_are_taken_to_be_just_as_wide(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings | None,
    diameter: float,
    in_doubt: tuple[bool, float, float],
) -> None:
    estimate = Estimate(17.0, unsure=True, other=60.0)
    monkeypatch.setattr(pipeline, "estimate_diameter", lambda *given: estimate)
    card = replace(CARD, diameter_window=(18.0, 36.0), tuned_diameter=14.0)
    details = events_of(squares(), card=card, settings=settings)[-1].details
    assert details.diameter == diameter
    assert details.zoom == pytest.approx(18 / 14 if diameter == 14 else 1.0)
    found = details.diameter_unsure, details.other_diameter, details.confirmed_diameter
    assert found == in_doubt
