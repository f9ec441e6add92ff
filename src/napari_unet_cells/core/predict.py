"""Predict a plane tile by tile, into arrays that the caller supplies: one generator for all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.ahead import ahead
from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.resample import NormalizedPlane, covered, resize_classes
from napari_unet_cells.core.tiling import Tile, TileGrid
from napari_unet_cells.errors import LostDevice, OutOfMemory

#: Where memory is short, tiles are halved down to this and no further, in pixels.
SMALLEST_TILE = 128


def in_bytes(
    values: Any, cast: Callable[[Any], Any] = lambda scaled: scaled.astype(np.uint8)
) -> Any:
    """Round probabilities, 0 to 1, to units of 1/255.

    Parameters
    ----------
    values : array or tensor, float
        Of any library that multiplies and adds.
    cast : callable, optional
        Cuts off what is behind the point and makes 8 bit; by default as numpy does.
    """
    return cast(values * 255.0 + 0.5)


class Network(Protocol):
    """A network ready to predict: in this process, in a child, or a stand-in in a test."""

    @property
    def stride(self) -> int:
        """Pixels; the sides of every batch are multiples of it."""

    @property
    def halo(self) -> int:
        """Pixels around a tile that are read and not written."""

    @property
    def channels(self) -> int:
        """Channels the network was trained on; one of 1 or 3 takes grey batches in any case."""

    @property
    def probabilities(self) -> int:
        """Number of probabilities (and distances) predicted; 0 where only classes are."""

    @property
    def max_tile(self) -> int:
        """Longest side of a tile, in pixels, that the device has memory for."""

    @property
    def device(self) -> str:
        """For the user, such as "CPU, 2 threads"."""

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, lazily.

        Parameters
        ----------
        batches : iterable of float32 arrays, (n, y, x, 1 or `channels`), in [0, 1]

        Yields
        ------
        uint8 array, (n, y, x, 3), for networks with a cell and a boundary class
            The class (argmax of the logits), and the probabilities of cell and of boundary in
            units of 1/255.
        uint8 array, (n, y, x, 4), for those of them that give a distance as well
            And how deep a pixel lies in its cell, in units of 1/255.
        uint8 array, (n, y, x, 2), for others
            The class, and the uncertainty: 1 less the margin between the two most probable
            classes, in units of 1/255.

        Raises
        ------
        OutOfMemory
            Where the device has no memory for a batch.
        """

    def recover(self, cpu: bool) -> Network:
        """Give the network ready to go on after `OutOfMemory`.

        Parameters
        ----------
        cpu : bool
            Compute on the CPU from now on.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already.
        """


@dataclass(frozen=True)
class FunctionNetwork:
    """A plain function as a `Network`.

    Attributes
    ----------
    function : callable
        Batch in, batch out, with the shapes of `Network.predict`.
    """

    function: Callable[[NDArray[np.float32]], NDArray[np.uint8]]
    stride: int = 1
    halo: int = 0
    channels: int = 1
    probabilities: int = 2
    max_tile: int = 1024
    device: str = "a function"

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Apply the function to one batch after another."""
        return map(self.function, batches)

    def recover(self, cpu: bool) -> Network:
        """Give itself, once: a function knows no other device."""
        if cpu:
            raise OutOfMemory("The function has no memory for so small a tile.")
        return self


@dataclass(frozen=True)
class Output:
    """Arrays that a prediction is written into.

    Attributes
    ----------
    classes : uint8 array, (y, x)
        Argmax of the logits, at the size of the plane; numpy or zarr.
    probabilities : uint8 array, (2 or 3, y, x), or None
        Of cell and of boundary, and the distance where the network gives one, in units of
        1/255, at the size that the network sees.
    uncertainty : uint8 array, (y, x), or None
        1 less the margin between the two most probable classes, in units of 1/255, at the
        size that the network sees. None where nobody wants to know.
    """

    classes: Any
    probabilities: Any = None
    uncertainty: Any = None

    @classmethod
    def empty(
        cls, shape: tuple[int, int], probabilities: int, scaled: tuple[int, int] | None = None
    ) -> Output:
        """Make arrays in memory.

        Parameters
        ----------
        shape : (int, int)
            Of the plane.
        probabilities : int
            How many of them are kept; 0 where only the classes matter.
        scaled : (int, int), optional
            Size at which the network sees the plane, where it is another.
        """
        kept = np.zeros((probabilities, *(scaled or shape)), np.uint8) if probabilities else None
        return cls(np.zeros(shape, np.uint8), kept)


@dataclass(frozen=True)
class TileDone:
    """A tile was written.

    Attributes
    ----------
    tile : Tile
        In pixels that the network sees.
    pixels_done, pixels_total : int
        Of these pixels, this tile included; a preview counts until its pixels are written again.
    """

    tile: Tile
    pixels_done: int
    pixels_total: int


@dataclass(frozen=True)
class MemoryFull:
    """The device ran out of memory; the run goes on with less.

    Attributes
    ----------
    tile : int
        Longest side of a tile from now on, in pixels.
    network : Network
        That computes from now on.
    """

    tile: int
    network: Network


def predict_tiles(
    plane: ImageArray, network: Network, limits: Limits, grid: TileGrid, out: Output
) -> Iterator[TileDone]:
    """Run a network over a plane, tile by tile.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c), any real dtype
        Only a tile of it is read at a time, in a thread; it may be lazy.
    network : Network
    limits : Limits
        Of the whole plane.
    grid : TileGrid
        Of the plane's shape, or of the shape at which the network shall see it.
    out : Output
        Written in place. A generator that is closed leaves the tiles so far.

    Yields
    ------
    TileDone
        After the tile was written.

    Raises
    ------
    OutOfMemory
        Where the device has no memory for a tile; the tiles before it are written.
    """
    source = NormalizedPlane(plane, limits, grid.shape)
    done = grid.done
    batches: Iterator[NDArray[np.float32]]
    batches = (_batch(source, tile, network.channels) for tile in grid)
    if len(grid) > 1:
        batches = ahead(batches)
    outputs = network.predict(batches)
    try:
        for tile, output in zip(grid, outputs, strict=True):
            _write(output[0], tile, grid.shape, out)
            if not tile.is_preview:
                done += tile.written
            yield TileDone(tile, done + tile.written * tile.is_preview, grid.total)
    finally:
        # Where writing failed, the traceback keeps these alive: a child and a thread would go on.
        for steps in (outputs, batches):
            if isinstance(steps, Generator):
                steps.close()


def tiles_for(shape: tuple[int, int], network: Network, max_tile: int | None = None) -> TileGrid:
    """Give the tiles in which a network computes a plane.

    Parameters
    ----------
    shape : (int, int)
        At which the network sees it.
    network : Network
    max_tile : int, optional
        See `predict_plane`.
    """
    return TileGrid.plan(shape, network.stride, network.halo, max_tile or network.max_tile)


def predict_plane(
    plane: ImageArray,
    network: Network,
    limits: Limits,
    out: Output,
    scaled: tuple[int, int] | None = None,
    max_tile: int | None = None,
    grid: TileGrid | None = None,
) -> Iterator[TileDone | MemoryFull]:
    """Run a network over a plane, in the tiles that suit both; see `predict_tiles`.

    Where the memory of the device is full, the tiles that are missing are halved, and where
    they are small already the CPU goes on (docs/architecture.md, 6).

    Parameters
    ----------
    plane, network, limits, out
        See `predict_tiles`.
    scaled : (int, int), optional
        Size at which the network shall see the plane; its own by default.
    max_tile : int, optional
        Longest side of a tile, where the network's own was too much before.
    grid : TileGrid, optional
        Of `tiles_for` with the same values, where the caller needs it too.
    """
    grid = grid or tiles_for(scaled or (plane.shape[0], plane.shape[1]), network, max_tile)
    while True:
        written = 0
        try:
            for event in predict_tiles(plane, network, limits, grid, out):
                written += 1
                yield event
            return
        except OutOfMemory as error:
            longest = max(tile.longest for tile in grid.tiles[written:])
            # With smaller ones the network would see little else than halo.
            smallest = max(SMALLEST_TILE, 4 * network.halo)
            if longest > smallest and not isinstance(error, LostDevice):
                network = network.recover(cpu=False)
                longest = max(longest // 2, smallest)
            else:
                network = network.recover(cpu=True)
                longest = network.max_tile
        yield MemoryFull(longest, network)
        grid = grid.rest(written, network.stride, network.halo, longest)


def _batch(source: NormalizedPlane, tile: Tile, channels: int) -> NDArray[np.float32]:
    """Read, normalise and pad one tile: (1, y, x, 1 or `channels`)."""
    pixels = source.read(tile.read)
    if channels == 1 and pixels.shape[2] > 1:
        pixels = pixels.mean(axis=2, keepdims=True)
    if any(side != (0, 0) for side in tile.pad):  # to add nothing would be one more copy
        pixels = np.pad(pixels, (*tile.pad, (0, 0)), mode="reflect")
    return pixels[np.newaxis]


def _uncertainty(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 less the margin between the two most probable classes, of what a network gives.

    Parameters
    ----------
    values : uint8 array, (1, 2 or 3, y, x)
        The uncertainty itself; or the probabilities of cell and boundary, which leave the
        rest to one more class, the background; the distance is not looked at.
    """
    if len(values) == 1:
        given: NDArray[np.uint8] = values[0]
        return given
    cell, boundary = values[:2]
    rest = ~cell
    rest -= np.minimum(boundary, rest)  # rounded, the two may be 256
    high, low = np.maximum(cell, boundary), np.minimum(cell, boundary)
    margin = np.maximum(high, rest) - np.maximum(low, np.minimum(high, rest))
    uncertainty: NDArray[np.uint8] = ~margin
    return uncertainty


def _write(output: NDArray[np.uint8], tile: Tile, scaled: tuple[int, int], out: Output) -> None:
    """Write the inner part of a tile (y, x, 1 + k): classes at the plane's size."""
    inner = output[tile.inner]
    values = np.moveaxis(inner[..., 1:], -1, 0)
    if out.probabilities is not None:
        out.probabilities[(slice(None), *tile.write)] = values
    if out.uncertainty is not None:
        out.uncertainty[tile.write] = _uncertainty(np.ascontiguousarray(values))
    size = out.classes.shape
    if size == scaled:
        out.classes[tile.write] = inner[..., 0]
        return
    rows, columns = (covered(tile.write[i], scaled[i], size[i]) for i in (0, 1))
    if rows.start == rows.stop or columns.start == columns.stop:
        return
    top, left = tile.y.start, tile.x.start
    box = (
        columns.start * scaled[1] / size[1] - left,
        rows.start * scaled[0] / size[0] - top,
        columns.stop * scaled[1] / size[1] - left,
        rows.stop * scaled[0] / size[0] - top,
    )
    out.classes[rows, columns] = resize_classes(
        output[..., 0], box, (rows.stop - rows.start, columns.stop - columns.start)
    )
