"""The camera: photons, dirt and colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.training.synthetic.camera import counted, photograph
from napari_unet_cells.training.synthetic.world import draw_world


@pytest.mark.parametrize("photons", [20.0, 60.0, 1000.0])
def test_photons_scatter_as_poisson_has_it(photons: float) -> None:
    light = np.full((300, 300), 0.6, np.float32)
    counts = counted(light, photons, np.random.default_rng(0)) * photons
    assert counts.mean() == pytest.approx(0.6 * photons, rel=0.05)
    assert counts.var() == pytest.approx(0.6 * photons, rel=0.15)


def test_an_image_is_grey_unless_the_world_has_a_tint() -> None:
    rng = np.random.default_rng(0)
    world = replace(draw_world(rng, 64), tint=(1.0, 1.0, 1.0), photons=1e4, quality=0)
    y, x = np.mgrid[:64, :64]
    light = 0.2 + 0.5 * (np.hypot(y - 32, x - 32) < 20).astype(np.float32)
    grey = photograph(light, world, np.random.default_rng(1))
    assert grey.shape == (64, 64)
    assert grey[32, 32] > grey[2, 2] + 60
    tinted = photograph(light, replace(world, tint=(0.9, 1.0, 0.95)), np.random.default_rng(1))
    assert tinted.shape == (64, 64, 3)
    assert (tinted[..., 1] == grey).all()
    assert (tinted[..., 0] <= tinted[..., 2]).all()
    compressed = photograph(light, replace(world, quality=40), np.random.default_rng(1))
    assert compressed.shape == (64, 64)
    assert not np.array_equal(compressed, grey)


def test_debris_adds_specks() -> None:
    world = replace(draw_world(np.random.default_rng(0), 128), diameter=40.0, photons=1e5)
    world = replace(world, read_noise=0.0, quality=0, illumination=0.0, tint=(1.0, 1.0, 1.0))
    light = np.full((128, 128), 0.5, np.float32)
    light[:64] = 0.9
    clean, dirty = (
        photograph(light, replace(world, debris=debris), np.random.default_rng(2)).astype(float)
        for debris in (0.0, 3.0)
    )
    assert dirty[80:, :].std() > 3 * clean[80:, :].std()
