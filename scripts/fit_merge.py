"""Learn which touching parts are one cell, for a model that ships, and say what it is worth.

Training images are predicted as in use, and a rule to merge by (`core.instance_options.MergeRule`)
is fitted to their masks, all kinds of image alike. What it is worth is said on the same images:
each half is separated by a rule that was fitted on the other one, beside the depth of the valleys
alone, and each kind by a rule that never saw that kind::

    python scripts/fit_merge.py FOLDER ... --model cells [--write-card]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from napari_unet_cells.core.instance_options import InstanceOptions, MergeRule
from napari_unet_cells.core.instances import label_cells
from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, read_annotated_images
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard, read_card
from napari_unet_cells.models.catalogue import SHIPPED
from napari_unet_cells.training.merge_fitting import Pairs, fit_merge
from napari_unet_cells.training.train import predicted

#: Images of a kind at most.
IMAGES = 150

#: Digits of the weights in the card.
DIGITS = 4


@dataclass(frozen=True, eq=False)
class Seen:
    """A training image as the network sees it, and which half it belongs to."""

    kind: str
    half: int
    probabilities: NDArray[np.uint8]
    truth: NDArray[Any]
    pairs: Pairs


def seen_of(items: Sequence[AnnotatedImage], card: ModelCard) -> list[Seen]:
    """Predict some images of each kind."""
    network = open_network(card, "openvino")
    rng = np.random.default_rng(0)
    kinds: dict[str, list[AnnotatedImage]] = {}
    for item in items:
        kinds.setdefault(f"{item.folder}, {item.modality.split('-')[0]}", []).append(item)
    chosen = [
        (kind, int(rng.integers(2)), members[i])
        for kind, members in sorted(kinds.items())
        for i in rng.permutation(len(members))[:IMAGES]
    ]
    return [
        Seen(kind, half, plane, truth, Pairs.of(plane, truth, card.instances))
        for kind, half, item in tqdm(chosen, desc=card.name, disable=None)
        for plane, truth in predicted(item, network, card.diameter_window)
    ]


def rule_of(images: Sequence[Seen]) -> MergeRule:
    """Fit a rule, with the digits that a card has."""
    kinds = sorted({one.kind for one in images})
    rule = fit_merge([Pairs.joined([i.pairs for i in images if i.kind == kind]) for kind in kinds])
    if rule is None:
        raise UserError("In these images nothing touches that could be one cell or two.")
    return MergeRule(**{name: round(value, DIGITS) for name, value in asdict(rule).items()})


def score(images: Sequence[Seen], options: InstanceOptions) -> NDArray[np.float64]:
    """AP at IoU 0.5 and 0.75."""
    found = [compare(i.truth, label_cells(i.probabilities, options)) for i in images]
    summary = summarize(found)
    return np.array([summary.ap50, summary.ap75])


def table(images: Sequence[Seen], options: InstanceOptions) -> str:
    """Markdown: each kind by depth alone, by the rule of the other half, and without the kind."""
    columns = ["kind", "images", "by depth", "by the rule", "by a rule without the kind"]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    of_halves = [rule_of([i for i in images if i.half != half]) for half in (0, 1)]
    for kind in sorted({one.kind for one in images}):
        mine = [one for one in images if one.kind == kind]
        without = rule_of([one for one in images if one.kind != kind])
        by_depth = score(mine, replace(options, merge=None))
        halves = [[one for one in mine if one.half == half] for half in (0, 1)]
        found = [
            compare(i.truth, label_cells(i.probabilities, replace(options, merge=rule)))
            for half, rule in zip(halves, of_halves, strict=True)
            for i in half
        ]
        learned = np.array([summarize(found).ap50, summarize(found).ap75])
        scores = by_depth, learned, score(mine, replace(options, merge=without))
        said = [f"{ap50:.3f}, {ap75:.3f}" for ap50, ap75 in scores]
        rows.append(f"| {kind} | {len(mine)} | {' | '.join(said)} |")
    return "\n".join(rows)


def main() -> None:
    """Fit, print the table, and write the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="+", type=Path, help="annotated folders")
    parser.add_argument("--model", default="cells", help="that ships")
    parser.add_argument("--write-card", action="store_true")
    options = parser.parse_args()
    card = read_card(SHIPPED / f"{options.model}.keras")
    items = [item for item in read_annotated_images(options.data) if item.split == "train"]
    images = seen_of(items, card)
    print(table(images, card.instances))
    rule = rule_of(images)
    print(rule)
    if options.write_card:
        replace(card, instances=replace(card.instances, merge=rule)).write()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
