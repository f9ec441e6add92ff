"""Learn from masks which touching parts are one cell: the weights of a `MergeRule`.

A logistic model of seven weights, fitted in a fraction of a second. What a
wrong answer costs there is what it costs in the score of the cells: to join two cells that were
each found costs both, and a chip that stays beside its cell is one more that is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from napari_unet_cells.core.fragment_blocks import Piece, cut_blocks, separate_block
from napari_unet_cells.core.fragment_table import spanning_tree
from napari_unet_cells.core.instance_options import WEIGHTS, InstanceOptions, MergeRule
from napari_unet_cells.core.merging import Parts, parts_of

#: Depth up to which fragments are one part; of those that were tried, 16 to 56 in 1/255, the one
#: with which held-out training images scored best.
CERTAIN = 36 / 255

#: The rule by depth alone, as odds: even where the valley is a quarter of the height deep. It is
#: as right in kinds of image that nothing was learned from, so a share of it is added.
BY_DEPTH = MergeRule(CERTAIN, 4.0, -16.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SHARE = 0.25

#: What the data weigh against a prior whose weights, of measures of unit variance, may differ by
#: 1: one that knows nothing, and the rule of a base. The pairs of a user's regions are of the very
#: kind of image that is to be separated, so they weigh more.
DATA, DATA_OF_REGIONS = 0.1, 0.5

#: In the score of cells: a cell that is found at IoU 0.5 and at 0.75, and one that is predicted.
FOUND, OUTLINED, PREDICTED = 1.44, 0.36, -0.8

#: The least that a pair weighs, of parts of two cells and of others, and the most that it gains.
OF_CELLS, OF_OTHERS, MOST = 0.5, 0.1, 2.0

#: What holds the constant, so that it has an optimum whatever the answers are.
CONSTANT_HELD = 1e-3


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of touching parts with what a mask says of them.

    Attributes
    ----------
    measures : float64 array, (len(WEIGHTS), m)
        See `merging.Parts`.
    one : bool array, (m,)
        They are one cell.
    costs : float64 array, (m,)
        Of the wrong answer.
    """

    measures: NDArray[np.float64]
    one: NDArray[np.bool_]
    costs: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.uint8],
        truth: NDArray[np.integer[Any]],
        options: InstanceOptions,
        certain: float = CERTAIN,
    ) -> Pairs:
        """Measure the pairs of an image, and look them up in its mask.

        Parameters
        ----------
        probabilities : uint8 array, (2 or 3, y, x)
            As `instances.oversegment` takes them.
        truth : integer array, (y, x)
            Instance labels; 0 is background.
        options : InstanceOptions
            How fragments are made, and which cells are dropped.
        certain : float
            See `MergeRule`.
        """
        (block,) = cut_blocks((truth.shape[0], truth.shape[1]))
        found = separate_block(probabilities, block, options)
        assert found is not None  # a plane has no open side
        numbers, piece = found
        areas = np.append(0, piece.areas)
        peaks = np.append(np.uint8(0), piece.peaks)
        tree, depths = spanning_tree(piece.saddles, peaks)
        certain_links = tree[depths <= round(certain * 255)]
        parts = parts_of(piece.saddles, piece.contacts, (areas, peaks), certain_links)
        return cls(parts.measures, *_Truth.of(numbers, piece, parts, truth).answers(parts, options))

    @classmethod
    def joined(cls, many: Sequence[Pairs]) -> Pairs:
        """Put the pairs of several images together."""
        return cls(
            np.concatenate([np.zeros((len(WEIGHTS), 0)), *(one.measures for one in many)], axis=1),
            np.concatenate([np.zeros(0, bool), *(one.one for one in many)]),
            np.concatenate([np.zeros(0), *(one.costs for one in many)]),
        )


@dataclass(frozen=True, eq=False)
class _Truth:
    """Parts and the true cells that they share pixels with."""

    shared: csr_array
    sizes: NDArray[np.intp]
    areas: NDArray[np.float64]
    sums: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        numbers: NDArray[np.int32],
        piece: Piece,
        parts: Parts,
        truth: NDArray[np.integer[Any]],
    ) -> _Truth:
        inside = (numbers > 0) & (numbers <= piece.n)
        sizes = np.bincount(truth.ravel())
        rows, columns = parts.part[numbers[inside]], truth[inside]
        shape = (piece.n + 1, len(sizes))
        shared = csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)
        shared.sum_duplicates()
        areas, sums = (
            np.bincount(parts.part, np.append(0, values), piece.n + 1).astype(float)
            for values in (piece.areas, piece.sums)
        )
        return cls(shared, sizes, areas, sums)

    def answers(
        self, parts: Parts, options: InstanceOptions
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Say which pairs are one cell, and what it costs to be wrong."""
        one, other = parts.part[parts.pairs].T
        owner = self._owners()
        of_two_cells = (owner[one] > 0) & (owner[other] > 0)
        alone = self._worth(one, options, None) + self._worth(other, options, None)
        gain = self._worth(one, options, other) - alone
        weight = np.minimum(np.abs(gain), MOST)
        answer = np.where(of_two_cells, owner[one] == owner[other], gain > -0.01)
        agreed = (gain > 0) == answer
        costs = np.where(of_two_cells, OF_CELLS + weight * agreed, OF_OTHERS + weight)
        return answer, costs

    def _owners(self) -> NDArray[np.intp]:
        """Give each part the label that most of its pixels have; of equal ones a cell's."""
        shared = self.shared.tocoo()
        order = np.lexsort((shared.col > 0, shared.data))
        owners = np.zeros(self.shared.shape[0], np.intp)
        owners[shared.row[order]] = shared.col[order]  # of several, what is written last stays
        return owners

    def _worth(
        self,
        one: NDArray[np.intp],
        options: InstanceOptions,
        other: NDArray[np.intp] | None,
    ) -> NDArray[np.float64]:
        """Give what parts, or pairs of them, add to the score as cells."""
        shared, areas, sums = self.shared[one], self.areas[one], self.sums[one]
        if other is not None:
            shared = shared + self.shared[other]
            areas, sums = areas + self.areas[other], sums + self.sums[other]
        each = shared.tocoo()
        iou = each.data / (areas[each.row] + self.sizes[each.col] - each.data)
        good = (FOUND * (iou >= 0.5) + OUTLINED * (iou >= 0.75)) * (each.col > 0)
        worth = PREDICTED + np.bincount(each.row, good, len(one))
        kept = (areas >= options.min_size) & (sums >= options.min_probability * 255 * areas)
        return np.asarray(worth * kept, np.float64)


def fit_merge(kinds: Sequence[Pairs], prior: MergeRule | None = None) -> MergeRule | None:
    """Fit the weights.

    Parameters
    ----------
    kinds : sequence of Pairs
        One for each kind of image; four times the pairs have twice the say.
    prior : MergeRule, optional
        Weights that these are near where the data say little, and where the parts were certain in
        the same way. Without, they are near 0, and the rule by depth has its `SHARE`.

    Returns
    -------
    MergeRule or None
        None where there are no pairs, or these all are one cell, or none is.
    """
    pairs = Pairs.joined(kinds)
    if pairs.one.all() or not pairs.one.any():
        return None
    costs = np.concatenate([k.costs / np.sqrt(max(k.costs.sum(), 1e-9)) for k in kinds])
    costs /= costs.mean()
    constant, *others = pairs.measures
    values = np.array(others)
    mean, spread = values.mean(axis=1), np.maximum(values.std(axis=1), 0.01)
    x = np.vstack([constant, (values - mean[:, None]) / spread[:, None]])
    start, data = np.zeros(len(WEIGHTS)), DATA
    if prior is not None:
        data = DATA_OF_REGIONS
        start[1:] = np.array([getattr(prior, name) for name in WEIGHTS[1:]]) * spread
        start[0] = prior.constant + float(start[1:] @ (mean / spread))
    weights = _logistic(x, pairs.one, data * costs, start)
    slopes = weights[1:] / spread
    found = dict(zip(WEIGHTS, [weights[0] - slopes @ mean, *slopes], strict=True))
    if prior is not None:
        return replace(prior, **{name: float(value) for name, value in found.items()})
    more = {name: float(found[name] + SHARE * getattr(BY_DEPTH, name)) for name in WEIGHTS}
    return MergeRule(CERTAIN, **more)


def _logistic(
    x: NDArray[np.float64],
    answers: NDArray[np.bool_],
    costs: NDArray[np.float64],
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Minimise the costs, near `start` but for the constant (the first)."""
    held = np.append(CONSTANT_HELD, np.ones(len(start) - 1))

    def cost(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds, away = weights @ x, weights - start
        wrong = np.where(answers, np.logaddexp(0, -odds), np.logaddexp(0, odds))
        slope = held * away + x @ (costs * (expit(odds) - answers))
        return float((held * away**2).sum() / 2 + (costs * wrong).sum()), slope

    found: NDArray[np.float64] = minimize(cost, start, jac=True, method="L-BFGS-B").x
    return found
