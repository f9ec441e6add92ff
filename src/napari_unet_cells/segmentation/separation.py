"""Separate the cells of a plane block by block, in threads, while its tiles arrive.

::

    [reader] --> network --> probabilities, by rows --> [blocks] --> pieces --> cells
                 (caller)    freed behind the blocks    (threads)    joined

A block begins when all tiles are there that it needs; where the blocks lie depends on the plane
only. Up to `EXACT` pixels the fragments are those of the plane in one piece, see
`core.fragment_blocks`: all probabilities are held to the end, and a block that is unsure is done
again with a wider margin, or the whole plane in one piece. Beyond, the margin is wide at once, and
what a plateau that is wider still belongs to may differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_blocks import (
    MARGIN,
    WIDE_MARGIN,
    Block,
    Piece,
    cut_blocks,
    separate_block,
)
from napari_unet_cells.core.instances import InstanceOptions, inside
from napari_unet_cells.core.joined_fragments import joined
from napari_unet_cells.core.resample import Box, resize_block
from napari_unet_cells.core.tiling import Tile, TileGrid
from napari_unet_cells.models.runtimes.network import usable_cores
from napari_unet_cells.segmentation.kept_fragments import BlockNumbers, PackedFragments
from napari_unet_cells.segmentation.result import Fragments

#: Pixels up to which a plane is separated in one piece.
ONE_PIECE = 1_500_000

#: Pixels up to which all probabilities of a plane are held until the end.
EXACT = 64_000_000

#: Longest side of a block: what it needs stays in the cache of the processor.
LONGEST_BLOCK = 1024

#: Pixels of a plane, and of all planes of a run, beyond which fragments are kept compressed.
KEPT_OPEN = 64_000_000

_Found = TypeVar("_Found")


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
        values = np.empty(shape, np.uint8)
        for page, there, here in self._parts(rows):
            held = self._pages.get(page)
            values[:, here] = 0 if held is None else held[:, there, columns]
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
    """A block, its piece, and the piece's numbers.

    They are those of pixels of the plane, or (`is_resized` is false) of the block's scope.
    """

    piece: Piece
    numbers: BlockNumbers
    is_resized: bool = True


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
    packs : bool
        Keep the fragments compressed, however small the plane is.

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
        packs: bool = False,
    ) -> None:
        self._scaled, self._shape = grid.shape, shape
        self._options, self._zoom, self._workers = options, zoom, workers
        self.probabilities = RowPages(k, grid.shape)
        self._packs = packs or shape[0] * shape[1] > KEPT_OPEN
        self._is_exact = grid.total <= EXACT
        self._margin = MARGIN if self._is_exact else WIDE_MARGIN
        self._blocks = list(cut_blocks(grid.shape, *cuts_of(grid.shape)))
        self._windows = [block.window(options, self._margin) for block in self._blocks]
        self._ends = np.array([(y.start, y.stop, x.start, x.stop) for y, x in self._windows])
        height, width = (self._ends[:, i + 1] - self._ends[:, i] for i in (0, 2))
        self._missing = height * width
        self._begun: dict[int, Future[_Done | None]] = {}
        self._waiting = np.ones(len(self._blocks), bool)

    def arrived(self, tile: Tile) -> None:
        """Begin with the blocks that waited for a tile, which was written.

        Raises
        ------
        Exception
            That of a block that was separated before.
        """
        if tile.is_preview:
            return
        (y, x), (top, bottom, left, right) = tile.write, self._ends.T
        height = np.minimum(bottom, y.stop) - np.maximum(top, y.start)
        width = np.minimum(right, x.stop) - np.maximum(left, x.start)
        self._missing -= np.maximum(height, 0) * np.maximum(width, 0)
        self._begin(self._waiting & (self._missing == 0))
        for work in self._begun.values():
            if work.done():
                work.result()
        if self._waiting.any() and not self._is_exact:
            self.probabilities.free(int(top[self._waiting].min()))

    def _begin(self, ready: NDArray[np.bool_]) -> None:
        for number in np.flatnonzero(ready).tolist():
            self._waiting[number] = False
            self._begun[number] = self._submit(self._blocks[number], self._margin)

    def _submit(self, block: Block, margin: int) -> Future[_Done | None]:
        probabilities = self.probabilities[block.window(self._options, margin)]
        return self._workers.submit(self._separate, block, margin, probabilities)

    def _separate(
        self, block: Block, margin: int, probabilities: NDArray[np.uint8]
    ) -> _Done | None:
        found = separate_block(
            probabilities, block, self._options, margin, decide=not self._is_exact
        )
        if found is None:
            return None
        numbers, piece = found
        if self._shape == self._scaled:
            y, x = (part.stop - part.start for part in block.core)
            return _Done(piece, self._kept(_small(numbers[:y, :x], piece), block.core))
        if self._is_exact:
            return _Done(piece, self._kept(_small(numbers, piece), block.scope), False)
        window = block.window(self._options, margin)
        y, x = (
            slice(scope.start - whole.start, scope.stop - whole.start)
            for scope, whole in zip(block.scope, window, strict=True)
        )
        certain = inside(probabilities[:, y, x], self._options)
        resized, part = resize_block(numbers, block.core, self._scaled, self._shape, certain)
        return _Done(piece, self._kept(_small(resized, piece), part))

    def _kept(self, numbers: NDArray[Any], part: Box) -> BlockNumbers:
        """Keep the numbers of a part, compressed at once where there are many."""
        kept = BlockNumbers.of(part, numbers)
        return kept.packed() if self._packs else kept

    def finish(self, out: NDArray[Any] | None = None) -> Separated:
        """Wait for all blocks, and join them.

        What no tile was written for counts as background.

        Parameters
        ----------
        out : uint16 or uint32 array, (y, x), optional
            Where to write the cells, if its data type holds them.
        """
        self._begin(self._waiting.copy())
        done = self._all_sure()
        table, luts = joined([block.piece for block in done], self._options)
        is_present = np.zeros(table.n_fragments + table.n_holes + 1, bool)
        numbered = self._numbered(done, luts, is_present)
        self.probabilities.free(self._scaled[0] + RowPages.HEIGHT)
        nothing = np.zeros((0, 0), np.int32)
        small = Fragments(table, nothing, np.flatnonzero(is_present), self._zoom)
        return self._joined(numbered, small, out)

    def _all_sure(self) -> list[_Done]:
        """Wait for all blocks, and do those that are unsure again."""
        found = {number: work.result() for number, work in sorted(self._begun.items())}
        self._begun.clear()
        again = [number for number, block in found.items() if block is None]
        wider = [self._submit(self._blocks[number], WIDE_MARGIN) for number in again]
        found |= {number: work.result() for number, work in zip(again, wider, strict=True)}
        done = [block for block in found.values() if block is not None]
        if len(done) == len(found):
            return done
        (whole,) = cut_blocks(self._scaled)
        one = self._submit(whole, 0).result()
        assert one is not None  # a plane has no open side
        return [one]

    def _numbered(
        self, done: list[_Done], luts: list[NDArray[np.int32]], is_present: NDArray[np.bool_]
    ) -> list[BlockNumbers]:
        """Give the pixels of all blocks at the size of the plane, and mark what has any."""
        is_resized = self._shape != self._scaled
        is_present[:] = not is_resized

        def number(block: _Done, lut: NDArray[np.int32]) -> BlockNumbers:
            numbers = replace(block.numbers, lut=lut)
            if not block.is_resized:
                numbers = self._resized(block.piece.block, numbers)
            if is_resized:
                numbers.mark(is_present)
            return numbers

        return self._in_threads(number, done, luts)

    def _resized(self, block: Block, numbers: BlockNumbers) -> BlockNumbers:
        """Give the numbers of a block's scope at the size of the plane."""
        certain = inside(self.probabilities[block.scope], self._options)
        resized, part = resize_block(
            numbers.opened(), block.core, self._scaled, self._shape, certain
        )
        return self._kept(resized, part)

    def _joined(
        self, numbered: list[BlockNumbers], small: Fragments, out: NDArray[Any] | None
    ) -> Separated:
        """Write the cells of all blocks."""
        cell_of = small.lut(self._options)
        if out is None or not np.can_cast(cell_of.dtype, out.dtype):
            out = np.zeros(self._shape, cell_of.dtype)
        cells: NDArray[Any] = out
        self._in_threads(lambda block: block.write(cells, cell_of), numbered)
        fragments = PackedFragments(small, self._shape, tuple(numbered))
        return Separated(cells, int(cell_of.max(initial=0)), fragments)

    def _in_threads(self, work: Callable[..., _Found], *values: Iterable[Any]) -> list[_Found]:
        """Call a function with each of some values, and wait for what it gives."""
        begun = [self._workers.submit(work, *one) for one in zip(*values, strict=True)]
        return [one.result() for one in begun]


def cuts_of(shape: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Give the rows and columns at which a plane (y, x) is cut into blocks.

    They do not depend on the tiles, which follow the free memory.
    """
    if shape[0] * shape[1] <= ONE_PIECE:
        return [], []
    rows, columns = (
        [i * size // n for i in range(1, n)]
        for size, n in ((size, -(-size // LONGEST_BLOCK)) for size in shape)
    )
    return rows, columns


def _small(numbers: NDArray[np.int32], piece: Piece) -> NDArray[Any]:
    """Copy the numbers of a block in the narrowest data type that holds them."""
    return numbers.astype(np.min_scalar_type(len(piece.first)))
