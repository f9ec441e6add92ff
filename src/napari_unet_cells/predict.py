"""One generator drives every prediction: tile by tile, into arrays the caller supplies."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.normalize import Limits, Sliceable, normalize
from napari_unet_cells.tiling import Tile, TileGrid


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
        """Channels the network was trained on, 1 or 3; it takes grey batches in any case."""

    @property
    def max_tile(self) -> int:
        """Longest side of a tile, in pixels, that the device has memory for."""

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, lazily.

        Parameters
        ----------
        batches : iterable of float32 arrays, (n, y, x, 1 or `channels`), in [0, 1]

        Yields
        ------
        uint8 array, (n, y, x, 1 + k)
            First the class (argmax of the logits); then, for networks with a boundary
            class, the probabilities of cell and boundary in units of 1/255 (k = 2, else 0).
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
    max_tile: int = 1024

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Apply the function to one batch after another."""
        return map(self.function, batches)


@dataclass(frozen=True)
class Output:
    """Where a prediction is written.

    Attributes
    ----------
    classes : uint8 array, (y, x)
        Argmax of the logits; numpy or zarr.
    probabilities : uint8 array, (2, y, x), or None
        Of cell and of boundary, in units of 1/255.
    """

    classes: Any
    probabilities: Any = None

    @classmethod
    def empty(cls, shape: tuple[int, int], boundary: bool) -> Output:
        """Make arrays in memory for a plane of `shape`, with probabilities or without."""
        return cls(np.zeros(shape, np.uint8), np.zeros((2, *shape), np.uint8) if boundary else None)


@dataclass(frozen=True)
class TileDone:
    """A tile was written.

    Attributes
    ----------
    tile : Tile
    pixels_done, pixels_total : int
        Of the plane, this tile included.
    """

    tile: Tile
    pixels_done: int
    pixels_total: int


def predict_tiles(
    plane: Sliceable, network: Network, limits: Limits, grid: TileGrid, out: Output
) -> Iterator[TileDone]:
    """Run a network over a plane, tile by tile.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, 3), any real dtype
        Only a tile of it is read at a time; it may be lazy.
    network : Network
    limits : Limits
        Of the whole plane.
    grid : TileGrid
        Of the plane's shape.
    out : Output
        Written in place. A generator that is closed leaves the tiles so far.

    Yields
    ------
    TileDone
        After the tile was written.
    """
    total = grid.shape[0] * grid.shape[1]
    done = 0
    batches = (_batch(plane, tile, limits, network.channels) for tile in grid)
    outputs = network.predict(batches)
    try:
        for tile, output in zip(grid, outputs, strict=True):
            inner = output[0][tile.inner]
            out.classes[tile.write] = inner[..., 0]
            if out.probabilities is not None:
                out.probabilities[(slice(None), *tile.write)] = np.moveaxis(inner[..., 1:], -1, 0)
            done += tile.written
            yield TileDone(tile, done, total)
    finally:
        # Where writing failed, the traceback keeps `outputs` alive: a child would go on.
        if isinstance(outputs, Generator):
            outputs.close()


def predict_plane(
    plane: Sliceable, network: Network, limits: Limits, out: Output
) -> Iterator[TileDone]:
    """Run a network over a plane, in the tiles that suit both; see `predict_tiles`."""
    shape = (plane.shape[0], plane.shape[1])
    grid = TileGrid.plan(shape, network.stride, network.halo, network.max_tile)
    return predict_tiles(plane, network, limits, grid, out)


def _batch(plane: Sliceable, tile: Tile, limits: Limits, channels: int) -> NDArray[np.float32]:
    """Read, normalise and pad one tile: (1, y, x, 1 or 3)."""
    pixels = normalize(np.asarray(plane[tile.read]), limits)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    elif channels == 1:
        pixels = pixels.mean(axis=2, keepdims=True)
    return np.pad(pixels, (*tile.pad, (0, 0)), mode="reflect")[np.newaxis]
