"""Ids of the cells of all blocks of a plane: 1 to n, from what each block knows of its own.

::

    block 0    owns 3 cells     1 2 3          an id is the number of cells that the blocks before
    block 1    owns 0                          own, plus the place of the cell's key in its block
    block 2    owns 2           4 5

A block finds the id of a cell that another one owns by its key. That fails where two blocks saw a
cell differently: one that is wider than the margin, or where the network gave other numbers on
another computer. What they call the cell is then found where both see one line of pixels, and the
keys are joined to one, the first that has an owner. No cell is cut, and all of it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_table import Groups
from napari_unet_cells.core.plane_blocks import PlaneBlocks
from napari_unet_cells.segmentation.blocks import BlockCells

#: Side on which a neighbour lies, by the name of ours.
_OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}


@dataclass(frozen=True, eq=False)
class BlockIndex:
    """Keys of the cells of a block, without the pixels: enough to number them.

    Attributes
    ----------
    keys, n_owned, is_cut
        See `BlockCells`.
    is_written : bool array, (m + 1,)
        The cell has pixels in the core.
    beyond, rims : dict of str to int64 array
        See `BlockCells`.
    """

    keys: NDArray[np.int64]
    n_owned: int
    is_cut: NDArray[np.bool_]
    is_written: NDArray[np.bool_]
    beyond: dict[str, NDArray[np.int64]]
    rims: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, cells: BlockCells) -> BlockIndex:
        """Take it from the cells of a block."""
        is_written = np.bincount(cells.labels.ravel(), minlength=len(cells.keys)) > 0
        is_written[0] = False
        return cls(
            cells.keys, cells.n_owned, cells.is_cut, is_written, dict(cells.beyond), cells.rims
        )

    @property
    def owned(self) -> NDArray[np.int64]:
        """Keys of the cells that it owns, rising."""
        return self.keys[1 : self.n_owned + 1]

    @property
    def known(self) -> NDArray[np.int64]:
        """Keys of the cells that it writes, owns, or sees beyond its sides."""
        return np.concatenate([self.keys, *self.beyond.values()])

    @property
    def guests(self) -> NDArray[np.int64]:
        """Keys of the cells of others of which it writes a part."""
        return self.keys[self.n_owned + 1 :]


@dataclass(frozen=True, eq=False)
class Numbering:
    """Ids of the cells of one plane.

    Attributes
    ----------
    offsets : int64 array, (blocks + 1,)
        Cells that the blocks before own; at last the number of all cells that are owned.
    joined : int64 array, (a, 2)
        Keys that stand for another one, rising, and that one.
    missing : int64 array, (b,)
        Keys of owned cells that get no id, rising: they are joined, or nobody writes them.
    adopted : int64 array, (c,)
        Keys of cells without an owner, rising: they are numbered after all others.
    cut : int64 array, (d,)
        Keys, once joined, of the cells that no window held, rising.
    n_disputed : int
        Cells that two blocks saw differently, though both saw all of them.
    """

    offsets: NDArray[np.int64]
    joined: NDArray[np.int64]
    missing: NDArray[np.int64]
    adopted: NDArray[np.int64]
    cut: NDArray[np.int64]
    n_disputed: int = 0

    @property
    def n_cells(self) -> int:
        """Number of cells of the plane, the largest id."""
        return int(self.offsets[-1]) + len(self.adopted)

    def lut(
        self, number: int, blocks: PlaneBlocks, index: Callable[[int], BlockIndex]
    ) -> NDArray[np.int64]:
        """Give the id of each number of a block; 0 for what has none.

        Parameters
        ----------
        number : int
            Of the block.
        blocks : PlaneBlocks
        index : callable (int) -> BlockIndex
            Of any block.
        """
        keys = self._root(index(number).keys)
        ids = np.zeros(len(keys), np.int64)
        at, found = _find(self.adopted, keys)
        ids[found] = self.offsets[-1] + at[found] + 1
        owners = blocks.owners(np.maximum(keys, 0))
        for owner in np.unique(owners[1:][~found[1:]]).tolist():
            owned = self.numbered(index(owner))
            at, is_there = _find(owned, keys)
            is_there &= (owners == owner) & ~found
            ids[is_there] = self.offsets[owner] + at[is_there] + 1
        ids[0] = 0
        return ids

    def numbered(self, index: BlockIndex) -> NDArray[np.int64]:
        """Give the keys of the cells of a block that have ids, in the order of these."""
        return index.owned[~_find(self.missing, index.owned)[1]]

    def _root(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give each key the one that it was joined to, mostly itself."""
        at, found = _find(self.joined[:, 0], keys)
        roots = keys.copy()
        roots[found] = self.joined[at[found], 1]
        return roots


def number_cells(blocks: PlaneBlocks, index: Callable[[int], BlockIndex]) -> Numbering:
    """Give ids to the cells of all blocks; only a few blocks are looked at together.

    Parameters
    ----------
    blocks : PlaneBlocks
    index : callable (int) -> BlockIndex
        Of any block; it should remember the last two rows of blocks.
    """
    pairs = [
        pair for one, side, other in _faces(blocks) for pair in _differ(index, one, side, other)
    ]
    orphans, phantoms, cut = _without_owner(blocks, index)
    keys = np.unique(np.array([*(key for pair in pairs for key in pair), *orphans], np.int64))
    groups = Groups([0.0] * len(keys))
    for one, other in pairs:
        a, b = (groups.find(int(np.searchsorted(keys, key))) for key in (one, other))
        groups.join(min(a, b), max(a, b))
    root, has_owner = groups.all(), ~np.isin(keys, orphans)
    # of those that mean one cell, the first that has an owner stands for all
    order = np.lexsort((keys, ~has_owner, root))
    is_first = np.append(True, np.diff(root[order]) != 0)[: len(order)]
    standing = np.zeros(len(keys), np.int64)
    standing[order] = keys[order][is_first][np.cumsum(is_first) - 1]
    changed = standing != keys
    joined = np.column_stack([keys[changed], standing[changed]]).reshape(-1, 2)
    missing = np.union1d(keys[changed & has_owner], phantoms)
    adopted = keys[~changed & ~has_owner]
    counts = [len(np.setdiff1d(index(number).owned, missing)) for number in range(len(blocks))]
    at, found = _find(joined[:, 0], cut)
    cut[found] = joined[at[found], 1]
    seen_whole = np.setdiff1d(standing, cut)
    return Numbering(
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        joined,
        missing,
        adopted,
        np.unique(cut),
        len(seen_whole),
    )


def _faces(blocks: PlaneBlocks) -> Iterator[tuple[int, str, int]]:
    """Give the pairs of blocks that share a face, and on which side the second one lies."""
    rows, columns = blocks.counts
    for number in range(len(blocks)):
        row, column = divmod(number, columns)
        if column + 1 < columns:
            yield number, "right", number + 1
        if row + 1 < rows:
            yield number, "below", number + columns


def _differ(
    index: Callable[[int], BlockIndex], one: int, side: str, other: int
) -> Iterator[tuple[int, int]]:
    """Give pairs of keys of one cell that two blocks saw differently along their face."""
    first, second = index(one), index(other)
    for ours, theirs, at in ((first, second, side), (second, first, _OPPOSITE[side])):
        # what we see beyond our side, and what they write there
        seen, written = ours.beyond[at], theirs.rims[_OPPOSITE[at]]
        crossing = np.isin(seen, ours.keys[1:][ours.is_written[1:]])
        strange = crossing & ~np.isin(seen, theirs.known) & (written >= 0)
        strange &= ~np.isin(written, ours.known)
        for key in np.unique(seen[strange]).tolist():
            names, counts = np.unique(written[strange & (seen == key)], return_counts=True)
            yield key, int(names[counts.argmax()])


def _without_owner(
    blocks: PlaneBlocks, index: Callable[[int], BlockIndex]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the keys that no block owns, those that no block writes, and those of cut cells."""
    orphans, phantoms, cut = [], [], []
    for number in range(len(blocks)):
        here = index(number)
        cut.append(here.keys[here.is_cut])
        owners = blocks.owners(here.guests)
        for owner in np.unique(owners).tolist():
            keys = here.guests[owners == owner]
            orphans.append(np.setdiff1d(keys, index(owner).owned))
        unwritten = here.owned[~here.is_written[1 : here.n_owned + 1]]
        if len(unwritten):
            around = [index(n).guests for n in _around(blocks, number)]
            phantoms.append(np.setdiff1d(unwritten, np.concatenate(around)))
    return _merged(orphans), _merged(phantoms), _merged(cut)


def _around(blocks: PlaneBlocks, number: int) -> Iterator[int]:
    """Give the blocks around one, and itself."""
    rows, columns = blocks.counts
    row, column = divmod(number, columns)
    for y in range(max(0, row - 1), min(rows, row + 2)):
        for x in range(max(0, column - 1), min(columns, column + 2)):
            yield y * columns + x


def _merged(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))


def _find(
    sorted_keys: NDArray[np.int64], keys: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Look keys up among rising ones: their places, and which of them are there."""
    if not len(sorted_keys):
        return np.zeros(len(keys), np.intp), np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys
