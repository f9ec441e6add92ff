"""How long the window stands still, and when it is ready: medians of several.

``xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/window.py [ROW ...]``, without a screen
of its own it starts itself there. The rows, all by default::

    ready         the dock is shown --> its device line names what computes
    run           the press of Segment --> the cells of a new image
    again         the same, into the layers of the run before
    earlier       an earlier result of 16 megapixels comes back
    projection    the next plane, of 16 megapixels, of a projection of channels too large to keep
    table         a table of 15,000 cells is sorted, all its rows are chosen, one is

Of each: the longest gap between two ticks of the window's clock, and how much of a gap was spent in
this program, in what it calls but for napari; the rest is napari's and Qt's. Where it was spent is
sampled in runs of their own, since that slows the window down.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

REPEATS = 5
SIDES = (512, 2048)

#: Seconds between two looks at what the window does.
SAMPLED = 0.001

#: Where a frame of the stack is counted: with this program, or with what draws the window.
OURS, DRAWN = "napari_unet_cells", ("napari", "vispy", "superqt", "app_model", "psygnal", "qtpy")


def package(frame: FrameType) -> str:
    """Name the package that a frame of the stack belongs to."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def is_ours(frame: FrameType | None) -> bool:
    """Whether the innermost of both programs in a stack is this one."""
    while frame is not None:
        name = package(frame)
        if name == OURS or name in DRAWN:
            return name == OURS
        frame = frame.f_back
    return False


class Clock:
    """Ticks of the window, and samples of what holds them up."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.ticks: list[float] = []
        self.samples: list[tuple[float, bool]] = []
        self.sampling = False
        self._window = threading.get_ident()
        self._timer = QTimer()
        self._timer.timeout.connect(lambda: self.ticks.append(time.perf_counter()))
        self._timer.start(2)
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        sys.setswitchinterval(SAMPLED)
        while True:
            time.sleep(SAMPLED if self.sampling else 0.05)
            if self.sampling:
                ours = is_ours(sys._current_frames().get(self._window))
                self.samples.append((time.perf_counter(), ours))

    @contextmanager
    def watching(self, sampling: bool = False) -> Iterator[Gaps]:
        """Measure what is done within."""
        gaps = Gaps()
        self.ticks.clear()
        self.samples.clear()
        wait(0.1)
        self.sampling, start = sampling, time.perf_counter()
        yield gaps
        gaps.seconds = time.perf_counter() - start
        wait(0.3)
        self.sampling = False
        edges = np.asarray(self.ticks)
        gaps.longest = float(np.diff(edges).max())
        if sampling:
            times, ours = np.asarray(self.samples).T
            since = np.diff(times, prepend=times[0])
            gaps.ours = float(np.histogram(times, edges, weights=since * ours)[0].max())


class Gaps:
    """Seconds that something took, and those of its longest gap."""

    seconds = longest = ours = 0.0


def wait(until: Callable[[], bool] | float, timeout: float = 300.0) -> None:
    """Let the window work until something is so, or for some seconds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + (timeout if callable(until) else until)
    while time.monotonic() < end and not (callable(until) and until()):
        QApplication.processEvents()
        time.sleep(0.001)


class Window:
    """A napari with the dock."""

    def __init__(self) -> None:
        import napari

        self.viewer = napari.Viewer()
        wait(0.5)
        start = time.perf_counter()
        self.dock = self.viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]
        wait(0.0)
        shown = time.perf_counter()
        wait(lambda: self.dock.segment.device_label.text()[:3] in ("CPU", "GPU"))
        self.opened, self.ready = shown - start, time.perf_counter() - shown
        self.clock = Clock()

    def show(self, image: Any) -> Any:
        """Show an image, and nothing else."""
        self.viewer.layers.clear()
        wait(0.3)  # napari 0.9 crashes if layers come before it has drawn
        layer = self.viewer.add_image(image, name="image")
        wait(0.5)
        return layer

    def segment(self) -> None:
        """Press the button, and wait for the end."""
        self.dock.segment.button.click()
        wait(lambda: not self.dock.segment.worker.running)

    def repeat(self, title: str, before: Callable[[], object], do: Callable[[], object]) -> None:
        """Measure something several times, each after something else, and print it."""
        plain: list[Gaps] = []
        sampled: list[Gaps] = []
        for number in range(REPEATS + 2):
            before()
            with self.clock.watching(sampling=number >= REPEATS) as gaps:
                do()
            (sampled if number >= REPEATS else plain).append(gaps)
        longest = [1000 * gaps.longest for gaps in plain]
        print(
            f"{title}: {statistics.median(gaps.seconds for gaps in plain):.2f} s, longest gap "
            f"median {statistics.median(longest):.0f} ms, worst {max(longest):.0f} ms, of this "
            f"program {1000 * max(gaps.ours for gaps in sampled):.0f} ms",
            flush=True,
        )


def nuclei(side: int) -> Any:
    """Give an image with cells."""
    from napari_unet_cells.sample_data import simulate_nuclei

    return np.tile(simulate_nuclei((512, 512), seed=1)[0], (side // 512, side // 512))


def ready(window: Window) -> None:
    """Print how long it took to open the dock, and then until the network is ready."""
    print(f"dock opened in {window.opened:.2f} s, ready {window.ready:.2f} s after it is shown")


def run(window: Window) -> None:
    """Segment a new image, so that all layers are new."""
    for side in SIDES:
        image = nuclei(side)
        window.repeat(f"run, {side} x {side}", partial(window.show, image), window.segment)


def again(window: Window) -> None:
    """Segment an image again."""
    for side in SIDES:
        window.show(nuclei(side))
        window.segment()
        window.repeat(f"again, {side} x {side}", lambda: wait(0.5), window.segment)


def earlier(window: Window) -> None:
    """Bring an earlier result back."""
    side, segment = 4096, window.dock.segment
    layer = window.show(nuclei(side))
    window.segment()
    layer.data = layer.data[:, ::-1]
    window.segment()

    def bring_back() -> None:
        segment.controller.choose_result(1 - int(segment.result_box.box.currentIndex()))
        wait(lambda: not segment.adjusting.running)

    window.repeat(f"earlier result, {side} x {side}", lambda: wait(1.0), bring_back)


def projection(window: Window) -> None:
    """Go through the planes of a projection that is computed while it is looked at."""
    side, planes, viewer = 4096, 5, window.viewer
    image = nuclei(side).astype(np.uint16)
    stack = np.stack([np.stack([image, np.roll(image, 50 * z)]) for z in range(planes)])
    window.show(stack)
    segment = window.dock.segment
    stacked = replace(segment.values.stack, channel_axis=1, projection="max", channels=(0, 1))
    with window.clock.watching() as gaps:
        segment.controller.start(replace(segment.values, stack=stacked))
        wait(lambda: not segment.worker.running)
    print(f"run of a projection, {side} x {side}: longest gap {1000 * gaps.longest:.0f} ms")

    def next_plane() -> None:
        viewer.dims.set_current_step(0, (viewer.dims.current_step[0] + 1) % planes)

    window.repeat(f"next plane, {side} x {side}", lambda: wait(2.0), next_plane)


def table(window: Window) -> None:
    """Sort a table of many cells, and choose rows."""
    from napari.layers import Labels
    from qtpy.QtCore import Qt

    from napari_unet_cells.widgets.export.table import open_table

    side, cell = 3000, 24
    window.show(np.zeros((side, side), np.uint8))
    y, x = np.mgrid[:side, :side]
    labels = np.where(
        (y % cell < 3) | (x % cell < 3), 0, y // cell * (side // cell) + x // cell + 1
    )
    layer = Labels(labels.astype(np.int32), name="cells")
    window.viewer.layers.append(layer)
    shown = open_table(window.viewer, layer)
    wait(lambda: not shown.measuring.busy and shown.histogram is not None)
    rows, orders = shown.view, [Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder]

    def sort() -> None:
        orders.reverse()
        rows.sortByColumn(1, orders[0])

    window.repeat("table, sorted", rows.clearSelection, sort)
    window.repeat("table, all rows chosen", rows.clearSelection, rows.selectAll)
    window.repeat("table, one row chosen", rows.clearSelection, lambda: rows.selectRow(5))


ROWS = {
    "ready": ready,
    "run": run,
    "again": again,
    "earlier": earlier,
    "projection": projection,
    "table": table,
}


def main(names: list[str]) -> None:
    """Measure the rows that are named."""
    window = Window()
    for name in names or ROWS:
        ROWS[name](window)
    window.viewer.close()


if __name__ == "__main__":
    if not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        screen = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]
        sys.exit(subprocess.call([*screen, sys.executable, __file__, *sys.argv[1:]]))
    main(sys.argv[1:])
