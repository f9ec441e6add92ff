"""Which level of an image has the resolution of the screen, and what of it is in view."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.core.levels import LevelView, level_in_view

SHAPES = [(4000, 8000), (2000, 4000), (1000, 2000), (500, 1000)]
CANVAS = (100, 200)


def corners(top: float, left: float, height: float, width: float) -> np.ndarray:
    return np.array([(top, left), (top, left + width), (top + height, left + width)], float) - 0.5


@pytest.mark.parametrize(
    ("size", "level"), [(50, 0), (100, 0), (130, 0), (140, 1), (200, 1), (400, 2), (800, 3)]
)
def test_the_level_is_that_of_the_screen(size: int, level: int) -> None:
    view = level_in_view(corners(800, 1600, size, 2 * size), SHAPES, CANVAS)
    assert view is not None
    assert (view.level, view.step) == (level, 1)
    factor = 2**level
    assert view.factors == (factor, factor)
    assert view.box[0].start == 800 // factor
    assert view.box[1].stop == -(-(1600 + 2 * size) // factor)
    assert view.origin == (800 + (factor - 1) / 2, 1600 + (factor - 1) / 2)


def test_no_more_is_looked_at_than_the_screen_shows() -> None:
    for zoom in np.geomspace(0.3, 40, 57):
        view = level_in_view(corners(0, 0, 100 * zoom, 200 * zoom), SHAPES, CANVAS)
        assert view is not None
        height, width = (len(range(side.start, side.stop, side.step)) for side in view.part)
        assert height * width <= 1.1 * 4 * CANVAS[0] * CANVAS[1]


def test_of_an_image_without_coarse_levels_pixels_are_left_out() -> None:
    view = level_in_view(corners(-100, 40, 1000, 2000), SHAPES[:1], CANVAS)
    assert view == LevelView(0, 10, np.s_[0:900, 40:2040], (10.0, 10.0))
    assert view.part == np.s_[0:900:10, 40:2040:10]
    assert view.origin == (0.0, 40.0)


def test_beside_the_image_there_is_nothing() -> None:
    assert level_in_view(corners(4000, 0, 100, 200), SHAPES, CANVAS) is None
    assert level_in_view(corners(0, -300, 100, 200), SHAPES, CANVAS) is None
