"""Score a model on annotated images, with the same code that segments for the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.dataset import Item
from napari_unet_cells.errors import UserError
from napari_unet_cells.metrics import ImageScore, Summary, compare, summarize
from napari_unet_cells.nets import ModelCard
from napari_unet_cells.planes import planes_of
from napari_unet_cells.predict import Network
from napari_unet_cells.segmentation import Result, segment_planes


@dataclass(frozen=True)
class ItemScored:
    """One image was segmented and compared with its truth.

    Attributes
    ----------
    item : Item
    score : ImageScore
    problem : str
        Why nothing was predicted, else empty; such an image counts as all misses.
    """

    item: Item
    score: ImageScore
    problem: str = ""


def evaluate(items: Sequence[Item], network: Network, card: ModelCard) -> Iterator[ItemScored]:
    """Segment every item and compare it with its mask.

    Raises
    ------
    UserError
        Where an item cannot be read, or the model makes no cells.
    """
    if not card.makes_cells:
        raise UserError(
            f"The model {card.name} makes classes and no cells; there is nothing to match."
        )
    for item in items:
        image, truth = item.read()
        try:
            *_, result = segment_planes(planes_of(image), network, card)
        except UserError as error:
            yield ItemScored(item, compare(truth, None), str(error))
            continue
        assert isinstance(result, Result)
        yield ItemScored(item, compare(truth, result.cells))


def summarize_by_kind(scored: Sequence[ItemScored]) -> dict[str, Summary]:
    """Summaries of each kind of image, and of all of them under "all"."""
    kinds = sorted({item.item.kind for item in scored})
    summaries = {kind: summarize(s.score for s in scored if s.item.kind == kind) for kind in kinds}
    return {"all": summarize(s.score for s in scored), **summaries}


def report(scored: Sequence[ItemScored], card: ModelCard) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {
        "model": {"name": card.name, "sha256": card.sha256},
        "scores": {kind: summary.as_dict() for kind, summary in summarize_by_kind(scored).items()},
        "images": [
            {
                "name": s.item.name,
                "kind": s.item.kind,
                "problem": s.problem,
                **summarize([s.score]).as_dict(),
            }
            for s in scored
        ],
    }
