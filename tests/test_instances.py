"""From probabilities to cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.augment import BOUNDARY, CELL, boundary_classes
from napari_unet_cells.instances import InstanceOptions, label_cells
from napari_unet_cells.metrics import compare, summarize
from napari_unet_cells.sample_data import simulate_nuclei


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def sure(labels: NDArray[Any], width: int = 1) -> NDArray[np.uint8]:
    """Probabilities of a network that is never wrong and never in doubt."""
    classes = boundary_classes(labels, width)
    return np.stack([classes == CELL, classes == BOUNDARY]).astype(np.uint8) * 255


def test_touching_discs_are_split_along_their_boundary() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[disc(labels.shape, (30, 25), 15)] = 1
    labels[disc(labels.shape, (30, 53), 14)] = 2
    assert ndimage.label(labels)[1] == 1  # one blob
    cells = label_cells(sure(labels))
    assert cells.max() == 2
    assert summarize([compare(labels, cells)]).ap75 == 1
    assert np.mean(cells == labels) > 0.99


def test_cells_without_boundary_between_them_are_one() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[disc(labels.shape, (30, 25), 15) | disc(labels.shape, (30, 50), 15)] = 1
    assert label_cells(sure(labels)).max() == 1


def test_a_higher_seed_threshold_splits_more() -> None:
    waist = np.zeros((2, 40, 60), np.uint8)
    waist[0, 10:30, 5:55] = 230
    waist[0, 10:30, 27:33] = 150
    assert label_cells(waist).max() == 1
    assert label_cells(waist, InstanceOptions(seed_threshold=0.8)).max() == 2


def test_holes_in_a_cell_are_filled() -> None:
    probabilities = np.zeros((2, 40, 40), np.uint8)
    probabilities[0, 5:35, 5:35] = 255
    probabilities[0, 15:20, 15:20] = 0
    cells = label_cells(probabilities)
    assert (cells[15:20, 15:20] == 1).all()
    assert np.count_nonzero(cells) == 900
    open_ = label_cells(probabilities, InstanceOptions(fill_holes=False))
    assert (open_[15:20, 15:20] == 0).any()


def test_a_bay_at_the_border_of_the_plane_is_not_a_hole() -> None:
    probabilities = np.zeros((2, 40, 40), np.uint8)
    probabilities[0, 0:30, 5:35] = 255
    probabilities[0, 0:10, 15:20] = 0
    assert (label_cells(probabilities)[2:8, 16:19] == 0).all()


def test_background_inside_a_ring_of_cells_stays_background() -> None:
    labels = np.zeros((80, 80), np.uint8)
    for i in range(8):
        angle = i * np.pi / 4
        at = (40 + 25 * np.sin(angle), 40 + 25 * np.cos(angle))
        labels[disc(labels.shape, at, 10.5) & (labels == 0)] = i + 1
    assert ndimage.label(labels == 0)[1] == 2  # the ring is closed
    cells = label_cells(sure(labels))
    assert cells.max() == 8
    assert cells[40, 40] == 0
    assert summarize([compare(labels, cells)]).iou > 0.99


def test_specks_are_dropped_and_ids_stay_consecutive() -> None:
    probabilities = np.zeros((2, 40, 100), np.uint8)
    for i, side in enumerate((6, 2, 3, 8, 1, 7)):
        probabilities[0, 10 : 10 + side, 15 * i : 15 * i + side] = 255
    cells = label_cells(probabilities)
    assert np.bincount(cells.ravel())[1:].tolist() == [36, 64, 49]
    everything = label_cells(probabilities, InstanceOptions(smallest=0))
    assert np.bincount(everything.ravel())[1:].tolist() == [36, 4, 9, 64, 1, 49]


def test_ids_rise_from_top_to_bottom_also_for_cells_that_are_all_boundary() -> None:
    probabilities = np.zeros((2, 60, 20), np.uint8)
    probabilities[0, 5:15, 5:15] = 255
    probabilities[1, 25:30, 5:10] = 255  # too small to have an inside
    probabilities[0, 40:50, 5:15] = 255
    cells = label_cells(probabilities)
    assert [cells[10, 10], cells[27, 7], cells[45, 10]] == [1, 2, 3]


def test_ids_of_more_cells_than_16_bits_hold_get_32() -> None:
    dots = np.zeros((2, 768, 771), np.uint8)
    for y in (0, 1):
        for x in (0, 1):
            dots[0, y::3, x::3] = 255
    options = InstanceOptions(smallest=1, smoothing=0)
    cells = label_cells(dots, options)
    assert cells.dtype == np.uint32
    assert cells.max() == 256 * 257 == len(np.unique(cells)) - 1
    fewer = label_cells(dots[:, :, : 255 * 3], options)
    assert fewer.dtype == np.uint16
    assert fewer.max() == 256 * 255


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 40), (40, 1), (64, 64)])
def test_nothing_gives_no_cells(shape: tuple[int, int]) -> None:
    cells = label_cells(np.zeros((2, *shape), np.uint8))
    assert cells.shape == shape
    assert cells.dtype == np.uint16
    assert not cells.any()


def test_a_single_pixel_may_be_a_cell() -> None:
    one = np.full((2, 1, 1), 200, np.uint8)
    assert label_cells(one, InstanceOptions(smallest=1)).tolist() == [[1]]
    assert label_cells(one, InstanceOptions(smallest=2)).tolist() == [[0]]


def test_a_plane_that_is_all_cell_is_one_cell() -> None:
    assert (label_cells(np.full((2, 30, 30), 255, np.uint8)) == 1).all()


@pytest.mark.parametrize(
    ("diameter", "n", "width"), [(14, 150, 1), (20, None, 1), (40, 40, 2), (60, 20, 2)]
)
def test_simulated_nuclei_are_recovered(diameter: float, n: int | None, width: int) -> None:
    _, truth = simulate_nuclei((512, 512), n=n, diameter=diameter, seed=4)
    assert ndimage.label(truth)[1] < truth.max()  # some of them touch
    probabilities = sure(truth, width)
    blurred = np.stack([ndimage.gaussian_filter(p, 0.6) for p in probabilities])
    for given_ in (probabilities, blurred):
        summary = summarize([compare(truth, label_cells(given_))])
        assert summary.ap50 > 0.95
        assert summary.iou > 0.95


@pytest.mark.parametrize("name", ["seed_threshold", "cell_threshold"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 7.0])
def test_thresholds_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, not {value}"):
        InstanceOptions(**{name: value})


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 25), st.integers(1, 25))),
    st.integers(0, 8),
)
def test_whatever_the_network_says_the_labels_are_sound(
    probabilities: NDArray[np.uint8], smallest: int
) -> None:
    before = probabilities.copy()
    cells = label_cells(probabilities, InstanceOptions(smallest=smallest, smoothing=0.7))
    np.testing.assert_array_equal(probabilities, before)
    assert cells.shape == probabilities.shape[1:]
    ids, areas = np.unique(cells[cells > 0], return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (areas >= max(1, smallest)).all()
    for i in ids:
        assert ndimage.label(cells == i, np.ones((3, 3)))[1] == 1


def test_a_second_seed_in_a_textured_cell_leaves_no_hole():
    """A dark ring around a bright spot makes a part of its own, too small for a cell."""
    probabilities = np.zeros((2, 60, 60), np.uint8)
    probabilities[0, 5:55, 5:55] = 250
    probabilities[0, 28:33, 28:33] = 100
    probabilities[1, 28:33, 28:33] = 150
    probabilities[0, 29:32, 29:32] = 250
    options = InstanceOptions(seed_threshold=0.6, smoothing=0.3, smallest=20)
    seeds, n = ndimage.label(probabilities[0] > 153)
    assert (n, np.bincount(seeds.ravel())[2]) == (2, 9)  # there is such a seed
    labels = label_cells(probabilities, options)
    assert labels.max() == 1
    assert (labels[5:55, 5:55] == 1).all()


def test_small_parts_that_touch_make_one_cell_if_that_is_large_enough():
    probabilities = np.zeros((2, 20, 20), np.uint8)
    probabilities[0, 5:9, 4:8] = 250
    probabilities[0, 5:9, 9:13] = 250
    probabilities[1, 5:9, 8] = 250
    options = InstanceOptions(smoothing=0.3, smallest=30)
    assert label_cells(probabilities, InstanceOptions(smoothing=0.3, smallest=5)).max() == 2
    labels = label_cells(probabilities, options)
    assert labels.max() == 1
    assert np.count_nonzero(labels) == 36
