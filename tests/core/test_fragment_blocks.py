"""Fragments block by block: the same as in one piece, whatever lies on the faces."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.fragment_blocks import (
    Block,
    Piece,
    cut_blocks,
    levels,
    separate_block,
)
from napari_unet_cells.core.fragment_table import FragmentTable
from napari_unet_cells.core.instance_options import MergeRule
from napari_unet_cells.core.instances import InstanceOptions, label_cells, oversegment
from napari_unet_cells.core.joined_fragments import joined
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import BOUNDARY, annotate, boundary_classes
from napari_unet_cells.training.synthetic.simulate import simulate


def by_blocks(
    probabilities: NDArray[np.uint8],
    options: InstanceOptions,
    rows: list[int],
    columns: list[int],
) -> tuple[NDArray[np.int32], FragmentTable]:
    """Separate a plane block by block, and put the pixels together."""
    shape = (probabilities.shape[1], probabilities.shape[2])
    found = [surely(probabilities, block, options) for block in cut_blocks(shape, rows, columns)]
    table, luts = joined([piece for _, piece in found], options)
    return put_together(found, luts, shape), table


def surely(
    probabilities: NDArray[np.uint8], block: Block, options: InstanceOptions
) -> tuple[NDArray[np.int32], Piece]:
    """Separate a block with the narrowest margin that does."""
    for margin in (2, 5, 16, 64, 500):
        window = block.window(options, margin)
        found = separate_block(probabilities[(slice(None), *window)], block, options, margin)
        if found is not None:
            return found
    raise AssertionError("the whole plane is always sure")


def put_together(
    found: list[tuple[NDArray[np.int32], Piece]],
    luts: list[NDArray[np.int32]],
    shape: tuple[int, int],
) -> NDArray[np.int32]:
    base = np.zeros(shape, np.int32)
    for (numbers, piece), lut in zip(found, luts, strict=True):
        y, x = (part.stop - part.start for part in piece.block.core)
        base[piece.block.core] = lut[numbers[:y, :x]]
    return base


def assert_the_same(
    probabilities: NDArray[np.uint8],
    options: InstanceOptions,
    rows: list[int],
    columns: list[int],
) -> None:
    base, table = by_blocks(probabilities, options, rows, columns)
    whole = oversegment(probabilities, options)
    np.testing.assert_array_equal(base, whole.base)
    for field in fields(FragmentTable):
        one, other = getattr(table, field.name), getattr(whole, field.name)
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def landscape(seed: int, shape: tuple[int, int], width: float, cover: float) -> NDArray[np.uint8]:
    """Hills as wide as `width`, of which `cover` is above the sea, with lakes and ridges."""
    rng = np.random.default_rng(seed)
    hills = ndimage.gaussian_filter(rng.random(shape), width)
    height = np.clip((hills - np.quantile(hills, 1 - cover)) / np.ptp(hills) + 0.5, 0, 1)
    lakes = ndimage.gaussian_filter(rng.random(shape), width / 2)
    height[lakes > np.quantile(lakes, 0.97)] = 0
    cell = np.rint(255 * height).astype(np.uint8)
    return np.stack([cell, np.where(height > 0.5, 255 - cell, 0).astype(np.uint8), cell])


#: Rules to merge by; the second weighs all that there is, whatever it means.
RULES = (
    MergeRule(0.14, -0.2, -8.6, 1.9, 8.2, -0.13, -0.89, 0.6),
    MergeRule(0.0, 0.5, -20.0, -3.0, 5.0, 2.0, -1.0, 1.0),
)

CUTS = st.lists(st.integers(1, 89), max_size=2, unique=True).map(sorted)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    CUTS,
    CUTS,
    st.sampled_from([1.0, 2.0, 4.0, 9.0]),
    st.sampled_from([0.02, 0.2, 0.6, 0.95]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, *RULES]),
)
def test_blocks_give_the_fragments_of_the_whole_plane(
    seed: int,
    rows: list[int],
    columns: list[int],
    width: float,
    cover: float,
    smoothing: float,
    merge: MergeRule | None,
) -> None:
    plane = landscape(seed, (90, 90), width, cover)
    assert_the_same(plane, InstanceOptions(smoothing=smoothing, merge=merge), rows, columns)


def test_a_cell_wider_than_many_blocks_and_its_hole_are_one() -> None:
    y, x = np.mgrid[:200, :200]
    far = np.hypot(y - 100, x - 100)
    ring = np.where((far < 95) & (far > 20), 220, 0).astype(np.uint8)
    plane = np.stack([ring, np.zeros_like(ring)])
    options = InstanceOptions(split=0.0)
    assert_the_same(plane, options, [50, 90, 130], [40, 99, 101, 160])
    base, table = by_blocks(plane, options, [50, 90, 130], [40, 99, 101, 160])
    assert table.n_holes == 1
    cells = table.lut(options)[base]
    assert cells.max() == 1
    assert cells[100, 100] == 1  # the hole is filled
    np.testing.assert_array_equal(cells > 0, far < 95)


def test_a_hole_is_found_where_no_background_reaches_the_border() -> None:
    plane = np.full((2, 90, 90), 120, np.uint8)
    plane[:, 30:60, 20:70] = 0
    assert_the_same(plane, InstanceOptions(), [], [])
    assert_the_same(plane, InstanceOptions(), [40], [30, 50])
    base, table = by_blocks(plane, InstanceOptions(), [40, 45], [30, 50])
    assert table.n_holes == 1
    assert (base[30:60, 20:70] == table.n_fragments + 1).all()


def test_a_plane_that_is_all_cell_is_one_cell_in_blocks_too() -> None:
    plane = np.full((2, 150, 150), 255, np.uint8)
    base, table = by_blocks(plane, InstanceOptions(), [20, 75], [75, 149])
    assert table.n_fragments == 1
    assert (base == 1).all()
    assert table.areas[1] == 150 * 150
    assert table.at_border[1]


def plateaus(seed: int, shape: tuple[int, int], kind: str) -> NDArray[np.uint8]:
    """Planes on which most pixels are as high as their neighbours."""
    rng = np.random.default_rng(seed)
    cell, boundary = np.full(shape, 250, np.uint8), np.zeros(shape, np.uint8)
    if kind == "steps":  # few levels
        plane = landscape(seed, shape, rng.choice([2.0, 5.0, 9.0]), rng.uniform(0.2, 0.9))
        return plane // 50 * 50
    if kind == "noise":
        return rng.choice(np.array([0, 40, 60, 200], np.uint8), (3, *shape))
    depth = np.zeros(shape)  # 0 but for some peaks
    for y, x in rng.integers(0, shape, (rng.integers(2, 25), 2)):
        depth[y, x] = rng.integers(2_000, 20_000)
    depth = ndimage.gaussian_filter(depth, rng.uniform(1, 5))
    if kind == "lakes":
        cell[landscape(seed, shape, 5.0, 0.7)[0] < 128] = 0
    if kind == "saturated":
        depth = np.where(depth > np.quantile(depth, 0.7), 255, depth)
    return np.stack([cell, boundary, np.clip(depth, 0, 255).astype(np.uint8)])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    CUTS,
    CUTS,
    st.sampled_from(["steps", "noise", "sheet", "lakes", "saturated"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.3, 0.7, 0.8, 0.9]),
)
def test_wide_plateaus_are_divided_as_in_one_piece(
    seed: int, rows: list[int], columns: list[int], kind: str, smoothing: float, split: float
) -> None:
    plane = plateaus(seed, (90, 90), kind)
    options = InstanceOptions(smoothing=smoothing, split=split)
    assert_the_same(plane, options, rows, columns)
    base, table = by_blocks(plane, options, rows, columns)
    np.testing.assert_array_equal(table.lut(options)[base], label_cells(plane, options))


def test_a_block_through_which_a_plateau_reaches_is_unsure() -> None:
    plane = np.full((2, 100, 100), 200, np.uint8)
    block = next(iter(cut_blocks((100, 100), [50])))
    for margin, is_sure in ((2, False), (40, False), (50, True)):
        window = block.window(InstanceOptions(), margin)
        part = plane[(slice(None), *window)]
        assert (separate_block(part, block, InstanceOptions(), margin) is not None) == is_sure
    window = block.window(InstanceOptions(), 2)
    part = plane[(slice(None), *window)]
    assert separate_block(part, block, InstanceOptions(), 2, decide=True) is not None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["steps", "noise", "sheet", "lakes", "saturated"]))
def test_plateaus_that_are_decided_by_what_is_seen_cut_no_cell_apart(seed: int, kind: str) -> None:
    plane, shape = plateaus(seed, (130, 130), kind), (130, 130)
    options = InstanceOptions(smoothing=0.0, split=0.0, min_size=0, fill_holes=False)
    found = []
    for block in cut_blocks(shape, [31, 64, 100], [50, 51, 52]):
        part = plane[(slice(None), *block.window(options, 2))]
        piece = separate_block(part, block, options, 2, decide=True)
        assert piece is not None
        found.append(piece)
    table, luts = joined([piece for _, piece in found], options)
    base = put_together(found, luts, shape)
    foreground = levels(plane, options) > 0
    assert ((base > 0) & (base <= table.n_fragments) == foreground).all()
    np.testing.assert_array_equal(table.lut(options)[base], ndimage.label(foreground)[0])
    assert (table.depths >= 0).all()
    table.lut(InstanceOptions(smoothing=0.0, split=0.8))


def drawn(kind: str, seed: int) -> NDArray[np.uint8]:
    """Probabilities of a simulated plane, as a good network would give them, and noise."""
    if kind == "nuclei":
        density = np.random.default_rng(seed).uniform(0.05, 0.6)
        mask: NDArray[Any] = simulate_nuclei((300, 300), seed=seed, density=density)[1]
    else:
        mask = simulate(np.random.default_rng(seed), 300, (kind,), (8.0, 60.0))[1]
    distance = annotate(np.zeros((300, 300), np.float32), mask.astype(np.int32)).distance
    assert distance is not None
    edges = boundary_classes(mask.astype(np.int32)) == BOUNDARY
    boundary = ndimage.gaussian_filter(np.where(edges, 0.8, 0.0), 0.7)
    cell = np.where(mask > 0, 0.97 - boundary, 0.05)
    noise = np.random.default_rng(seed + 1).normal(0, 0.02, mask.shape)
    depth = ndimage.gaussian_filter(distance / 255, 1.0) + noise
    return np.rint(255 * np.clip(np.stack([cell, boundary, depth]), 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["nuclei", "round", "rods", "colonies", "spread", "sheet"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_cells_of_all_densities_are_the_same_in_blocks(kind: str, seed: int) -> None:
    plane = drawn(kind, seed)
    options = InstanceOptions(min_size=6, min_probability=0.5)
    base, table = by_blocks(plane, options, [90, 201], [77, 160, 222])
    np.testing.assert_array_equal(table.lut(options)[base], label_cells(plane, options))
    assert table.n_fragments > 0
