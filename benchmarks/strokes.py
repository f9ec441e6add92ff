"""What a stroke costs on a large layer: medians in milliseconds, without napari's drawing.

All in one run: on a busy machine only the ratios mean something.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import disk

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import Edit

REPEATS = 15
SIDE = 4096

#: Pixels from the middle of a cell to that of the next, and the cells' radius.
PITCH, RADIUS = 64, 18


def cells(side: int) -> NDArray[np.uint16]:
    """Make a plane of pairs of discs, each pair one cell with a waist and a hole."""
    tile = np.zeros((PITCH, 2 * PITCH), bool)
    for column in (PITCH - 15, PITCH + 15):
        tile[disk((PITCH // 2, column), RADIUS)] = True
    tile[PITCH // 2 - 2 : PITCH // 2 + 2, PITCH - 20 : PITCH - 16] = False
    n_y, n_x = side // PITCH, side // (2 * PITCH)
    ids = np.arange(1, n_y * n_x + 1, dtype=np.uint16).reshape(n_y, n_x)
    return np.kron(ids, tile).astype(np.uint16)


def milliseconds(work: Callable[[], object]) -> float:
    """Median time of a piece of work."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def works(plane: NDArray[np.unsignedinteger[Any]]) -> dict[str, Callable[[], Edit]]:
    """Give the strokes, with the search for a free id where they take one."""
    y, x = 31 * PITCH + PITCH // 2, 15 * 2 * PITCH + PITCH
    large = plane.copy()
    large[disk((2000, 2000), 500)] = 1
    circle = np.linspace(0, 2 * np.pi, 200)
    outline = np.stack([y + 60 * np.sin(circle), x + 60 * np.cos(circle)], 1)
    across = [(y - PITCH // 2, x), (y + PITCH // 2, x)]

    def new_id() -> int:
        return int(plane.max()) + 1

    return {
        "merge two": lambda: edits.merge(plane, [(y, x), (y, x + 2 * PITCH)]),
        "merge 32 along a line": lambda: edits.merge(plane, [(y, 0), (y, SIDE)]),
        "split along a line": lambda: edits.split_along(plane, across, new_id()),
        "split 64 along a line": lambda: edits.split_along(plane, [(0, x), (SIDE, x)], new_id()),
        "split 1000 x 1000 pixels": lambda: edits.split_along(
            large, [(2000, 1400), (2000, 2600)], new_id()
        ),
        "split at the waist": lambda: edits.split_by_distance(plane, (y, x), new_id()),
        "delete": lambda: edits.delete(plane, (y, x)),
        "fill": lambda: edits.fill_holes(plane, (y, x)),
        "smooth": lambda: edits.smooth(plane, (y, x)),
        "new": lambda: edits.draw(plane, outline, new_id()),
    }


def main() -> None:
    """Print the times for labels of 16 and of 32 bits."""
    labels = cells(SIDE)
    for plane in (labels.astype(np.uint16), labels.astype(np.uint32)):
        print(f"{SIDE} x {SIDE}, {plane.dtype}, {plane.max()} cells")
        for name, work in works(plane).items():
            print(f"  {name:<26} {milliseconds(work):6.1f} ms, {len(work().rows):6d} pixels")


if __name__ == "__main__":
    main()
