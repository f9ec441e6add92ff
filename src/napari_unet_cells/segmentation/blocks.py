"""One block of a large plane: from the pixels of its window to the cells that it writes and owns.

::

    window of the image --network--> probabilities --> cells of the window --> core, and one line
         (read once)                                       |                    beyond each side
                                                           +--> table of the cells that it owns

A block needs nothing but its window, and says nothing of cells but their keys: where another block
sees the same cell, it says the same (`core.window_cells`). Cells that reach through the margin are
looked at again in a window that is wider; the rest of them are marked.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.instances import InstanceOptions, inside
from napari_unet_cells.core.masks import bounding_box
from napari_unet_cells.core.measure import POWERS, Columns, measure
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.plane_blocks import LONGEST_SIDE, UNIT, PlaneBlock, PlaneBlocks
from napari_unet_cells.core.planes import Plane
from napari_unet_cells.core.predict import MemoryFull, Network, Output, predict_plane
from napari_unet_cells.core.resample import Box, read_for, resize_part, resized_of, shrink
from napari_unet_cells.core.tiling import Span, TileGrid, length_of_tiles, window_tiles
from napari_unet_cells.core.window_cells import WindowCells, cells_of_window, part_of

#: How many times as wide the margin is where cells reach through it.
WIDER = 3

#: Bytes of a window of the image that is held while its block is computed; a larger one, such as
#: of many channels, is read tile by tile.
MOST_HELD = 2**27

#: Pixels a side that a tile writes at least: with fewer the network sees little else than halo.
LEAST_WRITTEN = 128

#: Sides of a block: what lies beyond them is the first or last line that a neighbour writes.
SIDES = ("above", "below", "left", "right")


@dataclass(frozen=True)
class BlockWork:
    """Image, limits and options that all blocks of a plane share.

    Attributes
    ----------
    plane : Plane
    blocks : PlaneBlocks
    limits : Limits or None
        None where the plane is empty.
    options : InstanceOptions or None
        None where the model makes classes only.
    probabilities : int
        That the network gives.
    pixel_size : (float, float)
    unit : str
    channel_names : tuple of str
        Of the image.
    factor : int
        See `Predicted.overview`.
    """

    plane: Plane
    blocks: PlaneBlocks
    limits: Limits | None
    options: InstanceOptions | None
    probabilities: int
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    channel_names: tuple[str, ...] = ()
    factor: int = 1


@dataclass(frozen=True, eq=False)
class Predicted:
    """Classes and probabilities that the network gives for a block.

    Attributes
    ----------
    block : PlaneBlock
    classes : uint8 array, (y, x)
        Of the core.
    probabilities : uint8 array, (k, y, x), or None
        Of the window; None where it is empty, or the model makes classes only.
    image : ImageArray
        Of the shape of the plane; only what the block needs of it can be read.
    overview : array, (y, x) or (y, x, c)
        The image of the core, smaller by the factor of the work.
    uncertainty : uint8 array, (rows, columns), or None
        See `mean_uncertainty`; None where there is nothing to be unsure of.
    """

    block: PlaneBlock
    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8] | None
    image: ImageArray
    overview: NDArray[Any]
    uncertainty: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class BlockCells:
    """Cells of one block, by numbers of its own: 1 to m, those that it owns first.

    Attributes
    ----------
    classes : uint8 array, (y, x)
        Of the core.
    labels : integer array, (y, x)
        Of the core.
    keys : int64 array, (m + 1,)
        See `WindowCells`; -1 for the background.
    n_owned : int
    is_cut : bool array, (m + 1,)
        The window does not hold all of the cell.
    beyond : mapping of str to int64 array
        For each of `SIDES` the keys of the line of pixels beyond it, 0 or more in cells; without
        pixels at the border of the plane.
    table : mapping of str to array
        Columns as of `measure.Table`, a row for each cell that it owns.
    overview : array
        See `Predicted`.
    uncertainty : uint8 array, (rows, columns)
        See `mean_uncertainty`; 0 where the network was not asked.
    """

    classes: NDArray[np.uint8]
    labels: NDArray[Any]
    keys: NDArray[np.int64]
    n_owned: int
    is_cut: NDArray[np.bool_]
    beyond: Mapping[str, NDArray[np.int64]]
    table: Columns
    overview: NDArray[Any]
    uncertainty: NDArray[np.uint8]

    @property
    def rims(self) -> dict[str, NDArray[np.int64]]:
        """For each of `SIDES` the keys of the outermost line of the core."""
        labels = self.labels
        lines = labels[0], labels[-1], labels[:, 0], labels[:, -1]
        return {side: self.keys[line] for side, line in zip(SIDES, lines, strict=True)}


@dataclass(frozen=True, eq=False)
class _Held:
    """A part of a plane in memory, read by the coordinates of the plane."""

    part: Box
    pixels: NDArray[Any]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    def __getitem__(self, key: Any) -> Any:
        rows, columns, *others = key
        return self.pixels[(*part_of((rows, columns), self.part), *others)]


@dataclass(frozen=True, eq=False)
class Written:
    """A part of an array in memory, written by the coordinates of the whole; the rest is lost.

    Attributes
    ----------
    part : (slice, slice)
        Of the whole.
    pixels : uint8 array, (..., y, x)
        Of the part.
    shape : (int, int)
        Of the whole.
    """

    part: Box
    pixels: NDArray[np.uint8]
    shape: tuple[int, int]

    def __setitem__(self, key: tuple[slice, ...], values: NDArray[np.uint8]) -> None:
        """Write what lies in the part."""
        *before, rows, columns = key
        there, here = [], []
        for own, part in zip((rows, columns), self.part, strict=True):
            start, stop = max(own.start, part.start), min(own.stop, part.stop)
            if start >= stop:
                return
            there.append(slice(start - part.start, stop - part.start))
            here.append(slice(start - own.start, stop - own.start))
        self.pixels[(*before, *there)] = values[(*before, *here)]


def predict_block(
    work: BlockWork, number: int, network: Network, wide: bool = False, max_tile: int | None = None
) -> Generator[MemoryFull, None, Predicted]:
    """Show the network the window of a block.

    Parameters
    ----------
    work : BlockWork
    number : int
    network : Network
    wide : bool
        With a margin `WIDER` times as wide.
    max_tile : int, optional
        See `predict_plane`.

    Yields
    ------
    MemoryFull

    Returns
    -------
    Predicted
    """
    blocks = work.blocks
    block = blocks.block(number, blocks.margin * WIDER if wide else None)
    # where the network sees much of the image in few pixels, a tile shall not hold it all
    zoom = blocks.scaled[0] / blocks.shape[0]
    least = 2 * network.halo + LEAST_WRITTEN
    longest = min(max_tile or network.max_tile, max(least, round(LONGEST_SIDE * zoom)))
    length = length_of_tiles(blocks.longest, network.stride, network.halo, longest)
    grid = window_tiles(blocks.scaled, block.window, network.stride, network.halo, length)
    image = _read(work, grid)
    classes = np.zeros([part.stop - part.start for part in block.core], np.uint8)
    overview = shrink(np.asarray(image[block.core]), work.factor)
    if work.limits is None or _is_empty(image):
        return Predicted(block, classes, None, image, overview)
    probabilities, unsure = None, None
    if work.options is not None:
        size = [part.stop - part.start for part in block.window]
        probabilities = np.zeros((work.probabilities, *size), np.uint8)
        unsure = np.zeros([part.stop - part.start for part in block.needed], np.uint8)
    out = Output(
        Written(block.core, classes, blocks.shape),
        None if probabilities is None else Written(block.window, probabilities, blocks.scaled),
        None if unsure is None else Written(block.needed, unsure, blocks.scaled),
    )
    for event in predict_plane(image, network, work.limits, out, blocks.scaled, grid=grid):
        if isinstance(event, MemoryFull):
            yield event
    mean = None if unsure is None else mean_uncertainty(unsure, block, blocks)
    return Predicted(block, classes, probabilities, image, overview, mean)


def mean_uncertainty(
    uncertainty: NDArray[np.uint8], block: PlaneBlock, blocks: PlaneBlocks
) -> NDArray[np.uint8]:
    """Give the mean uncertainty of each square of `plane_blocks.UNIT` pixels of a core.

    Parameters
    ----------
    uncertainty : uint8 array, (y, x)
        Of the pixels that the block needs, as the network sees them; see `predict.Output`.
    block : PlaneBlock
    blocks : PlaneBlocks

    Returns
    -------
    uint8 array, (rows, columns)
    """
    sums: NDArray[Any] = uncertainty
    counts = np.ones((1, 1))
    for axis in (0, 1):
        core, needed = block.core[axis], block.needed[axis]
        pixels = np.arange(core.start, core.stop, UNIT) * blocks.scaled[axis]
        starts = pixels // blocks.shape[axis] - needed.start
        starts = np.clip(starts, 0, needed.stop - needed.start - 1)
        sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.int64)
        lengths = np.maximum(np.diff(starts, append=needed.stop - needed.start), 1)
        counts = counts * np.expand_dims(lengths, 1 - axis)
    mean: NDArray[np.uint8] = np.rint(sums / counts).astype(np.uint8)
    return mean


def _read(work: BlockWork, grid: TileGrid) -> ImageArray:
    """Read what the network looks at for a block, in one piece."""
    blocks, plane = work.blocks, work.plane
    spans = [tile.y for tile in grid], [tile.x for tile in grid]
    is_resampled = blocks.scaled != blocks.shape
    rows, columns = (
        _around(side, scaled, size, is_resampled)
        for side, scaled, size in zip(spans, blocks.scaled, blocks.shape, strict=True)
    )
    n_pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
    if n_pixels * max(1, plane.channels) * plane.dtype.itemsize > MOST_HELD:
        return plane
    return _Held((rows, columns), plane[rows, columns], plane.shape)


def _around(spans: Sequence[Span], scaled: int, size: int, is_resampled: bool) -> slice:
    """Pixels of the plane along an axis that tiles are made of."""
    start, stop = min(span.start for span in spans), max(span.stop for span in spans)
    part = slice(max(0, start), min(scaled, stop))
    return read_for(part, scaled, size) if is_resampled else part


def _is_empty(image: ImageArray) -> bool:
    """Whether all that is held has one value: no cell is looked for there."""
    if not isinstance(image, _Held):
        return False
    pixels = image.pixels
    first = pixels[0, 0]
    return bool((pixels[::64, ::64] == first).all() and (pixels == first).all())


def cells_of_block(work: BlockWork, predicted: Predicted) -> BlockCells | None:
    """Separate and measure the cells of a block.

    Returns
    -------
    BlockCells or None
        None where a cell of the core reaches through the margin, which a wider one may mend.
    """
    block = predicted.block
    if work.options is None or predicted.probabilities is None:
        return _without_cells(work, predicted)
    found = cells_of_window(
        predicted.probabilities, block.window, work.blocks.scaled, work.options, block.needed
    )
    block = replace(block, seen=_looked_at(work, found, block))
    predicted = replace(predicted, block=block)
    assert predicted.probabilities is not None  # see above
    seen = _labels_seen(work, predicted.probabilities, found, block)
    core = seen[part_of(block.core, block.seen)]
    n = len(found.keys)
    in_core = np.bincount(core.ravel(), minlength=n) > 0
    exists = np.bincount(seen.ravel(), minlength=n) > 0
    owned = exists & (work.blocks.owners(found.keys) == block.number)
    in_core[0] = owned[0] = False
    chosen = np.concatenate([[0], _by_key(owned, found), _by_key(in_core & ~owned, found)])
    is_cut = found.is_cut[chosen]
    if is_cut.any() and _may_widen(work, block):
        return None
    local = np.zeros(n, np.min_scalar_type(len(chosen)))
    local[chosen] = np.arange(len(chosen))
    n_owned = int(np.count_nonzero(owned))
    return BlockCells(
        predicted.classes,
        local[core],
        found.keys[chosen],
        n_owned,
        is_cut,
        _beyond(seen, found, block, work.blocks.shape),
        _measured(work, predicted, np.where(local <= n_owned, local, 0)[seen]),
        predicted.overview,
        _uncertainty_of(predicted),
    )


def _uncertainty_of(predicted: Predicted) -> NDArray[np.uint8]:
    if predicted.uncertainty is not None:
        return predicted.uncertainty
    return np.zeros(
        [-(-(part.stop - part.start) // UNIT) for part in predicted.block.core], np.uint8
    )


def _looked_at(work: BlockWork, found: WindowCells, block: PlaneBlock) -> Box:
    """Give the pixels of the plane that hold the core, a line around it, and the cells it owns.

    Where cells are many pixels wide, all that a window sees is many times as large as its core.
    """
    owned = work.blocks.owners(np.maximum(found.keys, 0)) == block.number
    owned[0] = False
    is_owned = owned[found.lut][found.base]
    parts = []
    for axis in (0, 1):
        own, needed, seen = block.window[axis], block.needed[axis], block.seen[axis]
        size, scaled = work.blocks.shape[axis], work.blocks.scaled[axis]
        at = np.flatnonzero(is_owned.any(axis=1 - axis)) + own.start
        start = min(needed.start, int(at[0]) if len(at) else needed.start)
        stop = max(needed.stop, int(at[-1]) + 1 if len(at) else needed.stop)
        wide = slice(max(own.start, start - 3), min(own.stop, stop + 3))
        part = resized_of(wide, scaled, size)
        core = block.core[axis]
        parts.append(
            slice(
                max(seen.start, min(part.start, core.start - 1)),
                min(seen.stop, max(part.stop, core.stop + 1)),
            )
        )
    return parts[0], parts[1]


def _labels_seen(
    work: BlockWork, probabilities: NDArray[np.uint8], found: WindowCells, block: PlaneBlock
) -> NDArray[np.int32]:
    """Give the cells of a window at the size of the plane."""
    scaled, shape = work.blocks.scaled, work.blocks.shape
    assert work.options is not None  # only where there are cells
    certain = None if scaled == shape else inside(probabilities, work.options)
    base = resize_part(found.base, block.window, block.seen, scaled, shape, certain)
    labels: NDArray[np.int32] = found.lut[base]
    return labels


def _by_key(chosen: NDArray[np.bool_], found: WindowCells) -> NDArray[np.intp]:
    cells = np.flatnonzero(chosen)
    return cells[np.argsort(found.keys[cells])]


def _may_widen(work: BlockWork, block: PlaneBlock) -> bool:
    """Whether the window is not the widest one yet."""
    return block.window != work.blocks.block(block.number, work.blocks.margin * WIDER).window


def _beyond(
    seen: NDArray[np.int32], found: WindowCells, block: PlaneBlock, shape: tuple[int, int]
) -> dict[str, NDArray[np.int64]]:
    """Give the keys of the lines beyond the sides of a block, see `BlockCells`."""
    rows, columns = part_of(block.core, block.seen)
    (y, x), (height, width) = block.core, shape
    lines = {
        "above": seen[rows.start - 1, columns] if y.start else None,
        "below": seen[rows.stop, columns] if y.stop < height else None,
        "left": seen[rows, columns.start - 1] if x.start else None,
        "right": seen[rows, columns.stop] if x.stop < width else None,
    }
    nothing = np.zeros(0, np.int64)
    return {side: nothing if line is None else found.keys[line] for side, line in lines.items()}


def _without_cells(work: BlockWork, predicted: Predicted) -> BlockCells:
    """Make the result of a block in which there are none."""
    core, shape = predicted.block.core, work.blocks.shape
    lengths = [part.stop - part.start for part in core]
    goes_on = (
        [part.start > 0 for part in core],
        [part.stop < size for part, size in zip(core, shape, strict=True)],
    )
    beyond = {
        side: np.full(lengths[1 - axis] if goes_on[end][axis] else 0, -1, np.int64)
        for side, (axis, end) in zip(SIDES, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True)
    }
    labels = np.zeros(lengths, np.uint8)
    keys, is_cut = np.full(1, -1, np.int64), np.zeros(1, bool)
    corner = slice(core[0].start, core[0].start + 1), slice(core[1].start, core[1].start + 1)
    empty = replace(predicted, block=replace(predicted.block, seen=corner))
    table = _measured(work, empty, np.zeros((1, 1), np.uint8))
    return BlockCells(
        predicted.classes,
        labels,
        keys,
        0,
        is_cut,
        beyond,
        table,
        predicted.overview,
        _uncertainty_of(predicted),
    )


def _measured(work: BlockWork, predicted: Predicted, owned: NDArray[Any]) -> Columns:
    """Measure the cells of a part that the block sees; places are those in the plane."""
    y, x = bounding_box(owned > 0) if owned.any() else (slice(0, 1), slice(0, 1))
    place = [part.start + own.start for part, own in zip(predicted.block.seen, (y, x), strict=True)]
    part = (
        slice(place[0], place[0] + y.stop - y.start),
        slice(place[1], place[1] + x.stop - x.start),
    )
    channels = channel_parts(work.plane, predicted.image, part, work.channel_names)
    table = dict(measure(owned[y, x], channels, work.pixel_size, work.unit).columns)
    for axis, start, size in zip("yx", place, work.pixel_size, strict=True):
        for name in (f"centroid_{axis}", f"bbox_{axis}_min", f"bbox_{axis}_max"):
            table[name] = table[name] + start * size
            assert name in POWERS
    return table


def channel_parts(
    plane: Plane, image: ImageArray, part: Box, names: Sequence[str]
) -> ImageArray | dict[str, ImageArray]:
    """Read a part of an image for its table: an array, or one for each colour or channel.

    Parameters
    ----------
    plane : Plane
    image : ImageArray
        The same pixels, where they are read already.
    part : (slice, slice)
    names : sequence of str
        Of the channels.
    """
    data = plane.data
    if isinstance(data, ManyChannels):
        named = list(names) or [f"channel {n}" for n in range(data.data.shape[data.axis])]
        before, after = plane.index[: data.axis], plane.index[data.axis + 1 :]
        return {named[n]: data.data[(*before, n, *after, *part)] for n in data.channels}
    pixels: ImageArray = image[part]
    if not plane.channels:
        return pixels
    colors = ("red", "green", "blue") if plane.channels == 3 else range(plane.channels)
    return {str(name): pixels[..., c] for c, name in enumerate(colors)}
