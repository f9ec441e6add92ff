"""The public function: what it refuses, and what it finds with the model that ships."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import napari_unet_cells
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import segment_at as module
from napari_unet_cells.segmentation.segment_at import segment_at, typical_diameter

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 4, 4, sha256="0" * 64)
CLASSES = ModelCard("tissue", "none", ("background", "vessel"), 1, 4, 4, sha256="1" * 64)


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    cell = batch.mean(axis=-1, keepdims=True) > 0.5
    return np.concatenate([cell, cell * 255, np.zeros_like(cell)], axis=-1).astype(np.uint8)


NETWORK = FunctionNetwork(bright_is_cell, stride=4, halo=4, max_tile=512)


@pytest.fixture(autouse=True)
def _models(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setattr(module, "find_model", {"cells": CARD, "tissue": CLASSES}.__getitem__)
        monkeypatch.setattr(module, "open_network", lambda card, runtime: NETWORK)


def image() -> NDArray[np.uint8]:
    pixels = np.full((100, 120), 10, np.uint8)
    pixels[40:62, 50:72] = 200
    return pixels


def refused(what: Any = None, point: Any = (50, 60), **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        segment_at(image() if what is None else what, point, **{"model": "cells", **more})
    return str(caught.value)


@pytest.mark.parametrize(
    "point", [(-1, 60), (100, 60), (50, 119.6), (50, -0.51), (np.nan, 60), (50, np.inf)]
)
def test_a_point_outside_is_refused(point):
    assert "outside of the image, which has 100 rows and 120 columns" in refused(point=point)


@pytest.mark.parametrize("point", [5, (1, 2, 3), "ab", None, (1, None)])
def test_what_is_no_point_is_refused(point):
    assert "is not a row and a column" in refused(point=point)


def test_images_that_are_no_single_plane_are_refused():
    assert "it is not known what its axes are" in refused(np.zeros((4, 50, 60)))
    assert "real numbers" in refused(np.zeros((50, 60), complex))


def test_a_model_of_classes_is_refused():
    assert "The model tissue makes classes and no cells" in refused(model="tissue")


@pytest.mark.parametrize("diameter", [0, -3, 0.5, np.nan, np.inf])
def test_a_diameter_of_no_cell_is_refused(diameter):
    assert "must lie between 1 and" in refused(diameter=diameter)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((99, 120), int), r"shape (99, 120) and the image (100, 120)"),
        (np.zeros((100, 120)), "one whole number a cell is needed"),
        (np.full((100, 120), -1), "one whole number a cell is needed"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, sentence):
    assert sentence in refused(labels=labels)


@pytest.mark.parametrize("labels", [None, np.zeros((100, 120), bool), np.zeros((100, 120), int)])
def test_a_mask_of_the_plane(labels):
    mask = segment_at(image(), (50, 60), model="cells", labels=labels, diameter=24)
    assert mask.dtype == bool
    assert mask.shape == (100, 120)
    true = image() > 100
    assert np.count_nonzero(mask & true) / np.count_nonzero(mask | true) > 0.8


def test_nothing_there_is_an_empty_mask():
    mask = segment_at(image(), (15, 15), model="cells", diameter=24)
    assert not mask.any()
    assert not segment_at(np.full((50, 50), 3), (15, 15), model="cells", diameter=24).any()


def test_the_diameter_is_that_of_the_labels_the_model_or_the_image():
    labels = np.zeros((100, 100), int)
    for number in range(3):
        labels[30 * number : 30 * number + 20, 10:30] = number + 1
    across = 20 * (4 / np.pi) ** 0.5
    assert typical_diameter(labels, NETWORK, CARD, labels) == pytest.approx(across)
    few = np.where(labels == 1, 1, 0)
    of_model = ModelCard("m", "none", CARD.classes, 1, 4, 4, sha256="2" * 64, typical_diameter=31.0)
    assert typical_diameter(labels, NETWORK, of_model, few) == 31
    assert typical_diameter(np.zeros((9, 9)), NETWORK, CARD) == module.USUAL_DIAMETER
    assert 10 < typical_diameter(np.where(labels, 200, 10), NETWORK, CARD) < 40


def test_it_is_public_and_loads_no_network_library():
    assert napari_unet_cells.segment_at is segment_at
    code = (
        "import sys, napari_unet_cells; napari_unet_cells.segment_at; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.network
def test_missed_cells_are_found_by_the_model_that_ships(capfd):
    pixels, truth = simulate_nuclei((256, 256), seed=3)
    hits = []
    numbers = np.unique(truth)[1:9]
    for number in numbers:
        labels = np.where(truth == number, 0, truth)
        y, x = np.argwhere(truth == number).mean(axis=0)
        mask = segment_at(pixels, (y, x), labels=labels)
        assert not (mask & (labels > 0)).any()
        true = truth == number
        hits.append(np.count_nonzero(mask & true) / np.count_nonzero(mask | true) >= 0.5)
    assert sum(hits) >= 7
    assert capfd.readouterr() == ("", "")
