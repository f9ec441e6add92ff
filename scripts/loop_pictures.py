"""Draw what a few corrected regions bring, for the README: before, the strokes, after.

``make loop-pictures`` takes images of four kinds that the base has not
learned. A simulated annotator puts the four most uncertain regions of 256 x 256 pixels right; the
base is retrained on them for as many steps as two quiet cores take in a minute, and scored on three
other images. Each kind is one draw. Its picture goes to docs/images/, what was measured to
benchmarks/results/loop.json, and the table into the README. WORK keeps what is done, so a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import replace_section
from learning_strokes import strokes_for
from numpy.typing import NDArray
from PIL import Image
from retrain_loop import STEPS, TASKS, Annotated, chosen, dataset_of, first_results
from skimage.segmentation import find_boundaries

from napari_unet_cells.core.metrics import ImageScore, compare, summarize
from napari_unet_cells.core.regions import Place
from napari_unet_cells.datasets.origins import ORIGINS
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.training.evaluate import segmented
from napari_unet_cells.training.events import Retrained, RetrainOptions
from napari_unet_cells.training.retrain import retrain

ROOT = Path(__file__).parents[1]
README, IMAGES = ROOT / "README.md", ROOT / "docs" / "images"
CHINESE_README = ROOT / "README.zh-CN.md"
RESULTS = ROOT / "benchmarks" / "results" / "loop.json"

#: Words of the table in the Chinese README.
CHINESE = {
    "sentence": "`{model}` ({sha256:.8}) 没有学过的图像:手工修正 {regions} 个 256 x 256 的区域,"
    "网络用它们学习 {seconds} 秒(两个空闲核心),\n再在同类的另外 {images} 幅图像上评分。"
    "每类只做了一次;绿色为正确,红色为错误,黄色为手工修正。{origins}[详情](docs/retraining.md)",
    "simulated": "图像均为模拟图像。",
    "others": "{n} 类为模拟图像,其余来自 {credits}。",
    "header": "| 图像 | 之前、修正、之后 | 手工 | AP (IoU 0.5) |",
    "strokes": "{regions} 个区域,{strokes} 笔",
    "alt": "之前、修正、之后",
    "rods in colonies, phase contrast": "菌落中的杆菌,相差",
    "cobblestones, membranes": "铺路石状细胞,细胞膜",
    "sheet, DIC": "细胞单层,DIC",
    "spindles, quantitative phase": "梭形细胞,定量相位",
}

#: Kinds of images that no model that ships has learned.
KINDS = (
    "rods in colonies, phase contrast",
    "cobblestones, membranes",
    "sheet, DIC",
    "spindles, quantitative phase",
)

#: Regions that are corrected, and pixels along the side of a panel.
REGIONS, PANEL = 4, 256

#: Colours of cells that are right (IoU of 0.5 or more), of others, and of those put right by hand.
RIGHT, WRONG, BY_HAND = (90, 220, 90), (255, 70, 70), (255, 220, 0)

#: Pixels between two windows of which the densest is drawn.
STRIDE = 32

#: Pixels between two panels, and the quality of the JPEG.
GAP, QUALITY = 6, 82


def slug(kind: str) -> str:
    """Name of the picture of a kind of images."""
    return "loop-" + re.sub(r"\W+", "-", kind.lower()).strip("-") + ".jpg"


def matched(labels: NDArray[Any], others: NDArray[Any], at_least: float) -> set[int]:
    """Find the labels that overlap another one by an IoU of at least so much."""
    found = set()
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        ids, shared = np.unique(others[mask], return_counts=True)
        for other, overlap in zip(ids, shared, strict=True):
            union = np.count_nonzero(mask) + np.count_nonzero(others == other) - overlap
            if other > 0 and overlap >= at_least * union:
                found.add(int(label))
    return found


def panel(
    pixels: NDArray[Any],
    labels: NDArray[Any],
    good: set[int],
    colors: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """Draw the outlines of cells over an image: the good ones in the first colour."""
    grey = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    low, high = np.percentile(grey, (1, 99.8))
    stretched = np.clip((grey.astype(float) - low) / max(high - low, 1), 0, 1)
    shown: NDArray[np.uint8] = (200 * stretched).astype(np.uint8)
    edge = find_boundaries(labels, mode="inner")
    is_good = np.isin(labels, list(good))
    shown[edge & is_good], shown[edge & ~is_good] = colors
    return shown


def densest(truth: NDArray[Any]) -> tuple[slice, slice]:
    """Give the window of a panel that holds most of the cells."""
    rows, columns = (range(0, max(size - PANEL, 0) + 1, STRIDE) for size in truth.shape[:2])
    windows = [
        (slice(top, top + PANEL), slice(left, left + PANEL)) for top in rows for left in columns
    ]
    return max(windows, key=lambda window: np.count_nonzero(truth[window]))


class Story:
    """One kind of images: what the base makes of them, what is corrected, what comes of it."""

    def __init__(self, kind: str, card: ModelCard, data: Path, work: Path, steps: int) -> None:
        self.kind, self.card, self.work, self.steps = kind, card, work, steps
        self.learned, self.scored = TASKS[kind].items(kind, data, work)

    def tell(self) -> dict[str, Any]:
        """Measure and draw; the picture goes into WORK."""
        kept = self.work / "first" / self.card.sha256[:8] / self.kind
        images = list(first_results(self.learned, self.card, kept))
        places = chosen(images, REGIONS, "uncertain", 0)
        strokes = [self._strokes(images[i], place) for i, place in places]
        tuned = self._retrained(dataset_of(images, places, self.work / "dataset"))
        before, after = (self._measured(card) for card in (self.card, tuned))
        most = max(range(len(places)), key=lambda i: sum(strokes[i].values()))
        number, place = places[most]
        self._draw(before[1], self._corrected(images[number], place), after[1])
        return {
            "model": self.card.name,
            "sha256": self.card.sha256,
            "regions": REGIONS,
            "steps": self.steps,
            "seconds": round(60 * self.steps / STEPS.get(self.card.name, STEPS["cells"])),
            "strokes": dict(+sum(strokes, Counter())),
            "before": round(summarize(before[0]).ap50, 4),
            "after": round(summarize(after[0]).ap50, 4),
            "images": len(self.scored),
        }

    def _strokes(self, image: Annotated, place: Place) -> Counter[str]:
        window = image.review.grid[place[1]].slices
        return strokes_for(image.first[window], image.truth[window])

    def _retrained(self, dataset: Path) -> ModelCard:
        path = self.work / "models" / f"{slug(self.kind)[:-4]}.keras"
        for old in (path, path.with_suffix(".json")):
            old.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        options = RetrainOptions(steps=self.steps)
        for event in retrain(dataset, self.card.path, path, options):
            if isinstance(event, Retrained):
                return event.card
        raise AssertionError("a retraining ends with its result")

    def _measured(self, card: ModelCard) -> tuple[list[ImageScore], NDArray[np.uint8]]:
        """Score a model, and draw what it finds in the first image."""
        network = open_network(card, "tensorflow")
        scores, drawn = [], None
        for item in self.scored:
            pixels, truth = item.read()
            cells = segmented(pixels, network, card).cells
            assert cells is not None
            scores.append(compare(truth, cells))
            if drawn is None:
                window = densest(truth)
                good = matched(cells, truth, 0.5)
                drawn = panel(pixels[window], cells[window], good, (RIGHT, WRONG))
        assert drawn is not None
        return scores, drawn

    def _corrected(self, image: Annotated, place: Place) -> NDArray[np.uint8]:
        window = image.review.grid[place[1]].slices
        truth, first = image.truth[window], image.first[window]
        untouched = matched(truth, first, 0.6)
        return panel(image.image[window], truth, untouched, (RIGHT, BY_HAND))

    def _draw(self, *panels: NDArray[np.uint8]) -> None:
        size = (PANEL, PANEL)
        picture = Image.new("RGB", (3 * PANEL + 2 * GAP, PANEL), "white")
        for i, one in enumerate(panels):
            picture.paste(Image.fromarray(one).resize(size), (i * (PANEL + GAP), 0))
        picture.save(self.work / slug(self.kind), quality=QUALITY, optimize=True)


def table(results: dict[str, dict[str, Any]]) -> str:
    """Make a row for each kind of images, below a sentence on how it was measured."""
    one = next(iter(results.values()))
    simulated, credits = _origins(results)
    origins = (
        f"{simulated} of the {len(results)} kinds are simulated; the others are of {credits}."
        if credits
        else "All of them are simulated."
    )
    lines = [
        f"Of images that `{one['model']}` ({one['sha256'][:8]}) has not learned, {one['regions']} "
        "regions of 256 x 256 are put right by hand; the network",
        "learns from them for as many steps as two quiet cores take in "
        f"{one['seconds']:.0f} seconds, and is scored on {one['images']} other images",
        "of the kind. One draw of each; green is right, red is not, yellow was put right by hand.",
        f"{origins} [More](docs/retraining.md).",
        "",
        "| images | before, put right, after | by hand | AP at IoU 0.5 |",
        "|---|---|---|---|",
    ]
    for kind, result in results.items():
        strokes = sum(result["strokes"].values())
        lines.append(
            f"| {kind} | ![Before, the strokes, after](docs/images/{slug(kind)}) | "
            f"{result['regions']} regions, {strokes} strokes | "
            f"{result['before']:.2f} to **{result['after']:.2f}** |"
        )
    return "\n".join(lines)


def _origins(kinds: Iterable[str]) -> tuple[int, str]:
    """Count the kinds that are simulated, and say whom the images of the others are of."""
    folders = [TASKS[kind].folder for kind in kinds]
    return folders.count(""), "; ".join(ORIGINS[folder].credit for folder in folders if folder)


def chinese_table(results: dict[str, dict[str, Any]]) -> str:
    """Say the same in Chinese."""
    one = next(iter(results.values()))
    simulated, credits = _origins(results)
    said = CHINESE["others" if credits else "simulated"].format(n=simulated, credits=credits)
    lines = [
        CHINESE["sentence"].format(**one, origins=said),
        "",
        CHINESE["header"],
        "|---|---|---|---|",
    ]
    for kind, result in results.items():
        strokes = sum(result["strokes"].values())
        lines.append(
            f"| {CHINESE.get(kind, kind)} | ![{CHINESE['alt']}](docs/images/{slug(kind)}) | "
            + CHINESE["strokes"].format(regions=result["regions"], strokes=strokes)
            + f" | {result['before']:.2f} → **{result['after']:.2f}** |"
        )
    return "\n".join(lines)


def same(result: dict[str, Any] | None, card: ModelCard, steps: int) -> bool:
    """Whether a kind was measured with this base and so many steps."""
    return result is not None and (result["sha256"], result["steps"]) == (card.sha256, steps)


def _tell_all(
    kinds: Sequence[str], card: ModelCard, data: Path, work: Path, steps: int
) -> dict[str, dict[str, Any]]:
    path = work / "loop.json"
    results: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for kind in kinds:
        if not same(results.get(kind), card, steps):
            results[kind] = Story(kind, card, data, work, steps).tell()
            path.write_text(json.dumps(results, indent=1))
            print(kind, results[kind], flush=True)
    return {kind: results[kind] for kind in kinds}


def main() -> None:
    """Draw the pictures, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="annotated folders")
    parser.add_argument("--base", default="cells")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(TASKS))
    parser.add_argument("--steps", type=int, help="by default those of a quiet minute")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    card = find_model(options.base)
    steps = options.steps or STEPS.get(options.base, STEPS["cells"])
    results = _tell_all(options.kinds, card, options.data, options.work, steps)
    for kind in results:
        (IMAGES / slug(kind)).write_bytes((options.work / slug(kind)).read_bytes())
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    replace_section("loop", table(results), README)
    replace_section("loop", chinese_table(results), CHINESE_README)
    print(table(results))


if __name__ == "__main__":
    main()
