"""Run after run in one napari, to see what grows, such as memory or threads: ``soak.py 1000``.

Draws what was measured into ``build/soak/soak.png`` beside a table, and prints how much each grows
in a hundred runs, fitted to the second half, in which all that is kept once has been made. Each
tenth run has a new image, as a user opens one after the other; the others go into the layers that
are there. Without a screen of its own it starts itself on one.
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

from napari_unet_cells.files.atomic import atomic_write

#: Runs that share an image.
RUNS_AN_IMAGE = 10

#: What napari 0.9 keeps of each image that is opened and removed again with two layers of labels,
#: without this program: megabytes, and objects of Python.
KEPT_BY_NAPARI = (5.5, 525.0)

#: What is measured, with its unit, and how much may come in a hundred runs: what napari, Qt and the
#: allocator keep for a while is not counted exactly.
MEASURED = {
    "memory": ("MB", 5.0 + KEPT_BY_NAPARI[0] * 100 / RUNS_AN_IMAGE),
    "memory of the child": ("MB", 5.0),
    "threads": ("", 0.5),
    "file handles": ("", 0.5),
    "children": ("", 0.2),
    "objects": ("", 400.0 + KEPT_BY_NAPARI[1] * 100 / RUNS_AN_IMAGE),
}

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


def soak(runs: int, every: int) -> Iterator[dict[str, float]]:
    """Segment over and over in one napari.

    Yields
    ------
    dict
        What was measured after each `every` runs, with the number of the run.
    """
    import napari

    from napari_unet_cells.sample_data import simulate_nuclei

    viewer = napari.Viewer()
    wait(0.5)
    dock: Any = viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]
    segment = dock.segment
    images = [simulate_nuclei((SIDE, SIDE), seed=seed)[0] for seed in range(4)]
    for run in range(runs):
        if run % RUNS_AN_IMAGE == 0:
            viewer.layers.clear()
            wait(0.3)
            viewer.add_image(images[run // RUNS_AN_IMAGE % len(images)], name="image")
            wait(0.3)
        segment.button.click()
        wait(lambda: not segment.worker.running)
        wait(0.1)
        # After as many runs on an image each time, so that there are as many layers.
        if (run + 1) % every == 0:
            assert len(viewer.layers) == 3, "image, cells and classes"
            yield {"run": float(run + 1), **measure()}
    viewer.close()


def _line(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {row[name]:.0f}" for name in ("run", *MEASURED))


def growth(rows: list[dict[str, float]], name: str) -> float:
    """How much something grows in a hundred runs, by a line through the second half."""
    half = rows[len(rows) // 2 :]
    if len(half) < 2:
        return 0.0
    return float(np.polyfit([row["run"] for row in half], [row[name] for row in half], 1)[0] * 100)


def write(rows: list[dict[str, float]], folder: Path) -> None:
    """Write what was measured as a table and as a picture."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(folder / "soak.csv", overwrite=True) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, ["run", *MEASURED])
        table.writeheader()
        table.writerows(rows)
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 2, sharex=True)
    for axis, (name, (unit, _)) in zip(axes.flat, MEASURED.items(), strict=True):
        axis.plot([row["run"] for row in rows], [row[name] for row in rows], ".-")
        axis.set_title(
            f"{name}{f', {unit}' if unit else ''}: {growth(rows, name):+.2g} in 100 runs"
        )
        axis.set_ylim(0, 1.2 * max(row[name] for row in rows) or 1)
    for axis in axes[-1]:
        axis.set_xlabel("runs")
    with atomic_write(folder / "soak.png", overwrite=True) as temporary:
        figure.savefig(temporary, dpi=100)


def main(arguments: list[str] | None = None) -> int:
    """Soak, write what was measured, and give the exit code: 1 where anything grows."""
    parser = argparse.ArgumentParser(description="Segment over and over in one napari.")
    parser.add_argument("runs", type=int, nargs="?", default=1000, help="default: 1000")
    parser.add_argument("--every", type=int, default=RUNS_AN_IMAGE, help="runs between two looks")
    parser.add_argument("--output", type=Path, default=Path("build/soak"))
    options = parser.parse_args(arguments)
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        screen = [shutil.which("xvfb-run") or "xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]
        command = [*screen, sys.executable, __file__, *(arguments or sys.argv[1:])]
        return subprocess.call(command, env={**os.environ, "QT_QPA_PLATFORM": "xcb"})
    rows, grown = [], []
    try:
        for row in soak(options.runs, options.every):
            rows.append(row)
            print(_line(row), flush=True)
            write(rows, options.output)  # what was measured stays where it is stopped
    except KeyboardInterrupt:
        print("Stopped.")
    for name, (unit, allowed) in MEASURED.items():
        grows = growth(rows, name)
        print(f"{name}: {grows:+.2f} {unit} in 100 runs".replace("  ", " "))
        grown += [name] if grows > allowed else []
    print(
        f"{rows[-1]['run'] if rows else 0:.0f} runs; what grows: {', '.join(grown) or 'nothing'}."
    )
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
