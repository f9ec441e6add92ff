"""Shapes of simulated cells and their layout: a table with one row for each shape.

::

    layout (lattice, colony, mosaic)  ->  outline of each cell  ->  warp of the whole plane
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from napari_unet_cells.training.synthetic.fields import Warp, grains
from napari_unet_cells.training.synthetic.outlines import (
    Outline,
    Points,
    moved,
    rounded,
    star,
    stars,
    stretched,
    turned,
)

if TYPE_CHECKING:
    from napari_unet_cells.training.synthetic.world import World

#: Cells of an image that has places for as many: of images of nothing little is learned.
FEWEST = 6

Maker = Callable[["World", np.random.Generator], list[Outline]]


@dataclass(frozen=True)
class Shape:
    """A row of `SHAPES`.

    Attributes
    ----------
    make : callable
        From a world and a generator to outlines, in pixels of the image; cells outside are left
        out later.
    diameters : (float, float)
        Between which its cells are found, in pixels (of the disc of the same area).
    frequency : float
        How often it is drawn beside the others.
    reach : float
        Half the length of its longest cells in diameters.
    """

    make: Maker
    diameters: tuple[float, float]
    frequency: float = 1.0
    reach: float = 1.0


def _lattice(
    world: World, rng: np.random.Generator, spacing: float, jitter: float, beyond: float = 1.0
) -> Points:
    """Draw points on a turned hexagonal lattice, shaken, where a smooth field lets them live.

    No two points come closer than the spacing without what they are shaken by, at no cost.
    They reach so many diameters beyond the image.
    """
    half = world.size / 2 + beyond * world.diameter
    n = int(np.ceil(1.5 * half / spacing)) + 1
    row, column = np.mgrid[-n : n + 1, -n : n + 1]
    points = np.stack([row * np.sqrt(0.75), column + row % 2 / 2], axis=-1).reshape(-1, 2)
    points = turned(points * spacing, rng.uniform(0, np.pi))
    points += rng.normal(0, jitter * spacing, points.shape) + world.size / 2
    points = points[(abs(points - world.size / 2) < half).all(axis=1)]
    alive = _alive(world, rng, points)
    # Drawn in another order, so that no direction lies on top.
    return np.asarray(points[rng.permutation(np.flatnonzero(alive))])


def _alive(world: World, rng: np.random.Generator, points: Points) -> NDArray[Any]:
    """Choose which points hold a cell: clumps and empty places of several cells' width."""
    width = world.diameter * rng.uniform(2.5, 7)
    coarse = 8  # pixels of the field a point of it
    n = int(np.ceil((world.size + 4 * world.diameter) / coarse)) + 1
    field = grains(rng, (n, n), width / coarse) * world.clumping
    field += rng.standard_normal(field.shape, np.float32) * (1 - world.clumping)
    at = np.clip(((points + 2 * world.diameter) / coarse).astype(int), 0, n - 1)
    values = field[at[:, 0], at[:, 1]]
    # Counted in the image: else what lies beside it would have all the cells now and then.
    seen = values[((points > 0) & (points < world.size)).all(axis=1)]
    if not seen.size:
        return np.ones(len(points), bool)
    density = max(world.density, min(1.0, FEWEST / seen.size))
    alive: NDArray[Any] = values >= np.quantile(seen, 1 - density)
    return alive


def _sizes(world: World, rng: np.random.Generator, n: int) -> NDArray[Any]:
    """Draw the radii of n cells."""
    sizes: NDArray[Any] = world.diameter / 2 * np.exp(rng.normal(0, world.spread, n))
    return sizes


def _scattered(
    world: World,
    rng: np.random.Generator,
    elongations: tuple[float, float],
    wobble: float,
    together: float = 0.35,
) -> list[Outline]:
    """Lay ellipses whose outline wobbles; neighbours keep about the same direction."""
    typical = rng.uniform(*elongations)
    tight = rng.random() < together
    spacing = world.diameter * (rng.uniform(0.92, 1.1) if tight else rng.uniform(1.2, 2.2))
    points = _lattice(world, rng, spacing, rng.uniform(0.08, 0.16) if tight else 0.25)
    direction, aligned = rng.uniform(0, np.pi), rng.random() < 0.4
    n = len(points)
    longer = 1 + (typical - 1) * rng.uniform(0.5, 1.5, n)
    angles = direction + rng.normal(0, 0.35, n) if aligned else rng.uniform(0, np.pi, n)
    ellipses = stars(rng, _sizes(world, rng, n), wobble, longer, angles) + points[:, None]
    return [Outline((ellipse,)) for ellipse in ellipses]


def round_cells(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay nearly round cells."""
    return _scattered(world, rng, (1.0, 1.15), rng.uniform(0.0, 0.035))


def ellipses(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay ellipses, as most nuclei are."""
    return _scattered(world, rng, (1.15, 1.9), rng.uniform(0.01, 0.06))


def lobed(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay cells with a bumpy outline, as macrophages and lobed nuclei have it."""
    return _scattered(world, rng, (1.05, 1.7), rng.uniform(0.09, 0.16))


def budding(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay yeast: mothers with buds; a small bud belongs to its mother, a large one is a cell."""
    spacing = world.diameter * rng.uniform(1.15, 1.9)
    points = _lattice(world, rng, spacing, rng.uniform(0.1, 0.22))
    n, typical = len(points), rng.uniform(1.0, 1.35)
    radii, angles = _sizes(world, rng, n), rng.uniform(0, 2 * np.pi, n)
    parts = np.where(rng.random(n) < 0.6, rng.uniform(0.3, 0.85, n), 0)
    away = radii * (np.sqrt(typical) + 0.9 * parts)
    along = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    mothers = stars(rng, radii, 0.015, typical, angles) + points[:, None]
    tilted = angles + rng.normal(0, 0.3, n)
    buds = stars(rng, radii * parts, 0.015, rng.uniform(1.0, 1.3, n), tilted)
    buds += (points + away[:, None] * along)[:, None]
    cells = []
    for mother, bud, part in zip(mothers, buds, parts, strict=True):
        if part == 0:
            cells.append(Outline((mother,)))
        elif part < 0.5:
            cells.append(Outline((mother, bud)))
        else:
            cells += [Outline((bud,)), Outline((mother,))]
    return cells


def _capsules(rng: np.random.Generator, lengths: Points, width: float) -> Points:
    """Draw rods (n, corners, 2) along x, bent a little, some with the waist of a division."""
    n = len(lengths)
    r = width / 2 * np.clip(rng.normal(1, 0.05, n), 0.8, 1.2)[:, None]
    straight = np.maximum(lengths[:, None] / 2 - r, 0.0)
    cap, side = np.linspace(-np.pi / 2, np.pi / 2, 7), np.linspace(1, -1, 8)[1:-1]
    y = np.concatenate([r * np.sin(cap), np.broadcast_to(r, (n, 6))], axis=1)
    x = np.concatenate([straight + r * np.cos(cap), straight * side], axis=1)
    y, x = np.concatenate([y, -y], axis=1), np.concatenate([x, -x], axis=1)
    waist = 0.3 * (rng.random((n, 1)) < 0.25)
    y = y * (1 - waist * np.exp(-((x / (0.6 * r)) ** 2)))
    y += rng.normal(0, 0.05, (n, 1)) * x**2 / np.maximum(straight, r)
    return np.stack([y, x], axis=2)


def _rod_size(world: World) -> tuple[float, float]:
    """Give the typical length and width of rods that have the diameter of the world."""
    width = world.diameter * np.sqrt(np.pi / 4 / world.elongation)
    return width * world.elongation, width


def rods(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay rods one by one, in pairs end to end and in loose groups."""
    length, width = _rod_size(world)
    points = _lattice(world, rng, length * rng.uniform(0.75, 1.6), 0.25)
    n, direction = len(points), rng.uniform(0, np.pi)
    aligned = rng.random() < 0.3
    angles = direction + rng.normal(0, 0.3, n) if aligned else rng.uniform(0, 2 * np.pi, n)
    longs = length * np.exp(rng.normal(0, 0.25, n))
    cells = turned(_capsules(rng, longs, width), angles) + points[:, None]
    # Some have just divided: the other half follows, at an angle.
    second = np.flatnonzero(rng.random(n) < 0.3)
    ends = np.stack([np.zeros(second.size), longs[second] / 2 + 0.02 * width], axis=1)[:, None]
    halves = _capsules(rng, longs[second], width) + (ends - (0, 0.02 * width))
    halves = turned(halves, angles[second] + rng.normal(0, 0.35, second.size))
    halves += points[second, None] + turned(ends, angles[second])
    return [Outline((cell,)) for cell in (*cells, *halves)]


def colonies(world: World, rng: np.random.Generator) -> list[Outline]:
    """Pack rods side by side in colonies, each with the directions of its own growth."""
    length, width = _rod_size(world)
    cells: list[Outline] = []
    for _ in range(rng.integers(1, min(4 + int(world.size / (6 * length)), 12))):
        radius = length * rng.uniform(1.0, 3.0) * (0.6 + world.density)
        # The first one lies inside, so that there is one.
        inset = 0 if cells else 0.25 * world.size
        middle = rng.uniform(inset, world.size - inset, 2)
        cells += _colony(rng, middle, min(radius, 0.7 * world.size), length, width)
    return cells


def _colony(
    rng: np.random.Generator, middle: NDArray[Any], radius: float, length: float, width: float
) -> list[Outline]:
    gap, angle = rng.uniform(1.02, 1.12), rng.uniform(0, np.pi)
    blob = star(rng, 1.0, 0.12)
    bulge = np.hypot(*blob.T)
    # Directions turn over a few lengths; more would squeeze rods out of shape.
    reach = radius + length
    warp = Warp(rng, 2 * reach, max(2.6 * length, radius * 0.6), 0.36 * length)
    places, longs = [], []
    for v in np.arange(-radius, radius, width * gap):
        u = -radius - rng.uniform(0, length)
        while u < radius:
            long = length * float(np.clip(np.exp(rng.normal(0, 0.22)), 0.6, 1.7))
            places.append((v, u + long / 2))
            longs.append(long)
            u += long + width * rng.uniform(0.0, 0.18)
    place = np.array(places)
    part = (np.arctan2(*place.T) / (2 * np.pi) % 1 * len(bulge)).astype(int)
    inside = (np.hypot(*place.T) < radius * bulge[part]) & (rng.random(len(place)) > 0.02)
    place, n = place[inside], int(inside.sum())
    place[:, 0] += rng.normal(0, 0.04 * width, n)
    cells = turned(_capsules(rng, np.array(longs)[inside], width), rng.normal(0, 0.05, n))
    cells += place[:, None]
    outlines = [Outline((cell,)) for cell in cells]
    return moved(outlines, lambda points: turned(warp(points + reach) - reach, angle) + middle)


def spread(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay flat cells with protrusions, and a few that are rounded up."""
    return _flat(world, rng, (1.0, 2.8), 4)


def spindles(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay long cells with two ends, as fibroblasts have them, along a common direction."""
    return _flat(world, rng, (2.5, 5.0), 2)


def _flat(
    world: World, rng: np.random.Generator, elongations: tuple[float, float], most: int
) -> list[Outline]:
    spacing = world.diameter * rng.uniform(0.95, 1.6)
    points = _lattice(world, rng, spacing, 0.2)
    n, direction = len(points), rng.uniform(0, np.pi)
    radii = _sizes(world, rng, n)
    bodies = stretched(_with_protrusions(rng, radii, most), rng.uniform(*elongations, n))
    angles = direction + rng.normal(0, 0.3 if most == 2 else 1.2, n)
    bodies = turned(bodies, angles) + points[:, None]
    balls = stars(rng, radii * rng.uniform(0.45, 0.65, n), 0.02) + points[:, None]
    raised = rng.random(n) < world.raised
    return [
        Outline((ball,), True) if up else Outline((body,))
        for body, ball, up in zip(bodies, balls, raised, strict=True)
    ]


def _with_protrusions(rng: np.random.Generator, radii: Points, most: int) -> Points:
    """Draw bodies (n, corners, 2) that reach out in 2 to `most` directions each."""
    n, corners = len(radii), 72
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    r = np.hypot(*np.moveaxis(stars(rng, np.ones(n), 0.10, corners=corners), 2, 0))
    r *= rng.uniform(0.75, 0.95, (n, 1))
    count = rng.integers(2, most + 1, (n, 1))
    for k in range(most):
        # Cells with two ends have them on opposite sides.
        at = 2 * np.pi * k / count + rng.normal(0, 0.15 if most == 2 else 0.6, (n, 1))
        # Broad fans are lower than thin processes.
        thin = rng.random((n, 1)) < 0.4
        sharp = np.where(thin, rng.uniform(20, 70, (n, 1)), rng.uniform(3, 12, (n, 1)))
        high = rng.uniform(0.15, np.where(thin, 0.9, 0.5)) * (k < count)
        r += high * np.exp(sharp * (np.cos(angle - at) - 1))
    ruffles = rng.normal(0, 0.025, (n, corners)) * (rng.random((n, 1)) < 0.5)
    r *= 1 + ruffles + 0.5 * (np.roll(ruffles, 1, axis=1) + np.roll(ruffles, -1, axis=1))
    outline = np.stack([r * np.sin(angle), r * np.cos(angle)], axis=2)
    size = radii / np.sqrt(np.mean(r**2, axis=1))
    return np.asarray(outline * size[:, None, None])


def neurites(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay cell bodies with long thin branches."""
    points = _lattice(world, rng, world.diameter * rng.uniform(1.5, 2.6), 0.22)
    cells = []
    for point, radius in zip(points, _sizes(world, rng, len(points)), strict=True):
        soma = radius * 0.78
        parts = [stretched(star(rng, soma, 0.07), rng.uniform(1.0, 1.5)) + point]
        start = rng.uniform(0, 2 * np.pi)
        n = int(rng.integers(2, 5))
        for k in range(n):
            heading = start + 2 * np.pi * k / n + rng.normal(0, 0.3)
            parts += _branch(rng, point, heading, soma)
        cells.append(Outline(tuple(parts)))
    return cells


def _branch(rng: np.random.Generator, point: Points, heading: float, soma: float) -> list[Points]:
    """Draw a branch that winds and tapers, as quadrangles from joint to joint."""
    n = int(rng.integers(5, 17))
    headings = heading + np.cumsum(rng.normal(0, 0.18, n + 1))
    step = soma * rng.uniform(0.25, 0.5)
    along = np.stack([np.sin(headings), np.cos(headings)], axis=1)
    joints = point + 0.6 * soma * along[:1] + np.cumsum(along * step, axis=0)
    width = np.maximum(soma * np.linspace(rng.uniform(0.35, 0.5), 0.12, n + 1) ** 1.3, 1.4)
    sides = np.stack([along[:, 1], -along[:, 0]], axis=1) * width[:, None] / 2
    left, right = joints + sides, joints - sides
    return [np.stack([left[i], left[i + 1], right[i + 1], right[i]]) for i in range(n)]


def _mosaic(world: World, rng: np.random.Generator) -> list[Points]:
    """Divide the plane among cells: Voronoi polygons of a shaken lattice, corners made denser."""
    spacing = world.diameter * np.sqrt(np.pi / 4 / np.sqrt(0.75))
    whole = world.with_density(1.0)
    # Cells along the rim of a mosaic are slivers, which no image shall show.
    points = _lattice(whole, rng, spacing, rng.uniform(0.08, 0.26), beyond=3.5)
    if len(points) < 8:
        return []
    tiles = Voronoi(points)
    alive = _alive(world, rng, points)
    polygons = []
    for point, region in enumerate(tiles.point_region):
        corners = tiles.regions[region]
        if alive[point] and corners and -1 not in corners:
            polygons.append(np.asarray(tiles.vertices[corners]))
    reach = 2.0 * world.diameter
    return [one for one in polygons if -reach < one.min() and one.max() < world.size + reach]


def _denser(polygon: Points, n: int = 4) -> Points:
    """Add corners along the edges, so that a warp bends them."""
    part = (np.arange(n) / n)[None, :, None]
    following = np.concatenate([polygon[1:], polygon[:1]])
    return (polygon[:, None] * (1 - part) + following[:, None] * part).reshape(-1, 2)


def sheet(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay cells without gaps, as in an epithelium."""
    stretch, angle = rng.uniform(1.0, 1.5), rng.uniform(0, np.pi)
    middle = world.size / 2
    outlines = [Outline((_denser(polygon),)) for polygon in _mosaic(world, rng)]
    return moved(
        outlines, lambda points: turned(stretched(points - middle, stretch), angle) + middle
    )


def cobblestone(world: World, rng: np.random.Generator) -> list[Outline]:
    """Lay rounded cells that nearly fill the plane, with gaps between them."""
    low = rng.uniform(0.82, 0.95)
    smaller = []
    for polygon in _mosaic(world, rng):
        middle = polygon.mean(axis=0)
        smaller.append((polygon - middle) * rng.uniform(low, 1.0) + middle)
    return [Outline((polygon,)) for polygon in rounded(smaller)]


#: Each shape that cells can have; a new one is a row.
SHAPES: dict[str, Shape] = {
    "round": Shape(round_cells, (5, 120), 1.2, 0.8),
    "ellipses": Shape(ellipses, (5, 120), 1.2, 1.0),
    "lobed": Shape(lobed, (10, 150), 0.8, 1.0),
    "budding": Shape(budding, (8, 90), 1.0, 1.6),
    "rods": Shape(rods, (6, 50), 1.2, 3.0),
    "colonies": Shape(colonies, (6, 50), 1.4, 2.0),
    "spread": Shape(spread, (22, 150), 1.4, 1.6),
    "spindles": Shape(spindles, (22, 130), 1.0, 2.6),
    "neurites": Shape(neurites, (20, 90), 0.7, 2.5),
    "sheet": Shape(sheet, (14, 120), 1.2, 1.0),
    "cobblestone": Shape(cobblestone, (10, 130), 1.0, 1.0),
}
