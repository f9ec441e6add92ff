"""Cell sizes in the card of a retrained model: the base's, unless many images say others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.datasets.annotated_images import AnnotatedImage
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.training.cell_sizes import (
    FEWEST_CELLS,
    FEWEST_IMAGES,
    describe_kinds,
    diameters_by_image,
    tuned_diameter,
    with_sizes,
)
from napari_unet_cells.training.examples import TrainingExample

BASE = ModelCard(
    "cells",
    "none",
    ("background", "cell", "boundary"),
    1,
    1,
    0,
    sha256="",
    diameters=(9.6, 50.8),
    diameter_window=(18.0, 36.0),
)


def cells(diameter: float, n: int = FEWEST_CELLS) -> np.ndarray:
    return np.full(n, float(diameter))


@pytest.mark.parametrize(
    "images",
    [
        [],
        [cells(14)],  # one image, of a size that the base knows
        [cells(80)],  # one image, of a size that it does not know
        [cells(80)] * (FEWEST_IMAGES - 1),
        [cells(80, 2)] * FEWEST_IMAGES,  # several images, and a few cells in them
        [cells(14), cells(20), cells(30)],  # several images of sizes that the base knows
        [cells(80), cells(20), cells(30), cells(25)],  # most of them are of such sizes
    ],
)
def test_the_base_goes_on_saying_how_wide_cells_are(images):
    assert with_sizes(BASE, images, fresh=False) == BASE
    typical = replace(BASE, typical_diameter=25.0)
    assert with_sizes(typical, images[:2], fresh=False) == typical
    unknown = replace(BASE, diameters=(0.0, 0.0))
    assert with_sizes(unknown, images, fresh=False) == unknown


def test_many_images_of_another_size_say_how_wide_cells_are():
    card = with_sizes(BASE, [cells(80), cells(90), cells(100)], fresh=False)
    assert card.typical_diameter == 90
    assert card.diameters == (9.6, 99.0)
    assert card.diameter_window == BASE.diameter_window

    small = with_sizes(BASE, [cells(5), cells(6), cells(7)], fresh=False)
    assert small.typical_diameter == 6
    assert small.diameters == (5.1, 50.8)


def test_images_that_differ_are_estimated_one_by_one():
    typical = replace(BASE, typical_diameter=20.0)
    card = with_sizes(typical, [cells(5), cells(60), cells(100)], fresh=False)
    assert card.typical_diameter == 0
    assert card.diameters[0] < 15
    assert card.diameters[1] > 90


def test_a_model_of_one_kind_knows_that_kind_only():
    typical = replace(BASE, typical_diameter=20.0)
    near = with_sizes(typical, [cells(15), cells(22), cells(28)], fresh=False)
    assert near == typical
    other = with_sizes(typical, [cells(40), cells(42), cells(45)], fresh=False)
    assert other.typical_diameter == 42


def test_a_fresh_network_knows_the_cells_of_its_data_only():
    assert with_sizes(BASE, [cells(14)], fresh=True).typical_diameter == 14
    assert with_sizes(BASE, [], fresh=True) == BASE


def example(source: str, labels: np.ndarray) -> TrainingExample:
    item = AnnotatedImage(Path("a.tif"), Path("b.tif"), "unknown", "train", source=source)
    window = (slice(None), slice(None))
    return TrainingExample(item, labels, labels, Limits(0, 1), window, None)


def squares(*sides: int) -> np.ndarray:
    """Cells in a row that touch no border."""
    labels = np.zeros((max(sides) + 2, sum(sides) + len(sides) + 1), np.int32)
    left = 1
    for number, side in enumerate(sides, 1):
        labels[1 : 1 + side, left : left + side] = number
        left += side + 1
    return labels


@pytest.mark.parametrize(
    ("regions", "is_said"),
    [
        ({"a": squares(9, 10, 10, 11, 70, 80, 80)}, True),
        ({"a": squares(10, 10, 10, 80)}, False),  # one cell is no kind
        ({"a": squares(10, 14, 20, 30, 45, 60, 80)}, False),  # no gap
        ({"a": squares(20, 20, 20, 50, 50, 50)}, False),  # near enough
        ({"a": squares(10, 10, 10), "b": squares(80, 80, 80)}, False),  # each at its own scale
        ({"a": squares(30, 30, 30), "b": squares(10, 10, 80, 80)}, True),
        ({"a": np.zeros((9, 9), np.int32)}, False),
    ],
)
def test_narrow_and_wide_cells_in_one_image_are_said(regions, is_said):
    said = describe_kinds(example(source, labels) for source, labels in regions.items())
    assert bool(said) == is_said
    if is_said:
        assert said.startswith("Cells of about 11 and of 90 pixels lie side by side in an image.")


def test_regions_of_one_image_count_as_one():
    truth = np.zeros((40, 40), np.int32)
    truth[5:15, 5:15] = 1
    empty = np.zeros_like(truth)
    found = diameters_by_image(
        [example("a", truth), example("b", truth), example("a", truth), example("c", empty)]
    )
    assert [len(diameters) for diameters in found] == [2, 1]
    np.testing.assert_allclose(found[0], np.sqrt(100 * 4 / np.pi))


@pytest.mark.parametrize(
    ("images", "diameter"),
    [
        ([], 0),
        ([cells(16, 7)], 0),  # few cells
        ([cells(16, 8)], 16),  # one image
        ([cells(16, 4), cells(20, 5)], 20),  # images of one kind
        ([cells(16), cells(26)], 0),  # of two
        ([cells(16, 40), cells(26, 4)], 16),  # a few others
        ([cells(16, 30), cells(26, 5)], 0),  # too many of them
    ],
)
def test_regions_of_one_kind_say_where_the_estimate_begins(images, diameter):
    assert tuned_diameter(images) == diameter
