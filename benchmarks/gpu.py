"""How fast a GPU predicts and trains, and whether it says what the CPU says, in a few minutes.

For whenever a computer with a GPU is at hand, with one of PyTorch and TensorFlow installed: it
needs no data, as it simulates its images. Where there is no GPU the CPU is measured, and said::

    python benchmarks/gpu.py                      # PyTorch where it is installed
    python benchmarks/gpu.py --runtime tensorflow -o gpu.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model, load_model
from napari_unet_cells.models.runtimes.network import RuntimeNetwork
from napari_unet_cells.models.runtimes.table import RUNTIMES
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.backends import BACKENDS, LossForm, Steps
from napari_unet_cells.training.crops import AugmentOptions, Cropper, annotate

MODELS = ("cells", "cells-fast")

#: Sides of the tiles and crops in a batch.
TILES, CROPS = (256, 512, 1024, 2048), (4, 8, 32)

#: Seconds for one number: eight minutes are enough for all of them, imports included.
SECONDS = 6.0

#: The class of this part of the pixels must be that of the CPU, in 32-bit floats and in fewer bits.
SAME = {"float32": 0.9999, "other": 0.99}


def repeated(work: Callable[[], object], seconds: float) -> float:
    """Give the median seconds of some work, done once before and then for some seconds."""
    work()
    taken: list[float] = []
    while sum(taken) < seconds and len(taken) < 200:
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def picture(side: int) -> NDArray[np.float32]:
    """Simulate nuclei as a network sees them, (1, side, side, 1)."""
    small = simulate_nuclei((256, 256), diameter=24, seed=1)[0].astype(np.float32)
    plane = np.tile((small - small.min()) / np.ptp(small), (-(-side // 256),) * 2)
    return np.ascontiguousarray(plane[np.newaxis, :side, :side, np.newaxis])


def figures(value: float) -> float:
    """Round to three significant figures: a slow machine's speed is not zero."""
    return float(f"{value:.3g}")


def prediction(
    card: ModelCard, network: RuntimeNetwork, cpu: RuntimeNetwork, seconds: float
) -> dict[str, Any]:
    """Measure megapixels a second of each size of tile, and compare a tile with the CPU's."""
    speeds = {}
    for side in TILES:
        batch = picture(side)
        taken = repeated(partial(network.forward, batch), seconds)
        speeds[side] = figures(side**2 / taken / 1e6)
    batch = picture(512)
    ours, theirs = network.forward(batch), cpu.forward(batch)
    return {
        "megapixels a second by side of the tile": speeds,
        "part of the pixels with the class of the CPU": float(
            (ours[..., 0] == theirs[..., 0]).mean()
        ),
        "largest difference of the other bytes": int(
            np.abs(ours[..., 1:].astype(int) - theirs[..., 1:]).max()
        ),
    }


def training(card: ModelCard, library: str, seconds: float) -> dict[str, Any]:
    """Measure steps a second of each size of batch, and how far some steps bring the loss."""
    steps: Steps = BACKENDS[library].steps(load_model(card), LossForm(card.distance, soft=False))
    image, mask = simulate_nuclei((512, 512), diameter=24, seed=2)
    crops = Cropper(
        [annotate(image, mask.astype(np.int32), "simulated")],
        AugmentOptions(size=256, channels=card.channels, distance=card.distance),
    )
    speeds, first = {}, steps.loss(*crops.batch(8, (1, 0)))
    for n in CROPS:
        batch = crops.batch(n, (0, n))
        taken = repeated(partial(steps.step, *batch, 1e-4), seconds)
        speeds[n] = figures(1 / taken)
    return {
        "steps a second by crops of 256 x 256": speeds,
        "loss of other crops before and after": [first, steps.loss(*crops.batch(8, (1, 0)))],
    }


def measured(card: ModelCard, runtime: str, seconds: float) -> dict[str, Any]:
    """Measure one model."""
    network = RUNTIMES[runtime].open(card)
    cpu = network if network.on_cpu else RUNTIMES[runtime].open(card, cpu=True)
    return {
        "device": network.device,
        "compared with": cpu.device,
        **prediction(card, network, cpu, seconds),
        **training(card, runtime, seconds),
    }


def faults(results: dict[str, Any]) -> list[str]:
    """Say what is not as it must be: classes that differ, a loss that is no number or rises."""
    said = []
    for name, result in results.items():
        precision = "float32" if "float32" in result["device"] else "other"
        same = result["part of the pixels with the class of the CPU"]
        if same < SAME[precision]:
            said.append(f"{name}: only {same:.2%} of the pixels have the class of the CPU")
        before, after = result["loss of other crops before and after"]
        if not after < 1.2 * before:
            said.append(f"{name}: the loss went from {before:.3f} to {after:.3f}")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    there = [name for name in ("torch", "tensorflow") if RUNTIMES[name].installed]
    parser.add_argument("--runtime", choices=there, default=there[0] if there else None)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each number")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    if options.runtime is None:
        print("Neither PyTorch nor TensorFlow is installed.")
        return 0
    begun = time.perf_counter()
    BACKENDS[options.runtime].prepare()
    results = {}
    for name in options.models:
        results[name] = measured(find_model(name), options.runtime, options.seconds)
        print(f"{name}: {json.dumps(results[name], indent=2)}", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s in all")
    if all(result["device"] == result["compared with"] for result in results.values()):
        print("There was no GPU: the CPU was measured, and compared with itself.")
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    said = faults(results)
    print("\n".join(said) or "All is as it must be.")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
