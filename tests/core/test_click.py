"""The cell under a click, of what a network saw in a window around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.click import (
    RATING,
    Proposals,
    View,
    fragments_at,
    ladder,
    measure,
    overlap,
    propose,
)

SHAPE = (120, 130)


def disc(y: float, x: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    inside: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return inside


def view_of(
    cells: Mapping[tuple[int, int, int], float],
    point: tuple[int, int],
    *,
    taken: NDArray[np.bool_] | None = None,
    diameter: float = 24,
) -> View:
    """See discs (y, x, radius) with these probabilities, the borders as boundary."""
    probabilities = np.zeros((2, *SHAPE), np.float32)
    image = np.zeros(SHAPE, np.float32)
    for place, seen in cells.items():
        cell = disc(*place)
        core = ndimage.binary_erosion(cell, iterations=2)
        probabilities[0][core] = 255 * seen
        probabilities[1][cell & ~core] = 255 * seen
        image[cell] = seen
    image = ndimage.gaussian_filter(image, 1)
    free = np.ones(SHAPE, bool) if taken is None else ~taken
    return View(image, probabilities.astype(np.uint8), free, np.zeros(SHAPE, bool), point, diameter)


@pytest.mark.parametrize("seen", [1.0, 0.6, 0.35, 0.2])
def test_a_disc_is_found_however_little_the_network_saw_of_it(seen):
    view = view_of({(60, 60, 12): seen, (60, 90, 12): 1.0}, (60, 60))
    proposals = propose(view)
    assert overlap(proposals.masks[proposals.best], disc(60, 60, 12)) > 0.8


def test_background_is_rated_below_every_cell():
    cells = {(60, 60, 12): 0.35, (60, 90, 12): 1.0}
    cell, background = (propose(view_of(cells, point)) for point in ((60, 60), (25, 25)))
    assert background.ratings.max() < 0.23 < cell.ratings.max()


def test_proposals_hold_the_click_hang_together_and_grow():
    taken = disc(60, 78, 8)
    view = view_of({(60, 60, 12): 0.8, (60, 78, 8): 1.0}, (58, 57), taken=taken)
    proposals = propose(view)
    areas = [np.count_nonzero(mask) for mask in proposals.masks]
    assert len(areas) > 1
    assert areas == sorted(areas)
    for mask in proposals.masks:
        assert mask[58, 57]
        assert ndimage.label(mask)[1] == 1
        assert not (mask & taken).any()


def test_touching_cells_are_told_apart_by_their_boundary():
    view = view_of({(60, 50, 12): 1.0, (60, 74, 12): 1.0}, (60, 50))
    together = max(np.count_nonzero(mask) for mask in fragments_at(view))
    assert together > 1.5 * np.count_nonzero(disc(60, 50, 12))
    proposals = propose(view)
    assert overlap(proposals.masks[proposals.best], disc(60, 50, 12)) > 0.8


def test_where_the_network_saw_nothing_there_are_no_fragments():
    view = view_of({(60, 60, 12): 1.0}, (20, 20))
    assert fragments_at(view) == []
    assert len(propose(view).masks) > 0


def test_a_cell_to_be_replaced_is_not_proposed_again():
    view = view_of({(60, 50, 12): 1.0, (60, 74, 12): 1.0}, (60, 50))
    both = disc(60, 50, 12) | disc(60, 74, 12)
    again = replace(view, replaced=both)
    as_before = list(RATING).index("as before")
    assert measure(both, view)[as_before] == 0
    assert measure(both, again)[as_before] == 1
    proposals = propose(again)
    assert overlap(proposals.masks[proposals.best], both) < 0.7


@pytest.mark.parametrize("point", [(4, 4), (0, 60), (115, 125), (60, 0)])
def test_clicks_at_the_border(point):
    y, x = point
    proposals = propose(view_of({(y, x, 12): 1.0}, (y, x)))
    assert overlap(proposals.masks[proposals.best], disc(y, x, 12)) > 0.7


def test_a_single_free_pixel_is_all_there_can_be():
    taken = np.ones(SHAPE, bool)
    taken[60, 60] = False
    view = view_of({(60, 60, 12): 1.0}, (60, 60), taken=taken)
    proposals = propose(view)
    assert [np.count_nonzero(mask) for mask in proposals.masks] == [1]
    masks, chosen = ladder(proposals, view)
    assert (len(masks), chosen) == (1, 0)


def test_the_ladder_grows_strictly_and_each_rung_holds_the_one_before():
    taken = disc(60, 84, 11)
    view = view_of({(60, 60, 12): 0.7, (60, 84, 11): 1.0}, (60, 60), taken=taken)
    proposals = propose(view)
    masks, chosen = ladder(proposals, view)
    assert 0 < chosen < len(masks) - 1
    np.testing.assert_array_equal(masks[chosen], proposals.masks[proposals.best])
    for smaller, larger in pairwise(masks):
        assert (smaller <= larger).all()
        assert np.count_nonzero(larger) > np.count_nonzero(smaller)
    for mask in masks:
        assert mask[60, 60]
        assert not (mask & taken).any()


def test_unlikely_proposals_are_no_rungs():
    view = view_of({(60, 60, 12): 1.0}, (60, 60))
    masks = np.stack([disc(60, 60, 12), disc(60, 60, 24)])
    likely, _ = ladder(Proposals(masks, np.array([0.8, 0.7])), view)
    unlikely, _ = ladder(Proposals(masks, np.array([0.8, 0.1])), view)
    assert any(np.array_equal(mask, masks[1]) for mask in likely)
    assert not any(np.array_equal(mask, masks[1]) for mask in unlikely)


def test_a_proposal_is_measured():
    view = view_of({(60, 60, 12): 1.0}, (60, 60))
    names = list(RATING)[: len(measure(disc(60, 60, 12), view))]
    assert len(names) == len(RATING) - 2
    right = dict(zip(names, measure(disc(60, 60, 12), view), strict=True))
    large = dict(zip(names, measure(disc(60, 60, 20), view), strict=True))
    aside = dict(zip(names, measure(disc(60, 68, 12), view), strict=True))
    assert right["size"] == pytest.approx(0, abs=0.02)
    assert large["size"] == pytest.approx(np.log(20 / 12), abs=0.03)
    assert right["inside"] > 0.95 > 0.1 > right["outside"]
    assert right["central"] == pytest.approx(1, abs=0.01)
    assert right["central"] > aside["central"]
    assert right["line"] > large["line"]
    assert right["edge"] > large["edge"]
    assert right["compact"] == pytest.approx(0.89, abs=0.06)
