"""Segment a part of a plane as a run on all of it would.

::

    plane    +------------------------+    limits and cell size are those of the whole plane, and
             |   +--- window ---+     |    the network sees the same pixels
             |   |  +- part -+  |     |
             |   |  |        |  |     |    window    the part and a margin; it grows where a cell
             |   |  +--------+  |     |              of the part reaches through it
             |   +--------------+     |
             +------------------------+
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import inside
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.parts import Part, PartCells, part_inside
from napari_unet_cells.core.planes import Plane, Planes, check_pixels, limits_of
from napari_unet_cells.core.predict import MemoryFull, Network, Output, TileDone, predict_plane
from napari_unet_cells.core.resample import Box, resize_part, resized_of, scaled_shape
from napari_unet_cells.core.tiling import Span, Tile, TileGrid, window_tiles
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.blocks import Written
from napari_unet_cells.segmentation.cell_diameter import Estimate
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import (
    Progress,
    Separating,
    Settings,
    Started,
    choose_scale,
    describe_run,
)
from napari_unet_cells.segmentation.segment import Opened, check_channels
from napari_unet_cells.segmentation.separation import Separation, Workers
from napari_unet_cells.segmentation.tta import AugmentedNetwork

#: Width of the margin, in diameters of a typical cell; at least so many pixels that the network
#: sees; and by how much it grows.
MARGIN, LEAST_MARGIN, GROWTH = 2.0, 64, 3


@dataclass(frozen=True, eq=False)
class Where:
    """A part of an image, as the user chose it.

    Attributes
    ----------
    name : str
        "visible part" or "drawn shapes".
    polygons : sequence of float arrays, (corners, 2)
        See `core.parts.part_inside`.
    """

    name: str
    polygons: Sequence[NDArray[np.float64]]

    def part(self, shape: tuple[int, int]) -> Part:
        """Give the pixels of a plane that lie in it.

        Raises
        ------
        UserError
            Where there are none.
        """
        part = part_inside(self.polygons, shape)
        if part is None:
            raise UserError(
                "No pixel of the image lies in the part that was chosen. Move the view or the "
                "shapes onto the image."
            )
        return part


@dataclass(frozen=True, eq=False)
class FoundPart:
    """End of a run on a part of a plane.

    Attributes
    ----------
    part : Part
    shape : (int, int)
        Of the plane.
    details : RunDetails
    classes : uint8 array, (y, x)
        Of the box of the part.
    cells : PartCells or None
        None where the model makes classes only.
    uncertainty : uint8 array, (y, x)
        See `Result.uncertainty`; of `window`.
    window : (slice, slice)
        Part of what the network saw of the plane.
    scaled : (int, int)
        Size at which the network saw the plane.
    """

    part: Part
    shape: tuple[int, int]
    details: RunDetails
    classes: NDArray[np.uint8]
    cells: PartCells | None
    uncertainty: NDArray[np.uint8]
    window: Box
    scaled: tuple[int, int]


PartEvent = Opened | Started | Progress | MemoryFull | Separating | FoundPart


def run_part(
    engine: Engine,
    name: str,
    planes: Planes,
    settings: Settings,
    source: dict[str, Any],
    where: Where,
    stop: threading.Event,
    known_diameter: float = 0.0,
) -> Generator[PartEvent, None, None]:
    """Segment a part of one plane with a model in the child process.

    Parameters
    ----------
    engine, name, settings, source, stop
        See `run.run`.
    planes : Planes
        A single one.
    where : Where
    known_diameter : float
        Of the cells of the image, in pixels, where a run has estimated it; 0 where none has.

    Yields
    ------
    Opened, Started, Progress, MemoryFull, Separating
        As a run on all of the image; nothing is shown of it before its end.
    FoundPart
        Last.

    Raises
    ------
    UserError, Cancelled
    """
    card = find_model(name)
    check_channels(planes, card)
    plane = planes.plane(next(planes.indices()))
    part = where.part((plane.shape[0], plane.shape[1]))
    network = engine.open(card, stop)
    yield Opened(network.device)
    with Workers() as workers:
        began = time.perf_counter()
        run = _PartRun(plane, part, card, settings, workers)
        run.begin(planes, network, known_diameter)
        yield Started(np.zeros((0, 0), np.uint8), run.details(source))
        found = yield from run.find()
        seconds = time.perf_counter() - began
        details = run.details(source).ended(run.network.device, seconds)
        yield replace(found, details=details.of_part(where.name, part.box))


class _PartRun:
    """State that the steps of one run share."""

    def __init__(
        self, plane: Plane, part: Part, card: ModelCard, settings: Settings, workers: Workers
    ) -> None:
        self._plane, self._part, self._card = plane, part, card
        self._settings, self._workers = settings, workers
        self._shape = (plane.shape[0], plane.shape[1])
        self._limits: Limits | None = None
        self._estimate, self._zoom = Estimate(), 1.0
        self._options = card.instances
        self._max_tile: int | None = None
        self.network: Network

    def begin(self, planes: Planes, network: Network, known: float) -> None:
        """Find the limits and the scale of the whole plane."""
        if not planes.lazy:
            check_pixels(self._plane)
        self._limits = limits_of(self._plane)
        settings = self._settings
        if settings.diameter is None and known and self._card.typical_diameter <= 0:
            settings = replace(settings, diameter=known)
        self._estimate, self._zoom, self._options = choose_scale(
            planes, network, self._card, settings
        )
        self._augments = settings.test_time_augmentation and self._card.makes_cells
        self.network = AugmentedNetwork(network, self._card.columns) if self._augments else network
        self._scaled = self._shape if self._zoom == 1 else scaled_shape(self._shape, self._zoom)

    def details(self, source: dict[str, Any]) -> RunDetails:
        """Describe the run, as far as it is known."""
        scale = self._estimate, self._zoom, self._options
        known = describe_run(self._card, self._settings, scale)
        return replace(known, limits=self._limits, source=source)

    def find(self) -> Generator[Progress | MemoryFull | Separating, None, FoundPart]:
        """Segment windows that are wider and wider, until one holds the cells of the part."""
        margin = max(LEAST_MARGIN, math.ceil(MARGIN * self._estimate.diameter * self._zoom))
        while True:
            window = self._window(margin)
            found = yield from self._find_in(window)
            cells = found.cells
            if cells is None or not cells.touches(self._shape):
                return found
            margin *= GROWTH

    def _window(self, margin: int) -> Box:
        """Give what the network has to see: multiples of its stride, or the end of the plane."""
        sides = []
        for part, scaled, size in zip(self._part.box, self._scaled, self._shape, strict=True):
            ratio, stride = scaled / size, self.network.stride
            start = max(0, math.floor(part.start * ratio) - margin) // stride * stride
            stop = min(scaled, math.ceil((part.stop * ratio + margin) / stride) * stride)
            sides.append(slice(start, stop))
        return sides[0], sides[1]

    def _find_in(
        self, window: Box
    ) -> Generator[Progress | MemoryFull | Separating, None, FoundPart]:
        size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        classes, uncertainty = np.zeros(self._part.shape, np.uint8), np.zeros(size, np.uint8)
        sink = _Sink(self._card.probabilities, window, size) if self._card.makes_cells else None
        separation = None
        if sink is not None:
            separation = self._separation(size)
            sink.pages = separation.probabilities
        out = Output(
            Written(self._part.box, classes, self._shape),
            sink,
            Written(window, uncertainty, self._scaled),
        )
        for event in self._predict(window, out):
            if isinstance(event, TileDone):
                if separation is not None:
                    separation.arrived(_shifted(event.tile, window))
            else:
                yield event
        cells = None
        if separation is not None and sink is not None:
            yield Separating()
            cells = self._cells(window, separation, sink)
        details = self.details({})
        return FoundPart(
            self._part, self._shape, details, classes, cells, uncertainty, window, self._scaled
        )

    def _separation(self, size: tuple[int, int]) -> Separation:
        grid, k = TileGrid(size, ()), self._card.probabilities
        return Separation(grid, size, k, self._options, 1.0, self._workers)

    def _predict(self, window: Box, out: Output) -> Iterator[TileDone | Progress | MemoryFull]:
        if self._limits is None:  # an empty plane has no cells
            return
        network = self.network
        max_tile = self._max_tile or network.max_tile
        grid = window_tiles(self._scaled, window, network.stride, network.halo, max_tile)
        beside, total = grid.done, grid.total - grid.done
        for event in predict_plane(
            self._plane, network, self._limits, out, self._scaled, grid=grid
        ):
            if isinstance(event, MemoryFull):
                self.network, self._max_tile = event.network, event.tile
            yield event
            if isinstance(event, TileDone):
                yield Progress(event.pixels_done - beside, total)

    def _cells(self, window: Box, separation: Separation, sink: _Sink) -> PartCells:
        """Give the cells of a window at the size of the plane."""
        labels = separation.finish().cells
        y, x = (
            resized_of(own, scaled, size)
            for own, scaled, size in zip(window, self._scaled, self._shape, strict=True)
        )
        seen = y, x
        if self._scaled == self._shape:
            return PartCells(self._part, window, labels)
        certain = inside(sink.probabilities, self._options)
        resized = resize_part(labels, window, seen, self._scaled, self._shape, certain)
        return PartCells(self._part, seen, resized)


class _Sink:
    """Takes the probabilities of a window by the coordinates of the plane.

    Parameters
    ----------
    k : int
        Number of probabilities, and distances.
    window : (slice, slice)
    size : (int, int)
        Of the window.

    Attributes
    ----------
    probabilities : uint8 array, (k, y, x)
        Of the window.
    pages : RowPages
        They are handed on to it, by the coordinates of the window.
    """

    def __init__(self, k: int, window: Box, size: tuple[int, int]) -> None:
        self.probabilities = np.zeros((k, *size), np.uint8)
        self.pages: Any = None
        self._window = window

    def __setitem__(self, key: tuple[slice, ...], values: NDArray[np.uint8]) -> None:
        y, x = (
            slice(own.start - whole.start, own.stop - whole.start)
            for own, whole in zip(key[1:], self._window, strict=True)
        )
        self.probabilities[:, y, x] = values
        self.pages[key[0], y, x] = values


def _shifted(tile: Tile, window: Box) -> Tile:
    """Give the place of what a tile writes in a window."""
    y, x = (
        Span(0, 0, span.write_start - whole.start, span.write_stop - whole.start)
        for span, whole in zip((tile.y, tile.x), window, strict=True)
    )
    return Tile(y, x, tile.is_preview)
