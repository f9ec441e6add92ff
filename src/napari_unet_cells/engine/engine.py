"""A network to predict with: in this process, or in a child that owns TensorFlow.

TensorFlow and OpenGL in one process end in a segmentation fault on common Linux systems
(design, decision 0), so a process that has a window talks to a child over two pipes. The
child sees normalised pixels and gives 8-bit results; images, labels and decisions stay here.

Requests:  open {model, device}, predict {model, device, shape}, forget, sync,
           prepare {base}, retrain {dataset, base, output, options}, finish
Replies:   opened {device, max_tile, on_cpu}, output {shape}, synced,
           prepared, event {event, ...}, failed {message}, out of memory {message}

The device that is asked for is "best" or "cpu", the one in the reply is for the user.

All carry the number of their job. Each side has a thread that does nothing but read, so
that no pipe stays full; the parent's writing has one too, so that a child that was stopped
holds up nobody::

    open, predict --> outgoing --> [writer] == pipe ==> [reader] --> requests --> network
        ^                                                                            |
        +--- inbox of the job <--- [reader] <========== pipe ========================+

The child ends when its input does, so none is left when this process is killed.

Out of memory (design, decision 6) comes as a reply, or as the child's death: whoever predicts
goes on with `ChildNetwork.recover`. A child that was refused memory on the CPU works no more.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.predict import Network
from napari_unet_cells.engine.frames import NO_MEMORY_EXIT, read_frame, skip_to_hello, write_frame
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.models.catalogue import CardNetwork, ModelCard

#: Tiles sent ahead, so that the child never waits for the next one.
IN_FLIGHT = 2

#: How long a cancelled child may take to finish its tile before it is replaced.
GRACE_SECONDS = 5.0

#: The same while it loads TensorFlow and a model, which nothing can interrupt.
OPENING_SECONDS = 60.0

_POLL_SECONDS = 0.05

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


class Cancelled(Exception):
    """The user asked to stop; nothing is wrong."""


def open_network(card: ModelCard) -> Network:
    """Open a model here, or in the child where this process has, or may get, a window."""
    if any(name in sys.modules for name in ("napari", "qtpy", "PyQt6", "PySide6", "PyQt5")):
        return shared_engine().open(card)
    return _open_here(card)


#: The network that was opened last in this process, by the sha256 of its file.
_opened_here: dict[str, Network] = {}

#: Set where this process was refused memory on the CPU: see `ChildNetwork`.
_refused = threading.Event()


def _open_here(card: ModelCard) -> Network:
    from napari_unet_cells.models.runtimes.tensorflow import open_network as open_on_device

    if _refused.is_set():
        return shared_engine().open(card, cpu=True)
    network = _opened_here.get(card.sha256)
    if network is None:
        _opened_here.clear()
        network = _opened_here[card.sha256] = _LocalNetwork(card, open_on_device(card))
    return network


@dataclass(frozen=True)
class _LocalNetwork(CardNetwork):
    """A network in this process, until it is refused memory on the CPU; then in the child."""

    _network: Any  # a `nets.device.DeviceNetwork`

    @property
    def device(self) -> str:
        return str(self._network.device)

    @property
    def max_tile(self) -> int:
        return int(self._network.max_tile)

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        if _refused.is_set():
            yield from shared_engine().open(self.card, cpu=True).predict(batches)
            return
        try:
            yield from self._network.predict(batches)
        except OutOfMemory:
            if self._network.on_cpu:
                _refused.set()
            raise

    def recover(self, cpu: bool) -> Network:
        if _refused.is_set() and not cpu:
            return shared_engine().open(self.card, cpu=True)
        return _LocalNetwork(self.card, self._network.recover(cpu))


def shared_engine() -> Engine:
    """Return the one engine, with the one child, of this process; it ends with the process."""
    return _shared


def training_engine() -> Engine:
    """Return the engine whose child retrains, so that the other one goes on segmenting."""
    return _training


@dataclass(frozen=True)
class _Reply:
    header: dict[str, Any]
    pixels: NDArray[np.uint8] | None


#: Replies to one job; None where the child has ended.
_Inbox = queue.SimpleQueue[_Reply | None]


class _Child:
    """The parent's side of one child process.

    No method waits for a pipe: `send` hands over to a thread, `receive` looks at its stop
    event all the time, `kill` is a signal.
    """

    def __init__(self) -> None:
        self._process = _start_process()
        # Of the simple kind, and a lock that may be taken twice: a generator may be closed
        # by the garbage collector, in any thread and in the middle of these methods.
        self._outgoing: queue.SimpleQueue[tuple[dict[str, Any], NDArray[Any] | None] | None]
        self._outgoing = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._dropped: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._inboxes: dict[int, _Inbox] = {}
        self._opening: set[int] = set()
        self._stopping: set[int] = set()
        self._ended = self._closed = self._stuck = self._discarded = False
        self.served = False  # whether it opened a network before
        for work in (self._read, self._write, self._watch):
            threading.Thread(target=work, daemon=True, name=f"unet-cells{work.__name__}").start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        gone = self._ended or self._closed or self._discarded
        return not gone and self._process.poll() is None

    @property
    def stopping(self) -> bool:
        """Whether a dropped job may still be running."""
        return bool(self._stopping)

    @contextlib.contextmanager
    def inbox(self, job: int) -> Iterator[_Inbox]:
        """Collect the replies to a job; replies to others never come in here."""
        inbox: _Inbox = queue.SimpleQueue()
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
        self, inbox: _Inbox, stop: threading.Event, idle: Callable[[], None] = lambda: None
    ) -> _Reply:
        """Wait for the next reply to a job; `idle` is called again and again meanwhile."""
        while True:
            idle()
            if stop.is_set():
                raise Cancelled
            try:
                reply = inbox.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if reply is None:
                inbox.put(None)  # for whoever asks next
                raise self._death()
            if "message" in reply.header:
                full = reply.header["reply"] == "out of memory"
                raise (OutOfMemory if full else UserError)(reply.header["message"])
            return reply

    def open(self, job: int, network: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
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
            time.sleep(_POLL_SECONDS)

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
        inbox.put(_Reply(header, pixels))

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


def _start_process() -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = (
            subprocess.CREATE_NO_WINDOW
            | subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # as `os.nice` in `child`
        )
    else:
        options["start_new_session"] = True  # Ctrl+C in the terminal is not for it
    # The child finds what this process finds, but for the empty entry: it stands for the
    # current folder, where a stray queue.py would shadow the standard library.
    here = str(Path(__file__).parents[2])
    folders = dict.fromkeys([p for p in sys.path if isinstance(p, str) and p] + [here])
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "napari_unet_cells.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.stderr is not None else subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
            **options,
        )
    except OSError as error:
        raise UserError(
            f"The process that runs the network could not be started ({error}). Close other "
            "programs and try again."
        ) from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


@dataclass(frozen=True)
class ChildNetwork(CardNetwork):
    """A network in the child; see `predict.Network`.

    A child that was refused memory on the CPU is discarded: oneDNN goes on with the scratch
    memory that it did not get, so that the next large tile is a segmentation fault, or might be
    wrong. TensorFlow's allocator for GPUs is sound.

    Attributes
    ----------
    card : ModelCard
    device : str
        For the user, such as "CPU, 2 threads".
    max_tile : int
    on_cpu : bool
        Whether it computes on the CPU.
    """

    device: str
    max_tile: int
    on_cpu: bool
    _asked: dict[str, Any]
    _child: _Child
    _engine: Engine
    _stop: threading.Event
    _closings: int

    def predict(self, batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.uint8]]:
        """Predict batches in order, `IN_FLIGHT` of them ahead.

        Raises
        ------
        Cancelled
            Where the stop event of `Engine.open` was set, or the engine was closed.
        OutOfMemory
            Where the device has no memory for a batch, or the child died as one does that
            has none: go on with `recover`.
        UserError
            Where the child failed or died in another way.
        """
        if not self._child.alive:  # lost by an image before, of those that this network is for
            fresh = self._engine.reopen(self.card, self._asked, self._stop, self._closings)
            yield from fresh.predict(batches)
            return
        job = self._engine.next_job()
        pending = 0
        with self._child.inbox(job) as inbox:
            try:
                for batch in batches:
                    batch = np.ascontiguousarray(batch, np.float32)
                    request = {"request": "predict", "job": job, "shape": batch.shape}
                    self._child.send(request | self._asked, batch)
                    pending += 1
                    if pending == IN_FLIGHT:
                        yield self._output(inbox)
                        pending -= 1
                while pending:
                    yield self._output(inbox)
                    pending -= 1
            finally:
                if pending:
                    self._child.forget(job)

    def recover(self, cpu: bool) -> ChildNetwork:
        """Give the network ready to go on after `OutOfMemory`, in a fresh child if it is gone.

        Parameters
        ----------
        cpu : bool
            Compute on the CPU from now on.

        Raises
        ------
        OutOfMemory
            Where it computes on the CPU already.
        Cancelled
            As for `predict`.
        UserError
            Where the model cannot be opened again.
        """
        # Asked for counts too, so that nobody who halves and recovers does so for ever.
        if cpu and (self.on_cpu or self._asked["device"] == "cpu"):
            raise OutOfMemory
        asked = self._asked | {"device": "cpu"} if cpu else self._asked
        return self._engine.reopen(self.card, asked, self._stop, self._closings)

    def _output(self, inbox: _Inbox) -> NDArray[np.uint8]:
        try:
            reply = self._child.receive(inbox, self._stop)
        except OutOfMemory:
            if self.on_cpu:
                self._child.discard()
            raise
        assert reply.pixels is not None
        return reply.pixels


@contextlib.contextmanager
def _forgotten_early(child: _Child, job: int) -> Iterator[None]:
    """Drop a job whose generator ends before the job does."""
    try:
        yield
    except (Cancelled, GeneratorExit):
        child.forget(job)
        raise


def _network_key(card: ModelCard, cpu: bool) -> dict[str, Any]:
    """Say which network a request is for: the child holds one, and changes it if it must."""
    return {
        "model": {"path": str(card.path.absolute()), "sha256": card.sha256},
        "device": "cpu" if cpu else "best",
    }


class Engine:
    """Starts the child when it is first needed, and a fresh one when it has died.

    `open` is called from worker threads and blocks; `close` from anywhere, and does not.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._child: _Child | None = None
        self._closings = 0
        self._jobs = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """Process id of the child, None where there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def open(
        self, card: ModelCard, stop: threading.Event | None = None, cpu: bool = False
    ) -> ChildNetwork:
        """Have the model loaded and warmed up in the child.

        Parameters
        ----------
        card : ModelCard
        stop : threading.Event, optional
            Set it to cancel the opening and every prediction of the returned network.
        cpu : bool
            Compute on the CPU, even where there is a GPU.

        Raises
        ------
        Cancelled
            Where `stop` was set, or the engine was closed meanwhile.
        UserError
            Where the model cannot be opened, or the child died.
        """
        asked = _network_key(card, cpu)
        return self.reopen(card, asked, stop or threading.Event(), self._closings)

    def reopen(
        self, card: ModelCard, asked: dict[str, Any], stop: threading.Event, closings: int
    ) -> ChildNetwork:
        """Open a network as it was opened before; for `ChildNetwork.recover`.

        Parameters
        ----------
        card : ModelCard
        asked : dict
            Model and device, as they stand in requests.
        stop : threading.Event
        closings : int
            How often the engine had been closed; it is not started again after another time.
        """
        while True:
            child = self._ready_child(closings, stop)
            served = child.served
            try:
                opened = child.open(self.next_job(), asked, stop)
                break
            except UserError:
                # That a child ended between two runs is no news, if a fresh one does it.
                if child.alive or not served:
                    raise
        known = {name: opened[name] for name in ("device", "max_tile", "on_cpu")}
        return ChildNetwork(
            card,
            **known,
            _asked=asked,
            _child=child,
            _engine=self,
            _stop=stop,
            _closings=closings,
        )

    def prepare(self, base: str, stop: threading.Event) -> None:
        """Have a model made ready for retraining, which takes some seconds.

        Parameters
        ----------
        base : str
            Name or path of the model.
        stop : threading.Event
            Set it to cancel.

        Raises
        ------
        Cancelled, UserError
        """
        child, job = self._ready_child(self._closings, stop), self.next_job()
        with child.inbox(job) as inbox, _forgotten_early(child, job):
            child.send({"request": "prepare", "job": job, "base": base})
            child.receive(inbox, stop)

    def retrain(
        self, request: dict[str, Any], stop: threading.Event, finish: threading.Event
    ) -> Generator[dict[str, Any], None, None]:
        """Retrain in the child.

        Parameters
        ----------
        request : dict
            dataset, base, output and options, as for `retrain.retrain`, as JSON holds them.
        stop : threading.Event
            Set it to cancel; no model is written.
        finish : threading.Event
            Set it to end the tuning early and keep its result.

        Yields
        ------
        dict
            Of `retrain.event_as_dict`; the last is that of `retrain.Retrained`.

        Raises
        ------
        Cancelled, UserError
        """
        child, job = self._ready_child(self._closings, stop), self.next_job()
        told = False

        def tell() -> None:
            nonlocal told
            if finish.is_set() and not told:
                told = True
                child.send({"request": "finish", "job": job})

        with child.inbox(job) as inbox, _forgotten_early(child, job):
            child.send({"request": "retrain", "job": job, **request})
            while True:
                try:
                    event = child.receive(inbox, stop, tell).header
                except UserError as error:
                    if child.alive:
                        raise
                    raise UserError(
                        "The process that retrains the network ended, perhaps because the memory "
                        "was full. Your images, masks and models are as they were. Close other "
                        "programs and press Retrain again."
                    ) from error
                yield event
                if event["event"] == "Retrained":
                    return

    def next_job(self) -> int:
        """Give a number that no other job of this engine has."""
        return next(self._jobs)

    def close(self, wait_seconds: float = 0.0) -> None:
        """End the child; the next `open` starts a fresh one.

        Parameters
        ----------
        wait_seconds : float
            How long to wait for its end, which follows within a fraction of a second.
        """
        self._closings += 1
        child, self._child = self._child, None
        if child is not None:
            child.close(wait_seconds)

    def _ready_child(self, closings: int, stop: threading.Event) -> _Child:
        """Give a child without a dropped job: it comes back to its senses, or is killed."""
        while not stop.is_set():
            child = self._living_child(closings)
            if not child.stopping:
                return child
            time.sleep(_POLL_SECONDS)
        raise Cancelled

    def _living_child(self, closings: int) -> _Child:
        with self._starting:
            if closings != self._closings:
                raise Cancelled
            child = self._child
            if child is None or not child.alive:
                child = self._child = _Child()
                # `close` counts first and takes the child away then, without the lock, which
                # it must not wait for: whatever the order, one of the two sees the other.
                if closings != self._closings:
                    child.close(0.0)
                    raise Cancelled
            return child


_shared, _training = Engine(), Engine()
atexit.register(_shared.close, 2.0)
atexit.register(_training.close, 2.0)
