"""Probability of each pixel to lie in a cell, as far as a run kept it: by the fragments.

A fragment has the mean of the network's probability over its pixels, the quantity that the
probability threshold is compared with. So the mean over the pixels of a cell is that of the
fragments it was joined from, and that of a corrected cell the mean of what it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.segmentation.kept_fragments import KeptFragments, KeptPlane
from napari_unet_cells.segmentation.result import Fragments

#: Of the column in tables.
PROBABILITY = "probability"


class ProbabilityMap:
    """Array of the shape of the labels whose parts are looked up when they are read.

    Only then, which should be in a thread, the fragments of a plane are unpacked.

    Parameters
    ----------
    fragments : KeptFragments
        One for each plane of the labels.
    shape : tuple of int
        Of the labels, (..., y, x).
    """

    dtype = np.dtype(np.float32)

    def __init__(self, fragments: KeptFragments, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._fragments = fragments
        self._by_fragment: dict[int, NDArray[np.float32]] = {}

    @classmethod
    def of(cls, fragments: Sequence[Fragments], shape: tuple[int, ...]) -> ProbabilityMap | None:
        """Make one where the fragments are those of labels of this shape, else None."""
        kept = fragments if isinstance(fragments, KeptFragments) else KeptFragments(fragments)
        n_planes = int(np.prod(shape[:-2], dtype=np.int64))
        is_whole = len(kept) == n_planes and all(
            kept.shape(index) == shape[-2:] for index in range(n_planes)
        )
        return cls(kept, shape) if n_planes and is_whole else None

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        """Read a part (rows, columns) of a plane, NaN where no fragment lies."""
        *plane, rows, columns = key
        index = int(np.ravel_multi_index(plane, self.shape[:-2])) if plane else 0
        fragments = KeptPlane(self._fragments, index).fragments()
        if fragments is None:  # their memory was freed meanwhile
            nothing = np.broadcast_to(np.float32(np.nan), self.shape[-2:])
            return np.array(nothing[rows, columns])
        if index not in self._by_fragment:
            self._by_fragment[index] = _by_fragment(fragments)
        part: NDArray[np.float32] = self._by_fragment[index][fragments.base[rows, columns]]
        return part


def _by_fragment(plane: Fragments) -> NDArray[np.float32]:
    """Probability of each value of `base`; background and holes have none."""
    fine = plane.oversegmentation
    values = np.full(1 + fine.n_fragments + fine.n_holes, np.nan, np.float32)
    areas = np.maximum(fine.areas[1:], 1)
    values[1 : 1 + fine.n_fragments] = fine.sums[1:] / (255.0 * areas)
    return values
