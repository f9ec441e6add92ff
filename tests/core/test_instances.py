"""From probabilities to cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import clear_border

from napari_unet_cells.core.fragment_blocks import levels
from napari_unet_cells.core.instance_options import MergeRule
from napari_unet_cells.core.instances import (
    InstanceOptions,
    Oversegmentation,
    label_cells,
    oversegment,
)
from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.core.smoothing import smooth
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.training.crops import BOUNDARY, CELL, boundary_classes


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def sure(labels: NDArray[Any], width: int = 1) -> NDArray[np.uint8]:
    """Probabilities of a network that is never wrong and never in doubt."""
    classes = boundary_classes(labels, width)
    return np.stack([classes == CELL, classes == BOUNDARY]).astype(np.uint8) * 255


def test_touching_discs_are_split_along_their_boundary() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[disc(labels.shape, (30, 25), 15)] = 1
    labels[disc(labels.shape, (30, 53), 14)] = 2
    assert ndimage.label(labels)[1] == 1  # one blob
    cells = label_cells(sure(labels))
    assert cells.max() == 2
    assert summarize([compare(labels, cells)]).ap75 == 1
    assert np.mean(cells == labels) > 0.99


def test_cells_without_boundary_between_them_are_one() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[disc(labels.shape, (30, 25), 15) | disc(labels.shape, (30, 50), 15)] = 1
    assert label_cells(sure(labels)).max() == 1


def test_a_higher_split_separates_more() -> None:
    waist = np.zeros((2, 40, 60), np.uint8)
    waist[0, 10:30, 5:55] = 230
    waist[0, 10:30, 27:33] = 200  # a valley of 30 / 255 = 0.118
    for split, n in ((0, 1), (0.8, 1), (0.87, 1), (0.89, 2), (1, 2)):
        assert label_cells(waist, InstanceOptions(split=split)).max() == n, split


def test_a_valley_is_as_deep_as_below_the_lower_of_its_peaks() -> None:
    """The bright cell swallows no dim one whose own valley is deep, and takes a shallow one."""
    rows = np.zeros((2, 20, 60), np.uint8)
    rows[0, 5:15, 5:20] = 250
    rows[0, 5:15, 20:25] = 40
    rows[0, 5:15, 25:40] = 120
    rows[0, 5:15, 40:45] = 90
    rows[0, 5:15, 45:55] = 110
    rows[1] = np.where(rows[0] > 0, 255 - rows[0], 0)
    cells = label_cells(rows, InstanceOptions(smoothing=0, split=0.8))
    assert [cells[10, x] for x in (10, 30, 50)] == [1, 2, 2]
    finest = label_cells(rows, InstanceOptions(smoothing=0, split=1))
    assert [finest[10, x] for x in (10, 30, 50)] == [1, 2, 3]


def test_cells_meet_in_the_middle_of_a_level_valley() -> None:
    valley = np.zeros((2, 11, 41), np.uint8)
    valley[0, :, :10] = valley[0, :, 31:] = 250
    valley[1, :, 10:31] = 255
    cells = label_cells(valley, InstanceOptions(smoothing=0))
    assert (cells[:, :20] == 1).all()
    assert (cells[:, 21:] == 2).all()


def test_holes_in_a_cell_are_filled() -> None:
    probabilities = np.zeros((2, 40, 40), np.uint8)
    probabilities[0, 5:35, 5:35] = 255
    probabilities[0, 15:20, 15:20] = 0
    cells = label_cells(probabilities)
    assert (cells[15:20, 15:20] == 1).all()
    assert np.count_nonzero(cells) == 900
    open_ = label_cells(probabilities, InstanceOptions(fill_holes=False))
    assert (open_[15:20, 15:20] == 0).any()


def test_a_bay_at_the_border_of_the_plane_is_not_a_hole() -> None:
    probabilities = np.zeros((2, 40, 40), np.uint8)
    probabilities[0, 0:30, 5:35] = 255
    probabilities[0, 0:10, 15:20] = 0
    assert (label_cells(probabilities)[2:8, 16:19] == 0).all()


def test_background_inside_a_ring_of_cells_stays_background() -> None:
    labels = np.zeros((80, 80), np.uint8)
    for i in range(8):
        angle = i * np.pi / 4
        at = (40 + 25 * np.sin(angle), 40 + 25 * np.cos(angle))
        labels[disc(labels.shape, at, 10.5) & (labels == 0)] = i + 1
    assert ndimage.label(labels == 0)[1] == 2  # the ring is closed
    cells = label_cells(sure(labels))
    assert cells.max() == 8
    assert cells[40, 40] == 0
    assert summarize([compare(labels, cells)]).iou > 0.99


def test_specks_are_dropped_and_ids_stay_consecutive() -> None:
    probabilities = np.zeros((2, 40, 100), np.uint8)
    for i, side in enumerate((6, 2, 3, 8, 1, 7)):
        probabilities[0, 10 : 10 + side, 15 * i : 15 * i + side] = 255
    cells = label_cells(probabilities)
    assert np.bincount(cells.ravel())[1:].tolist() == [36, 64, 49]
    everything = label_cells(probabilities, InstanceOptions(min_size=0))
    assert np.bincount(everything.ravel())[1:].tolist() == [36, 4, 9, 64, 1, 49]


def test_ids_rise_from_top_to_bottom_also_for_cells_that_are_all_boundary() -> None:
    probabilities = np.zeros((2, 60, 20), np.uint8)
    probabilities[0, 5:15, 5:15] = 255
    probabilities[1, 25:30, 5:10] = 255  # too small to have an inside
    probabilities[0, 40:50, 5:15] = 255
    cells = label_cells(probabilities)
    assert [cells[10, 10], cells[27, 7], cells[45, 10]] == [1, 2, 3]


def test_ids_of_more_cells_than_16_bits_hold_get_32() -> None:
    dots = np.zeros((2, 768, 771), np.uint8)
    for y in (0, 1):
        for x in (0, 1):
            dots[0, y::3, x::3] = 255
    options = InstanceOptions(min_size=1, smoothing=0)
    cells = label_cells(dots, options)
    assert cells.dtype == np.uint32
    assert cells.max() == 256 * 257 == len(np.unique(cells)) - 1
    fewer = label_cells(dots[:, :, : 255 * 3], options)
    assert fewer.dtype == np.uint16
    assert fewer.max() == 256 * 255


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 40), (40, 1), (64, 64)])
def test_nothing_gives_no_cells(shape: tuple[int, int]) -> None:
    cells = label_cells(np.zeros((2, *shape), np.uint8))
    assert cells.shape == shape
    assert cells.dtype == np.uint16
    assert not cells.any()


def test_a_single_pixel_may_be_a_cell() -> None:
    one = np.full((2, 1, 1), 200, np.uint8)
    assert label_cells(one, InstanceOptions(min_size=1)).tolist() == [[1]]
    assert label_cells(one, InstanceOptions(min_size=2)).tolist() == [[0]]


def test_a_plane_that_is_all_cell_is_one_cell() -> None:
    assert (label_cells(np.full((2, 30, 30), 255, np.uint8)) == 1).all()


@pytest.mark.parametrize(
    ("diameter", "n", "width"), [(14, 150, 1), (20, None, 1), (40, 40, 2), (60, 20, 2)]
)
def test_simulated_nuclei_are_recovered(diameter: float, n: int | None, width: int) -> None:
    _, truth = simulate_nuclei((512, 512), n=n, diameter=diameter, seed=4)
    assert ndimage.label(truth)[1] < truth.max()  # some of them touch
    probabilities = sure(truth, width)
    blurred = np.stack([ndimage.gaussian_filter(p, 0.6) for p in probabilities])
    for given_ in (probabilities, blurred):
        summary = summarize([compare(truth, label_cells(given_))])
        assert summary.ap50 > 0.95
        assert summary.iou > 0.95


@pytest.mark.parametrize("name", ["split", "min_probability"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_part_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1, not {value}"):
        InstanceOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("smoothing", [-1.0, 21.0, float("nan")])
def test_a_smoothing_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 20.0 pixels, not {smoothing}"):
        InstanceOptions(smoothing=smoothing)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 7.0])
def test_a_threshold_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"cell_threshold must lie between 0 and 1, not {value}"):
        InstanceOptions(cell_threshold=value)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 25), st.integers(1, 25))),
    st.integers(0, 8),
)
def test_whatever_the_network_says_the_labels_are_sound(
    probabilities: NDArray[np.uint8], min_size: int
) -> None:
    before = probabilities.copy()
    cells = label_cells(probabilities, InstanceOptions(min_size=min_size, smoothing=0.7))
    np.testing.assert_array_equal(probabilities, before)
    assert cells.shape == probabilities.shape[1:]
    ids, areas = np.unique(cells[cells > 0], return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (areas >= max(1, min_size)).all()
    for i in ids:
        assert ndimage.label(cells == i, np.ones((3, 3)))[1] == 1


def test_a_second_seed_in_a_textured_cell_leaves_no_hole() -> None:
    """A dark ring around a bright spot makes a fragment of its own, too small for a cell."""
    probabilities = np.zeros((2, 60, 60), np.uint8)
    probabilities[0, 5:55, 5:55] = 250
    probabilities[0, 28:33, 28:33] = 100
    probabilities[1, 28:33, 28:33] = 150
    probabilities[0, 29:32, 29:32] = 250
    options = InstanceOptions(smoothing=0.3, min_size=20)
    seeds, n = ndimage.label(probabilities[0] > 153)
    assert (n, np.bincount(seeds.ravel())[2]) == (2, 9)  # there is such a seed
    assert label_cells(probabilities, replace(options, min_size=0)).max() == 2
    labels = label_cells(probabilities, options)
    assert labels.max() == 1
    assert (labels[5:55, 5:55] == 1).all()


def test_a_doubted_part_within_a_cell_leaves_no_hole() -> None:
    probabilities = np.zeros((2, 7, 7), np.uint8)
    probabilities[0] = 240
    probabilities[0, 2:5, 2:5], probabilities[1, 2:5, 2:5] = 20, 130
    probabilities[0, 3, 3], probabilities[1, 3, 3] = 150, 0
    options = InstanceOptions(smoothing=0, min_size=0, split=1, min_probability=0.7)
    assert label_cells(probabilities, replace(options, min_probability=0)).max() == 2
    assert (label_cells(probabilities, options) == 1).all()


def test_a_doubted_part_between_two_cells_is_given_to_neither() -> None:
    probabilities = np.zeros((2, 28, 28), np.uint8)
    probabilities[0, 2:26, 2:26] = 240  # a ring, cut into two cells
    probabilities[0, 13:15, 2:26], probabilities[1, 13:15, 2:26] = 60, 190
    probabilities[0, 7:21, 7:21], probabilities[1, 7:21, 7:21] = 10, 140
    probabilities[0, 9:19, 9:19], probabilities[1, 9:19, 9:19] = 90, 60
    probabilities[:, 6:10, 12:16] = 0  # a hole between the upper cell and the doubted fragment
    options = InstanceOptions(smoothing=0, min_size=0, split=0.95, min_probability=0.7)
    assert label_cells(probabilities, replace(options, min_probability=0)).max() == 3
    cells = label_cells(probabilities, options)
    assert cells.max() == 2
    assert not cells[9:19, 9:19].any()


def test_small_parts_that_touch_make_one_cell_if_that_is_large_enough() -> None:
    probabilities = np.zeros((2, 20, 20), np.uint8)
    probabilities[0, 5:9, 4:8] = 250
    probabilities[0, 5:9, 9:13] = 250
    probabilities[1, 5:9, 8] = 250
    options = InstanceOptions(smoothing=0.3, min_size=30)
    assert label_cells(probabilities, InstanceOptions(smoothing=0.3, min_size=5)).max() == 2
    labels = label_cells(probabilities, options)
    assert labels.max() == 1
    assert np.count_nonzero(labels) == 36


def test_a_speck_in_a_ring_is_filled_with_it_and_a_cell_is_not() -> None:
    ring = np.zeros((2, 40, 40), np.uint8)
    ring[0, 5:35, 5:35] = 255
    ring[0, 10:30, 10:30] = 0
    ring[0, 18:22, 18:22] = 255
    options = InstanceOptions(smoothing=0, min_size=17)
    assert (label_cells(ring, options)[5:35, 5:35] == 1).all()
    kept = label_cells(ring, replace(options, min_size=16))
    assert (kept[20, 20], kept[12, 12], kept.max()) == (2, 0, 2)


def test_cells_at_the_border_are_dropped_on_request() -> None:
    plane = np.zeros((2, 40, 40), np.uint8)
    plane[0, 0:10, 5:15] = plane[0, 15:25, 30:40] = plane[0, 15:25, 5:15] = 255
    plane[0, 18:21, 8:11] = 0  # a hole in the one that stays
    options = InstanceOptions(smoothing=0)
    assert label_cells(plane, options).max() == 3
    cells = label_cells(plane, replace(options, drop_border=True))
    assert cells.max() == 1
    assert np.count_nonzero(cells) == np.count_nonzero(cells[15:25, 5:15]) == 100


def test_cells_that_the_network_doubts_are_dropped_on_request() -> None:
    plane = np.zeros((2, 20, 50), np.uint8)
    for left, (cell, boundary) in {5: (204, 0), 20: (102, 51), 35: (102, 102)}.items():
        plane[0, 5:15, left : left + 10] = cell
        plane[1, 5:15, left : left + 10] = boundary
    for min_probability, kept in (
        (0, [5, 20, 35]),
        (0.6, [5, 20, 35]),
        (0.61, [5, 35]),
        (0.81, []),
    ):
        cells = label_cells(plane, InstanceOptions(smoothing=0, min_probability=min_probability))
        assert [left for left in (5, 20, 35) if cells[10, left + 5]] == kept
        assert cells.max() == len(kept)


def test_doubt_is_that_of_the_whole_cell() -> None:
    """Two fragments that are one cell are kept or dropped as one."""
    plane = np.zeros((2, 20, 40), np.uint8)
    plane[0, 5:15, 5:25] = 240
    plane[0, 5:15, 25] = 140  # the valley, which belongs to the higher side
    plane[0, 5:15, 26:30] = 150
    options = InstanceOptions(smoothing=0, split=1, min_probability=0.8)
    assert np.count_nonzero(label_cells(plane, options)) == 210
    assert np.count_nonzero(label_cells(plane, replace(options, split=0))) == 250


def test_parts_made_with_other_limits_are_refused() -> None:
    fragments = oversegment(np.full((2, 8, 8), 200, np.uint8), InstanceOptions())
    assert fragments.cells(InstanceOptions(split=0.3, min_size=3, drop_border=True)).max() == 0
    for name, value in (("smoothing", 2.0), ("cell_threshold", 0.25)):
        with pytest.raises(ValueError, match=rf"{name} .*, not {value}: call oversegment\(\)"):
            fragments.cells(replace(InstanceOptions(), **{name: value}))  # type: ignore[arg-type]
    merge = MergeRule(0.1, 0.0, -8.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"merge None, not MergeRule.*: call oversegment\(\)"):
        fragments.cells(InstanceOptions(merge=merge))


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 1.5, 3.0, 6.0, 12.0])
@pytest.mark.parametrize("shape", [(50, 70), (1, 90), (5, 3)])
def test_smoothing_is_gaussian(shape: tuple[int, int], sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8) * 255
    exact = ndimage.gaussian_filter(image.astype(float), sigma)
    assert abs(smooth(image, sigma) - exact).max() <= (4 if sigma <= 4 else 6)


# --- against a slow and straightforward reference ---------------------------------------


def slow_cells(
    fragments: Oversegmentation,
    probabilities: NDArray[np.uint8],
    level: NDArray[Any],
    options: InstanceOptions,
) -> NDArray[Any]:
    """Cells of fragments, written for the eye: no trees, no tables."""
    base = np.where(fragments.base <= fragments.n_fragments, fragments.base, 0)
    labels = base.copy()
    peaks = {i: int(level[base == i].max()) for i in range(1, fragments.n_fragments + 1)}
    saddles: dict[tuple[int, int], int] = {}
    for y, x in np.ndindex(base.shape):
        for other in ((y + 1, x), (y, x + 1)):
            if other[0] < base.shape[0] and other[1] < base.shape[1]:
                a, b = sorted((int(base[y, x]), int(base[other])))
                if 0 < a < b:
                    height = int(min(level[y, x], level[other]))
                    saddles[a, b] = max(saddles.get((a, b), 0), height)
    downwards = sorted(saddles, key=lambda pair: (-saddles[pair], pair))
    for together in (
        lambda a, b, saddle: min(peaks[a], peaks[b]) - saddle <= round(255 * (1 - options.split)),
        lambda a, b, _: min((labels == a).sum(), (labels == b).sum()) < options.min_size,
    ):
        for one, two in downwards:
            a, b = int(labels[base == one][0]), int(labels[base == two][0])
            if a != b and together(a, b, saddles[one, two]):
                labels[labels == b] = a
                peaks[a] = max(peaks[a], peaks[b])
    certain = probabilities[0].astype(float) + probabilities[1]
    for i in np.unique(labels):
        cell = labels == i
        if cell.sum() < options.min_size or certain[cell].mean() < options.min_probability * 255:
            labels[cell] = 0
    if options.fill_holes:
        fill(labels)
    if options.drop_border:
        labels = clear_border(labels)
    ids, first = np.unique(labels, return_index=True)
    result = np.zeros_like(labels)
    for number, i in enumerate(ids[ids > 0][np.argsort(first[ids > 0])], 1):
        result[labels == i] = number
    return result


def fill(labels: NDArray[Any]) -> None:
    holes, n = ndimage.label(np.pad(labels, 1) == 0)
    holes = holes[1:-1, 1:-1]
    for i in range(2, n + 1):  # 1 is outside
        rim = np.unique(labels[ndimage.binary_dilation(holes == i) & (holes != i)])
        if len(rim) == 1:
            labels[holes == i] = rim[0]


def planes(values: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[NDArray[np.uint8]]:
    shape = st.tuples(st.just(2), st.integers(1, 16), st.integers(1, 16))
    return arrays(np.uint8, shape, elements=values, fill=st.nothing())


#: Every value, or few of them: plateaus and ties.
PLANES = planes() | planes(st.sampled_from([0, 40, 60, 200]))
OPTIONS = st.builds(
    InstanceOptions,
    cell_threshold=st.sampled_from([0.2, 0.5]),
    smoothing=st.sampled_from([0.0, 0.0, 0.6]),
    min_size=st.integers(0, 20),
    fill_holes=st.booleans(),
    # Also exactly as deep as the valleys between the few values.
    split=st.floats(0, 1) | st.sampled_from([20, 140, 160]).map(lambda depth: 1 - depth / 255),
    min_probability=st.sampled_from([0.0, 0.0, 0.5, 0.7]),
    drop_border=st.booleans(),
)
#: Some by a rule to merge by, which the reference does not know.
RULES = st.builds(
    MergeRule,
    certain=st.sampled_from([0.0, 0.14, 0.5]),
    constant=st.floats(-3, 3),
    depth=st.floats(-20, 5),
    boundary=st.floats(-5, 5),
    cell=st.floats(-5, 10),
    contact=st.floats(-2, 2),
    smaller=st.floats(-2, 2),
    larger=st.floats(-2, 2),
)
ALL_OPTIONS = OPTIONS | st.builds(replace, OPTIONS, merge=RULES)


@st.composite
def nested(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Squares in squares, side by side: closed rings, which random pixels hardly ever make."""
    doubts = st.sampled_from([(0, 0), (20, 130), (90, 80), (240, 0), (200, 55)])
    squares = []
    for _ in range(draw(st.integers(1, 3))):
        square = np.zeros((2, 13, 13), np.uint8)
        for inset, pair in enumerate(draw(st.lists(doubts, min_size=2, max_size=4))):
            square[:, 2 * inset : 13 - 2 * inset, 2 * inset : 13 - 2 * inset] = np.array(pair)[
                :, np.newaxis, np.newaxis
            ]
        squares.append(square)
    return np.concatenate(squares, axis=2)


@settings(max_examples=200, deadline=None)
@given(PLANES, OPTIONS)
@pytest.mark.slow
def test_the_cells_are_those_of_the_reference(
    probabilities: NDArray[np.uint8], options: InstanceOptions
) -> None:
    fragments = oversegment(probabilities, options)
    level = levels(probabilities, options)
    cells = fragments.cells(options)
    np.testing.assert_array_equal(cells, slow_cells(fragments, probabilities, level, options))
    np.testing.assert_array_equal(cells, fragments.lut(options)[fragments.base])
    np.testing.assert_array_equal(cells, label_cells(probabilities, options))


#: That keep most fragments apart and doubt some of them.
DOUBTING = st.builds(
    InstanceOptions,
    smoothing=st.just(0.0),
    min_size=st.integers(0, 8),
    fill_holes=st.sampled_from([True, True, False]),
    split=st.sampled_from([0.7, 1.0]),
    min_probability=st.sampled_from([0.6, 0.7, 0.9]),
)


@settings(max_examples=300, deadline=None)
@given(nested(), DOUBTING)
def test_doubted_parts_leave_what_the_reference_leaves(
    probabilities: NDArray[np.uint8], options: InstanceOptions
) -> None:
    fragments = oversegment(probabilities, options)
    level = levels(probabilities, options)
    cells = fragments.cells(options)
    np.testing.assert_array_equal(cells, slow_cells(fragments, probabilities, level, options))


@settings(max_examples=100, deadline=None)
@given(PLANES, OPTIONS)
def test_every_part_is_one_region_that_falls_from_one_peak(
    probabilities: NDArray[np.uint8], options: InstanceOptions
) -> None:
    fragments = oversegment(probabilities, options)
    level = np.pad(levels(probabilities, options), 1)
    base = np.pad(fragments.base, 1)
    peaks = ndimage.label(local_maxima(level, connectivity=1))[0]
    assert (base[level > 0] > 0).all()
    assert fragments.n_fragments == peaks.max()
    np.testing.assert_array_equal(fragments.areas[1:], np.bincount(base[level > 0])[1:])
    for i in range(1, fragments.n_fragments + 1):
        assert len(np.unique(peaks[(base == i) & (peaks > 0)])) == 1
        heights = np.where(base == i, level, 0)
        assert ndimage.label(local_maxima(heights, connectivity=1))[1] == 1
        assert ndimage.label(heights)[1] == 1


@settings(max_examples=100, deadline=None)
@given(PLANES, ALL_OPTIONS)
def test_every_cell_is_one_region_where_holes_stay(
    probabilities: NDArray[np.uint8], options: InstanceOptions
) -> None:
    cells = label_cells(probabilities, replace(options, fill_holes=False))
    for i in range(1, int(cells.max(initial=0)) + 1):
        assert ndimage.label(cells == i)[1] == 1


@settings(max_examples=100, deadline=None)
@given(PLANES, ALL_OPTIONS)
def test_without_any_split_cells_are_what_touches(
    probabilities: NDArray[np.uint8], options: InstanceOptions
) -> None:
    options = replace(
        options, split=0, min_size=0, min_probability=0, fill_holes=False, drop_border=False
    )
    foreground = levels(probabilities, options) > 0
    np.testing.assert_array_equal(label_cells(probabilities, options), ndimage.label(foreground)[0])


def cut(finer: NDArray[Any], coarser: NDArray[Any]) -> bool:
    """Whether any cell of `finer` lies in more than one cell of `coarser`, or half in one."""
    pairs = np.unique(np.stack([finer[finer > 0], coarser[finer > 0]]), axis=1)
    return len(np.unique(pairs[0])) < pairs.shape[1]


@settings(max_examples=100, deadline=None)
@given(PLANES, ALL_OPTIONS, st.integers(0, 40), st.floats(0, 1))
def test_a_larger_smallest_cell_only_joins_or_drops_and_a_lower_split_only_joins(
    probabilities: NDArray[np.uint8], options: InstanceOptions, min_size: int, split: float
) -> None:
    options = replace(options, fill_holes=False, min_probability=0, drop_border=False)
    fragments = oversegment(probabilities, options)
    low, high = (replace(options, min_size=s) for s in sorted((options.min_size, min_size)))
    assert not cut(fragments.cells(low), fragments.cells(high))
    assert not (fragments.cells(high)[fragments.cells(low) == 0] > 0).any()
    options = replace(options, min_size=0)
    low, high = (replace(options, split=s) for s in sorted((options.split, split)))
    assert not cut(fragments.cells(high), fragments.cells(low))
    np.testing.assert_array_equal(fragments.cells(high) > 0, fragments.cells(low) > 0)
