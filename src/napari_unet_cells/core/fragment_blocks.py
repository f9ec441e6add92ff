"""Fragments of a plane that is cut into blocks: the same, pixel by pixel, as of the whole.

Each block is flooded by itself, in a window with a margin, and sees one line of the blocks to the
right and below, its scope::

            x.start        x.stop
    y.start  +---------------+-+
             | core          |.|     . scope beyond the core: two blocks give these
             |               |.|       pixels numbers, and both mean the same fragment
    y.stop   +---------------+.|
             |.................|

So `joined_fragments` finds which numbers are one fragment (or one hole), however many blocks it
lies in: nothing is cut, whatever its size. The margin is there for the smoothing, and for plateaus,
on which a pixel goes the shortest way. Where one reaches from the scope through all of the margin,
its division is not known: the block is unsure, and wants a wider margin. If all blocks of a plane
are sure, the fragments are those of the plane in one piece: every way was followed by exact steps,
to its end or to a pixel that another block follows further.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.flooding import (
    Sides,
    borders,
    flood,
    highest_of_pairs,
    joined_runs,
)
from napari_unet_cells.core.instance_options import InstanceOptions
from napari_unet_cells.core.merging import Contacts, summed
from napari_unet_cells.core.smoothing import reach_of, smooth

#: Pixels around a block that are flooded with it, at least 2; and where these do not suffice.
MARGIN, WIDE_MARGIN = 16, 64

_Value = TypeVar("_Value", np.int32, np.uint8, np.uint16)

_END = -1  # stands at the end of each row, so that rows do not touch


@dataclass(frozen=True)
class Block:
    """One rectangle of a plane that is cut into rows and columns of them.

    Attributes
    ----------
    place : (int, int)
        Row and column in the grid of blocks.
    core : (slice, slice)
        Its own pixels.
    shape : (int, int)
        Of the plane.
    """

    place: tuple[int, int]
    core: tuple[slice, slice]
    shape: tuple[int, int]

    def around(self, before: int, after: int) -> tuple[slice, slice]:
        """Give the core and as many pixels more of the plane on both sides of each axis."""
        y, x = (
            slice(max(0, part.start - before), min(size, part.stop + after))
            for part, size in zip(self.core, self.shape, strict=True)
        )
        return y, x

    @property
    def scope(self) -> tuple[slice, slice]:
        """The core, and the line of pixels after it along each axis."""
        return self.around(0, 1)

    def window(self, options: InstanceOptions, margin: int) -> tuple[slice, slice]:
        """Pixels of which the probabilities are needed."""
        n = margin + reach_of(options.smoothing)
        return self.around(n, n)


def cut_blocks(
    shape: tuple[int, int], rows: Sequence[int] = (), columns: Sequence[int] = ()
) -> Iterator[Block]:
    """Cut a plane into blocks.

    Parameters
    ----------
    shape : (int, int)
        Of the plane, (y, x).
    rows, columns : sequence of int
        Where a block ends and the next begins, rising, within the plane.
    """
    for row, y in enumerate(pairwise((0, *rows, shape[0]))):
        for column, x in enumerate(pairwise((0, *columns, shape[1]))):
            yield Block((row, column), (slice(*y), slice(*x)), shape)


@dataclass(frozen=True, eq=False)
class Piece:
    """Fragments of one block, by numbers of its own: 1 to n; then n + 1 to n + v, the voids.

    Voids are background. What reaches the border of the plane within the scope is 0.

    Attributes
    ----------
    block : Block
    zero : int
        What 0 stands for among the numbers of the pixels: itself; or, in a part of a plane
        without any background of this number, the largest void. So most pixels are 0.
    first : int64 array, (n + v,)
        First pixel of each in the scope, as a flat index of the plane.
    peaks, is_flat, is_peak : array, (n,)
        See `flooding.Flooded`.
    areas, sums : array, (n,)
        As in a `FragmentTable`, of the core.
    at_border : bool array, (n,)
        Whether it touches the border of the plane.
    saddles : int64 array, (m, 3)
        Pairs of touching fragments, and the highest level at which they touch.
    contacts : Contacts
        What lies along the border of each of these pairs, of the core.
    rims : int64 array, (k, 2)
        Pairs of a void, or 0, and a fragment that touch.
    lines : tuple of four int32 arrays
        Numbers of the first row and the first column of the scope, and of the last ones.
    """

    block: Block
    zero: int
    first: NDArray[np.int64]
    peaks: NDArray[np.uint8]
    is_flat: NDArray[np.bool_]
    is_peak: NDArray[np.bool_]
    areas: NDArray[np.int64]
    sums: NDArray[np.float64]
    at_border: NDArray[np.bool_]
    saddles: NDArray[np.int64]
    contacts: Contacts
    rims: NDArray[np.int64]
    lines: tuple[NDArray[np.int32], ...]

    @property
    def n(self) -> int:
        """Number of fragments."""
        return len(self.peaks)


def foreground(probabilities: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Give the probability of "cell" or "boundary"; rounded, the two may make 256."""
    both: NDArray[np.uint16] = np.add(probabilities[0], probabilities[1], dtype=np.uint16)
    return both


def levels(probabilities: NDArray[np.uint8], options: InstanceOptions) -> NDArray[np.uint8]:
    """Give the smoothed height whose peaks are seeds, at least 1; 0 is background.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        As `instances.oversegment` takes them.
    options : InstanceOptions
    """
    cell, boundary, *distance = probabilities
    # That is cell + boundary >= threshold, in 8 bits.
    missing = np.uint8(round(options.cell_threshold * 255))
    lacking = missing - np.minimum(boundary, missing)
    smoothed = np.maximum(smooth(distance[0] if distance else cell, options.smoothing), 1)
    level: NDArray[np.uint8] = np.multiply(smoothed, cell >= lacking, out=lacking)
    return level


def separate_block(
    probabilities: NDArray[np.uint8],
    block: Block,
    options: InstanceOptions,
    margin: int = MARGIN,
    decide: bool = False,
) -> tuple[NDArray[np.int32], Piece] | None:
    """Cut the foreground of a block into fragments.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        Of `block.window`; see `instances.oversegment`.
    block : Block
    options : InstanceOptions
    margin : int
        Pixels around the block that are flooded with it.
    decide : bool
        See `flooding.flood`: whatever the margin, the block is not unsure then.

    Returns
    -------
    None
        Where the block is unsure: a plateau reaches from its scope through the margin.
    numbers : int32 array, (y, x)
        Of the pixels of `block.scope`, see `Piece`.
    piece : Piece
    """
    window, flooded = block.window(options, margin), block.around(margin, margin)
    level = np.pad(levels(probabilities, options)[_within(flooded, window)], 1)
    found = flood(level, _open_sides(flooded, block.shape), decide)
    scope = _within(block.scope, flooded)
    if len(_in_scope(found.unsure, level.shape[1], scope)[0]):
        return None
    heights = _with_ends(level[1:-1, 1:-1][scope])
    numbers = np.zeros(heights.shape, np.int32)
    pixels, chosen = _in_scope(found.pixels, level.shape[1], scope)
    names = found.fragments[chosen]
    first, seen = _number(numbers, pixels, names, len(found.peaks))
    seen_there = probabilities[(slice(None), *_within(block.scope, window))]
    voids, zero = _number_voids(numbers, len(seen), block)
    piece = _piece(
        (block, zero),
        numbers,
        heights,
        (pixels, np.concatenate([first, voids])),
        (found.peaks[seen], found.is_flat[seen], found.is_peak[seen]),
        seen_there,
    )
    return numbers[:, :-1], piece


def _within(part: tuple[slice, slice], whole: tuple[slice, slice]) -> tuple[slice, slice]:
    """Give the place of a part in an array of a larger one."""
    y, x = (
        slice(one.start - other.start, one.stop - other.start)
        for one, other in zip(part, whole, strict=True)
    )
    return y, x


def _open_sides(part: tuple[slice, slice], shape: tuple[int, int]) -> Sides:
    y, x = part
    return Sides(y.start > 0, y.stop < shape[0], x.start > 0, x.stop < shape[1])


def _with_ends(plane: NDArray[_Value]) -> NDArray[_Value]:
    """Copy a plane with one more pixel, 0, at the end of each row."""
    longer = np.zeros((plane.shape[0], plane.shape[1] + 1), plane.dtype)
    longer[:, :-1] = plane
    return longer


def _in_scope(
    pixels: NDArray[np.intp], width: int, scope: tuple[slice, slice]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Give the pixels that lie in a scope, as flat indices of it, and which of all these are."""
    y, x = scope
    rows, columns = np.divmod(pixels, width)
    rows -= y.start + 1
    columns -= x.start + 1
    width = x.stop - x.start
    chosen = (rows >= 0) & (rows < y.stop - y.start) & (columns >= 0) & (columns < width)
    rows *= width + 1
    rows += columns
    return rows[chosen], chosen


def _number(
    numbers: NDArray[np.int32], pixels: NDArray[np.intp], old: NDArray[np.int32], n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Write the fragments, renumbered by their first pixels, into a plane.

    Returns
    -------
    first : int array, (m,)
        The first pixel of each fragment.
    seen : int array, (m,)
        The old number, below `n`, of each.
    """
    first = np.full(n, -1, np.intp)
    first[old[::-1]] = pixels[::-1]  # of several, what is written last stays
    seen = np.flatnonzero(first >= 0)
    seen = seen[np.argsort(first[seen])]
    new = np.zeros(n, np.int32)
    new[seen] = np.arange(1, len(seen) + 1)
    numbers.ravel()[pixels] = new[old]
    return first[seen], seen


def _number_voids(numbers: NDArray[np.int32], n: int, block: Block) -> tuple[NDArray[np.intp], int]:
    """Give numbers above n to the background that may be a hole, in place.

    Returns
    -------
    first : int array
        First pixels of the voids.
    zero : int
        See `Piece`.
    """
    numbers[:, -1] = _END
    flat, width = numbers.ravel(), numbers.shape[1]
    empty = flat == 0
    changes = np.flatnonzero(empty[1:] != empty[:-1]) + 1
    if empty[:1].any():
        changes = np.append(0, changes)
    starts, stops = changes[::2], changes[1::2]
    void, n_voids = joined_runs(starts, stops, width)
    outside = np.zeros(n_voids, bool)
    ends = (
        starts < width,
        starts >= len(flat) - width,
        starts % width == 0,
        stops % width == width - 1,
    )
    open_sides = _open_sides(block.scope, block.shape)
    for end, is_open in zip(ends, open_sides, strict=True):
        if not is_open:
            outside[void[end]] = True
    first = np.zeros(n_voids, np.intp)
    first[void[::-1]] = starts[::-1]
    inner = np.flatnonzero(~outside)
    inner = inner[np.argsort(first[inner])]
    new = np.zeros(n_voids, np.int32)
    new[inner] = np.arange(n + 1, n + 1 + len(inner))
    zero = 0
    if len(inner) and not outside.any() and any(open_sides):
        largest = np.bincount(void, stops - starts).argmax()
        zero, new[largest] = int(new[largest]), 0
    _fill_runs(flat, starts, stops - starts, new[void])
    return first[inner], zero


def _fill_runs(
    flat: NDArray[np.int32],
    starts: NDArray[np.intp],
    lengths: NDArray[np.intp],
    values: NDArray[np.int32],
) -> None:
    """Write a value other than 0 into each run of pixels, in place."""
    written = np.flatnonzero(values)
    starts, lengths = starts[written], lengths[written]
    before = np.cumsum(lengths) - lengths
    at = np.repeat(starts - before, lengths)
    at += np.arange(len(at))
    flat[at] = np.repeat(values[written], lengths)


def _piece(
    block_and_zero: tuple[Block, int],
    numbers: NDArray[np.int32],
    level: NDArray[np.uint8],
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
    kinds: tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]],
    probabilities: NDArray[np.uint8],
) -> Piece:
    """Measure the fragments of a block."""
    (block, zero), (pixels, first) = block_and_zero, places
    n = len(kinds[0])
    sums = foreground(probabilities)
    areas, totals = _measured(numbers.ravel()[pixels], _with_ends(sums).ravel()[pixels], n)
    y, x = (part.stop - part.start for part in block.core)
    for part in ((slice(y, None), slice(None)), (slice(y), slice(x, None))):  # beyond the core
        beyond = numbers[:, :-1][part]
        chosen = (beyond > 0) & (beyond <= n)
        more = _measured(beyond[chosen], sums[part][chosen], n)
        areas, totals = areas - more[0], totals - more[1]
    saddles, contacts, rims = _touching(numbers, level, n, zero, probabilities, (y, x))
    rows, columns = np.divmod(first, numbers.shape[1])
    rows, columns = rows + block.core[0].start, columns + block.core[1].start
    ends = numbers[:1, :-1], numbers[:, :1], numbers[-1:, :-1], numbers[:, -2:-1]
    lines = tuple(np.where(line == 0, np.int32(zero), line).ravel() for line in ends)
    at_border = _at_border(lines, block, n)
    first = rows * block.shape[1] + columns
    return Piece(
        block, zero, first, *kinds, areas, totals, at_border, saddles, contacts, rims, lines
    )


def _touching(
    numbers: NDArray[np.int32],
    level: NDArray[np.uint8],
    n: int,
    zero: int,
    probabilities: NDArray[np.uint8],
    core: tuple[int, int],
) -> tuple[NDArray[np.int64], Contacts, NDArray[np.int64]]:
    """Give saddles, contacts and rims, see `Piece`; `core` is the size (y, x) of that."""
    flat, heights = numbers.ravel(), level.ravel()
    here, there = borders(numbers)
    one, other = flat[here], flat[there]
    is_one, is_other = ((a > 0) & (a <= n) for a in (one, other))
    touch = is_one & is_other
    saddle = np.minimum(heights[here[touch]], heights[there[touch]])
    saddles = highest_of_pairs(one[touch], other[touch], saddle, n + 1)
    contacts = _along(
        saddles, (one[touch], other[touch]), (here[touch], there[touch]), probabilities, core
    )
    keys = []
    for a, b, is_b in ((one, other, is_other), (other, one, is_one)):
        rim = is_b & ((a == 0) | (a > n))
        void = a[rim].astype(np.int64)
        void[void == 0] = zero
        keys.append(void * (n + 1) + b[rim])
    return saddles, contacts, np.column_stack(np.divmod(_distinct(np.concatenate(keys)), n + 1))


def _along(
    saddles: NDArray[np.int64],
    numbers: tuple[NDArray[np.int32], NDArray[np.int32]],
    pixels: tuple[NDArray[np.intp], NDArray[np.intp]],
    probabilities: NDArray[np.uint8],
    core: tuple[int, int],
) -> Contacts:
    """Measure what lies along borders: each two pixels count in the block that owns the first."""
    width = probabilities.shape[2] + 1
    row, column = np.divmod(pixels[0], width)
    own = (row < core[0]) & (column < core[1])
    here, there = (flat[own] - flat[own] // width for flat in pixels)  # without the ends of rows
    cell, boundary = (plane.ravel() for plane in probabilities[:2])
    along = Contacts(
        np.ones(len(here), np.int64),
        np.maximum(boundary[here], boundary[there]).astype(np.int64),
        np.minimum(cell[here], cell[there]).astype(np.int64),
    )
    one, other = numbers
    return summed(saddles, np.column_stack([one[own], other[own]]), along)


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each number once, rising; a table is faster than to sort where it is not too long."""
    longest = int(keys.max(initial=0)) + 1
    if longest > 16 * len(keys) + (1 << 16):
        return np.unique(keys)
    found = np.zeros(longest, bool)
    found[keys] = True
    return np.flatnonzero(found)


def _measured(
    numbers: NDArray[np.int32], weights: NDArray[np.uint16], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pixels of 1 to n, and sum their weights."""
    sums = np.bincount(numbers, weights, n + 1).astype(float, copy=False)
    return np.bincount(numbers, minlength=n + 1)[1:], sums[1:]


def _at_border(lines: Sequence[NDArray[np.int32]], block: Block, n: int) -> NDArray[np.bool_]:
    """Find the fragments that touch the border of the plane."""
    touching = np.zeros(n, bool)
    sides = _open_sides(block.scope, block.shape)
    for line, is_open in zip(
        lines, (sides.top, sides.left, sides.bottom, sides.right), strict=True
    ):
        if not is_open:
            touching[line[(line > 0) & (line <= n)] - 1] = True
    return touching
