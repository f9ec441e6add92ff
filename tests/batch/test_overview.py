"""The picture of an image and its cells, and the histograms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.batch.overview import (
    SIDE,
    Gathered,
    View,
    draw,
    histogram,
    histograms,
    picture_of,
)
from napari_unet_cells.core.measure import measure
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.result import Result

CARD = ModelCard("m", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
YELLOW = (255, 214, 10)


def result_of(cells: NDArray[Any], diameter: float) -> Result:
    details = RunDetails(card=CARD, options=CARD.instances, diameter=diameter)
    return Result(cells, (cells > 0).astype(np.uint8), details, int(cells.max()))


def is_yellow(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (picture == YELLOW).all(axis=-1)


def squares(
    shape: tuple[int, int], size: int, corners: list[tuple[int, int]]
) -> NDArray[np.uint16]:
    cells = np.zeros(shape, np.uint16)
    for number, (y, x) in enumerate(corners, 1):
        cells[y : y + size, x : x + size] = number
    return cells


def test_outlines_lie_on_the_cells() -> None:
    cells = squares((60, 80), 20, [(10, 10), (10, 30)])
    image = cells * 100 + 7
    picture = picture_of(planes_of(image), result_of(cells, 20), measure(cells))
    assert picture.shape == (60, 80, 3)
    yellow = is_yellow(picture)
    assert yellow[10, 10:50].all()
    assert yellow[15, [29, 30]].all()  # where two cells touch, both have an outline
    assert not yellow[15, 15]
    assert not yellow[9].any()
    assert picture[0, 0].max() < 5  # the background is dark, the brightest cell is bright
    assert picture[20, 40].min() > 250


def test_a_large_image_is_shrunk_by_means() -> None:
    cells = squares((4 * SIDE, 4 * SIDE), 200, [(400, 400)])
    image = np.indices(cells.shape).sum(axis=0) % 2 * 1000.0  # grey from afar
    picture = picture_of(planes_of(image), result_of(cells, 200), measure(cells))
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.ptp(picture[~is_yellow(picture)]) <= 1
    assert abs(int(picture[0, 0, 0]) - 127) <= 1
    rows = np.flatnonzero(is_yellow(picture).any(axis=1))
    assert (rows.min(), rows.max()) == (100, 149)


def test_of_small_cells_the_part_with_the_most_is_shown() -> None:
    corners = [(3000 + 20 * i, 1500 + 15 * j) for i in range(9) for j in range(9)]
    cells = squares((4000, 3600), 8, [(40, 40), *corners])
    image = cells > 0
    picture = picture_of(planes_of(image), result_of(cells, 9), measure(cells))
    assert picture.shape == (SIDE, SIDE, 3)
    assert len(np.unique(np.flatnonzero(is_yellow(picture)))) >= 81 * 28 * 0.9


@pytest.mark.parametrize("axes", ["ZYX", "YXC", "YX"])
def test_stacks_colours_and_constant_planes_are_drawn(axes: str) -> None:
    shapes = {"ZYX": (3, 40, 50), "YXC": (40, 50, 3), "YX": (40, 50)}
    image = np.zeros(shapes[axes], np.uint8)
    if axes == "YXC":
        image[..., 0] = np.arange(50)
    cells = np.zeros((3, 40, 50) if axes == "ZYX" else (40, 50), np.uint16)
    cells[..., 10:20, 10:20] = 1
    planes = planes_of(image, axes)
    picture = picture_of(planes, result_of(cells, 10), measure(cells))
    assert picture.shape == (40, 50, 3)
    assert is_yellow(picture).sum() == 36
    if axes == "YXC":
        assert picture[0, 49].tolist() == [255, 0, 0]


def test_a_run_of_classes_is_drawn_too() -> None:
    classes = squares((40, 50), 10, [(5, 5)]).astype(np.uint8)
    result = replace(result_of(classes, 0), cells=None)
    assert is_yellow(picture_of(planes_of(classes * 9), result, None)).any()


def test_a_view_is_a_part() -> None:
    image = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
    plane = planes_of(image).plane(())
    picture = draw(plane, np.zeros((100, 100), np.uint8), View(50, 20, 40, 60, 2))
    assert picture.shape == (20, 30, 3)


def test_every_cell_counts_in_a_histogram() -> None:
    values = np.array([1.0, 2.0, 2.0, 3.0, 1e9, np.nan])
    found = histogram(values)
    assert found is not None
    assert sum(found.counts) == 5
    assert found.low == 1
    assert found.high < 1e9
    alone = histogram(np.array([4.0]))
    assert alone is not None
    assert (alone.low, alone.high, sum(alone.counts)) == (3.5, 4.5, 1)
    assert histogram(np.array([np.nan])) is None
    assert histograms(None) == (None, None)
    cells = squares((20, 20), 5, [(2, 2)])
    area, intensity = histograms(measure(cells, {"a": cells * 3.0, "b": cells}))
    assert area is not None
    assert intensity is not None
    assert (area.low + 0.5, intensity.low + 0.5) == (25, 3)


def test_parts_of_a_huge_image_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = [(3000 + 20 * i, 1500 + 15 * j) for i in range(9) for j in range(9)]
    cells = squares((4000, 3600), 8, [(40, 40), *corners])
    table = measure(cells, cells * 2.0)
    parts = [measure(np.where(cells > 40, cells, 0), cells * 2.0)]
    parts.insert(0, measure(np.where(cells <= 40, cells, 0), cells * 2.0))
    gathered = Gathered((4000, 3600))
    assert [len(part) for part in gathered.watch(parts)] == [40, 42]
    assert gathered.histograms() == histograms(table)
    view = gathered.view(9)
    assert (view.height, view.width, view.step) == (SIDE, SIDE, 1)
    assert view.top < 3000 < view.top + SIDE
    assert view.left < 1500 < view.left + SIDE

    monkeypatch.setattr(Gathered, "MOST", 20)
    few = Gathered((4000, 3600))
    list(few.watch(parts))
    area, _ = few.histograms()
    assert area is not None
    assert 60 < sum(area.counts) < 110
    assert Gathered((50, 60)).histograms() == (None, None)
    assert Gathered((50, 60)).view(0) == View(0, 0, 50, 60, 1)
