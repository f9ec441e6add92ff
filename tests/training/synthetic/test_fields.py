"""Noise, blurs and distances that are fast, and near enough to the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_unet_cells.training.synthetic.fields import (
    Warp,
    blurred,
    depth_of,
    edges_of,
    grains,
)


@pytest.mark.parametrize("width", [0.5, 2.0, 7.0, 40.0])
def test_grains_are_as_wide_and_as_strong_as_asked_for(width: float) -> None:
    rng = np.random.default_rng(0)
    fields = [grains(rng, (200, 150), width) for _ in range(12)]
    assert fields[0].shape == (200, 150)
    assert fields[0].dtype == np.float32
    assert np.std(fields) == pytest.approx(1, abs=0.2)
    assert not np.array_equal(fields[0], fields[1])
    step = max(1, int(width / 4))
    near = np.mean([np.mean(field[:-step] * field[step:]) for field in fields])
    assert near > 0.55 if width > 1.5 else abs(near) < 0.1
    far = int(3 * width) + 2
    apart = np.mean([np.mean(field[:-far] * field[far:]) for field in fields])
    assert abs(apart) < 0.35


def test_large_fields_are_made_of_the_same_bank() -> None:
    assert grains(np.random.default_rng(0), (1500, 1200), 2.0).shape == (1500, 1200)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0, 9.0])
def test_a_blur_is_nearly_the_exact_one(sigma: float) -> None:
    field = np.zeros((128, 128), np.float32)
    field[40:80, 50:70] = 1
    exact = ndimage.gaussian_filter(field, sigma) if sigma > 0.2 else field
    assert abs(blurred(field, sigma) - exact).max() < 0.06


def test_depths_are_nearly_exact() -> None:
    y, x = np.mgrid[:90, :90]
    inside = np.hypot(y - 45, x - 45) < 40
    exact = ndimage.distance_transform_edt(inside)
    assert (abs(depth_of(inside) - exact)[inside] <= 0.145 * exact[inside] + 0.5).all()
    assert depth_of(np.ones((4, 6), bool)).min() == 6


def test_edges_are_the_outermost_pixels_of_cells() -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[1:5, 1:4], labels[1:5, 4:7] = 1, 2
    edge = edges_of(labels)
    assert edge[2, 3]
    assert edge[2, 4]
    assert not edge[2, 2]
    assert not edge[0].any()


def test_a_warp_moves_neighbours_alike_and_folds_nothing() -> None:
    warp = Warp(np.random.default_rng(0), 100, 25, 50)
    points = np.indices((100, 100)).reshape(2, -1).T.astype(float)
    moved = warp(points).reshape(100, 100, 2)
    assert abs(moved - points.reshape(100, 100, 2)).max() > 2
    assert abs(np.diff(moved - points.reshape(100, 100, 2), axis=0)).max() < 1.2
