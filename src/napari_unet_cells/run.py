"""One press of the Segment button as a generator, and the words that go with it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.engine import Engine
from napari_unet_cells.instances import InstanceOptions
from napari_unet_cells.layers import digest
from napari_unet_cells.nets import find_model
from napari_unet_cells.planes import Planes
from napari_unet_cells.predict import MemoryFull
from napari_unet_cells.result import Adjustable, Result, cells_of
from napari_unet_cells.segmentation import Event, Settings, check_channels, segment_planes


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
    """

    result: Result
    cells_digest: int
    median_area: float


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
    """

    cells: NDArray[Any]
    n_cells: int
    cells_digest: int
    options: InstanceOptions
    corrected: bool


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
    for event in segment_planes(planes, network, card, settings, source):
        if isinstance(event, Result):
            cells = event.cells
            checksum = 0 if cells is None else digest(cells)
            yield Finished(event, checksum, 0.0 if cells is None else _median_area(cells))
        else:
            yield event


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
        See `segmentation.Settings`.
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
    return Adjusted(cells, n, digest(cells), options, corrected)


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
    seconds, device = result.provenance["seconds"], result.provenance["device"]
    planes = "" if result.classes.ndim == 2 else f", {len(_flat(result.classes))} planes,"
    made = f"{_made(result)}{planes} in {_duration(seconds, digits=1)} on {device}"
    if result.cells is not None and result.n_cells == 0:
        return f"{made}. Is the right channel chosen, and are cells visible in it?"
    if result.cells is not None and result.cells.dtype == np.uint32:
        return f"{made}. So many ids need 32 bits, which napari redraws more slowly."
    return made


def _made(result: Result) -> str:
    if result.cells is None:
        return f"{len(result.provenance['classes'])} classes"
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
