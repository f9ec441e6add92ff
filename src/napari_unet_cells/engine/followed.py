"""Two sides of a process that does long work beside a window, and says how it goes on.

::

    window ── thread ──> frames_of(process) == frames == serve ── does the work
                 │                                        ^
                 └── stop: the input of the process ends ─┘
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO

from napari_unet_cells.engine.frames import HELLO, read_frame, skip_to_hello, write_frame
from napari_unet_cells.errors import UserError

#: Seconds that the end may take: a tile of the network, and a report.
PATIENCE = 20.0

_POLL_SECONDS = 0.05

# --- the side of the window


def frames_of(
    process: subprocess.Popen[bytes], stop: threading.Event, died: str
) -> Generator[dict[str, Any] | None, None, None]:
    """Give what a process says, until it is done; None stands for a moment without a word.

    Parameters
    ----------
    process : Popen
        See `engine.process.start_python`.
    stop : threading.Event
        Set it to hear no more.
    died : str
        What is said where it ended by itself; ``{how}`` becomes how.

    Raises
    ------
    UserError
        Where it failed or died.
    """
    frames: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, frames), daemon=True).start()
    while not stop.is_set():
        try:
            frame = frames.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            yield None
            continue
        if frame is None:
            raise UserError(died.format(how=_death(process)))
        if frame["event"] == "end":
            return
        if frame["event"] == "failed":
            raise UserError(frame["text"])
        yield frame


def _read(process: subprocess.Popen[bytes], frames: queue.SimpleQueue[Any]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(Exception):
        skip_to_hello(process.stdout)
        while (frame := read_frame(process.stdout)) is not None:
            frames.put(frame[0])
    frames.put(None)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a process come to its end, which takes a tile of the network; else end it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(PATIENCE + 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(OSError):
        process.stdout.close()


def _death(process: subprocess.Popen[bytes]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
    code = process.returncode or 0
    how = f"ended with the error code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"was ended by the system ({signal.Signals(-code).name})"
    return how


# --- the side of the process


def serve(
    work: Callable[[BinaryIO], None],
    niceness: int,
    heard: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Be such a process: it ends when its input does.

    Parameters
    ----------
    work : callable (stream)
        Writes frames; a `UserError` becomes the last one.
    niceness : int
        It stands back for the window, and perhaps for others.
    heard : callable (frame), optional
        Called in a thread with what the window says meanwhile.
    """
    outbox = os.fdopen(os.dup(1), "wb", buffering=0)
    try:  # a library that prints would break the frames
        os.dup2(2, 1)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):
        # When the memory is full, this process should go, not napari with its layers.
        Path("/proc/self/oom_score_adj").write_text("800")
    if hasattr(os, "nice"):
        os.nice(niceness)
    # Whoever started it may ignore the signal that the end of the input becomes.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outbox.write(HELLO)
    over = threading.Event()
    try:
        threading.Thread(target=_end_with_input, args=(heard, over), daemon=True).start()
        try:
            work(outbox)
            write_frame(outbox, {"event": "end"})
        except UserError as error:
            write_frame(outbox, {"event": "failed", "text": str(error)})
        over.set()
    except (KeyboardInterrupt, BrokenPipeError):  # it was told to, or nobody listens any more
        os._exit(0)


def _end_with_input(heard: Callable[[dict[str, Any]], None] | None, over: threading.Event) -> None:
    """Stop the work when the input ends; who does not come to an end is ended."""
    inbox = os.fdopen(0, "rb", buffering=0, closefd=False)
    while (frame := read_frame(inbox)) is not None:
        if heard is not None:
            heard(frame[0])
    if not over.is_set():
        interrupt_main()
    time.sleep(PATIENCE)
    os._exit(1)
