"""Label arrays: what they hold, the value of unannotated pixels, and a checksum."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: In masks of classes: a pixel that nobody annotated.
UNKNOWN = 255

#: Classes that masks of cells become, see `training.crops.boundary_classes`.
CELL_CLASSES = ("background", "cell", "boundary")


def digest(labels: NDArray[Any]) -> int:
    """Checksum of an array, enough to tell whether somebody painted."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
