"""Training examples: annotated images in memory, their approved windows and corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from napari_unet_cells.core.normalize import Limits, percentile_limits
from napari_unet_cells.datasets.annotated_images import AnnotatedImage
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.cell_diameter import diameters_of
from napari_unet_cells.training.crops import Annotated, annotate

#: Loss weight of a pixel that was corrected, beside 1 of those that were only approved.
EDITED_WEIGHT = 3

#: Pieces of one id are cells of their own from this fraction of the area of the largest one on.
CELL_BY_LARGEST = 0.25

#: Side of the window that is measured, in pixels; more would take longer than the tuning.
MEASURED_SIDE = 512

#: Pixels along the border of a window in which boundaries of cells are not trusted.
CUT = 4

#: Pixels around the window, so that the network sees what is beside a cell at its border.
CONTEXT = 64


@dataclass(frozen=True)
class TrainingExample:
    """An annotated image in memory.

    Attributes
    ----------
    item : AnnotatedImage
    image : array, (y, x) or (y, x, channels)
    truth : int32 array, (y, x)
        Cells, or classes (`core.labels.UNKNOWN` where nobody annotated).
    limits : Limits
        Of the plane that the image was cut out of.
    inside : tuple of slices
        The window that was approved; beside it the mask is a guess.
    edited : bool array, (y, x), or None
        Pixels that were corrected, where that is known.
    """

    item: AnnotatedImage
    image: NDArray[Any]
    truth: NDArray[np.int32]
    limits: Limits
    inside: tuple[slice, slice]
    edited: NDArray[np.bool_] | None

    @classmethod
    def read(
        cls, item: AnnotatedImage, cells: bool, classes: Sequence[str], channels: int
    ) -> TrainingExample:
        """Read an annotated image.

        Parameters
        ----------
        item : AnnotatedImage
        cells : bool
            Whether its mask holds cells; else classes.
        classes : sequence of str
        channels : int
            Of the network.

        Raises
        ------
        UserError
            Where a file cannot be read, or does not fit the network.
        """
        image, truth = item.read(() if cells else classes)
        found = image.shape[2] if image.ndim == 3 else 1
        if found != channels and not {found, channels} <= {1, 3}:
            raise UserError(
                f"{item.image} has {found} channels, and the model takes {channels}. Choose "
                "another model, or leave this image out."
            )
        limits = item.limits or percentile_limits(image) or Limits(0.0, 1.0)
        inside = item.inside.slices if item.inside else (slice(None), slice(None))
        first = item.read_first()
        edited = None if first is None else first != truth
        if cells:
            truth = separated(truth)
        return cls(item, image, truth, limits, inside, edited)

    def annotated(self, cells: bool, zoom: float = 1.0) -> Annotated:
        """Give it ready for cropping: what was not approved counts nothing.

        Parameters
        ----------
        cells : bool
            Whether the mask holds cells; else classes.
        zoom : float
            At which the network sees it.
        """
        weight = np.zeros(self.truth.shape, np.uint8)
        weight[self.inside] = 1
        if self.edited is not None:
            weight[self.edited & (weight > 0)] = EDITED_WEIGHT
        if cells:
            weight[self._cut_cells()] = 0
        plane = annotate(self.image, self.truth, self.item.modality, cells, self.limits, weight)
        return replace(plane, zoom=zoom)

    def diameters(self) -> NDArray[np.float64]:
        """Diameters, in pixels, of the cells that lie whole within the window."""
        labels = self.truth[self.inside]
        rim = np.zeros(labels.shape, bool)
        rim[[0, -1]] = rim[:, [0, -1]] = True
        whole = np.where(np.isin(labels, np.unique(labels[rim])), 0, labels)
        return diameters_of(whole if whole.any() else labels)

    def _cut_cells(self) -> NDArray[np.bool_]:
        """Pixels (y, x) of cells along the border of the window.

        What goes on beside it may be wrong, and would teach a boundary where there is none.
        """
        inner = np.zeros(self.truth.shape, bool)
        rows, columns = (
            slice(start + CUT * (start > 0), stop - CUT * (stop < n))
            for (start, stop, _), n in zip(
                (part.indices(n) for part, n in zip(self.inside, self.truth.shape, strict=True)),
                self.truth.shape,
                strict=True,
            )
        )
        inner[rows, columns] = True
        return ~inner & (self.truth > 0)

    def window(self) -> TrainingExample:
        """Give the middle of a large image, with some context."""
        rows, columns = (
            _middle(part.indices(n), MEASURED_SIDE)
            for part, n in zip(self.inside, self.truth.shape, strict=True)
        )
        (top, bottom), (left, right) = rows, columns
        y0, x0 = max(0, top - CONTEXT), max(0, left - CONTEXT)
        part = (slice(y0, bottom + CONTEXT), slice(x0, right + CONTEXT))
        inside = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
        return replace(
            self, image=self.image[part], truth=self.truth[part], inside=inside, edited=None
        )


def _middle(indices: tuple[int, int, int], longest: int) -> tuple[int, int]:
    start, stop, _ = indices
    cut = max(0, stop - start - longest) // 2
    return start + cut, min(stop - cut, start + cut + longest)


def separated(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give each of the cells that share an id without touching an id of its own.

    Masks of black and white have one id for all cells, and some programs use one for several. As
    one cell they would be as wide as all of them together, and the network would see the image at
    a wrong scale. A cell with a few stray pixels stays one.

    Parameters
    ----------
    labels : int32 array, (y, x)
        0 is background.
    """
    pieces, n = measure.label(labels, return_num=True, connectivity=2)
    areas = np.bincount(pieces.ravel())[1:]
    ids = np.zeros(n, np.int64)
    ids[pieces[labels > 0] - 1] = labels[labels > 0]
    largest = np.zeros(int(ids.max(initial=0)) + 1)
    np.maximum.at(largest, ids, areas)
    cells = areas >= CELL_BY_LARGEST * largest[ids]
    shared = cells & (np.bincount(ids[cells], minlength=largest.size)[ids] > 1)
    if not shared.any():
        return labels
    new = ids.copy()
    new[shared] = largest.size + np.arange(int(shared.sum()))
    table = np.concatenate([[0], new]).astype(np.int32)
    return np.asarray(table[pieces])


def check_examples(examples: Sequence[TrainingExample], cells: bool, dataset: str | Path) -> None:
    """Refuse data that teach nothing.

    Raises
    ------
    UserError
    """
    if cells and not any(example.truth[example.inside].any() for example in examples):
        raise UserError(
            f"The masks of {dataset} hold no cell at all: there is nothing to learn from. "
            "Approve regions with cells as well."
        )
    if not cells and all(len(np.unique(example.truth)) < 2 for example in examples):
        raise UserError(
            f"The masks of {dataset} hold one class only: there is nothing to tell apart. Paint "
            "every class."
        )
