"""Labels on the disk as a tiled BigTIFF of several scales, written tile by tile.

::

    level 0   tiles of 1024 x 1024, compressed      what Fiji, QuPath and tifffile read
    level 1   (SubIFD) half the size ...            what they show when zoomed out

A few tiles are in memory at a time, however large the labels are.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import LabelLevel
from napari_unet_cells.files.labels import ome_options, scale_to_write
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import jsonable

#: Side of a tile in pixels.
TILE = 1024

_POLL_SECONDS = 0.1


class _Stopped(Exception):
    """Nobody waits for the file any more."""


class _Progress:
    """Tiles that were written, and whether to go on."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.stop = total, 0, threading.Event()

    def note(self) -> None:
        """Count a tile."""
        if self.stop.is_set():
            raise _Stopped
        self.done += 1


def write_large_labels(
    path: Path,
    levels: Sequence[LabelLevel],
    axes: str,
    scale: Scale,
    record: Mapping[str, Any],
) -> Generator[float, None, None]:
    """Write labels into a file, which a caller gives its name once it is whole.

    Parameters
    ----------
    path : Path
    levels : sequence of LabelLevel
        The finest first, with no axes but those that are stored.
    axes : str
        One letter for each axis, such as "ZYX".
    scale : Scale
    record : mapping
        See `files.results.result_record`.

    Yields
    ------
    float
        The part that is done, 0 to 1. A generator that is closed stops within a tile.

    Raises
    ------
    UserError
        Where the ids need more than 32 bits, or the labels cannot be read.
    OSError
        Where the disk refuses.
    """
    if levels[0].dtype.itemsize > 4:
        raise UserError(f"{path.name} was not written: a TIFF holds ids of 32 bits at most.")
    placed = scale_to_write(path, scale.pixel_size, scale.unit, scale.z_step)
    options = ome_options(placed, jsonable(record))
    options["metadata"]["axes"] = axes
    progress = _Progress(sum(_count(level.shape) for level in levels))
    with ThreadPoolExecutor(1, "unet-cells-tiff") as pool:
        written = pool.submit(_write, path, levels, options, progress)
        try:
            while True:
                try:
                    written.result(_POLL_SECONDS)
                    break
                except NotYet:
                    yield progress.done / progress.total
        finally:
            progress.stop.set()
    yield 1.0


def _write(
    path: Path, levels: Sequence[LabelLevel], options: dict[str, Any], progress: _Progress
) -> None:
    is_ome = options.pop("ome")
    how: dict[str, Any] = {
        "tile": (TILE, TILE),
        "compression": "zlib",
        "photometric": "minisblack",
        "maxworkers": 1,
    }
    with tifffile.TiffWriter(path, bigtiff=True, ome=is_ome) as file:
        for number, level in enumerate(levels):
            own = options | {"subifds": len(levels) - 1} if not number else {"subfiletype": 1}
            file.write(_tiles(level, progress), shape=level.shape, dtype=level.dtype, **how, **own)


def _count(shape: Sequence[int]) -> int:
    *planes, height, width = shape
    return prod(planes) * ceil(height / TILE) * ceil(width / TILE)


def _tiles(level: LabelLevel, progress: _Progress) -> Iterator[NDArray[Any]]:
    """Read tile by tile, plane by plane; those at the border are filled up with background."""
    *planes, height, width = level.shape
    for *plane, y, x in product(*map(range, planes), range(0, height, TILE), range(0, width, TILE)):
        progress.note()
        part = level.read((*plane, slice(y, y + TILE), slice(x, x + TILE)))
        if part.shape != (TILE, TILE):
            short = [(0, TILE - length) for length in part.shape]
            part = np.pad(part, short)
        yield np.ascontiguousarray(part)
