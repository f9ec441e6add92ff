"""How fast each runtime computes the networks that ship, and on how many pixels they agree.

Rounds of all runtimes in turn, medians: on a busy machine only the ratios mean something. The
classes are compared with those of the first runtime.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from napari_unet_cells.core.normalize import normalize, percentile_limits
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.table import RUNTIMES, UnusableRuntime
from napari_unet_cells.sample_data import simulate_nuclei

#: The runtime that the others are compared with.
REFERENCE = "tensorflow"

#: Height and width of the image, in pixels.
SIDE = 1024


def main() -> None:
    """Print a table of runtimes for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["cells", "cells-fast"])
    parser.add_argument("--rounds", type=int, default=11)
    told = parser.parse_args()
    plane = np.tile(simulate_nuclei((512, 512), seed=1)[0], (SIDE // 512, SIDE // 512))
    limits = percentile_limits(plane)
    assert limits is not None
    tile = normalize(plane, limits)[np.newaxis, ..., np.newaxis]
    print("| model | runs on | ms a megapixel | times as fast | same class |")
    print("|---|---|---|---|---|")
    for model in told.models:
        for line in rows(model, tile, told.rounds):
            print(line)


def rows(model: str, tile: np.ndarray, rounds: int) -> list[str]:
    """Time a model with every runtime that is installed, on the CPU."""
    card, networks = find_model(model), []
    for name in sorted(RUNTIMES, key=lambda name: name != REFERENCE):
        if RUNTIMES[name].installed:
            try:
                networks.append(RUNTIMES[name].open(card, cpu=True))
            except UnusableRuntime as error:
                print(f"{RUNTIMES[name].title} cannot compute {model}: {error}")
    # The first time each compiles for the size.
    classes = [next(iter(network.predict([tile])))[..., 0] for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(rounds):
        for network, taken in zip(networks, times, strict=True):
            start = time.perf_counter()
            list(network.predict([tile]))
            taken.append(time.perf_counter() - start)
    medians = [statistics.median(taken) for taken in times]
    megapixels = tile.size / 1e6
    return [
        f"| {model} | {network.device} | {1000 * median / megapixels:.0f} | "
        f"{medians[0] / median:.1f} | {np.mean(one == classes[0]):.2%} |"
        for network, median, one in zip(networks, medians, classes, strict=True)
    ]


if __name__ == "__main__":
    main()
