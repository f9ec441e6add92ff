"""Review regions of labels: which the user looked at, edited and approved.

A plane is divided into equal rectangles, about as large as a view::

    +-----+-----+-----+     numbered from left to right and from top to bottom
    |  0  |  1  |  2  |     unseen     as the run made it
    +-----+-----+-----+     edited     its pixels differ from what the run made
    |  3  |  4  |  5  |     approved   the user said that it is right
    +-----+-----+-----+

What the run made is kept compressed, region by region: labels shrink to a fiftieth, and a
region is looked at in a quarter of a millisecond. So undoing every stroke makes a region
unedited again. Where the program replaces what was not corrected, the review gets a new baseline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import product
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

#: Pixels; the longest side of a region, about that of a view.
LONGEST = 512


class State(Enum):
    """State of the review of a region."""

    UNSEEN = "unseen"
    EDITED = "edited"
    APPROVED = "approved"


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels, ``top <= y < bottom`` and ``left <= x < right``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """As an index of a plane (y, x)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left

    def grown(self, pixels: int, shape: tuple[int, int]) -> Region:
        """Give the region with a margin of `pixels`, as far as the plane of `shape` reaches."""
        return Region(
            max(0, self.top - pixels),
            min(shape[0], self.bottom + pixels),
            max(0, self.left - pixels),
            min(shape[1], self.right + pixels),
        )


@dataclass(frozen=True)
class RegionGrid:
    """Equal regions that cover a plane.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the plane in pixels.
    counts : (int, int)
        Regions from top to bottom, and from left to right.
    """

    shape: tuple[int, int]
    counts: tuple[int, int]

    @classmethod
    def plan(cls, shape: tuple[int, int], longest: int = LONGEST) -> RegionGrid:
        """Divide a plane into regions of at most `longest` pixels a side, and at least half."""
        rows, columns = (max(1, -(-size // longest)) for size in shape)
        return cls((shape[0], shape[1]), (rows, columns))

    def __len__(self) -> int:
        """Count the regions."""
        return self.counts[0] * self.counts[1]

    def __iter__(self) -> Iterator[Region]:
        """Iterate over the regions by their numbers."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Region:
        """Give a region by its number."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        row, column = divmod(number, self.counts[1])
        (top, bottom), (left, right) = (
            (i * size // n, (i + 1) * size // n)
            for i, size, n in zip((row, column), self.shape, self.counts, strict=True)
        )
        return Region(top, bottom, left, right)

    def at(self, y: float, x: float) -> int:
        """Find the region that holds a pixel; outside of the plane the nearest one.

        Parameters
        ----------
        y, x : float
            Row and column; what lies between two pixels belongs to the first.

        Returns
        -------
        int
            Number of the region.
        """
        row, column = (
            min(max(int((int(value) + 1) * n - 1) // size, 0), n - 1)
            for value, size, n in zip((y, x), self.shape, self.counts, strict=True)
        )
        return row * self.counts[1] + column

    def touching(self, rows: slice, columns: slice) -> list[int]:
        """Find the regions that a window of the plane, of at least a pixel, reaches into."""
        first = self.at(rows.start, columns.start)
        last = self.at(rows.stop - 1, columns.stop - 1)
        (top, left), (bottom, right) = divmod(first, self.counts[1]), divmod(last, self.counts[1])
        grid = product(range(top, bottom + 1), range(left, right + 1))
        return [row * self.counts[1] + column for row, column in grid]


def cuts_cells(plane: NDArray[Any], region: Region) -> bool:
    """Whether a label goes on beyond the border of a region.

    Parameters
    ----------
    plane : integer array, (y, x)
        0 is background.
    region : Region
    """
    rows, columns = region.slices
    sides = []
    if region.top > 0:
        sides.append((plane[region.top - 1, columns], plane[region.top, columns]))
    if region.bottom < plane.shape[0]:
        sides.append((plane[region.bottom - 1, columns], plane[region.bottom, columns]))
    if region.left > 0:
        sides.append((plane[rows, region.left - 1], plane[rows, region.left]))
    if region.right < plane.shape[1]:
        sides.append((plane[rows, region.right - 1], plane[rows, region.right]))
    return any(bool(((a == b) & (a != 0)).any()) for a, b in sides)


#: Index of a plane along the axes of the labels before (y, x), and number of a region in it.
Place = tuple[tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class PackedLabels:
    """Labels that never change, compressed region by region.

    Attributes
    ----------
    planes : tuple of int
        Lengths of the axes of the labels before (y, x).
    grid : RegionGrid
        Of every plane.
    dtype : numpy.dtype
    regions : mapping of Place to bytes
    """

    planes: tuple[int, ...]
    grid: RegionGrid
    dtype: np.dtype[Any]
    regions: Mapping[Place, bytes]

    @classmethod
    def of(
        cls, labels: NDArray[Any], grid: RegionGrid | None = None, like: PackedLabels | None = None
    ) -> PackedLabels:
        """Compress labels.

        Parameters
        ----------
        labels : integer or bool array, (..., y, x)
        grid : RegionGrid, optional
            Other regions than `RegionGrid.plan` gives.
        like : PackedLabels, optional
            Regions that are the same there share their memory.
        """
        grid = grid or RegionGrid.plan((labels.shape[-2], labels.shape[-1]))
        planes = labels.shape[:-2]
        known = {} if like is None else like.regions
        regions = {}
        for place in _places(planes, grid):
            packed = bytes(imagecodecs.zstd_encode(_part(labels, place, grid).tobytes(), level=1))
            before = known.get(place)
            regions[place] = before if before is not None and before == packed else packed
        return cls(planes, grid, labels.dtype, regions)

    def __getitem__(self, place: Place) -> NDArray[Any]:
        """Unpack a region (y, x)."""
        pixels = imagecodecs.zstd_decode(self.regions[place])
        shape = self.grid[place[1]].shape
        labels: NDArray[Any] = np.frombuffer(pixels, self.dtype).reshape(shape)
        return labels

    def unpacked(self) -> NDArray[Any]:
        """Unpack all labels (..., y, x)."""
        labels = np.empty((*self.planes, *self.grid.shape), self.dtype)
        for place in self.regions:
            labels[self.window(place)] = self[place]
        return labels

    def window(self, place: Place) -> tuple[int | slice, ...]:
        """Index of a region in the labels (..., y, x)."""
        return (*place[0], *self.grid[place[1]].slices)

    def differing(self, other: PackedLabels) -> list[Place]:
        """Find the regions in which other labels of the same planes and regions differ."""
        if self.dtype == other.dtype:
            return [p for p, packed in self.regions.items() if packed != other.regions[p]]
        return [p for p in self.regions if not np.array_equal(self[p], other[p])]


def _places(planes: tuple[int, ...], grid: RegionGrid) -> Iterator[Place]:
    """Iterate over the regions of all planes, plane by plane."""
    return product(product(*(range(n) for n in planes)), range(len(grid)))


class Review:
    """The review of one labels layer.

    Parameters
    ----------
    labels : integer array, (..., y, x)
        As the run made them.
    uncertainty : uint8 array, (..., y, x), optional
        1 less the margin between the two most probable classes, in units of 1/255; its sides
        may be longer or shorter than those of the labels. Without it all regions are alike.
    grid : RegionGrid, optional
        Other regions than `RegionGrid.plan` gives.

    Attributes
    ----------
    grid : RegionGrid
        Of every plane.
    planes : tuple of int
        Lengths of the axes of the labels before (y, x).
    baseline : PackedLabels
        The labels as the run made them; see `rebase`.
    uncertainty : uint8 array or None
    approved : mapping of Place to str
        When each approved region was approved, ISO 8601.
    """

    def __init__(
        self,
        labels: NDArray[Any],
        uncertainty: NDArray[np.uint8] | None = None,
        grid: RegionGrid | None = None,
    ) -> None:
        self.baseline = PackedLabels.of(labels, grid)
        self.planes, self.grid = self.baseline.planes, self.baseline.grid
        self.uncertainty = uncertainty
        self.approved: dict[Place, str] = {}
        self._edited: set[Place] = set()
        self._means = self._mean_uncertainty()
        self._order = self._by_uncertainty()

    def __len__(self) -> int:
        """Count the regions of all planes."""
        return int(np.prod(self.planes, dtype=int)) * len(self.grid)

    def __iter__(self) -> Iterator[Place]:
        """Iterate over all places, plane by plane."""
        return _places(self.planes, self.grid)

    def made(self, place: Place) -> NDArray[Any]:
        """Labels of a region as the run made them, in their own data type."""
        return self.baseline[place]

    def rebase(self, baseline: PackedLabels, labels: NDArray[Any] | PackedLabels) -> None:
        """Compare with other labels of the program from now on; approvals stay.

        Parameters
        ----------
        baseline : PackedLabels
            Of the same planes and regions.
        labels : integer array (..., y, x), or PackedLabels
            As they are now; what is packed is compared without the pixels, in no time.
        """
        changed = baseline.differing(self.baseline)
        self.baseline = baseline
        if isinstance(labels, PackedLabels):
            self._edited = set(labels.differing(baseline))
        else:
            self.look(labels, changed)

    def look(self, labels: NDArray[Any], places: Iterable[Place]) -> bool:
        """Compare regions with what the run made; whether any changed its state.

        Parameters
        ----------
        labels : integer array, (..., y, x)
            As they are now; of any integer data type.
        places : iterable of Place
            Where something may have changed.
        """
        changed = False
        for place in places:
            now = _part(labels, place, self.grid)
            if np.array_equal(now, self.made(place)) == (place in self._edited):
                self._edited ^= {place}
                changed = True
        return changed

    def state(self, place: Place) -> State:
        """Say where the review of a region stands; an approved one may be edited as well."""
        if place in self.approved:
            return State.APPROVED
        return State.EDITED if place in self._edited else State.UNSEEN

    def is_edited(self, place: Place) -> bool:
        """Whether a region differs from what the run made, approved or not."""
        return place in self._edited

    @property
    def any_edited(self) -> bool:
        """Whether some region differs from what the run made."""
        return bool(self._edited)

    def approve(self, place: Place, date: str | None = None) -> None:
        """Mark a region as right.

        Parameters
        ----------
        place : Place
        date : str, optional
            ISO 8601; now by default.
        """
        self.approved[place] = date or datetime.now().astimezone().isoformat(timespec="seconds")

    def withdraw(self, place: Place) -> None:
        """Take an approval back."""
        self.approved.pop(place, None)

    def next_place(self, passed: Collection[Place] = ()) -> Place | None:
        """Find the most uncertain region that is not approved, edited or not.

        Parameters
        ----------
        passed : collection of Place
            Where the user has been; another one is given, as long as there is one.

        Returns
        -------
        Place or None
            None where all regions are approved.
        """
        again: Place | None = None
        for place in self._order:
            if place in self.approved:
                continue
            if place not in passed:
                return place
            again = again or place
        return again

    def copy(self) -> Review:
        """Give another review that says the same of a copy of the labels."""
        other = copy(self)
        other.approved, other._edited = dict(self.approved), set(self._edited)
        return other

    def fits(self, labels: NDArray[Any]) -> bool:
        """Whether an array has the shape of the labels."""
        return tuple(labels.shape) == (*self.planes, *self.grid.shape)

    def with_uncertainty(self, uncertainty: NDArray[np.uint8]) -> Review:
        """Give a review of the same labels, planes and regions that knows another uncertainty."""
        other = self.copy()
        other.uncertainty = uncertainty
        other._means = other._mean_uncertainty()
        other._order = other._by_uncertainty()
        return other

    def take_uncertainty(self, other: Review) -> None:
        """Take over what another review of the same planes and regions knows of it."""
        self.uncertainty = other.uncertainty
        self._means, self._order = other._means, other._order

    def mean_uncertainty(self, place: Place) -> float:
        """Give the mean of the uncertainty over a region, 0 to 1; 0 where it is not known."""
        return self._means[place]

    def as_dict(self) -> dict[str, Any]:
        """Give what cannot be computed again from the labels, as JSON holds it."""
        return {
            "counts": list(self.grid.counts),
            "approved": [
                {"plane": list(plane), "region": number, "date": date}
                for (plane, number), date in self.approved.items()
            ],
            "uncertainty": [round(self._means[place], 4) for place in self],
        }

    @classmethod
    def restored(
        cls,
        made: NDArray[Any],
        grid: RegionGrid,
        approved: Mapping[Place, str],
        uncertainty: Sequence[float],
    ) -> Review:
        """Make a review again of what `as_dict` gave, once it has been checked.

        Parameters
        ----------
        made : integer array, (..., y, x)
            As the run made them.
        grid : RegionGrid
        approved : mapping of Place to str
        uncertainty : sequence of float
            Means of all regions, plane by plane.
        """
        review = cls(made, None, grid)
        review.approved = dict(approved)
        review._means = dict(zip(review, uncertainty, strict=True))
        review._order = review._by_uncertainty()
        return review

    def _mean_uncertainty(self) -> dict[Place, float]:
        if self.uncertainty is None:
            return dict.fromkeys(self, 0.0)
        seen = self.uncertainty.reshape(*self.planes, *self.uncertainty.shape[-2:])
        grid = RegionGrid((seen.shape[-2], seen.shape[-1]), self.grid.counts)
        return {place: _mean(_part(seen, place, grid)) for place in self}

    def _by_uncertainty(self) -> list[Place]:
        """All places, the most uncertain one first."""
        return sorted(self, key=lambda place: -self._means[place])


def _part(array: NDArray[Any], place: Place, grid: RegionGrid) -> NDArray[Any]:
    """Pixels (y, x) of a region, a view."""
    index: tuple[Any, ...] = (*place[0], *grid[place[1]].slices)
    part: NDArray[Any] = array[index]
    return part


def _mean(part: NDArray[np.uint8]) -> float:
    """Mean in [0, 1]; 0 for a region smaller than a pixel that the network saw."""
    return float(part.mean()) / 255 if part.size else 0.0


def describe_regions(n: int) -> str:
    """Say a number of regions."""
    return "1 region" if n == 1 else f"{n} regions"
