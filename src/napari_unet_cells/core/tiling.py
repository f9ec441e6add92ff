"""Tiles of a plane: integers only, no pixels.

One axis of a plane that is cut into three tiles (r: read, w: written, .: padded)::

    plane     0                                        size
              |-----------------------------------------|
    tile 0    rrrrrrrrrrrrrrrr
              wwwwwwwwwwwww                               halo read, not written
    tile 1                 rrrrrrrrrrrrrrrr
                              wwwwwwwwww
    tile 2                              rrrrrrrrrrrrrrr...
                                        |  wwwwwwwwwwwwww

All tiles read the same length, a multiple of the network's stride, and begin at multiples of
it; the last one is shifted back inside the plane, which was padded at its end to the stride.
A tile at the border of the plane has no halo there. So every written pixel sees exactly what
it would see if the whole plane were one tile (docs/architecture.md, 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in pixels of the plane.

    Attributes
    ----------
    start, stop : int
        What is read; `stop` lies inside the plane.
    write_start, write_stop : int
        What is written; a part of what is read.
    pad : int
        Pixels to add after `stop` by reflection, 0 but at the end of the plane.
    """

    start: int
    stop: int
    write_start: int
    write_stop: int
    pad: int = 0

    @property
    def length(self) -> int:
        """Length of what the network sees."""
        return self.stop - self.start + self.pad


@dataclass(frozen=True)
class Tile:
    """A rectangle that is read, and the smaller one inside it that is written.

    Attributes
    ----------
    y, x : Span
    is_preview : bool
        Another tile writes its pixels again, with the same values.
    """

    y: Span
    x: Span
    is_preview: bool = False

    @property
    def read(self) -> tuple[slice, slice]:
        """Slices of the plane that the pixels are read from."""
        return slice(self.y.start, self.y.stop), slice(self.x.start, self.x.stop)

    @property
    def write(self) -> tuple[slice, slice]:
        """Slices of the plane that the result is written to."""
        return (
            slice(self.y.write_start, self.y.write_stop),
            slice(self.x.write_start, self.x.write_stop),
        )

    @property
    def inner(self) -> tuple[slice, slice]:
        """Slices of the network's output that are written."""
        return (
            slice(self.y.write_start - self.y.start, self.y.write_stop - self.y.start),
            slice(self.x.write_start - self.x.start, self.x.write_stop - self.x.start),
        )

    @property
    def pad(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding as `numpy.pad` takes it."""
        return (0, self.y.pad), (0, self.x.pad)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the network's input, (y, x)."""
        return self.y.length, self.x.length

    @property
    def longest(self) -> int:
        """Longer side of what the network sees."""
        return max(self.shape)

    @property
    def written(self) -> int:
        """Pixels of the plane that this tile decides."""
        return (self.y.write_stop - self.y.write_start) * (self.x.write_stop - self.x.write_start)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one plane; their written parts cover it, or what is left of it, once.

    Attributes
    ----------
    shape : (int, int)
        Of the plane, (y, x).
    tiles : tuple of Tile
        In the order in which they are computed. The first may be a preview, which comes at once;
        all others read as many pixels, so that a runtime prepares itself for one size.
    """

    shape: tuple[int, int]
    tiles: tuple[Tile, ...]

    @property
    def total(self) -> int:
        """Pixels of the plane."""
        return self.shape[0] * self.shape[1]

    @property
    def done(self) -> int:
        """Pixels of the plane that no tile of this grid decides."""
        return self.total - sum(tile.written for tile in self.tiles if not tile.is_preview)

    @classmethod
    def plan(
        cls,
        shape: tuple[int, int],
        stride: int,
        halo: int,
        max_tile: int = 1024,
        first: int = 256,
    ) -> TileGrid:
        """Fit tiles of equal size to a plane.

        Parameters
        ----------
        shape : (int, int)
            Of the plane, (y, x), at least (1, 1).
        stride, halo : int
            Of the network, in pixels; the halo is a multiple of the stride, and raised to it
            where it is 0.
        max_tile : int
            No tile reads more than this, rounded down to the stride, in either direction;
            raised where it would leave no room between two halos.
        first : int
            Where there are several tiles, a preview that writes about this many pixels a side
            comes before them; 0 for none.

        Raises
        ------
        ValueError
            Where an axis is empty or the halo is not a multiple of the stride.
        """
        if min(shape) < 1:
            raise ValueError(f"a plane of {shape} pixels has no tiles")
        if halo % stride:
            raise ValueError(f"the halo {halo} must be a multiple of the stride {stride}")
        # The reflection at the end of the plane needs as many pixels as it adds, also where
        # the last tile holds few of the plane's own.
        halo = max(halo, _up(stride - 1, stride))
        rows = _spans(shape[0], stride, halo, max_tile)
        columns = _spans(shape[1], stride, halo, max_tile)
        tiles = [Tile(y, x) for y in rows for x in columns]
        if first and len(tiles) > 1:
            tiles[:0] = _preview(tiles[0], stride, halo, first)
        return cls(shape, tuple(tiles))

    def rest(self, n: int, stride: int, halo: int, max_tile: int) -> TileGrid:
        """Cut what is left after the first `n` tiles into tiles that are smaller.

        Parameters
        ----------
        n : int
            Tiles that are written.
        stride, halo, max_tile : int
            As for `plan`.
        """
        halo = max(halo, _up(stride - 1, stride))
        longest = max(max_tile // stride * stride, 2 * halo + stride)
        tiles = [
            Tile(y, x)
            for tile in self.tiles[n:]
            if not tile.is_preview
            for y in _parts(tile.y, self.shape[0], stride, halo, longest)
            for x in _parts(tile.x, self.shape[1], stride, halo, longest)
        ]
        return TileGrid(self.shape, tuple(tiles))

    def __iter__(self) -> Iterator[Tile]:
        """Iterate over the tiles in the order in which they are computed."""
        return iter(self.tiles)

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.tiles)


def window_tiles(
    shape: tuple[int, int],
    window: tuple[slice, slice],
    stride: int,
    halo: int,
    length: int = 1024,
) -> TileGrid:
    """Give tiles that write a window of a plane, and no more than that.

    What they write is what the tiles of the whole plane would. All windows of a plane get tiles of
    one size, for which a runtime prepares itself once, unless the plane is smaller.

    Parameters
    ----------
    shape : (int, int)
        Of the plane, (y, x).
    window : (slice, slice)
        Begins at multiples of the stride.
    stride, halo : int
        As for `TileGrid.plan`.
    length : int
        Of what a tile reads, rounded down to the stride; raised as `TileGrid.plan` does.
    """
    halo = max(halo, _up(stride - 1, stride))
    length = max(length // stride * stride, 2 * halo + stride)
    rows, columns = (
        _equal(part, size, stride, halo, length) for part, size in zip(window, shape, strict=True)
    )
    return TileGrid(shape, tuple(Tile(y, x) for y in rows for x in columns))


def length_of_tiles(longest: int, stride: int, halo: int, max_tile: int) -> int:
    """Choose what tiles read, so that windows of a length are cut into nearly equal ones."""
    halo = max(halo, _up(stride - 1, stride))
    most = max(max_tile // stride * stride, 2 * halo + stride) - 2 * halo
    n = math.ceil(longest / most)
    return _up(math.ceil(longest / n), stride) + 2 * halo


def _equal(part: slice, size: int, stride: int, halo: int, length: int) -> list[Span]:
    """Cut a part of an axis into spans that all read the same length, inside the padded plane."""
    step, padded = length - 2 * halo, _up(size, stride)
    spans = []
    for first in range(part.start, part.stop, step):
        start = max(0, min(first - halo, padded - length))
        end = min(start + length, padded)
        stop = min(end, size)
        spans.append(Span(start, stop, first, min(first + step, part.stop), end - stop))
    return spans


def _up(value: int, stride: int) -> int:
    return math.ceil(value / stride) * stride


def _spans(size: int, stride: int, halo: int, max_tile: int) -> list[Span]:
    padded = _up(size, stride)
    longest = max(max_tile // stride * stride, 2 * halo + stride)
    if padded <= longest:
        return [Span(0, size, 0, size, padded - size)]
    n = math.ceil((padded - 2 * halo) / (longest - 2 * halo))
    length = _up(math.ceil((padded + (n - 1) * 2 * halo) / n), stride)
    spans: list[Span] = []
    written = 0
    for i in range(n):
        start = min(i * (length - 2 * halo), padded - length)
        last = start + length == padded
        stop = size if last else start + length
        write_stop = size if last else start + length - halo
        spans.append(Span(start, stop, written, write_stop, padded - size if last else 0))
        written = write_stop
    return spans


def _parts(span: Span, size: int, stride: int, halo: int, longest: int) -> list[Span]:
    """Cut what a span writes so that no part reads more than `longest`."""
    step = longest - 2 * halo
    padded = _up(size, stride)
    first = span.write_start // stride * stride  # the end of the plane is no multiple of it
    starts = [span.write_start, *range(first + step, span.write_stop, step)]
    parts = []
    for start, stop in zip(starts, [*starts[1:], span.write_stop], strict=True):
        end = min(_up(stop, stride) + halo, padded)
        pad = max(0, end - size)
        parts.append(Span(max(0, start // stride * stride - halo), end - pad, start, stop, pad))
    return parts


def _preview(tile: Tile, stride: int, halo: int, first: int) -> list[Tile]:
    """Give the small square at the origin of a plane, unless it would be most of the first tile."""
    small = Tile(
        _head(tile.y, stride, halo, first), _head(tile.x, stride, halo, first), is_preview=True
    )
    return [small] if 2 * small.written < tile.written else []


def _head(span: Span, stride: int, halo: int, first: int) -> Span:
    """Shorten a span at the plane's origin."""
    cut = _up(first, stride)
    if span.write_stop <= cut + halo:
        return span
    return Span(0, cut + halo, 0, cut)  # ends inside the plane, see above
