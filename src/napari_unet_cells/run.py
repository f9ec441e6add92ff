"""One press of the Segment button as a generator, and the words that go with it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_unet_cells.engine import Engine
from napari_unet_cells.layers import digest
from napari_unet_cells.nets import find_model
from napari_unet_cells.predict import Output, TileDone
from napari_unet_cells.segmentation import (
    Result,
    Separating,
    check_plane,
    make_provenance,
    segment_plane,
)


@dataclass(frozen=True)
class Opened:
    """The network is ready; `device` is for the user."""

    device: str


@dataclass(frozen=True)
class Started:
    """The tiles will be written into `out`, which the GUI may show.

    Attributes
    ----------
    out : Output
    provenance : dict
        As known so far, with ``"complete": False``: the run may be cancelled.
    """

    out: Output
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """The run is over.

    Attributes
    ----------
    result : Result
    cells_digest : int
        Checksum of the cells as the run made them, 0 where it made none.
    """

    result: Result
    cells_digest: int


def open_model(engine: Engine, name: str, stop: threading.Event) -> Generator[Opened, None, None]:
    """Have the model warmed up."""
    yield Opened(engine.open(find_model(name), stop).device)


def run(
    engine: Engine, name: str, image: Any, source: dict[str, Any], stop: threading.Event
) -> Generator[Opened | Started | TileDone | Separating | Finished, None, None]:
    """Segment an image with a model in the child process.

    Parameters
    ----------
    engine : Engine
    name : str
        Of the model.
    image : array, (y, x) or (y, x, 3 or 4)
        May be lazy.
    source : dict
        For the provenance.
    stop : threading.Event
        Set it to cancel.

    Raises
    ------
    UserError, Cancelled
    """
    plane = check_plane(image)
    card = find_model(name)
    network = engine.open(card, stop)
    yield Opened(network.device)
    out = Output.empty((plane.shape[0], plane.shape[1]), card.makes_cells)
    yield Started(out, make_provenance(card, None, source) | {"complete": False})
    for event in segment_plane(plane, network, card, out, source):
        if isinstance(event, Result):
            cells = event.cells
            yield Finished(event, 0 if cells is None else digest(np.asarray(cells)))
        else:
            yield event


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


def describe_result(result: Result) -> str:
    """Say what a run made, such as "214 cells in 1.9 s on CPU, 2 threads"."""
    seconds, device = result.provenance["seconds"], result.provenance["device"]
    if result.cells is None:
        made = f"{len(result.provenance['classes'])} classes"
    else:
        made = "1 cell" if result.n_cells == 1 else f"{result.n_cells} cells"
    sentence = f"{made} in {_duration(seconds, digits=1)} on {device}"
    if result.cells is not None and result.n_cells == 0:
        return f"{sentence}. Is the right channel chosen, and are cells visible in it?"
    if result.cells is not None and result.cells.dtype == np.uint32:
        return f"{sentence}. So many ids need 32 bits, which napari redraws more slowly."
    return sentence


def _duration(seconds: float, digits: int = 0) -> str:
    if seconds < 60:
        return f"{max(seconds, 10**-digits):.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
