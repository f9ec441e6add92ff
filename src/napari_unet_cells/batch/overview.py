"""An image and its cells at a glance: a small picture with outlines, and histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.normalize import Limits, normalize
from napari_unet_cells.core.planes import Plane, Planes, limits_of
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.untrusted.unit_record import Histogram

#: Longest side of the picture in pixels, and least diameter of a cell in it: where cells would be
#: smaller, the picture shows the part of the image that holds the most.
SIDE, LEAST_DIAMETER = 360, 7

BINS = 24

#: Pixels for one of the picture of a huge image whose cells have no known size.
_FAR = 8

#: Values above this percentile count as the highest: one clump must not squash all bars.
_HIGHEST = 99.0

_OUTLINE = (255, 214, 10)


@dataclass(frozen=True)
class View:
    """Part of a plane that a picture shows, at one of `step` pixels."""

    top: int
    left: int
    height: int
    width: int
    step: int


def picture_of(planes: Planes, result: Result, table: Table | None) -> NDArray[np.uint8]:
    """Draw the middle plane of a run and the outlines of its cells; of a large one, a part.

    Parameters
    ----------
    planes : Planes
        As they were segmented.
    result : Result
    table : Table or None
        Of the cells.

    Returns
    -------
    uint8 array, (y, x, 3)
    """
    labels = result.classes if result.cells is None else result.cells
    return picture_with(planes, labels, table, result.diameter)


def picture_with(
    planes: Planes, labels: ImageArray, table: Table | None, diameter: float
) -> NDArray[np.uint8]:
    """Draw the middle plane and the outlines of labels; see `picture_of`."""
    indices = list(planes.indices())
    index = indices[len(indices) // 2]
    plane = planes.plane(index)
    return draw(plane, labels[index], _view(plane, table, diameter))


def draw(
    plane: Plane, labels: ImageArray, view: View, limits: Limits | None = None
) -> NDArray[np.uint8]:
    """Draw a part of a plane and the outlines of its labels; limits are found where none are given.

    Of what lies on the disk only this part is read.
    """
    limits = limits or limits_of(plane)
    pixels = np.zeros(_size(view), np.float32) if limits is None else _shrunk(plane, view)
    grey = pixels if limits is None else normalize(pixels, limits)
    grey = grey[..., :3] if grey.shape[-1:] == (3,) else grey.reshape(*grey.shape[:2], -1).max(-1)
    colors = np.repeat(grey[..., None], 3, axis=-1) if grey.ndim == 2 else grey
    picture: NDArray[np.uint8] = (255 * colors).astype(np.uint8)
    middle, step = view.step // 2, view.step
    shown = np.asarray(
        labels[
            view.top + middle : view.top + view.height : step,
            view.left + middle : view.left + view.width : step,
        ]
    )
    picture[_borders(shown[: len(picture), : picture.shape[1]])] = _OUTLINE
    return picture


def _view(plane: Plane, table: Table | None, diameter: float) -> View:
    height, width = plane.shape[:2]
    step = max(1, -(-max(height, width) // SIDE))
    if table is not None and len(table) and diameter > 0:
        step = min(step, max(1, int(diameter / LEAST_DIAMETER)))
    side = SIDE * step
    tall, wide = min(height, side), min(width, side)
    if (tall, wide) == (height, width) or table is None:
        return View(0, 0, tall, wide, step)
    top, left = _fullest(table, (height, width), (tall, wide))
    return View(top, left, tall, wide, step)


def _fullest(table: Table, shape: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Upper left corner of the window that holds the most cells, among some."""
    corners = []
    for axis, name in enumerate(("centroid_y", "centroid_x")):
        at = table.columns[name] / table.pixel_size[axis]
        n = -(-shape[axis] // window[axis])
        starts = np.linspace(0, shape[axis] - window[axis], n).astype(int)
        corners.append((starts, np.minimum(at // (shape[axis] / n), n - 1).astype(int)))
    (rows, y), (columns, x) = corners
    counts = np.bincount(y * len(columns) + x, minlength=len(rows) * len(columns))
    row, column = divmod(int(counts.argmax()), len(columns))
    return int(rows[row]), int(columns[column])


def _size(view: View) -> tuple[int, int]:
    return max(1, view.height // view.step), max(1, view.width // view.step)


def _shrunk(plane: Plane, view: View) -> NDArray[np.float32]:
    """Means over squares of `step` pixels; some rows are read at a time."""
    tall, wide = _size(view)
    step = min(view.step, view.height, view.width)
    rows_at_once = max(1, 1024 // step)
    parts = []
    for row in range(0, tall, rows_at_once):
        n = min(rows_at_once, tall - row)
        top = view.top + row * step
        pixels = plane[top : top + n * step, view.left : view.left + wide * step]
        squares = pixels.reshape(n, step, wide, step, *pixels.shape[2:])
        parts.append(np.asarray(squares.mean(axis=(1, 3), dtype=np.float32), np.float32))
    return np.concatenate(parts)


def _borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of a label that touch another one, by a side."""
    border = np.zeros(labels.shape, bool)
    differs = labels[1:] != labels[:-1]
    border[1:] |= differs
    border[:-1] |= differs
    differs = labels[:, 1:] != labels[:, :-1]
    border[:, 1:] |= differs
    border[:, :-1] |= differs
    return border & (labels > 0)


class Gathered:
    """Values of the cells of a huge image, from the tables of its parts.

    Of many cells every second, fourth, ... is kept, so that the memory does not grow.

    Parameters
    ----------
    shape : (int, int)
        Of a plane, in pixels.
    """

    #: Cells that are kept, and places along each axis that are told apart.
    MOST, PLACES = 1_000_000, 64

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._counts = np.zeros((self.PLACES, self.PLACES), np.int64)
        self._values: dict[str, list[NDArray[np.float64]]] = {"area": [], "intensity": []}
        self._step = 1
        self.unit = "pixel"

    def watch(self, tables: Iterable[Table]) -> Iterator[Table]:
        """Pass tables on, and note what is in them."""
        for table in tables:
            self._note(table)
            yield table

    def _note(self, table: Table) -> None:
        self.unit = table.unit
        places = []
        for axis, name in enumerate(("centroid_y", "centroid_x")):
            at = table.columns[name] / table.pixel_size[axis] * self.PLACES / self._shape[axis]
            places.append(np.clip(at.astype(int), 0, self.PLACES - 1))
        np.add.at(self._counts, tuple(places), 1)
        names = [name for name in table.columns if name.startswith("intensity_mean")]
        chosen = {"area": "area", **({"intensity": names[0]} if names else {})}
        for key, name in chosen.items():
            self._values[key].append(table.columns[name][:: self._step].astype(np.float64))
        if sum(map(len, self._values["area"])) > self.MOST:
            self._step *= 2
            for key, kept in self._values.items():
                self._values[key] = [np.concatenate(kept)[::2]] if kept else []

    def histograms(self) -> tuple[Histogram | None, Histogram | None]:
        """Count the cells by area and by mean intensity, as `histograms` does."""
        found = [
            histogram(np.concatenate([np.zeros(0), *self._values[key]]))
            for key in ("area", "intensity")
        ]
        scaled = [
            one and Histogram(one.low, one.high, tuple(self._step * n for n in one.counts))
            for one in found
        ]
        return scaled[0], scaled[1]

    def view(self, diameter: float) -> View:
        """Choose the part of the plane around the place with the most cells."""
        step = max(1, -(-max(self._shape) // SIDE))
        step = min(step, max(1, int(diameter / LEAST_DIAMETER)) if diameter > 0 else _FAR)
        size = tuple(min(length, SIDE * step) for length in self._shape)
        place = np.unravel_index(int(self._counts.argmax()), self._counts.shape)
        top, left = (
            int(np.clip((at + 0.5) * length / self.PLACES - side / 2, 0, length - side))
            for at, length, side in zip(place, self._shape, size, strict=True)
        )
        return View(top, left, size[0], size[1], step)


def histograms(table: Table | None) -> tuple[Histogram | None, Histogram | None]:
    """Count the cells by area and by mean intensity, of the first channel; None without any."""
    if table is None:
        return None, None
    names = [name for name in table.columns if name.startswith("intensity_mean")]
    intensity = histogram(table.columns[names[0]]) if names else None
    return histogram(table.columns["area"]), intensity


def histogram(values: NDArray[np.floating] | NDArray[np.integer]) -> Histogram | None:
    """Count values in bins of equal width; None where there is none."""
    known = values[np.isfinite(values)].astype(float)
    if not known.size:
        return None
    low, high = float(known.min()), float(np.percentile(known, _HIGHEST))
    if not low < high:
        low, high = low - 0.5, low + 0.5
    counts, _ = np.histogram(np.minimum(known, high), BINS, (low, high))
    return Histogram(low, high, tuple(counts.tolist()))
