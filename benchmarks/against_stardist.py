"""How fast the networks that ship are beside that of StarDist 2D, on the same machine in one run.

StarDist's network has the configuration of its model `2D_versatile_fluo` and random weights, and
comes from its own package, in an environment of its own, whose Python is named::

    python -m venv /tmp/stardist
    /tmp/stardist/bin/pip install stardist tensorflow tf_keras
    python benchmarks/against_stardist.py --stardist-python /tmp/stardist/bin/python

Each network has a process and a turn: one image of 1024 x 1024 grey pixels, on the CPU, and again
from the first, so that what else the machine does falls on all of them. Both are frozen into one
graph, which is the fastest way that was found for either. What counts is the network alone: what
StarDist and we do after it to make cells of its output is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from napari_unet_cells.nets import SHIPPED, read_card

SIDE = 1024

#: Waits for a line, runs the network once and says how many seconds it took.
_TURNS = """
import sys, time
import numpy as np
batch = np.random.default_rng(0).random((1, {side}, {side}, 1), dtype=np.float32)
run(batch)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    run(batch)
    print(time.perf_counter() - start, flush=True)
"""

_OURS = """
from napari_unet_cells.nets import find_model
from napari_unet_cells.nets.device import open_network
run = open_network(find_model({name!r}), cpu=True).forward
"""

_STARDIST = """
import os, tempfile
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
import tensorflow as tf
from stardist.models import Config2D, StarDist2D
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=1)
net = StarDist2D(config, name="random", basedir=tempfile.mkdtemp()).keras_model
spec = [tf.TensorSpec((None, None, None, 1), tf.float32)]
traced = tf.function(lambda x: net(x, training=False), input_signature=spec)
frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
run = lambda batch: [part.numpy() for part in frozen(tf.constant(batch))]
"""


class Runner:
    """A network in a process of its own that computes when it is told to."""

    def __init__(self, python: str, setup: str) -> None:
        code = setup + _TURNS.format(side=SIDE)
        self._process = subprocess.Popen(
            [python, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        while (line := self._out.readline()).strip() != "ready":
            if not line:
                raise SystemExit(f"{python} could not run its network.")

    def turn(self) -> float:
        """Seconds of one run."""
        self._in.write("\n")
        self._in.flush()
        return float(self._out.readline())

    def close(self) -> None:
        """End the process."""
        self._in.close()
        self._process.wait()


def main() -> None:
    """Print a table: megapixels a second, ratio to StarDist, size of the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stardist-python", metavar="PATH")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.stardist_python is None:
        print("Name the Python of an environment with StarDist: --stardist-python PATH.")
        print("How to make one stands at the top of this file.")
        return
    cards = {path.stem: read_card(path) for path in sorted(SHIPPED.glob("*.keras"))}
    runners = {"StarDist 2D": Runner(options.stardist_python, _STARDIST)}
    for name in cards:
        runners[name] = Runner(sys.executable, _OURS.format(name=name))
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(options.repeats):
        for name, runner in runners.items():
            times[name].append(runner.turn())
    for runner in runners.values():
        runner.close()
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print("| network | megapixels a second | times as fast as StarDist's | file |")
    print("|---|---|---|---|")
    for name, seconds in medians.items():
        size = f"{cards[name].path.stat().st_size / 1e6:.1f} MB" if name in cards else ""
        speed, ratio = SIDE**2 / 1e6 / seconds, medians["StarDist 2D"] / seconds
        print(f"| {name} | {speed:.2f} | {ratio:.2f} | {size} |")


if __name__ == "__main__":
    main()
