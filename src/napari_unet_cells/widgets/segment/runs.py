"""Number of the last run, and the thread that runs: late answers of earlier runs are dropped."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass

from napari_unet_cells.widgets.runner import Job, Runner


@dataclass(frozen=True)
class Answer:
    """An event of a job, and the number of the run that it belongs to."""

    run: int
    event: object


class Runs:
    """Starts one run after the other in a thread.

    It owns the number of the last run, which every answer of a job carries.

    Parameters
    ----------
    thread : Runner

    Attributes
    ----------
    number : int
        Of the last run, from 1; 0 before the first.
    """

    def __init__(self, thread: Runner) -> None:
        self._thread = thread
        self.number = 0

    @property
    def running(self) -> bool:
        """Whether a run is going."""
        return self._thread.running

    def begin(self, job: Job) -> None:
        """Begin the next run; what belongs to earlier ones is late from now on."""
        self.number += 1
        self.go_on(job)

    def go_on(self, job: Job) -> None:
        """Start one more job of the last run."""
        self._thread.start(self.numbered(job))

    def numbered(self, job: Job) -> Job:
        """Give a job whose events come as answers that belong to the last run."""
        number = self.number

        def answers(stop: threading.Event) -> Generator[object, None, None]:
            for event in job(stop):
                yield Answer(number, event)

        return answers

    def is_late(self, answer: Answer) -> bool:
        """Whether another run has begun since the job of an answer was started."""
        return answer.run != self.number
