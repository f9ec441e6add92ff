"""Simulated images: every row of both tables, and masks that are right to the pixel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as components_of

from napari_unet_cells.training.synthetic.appearances import APPEARANCES
from napari_unet_cells.training.synthetic.camera import photograph
from napari_unet_cells.training.synthetic.fields import edges_of
from napari_unet_cells.training.synthetic.scene import draw_scene
from napari_unet_cells.training.synthetic.shapes import SHAPES
from napari_unet_cells.training.synthetic.simulate import simulate
from napari_unet_cells.training.synthetic.world import draw_world


def clean(
    shape: str, appearance: str, seed: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Give how much light changes from pixel to pixel, by a good camera, and the labels."""
    rng = np.random.default_rng(seed)
    world = draw_world(rng, 192, [shape, appearance], (40, 60))
    world = replace(world, photons=1e5, read_noise=0.0, quality=0, defocus=0.7, debris=0.0)
    scene = draw_scene(world, rng)
    light = APPEARANCES[appearance].make(scene, rng)
    image = photograph(light, replace(world, tint=(1.0, 1.0, 1.0)), rng).astype(float)
    return ndimage.gaussian_gradient_magnitude(image, 1.0), scene.labels


@pytest.mark.parametrize("shape", SHAPES)
def test_each_number_is_one_cell_without_slivers(shape: str) -> None:
    most = 0
    for seed in range(8):
        image, mask, world = simulate(np.random.default_rng((1, seed)), 192, [shape])
        assert world.shape == shape
        assert image.shape[:2] == mask.shape == (192, 192)
        assert image.dtype == np.uint8
        assert mask.dtype == np.int32
        numbers = np.unique(mask[mask > 0])
        assert numbers.tolist() == list(range(1, numbers.size + 1))
        assert components_of(mask, background=0, connectivity=1).max() == numbers.size
        middles = (mask > 0) & ~edges_of(np.pad(mask, 1))[1:-1, 1:-1]
        assert set(mask[middles]) == set(numbers)
        most = max(most, numbers.size)
    assert most >= 5


@pytest.mark.parametrize("appearance", [name for name in APPEARANCES if name != "textured"])
@pytest.mark.parametrize("shape", ["ellipses", "spread"])
def test_what_is_seen_changes_where_the_mask_ends(shape: str, appearance: str) -> None:
    gains = []
    for seed in range(6):
        change, labels = clean(shape, appearance, (2, seed))
        border = ndimage.binary_dilation(edges_of(labels))
        beside = np.abs(ndimage.distance_transform_edt(~border) - 10) < 2
        gains.append(change[border].mean() / change[beside].mean())
    assert np.median(gains) > 1.4


def test_cells_that_are_grains_alone_end_where_the_mask_ends() -> None:
    gains = []
    for seed in range(6):
        change, labels = clean("ellipses", "textured", (2, seed))
        outside = ndimage.distance_transform_edt(labels == 0)
        within = ndimage.distance_transform_edt(labels > 0)
        beyond, inside = (outside > 4) & (outside < 9), (within > 4) & (within < 9)
        gains.append(change[inside].mean() / change[beyond].mean())
    assert np.median(gains) > 1.8


def test_the_same_seed_gives_the_same_image_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from napari_unet_cells.training.synthetic.simulate import simulate\n"
        "made = [simulate(np.random.default_rng(s), 96)[:2] for s in (3, 4)]\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for m in made for a in m)).hexdigest())\n"
    )
    there = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    # Here other images came first, which must not matter.
    simulate(np.random.default_rng(9), 96)
    made = [simulate(np.random.default_rng(seed), 96)[:2] for seed in (3, 4)]
    here = hashlib.sha256(b"".join(array.tobytes() for pair in made for array in pair))
    assert {done.stdout.strip() for done in there} == {here.hexdigest()}
    assert not np.array_equal(made[0][1], made[1][1])


def test_cells_are_as_wide_as_was_asked_for() -> None:
    for shape in ("round", "ellipses", "sheet", "cobblestone", "rods", "spread"):
        ratios = []
        for seed in range(6):
            rng = np.random.default_rng((4, seed))
            _, mask, world = simulate(rng, 256, [shape], (24, 40))
            areas = np.bincount(mask.ravel())[1:]
            ratios.append(np.sqrt(np.median(areas) * 4 / np.pi) / world.diameter)
        assert 0.8 < np.median(ratios) < 1.2, shape
