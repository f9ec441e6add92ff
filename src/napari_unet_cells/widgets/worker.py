"""Long work in a thread: a generator's events come to the GUI thread as a signal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator

from qtpy.QtCore import QObject, Signal

from napari_unet_cells.engine import Cancelled
from napari_unet_cells.errors import UserError

Job = Callable[[threading.Event], Generator[object, None, None]]


class Worker(QObject):
    """Runs one generator at a time in a daemon thread.

    A job is a function that takes a stop event and gives a generator. Each of its events
    is emitted in the GUI thread; then one of `done`, `failed` and `cancelled`. A daemon
    thread, not a `QThread`: it never keeps napari from closing.
    """

    event = Signal(object)
    done = Signal()
    failed = Signal(str)
    cancelled = Signal()

    # From the thread; carries the number of the run, so that what a cancelled run still
    # says is dropped.
    _message = Signal(int, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._run = 0
        self._stop: threading.Event | None = None
        self._message.connect(self._receive)

    @property
    def running(self) -> bool:
        """Whether a job was started and has not ended."""
        return self._stop is not None

    @property
    def stop_event(self) -> threading.Event | None:
        """The stop event of the running job."""
        return self._stop

    def start(self, job: Job) -> None:
        """Start a job; one that still runs is cancelled and forgotten."""
        if self._stop is not None:
            self._stop.set()
        self._run += 1
        self._stop = threading.Event()
        threading.Thread(target=self._work, args=(self._run, job, self._stop), daemon=True).start()

    def cancel(self) -> None:
        """Stop the job; `cancelled` is emitted at once, the thread ends within a tile."""
        if self._stop is None:
            return
        self._stop.set()
        self._stop = None
        self._run += 1
        self.cancelled.emit()

    def _work(self, run: int, job: Job, stop: threading.Event) -> None:
        # Where the window was closed meanwhile, the signal's owner is gone.
        with contextlib.suppress(RuntimeError):
            self._message.emit(run, _end_of(job, stop, lambda e: self._message.emit(run, e)))

    def _receive(self, run: int, event: object) -> None:
        if run != self._run:
            return
        if not isinstance(event, _End):
            self.event.emit(event)
            return
        self._stop = None
        if event.problem:
            self.failed.emit(event.problem)
        else:
            self.done.emit()


class _End:
    """Last message of a run; `problem` is the sentence for the user, empty if all went well."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem


def _end_of(job: Job, stop: threading.Event, emit: Callable[[object], None]) -> _End:
    try:
        with contextlib.closing(job(stop)) as events:
            for event in events:
                if stop.is_set():
                    break
                emit(event)
    except Cancelled:
        return _End()
    except UserError as error:
        return _End(str(error))
    except RuntimeError as error:
        if "deleted" in str(error):  # the window is gone, nobody listens any more
            raise
        return _End(_defect(error))
    except Exception as error:
        return _End(_defect(error))
    return _End()


def _defect(error: Exception) -> str:
    """Describe an error that we did not foresee; the traceback goes to the log."""
    import logging

    logging.getLogger("napari_unet_cells").exception("unforeseen error", exc_info=error)
    return (
        f"Something went wrong that the program did not foresee ({type(error).__name__}: "
        f"{error}). What was made so far is kept."
    )
