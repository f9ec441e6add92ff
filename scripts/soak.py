"""Run after run in one napari, to see what grows, such as memory or threads: ``soak.py 1000``.

Draws what was measured into ``build/soak/soak.png`` beside a table, and prints how much each grows
in a hundred runs, fitted to the second half, in which all that is kept once has been made. Each
tenth run has a new image, as a user opens one after the other; the others go into the layers that
are there. Without a screen of its own it starts itself on one.

napari keeps something of every image that was opened, with this program or without. So a napari
without our dock does the same first (``--control``): it opens the same images with two layers of
labels and writes into them as often. What grows is what grows faster than there.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_unet_cells.files.atomic import atomic_write

#: Runs that share an image.
RUNS_AN_IMAGE = 10

#: What is measured, with its unit, and how much more may come in 100 runs than in the control:
#: what napari, Qt and the allocator keep for a while is not counted exactly.
MEASURED = {
    "memory": ("MB", 5.0),
    "memory of the child": ("MB", 5.0),
    "threads": ("", 0.5),
    "file handles": ("", 0.5),
    "children": ("", 0.2),
    "objects": ("", 400.0),
}

#: Tables of the runs, and of those without our dock.
RUNS, CONTROL = "soak.csv", "control.csv"

#: Pixels.
SIDE = 128


def wait(until: Callable[[], bool] | float, timeout: float = 600.0) -> None:
    """Let the window work until something is so, or for some seconds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + (timeout if callable(until) else until)
    while time.monotonic() < end:
        if callable(until) and until():
            return
        QApplication.processEvents()
        time.sleep(0.002)
    if callable(until):
        raise TimeoutError(f"the window did not finish in {timeout:.0f} s")


def measure() -> dict[str, float]:
    """Measure this process and its children."""
    gc.collect()
    process = psutil.Process()
    children = process.children(recursive=True)
    return {
        "memory": process.memory_info().rss / 2**20,
        "memory of the child": sum(child.memory_info().rss for child in children) / 2**20,
        "threads": process.num_threads(),
        "file handles": process.num_fds() if hasattr(process, "num_fds") else 0,
        "children": len(children),
        "objects": len(gc.get_objects()),
    }


def soak(runs: int, every: int, *, control: bool = False) -> Iterator[dict[str, float]]:
    """Segment over and over in one napari, or do the same to its layers without our dock.

    Yields
    ------
    dict
        What was measured after each `every` runs, with the number of the run.
    """
    import napari

    from napari_unet_cells.sample_data import simulate_nuclei

    viewer = napari.Viewer()
    wait(0.5)
    drawn = [simulate_nuclei((SIDE, SIDE), seed=seed) for seed in range(4)]
    run_once = _without_us(viewer) if control else _segment(viewer)
    for run in range(runs):
        image, labels = drawn[run // RUNS_AN_IMAGE % len(drawn)]
        if run % RUNS_AN_IMAGE == 0:
            viewer.layers.clear()
            wait(0.3)
            viewer.add_image(image, name="image")
            wait(0.3)
        run_once(labels)
        wait(0.1)
        # After as many runs on an image each time, so that there are as many layers.
        if (run + 1) % every == 0:
            assert len(viewer.layers) == 3, "image, cells and classes"
            yield {"run": float(run + 1), **measure()}
    viewer.close()


def _segment(viewer: Any) -> Callable[[NDArray[Any]], None]:
    """Give what presses Segment and waits for the end."""
    dock: Any = viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]

    def run_once(_: NDArray[Any]) -> None:
        dock.segment.button.click()
        wait(lambda: not dock.segment.worker.running)

    return run_once


def _without_us(viewer: Any) -> Callable[[NDArray[Any]], None]:
    """Give what adds the two layers of a run, or writes into them, with napari alone."""

    def run_once(labels: NDArray[Any]) -> None:
        if len(viewer.layers) == 1:
            viewer.add_labels((labels > 0).astype(np.uint8), name="classes")
            wait(0.05)
            viewer.add_labels(labels.copy(), name="cells")
        for layer in viewer.layers[1:]:
            layer.data[:] = layer.data
            layer.refresh()
        wait(0.05)

    return run_once


def _line(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {row[name]:.0f}" for name in ("run", *MEASURED))


def growth(rows: list[dict[str, float]], name: str) -> float:
    """How much something grows in a hundred runs, by a line through the second half."""
    half = rows[len(rows) // 2 :]
    if len(half) < 2:
        return 0.0
    return float(np.polyfit([row["run"] for row in half], [row[name] for row in half], 1)[0] * 100)


def more_than_control(
    rows: list[dict[str, float]], control: list[dict[str, float]], name: str
) -> float:
    """How much more something grows in a hundred runs than without our dock."""
    return growth(rows, name) - growth(control, name)


def read(path: Path) -> list[dict[str, float]]:
    """Read a table of runs; without one there are none."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write(rows: list[dict[str, float]], path: Path) -> None:
    """Write what was measured as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path, overwrite=True) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, ["run", *MEASURED])
        table.writeheader()
        table.writerows(rows)


def draw(rows: list[dict[str, float]], control: list[dict[str, float]], path: Path) -> None:
    """Draw what was measured over the runs, with our dock and without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 2, sharex=True)
    for axis, (name, (unit, _)) in zip(axes.flat, MEASURED.items(), strict=True):
        for label, runs, color in (("", rows, "C0"), ("control: without our dock", control, "C7")):
            axis.plot([r["run"] for r in runs], [r[name] for r in runs], color, label=label)
        more = round(more_than_control(rows, control, name), 1) + 0.0  # 0 without a sign
        title = f"{name}{f', {unit}' if unit else ''}: {more:+g} in 100 runs against the control"
        axis.set_title(title, fontsize=9)
        axis.set_ylim(0, 1.2 * max(row[name] for row in (*rows, *control)) or 1)
    axes.flat[0].legend(loc="lower right")
    for axis in axes[-1]:
        axis.set_xlabel("runs")
    with atomic_write(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=100)


def main(arguments: list[str] | None = None) -> int:
    """Soak, write what was measured, and give the exit code: 1 where anything grows."""
    parser = argparse.ArgumentParser(description="Segment over and over in one napari.")
    parser.add_argument("runs", type=int, nargs="?", default=1000, help="default: 1000")
    parser.add_argument("--every", type=int, default=RUNS_AN_IMAGE, help="runs between two looks")
    parser.add_argument("--output", type=Path, default=Path("build/soak"))
    parser.add_argument("--control", action="store_true", help="measure napari without our dock")
    options = parser.parse_args(arguments)
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        screen = [shutil.which("xvfb-run") or "xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]
        command = [*screen, sys.executable, __file__, *(arguments or sys.argv[1:])]
        return subprocess.call(command, env={**os.environ, "QT_QPA_PLATFORM": "xcb"})
    if options.control:
        _measured(options, CONTROL)
        return 0
    numbers = [str(options.runs), "--every", str(options.every)]
    subprocess.run(
        [sys.executable, __file__, *numbers, "--output", options.output, "--control"], check=True
    )
    rows, control = _measured(options, RUNS), read(options.output / CONTROL)
    grown = []
    for name, (unit, allowed) in MEASURED.items():
        grows, more = growth(rows, name), more_than_control(rows, control, name)
        print(f"{name}: {grows:+.2f} {unit} in 100 runs, {more:+.2f} more than without our dock")
        grown += [name] if more > allowed else []
    draw(rows, control, options.output / "soak.png")
    print(
        f"{rows[-1]['run'] if rows else 0:.0f} runs; what grows: {', '.join(grown) or 'nothing'}."
    )
    return 1 if grown else 0


def _measured(options: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """Soak, and write each row as it comes, so that Ctrl+C leaves what was measured so far."""
    rows = []
    try:
        for row in soak(options.runs, options.every, control=options.control):
            rows.append(row)
            print(_line(row), flush=True)
            write(rows, options.output / name)
    except KeyboardInterrupt:
        print("Stopped.")
    return rows


if __name__ == "__main__":
    sys.exit(main())
