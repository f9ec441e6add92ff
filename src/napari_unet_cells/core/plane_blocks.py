"""Blocks of a plane that are computed one by one, each from a window: integers only, no pixels.

One axis of a plane that a network sees at another size::

    plane      |-- block 0 --|-- block 1 --|-- block 2 -|     sides are multiples of a chunk
    network    |------|------|------|------|------|-----|
    window 1      mmm[-------------]mmm                       what it needs, and a margin

The margin is wider than a cell, so that a block sees its cells whole. A cell belongs to the block
in which its key lies, the first of its pixels that the network sees (`core.window_cells`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.resample import Box, neighbours_of, resized_of

#: Sides of blocks are multiples of it, in pixels: its quarter is a chunk of a quarter of the size.
UNIT = 512

#: Longest side of a block in pixels of the plane.
LONGEST_SIDE = 4096

#: Bytes of memory that a pixel takes, of what the network sees and of the plane, about; and bytes
#: that a block may take.
SEEN, WRITTEN, MOST_BYTES = 22, 16, 360_000_000


@dataclass(frozen=True)
class PlaneBlock:
    """One block.

    Attributes
    ----------
    number : int
        Along the rows of blocks, from 0.
    core : (slice, slice)
        Pixels of the plane that it writes.
    needed : (slice, slice)
        Pixels of the scaled plane that these are made of.
    window : (slice, slice)
        Of the scaled plane: with the margin.
    seen : (slice, slice)
        Pixels of the plane that the window is enough for.
    """

    number: int
    core: Box
    needed: Box
    window: Box
    seen: Box


@dataclass(frozen=True)
class PlaneBlocks:
    """Blocks that a plane is cut into.

    Attributes
    ----------
    shape, scaled : (int, int)
        Of the plane, and of what the network sees of it.
    side : int
        Of a block, in pixels of the plane; those at the end may be smaller.
    margin : int
        Around what a block needs, in pixels that the network sees.
    stride : int
        Of the network: sides of windows are multiples of it.
    """

    shape: tuple[int, int]
    scaled: tuple[int, int]
    side: int
    margin: int
    stride: int = 1

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return ceil(self.shape[0] / self.side), ceil(self.shape[1] / self.side)

    @property
    def longest(self) -> int:
        """Longest side of a window; those at the border of the plane are smaller."""
        sides = (
            min(ceil(self.side * scaled / size) + 2, scaled) + 2 * self.margin + 2 * self.stride
            for scaled, size in zip(self.scaled, self.shape, strict=True)
        )
        return min(max(sides), ceil(max(self.scaled) / self.stride) * self.stride)

    def __len__(self) -> int:
        """Count the blocks."""
        return prod(self.counts)

    def block(self, number: int, margin: int | None = None) -> PlaneBlock:
        """Give a block by its number, with this margin or another one."""
        place = divmod(number, self.counts[1])
        axes = [
            self._axis(axis, at, self.margin if margin is None else margin)
            for axis, at in enumerate(place)
        ]
        core, needed, window, seen = ((y, x) for y, x in zip(*axes, strict=True))
        return PlaneBlock(number, core, needed, window, seen)

    def _axis(self, axis: int, at: int, margin: int) -> tuple[slice, slice, slice, slice]:
        size, scaled = self.shape[axis], self.scaled[axis]
        core = slice(at * self.side, min(size, (at + 1) * self.side))
        needed = neighbours_of(core, scaled, size)
        start = max(0, needed.start - margin) // self.stride * self.stride
        stop = min(scaled, ceil((needed.stop + margin) / self.stride) * self.stride)
        window = slice(start, stop)
        return core, needed, window, resized_of(window, scaled, size)

    def owners(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the numbers of the blocks that cells of these keys belong to."""
        places = []
        for axis, at in enumerate(np.divmod(keys, self.scaled[1])):
            pixel = (at + 0.5) * (self.shape[axis] / self.scaled[axis])
            places.append(np.minimum(pixel // self.side, self.counts[axis] - 1).astype(np.int64))
        owners: NDArray[np.int64] = places[0] * self.counts[1] + places[1]
        return owners


def side_of_blocks(shape: tuple[int, int], zoom: float) -> int:
    """Choose the side of the blocks of a plane, in pixels of it.

    Parameters
    ----------
    shape : (int, int)
        Of the plane.
    zoom : float
        Size that the network sees divided by the size of the plane.
    """
    most = min(LONGEST_SIDE, (MOST_BYTES / (SEEN * zoom**2 + WRITTEN)) ** 0.5)
    longest = max(UNIT, int(most) // UNIT * UNIT)
    n = ceil(max(shape) / longest)
    return ceil(max(shape) / n / UNIT) * UNIT
