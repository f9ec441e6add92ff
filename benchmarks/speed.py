"""Where the time of a run goes, per megapixel, and how fast crops for the training are drawn.

All in one run, medians of several: on a busy machine only the ratios mean something.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from napari_unet_cells.augment import Cropper, annotate
from napari_unet_cells.engine import open_network
from napari_unet_cells.instances import label_cells
from napari_unet_cells.nets import DEFAULT_MODEL, find_model
from napari_unet_cells.normalize import normalize, percentile_limits
from napari_unet_cells.predict import Output, predict_plane
from napari_unet_cells.sample_data import simulate_nuclei

REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """Median time of a piece of work."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print the parts of a run on four megapixels."""
    plane = np.tile(simulate_nuclei((512, 512), seed=1)[0], (4, 4))
    megapixels = plane.size / 1e6
    card = find_model(DEFAULT_MODEL)
    network = open_network(card)
    limits = percentile_limits(plane)
    assert limits is not None
    out = Output.empty(plane.shape, boundary=True)
    tile = normalize(plane[:1024, :1024], limits)[np.newaxis, ..., np.newaxis]

    def predict() -> None:
        for _ in predict_plane(plane, network, limits, out):
            pass

    parts = {
        "percentile limits": seconds(lambda: percentile_limits(plane)) / megapixels,
        "normalise": seconds(lambda: normalize(plane, limits)) / megapixels,
        "network alone (1024 x 1024)": seconds(lambda: list(network.predict([tile]))) / 1.048576,
        "predict, tiles and halo included": seconds(predict) / megapixels,
        "separate the cells": seconds(lambda: label_cells(out.probabilities)) / megapixels,
    }
    for name, value in parts.items():
        print(f"{name:36s} {1000 * value:8.1f} ms a megapixel")

    image, truth = simulate_nuclei((512, 512), seed=1)
    cropper = Cropper([annotate(image, truth.astype(np.int32))])
    seeds = iter(range(10**6))
    drawing = 1000 * seconds(lambda: cropper.batch(8, (next(seeds),)))
    print(f"{'eight training crops':36s} {drawing:8.1f} ms")


if __name__ == "__main__":
    main()
