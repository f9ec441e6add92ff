"""Part of a plane of labels that is taken out to be edited, and what becomes of its ids.

::

    +--------------+     a    whole in the part: it is edited
    |  aa      bbb |bb   b    cut by the border of the part: it stays where it is, and keeps its
    |  aa      bbb |bb        pixels from what is drawn beside it
    +--------------+
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.resample import Box


@dataclass(frozen=True, eq=False)
class TakenPart:
    """Labels of a part, as they were when it was taken.

    Attributes
    ----------
    box : (slice, slice)
        Rows and columns of the plane.
    labels : integer array, (y, x)
        All of them.
    cut : integer array, (n,)
        Ids of the cells that go on beyond the part, rising.
    """

    box: Box
    labels: NDArray[np.int64]
    cut: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], box: Box, shape: tuple[int, int]) -> TakenPart:
        """Find the cells that a part of a plane of this shape cuts."""
        (y, x), (height, width) = box, shape
        lines = [
            line
            for line, goes_on in (
                (labels[0], y.start > 0),
                (labels[-1], y.stop < height),
                (labels[:, 0], x.start > 0),
                (labels[:, -1], x.stop < width),
            )
            if goes_on
        ]
        ids = np.unique(np.concatenate([np.zeros(1, labels.dtype), *lines]))
        return cls(box, labels, ids[ids > 0])

    @property
    def stays(self) -> NDArray[np.bool_]:
        """Pixels of the cells that are cut."""
        stays: NDArray[np.bool_] = np.isin(self.labels, self.cut)
        return stays

    @property
    def editable(self) -> NDArray[np.int64]:
        """Labels of the cells that are whole in the part."""
        return np.where(self.stays, 0, self.labels)

    def edited(
        self, shown: NDArray[np.int64], n_used: int, before: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], int]:
        """Give the labels of the part once it was edited, and the largest id that was ever used.

        Cells that are not among those that were taken get ids that were never used.

        Parameters
        ----------
        shown : integer array, (y, x)
            What `editable` has become.
        n_used : int
            The largest id that was ever used before.
        before : integer array, optional
            Labels whose ids are known as well: a cell that was deleted may come back.
        """
        known = np.unique(self.editable)
        if before is not None:
            known = np.union1d(known, before)
        ids = np.unique(shown)
        new = ids[~np.isin(ids, known) & (ids > 0)]
        numbers = np.concatenate([[0], known[known > 0], new])
        meant = np.concatenate([[0], known[known > 0], n_used + 1 + np.arange(len(new))])
        order = np.argsort(numbers)
        labels = meant[order][np.searchsorted(numbers[order], shown)]
        return np.where(self.stays, self.labels, labels), n_used + len(new)
