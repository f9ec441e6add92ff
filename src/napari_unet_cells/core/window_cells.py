"""Cells of a window of a plane, each known by its first pixel, whichever window it is seen in.

::

    +-------- window --------+      core      what a block writes
    |   +---- core ----+     |      a         lies within: its key, the place of its first pixel in
    |   |   a      bb  | b   |                the plane, is the same for every window that holds it
    |   |        c     |     |      b         two blocks write a part of it, under one key
    |   +--------cc----+     |      d         touches the rim of the window: seen in part, `is_cut`
    |            cc          |
    dd                       |      rim      where smoothing would need pixels beyond an open side
    +------------------------+

Where a cell and its neighbours lie off the rim, fragments, saddles and areas that decide about it
are those of the plane in one piece, and so is the cell: it `is_sure`. The proof, step by step: the
way up from a pixel never leaves its fragment, so a fragment off the rim has all its pixels, unless
others flow in through one that it touches and that lies on the rim; and the links of a cell are
decided by peaks that are reached across saddles higher than theirs, which are fragments of its own
until one is found that is high enough. Where a rule to merge by was learned, this holds for its
parts; it scores pairs of them, so the parts beside a cell have to be whole as well, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_table import smallest_connected
from napari_unet_cells.core.instances import InstanceOptions, Oversegmentation, oversegment
from napari_unet_cells.core.merging import is_certain
from napari_unet_cells.core.resample import Box
from napari_unet_cells.core.smoothing import reach_of


@dataclass(frozen=True, eq=False)
class WindowCells:
    """Cells of one window.

    Attributes
    ----------
    base : int32 array, (y, x)
        Fragments and holes, see `instances.Oversegmentation`.
    lut : int32 array
        The cell of each of them: 1 to n, 0 is background.
    keys : int64 array, (n + 1,)
        First pixel of each in reading order, as a flat index of the plane; -1 for the background.
    is_cut : bool array, (n + 1,)
        It touches the rim of the window: the rest of it was not seen.
    is_sure : bool array, (n + 1,)
        It is the same in the plane in one piece.
    core_is_sure : bool
        So are all pixels of the core, also those that are of no cell.
    """

    base: NDArray[np.int32]
    lut: NDArray[np.int32]
    keys: NDArray[np.int64]
    is_cut: NDArray[np.bool_]
    is_sure: NDArray[np.bool_]
    core_is_sure: bool = True

    @property
    def labels(self) -> NDArray[np.int32]:
        """The cell of each pixel, (y, x)."""
        labels: NDArray[np.int32] = self.lut[self.base]
        return labels


def cells_of_window(
    probabilities: NDArray[np.uint8],
    window: Box,
    shape: tuple[int, int],
    options: InstanceOptions,
    core: Box | None = None,
) -> WindowCells:
    """Separate the cells of a window.

    Parameters
    ----------
    probabilities : uint8 array, (2 or 3, y, x)
        Of the window, as `instances.oversegment` takes them.
    window : (slice, slice)
        Its place in the plane.
    shape : (int, int)
        Of the plane.
    options : InstanceOptions
    core : (slice, slice), optional
        Part of the window that is written, in pixels of the plane; by default all of it.
    """
    fine = oversegment(probabilities, options)
    edges = _edges(fine.base, window, shape)
    fine = replace(fine, at_border=_fragments_of(edges, fine, is_open=False))
    rim = _fragments_of(_rims(fine.base, window, shape, options), fine, is_open=True)
    lut = fine.lut(options).astype(np.int32)
    n = int(lut.max(initial=0))
    cell = lut[: fine.n_fragments + 1]
    is_cut = np.zeros(n + 1, bool)
    is_cut[cell[rim]] = True
    is_sure = ~_doubtful(_beside(_beside(rim, fine.contacts), fine.contacts), fine, options)
    all_sure = np.ones(n + 1, bool)
    all_sure[cell[~is_sure]] = False
    is_cut[0], all_sure[0] = False, True
    inner = fine.base if core is None else fine.base[part_of(core, window)]
    core_is_sure = bool(is_sure[np.where(inner > fine.n_fragments, 0, inner)].all())
    keys = _keys(lut[fine.base], n, window, shape)
    return WindowCells(fine.base, lut, keys, is_cut, all_sure, core_is_sure)


def part_of(part: Box, whole: Box) -> Box:
    """Give the place of a part of the plane in the array of a larger one."""
    y, x = (
        slice(one.start - other.start, one.stop - other.start)
        for one, other in zip(part, whole, strict=True)
    )
    return y, x


def _edges(
    base: NDArray[np.int32], window: Box, shape: tuple[int, int], depth: int = 1
) -> list[tuple[NDArray[np.int32], bool]]:
    """Give the pixels along the four sides, each with whether the plane goes on beyond it."""
    (y, x), (height, width) = window, shape
    return [
        (base[:depth], y.start > 0),
        (base[-depth:], y.stop < height),
        (base[:, :depth], x.start > 0),
        (base[:, -depth:], x.stop < width),
    ]


def _rims(
    base: NDArray[np.int32], window: Box, shape: tuple[int, int], options: InstanceOptions
) -> list[tuple[NDArray[np.int32], bool]]:
    return _edges(base, window, shape, reach_of(options.smoothing) + 1)


def _fragments_of(
    sides: list[tuple[NDArray[np.int32], bool]], fine: Oversegmentation, is_open: bool
) -> NDArray[np.bool_]:
    """Find the fragments with pixels along the sides that are open, or along the others."""
    found = np.zeros(fine.n_fragments + fine.n_holes + 1, bool)
    for pixels, goes_on in sides:
        if goes_on == is_open:
            found[pixels] = True
    found = found[: fine.n_fragments + 1]
    found[0] = False
    return found


def _beside(chosen: NDArray[np.bool_], contacts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Choose those that touch chosen ones as well."""
    one, other = contacts.T
    more = chosen.copy()
    more[one[chosen[other]]] = True
    more[other[chosen[one]]] = True
    return more


def _doubtful(
    unsure: NDArray[np.bool_], fine: Oversegmentation, options: InstanceOptions
) -> NDArray[np.bool_]:
    """Add what a rule to merge by may see otherwise: the parts that hold any, and their neighbours.

    Links between parts that are as sure as those within make the parts wider here, if anything.
    """
    if options.merge is None:
        return unsure
    inner = fine.links[is_certain(fine.depths, options.merge)]
    part = smallest_connected(inner, len(unsure))
    whole = np.zeros(len(unsure), bool)
    whole[part[unsure]] = True
    whole[0] = False
    return _beside(whole[part], fine.contacts)


def _keys(
    labels: NDArray[np.int32], n: int, window: Box, shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Give the first pixel of each cell, see `WindowCells`."""
    flat = labels.ravel()
    at = np.flatnonzero(flat)
    first = np.zeros(n + 1, np.int64)
    first[flat[at[::-1]]] = at[::-1]  # of several, what is written last stays
    rows, columns = np.divmod(first, labels.shape[1])
    keys: NDArray[np.int64] = (rows + window[0].start) * shape[1] + columns + window[1].start
    keys[0] = -1
    return keys
