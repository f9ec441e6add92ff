"""A run on a part of a plane finds what a run on all of it finds there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import part_run as module
from napari_unet_cells.segmentation.part_run import FoundPart, Where, run_part
from napari_unet_cells.segmentation.pipeline import Progress, Separating, Settings, Started
from napari_unet_cells.segmentation.segment import Opened, Segmenter

CLASSES = ("background", "cell", "boundary")
CARD = ModelCard("cells", "none", CLASSES, 1, 4, 8, sha256="", diameter_window=(8.0, 12.0))
SHAPE = (230, 310)
VISIBLE = Where("visible part", [np.array([(39.5, 60.5), (39.5, 169), (140, 169), (140, 60.5)])])

Run = Callable[..., FoundPart]


def bright_is_cell(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Answer as a network would that sees the neighbours of a pixel."""
    seen = ndimage.maximum_filter(batch[..., 0], (1, 3, 3))
    cell = (seen > 0.3).astype(np.uint8)
    return np.stack([cell, (np.clip(seen, 0, 1) * 255).astype(np.uint8), 0 * cell], axis=-1)


def image() -> NDArray[np.uint16]:
    random = np.random.default_rng(3)
    plane = np.zeros(SHAPE)
    for y, x in random.uniform((5, 5), (225, 305), (160, 2)).astype(int):
        plane[y, x] = random.uniform(0.6, 1.0)
    return (5000 * ndimage.gaussian_filter(plane, 3.5) / 0.013).astype(np.uint16)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "find_model", lambda name: CARD)
    network = FunctionNetwork(bright_is_cell, stride=4, halo=8, max_tile=64)
    engine: Any = SimpleNamespace(open=lambda card, stop: network)

    def started(
        planes: Planes, where: Where = VISIBLE, diameter: float | None = 10, **others: Any
    ) -> FoundPart:
        stop, settings = threading.Event(), Settings(diameter)
        *events, found = run_part(engine, "cells", planes, settings, {}, where, stop, **others)
        assert [type(event) for event in events[:2]] == [Opened, Started]
        progress = [event for event in events if isinstance(event, Progress)]
        assert progress[-1].done == progress[-1].total
        assert isinstance(events[-1], Separating)
        assert isinstance(found, FoundPart)
        return found

    return started


def whole(planes: Planes, diameter: float) -> tuple[NDArray[Any], NDArray[Any]]:
    network = FunctionNetwork(bright_is_cell, stride=4, halo=8, max_tile=64)
    result = Segmenter(CARD, lambda card: network).result(planes, Settings(diameter))
    assert result.cells is not None
    return result.cells, result.classes


@pytest.mark.parametrize("diameter", [10, 5, 20])
def test_cells_and_classes_are_those_of_a_run_on_all(run: Run, diameter: float) -> None:
    planes = Planes(image())
    cells, classes = whole(planes, diameter)
    found = run(planes, diameter=diameter)
    assert found.cells is not None
    assert found.part.box == np.s_[40:140, 61:169]
    # Resampled values differ in the last digit from tile to tile.
    near = 0.0 if diameter == 10 else 0.05
    assert np.mean(found.classes != classes[found.part.box]) <= near / 10
    chosen = found.cells.chosen
    ids = np.unique(chosen[chosen > 0])
    assert len(ids) > 4
    for label in ids:
        mine = np.zeros(SHAPE, bool)
        mine[found.cells.seen] = chosen == label
        same = cells == np.bincount(cells[mine]).argmax()
        assert np.sum(mine & same) >= (1 - near) * np.sum(mine | same)
    inside = cells[found.part.box]
    for label in np.unique(inside[inside > 0]):  # and none of the part is missing
        if 2 * (inside == label).sum() > (1 + near) * (cells == label).sum():
            assert (chosen[cells[found.cells.seen] == label] > 0).mean() >= 1 - near


def test_limits_are_those_of_the_whole_plane(run: Run) -> None:
    pixels = image()
    pixels[200:, 200:] += 30000  # outside of the part
    bright, dark = run(Planes(pixels)), run(Planes(image()))
    assert bright.details.limits is not None
    assert dark.details.limits is not None
    assert bright.details.limits.high > 2 * dark.details.limits.high


def test_the_known_diameter_is_taken_and_is_still_an_estimate(run: Run) -> None:
    found = run(Planes(image()), diameter=None, known_diameter=20.0)
    assert found.details.diameter == 20
    assert not found.details.diameter_given
    assert run(Planes(image()), known_diameter=20.0).details.diameter == 10


def test_a_cell_that_reaches_through_the_margin_is_seen_whole(run: Run) -> None:
    pixels = np.zeros((60, 900), np.uint16)
    pixels[20:40, 30:700] = 1000
    pixels[20:40, 730:740] = 1000
    where = Where("drawn shapes", [np.array([(10, 10), (10, 370), (50, 370), (50, 10)], float)])
    found = run(Planes(pixels), where)
    assert found.cells is not None
    assert found.window[1].stop >= 700
    assert len(np.unique(found.cells.chosen)) == 2
    assert np.count_nonzero(found.cells.chosen) == 22 * 672


def test_it_is_written_which_part_it_was(run: Run) -> None:
    planes = Planes(image()[None], fixed={0: 0})
    found = run(planes)
    (part,) = found.details.provenance()["parts"]
    assert (part["where"], part["rows"], part["columns"]) == ("visible part", [40, 140], [61, 169])
    assert part["parameters"]["scale"]["diameter"] == 10
    assert part["model"]["name"] == "cells"
    assert part["seconds"] >= 0


def test_a_part_beside_the_image_is_refused(run: Run) -> None:
    beside = Where("visible part", [np.array([(-9, -9), (-9, -2), (-2, -2)], float)])
    with pytest.raises(UserError, match="No pixel of the image lies in the part"):
        run(Planes(image()), beside)


def test_the_network_sees_no_more_than_a_window(run: Run) -> None:
    found = run(Planes(image()))
    assert found.window == np.s_[0:204, 0:236]
    assert found.uncertainty.shape == (204, 236)
    assert found.uncertainty.any()
