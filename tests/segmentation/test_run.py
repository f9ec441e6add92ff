"""A run as the dock starts it, and cells that are separated anew."""

from __future__ import annotations

import sys
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


def test_threads_take_short_turns_until_the_last_run_is_over() -> None:
    before = sys.getswitchinterval()
    first, second = module.short_turns(), module.short_turns()
    first.__enter__()
    second.__enter__()
    assert sys.getswitchinterval() == pytest.approx(module.TURN)
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(module.TURN)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


def test_a_run_that_fails_or_is_closed_leaves_the_turns_as_they_were(monkeypatch) -> None:
    before, during = sys.getswitchinterval(), []

    def squares(batch):
        during.append(sys.getswitchinterval())
        return squares_are_cells(batch)

    engine: Any = SimpleNamespace(open=lambda card, stop: FunctionNetwork(squares))
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    image = np.zeros((64, 64), np.float32)
    image[10:30, 10:30] = 1
    events = module.run(engine, "cells", Planes(image), Settings(), {}, threading.Event())
    while not during:
        next(events)
    events.close()
    assert max(during) == pytest.approx(module.TURN)
    assert sys.getswitchinterval() == before
