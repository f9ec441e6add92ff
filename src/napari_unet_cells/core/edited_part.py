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

        A cell is the one that was taken where it has a pixel of it still. All others get ids that
        were never used, also one that was drawn with the number of a cell that was deleted.

        Parameters
        ----------
        shown : integer array, (y, x)
            What `editable` has become.
        n_used : int
            The largest id that was ever used before.
        before : integer array, optional
            What `editable` was when `shown` was taken of it, where the part was put back since: a
            cell that was deleted may come back, and one that was drawn has its id already.
        """
        ids, mine = np.unique(shown), self.editable
        same = np.unique(shown[shown == mine])
        meant = np.where(np.isin(ids, same), ids, -1)
        if before is not None:
            same = np.union1d(same, shown[shown == before])
            meant = np.where(np.isin(ids, same), ids, -1)
            given = np.setdiff1d(mine, np.union1d(before, same))
            for at in np.flatnonzero(meant < 0).tolist():
                over, counts = np.unique(mine[shown == ids[at]], return_counts=True)
                counts[~np.isin(over, np.setdiff1d(given, meant))] = 0
                meant[at] = over[counts.argmax()] if counts.any() else -1
        meant[ids == 0] = 0
        is_new = meant < 0
        meant[is_new] = n_used + 1 + np.arange(np.count_nonzero(is_new))
        labels = meant[np.searchsorted(ids, shown)]
        return np.where(self.stays, self.labels, labels), n_used + int(np.count_nonzero(is_new))
