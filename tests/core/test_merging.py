"""Pairs of touching parts: what is measured of them, and what a rule makes of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core import merging
from napari_unet_cells.core.fragment_blocks import levels
from napari_unet_cells.core.instance_options import MAX_WEIGHT, WEIGHTS, MergeRule
from napari_unet_cells.core.instances import InstanceOptions, label_cells, oversegment

NOTHING = MergeRule(0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

#: Every measure counts, none for so much that probabilities are rounded to 0 or 1.
EACH = MergeRule(0.14, 0.3, -3.0, 1.5, 2.0, 0.4, -0.3, 0.2)


def landscape(seed: int, width: float) -> NDArray[np.uint8]:
    """Hills with probabilities that have little to do with them."""
    rng = np.random.default_rng(seed)
    planes = [ndimage.gaussian_filter(rng.random((40, 45)), width) for _ in range(3)]
    cell, boundary, height = ((p - p.min()) / np.ptp(p) for p in planes)
    share = np.stack([0.6 * cell + 0.1, 0.3 * boundary, height])
    return np.rint(255 * share).astype(np.uint8)


def of_pairs(
    probabilities: NDArray[np.uint8], options: InstanceOptions, rule: MergeRule
) -> dict[tuple[int, int], float]:
    """Score pairs of parts pixel by pixel; these are numbered as cells by depth alone are."""
    height = levels(probabilities, options).astype(int)
    by_depth = replace(options, split=1 - rule.certain, merge=None)
    part = label_cells(probabilities, by_depth).astype(int)
    seen: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for y, x in np.ndindex(*part.shape):
        for there in ((y, x + 1), (y + 1, x)):
            if there[0] == part.shape[0] or there[1] == part.shape[1]:
                continue
            low, high = sorted((int(part[y, x]), int(part[there])))
            if 0 < low < high:
                both = [(y, x), there]
                cell, boundary = ([int(p[at]) for at in both] for p in probabilities[:2])
                saddle = min(int(height[at]) for at in both)
                seen.setdefault((low, high), []).append((saddle, max(boundary), min(cell)))
    scores = {}
    for (low, high), border in seen.items():
        areas = sorted(int((part == i).sum()) for i in (low, high))
        peak = min(int(height[part == i].max()) for i in (low, high))
        saddle, boundary, cell = np.array(border).T
        scores[low, high] = (
            rule.constant
            + rule.depth * (peak - saddle.max()) / 255
            + rule.boundary * boundary.mean() / 255
            + rule.cell * cell.mean() / 255
            + rule.contact * len(border) / math.sqrt(areas[0])
            + rule.smaller * math.log(areas[0])
            + rule.larger * math.log(areas[1])
        )
    return scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 3.0]), st.sampled_from([0.0, 0.14, 0.4]))
def test_a_score_is_what_the_pixels_of_two_parts_say(
    seed: int, width: float, certain: float
) -> None:
    plane = landscape(seed, width)
    options = InstanceOptions(smoothing=0.0, min_size=0, fill_holes=False)
    rule = replace(EACH, certain=certain)
    expected = of_pairs(plane, options, rule)
    fragments = oversegment(plane, replace(options, merge=rule))
    by_depth = replace(options, split=1 - certain)
    part = oversegment(plane, options).lut(by_depth)
    links, found = part[fragments.links], {}
    for (one, other), depth in zip(links.tolist(), fragments.depths.tolist(), strict=True):
        if one != other:
            key = min(one, other), max(one, other)
            assert key not in found
            found[key] = depth
        else:
            assert depth <= round(certain * 255)
    assert found.keys() == expected.keys()
    for key, score in expected.items():
        # One is three times as likely beforehand, so that a score of 0 is cut at 0.75.
        two = 1 / (1 + 3 * math.exp(score))
        assert found[key] == pytest.approx(min(max(255 * two, 1), 254), abs=0.51)


def two_squares(boundary: int, height: int) -> NDArray[np.uint8]:
    """Two cells that touch along a line of some probability of "boundary" and some height."""
    plane = np.zeros((3, 30, 50), np.uint8)
    plane[0, 5:25, 5:45] = 250
    plane[2, 5:25, 5:45] = 200
    plane[0, 5:25, 24:26] = 250 - boundary
    plane[1, 5:25, 24:26] = boundary
    plane[2, 5:25, 24:26] = height
    return plane


def test_what_lies_between_may_say_more_than_the_valley() -> None:
    by_boundary = replace(NOTHING, constant=4.0, boundary=-10.0)
    options = InstanceOptions(smoothing=0.0, split=0.75)
    deep, shallow = two_squares(20, 100), two_squares(200, 150)
    assert label_cells(deep, options).max() == 2
    assert label_cells(shallow, options).max() == 1
    assert label_cells(deep, replace(options, merge=by_boundary)).max() == 1
    assert label_cells(shallow, replace(options, merge=by_boundary)).max() == 2


def test_what_is_certain_is_not_asked_for() -> None:
    never = replace(NOTHING, constant=-20.0)
    options = InstanceOptions(smoothing=0.0, split=0.75, merge=never)
    plane = two_squares(0, 180)  # a valley of 20 / 255 = 0.08
    assert label_cells(plane, options).max() == 1
    assert label_cells(plane, replace(options, merge=replace(never, certain=0.05))).max() == 2


def test_the_split_asks_for_odds() -> None:
    plane = two_squares(100, 100)
    for score in (-3.0, -1.0, 0.0, 1.0, 3.0):
        options = InstanceOptions(smoothing=0.0, merge=replace(NOTHING, constant=score))
        fragments = oversegment(plane, options)
        two = 1 / (1 + 3 * math.exp(score))
        for split in (0.0, 0.25, 0.5, 0.74, 0.76, 0.9, 1.0):
            n = fragments.cells(replace(options, split=split)).max()
            assert n == (1 if 1 - split > two else 2)


@pytest.mark.parametrize("name", ["certain", "constant", "depth", "larger"])
@pytest.mark.parametrize("value", [-1001.0, 1001.0, math.nan])
def test_weights_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must lie .*, not {value}"):
        replace(NOTHING, **{name: value})


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.5, 2.0])
def test_a_rule_judges_the_same_cells_alike_where_they_are_seen_larger(zoom: float) -> None:
    rng = np.random.default_rng(0)
    measures = rng.random((len(WEIGHTS), 20))
    measures[WEIGHTS.index("constant")] = 1
    larger = measures.copy()
    for name in ("smaller", "larger"):  # logarithms of areas
        larger[WEIGHTS.index(name)] += np.log(zoom**2)
    judged = merging.score(larger, EACH.zoomed(zoom))
    np.testing.assert_allclose(judged, merging.score(measures, EACH))
    options = InstanceOptions(min_size=20, merge=EACH)
    assert options.zoomed(zoom) == replace(
        options, min_size=round(20 * zoom**2), merge=EACH.zoomed(zoom)
    )
    assert InstanceOptions(min_size=20).zoomed(zoom).merge is None


def test_the_weight_of_a_rule_stays_one_that_a_card_may_hold() -> None:
    rule = replace(EACH, constant=-MAX_WEIGHT, smaller=MAX_WEIGHT)
    assert rule.zoomed(2.0).constant == -MAX_WEIGHT
    assert replace(rule, constant=MAX_WEIGHT).zoomed(0.5).constant == MAX_WEIGHT
