"""Geometry of a simulated image: labels, depths, brightness of each cell, what lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from napari_unet_cells.training.synthetic.fields import (
    Field,
    Warp,
    blurred,
    depth_of,
    edges_of,
    grains,
)
from napari_unet_cells.training.synthetic.outlines import (
    Outline,
    draw,
    filled,
    moved,
    stars,
)
from napari_unet_cells.training.synthetic.shapes import SHAPES
from napari_unet_cells.training.synthetic.world import World


@dataclass(frozen=True)
class Scene:
    """Cells of a world, and fields that appearances are made of, each computed where asked for.

    Attributes
    ----------
    world : World
    labels : int32 array, (y, x)
        0 is background, 1, 2, ... the cells.
    raised : bool array, (cells + 1,)
        By label: cells that have rounded up.
    """

    world: World
    labels: NDArray[np.int32]
    raised: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.world.size, self.world.size)

    @property
    def n(self) -> int:
        """Number of cells, and one for the background."""
        return self.raised.size

    @cached_property
    def cells(self) -> Field:
        """1 in cells, 0 in the background."""
        return (self.labels > 0).astype(np.float32)

    @cached_property
    def edges(self) -> NDArray[np.bool_]:
        """Outermost pixels of cells."""
        return edges_of(self.labels)

    @cached_property
    def depth(self) -> Field:
        """Distance to the outside of each cell in pixels, 0.5 at its edge; 0 in the background."""
        depth = depth_of((self.labels > 0) & ~self.edges) + np.float32(0.5)
        return np.where(self.labels > 0, depth, np.float32(0))

    @cached_property
    def deepest(self) -> Field:
        """Largest depth of each cell, by label, in pixels."""
        deepest = np.zeros(self.n, np.float32)
        np.maximum.at(deepest, self.labels.ravel(), self.depth.ravel())
        return np.maximum(deepest, 1)

    @cached_property
    def relative(self) -> Field:
        """Depth as a part of the largest of the cell."""
        return self.depth / self.deepest[self.labels]

    @cached_property
    def radius(self) -> float:
        """Half the width of a typical cell in pixels, measured where it is deepest."""
        return float(np.median(self.deepest[1:])) if self.n > 1 else self.world.diameter / 2

    @cached_property
    def dome(self) -> Field:
        """Height of cells that bulge, as caps of a sphere do: 1 in the middle, 0 outside."""
        height = np.sqrt(np.clip(1 - (1 - self.relative) ** 2, 0, 1))
        return blurred(height, 0.12 * self.radius)

    @cached_property
    def plateau(self) -> Field:
        """Height of flat cells: a slope along the edge, then level."""
        width = 0.35 * self.radius
        return blurred(np.minimum(self.depth / width, 1), 0.1 * self.radius)

    def levels(self, rng: np.random.Generator, spread: float) -> Field:
        """Draw a factor around 1 for each cell, and give it in its pixels; 0 outside."""
        factors = np.exp(rng.normal(0, spread, self.n)).astype(np.float32)
        factors[0] = 0
        return factors[self.labels]

    def grains(self, rng: np.random.Generator, width: float) -> Field:
        """Draw smooth noise with grains of so many pixels."""
        return grains(rng, self.shape, width)

    def spots(
        self, rng: np.random.Generator, a_cell: float, radius: float, within: Field | None = None
    ) -> Field:
        """Draw small round things inside cells, 0 to 1.

        Parameters
        ----------
        rng : Generator
        a_cell : float
            How many there are in a cell.
        radius : float
            Pixels.
        within : float32 array, optional
            They lie where it is above a half; by default in cells, away from the edge.
        """
        where = np.flatnonzero((self.relative > 0.35) if within is None else (within > 0.5))
        count = int(rng.poisson(a_cell * max(self.n - 1, 0)))
        if not where.size or not count:
            return np.zeros(self.shape, np.float32)
        at = np.stack(np.divmod(rng.choice(where, min(count, 3000)), self.world.size), axis=1)
        return dots(rng, self.shape, at, radius)

    @cached_property
    def _middles(self) -> NDArray[np.float64]:
        """A point of each cell near its centre of mass, (cells, 2)."""
        flat = self.labels.ravel()
        y, x = np.divmod(np.arange(flat.size), self.world.size)
        weight = self.depth.ravel() ** 2
        total = np.maximum(np.bincount(flat, weight, self.n), 1e-9)
        middles = [np.bincount(flat, weight * part, self.n) / total for part in (y, x)]
        return np.stack(middles, axis=1)[1:]

    def nuclei(self, rng: np.random.Generator, size: float) -> Field:
        """Draw a nucleus into cells, 1 inside and soft along its edge.

        Parameters
        ----------
        rng : Generator
        size : float
            Its radius as a part of the depth of the cell.
        """
        shown = np.flatnonzero(rng.random(self.n - 1) < self.world.nuclei) + 1
        depths = self.deepest[shown]
        radii = size * depths * rng.uniform(0.8, 1.15, shown.size)
        longer, angles = rng.uniform(1.0, 1.4, shown.size), rng.uniform(0, np.pi, shown.size)
        outlines = stars(rng, radii, 0.04, longer, angles, corners=20)
        shift = rng.normal(0, 0.12, (shown.size, 2)) * depths[:, None]
        outlines += (self._middles[shown - 1] + shift)[:, None]
        drawn = filled([Outline((outline,)) for outline in outlines], self.world.size)
        inside = (np.append(0, shown)[drawn] == self.labels) & (self.labels > 0)
        return blurred(inside.astype(np.float32), 0.4 + 0.02 * self.radius)


def dots(
    rng: np.random.Generator, shape: tuple[int, int], at: NDArray[np.int64], radius: float
) -> Field:
    """Draw discs of about a radius at points (n, 2), soft, 0 to 1."""
    if radius < 0.9:
        field = np.zeros(shape, np.float32)
        field[at[:, 0], at[:, 1]] = rng.uniform(0.4, 1.0, len(at))
        return np.asarray(np.minimum(blurred(field, 0.6) * np.float32(2.5), 1))
    picture = PILImage.new("F", (shape[1], shape[0]))
    pen = ImageDraw.Draw(picture)
    for (y, x), r in zip(at.tolist(), radius * np.exp(rng.normal(0, 0.35, len(at))), strict=True):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=float(rng.uniform(0.5, 1.0)))
    return blurred(np.array(picture), 0.25 * radius + 0.3)


def draw_scene(world: World, rng: np.random.Generator) -> Scene:
    """Lay the cells of a world and draw their labels.

    Parameters
    ----------
    world : World
    rng : Generator
    """
    shape = SHAPES[world.shape]
    margin = int(min(shape.reach, 1.2) * world.diameter) + 2
    outlines = shape.make(world, rng)
    reach = margin + shape.reach * world.diameter
    warp = Warp(rng, world.size + 2 * reach, 2.2 * world.diameter, world.warp * world.diameter)
    labels, raised = draw(
        moved(outlines, lambda points: warp(points + reach) - reach), world.size, margin
    )
    return Scene(world, labels, raised)
