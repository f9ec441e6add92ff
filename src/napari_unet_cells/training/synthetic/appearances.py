"""Appearances of simulated cells: a table with one row for each way to see them.

Each maker gives light: float32 (y, x), about 0 to 1, before the camera (see `camera`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet_cells.training.synthetic.fields import Field, blurred

if TYPE_CHECKING:
    from napari_unet_cells.training.synthetic.scene import Scene

Maker = Callable[["Scene", np.random.Generator], Field]


@dataclass(frozen=True)
class Appearance:
    """A row of `APPEARANCES`.

    Attributes
    ----------
    make : callable
        From a scene and a generator to light.
    frequency : float
        How often it is drawn beside the others.
    never : tuple of str
        Shapes that nobody sees like this.
    smallest : float
        Diameter in pixels; what makes a smaller cell visible would be lost in the noise.
    """

    make: Maker
    frequency: float = 1.0
    never: tuple[str, ...] = ()
    smallest: float = 0.0


def _texture(scene: Scene, rng: np.random.Generator, strength: float) -> Field:
    """Draw a factor around 1: grains fine and coarse, each cell's its own to the eye."""
    coarse = scene.grains(rng, max(0.45 * scene.radius, 1.5))
    fine = scene.grains(rng, max(0.12 * scene.radius, 1.5))
    strength *= scene.world.texture
    return np.maximum(1 + np.float32(strength) * (0.6 * coarse + 0.5 * fine), 0.1)


def _vacuoles(scene: Scene, rng: np.random.Generator) -> Field:
    """Draw empty bubbles, 0 to 1; in most worlds there are none."""
    if not scene.world.vacuoles:
        return np.zeros(scene.shape, np.float32)
    return scene.spots(rng, 3 * scene.world.vacuoles, rng.uniform(0.15, 0.35) * scene.radius)


def _seams(scene: Scene, rng: np.random.Generator) -> Field:
    """Draw a factor below 1 along edges: a stain leaves a dark line where cells touch.

    In a sheet it is always seen, since nothing else tells one cell from the next.
    """
    deep = rng.uniform(0.4, 0.8) if scene.world.shape == "sheet" else rng.uniform(0.0, 0.4)
    width = max(0.6, 0.05 * scene.radius)
    line = blurred(scene.edges.astype(np.float32), width) * np.float32(1 + width)
    return np.asarray(1 - np.float32(deep) * np.minimum(line, 1))


def _hazy(scene: Scene, light: Field, most: float) -> Field:
    """Add the glow of what is out of focus."""
    return light + np.float32(most * scene.world.haze) * blurred(light, 1.2 * scene.radius)


def fluorescence(scene: Scene, rng: np.random.Generator) -> Field:
    """Fill cells with a stain: brighter where thick, grainy, sometimes with spots or holes."""
    form = scene.dome if rng.random() < 0.5 else scene.plateau
    base = rng.uniform(0.3, 0.9)
    light = scene.levels(rng, scene.world.uneven) * (base * scene.cells + (1 - base) * form)
    light *= _texture(scene, rng, 0.3) * _seams(scene, rng)
    spots = scene.spots(rng, rng.uniform(1, 8), rng.uniform(0.08, 0.22) * scene.radius)
    light *= 1 + np.float32(scene.world.granules * rng.choice((-0.6, 0.7))) * spots
    light *= 1 - 0.7 * _vacuoles(scene, rng)
    light = _hazy(scene, light, 0.5)
    return 0.5 * light * scene.world.contrast + rng.uniform(0.01, 0.12)


def cytoplasm(scene: Scene, rng: np.random.Generator) -> Field:
    """Fill whole cells with a stain that spares the nucleus and thins out towards the edge."""
    light = scene.levels(rng, scene.world.uneven) * (0.35 * scene.cells + 0.65 * scene.dome)
    light *= _texture(scene, rng, 0.4) * _seams(scene, rng)
    nuclei = scene.nuclei(rng, rng.uniform(0.4, 0.6))
    light *= 1 - np.float32(rng.uniform(0.35, 0.8)) * nuclei
    vesicles = scene.spots(rng, 12 * scene.world.granules, 0.06 * scene.radius)
    light += 0.5 * vesicles * scene.cells
    light *= 1 - 0.8 * _vacuoles(scene, rng)
    return 0.5 * _hazy(scene, light, 0.35) * scene.world.contrast + rng.uniform(0.01, 0.1)


def membranes(scene: Scene, rng: np.random.Generator) -> Field:
    """Stain the membranes alone, patchy, with faint light inside and now and then nuclei."""
    width = max(0.5, scene.radius * rng.uniform(0.02, 0.07))
    line = blurred(scene.edges.astype(np.float32), width) * np.float32(1 + 1.3 * width)
    patchy = 1 + np.float32(0.3 * scene.world.texture) * scene.grains(rng, 0.7 * scene.radius)
    light = line * np.clip(patchy, 0.35, 2) * (0.3 + 0.7 * scene.levels(rng, 0.2))
    inside = np.float32(rng.uniform(0.03, 0.3))
    light += inside * scene.cells * _texture(scene, rng, 0.4)
    if rng.random() < 0.4:
        nuclei = scene.nuclei(rng, rng.uniform(0.4, 0.6))
        light += np.float32(rng.uniform(0.2, 0.7)) * nuclei * _texture(scene, rng, 0.3)
    spots = scene.spots(rng, 4 * scene.world.granules, 0.06 * scene.radius)
    light += 0.4 * spots
    light = _hazy(scene, light, 0.4)
    return 0.6 * light * scene.world.contrast + rng.uniform(0.01, 0.1)


def _phase_of(scene: Scene, rng: np.random.Generator) -> Field:
    """Optical thickness of cells: flat or bulging, with organelles, a nucleus and bubbles."""
    flat = scene.world.shape in ("spread", "spindles", "neurites", "sheet", "cobblestone")
    # Of a flat cell, the middle with the nucleus stands out of a thin rim.
    thin = np.float32(rng.uniform(0.25, 0.7))
    form = thin * scene.plateau + (1 - thin) * scene.dome**2 if flat else scene.dome
    phase = form * scene.levels(rng, (1.2 if flat else 0.3) * scene.world.uneven + 0.03)
    phase *= _texture(scene, rng, 0.25 if flat else 0.15)
    if flat or scene.radius > 8:
        nuclei = scene.nuclei(rng, rng.uniform(0.38, 0.55))
        phase *= 1 - np.float32(rng.uniform(0.1, 0.4)) * nuclei
        phase += 0.5 * scene.spots(rng, 2.5, 0.08 * scene.radius, nuclei)
        granules = scene.spots(rng, 25 * scene.world.granules, max(0.045 * scene.radius, 0.7))
        phase += np.float32(rng.uniform(0.2, 0.7)) * granules
    return phase - np.float32(rng.choice((-0.5, 0.5))) * _vacuoles(scene, rng)


def phase_contrast(scene: Scene, rng: np.random.Generator) -> Field:
    """See cells darker than the background, with bright halos; rounded ones bright.

    ::

        light = 1/2 - a (phase - k blur(phase, width of the halo)) + fringe outside the edge
    """
    phase = _phase_of(scene, rng)
    halo = max(1.2, scene.radius * rng.uniform(0.25, 0.7))
    light = -phase + np.float32(rng.uniform(0.5, 0.9)) * blurred(phase, halo)
    outside = blurred(scene.cells, max(0.9, 0.1 * scene.radius)) * (1 - scene.cells)
    patchy = np.clip(1 + 0.5 * scene.grains(rng, 1.5 * scene.radius), 0.1, 2.5)
    # Thick cells bend more light to their outside than thin ones.
    thick = np.clip(1.5 * blurred(phase, halo) / np.float32(max(phase.max(), 1e-3)), 0.3, 2)
    light += np.float32(rng.uniform(0.4, 1.8)) * outside * patchy * thick
    rim = blurred(scene.edges.astype(np.float32), max(0.7, 0.04 * scene.radius))
    light -= np.float32(rng.uniform(0.0, 0.6)) * rim * patchy
    if scene.raised.any():
        light = _with_balls(scene, rng, light)
    ground = 0.008 * scene.grains(rng, 6) * scene.world.texture
    return 0.5 + 0.36 * scene.world.contrast * light + ground


def _with_balls(scene: Scene, rng: np.random.Generator, light: Field) -> Field:
    """Let rounded cells shine: a bright ball, a dark ring in it, rings of light around it."""
    balls = scene.raised[scene.labels]
    depth = scene.depth / max(0.16 * scene.radius, 1.0)
    ring = np.exp(-((depth - 1.2) ** 2))
    inside = 1.3 * (1 - np.exp(-depth / 2)) * _texture(scene, rng, 0.5) - 1.5 * ring
    light = np.where(balls, inside, light)
    around = blurred(balls.astype(np.float32), max(0.16 * scene.radius, 1.0))
    far = blurred(around, max(0.4 * scene.radius, 1.5))
    light += (2.4 * around + 0.6 * far) * ~balls
    return light.astype(np.float32)


def quantitative_phase(scene: Scene, rng: np.random.Generator) -> Field:
    """See the optical thickness itself: bright cells that fade towards the edge, no halo."""
    phase = np.maximum(_phase_of(scene, rng), 0)
    nuclei = scene.nuclei(rng, rng.uniform(0.4, 0.55))
    phase += np.float32(rng.uniform(0.0, 0.35)) * nuclei * scene.levels(rng, 0.2)
    phase *= 1 + 1.2 * scene.raised[scene.labels]
    phase *= _texture(scene, rng, 0.4) * np.float32(rng.uniform(0.4, 1.0))
    # Laser light interferes: speckle, and broad hills that no reference takes away.
    ground = scene.grains(rng, rng.uniform(3, 14)) * rng.uniform(0.002, 0.02)
    ground += scene.grains(rng, 2.5 * scene.radius) * rng.uniform(0.0, 0.02)
    return np.asarray(0.25 + 0.42 * scene.world.contrast * phase + ground, np.float32)


def dic(scene: Scene, rng: np.random.Generator) -> Field:
    """See the slope of the optical thickness along one direction: light from the side."""
    phase = blurred(_phase_of(scene, rng), max(0.5, 0.05 * scene.radius))
    phase = phase * (1 + 0.6 * scene.raised[scene.labels]).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    down, right = np.gradient(phase)
    slope = np.float32(np.sin(angle)) * down + np.float32(np.cos(angle)) * right
    # Slopes of small and of large cells are seen alike: the prism is chosen so.
    slope *= np.float32(min(0.55 * scene.radius**0.75, 9.0))
    light = 0.5 + 0.5 * np.tanh(scene.world.contrast * slope)
    light += 0.015 * scene.world.texture * scene.grains(rng, 4)
    return np.asarray(0.5 + 0.8 * (light - 0.5))


def bright_field(scene: Scene, rng: np.random.Generator) -> Field:
    """See cells as grey as the background, outlined by a dark and a bright fringe.

    Out of focus, light is the curvature of the optical thickness (transport of intensity).
    """
    width = max(0.7, scene.radius * rng.uniform(0.06, 0.14))
    inner = blurred(scene.edges.astype(np.float32), width) * np.float32(1 + width)
    outside = blurred(scene.cells, 1.6 * width) * (1 - scene.cells)
    inside = scene.cells * (1 - np.minimum(scene.depth / (3.2 * width), 1))
    side = float(rng.choice((-1.0, 1.0), p=(0.7, 0.3)))
    light = side * inner
    light -= side * np.float32(rng.uniform(0.3, 0.9)) * (outside + 0.25 * inside)
    if rng.random() < 0.5:  # thick cells are lenses: brighter or darker in the middle
        light += np.float32(rng.uniform(-0.5, 0.7)) * scene.dome * scene.levels(rng, 0.2)
    light += np.float32(rng.uniform(-0.15, 0.25)) * scene.plateau
    light += np.float32(rng.uniform(0.2, 0.8)) * scene.cells * (_texture(scene, rng, 0.45) - 1)
    if rng.random() < 0.5:
        nuclei = scene.nuclei(rng, rng.uniform(0.35, 0.55))
        rim_of_nucleus = blurred(nuclei, max(0.8, 0.05 * scene.radius)) - nuclei
        light += np.float32(rng.uniform(-1.0, 1.0)) * rim_of_nucleus
    granules = scene.spots(rng, 10 * scene.world.granules, max(0.05 * scene.radius, 0.7))
    light -= 0.4 * granules
    bubbles = _vacuoles(scene, rng)
    light += 0.35 * bubbles - 0.5 * (blurred(bubbles, max(0.8, 0.06 * scene.radius)) - bubbles)
    return np.asarray(0.6 + 0.35 * scene.world.contrast * light, np.float32)


def absorbing(scene: Scene, rng: np.random.Generator) -> Field:
    """See cells darker than a bright background, as one dye absorbs the light."""
    density = scene.levels(rng, scene.world.uneven) * (0.5 * scene.plateau + 0.5 * scene.dome)
    density *= _texture(scene, rng, 0.4)
    rim = blurred(scene.edges.astype(np.float32), max(0.6, 0.05 * scene.radius))
    density += np.float32(rng.uniform(0.0, 0.5)) * rim
    density *= 1 - 0.6 * _vacuoles(scene, rng)
    density += 0.4 * scene.spots(rng, 8 * scene.world.granules, 0.07 * scene.radius)
    return np.asarray(0.9 * np.exp(-1.6 * scene.world.contrast * density), np.float32)


def dark_field(scene: Scene, rng: np.random.Generator) -> Field:
    """See on black what scatters: edges and granules."""
    rim = blurred(scene.edges.astype(np.float32), max(0.5, 0.06 * scene.radius))
    patchy = np.clip(1 + 0.35 * scene.grains(rng, 0.8 * scene.radius), 0.2, 2)
    light = 1.3 * rim * patchy + np.float32(rng.uniform(0.02, 0.18)) * scene.dome
    granules = scene.spots(rng, 20 * scene.world.granules, max(0.05 * scene.radius, 0.7))
    light += np.float32(rng.uniform(0.3, 0.9)) * granules
    light *= 0.4 + 0.6 * scene.levels(rng, scene.world.uneven)
    return 0.6 * _hazy(scene, light, 0.5) * scene.world.contrast + 0.03


def textured(scene: Scene, rng: np.random.Generator) -> Field:
    """See cells by their grains alone, hardly brighter or darker than the background."""
    fine = scene.grains(rng, max(0.1 * scene.radius, 1.0))
    coarse = scene.grains(rng, max(0.3 * scene.radius, 1.5))
    inside = blurred(np.minimum(scene.depth / (0.1 * scene.radius + 1), 1), 0.5)
    body = inside * (0.25 * fine + 0.15 * coarse) * (0.4 + 0.6 * scene.levels(rng, 0.3))
    granules = scene.spots(rng, 25 * scene.world.granules, max(0.05 * scene.radius, 0.7))
    light = body - 0.6 * granules
    rim = blurred(scene.edges.astype(np.float32), max(0.7, 0.05 * scene.radius))
    light += np.float32(rng.uniform(-0.5, 0.5)) * rim + rng.uniform(-0.15, 0.15) * scene.plateau
    return np.asarray(0.5 + 0.3 * scene.world.contrast * light, np.float32)


#: Each way to see cells; a new one is a row.
APPEARANCES: dict[str, Appearance] = {
    "fluorescence": Appearance(fluorescence, 0.6),
    "cytoplasm": Appearance(cytoplasm, 1.1, ("rods", "colonies", "budding")),
    "membranes": Appearance(membranes, 1.2, ("neurites",)),
    "phase-contrast": Appearance(phase_contrast, 2.0),
    "quantitative-phase": Appearance(quantitative_phase, 1.0, ("sheet",)),
    "dic": Appearance(dic, 1.2, (), 8.0),
    "bright-field": Appearance(bright_field, 1.3),
    "absorbing": Appearance(absorbing, 0.6),
    "dark-field": Appearance(dark_field, 0.4, ("sheet",)),
    "textured": Appearance(textured, 0.6, ("rods", "colonies", "sheet"), 24.0),
}
