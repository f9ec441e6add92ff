"""Outlines around a point: found along weak edges, stopped by other cells and by the border."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.star_outline import DIRECTIONS, Weights, _best_paths, star_outlines

NOTHING = Weights(0, 0, 0, 0, 0, 0, 0, size=0.1, larger=0, blocked=0, bend=0.05)
BY_FALL = Weights(1, 0, 0, 0, 0.5, 0, 0, size=0.05, larger=0, blocked=0.2, bend=0.05)
BY_DARKER = Weights(0, 0, 1, 0, 0, 0, 0, size=0.05, larger=0, blocked=0.2, bend=0.05)
BY_BRIGHTER = Weights(0, 0, 0, 1, 0, 0, 0, size=0.05, larger=0, blocked=0.2, bend=0.05)

SHAPE = (80, 90)


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> NDArray[np.bool_]:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    inside: NDArray[np.bool_] = ((y - centre[0]) / radii[0]) ** 2 + (
        (x - centre[1]) / radii[1]
    ) ** 2 <= 1
    return inside


def found(
    cell: NDArray[np.bool_],
    weights: Weights,
    *,
    seen: float = 1.0,
    level: float = 0.5,
    free: NDArray[np.bool_] | None = None,
    centre: tuple[int, int] = (40, 45),
    diameter: float = 24,
) -> NDArray[np.bool_]:
    """Outline a cell of an intensity on grey that the network sees with a probability."""
    image = ndimage.gaussian_filter(np.where(cell, level, 0.3).astype(np.float32), 1)
    probabilities = np.zeros((2, *SHAPE), np.uint8)
    probabilities[0] = ndimage.gaussian_filter(cell * np.float32(255 * seen), 1)
    free = np.ones(SHAPE, bool) if free is None else free
    (mask,) = star_outlines(image, probabilities, free, centre, diameter, [weights])
    return mask


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("radii", [(8, 8), (9, 17), (17, 15)])
def test_an_ellipse_is_found_by_what_the_network_sees(radii):
    cell = ellipse((40, 45), radii)
    assert iou(found(cell, NOTHING), cell) < 0.75
    assert iou(found(cell, BY_FALL), cell) > 0.85


@pytest.mark.parametrize(("level", "weights"), [(0.36, BY_DARKER), (0.24, BY_BRIGHTER)])
def test_a_cell_that_the_network_missed_is_found_by_its_weak_edge(level, weights):
    cell = ellipse((40, 45), (16, 9))
    assert iou(found(cell, weights, seen=0, level=level), cell) > 0.8
    other = BY_BRIGHTER if weights is BY_DARKER else BY_DARKER
    assert iou(found(cell, other, seen=0, level=level), cell) < 0.8


def test_without_evidence_the_outline_is_a_disc_of_the_expected_size():
    nothing = np.zeros(SHAPE, bool)
    disc = ellipse((40, 45), (12, 12))
    assert iou(found(nothing, NOTHING), disc) > 0.9


def test_other_cells_and_what_lies_behind_them_stay():
    cell = ellipse((40, 45), (12, 12))
    free = np.ones(SHAPE, bool)
    free[:, 50:53] = False
    mask = found(cell, BY_FALL, free=free)
    assert mask[40, 49]
    assert not mask[:, 50:].any()


def test_the_border_of_the_image_ends_a_cell():
    cell = ellipse((2, 45), (12, 12))
    mask = found(cell, BY_FALL, centre=(2, 45))
    assert mask[0, 45]
    assert iou(mask, cell) > 0.8


def test_a_centre_that_nothing_surrounds_is_a_pixel():
    free = np.zeros(SHAPE, bool)
    free[40, 45] = True
    mask = found(ellipse((40, 45), (12, 12)), BY_FALL, free=free)
    np.testing.assert_array_equal(mask, free)


def test_the_path_is_closed():
    utility = np.zeros((1, DIRECTIONS, 44), np.float32)
    utility[0, 0, 10] = utility[0, -1, 20] = 100  # neighbours, and too far apart for both
    (path,) = _best_paths(utility, np.array([0.0]))
    assert abs(int(path[0]) - int(path[-1])) <= 3
    assert np.abs(np.diff(path)).max() <= 3
    assert (path[0] == 10) != (path[-1] == 20)
