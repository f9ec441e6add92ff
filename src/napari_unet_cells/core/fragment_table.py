r"""Table of the fragments of a plane: cells are made of it without a look at the pixels.

It reads a few numbers per fragment, so it may follow a slider::

    height        peak 0.9                 fragments   1 1 1 1 2 2 2 3 3 3 3
                   _     0.7  peak 0.8
                  / \_ __/\   _            1 | 2       depth 0.7 - 0.6 = 0.1: one cell
                 /    v    \ / \           2 | 3       depth 0.8 - 0.3 = 0.5: two cells
                    0.6     v   \
                           0.3

The depth of the valley between two fragments is the lower of the two peaks less the saddle, which
is the highest point of their common border; a peak that was merged counts with the highest
peak it was merged with. Cutting at a depth is the extinction by dynamics of Grimaud 1992, done
on the maximum spanning tree of the saddles (Najman and Schmitt 1996), where it is the choice
of a few links.

References
----------
.. [1] Grimaud, "New measure of contrast: the dynamics", Proc. SPIE 1769, 1992.
.. [2] Najman and Schmitt, "Geodesic saliency of watershed contours and hierarchical
   segmentation", IEEE Transactions on Pattern Analysis and Machine Intelligence 18, 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet_cells.core.instance_options import InstanceOptions, MergeRule

#: napari redraws 32-bit labels twenty times slower, so 16 bits serve as long as they can.
MAX_UINT16 = np.iinfo(np.uint16).max

Labels = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, eq=False, kw_only=True)
class FragmentTable:
    """Measures and neighbours of the fragments of one plane.

    They are numbered from 1 to n, from top to bottom by their first pixels; then come the holes,
    n + 1 to n + n_holes, numbered likewise. 0 is background that reaches the border of the plane.

    Attributes
    ----------
    areas : int64 array, (n + 1,)
        Pixels of each fragment.
    sums : float64 array, (n + 1,)
        Of the probability of "cell" or "boundary" over the pixels of each fragment, in 1/255.
    links : int32 array, (m, 2)
        Pairs of touching fragments, from the highest saddle to the lowest: the maximum spanning
        forest of all saddles.
    depths : uint8 array, (m,)
        Of each link: the lower of the peaks of the two sides less the saddle, in 1/255 of
        probability. A side is all that links of higher saddles join. Where there is a rule
        to merge by, what `merging.scored` gives in the place of both.
    contacts : int32 array, (c, 2)
        All pairs of touching fragments.
    n_holes : int
    rims : int32 array, (k, 2)
        Pairs of a hole and a fragment that it touches.
    is_open : bool array, (n + 1,)
        Fragments that touch background 0 or the border of the plane.
    at_border : bool array, (n + 1,)
        Fragments that touch the border of the plane.
    cell_threshold, smoothing : float
    merge : MergeRule or None
        The options that the fragments were made with.
    """

    areas: NDArray[np.int64]
    sums: NDArray[np.float64]
    links: NDArray[np.int32]
    depths: NDArray[np.uint8]
    contacts: NDArray[np.int32]
    n_holes: int
    rims: NDArray[np.int32]
    is_open: NDArray[np.bool_]
    at_border: NDArray[np.bool_]
    cell_threshold: float
    smoothing: float
    merge: MergeRule | None = None

    @property
    def n_fragments(self) -> int:
        """Number of fragments, n."""
        return len(self.areas) - 1

    def lut(self, options: InstanceOptions) -> Labels:
        """Give the cell of every number, so that ``labels = lut[base]``.

        Parameters
        ----------
        options : InstanceOptions
            `cell_threshold`, `smoothing` and `merge` must be those of the fragments.

        Returns
        -------
        uint16 (uint32 beyond 65,535 cells) array, (n + n_holes + 1,)

        Raises
        ------
        ValueError
            Where the fragments were made with another of these.
        """
        for name in ("cell_threshold", "smoothing", "merge"):
            if getattr(options, name) != getattr(self, name):
                raise ValueError(
                    f"The fragments were made with {name} {getattr(self, name)}, not "
                    f"{getattr(options, name)}: call oversegment() again."
                )
        group = self._join_small(self._merge(options.split), options.min_size)
        areas = np.bincount(group, self.areas, minlength=len(group))
        sums = np.bincount(group, self.sums, minlength=len(group))
        kept = (areas >= max(1, options.min_size)) & (sums >= options.min_probability * 255 * areas)
        kept = kept[group]
        kept[0] = False
        owner = np.zeros(len(group) + self.n_holes, np.intp)
        owner[: len(group)][kept] = group[kept]
        if options.fill_holes and (self.n_holes or not kept[1:].all()):
            self._fill_holes(owner, group, kept)
        if options.drop_border:
            dropped = np.zeros(len(group), bool)
            dropped[group[self.at_border]] = True
            owner[dropped[owner]] = 0
        return _consecutive(owner)

    def _merge(self, split: float) -> NDArray[np.intp]:
        """Give the group of each fragment: the smallest of its numbers. Background is group 0."""
        shallow = self.links[self.depths <= round((1 - split) * 255)]
        return smallest_connected(shallow, len(self.areas))

    def _join_small(self, group: NDArray[np.intp], min_size: int) -> NDArray[np.intp]:
        """Join every group that is too small to the one it shares its highest saddle with.

        Walking down the links in their order does just that: at the first link that leads
        out of a small group, this is its highest. What is small in the end has no neighbour.
        """
        pairs = group[self.links]
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        areas = np.bincount(group, self.areas, minlength=len(group))
        # Only what hangs together with a small group can change; mostly that is very little.
        patch = smallest_connected(pairs, len(group))
        concerned = np.zeros(len(group), bool)
        concerned[patch[group[areas[group] < min_size]]] = True
        joined = Groups(areas.tolist())
        for one, other in pairs[concerned[patch[pairs[:, 0]]]].tolist():
            a, b = joined.find(one), joined.find(other)
            if joined.size[a] < min_size or joined.size[b] < min_size:
                joined.join(min(a, b), max(a, b))
        return joined.all()[group]

    def _fill_holes(
        self, owner: NDArray[np.intp], group: NDArray[np.intp], kept: NDArray[np.bool_]
    ) -> None:
        """Give background that touches one cell only, and not the border, to that cell.

        A fragment that is dropped is background too and joins the holes and the dropped fragments
        that it touches, so a ring with a speck in it becomes a disc.
        """
        node = np.arange(len(owner))
        node[: len(group)] = group
        is_void = np.ones(len(owner), bool)
        is_void[: len(group)] = ~kept
        touching = node[np.concatenate([self.rims, self.contacts, self.contacts[:, ::-1]])]
        voids, others = touching[is_void[touching[:, 0]]].T
        both = is_void[others]
        outlets = group[self.is_open & ~kept]
        joined = np.concatenate(
            [np.append(voids[both], np.zeros_like(outlets)), np.append(others[both], outlets)]
        )
        void = smallest_connected(joined.reshape(2, -1).T, len(owner))
        lowest = np.full(len(owner), len(owner), np.intp)
        highest = np.zeros(len(owner), np.intp)
        np.minimum.at(lowest, void[voids[~both]], others[~both])
        np.maximum.at(highest, void[voids[~both]], others[~both])
        enclosing = np.where(lowest == highest, highest, 0)
        enclosing[0] = 0
        background = owner == 0
        owner[background] = enclosing[void[node[background]]]


class Groups:
    """Disjoint sets of numbers, as lists: a loop over arrays is ten times slower.

    Attributes
    ----------
    size : list of float
        Of the set of each root: the sum over its numbers.
    parent : list of int
    """

    def __init__(self, size: list[float]) -> None:
        self.size = size
        self.parent = list(range(len(size)))

    def find(self, i: int) -> int:
        """Give the root of a number."""
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        """Put the set of the root `b` into that of the root `a`."""
        if a != b:
            self.parent[b] = a
            self.size[a] += self.size[b]

    def all(self) -> NDArray[np.intp]:
        """Give the root of every number."""
        roots = np.array(self.parent, np.intp)
        while (roots != roots[roots]).any():
            roots = roots[roots]
        return roots


def smallest_connected(pairs: NDArray[np.integer], n: int) -> NDArray[np.intp]:
    """Give each of n numbers the smallest number that pairs (m, 2) connect it with."""
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    first = np.zeros(n, np.intp)
    first[component[::-1]] = np.arange(n)[::-1]  # of several, what is written last stays
    smallest: NDArray[np.intp] = first[component]
    return smallest


def _consecutive(owner: NDArray[np.intp]) -> Labels:
    """Give numbers, 1 to n, to all that own anything, in the smallest dtype that holds n."""
    used = np.zeros(len(owner), bool)
    used[owner] = True
    used[0] = False
    numbers = np.cumsum(used)
    numbers[0] = 0
    dtype = np.uint16 if numbers[-1] <= MAX_UINT16 else np.uint32
    lut: Labels = numbers[owner].astype(dtype)  # type: ignore[assignment]
    return lut


def spanning_tree(
    saddles: NDArray[np.int64], peaks: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Give links and depths of a `FragmentTable`: Kruskal's algorithm, from the highest saddle."""
    top = peaks.tolist()
    sides = Groups([0.0] * len(top))
    links, depths = [], []
    for i, j, saddle in saddles[np.argsort(-saddles[:, 2], kind="stable")].tolist():
        a, b = sides.find(i), sides.find(j)
        if a == b:
            continue
        if top[a] < top[b]:
            a, b = b, a
        links.append((i, j))
        depths.append(max(0, top[b] - saddle))
        sides.join(a, b)
    return np.array(links, np.int32).reshape(-1, 2), np.array(depths, np.uint8)
