"""Segment one large image into an OME-Zarr in a process of its own, beside a window.

::

    window ── thread ──> follow(asked) == frames == large_image_child ── blocks ──> OME-Zarr
                 │                                          ^
                 └── which part is looked at, and stop ─────┘
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Generator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.engine.followed import end, frames_of
from napari_unet_cells.engine.frames import write_frame
from napari_unet_cells.engine.process import start_python
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.segmentation.block_order import Looked
from napari_unet_cells.segmentation.zarr_request import ZarrRequest

_POLL_SECONDS = 0.05

#: Pixels a side of a sample.
SIDE = 12

_DIED = (
    "The process that segments the image {how}, perhaps because the memory was full. What is done "
    "is kept. Press Segment to go on; if it happens again, close other programs first."
)

#: One image at a time: a run that was stopped ends first, as it may still write.
_alone = threading.Lock()


@dataclass(frozen=True)
class Sample:
    """Some pixels of a layer.

    Attributes
    ----------
    plane : int
        Counted through all planes.
    start : (int, int)
        Row and column of the first pixel.
    values : tuple of tuple of float
        Rows of pixels; None for what is no number.
    """

    plane: int
    start: tuple[int, int]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, planes: Planes, number: int, start: tuple[int, int]) -> Sample:
        """Take some pixels of a plane."""
        index = next(islice(planes.indices(), number, None))
        (y, x), plane = start, planes.plane(index)
        pixels = plane[y : y + SIDE, x : x + SIDE].astype(np.float64)
        values = np.where(np.isfinite(pixels), pixels, 0.0)
        return cls(number, (int(y), int(x)), _tuples(values.tolist()))


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list | tuple) else values


@dataclass(frozen=True)
class Asked:
    """An image to segment, and how.

    Attributes
    ----------
    image, folder : Path
        The result is made in the folder, see `segmentation.zarr_place`.
    model : str
    request : ZarrRequest
    shape : (int, int)
        Of a plane of the layer: the file has to hold these pixels.
    samples : tuple of Sample
        Some of the pixels of the layer.
    """

    image: Path
    folder: Path
    model: str
    request: ZarrRequest
    shape: tuple[int, int]
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class LookedAt:
    """Part of the image that was looked at as a whole, before anything is segmented, 0 to 1."""

    fraction: float


@dataclass(frozen=True)
class Begun:
    """The result grows in `folder` from now on; `done` of `total` blocks are there already.

    Attributes
    ----------
    folder, output : Path
        Where it grows, and the name that it gets.
    done, total : int
    note : str
        Where the run goes on, or begins anew; empty for a first one.
    diameter : float
        Of a cell, in pixels; 0 where it is not known.
    fraction : float
        Of the whole run that is done, 0 to 1.
    """

    folder: Path
    output: Path
    done: int
    total: int
    note: str
    diameter: float
    fraction: float


@dataclass(frozen=True)
class BlockDone:
    """A block was segmented, or its cells were written.

    Attributes
    ----------
    fraction : float
        Of the whole run, 0 to 1.
    box : ((int, int), (int, int))
        Rows and columns of the block: the first, and the one after the last.
    """

    fraction: float
    box: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class CellsBegun:
    """All blocks are segmented; their cells come into the result."""

    folder: Path


@dataclass(frozen=True)
class MemoryShort:
    """The run goes on with smaller tiles, or on the CPU; a sentence says so."""

    text: str


@dataclass(frozen=True)
class Made:
    """The OME-Zarr is there.

    Attributes
    ----------
    output : Path
    n_cells : int or None
        None where the model makes classes only, or it is not known.
    seconds : float
        0 where it was there before.
    device : str
    problems : tuple of str
    """

    output: Path
    n_cells: int | None
    seconds: float = 0.0
    device: str = ""
    problems: tuple[str, ...] = ()


Event = LookedAt | Begun | BlockDone | CellsBegun | MemoryShort | Made


def follow(asked: Asked, looked: Looked, stop: threading.Event) -> Generator[Event, None, None]:
    """Have an image segmented.

    Parameters
    ----------
    asked : Asked
    looked : callable
        Place that is looked at, in pixels of the labels; what is near comes first.
    stop : threading.Event
        Set it to stop; what is done is kept for the next run.

    Yields
    ------
    LookedAt, Begun, BlockDone, CellsBegun, MemoryShort, Made
        Made alone where the result was there already.

    Raises
    ------
    UserError
        Where it cannot begin or go on, also because the process ended.
    """
    while not _alone.acquire(timeout=_POLL_SECONDS):
        if stop.is_set():
            return
    try:
        process = start_python(
            "napari_unet_cells.batch.large_image_child", [], "segments the image"
        )
        try:
            _say(process, {"asked": described(asked)})
            yield from _events(process, looked, stop)
        finally:
            end(process)
    finally:
        _alone.release()


def described(asked: Asked) -> dict[str, Any]:
    """Describe what is asked for, as JSON holds it."""
    values: dict[str, Any] = jsonable(
        {
            "image": str(asked.image.absolute()),
            "folder": str(asked.folder.absolute()),
            "model": asked.model,
            "request": asdict(asked.request),
            "shape": asked.shape,
            "samples": [asdict(sample) for sample in asked.samples],
        }
    )
    return values


def _events(
    process: subprocess.Popen[bytes], looked: Looked, stop: threading.Event
) -> Generator[Event, None, None]:
    last = None
    for frame in frames_of(process, stop, _DIED):
        place = looked()
        if place is not None and place != last:
            last = place
            _say(process, {"looked": list(place)})
        if frame is not None:
            yield event_of(frame)


def _say(process: subprocess.Popen[bytes], frame: dict[str, Any]) -> None:
    try:
        write_frame(process.stdin, frame)
    except OSError:  # it has ended, and that is heard
        return


def event_of(frame: dict[str, Any]) -> Event:
    """Turn a description of `large_image_child.events_of` into an event."""
    values = {key: value for key, value in frame.items() if key != "event"}
    kind = frame["event"]
    if kind == "looking":
        return LookedAt(**values)
    if kind == "begun":
        values |= {name: Path(values[name]) for name in ("folder", "output")}
        return Begun(**values)
    if kind == "block":
        rows, columns = (tuple(side) for side in values["box"])
        return BlockDone(values["fraction"], (rows, columns))
    if kind == "cells":
        return CellsBegun(Path(values["folder"]))
    if kind == "made":
        values |= {"output": Path(values["output"]), "problems": tuple(values["problems"])}
        return Made(**values)
    return MemoryShort(values["text"])
