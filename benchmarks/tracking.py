"""How well cells are tracked: simulated movies of cells that move, divide, come and go.

The cells push each other away, as in a culture; of what a segmentation would give of them some are
missing, and some that touch are one. Each frame is numbered anew. Scores are F1 of the links (a
cell and the same one, or its daughter, when it is seen next), and of whole divisions::

    python benchmarks/tracking.py --seeds 3
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import ellipse

from napari_unet_cells.core.linking import link_planes
from napari_unet_cells.core.tracks import FrameCells, Tracks
from napari_unet_cells.tracking import TrackingOptions, track_cells

#: A cell as it was found: frame and id.
Found = tuple[int, int]
Links = set[tuple[Found, Found]]


@dataclass
class _Cell:
    id: int
    y: float
    x: float
    angle: float
    length: float
    size: float = 1.0
    age: int = 0
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))


@dataclass(frozen=True)
class Movie:
    """A movie, what a segmentation finds in it, and what is true of that.

    Attributes
    ----------
    found : list of int32 arrays, (y, x)
        Labels of each frame, numbered anew.
    links : set
        From a cell that was found to the same one, or its daughter, when it is found next.
    """

    found: list[NDArray[np.int32]]
    links: Links


@dataclass
class Simulation:
    """Cells in a field of view, in steps of one frame.

    Attributes
    ----------
    n : int
        Cells at the beginning.
    side, diameter : float
        Of the field and of a cell, in pixels.
    step : float
        Standard deviation of a move, in diameters.
    divide : float
        Probability of a division in a frame.
    seed : int
    """

    n: int = 60
    side: int = 384
    diameter: float = 20.0
    step: float = 0.3
    divide: float = 0.015
    seed: int = 0

    def __post_init__(self) -> None:
        """Spread the cells."""
        self.rng = np.random.default_rng(self.seed)
        self.cells: list[_Cell] = []
        self.parents: dict[int, int] = {}
        self._last = 0
        for _ in range(self.n):
            y, x = self.rng.uniform(-self.diameter, self.side + self.diameter, 2)
            self.cells.append(self._new(y, x, age=int(self.rng.uniform(0, 60))))
        self._push(60)

    def _new(self, y: float, x: float, age: int = 0) -> _Cell:
        self._last += 1
        angle, length = self.rng.uniform(0, np.pi), self.rng.uniform(1, 1.5)
        return _Cell(self._last, float(y), float(x), float(angle), float(length), age=age)

    def advance(self) -> None:
        """Move, divide, and let others come for those that left."""
        self.cells = [new for cell in self.cells for new in self._next(cell)]
        self._push(12)

    def _next(self, cell: _Cell) -> list[_Cell]:
        if cell.age > 6 and self.rng.random() < self.divide:
            return self._divided(cell)
        step = self.step * self.diameter / np.sqrt(2)
        cell.speed = 0.5 * cell.speed + np.sqrt(0.75) * self.rng.normal(0, step, 2)
        cell.y, cell.x = cell.y + cell.speed[0], cell.x + cell.speed[1]
        cell.angle += self.rng.normal(0, 0.2)
        cell.age, cell.size = cell.age + 1, min(1.0, cell.size + 0.05)
        away = 2 * self.diameter
        if all(-away < place < self.side + away for place in (cell.y, cell.x)):
            return [cell]
        along, side = self.rng.uniform(0, self.side), self.rng.integers(4)
        beyond = -1.2 * self.diameter if side % 2 else self.side + 1.2 * self.diameter
        return [self._new(*((along, beyond) if side < 2 else (beyond, along)))]

    def _divided(self, cell: _Cell) -> list[_Cell]:
        apart = 0.36 * self.diameter * np.array([np.sin(cell.angle), np.cos(cell.angle)])
        daughters = []
        for sign in (-1, 1):
            new = self._new(cell.y + sign * apart[0], cell.x + sign * apart[1])
            new.size, new.speed = 0.75, cell.speed.copy()
            self.parents[new.id] = cell.id
            daughters.append(new)
        return daughters

    def _push(self, rounds: int) -> None:
        """Push cells that overlap away from each other."""
        places = np.array([[cell.y, cell.x] for cell in self.cells])
        sizes = np.array([cell.size for cell in self.cells])
        wanted = 0.55 * self.diameter * (sizes[:, None] + sizes[None])
        for _ in range(rounds):
            apart = places[:, None] - places[None]
            distance = np.hypot(apart[..., 0], apart[..., 1]) + 1e-9
            np.fill_diagonal(distance, np.inf)
            push = np.clip(wanted - distance, 0, None) / 2
            places = places + 0.7 * (apart / distance[..., None] * push[..., None]).sum(1)
        for cell, (y, x) in zip(self.cells, places.tolist(), strict=True):
            cell.y, cell.x = y, x

    def drawn(self) -> NDArray[np.int32]:
        """Draw the cells with their true ids."""
        labels = np.zeros((self.side, self.side), np.int32)
        for cell in self.cells:
            radius, stretch = cell.size * self.diameter / 2, np.sqrt(cell.length)
            rows, columns = ellipse(
                cell.y, cell.x, radius / stretch, radius * stretch, labels.shape, cell.angle
            )
            free = labels[rows, columns] == 0
            labels[rows[free], columns[free]] = cell.id
        return labels


def simulate(
    simulation: Simulation, frames: int = 25, missed: float = 0.02, merged: float = 0.01
) -> Movie:
    """Simulate a movie, and what a segmentation finds in it.

    Parameters
    ----------
    simulation : Simulation
    frames : int
    missed : float
        Part of the cells that is not found.
    merged : float
        Part of the touching pairs that is found as one cell.
    """
    found, names = [], []
    for number in range(frames):
        if number:
            simulation.advance()
        labels, named = _spoiled(simulation.drawn(), simulation.rng, missed, merged)
        found.append(labels)
        names.append(named)
    return Movie(found, _true_links(names, simulation.parents))


def _spoiled(
    labels: NDArray[np.int32], rng: np.random.Generator, missed: float, merged: float
) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Renumber the cells and leave some out; return the new id of each that is seen."""
    areas = np.bincount(labels.ravel())
    ids = [one for one in np.flatnonzero(areas).tolist() if one and areas[one] >= 20]
    new = dict(zip(ids, (rng.permutation(len(ids)) + 1).tolist(), strict=True))
    new = {one: name for one, name in new.items() if rng.random() >= missed}
    left, right = labels[:, :-1], labels[:, 1:]
    touch = (left != right) & (left > 0) & (right > 0)
    for one, other in sorted(set(zip(left[touch].tolist(), right[touch].tolist(), strict=True))):
        if one in new and other in new and rng.random() < merged:
            gone, kept = new[other], new[one]
            new = {key: kept if name == gone else name for key, name in new.items()}
    table = np.zeros(len(areas), np.int32)
    table[list(new)] = list(new.values())
    return table[labels], new


def _true_links(names: list[dict[int, int]], parents: dict[int, int]) -> Links:
    last: dict[int, Found] = {}
    links: Links = set()
    for number, named in enumerate(names):
        before = dict(last)
        for cell, name in named.items():
            parent = parents.get(cell)
            if cell in before and number - before[cell][0] <= 3:
                links.add((before[cell], (number, name)))
            elif cell not in before and parent in before and before[parent][0] == number - 1:
                links.add((before[parent], (number, name)))
            last[cell] = (number, name)
    return links


def links_of(tracks: Tracks, found: list[NDArray[np.int32]], named: list[NDArray[Any]]) -> Links:
    """Give the links that tracks say, between cells as they were found."""
    places: dict[Found, Found] = {}
    for number, (before, after) in enumerate(zip(found, named, strict=True)):
        _, first = np.unique(after, return_index=True)
        for pixel in first.tolist():
            places[number, int(after.flat[pixel])] = (number, int(before.flat[pixel]))
    rows = list(zip(tracks.frame.tolist(), tracks.track.tolist(), strict=True))
    starts = tracks.starts
    links = {(places[one], places[other]) for one, other in pairwise(rows) if one[1] == other[1]}
    begins = {rows[row][1]: rows[row] for row in starts[:-1].tolist()}
    last = {rows[row - 1][1]: rows[row - 1] for row in starts[1:].tolist()}
    for child, parent in tracks.parents.items():
        links.add((places[last[parent]], places[begins[child]]))
    return links


def divisions(links: Links) -> set[tuple[Found, frozenset[Found]]]:
    """Give the cells with several links, and those that they go to."""
    after = defaultdict[Found, list[Found]](list)
    for one, other in links:
        after[one].append(other)
    return {(one, frozenset(others)) for one, others in after.items() if len(others) > 1}


def f1(one: set[Any], other: set[Any]) -> float:
    """Give the F1 score of two sets."""
    return 2 * len(one & other) / max(1, len(one) + len(other))


def by_tracking(movie: Movie, options: TrackingOptions | None = None) -> Links:
    """Give the links of `track_cells`."""
    tracked = track_cells(movie.found, options)
    named = [tracked.renamed(number, plane) for number, plane in enumerate(movie.found)]
    return links_of(tracked.tracks, movie.found, named)


def by_overlap(movie: Movie) -> Links:
    """Give the links of `link_planes`, which knows no gaps and no divisions."""
    named = list(link_planes(movie.found))
    tracks = Tracks.of([FrameCells.of(plane) for plane in named], {})
    return links_of(tracks, movie.found, named)


#: What is compared.
WAYS: dict[str, Callable[[Movie], Links]] = {
    "tracking": by_tracking,
    "without divisions": lambda m: by_tracking(m, TrackingOptions(division_distance=0)),
    "half a diameter": lambda m: by_tracking(m, TrackingOptions(distance=0.5)),
    "overlap": by_overlap,
}


def main() -> None:
    """Print a table of the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    print("| move | cells | way | links | divisions | seconds |\n|---|---|---|---|---|---|")
    for step in (0.1, 0.3, 0.5):
        for n in (60, 160):
            movies = [simulate(Simulation(n, step=step, seed=seed)) for seed in range(seeds)]
            for name, way in WAYS.items():
                began = time.perf_counter()
                found = [way(movie) for movie in movies]
                seconds = (time.perf_counter() - began) / seeds
                pairs = list(zip(found, [movie.links for movie in movies], strict=True))
                links = np.mean([f1(a, b) for a, b in pairs])
                divided = np.mean([f1(divisions(a), divisions(b)) for a, b in pairs])
                print(f"| {step:g} | {n} | {name} | {links:.3f} | {divided:.3f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
