"""Long work in a thread: a generator's events come to the GUI thread as a signal."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from queue import Empty, SimpleQueue

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet_cells.engine.process import Cancelled
from napari_unet_cells.errors import UserError
from napari_unet_cells.widgets.runner import Job

#: Milliseconds between two looks at what the thread has to say.
POLL = 15

#: Seconds that the end of the program waits for daemon threads.
LONGEST_END = 3.0

#: Threads that are working, with what stops each.
_working: dict[threading.Thread, threading.Event] = {}


class Worker(QObject):
    """Runs one generator at a time in a daemon thread.

    A job is a function that takes a stop event and gives a generator. Each of its events
    is emitted in the GUI thread; then one of `done`, `failed` and `cancelled`.

    A daemon thread, not a `QThread`: it keeps napari from closing for a moment at most, see
    `end_daemons` (`daemon=False` is for work that must come to its end, such as a file that is
    being written). It knows nothing of Qt and puts its events in a queue, which a timer of the
    worker empties: a signal emitted by a thread whose window is being destroyed ends in a
    segmentation fault.
    """

    progressed = Signal(object)
    done = Signal()
    failed = Signal(str)
    cancelled = Signal()

    def __init__(self, parent: QObject | None = None, daemon: bool = True) -> None:
        super().__init__(parent)
        self._daemon = daemon
        self._stop: threading.Event | None = None
        self._events: SimpleQueue[object] = SimpleQueue()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL)
        self._timer.timeout.connect(self._receive)

    @property
    def running(self) -> bool:
        """Whether a job was started and has not ended."""
        return self._stop is not None

    def start(self, job: Job) -> None:
        """Start a job; one that still runs is stopped, and what it still says is dropped."""
        self.stop()
        self._stop, self._events = threading.Event(), SimpleQueue()
        threading.Thread(
            target=_work, args=(job, self._stop, self._events), daemon=self._daemon
        ).start()
        self._timer.start()

    def cancel(self) -> None:
        """Stop the job; `cancelled` is emitted at once, the thread ends within a tile."""
        if self._stop is None:
            return
        self._stop.set()
        self._end()
        self.cancelled.emit()

    def stop(self) -> None:
        """Ask the job to stop and hear no more of it; works when the Qt object is gone."""
        if self._stop is not None:
            self._stop.set()

    def _receive(self) -> None:
        """Emit what is in the queue, at most one event a turn so that the window can paint."""
        try:
            event = self._events.get_nowait()
        except Empty:
            return
        if not isinstance(event, _End):
            self.progressed.emit(event)
            return
        self._end()
        if event.problem:
            self.failed.emit(event.problem)
        else:
            self.done.emit()

    def _end(self) -> None:
        self._timer.stop()
        self._stop = None


class _End:
    """Last message of a job; `problem` is the sentence for the user, empty if all went well."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem


def _work(job: Job, stop: threading.Event, events: SimpleQueue[object]) -> None:
    """Run a job to its end; this is the thread."""
    thread = threading.current_thread()
    _working[thread] = stop
    try:
        with contextlib.closing(job(stop)) as generator:
            for event in generator:
                if stop.is_set():
                    break
                events.put(event)
    except Cancelled:
        events.put(_End())
    except UserError as error:
        events.put(_End(str(error)))
    except MemoryError:
        events.put(
            _End(
                "The memory is full. What was made so far is kept; close other programs, or cut "
                "the image into smaller ones."
            )
        )
    except Exception as error:  # a defect of ours: a sentence for the user, the rest for us
        logging.getLogger(__name__).exception("unforeseen error")
        events.put(
            _End(
                "Something went wrong that the program did not foresee "
                f"({type(error).__name__}: {error}). What was made so far is kept."
            )
        )
    else:
        events.put(_End())
    finally:
        del _working[thread]


@atexit.register
def end_daemons() -> None:
    """Stop the daemon threads and wait for them, for a while, before Python ends.

    Python ends a daemon thread where it next wants to go on. In the middle of a library in C++ (as
    where Matplotlib draws letters) that ends the program in a segmentation fault.
    """
    working = list(_working.items())
    for _, stop in working:
        stop.set()
    end = time.monotonic() + LONGEST_END
    for thread, _ in working:
        thread.join(max(0.0, end - time.monotonic()))
