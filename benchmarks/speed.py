"""Where the time of a run goes, per megapixel, and how fast crops for the training are drawn.

All in one run, medians of several: on a busy machine only the ratios mean something.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import numpy as np

from napari_unet_cells.core.instances import oversegment
from napari_unet_cells.core.normalize import normalize, percentile_limits
from napari_unet_cells.core.predict import Output, predict_plane
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import Cropper, annotate
from napari_unet_cells.training.synthetic.simulate import simulate

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
    out = Output.empty(plane.shape, network.probabilities)
    tile = normalize(plane[:1024, :1024], limits)[np.newaxis, ..., np.newaxis]

    def predict() -> None:
        for _ in predict_plane(plane, network, limits, out):
            pass

    predicting = seconds(predict)
    options = card.instances
    fragments = oversegment(out.probabilities, options)
    positions = cycle(replace(options, split=i / 10) for i in range(11))
    network_alone = "network alone (1024 x 1024)"
    times = {
        "percentile limits": seconds(lambda: percentile_limits(plane)) / megapixels,
        "normalise": seconds(lambda: normalize(plane, limits)) / megapixels,
        network_alone: seconds(lambda: list(network.predict([tile]))) / 1.048576,
        "predict, tiles and halo included": predicting / megapixels,
        "separate (oversegment)": seconds(lambda: oversegment(out.probabilities, options))
        / megapixels,
        "adjust (cells)": seconds(lambda: fragments.cells(next(positions))) / megapixels,
    }
    n_cells = fragments.cells(options).max()
    print(f"{fragments.n_fragments} fragments, {n_cells} cells, {megapixels:.1f} megapixels")
    print(f"{'':36s} {'ms a megapixel':>16s} {'of the network':>16s}")
    for name, value in times.items():
        print(f"{name:36s} {1000 * value:16.1f} {value / times[network_alone]:16.3f}")

    image, truth = simulate_nuclei((512, 512), seed=1)
    cropper = Cropper([annotate(image, truth.astype(np.int32))])
    seeds = iter(range(10**6))
    drawing = 1000 * seconds(lambda: cropper.batch(8, (next(seeds),)))
    print(f"{'eight training crops':36s} {drawing:8.1f} ms")
    # Kinds take from half to twice the mean, so many are drawn.
    first = iter(range(0, 10**6, 200))

    def simulating() -> None:
        start = next(first)
        for seed in range(start, start + 200):
            simulate(np.random.default_rng(seed), 256)

    print(f"{'a simulated image of 256 x 256':36s} {1000 * seconds(simulating) / 200:8.1f} ms")


if __name__ == "__main__":
    main()
