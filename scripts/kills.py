"""Kill programs with ``kill -9`` while they write, and count what is lost: ``kills.py 1000``.

Each kill hits a process of its own, at a random moment of its work, and is followed by a look at
what is there: all that the process said it had written must be, whole, and nothing may be half
there. The next process goes on with it. So no moment is chosen by who wrote the code.

A part of the processes stop between two changes of files of one thing that they write, at random
after how many, and are killed there: these kills fall in the middle, however slow the computer is.

``--training N`` adds N kills of the real command ``train``, each resumed by the next one; each
takes as long as TensorFlow needs to start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.batch import run as batch_run
from napari_unet_cells.batch import work
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.regions import RegionGrid, Review
from napari_unet_cells.corrections.approved_regions import approved_of
from napari_unet_cells.corrections.autosave import Session
from napari_unet_cells.corrections.dataset_writer import Added, add
from napari_unet_cells.corrections.restoring import restore, sessions
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.datasets.check import check
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.layers.metadata import CELLS, REVIEW, result_metadata
from napari_unet_cells.models.card import ModelCard, file_sha256
from napari_unet_cells.models.catalogue import find_model, save_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.checkpoint import Checkpoint, Progress

#: Tells the process that kills what is on the disk now.
Say = Callable[[object], None]


class Lost(AssertionError):
    """Something was lost, or was half there."""


@dataclass(frozen=True)
class Victim:
    """What is killed, and how it is looked at then.

    Attributes
    ----------
    work : callable
        Works in a folder for ever, or until all is done, and says what it has written.
    look : callable
        Looks at the folder after a kill, with what was said; raises `Lost`.
    window : float
        Seconds from the first thing that it says, within which it is killed.
    keeps : int
        So many kills follow each other in one folder.
    endless : bool
        Its work never ends, whatever is in the folder already.
    """

    work: Callable[[Path, Say], None]
    look: Callable[[Path, list[str]], None]
    window: float
    keeps: int = 1
    endless: bool = False


def expect(holds: bool, what: str) -> None:
    """Raise `Lost` where something does not hold."""
    if not holds:
        raise Lost(what)


def nothing_hidden(folder: Path) -> None:
    """Expect that nothing is left of what was broken off."""
    hidden = [path.name for path in folder.rglob(".*") if path.name != ".index.lock"]
    expect(not hidden, f"{hidden} is left")


# --- corrections that are saved every few seconds -----------------------------------------

SHAPE = (128, 192)


def paint(labels: NDArray[np.uint16], number: int) -> None:
    """Correct some pixels, always in the same way for one number."""
    chance = np.random.default_rng(number)
    labels[chance.integers(0, SHAPE[0], 9), chance.integers(0, SHAPE[1], 9)] = number


def save_corrections(folder: Path, say: Say) -> None:
    """Correct and save for ever."""
    os.environ["NAPARI_UNET_CELLS_HOME"] = str(folder)
    labels = np.zeros(SHAPE, np.uint16)
    review, session = Review(labels, None, RegionGrid(SHAPE, (4, 4))), Session()
    for number in range(1, 60_000):
        paint(labels, number)
        session.save(labels, review, description={"name": "cells"})
        say(number)


def look_at_corrections(folder: Path, said: list[str]) -> None:
    """Expect the last state that was saved, or the one that was being saved."""
    os.environ["NAPARI_UNET_CELLS_HOME"] = str(folder)
    last, found = int(said[-1]) if said else 0, sessions()
    expect(len(found) == 1 or not (last or found), f"{len(found)} sessions after save {last}")
    if not found:
        return
    back = restore(found[0].folder)
    labels = np.zeros(SHAPE, np.uint16)
    for number in range(1, last + 1):
        paint(labels, number)
    is_last = np.array_equal(back.labels, labels)
    paint(labels, last + 1)
    expect(not back.problem, back.problem)
    expect(is_last or np.array_equal(back.labels, labels), f"save {last} is lost")


# --- a dataset of corrections -------------------------------------------------------------

GRID = (6, 6)


@dataclass
class Layer:
    """What is asked of a layer of napari."""

    data: Any
    name: str
    metadata: dict[str, Any] = field(default_factory=dict)
    source: Any = field(default_factory=lambda: SimpleNamespace(path=None))
    rgb: bool = False
    multiscale: bool = False
    scale: tuple[float, ...] = (0.5, 0.25)
    units: tuple[str, ...] = ("um", "um")
    unique_id: str = "image"


class Image(Layer):
    """A layer with an image."""


class Labels(Layer):
    """A layer with a result."""


def write_regions(folder: Path, say: Say) -> None:
    """Approve one region after the other and add each to the dataset."""
    pixels, truth = simulate_nuclei((180, 240), seed=3)
    image, labels = Image(pixels, "nuclei"), truth.astype(np.uint16)
    review = Review(labels, grid=RegionGrid((180, 240), GRID))
    provenance = {
        "source": {"layer": "nuclei"},
        "classes": ["background", "cell", "boundary"],
        "model": {"name": "cells", "sha256": "ab" * 32, "architecture": "mobilenet_unet"},
        "parameters": {"diameter": 24.0},
    }
    metadata = result_metadata(CELLS, "image", provenance)
    metadata[REVIEW] = review
    layer: Any = Labels(labels, "nuclei cells", metadata)
    layers: Any = (image, layer)
    for number in range(GRID[0] * GRID[1]):
        review.approve(((), number))
        for event in add(folder / "dataset", approved_of(layer, layers)):
            if isinstance(event, Added):
                say(event.name)


def look_at_dataset(folder: Path, said: list[str]) -> None:
    """Expect a valid dataset with every region that was told of."""
    if not (folder / "dataset" / "index.json").is_file():
        expect(not said, "the index is gone")
        return
    records = json.loads((folder / "dataset" / "index.json").read_text())
    names = {record["name"] for record in records}
    expect(set(said) <= names, f"{set(said) - names} is lost")
    if names:
        errors = [str(found) for found in check(folder / "dataset") if found.severity == "error"]
        expect(not errors, f"{errors}")
        for item in read_annotated_images([folder / "dataset"]):
            item.read()


# --- a batch ------------------------------------------------------------------------------

IMAGES = 40


def bright(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stand in for a network: what is brighter than a threshold is a cell."""
    inside = (pixels[..., :1] > 0.4).astype(np.uint8)
    return np.concatenate([inside, inside * 255, inside * 0], axis=-1)


def segment_many(folder: Path, say: Say) -> None:
    """Segment what is not done yet of a folder of images."""
    card = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
    network = FunctionNetwork(bright, stride=16, halo=32, max_tile=128)
    for module in (batch_run, work):
        setattr(module, "find_model", lambda name: card)  # noqa: B010  of this process alone
    setattr(work, "open_network", lambda card, runtime: network)  # noqa: B010
    output = folder / "out"
    run = BatchRun(find_units([str(folder / "in")], output), output, "bright")
    for _ in run.events():
        say(len(list(output.glob("*.json"))))
    run.close()


def write_images(folder: Path, n: int = IMAGES) -> None:
    """Write the images of a batch, once."""
    if not (folder / "in").exists():
        (folder / "in").mkdir()
        for number in range(n):
            image, _ = simulate_nuclei((96, 96), seed=number % 5)
            tifffile.imwrite(folder / "in" / f"n{number:02}.tif", image)


def look_at_batch(folder: Path, said: list[str]) -> None:
    """Expect as many sets as were told of, and each of them whole."""
    records = list((folder / "out").glob("n*.json"))
    expect(len(records) >= int(said[-1] if said else 0), "a result is lost")
    for record in records:
        json.loads(record.read_text())
        files = [record.with_name(f"{record.stem}_cells.tif"), record.with_suffix(".json")]
        files += [record.with_name(f"{record.stem}_{end}") for end in ("classes.tif", "cells.csv")]
        missing = [path.name for path in files if not path.is_file()]
        expect(not missing, f"{record.stem} is half there, without {missing}")
        for path in files[0], files[2]:
            read_image(path)


# --- the checkpoint of a training ---------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "architecture": "mobilenet_unet",
    "build": {},
    "classes": ["background", "cell", "boundary"],
    "channels": 3,
    "distance": True,
    "backend": "tensorflow",
}


class CountedSteps:
    """Stand in for a network in training: all its weights are the number of its step."""

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def save(self, folder: Path) -> None:
        """Write as `training.backends.KerasSteps` does, as much as for `cells`."""
        from napari_unet_cells.files.array_file import write_numbered

        write_numbered(folder / "weights.npz", weights_of(self.step))
        write_numbered(folder / "optimizer.npz", weights_of(self.step) * 2)

    def load(self, folder: Path) -> None:
        """Read it, and expect that all is of one step."""
        from napari_unet_cells.untrusted.arrays import numbered_arrays

        files = (folder / "weights.npz", folder / "optimizer.npz")
        found = {float(n) for path in files for array in numbered_arrays(path) for n in array.flat}
        expect(len(found) == 1, f"a checkpoint of the steps {found}")
        self.step = int(found.pop())


def weights_of(step: int) -> list[NDArray[np.float32]]:
    """Give weights that tell of which step they are."""
    return [np.full((100, 10), step, np.float32) for _ in range(30)]


def train(folder: Path, say: Say) -> None:
    """Go on from the checkpoint, and write one after each step."""
    checkpoint, steps = Checkpoint(folder / "checkpoint", OPTIONS), CountedSteps()
    if (folder / "checkpoint" / "state.json").is_file():
        progress, _ = checkpoint.restore(_as_steps(steps))
    else:
        progress = Progress()
    while True:
        progress.step = steps.step = progress.step + 1
        progress.curve.append((progress.step, 0.1, 0.5, None))
        checkpoint.save(_as_steps(steps), weights_of(steps.step), progress)
        say(progress.step)


def look_at_checkpoint(folder: Path, said: list[str]) -> None:
    """Expect a whole checkpoint of the last step that was told of, or of a later one."""
    if not (folder / "checkpoint" / "state.json").is_file():
        expect(not said, "the checkpoint is gone")
        return
    steps = CountedSteps()
    progress, average = Checkpoint(folder / "checkpoint", OPTIONS).restore(_as_steps(steps))
    found = {progress.step, steps.step, *(int(n) for array in average for n in array.flat)}
    expect(len(found) == 1, f"a checkpoint of the steps {found}")
    expect(progress.step >= int(said[-1] if said else 0), "a checkpoint is lost")


def _as_steps(steps: CountedSteps) -> Any:
    return steps


# --- a model that replaces another --------------------------------------------------------


class CountedNetwork:
    """Stand in for a network of Keras: its file says its number, and is that of `cells-fast`."""

    def __init__(self, number: int) -> None:
        self._number = number

    def save(self, path: Path) -> None:
        """Write a file that the catalogue takes for a model."""
        source = find_model("cells-fast").path
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "metadata.json":
                    content = json.dumps({**json.loads(content), "n": self._number}).encode()
                new.writestr(name, content)


def replace_models(folder: Path, say: Say) -> None:
    """Write one model over the other, as a training that is fitted and scored does."""
    os.environ["NAPARI_UNET_CELLS_HOME"] = str(folder)
    from dataclasses import replace

    path = folder / "models" / "mine.keras"
    path.parent.mkdir(exist_ok=True)
    first = int(find_model("mine").description) if path.exists() else 0
    for number in range(first + 1, 100_000):
        card = replace(find_model("cells-fast"), path=path, name="mine", description=str(number))
        network: Any = CountedNetwork(number)
        save_model(network, card)
        say(number)


def look_at_model(folder: Path, said: list[str]) -> None:
    """Expect a model that can be opened, with the card that belongs to it."""
    os.environ["NAPARI_UNET_CELLS_HOME"] = str(folder)
    try:
        card = find_model("mine")
    except UserError as error:
        expect(not said, str(error))
        return
    with zipfile.ZipFile(card.path) as archive:
        number = json.loads(archive.read("metadata.json"))["n"]
    expect(card.sha256 == file_sha256(card.path), "the card is of another file")
    expect(str(number) == card.description, f"network {number} with card {card.description}")
    expect(number >= int(said[-1] if said else 0), "a model is lost")
    nothing_hidden(folder / "models")


VICTIMS = {
    "corrections": Victim(save_corrections, look_at_corrections, 0.6, endless=True),
    "dataset": Victim(write_regions, look_at_dataset, 0.5, keeps=4),
    "batch": Victim(segment_many, look_at_batch, 0.8, keeps=6),
    "checkpoint": Victim(train, look_at_checkpoint, 0.4, keeps=20, endless=True),
    "model": Victim(replace_models, look_at_model, 0.4, keeps=20, endless=True),
}


# --- killing ------------------------------------------------------------------------------


@dataclass
class Count:
    """What came of the kills of one kind.

    Attributes
    ----------
    kills : int
    midway : int
        Of processes that had not ended by themselves.
    amid : int
        Of processes that stopped between two changes of files, and were killed there.
    writing : int
        That left something half written, hidden, for the next one to remove.
    lost : list of str
        What was lost.
    """

    kills: int = 0
    midway: int = 0
    amid: int = 0
    writing: int = 0
    lost: list[str] = field(default_factory=list)


#: What Python tells of a change of files, besides of opening one.
_CHANGES = frozenset({"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})

#: Most changes in the middle until a process stops: less than the shortest work has.
_MOST_CHANGES = 20

#: What a process says that stopped in the middle.
_AMID = "in the middle"


class Stopper:
    """Stops this process in the middle of what it writes, after some changes of files.

    The first change since something was said is none in the middle: nothing is half written yet.
    """

    def __init__(self, folder: Path, pipe: int, changes: int) -> None:
        self._folder, self._pipe, self._left = str(folder), pipe, changes
        self._begun = False
        sys.addaudithook(self._heard)

    def say(self, what: object) -> None:
        """Say that something is written whole."""
        self._begun = False
        _write_line(self._pipe, what)

    def _heard(self, event: str, values: tuple[Any, ...]) -> None:
        is_change = event in _CHANGES
        if event == "open" and isinstance(values[2], int):
            is_change = bool(values[2] & (os.O_WRONLY | os.O_RDWR))
        if not is_change or isinstance(values[0], int):
            return
        if not os.fsdecode(values[0]).startswith(self._folder):
            return
        if not self._begun:
            self._begun = True
            return
        self._left -= 1
        if not self._left:
            _write_line(self._pipe, _AMID)
        if self._left <= 0:
            time.sleep(600)


def kill_one(
    victim: Victim, folder: Path, chance: random.Random, amid: bool = False
) -> tuple[list[str], bool]:
    """Fork a process that works, kill it, and give what it had said and if it still worked."""
    changes = chance.randint(1, _MOST_CHANGES)
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        code = 1
        try:
            say: Say = Stopper(folder, write, changes).say if amid else partial(_write_line, write)
            victim.work(folder, say)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, encoding="utf-8") as lines:
        first = _until_amid(lines) if amid else _for_a_while(lines, victim.window, chance)
        os.kill(pid, signal.SIGKILL)
        said = [line.strip() for line in (*first, *lines) if line.endswith("\n")]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    expect(code in (0, -signal.SIGKILL), f"it failed by itself (exit code {code})")
    return said, code != 0


def _until_amid(lines: TextIO) -> list[str]:
    """Hear what a process says until it stops in the middle."""
    said = []
    while (line := lines.readline()) and line.strip() != _AMID:
        said.append(line)
    expect(bool(line), "it ended before it was in the middle of anything")
    return said


def _for_a_while(lines: TextIO, seconds: float, chance: random.Random) -> list[str]:
    """Hear the first thing that a process says, mostly, and wait then."""
    first = [] if chance.random() < 0.1 else [lines.readline()]  # some before it says anything
    time.sleep(chance.uniform(0, seconds))
    return first


def _write_line(pipe: int, what: object) -> None:
    os.write(pipe, f"{what}\n".encode())


def kill_many(name: str, kills: int, seed: int, count: Count) -> Iterator[Count]:
    """Kill processes of one kind; yields the count after each."""
    victim, chance = VICTIMS[name], random.Random(f"{seed} {name}")
    folder = None
    for number in range(kills):
        is_new = folder is None
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix=f"kills-{name}-"))
            if name == "batch":
                write_images(folder)
        is_whole = True
        # What is done in a folder may be all: only a new one surely has a middle.
        amid = number % 2 == 0 and (victim.endless or is_new)
        try:
            said, midway = kill_one(victim, folder, chance, amid)
            count.midway += midway
            count.amid += amid and midway
            count.writing += any(path.name != ".index.lock" for path in folder.rglob(".*"))
            victim.look(folder, said)
        except (Lost, UserError, OSError, ValueError) as error:
            is_whole = False
            count.lost.append(f"{name}, kill {number} of seed {seed}, {folder}: {error!r}")
        count.kills += 1
        if not is_whole or (number + 1) % victim.keeps == 0 or number == kills - 1:
            if is_whole:  # else it is kept to be looked at
                shutil.rmtree(folder)
            folder = None
        yield count


# --- the real command ---------------------------------------------------------------------


def kill_trainings(kills: int, seed: int) -> Count:
    """Kill the command ``train`` while it trains, and resume it each time."""
    count, chance = Count(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-training-") as name:
        folder = Path(name)
        for part in ("images", "masks"):
            (folder / "data" / part).mkdir(parents=True)
        for number in range(3):
            image, truth = simulate_nuclei((96, 96), diameter=16, seed=number)
            tifffile.imwrite(folder / "data" / "images" / f"{number}.tif", image)
            tifffile.imwrite(folder / "data" / "masks" / f"{number}.tif", truth.astype(np.uint16))
        steps = 0
        for _ in range(kills):
            steps = _kill_training(folder, steps, chance, count)
    return count


def _kill_training(folder: Path, steps: int, chance: random.Random, count: Count) -> int:
    """Kill one training once it has gone on; SIGTERM writes a checkpoint, SIGKILL leaves one."""
    state = folder / "m.checkpoint" / "state.json"
    command = [sys.executable, "-m", "napari_unet_cells.cli", "train", str(folder / "data")]
    command += ["-o", str(folder / "m.keras"), "--arch", "unet_mini", "--batch", "1"]
    command += ["--steps", "1000000", *(["--resume"] if state.exists() else [])]
    hard = steps > 0 and chance.random() < 0.5  # the first one must leave a checkpoint
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _let_work(process, chance.uniform(0, 40) if hard else chance.uniform(30, 40))
        process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    count.kills += 1
    count.midway += process.returncode in (143, -signal.SIGKILL, -signal.SIGTERM)
    if "Traceback" in said:
        count.lost.append(said[-2000:])
    now = int(json.loads(state.read_text())["step"]) if state.exists() else 0
    if now < steps:
        count.lost.append(f"step {steps} became {now}")
    return now


def _let_work(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until a process has computed for so long, however busy the computer is, or ended."""
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            used = psutil.Process(process.pid).cpu_times()
            if used.user + used.system >= seconds:
                return
        time.sleep(0.05)


def main(arguments: list[str] | None = None) -> int:
    """Kill, print the counts, and give the exit code: 1 where anything was lost."""
    parser = argparse.ArgumentParser(description="Kill programs while they write.")
    parser.add_argument("kills", type=int, nargs="?", default=1000, help="in all (default: 1000)")
    parser.add_argument("--only", choices=sorted(VICTIMS), help="kill this kind only")
    parser.add_argument(
        "--training", type=int, default=0, help="kills of the command train as well"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(VICTIMS)
    counts = {name: Count() for name in names}
    started = time.monotonic()
    for number, name in enumerate(names):
        kills = options.kills // len(names) + (number < options.kills % len(names))
        for _ in kill_many(name, kills, options.seed, counts[name]):
            pass
        _print(name, counts[name])
    if options.training:
        counts["training"] = kill_trainings(options.training, options.seed)
        _print("training", counts["training"])
    lost = [what for count in counts.values() for what in count.lost]
    total = sum(count.kills for count in counts.values())
    seconds = time.monotonic() - started
    print(f"{total} kills in {seconds:.0f} s, seed {options.seed}: {len(lost)} lost something.")
    print("\n".join(lost))
    return 1 if lost else 0


def _print(name: str, count: Count) -> None:
    print(
        f"{name:12} {count.kills:5} kills, {count.midway:5} at work, {count.amid:5} amid "
        f"two changes, {count.writing:5} left something half written, "
        f"{len(count.lost):3} lost something",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
