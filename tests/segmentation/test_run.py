"""A run as the dock starts it, and cells that are separated anew."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import run as module
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.run import Finished

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def squares_are_cells(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)


def squares_are_classes(batch):
    return np.concatenate([batch > 0.5, np.full(batch.shape, 99)], axis=-1).astype(np.uint8)


def finished(monkeypatch, image, fixed, classes=CARD.classes):
    """Run on an image with a function as the network."""
    card = replace(CARD, classes=classes)
    function = squares_are_cells if card.makes_cells else squares_are_classes
    engine: Any = SimpleNamespace(open=lambda card, stop: FunctionNetwork(function))
    monkeypatch.setattr(module, "find_model", lambda name: card)
    planes = Planes(image, fixed=fixed)
    stop = threading.Event()
    *_, event = module.run(engine, "cells", planes, Settings(), {}, stop)
    assert isinstance(event, Finished)
    return event


def two_squares():
    image = np.zeros((40, 50), np.uint8)
    image[5:15, 5:15] = image[20:35, 20:40] = 100
    return image


@pytest.mark.parametrize(
    ("image", "fixed", "planes"),
    [
        (two_squares(), {}, ()),
        (np.stack([two_squares()] * 3), {}, (3,)),
        (np.stack([two_squares()] * 3), {0: 1}, (1,)),
        (np.stack([two_squares()] * 3)[None], {0: 0, 1: 2}, (1, 1)),
    ],
)
@pytest.mark.parametrize("classes", [CARD.classes, ("background", "cell")])
def test_a_run_makes_a_review_of_what_the_layer_will_hold(
    monkeypatch, image, fixed, planes, classes
):
    event = finished(monkeypatch, image, fixed, classes)
    labels = event.result.classes if event.result.cells is None else event.result.cells
    review = event.review
    assert review.planes == planes
    assert review.fits(labels.reshape(*planes, 40, 50))
    for place in review:
        np.testing.assert_array_equal(review.made(place).max(), labels.max())
    mean = 255 * review.mean_uncertainty(((0,) * len(planes), 0))
    expected = 99 if len(classes) == 2 else 102 * np.mean(two_squares() > 0)
    assert mean == pytest.approx(expected)
