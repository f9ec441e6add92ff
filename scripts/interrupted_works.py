"""Works that are broken off: what each writes, and what must be there whenever it was.

``kills.py`` kills them, and ``faults.py`` lets their writes fail.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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


def is_written(event: str, values: tuple[Any, ...], changes: frozenset[str], folder: str) -> bool:
    """Whether an audit event of Python is a change in a folder: one of these, or a file to write.

    Parameters
    ----------
    event : str
    values : tuple
        See `sys.addaudithook`.
    changes : frozenset of str
        Events that change what has a name.
    folder : str
    """
    is_change = event in changes
    if event == "open" and isinstance(values[2], int):
        is_change = bool(values[2] & (os.O_WRONLY | os.O_RDWR))
    if not is_change or isinstance(values[0], int):
        return False
    return os.fsdecode(values[0]).startswith(folder)


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
