"""Oversegment a piece of a plane: every pixel flows up to a peak (steepest ascent, no heap).

All pieces here have a margin of one pixel of background, so that every pixel of a cell has four
neighbours. Where the plane goes on beyond a side of the piece, what flows over that side ends at
its outermost line, pixel by pixel: `fragment_blocks` asks the piece there for the rest of the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BACKGROUND, _EDGE = 5, 6
_CHUNK = 1 << 16


class Sides(NamedTuple):
    """The sides of a piece beyond which the plane goes on."""

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False


def _offsets(plane: NDArray[Any]) -> NDArray[np.intp]:
    """Give what the steps 0 (none) to 6 add to a flat index; 1 and 2 are opposite, 3 and 4 too."""
    width = plane.shape[1]
    return np.array([0, width, -width, 1, -1, 0, 0])


class Flooded(NamedTuple):
    """Fragments that a flood found.

    Attributes
    ----------
    pixels : int array, (m,)
        Flat indices of all that is no background, rising.
    fragments : int32 array, (m,)
        Of each of these pixels: 1 to n, in no certain order.
    peaks : uint8 array, (n + 1,)
        The level at which the ways of each fragment end.
    is_flat : bool array, (n + 1,)
        Plateaus without a way up that reach an open side: whether they have one, is not known.
    is_peak : bool array, (n + 1,)
        Plateaus with nothing but lower pixels around. The rest are pixels where the way goes on
        in what lies beyond an open side.
    unsure : int array
        Pixels of plateaus that reach an open side, as far as these were left undecided.
    """

    pixels: NDArray[np.intp]
    fragments: NDArray[np.int32]
    peaks: NDArray[np.uint8]
    is_flat: NDArray[np.bool_]
    is_peak: NDArray[np.bool_]
    unsure: NDArray[np.intp]


def flood(level: NDArray[np.uint8], open_sides: Sides, decide: bool = False) -> Flooded:
    """Give each pixel to the peak that the steepest way up from it ends at.

    Parameters
    ----------
    level : uint8 array, (y + 2, x + 2)
        0 is background, as is the margin.
    open_sides : Sides
    decide : bool
        Divide plateaus that reach an open side, too, by what is seen of them. Else each of their
        pixels is an end, and all other pixels are where they would be in the whole plane.
    """
    pixels = np.flatnonzero(level > 0)
    step, unsure = _steps(level, pixels, open_sides, decide)
    steps = step.ravel()[pixels]
    top, edge = np.flatnonzero(steps == 0), np.flatnonzero(steps == _EDGE)
    plateaus, n = components(pixels[top], level.shape[1])
    fragments = np.zeros(len(pixels), np.int32)
    fragments[top] = plateaus + 1
    if decide:
        fragments[edge] = _beside(pixels[edge], pixels[top], plateaus + 1, level)
    is_flat = np.zeros(n + 1 + len(edge), bool)
    is_flat[fragments[edge]] = True
    is_flat[0] = False
    alone = edge[fragments[edge] == 0]
    fragments[alone] = np.arange(n + 1, n + 1 + len(alone))
    is_flat = is_flat[: n + 1 + len(alone)]
    peaks = np.zeros(len(is_flat), np.uint8)
    for ends in (top, alone):
        peaks[fragments[ends]] = level.ravel()[pixels[ends]]
    is_peak = ~is_flat
    is_peak[0] = False
    is_peak[n + 1 :] = False
    return Flooded(pixels, fragments[_follow(step, pixels)], peaks, is_flat, is_peak, unsure)


def _beside(
    edge: NDArray[np.intp],
    top: NDArray[np.intp],
    plateaus: NDArray[np.int32],
    level: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Give each pixel of the outermost line the plateau that it belongs to, 0 where to none."""
    found = np.zeros(len(edge), np.int32)
    if not len(edge) or not len(top):
        return found
    levels = level.ravel()
    for offset in _offsets(level)[1:5]:
        there = edge + offset
        at = np.minimum(np.searchsorted(top, there), len(top) - 1)
        is_same = (top[at] == there) & (levels[there] == levels[edge])
        np.copyto(found, plateaus[at], where=is_same & (found == 0))
    return found


def _chunks(n: int) -> Iterator[slice]:
    """Cut n into pieces whose temporary arrays stay in the cache: twice as fast as at once."""
    return (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))


def _steps(
    level: NDArray[np.uint8], pixels: NDArray[np.intp], open_sides: Sides, decide: bool
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Give each pixel its step to the highest of its neighbours, 0 where none is higher.

    And the pixels that are left undecided, see `Flooded`.
    """
    levels = level.ravel()
    step = np.full(level.shape, _BACKGROUND, np.uint8)
    for chunk in _chunks(len(pixels)):
        here = pixels[chunk]
        highest = levels[here]
        best = np.zeros(len(here), np.uint8)
        for number, offset in enumerate(_offsets(level)[1:5], 1):
            there = levels[here + offset]
            np.copyto(best, np.uint8(number), where=there > highest)
            np.maximum(highest, there, out=highest)
        step.ravel()[here] = best
    lines: tuple[tuple[Any, ...], ...] = ((1,), (-2,), (slice(None), 1), (slice(None), -2))
    for line, is_open in zip(lines, open_sides, strict=True):
        if is_open:
            step[line][level[line] > 0] = _EDGE
    flat = pixels[step.ravel()[pixels] == 0]
    unsure = flat[:0]
    if any(open_sides) and not decide:
        unsure = flat[_reaching(step, level, flat)]
        step.ravel()[unsure] = _EDGE
        flat = flat[step.ravel()[flat] == 0]
    _cross_plateaus(step, level, flat)
    return step, unsure


def _reaching(
    step: NDArray[np.uint8], level: NDArray[np.uint8], flat: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Find the pixels of plateaus that touch a pixel of the outermost line as high as they."""
    steps, levels = step.ravel(), level.ravel()
    plateau, n = components(flat, level.shape[1])
    reaching = np.zeros(n, bool)
    for offset in _offsets(level)[1:5]:
        goal = flat + offset
        reaching[plateau[(steps[goal] == _EDGE) & (levels[goal] == levels[flat])]] = True
    return reaching[plateau]


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
    for number, offset in enumerate(offsets[1:5], 1):
        goal = flat + offset
        is_way = (steps[goal] > 0) & (steps[goal] != _EDGE)
        leads[(leads == 0) & is_way & (levels[goal] == levels[flat])] = number
    steps[flat] = leads
    front = flat[leads > 0]
    while len(front):
        reached = []
        for number, back in enumerate(offsets[1:5], 1):
            goal = front - back
            goal = goal[(steps[goal] == 0) & (levels[goal] == levels[front])]
            steps[goal] = number
            reached.append(goal)
        front = np.concatenate(reached)


def components(flat: NDArray[np.intp], width: int) -> tuple[NDArray[np.int32], int]:
    """Find which of some pixels hang together, by their four neighbours.

    Parameters
    ----------
    flat : int array, (n,)
        Flat indices, rising; none at the end of a row, so that rows do not touch.
    width : int
        Of a row.

    Returns
    -------
    component : int32 array, (n,)
        0, 1, ...; in no certain order.
    n : int
        How many there are.
    """
    breaks = np.flatnonzero(np.diff(flat) != 1) + 1
    first, last = np.append(0, breaks)[: len(flat)], np.append(breaks, len(flat))[: len(flat)]
    component, n = joined_runs(flat[first], flat[last - 1] + 1, width)
    return np.repeat(component, last - first), n


def joined_runs(
    starts: NDArray[np.intp], stops: NDArray[np.intp], width: int
) -> tuple[NDArray[np.int32], int]:
    """Find which runs of pixels hang together: runs in neighbouring rows that overlap.

    Parameters
    ----------
    starts, stops : int array, (n,)
        Flat indices, rising.
    width : int
        Of a row.

    Returns
    -------
    component : int32 array, (n,)
    n : int
    """
    low = np.searchsorted(stops, starts + width, "right")
    count = np.searchsorted(starts, stops + width, "left") - low
    above = np.repeat(np.arange(len(starts)), count)
    below = np.arange(len(above)) + np.repeat(low - (np.cumsum(count) - count), count)
    graph = coo_array((np.ones(len(above), bool), (above, below)), shape=(len(starts),) * 2)
    n, component = connected_components(graph, directed=False)
    return component, int(n)


def borders(base: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pairs of neighbouring pixels of different fragments, as flat indices.

    The end of a row and the start of the next are a pair, too.
    """
    flat, width = base.ravel(), base.shape[1]
    right = np.flatnonzero(flat[1:] != flat[:-1])
    down = np.flatnonzero(flat[width:] != flat[:-width])
    return np.concatenate([right, down]), np.concatenate([right + 1, down + width])


def highest_of_pairs(
    one: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]], saddle: NDArray[Any], n: int
) -> NDArray[np.int64]:
    """Give each pair of numbers once, the smaller first, with the highest of its saddles.

    Returns
    -------
    int64 array, (m, 3)
        By rising numbers; all of them are below `n`.
    """
    low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other)
    # One number to sort by: the pair, then the level in the lowest eight bits.
    key = np.sort((low * n + high) << 8 | saddle)
    pair = key >> 8
    last = np.append(pair[1:] != pair[:-1], np.ones(min(1, len(pair)), bool))
    return np.column_stack([pair[last] // n, pair[last] % n, key[last] & 255])
