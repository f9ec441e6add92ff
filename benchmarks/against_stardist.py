"""How fast the networks that ship are beside that of StarDist 2D, on the same machine in one run.

StarDist's network has the configuration of its model `2D_versatile_fluo` and random weights, and
comes from its own package, in an environment of its own, whose Python is named::

    python -m venv /tmp/stardist
    /tmp/stardist/bin/pip install stardist tensorflow tf_keras
    python benchmarks/against_stardist.py --stardist-python /tmp/stardist/bin/python

Each network has a process, and they take turns: one image of 1024 x 1024 pixels, on the CPU with
as many threads, and again, so that what else the machine does falls on all of them; another one
begins each time. Ours are frozen into one graph; StarDist's is run so too and as a function of
TensorFlow, and the faster counts. What counts is the network alone: what StarDist and we do after
it to make cells of its output is not in it; ``--whole`` adds a row with that for ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accuracy import PAGE, replace_section

from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import SHIPPED

SIDE = 1024

STARDIST = "StarDist 2D"

#: Says what it is, then waits for the name of a way, runs it once and says how many seconds it
#: took. `ways` are functions without arguments; what libraries print goes elsewhere.
_TURNS = """
import json, time
import {library} as library
facts |= {{"{library}": library.__version__}}
for run in ways.values():
    run()
print(json.dumps(facts), file=answers, flush=True)
for way in sys.stdin:
    start = time.perf_counter()
    ways[way.strip()]()
    print(time.perf_counter() - start, file=answers, flush=True)
"""

_START = """
import os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import numpy as np
batch = np.random.default_rng(0).random((1, {side}, {side}, 3), dtype=np.float32)
grey = batch[..., :1].copy()
"""

_OURS = """
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.tensorflow import open_network
card = find_model({path!r})
network = open_network(card, cpu=True)
ways = {{"grey": lambda: network.forward(grey)}}
if card.channels == 3:
    ways["colour"] = lambda: network.forward(batch)
if {whole}:
    from napari_unet_cells.core.planes import planes_of
    from napari_unet_cells.sample_data import simulate_nuclei
    from napari_unet_cells.segmentation.pipeline import segment_planes
    planes = planes_of(simulate_nuclei(({side}, {side}), seed=1)[0], "YX")
    ways["whole"] = lambda: list(segment_planes(planes, network, card))
facts = {{}}
"""

_STARDIST = """
import tempfile
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # it is not made for Keras 3
import tensorflow as tf
import stardist
from stardist.models import Config2D, StarDist2D
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
config = Config2D(
    n_rays=32, grid=(2, 2), n_channel_in=1, unet_n_depth=3, unet_n_filter_base=32,
    unet_kernel_size=(3, 3), net_conv_after_unet=128,
)
with tempfile.TemporaryDirectory() as folder:
    net = StarDist2D(config, name="random", basedir=folder).keras_model
    net.save_weights(folder + "/size.weights.h5")
    size = os.path.getsize(folder + "/size.weights.h5")
spec = [tf.TensorSpec((None, None, None, 1), tf.float32)]
traced = tf.function(lambda x: net(x, training=False), input_signature=spec)
frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
ways = {{
    "function": lambda: [part.numpy() for part in traced(tf.constant(grey))],
    "frozen": lambda: [part.numpy() for part in frozen(tf.constant(grey))],
}}
facts = {{"stardist": stardist.__version__, "bytes": size}}
"""


#: Prepares StarDist's network.
STARDIST_SETUP = _STARDIST.format()


class Runner:
    """A network in a process of its own that computes when it is told to.

    Parameters
    ----------
    python : str
    setup : str
        Python code that prepares `ways` and `facts`; see `_TURNS`.
    threads : int
    side : int
        Of the image `batch`.
    library : str
        Whose version is a fact.

    Attributes
    ----------
    facts : dict
        What the process says of itself: versions, sizes.
    """

    def __init__(
        self, python: str, setup: str, threads: int, side: int = SIDE, library: str = "tensorflow"
    ) -> None:
        # The number of threads within an operation is what counts; GPUs are hidden from both.
        environment = {
            **os.environ,
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        # A file, because a pipe that nobody reads fills up and stops the process.
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `close` does
        self._process = subprocess.Popen(
            [python, "-c", _START.format(side=side) + setup + _TURNS.format(library=library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        line = self._out.readline()
        if not line:
            raise SystemExit(f"{python} could not run its network:\n{self._last_words()}")
        self.facts: dict[str, Any] = json.loads(line)

    def turn(self, way: str) -> float:
        """Seconds of one run."""
        self._in.write(f"{way}\n")
        self._in.flush()
        line = self._out.readline()
        if not line:
            raise SystemExit(f"The network ended while it ran:\n{self._last_words()}")
        return float(line)

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        return self._said.read()[-2000:]

    def close(self) -> None:
        """End the process."""
        self._in.close()
        self._process.wait()
        self._said.close()


@dataclass(frozen=True)
class Row:
    """What was measured of one way to run a network; `size` is that of its file in bytes."""

    name: str
    way: str
    seconds: tuple[float, ...]
    size: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def measure(runners: dict[str, Runner], ways: dict[str, list[str]], repeats: int) -> list[Row]:
    """Let all ways of all networks take their turns."""
    seconds: dict[tuple[str, str], list[float]] = {
        (name, way): [] for name in runners for way in ways[name]
    }
    turns = list(seconds)
    for number in range(repeats):
        # Another one begins each time: who comes after a longer run finds its caches cold.
        first = number % len(turns)
        for name, way in turns[first:] + turns[:first]:
            seconds[name, way].append(runners[name].turn(way))
    return [
        Row(name, way, tuple(times), int(runners[name].facts.get("bytes", 0)))
        for (name, way), times in seconds.items()
    ]


#: What the ways are called in the table.
_WORDS = {
    "grey": "grey image",
    "colour": "colour image",
    "whole": "grey image, from pixels to cells",
    "function": "grey image, `tf.function`",
    "frozen": "grey image, frozen",
}


def ratio(row: Row, best: Row) -> tuple[float, float, float]:
    """How many times as fast as StarDist's: the median over the rounds, and the quartiles.

    The runs of a round are close in time, so that what slows the machine slows all of them.
    """
    ratios = [theirs / ours for theirs, ours in zip(best.seconds, row.seconds, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def table(rows: Sequence[Row]) -> str:
    """Markdown: megapixels a second, how many times as fast as StarDist's, size of the file."""
    best = min((row for row in rows if row.name == STARDIST), key=lambda row: row.median)
    lines = [
        "| network | run on | megapixels a second | times as fast as StarDist's | file |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        speed = SIDE**2 / 1e6 / row.median
        middle, low, high = ratio(row, best)
        times = f"{middle:.1f} ({low:.1f} to {high:.1f})" if row.name != STARDIST else ""
        times = "1" if row is best else "" if row.way == "whole" else times
        size = f"{row.size / 1e6:.1f} MB"
        lines.append(f"| {row.name} | {_WORDS[row.way]} | {speed:.2f} | {times} | {size} |")
    return "\n".join(lines)


def run(python: str, cards: Sequence[ModelCard], repeats: int, threads: int, whole: bool) -> str:
    """Measure; the table, and below it what it was measured with."""
    # Of the minute before; Windows does not tell it.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    names = [card.name for card in cards]
    ways = {STARDIST: ["function", "frozen"]}
    runners = {STARDIST: Runner(python, STARDIST_SETUP, threads)}
    try:
        for card in cards:
            setup = _OURS.format(path=str(card.path), whole=whole, side=SIDE)
            runners[card.name] = Runner(sys.executable, setup, threads)
            runners[card.name].facts["bytes"] = card.path.stat().st_size
            ways[card.name] = ["grey", *["colour"] * (card.channels == 3), *["whole"] * whole]
        rows = measure(runners, ways, repeats)
    finally:
        for runner in runners.values():
            runner.close()
    busy = load > threads / 4
    warning = (
        f"\nThe machine did other work meanwhile (load {load:.1f} before): the ratios count, the "
        "megapixels a second do not."
    )
    theirs, ours = runners[STARDIST].facts, runners[names[0]].facts
    return (
        f"{table(rows)}\n\n"
        f"Medians of {repeats} rounds, {SIDE} x {SIDE} pixels, CPU, {threads} threads each; in "
        f"brackets the quartiles.\nStarDist {theirs['stardist']}, network of `2D_versatile_fluo` "
        f"with random weights, TensorFlow {theirs['tensorflow']};\nours with TensorFlow "
        f"{ours['tensorflow']}. Its file is that of the weights alone."
        f"{warning if busy else ''}"
    )


def main() -> None:
    """Print the table; on request write it into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stardist-python", metavar="PATH")
    parser.add_argument("--repeats", type=int, default=12, help="rounds, at least 2")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--whole", action="store_true", help="also time our runs as a whole")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args()
    if options.stardist_python is None:
        print(
            "Name the Python of an environment with StarDist: --stardist-python PATH. This makes "
            "one:\npython -m venv ENV && ENV/bin/pip install stardist tensorflow tf_keras"
        )
        return
    cards = [read_card(path) for path in sorted(SHIPPED.glob("*.keras"))]
    text = run(
        options.stardist_python, cards, max(2, options.repeats), options.threads, options.whole
    )
    print(text)
    if options.write:
        replace_section("speed", text)


if __name__ == "__main__":
    main()
