"""Outlines drawn into labels: to the pixel, and nothing that a person would not outline."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_unet_cells.training.synthetic.outlines import (
    Outline,
    draw,
    moved,
    rounded,
    stars,
    stretched,
    turned,
)


def box(top: float, left: float, bottom: float, right: float) -> Outline:
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    return Outline((np.array(corners, float),))


def test_a_disc_has_the_area_and_place_of_its_outline() -> None:
    rng = np.random.default_rng(0)
    for radius in (4, 9.3, 30):
        (circle,) = stars(rng, np.array([radius]), 0.0, corners=90)
        labels, _ = draw([Outline((circle + np.array((40.0, 52.5)),))], 96, 8)
        # Half a pixel more all around, as `filled` says.
        assert (labels == 1).sum() == pytest.approx(np.pi * (radius + 0.5) ** 2, rel=0.07)
        middle = ndimage.center_of_mass(labels == 1)
        assert np.add(middle, 0.5) == pytest.approx((40.0, 52.5), abs=0.1)


def test_later_cells_lie_on_top_and_hidden_ones_are_left_out() -> None:
    labels, raised = draw([box(10, 10, 30, 30), Outline(box(10, 25, 30, 45).polygons, True)], 64, 4)
    assert labels[20, 27] == 2
    assert labels[20, 12] == 1
    assert raised.tolist() == [False, False, True]
    hidden, raised = draw([box(10, 10, 30, 30), box(8, 15, 33, 45)], 64, 4)
    assert np.unique(hidden).tolist() == [0, 1]
    assert hidden[20, 12] == 0
    assert hidden[20, 27] == 1
    assert raised.size == 2


def test_fragments_that_another_cell_cuts_off_are_background() -> None:
    labels, _ = draw([box(10, 10, 20, 50), box(5, 40, 25, 44)], 64, 4)
    assert labels[15, 20] == 1
    assert labels[15, 42] == 2
    assert labels[15, 47] == 0


def test_slivers_along_the_border_are_left_out_and_cut_cells_are_not() -> None:
    labels, _ = draw([box(-18, 10, 1, 30), box(-10, 40, 10, 60)], 64, 20)
    assert labels[0, 20] == 0
    assert labels[0, 50] == 1
    thin, _ = draw([box(10, 10, 11, 50), box(20, 10, 22, 50)], 64, 4)
    assert np.unique(thin).tolist() == [0, 1]


def test_no_cell_is_drawn_of_nothing() -> None:
    labels, raised = draw([], 32, 2)
    assert not labels.any()
    assert raised.tolist() == [False]
    assert moved([], lambda points: points) == []
    assert rounded([]) == []


def test_points_are_moved_turned_and_stretched() -> None:
    square = box(-1, -1, 1, 1).polygons[0]
    long = stretched(square, 4.0)
    assert np.ptp(long, axis=0).tolist() == [1.0, 4.0]
    assert np.ptp(turned(long, np.pi / 2), axis=0) == pytest.approx([4.0, 1.0])
    both = turned(np.stack([long, long]), np.array([0.0, np.pi / 2]))
    assert np.ptp(both[0], axis=0) == pytest.approx([1.0, 4.0])
    assert np.ptp(both[1], axis=0) == pytest.approx([4.0, 1.0])
    one, two = moved([box(0, 0, 1, 1), box(0, 0, 2, 2)], lambda points: points + 5)
    assert one.polygons[0].max() == 6
    assert two.polygons[0].max() == 7
    (cut,) = rounded([square], times=1)
    assert len(cut) == 8
    assert abs(cut).max() == 1
    assert (abs(cut).sum(axis=1) == 1.5).all()
