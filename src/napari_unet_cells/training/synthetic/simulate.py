"""Simulate one image with its mask, from a seed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.training.synthetic.appearances import APPEARANCES
from napari_unet_cells.training.synthetic.camera import photograph
from napari_unet_cells.training.synthetic.scene import draw_scene
from napari_unet_cells.training.synthetic.world import World, draw_world


def simulate(
    rng: np.random.Generator,
    size: int = 256,
    kinds: Collection[str] = (),
    diameters: tuple[float, float] = (5.0, 150.0),
) -> tuple[NDArray[np.uint8], NDArray[np.int32], World]:
    """Draw a world and take an image of it.

    Parameters
    ----------
    rng : Generator
        The same state gives the same image, in any process.
    size : int
        Side of the image in pixels.
    kinds : collection of str
        Shapes and appearances to choose from, see `draw_world`.
    diameters : (float, float)
        Of cells, in pixels.

    Returns
    -------
    image : uint8 array, (size, size) or (size, size, 3)
    mask : int32 array, (size, size)
        0 is background, 1, 2, ... the cells, without gaps; each is one connected piece.
    world : World

    Raises
    ------
    UserError
        Where a kind is not known.
    """
    world = draw_world(rng, size, kinds, diameters)
    scene = draw_scene(world, rng)
    light = APPEARANCES[world.appearance].make(scene, rng)
    return photograph(light, world, rng), scene.labels, world
