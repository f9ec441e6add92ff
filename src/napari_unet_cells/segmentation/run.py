"""One press of the Segment button as a generator, and the words that go with it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.metrics import THRESHOLDS, compare
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.core.regions import Review
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.pipeline import Event, Settings, check_channels, segment_planes
from napari_unet_cells.segmentation.result import Adjustable, Result, cells_of


@dataclass(frozen=True)
class Opened:
    """The network is ready; `device` is for the user."""

    device: str


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


@dataclass(frozen=True)
class Adjusted:
    """The cells of a run were separated anew.

    Attributes
    ----------
    cells : uint16 or uint32 array, (..., y, x)
    n_cells : int
    cells_digest : int
        Checksum of `cells`.
    options : InstanceOptions
        They were made with.
    corrected : bool
        Whether the cells shown so far were changed by hand, and must be kept.
    review : Review
        Of `cells`, without the uncertainty, which stays what it was.
    """

    cells: NDArray[Any]
    n_cells: int
    cells_digest: int
    options: InstanceOptions
    corrected: bool
    review: Review


def open_model(engine: Engine, name: str, stop: threading.Event) -> Generator[Opened, None, None]:
    """Have the model warmed up."""
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
    card = find_model(name)
    check_channels(planes, card)
    network = engine.open(card, stop)
    yield Opened(network.device)
    for event in segment_planes(planes, network, card, settings, source, uncertainty=True):
        yield _finished(event, len(planes.fixed)) if isinstance(event, Result) else event


def _finished(result: Result, n_fixed: int) -> Finished:
    cells = result.cells
    labels = result.classes if cells is None else cells
    placed = labels.reshape((1,) * n_fixed + labels.shape)
    review = Review(placed, result.uncertainty)
    if cells is None:
        return Finished(result, 0, 0.0, review)
    return Finished(result, digest(cells), _median_area(cells), review)


def adjust(
    adjustable: tuple[Adjustable, ...],
    options: InstanceOptions,
    link: int | None,
    shown: NDArray[Any],
    shown_digest: int,
) -> Adjusted:
    """Separate the cells of a run anew.

    Parameters
    ----------
    adjustable : tuple of Adjustable
        Of the run's result.
    options : InstanceOptions
    link : int, optional
        See `pipeline.Settings`.
    shown : integer array, (..., y, x)
        The cells that are shown now.
    shown_digest : int
        Checksum of them as they were made.
    """
    corrected = digest(shown) != shown_digest
    leading = tuple(n for n in shown.shape[:-2] if len(adjustable) > 1)
    shape = leading + adjustable[0].base.shape
    cells, n = cells_of(adjustable, options, shape, link)
    cells = cells.reshape(shown.shape)
    return Adjusted(cells, n, digest(cells), options, corrected, Review(cells))


def _median_area(cells: NDArray[Any]) -> float:
    plane = cells.reshape(-1, *cells.shape[-2:])[0]  # the sliders need no more than a guess
    areas = np.bincount(plane.ravel())[1:]
    return float(np.median(areas[areas > 0])) if areas.any() else 0.0


def describe_progress(done: int, total: int, seconds: float) -> str:
    """Say how much is done and how long the rest takes, such as "37 % - 4 s left".

    Parameters
    ----------
    done, total : int
        Pixels.
    seconds : float
        Since the first tile was sent.
    """
    percent = f"{100 * done // total} %"
    if not 0 < done < total:
        return percent
    left = seconds * (total - done) / done
    return f"{percent} - {_duration(left)} left"


def describe_memory(event: MemoryFull) -> str:
    """Say how a run goes on after the memory was full."""
    return (
        f"The memory was full; the run went on in tiles of {event.tile} pixels on "
        f"{event.network.device}."
    )


def describe_result(result: Result) -> str:
    """Say what a run made, such as "214 cells in 1.9 s on CPU, 2 threads"."""
    planes = "" if result.classes.ndim == 2 else f", {len(_flat(result.classes))} planes,"
    made = f"{_made(result)}{planes} in {_duration(result.seconds, digits=1)} on {result.device}"
    if result.cells is not None and result.n_cells == 0:
        return f"{made}. Is the right channel chosen, and are cells visible in it?"
    if result.cells is not None and result.cells.dtype == np.uint32:
        return f"{made}. So many ids need 32 bits, which napari redraws more slowly."
    return made


def describe_change(before: NDArray[Any], after: NDArray[Any]) -> str:
    """Say how many cells differ between two runs on one image.

    Parameters
    ----------
    before, after : integer arrays, (..., y, x)
        A cell that has a counterpart of IoU 0.9 or more counts as the same.
    """
    planes = zip(_flat(before), _flat(after), strict=True)
    scores = [compare(old, new) for old, new in planes]
    same = sum(score.tp[THRESHOLDS.index(0.9)] for score in scores)
    old, new = (sum(getattr(s, name) for s in scores) for name in ("n_true", "n_predicted"))
    return (
        f"{describe_count(new)}, {old} before: {new - same} are new or changed, {old - same} of "
        "before are gone or changed."
    )


def _made(result: Result) -> str:
    if result.cells is None:
        return f"{len(result.details.card.classes)} classes"
    return describe_count(result.n_cells)


def describe_count(n: int) -> str:
    """Say a number of cells."""
    return "1 cell" if n == 1 else f"{n} cells"


def _flat(classes: NDArray[Any]) -> NDArray[Any]:
    return classes.reshape(-1, *classes.shape[-2:])


def _duration(seconds: float, digits: int = 0) -> str:
    if seconds < 60:
        return f"{max(seconds, 10**-digits):.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
