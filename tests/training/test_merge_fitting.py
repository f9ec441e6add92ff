"""Weights of a rule to merge by, learned from pairs of parts whose answers are known."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.instance_options import WEIGHTS, InstanceOptions, MergeRule
from napari_unet_cells.core.instances import label_cells
from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.training.merge_fitting import CERTAIN, Pairs, fit_merge

OPTIONS = InstanceOptions(smoothing=0.0, min_size=6)

Example = tuple[NDArray[np.uint8], NDArray[np.int32]]


def example(rng: np.random.Generator) -> Example:
    """Draw touching squares, of which the boundary and not the valley says which are one cell."""
    plane, truth = np.zeros((3, 40, 130), np.uint8), np.zeros((40, 130), np.int32)
    for number in range(3):
        left, is_one = 2 + 42 * number, rng.random() < 0.5
        between = slice(left + 23, left + 25)
        boundary = int(rng.integers(0, 50) if is_one else rng.integers(110, 200))
        inside = slice(10, 30), slice(left, left + 40)
        plane[(0, *inside)], plane[(2, *inside)] = 250, 220
        plane[0, 10:30, between], plane[1, 10:30, between] = 250 - boundary, boundary
        plane[2, 10:30, between] = rng.integers(60, 160)
        truth[inside] = 2 * number + 1
        if not is_one:
            truth[10:30, left + 24 : left + 40] = 2 * number + 2
    return plane, truth


def examples(seed: int, n: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [example(rng) for _ in range(n)]


def pairs_of(images: list[Example]) -> Pairs:
    return Pairs.joined([Pairs.of(plane, truth, OPTIONS) for plane, truth in images])


def ap50(images: list[Example], options: InstanceOptions) -> float:
    return summarize(compare(truth, label_cells(plane, options)) for plane, truth in images).ap50


def test_a_rule_is_learned_that_the_depth_cannot_give() -> None:
    seen, others = examples(0, 40), examples(1, 20)
    rule = fit_merge([pairs_of(seen)])
    assert rule is not None
    assert rule.boundary - rule.cell < 0
    by_depth = max(ap50(others, replace(OPTIONS, split=s / 20)) for s in range(21))
    assert ap50(others, replace(OPTIONS, split=0.75, merge=rule)) > 0.95 > by_depth + 0.1


def test_the_mask_says_what_is_one_and_what_it_costs() -> None:
    rng = np.random.default_rng(3)
    plane, truth = example(rng)
    pairs = Pairs.of(plane, truth, OPTIONS)
    assert pairs.measures.shape == (len(WEIGHTS), 3)
    halves = [truth[20, 2 + 42 * i + 5] == truth[20, 2 + 42 * i + 35] for i in range(3)]
    assert sorted(pairs.one.tolist()) == sorted(halves)
    assert (pairs.costs > 1).all()  # each is worth a cell or more
    nothing = Pairs.of(plane, np.zeros_like(truth), OPTIONS)
    assert nothing.one.all()  # two that are none are better one


def test_a_chip_of_background_is_better_a_part_of_its_cell() -> None:
    plane, truth = example(np.random.default_rng(0))
    truth[:] = 0
    truth[10:30, 2:26] = 1
    plane[:, :, 44:] = 0
    plane[:, :, 30:] = 0  # four columns beyond the line between them
    pairs = Pairs.of(plane, truth, OPTIONS)
    assert pairs.one.tolist() == [True]
    plane, _ = example(np.random.default_rng(0))
    plane[:, :, 44:] = 0
    truth[:, 18:] = 0
    assert Pairs.of(plane, truth, OPTIONS).one.tolist() == [False]  # larger than the cell


def test_nothing_is_learned_where_nothing_differs() -> None:
    pairs = pairs_of(examples(0, 5))
    assert fit_merge([]) is None
    for answer in (True, False):
        alike = replace(pairs, one=np.full(len(pairs.one), answer))
        assert fit_merge([alike]) is None


def test_a_few_pairs_leave_a_rule_near_that_of_before() -> None:
    before = MergeRule(0.1, -1.0, -8.0, -6.0, 3.0, 0.1, -0.9, 0.6)
    few, many = (fit_merge([pairs_of(examples(5, n))], before) for n in (2, 40))
    assert few is not None
    assert many is not None
    assert few.certain == many.certain == before.certain

    def away(rule: MergeRule) -> float:
        return abs(rule.boundary - before.boundary) + abs(rule.cell - before.cell)

    assert 0 < away(few) < away(many)
    assert all(np.isfinite(astuple(few)))


def test_a_rule_that_is_wrong_here_is_put_right_by_some_regions() -> None:
    too_ready = MergeRule(CERTAIN, 4.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    rule = fit_merge([pairs_of(examples(0, 20))], too_ready)
    assert rule is not None
    others = examples(1, 20)
    wrong, right = (ap50(others, replace(OPTIONS, split=0.75, merge=r)) for r in (too_ready, rule))
    assert right > 0.9 > wrong + 0.1


def test_kinds_with_many_pairs_do_not_drown_the_others() -> None:
    few, many = pairs_of(examples(0, 4)), pairs_of(examples(1, 64))
    reversed_ = replace(few, one=~few.one)
    together = fit_merge([many, reversed_])
    alone = fit_merge([Pairs.joined([many, reversed_])])
    assert together is not None
    assert alone is not None
    # What the small kind says against the large one counts for more where it is one of its own.
    assert together.cell - together.boundary < alone.cell - alone.boundary
    assert pytest.approx(together.certain) == alone.certain
