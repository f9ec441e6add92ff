"""The ends of a command: output that nobody takes, and signals that stop it.

What a command computes does not depend on who reads what it prints: where a pipe is closed the work
goes on in silence, and where a disk is full that is said at the end. Nothing that is printed steers
the terminal, whatever names of files and models hold.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from napari_unet_cells.untrusted.rules import safe

#: The signals by which a system asks a program to end: a cluster before it kills, and a terminal
#: that is closed. Windows has the first one alone.
_REQUESTS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """The system asked the program to end, as a cluster does before it kills: as Ctrl+C does."""


class LastingStream:
    """A text stream that goes on where nobody takes what it writes.

    Attributes
    ----------
    error : OSError or None
        The first that was raised; after it nothing is written.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text without what would steer a terminal; only lines may begin anew."""
        harmless = "\r".join(map(safe, text.split("\r")))
        self._try(lambda: self._stream.write(harmless))
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        self._try(self._stream.flush)

    def _try(self, act: Any) -> None:
        if self.error is not None:
            return
        try:
            act()
        except OSError as error:
            self.error = error
            self._let_go()
        except ValueError as error:  # somebody closed it
            self.error = OSError(errno.EPIPE, str(error))

    def _let_go(self) -> None:
        """Send what is left nowhere: Python flushes it once more at its end, and would complain."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        """Give everything else of the stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[LastingStream]:
    """Let `print` and progress bars go on where nobody takes them; yields standard output."""
    _fill_gaps()
    before = sys.stdout, sys.stderr
    streams = [LastingStream(_as_wide_as_names(stream)) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def _fill_gaps() -> None:
    """Open what was closed: else a file gets the number of standard output, and is written to."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _as_wide_as_names(stream: Any) -> Any:
    """Let a stream take any name of a file; one that is closed becomes one to nowhere."""
    if stream is None:
        return io.StringIO()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def problem_of(stream: LastingStream) -> str:
    """Say what kept output from being written; empty where nothing did, or nobody wanted it."""
    if stream.error is None or stream.error.errno in (errno.EPIPE, errno.EINVAL):
        return ""
    why = stream.error.strerror or stream.error
    return f"What was to be printed could not be written ({why})."


@contextlib.contextmanager
def stopped_by_the_system() -> Iterator[None]:
    """Raise `Terminated` where the system asks the program to end; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated

    # One that is ignored stays so: `nohup` has a program go on when its terminal is closed.
    found = {number: signal.getsignal(number) for number in _REQUESTS}
    before = {n: handler for n, handler in found.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
