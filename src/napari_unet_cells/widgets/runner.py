"""Threads of a form, as its controller sees them: without Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Protocol

#: Takes an event that stops it, and yields what is to be said in the GUI thread.
Job = Callable[[threading.Event], Generator[object, None, None]]


class Runner(Protocol):
    """A thread for one job at a time; see `widgets.worker.Worker`."""

    @property
    def running(self) -> bool:
        """Whether a job was started and has not ended."""

    def start(self, job: Job) -> None:
        """Start a job; one that still runs is stopped."""


class StoppableRunner(Runner, Protocol):
    """A thread whose job may go on unheard."""

    def stop(self) -> None:
        """Hear no more of the job that runs."""


class CancellableRunner(Runner, Protocol):
    """A thread whose job need not come to its end."""

    def cancel(self) -> None:
        """Stop the job, where there is one, and say that it was cancelled."""
