"""Small views of a plane at several zooms, chosen where the plane is busy, for a network to judge.

A network is shown tiles of one size, for which a runtime is fastest the second time. A view that
is smaller than a quarter of a tile shares one with others; what is left of a place is filled by
reflection, as at the border of a plane::

    +-------+-------+      a view at zoom 1 has a tile of its own;
    | 1/2   | 1/4 : |      those of a plane of 256 pixels at 1/2, 1/4 and 1/8
    |       | ....: |      lie in one
    +-------+-------+
    | 1/8   |       |
    +-------+-------+
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.normalize import Limits, sample_step
from napari_unet_cells.core.predict import Network
from napari_unet_cells.core.resample import Box, NormalizedPlane, scaled_shape
from napari_unet_cells.core.sampled import HUGE
from napari_unet_cells.errors import OutOfMemory

#: Side of a tile, in pixels that the network sees.
SIDE = 256

#: Longer side of the map of what is busy, in points.
MAP_SIDE = 256

#: If the middle is emptier than this fraction of the busiest part, the view moves there. Not
#: always: the busiest part is often an artefact.
LEAST_BUSY = 0.5

#: Contrast beyond that of this percentage of the points above the mean counts no more: it is often
#: dirt.
USUAL_CONTRAST = 90

#: Views of one zoom lie this part of their width apart, or more.
APART = 0.8


@dataclass(frozen=True)
class View:
    """A part of a plane, and the size at which the network sees it.

    Attributes
    ----------
    part : (slice, slice)
        In pixels of the plane.
    zoom : float
    scaled : (int, int)
        At most `SIDE` high and wide.
    """

    part: Box
    zoom: float
    scaled: tuple[int, int]

    def read(self, plane: ImageArray, limits: Limits) -> NDArray[np.float32]:
        """Read the pixels (y, x, c) that the network sees, in [0, 1]."""
        # Where much is averaged, every other pixel says the same in a quarter of the time.
        step = max(1, int(0.25 / self.zoom))
        rows, columns = (slice(side.start, side.stop, step) for side in self.part)
        pixels = np.asarray(plane[rows, columns])
        whole = (slice(0, self.scaled[0]), slice(0, self.scaled[1]))
        return NormalizedPlane(pixels, limits, self.scaled).read(whole)


@dataclass(frozen=True)
class BusyMap:
    """Local contrast of a plane, point by point.

    Attributes
    ----------
    contrast : float32 array
        Standard deviation around each point.
    step : int
        Pixels of the plane from point to point.
    shape : (int, int)
        Of the plane.
    """

    contrast: NDArray[np.float32]
    step: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, plane: ImageArray, limits: Limits) -> BusyMap:
        """Measure a plane; it is read in steps."""
        shape = (plane.shape[0], plane.shape[1])
        step = max(1, -(-max(shape) // MAP_SIDE))
        if shape[0] * shape[1] > HUGE:  # what was read for the intensities is enough
            once = sample_step(*shape)
            step = -(-step // once) * once
        pixels = np.asarray(plane[::step, ::step])
        points = (pixels.shape[0], pixels.shape[1])
        whole = (slice(0, points[0]), slice(0, points[1]))
        image = NormalizedPlane(pixels, limits, points).read(whole).mean(axis=2)
        mean = ndimage.uniform_filter(image, 9)
        variance = ndimage.uniform_filter(image * image, 9) - mean * mean
        contrast = np.sqrt(np.maximum(variance, 0))
        usual = np.percentile(contrast[contrast >= contrast.mean()], USUAL_CONTRAST)
        return cls(np.minimum(contrast, usual).astype(np.float32), step, shape)

    def views(self, zoom: float, number: int = 1) -> Iterator[View]:
        """Choose views of one zoom: the first in the middle unless it is empty, others far from it.

        Parameters
        ----------
        zoom : float
        number : int
            At most; a plane that is seen whole has one.
        """
        sides = [min(int(SIDE / zoom), size) for size in self.shape]
        points = [max(1, round(side / self.step)) for side in sides]
        busy = ndimage.uniform_filter(self.contrast, points, mode="constant")
        y, x = (n // 2 for n in busy.shape)
        if busy[y, x] < LEAST_BUSY * busy.max():
            y, x = np.unravel_index(busy.argmax(), busy.shape)
        rows, columns = np.ogrid[: busy.shape[0], : busy.shape[1]]
        for _ in range(number):
            part = self._part((int(y), int(x)), sides)
            height, width = (side.stop - side.start for side in part)
            yield View(part, zoom, scaled_shape((height, width), zoom))
            middle = [(side.start + side.stop) / 2 / self.step for side in part]
            near = abs(rows - middle[0]) < APART * points[0]
            busy[near & (abs(columns - middle[1]) < APART * points[1])] = 0
            if sides == list(self.shape) or not busy.any():
                return
            y, x = np.unravel_index(busy.argmax(), busy.shape)

    def _part(self, middle: tuple[int, int], sides: Sequence[int]) -> Box:
        starts = [
            int(min(max(0, (at + 0.5) * self.step - side / 2), size - side))
            for at, side, size in zip(middle, sides, self.shape, strict=True)
        ]
        y, x = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        return y, x


def see(
    plane: ImageArray, limits: Limits, network: Network, views: Iterable[View]
) -> tuple[list[tuple[View, NDArray[np.uint8]]], Network]:
    """Show views to a network.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c)
        Only the views are read.
    limits : Limits
        Of the whole plane.
    network : Network
        With the classes cell and boundary.
    views : iterable of View

    Returns
    -------
    seen : list of (View, uint8 array (2 or 3, y, x))
        Each view with its probabilities, see `core.predict.Output`.
    network : Network
        To go on with: another one after full memory.

    Raises
    ------
    OutOfMemory
        Where there is not enough for a tile, on the CPU either.
    """
    sheets = list(_sheets(list(views)))
    tiles = [_tile(plane, limits, network, sheet) for sheet in sheets]
    outputs, network = _predicted(network, tiles)
    seen = []
    for sheet, output in zip(sheets, outputs, strict=True):
        for view, (top, left), _ in sheet:
            height, width = view.scaled
            values = output[top : top + height, left : left + width, 1:]
            seen.append((view, np.ascontiguousarray(np.moveaxis(values, -1, 0))))
    return seen, network


#: A view, the place of its first pixel in a tile, and the side of the square that it fills.
_Placed = tuple[View, tuple[int, int], int]


def _sheets(views: Sequence[View]) -> Iterator[list[_Placed]]:
    """Put views into tiles: small ones four to a tile."""
    half = SIDE // 2
    small = [view for view in views if max(view.scaled) <= half]
    for view in views:
        if max(view.scaled) > half:
            yield [(view, (0, 0), SIDE)]
    quarters = [(0, 0), (0, half), (half, 0), (half, half)]
    for first in range(0, len(small), 4):
        yield [
            (view, at, half) for view, at in zip(small[first : first + 4], quarters, strict=False)
        ]


def _tile(
    plane: ImageArray, limits: Limits, network: Network, sheet: list[_Placed]
) -> NDArray[np.float32]:
    """Read the views of a tile, and fill it: (1, y, x, c)."""
    tile: NDArray[np.float32] | None = None
    side = -(-SIDE // network.stride) * network.stride
    for view, (top, left), place in sheet:
        pixels = view.read(plane, limits)
        if network.channels == 1 and pixels.shape[2] > 1:
            pixels = pixels.mean(axis=2, keepdims=True)
        if tile is None:
            tile = np.zeros((1, side, side, pixels.shape[2]), np.float32)
        # To the end of the tile, whose side may be longer for the sake of the stride.
        fill = [side - at if at + place == SIDE else place for at in (top, left)]
        pad = [(0, n - m) for n, m in zip(fill, pixels.shape[:2], strict=True)]
        filled = np.pad(pixels, (*pad, (0, 0)), mode="symmetric")
        tile[0, top : top + fill[0], left : left + fill[1]] = filled
    assert tile is not None
    return tile


def _predicted(
    network: Network, tiles: Sequence[NDArray[np.float32]]
) -> tuple[list[NDArray[np.uint8]], Network]:
    """Predict tiles in order; where the device has no memory for one, the CPU goes on."""
    done: list[NDArray[np.uint8]] = []
    while len(done) < len(tiles):
        try:
            for output in network.predict(tiles[len(done) :]):
                done.append(output[0])
        except OutOfMemory:
            network = network.recover(cpu=True)
    return done, network
