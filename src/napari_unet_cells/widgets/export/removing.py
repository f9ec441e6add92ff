"""Remove cells from a labels layer in one step of its undo history. No Qt here.

A few small cells are removed pixel by pixel, as the tool for deleting does. Of many or large ones
the pixels would take a second to list and to write: `Removal` holds whole regions, which a thread
prepares and which lie compressed in the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import PackedLabels, RegionGrid
from napari_unet_cells.layers.metadata import CELLS, OURS
from napari_unet_cells.layers.selection import painting_problem
from napari_unet_cells.widgets.segment.live import bare

if TYPE_CHECKING:
    from napari.layers import Labels

#: Cells, and pixels of their boxes, that are removed at once, without a thread.
FEW, SMALL = 300, 60_000


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells in planes of a labels layer.

    Attributes
    ----------
    ids : integer array, (n,)
    planes : integer array, (n, axes before y and x)
    boxes : float array, (n, 4)
        Of their pixels: first row and column, last row and column, exclusive.
    """

    ids: NDArray[Any]
    planes: NDArray[Any]
    boxes: NDArray[np.float64]

    @classmethod
    def none(cls) -> Cells:
        """Give no cells."""
        return cls(np.empty(0, np.int64), np.empty((0, 0), np.int64), np.empty((0, 4)))

    @property
    def is_quick(self) -> bool:
        """Whether they are removed in a moment."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return len(self) <= FEW and float(sides.prod(axis=1).sum()) <= SMALL

    def __len__(self) -> int:
        """Count them."""
        return len(self.ids)

    def __getitem__(self, which: NDArray[Any]) -> Cells:
        """Take some of them."""
        return Cells(self.ids[which], self.planes[which], self.boxes[which])


def removal_problem(layer: Labels) -> str:
    """Say why no cell can be removed from a layer; empty where it can."""
    if layer.metadata.get(OURS, {}).get("role", CELLS) != CELLS:
        return f"'{layer.name}' holds classes, not cells. Choose the table of the cells."
    return painting_problem(layer)


def remove(layer: Labels, cells: Cells) -> None:
    """Make a few cells background, as one step that Ctrl+Z takes back.

    What was removed differs from what the run made, so the review, the autosave and a further run
    take it for corrected, as they do where the tool for deleting is used.
    """
    indices = _pixels_of(layer.data, cells)
    if len(indices[0]):
        layer.data_setitem(indices, 0)


def _pixels_of(labels: NDArray[Any], cells: Cells) -> tuple[NDArray[np.intp], ...]:
    """Index of all pixels of some cells, as numpy takes it."""
    found: list[list[NDArray[np.intp]]] = [[np.empty(0, np.intp)] for _ in range(labels.ndim)]
    corners = np.rint(cells.boxes).astype(int).tolist()
    for label, plane, box in zip(cells.ids, cells.planes.tolist(), corners, strict=True):
        top, left, bottom, right = box
        y, x = np.nonzero(labels[tuple(plane)][top:bottom, left:right] == label)
        places = (*(np.full(len(y), index) for index in plane), y + top, x + left)
        for parts, place in zip(found, places, strict=True):
            parts.append(place)
    return tuple(np.concatenate(parts) for parts in found)


class _Pixels:
    """Pixels in the undo history, unpacked when they are asked for."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._packed = PackedLabels.of(pixels)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return self._packed.unpacked().astype(dtype or self._packed.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Removal:
    """Region of a plane from which cells are removed.

    Attributes
    ----------
    index : tuple
        Of the region in the labels.
    after : integer array, (y, x)
    history : tuple
        Pixels before and after, for the undo history.
    """

    index: tuple[Any, ...]
    after: NDArray[Any]
    history: tuple[_Pixels, _Pixels]


def prepare(labels: NDArray[Any], cells: Cells) -> list[Removal]:
    """Prepare to remove many cells.

    The user may paint on the labels meanwhile: what was prepared before an edit is of no use.
    """
    grid = RegionGrid.plan((labels.shape[-2], labels.shape[-1]))
    removals = []
    for plane in np.unique(cells.planes, axis=0):
        here = cells[(cells.planes == plane).all(axis=1)]
        touched = set()
        for top, left, bottom, right in np.rint(here.boxes).astype(int).tolist():
            touched.update(grid.touching(slice(top, bottom), slice(left, right)))
        for number in sorted(touched):
            index = (*plane.tolist(), *grid[number].slices)
            before = labels[index].copy()
            gone = np.isin(before, here.ids)
            if gone.any():
                after = np.where(gone, before.dtype.type(0), before)
                removals.append(Removal(index, after, (_Pixels(before), _Pixels(after))))
    return removals


def write(layer: Labels, removals: list[Removal]) -> None:
    """Write what was prepared, as one step of the undo history."""
    layer = bare(layer)
    # napari has no public way to remember regions of pixels.
    with layer.block_history():
        for one in removals:
            layer._save_history((one.index, *one.history))
            layer.data[one.index] = one.after
    layer.refresh(extent=False)
