"""How many corrected regions make a network better: a simulated annotator.

``python benchmarks/retrain_loop.py BASE.keras FOLDER WORK`` segments the ``train`` images of an
annotated folder with a model that never saw such images, "corrects" k review regions of
256 x 256 pixels (their labels are replaced by the truth), the most uncertain ones or random
ones, exports them as a correction dataset, retrains the model on it and scores it on the
``val`` images. WORK keeps every result, so a stopped run goes on where it was; at the end
WORK/table.md and WORK/retrain-loop.png are written. Without arguments a small simulated set is
taken.

The tuning is measured in steps, not in minutes, so that other work on the machine does not
change the outcome; the seconds that a step took are in the results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import Place, RegionGrid, Review
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.dataset_writer import add
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.training.evaluate import evaluate, summarize_by_modality
from napari_unet_cells.training.events import Retrained, RetrainOptions, StepDone
from napari_unet_cells.training.retrain import TunerCache, retrain

#: Side of a review region in pixels.
SIDE = 256

#: What two quiet cores do in a minute, and in two, with the network of the default model.
STEPS = {"1 minute": 200, "2 minutes": 400}

REGIONS = (1, 2, 4, 8, 16)
CHOICES = ("uncertain", "random")


@dataclass
class Annotated:
    """An image that was segmented, with its truth."""

    name: str
    image: NDArray[Any]
    truth: NDArray[Any]
    first: NDArray[Any]
    review: Review
    provenance: dict[str, Any]

    def corrected(self, places: list[Place]) -> Approved:
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


def segmented(items: list[AnnotatedImage], base: str, work: Path) -> Iterator[Annotated]:
    """Segment the images with the base; the results are kept in `work`."""
    card = find_model(base)
    kept = work / "first"
    kept.mkdir(exist_ok=True)
    for item in items:
        image, truth = item.read()
        path = kept / f"{item.image.stem}.npz"
        if not path.exists():
            result = Segmenter(card, open_network).result(planes_of(image), uncertainty=True)
            if result.cells is None or result.uncertainty is None:
                raise SystemExit(f"{base} makes classes. Name a model that makes cells.")
            np.savez_compressed(path, cells=result.cells, uncertainty=result.uncertainty)
        with np.load(path) as arrays:
            first, uncertainty = arrays["cells"], arrays["uncertainty"]
        grid = RegionGrid.plan((truth.shape[0], truth.shape[1]), SIDE)
        review = Review(first, uncertainty, grid)
        provenance = {"classes": list(card.classes), "model": {"name": card.name}}
        yield Annotated(item.image.stem, image, truth, first, review, provenance)


def chosen(images: list[Annotated], k: int, choice: str, seed: int) -> list[tuple[int, Place]]:
    """Choose k regions of all images."""
    places = [(i, place) for i, image in enumerate(images) for place in image.review]
    if choice == "uncertain":
        places.sort(key=lambda found: -images[found[0]].review.mean_uncertainty(found[1]))
        return places[:k]
    order = np.random.default_rng(seed).permutation(len(places))
    return [places[i] for i in order[:k]]


def dataset_of(images: list[Annotated], places: list[tuple[int, Place]], folder: Path) -> Path:
    """Export the regions as a biologist would."""
    shutil.rmtree(folder, ignore_errors=True)
    for i in sorted({i for i, _ in places}):
        mine = [place for j, place in places if j == i]
        for _ in add(folder, images[i].corrected(mine)):
            pass
    return folder


def scores(model: str | Path, items: list[AnnotatedImage]) -> dict[str, float]:
    """Score a model on the validation images."""
    card = find_model(model)
    summary = summarize_by_modality(list(evaluate(items, open_network(card), card)))[
        "all"
    ].as_dict()
    return {name: round(float(summary[name]), 4) for name in ("ap50", "ap75", "iou")}


class Runs:
    """Every run is one line of a file; what is there is not run again."""

    def __init__(
        self, work: Path, base: str, images: list[Annotated], items: list[AnnotatedImage]
    ) -> None:
        self.work, self.base, self.images, self.items = work, base, images, items
        self.cache = TunerCache()
        self.path = work / "results.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.results: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def run(self, k: int, choice: str, seed: int, steps: int) -> None:
        """Correct, export, retrain and score, where it was not done before."""
        key = {"k": k, "choice": choice, "seed": seed, "steps": steps}
        if any(key.items() <= result.items() for result in self.results):
            return
        if k == 0:
            self._keep(key | scores(self.base, self.items))
            return
        places = chosen(self.images, k, choice, seed)
        dataset = dataset_of(self.images, places, self.work / "dataset")
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "model.keras")
            options = RetrainOptions(steps=steps, seed=seed)
            seconds = 0.0
            for event in retrain(dataset, self.base, output, options, cache=self.cache):
                if isinstance(event, StepDone):
                    seconds = event.seconds / event.step
                if isinstance(event, Retrained):
                    more = {"mixture": event.mixture, "diameter": event.card.typical_diameter}
            self._keep(key | scores(output, self.items) | more | {"seconds_a_step": seconds})

    def _keep(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


def table(results: list[dict[str, Any]]) -> str:
    """Mean and range over the seeds, a row for each number of regions and length."""
    lines = [
        "| tuning | regions | chosen by | AP50 (lowest, highest) | AP75 | IoU | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(r["steps"], r["k"], r["choice"]) for r in results})
    for steps, k, choice in keys:
        rows = [r for r in results if (r["steps"], r["k"], r["choice"]) == (steps, k, choice)]
        mean = {name: np.mean([r[name] for r in rows]) for name in ("ap50", "ap75", "iou")}
        spread = f"{min(r['ap50'] for r in rows):.2f}, {max(r['ap50'] for r in rows):.2f}"
        lines.append(
            f"| {steps} steps | {k} | {choice} | {mean['ap50']:.3f} ({spread}) | "
            f"{mean['ap75']:.3f} | {mean['iou']:.3f} | {len(rows)} |"
        )
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw AP50 over the number of regions, with the range over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="corrected regions of 256 x 256", ylabel="AP50 on val")
    all_regions = max(r["k"] for r in results)
    styles = dict(zip(sorted({r["steps"] for r in results} - {0}), ("-", "--", ":"), strict=False))
    for choice, colour in zip(CHOICES, ("C0", "C1"), strict=True):
        for steps, style in styles.items():
            rows = [
                r
                for r in results
                if r["choice"] == choice and r["steps"] in (0, steps) and r["k"] <= max(REGIONS)
            ]
            ks = sorted({r["k"] for r in rows})
            values = [[r["ap50"] for r in rows if r["k"] == k] for k in ks]
            mean = np.array([np.mean(v) for v in values])
            low, high = (np.array([f(v) for v in values]) for f in (min, max))
            axes.errorbar(
                ks, mean, (mean - low, high - mean), fmt="o" + style, color=colour,
                label=f"{choice}, {steps} steps", capsize=3,
            )  # fmt: skip
    for steps in sorted({r["steps"] for r in results if r["k"] == all_regions}):
        value = np.mean(
            [r["ap50"] for r in results if (r["k"], r["steps"]) == (all_regions, steps)]
        )
        axes.axhline(value, color="0.5", linestyle=styles.get(steps, "-."), linewidth=1)
        axes.annotate(f"all {all_regions}, {steps} steps", (0, value), fontsize=7, va="bottom")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def simulated(folder: Path) -> Path:
    """Write a small set of a kind that the shipped model does not know: dark cells."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    records = []
    for seed in range(8):
        image, truth = simulate_nuclei((512, 512), seed=seed, diameter=44)
        # Only their rims are seen, as in phase contrast.
        pixels = np.abs(np.gradient(image.astype(np.float32))[0])
        pixels = (255 * pixels / np.percentile(pixels, 99.9)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{seed}.png")
        Image.fromarray(truth.astype(np.uint16)).save(folder / "masks" / f"{seed}.png")
        records.append({"name": f"{seed}.png", "split": "train" if seed < 6 else "val"})
    (folder / "index.json").write_text(json.dumps(records))
    return folder


def main() -> None:
    """Run what is missing, and write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="cells-fast")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regions", type=int, nargs="*", default=REGIONS)
    parser.add_argument("--steps", type=int, nargs="*", default=list(STEPS.values()))
    parser.add_argument("--all-steps", type=int, nargs="*", default=[200, 400, 2000])
    options = parser.parse_args()
    if options.folder is None:
        options.work = Path(tempfile.mkdtemp())
        options.folder = simulated(options.work / "simulated")
        options.seeds, options.regions = 1, [4]
        options.steps, options.all_steps = [60], [60]
    options.work.mkdir(parents=True, exist_ok=True)
    items = read_annotated_images([options.folder])
    train = [item for item in items if item.split == "train"]
    validation = [item for item in items if item.split == "val"]
    images = list(segmented(train, options.base, options.work))
    runs = Runs(options.work, options.base, images, validation)
    total = sum(len(image.review) for image in images)
    for choice in CHOICES:
        runs.run(0, choice, 0, 0)
    for seed in range(options.seeds):
        for steps in options.steps:
            for k in options.regions:
                for choice in CHOICES:
                    runs.run(k, choice, seed, steps)
    for steps in options.all_steps:
        runs.run(total, "random", 0, steps)
    text = table(runs.results)
    print(text)
    (options.work / "table.md").write_text(text + "\n")
    plot(runs.results, options.work / "retrain-loop.png")
    print(f"written: {options.work / 'table.md'} and {options.work / 'retrain-loop.png'}")


if __name__ == "__main__":
    main()
