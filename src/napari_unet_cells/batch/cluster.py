"""Do the units of a batch on a cluster of dask.distributed that is there already.

::

    this process --- one task a unit, some at a time ---> scheduler ---> workers
                                                              shared folders: images, results, model

Dask is the engine: it gives tasks to workers, and gives those of a worker that died to another one.
What a unit writes appears whole or not at all, so it does no harm to begin one twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_unet_cells import __version__
from napari_unet_cells.batch.processes import lost
from napari_unet_cells.batch.work import Model, Note, Task, do, model_card
from napari_unet_cells.errors import UserError

#: Seconds for the scheduler to answer, and for a first worker to come.
ANSWER, FIRST_WORKER = 30.0, 600.0

#: Tasks that the scheduler has at a time: at least so many, and for each thread of the workers.
LEAST_TASKS, TASKS_EACH = 32, 3

#: Seconds from one count of the workers to the next, and from one look for ended tasks.
_COUNTED, _POLLED = 10.0, 0.02

#: Form of the address of a scheduler.
_ADDRESS = re.compile(r"([a-z]+://)?[^\s/]+:[0-9]+")

#: Resource of the workers that have a GPU; where some have it, they alone get tasks.
GPU = "GPU"


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler, and leave it as it was at the end.

    Parameters
    ----------
    address : str
        Such as "tcp://10.0.0.5:8786".

    Raises
    ------
    UserError
        Where dask.distributed is not installed, nobody answers, or it runs other versions.
    """
    distributed = _library()
    _silence()
    nobody = UserError(
        f"No scheduler of dask answers at {address}. Start one (dask scheduler), and take the "
        "address that it prints, such as tcp://10.0.0.5:8786."
    )
    if _ADDRESS.fullmatch(address) is None:
        raise nobody
    try:
        client = distributed.Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise nobody from error
    try:
        _refuse_other_versions(client)
        yield Cluster(client)
    finally:
        with contextlib.suppress(Exception):  # it may be gone
            client.close(timeout=ANSWER)


def _silence() -> None:
    """Keep the log of dask off the terminal: what users need is said here, in sentences."""
    for name in [
        name for name in logging.root.manager.loggerDict if name.startswith("distributed")
    ]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _library() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UserError(
            "A cluster needs the library dask.distributed, which is not installed. Install it here "
            "and on the workers (python -m pip install 'napari-unet-cells[cluster]')."
        ) from error
    return distributed


def _refuse_other_versions(client: Any) -> None:
    """Refuse a scheduler whose messages may mean something else."""
    found = client.get_versions()
    here, there = (_versions(found[side]) for side in ("client", "scheduler"))
    differing = [name for name in here if here[name] != there.get(name)]
    if differing:
        listed = ", ".join(
            f"{name} {there.get(name)} instead of {here[name]}" for name in differing
        )
        raise UserError(
            f"The scheduler runs other versions than this computer: {listed}. Install the same on "
            "both."
        )


def _versions(side: Mapping[str, Any]) -> dict[str, str]:
    packages = side.get("packages", {})
    return {name: str(packages.get(name)) for name in ("dask", "distributed")}


@dataclass(frozen=True)
class _Choice:
    """Workers that get tasks.

    Attributes
    ----------
    known : frozenset of str
        Addresses of all workers when they were asked.
    only : tuple of str
        Those that can segment; empty where all can.
    gpus : bool
        Only workers with a GPU get tasks.
    """

    known: frozenset[str]
    only: tuple[str, ...]
    gpus: bool

    @property
    def options(self) -> dict[str, Any]:
        """Give the options for the scheduler."""
        workers: dict[str, Any] = {"workers": list(self.only)} if self.only else {}
        return workers | ({"resources": {GPU: 1}} if self.gpus else {})

    def is_outdated(self, workers: Mapping[str, Any]) -> bool:
        """Whether there are others now, of whom some may be able: one that died comes back."""
        return bool(self.only) and bool(workers) and self.known != workers.keys()

    def able(self, workers: Mapping[str, Any]) -> list[str]:
        """List the workers that may get tasks."""
        return [
            name
            for name, about in workers.items()
            if (not self.only or name in self.only)
            and (not self.gpus or GPU in about.get("resources", {}))
        ]


@dataclass(frozen=True)
class Cluster:
    """An executor of `run.BatchRun`: workers of a scheduler of dask.

    Attributes
    ----------
    client : distributed.Client
    """

    client: Any
    _said: set[str] = field(default_factory=set)

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Any]:
        """Do tasks; they end in any order.

        Raises
        ------
        UserError
            Where no worker can do them, or the scheduler is lost.
        """
        from distributed.comm import CommClosedError

        try:
            yield from self._do_all(tasks)
        except (CommClosedError, CancelledError, TimeoutError) as error:
            raise UserError(_LOST) from error

    def _do_all(self, tasks: Sequence[Task]) -> Iterator[Any]:
        waiting = list(reversed(tasks))
        while waiting:
            yield from self._wait_for_worker()
            choice = yield from self._choose(waiting[-1])
            yield from self._do(waiting, choice)

    def _choose(self, task: Task) -> Generator[Note, None, _Choice]:
        """Choose the workers that get tasks, and say why others do not."""
        known = frozenset(self._workers())
        usable, problems = self._usable(task)
        for problem in problems:
            if problem not in self._said:
                self._said.add(problem)
                yield Note(problem)
        if not usable:
            raise UserError("No worker of the cluster can segment. See what was said of them.")
        return _Choice(known, tuple(usable) if problems else (), self._has_gpus(usable))

    def _wait_for_worker(self) -> Iterator[Note]:
        if self._workers():
            return
        yield Note(f"The cluster has no worker yet; waiting for {FIRST_WORKER / 60:.0f} minutes.")
        try:
            self.client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError as error:
            raise UserError(
                f"No worker came within {FIRST_WORKER / 60:.0f} minutes. Start some (dask worker "
                "ADDRESS --nthreads 1), and run the same command again."
            ) from error

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def _has_gpus(self, usable: Sequence[str]) -> bool:
        workers = self._workers()
        return any(GPU in workers.get(name, {}).get("resources", {}) for name in usable)

    def _usable(self, task: Task) -> tuple[list[str], list[str]]:
        """Ask every worker whether it can segment; give those that can, and what others say."""
        with tempfile.NamedTemporaryFile(dir=task.output, prefix=".unet-cells-") as token:
            answers = self.client.run(
                _probe, task.model, Path(token.name), __version__, on_error="return"
            )
        usable, problems = [], []
        for worker, answer in sorted(answers.items()):
            if answer == "":
                usable.append(worker)
                continue
            said = answer if isinstance(answer, str) else _of_exception(answer)
            problems.append(f"The worker {worker} gets no images: {said}")
        return usable, problems

    def _do(self, waiting: list[Task], choice: _Choice) -> Iterator[Any]:
        """Do tasks until none waits, or the workers are no longer those that were chosen from."""
        from distributed import as_completed

        at_work: dict[Any, Task] = {}
        ended = as_completed(loop=self.client.loop, raise_errors=False)
        room, counted, alone_since = 0, 0.0, 0.0
        try:
            while waiting or at_work:
                if time.monotonic() >= counted:
                    room, counted = self._room(), time.monotonic() + _COUNTED
                    workers = self._workers()
                    if choice.is_outdated(workers):
                        waiting += at_work.values()
                        return
                    alone_since = yield from self._check_alone(choice, workers, alone_since)
                while waiting and len(at_work) < room:
                    task = waiting.pop()
                    key = f"segment-{uuid.uuid4().hex}"
                    future = self.client.submit(
                        do_in_turn, task, key=key, pure=False, **choice.options
                    )
                    at_work[future] = task
                    ended.add(future)
                found = ended.next_batch(block=False)
                for future in found:
                    yield _outcome(future, at_work.pop(future))
                if not found:
                    time.sleep(_POLLED)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(at_work), force=True)

    def _check_alone(
        self, choice: _Choice, workers: Mapping[str, Any], since: float
    ) -> Generator[Note, None, float]:
        """Say that no worker is left to do the tasks; give since when, 0 where there are some."""
        if choice.able(workers):
            return 0.0
        minutes = FIRST_WORKER / 60
        if not since:
            yield Note(f"The cluster has no worker any more; waiting for {minutes:.0f} minutes.")
            return time.monotonic()
        if time.monotonic() - since > FIRST_WORKER:
            raise UserError(
                f"All workers ended, and none came within {minutes:.0f} minutes. Start some, and "
                "run the same command again: it goes on where it was."
            )
        return since

    def _room(self) -> int:
        threads = sum(int(worker["nthreads"]) for worker in self._workers().values())
        return max(LEAST_TASKS, TASKS_EACH * threads)


def _outcome(future: Any, task: Task) -> Any:
    """Say how a task ended."""
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            from dask import config

            return task.failed(lost(1 + config.get("distributed.scheduler.allowed-failures")))
        return task.failed(f"The cluster could not do it: {_of_exception(error)}")
    raise UserError(_LOST)


_LOST = (
    "The scheduler was lost. What was done is kept: start it again, and the same command goes on "
    "where it was."
)


def _of_exception(error: object) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"it lacks a module ({error}). Install the same packages as here."
    return f"{type(error).__name__}: {error}"


# --- in the worker -----------------------------------------------------------------------

#: A network fills the cores of a worker, and the memory, so one unit is done at a time.
_ONE = threading.Lock()


def do_in_turn(task: Task) -> Any:
    """Do a task, after those that other threads of this worker do."""
    with _ONE:
        return do(task)


def _probe(model: Model, token: Path, version: str) -> str:
    """Say why this worker cannot segment; empty where it can."""
    if version != __version__:
        return f"it runs napari-unet-cells {__version__}, and this computer {version}."
    with contextlib.suppress(OSError):
        os.listdir(token.parent)  # some network disks look again only then
    if not token.exists():
        return f"it does not see the folder of the results, {token.parent}."
    try:
        model_card(model)
    except UserError as error:
        return str(error)
    return ""
