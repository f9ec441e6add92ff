"""How well the models that ship find cells, on the `val` images of annotated folders.

Every image is segmented as a user would, once, and compared with its mask. Scores are written
with the interval that other images of the same kind would leave them in, by size of the cells,
and with pictures of the worst images, into ``docs/accuracy.md``, and as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from napari_unet_cells.dataset import Item, read_items
from napari_unet_cells.engine import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.evaluate import segmented
from napari_unet_cells.metrics import (
    ImageScore,
    bootstrap_intervals,
    compare,
    found_cells,
    summarize,
)
from napari_unet_cells.nets import DEFAULT_MODEL, SHIPPED, ModelCard, read_card
from napari_unet_cells.normalize import normalize, percentile_limits
from napari_unet_cells.outlines import outlines
from napari_unet_cells.scale import diameters_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURES = ROOT / "docs" / "images" / "accuracy"

#: Limits of the classes of cell diameters, in pixels.
SIZES = (4, 8, 16, 32, 64)

#: The pictures: how many, of images with at least so many cells, and their longest side in pixels.
WORST, FEWEST_CELLS, PICTURE_SIDE = 10, 5, 320

#: Two colours that those who see no red or no green can tell apart (Okabe and Ito).
TRUTH, PREDICTION = (86, 180, 233), (230, 159, 0)


@dataclass(frozen=True)
class Measured:
    """One image, what was found in it and how that compares with its mask."""

    item: Item
    image: NDArray[Any]
    truth: NDArray[np.int32]
    cells: NDArray[Any]
    score: ImageScore

    @property
    def ap50(self) -> float:
        """Of this image alone."""
        return summarize([self.score]).ap50


def measure(items: Sequence[Item], card: ModelCard) -> Iterator[Measured]:
    """Segment every image and compare; where nothing can be predicted, nothing is found."""
    network = open_network(card)
    for item in tqdm(items, desc=card.name, disable=None):
        image, truth = item.read()
        try:
            cells = segmented(image, network, card).cells
        except UserError:
            cells = None
        found = np.zeros(truth.shape, np.uint16) if cells is None else cells
        yield Measured(item, image, truth, found, compare(truth, found))


def groups_of(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Group the images by data set, and by kind where a set has several."""
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        groups.setdefault(f"{one.item.folder} val", []).append(one)
    for name, members in list(groups.items()):
        kinds = sorted({one.item.kind for one in members})
        for kind in kinds if len(kinds) > 1 else []:
            groups[f"{name}, {kind}"] = [one for one in members if one.item.kind == kind]
    return dict(sorted(groups.items()))


def summary_of(members: Sequence[Measured]) -> dict[str, Any]:
    """Scores, their intervals and what was found by size, ready for JSON."""
    scores = [one.score for one in members]
    diameters = np.concatenate([diameters_of(one.truth) for one in members])
    found = np.concatenate([found_cells(one.truth, one.cells) for one in members])
    size = np.digitize(diameters, SIZES)
    return {
        **summarize(scores).as_dict(),
        "intervals": bootstrap_intervals(scores),
        "by_size": {
            _size_name(i): {"cells": int((size == i).sum()), "found": int(found[size == i].sum())}
            for i in range(len(SIZES) + 1)
            if (size == i).any()
        },
    }


def _size_name(i: int) -> str:
    if i == 0:
        return f"below {SIZES[0]}"
    return f"{SIZES[i - 1]} to {SIZES[i]}" if i < len(SIZES) else f"{SIZES[-1]} and more"


def scores_table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row a model and group, with intervals."""
    rows = [
        "| model | images | number | cells | AP at IoU 0.5 | AP at IoU 0.75 | foreground IoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, groups in results.items():
        for group, values in groups.items():
            cells = [
                f"{values[name]:.3f} ({low:.2f} to {high:.2f})"
                for name, (low, high) in values["intervals"].items()
            ]
            numbers = (f"{values['n_images']}", f"{values['n_true']}")
            rows.append(f"| {' | '.join((model, group, *numbers, *cells))} |")
    return "\n".join(rows)


def sizes_table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: the share of cells that was found, a row a model and set, a column a size."""
    names = [_size_name(i) for i in range(len(SIZES) + 1)]
    rows = [f"| model | images | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for model, groups in results.items():
        for group, values in groups.items():
            if "," in group:
                continue
            by_size = values["by_size"]
            shares = [
                f"{by_size[name]['found'] / by_size[name]['cells']:.0%} of {by_size[name]['cells']}"
                if name in by_size
                else ""
                for name in names
            ]
            rows.append(f"| {model} | {group} | {' | '.join(shares)} |")
    return "\n".join(rows)


def worst_of(measured: Sequence[Measured]) -> list[Measured]:
    """Choose the images with the lowest AP at IoU 0.5, of those with cells enough to tell."""
    telling = [one for one in measured if one.score.n_true >= FEWEST_CELLS]
    return sorted(telling, key=lambda one: one.ap50)[:WORST]


def picture_of(one: Measured) -> Image.Image:
    """Draw the part of an image with the most mistakes, plain and with both outlines."""
    part = _most_mistaken(one)
    image, truth, cells = one.image[part], one.truth[part], one.cells[part]
    limits = percentile_limits(one.image)
    values = np.zeros(image.shape) if limits is None else normalize(image, limits)
    if values.ndim == 2:
        values = np.repeat(values[..., np.newaxis], 3, axis=2)
    plain = Image.fromarray((values[..., :3] * 255).astype(np.uint8))
    scale = max(1, PICTURE_SIDE // max(plain.size))
    plain = plain.resize((plain.width * scale, plain.height * scale), Image.Resampling.BICUBIC)
    drawn = plain.copy()
    pen = ImageDraw.Draw(drawn)
    for labels, colour in ((truth, TRUTH), (cells, PREDICTION)):
        for outline in outlines(labels):
            for ring in (ring for polygon in outline.polygons for ring in polygon):
                corners = [(float(x) * scale, float(y) * scale) for x, y in ring]
                pen.line([*corners, corners[0]], fill=colour, width=1)
    both = Image.new("RGB", (2 * plain.width + 6, plain.height), "white")
    both.paste(plain, (0, 0))
    both.paste(drawn, (plain.width + 6, 0))
    return both.quantize(96)


def _most_mistaken(one: Measured) -> tuple[slice, slice]:
    """Find the window in which most cells of either have no partner in the other."""
    missed = np.zeros(one.truth.shape, np.float64)
    for labels, other in ((one.truth, one.cells), (one.cells, one.truth)):
        ids = np.unique(labels[labels > 0])
        lost = ids[~found_cells(labels, other)] if ids.size else ids
        for label in lost:
            y, x = np.nonzero(labels == label)
            missed[int(y.mean()), int(x.mean())] += 1
    parts = []
    for axis in (0, 1):
        length = min(PICTURE_SIDE, missed.shape[axis])
        sums = np.convolve(missed.sum(axis=1 - axis), np.ones(length), mode="valid")
        start = int(sums.argmax())
        parts.append(slice(start, start + length))
    return parts[0], parts[1]


def worst_section(worst: Sequence[Measured], name: str) -> str:
    """Markdown with the pictures, which are written, and what became of the cells."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("worst-*.png"):
        old.unlink()
    lines = [
        f"Of `{name}`, worst first: the image, and on it the outlines of the truth (blue) and of",
        "the prediction (orange); of large images the part with most mistakes.",
        "",
    ]
    for number, one in enumerate(worst, 1):
        path = PICTURES / f"worst-{number:02}.png"
        picture_of(one).save(path, optimize=True)
        tp, fp, fn = one.score.tp[0], one.score.fp[0], one.score.fn[0]
        width = float(np.median(diameters_of(one.truth)))
        lines += [
            f"{number}. {one.item.kind}, cells about {width:.0f} pixels wide: {tp} found, {fn} "
            f"missed, {fp} that are none. AP {one.ap50:.2f}",
            "",
            f"   ![image and outlines](images/accuracy/{path.name})",
            "",
        ]
    lines += [
        "Images: BBBC038v1, 2018 Data Science Bowl (CC0); Usiigaci (MIT, (c) 2018 Okinawa",
        "Institute of Science & Technology Graduate University).",
    ]
    return "\n".join(lines)


def replace_section(name: str, text: str) -> None:
    """Put text between the marks of a section of the page."""
    page = PAGE.read_text(encoding="utf-8")
    marks = rf"(<!-- {name}: start -->\n).*?(<!-- {name}: end -->)"
    changed, count = re.subn(marks, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{PAGE} has no section {name}.")
    PAGE.write_text(changed, encoding="utf-8")


def main() -> None:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--models", nargs="*", help="names or .keras files (default: all shipped)")
    parser.add_argument("--json", type=Path, help="write everything here as well")
    parser.add_argument("--page", action="store_true", help=f"rewrite {PAGE.name} and its pictures")
    parser.add_argument("--card", action="store_true", help="write the scores into the cards")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders to measure on: benchmarks/accuracy.py FOLDER ...")
        return
    paths = sorted(SHIPPED.glob("*.keras"))
    if options.models:
        paths = [SHIPPED / f"{m}.keras" if "/" not in m else Path(m) for m in options.models]
    items = read_items(options.data, "val")
    results: dict[str, dict[str, Any]] = {}
    for path in paths:
        card = read_card(path)
        measured = list(measure(items, card))
        groups = {name: summary_of(members) for name, members in groups_of(measured).items()}
        results[card.name] = groups
        if options.card:
            replace(card, scores=groups).write()
        if options.page and card.name == DEFAULT_MODEL:
            replace_section("worst", worst_section(worst_of(measured), card.name))
    print(scores_table(results), sizes_table(results), sep="\n\n")
    if options.page:
        replace_section("scores", scores_table(results))
        replace_section("sizes", sizes_table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
