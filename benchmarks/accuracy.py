"""How well the models that ship find cells, on the `val` images of annotated folders.

Every image is segmented as a user would, once, and compared with its mask. Scores are written
with the interval that other images of the same kind would leave them in, by size of the cells,
and with pictures of the worst images, into ``docs/accuracy.md``, and as JSON::

    python benchmarks/accuracy.py FOLDER ... --models NAME ... --page --write-card
"""

from __future__ import annotations

import argparse
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from napari_unet_cells import __version__
from napari_unet_cells.core.intervals import bootstrap, ratio
from napari_unet_cells.core.metrics import (
    THRESHOLDS,
    ImageScore,
    compare,
    found_cells,
    summarize,
)
from napari_unet_cells.core.normalize import normalize, percentile_limits
from napari_unet_cells.core.outlines import outlines
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.datasets.origins import ORIGINS
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, SHIPPED, find_model
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.training.evaluate import segmented

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "accuracy.md"
PICTURES = ROOT / "docs" / "images" / "accuracy"
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"

#: Limits of the classes of cell diameters, in pixels.
SIZES = (4, 8, 16, 32, 64)

#: The pictures: how many, and of images with at least so many cells.
WORST, FEWEST_CELLS = 10, 5

#: They show about so many cells side by side, on so many pixels of the image.
CELLS_ACROSS, SHORTEST_SIDE, LONGEST_SIDE = 10, 160, 256

#: Pixels that it is enlarged to where it fits in twice or more, and bytes of a file at most.
PICTURE_SIDE, PICTURE_BYTES = 512, 50_000

#: Greys or colours of the image in a picture: the first number with which the file is small enough.
SHADES = (96, 64, 48, 32, 24, 16, 12, 8)

#: Two colours that those who see no red or no green can tell apart (Okabe and Ito).
TRUTH, PREDICTION = (86, 180, 233), (230, 159, 0)


@dataclass(frozen=True)
class Measured:
    """One image, what was found in it and how that compares with its mask.

    `problem` says why nothing was predicted, else it is empty.
    """

    item: AnnotatedImage
    image: NDArray[Any]
    truth: NDArray[np.int32]
    cells: NDArray[Any]
    score: ImageScore
    problem: str = ""

    @property
    def ap50(self) -> float:
        """Of this image alone."""
        return summarize([self.score]).ap50


def cards_of(names: Sequence[str] | None) -> list[ModelCard]:
    """Read the cards of these models, or of all that ship."""
    paths = sorted(SHIPPED.glob("*.keras"))
    if names:
        # A model of the user's may have the name of one that ships.
        shipped = {path.stem: path for path in paths}
        paths = [shipped.get(name) or find_model(name).path for name in names]
    return [read_card(path) for path in paths]


def measure(
    items: Sequence[AnnotatedImage],
    card: ModelCard,
    change: Callable[[NDArray[Any]], NDArray[Any]] = lambda image: image,
) -> Iterator[Measured]:
    """Segment every image and compare; where nothing can be predicted, nothing is found."""
    # The reference: what other runtimes and precisions cost is measured beside it.
    network = open_network(card, "tensorflow")
    for item in tqdm(items, desc=card.name, disable=None):
        image, truth = item.read()
        image = change(image)
        cells, problem = None, ""
        try:
            cells = segmented(image, network, card).cells
        except UserError as error:
            problem = str(error)
        found = np.zeros(truth.shape, np.uint16) if cells is None else cells
        yield Measured(item, image, truth, found, compare(truth, found), problem)


def groups_of(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Group the images by data set, and by kind where a set has several."""
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        groups.setdefault(f"{one.item.folder} val", []).append(one)
    for name, members in list(groups.items()):
        kinds = sorted({one.item.modality for one in members})
        for kind in kinds if len(kinds) > 1 else []:
            groups[f"{name}, {kind}"] = [one for one in members if one.item.modality == kind]
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


def bootstrap_intervals(
    scores: Sequence[ImageScore], resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bootstrap confidence intervals of the scores of a set, over its images; see `bootstrap`.

    Parameters
    ----------
    scores : sequence of ImageScore
    resamples : int
        How many sets are drawn.
    seed : int
        The same one gives the same limits.

    Returns
    -------
    dict
        Keys "ap50", "ap75" and "iou"; each a lower and an upper limit.

    Raises
    ------
    UserError
        If there is no image at all.
    """
    at50, at75 = THRESHOLDS.index(0.5), THRESHOLDS.index(0.75)
    cells = [s.n_true + s.n_predicted for s in scores]
    parts = {
        "ap50": [(s.tp[at50], n - s.tp[at50]) for s, n in zip(scores, cells, strict=True)],
        "ap75": [(s.tp[at75], n - s.tp[at75]) for s, n in zip(scores, cells, strict=True)],
        "iou": [(s.pixels_both, s.pixels_either) for s in scores],
    }
    return {name: bootstrap(counts, ratio, resamples, seed) for name, counts in parts.items()}


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
            numbers = (f"{values['n_images']}", f"{values['n_true']}")
            scores = (_with_interval(values, name) for name in values["intervals"])
            rows.append(f"| {' | '.join((model, group, *numbers, *scores))} |")
    return "\n".join(rows)


def _with_interval(values: dict[str, Any], name: str) -> str:
    if values["n_images"] == 1:  # one image does not tell what others would give
        return f"{values[name]:.3f}"
    low, high = values["intervals"][name]
    return f"{values[name]:.3f} ({low:.2f} to {high:.2f})"


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


def fates_of(one: Measured) -> dict[str, int]:
    """Tell what became of the cells of the truth that were missed, in words, with their number."""
    true_ids, predicted_ids = np.unique(one.truth), np.unique(one.cells)
    rows, columns = np.searchsorted(true_ids, one.truth), np.searchsorted(predicted_ids, one.cells)
    pairs = rows.ravel() * len(predicted_ids) + columns.ravel()
    shared = np.bincount(pairs, minlength=len(true_ids) * len(predicted_ids))
    # Of pixels: a row a cell of the truth, a column a predicted one, without the background.
    pixels = shared.reshape(len(true_ids), -1)[true_ids > 0]
    true_areas = pixels.sum(axis=1)
    predicted_areas = shared.reshape(len(true_ids), -1).sum(axis=0)[predicted_ids > 0]
    pixels = pixels[:, predicted_ids > 0]
    covers = 2 * pixels >= true_areas[:, np.newaxis]
    merged = (covers & (covers.sum(axis=0) > 1)).any(axis=1)
    cut = (2 * pixels >= predicted_areas).sum(axis=1) > 1
    unseen = 4 * pixels.sum(axis=1) < true_areas
    fates, left = {}, ~found_cells(one.truth, one.cells)
    conditions = (("not seen", unseen), ("merged with a neighbour", merged), ("cut up", cut))
    for fate, applies in (*conditions, ("outlined otherwise", np.ones_like(left))):
        if (left & applies).any():
            fates[fate] = int((left & applies).sum())
        left &= ~applies
    return fates


def picture_of(one: Measured) -> bytes:
    """Draw the part of an image with the most mistakes, plain and with both outlines, as PNG."""
    part = _most_mistaken(one)
    limits = percentile_limits(one.image)
    pixels = one.image[part]
    values: NDArray[Any] = np.zeros(pixels.shape) if limits is None else normalize(pixels, limits)
    values = values[..., :3] if values.ndim == 3 else np.repeat(values[..., np.newaxis], 3, axis=2)
    image = Image.fromarray((values * 255).astype(np.uint8))
    scale = max(1, PICTURE_SIDE // max(image.size))
    for shades in SHADES:
        # Outlines take palette entries of their own, so that fewer shades leave them as they are.
        plain = image.quantize(shades, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = plain.getpalette() or []
        colours = (*palette[: 3 * shades], *[0] * (3 * shades - len(palette)))
        plain.putpalette([*colours, *TRUTH, *PREDICTION, 255, 255, 255])
        plain = plain.resize((plain.width * scale, plain.height * scale), Image.Resampling.NEAREST)
        both = Image.new("P", (2 * plain.width + 6, plain.height), shades + 2)
        both.putpalette(plain.getpalette() or [])
        both.paste(plain, (0, 0))
        _draw(plain, one.truth[part], scale, shades, width=scale + 2)
        _draw(plain, one.cells[part], scale, shades + 1, width=scale)
        both.paste(plain, (plain.width + 6, 0))
        file = io.BytesIO()
        both.save(file, "png", optimize=True)
        if file.tell() <= PICTURE_BYTES:
            break
    return file.getvalue()


def _draw(image: Image.Image, labels: NDArray[Any], scale: int, colour: int, width: int) -> None:
    """Draw outlines; the narrower ones come over the wider ones, so that both are seen."""
    pen = ImageDraw.Draw(image)
    for outline in outlines(labels):
        for ring in (ring for polygon in outline.polygons for ring in polygon):
            corners = [(float(x) * scale, float(y) * scale) for x, y in ring]
            pen.line([*corners, corners[0]], fill=colour, width=width)


def _most_mistaken(one: Measured) -> tuple[slice, slice]:
    """Find the window in which most cells of either have no partner in the other."""
    missed: NDArray[np.int64] = np.zeros(one.truth.shape, np.int64)
    for labels, other in ((one.truth, one.cells), (one.cells, one.truth)):
        ids = np.unique(labels[labels > 0])
        for label in ids[~found_cells(labels, other)] if ids.size else ids:
            y, x = np.nonzero(labels == label)
            missed[int(y.mean()), int(x.mean())] += 1
    wanted = CELLS_ACROSS * float(np.median(diameters_of(one.truth)))
    side = int(min(max(wanted, SHORTEST_SIDE), LONGEST_SIDE))
    height, width = min(side, missed.shape[0]), min(side, missed.shape[1])
    # Sums over windows are differences of sums from the corner on.
    sums = np.pad(missed, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    counts = sums[height:] - sums[:-height]
    counts = counts[:, width:] - counts[:, :-width]
    # Of the windows with the most, the middle one leaves the least at its edges.
    best = np.argwhere(counts == counts.max())
    top, left = (int(start) for start in best[len(best) // 2])
    return slice(top, top + height), slice(left, left + width)


def worst_section(worst: Sequence[Measured], name: str) -> str:
    """Markdown with the pictures, which are written, and what became of the cells."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("worst-*.png"):
        old.unlink()
    lines = [
        f"Of `{name}`, worst first, of those with at least {FEWEST_CELLS} cells: the image, and on",
        "it the outlines of the truth (wide, sky blue) and of the prediction (narrow, orange); of",
        "large images the part with most mistakes.",
        "",
    ]
    for number, one in enumerate(worst, 1):
        path = PICTURES / f"worst-{number:02}.png"
        path.write_bytes(picture_of(one))
        tp, fp, fn = one.score.tp[0], one.score.fp[0], one.score.fn[0]
        width = float(np.median(diameters_of(one.truth)))
        seen = ", ".join(f"{count} {fate}" for fate, count in fates_of(one).items())
        name = one.item.image.stem[:8]
        indent = " " * len(f"{number}. ")
        lines += [
            f"{number}. {one.item.modality} `{name}`, cells about {width:.0f} pixels wide:",
            f"{indent}{tp} found, {fn} missed{f' ({seen})' if seen else ''}, {fp} predicted that "
            f"are none; AP {one.ap50:.2f}.",
            *([f"{indent}Nothing was predicted: {one.problem}"] if one.problem else []),
            "",
            f"{indent}![image and outlines](images/accuracy/{path.name})",
            "",
        ]
    return "\n".join([*lines, *credits_of(worst)])


def credits_of(shown: Sequence[Measured]) -> list[str]:
    """Name the sets that pictures are of, with their licences."""
    folders = dict.fromkeys(one.item.folder for one in shown)
    known = [ORIGINS[folder].credit if folder in ORIGINS else folder for folder in folders]
    return textwrap.wrap(f"Images and true outlines: {'; '.join(known)}.", 100)


def replace_section(name: str, text: str, path: Path = PAGE) -> None:
    """Put text between the marks of a section of a page, by default that of the scores."""
    page = path.read_text(encoding="utf-8")
    marks = rf"(<!-- {name}: start -->\n).*?(<!-- {name}: end -->)"
    changed, count = re.subn(marks, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{path} has no section {name}.")
    path.write_text(changed, encoding="utf-8")


def result_of(
    card: ModelCard, groups: dict[str, dict[str, Any]], measured: Sequence[Measured]
) -> dict[str, Any]:
    """Everything that was measured of one model, ready for JSON."""
    images = []
    for one in measured:
        score = one.score
        found = {"n_true": score.n_true, "tp": score.tp[0], "fp": score.fp[0], "fn": score.fn[0]}
        name = f"{one.item.folder}/{one.item.image.stem}"
        images.append({"name": name, "kind": one.item.modality, "problem": one.problem, **found})
        images[-1]["ap50"] = one.ap50
    return {"sha256": card.sha256, "version": __version__, "groups": groups, "images": images}


def still_true(path: Path) -> dict[str, Any]:
    """Read what was measured before of models that ship unchanged."""
    if not path.is_file():
        return {}
    shipped = {card.name: card.sha256 for card in cards_of(None)}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: one for name, one in found.items() if one["sha256"] == shipped.get(name)}


def card_scores(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Scores as a card holds them: of four digits, and what is more is in the JSON."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(inner) for key, inner in value.items()}
        return round(value, 4) if isinstance(value, float) else value

    more = ("intervals", "by_size")
    return {
        name: rounded({key: value for key, value in values.items() if key not in more})
        for name, values in groups.items()
    }


def main() -> None:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--models", nargs="*", help="names or .keras files (default: all shipped)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="everything is written here")
    parser.add_argument("--page", action="store_true", help=f"rewrite {PAGE.name} and its pictures")
    parser.add_argument("--write-card", action="store_true", help="write scores into the cards")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders to measure on: benchmarks/accuracy.py FOLDER ...")
        return
    items = read_annotated_images(options.data, "val")
    kept = still_true(options.json) if options.models else {}
    for card in cards_of(options.models):
        measured = list(measure(items, card))
        groups = {name: summary_of(members) for name, members in groups_of(measured).items()}
        kept[card.name] = result_of(card, groups, measured)
        if options.write_card:
            replace(card, scores=card_scores(groups)).write()
        if options.page and card.name == DEFAULT_MODEL:
            replace_section("worst", worst_section(worst_of(measured), card.name))
    kept = dict(sorted(kept.items()))
    results = {name: result["groups"] for name, result in kept.items()}
    print(scores_table(results), sizes_table(results), sep="\n\n")
    if options.page:
        replace_section("scores", scores_table(results))
        replace_section("sizes", sizes_table(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
