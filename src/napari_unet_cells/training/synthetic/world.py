"""A simulated world: which cells, seen how, by which camera, drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from napari_unet_cells.errors import UserError
from napari_unet_cells.training.synthetic.appearances import APPEARANCES
from napari_unet_cells.training.synthetic.shapes import SHAPES

#: All that a user can ask for.
KINDS = (*SHAPES, *APPEARANCES)

#: Part of the worlds that are not grey but have one pale colour.
TINTED = 0.08


@dataclass(frozen=True)
class World:
    """Everything that is drawn once for an image; with the same seed it is drawn the same.

    Attributes
    ----------
    shape, appearance : str
        Names of rows of `SHAPES` and `APPEARANCES`.
    size : int
        Side of the image in pixels.
    diameter : float
        Typical diameter of a cell, in pixels, of the disc of the same area.
    spread : float
        Standard deviation of the logarithm of the diameters.
    elongation : float
        Of rods: length by width.
    density : float
        Part of the places for cells that hold one.
    clumping : float
        0 leaves places out one by one, 1 whole neighbourhoods.
    raised : float
        Part of flat cells that have rounded up.
    warp : float
        Displacement by the elastic warp of the plane, in diameters.
    contrast : float
        Of the cells against what is beside them.
    uneven : float
        Standard deviation of the logarithm of the brightness of cells.
    texture, granules, vacuoles, nuclei : float
        Strength of grains, bright or dark; the part of the cells that have vacuoles and that show
        a nucleus.
    haze : float
        Light from cells that are out of focus.
    debris : float
        Specks for each cell's area.
    illumination : float
        How much it changes across the image.
    defocus : float
        Standard deviation of the blur in pixels.
    photons : float
        That a pixel of full brightness counts; fewer are noisier.
    read_noise : float
        Standard deviation, where the image reaches from 0 to 1.
    quality : int
        Of JPEG; 0 is not compressed.
    tint : (float, float, float)
        Factors of red, green and blue; three ones are grey.
    """

    shape: str
    appearance: str
    size: int
    diameter: float
    spread: float
    elongation: float
    density: float
    clumping: float
    raised: float
    warp: float
    contrast: float
    uneven: float
    texture: float
    granules: float
    vacuoles: float
    nuclei: float
    haze: float
    debris: float
    illumination: float
    defocus: float
    photons: float
    read_noise: float
    quality: int
    tint: tuple[float, float, float]

    def with_density(self, density: float) -> World:
        """Give the same world with more or fewer cells."""
        return replace(self, density=density)

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON takes it, numbers of three digits."""
        return {
            name: float(f"{value:.3g}") if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def check_kinds(kinds: Collection[str]) -> None:
    """Refuse names that are neither a shape nor an appearance.

    Raises
    ------
    UserError
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(
            f"There is no kind '{unknown[0]}'. Shapes: {', '.join(SHAPES)}. Appearances: "
            f"{', '.join(APPEARANCES)}."
        )


def draw_world(
    rng: np.random.Generator,
    size: int,
    kinds: Collection[str] = (),
    diameters: tuple[float, float] = (5.0, 150.0),
) -> World:
    """Draw a world.

    Parameters
    ----------
    rng : Generator
    size : int
        Side of the image in pixels.
    kinds : collection of str
        Shapes and appearances to choose from; where none of a table is named, all of it.
    diameters : (float, float)
        Of cells, in pixels; a shape keeps to its own range within.

    Raises
    ------
    UserError
        Where a kind is not known.
    """
    check_kinds(kinds)
    appearances = [kind for kind in kinds if kind in APPEARANCES] or list(APPEARANCES)
    shape = _draw_shape(rng, [kind for kind in kinds if kind in SHAPES], appearances)
    appearance = _draw_appearance(rng, appearances, shape)
    diameter = _draw_diameter(rng, shape, appearance, diameters, size)
    contrast = rng.uniform(0.35, 1.0)
    cells, camera = _draw_cells(rng, shape), _draw_camera(rng, diameter, contrast)
    return World(shape, appearance, size, diameter, contrast=contrast, **cells, **camera)


def _draw_cells(rng: np.random.Generator, shape: str) -> dict[str, Any]:
    """Draw how cells lie and what is in them."""
    filling = shape in _FILLING
    return {
        "spread": rng.uniform(0.03, 0.25),
        "elongation": rng.uniform(2.0, 5.5),
        "density": min(1.0, rng.uniform(0.7, 1.3)) if filling else rng.uniform(0.12, 0.95),
        "clumping": rng.uniform(0.7 if filling else 0.0, 1.0),
        "raised": float(rng.choice((0.0, 0.08, 0.2))),
        "warp": rng.uniform(0.0, 0.22),
        "uneven": rng.uniform(0.03, 0.4),
        "texture": rng.uniform(0.0, 1.0),
        "granules": rng.uniform(0.0, 1.0),
        "vacuoles": float(rng.choice((0.0, 0.2, 0.6), p=(0.6, 0.25, 0.15))),
        "nuclei": float(rng.choice((0.0, 0.7, 1.0), p=(0.35, 0.15, 0.5))),
    }


def _draw_camera(rng: np.random.Generator, diameter: float, contrast: float) -> dict[str, Any]:
    """Draw what is between the cells and the file."""
    noisy = rng.random() < 0.25
    photons = 10 ** (rng.uniform(1.7, 2.6) if noisy else rng.uniform(2.7, 4.5))
    return {
        "haze": rng.uniform(0.0, 1.0),
        "debris": float(rng.choice((0.0, 0.1, 0.4), p=(0.4, 0.4, 0.2))),
        "illumination": rng.uniform(0.0, 1.0) ** 2,
        "defocus": rng.uniform(0.5, 0.8) + 0.06 * diameter**0.7 * rng.uniform(0, 1) ** 2,
        # With less contrast fewer could be told from noise, by anybody.
        "photons": photons / contrast,
        "read_noise": rng.uniform(0.001, 0.012),
        "quality": int(rng.integers(35, 90)) if rng.random() < 0.2 else 0,
        "tint": _draw_tint(rng),
    }


#: Shapes that cover the plane; they need a little space only.
_FILLING = ("sheet", "cobblestone")


def _draw_shape(rng: np.random.Generator, named: list[str], appearances: list[str]) -> str:
    """Draw one that is seen in one of the appearances; a named one is taken in any case."""
    names = named or [
        name
        for name in SHAPES
        if any(name not in APPEARANCES[appearance].never for appearance in appearances)
    ]
    weights = np.array([SHAPES[name].frequency for name in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def _draw_appearance(rng: np.random.Generator, names: list[str], shape: str) -> str:
    """Draw one that such cells are seen in, where there is one."""
    names = [name for name in names if shape not in APPEARANCES[name].never] or names
    weights = np.array([APPEARANCES[name].frequency for name in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def _draw_tint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the pale colour of a lamp or a filter, mostly none.

    Green is never the weakest: pink and purple are those of histology, which has real images.
    """
    if rng.random() >= TINTED:
        return (1.0, 1.0, 1.0)
    red, blue = (float(part) for part in 1 - rng.uniform(0, 0.14, 2))
    return (red, max(red, blue, float(1 - rng.uniform(0, 0.1))), blue)


def _draw_diameter(
    rng: np.random.Generator,
    shape: str,
    appearance: str,
    diameters: tuple[float, float],
    size: int,
) -> float:
    """Draw uniformly in the logarithm, and no cell wider than two thirds of the image."""
    low, high = SHAPES[shape].diameters
    low = max(low, APPEARANCES[appearance].smallest)
    low = min(max(low, diameters[0]), diameters[1])
    high = max(low, min(high, diameters[1], size / 1.5))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
