"""How many corrected regions make a network better: a simulated annotator on many small tasks.

``python benchmarks/retrain_loop.py WORK --data DIR`` goes through the tasks of `TASKS`: images of
one kind, most of them simulated worlds that the base does not know. The base segments some
images; k review regions of 256 x 256 pixels are "corrected" (their labels are replaced by the
truth), the most uncertain ones, random ones or those that differ most, and exported; the base is
retrained on them and scored on other images of the task. WORK keeps every result, so a run that was
stopped goes on where it was, and one with more regions or seeds adds to what is there; at the end
WORK/table.md and WORK/retrain-tasks.png are written, and with --page into docs/retraining.md, with
the results in benchmarks/results/. Without arguments one small task is taken.

The tuning is measured in steps, not in minutes, so that other work on the machine does not
change the outcome; `STEPS` are those of a minute of two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import replace_section
from numpy.typing import NDArray
from PIL import Image

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import Place, RegionGrid, Review
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.dataset_writer import add
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.training.evaluate import segmented
from napari_unet_cells.training.events import Retrained, RetrainOptions
from napari_unet_cells.training.fine_tuning import RECIPE, Recipe
from napari_unet_cells.training.retrain import retrain
from napari_unet_cells.training.synthetic.appearances import APPEARANCES
from napari_unet_cells.training.synthetic.camera import photograph
from napari_unet_cells.training.synthetic.scene import draw_scene
from napari_unet_cells.training.synthetic.world import draw_world
from napari_unet_cells.training.tuner_cache import TunerCache

PAGE = Path(__file__).parents[1] / "docs" / "retraining.md"

#: Plot of the page, and what table and plot were made of.
PICTURE, RESULTS = "retrain-tasks.png", Path(__file__).parent / "results" / "retrain_loop.jsonl"

#: Side of a review region, and of a simulated image, in pixels.
SIDE, IMAGE = 256, 512

#: Images of a task that are corrected, and that are scored on.
LEARNED, SCORED = 6, 3

#: Steps of a minute of two quiet cores, by the processor time of a step and of its crops.
STEPS = {"cells": 350, "cells-fast": 850}

#: Ways to learn that can be compared; "default" is the one that is used.
WAYS = {
    "default": RECIPE,
    "all": Recipe(decoder=0.0),
    "all, slower": Recipe(decoder=0.0, rate=3e-4),
    "decoder first": Recipe(decoder=0.2),
    "decoder first, then slower": Recipe(decoder=0.3, rate=3e-4),
    "decoder only": Recipe(decoder=1.0),
    "norms only": Recipe(decoder=0.0, rate=1e-2, norms=True, kernels=False),
}

REGIONS = (1, 2, 4, 8)
CHOICES = ("uncertain", "random", "different")

#: Number of regions, and their choice, where all of them are corrected.
ALL, EVERY = -1, "all"


@dataclass(frozen=True)
class Task:
    """Images of one kind: simulated of a world, or of an annotated folder.

    Attributes
    ----------
    kinds : tuple of str
        Shape and appearance of a simulated world, see `draw_world`; empty for a folder.
    diameter : float
        Of simulated cells, in pixels.
    folder : str
        Name of an annotated folder within --data.
    modality : str
        Of the images that are taken of it.
    splits : (str, str)
        Of those that are corrected, and that are scored on; where both are the same, the images
        are divided.
    """

    kinds: tuple[str, ...] = ()
    diameter: float = 0.0
    folder: str = ""
    modality: str = ""
    splits: tuple[str, str] = ("train", "val")

    def items(self, name: str, data: Path, work: Path) -> tuple[list[AnnotatedImage], ...]:
        """List the images to correct, and those to score on."""
        if self.kinds:
            folder = work / "images" / name
            if not (folder / "index.json").exists():
                self._simulate(folder)
            items = read_annotated_images([folder])
        else:
            items = read_annotated_images([data / self.folder])
            items = [item for item in items if item.modality == self.modality]
        first, last = ([i for i in items if i.split == split] for split in self.splits)
        if self.splits[0] == self.splits[1]:
            last = first[LEARNED:]
        return first[:LEARNED], last[:SCORED]

    def _simulate(self, folder: Path) -> None:
        """Take images of one world, the same in every run."""
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sides = (self.diameter, self.diameter)
        world = draw_world(np.random.default_rng(1), IMAGE, self.kinds, sides)
        records = []
        for i in range(LEARNED + SCORED):
            rng = np.random.default_rng((2, i))
            scene = draw_scene(world, rng)
            pixels = photograph(APPEARANCES[world.appearance].make(scene, rng), world, rng)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            Image.fromarray(scene.labels.astype(np.uint16)).save(folder / "masks" / f"{i}.png")
            records.append({"name": f"{i}.png", "split": "train" if i < LEARNED else "val"})
        (folder / "index.json").write_text(json.dumps(records))


TASKS = {
    "rods in colonies, phase contrast": Task(("colonies", "phase-contrast"), 16),
    "budding yeast, bright field": Task(("budding", "bright-field"), 30),
    "spread cells, phase contrast": Task(("spread", "phase-contrast"), 80),
    "cobblestones, membranes": Task(("cobblestone", "membranes"), 40),
    "sheet, DIC": Task(("sheet", "dic"), 50),
    "spindles, quantitative phase": Task(("spindles", "quantitative-phase"), 60),
    "tissue 40x air, DAPI": Task(folder="bitdepth_nucseg", modality="tissue-fluorescence-40x-air"),
    "tissue 63x oil, DAPI": Task(folder="bitdepth_nucseg", modality="tissue-fluorescence-63x-oil"),
    "U2OS nuclei, Hoechst": Task(folder="bbbc039", modality="fluorescence"),
    "tissue, H&E": Task(folder="dsb2018", modality="histology-or-colour", splits=("val", "val")),
}


@dataclass
class Annotated:
    """An image that was segmented, with its truth."""

    name: str
    image: NDArray[Any]
    truth: NDArray[Any]
    first: NDArray[Any]
    review: Review
    provenance: dict[str, Any]

    def corrected(self, places: Sequence[Place]) -> Approved:
        """Replace regions by the truth and approve them."""
        labels = self.first.astype(np.uint32)
        for place in places:
            window = self.review.grid[place[1]].slices
            truth = self.truth[window].astype(np.uint32)
            labels[window] = np.where(truth > 0, truth + int(self.first.max()), 0)
            self.review.approve(place, "2026-01-01T00:00:00+00:00")
        dates = {place: self.review.approved[place] for place in places}
        return Approved(
            labels,
            self.review,
            dates,
            planes_of(self.image),
            lambda: PixelSize(1.0, 1.0, "pixel"),
            {"role": "cells", "provenance": self.provenance},
            {"layer": self.name, "path": None, "shape": list(self.image.shape)},
            f"{self.name} cells",
        )


def first_results(
    items: Sequence[AnnotatedImage], card: ModelCard, kept: Path
) -> Iterator[Annotated]:
    """Segment images with the base; the results are kept."""
    kept.mkdir(parents=True, exist_ok=True)
    for item in items:
        image, truth = item.read()
        path = kept / f"{item.image.stem}.npz"
        if not path.exists():
            result = Segmenter(card, open_network).result(planes_of(image), uncertainty=True)
            if result.cells is None or result.uncertainty is None:
                raise SystemExit(f"{card.name} makes classes. Name a model that makes cells.")
            np.savez_compressed(path, cells=result.cells, uncertainty=result.uncertainty)
        with np.load(path) as arrays:
            first, uncertainty = arrays["cells"], arrays["uncertainty"]
        grid = RegionGrid.plan((truth.shape[0], truth.shape[1]), SIDE)
        provenance = {"classes": list(card.classes), "model": {"name": card.name}}
        review = Review(first, uncertainty, grid)
        yield Annotated(item.image.stem, image, truth, first, review, provenance)


def chosen(images: Sequence[Annotated], k: int, choice: str, seed: int) -> list[tuple[int, Place]]:
    """Choose k regions of all images."""
    places = [(i, place) for i, image in enumerate(images) for place in image.review]
    if choice == "uncertain":
        places.sort(key=lambda found: -images[found[0]].review.mean_uncertainty(found[1]))
        return places[:k]
    if choice == "different":
        return [places[i] for i in _farthest(_looks(images, places), k)]
    order = np.random.default_rng(seed).permutation(len(places))
    return [places[i] for i in order[:k]]


def _looks(images: Sequence[Annotated], places: Sequence[tuple[int, Place]]) -> NDArray[np.float64]:
    """Describe regions: brightness, contrast, texture, cells that were found, how unsure."""
    rows = []
    for i, place in places:
        image = images[i]
        window = image.review.grid[place[1]].slices
        pixels = image.image[window].astype(float)
        grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
        areas = np.bincount(image.first[window].ravel())[1:]
        areas = areas[areas > 0]
        texture = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
        unsure = image.review.mean_uncertainty(place)
        width = np.median(areas) if len(areas) else 0.0
        rows.append([grey.mean(), grey.std(), texture, len(areas), width, unsure])
    looks = np.array(rows, dtype=np.float64)
    scaled: NDArray[np.float64] = (looks - looks.mean(axis=0)) / np.maximum(looks.std(axis=0), 1e-9)
    return scaled


def _farthest(looks: NDArray[np.float64], k: int) -> list[int]:
    """Take the one that is farthest from the mean, then ever the one farthest from all taken."""
    taken = [int(np.linalg.norm(looks, axis=1).argmax())]
    while len(taken) < min(k, len(looks)):
        distance = np.linalg.norm(looks[:, None] - looks[taken], axis=2).min(axis=1)
        taken.append(int(distance.argmax()))
    return taken


def dataset_of(
    images: Sequence[Annotated], places: Sequence[tuple[int, Place]], folder: Path
) -> Path:
    """Export the regions as a biologist would."""
    shutil.rmtree(folder, ignore_errors=True)
    for i in sorted({i for i, _ in places}):
        mine = [place for j, place in places if j == i]
        for _ in add(folder, images[i].corrected(mine)):
            pass
    return folder


def scores(card: ModelCard, items: Sequence[AnnotatedImage]) -> dict[str, Any]:
    """Score a model on images that it never saw: as in use, and told the true diameter."""
    network = open_network(card, "tensorflow")
    estimated, told, scales = [], [], []
    for item in items:
        image, truth = item.read()
        diameter = float(np.median(diameters_of(truth)))
        found = segmented(image, network, card)
        right = segmented(image, network, card, Settings(diameter))
        estimated.append(compare(truth, found.cells))
        told.append(compare(truth, right.cells))
        scales.append(round(found.details.diameter / diameter, 2))
    summary = summarize(estimated)
    return {
        "ap50": round(summary.ap50, 4),
        "ap75": round(summary.ap75, 4),
        "ap50_told": round(summarize(told).ap50, 4),
        "scales": scales,
    }


@dataclass
class Run:
    """One cell of the table: what is retrained, on what, and how.

    Attributes
    ----------
    task : str
        A key of `TASKS`.
    k : int
        Regions; 0 is the base, `ALL` all there are.
    choice : str
    seed : int
    way : str
        A key of `WAYS`.
    steps : int
    """

    task: str
    k: int
    choice: str
    seed: int
    way: str
    steps: int


class Bench:
    """Every run is one line of a file; what is there is not run again."""

    def __init__(self, base: str, data: Path, work: Path) -> None:
        self.card, self.data, self.work = find_model(base), data, work
        self.path = work / "results.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.results: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._caches: dict[str, TunerCache] = {}
        self._images: dict[str, list[Annotated]] = {}

    def run(self, run: Run) -> None:
        """Correct, export, retrain and score, where it was not done before."""
        key = {"base": self.card.sha256, **vars(run)}
        if any(key.items() <= result.items() for result in self.results):
            return
        learned, scored = TASKS[run.task].items(run.task, self.data, self.work)
        if run.k == 0:
            self._keep(key | scores(self.card, scored))
            return
        if run.task not in self._images:
            kept = self.work / "first" / self.card.sha256[:8] / run.task
            self._images = {run.task: list(first_results(learned, self.card, kept))}
        images = self._images[run.task]
        k = run.k if run.k > 0 else sum(len(image.review) for image in images)
        places = chosen(images, k, run.choice, run.seed)
        dataset = dataset_of(images, places, self.work / "dataset")
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            done = self._retrained(dataset, Path(folder, "model.keras"), run)
            more = {
                "mixture": done.mixture,
                "diameter": done.card.typical_diameter,
                "before": done.before,
                "after": done.after,
                "cpu_seconds": round(time.process_time() - started, 1),
            }
            self._keep(key | scores(done.card, scored) | more)

    def _retrained(self, dataset: Path, output: Path, run: Run) -> Retrained:
        options = RetrainOptions(steps=run.steps, seed=run.seed)
        cache = self._caches.setdefault(run.way, TunerCache())
        for event in retrain(
            dataset, self.card.path, output, options, cache=cache, recipe=WAYS[run.way]
        ):
            if isinstance(event, Retrained):
                return event  # before the model is converted, which nobody asks for here
        raise AssertionError("a retraining ends with its result")

    def _keep(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


def rows(results: Sequence[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Those of the results that were made so."""
    return [result for result in results if wanted.items() <= result.items()]


def _cell(results: Sequence[dict[str, Any]]) -> str:
    if not results:
        return ""
    values = [result["ap50"] for result in results]
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.median(values):.2f} ({min(values):.2f}, {max(values):.2f})"


def table(results: Sequence[dict[str, Any]]) -> str:
    """Make a row for each task, way and choice, and a column for each number of regions."""
    chosen = [result for result in results if result["k"] > 0]
    ks = sorted({result["k"] for result in chosen})
    columns = ks + [ALL] * bool(rows(results, k=ALL))
    names = [EVERY if k == ALL else str(k) for k in columns]
    lines = [
        f"| task | way | regions | base | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * len(columns)}",
    ]
    for way, choice in sorted({(r["way"], r["choice"]) for r in chosen}):
        here = rows(chosen, way=way, choice=choice)
        learned = {result["task"] for result in here}
        here += [result for result in rows(results, way=way, k=ALL) if result["task"] in learned]
        for task in TASKS:
            if task in learned:
                base = _cell(rows(results, task=task, k=0))
                cells = " | ".join(_cell(rows(here, task=task, k=k)) for k in columns)
                lines.append(f"| {task} | {way} | {choice} | {base} | {cells} |")
        medians = [_median(results, here, k) for k in (0, *columns)]
        lines.append(f"| **median** | {way} | {choice} | {' | '.join(medians)} |")
    return "\n".join(lines)


def _median(results: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]], k: int) -> str:
    """Take the median over the tasks that were measured with so many regions."""
    found = results if k == 0 else here
    values = [
        np.median([r["ap50"] for r in rows(found, task=task, k=k)])
        for task in TASKS
        if rows(found, task=task, k=k) and rows(here, task=task)
    ]
    return f"**{np.median(values):.2f}**" if values else ""


def plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw AP50 over the number of regions: a line for each task, and their median."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    learned = [result for result in results if result["k"] > 0]
    way = min((r["way"] for r in learned), key=lambda way: way != "default")
    learned = rows(learned, way=way)
    choices = [choice for choice in CHOICES if rows(learned, choice=choice)]
    for column, choice in enumerate(choices, 1):
        axes = figure.add_subplot(1, len(choices), column, xlabel=f"{choice} regions", ylim=(0, 1))
        here = [*rows(learned, choice=choice), *rows(results, k=0)]
        ks = sorted({r["k"] for r in here if r["k"] >= 0})
        lines = []
        for number, task in enumerate(TASKS):
            mine = [[r["ap50"] for r in rows(here, task=task, k=k)] for k in ks]
            if all(mine):
                lines.append([np.mean(values) for values in mine])
                axes.plot(lines[-1], "o-", color=f"C{number}", lw=1, ms=3, label=task)
        if lines:
            axes.plot(np.median(lines, axis=0), "k-", lw=2.5, label="median")
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])  # each is twice the one before
        axes.set_ylabel("AP at IoU 0.5" if column == 1 else "")
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside right center")
    figure.savefig(path, dpi=120)


def write_page(text: str, picture: Path) -> None:
    """Put the table between the marks of the page, and the plot beside it."""
    replace_section("tasks", text, PAGE)
    shutil.copy(picture, PAGE.parent / "images" / PICTURE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--base", default="cells")
    parser.add_argument(
        "--data", type=Path, help="annotated folders; without, simulated tasks only"
    )
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument(
        "--regions", type=int, nargs="*", default=REGIONS, help=f"{ALL}: all there are"
    )
    parser.add_argument("--choices", nargs="*", default=CHOICES, choices=CHOICES)
    parser.add_argument("--ways", nargs="*", default=["default"], choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="by default those of a quiet minute")
    parser.add_argument("--page", action="store_true", help=f"rewrite the table of {PAGE.name}")
    options = parser.parse_args()
    if options.work is None:
        options.work, options.base = Path(tempfile.mkdtemp()), "cells-fast"
        options.tasks, options.regions, options.choices = list(TASKS)[:1], [4], ["uncertain"]
        options.steps = 60
    options.steps = options.steps or STEPS.get(options.base, STEPS["cells"])
    if options.data is None:
        options.tasks = [task for task in options.tasks if TASKS[task].kinds]
    return options


def _grid(options: argparse.Namespace) -> Iterator[Run]:
    """Go through the cells of the table, those first that tell most early on."""
    for task in options.tasks:
        yield Run(task, 0, "", 0, "", 0)
    for seed in range(options.seeds):
        for k in options.regions:
            for choice in (EVERY,) if k == ALL else options.choices:
                for task in options.tasks:
                    for way in options.ways:
                        yield Run(task, k, choice, seed, way, options.steps)


def main() -> None:
    """Run what is missing, and write table and plot."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.base, options.data or Path(), options.work)
    for run in _grid(options):
        bench.run(run)
    mine = rows(bench.results, base=bench.card.sha256)
    mine = [result for result in mine if result["steps"] in (0, options.steps)]
    text = table(mine)
    print(text)
    (options.work / "table.md").write_text(text + "\n")
    if not any(result["k"] > 0 for result in mine):
        return  # of all regions alone no curve can be drawn
    picture = options.work / PICTURE
    plot(mine, picture)
    print(f"written: {options.work / 'table.md'} and {picture}")
    if options.page:
        write_page(text, picture)
        RESULTS.write_text("".join(json.dumps(result) + "\n" for result in mine))


if __name__ == "__main__":
    main()
