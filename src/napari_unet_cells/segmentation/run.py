"""Generators behind the Segment button: warm up and run."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.regions import Review
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.pipeline import Event, Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Opened, Segmenter


@dataclass(frozen=True)
class Finished:
    """The run is over.

    Attributes
    ----------
    result : Result
    cells_digest : int
        Checksum of the cells as the run made them, 0 where it made none.
    median_area : float
        Of the cells, in pixels; 0 without cells.
    review : Review
        Of the cells, or of the classes where it made no cells. A plane that was chosen from
        a stack has the stack's other axes, with a length of 1.
    """

    result: Result
    cells_digest: int
    median_area: float
    review: Review


def open_model(engine: Engine, name: str, stop: threading.Event) -> Generator[Opened, None, None]:
    """Load a model in the child process, so that the first run does not wait for it."""
    yield Opened(engine.open(find_model(name), stop).device)


def run(
    engine: Engine,
    name: str,
    planes: Planes,
    settings: Settings,
    source: dict[str, Any],
    stop: threading.Event,
) -> Generator[Opened | Event | Finished, None, None]:
    """Segment planes with a model in the child process.

    Parameters
    ----------
    engine : Engine
    name : str
        Of the model.
    planes : Planes
        May be lazy.
    settings : Settings
    source : dict
        For the provenance.
    stop : threading.Event
        Set it to cancel.

    Raises
    ------
    UserError, Cancelled
    """
    segmenter = Segmenter(find_model(name), lambda card: engine.open(card, stop))
    for event in segmenter.events(planes, settings, source, uncertainty=True):
        yield finished(event, len(planes.fixed)) if isinstance(event, Result) else event


def finished(result: Result, n_fixed: int) -> Finished:
    """Make the last event of a run of its result.

    Parameters
    ----------
    result : Result
    n_fixed : int
        Axes of the stack that its plane was chosen from.
    """
    cells = result.cells
    labels = result.classes if cells is None else cells
    placed = labels.reshape((1,) * n_fixed + labels.shape)
    review = Review(placed, result.uncertainty)
    if cells is None:
        return Finished(result, 0, 0.0, review)
    return Finished(result, digest(cells), _median_area(cells), review)


def _median_area(cells: NDArray[Any]) -> float:
    plane = cells.reshape(-1, *cells.shape[-2:])[0]  # a guess is enough for the range of a slider
    areas = np.bincount(plane.ravel())[1:]
    return float(np.median(areas[areas > 0])) if areas.any() else 0.0
