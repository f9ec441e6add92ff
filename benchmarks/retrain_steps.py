"""How long a training step of a retraining takes, in each of the ways that it can be computed.

``python benchmarks/retrain_steps.py [cells cells-fast]`` takes steps of four crops of 256 x 256,
one of each way in turn, so that other work on the machine falls on all alike. It prints the
processor time of both cores together, which other work changes little, and the time on the clock
of the fastest step. Each way takes eight steps, or as many as there is time for in two minutes a
model: most of it goes to making the graphs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from napari_unet_cells.models.catalogue import find_model, load_model
from napari_unet_cells.models.runtimes.tensorflow import multiplies_bfloat16, prepare_gpus
from napari_unet_cells.training.backends import KerasSteps, LossForm
from napari_unet_cells.training.fine_tuning import encoder_layers

CROPS, SIDE, STEPS = 4, 256, 8

#: Seconds for a model, after which no more steps are taken.
MOST_SECONDS = 120

#: By their names: whether the batch norms are folded, in bfloat16 or not, and the decoder alone.
WAYS = {
    "as the model is": (False, False, False),
    "batch norms folded": (True, False, False),
    "the same, bfloat16": (True, True, False),
    "the same, decoder only": (True, True, True),
}


def steps_of(name: str, folded: bool, brief: bool, decoder: bool) -> KerasSteps:
    """Make a network ready for its steps."""
    import keras

    from napari_unet_cells.training.folded import fold

    model = load_model(find_model(name))
    frozen = {layer.name for layer in encoder_layers(model, "mobilenet")} if decoder else set()
    for layer in model.layers:
        norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not norm and layer.name not in frozen
    return KerasSteps(fold(model, brief) if folded else model, LossForm(True, soft=False))


def measure(name: str) -> dict[str, tuple[float, float]]:
    """Give for each way the median processor time and the shortest time of a step, in seconds."""
    begun = time.perf_counter()
    rng = np.random.default_rng(0)
    images = rng.random((CROPS, SIDE, SIDE, 3), np.float32)
    targets = rng.integers(0, 3, (CROPS, SIDE, SIDE, 2)).astype(np.uint8)
    weights = np.ones((CROPS, SIDE, SIDE), np.float32)
    ways: dict[str, Any] = {}
    for way, (folded, brief, decoder) in WAYS.items():
        if not brief or multiplies_bfloat16():
            ways[way] = steps_of(name, folded, brief, decoder)
            ways[way].step(images, targets, weights, 0.0)
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(STEPS):
        if number and time.perf_counter() - begun > MOST_SECONDS:
            break
        for way, steps in ways.items():
            started = time.process_time(), time.perf_counter()
            steps.step(images, targets, weights, 1e-4)
            spent[way].append((time.process_time() - started[0], time.perf_counter() - started[1]))
    return {
        way: (float(np.median([cpu for cpu, _ in times])), min(clock for _, clock in times))
        for way, times in spent.items()
    }


def main() -> None:
    """Print a table of each model."""
    prepare_gpus()
    for name in sys.argv[1:] or ("cells", "cells-fast"):
        print(f"| {name} | processor, ms | clock, ms |\n|---|---|---|")
        for way, (cpu, clock) in measure(name).items():
            print(f"| {way} | {1000 * cpu:.0f} | {1000 * clock:.0f} |", flush=True)


if __name__ == "__main__":
    main()
