"""Do a batch in a process of its own, beside a window, and follow it.

::

    window ── thread ──> follow(folder) == frames == background_child ── files ──> folder
                 │                                        ^
                 └── stop: the input of the process ends ─┘

The network never runs in the process of a window (docs/architecture.md, 0).
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.batch.background_child import REPORT
from napari_unet_cells.engine.followed import end, frames_of
from napari_unet_cells.engine.process import start_python

_POLL_SECONDS = 0.05

#: Images done before that are told at once, and the seconds that the first of them may wait: a
#: window takes one event at a time, so that it can paint.
_TOGETHER, _HELD_SECONDS = 200, 0.2

_DIED = (
    "The process that segments the images {how}, perhaps because the memory was full. What is done "
    "is kept. Press Go on; if it happens again, close other programs first."
)

#: One batch at a time: one that was stopped ends first, as it may still write.
_alone = threading.Lock()


@dataclass(frozen=True)
class Listed:
    """Images of the batch, in order; those after the first of several tell the rest.

    Attributes
    ----------
    rows : tuple of (str, str, str)
        Name, path, and why it cannot be segmented.
    first : bool
        Whether these are the first ones.
    """

    rows: tuple[tuple[str, str, str], ...]
    first: bool = True


@dataclass(frozen=True)
class Began:
    """An image is being segmented; `fraction` of it, 0 to 1, is done."""

    name: str
    fraction: float


@dataclass(frozen=True)
class Done:
    """An image is done, or failed.

    Attributes
    ----------
    name : str
    problem : str
        A sentence, empty where all went well.
    summary : str
        Such as "214 cells in 1.9 s".
    cells : int or None
        None where the model makes classes only.
    before : bool
        It was done by an earlier run.
    why : str
        Why it began anew; empty where it did not.
    kept : str
        See `finished.Earlier`.
    """

    name: str
    problem: str = ""
    summary: str = ""
    cells: int | None = None
    before: bool = False
    why: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Said:
    """A sentence about the batch as a whole; `missing` where a name stands for no image."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class DoneBefore:
    """Images that earlier runs had done: many at once, as there may be thousands."""

    images: tuple[Done, ...]


Event = Listed | Began | Done | DoneBefore | Said


def follow(
    output: Path, stop: threading.Event, report_only: bool = False
) -> Generator[Event, None, None]:
    """Have the batch done whose list lies in a folder of results.

    Parameters
    ----------
    output : Path
    stop : threading.Event
        Set it to stop; what is done stays done.
    report_only : bool
        Segment nothing; write the table of all cells and the report anew.

    Yields
    ------
    Listed, Began, Done, DoneBefore, Said

    Raises
    ------
    UserError
        Where it cannot begin or go on, also because the process ended.
    """
    while not _alone.acquire(timeout=_POLL_SECONDS):
        if stop.is_set():
            return
    try:
        process = _start(output, report_only)
        try:
            yield from gathered(_events(process, stop))
        finally:
            end(process)
    finally:
        _alone.release()


def gathered(events: Iterable[Event | None]) -> Generator[Event, None, None]:
    """Give images that were done before together; None stands for a moment without an event."""
    held: list[Done] = []
    until = 0.0
    for event in events:
        if isinstance(event, Done) and event.before:
            until = until if held else time.monotonic() + _HELD_SECONDS
            held.append(event)
            if len(held) < _TOGETHER and time.monotonic() < until:
                continue
            event = None
        if held:
            yield DoneBefore(tuple(held))
            held = []
        if event is not None:
            yield event
    if held:
        yield DoneBefore(tuple(held))


def _events(process: subprocess.Popen[bytes], stop: threading.Event) -> Generator[Event | None]:
    for frame in frames_of(process, stop, _DIED):
        yield None if frame is None else event_of(frame)


def event_of(frame: dict[str, Any]) -> Event:
    """Turn a description of `background_child.events_of` into an event."""
    values = {key: value for key, value in frame.items() if key != "event"}
    kind = frame["event"]
    if kind == "units":
        return Listed(
            tuple((name, path, why) for name, path, why in values["units"]), frame["first"]
        )
    if kind == "pixels":
        return Began(**values)
    if kind == "done":
        return Done(**values)
    return Said(values["text"], missing=kind == "missing")


def _start(output: Path, report_only: bool) -> subprocess.Popen[bytes]:
    module = "napari_unet_cells.batch.background_child"
    more = [str(output.absolute()), *[REPORT] * report_only]
    return start_python(module, more, "segments the images")
