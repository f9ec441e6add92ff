"""Cells of a window: those that are said to be sure are those of the plane in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instance_options import MergeRule
from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.window_cells import WindowCells, cells_of_window
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import BOUNDARY, annotate, boundary_classes
from napari_unet_cells.training.synthetic.simulate import simulate

Window = tuple[slice, slice]


def landscape(seed: int, shape: tuple[int, int], width: float, cover: float) -> NDArray[np.uint8]:
    """Hills as wide as `width`, of which `cover` is above the sea, with lakes in them."""
    rng = np.random.default_rng(seed)
    hills = ndimage.gaussian_filter(rng.random(shape), width)
    height = np.clip((hills - np.quantile(hills, 1 - cover)) / np.ptp(hills) + 0.5, 0, 1)
    lakes = ndimage.gaussian_filter(rng.random(shape), width / 2)
    height[lakes > np.quantile(lakes, 0.97)] = 0
    cell = np.rint(255 * height).astype(np.uint8)
    return np.stack([cell, np.where(height > 0.5, 255 - cell, 0).astype(np.uint8), cell])


def drawn(kind: str, seed: int, size: int = 300) -> NDArray[np.uint8]:
    """Probabilities of a simulated plane, as a good network would give them, and noise."""
    if kind == "nuclei":
        density = np.random.default_rng(seed).uniform(0.05, 0.6)
        mask = simulate_nuclei((size, size), seed=seed, density=density)[1].astype(np.int32)
    else:
        mask = simulate(np.random.default_rng(seed), size, (kind,), (8.0, 60.0))[1]
    distance = annotate(np.zeros((size, size), np.float32), mask).distance
    boundary = ndimage.gaussian_filter(np.where(boundary_classes(mask) == BOUNDARY, 0.8, 0.0), 0.7)
    cell = np.where(mask > 0, 0.97 - boundary, 0.05)
    noise = np.random.default_rng(seed + 1).normal(0, 0.02, mask.shape)
    depth = ndimage.gaussian_filter(distance / 255, 1.0) + noise
    return np.rint(255 * np.clip(np.stack([cell, boundary, depth]), 0, 1)).astype(np.uint8)


def assert_sure_cells_are_those_of_the_plane(
    found: WindowCells, window: Window, whole: NDArray[np.integer]
) -> int:
    """Compare them pixel by pixel, also beyond the window; give how many there are."""
    n = 0
    for cell in np.flatnonzero(found.is_sure)[1:]:
        mask = np.zeros(whole.shape, bool)
        mask[window] = found.labels == cell
        key = int(np.flatnonzero(mask)[0])
        assert found.keys[cell] == key
        np.testing.assert_array_equal(mask, whole == whole.flat[key])
        n += 1
    return n


#: Rules to merge by; the second weighs all that there is, whatever it means.
RULES = (
    MergeRule(0.14, -0.2, -8.6, 1.9, 8.2, -0.13, -0.89, 0.6),
    MergeRule(0.05, 0.5, -20.0, -3.0, 5.0, 2.0, -1.0, 1.0),
)

WINDOWS = st.tuples(
    st.integers(0, 40), st.integers(50, 90), st.integers(0, 40), st.integers(50, 90)
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    WINDOWS,
    st.sampled_from([1.0, 2.0, 4.0]),
    st.sampled_from([0.02, 0.2, 0.6, 0.95]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.3, 0.8, 0.95]),
    st.sampled_from([(0, 0.0), (12, 0.0), (6, 0.6)]),
    st.booleans(),
    st.sampled_from([None, *RULES]),
)
def test_sure_cells_are_those_of_the_plane(
    seed: int,
    window: tuple[int, int, int, int],
    width: float,
    cover: float,
    smoothing: float,
    split: float,
    least: tuple[int, float],
    drop_border: bool,
    merge: MergeRule | None,
) -> None:
    plane = landscape(seed, (90, 90), width, cover)
    options = InstanceOptions(
        smoothing=smoothing,
        split=split,
        min_size=least[0],
        min_probability=least[1],
        drop_border=drop_border,
        merge=merge,
    )
    part = slice(*window[:2]), slice(*window[2:])
    found = cells_of_window(plane[(slice(None), *part)], part, (90, 90), options)
    whole = label_cells(plane, options)
    assert_sure_cells_are_those_of_the_plane(found, part, whole)
    if found.core_is_sure:
        np.testing.assert_array_equal(found.labels > 0, whole[part] > 0)


@pytest.mark.parametrize("kind", ["nuclei", "round", "rods", "colonies", "spread", "sheet"])
@pytest.mark.parametrize("seed", [1, 2])
def test_cells_that_are_wide_of_the_rim_are_sure(kind: str, seed: int) -> None:
    plane = drawn(kind, seed)
    options = InstanceOptions(min_size=6, min_probability=0.5)
    window = slice(0, 260), slice(20, 300)
    found = cells_of_window(plane[(slice(None), *window)], window, (300, 300), options)
    whole = label_cells(plane, options)
    n = assert_sure_cells_are_those_of_the_plane(found, window, whole)
    assert n > 0
    # a cell, two neighbours, and the cell that the rim cuts
    boxes = ndimage.find_objects(whole)
    far = 4 * max(part.stop - part.start for box in boxes for part in box)
    inner = slice(0, max(0, 260 - far)), slice(min(280, far), 280)
    assert found.is_sure[found.labels[inner]].all()


def test_a_cell_that_reaches_the_rim_is_cut_and_unsure() -> None:
    plane = np.zeros((2, 60, 60), np.uint8)
    plane[0, 10:20, 5:50] = 255
    plane[0, 30:40, 5:15] = 255
    window = slice(0, 60), slice(0, 30)
    found = cells_of_window(
        plane[(slice(None), *window)], window, (60, 60), InstanceOptions(smoothing=0)
    )
    assert found.keys.tolist() == [-1, 10 * 60 + 5, 30 * 60 + 5]
    assert found.is_cut.tolist() == [False, True, False]
    assert found.is_sure.tolist() == [True, False, True]
    assert not found.core_is_sure
    core = slice(25, 60), slice(0, 20)
    again = cells_of_window(
        plane[(slice(None), *window)], window, (60, 60), InstanceOptions(smoothing=0), core
    )
    assert again.core_is_sure


def test_what_a_window_does_not_see_fills_no_hole() -> None:
    """A bay that the window closes is no hole: the plane goes on there."""
    plane = np.zeros((2, 60, 60), np.uint8)
    plane[0, 10:40, 5:40] = 255
    plane[0, 15:35, 20:40] = 0  # open to the right
    window = slice(0, 60), slice(0, 35)
    found = cells_of_window(
        plane[(slice(None), *window)], window, (60, 60), InstanceOptions(smoothing=0)
    )
    assert found.labels[25, 10] == 1
    assert found.labels[25, 30] == 0
