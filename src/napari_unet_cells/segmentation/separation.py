"""Separate the cells of a plane block by block, in threads, while its tiles arrive.

::

    [reader] --> network --> probabilities, by rows --> [blocks] --> pieces --> cells
                 (caller)    freed behind the blocks    (threads)    joined

Blocks end where tiles end, less the margin that they need, so each begins when its tile is there.
The cells are those of the plane in one piece (`core.fragment_blocks`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_blocks import (
    Block,
    Piece,
    cut_blocks,
    joined,
    separate_block,
)
from napari_unet_cells.core.instances import InstanceOptions, inside
from napari_unet_cells.core.resample import Box, resize_block
from napari_unet_cells.core.tiling import Tile, TileGrid
from napari_unet_cells.models.runtimes.network import usable_cores
from napari_unet_cells.segmentation.kept_fragments import BlockNumbers, PackedFragments
from napari_unet_cells.segmentation.result import Fragments

#: Pixels up to which a plane is separated in one piece.
ONE_PIECE = 1_500_000

#: Longest side of a block: what it needs stays in the cache of the processor.
LONGEST_BLOCK = 1024

#: Pixels beyond which the fragments of a plane are kept compressed.
KEPT_OPEN = 64_000_000


class RowPages:
    """Probabilities (k, y, x) of a plane of which only some rows are held.

    Parameters
    ----------
    k : int
    shape : (int, int)
        Of the plane.
    """

    #: Rows that are held, and freed, together.
    HEIGHT = 256

    def __init__(self, k: int, shape: tuple[int, int]) -> None:
        self._k, self._shape = k, shape
        self._pages: dict[int, NDArray[np.uint8]] = {}

    @property
    def n_bytes(self) -> int:
        """Memory that they take."""
        return sum(page.nbytes for page in self._pages.values())

    def __setitem__(self, key: tuple[slice, slice, slice], values: NDArray[np.uint8]) -> None:
        """Write a part of the plane."""
        _, rows, columns = key
        for page, there, here in self._parts(rows):
            if page not in self._pages:
                height = min(self.HEIGHT, self._shape[0] - page * self.HEIGHT)
                self._pages[page] = np.zeros((self._k, height, self._shape[1]), np.uint8)
            self._pages[page][:, there, columns] = values[:, here]

    def __getitem__(self, part: Box) -> NDArray[np.uint8]:
        """Copy a part of the plane; 0 where nothing was written."""
        rows, columns = part
        shape = (self._k, rows.stop - rows.start, columns.stop - columns.start)
        values = np.zeros(shape, np.uint8)
        for page, there, here in self._parts(rows):
            if page in self._pages:
                values[:, here] = self._pages[page][:, there, columns]
        return values

    def _parts(self, rows: slice) -> Iterator[tuple[int, slice, slice]]:
        """Give the pages of some rows, which rows of each these are, and which of all."""
        for page in range(rows.start // self.HEIGHT, (rows.stop - 1) // self.HEIGHT + 1):
            top = page * self.HEIGHT
            start, stop = max(rows.start, top), min(rows.stop, top + self.HEIGHT)
            yield page, slice(start - top, stop - top), slice(start - rows.start, stop - rows.start)

    def free(self, row: int) -> None:
        """Free what lies above a row."""
        for page in [p for p in self._pages if (p + 1) * self.HEIGHT <= row]:
            del self._pages[page]


class Workers:
    """Threads that separate blocks; only as many blocks wait as there are threads.

    It is a context manager, which waits for what has begun and drops the rest.
    """

    def __init__(self) -> None:
        self.n = max(1, usable_cores())
        self._pool = ThreadPoolExecutor(self.n, "unet-cells-separate")
        self._room = threading.Semaphore(2 * self.n)

    def __enter__(self) -> Workers:
        """Give itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def submit(self, work: Any, *values: Any) -> Future[Any]:
        """Have a function called in a thread; wait while too many calls wait."""
        self._room.acquire()
        future = self._pool.submit(work, *values)
        future.add_done_callback(lambda _: self._room.release())
        return future


@dataclass(frozen=True, eq=False)
class Separated:
    """Cells of one plane.

    Attributes
    ----------
    cells : uint16 (uint32 beyond 65,535 cells) array, (y, x)
    n : int
        How many there are.
    fragments : PackedFragments
        To separate them again.
    """

    cells: NDArray[np.uint16] | NDArray[np.uint32]
    n: int
    fragments: PackedFragments


@dataclass(frozen=True, eq=False)
class _Done:
    """A block: its piece, and the piece's numbers of some pixels of the plane."""

    piece: Piece
    numbers: NDArray[Any]
    part: Box


class Separation:
    """The cells of one plane, from its tiles.

    Parameters
    ----------
    grid : TileGrid
        Of the plane as the network sees it.
    shape : (int, int)
        Of the plane.
    k : int
        Number of probabilities, and distances.
    options : InstanceOptions
    zoom : float
        See `Fragments`.
    workers : Workers

    Attributes
    ----------
    probabilities : RowPages
        To be written tile by tile; see `arrived`.
    """

    def __init__(
        self,
        grid: TileGrid,
        shape: tuple[int, int],
        k: int,
        options: InstanceOptions,
        zoom: float,
        workers: Workers,
    ) -> None:
        self._scaled, self._shape = grid.shape, shape
        self._options, self._zoom, self._workers = options, zoom, workers
        self.probabilities = RowPages(k, grid.shape)
        self._blocks = list(cut_blocks(grid.shape, *cuts_of(grid, options)))
        self._windows = [block.window(options) for block in self._blocks]
        self._ends = np.array([(y.start, y.stop, x.start, x.stop) for y, x in self._windows])
        height, width = (self._ends[:, i + 1] - self._ends[:, i] for i in (0, 2))
        self._missing = height * width
        self._begun: list[Future[_Done]] = []
        self._waiting = np.ones(len(self._blocks), bool)

    def arrived(self, tile: Tile) -> None:
        """Begin with the blocks that waited for a tile, which was written."""
        if tile.is_preview:
            return
        (y, x), (top, bottom, left, right) = tile.write, self._ends.T
        height = np.minimum(bottom, y.stop) - np.maximum(top, y.start)
        width = np.minimum(right, x.stop) - np.maximum(left, x.start)
        self._missing -= np.maximum(height, 0) * np.maximum(width, 0)
        self._begin(self._waiting & (self._missing == 0))
        if self._waiting.any():
            self.probabilities.free(int(top[self._waiting].min()))

    def _begin(self, ready: NDArray[np.bool_]) -> None:
        for number in np.flatnonzero(ready):
            self._waiting[number] = False
            probabilities = self.probabilities[self._windows[number]]
            work = self._workers.submit(self._separate, self._blocks[number], probabilities)
            self._begun.append(work)

    def _separate(self, block: Block, probabilities: NDArray[np.uint8]) -> _Done:
        numbers, piece = separate_block(probabilities, block, self._options)
        if self._shape == self._scaled:
            y, x = (part.stop - part.start for part in block.core)
            return _Done(piece, _small(numbers[:y, :x], piece), block.core)
        window = block.window(self._options)
        y, x = (
            slice(scope.start - whole.start, scope.stop - whole.start)
            for scope, whole in zip(block.scope, window, strict=True)
        )
        certain = inside(probabilities[:, y, x], self._options)
        resized, part = resize_block(numbers, block.core, self._scaled, self._shape, certain)
        return _Done(piece, _small(resized, piece), part)

    def finish(self) -> Separated:
        """Wait for all blocks, and join them.

        What no tile was written for counts as background.
        """
        self._begin(self._waiting.copy())
        self.probabilities.free(self._scaled[0] + RowPages.HEIGHT)
        done = [work.result() for work in self._begun]
        self._begun.clear()
        table, luts = joined([block.piece for block in done], self._options)
        is_present = np.zeros(table.n_fragments + table.n_holes + 1, bool)
        if self._shape == self._scaled:
            is_present[:] = True
        else:
            for block, lut in zip(done, luts, strict=True):
                seen = np.zeros(len(lut), bool)
                seen[block.numbers] = True  # 0 stands for what `lut` says
                is_present[lut[seen]] = True
        nothing = np.zeros((0, 0), np.int32)
        small = Fragments(table, nothing, np.flatnonzero(is_present), self._zoom)
        return self._joined(done, luts, small)

    def _joined(
        self, done: list[_Done], luts: list[NDArray[np.int32]], small: Fragments
    ) -> Separated:
        """Write the cells of all blocks."""
        cell_of = small.lut(self._options)
        cells = np.zeros(self._shape, cell_of.dtype)
        is_packed = cells.size > KEPT_OPEN

        def write(block: BlockNumbers) -> BlockNumbers:
            block.write(cells, cell_of)
            return block.packed() if is_packed else block

        written = []
        while done:  # so that those that are compressed are freed one by one
            block, lut = done.pop(), luts.pop()
            numbers = BlockNumbers.of(block.part, block.numbers, lut)
            written.append(self._workers.submit(write, numbers))
            del block, numbers
        blocks = tuple(work.result() for work in written)
        fragments = PackedFragments(small, self._shape, blocks)
        return Separated(cells, int(cell_of.max(initial=0)), fragments)


def cuts_of(grid: TileGrid, options: InstanceOptions) -> tuple[list[int], list[int]]:
    """Give the rows and columns at which a plane is cut into blocks.

    Parameters
    ----------
    grid : TileGrid
        Of the plane.
    options : InstanceOptions
    """
    if grid.total <= ONE_PIECE:
        return [], []
    tiles = [tile for tile in grid if not tile.is_preview]
    rows, columns = (
        _cuts({tile.write[axis].stop for tile in tiles}, grid.shape[axis], options)
        for axis in (0, 1)
    )
    return rows, columns


def _cuts(stops: set[int], size: int, options: InstanceOptions) -> list[int]:
    """Cut one axis where what a block needs ends with a tile, and into equal parts between."""
    middle = Block((0, 0), (slice(size, size), slice(0, 0)), (2 * size, 1))
    margin = middle.window(options)[0].stop - size
    ends = [0, *sorted(stop - margin for stop in stops if margin < stop < size), size]
    cuts = []
    for start, end in pairwise(ends):
        n = -(-(end - start) // LONGEST_BLOCK)
        cuts += [start + i * (end - start) // n for i in range(1, n)] + [end]
    return sorted(set(cuts) - {0, size})


def _small(numbers: NDArray[np.int32], piece: Piece) -> NDArray[Any]:
    """Copy the numbers of a block in the narrowest data type that holds them."""
    return numbers.astype(np.min_scalar_type(len(piece.first)))
