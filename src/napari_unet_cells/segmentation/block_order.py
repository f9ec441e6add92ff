"""Order in which the blocks of an image are done while somebody looks at a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.segmentation.block_store import BlockStore

#: Gives the place of the moment in pixels of the labels, (..., y, x); None for none.
Looked = Callable[[], tuple[float, ...] | None]


def nearest_first(at: Looked) -> Callable[[BlockStore, Iterable[int]], Iterator[int]]:
    """Give the order in which the block comes next that is nearest to a place.

    Parameters
    ----------
    at : callable
        It is asked before each block, as the place may have moved.
    """

    def order(store: BlockStore, numbers: Iterable[int]) -> Iterator[int]:
        left = np.array(list(numbers), np.int64)
        middles = _middles(store, left)
        while len(left):
            place = at()
            next_one = 0 if place is None else _nearest(middles, place, store.plan.side)
            yield int(left[next_one])
            left, middles = np.delete(left, next_one), np.delete(middles, next_one, axis=0)

    return order


def _middles(store: BlockStore, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Middles of blocks in pixels of the labels, (n, axes)."""
    planes, blocks = np.divmod(numbers, len(store.blocks))
    rows, columns = np.divmod(blocks, store.blocks.counts[1])
    before = np.unravel_index(planes, store.planes) if store.planes else ()
    side = store.plan.side
    return np.stack([*before, (rows + 0.5) * side, (columns + 0.5) * side], axis=1).astype(float)


def _nearest(middles: NDArray[np.float64], place: tuple[float, ...], side: int) -> int:
    """Find the block whose plane is nearest, and in it the one nearest to a place."""
    n = min(len(place), middles.shape[1])  # a file may have more axes than its layer, or fewer
    apart = np.abs(middles[:, -n:] - np.array(place[-n:]))
    away = np.hypot(*np.maximum(apart[:, -2:] - side / 2, 0).T)
    middle = np.hypot(*apart[:, -2:].T)
    return int(np.lexsort((middle, away, apart[:, :-2].sum(axis=1)))[0])
