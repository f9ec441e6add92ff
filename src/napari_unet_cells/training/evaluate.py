"""Score a model on annotated images, with the same code that segments for the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.core.metrics import (
    ClassScore,
    ClassSummary,
    ImageScore,
    Summary,
    compare,
    compare_classes,
    summarize,
    summarize_classes,
)
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import Network
from napari_unet_cells.datasets.annotated_images import AnnotatedImage
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Segmenter


@dataclass(frozen=True)
class ScoredImage:
    """One image was segmented and compared with its truth.

    Attributes
    ----------
    item : AnnotatedImage
    score : ImageScore, or ClassScore where the model makes classes and no cells
    problem : str
        Why nothing was predicted, else empty; such an image counts as all misses.
    """

    item: AnnotatedImage
    score: ImageScore | ClassScore
    problem: str = ""


def evaluate(
    items: Sequence[AnnotatedImage],
    network: Network,
    card: ModelCard,
    settings: Settings | None = None,
) -> Iterator[ScoredImage]:
    """Segment every annotated image and compare it with its mask: cells with cells, or classes.

    Raises
    ------
    UserError
        Where an image cannot be read, or its mask holds classes that the model does not know.
    """
    for item in items:
        image, truth = item.read(() if card.makes_cells else card.classes)
        try:
            result = segmented(image, network, card, settings)
        except UserError as error:
            yield ScoredImage(item, _compared(truth, None, card), str(error))
            continue
        yield ScoredImage(item, _compared(truth, result, card))


def segmented(
    image: NDArray[Any], network: Network, card: ModelCard, settings: Settings | None = None
) -> Result:
    """Segment one image of a data set, (y, x) or (y, x, channels), as a user would.

    Raises
    ------
    UserError
        Where the image is constant, holds infinite values, or has other channels.
    """
    planes = planes_of(image, "YXC" if image.ndim == 3 else "YX")
    return Segmenter.of(card, network).result(planes, settings)


def _compared(
    truth: NDArray[np.int32], result: Result | None, card: ModelCard
) -> ImageScore | ClassScore:
    if card.makes_cells:
        return compare(truth, None if result is None else result.cells)
    known = truth != UNKNOWN  # only what was annotated counts
    classes = None if result is None else result.classes[known]
    return compare_classes(truth[known], classes, card.classes)


def summarize_by_modality(scored: Sequence[ScoredImage]) -> dict[str, Summary | ClassSummary]:
    """Summarize the scores of each modality, and of all images under "all"."""
    summaries = {
        modality: _summary([s for s in scored if s.item.modality == modality])
        for modality in sorted({s.item.modality for s in scored})
    }
    return {"all": _summary(scored), **summaries}


def _summary(scored: Sequence[ScoredImage]) -> Summary | ClassSummary:
    by_class = [s.score for s in scored if isinstance(s.score, ClassScore)]
    if by_class:
        return summarize_classes(by_class)
    return summarize(s.score for s in scored if isinstance(s.score, ImageScore))


def report(scored: Sequence[ScoredImage], card: ModelCard) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    return {
        "model": {"name": card.name, "sha256": card.sha256},
        "scores": {
            modality: summary.as_dict()
            for modality, summary in summarize_by_modality(scored).items()
        },
        "images": [
            {
                "name": s.item.name,
                "kind": s.item.modality,
                "problem": s.problem,
                **_summary([s]).as_dict(),
            }
            for s in scored
        ],
    }
