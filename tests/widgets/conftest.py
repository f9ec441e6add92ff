"""What makes the tests of windows faster, and threads that wait for a test."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.catalogue import DEFAULT_MODEL


@pytest.fixture(autouse=True, scope="session")
def _freeze_imports() -> None:
    """Keep the collector of garbage away from what the imports made.

    napari collects garbage whenever a viewer closes and its fixture does around each test; most
    of that time went to 200,000 objects of modules, which stay until the end.
    """
    import napari.window  # noqa: F401

    import napari_unet_cells.widgets.dock  # noqa: F401

    gc.collect()
    gc.freeze()


class HandThread:
    """Keeps the events of its job until the test asks for them, in place of a `Worker`.

    Parameters
    ----------
    must_end : bool
        Whether its jobs must come to their end, such as a file that is being written.
    """

    def __init__(self, must_end: bool = False) -> None:
        self.events: Iterator[Any] | None = None
        self.told_to_stop = threading.Event()
        self._must_end = must_end
        self.cancelled: Callable[[], object] = lambda: None

    @property
    def running(self) -> bool:
        return self.events is not None

    def start(self, job: Callable[[threading.Event], Iterator[Any]]) -> None:
        assert not (self._must_end and self.running)
        self.told_to_stop = threading.Event()
        self.events = job(self.told_to_stop)

    def stop(self) -> None:
        assert not self._must_end
        self.events = None

    def cancel(self) -> None:
        self.stop()
        self.cancelled()

    def take(self) -> Iterator[Any]:
        """Give the events of the job, which has ended for those who ask."""
        assert self.events is not None
        events, self.events = self.events, None
        return events

    def end(self) -> list[Any]:
        """Do the job to its end, and give its events."""
        events = list(self.events)
        self.events = None
        return events

    def connect(
        self,
        progressed: Callable[[Any], object],
        failed: Callable[[str], object],
        done: Callable[[], object] = lambda: None,
        cancelled: Callable[[], object] = lambda: None,
    ) -> None:
        """Name what hears of the job; see the signals of `Worker`."""
        self.progressed, self.failed = progressed, failed
        self.done, self.cancelled = done, cancelled

    def work(self) -> None:
        """Let the job come to its end, and tell of it."""
        assert self.events is not None
        try:
            for event in self.events:
                self.progressed(event)
        except UserError as error:
            self.events = None
            self.failed(str(error))
        else:
            self.events = None
            self.done()


@pytest.fixture
def make_thread() -> type[HandThread]:
    """Give what makes a thread that waits for the test."""
    return HandThread


@pytest.fixture
def tiny_home(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the program find a small model alone, by the name of the default one."""
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    for ending in (".keras", ".json"):
        source = tiny_model.with_suffix(ending)
        (home / "models" / f"{DEFAULT_MODEL}{ending}").write_bytes(source.read_bytes())
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(home))
    return home
