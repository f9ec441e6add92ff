"""Score pairs of touching parts of a plane: how likely the two are one cell, as was learned.

::

    fragments --- valleys up to `MergeRule.certain` ignored ---> parts ---> a score for each pair

A part is exactly what a cell would be if that depth alone decided, and the score of a pair reads
these two and their common border only. So it is the same in blocks as in one piece, and in any
window in which both are whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.fragment_table import smallest_connected
from napari_unet_cells.core.instance_options import WEIGHTS, MergeRule

#: Odds for one cell before anything is measured: a score of 0 is cut by a `split` of 0.75, where
#: models are cut whose valleys are measured by their depth.
ODDS = 3.0

_FURTHEST = 30.0  # beyond such a score the odds hardly change, and do not overflow


class Contacts(NamedTuple):
    """Common borders of pairs, and what lies along them; each is an int64 array, (m,).

    Attributes
    ----------
    length : array
        Pairs of pixels that touch.
    boundary, cell : array
        Sums over these of the higher probability of "boundary", and of the lower of "cell", in
        1/255.
    """

    length: NDArray[np.int64]
    boundary: NDArray[np.int64]
    cell: NDArray[np.int64]

    @classmethod
    def nothing(cls, n: int) -> Contacts:
        """Give n pairs that do not touch."""
        return cls(*np.zeros((3, n), np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Contacts]) -> Contacts:
        """Put one after the other."""
        return cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def of(self, chosen: NDArray[np.bool_]) -> Contacts:
        """Give those that are chosen."""
        return Contacts(*(values[chosen] for values in self))


class Parts(NamedTuple):
    """Parts of a plane, and what a rule reads of each pair of them that touch.

    Attributes
    ----------
    part : int array, (n + 1,)
        Of each fragment: the smallest number of one of its fragments.
    pairs : int64 array, (m, 2)
        Two fragments of different parts: those that touch at the highest point of all fragments
        of these two.
    saddles : int64 array, (m,)
        That point, in 1/255.
    measures : float64 array, (len(WEIGHTS), m)
        What the weights of a rule are multiplied with, in their order.
    """

    part: NDArray[np.intp]
    pairs: NDArray[np.int64]
    saddles: NDArray[np.int64]
    measures: NDArray[np.float64]


def summed(saddles: NDArray[np.int64], pairs: NDArray[np.integer], contacts: Contacts) -> Contacts:
    """Add up the contacts of each pair.

    Parameters
    ----------
    saddles : int64 array, (m, 3)
        As `flooding.highest_of_pairs` gives them.
    pairs : integer array, (k, 2)
        Numbers, each pair one of `saddles`.
    contacts : Contacts
        Of these pairs.

    Returns
    -------
    Contacts
        Of the rows of `saddles`.
    """
    n = int(saddles[:, :2].max(initial=0)) + 1
    low, high = pairs.min(axis=1).astype(np.int64), pairs.max(axis=1)
    place = np.searchsorted(saddles[:, 0] * n + saddles[:, 1], low * n + high)
    return Contacts(*(_added(place, values, len(saddles)) for values in contacts))


def _added(place: NDArray[np.intp], values: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    # The sums are whole numbers, so they do not depend on the order.
    return np.bincount(place, values, n).astype(np.int64)


def parts_of(
    saddles: NDArray[np.int64],
    contacts: Contacts,
    fragments: tuple[NDArray[np.int64], NDArray[np.uint8]],
    certain_links: NDArray[np.int32],
) -> Parts:
    """Measure the pairs of parts.

    Parameters
    ----------
    saddles : int64 array, (m, 3)
        Pairs of touching fragments with the highest point of their border, rising.
    contacts : Contacts
        Of these pairs.
    fragments : (int64 array, uint8 array), (n + 1,)
        Area and peak of each fragment.
    certain_links : int32 array, (k, 2)
        Pairs of fragments that are of one part.
    """
    areas, peaks = fragments
    n = len(areas)
    part = smallest_connected(certain_links, n)
    area = np.bincount(part, areas, n)
    peak = np.zeros(n, np.int64)
    np.maximum.at(peak, part, peaks)
    both = part[saddles[:, :2]]
    rows = np.flatnonzero(both[:, 0] != both[:, 1])
    rows = rows[np.argsort(-saddles[rows, 2], kind="stable")]
    key = both[rows].min(axis=1).astype(np.int64) * n + both[rows].max(axis=1)
    _, first, pair = np.unique(key, return_index=True, return_inverse=True)
    along = (_added(pair, values[rows], len(first)) for values in contacts)
    length, boundary, cell = along
    highest = saddles[rows[first]]
    one, other = both[rows[first]].T
    small, large = np.minimum(area[one], area[other]), np.maximum(area[one], area[other])
    touching = np.maximum(length, 1)  # two that share a plateau of blocks may not
    measures = [
        np.ones(len(first)),
        (np.minimum(peak[one], peak[other]) - highest[:, 2]) / 255,
        boundary / touching / 255,
        cell / touching / 255,
        length / np.sqrt(small),
        np.log(small),
        np.log(large),
    ]
    return Parts(part, highest[:, :2], highest[:, 2], np.array(measures).reshape(len(WEIGHTS), -1))


def score(measures: NDArray[np.float64], rule: MergeRule) -> NDArray[np.float64]:
    """Give the logarithm of the odds that pairs are one cell, by `Parts.measures`."""
    total = np.zeros(measures.shape[1])
    for name, values in zip(WEIGHTS, measures, strict=True):  # in this order, whatever the machine
        total += getattr(rule, name) * values
    return total


def is_certain(depths: NDArray[np.uint8], rule: MergeRule) -> NDArray[np.bool_]:
    """Find the links that are not asked for their score."""
    certain: NDArray[np.bool_] = depths <= round(rule.certain * 255)
    return certain


def scored(
    saddles: NDArray[np.int64],
    contacts: Contacts,
    fragments: tuple[NDArray[np.int64], NDArray[np.uint8]],
    links: tuple[NDArray[np.int32], NDArray[np.uint8]],
    rule: MergeRule,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Give links of a `FragmentTable` that a rule measures.

    Parameters
    ----------
    saddles, contacts, fragments
        See `parts_of`.
    links : (int32 array, (k, 2), uint8 array, (k,))
        As `fragment_table.spanning_tree` gives them.
    rule : MergeRule

    Returns
    -------
    links : int32 array, (m, 2)
        Those within parts, and one for each pair of parts that touch, from the highest saddle to
        the lowest.
    depths : uint8 array, (m,)
        Depths of those within parts; of pairs of parts the probability that they are two cells, 1
        to 254, in 1/255, if one were `ODDS` times as likely beforehand.
    """
    tree, depths = links
    certain = is_certain(depths, rule)
    tree, depths = tree[certain], depths[certain]
    parts = parts_of(saddles, contacts, fragments, tree)
    odds = np.exp(-np.clip(score(parts.measures, rule), -_FURTHEST, _FURTHEST)) / ODDS
    two = np.clip(np.rint(255 * odds / (1 + odds)), 1, 254).astype(np.uint8)
    by_pair = np.array([len(fragments[0]), 1])
    place = np.searchsorted(saddles[:, :2] @ by_pair, tree.astype(np.int64) @ by_pair)
    height = np.concatenate([saddles[place, 2], parts.saddles])
    order = np.argsort(-height, kind="stable")
    both = np.concatenate([tree, parts.pairs.astype(np.int32)])
    return both[order], np.concatenate([depths, two])[order]
