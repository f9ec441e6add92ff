"""The simulator's truth is true, and the samples are what napari makes layers of."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import ndimage

from napari_unet_cells import sample_data
from napari_unet_cells.sample_data import CAMERA_OFFSET, NUCLEUS_GREY, simulate_nuclei


def test_shapes_and_types() -> None:
    image, truth = simulate_nuclei((120, 90), n=12, diameter=15)
    assert image.shape == truth.shape == (120, 90)
    assert image.dtype == truth.dtype == np.uint16
    assert set(np.unique(truth)) == set(range(13))


def test_ids_have_no_gap_where_there_is_no_room_for_all() -> None:
    _, truth = simulate_nuclei((60, 60), n=500, diameter=20)
    placed = int(truth.max())
    assert 3 < placed < 30
    assert set(np.unique(truth)) == set(range(placed + 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 2), (20, 20)])
def test_small_images(shape: tuple[int, int]) -> None:
    image, truth = simulate_nuclei(shape, n=2, diameter=8)
    assert image.shape == truth.shape == shape
    assert set(np.unique(truth)) - {0} == set(range(1, int(truth.max()) + 1))


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3])
def test_the_density_is_the_part_that_is_covered(density: float) -> None:
    _, truth = simulate_nuclei((400, 400), diameter=12, density=density)
    assert float((truth > 0).mean()) == pytest.approx(density, rel=0.2)


def test_no_nuclei() -> None:
    image, truth = simulate_nuclei((50, 50), n=0)
    assert not truth.any()
    assert image.std() > 0, "background and noise are there"


def test_the_seed_decides() -> None:
    first, again, other = (simulate_nuclei((100, 100), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


def test_every_nucleus_is_one_piece_and_some_touch() -> None:
    _, truth = simulate_nuclei(seed=1)
    for label, window in enumerate(ndimage.find_objects(truth), start=1):
        assert ndimage.label(truth[window] == label)[1] == 1, f"nucleus {label}"
    assert ndimage.label(truth > 0)[1] < truth.max(), "none touches another"


@pytest.mark.parametrize("diameter", [8.0, 20.0, 40.0])
def test_nuclei_have_the_diameter_asked_for(diameter: float) -> None:
    side = round(24 * diameter)
    _, truth = simulate_nuclei((side, side), n=100, diameter=diameter)
    inner = np.setdiff1d(truth, np.r_[truth[0], truth[-1], truth[:, 0], truth[:, -1]])
    areas = np.bincount(truth.ravel())[inner]
    assert np.median(np.sqrt(4 * areas / np.pi)) == pytest.approx(diameter, rel=0.1)


def test_default_number_covers_about_15_percent() -> None:
    _, truth = simulate_nuclei((300, 400))
    assert (truth > 0).mean() == pytest.approx(0.15, abs=0.04)


def test_nuclei_are_bright_where_the_truth_is() -> None:
    image, truth = simulate_nuclei()
    assert np.median(image[truth > 0]) > CAMERA_OFFSET + 0.5 * NUCLEUS_GREY
    assert np.median(image[truth == 0]) < CAMERA_OFFSET + 0.25 * NUCLEUS_GREY
    brightness = ndimage.mean(image, truth, np.arange(1, truth.max() + 1))
    assert np.std(brightness) > 0.1 * np.mean(brightness), "all nuclei are equally bright"


def test_noise_is_as_strong_as_asked_for() -> None:
    clean, noisy = (simulate_nuclei(seed=5, noise=noise)[0] for noise in (0.0, 0.1))
    typical = np.abs(clean - CAMERA_OFFSET - NUCLEUS_GREY) < 0.1 * NUCLEUS_GREY
    assert typical.sum() > 1000
    differences = noisy[typical].astype(float) - clean[typical]
    assert differences.std() == pytest.approx(0.1 * NUCLEUS_GREY, rel=0.1)
    assert abs(differences.mean()) < 0.01 * NUCLEUS_GREY


def test_blur_and_background_do_what_they_say() -> None:
    sharp, soft = (simulate_nuclei(noise=0, blur=blur)[0].astype(float) for blur in (0.0, 3.0))
    assert np.abs(np.diff(soft)).max() < 0.5 * np.abs(np.diff(sharp)).max()
    empty = simulate_nuclei(n=0, noise=0, background=0.2)[0]
    level = (empty - CAMERA_OFFSET) / NUCLEUS_GREY
    assert 0.099 < level.min() < level.max() < 0.301
    assert np.ptp(level) > 0.05, "the background is even"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"shape": (0, 10)}, "shape"),
        ({"diameter": 0.0}, "diameter"),
        ({"n": -1}, "n, noise"),
        ({"noise": -0.1}, "noise"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        simulate_nuclei(**parameters)  # type: ignore[arg-type]


def test_512_by_512_pixels_are_fast() -> None:
    start = time.perf_counter()
    simulate_nuclei((512, 512))
    assert time.perf_counter() - start < 2.0, "0.2 s is expected"


# --- what napari gets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contribution", "name", "shape"),
    [
        ("simulated_nuclei", "simulated nuclei", (512, 512)),
        ("cell", "cell", (660, 550)),
        ("simulated_stack", "simulated stack", (5, 2, 256, 256)),
    ],
)
def test_sample_is_one_image_layer(contribution: str, name: str, shape: tuple[int, ...]) -> None:
    [(pixels, attributes, kind)] = getattr(sample_data, contribution)()
    assert kind == "image"
    assert pixels.shape == shape
    assert attributes["name"] == name
    for attribute in ("scale", "units", "axis_labels"):
        assert len(attributes.get(attribute, shape)) == len(shape)


def test_a_stack_has_nuclei_in_its_first_channel_and_cytoplasm_in_the_other() -> None:
    image, truth = sample_data.simulate_stack(3, (120, 140))
    assert image.shape == (3, 2, 120, 140)
    assert truth.shape == (120, 140)
    inside, ring = truth > 0, ndimage.binary_dilation(truth > 0, iterations=4) & (truth == 0)
    for plane in image:
        nuclei, cytoplasm = plane.astype(float)
        assert nuclei[inside].mean() > 2 * nuclei[ring].mean()
        assert cytoplasm[ring].mean() > 1.5 * cytoplasm[inside].mean()
    # The middle is in focus.
    sharpness = [np.abs(np.diff(plane[0].astype(float), axis=0))[:, :].max() for plane in image]
    assert sharpness[1] > 1.2 * max(sharpness[0], sharpness[2])


def test_samples_load_neither_napari_nor_a_download() -> None:
    # A process of its own, in which every connection fails.
    code = """
import socket, sys
def refuse(*args, **kwargs): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = refuse
from napari_unet_cells import sample_data
assert "skimage" not in sys.modules
sample_data.simulated_nuclei(), sample_data.cell(), sample_data.simulated_stack()
assert not {"napari", "qtpy", "tensorflow"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
