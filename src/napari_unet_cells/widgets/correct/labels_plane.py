"""One plane of a labels layer as the tools see it, and free ids for new cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet_cells.core.edits import Edit
from napari_unet_cells.layers.transforms import world_matrix

if TYPE_CHECKING:
    from napari.components import ViewerModel


@dataclass(frozen=True, eq=False)
class LabelsPlane:
    """Plane of a labels layer in which a stroke began.

    Attributes
    ----------
    layer : napari labels layer
    index : tuple of int or None
        One for each axis of the layer, None for those that are displayed.
    rows, columns : int
        The axes that are displayed, from top to bottom and from left to right.
    """

    layer: Labels
    index: tuple[int | None, ...]
    rows: int
    columns: int

    @classmethod
    def under(cls, viewer: ViewerModel, layer: Labels, position: Any) -> LabelsPlane | None:
        """Find the plane of a place in the world; None where the layer has none there."""
        before = viewer.dims.ndim - layer.ndim
        rows, columns = (axis - before for axis in viewer.dims.displayed)
        index: list[int | None] = np.rint(layer.world_to_data(position)).astype(int).tolist()
        index[rows] = index[columns] = None
        shape = layer.data.shape
        if any(i is not None and not 0 <= i < n for i, n in zip(index, shape, strict=True)):
            return None
        return cls(layer, tuple(index), rows, columns)

    @classmethod
    def shown(cls, viewer: ViewerModel, layer: Labels) -> LabelsPlane | None:
        """Find the plane that is in view; None where there is none, as in three dimensions."""
        dims = viewer.dims
        if dims.ndisplay != 2 or min(dims.displayed) < dims.ndim - layer.ndim:
            return None
        return cls.under(viewer, layer, dims.point)

    def is_same(self, other: LabelsPlane) -> bool:
        """Whether another one is this plane of this layer."""
        return self.layer is other.layer and self.index == other.index

    @property
    def labels(self) -> NDArray[Any]:
        """The layer's own pixels, (rows, columns), not a copy."""
        part = tuple(slice(None) if i is None else i for i in self.index)
        labels: NDArray[Any] = np.asarray(self.layer.data)[part]
        return labels if self.rows < self.columns else labels.T

    def beside(self, most: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Give the planes before and after this one along the first of three axes, nearest first.

        Parameters
        ----------
        most : int
            On each side.
        """
        here = self.index[0]
        if len(self.index) != 3 or here is None:
            return [], []
        n = self.layer.data.shape[0]
        earlier = range(here - 1, max(-1, here - 1 - most), -1)
        later = range(here + 1, min(n, here + 1 + most))
        before, after = (
            [replace(self, index=(number, *self.index[1:])).labels for number in side]
            for side in (earlier, later)
        )
        return before, after

    def point(self, position: Any) -> tuple[float, float]:
        """Give the pixel (row, column), not rounded, of a place in the world."""
        data = self.layer.world_to_data(position)
        return float(data[self.rows]), float(data[self.columns])

    def to_world(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the places in the world, (n, axes of the layer), of pixels (row, column)."""
        data = np.zeros((len(points), self.layer.ndim))
        data[:] = [i or 0 for i in self.index]
        data[:, self.rows], data[:, self.columns] = points[:, 0], points[:, 1]
        matrix = world_matrix(self.layer)
        return data @ matrix[:-1, :-1].T + matrix[:-1, -1]

    def paint(self, edit: Edit) -> None:
        """Change the pixels of an edit, in one step of the layer's undo history."""
        indices = [np.full(len(edit.rows), i or 0) for i in self.index]
        indices[self.rows], indices[self.columns] = edit.rows, edit.columns
        self.layer.data_setitem(tuple(indices), edit.values.astype(self.layer.data.dtype))


class FreeId:
    """Find the first id above all others of a layer.

    One plane is searched each time, which is quick. The other planes of a stack are searched
    once; after that the highest id that was painted is remembered. After an undo the id may be
    higher than necessary, but it is never in use.

    Parameters
    ----------
    layer : napari labels layer
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._highest: int | None = None

    def known(self) -> int:
        """Give the highest id so far; all planes are searched where it is not known."""
        if self._highest is None:
            self._highest = max(0, int(np.max(self._layer.data, initial=0)))
        return self._highest

    def above(self, plane: NDArray[Any]) -> int:
        """Give the id for a new cell in a plane."""
        here = max(0, int(plane.max(initial=0)))
        if plane.size == self._layer.data.size:
            return here + 1
        self._highest = max(here, self.known())
        if self._highest >= np.iinfo(plane.dtype).max:  # perhaps only before an undo
            self.forget()
        return self.known() + 1

    def note(self, event: Any) -> None:
        """Note what was painted: napari's steps end with the new ids, or hold them by name."""
        for step in event.value:
            new = getattr(step, "new_value", None) if not isinstance(step, tuple) else step[-1]
            if new is None or self._highest is None:
                self.forget()
                return
            self._highest = max(self._highest, int(np.max(new)))

    def forget(self, event: Any = None) -> None:
        """Forget what is known, as after new data."""
        self._highest = None


#: What a copy of a labels layer takes over besides what makes a layer.
_SETTINGS = (
    "contour", "brush_size", "contiguous", "n_edit_dimensions", "preserve_labels",
    "selected_label", "show_selected_label",
)  # fmt: skip


def copy_of(layer: Labels, data: NDArray[Any]) -> Labels:
    """Make a labels layer like another one, of other pixels."""
    _, state, _ = layer.as_layer_data_tuple()
    state["metadata"] = layer.metadata
    state.pop("properties", None)  # the same as the features
    copy = Labels(data, **state)
    for name in _SETTINGS:
        setattr(copy, name, getattr(layer, name))
    return copy
