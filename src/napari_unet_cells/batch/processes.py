"""Do the units of a batch in several processes of this computer.

::

    this process ── job ──> worker 0      one job at a time, so that it is known which
                 <─ done ── worker 1      one a worker had when it died
                 ...

A worker that dies, killed by the system for its memory or by a person, is replaced, and its unit is
done again; a unit that was in the hands of several that died is a problem of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from napari_unet_cells.batch.work import Task, do
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.runtimes.network import usable_cores

#: Workers that may die of one unit before it is given up.
MOST_DEATHS = 3

#: Seconds that a worker has to end by itself.
_PATIENCE = 5.0

#: Without a shared state: a process with threads, such as those of a network, must not be forked.
_SPAWNED = multiprocessing.get_context("spawn")


def check_workers(n: int) -> None:
    """Refuse a number of workers that makes no sense.

    Raises
    ------
    UserError
    """
    if not 1 <= n <= 1000:
        raise UserError(f"The number of workers must lie between 1 and 1000, not {n}.")


@dataclass(frozen=True)
class Processes:
    """An executor of `run.BatchRun`: some processes of this computer.

    Attributes
    ----------
    n : int
    """

    n: int

    def __call__(self, jobs: Sequence[Task]) -> Iterator[Any]:
        """Do tasks in the order in which they are given; they end in any."""
        crew = _Crew(list(reversed(jobs)), min(self.n, len(jobs)))
        try:
            yield from crew.work()
        finally:
            crew.end()


@dataclass
class _Worker:
    """A process, the pipe to it, and the job it has."""

    number: int
    process: BaseProcess
    pipe: Any
    job: Task | None = None


@dataclass
class _Crew:
    """Workers, the jobs that wait (the next one last), and how many workers each job cost."""

    waiting: list[Task]
    n: int
    deaths: dict[str, int] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)

    def work(self) -> Iterator[Any]:
        self.workers = [self._hire(number) for number in range(self.n)]
        while any(worker.job for worker in self.workers) or self.waiting:
            for at, worker in enumerate(self.workers):
                if worker.job is None and self.waiting and not self._give(worker):
                    self.workers[at] = self._hire(worker.number)
            busy = {worker.pipe: at for at, worker in enumerate(self.workers) if worker.job}
            for pipe in connection.wait(list(busy)):
                yield from self._receive(busy[pipe])

    def end(self) -> None:
        """End all workers, at once where they are busy."""
        for worker in self.workers:
            worker.pipe.close()  # the end of its input, if it waits for a job
            if worker.job is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _hire(self, number: int) -> _Worker:
        here, there = _SPAWNED.Pipe()
        process = _SPAWNED.Process(
            target=_serve, args=(there, number, self.n), name=f"unet-cells-batch-{number}"
        )
        process.start()
        there.close()  # so that the end of the worker is the end of the pipe
        return _Worker(number, process, here)

    def _give(self, worker: _Worker) -> bool:
        """Give a worker the next job; whether it is there to take it."""
        try:
            worker.pipe.send(self.waiting[-1])
        except OSError:
            worker.process.join(_PATIENCE)
            return False
        worker.job = self.waiting.pop()
        return True

    def _receive(self, at: int) -> Iterator[Any]:
        """Take what a worker sends; where it died, replace it and give its job to another."""
        worker = self.workers[at]
        job, worker.job = worker.job, None
        assert job is not None
        try:
            done = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            worker.process.join(_PATIENCE)
            yield from self._died(job, worker.process.exitcode)
            self.workers[at] = self._hire(worker.number)
        else:
            yield done

    def _died(self, job: Task, code: int | None) -> Iterator[Any]:
        name = job.name
        self.deaths[name] = self.deaths.get(name, 0) + 1
        if self.deaths[name] < MOST_DEATHS:
            self.waiting.append(job)
            return
        yield job.failed(lost(self.deaths[name], _said(code)))


def lost(n: int, why: str = "") -> str:
    """Say that a unit ended all workers that had it."""
    because = f" ({why})" if why else ""
    return (
        f"{n} processes that computed it ended in the middle{because}. It may be too large for the "
        "memory of this many workers: take fewer, or segment it alone."
    )


def _said(code: int | None) -> str:
    if code is None or code >= 0:
        return "" if code is None else f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


# --- in the worker -----------------------------------------------------------------------


def _serve(pipe: Any, number: int, n: int) -> None:
    """Do one job after another, until there is none or nobody waits for them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the one that gives the jobs
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _share_cores(number, n)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: Task = pipe.recv()
        except (EOFError, OSError):
            return
        done = do(job)
        try:
            pipe.send(done)
        except OSError:
            return


def _stop(number: int, frame: object) -> None:
    """End, and let what is half written be removed."""
    sys.exit(128 + number)


def _share_cores(number: int, n: int) -> None:
    """Take a part of the cores, where the system allows it: libraries look how many there are."""
    cores = usable_cores()
    if n == 1 or not hasattr(os, "sched_setaffinity"):
        return
    with contextlib.suppress(OSError):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, set(mine[number % cores :: n]) or {mine[number % cores]})


def _end_with_parent() -> None:
    """End at once where the process that gives the jobs is killed: nobody would take the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
