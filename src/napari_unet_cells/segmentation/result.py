"""Result of a run: cells, classes, run details, and fragments to separate the cells again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_table import FragmentTable
from napari_unet_cells.core.instances import (
    MAX_UINT16,
    InstanceOptions,
    inside,
    oversegment,
)
from napari_unet_cells.core.linking import link_planes
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.resample import resize_labels
from napari_unet_cells.core.tracks import Tracks
from napari_unet_cells.segmentation.details import RunDetails


@dataclass(frozen=True)
class Fragments:
    """Oversegmentation of a plane, which other thresholds join to other cells without the network.

    Attributes
    ----------
    oversegmentation : FragmentTable
        Measured at the size that the network saw.
    base : int32 array, (y, x)
        Its fragments and holes, at the size of the plane.
    present : int array, (n,)
        Numbers that are in `base`; fragments smaller than a pixel of the plane are not.
    zoom : float
        Size that the network saw divided by the size of the plane.
    """

    oversegmentation: FragmentTable
    base: NDArray[np.int32]
    present: NDArray[np.intp]
    zoom: float

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.uint8],
        options: InstanceOptions,
        shape: tuple[int, int],
        zoom: float,
    ) -> Fragments:
        """Oversegment the probabilities; the fragments have the size (y, x) of the plane."""
        fine = oversegment(probabilities, options)
        base = resize_labels(fine.base, shape, inside(probabilities, options))
        present = np.zeros(fine.n_fragments + fine.n_holes + 1, bool)
        present[base] = True
        return cls(fine.table(), base, np.flatnonzero(present), zoom)

    def cells(
        self, options: InstanceOptions, like: InstanceOptions | None = None
    ) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Join the fragments to cells (y, x), see `instances.Oversegmentation`.

        Parameters
        ----------
        options : InstanceOptions
            `min_size` is in pixels that the network saw.
        like : InstanceOptions, optional
            A cell that is nearly the same with these options has the number that it has there.
        """
        return self.counted(options, like)[0]

    def counted(
        self, options: InstanceOptions, like: InstanceOptions | None = None
    ) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], int]:
        """Join the fragments to cells as `cells` does, and count these."""
        lut = self.lut(options)
        n = int(lut.max(initial=0))
        if like is not None and like != options:
            lut = match_numbers(lut, self.lut(like), self.oversegmentation.areas)
        return lut[self.base], n

    def lut(self, options: InstanceOptions) -> NDArray[Any]:
        """Give the cell of every value of `base`; the numbers are consecutive."""
        lut: NDArray[Any] = self.oversegmentation.lut(options)
        if len(self.present) < len(lut):
            ids = np.union1d(0, lut[self.present])
            lut = np.searchsorted(ids, lut).astype(lut.dtype)
        return lut


@dataclass(frozen=True)
class Result:
    """Result of one run.

    Attributes
    ----------
    cells : uint16 (uint32 beyond 65,535 cells) array, (..., y, x), or None
        One label per cell, 1 to n in each plane (in the stack where they were linked or
        tracked); None
        where the model has no boundary class.
    classes : uint8 array, (..., y, x)
        Argmax of the logits; for the shipped models 0 background, 1 cell, 2 boundary.
    details : RunDetails
        How it was made; `options`, `diameter`, `zoom`, `limits`, `device` and `seconds` are its.
    n_cells : int
        Cells, in a stack that was not linked those of all planes, in a movie that was tracked the
        tracks; 0 without cells.
    fragments : sequence of Fragments
        One for each plane, to separate the cells again with other thresholds. Those of a large
        plane are kept compressed until they are asked for.
    uncertainty : uint8 array, (..., y, x), or None
        1 less the margin between the two most probable classes, in units of 1/255. Its planes
        have the size that the network saw, which may be another than that of the labels.
        None where it was not asked for.
    tracks : Tracks or None
        Of a movie whose cells were tracked; the ids of cells are those of tracks.
    """

    cells: NDArray[np.uint16] | NDArray[np.uint32] | None
    classes: NDArray[np.uint8]
    details: RunDetails
    n_cells: int = 0
    fragments: Sequence[Fragments] = ()
    uncertainty: NDArray[np.uint8] | None = None
    tracks: Tracks | None = None

    @property
    def adjustable(self) -> Sequence[Fragments]:
        """Name of `fragments` in version 0.1.0."""
        return self.fragments

    @property
    def options(self) -> InstanceOptions | None:
        """Thresholds that the cells were separated with; None where there are no cells."""
        return self.details.options

    @property
    def diameter(self) -> float:
        """Median cell diameter in pixels, as given or estimated; 0 where it is not known."""
        return self.details.diameter

    @property
    def zoom(self) -> float:
        """Size that the network saw divided by the size of the image."""
        return self.details.zoom

    @property
    def limits(self) -> Limits | None:
        """Intensities that became 0 and 1; None where they differ from plane to plane."""
        return self.details.limits

    @property
    def device(self) -> str:
        """Device that the network ran on."""
        return self.details.device

    @property
    def seconds(self) -> float:
        """Duration of the run."""
        return self.details.seconds or 0.0

    @property
    def provenance(self) -> dict[str, Any]:
        """Record of how it was made, ready for JSON; see `RunDetails.provenance`."""
        return self.details.provenance()


def cells_of(
    fragments: Sequence[Fragments],
    options: InstanceOptions,
    shape: tuple[int, ...],
    link: int | None = None,
    like: InstanceOptions | None = None,
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], int]:
    """Separate the cells of all planes of a run, and count them.

    Parameters
    ----------
    fragments : sequence of Fragments
        Of a `Result`.
    options : InstanceOptions
    shape : tuple of int
        Of the labels, (..., y, x).
    link : int, optional
        See `Settings`.
    like : InstanceOptions, optional
        See `Fragments.cells`; cells that are linked are numbered anew.
    """
    stack = CellStack(shape)
    for index, plane in zip(np.ndindex(shape[:-2]), fragments, strict=True):
        stack.put(index, *plane.counted(options, like if link is None else None))
    return stack.linked(link)


class CellStack:
    """Cells of the planes of a run, in one array from the beginning: no plane is held twice.

    Parameters
    ----------
    shape : tuple of int
        Of the labels, (..., y, x).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape, self._n = shape, 0
        self._cells: NDArray[Any] | None = None

    def room(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        """Give the array (y, x) that the cells of a plane may be written into.

        None where there is one plane only, whose own array does.
        """
        if len(self._shape) == 2:
            return None
        if self._cells is None:
            self._cells = np.zeros(self._shape, np.uint16)
        room: NDArray[Any] = self._cells[index]
        return room

    def put(self, index: tuple[int, ...], cells: NDArray[Any], n: int) -> None:
        """Add the cells (y, x) of a plane, which may be its `room`, and how many they are."""
        self._n += n
        room = self.room(index)
        if room is None:
            self._cells = cells
        elif not np.may_share_memory(room, cells):
            assert self._cells is not None  # see `room`
            if cells.dtype.itemsize > room.dtype.itemsize:
                self._cells = self._cells.astype(cells.dtype)
            self._cells[index] = cells

    def linked(
        self, axis: int | None = None
    ) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], int]:
        """Give the cells of all planes, linked along an axis, and count them; once."""
        assert self._cells is not None  # there is a plane
        if axis is None or len(self._shape) == 2:
            return self._cells, self._n
        self._cells = _linked(self._cells, axis)
        return self._cells, int(self._cells.max(initial=0))


def match_numbers(
    lut: NDArray[Any], like: NDArray[Any], areas: NDArray[np.int64]
) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Give cells the numbers of others that they share more than half with.

    Parameters
    ----------
    lut, like : integer array, (n + holes + 1,)
        Cell of each fragment, and of each hole; 0 is background.
    areas : int array, (n + 1,)
        Of the fragments; holes do not count.

    Returns
    -------
    integer array, (n + holes + 1,)
        Of two cells that overlap by an IoU above 0.5 no other does so with either. A cell
        without such a match keeps its number, or gets one above all others.
    """
    n = len(areas)
    new, old = lut[:n].astype(np.int64), like[:n].astype(np.int64)
    size = int(old.max(initial=0)) + 1
    pairs, at = np.unique(new * size + old, return_inverse=True)
    shared = np.bincount(at, areas)
    one, other = np.divmod(pairs, size)
    union = np.bincount(new, areas)[one] + np.bincount(old, areas)[other] - shared
    is_same = (one > 0) & (other > 0) & (2 * shared > union)
    numbers = np.zeros(int(lut.max(initial=0)) + 1, np.int64)
    numbers[one[is_same]] = other[is_same]
    rest = np.flatnonzero(numbers == 0)[1:]
    clashing = np.isin(rest, other[is_same])
    numbers[rest] = rest
    first = max(len(numbers), size)
    numbers[rest[clashing]] = first + np.arange(np.count_nonzero(clashing))
    dtype = np.uint16 if numbers.max(initial=0) <= MAX_UINT16 else np.uint32
    matched: NDArray[np.uint16] | NDArray[np.uint32] = numbers.astype(dtype)[lut]
    return matched


def _linked(cells: NDArray[Any], axis: int) -> NDArray[Any]:
    """Link along one axis, in place where the data type holds the numbers.

    What differs in another axis is numbered on its own.
    """
    along = np.moveaxis(cells, axis, -3)
    for index in np.ndindex(*along.shape[:-3]):
        stack = along[index]
        linked = link_planes(stack, out=stack)
        if linked is not stack:
            along = along.astype(linked.dtype)
            along[index] = linked
    return np.moveaxis(along, -3, axis)
