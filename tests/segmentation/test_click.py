"""Cells under clicks and in boxes, with a network that sees what is bright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.regions import Region
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import click as module
from napari_unet_cells.segmentation.click import (
    FoundCell,
    dropped_cell,
    edit_of,
    find_cell,
    find_in_box,
    zoom_of,
)
from napari_unet_cells.segmentation.result import Fragments

CARD = ModelCard(
    name="stand-in",
    architecture="none",
    classes=("background", "cell", "boundary"),
    channels=1,
    stride=4,
    halo=4,
    sha256="0" * 64,
    diameter_window=(18.0, 36.0),
)
SHAPE = (200, 260)
DIAMETER = 24.0


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    seen = np.clip(1.5 * batch.mean(axis=-1) - 0.1, 0, 1)
    core = ndimage.grey_erosion(seen, (1, 3, 3))
    cell, boundary = 255 * core, 255 * (seen - core)
    classes = np.stack([255 * (1 - seen), cell, boundary]).argmax(axis=0)
    return np.stack([classes, cell, boundary], axis=-1).astype(np.uint8)


NETWORK = FunctionNetwork(bright_is_cell, stride=4, halo=4, max_tile=512)
BLIND = FunctionNetwork(lambda batch: 0 * bright_is_cell(batch), stride=4, halo=4, max_tile=512)


def disc(y: float, x: float, radius: float = 12, shape: tuple[int, int] = SHAPE) -> Any:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def image_of(cells: Mapping[Any, float], noise: float = 1.0) -> NDArray[np.float64]:
    """Draw discs (y, x, radius) of these intensities on a background of 10."""
    image = np.full(SHAPE, 10.0)
    for place, intensity in cells.items():
        image[disc(*place)] = intensity
    return ndimage.gaussian_filter(image, 1) + noise * np.random.default_rng(0).random(SHAPE)


ROW = {(100, 60): 200.0, (100, 100): 200.0, (100, 140): 200.0, (100, 180): 200.0}
IMAGE = image_of(ROW)


def click(
    point: tuple[float, float], image: Any = IMAGE, network: FunctionNetwork = NETWORK, **more: Any
) -> FoundCell:
    return find_cell(image, point, network, CARD, DIAMETER, **more)


def iou(found: FoundCell, true: NDArray[np.bool_]) -> float:
    mask = found.in_plane(true.shape)
    return np.count_nonzero(mask & true) / np.count_nonzero(mask | true)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float16, np.float32, float])
def test_a_cell_is_found_in_pixels_of_any_kind(dtype):
    found = click((100, 100), IMAGE.astype(dtype))
    assert found
    assert found.reason == ""
    assert iou(found, disc(100, 100)) > 0.85


def test_colour_and_lazy_planes():
    colour = np.stack([IMAGE, IMAGE / 2, IMAGE / 4], axis=-1).astype(np.uint8)
    plane = planes_of(colour).plane(())
    assert iou(click((100, 100), plane), disc(100, 100)) > 0.85


def test_a_mask_is_what_lies_above_half():
    mask = disc(10, 10, 6, (21, 21)).astype(bool)
    found = FoundCell(Region(30, 51, 40, 61), (mask,))
    plane = found.in_plane((100, 100))
    assert np.count_nonzero(plane) == np.count_nonzero(mask)
    assert plane[40, 50]
    assert not FoundCell(Region(0, 4, 0, 5), reason="Nothing.")
    assert FoundCell(Region(0, 4, 0, 5)).mask.shape == (4, 5)


@pytest.mark.parametrize("point", [(20, 20), (170, 230), (60, 130)])
def test_background_gives_a_sentence(point):
    found = click(point)
    assert not found
    assert found.reason == module.NOTHING
    assert not found.in_plane(SHAPE).any()


def test_a_constant_image_gives_a_sentence():
    found = click((100, 100), np.full(SHAPE, 7, np.uint16))
    assert found.reason == module.FLAT
    assert click((100, 100), np.full(SHAPE, np.nan)).reason == module.FLAT


def test_nan_counts_as_dark():
    image = IMAGE.astype(np.float32)
    image[:, :80] = np.nan
    assert iou(click((100, 100), image), disc(100, 100)) > 0.85
    assert not click((100, 40), image)


@pytest.mark.parametrize(
    "cells",
    [
        {(100, 100): 60.0, (100, 140): 250.0, (100, 60): 250.0},
        {(100, 100): 14.0, (20, 230): 250.0},
    ],
    ids=["beside", "far from"],
)
def test_a_dim_cell_with_bright_ones(cells):
    image = image_of(cells, noise=0.5)
    assert iou(click((100, 100), image), disc(100, 100)) > 0.75


def test_a_cell_of_which_the_network_sees_little_is_found_and_one_it_does_not_see_is_not():
    def faintly(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        return bright_is_cell(batch) // 4

    found = click((100, 100), network=replace(NETWORK, function=faintly))
    assert iou(found, disc(100, 100)) > 0.75
    assert found.rating < click((100, 100)).rating
    assert click((100, 100), network=BLIND).reason == module.NOTHING


def test_other_cells_are_never_painted_over():
    labels = np.zeros(SHAPE, np.uint16)
    labels[disc(100, 118, 12)] = 5  # overlaps the cell that is clicked
    found = click((100, 98), labels=labels)
    assert found
    assert iou(click((100, 98)), disc(100, 100)) > 0.85  # without labels it reaches there
    for steps in range(-9, 10):
        mask = found.resized(steps).in_plane(SHAPE)
        assert mask.any()
        assert not (mask & (labels > 0)).any()


def test_a_wrong_cell_is_replaced_and_others_stay():
    image = image_of({(100, 80): 200.0, (100, 106): 200.0})
    labels = np.zeros(SHAPE, np.int32)
    labels[disc(100, 80) | disc(100, 106)] = 3
    labels[disc(130, 80)] = 4
    found = click((100, 80), image, labels=labels)
    assert found.replaces == 3
    assert iou(found, disc(100, 80)) > 0.7
    assert not (found.in_plane(SHAPE) & (labels == 4)).any()
    assert click((100, 80), image).replaces == 0


@pytest.mark.parametrize("centre", [(3, 100), (197, 100), (100, 4), (100, 255), (5, 5)])
def test_cells_at_the_border(centre):
    image = image_of({centre: 200.0, (100, 130): 200.0})
    assert iou(click(centre, image), disc(*centre)) > 0.7


@pytest.mark.parametrize(("diameter", "zoom"), [(8, 2.25), (24, 1.0), (72, 0.5)])
def test_cells_of_other_sizes_are_seen_at_the_size_the_model_knows(diameter, zoom):
    shape = (400, 420)
    image = np.where(disc(200, 210, diameter / 2, shape), 200.0, 10.0)
    assert zoom_of(CARD, diameter) == pytest.approx(zoom)
    found = find_cell(image, (200, 210), NETWORK, CARD, diameter)
    assert iou(found, disc(200, 210, diameter / 2, shape)) > 0.8


def test_growing_and_shrinking():
    found = click((100, 100))
    areas = [np.count_nonzero(found.resized(i).mask) for i in range(-12, 13)]
    assert areas == sorted(areas)
    assert len(set(areas)) == len(found.outlines) > 4
    assert areas[12] == np.count_nonzero(found.mask)
    for smaller, larger in pairwise(found.outlines):
        assert (smaller <= larger).all()
    assert found.resized(2).resized(-2).chosen == found.chosen


def test_the_box_is_tight_around_the_largest_outline():
    found = click((100, 100))
    largest = found.outlines[-1]
    assert largest.shape == found.box.shape
    for side in (largest[0], largest[-1], largest[:, 0], largest[:, -1]):
        assert side.any()


def test_only_a_window_is_read():
    class Counted:
        shape, dtype = (5000, 5000), np.dtype(np.uint16)
        pixels = 0

        def __getitem__(self, key: Any) -> Any:
            part = np.zeros(tuple(one.stop - one.start for one in key), np.uint16)
            self.pixels += part.size
            return part

    plane, labels = Counted(), Counted()
    find_cell(plane, (2500, 2500), NETWORK, CARD, DIAMETER, labels=labels)
    assert 0 < plane.pixels <= 200**2
    assert 0 < labels.pixels <= 200**2


@pytest.mark.parametrize(("width", "left"), [(10, 0), (28, 18)])
def test_adding_a_cell_is_one_edit(width, left):
    labels = np.zeros((40, 60), np.uint16)
    labels[10:20, 20 : 20 + width] = 3
    labels[30:35, 5:10] = 8
    found = FoundCell(Region(10, 20, 22, 32), (np.ones((10, 10), bool),), replaces=3)
    edit = edit_of(found, labels, 9)
    labels[edit.rows, edit.columns] = edit.values
    assert len(set(zip(edit.rows, edit.columns, strict=True))) == len(edit.rows)
    assert np.count_nonzero(labels == 9) == 100
    assert np.count_nonzero(labels == 3) == 10 * left
    assert np.count_nonzero(labels == 8) == 25


def test_adding_a_missed_cell_changes_no_other():
    labels = np.where(disc(100, 60), 4, 0)
    found = click((100, 100), labels=labels)
    edit = edit_of(found, labels, 5)
    assert set(edit.values) == {5}
    np.testing.assert_array_equal(np.unique(labels[edit.rows, edit.columns]), [0])


# --- what a run dropped -------------------------------------------------------------------


def kept_of(image: NDArray[Any]) -> Fragments:
    batch = (np.clip(image, 0, 250) / 250).astype(np.float32)[np.newaxis, ..., np.newaxis]
    probabilities = np.moveaxis(bright_is_cell(batch)[0, ..., 1:], -1, 0)
    return Fragments.of(np.ascontiguousarray(probabilities), InstanceOptions(), SHAPE, 1.0)


def no_network(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    raise AssertionError("the network is not needed")


def test_a_dropped_fragment_comes_back_without_the_network():
    network = FunctionNetwork(no_network)
    labels = np.zeros(SHAPE, np.uint16)
    found = click((100, 100), network=network, labels=labels, fragments=kept_of(IMAGE))
    assert iou(found, disc(100, 100)) > 0.85
    with pytest.raises(AssertionError, match="not needed"):
        click((20, 20), network=network, labels=labels, fragments=kept_of(IMAGE))


def test_what_the_run_kept_can_be_made_larger_and_smaller():
    found = dropped_cell(kept_of(IMAGE), (100, 100), 20.0, InstanceOptions())
    assert found is not None
    areas = [np.count_nonzero(found.resized(steps).mask) for steps in (-2, -1, 0, 1, 2)]
    assert areas == sorted(set(areas))
    assert iou(found, disc(100, 100)) > 0.85
    labels = np.zeros(SHAPE, np.uint16)
    labels[:, 112:] = 7
    beside = dropped_cell(kept_of(IMAGE), (100, 100), 20.0, InstanceOptions(), labels)
    assert beside is not None
    assert not beside.resized(9).in_plane(SHAPE)[:, 112:].any()


def test_what_the_model_doubts_is_left_to_the_network():
    options = InstanceOptions(min_probability=0.98)
    sure = dropped_cell(kept_of(IMAGE), (100, 100), 20.0, replace(options, min_probability=0.5))
    assert sure is not None
    assert 0.5 < sure.rating < 0.98
    assert dropped_cell(kept_of(IMAGE), (100, 100), 20.0, options) is None


def test_fragments_are_joined_as_the_run_joins_them():
    y, x = np.indices(SHAPE)
    halves = [240 - 8.0 * np.hypot(y - 100, x - column) for column in (92, 108)]
    seen = np.stack([np.maximum(*halves), np.zeros(SHAPE)]).clip(0).astype(np.uint8)
    kept = Fragments.of(seen, InstanceOptions(), SHAPE, 1.0)
    assert kept.oversegmentation.n_fragments == 2
    half = dropped_cell(kept, (100, 92), 30.0, InstanceOptions(split=1.0))
    whole = dropped_cell(kept, (100, 92), 30.0, InstanceOptions(split=0.5))
    assert half is not None
    assert whole is not None
    assert not half.in_plane(SHAPE)[100, 110]
    assert whole.in_plane(SHAPE)[100, 110]
    larger = half.resized(len(half.outlines))
    assert np.count_nonzero(larger.mask) > 1.5 * np.count_nonzero(half.mask)  # joined


@pytest.mark.parametrize("radius", [3, 30])
def test_a_fragment_of_another_size_is_left_to_the_network(radius):
    image = image_of({(100, 100, radius): 200.0})
    with pytest.raises(AssertionError, match="not needed"):
        click((100, 100), image, FunctionNetwork(no_network), fragments=kept_of(image))


def test_a_fragment_that_is_there_already_is_left_to_the_network():
    labels = np.where(disc(100, 100), 7, 0)
    network = FunctionNetwork(no_network)
    with pytest.raises(AssertionError, match="not needed"):
        click((100, 100), network=network, labels=labels, fragments=kept_of(IMAGE))


# --- boxes ---------------------------------------------------------------------------------


def in_box(box: Region, image: Any = IMAGE, **more: Any) -> tuple[FoundCell, ...]:
    return find_in_box(image, box, NETWORK, CARD, DIAMETER, **more)


def test_a_box_around_a_cell():
    (found,) = in_box(Region(86, 115, 85, 116))
    assert iou(found, disc(100, 100)) > 0.85
    inside = np.zeros(SHAPE, bool)
    inside[86:115, 85:116] = True
    assert not (found.resized(9).in_plane(SHAPE) & ~inside).any()


def test_a_box_around_a_cell_of_an_unusual_size():
    image = image_of({(100, 100, 22): 200.0, (40, 60): 200.0})
    (found,) = in_box(Region(77, 124, 76, 125), image)
    assert iou(found, disc(100, 100, 22)) > 0.8


def test_a_box_around_several_cells():
    labels = np.where(disc(100, 140), 9, 0)
    box = Region(60, 140, 40, 162)
    found = in_box(box)
    assert len(found) == 3
    assert all(max(iou(one, disc(100, x)) for one in found) > 0.7 for x in (60, 100, 140))
    left = in_box(box, labels=labels)
    assert len(left) == 2
    assert not any((one.in_plane(SHAPE) & (labels > 0)).any() for one in left)


@pytest.mark.parametrize(
    "box", [Region(10, 40, 10, 40), Region(0, 80, 0, 260), Region(20, 26, 0, 260)]
)
def test_an_empty_box_gives_a_sentence(box):
    (found,) = in_box(box)
    assert not found
    assert found.reason == module.NOTHING


def test_a_box_that_is_taken_gives_a_sentence():
    (found,) = in_box(Region(90, 110, 90, 110), labels=np.ones(SHAPE, np.uint8))
    assert found.reason == module.TAKEN
