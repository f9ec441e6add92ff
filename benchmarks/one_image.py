"""What correcting one half of an image brings to its other half: the loop on real images.

``python benchmarks/one_image.py WORK --data FOLDER --base MODEL`` takes images of an annotated
folder, each for itself. The base segments the left half; review regions of 256 x 256 pixels of it
are "corrected", drawn at random where there are more than are asked for; the base is retrained on
them for the steps of a minute, and scored on the right half. MODEL should not know the kind of
image, such as one of ``leave_kind_out.py``. WORK keeps every result, so a run that was stopped goes
on where it was. Without arguments two simulated images are taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from retrain_loop import SIDE, STEPS, Annotated, Task, chosen, dataset_of, rows

from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import RegionGrid, Review
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.training.evaluate import segmented
from napari_unet_cells.training.events import Retrained, RetrainOptions
from napari_unet_cells.training.retrain import retrain
from napari_unet_cells.training.tuner_cache import TunerCache

#: Regions of a half of an image of 1024 x 1024 pixels.
REGIONS = 8


@dataclass(frozen=True)
class Half:
    """Half of an annotated image.

    Attributes
    ----------
    name : str
        Stem of the image.
    image : array, (y, x) or (y, x, channels)
    truth : integer array, (y, x)
    """

    name: str
    image: NDArray[Any]
    truth: NDArray[Any]

    @classmethod
    def pair(cls, item: AnnotatedImage) -> tuple[Half, Half]:
        """Divide an image into its left and its right half."""
        image, truth = item.read()
        middle = truth.shape[1] // 2
        left, right = slice(None, middle), slice(middle, None)
        name = item.image.stem
        return cls(name, image[:, left], truth[:, left]), cls(
            name, image[:, right], truth[:, right]
        )

    def annotated(self, card: ModelCard) -> Annotated:
        """Segment it with the base, ready to be corrected."""
        result = Segmenter(card, open_network).result(planes_of(self.image), uncertainty=True)
        if result.cells is None or result.uncertainty is None:
            raise SystemExit(f"{card.name} makes classes. Name a model that makes cells.")
        shape = (self.truth.shape[0], self.truth.shape[1])
        review = Review(result.cells, result.uncertainty, RegionGrid.plan(shape, SIDE))
        provenance = {"classes": list(card.classes), "model": {"name": card.name}}
        return Annotated(self.name, self.image, self.truth, result.cells, review, provenance)

    def score(self, card: ModelCard) -> dict[str, float]:
        """Score a model on it, as in use."""
        found = segmented(self.image, open_network(card, "tensorflow"), card)
        summary = summarize([compare(self.truth, found.cells)])
        return {"ap50": round(summary.ap50, 4), "ap75": round(summary.ap75, 4)}


class Halves:
    """Every result is one line of a file; what is there is not measured again."""

    def __init__(self, card: ModelCard, work: Path, k: int, steps: int) -> None:
        self.card, self.k, self.steps = card, k, steps
        self.path = work / "one-image.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.results: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._work, self._cache = work, TunerCache()

    def measure(self, item: AnnotatedImage, seeds: int) -> None:
        """Score the base, and what becomes of it in so many draws."""
        left, right = Half.pair(item)
        key = {"base": self.card.sha256, "image": f"{item.folder}/{left.name}", "k": 0}
        if not self._known(key):
            self._keep(key | right.score(self.card))
        for seed in range(seeds):
            key = key | {"k": self.k, "steps": self.steps, "seed": seed}
            if not self._known(key):
                self._keep(key | self._learned(left, right, seed))

    def _learned(self, left: Half, right: Half, seed: int) -> dict[str, Any]:
        images = [left.annotated(self.card)]
        places = chosen(images, self.k, "random", seed)
        dataset = dataset_of(images, places, self._work / "dataset")
        options = RetrainOptions(steps=self.steps, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "model.keras")
            for event in retrain(dataset, self.card.path, output, options, cache=self._cache):
                if isinstance(event, Retrained):
                    more = {"regions": len(places), "mixture": event.mixture}
                    return right.score(event.card) | more
        raise AssertionError("a retraining ends with its result")

    def _known(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= result.items() for result in self.results)

    def _keep(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Make a row for each image, with the base and the draws, and one for their median."""
    lines = ["| image | base | retrained | median |", "|---|---|---|---|"]
    medians = []
    for name in dict.fromkeys(result["image"] for result in results):
        mine = [result for result in results if result["image"] == name]
        base = next(result["ap50"] for result in mine if result["k"] == 0)
        draws = [result["ap50"] for result in mine if result["k"]]
        if draws:
            medians.append((base, float(np.median(draws))))
            said = ", ".join(f"{draw:.2f}" for draw in draws)
            lines.append(f"| {name} | {base:.2f} | {said} | {medians[-1][1]:.2f} |")
    if medians:
        base, after = np.median(medians, axis=0)
        lines.append(f"| **median** | **{base:.2f}** | | **{after:.2f}** |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--data", type=Path, help="annotated folder; without, simulated images")
    parser.add_argument("--base", default="cells-fast")
    parser.add_argument("--images", nargs="*", help="by their stems (default: the first four)")
    parser.add_argument("--regions", type=int, default=REGIONS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS["cells-fast"])
    options = parser.parse_args()
    if options.work is None:
        options.work, options.regions, options.steps = Path(tempfile.mkdtemp()), 2, 60
    return options


def main() -> None:
    """Measure what is missing, and print the table."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.data is None:
        task = Task(("cobblestone", "membranes"), 40)
        items: Sequence[AnnotatedImage] = task.items("simulated", Path(), options.work)[0][:2]
    else:
        items = read_annotated_images([options.data])
        wanted = options.images or [item.image.stem for item in items[:4]]
        items = [item for item in items if item.image.stem in wanted]
    card = find_model(options.base)
    halves = Halves(card, options.work, options.regions, options.steps)
    for item in items:
        halves.measure(item, options.seeds)
    key = {"base": card.sha256}
    learned = rows(halves.results, **key, k=options.regions, steps=options.steps)
    print(table([*rows(halves.results, **key, k=0), *learned]))


if __name__ == "__main__":
    main()
