"""Compare one worker of `batch` with two, for both models: whole runs of the command.

The images are simulated. Each run starts anew, with the time that processes and networks need to
start; to be run on a quiet computer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tifffile

from napari_unet_cells.sample_data import simulate_nuclei

MODELS = ("cells", "cells-fast")


def make_images(folder: Path, n: int, side: int) -> None:
    """Write images that differ."""
    folder.mkdir()
    for number in range(n):
        image, _ = simulate_nuclei((side, side), seed=number)
        tifffile.imwrite(folder / f"{number}.tif", image)


def seconds_of(images: Path, output: Path, model: str, workers: int) -> float:
    """Run the command once."""
    command = [sys.executable, "-m", "napari_unet_cells.cli", "batch", str(images)]
    command += ["-o", str(output), "--model", model, "--workers", str(workers)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-n", type=int, default=40, help="images (default: 40)")
    parser.add_argument("--side", type=int, default=1024, help="pixels a side (default: 1024)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: 3)")
    options = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    print(f"{options.n} images of {options.side} x {options.side}, {os.cpu_count()} cores{load}")
    print("| model | one worker | two | times as fast |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        make_images(images, options.n, options.side)
        for model in MODELS:
            found = {
                workers: statistics.median(
                    seconds_of(images, Path(place) / f"{model}-{workers}-{run}", model, workers)
                    for run in range(options.repeats)
                )
                for workers in (1, 2)
            }
            ratio = found[1] / found[2]
            print(f"| {model} | {found[1]:.1f} s | {found[2]:.1f} s | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
