"""Join the fragments of blocks to those of the plane; see `fragment_blocks`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.flooding import highest_of_pairs
from napari_unet_cells.core.fragment_blocks import Piece
from napari_unet_cells.core.fragment_table import (
    FragmentTable,
    Groups,
    smallest_connected,
    spanning_tree,
)
from napari_unet_cells.core.instance_options import InstanceOptions
from napari_unet_cells.core.merging import Contacts, scored, summed


def joined(
    pieces: Sequence[Piece], options: InstanceOptions
) -> tuple[FragmentTable, list[NDArray[np.int32]]]:
    """Join the fragments of all blocks of a plane to those of the plane.

    Parameters
    ----------
    pieces : sequence of Piece
        Of all blocks, in any order.
    options : InstanceOptions
        That the pieces were made with.

    Returns
    -------
    table : FragmentTable
    luts : list of int32 array, (n + v + 1,)
        For each piece the number in the plane of each number of its pixels.
    """
    starts = np.cumsum([0] + [len(piece.first) for piece in pieces])
    root, shared = _roots(pieces, starts)
    is_fragment = np.zeros(len(root), bool)
    first = np.full(len(root), np.iinfo(np.int64).max)
    for start, piece in zip(starts, pieces, strict=False):
        is_fragment[start + 1 : start + 1 + piece.n] = True
        np.minimum.at(first, root[start + 1 : start + 1 + len(piece.first)], piece.first)
    final = np.zeros(len(root), np.int32)
    n = 0
    roots = np.flatnonzero((root == np.arange(len(root))) & (root > 0))
    for chosen in (roots[is_fragment[roots]], roots[~is_fragment[roots]]):
        chosen = chosen[np.argsort(first[chosen])]
        final[chosen] = np.arange(n + 1, n + 1 + len(chosen))
        n += len(chosen)
    n_fragments = int(np.count_nonzero(is_fragment[roots]))
    luts = []
    for start, piece in zip(starts, pieces, strict=False):
        lut = final[root[start : start + 1 + len(piece.first)]]
        lut[0] = 0
        luts.append(lut)
    shared[:, :2] = final[root[shared[:, :2]]]
    table = _table(pieces, luts, (n_fragments, n - n_fragments), shared, options)
    for piece, lut in zip(pieces, luts, strict=True):
        lut[0] = lut[piece.zero]
    return table, luts


def _roots(
    pieces: Sequence[Piece], starts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give every number, counted through all pieces, the smallest one that means the same.

    Returns
    -------
    root : int array
    saddles : int64 array, (m, 3)
        Numbers of fragments that share a plateau, and its level.
    """
    pairs = _same(pieces, starts)
    n = int(starts[-1]) + 1
    is_flat, is_peak, peaks = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, np.int64)
    for start, piece in zip(starts, pieces, strict=False):
        own = slice(start + 1, start + 1 + piece.n)
        is_flat[own], is_peak[own], peaks[own] = piece.is_flat, piece.is_peak, piece.peaks
    unsure = is_flat[pairs[:, 0]] != is_flat[pairs[:, 1]]
    root = smallest_connected(pairs[~unsure], n)
    flat = np.where(is_flat[pairs[unsure, 0]], *pairs[unsure].T)
    has_peak = np.zeros(n, bool)
    has_peak[root[is_peak]] = True
    groups = Groups(has_peak.tolist())
    saddles = []
    # Of plateaus that were decided by what was seen of them: one may have ways up to several peaks,
    # far from each other. They stay apart, and it is given to one of them.
    shared = np.column_stack([root[pairs[unsure]], peaks[flat]])
    for one, other, level in np.unique(shared, axis=0).tolist():
        a, b = groups.find(one), groups.find(other)
        if not (groups.size[a] and groups.size[b]):
            groups.join(min(a, b), max(a, b))
        elif a != b:
            saddles.append((one, other, level))
    return groups.all()[root], np.array(saddles, np.int64).reshape(-1, 3)


def _same(pieces: Sequence[Piece], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give the pairs of numbers, each of a block and of the next, that one pixel has."""
    at = {piece.block.place: number for number, piece in enumerate(pieces)}
    pairs = [np.zeros((0, 2), np.intp)]
    for number, piece in enumerate(pieces):
        row, column = piece.block.place
        _, _, last_row, last_column = piece.lines
        places = (row, column + 1), (row + 1, column), (row + 1, column + 1)
        y, x = (part.stop - part.start for part in piece.block.core)
        for place, ours in zip(places, (last_column[:y], last_row[:x], last_row[-1:]), strict=True):
            if place in at:
                # The first column of the block to the right, the first row of those below.
                theirs = pieces[at[place]].lines[1 if place[0] == row else 0][: len(ours)]
                both = np.column_stack([ours, theirs]).astype(np.intp)
                both[:, 0] += starts[number] * (both[:, 0] > 0)
                both[:, 1] += starts[at[place]] * (both[:, 1] > 0)
                pairs.append(np.unique(both, axis=0))
    return np.concatenate(pairs)


def _table(
    pieces: Sequence[Piece],
    luts: Sequence[NDArray[np.int32]],
    counts: tuple[int, int],
    shared: NDArray[np.int64],
    options: InstanceOptions,
) -> FragmentTable:
    """Add up what the pieces know, by the numbers of the plane."""
    n, n_holes = counts
    areas, sums = np.zeros(n + 1, np.int64), np.zeros(n + 1)
    peaks, at_border = np.zeros(n + 1, np.uint8), np.zeros(n + 1, bool)
    rims = [np.zeros((0, 2), np.int64)]
    for piece, lut in zip(pieces, luts, strict=True):
        own = lut[1 : piece.n + 1]
        np.add.at(areas, own, piece.areas)
        np.add.at(sums, own, piece.sums)
        np.maximum.at(peaks, own, piece.peaks)
        np.logical_or.at(at_border, own, piece.at_border)
        rims.append(lut[piece.rims].astype(np.int64))
    saddles, contacts = _borders(pieces, luts, shared, n)
    void, fragment = np.concatenate(rims).T
    is_open = at_border.copy()
    is_open[fragment[void == 0]] = True
    rim = np.unique(void[void > 0] * (n + 1) + fragment[void > 0])
    links, depths = spanning_tree(saddles, peaks)
    if options.merge is not None:
        links, depths = scored(saddles, contacts, (areas, peaks), (links, depths), options.merge)
    return FragmentTable(
        areas=areas,
        sums=sums,
        links=links,
        depths=depths,
        contacts=saddles[:, :2].astype(np.int32),
        n_holes=n_holes,
        rims=np.column_stack(np.divmod(rim, n + 1)).astype(np.int32),
        is_open=is_open,
        at_border=at_border,
        cell_threshold=options.cell_threshold,
        smoothing=options.smoothing,
        merge=options.merge,
    )


def _borders(
    pieces: Sequence[Piece], luts: Sequence[NDArray[np.int32]], shared: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], Contacts]:
    """Join saddles and contacts of all pieces, by the numbers of the plane, 1 to n."""
    pairs, contacts = [shared], [Contacts.nothing(len(shared))]
    for piece, lut in zip(pieces, luts, strict=True):
        one, other, saddle = piece.saddles.T
        pairs.append(np.column_stack([lut[one], lut[other], saddle]))
        contacts.append(piece.contacts)
    every = np.concatenate(pairs)
    apart = every[:, 0] != every[:, 1]
    one, other, saddle = every[apart].T
    saddles = highest_of_pairs(one, other, saddle, n + 1)
    return saddles, summed(saddles, every[apart, :2], Contacts.joined(contacts).of(apart))
