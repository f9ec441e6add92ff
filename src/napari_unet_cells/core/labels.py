"""Label arrays: what they hold, how many ids, the value of unannotated pixels, a checksum."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

#: In masks of classes: a pixel that nobody annotated.
UNKNOWN = 255

#: Pixels that are counted at a time.
BLOCK = 2**20

#: Ids below this are counted in a table of one byte each; greater ones one by one.
FEW_IDS = 2**24

#: Classes that masks of cells become, see `training.crops.boundary_classes`.
CELL_CLASSES = ("background", "cell", "boundary")


def makes_cells(classes: Collection[str]) -> bool:
    """Whether a network of these classes separates one cell from another."""
    return "cell" in classes and "boundary" in classes


def holds_cells(classes: Collection[str]) -> bool:
    """Whether a mask of these classes has one number a cell; without names it has."""
    return not classes or makes_cells(classes)


def digest(labels: NDArray[Any]) -> int:
    """Checksum (CRC-32) of an array, enough to tell whether somebody painted."""
    pixels = np.ascontiguousarray(labels).reshape(-1).view(np.uint8)
    try:  # in a quarter of zlib's time, for which a window would stand still
        return int(imagecodecs.deflate_crc32(pixels))  # type: ignore[arg-type]
    except ImportError:  # a build of imagecodecs without libdeflate
        return zlib.crc32(pixels.data)


def digest_in_file(labels: NDArray[Any]) -> int:
    """Checksum of labels as `layers.reader` gives them from a file, whatever their data type is."""
    smallest = np.promote_types(np.min_scalar_type(int(labels.max(initial=0))), np.uint16)
    return digest(labels.astype(smallest, copy=False))


def count_ids(labels: NDArray[Any], stopped: Callable[[], bool] = lambda: False) -> int:
    """Count the ids above 0 that occur in an array of labels.

    Parameters
    ----------
    labels : integer array
        Of any shape; it may change meanwhile.
    stopped : callable () -> bool
        Asked between blocks; once it is true, the rest is not looked at.
    """
    seen = np.zeros(1, dtype=bool)
    great: set[int] = set()
    for block in _blocks(labels):
        if stopped():
            break
        top = int(block.max())
        if top >= FEW_IDS:
            great.update(np.unique(block[block >= FEW_IDS]).tolist())
            block, top = block[block < FEW_IDS], FEW_IDS - 1
        if top >= len(seen):
            seen = np.concatenate([seen, np.zeros(top + 1 - len(seen), dtype=bool)])
        seen[block[block > 0]] = True
    return int(np.count_nonzero(seen)) + len(great)


def _blocks(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut an array into flat copies of about `BLOCK` pixels."""
    if not labels.size:
        return
    rows = max(1, BLOCK // labels.shape[-1])
    for plane in np.ndindex(labels.shape[:-2]):
        for start in range(0, labels.shape[-2], rows):
            yield labels[plane][start : start + rows].flatten()
