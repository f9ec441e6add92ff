"""From an array to labels: how fast beside StarDist 2D's network alone, and in which memory.

StarDist's network has the configuration of its model `2D_versatile_fluo` and random weights, see
`against_stardist.py`, which also says how to make its environment::

    python benchmarks/whole_way.py --stardist-python /tmp/stardist/bin/python

Each model runs in a process of its own, with the runtime that is the first choice on this machine;
they and StarDist's take turns, and another one begins each time. With ``--large`` a plane of 400
megapixels is segmented after one of 16, also in turns, and the memory of all processes is watched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil
from accuracy import PAGE, replace_section
from against_stardist import STARDIST, STARDIST_SETUP, Runner

from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import SHIPPED

SIDE = 2048

WAYS = ("labels", "known", "network")

#: Sides of the planes of 16 and of 400 megapixels.
LARGE = (4096, 20000)

#: Prepares the ways "labels" (a plane to its labels), "known" (the same where the diameter is typed
#: in) and "network" (one batch of the plane's size).
_OURS = """
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.pipeline import Settings, segment_planes
card = find_model({path!r})
network = open_network(card)
plane = np.tile(simulate_nuclei((512, 512), seed=1)[0], ({side} // 512, {side} // 512))

def labels(diameter=None):
    *_, result = segment_planes(planes_of(plane, "YX"), network, card, Settings(diameter))
    return result

width = labels().diameter
ways = {{
    "labels": labels,
    "known": lambda: labels(width),
    "network": lambda: list(network.predict([grey])),
}}
facts = {{"device": network.device}}
"""

#: Segments one large plane, given as side; says seconds, and bytes of the image and the result.
_LARGE = """
import json, sys, time
import numpy as np
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.pipeline import segment_planes
path, side = sys.argv[1], int(sys.argv[2])
card = find_model(path)
network = open_network(card)
part = simulate_nuclei((2000, 2000), seed=1)[0]
rows = -(-side // 2000)
plane = np.tile(part, (rows, rows))[:side, :side].copy()
list(segment_planes(planes_of(part, "YX"), network, card))
start = time.perf_counter()
*_, result = segment_planes(planes_of(plane, "YX"), network, card)
seconds = time.perf_counter() - start
arrays = plane.nbytes + result.cells.nbytes + result.classes.nbytes
print(json.dumps({"seconds": seconds, "arrays": arrays, "cells": result.n_cells}))
"""


def interleaved(turns: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Let all take their turns; another one begins each time."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(turns[name]())
    return seconds


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def compare(python: str, cards: Sequence[ModelCard], repeats: int, threads: int) -> str:
    """Measure ours from array to labels and StarDist's network; a table in Markdown."""
    runners = {STARDIST: Runner(python, STARDIST_SETUP, threads, SIDE, "tensorflow")}
    try:
        for card in cards:
            setup = _OURS.format(path=str(card.path), side=SIDE)
            runners[card.name] = Runner(sys.executable, setup, threads, SIDE, "numpy")
        turns: dict[str, Callable[[], float]] = {
            STARDIST: lambda: min(runners[STARDIST].turn(way) for way in ("function", "frozen"))
        }
        turns |= {
            f"{card.name} {way}": partial(runners[card.name].turn, way)
            for card in cards
            for way in WAYS
        }
        seconds = interleaved(turns, repeats)
        facts = {name: runner.facts for name, runner in runners.items()}
    finally:
        for runner in runners.values():
            runner.close()
    return _compared(cards, seconds, facts, repeats, threads)


def _compared(
    cards: Sequence[ModelCard],
    seconds: dict[str, list[float]],
    facts: dict[str, dict[str, Any]],
    repeats: int,
    threads: int,
) -> str:
    theirs = seconds[STARDIST]
    versions = facts[STARDIST]
    lines = [
        "| from array to labels | computed by | ms a megapixel | network | estimate of diameter "
        "| all else | times as fast as StarDist's network |",
        "|---|---|---|---|---|---|---|",
        f"| {STARDIST}, its network alone | TensorFlow {versions['tensorflow']} "
        f"| {_milliseconds(theirs)} | | | | 1 |",
    ]
    for card in cards:
        whole, known, network = (seconds[f"{card.name} {way}"] for way in WAYS)
        parts = [whole, network, _differences(whole, known), _differences(known, network)]
        low, middle, high = quartiles([a / b for a, b in zip(theirs, whole, strict=True)])
        shown = " | ".join(_milliseconds(part) for part in parts)
        lines.append(
            f"| {card.name} | {facts[card.name]['device']} | {shown} "
            f"| {middle:.1f} ({low:.1f} to {high:.1f}) |"
        )
    table = "\n".join(lines)
    return (
        f"{table}\n\n"
        f"Medians of {repeats} rounds, a simulated plane of {SIDE} x {SIDE} pixels, CPU, {threads} "
        "threads each;\nin brackets the quartiles. "
        f"StarDist {versions['stardist']}, network of `2D_versatile_fluo` with random\n"
        f"weights, the faster of `tf.function` and frozen.{busy(threads)}"
    )


def _milliseconds(seconds: Sequence[float]) -> str:
    """Write the median of whole planes as milliseconds a megapixel."""
    return f"{1000 * statistics.median(seconds) / (SIDE**2 / 1e6):.0f}"


def _differences(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def busy(threads: int) -> str:
    """Say so where the machine does other work; Windows does not tell."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= 1.5 * threads:
        return ""
    return f"\nThe machine did other work meanwhile (load {load:.0f}): only the ratios count."


def large_run(card: ModelCard, side: int) -> tuple[float, float, int]:
    """Segment one large plane: megapixels a second, gigabytes beyond the arrays, cells."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LARGE, str(card.path), str(side)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            try:
                family = [psutil.Process(process.pid)]
                family += family[0].children(recursive=True)
                peak = max(peak, sum(one.memory_info().rss for one in family))
            except psutil.Error:  # one has just ended
                pass
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    said, _ = process.communicate()
    ended.set()
    watching.join()
    if process.returncode:
        raise SystemExit(f"The run on {side} x {side} pixels failed.")
    facts = json.loads(said)
    return side**2 / 1e6 / facts["seconds"], (peak - facts["arrays"]) / 1e9, facts["cells"]


def large(cards: Sequence[ModelCard], repeats: int, threads: int) -> str:
    """Measure planes of 16 and 400 megapixels in turns; a table in Markdown."""
    lines = [
        "| model | megapixels | cells | megapixels a second | of those at 16 | "
        "memory beyond image and result |",
        "|---|---|---|---|---|---|",
    ]
    for card in cards:
        rounds = [[large_run(card, side) for side in LARGE] for _ in range(repeats)]
        small = [one[0][0] for one in rounds]
        for number, side in enumerate(LARGE):
            runs = [one[number] for one in rounds]
            share = statistics.median(run[0] / base for run, base in zip(runs, small, strict=True))
            lines.append(
                f"| {card.name} | {side**2 / 1e6:.0f} | {runs[0][2]:,} "
                f"| {statistics.median(run[0] for run in runs):.1f} | {share:.2f} "
                f"| {max(run[1] for run in runs):.2f} GB |"
            )
    table = "\n".join(lines)
    return (
        f"{table}\n\nMedians of {repeats} rounds, and the most memory of all processes. "
        f"The image is simulated,\n16-bit, in memory.{busy(threads)}"
    )


def main() -> None:
    """Print the tables; on request write them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stardist-python", metavar="PATH")
    parser.add_argument("--large", action="store_true", help="planes of 16 and 400 megapixels")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, at least 2")
    parser.add_argument("--models", nargs="*", default=[], help="by default all that ship")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    options = parser.parse_args()
    cards = [read_card(path) for path in sorted(SHIPPED.glob("*.keras"))]
    cards = [card for card in cards if not options.models or card.name in options.models]
    tables = {}
    if options.stardist_python is not None:
        repeats = max(2, options.repeats)
        tables["whole"] = compare(options.stardist_python, cards, repeats, options.threads)
    if options.large:
        tables["large"] = large(cards, options.repeats, options.threads)
    if not tables:
        print("Name the Python of an environment with StarDist, or ask for --large; see --help.")
    for name, text in tables.items():
        print(f"{text}\n")
        if options.write:
            replace_section(name, text)


if __name__ == "__main__":
    main()
