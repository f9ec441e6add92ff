"""The steps of a run on planes: intensity limits, scale, network, cells."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.planes import (
    Planes,
    check_pixels,
    limits_of,
    typical_plane,
    usual_contrast,
)
from napari_unet_cells.core.predict import (
    MemoryFull,
    Network,
    Output,
    TileDone,
    predict_plane,
    tiles_for,
)
from napari_unet_cells.core.resample import scaled_shape
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import MAX_DIAMETER, ModelCard
from napari_unet_cells.segmentation.cell_diameter import (
    Estimate,
    as_tuned,
    estimate_diameter,
    zoom_for,
)
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.kept_fragments import KeptFragments, PackedFragments
from napari_unet_cells.segmentation.result import CellStack, Result
from napari_unet_cells.segmentation.separation import KEPT_OPEN, Separation, Workers
from napari_unet_cells.segmentation.tta import AugmentedNetwork


@dataclass(frozen=True)
class Settings:
    """Options of a run that the user may choose.

    Attributes
    ----------
    diameter : float or None
        Typical cell diameter in pixels; None estimates it.
    likely_diameter : float
        That of a similar image, in pixels, which an estimate begins with; 0 where there is none.
    link : int or None
        Axis of the labels along which cells are linked: they keep their id from plane to plane.
        None numbers every plane on its own.
    min_size : int or None
        Area below which a cell is dropped, in pixels of the image.
    split, min_probability : float or None
    fill_holes, drop_border : bool or None
        See `InstanceOptions`; None takes the model's own.
    test_time_augmentation : bool
        Average the predictions of a network of cells over four mirrored copies of every tile: up
        to four times slower (see `segmentation.tta`). Other networks stay as they are.
    """

    diameter: float | None = None
    likely_diameter: float = 0.0
    link: int | None = None
    min_size: int | None = None
    split: float | None = None
    min_probability: float | None = None
    fill_holes: bool | None = None
    drop_border: bool | None = None
    test_time_augmentation: bool = False

    def __post_init__(self) -> None:
        """Refuse what no cell can have; the other ranges are those of `InstanceOptions`."""
        if self.diameter is not None and not 0 < self.diameter <= MAX_DIAMETER:
            raise UserError(
                f"The diameter of a cell must be above 0 and at most {MAX_DIAMETER} pixels, not "
                f"{self.diameter:g}."
            )
        if self.min_size is not None and not 0 <= self.min_size <= MAX_DIAMETER**2:
            raise UserError(
                f"The minimum size must be between 0 and {MAX_DIAMETER**2} pixels, not "
                f"{self.min_size}."
            )

    def instances(self, card: ModelCard, zoom: float) -> InstanceOptions:
        """Options of the instance separation for a model, in pixels that its network sees."""
        chosen = {
            "min_size": None if self.min_size is None else round(self.min_size * zoom**2),
            "split": self.split,
            "min_probability": self.min_probability,
            "fill_holes": self.fill_holes,
            "drop_border": self.drop_border,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        return replace(card.instances, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Started:
    """The tiles will be written into `classes`, which may be shown.

    Attributes
    ----------
    classes : uint8 array, (..., y, x)
    details : RunDetails
        As known so far; the run may be cancelled.
    """

    classes: NDArray[np.uint8]
    details: RunDetails


@dataclass(frozen=True)
class Progress:
    """A tile was written; `done` of `total` pixels that the network sees."""

    done: int
    total: int


@dataclass(frozen=True)
class Separating:
    """All tiles are done; the cells are being separated."""


Event = Started | Progress | MemoryFull | Separating | Result


def segment_planes(
    planes: Planes,
    network: Network,
    card: ModelCard,
    settings: Settings | None = None,
    source: Mapping[str, Any] | None = None,
    uncertainty: bool = False,
) -> Iterator[Event]:
    """Segment planes step by step.

    Parameters
    ----------
    planes : Planes
    network : Network
        Of `card`.
    card : ModelCard
    settings : Settings, optional
    source : mapping, optional
        What is known of where the image came from, for the provenance.
    uncertainty : bool
        Keep `Result.uncertainty`.

    Yields
    ------
    Started
        First.
    Progress
        For each tile.
    MemoryFull
        Where the run goes on with smaller tiles, or on the CPU.
    Separating
        Once, where the model separates cells.
    Result
        Last.

    Raises
    ------
    UserError
        Where the image is constant or holds infinite values.
    """
    started = time.perf_counter()
    run = _Run(planes, network, card, settings or Settings(), dict(source or {}), uncertainty)
    with run.workers:
        yield from run.predict()
        if card.makes_cells:
            yield Separating()
        yield run.result(started)


def choose_scale(
    planes: Planes, network: Network, card: ModelCard, settings: Settings
) -> tuple[Estimate, float, InstanceOptions]:
    """Find the size of the cells, and what follows from it.

    Returns
    -------
    estimate : Estimate
        As the user or the card states it, or of a typical plane.
    zoom : float
        At which the network shall see the planes.
    options : InstanceOptions
        In pixels that it sees.
    """
    window, estimate = card.diameter_window, Estimate()
    if settings.diameter is not None:
        estimate = Estimate(settings.diameter)
    elif card.typical_diameter > 0:
        estimate = Estimate(card.typical_diameter)
    elif card.makes_cells and window[1] > 0:
        plane = typical_plane(planes)
        limits = limits_of(plane)
        if limits is not None:
            likely = settings.likely_diameter or card.tuned_diameter
            estimate = estimate_diameter(plane, network, limits, card.instances, window, likely)
            estimate = as_tuned(estimate, card.tuned_diameter)
    zoom = zoom_for(estimate.diameter, window)
    return estimate, zoom, settings.instances(card, zoom)


def describe_run(
    card: ModelCard, settings: Settings, scale: tuple[Estimate, float, InstanceOptions]
) -> RunDetails:
    """Describe a run as far as model, settings and `choose_scale` tell."""
    estimate, zoom, options = scale
    return RunDetails(
        card=card,
        options=options if card.makes_cells else None,
        diameter=estimate.diameter,
        diameter_given=settings.diameter is not None,
        diameter_unsure=estimate.unsure,
        other_diameter=estimate.other,
        confirmed_diameter=estimate.confirmed,
        zoom=zoom,
        test_time_augmentation=settings.test_time_augmentation and card.makes_cells,
    )


class _Run:
    """State that the steps of one run share."""

    def __init__(
        self,
        planes: Planes,
        network: Network,
        card: ModelCard,
        settings: Settings,
        source: dict[str, Any],
        uncertainty: bool,
    ) -> None:
        self._planes, self._network, self._card = planes, network, card
        self._settings, self._source = settings, source
        self._keeps_uncertainty = uncertainty
        self._uncertainty: NDArray[np.uint8] | None = None
        self._options = card.instances
        if len(planes) == 1 and not planes.lazy:
            check_pixels(planes.plane(next(planes.indices())))
        self._is_large = math.prod(planes.shape) > KEPT_OPEN
        self._augments = settings.test_time_augmentation and card.makes_cells
        self._usual = usual_contrast(planes)
        self._classes = np.zeros(planes.shape, np.uint8)
        self._limits: Limits | None = None
        self._max_tile: int | None = None
        self._estimate, self._zoom = Estimate(), 1.0
        self.workers = Workers()
        self._separating: tuple[tuple[int, ...], Separation] | None = None
        self._cells = CellStack(planes.shape)
        self._fragments: list[PackedFragments] = []

    def predict(self) -> Iterator[Event]:
        self._choose_scale()
        if self._augments:
            self._network = AugmentedNetwork(self._network, self._card.columns)
        shape = (self._planes.shape[-2], self._planes.shape[-1])
        self._scaled = shape if self._zoom == 1 else scaled_shape(shape, self._zoom)
        yield Started(self._classes, self._details())
        if self._keeps_uncertainty:
            self._uncertainty = np.zeros((*self._planes.shape[:-2], *self._scaled), np.uint8)
        pixels = self._scaled[0] * self._scaled[1]
        for number, index in enumerate(self._planes.indices()):
            uncertainty = None if self._uncertainty is None else self._uncertainty[index]
            out = Output(self._classes[index], None, uncertainty)
            for event in self._predict_plane(index, out, shape):
                if isinstance(event, TileDone):
                    done = number * pixels + event.pixels_done
                    yield Progress(done, len(self._planes) * pixels)
                else:
                    self._network, self._max_tile = event.network, event.tile
                    yield event

    def _choose_scale(self) -> None:
        self._estimate, self._zoom, self._options = choose_scale(
            self._planes, self._network, self._card, self._settings
        )

    def _predict_plane(
        self, index: tuple[int, ...], out: Output, shape: tuple[int, int]
    ) -> Iterator[TileDone | MemoryFull]:
        plane = self._planes.plane(index)
        grid = tiles_for(self._scaled, self._network, self._max_tile)
        separation = None
        if self._card.makes_cells:
            self._finish()  # of the plane before, whose blocks were separated meanwhile
            k = self._card.probabilities
            separation = Separation(
                grid, shape, k, self._options, self._zoom, self.workers, self._is_large
            )
            out = replace(out, probabilities=separation.probabilities)
            self._separating = index, separation
        limits = limits_of(plane, self._usual)
        if limits is None:  # an empty plane of a stack has no cells
            return
        self._limits = limits if len(self._planes) == 1 else None
        for event in predict_plane(plane, self._network, limits, out, self._scaled, grid=grid):
            if separation is not None and isinstance(event, TileDone):
                separation.arrived(event.tile)
            yield event

    def _finish(self) -> None:
        if self._separating is not None:
            index, separation = self._separating
            found = separation.finish(self._cells.room(index))
            self._cells.put(index, found.cells, found.n)
            self._fragments.append(found.fragments)
            self._separating = None

    def result(self, started: float) -> Result:
        self._finish()
        cells, n, fragments = None, 0, KeptFragments()
        if self._card.makes_cells:
            cells, n = self._cells.linked(self._settings.link)
            fragments = KeptFragments(self._fragments)
        seconds = time.perf_counter() - started
        details = self._details().ended(self._network.device, seconds)
        return Result(cells, self._classes, details, n, fragments, self._uncertainty)

    def _details(self) -> RunDetails:
        scale = self._estimate, self._zoom, self._options
        return replace(
            describe_run(self._card, self._settings, scale),
            limits=self._limits,
            is_stack=len(self._planes) > 1,
            link=self._settings.link,
            source=self._source,
        )
