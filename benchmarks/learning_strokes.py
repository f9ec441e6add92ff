"""How many strokes learning while correcting saves: a simulated annotator on ten regions.

``python benchmarks/learning_strokes.py WORK --data DIR`` has an annotator go through ten regions of
256 x 256 pixels of images of one kind, those of an image by how unsure the network is, and put
each right: click what is missing, delete what is no cell, merge, split, and draw what fits badly.
Once the labels stay as the model made them, and once the model learns after each region, by the
very code of the page Correct, and the labels that nobody touched are made anew. WORK keeps every
result, so a run that was stopped goes on where it was. At the end WORK/strokes.md is written, and
with --page into docs/retraining.md, with the results in benchmarks/results/. Without arguments
one small task is taken.

An update takes as many steps as ten seconds of two quiet cores. It is over when the annotator turns
to the next region.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from accuracy import replace_section
from numpy.typing import NDArray
from retrain_loop import PAGE, SIDE, TASKS, rows

from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.regions import Place, RegionGrid, Review
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.replacing import Origin, ResultState
from napari_unet_cells.segmentation.run import finished
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.widgets.correct.teaching import (
    Learned,
    Redone,
    School,
    Target,
    Wanted,
    replacement,
    teach,
)

#: What the table of the page was made of.
RESULTS = Path(__file__).parent / "results" / "strokes.jsonl"

REGIONS = 10

#: Steps of an update: ten seconds of two quiet cores.
STEPS = {"cells": 58, "cells-fast": 140}

#: Kinds that the models that ship have not learned.
KINDS = (
    "rods in colonies, phase contrast",
    "cobblestones, membranes",
    "sheet, DIC",
    "tissue 40x air, DAPI",
)

#: Part of a cell that makes the other one belong to it, and the IoU below which it is drawn anew.
MOSTLY, FITS = 0.5, 0.6

WAYS = ("as they are", "learning")
STROKES = ("add", "delete", "merge", "split", "draw")


def strokes_for(shown: NDArray[Any], truth: NDArray[Any]) -> Counter[str]:
    """Count the strokes that put labels right.

    Parameters
    ----------
    shown, truth : integer array, (y, x)
        0 is background.
    """
    found, true = (np.unique(labels, return_inverse=True) for labels in (shown, truth))
    table = np.zeros((len(found[0]), len(true[0])), np.int64)
    np.add.at(table, (found[1].ravel(), true[1].ravel()), 1)
    f, t = int(found[0][0] == 0), int(true[0][0] == 0)
    shared, of_found, of_true = table[f:, t:], table[f:].sum(axis=1), table[:, t:].sum(axis=0)
    inside = shared > MOSTLY * of_found[:, None]  # a found cell lies in a true one,
    covers = shared > MOSTLY * of_true[None]  # or covers it
    strokes: Counter[str] = Counter()
    strokes["delete"] = int((~inside.any(axis=1) & ~covers.any(axis=1)).sum())
    strokes["split"] = int(np.maximum(covers.sum(axis=1) - 1, 0).sum())
    pieces = inside.sum(axis=0)
    strokes["merge"] = int((pieces > 1).sum())
    known = (pieces > 0) | covers.any(axis=0)
    strokes["add"] = int((~known).sum())
    for cell in np.flatnonzero(known):
        mine = inside[:, cell] | covers[:, cell]
        # What a split leaves beside the cell goes to another one.
        alone = mine & (covers.sum(axis=1) <= 1)
        overlap = int(shared[mine, cell].sum())
        union = int(of_true[cell]) + int(of_found[alone].sum()) - int(shared[alone, cell].sum())
        strokes["draw"] += overlap < FITS * union
    return strokes


@dataclass
class Image:
    """An image that is corrected, region by region."""

    name: str
    pixels: NDArray[Any]
    truth: NDArray[Any]
    layer: Any = field(default_factory=SimpleNamespace)
    state: ResultState | None = None
    review: Review | None = None

    def segment(self, segmenter: Segmenter) -> None:
        """Take the first labels."""
        result = segmenter.result(planes_of(self.pixels), uncertainty=True)
        event = finished(result, 0)
        if result.cells is None:
            raise SystemExit("The model makes classes. Name a model that makes cells.")
        shape = self.truth.shape
        grid = RegionGrid.plan((shape[0], shape[1]), SIDE)
        self.layer = SimpleNamespace(data=result.cells.astype(np.uint32))
        self.review = Review(self.layer.data, result.uncertainty, grid)
        self.state = ResultState.of(Origin.of(event), self.review.baseline, event.cells_digest)

    def correct(self, place: Place) -> Counter[str]:
        """Put a region right and approve it; give the strokes that it took."""
        assert self.review is not None
        window = self.review.grid[place[1]].slices
        truth, labels = self.truth[window], self.layer.data
        strokes = strokes_for(labels[window], truth)
        high = int(labels.max())
        labels[window] = np.where(truth > 0, truth.astype(np.uint32) + high, 0)
        self.review.approve(place, "2026-01-01T00:00:00+00:00")
        return strokes

    def approved(self) -> Approved:
        """Give the approved regions as the page Correct does."""
        assert self.review is not None
        assert self.state is not None
        return Approved(
            self.layer.data,
            self.review,
            dict(self.review.approved),
            planes_of(self.pixels),
            lambda: PixelSize(1.0, 1.0, "pixel"),
            {"role": "cells", "provenance": self.state.origin.provenance},
            {"layer": self.name, "path": None, "shape": list(self.pixels.shape)},
            f"{self.name} cells",
        )


class Annotator:
    """Corrects regions one after another, with or without a model that learns meanwhile."""

    def __init__(self, card: ModelCard, steps: int, engine: Engine | None) -> None:
        self.card, self.engine = card, engine
        self.school = School(budget={"steps": steps})
        self._library = ""

    def segmenter(self) -> Segmenter:
        """Segment as the program does: with what was learned, where something was."""
        return Segmenter(self.card, open_network)

    def go_through(self, images: Sequence[Image]) -> Iterator[Counter[str]]:
        """Correct ten regions; give the strokes of each."""
        left, seen = REGIONS, []
        for image in images:
            image.segment(self.segmenter())
            seen.append(image)
            assert image.review is not None
            while left and (place := image.review.next_place()) is not None:
                yield image.correct(place)
                left -= 1
                if self.engine is not None and left:
                    self._learn(self.engine, image, seen)
            if not left:
                return

    def _learn(self, engine: Engine, image: Image, seen: Sequence[Image]) -> None:
        state, review = image.state, image.review
        assert state is not None
        assert review is not None
        approved = tuple(one.approved() for one in seen)
        target = Target(
            image.layer,
            planes_of(image.pixels),
            {},
            state.origin.provenance,
            state.origin.fragments,
            "",
            False,
            approved[-1],
        )
        name = str(state.origin.provenance["model"]["name"])
        wanted = Wanted(name, self.card.name, approved, (), target)
        stop = threading.Event()
        for event in teach(engine, self.school, wanted, stop):
            if isinstance(event, Learned):
                self.card = event.card
            elif isinstance(event, Redone):
                (placed,) = replacement(event, state, list(review.approved), stop)
                image.layer.data = placed.change.after.unpacked().astype(np.uint32)
                image.state = placed.change.new
                review.rebase(placed.change.new.made, placed.change.after)
                seen_now = placed.change.new.origin.seen
                if seen_now is not None:
                    renewed = Review(image.layer.data, seen_now.uncertainty, review.grid)
                    review.take_uncertainty(renewed)


class Bench:
    """Every task and way is one line of a file; what is there is not run again."""

    def __init__(self, base: str, data: Path, work: Path, steps: int) -> None:
        self.card, self.data, self.work, self.steps = find_model(base), data, work, steps
        self.path = work / "strokes.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.results: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def run(self, task: str, way: str) -> None:
        """Correct ten regions, where that was not done before."""
        steps = self.steps if way == "learning" else 0
        key = {"base": self.card.sha256, "task": task, "way": way, "steps": steps}
        if rows(self.results, **key):
            return
        learned, _ = TASKS[task].items(task, self.data, self.work)
        images = [Image(item.image.stem, *item.read()) for item in learned]
        engine = Engine(0) if way == "learning" else None
        annotator = Annotator(self.card, steps, engine)
        try:
            strokes = list(annotator.go_through(images))
        finally:
            annotator.school.close()
            if engine is not None:
                engine.close(5.0)
        total = sum(strokes, Counter())
        result = {
            **key,
            "model": self.card.name,
            "regions": [sum(one.values()) for one in strokes],
            **{name: total[name] for name in STROKES},
        }
        self.results.append(result)
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Make a row for each task and way."""
    lines = [
        f"| images | labels | {' | '.join(STROKES)} | all | of the last five regions |",
        f"|---|---|{'---|' * len(STROKES)}---|---|",
    ]
    for task in TASKS:
        if {result["way"] for result in rows(results, task=task)} != set(WAYS):
            continue  # one way alone says nothing
        for way in WAYS:
            for result in rows(results, task=task, way=way):
                counts = " | ".join(str(result[name]) for name in STROKES)
                regions = result["regions"]
                lines.append(
                    f"| {task} | {way} | {counts} | **{sum(regions)}** | {sum(regions[-5:])} |"
                )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--base", default="cells")
    parser.add_argument(
        "--data", type=Path, help="annotated folders; without, simulated tasks only"
    )
    parser.add_argument("--tasks", nargs="*", default=list(KINDS), choices=list(TASKS))
    parser.add_argument("--steps", type=int, help="of an update")
    parser.add_argument("--page", action="store_true", help=f"rewrite the table of {PAGE.name}")
    options = parser.parse_args()
    if options.work is None:
        options.work, options.base = Path(tempfile.mkdtemp()), "cells-fast"
        options.tasks, options.steps = options.tasks[:1], 20
    options.steps = options.steps or STEPS.get(options.base, STEPS["cells"])
    if options.data is None:
        options.tasks = [task for task in options.tasks if TASKS[task].kinds]
    return options


def main() -> None:
    """Run what is missing, and write the table."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.base, options.data or Path(), options.work, options.steps)
    for task in options.tasks:
        for way in WAYS:
            bench.run(task, way)
    mine = rows(bench.results, base=bench.card.sha256)
    mine = [result for result in mine if result["steps"] in (0, options.steps)]
    text = table(mine)
    print(text)
    (options.work / "strokes.md").write_text(text + "\n")
    if options.page:
        replace_section("strokes", text, PAGE)
        RESULTS.write_text("".join(json.dumps(result) + "\n" for result in mine))


if __name__ == "__main__":
    main()
