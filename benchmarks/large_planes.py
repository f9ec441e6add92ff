"""Memory and time of a plane of any size that is segmented into an OME-Zarr, block by block.

::

    python benchmarks/large_planes.py --side 8000 31623 --model cells-fast

Each side is a process of its own. The plane is a zarr of simulated nuclei, repeated; the memory is
the most that the process and its children held at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

#: Side of the part that is repeated, and of the chunks.
PART = 1000

_RUN = """
import json, sys, time
from pathlib import Path
from napari_unet_cells.segmentation.to_zarr import segment_to_zarr
folder, model = Path(sys.argv[1]), sys.argv[2]
start = time.perf_counter()
*_, done = segment_to_zarr(folder / "image.zarr", folder / "out.ome.zarr", model)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "cells": done.n_cells, "blocks": done.n_blocks,
                  "problems": done.problems}))
"""


def write_plane(path: Path, side: int) -> None:
    """Write a plane of simulated nuclei."""
    import zarr

    from napari_unet_cells.sample_data import simulate_nuclei

    part = simulate_nuclei((PART, PART), seed=1)[0]
    array: Any = zarr.create_array(
        path, shape=(side, side), chunks=(PART, PART), dtype=part.dtype, dimension_names=("y", "x")
    )
    rows = np.tile(part, (1, -(-side // PART)))[:, :side]
    for top in range(0, side, PART):
        array[top : top + PART] = rows[: min(PART, side - top)]


def measure(side: int, model: str, folder: Path) -> dict[str, Any]:
    """Segment a plane in a process of its own, and watch its memory."""
    write_plane(folder / "image.zarr", side)
    command = [sys.executable, "-c", _RUN, str(folder), model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak, stop = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, stop))
        watcher.start()
        said, _ = process.communicate()
        stop.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"the run of {side} pixels ended with code {process.returncode}")
    size = sum(path.stat().st_size for path in (folder / "out.ome.zarr").rglob("*"))
    return {"side": side, "model": model, "peak": peak[0], "bytes": size, **json.loads(said)}


def _watch(pid: int, peak: list[int], stop: threading.Event) -> None:
    """Note the most memory of a process and its children."""
    process = psutil.Process(pid)
    while not stop.is_set():
        try:
            family = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(one.memory_info().rss for one in family))
        except psutil.Error:
            return
        time.sleep(0.05)


def row(found: dict[str, Any]) -> str:
    """Give one line of a table in Markdown."""
    megapixels = found["side"] ** 2 / 1e6
    return (
        f"| {found['model']} | {megapixels:,.0f} | {found['blocks']} | {found['cells']:,} | "
        f"{found['seconds']:.0f} | {megapixels / found['seconds']:.1f} | "
        f"{found['peak'] / 1e9:.2f} | {found['bytes'] / 1e6:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure planes of several sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--side", type=int, nargs="+", default=[8000, 31623])
    parser.add_argument("--model", default="cells-fast")
    parser.add_argument("--folder", type=Path, help="with room for the planes")
    options = parser.parse_args(arguments)
    print("| model | megapixels | blocks | cells | seconds | MP/s | peak GB | MB written |")
    print("|---|---|---|---|---|---|---|---|")
    for side in options.side:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(row(measure(side, options.model, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
