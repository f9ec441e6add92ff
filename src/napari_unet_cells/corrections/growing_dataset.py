"""A dataset that follows the approved regions of a session: new ones come, withdrawn ones go."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place, Review
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.dataset_writer import add
from napari_unet_cells.datasets.index import locked, read_index, write_index
from napari_unet_cells.segmentation.cell_diameter import diameters_of

#: Whole cells in approved regions from which on their size is known.
FEWEST_CELLS = 5

#: A review, and a region of it.
_Key = tuple[Review, Place]


@dataclass(frozen=True)
class _Written:
    """Name of a region in the dataset, and the checksum of its labels."""

    name: str
    checksum: int


class GrowingDataset:
    """Approved regions in a folder that the program made for itself.

    Regions of labels that are not open any more stay; what counts as withdrawn is only what was
    withdrawn from a review that is given again.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[_Key, _Written] = {}

    def update(self, approved: Sequence[Approved], reviews: Iterable[Review] = ()) -> int:
        """Write what is new or was changed, and take out what was withdrawn.

        Parameters
        ----------
        approved : sequence of Approved
            Of the labels that are open.
        reviews : iterable of Review
            Of labels that are open as well, without any approved region.

        Returns
        -------
        int
            Regions in the dataset.

        Raises
        ------
        UserError
            Where the disk refuses.
        """
        for one in approved:
            checksums = {place: _checksum(one, place) for place in one.dates}
            new = {
                place: date
                for place, date in one.dates.items()
                if self._checksum_of(one.review, place) != checksums[place]
            }
            if not new:
                continue
            for event in add(self.folder, replace(one, dates=new)):
                written = _Written(event.name, checksums[event.place])
                self._written[one.review, event.place] = written
        self._withdraw({one.review: one.dates for one in approved} | {one: {} for one in reviews})
        return len(self._written)

    def _checksum_of(self, review: Review, place: Place) -> int | None:
        written = self._written.get((review, place))
        return None if written is None else written.checksum

    def _withdraw(self, dates: Mapping[Review, Collection[Place]]) -> None:
        gone = [
            (review, place)
            for review, place in self._written
            if review in dates and place not in dates[review]
        ]
        if not gone:
            return
        names = {self._written[key].name for key in gone}
        with locked(self.folder):
            records = read_index(self.folder) or []
            write_index(self.folder, [one for one in records if one.name not in names])
        for key in gone:
            del self._written[key]


def _window(approved: Approved, place: Place) -> NDArray[Any]:
    at: tuple[int | slice, ...] = (*place[0], *approved.review.grid[place[1]].slices)
    window: NDArray[Any] = approved.labels[at]
    return window


def _checksum(approved: Approved, place: Place) -> int:
    return zlib.crc32(np.ascontiguousarray(_window(approved, place)).tobytes())


def approved_diameter(approved: Approved) -> float:
    """Give the median diameter in pixels of the whole cells in approved regions.

    Returns
    -------
    float
        0 where there are too few of them.
    """
    found = []
    for place in approved.dates:
        labels = _window(approved, place)
        rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        found.append(diameters_of(np.where(np.isin(labels, np.unique(rim)), 0, labels)))
    diameters = np.concatenate(found) if found else np.zeros(0)
    return float(np.median(diameters)) if len(diameters) >= FEWEST_CELLS else 0.0
