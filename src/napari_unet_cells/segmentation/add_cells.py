"""Find a missed cell under a click, or the cells in a box, with a network in the child process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.edits import Edit
from napari_unet_cells.core.regions import Region
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.segmentation.click import (
    TAKEN,
    FoundCell,
    dropped_cell,
    edit_of,
    find_cell,
    find_in_box,
)
from napari_unet_cells.segmentation.kept_fragments import KeptPlane
from napari_unet_cells.segmentation.segment_at import typical_diameter

#: Fewest pixels of a found cell that other cells leave free.
SMALLEST = 3


@dataclass(frozen=True, eq=False)
class Wanted:
    """Cells that the user asked for in one plane.

    Attributes
    ----------
    plane : array, (y, x) or (y, x, c)
        The image, in the pixels of the labels; may be lazy.
    labels : integer array, (y, x)
        The cells that are there.
    place : (float, float) or Region
        The point of a click (row, column), or a box.
    models : tuple of str
        Names of models, the best first; the first counts that makes cells of such an image.
    diameter : float
        Of a typical cell, in pixels; 0 estimates it.
    fragments : KeptPlane or None
        What a run kept of this plane.
    """

    plane: ImageArray
    labels: NDArray[np.integer[Any]]
    place: tuple[float, float] | Region
    models: tuple[str, ...] = ()
    diameter: float = 0.0
    fragments: KeptPlane | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Answer to `Wanted`.

    Attributes
    ----------
    cells : tuple of FoundCell
        Those that were found, or a single one that says why there is none.
    diameter : float
        Of a typical cell, for the next time.
    seconds : float
        Of computing, without opening the network and estimating the diameter.
    """

    cells: tuple[FoundCell, ...]
    diameter: float
    seconds: float = 0.0


def search(engine: Engine, wanted: Wanted, stop: threading.Event) -> Generator[Found, None, None]:
    """Find what was asked for.

    Parameters
    ----------
    engine : Engine
    wanted : Wanted
    stop : threading.Event
        Set it to give up.

    Raises
    ------
    UserError, Cancelled
    """
    plane, place, labels = wanted.plane, wanted.place, wanted.labels
    card = fitting_model(wanted.models, plane)
    if wanted.fragments is not None and wanted.diameter and not isinstance(place, Region):
        at = (_nearest(place[0], plane.shape[0]), _nearest(place[1], plane.shape[1]))
        kept = wanted.fragments.fragments()
        dropped = kept and dropped_cell(kept, at, wanted.diameter, card.instances, labels)
        if dropped:
            yield Found((dropped,), wanted.diameter)
            return
    network = engine.open(card, stop)
    diameter = wanted.diameter or typical_diameter(plane, network, card, labels)
    begin = time.monotonic()
    if isinstance(place, Region):
        cells = find_in_box(plane, place, network, card, diameter, labels=labels)
    else:
        cells = (find_cell(plane, place, network, card, diameter, labels=labels),)
    yield Found(cells, diameter, time.monotonic() - begin)


def fitting_model(names: Sequence[str], plane: ImageArray) -> ModelCard:
    """Choose the first model that makes cells of such a plane; the default one comes last.

    Raises
    ------
    UserError
        Where none does.
    """
    channels = plane.shape[2] if len(plane.shape) > 2 else 1
    for name in dict.fromkeys((*filter(None, names), DEFAULT_MODEL)):
        try:
            card = find_model(name)
        except UserError:  # removed since, or another computer's
            continue
        fits = card.channels in (1, 3) if channels in (1, 3) else card.channels == channels
        if card.makes_cells and fits:
            return card
    raise UserError(
        f"No model here makes cells of an image of {channels} channels. Draw the cell with the "
        "tool Draw, or choose another image."
    )


def added(cells: Sequence[FoundCell], labels: NDArray[np.integer[Any]], first_id: int) -> Edit:
    """Give the pixels that change when found cells are added, all as one edit.

    Other cells stay, also those that came since the search began.

    Parameters
    ----------
    cells : sequence of FoundCell
    labels : integer array, (y, x)
        Of the whole plane, as they are now.
    first_id : int
        Free, as are all above it.

    Raises
    ------
    UserError
        Where other cells cover them by now.
    """
    edits: list[Edit] = []
    taken = np.zeros(0, np.intp)
    for cell in cells:
        edit = edit_of(cell, labels, first_id + len(edits))
        pixels = np.ravel_multi_index((edit.rows, edit.columns), labels.shape)
        there = labels[edit.rows, edit.columns]
        free = ((there == 0) | (there == (cell.replaces or 0))) & ~np.isin(pixels, taken)
        if np.count_nonzero(free & (edit.values > 0)) < SMALLEST:
            continue
        edits.append(Edit(edit.rows[free], edit.columns[free], edit.values[free]))
        taken = np.concatenate([taken, pixels[free]])
    if not edits:
        raise UserError(TAKEN)
    return Edit(
        np.concatenate([edit.rows for edit in edits]),
        np.concatenate([edit.columns for edit in edits]),
        np.concatenate([edit.values for edit in edits]),
    )


def _nearest(value: float, size: int) -> int:
    return min(max(round(value), 0), size - 1)
