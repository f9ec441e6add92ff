"""Outlines of chosen cells as a picture of the canvas: as many as there are, in the same time.

The picture is made pixel by pixel of the canvas, not cell by cell. No Qt here::

    canvas (x, y)  --- Mapping --->  pixel (row, column) of a plane  --->  label  --->  line?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.widgets.camera import in_world
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.napari_versions import canvas_size

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

#: Values of a picture: nothing, the dark around a line, the line.
CLEAR, DARK, BRIGHT = 0, 1, 2

#: Pixels of the canvas around the cells that the lines may need.
MARGIN = 3


@dataclass(frozen=True, eq=False)
class Mapping:
    """Places of the pixels of a canvas in a plane: ``origin + step @ (x, y)``.

    Attributes
    ----------
    origin : float array, (2,)
        Row and column at the upper left corner of the canvas.
    step : float array, (2, 2)
        Rows and columns for each pixel to the right, and downward.
    size : (int, int)
        Height and width of the canvas.
    """

    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    size: tuple[int, int]

    @classmethod
    def of(cls, viewer: ViewerModel, plane: LabelsPlane) -> Mapping:
        """Take it from the camera."""
        corners = [plane.point(in_world(viewer, at)) for at in ((0, 0), (1, 0), (0, 1))]
        origin, right, down = np.asarray(corners, float)
        step = np.stack([right - origin, down - origin], axis=1)
        return cls(origin, step, canvas_size(viewer))

    def window(self, boxes: NDArray[np.float64]) -> tuple[slice, slice] | None:
        """Find the part of the canvas that holds some boxes; None where it holds none.

        Parameters
        ----------
        boxes : float array, (n, 4)
            First row and column, last row and column, exclusive.
        """
        corners = np.concatenate([boxes[:, pair] for pair in ([0, 1], [0, 3], [2, 1], [2, 3])])
        x, y = np.linalg.inv(self.step) @ (corners - 0.5 - self.origin).T
        height, width = self.size
        parts = []
        for places, length in ((y, height), (x, width)):
            low, high = np.floor(places.min()) - MARGIN, np.ceil(places.max()) + MARGIN
            low, high = np.clip([low, high], 0, length)
            if low >= high:
                return None
            parts.append(slice(int(low), int(high)))
        return parts[0], parts[1]

    def within(self, start: tuple[float, float], factor: int) -> Mapping:
        """Give the places in a part of the plane, of which each pixel stands for several.

        Parameters
        ----------
        start : (float, float)
            First row and column of the part.
        factor : int
            Pixels of the plane along a side of one of the part.
        """
        origin = (self.origin - start + 0.5) / factor - 0.5
        return Mapping(origin, self.step / factor, self.size)

    def labels(self, plane: NDArray[Any], window: tuple[slice, slice]) -> NDArray[Any]:
        """Label under each pixel of a part of the canvas; 0 beside the plane."""
        y, x = (np.arange(part.start, part.stop) + 0.5 for part in window)
        if self.step[0, 0] == 0 and self.step[1, 1] == 0:  # no rotation and no shear
            rows = _rounded(self.origin[0] + self.step[0, 1] * y)
            columns = _rounded(self.origin[1] + self.step[1, 0] * x)
            return _looked_up(plane, rows[:, np.newaxis], columns[np.newaxis])
        places = (
            self.origin[axis] + self.step[axis, 1] * y[:, np.newaxis] + self.step[axis, 0] * x
            for axis in (0, 1)
        )
        return _looked_up(plane, *map(_rounded, places))


def _rounded(places: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.floor(places + 0.5).astype(np.intp)


def _looked_up(
    plane: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[Any]:
    height, width = plane.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    labels = plane[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside, labels, 0)


@dataclass(frozen=True, eq=False)
class Window:
    """Part of a plane that was read from the disk.

    Attributes
    ----------
    labels : integer array, (y, x)
    start : (int, int)
        First row and column.
    factor : int
        Pixels of the plane along a side of one of the labels.
    """

    labels: NDArray[Any]
    start: tuple[int, int]
    factor: int = 1

    @property
    def transposed(self) -> Window:
        """The same where the plane is shown with rows and columns exchanged."""
        return Window(self.labels.T, (self.start[1], self.start[0]), self.factor)

    def lines(
        self, ids: NDArray[Any], boxes: NDArray[np.float64], mapping: Mapping
    ) -> Lines | None:
        """Draw lines as `cell_lines` does, with boxes and mapping of the plane."""
        moved = (boxes - np.array([*self.start, *self.start])) / self.factor
        return cell_lines(self.labels, ids, moved, mapping.within(self.start, self.factor))


@dataclass(frozen=True, eq=False)
class Lines:
    """Picture of a part of the canvas.

    Attributes
    ----------
    top, left : int
    pixels : uint8 array, (y, x)
        `CLEAR`, `DARK` or `BRIGHT`.
    """

    top: int
    left: int
    pixels: NDArray[np.uint8]


def shown_plane(viewer: ViewerModel, layer: Labels) -> LabelsPlane | None:
    """Plane of a layer that is in view; None where there is none, as of a hidden layer."""
    return LabelsPlane.shown(viewer, layer) if layer.visible else None


def cell_lines(
    labels: NDArray[Any], ids: NDArray[Any], boxes: NDArray[np.float64], mapping: Mapping
) -> Lines | None:
    """Draw lines along the inner border of cells, dark around it to be seen on any image.

    Parameters
    ----------
    labels : integer array, (rows, columns)
        The plane.
    ids : integer array, (n,)
        The chosen cells.
    boxes : float array, (n, 4)
        Of the cells; see `Mapping.window`.
    mapping : Mapping
    """
    window = mapping.window(boxes) if len(ids) else None
    if window is None:
        return None
    seen = mapping.labels(labels, window)
    seen = np.where(np.isin(seen, ids), seen, 0)
    within = seen > 0
    border = _beside(seen)
    line = border & within
    pixels = np.zeros(seen.shape, np.uint8)
    pixels[border & ~within] = DARK
    # Two pixels wide; of two chosen cells that touch each has its own line.
    pixels[_widened(line) & within] = BRIGHT
    return Lines(window[0].start, window[1].start, pixels)


def _beside(seen: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the pixels that have another neighbour; of two that differ both."""
    border = np.zeros(seen.shape, bool)
    for one, other in _neighbours():
        differs = seen[one] != seen[other]
        border[one] |= differs
        border[other] |= differs
    return border


def _widened(line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the neighbours of a line."""
    wide = line.copy()
    for one, other in _neighbours():
        wide[one] |= line[other]
        wide[other] |= line[one]
    return wide


def _neighbours() -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    whole, first, last = slice(None), slice(None, -1), slice(1, None)
    return [((first, whole), (last, whole)), ((whole, first), (whole, last))]
