"""Label arrays: what they hold, the value of unannotated pixels, and a checksum."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: In masks of classes: a pixel that nobody annotated.
UNKNOWN = 255

#: Classes that masks of cells become, see `training.crops.boundary_classes`.
CELL_CLASSES = ("background", "cell", "boundary")


def makes_cells(classes: Collection[str]) -> bool:
    """Whether a network of these classes separates one cell from another."""
    return "cell" in classes and "boundary" in classes


def holds_cells(classes: Collection[str]) -> bool:
    """Whether a mask of these classes has one number a cell; without names it has."""
    return not classes or makes_cells(classes)


def digest(labels: NDArray[Any]) -> int:
    """Checksum of an array, enough to tell whether somebody painted."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
