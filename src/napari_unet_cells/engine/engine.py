"""Start the child process when it is first needed, and a fresh one when it has died."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from napari_unet_cells.engine.network import ChildNetwork
from napari_unet_cells.engine.process import POLL_SECONDS, Cancelled, Child
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.runtimes.library import SecondLibrary
from napari_unet_cells.models.runtimes.table import chosen_runtime

#: Of the child that trains: it stands back for the window, and for the child that segments.
TRAINING_NICENESS = 10


def shared_engine() -> Engine:
    """Return the one engine, with the one child, of this process; it ends with the process."""
    return _shared


def training_engine() -> Engine:
    """Return the engine whose child retrains, so that the other one goes on segmenting."""
    return _training


@contextlib.contextmanager
def _forgotten_early(child: Child, job: int) -> Iterator[None]:
    """Drop a job whose generator ends before the job does."""
    try:
        yield
    except (Cancelled, GeneratorExit):
        child.forget(job)
        raise


def _network_key(card: ModelCard, cpu: bool, runtime: str) -> dict[str, Any]:
    """Say which network a request is for: the child holds one, and changes it if it must."""
    return {
        # with the card: it may be corrected while the child holds the network
        "model": {
            "path": str(card.path.absolute()),
            "sha256": card.sha256,
            "card": card.digest(),
        },
        "device": "cpu" if cpu else "best",
        "runtime": chosen_runtime(runtime),
    }


class Engine:
    """Starts the child when it is first needed, and a fresh one when it has died.

    `open` is called from worker threads and blocks; `close` from anywhere, and does not.

    Parameters
    ----------
    niceness : int, optional
        See `Child`.
    """

    def __init__(self, niceness: int | None = None) -> None:
        self._niceness = niceness
        self._child: Child | None = None
        self._begin()

    def _begin(self) -> None:
        self._starting = threading.Lock()
        self._closings = 0
        self._jobs = itertools.count(1)

    def leave_to_parent(self) -> None:
        """Begin anew in a process that was forked: the child belongs to the one before."""
        child, self._child = self._child, None
        if child is not None:
            child.leave_to_parent()
        self._begin()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None where there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def open(
        self,
        card: ModelCard,
        stop: threading.Event | None = None,
        cpu: bool = False,
        runtime: str = "",
    ) -> ChildNetwork:
        """Have the model loaded and warmed up in the child.

        Parameters
        ----------
        card : ModelCard
        stop : threading.Event, optional
            Set it to cancel the opening and every prediction of the returned network.
        cpu : bool
            Compute on the CPU, even where there is a GPU.
        runtime : str
            See `models.runtimes.table.open_network`.

        Raises
        ------
        Cancelled
            Where `stop` was set, or the engine was closed meanwhile.
        UserError
            Where the model cannot be opened, or the child died.
        """
        asked = _network_key(card, cpu, runtime)
        return self.reopen(card, asked, stop or threading.Event(), self._closings)

    def reopen(
        self, card: ModelCard, asked: dict[str, Any], stop: threading.Event, closings: int
    ) -> ChildNetwork:
        """Open a network as it was opened before; for `ChildNetwork.recover`.

        Parameters
        ----------
        card : ModelCard
        asked : dict
            Model, device and runtime, as they stand in requests.
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
            except SecondLibrary:
                if not served:
                    raise
                self._discard_when_idle(child, stop)  # a fresh one has room for the other library
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
        self,
        request: dict[str, Any],
        stop: threading.Event,
        finish: threading.Event,
        again: str = "press Retrain again",
    ) -> Generator[dict[str, Any], None, None]:
        """Retrain in the child.

        Parameters
        ----------
        request : dict
            dataset, base, output and options, as for `retrain.retrain`, as JSON holds them; perhaps
            since, and derive, false where the new model need not be converted for OpenVINO.
        stop : threading.Event
            Set it to cancel; no model is written.
        finish : threading.Event
            Set it to end the tuning early and keep its result.
        again : str
            What the user does to try once more, where the child died.

        Yields
        ------
        dict
            Of `training.events.event_as_dict`; the last is that of `training.events.Retrained`.

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
                        f"programs and {again}."
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

    def _discard_when_idle(self, child: Child, stop: threading.Event) -> None:
        """End a child once nobody waits for it any more."""
        while child.alive and child.busy and not stop.is_set():
            time.sleep(POLL_SECONDS)
        if not stop.is_set():
            child.discard()

    def _ready_child(self, closings: int, stop: threading.Event) -> Child:
        """Give a child without a dropped job: it comes back to its senses, or is killed."""
        while not stop.is_set():
            child = self._living_child(closings)
            if not child.stopping:
                return child
            time.sleep(POLL_SECONDS)
        raise Cancelled

    def _living_child(self, closings: int) -> Child:
        with self._starting:
            if closings != self._closings:
                raise Cancelled
            child = self._child
            if child is None or not child.alive:
                child = self._child = Child(self._niceness)
                # `close` counts first and takes the child away then, without the lock, which
                # it must not wait for: whatever the order, one of the two sees the other.
                if closings != self._closings:
                    child.close(0.0)
                    raise Cancelled
            return child


_shared, _training = Engine(), Engine(TRAINING_NICENESS)


if hasattr(os, "register_at_fork"):
    for _engine in (_shared, _training):
        os.register_at_fork(after_in_child=_engine.leave_to_parent)


atexit.register(_shared.close, 2.0)


atexit.register(_training.close, 2.0)
