"""A network to predict with: in this process, or in a child that owns TensorFlow.

TensorFlow and OpenGL in one process end in a segmentation fault on common Linux systems
(design, decision 0), so a process that has a window talks to a child over two pipes. The
child sees normalised pixels and gives 8-bit results; images, labels and decisions stay here.

A frame on a pipe::

    | header length: uint32 | pixel bytes: uint64 | header: JSON | pixels: raw |

Requests:  open {path}, predict {job, shape}, forget {job}, sync
Replies:   opened {device, max_tile}, output {job, shape}, failed {job, message}, synced

The child ends when its input does, so none is left when this process is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.nets import ModelCard, find_model
from napari_unet_cells.predict import Network

_PREFIX = struct.Struct("<IQ")

#: Tiles sent ahead, so that the child never waits for the next one.
IN_FLIGHT = 2

#: How long a cancelled child may take to finish its tile before it is replaced.
GRACE_SECONDS = 5.0

_POLL_SECONDS = 0.05


class Cancelled(Exception):
    """The user asked to stop; nothing is wrong."""


def open_network(card: ModelCard) -> Network:
    """Open a model here, or in the child where this process has, or may get, a window."""
    if any(name in sys.modules for name in ("napari", "qtpy", "PyQt6", "PySide6", "PyQt5")):
        return shared_engine().open(card)
    return _open_here(card)


#: The network that was opened last in this process, by the sha256 of its file.
_opened_here: dict[str, Network] = {}


def _open_here(card: ModelCard) -> Network:
    from napari_unet_cells.nets.device import open_network as open_on_device

    if card.sha256 not in _opened_here:
        _opened_here.clear()
        _opened_here[card.sha256] = open_on_device(card)
    return _opened_here[card.sha256]


@lru_cache(maxsize=1)
def shared_engine() -> Engine:
    """Return the one engine, with the one child, of this process; it ends with the process."""
    engine = Engine()
    atexit.register(engine.close)
    return engine


@dataclass(frozen=True)
class _Reply:
    header: dict[str, Any]
    pixels: NDArray[np.uint8] | None


class _Child:
    """The parent's side of one child process."""

    def __init__(self) -> None:
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = (
                subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
            )
        else:
            options["start_new_session"] = True  # Ctrl+C in the terminal is not for it
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "napari_unet_cells.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr is not None else subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            **options,
        )
        self._replies: queue.Queue[_Reply | None] = queue.Queue()
        self._sending = threading.Lock()
        self._synced = threading.Event()
        threading.Thread(target=self._read, daemon=True, name="unet-cells-reader").start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, header: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
        assert self._process.stdin is not None
        try:
            with self._sending:
                _write_frame(self._process.stdin, header, pixels)
        except (OSError, ValueError) as error:
            raise self._death() from error

    def receive(self, stop: threading.Event, wanted: Callable[[dict[str, Any]], bool]) -> _Reply:
        """Wait for the reply that is `wanted`; those of older jobs are dropped."""
        while True:
            if stop.is_set():
                raise Cancelled
            try:
                reply = self._replies.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if reply is None:
                self._replies.put(None)  # for whoever asks next
                raise self._death()
            if wanted(reply.header):
                if "message" in reply.header:
                    raise UserError(reply.header["message"])
                return reply

    def forget(self, job: int) -> None:
        """Drop a job; a child that does not come back to its senses soon is killed."""
        self._synced.clear()
        with contextlib.suppress(UserError):
            self.send({"request": "forget", "job": job})
            self.send({"request": "sync"})
        threading.Thread(target=self._kill_if_stuck, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _kill_if_stuck(self) -> None:
        if not self._synced.wait(GRACE_SECONDS) and self.alive:
            self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            frame = _read_frame(self._process.stdout)
            if frame is None:
                self._process.wait()
                self._replies.put(None)
                return
            header, payload = frame
            if header["reply"] == "synced":
                self._synced.set()
                continue
            pixels = None
            if "shape" in header:
                pixels = np.frombuffer(payload, np.uint8).reshape(header["shape"])
            self._replies.put(_Reply(header, pixels))

    def _death(self) -> UserError:
        code = self._process.poll()
        how = "was closed"
        if code is not None and code < 0:
            how = f"was ended by the system ({signal.Signals(-code).name})"
        elif code:
            how = f"stopped with the error code {code}"
        return UserError(
            f"The process that runs the network {how}, perhaps because the memory was full. "
            "The labels made so far are kept. Press Segment again; if it happens again, close "
            "other programs first."
        )


@dataclass(frozen=True)
class ChildNetwork:
    """A network in the child; see `predict.Network`.

    Attributes
    ----------
    card : ModelCard
    device : str
        For the user, such as "CPU, 2 threads".
    max_tile : int
    """

    card: ModelCard
    device: str
    max_tile: int
    _child: _Child
    _stop: threading.Event
    _jobs: Iterator[int]

    @property
    def stride(self) -> int:
        """Pixels; the sides of every batch are multiples of it."""
        return self.card.stride

    @property
    def halo(self) -> int:
        """Pixels around a tile that are read and not written."""
        return self.card.halo

    @property
    def channels(self) -> int:
        """Channels the network was trained on."""
        return self.card.channels

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, `IN_FLIGHT` of them ahead.

        Raises
        ------
        Cancelled
            Where the stop event of `Engine.open` was set.
        UserError
            Where the child failed or died.
        """
        job = next(self._jobs)
        pending = 0
        try:
            for batch in batches:
                request = {"request": "predict", "job": job, "shape": batch.shape}
                self._child.send(request, batch)
                pending += 1
                if pending == IN_FLIGHT:
                    yield self._output(job)
                    pending -= 1
            while pending:
                yield self._output(job)
                pending -= 1
        finally:
            if pending and self._child.alive:
                self._child.forget(job)

    def _output(self, job: int) -> NDArray[np.uint8]:
        reply = self._child.receive(self._stop, lambda header: header.get("job") == job)
        assert reply.pixels is not None
        return reply.pixels


class Engine:
    """Starts the child when it is first needed, and a fresh one when it has died.

    `open` is called from a worker thread and blocks; `close` from anywhere.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._opened: dict[str, dict[str, Any]] = {}
        self._number = 0

    @property
    def pid(self) -> int | None:
        """Process id of the child, None where there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def open(self, card: ModelCard, stop: threading.Event | None = None) -> ChildNetwork:
        """Have the model loaded and warmed up in the child.

        Parameters
        ----------
        card : ModelCard
        stop : threading.Event, optional
            Set it to cancel the opening and every prediction of the returned network.

        Raises
        ------
        Cancelled, UserError
        """
        stop = stop or threading.Event()
        with self._lock:
            child = self._child
            if child is None or not child.alive:
                child = self._child = _Child()
                self._opened = {}
            if card.sha256 not in self._opened:
                job = next(self._jobs())
                child.send({"request": "open", "job": job, "path": str(card.path)})
                reply = child.receive(stop, lambda header: header.get("job") == job)
                # One network at a time: the child dropped the one before.
                self._opened = {card.sha256: reply.header}
            opened = self._opened[card.sha256]
        return ChildNetwork(card, opened["device"], opened["max_tile"], child, stop, self._jobs())

    def close(self) -> None:
        """End the child; the next `open` starts a fresh one."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _jobs(self) -> Iterator[int]:
        while True:
            self._number += 1
            yield self._number


def _write_frame(stream: Any, header: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    text = json.dumps(header).encode()
    payload = memoryview(b"") if pixels is None else memoryview(np.ascontiguousarray(pixels))
    parts = (_PREFIX.pack(len(text), payload.nbytes), text, payload)
    for part in parts:
        rest = memoryview(part).cast("B") if len(part) else memoryview(b"")
        while rest:  # an unbuffered pipe may take less than it was given
            rest = rest[stream.write(rest) :]


def _read_frame(stream: Any) -> tuple[dict[str, Any], bytearray] | None:
    """Read a frame; None at the end of the stream, or where it ends within a frame."""
    try:
        prefix = _read_exactly(stream, _PREFIX.size)
        if prefix is None:
            return None
        header_size, payload_size = _PREFIX.unpack(prefix)
        header = _read_exactly(stream, header_size)
        payload = _read_exactly(stream, payload_size)
    except (OSError, ValueError):
        return None
    if header is None or payload is None:
        return None
    return json.loads(header), payload


def _read_exactly(stream: Any, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        n = stream.readinto(view)
        if not n:
            return None
        view = view[n:]
    return data


# What follows runs in the child.


class _Server:
    """The child's side: one network, one request after another."""

    def __init__(self, inbox: BinaryIO, outbox: BinaryIO) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._requests: queue.Queue[tuple[dict[str, Any], bytearray]] = queue.Queue(IN_FLIGHT)
        self._forgotten: set[int] = set()
        self._network: Any = None
        self._answers: dict[str, Callable[[dict[str, Any], bytearray], None]] = {
            "open": self._open,
            "predict": self._predict,
            "sync": self._sync,
        }

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            header, payload = self._requests.get()
            if header.get("job") in self._forgotten:
                continue
            try:
                self._answers[header["request"]](header, payload)
            except UserError as error:
                self._fail(header, str(error))
            except Exception as error:  # whatever TensorFlow raises becomes a sentence
                self._fail(header, f"The network failed ({type(error).__name__}: {error}).")

    def _read(self) -> None:
        while True:
            frame = _read_frame(self._inbox)
            if frame is None:
                os._exit(0)  # the parent is gone; nothing here is worth keeping
            if frame[0]["request"] == "forget":
                self._forgotten.add(frame[0]["job"])
            else:
                self._requests.put(frame)

    def _open(self, header: dict[str, Any], payload: bytearray) -> None:
        from napari_unet_cells.nets.device import open_network as open_on_device

        self._network = None
        self._network = open_on_device(find_model(Path(header["path"])))
        self._reply(header, "opened", device=self._network.device, max_tile=self._network.max_tile)

    def _predict(self, header: dict[str, Any], payload: bytearray) -> None:
        batch = np.frombuffer(payload, np.float32).reshape(header["shape"])
        output = self._network.forward(batch)
        self._reply(header, "output", output, shape=output.shape)

    def _sync(self, header: dict[str, Any], payload: bytearray) -> None:
        self._reply(header, "synced")

    def _fail(self, header: dict[str, Any], message: str) -> None:
        self._reply(header, "failed", message=message)

    def _reply(
        self, request: dict[str, Any], reply: str, pixels: Any = None, **values: Any
    ) -> None:
        header = {"reply": reply, "job": request.get("job"), **values}
        _write_frame(self._outbox, header, pixels)


def _serve() -> None:
    """Run the child until its input ends."""
    inbox = os.fdopen(os.dup(0), "rb", buffering=0)
    outbox = os.fdopen(os.dup(1), "wb", buffering=0)
    # A library that prints would break the frames: give it stderr, and no input.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with contextlib.suppress(OSError):
        # When the memory is full, this process should go, not napari with its layers.
        Path("/proc/self/oom_score_adj").write_text("800")
    _Server(inbox, outbox).run()


if __name__ == "__main__":
    _serve()
