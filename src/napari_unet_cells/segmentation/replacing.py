"""Replace the cells or classes of a result by others, except what was corrected or approved.

A result goes from state to state while the user corrects it::

    run --> ResultState --corrections--> replace_cells --> ResultState --corrections--> ...
              left    the labels as the program left them: what differs was corrected since
              corrected    what was corrected before that
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.frozen import corrected, replace_rest, whole_cells
from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.labels import count_ids, digest
from napari_unet_cells.core.regions import PackedLabels, Place, Review
from napari_unet_cells.core.tracks import record_of
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.result import cells_of

if TYPE_CHECKING:
    from napari_unet_cells.segmentation.run import Finished


@dataclass(frozen=True, eq=False)
class Origin:
    """Run that cells come from.

    Attributes
    ----------
    details : RunDetails or None
        None where cells were restored from the disk.
    provenance : mapping
        See `RunDetails.provenance`.
    fragments : KeptFragments
        Empty where the cells cannot be separated again.
    median_area : float
        Of the cells, in pixels.
    seen : Review or None
        Knows the uncertainty of the run.
    first : InstanceOptions or None
        Thresholds of the run itself: cells that are adjusted have the numbers that they had then.
    """

    details: RunDetails | None
    provenance: Mapping[str, Any]
    fragments: KeptFragments = field(default_factory=KeptFragments)
    median_area: float = 0.0
    seen: Review | None = None
    first: InstanceOptions | None = None

    @classmethod
    def of(cls, event: Finished) -> Origin:
        """Give the origin of the cells of a run."""
        details = event.result.details
        fragments = KeptFragments(event.result.fragments)
        area, seen = event.median_area, event.review
        return cls(details, details.provenance(), fragments, area, seen, details.options)

    @property
    def options(self) -> InstanceOptions | None:
        """Thresholds that the cells were separated with; None where that is not known."""
        return None if self.details is None else self.details.options

    @property
    def is_classes(self) -> bool:
        """Whether the model makes classes only, and no cells."""
        return (
            "instances" in (made := self.provenance.get("parameters", {})) and not made["instances"]
        )

    @property
    def is_of_parts(self) -> bool:
        """Whether a part of the image was segmented on its own; see `replacing_part`."""
        return bool(self.provenance.get("parts"))

    @property
    def began_whole(self) -> bool:
        """Whether all of the image was segmented before the first part was on its own."""
        parts = self.provenance.get("parts") or []
        return bool(parts) and parts[0].get("date") != self.provenance.get("date")

    @property
    def link(self) -> int | None:
        """See `pipeline.Settings`."""
        if self.is_tracked:
            return 0
        if self.details is None:
            link = self.provenance.get("parameters", {}).get("linked_along_axis")
            return link if isinstance(link, int) else None
        return self.details.link

    def with_options(self, options: InstanceOptions) -> Origin:
        """Give the same run, its cells separated with other thresholds."""
        assert self.details is not None
        details = replace(self.details, options=options, parents=None)  # the cells are others
        return replace(self, details=details, provenance=details.provenance())

    @property
    def is_tracked(self) -> bool:
        """Whether the ids of the cells are those of tracks."""
        return "tracks" in self.provenance

    def tracked(self, parents: Mapping[int, int]) -> Origin:
        """Give the same run, its cells tracked along the first axis; see `core.tracks.Tracks`."""
        made = dict(self.provenance)
        made["tracks"] = record_of(parents)
        if "parameters" in made:
            made["parameters"] = {**made["parameters"], "linked_along_axis": 0}
        details = self.details and replace(self.details, link=0, parents=parents)
        return replace(self, details=details, provenance=made)


@dataclass(frozen=True, eq=False)
class ResultState:
    """State of a result since the program changed its labels last.

    Attributes
    ----------
    origin : Origin
        Of the cells that were not corrected.
    left : PackedLabels
        The labels as the program left them, with what had been corrected before.
    corrected : PackedLabels or None
        Bool; what had been corrected before. None where nothing had been.
    made : PackedLabels
        Baseline of the review: what the program made, also where it was corrected.
    checksum : int
        `digest` of `made`.
    """

    origin: Origin
    left: PackedLabels
    corrected: PackedLabels | None
    made: PackedLabels
    checksum: int

    @classmethod
    def of(cls, origin: Origin, made: PackedLabels, checksum: int) -> ResultState:
        """Give the state of a result that the program has just made."""
        return cls(origin, made, None, made, checksum)


@dataclass(frozen=True, eq=False)
class Replacement:
    """New labels of a result, and what they were made for.

    Attributes
    ----------
    before, after : PackedLabels
        The labels as they were, and as they shall be.
    old, new : ResultState
    approved : frozenset of Place
        Regions that stayed as they were.
    n_cells : int
        Of `after`; in a stack that is not linked those of all planes.
    checksum : int
        `digest` of the labels as they were.
    """

    before: PackedLabels
    after: PackedLabels
    old: ResultState
    new: ResultState
    approved: frozenset[Place]
    n_cells: int
    checksum: int


def adjust(
    shown: NDArray[Any], old: ResultState, approved: Collection[Place], options: InstanceOptions
) -> Replacement:
    """Separate the cells of a result again, with other thresholds.

    Parameters
    ----------
    shown : integer array, (..., y, x)
        The labels as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
        With fragments.
    approved : collection of Place
        Regions that stay as they are.
    options : InstanceOptions
    """
    origin = old.origin
    leading = shown.shape[:-2] if len(origin.fragments) > 1 else ()
    shape = leading + origin.fragments[0].base.shape
    cells, _ = cells_of(tuple(origin.fragments), options, shape, origin.link, origin.first)
    return replace_cells(shown, old, approved, cells, origin.with_options(options))


def replace_cells(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    cells: NDArray[Any],
    origin: Origin,
) -> Replacement:
    """Put other cells into a result, except where it was corrected or approved.

    Parameters
    ----------
    shown : integer array, (..., y, x)
        The labels as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
    approved : collection of Place
        Regions that stay as they are.
    cells : integer array of as many pixels
    origin : Origin
        Of `cells`.
    """
    shown = shown.copy()
    changed, frozen = find_frozen(shown, old, approved)
    result = _replaced(shown, cells.reshape(shown.shape), frozen, origin.link)
    return pack_replacement(shown, old, approved, origin, (result, changed, frozen))


def replace_classes(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    classes: NDArray[Any],
    origin: Origin,
) -> Replacement:
    """Put other classes into a result, except pixels that were corrected or approved.

    Parameters
    ----------
    shown : integer array, (..., y, x)
        The classes as they are; the user may paint on them meanwhile, see `Replacement.checksum`.
    old : ResultState
    approved : collection of Place
        Regions that stay as they are.
    classes : integer array of as many pixels
    origin : Origin
        Of `classes`.
    """
    shown = shown.copy()
    changed = shown != old.left.unpacked()
    if old.corrected is not None:
        changed |= old.corrected.unpacked()
    frozen = changed.copy()
    for place in approved:
        frozen[old.left.window(place)] = True
    result = np.where(frozen, shown, classes.reshape(shown.shape)).astype(shown.dtype, copy=False)
    return pack_replacement(shown, old, approved, origin, (result, changed, frozen))


def pack_replacement(
    shown: NDArray[Any],
    old: ResultState,
    approved: Collection[Place],
    origin: Origin,
    parts: tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]],
) -> Replacement:
    """Pack what was replaced: the result, what was corrected in it, and what stayed."""
    result, changed, frozen = parts
    grid = old.left.grid
    made = np.where(frozen, old.made.unpacked(), result) if frozen.any() else result
    after = PackedLabels.of(result, grid)
    mask = PackedLabels.of(changed, grid) if changed.any() else None
    made_packed = PackedLabels.of(made, grid, like=after)
    return Replacement(
        PackedLabels.of(shown, grid, like=old.left),
        after,
        old,
        ResultState(origin, after, mask, made_packed, digest(made)),
        frozenset(approved),
        0 if origin.is_classes else count_cells(result, origin.link),
        digest(shown),
    )


def find_frozen(
    shown: NDArray[Any], old: ResultState, approved: Collection[Place]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Mark what was corrected at any time, and that together with what was approved."""
    left, link = old.left.unpacked(), old.origin.link
    regions = np.zeros(shown.shape, bool)
    for place in approved:
        regions[old.left.window(place)] = True
    changed = np.zeros(shown.shape, bool) if old.corrected is None else old.corrected.unpacked()
    held = np.zeros(shown.shape, bool)
    parts = zip(*(_parts(array, link) for array in (shown, left, regions, held)), strict=True)
    for mask, (now, before, region, hold) in zip(_parts(changed, link), parts, strict=True):
        mask |= corrected(now, before)
        if region.any():
            hold |= whole_cells(now, region)
    return changed, changed | held


def _replaced(
    shown: NDArray[Any], cells: NDArray[Any], frozen: NDArray[np.bool_], link: int | None
) -> NDArray[Any]:
    parts = zip(*(_parts(array, link) for array in (shown, cells, frozen)), strict=True)
    found = [replace_rest(now, new, fixed) for now, new, fixed in parts]
    # The layer keeps its data type where that is wide enough.
    dtype = shown.dtype
    for part in found:
        dtype = np.promote_types(dtype, np.min_scalar_type(int(part.max(initial=0))))
    result = np.empty(shown.shape, dtype)
    for target, part in zip(_parts(result, link), found, strict=True):
        target[...] = part
    return result


def count_cells(
    labels: NDArray[Any], link: int | None, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Count the cells, plane by plane or along the linked axis.

    Parameters
    ----------
    labels : integer array, (..., y, x)
    link : int or None
        See `pipeline.Settings`.
    stopped : callable () -> bool
        See `core.labels.count_ids`.
    """
    return sum(count_ids(part, stopped) for part in _parts(labels, link))


def _parts(array: NDArray[Any], link: int | None) -> list[NDArray[Any]]:
    """Give views of what is numbered on its own: planes, or stacks along the linked axis."""
    along = array if link is None else np.moveaxis(array, link, -3)
    n = 2 if link is None else 3
    return [along[index] for index in np.ndindex(along.shape[: along.ndim - n])]
