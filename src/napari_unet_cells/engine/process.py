"""The parent's side of the child process that owns the network.

TensorFlow and OpenGL in one process end in a segmentation fault on common Linux systems
(docs/architecture.md, 0), so a process that has a window talks to a child over two pipes. The
child sees normalised pixels and gives 8-bit results; images, labels and decisions stay here.

Requests:  open {model, device, runtime}, predict {model, device, runtime, shape}, forget, sync,
           prepare {base}, retrain {dataset, base, output, options, since, derive}, finish
Replies:   opened {device, max_tile, on_cpu}, output {shape}, synced,
           prepared, event {event, ...}, failed {message}, out of memory {message},
           lost device {message}, second library {message}

The device that is asked for is "best" or "cpu", the one in the reply is for the user.

All carry the number of their job. Each side has a thread that does nothing but read, so
that no pipe stays full; the parent's writing has one too, so that a child that was stopped
holds up nobody::

    open, predict --> outgoing --> [writer] == pipe ==> [reader] --> requests --> network
        ^                                                                            |
        +--- inbox of the job <--- [reader] <========== pipe ========================+

The child ends when its input does, so none is left when this process is killed.

Out of memory (docs/architecture.md, 6) comes as a reply, or as the child's death: whoever predicts
goes on with `network.ChildNetwork.recover`. A child that was refused memory on the CPU works no
more.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.engine.frames import NO_MEMORY_EXIT, read_frame, skip_to_hello, write_frame
from napari_unet_cells.errors import LostDevice, OutOfMemory, UserError
from napari_unet_cells.models.runtimes.conversion import python_path
from napari_unet_cells.models.runtimes.library import SecondLibrary

#: How long a cancelled child may take to finish its tile before it is replaced.
GRACE_SECONDS = 5.0

#: The same while it loads a runtime and a model, which nothing can interrupt.
OPENING_SECONDS = 60.0

POLL_SECONDS = 0.05

#: Exit codes of a child whose memory was full. Seldom is there a reply: where memory is promised
#: and then missing, as on Linux and macOS, the system kills the process; where it is refused
#: (Windows, `ulimit -v`) TensorFlow reports large tensors in order, but lets the
#: `std::bad_alloc` of its scratch memory and of small ones abort the process, or (seen on a
#: processor with AMX) writes to what it was refused, a segmentation fault. One that has another
#: reason comes again with smaller tiles, and is told then.
_MEMORY_FULL_EXITS = frozenset(
    {
        NO_MEMORY_EXIT,
        0xC0000017,  # STATUS_NO_MEMORY
        0xC000012D,  # STATUS_COMMITMENT_LIMIT
        0xC0000409,  # abort(), by its "fail fast"
        0xE06D7363,  # a C++ exception that nobody caught
    }
    if sys.platform == "win32"
    else {NO_MEMORY_EXIT, -signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV}
)


#: What is raised on the replies that carry a message.
_ERRORS = {
    "failed": UserError,
    "out of memory": OutOfMemory,
    "lost device": LostDevice,
    "second library": SecondLibrary,
}


class Cancelled(Exception):
    """The user asked to stop; nothing is wrong."""


@dataclass(frozen=True)
class Reply:
    """A frame from the child: its header, and 8-bit pixels where it has a shape."""

    header: dict[str, Any]
    pixels: NDArray[np.uint8] | None


#: Replies to one job; None where the child has ended.
Inbox = queue.SimpleQueue[Reply | None]


class Child:
    """The parent's side of one child process.

    No method waits for a pipe: `send` hands over to a thread, `receive` looks at its stop
    event all the time, `kill` is a signal.

    Parameters
    ----------
    niceness : int, optional
        How far it stands back for other processes, where the system knows that.
    """

    def __init__(self, niceness: int | None = None) -> None:
        self._process = _start_process(() if niceness is None else (f"--nice={niceness}",))
        # Of the simple kind, and a lock that may be taken twice: a generator may be closed
        # by the garbage collector, in any thread and in the middle of these methods.
        self._outgoing: queue.SimpleQueue[tuple[dict[str, Any], NDArray[Any] | None] | None]
        self._outgoing = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._dropped: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._inboxes: dict[int, Inbox] = {}
        self._opening: set[int] = set()
        self._stopping: set[int] = set()
        self._ended = self._closed = self._stuck = self._discarded = False
        self.served = False  # whether it opened a network before
        for work in (self._read, self._write, self._watch):
            threading.Thread(target=work, daemon=True, name=f"unet-cells{work.__name__}").start()

    def leave_to_parent(self) -> None:
        """Let go of the pipes in a forked process: the child ends with their last owner."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()  # nothing is buffered, so nothing is sent
        self._process.returncode = 0  # else Python's end would wait for another's child

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child can still be asked for something."""
        gone = self._ended or self._closed or self._discarded
        return not gone and self._process.poll() is None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a reply."""
        return bool(self._inboxes)

    @property
    def stopping(self) -> bool:
        """Whether a dropped job may still be running."""
        return bool(self._stopping)

    @contextlib.contextmanager
    def inbox(self, job: int) -> Iterator[Inbox]:
        """Collect the replies to a job; replies to others never come in here."""
        inbox: Inbox = queue.SimpleQueue()
        with self._lock:
            self._inboxes[job] = inbox
            if self._ended:
                inbox.put(None)
        try:
            yield inbox
        finally:
            with self._lock:
                del self._inboxes[job]

    def send(self, header: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
        """Hand over a frame; the pixels must not be changed afterwards."""
        self._outgoing.put((header, pixels))

    def receive(
        self, inbox: Inbox, stop: threading.Event, idle: Callable[[], None] = lambda: None
    ) -> Reply:
        """Wait for the next reply to a job; `idle` is called again and again meanwhile."""
        while True:
            idle()
            if stop.is_set():
                raise Cancelled
            try:
                reply = inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if reply is None:
                inbox.put(None)  # for whoever asks next
                raise self._death()
            if "message" in reply.header:
                raise _ERRORS[reply.header["reply"]](reply.header["message"])
            return reply

    def open(self, job: int, network: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
        """Have a network opened; give the header of the reply."""
        with self.inbox(job) as inbox:
            with self._lock:
                self._opening.add(job)
            self.send({"request": "open", "job": job, **network})
            try:
                opened = self.receive(inbox, stop).header
            except Cancelled:
                self.forget(job)
                raise
            except OutOfMemory:  # for the weights or the first run, on the CPU at last
                self.discard()
                raise
        self.served = True
        return opened

    def forget(self, job: int) -> None:
        """Drop a job; a child that does not come back to its senses soon is killed."""
        with self._lock:
            if self._ended:
                return
            self._stopping.add(job)
        self.send({"request": "forget", "job": job})
        self.send({"request": "sync", "job": job})
        self._dropped.put(job)

    def close(self, wait_seconds: float) -> None:
        """Kill the process: nothing in it is worth keeping, and a polite end takes longer."""
        self._closed = True
        self._process.kill()
        if wait_seconds > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_seconds)

    def discard(self) -> None:
        """End the process, which was refused memory; to those it works for, it was full."""
        self._discarded = True
        self._process.kill()

    def _watch(self) -> None:
        while (job := self._dropped.get()) is not None:
            self._kill_if_stuck(job)

    def _kill_if_stuck(self, job: int) -> None:
        begun = patient_until = time.monotonic()
        while job in self._stopping:
            now = time.monotonic()
            if self._opening and now - begun < OPENING_SECONDS:
                patient_until = now
            if now - patient_until > GRACE_SECONDS:
                self._stuck = True
                self._process.kill()
                return
            time.sleep(POLL_SECONDS)

    def _write(self) -> None:
        assert self._process.stdin is not None
        # An error means that the child is gone; `_read` sees that too, and says it.
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while (frame := self._outgoing.get()) is not None:
                write_frame(pipe, *frame)

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(Exception), self._process.stdout as pipe:
                skip_to_hello(pipe)
                while (frame := read_frame(pipe)) is not None:
                    self._deliver(*frame)
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:  # alive, but what it says makes no sense
            self._process.kill()
            self._process.wait()
        finally:
            self._end()

    def _deliver(self, header: dict[str, Any], payload: bytearray) -> None:
        job = header["job"]
        with self._lock:
            self._opening.discard(job)
            if header["reply"] == "synced":
                self._stopping.discard(job)
                return
            inbox = self._inboxes.get(job)
        if inbox is None:  # the job was dropped meanwhile
            return
        pixels = None
        if "shape" in header:
            pixels = np.frombuffer(payload, np.uint8).reshape(header["shape"])
        inbox.put(Reply(header, pixels))

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            self._opening.clear()
            self._stopping.clear()
            for inbox in list(self._inboxes.values()):
                inbox.put(None)
        self._outgoing.put(None)
        self._dropped.put(None)

    def _death(self) -> Exception:
        if self._closed:
            return Cancelled()
        code = self._process.poll() or 0
        how = f"stopped with the error code {code}"
        if self._stuck:
            how = "did not stop when it was asked to, and was ended"
        elif code < 0:
            how = f"was ended by the system ({_signal_name(-code)})"
        full = self._discarded or (code in _MEMORY_FULL_EXITS and not self._stuck)
        return (OutOfMemory if full else UserError)(
            f"The process that runs the network {how}, perhaps because the memory was full. "
            "The labels made so far are kept. Press Segment again; if it happens again, close "
            "other programs first."
        )


def _start_process(more: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    return start_python("napari_unet_cells.child", more, "runs the network")


def start_python(module: str, more: Sequence[str], does: str) -> subprocess.Popen[bytes]:
    """Start a module of the package in a process that talks by its input and output.

    Parameters
    ----------
    module : str
    more : sequence of str
        Arguments.
    does : str
        What the process is there for, such as "runs the network".

    Raises
    ------
    UserError
        Where the system starts no more processes.
    """
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = (
            subprocess.CREATE_NO_WINDOW
            | subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # as `os.nice` in `child`
        )
    else:
        options["start_new_session"] = True  # Ctrl+C in the terminal is not for it
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr is not None else subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": python_path()},
            **options,
        )
    except OSError as error:
        raise UserError(
            f"The process that {does} could not be started ({error}). Close other "
            "programs and try again."
        ) from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
