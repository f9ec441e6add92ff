"""Oversegment a plane: every pixel flows up to a peak (steepest ascent, no heap).

All planes here have a margin of one pixel of background, so that every pixel of a cell has
four neighbours, and all background that reaches the border of the plane is one region.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_BACKGROUND = 5
_CHUNK = 1 << 16


def _offsets(plane: NDArray[Any]) -> NDArray[np.intp]:
    """Give what the steps 0 (none) to 4 add to a flat index; 1 and 2 are opposite, 3 and 4 too."""
    width = plane.shape[1]
    return np.array([0, width, -width, 1, -1])


def flood(
    level: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Give each pixel to the peak that the steepest way up from it ends at.

    Returns
    -------
    base : int32 array, the shape of `level`
        0 is background, the fragments are 1 to n.
    peaks : uint8 array, (n + 1,)
        The highest level of each fragment.
    areas : int64 array, (n + 1,)
    """
    pixels = np.flatnonzero(level)
    step = _steps(level, pixels)
    peak_of, n = ndimage.label(step == 0)
    ends = _follow(step, pixels)
    fragments = peak_of.ravel()[pixels][ends]
    # Numbered by their topmost pixels; written backwards, the first of a fragment is what stays.
    first = np.zeros(n + 1, np.intp)
    first[fragments[::-1]] = pixels[::-1]
    rank = np.zeros(n + 1, np.int32)
    rank[np.argsort(first)] = np.arange(n + 1)
    fragments = rank[fragments]
    base = np.zeros(level.shape, np.int32)
    base.ravel()[pixels] = fragments
    peaks = np.zeros(n + 1, np.uint8)
    peaks[fragments] = level.ravel()[pixels][ends]
    return base, peaks, np.bincount(fragments, minlength=n + 1)


def _chunks(n: int) -> Iterator[slice]:
    """Cut n into pieces whose temporary arrays stay in the cache: twice as fast as at once."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def _steps(level: NDArray[np.uint8], pixels: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Give each pixel its step to the highest of its neighbours, 0 where none is higher."""
    levels = level.ravel()
    step = np.full(level.shape, _BACKGROUND, np.uint8)
    for chunk in _chunks(len(pixels)):
        here = pixels[chunk]
        highest = levels[here]
        best = np.zeros(len(here), np.uint8)
        for number, offset in enumerate(_offsets(level)[1:], 1):
            there = levels[here + offset]
            np.copyto(best, np.uint8(number), where=there > highest)
            np.maximum(highest, there, out=highest)
        step.ravel()[here] = best
    _cross_plateaus(step, level, pixels[step.ravel()[pixels] == 0])
    return step


def _follow(step: NDArray[np.uint8], pixels: NDArray[np.intp]) -> NDArray[np.int32]:
    """Give the position in `pixels` of the end of the way that starts at each of them."""
    position = np.empty(step.size, np.int32)
    position[pixels] = np.arange(len(pixels), dtype=np.int32)
    way = np.empty(len(pixels), np.int32)
    for chunk in _chunks(len(pixels)):
        here = pixels[chunk]
        way[chunk] = position[here + _offsets(step)[step.ravel()[here]]]
    moved = True
    while moved:  # twice as far each time
        moved = False
        for chunk in _chunks(len(pixels)):
            further = way[way[chunk]]
            moved = moved or not np.array_equal(further, way[chunk])
            way[chunk] = further
    return way


def _cross_plateaus(
    step: NDArray[np.uint8], level: NDArray[np.uint8], flat: NDArray[np.intp]
) -> None:
    """Lead every pixel of a plateau to the nearest way up from it, in place.

    Else two cells would meet at the edge of the plateau between them and not in its middle.
    """
    steps, levels = step.ravel(), level.ravel()
    offsets = _offsets(level)
    leads = np.zeros(len(flat), np.uint8)
    for number, offset in enumerate(offsets[1:], 1):
        goal = flat + offset
        leads[(leads == 0) & (steps[goal] > 0) & (levels[goal] == levels[flat])] = number
    steps[flat] = leads
    front = flat[leads > 0]
    while len(front):
        reached = []
        for number, back in enumerate(offsets[1:], 1):
            goal = front - back
            goal = goal[(steps[goal] == 0) & (levels[goal] == levels[front])]
            steps[goal] = number
            reached.append(goal)
        front = np.concatenate(reached)


def number_holes(base: NDArray[np.int32], first: int) -> int:
    """Give numbers to the background that does not reach the border of the plane, in place."""
    voids, n = ndimage.label(base == 0)
    holes = np.flatnonzero(voids > 1)  # 1 holds the corner
    base.ravel()[holes] = voids.ravel()[holes] + (first - 2)
    return int(n) - 1


def borders(base: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pairs of neighbouring pixels of different fragments, as flat indices."""
    flat, width = base.ravel(), base.shape[1]
    right = np.flatnonzero(flat[1:] != flat[:-1])
    down = np.flatnonzero(flat[width:] != flat[:-width])
    return np.concatenate([right, down]), np.concatenate([right + 1, down + width])


def saddles(
    base: NDArray[np.int32],
    level: NDArray[np.uint8],
    borders: tuple[NDArray[np.intp], NDArray[np.intp]],
    n: int,
) -> NDArray[np.int64]:
    """Find the fragments (below n) that touch and the highest level at which they do.

    Returns
    -------
    int64 array, (m, 3)
        Fragment, fragment of a higher number, saddle.
    """
    here, there = borders
    pairs = np.sort(base.ravel()[np.column_stack([here, there])], axis=1)
    touch = (pairs[:, 0] > 0) & (pairs[:, 1] < n)
    one, other = pairs[touch].T.astype(np.int64)
    saddle = np.minimum(level.ravel()[here[touch]], level.ravel()[there[touch]])
    # One number to sort by: the pair, then the level in the lowest eight bits.
    key = np.sort((one * n + other) << 8 | saddle)
    pair = key >> 8
    last = np.append(pair[1:] != pair[:-1], np.ones(min(1, len(pair)), bool))
    return np.column_stack([pair[last] // n, pair[last] % n, key[last] & 255])


def rims(
    base: NDArray[np.int32], borders: tuple[NDArray[np.intp], NDArray[np.intp]], n: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find the pairs of holes (n and above) and fragments that touch, and the open fragments."""
    here, there = base.ravel()[borders[0]], base.ravel()[borders[1]]
    is_open = np.zeros(n, bool)
    is_open[here[there == 0]] = True
    is_open[there[here == 0]] = True
    rims = [np.column_stack(pair)[pair[0] >= n] for pair in ((here, there), (there, here))]
    return np.unique(np.concatenate(rims), axis=0), is_open
