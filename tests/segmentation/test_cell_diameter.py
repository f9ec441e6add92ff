"""How wide the cells are, with a stand-in that knows cells of one size only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.normalize import percentile_limits
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.cell_diameter import (
    LARGEST_ZOOM,
    diameters_of,
    estimate_diameter,
    zoom_for,
)


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


def estimate(image: Any) -> float:
    plane = planes_of(image).plane(())
    limits = percentile_limits(plane)
    assert limits is not None
    network = FunctionNetwork(knows_thirty, stride=4, halo=16)
    return estimate_diameter(plane, network, limits, InstanceOptions())


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

    plane = planes_of(image).plane(())
    limits = percentile_limits(plane)
    assert limits is not None
    network = FunctionNetwork(takes_it_for_one, stride=4, halo=16)
    diameter = estimate_diameter(plane, network, limits, InstanceOptions())
    assert diameter == pytest.approx(12, rel=0.35)


def test_without_cells_there_is_no_estimate() -> None:
    image = np.zeros((300, 300), np.uint8)
    image[0, 0] = 1
    assert estimate(image) == 0


def test_it_stops_looking_when_what_comes_is_worse() -> None:
    looks = []

    def counted(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        looks.append(batch.shape)
        return knows_thirty(batch)

    image, truth = simulate_nuclei((512, 512), diameter=80.0, seed=1)
    plane = planes_of(image).plane(())
    limits = percentile_limits(plane)
    assert limits is not None
    network = FunctionNetwork(counted, stride=4, halo=16, max_tile=2048)
    diameter = estimate_diameter(plane, network, limits, InstanceOptions())
    assert diameter == pytest.approx(np.median(diameters_of(truth)), rel=0.3)
    assert len(looks) < 6  # not at all six zooms
