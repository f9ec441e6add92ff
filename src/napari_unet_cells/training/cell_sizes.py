"""Cell sizes in the card of a retrained model: those of its base, unless the data say others.

A few regions of one image show the cells of that image only. A model that took its size from
them would see every other image at the wrong zoom, so the base goes on saying how wide cells are::

    several images, many cells, mostly outside of what the base knows
        no   --> sizes of the base
        yes  --> images alike: their typical diameter;  else: estimated image by image

How large the network sees them is another matter, see `Tuning.look`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.cell_diameter import zoom_for
from napari_unet_cells.training.examples import TrainingExample

#: Source images with cells, and cells in all of them, that it takes to state sizes anew.
FEWEST_IMAGES, FEWEST_CELLS = 3, 50

#: Cells that it takes to say how wide those are that a model was tuned on.
FEWEST_TUNED = 8

#: Percentiles of the cells between which they lie in images of one kind: the typical cell of an
#: image with two or three of them says little.
FEW_OTHERS = (10, 90)

#: Fraction of these images whose typical cell the base does not know.
OUTSIDE = 0.5

#: Two kinds of cells in an image: part of the cells that each has at least; how many times as wide
#: the typical cell of the wider kind is; and all but a tenth of them on either side of the gap.
OF_EACH_KIND, KINDS_APART, GAP = 0.3, 4.0, 2.0

#: Largest typical diameter by the smallest one, in images of one kind. A model for one kind
#: knows cells that differ by no more than this from its typical one.
ONE_KIND = 1.5


def diameters_by_image(examples: Iterable[TrainingExample]) -> list[NDArray[np.float64]]:
    """Cell diameters in pixels, one array for each source image that has cells."""
    return list(_by_source(examples).values())


def describe_kinds(examples: Iterable[TrainingExample]) -> str:
    """Say where narrow and wide cells lie side by side; empty where they do not.

    Held-out images are measured at the scale of their cells, so they do not show that in use all
    of an image is seen at the scale of one of both kinds.

    Parameters
    ----------
    examples : iterable of TrainingExample
        With masks of cells.
    """
    found = map(_two_kinds, diameters_by_image(examples))
    kinds = next((kinds for kinds in found if kinds is not None), None)
    if kinds is None:
        return ""
    narrow, wide = kinds
    return (
        f"Cells of about {narrow:.0f} and of {wide:.0f} pixels lie side by side in an image. The "
        "model sees an image at one scale, so it will miss one kind or the other. Make a dataset "
        "and a model of each kind, or type the cell size of the one that you look for."
    )


def _two_kinds(diameters: NDArray[np.float64]) -> tuple[float, float] | None:
    """Median diameters of the narrow and the wide cells, where there is a gap between them."""
    least = max(int(np.ceil(OF_EACH_KIND * diameters.size)), 2)
    ends = np.arange(least, diameters.size - least + 1)
    if not ends.size:
        return None
    ordered = np.sort(diameters)
    end = ends[(ordered[ends] / ordered[ends - 1]).argmax()]
    narrow, wide = ordered[:end], ordered[end:]
    is_gap = np.percentile(wide, 10) >= GAP * np.percentile(narrow, 90)
    if not is_gap or np.median(wide) < KINDS_APART * np.median(narrow):
        return None
    return float(np.median(narrow)), float(np.median(wide))


def _by_source(examples: Iterable[TrainingExample]) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[NDArray[np.float64]]] = {}
    for example in examples:
        diameters = example.diameters()
        if diameters.size:
            found.setdefault(example.item.source, []).append(diameters)
    return {source: np.concatenate(parts) for source, parts in found.items()}


def zooms_by_image(
    examples: Iterable[TrainingExample], window: tuple[float, float]
) -> dict[str, float]:
    """Give the zoom at which the network sees each source image.

    That of all cells together, but for images whose cells are of another size: in use, too, each
    image is seen at its own scale.

    Parameters
    ----------
    examples : iterable of TrainingExample
    window : (float, float)
        See `zoom_for`.

    Returns
    -------
    dict of str to float
        By `AnnotatedImage.source`; "" for images without cells, and those that are not in it.
    """
    found = _by_source(examples)
    if not found:
        return {"": 1.0}
    every = float(np.median(np.concatenate(list(found.values()))))
    zooms = {"": zoom_for(every, window)}
    for source, diameters in found.items():
        own = float(np.median(diameters))
        if max(own, every) > ONE_KIND * min(own, every):
            zooms[source] = zoom_for(own, window)
    return zooms


def with_sizes(card: ModelCard, images: list[NDArray[np.float64]], fresh: bool) -> ModelCard:
    """Give a card the cell sizes that a retrained model is used with.

    Parameters
    ----------
    card : ModelCard
        With the sizes of the base, and the window of the tuning: its crops were zoomed into it.
    images : list of float arrays
        See `diameters_by_image`.
    fresh : bool
        Whether the network was made anew, and so knows the cells of these images only.
    """
    if not images:
        return card
    typical = np.array([np.median(diameters) for diameters in images])
    if fresh:
        return replace(card, typical_diameter=_rounded(np.median(np.concatenate(images))))
    if not _says_others(card, images, typical):
        return card
    alike = typical.max() <= ONE_KIND * typical.min()
    low, high = np.percentile(typical, (5, 95))
    return replace(
        card,
        typical_diameter=_rounded(np.median(typical)) if alike else 0.0,
        diameters=(
            min(card.diameters[0], _rounded(low)),
            max(card.diameters[1], _rounded(high)),
        ),
    )


def tuned_diameter(images: Sequence[NDArray[np.float64]]) -> float:
    """Tell how wide the cells are that a model was tuned on, where the images are of one kind.

    One image is enough: where another one holds cells of another size, the estimate sees it.

    Parameters
    ----------
    images : sequence of float arrays
        See `diameters_by_image`.

    Returns
    -------
    float
        Median in pixels; 0 where there are few cells, or images differ.
    """
    if sum(map(len, images)) < FEWEST_TUNED:
        return 0.0
    typical = np.repeat([np.median(diameters) for diameters in images], [len(d) for d in images])
    low, high = np.percentile(typical, FEW_OTHERS)
    return _rounded(np.median(np.concatenate(images))) if high <= ONE_KIND * low else 0.0


def _says_others(
    card: ModelCard, images: list[NDArray[np.float64]], typical: NDArray[np.float64]
) -> bool:
    """Whether there is enough to go by, and most of it lies outside of what the base knows."""
    low, high = card.diameters
    if card.typical_diameter > 0:
        low, high = card.typical_diameter / ONE_KIND, card.typical_diameter * ONE_KIND
    if high <= 0 or len(images) < FEWEST_IMAGES or sum(map(len, images)) < FEWEST_CELLS:
        return False
    outside = (typical < low) | (typical > high)
    return float(outside.mean()) >= OUTSIDE


def _rounded(diameter: float) -> float:
    return round(float(diameter), 1)
