"""Earlier results of an image: kept compressed, and put back.

An image has one layer of cells, in which one result follows another::

    run A --corrections--> run B --corrections--> A again --> ...
          `Left`                  `Left`                   `brought_back`

A result is kept as it was left, with what was corrected in it. Labels shrink to about a fiftieth;
so do the fragments, which are freed first where the memory for them is used up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import PackedLabels, Place, RegionGrid
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.messages import describe_count
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    count_cells,
)

#: Results without corrections that are kept of an image; the oldest go first.
MOST = 10

#: Bytes for the fragments of an image's results that are not shown.
MOST_BYTES = 256 * 1024**2


@dataclass(frozen=True, eq=False)
class Left:
    """A result as it was left, or as it was made.

    Attributes
    ----------
    labels : PackedLabels
    state : ResultState
    approved : mapping of Place to str
        When each approved region was approved, ISO 8601.
    n_cells : int or None
        Of `labels`; in a stack that is not linked those of all planes; 0 of classes; None where
        they were not counted.
    """

    labels: PackedLabels
    state: ResultState
    approved: Mapping[Place, str]
    n_cells: int | None

    @classmethod
    def of(cls, labels: PackedLabels, state: ResultState, approved: Mapping[Place, str]) -> Left:
        """Count the cells of labels that are left."""
        origin = state.origin
        n_cells = 0 if origin.is_classes else count_cells(labels.unpacked(), origin.link)
        return cls(labels, state, dict(approved), n_cells)

    @cached_property
    def is_corrected(self) -> bool:
        """Whether anything was corrected in it, or before it."""
        return self.state.corrected is not None or bool(self.labels.differing(self.state.left))


class EarlierResult:
    """Result of one run, in a list of those of an image.

    Parameters
    ----------
    left : Left

    Attributes
    ----------
    left : Left
        As it comes back.
    approved : mapping of Place to str
        As undo and redo find it: approvals are no part of napari's history.
    was_left : bool
        Whether another result took its place, so that it has what a person made of it.
    """

    def __init__(self, left: Left) -> None:
        self.left = left
        self.approved: Mapping[Place, str] = dict(left.approved)
        self.was_left = False

    def __deepcopy__(self, memo: object) -> EarlierResult:
        """Copy what changes only: labels and fragments never do."""
        copy = EarlierResult(self.left)
        copy.approved, copy.was_left = dict(self.approved), self.was_left
        return copy

    def leave(self, left: Left) -> None:
        """Keep it as it is now, since another result takes its place."""
        self.left = left
        self.approved = dict(left.approved)
        self.was_left = True

    @property
    def origin(self) -> Origin:
        """Run that it comes from."""
        return self.left.state.origin

    @property
    def is_touched(self) -> bool:
        """Whether a person corrected or approved anything in it."""
        return self.left.is_corrected or bool(self.approved)

    @property
    def time(self) -> str:
        """Time of the run, with the day where that is not today; empty where it is not known."""
        try:
            made = datetime.fromisoformat(str(self.origin.provenance["date"]))
        except (KeyError, ValueError):
            return ""
        return f"{made:%H:%M}" if made.date() == date.today() else f"{made:%Y-%m-%d %H:%M}"

    def describe(self, is_corrected: bool, is_counted: bool = True) -> str:
        """Give words such as "14:32, 124 cells, corrected (cells-fast, 19 px)".

        Parameters
        ----------
        is_corrected : bool
        is_counted : bool
            Whether it has as many cells as when it was left.
        """
        made = self.origin.provenance
        diameter = made.get("parameters", {}).get("scale", {}).get("diameter", 0)
        n_cells = self.left.n_cells
        counted = describe_count(n_cells) if is_counted and n_cells is not None else ""
        counted = "classes" if self.origin.is_classes else counted
        first = (self.time, counted, "corrected" if is_corrected else "")
        last = (made.get("model", {}).get("name", ""), f"{diameter:.0f} px" if diameter else "")
        ending = ", ".join(filter(None, last))
        return ", ".join(filter(None, first)) + (f" ({ending})" if ending else "")


@dataclass(frozen=True, eq=False)
class RemovedLayer:
    """A layer that was removed, without its pixels and its undo history.

    Attributes
    ----------
    result : EarlierResult
        Shown in it last.
    shape : tuple of int
        Of its labels.
    metadata : mapping
        Its own, with its review, without its results.
    attributes : mapping
        Arguments of `add_labels`: name, place and the like.
    """

    result: EarlierResult
    shape: tuple[int, ...]
    metadata: Mapping[str, Any]
    attributes: Mapping[str, Any]


class EarlierResults:
    """The results of one image in one place, the oldest first.

    Attributes
    ----------
    items : list of EarlierResult
        That of the layer is one of them.
    layer : napari labels layer, or None
        In which they are shown; None once it was removed and packed.
    removed : RemovedLayer or None
        That layer, for a way back.
    """

    def __init__(self) -> None:
        self.items: list[EarlierResult] = []
        self.layer: Any = None
        self.removed: RemovedLayer | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> EarlierResults:
        """Give a list of its own to a copy of the layer."""
        copy = EarlierResults()
        copy.items = [deepcopy(item, memo) for item in self.items]
        return copy

    def add(self, result: EarlierResult) -> None:
        """Append the result that is shown now; what is too much goes."""
        self.items.append(result)
        self.keep_within(result)

    def keep_within(self, shown: EarlierResult) -> None:
        """Drop the oldest results without corrections, and free the oldest fragments."""
        others = [one for one in self.items if one is not shown]
        spare = [one for one in others if not one.is_touched]
        for one in spare[: max(0, len(spare) - MOST)]:
            self.items.remove(one)
            others.remove(one)
            one.origin.fragments.forget()
        taken = 0
        for one in reversed(others):
            fragments = one.origin.fragments
            if fragments is shown.origin.fragments:
                continue
            taken += fragments.n_bytes
            if taken > MOST_BYTES:
                fragments.forget()


def brought_back(
    shown: NDArray[Any], old: ResultState, approved: Collection[Place], left: Left
) -> Replacement:
    """Put a result back as it was left.

    Parameters
    ----------
    shown : integer array, (..., y, x)
        The labels as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
    approved : collection of Place
        Regions that are approved now; those of the result that comes back take their place.
    left : Left

    Raises
    ------
    UserError
        Where it is of other pixels.
    """
    if (*left.labels.planes, *left.labels.grid.shape) != shown.shape:
        raise UserError("This result is of other planes of the image. Run Segment for these.")
    shown = shown.copy()
    grid = old.left.grid
    state, labels = _on(grid, left)
    for _ in state.origin.fragments:  # unpacked here, and not when the window needs them
        pass
    return Replacement(
        PackedLabels.of(shown, grid, like=old.left),
        labels,
        old,
        state,
        frozenset(approved),
        left.n_cells or 0,
        digest(shown),
    )


def _on(grid: RegionGrid, left: Left) -> tuple[ResultState, PackedLabels]:
    """Give a result in the regions of the layer, which an earlier version may have divided."""
    state = left.state
    if left.labels.grid == grid:
        return state, left.labels
    mask = state.corrected
    moved = ResultState(
        state.origin,
        PackedLabels.of(state.left.unpacked(), grid),
        None if mask is None else PackedLabels.of(mask.unpacked(), grid),
        PackedLabels.of(state.made.unpacked(), grid),
        state.checksum,
    )
    return moved, PackedLabels.of(left.labels.unpacked(), grid)
