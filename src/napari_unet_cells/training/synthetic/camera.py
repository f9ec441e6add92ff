"""Camera of the simulator: illumination, dirt, defocus, noise, compression, a pale tint."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from napari_unet_cells.training.synthetic.fields import Field, blurred, grains, resized, white_noise
from napari_unet_cells.training.synthetic.scene import dots
from napari_unet_cells.training.synthetic.world import World


def photograph(light: Field, world: World, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take an image of the light.

    Parameters
    ----------
    light : float32 array, (y, x)
        About 0 to 1.
    world : World
    rng : Generator

    Returns
    -------
    uint8 array, (y, x), or (y, x, 3) where the world has a tint
    """
    light = _with_debris(light.astype(np.float32), world, rng)
    light = light * _illumination(world, rng)
    light = blurred(light, world.defocus)
    light = counted(np.clip(light, 0, 1.5), world.photons, rng)
    light += white_noise(rng, light.shape) * np.float32(world.read_noise)
    low, high = np.percentile(light[::3, ::3], (0.5, 99.8))
    # Half of the cameras leave room above and below.
    room = high - low
    low -= rng.uniform(0, 0.12) * room
    high = max(high + rng.choice((0.0, rng.uniform(0, 0.3) * room)), low + 0.25)
    pixels: NDArray[np.uint8] = (np.clip((light - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    if world.quality:
        pixels = _compressed(pixels, world.quality)
    if world.tint == (1.0, 1.0, 1.0):
        return pixels
    tint = np.array(world.tint, np.float32)
    tinted: NDArray[np.uint8] = (pixels[..., np.newaxis] * tint).astype(np.uint8)
    return tinted


def counted(light: Field, photons: float, rng: np.random.Generator) -> Field:
    """Count photons: Poisson noise, by the inverse of Anscombe's transform of a normal one.

    Skewed where few are counted, as the real one, and twenty times as fast to draw.
    """
    root = np.sqrt(light * np.float32(photons) + np.float32(0.375))
    root += 0.5 * white_noise(rng, light.shape)
    counts = np.maximum(root, 0) ** 2 - np.float32(0.375)
    return np.asarray(np.maximum(counts, 0) / np.float32(photons))


def _illumination(world: World, rng: np.random.Generator) -> Field:
    """Draw a factor around 1 that changes slowly across the image."""
    grid = 1 + rng.normal(0, 0.11 * world.illumination, (3, 3)).astype(np.float32)
    return resized(np.maximum(grid, 0.3), (world.size, world.size))


def _with_debris(light: Field, world: World, rng: np.random.Generator) -> Field:
    """Scatter specks, much smaller than cells, some in focus and some far from it."""
    area = np.pi / 4 * max(world.diameter, 12) ** 2
    count = int(rng.poisson(min(world.debris * light.size / area, 80)))
    if count:
        at = rng.integers(0, world.size, (count, 2))
        radius = max(0.6, world.diameter * rng.uniform(0.015, 0.06))
        specks = blurred(dots(rng, light.shape, at, radius), radius * rng.uniform(0.0, 1.2))
        light = light + np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(0.06, 0.3)) * specks
    if rng.random() < 0.2:  # far out of focus, so that nobody takes it for cells
        dust = grains(rng, light.shape, rng.uniform(1.5, 3) * max(world.diameter, 20))
        light = light + np.float32(0.03 * world.contrast) * dust
    return light


def _compressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(PILImage.open(file))
