"""How wide the cells are, with a stand-in that knows cells of one size only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork, Network
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import cell_diameter
from napari_unet_cells.segmentation.cell_diameter import (
    LARGEST_ZOOM,
    Estimate,
    _labels_of,
    as_tuned,
    diameters_of,
    estimate_diameter,
    zoom_for,
)
from napari_unet_cells.segmentation.views import SIDE


@pytest.mark.parametrize(
    ("diameter", "zoom"),
    [(25, 1), (20, 1), (40, 1), (100, 0.4), (10, 2), (42, 1), (19, 1), (0, 1), (1, LARGEST_ZOOM)],
)
def test_an_image_is_zoomed_into_the_models_window(diameter: float, zoom: float) -> None:
    assert zoom_for(diameter, (20, 40)) == pytest.approx(zoom)


def test_a_model_without_a_window_sees_images_as_they_are() -> None:
    assert zoom_for(500, (0, 0)) == 1


def test_diameters_are_those_of_discs_of_the_same_area() -> None:
    labels = np.zeros((100, 100), int)
    y, x = np.ogrid[:100, :100]
    labels[np.hypot(y - 30, x - 30) < 10] = 1
    labels[np.hypot(y - 70, x - 70) < 20] = 5
    np.testing.assert_allclose(diameters_of(labels), [20, 40], rtol=0.02)


def knows_thirty(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Sure of blobs of about thirty pixels, unsure of all others, as a network is."""
    image = batch[0].mean(axis=-1)
    inside = ndimage.gaussian_filter(image, 2) > 0.35
    blobs, n = ndimage.label(inside)
    diameters = np.sqrt(np.bincount(blobs.ravel(), minlength=n + 1) * 4 / np.pi)
    sure = np.exp(-(np.log2(np.maximum(diameters, 1) / 30) ** 2))
    sure[0] = 0
    cell = (255 * (0.55 + 0.45 * sure[blobs]) * inside).astype(np.uint8)
    return np.stack([inside.astype(np.uint8), cell, np.zeros_like(cell)], axis=-1)[None]


Function = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def estimated(image: Any, function: Function = knows_thirty, **known: Any) -> Estimate:
    plane = planes_of(image).plane(())
    limits = percentile_limits(plane)
    assert limits is not None
    network = FunctionNetwork(function, stride=4, halo=16)
    return estimate_diameter(plane, network, limits, InstanceOptions(), **known)


def estimate(image: Any) -> float:
    return estimated(image).diameter


class Counted:
    """Counts the pixels that are shown to `knows_thirty`."""

    def __init__(self) -> None:
        self.pixels = 0

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        self.pixels += batch.size
        return knows_thirty(batch)


@pytest.mark.parametrize("diameter", [6, 12, 30, 80, 150])
@pytest.mark.slow
def test_cells_of_all_sizes_are_measured(diameter: float) -> None:
    side = 700 if diameter < 100 else 1200
    image, truth = simulate_nuclei((side, side), diameter=diameter, blur=0.5, noise=0.03, seed=2)
    true = float(np.median(diameters_of(truth)))
    assert estimate(image) == pytest.approx(true, rel=0.35)


@pytest.mark.slow
def test_the_cells_may_lie_anywhere_in_a_large_image() -> None:
    image = np.full((4000, 4000), 100, np.uint16)
    cells, truth = simulate_nuclei((500, 500), diameter=14, blur=0.5, noise=0.03, seed=2)
    image[3400:3900, 100:600] = cells
    true = float(np.median(diameters_of(truth)))
    assert estimate(image) == pytest.approx(true, rel=0.5)


def test_a_small_image_full_of_cells_is_not_one_cell_seen_from_afar() -> None:
    image = simulate_nuclei((256, 256), diameter=12, seed=2)[0]

    def takes_it_for_one(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        if batch.shape[1] > 64:
            return knows_thirty(batch)
        classes = np.zeros((*batch.shape[:3], 3), np.uint8)
        classes[..., 1] = 255
        return classes

    diameter = estimated(image, takes_it_for_one).diameter
    assert diameter == pytest.approx(12, rel=0.35)


def test_without_cells_there_is_no_estimate() -> None:
    image = np.zeros((300, 300), np.uint8)
    image[0, 0] = 1
    assert estimate(image) == 0


def test_few_pixels_are_looked_at() -> None:
    image, truth = simulate_nuclei((2048, 2048), diameter=24.0, seed=1)
    counted = Counted()
    diameter = estimated(image, counted).diameter
    assert diameter == pytest.approx(np.median(diameters_of(truth)), rel=0.3)
    assert counted.pixels < 0.15 * image.size


@pytest.mark.parametrize(("diameter", "views"), [(24, 4), (30, 4)])
def test_where_two_zooms_leave_no_doubt_the_others_are_left_out(
    diameter: float, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = simulate_nuclei((1100, 1100), diameter=diameter, blur=0.5, noise=0.03, seed=1)[0]
    few, all_ = Counted(), Counted()
    found = estimated(image, few)
    monkeypatch.setattr(cell_diameter._Looking, "at_first", lambda _: 0.0)
    assert found == estimated(image, all_)
    assert few.pixels == views * SIDE**2 < all_.pixels


def test_larger_cells_than_the_first_zooms_suit_are_looked_at_from_further_away() -> None:
    """What fills a view may be cells at one zoom, and one cell at the next."""
    image = simulate_nuclei((1100, 1100), diameter=90, blur=0.5, noise=0.03, seed=1)[0]
    counted = Counted()
    assert estimated(image, counted).diameter == pytest.approx(90, rel=0.35)
    assert counted.pixels > 5 * SIDE**2


def test_a_model_that_knows_larger_cells_looks_at_other_zooms() -> None:
    image, truth = simulate_nuclei((800, 800), diameter=60, blur=0.5, noise=0.03, seed=2)

    def knows_sixty(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        half = batch.reshape(1, SIDE // 2, 2, SIDE // 2, 2, -1).mean(axis=(2, 4))
        return knows_thirty(half).repeat(2, axis=1).repeat(2, axis=2)

    diameter = estimated(image, knows_sixty, window=(36.0, 72.0)).diameter
    assert diameter == pytest.approx(np.median(diameters_of(truth)), rel=0.35)


def test_views_are_separated_together_as_they_are_one_by_one() -> None:
    options = InstanceOptions(split=0.8, min_size=6)
    views = []
    for shape, diameter in (((90, 120), 12), ((120, 60), 25), ((30, 30), 9), ((70, 120), 18)):
        image = simulate_nuclei(shape, diameter=diameter, blur=1, noise=0.02, seed=1)[0]
        cell = np.clip((image / image.max() - 0.15) * 400, 0, 255).astype(np.uint8)
        views.append(np.stack([cell, np.zeros_like(cell)]))
    views.insert(2, np.zeros((2, 40, 40), np.uint8))
    together = _labels_of(views, options)
    assert max(labels.max() for labels in together) > 5
    for labels, view in zip(together, views, strict=True):
        expected = label_cells(view, options)
        # But for a pixel at the border, where the smoothing looks beyond it.
        assert abs(int(labels.max()) - int(expected.max())) <= 1
        assert ((labels > 0) == (expected > 0)).mean() > 0.98
        assert set(np.unique(labels)) == set(range(labels.max() + 1))


# ------------------------------------------------------------------------------ a similar image


@pytest.fixture(scope="module")
def nuclei() -> tuple[NDArray[Any], float]:
    image, truth = simulate_nuclei((700, 700), diameter=40, blur=0.5, noise=0.03, seed=2)
    return image, float(np.median(diameters_of(truth)))


def test_that_of_a_similar_image_is_only_confirmed(nuclei: tuple[NDArray[Any], float]) -> None:
    image, _ = nuclei
    anew, again = Counted(), Counted()
    measured = estimated(image, anew).diameter
    found = estimated(image, again, likely=1.1 * measured)
    # Measured again, and not taken over.
    assert found.diameter == pytest.approx(measured, rel=0.05)
    assert found.confirmed == 1.1 * measured
    assert again.pixels < 0.7 * anew.pixels


def test_what_is_hardly_seen_confirms_nothing(nuclei: tuple[NDArray[Any], float]) -> None:
    def doubts(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        output = knows_thirty(batch)
        output[..., 1] = np.minimum(output[..., 1], 128)
        return output

    image, _ = nuclei
    alone = estimated(image, doubts)
    assert alone.diameter > 0
    assert estimated(image, doubts, likely=alone.diameter) == alone


def test_the_cpu_goes_on_after_full_memory(nuclei: tuple[NDArray[Any], float]) -> None:
    fine = FunctionNetwork(knows_thirty, stride=4, halo=16)
    asked = []

    class Full(FunctionNetwork):
        def recover(self, cpu: bool) -> Network:
            asked.append(cpu)
            return fine

    def full(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        raise OutOfMemory

    plane = planes_of(nuclei[0]).plane(())
    limits = percentile_limits(plane)
    assert limits is not None
    options = InstanceOptions()
    found = estimate_diameter(plane, Full(full, stride=4, halo=16), limits, options)
    assert found == estimate_diameter(plane, fine, limits, options)
    assert asked == [True]  # once for all looks


@pytest.mark.parametrize("factor", [0.1, 0.35, 0.6, 1.7, 3, 10])
def test_that_of_an_image_of_other_cells_changes_nothing(
    nuclei: tuple[NDArray[Any], float], factor: float
) -> None:
    image, true = nuclei
    assert estimated(image, likely=factor * true) == estimated(image)


@pytest.mark.parametrize(
    ("times", "taken"), [(0.72, True), (1.39, True), (0.7, False), (1.41, False)]
)
def test_cells_about_as_wide_as_those_of_a_tuning_are_taken_to_be_just_as_wide(
    times: float, taken: bool
) -> None:
    estimate = Estimate(20.0 * times, unsure=True, other=90.0)
    diameter = 20.0 if taken else 20.0 * times
    assert as_tuned(estimate, 20.0) == Estimate(diameter, unsure=True, other=90.0)
    assert as_tuned(estimate, 0.0) == estimate


def test_where_no_cell_was_seen_none_is_as_in_a_tuning() -> None:
    assert as_tuned(Estimate(), 20.0) == Estimate()


# ------------------------------------------------------------------------------------- in doubt


def test_two_sizes_are_both_named() -> None:
    small = simulate_nuclei((400, 400), diameter=12, blur=0.5, noise=0.03, seed=2)[0]
    large = simulate_nuclei((400, 400), diameter=60, blur=0.5, noise=0.03, seed=2)[0]
    found = estimated(np.concatenate([small, large], axis=1))
    assert found.unsure
    low, high = sorted((found.diameter, found.other))
    assert low == pytest.approx(12, rel=0.4)
    assert high == pytest.approx(60, rel=0.4)


def test_one_size_is_sure(nuclei: tuple[NDArray[Any], float]) -> None:
    found = estimated(nuclei[0])
    assert not found.unsure
    assert found.other == 0


def test_what_the_network_hardly_sees_is_unsure(nuclei: tuple[NDArray[Any], float]) -> None:
    def doubts(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        output = knows_thirty(batch)
        output[..., 1] = np.minimum(output[..., 1], 130)
        return output

    found = estimated(nuclei[0], doubts)
    assert found.diameter > 0
    assert found.unsure


# ------------------------------------------------------------------------------------ bad input


def one_cell() -> NDArray[Any]:
    y, x = np.ogrid[:300, :300]
    return (200 * (np.hypot(y - 90, x - 210) < 20)).astype(np.uint8)


def noise(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(3).random(shape, np.float32)


def with_nan(image: NDArray[Any]) -> NDArray[np.float32]:
    holes = image.astype(np.float32)
    holes[:, : holes.shape[1] // 3] = np.nan
    return holes


def test_one_cell_alone_is_measured() -> None:
    assert estimate(one_cell()) == pytest.approx(40, rel=0.15)


def test_what_no_tile_covered_is_background(nuclei: tuple[NDArray[Any], float]) -> None:
    image, true = nuclei
    assert estimate(with_nan(image)) == pytest.approx(true, rel=0.3)


def test_noise_alone_ends_in_a_number() -> None:
    found = estimated(noise((300, 300)))
    assert 0 <= found.diameter < 300


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (1, 2), (20, 20)])
def test_a_plane_without_room_for_cells_has_none(shape: tuple[int, int]) -> None:
    assert estimated(noise(shape)) == Estimate()


def test_a_long_strip_is_measured() -> None:
    image, truth = simulate_nuclei((80, 3000), diameter=20, blur=0.5, noise=0.03, seed=2)
    true = float(np.median(diameters_of(truth)))
    assert estimate(image) == pytest.approx(true, rel=0.35)
    assert estimate(image.T) == pytest.approx(true, rel=0.35)


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    diameter=st.floats(3, 60),
    likely=st.floats(0, 1000),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=12)
def test_every_plane_ends_in_a_number(
    height: int, width: int, diameter: float, likely: float, seed: int
) -> None:
    image = simulate_nuclei((max(height, 8), max(width, 8)), diameter=diameter, seed=seed)[0]
    image = image[:height, :width]
    assume(image.min() < image.max())
    found = estimated(image, likely=likely)
    assert np.isfinite(found.diameter)
    assert found.diameter >= 0
    assert found.other >= 0
    assert found.unsure or not found.other
