"""metrics.py against cases drawn by hand, and against brute force on small images."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_unet_cells.core.metrics import (
    THRESHOLDS,
    compare,
    compare_classes,
    found_cells,
    summarize,
    summarize_classes,
)
from napari_unet_cells.errors import UserError

Labels = NDArray[np.integer]


def draw(picture: str) -> Labels:
    """Turn lines of digits and dots into labels; a dot is background."""
    rows = picture.split()
    return np.array([[0 if mark == "." else int(mark) for mark in row] for row in rows])


# --- drawn by hand ---------------------------------------------------------------------------


def test_two_cells_that_are_found_and_one_that_is_not() -> None:
    truth = draw("""
        11..22..
        11..22..
        .......3
    """)
    prediction = draw("""
        55...99.
        55...99.
        ........
    """)
    score = compare(truth, prediction)
    # 1 and 5: IoU 4/4. 2 and 9: 2 pixels in both, 6 in either, 1/3: below every threshold.
    assert (score.n_true, score.n_predicted) == (3, 2)
    assert score.tp == (1,) * 10
    assert score.fp == (1,) * 10
    assert score.fn == (2,) * 10
    assert (score.pixels_both, score.pixels_true, score.pixels_predicted) == (6, 9, 8)

    summary = summarize([score])
    assert summary.ap == (1 / 4,) * 10
    assert summary.pq == pytest.approx(1.0 / (1 + 0.5 * 1 + 0.5 * 2))
    assert summary.iou == 6 / 11
    assert summary.dice == 12 / 17
    assert summary.count_error == 1 / 3


def test_a_match_counts_up_to_the_threshold_that_its_iou_reaches() -> None:
    # 13 pixels in both, 20 in either: 0.65, which 0.5 + 3 * 0.05 in floating point is not.
    truth, prediction = np.zeros((1, 20), int), np.zeros((1, 20), int)
    truth[0, :16] = 1
    prediction[0, 3:20] = 1
    score = compare(truth, prediction)
    assert score.tp == (1, 1, 1, 1, 0, 0, 0, 0, 0, 0)
    assert score.matched_iou == 0.65
    assert summarize([score]).mean_ap == pytest.approx(0.4)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_an_iou_equal_to_the_threshold_is_a_match(threshold: float) -> None:
    truth = np.ones((1, 100), np.uint8)
    prediction = np.zeros((1, 100), np.uint8)
    prediction[0, : round(100 * threshold)] = 1
    at = THRESHOLDS.index(threshold)
    assert compare(truth, prediction).tp[at] == 1
    prediction[0, round(100 * threshold) - 1] = 0
    assert compare(truth, prediction).tp[at] == 0


def test_a_cell_cut_into_halves_is_one_match_at_one_half_and_none_for_pq() -> None:
    truth, halves = draw("1111"), draw("2233")
    score = compare(truth, halves)
    assert score.tp == (1,) + (0,) * 9
    assert score.fp[0] == 1
    assert score.matched_iou == 0.0
    assert summarize([score]).ap50 == 0.5


def test_merged_cells() -> None:
    truth = draw("1111122222...")
    merged = draw("7777777777...")
    assert compare(truth, merged).tp[0] == 1  # exactly one half each; one of them is used
    assert compare(truth, merged).tp[1] == 0


def test_counts_are_summed_over_images_before_they_are_divided() -> None:
    one_of_one = compare(draw("11"), draw("11"))
    none_of_three = compare(draw("1.2.3"), draw("....."))
    summary = summarize([one_of_one, none_of_three])
    assert summary.ap50 == 1 / 4  # the mean over images would be 1/2
    assert summary.pq == 2 / 5
    assert summary.count_error == 1 / 2  # this one is a mean over images
    assert (summary.n_images, summary.n_true, summary.n_predicted) == (2, 4, 1)


def test_panoptic_quality_is_segmentation_times_recognition() -> None:
    # IoU 4/5 and 3/4, one false cell, one missed cell.
    truth = draw("11111.2222.3.")
    prediction = draw("1111..222....4")[:, :13] + draw("............4")
    summary = summarize([compare(truth, prediction)])
    segmentation, recognition = (4 / 5 + 3 / 4) / 2, 2 / (2 + 0.5 + 0.5)
    assert summary.pq == pytest.approx(segmentation * recognition)


# --- nothing there ---------------------------------------------------------------------------


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    empty = np.zeros((4, 5), np.uint16)
    summary = summarize([compare(empty, empty)])
    assert summary.ap == (1.0,) * 10
    assert (summary.pq, summary.iou, summary.dice) == (1.0, 1.0, 1.0)
    assert (summary.count_error, summary.n_images) == (0.0, 1)


def test_every_cell_invented_in_an_empty_image_counts_as_one() -> None:
    summary = summarize([compare(draw("....."), draw("1.2.3"))])
    assert summary.count_error == 3.0
    assert (summary.ap50, summary.pq, summary.iou, summary.dice) == (0.0, 0.0, 0.0, 0.0)


def test_a_missing_prediction_is_all_misses() -> None:
    truth = draw("1.2.3")
    missing = compare(truth, None)
    assert missing == compare(truth, np.zeros_like(truth))
    assert missing.fn == (3,) * 10
    assert missing.fp == (0,) * 10
    assert summarize([missing]).count_error == 1.0


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (1, 1), (2, 3, 4)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    ones = np.ones(shape, np.uint8)
    score = compare(ones, ones)
    assert score.n_true == (1 if ones.size else 0)
    assert score.pixels_both == ones.size
    assert summarize([score]).mean_ap == 1.0


# --- bad input -------------------------------------------------------------------------------


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(UserError, match=r"shape \(3, 5\), the ground truth \(4, 5\)"):
        compare(np.zeros((4, 5), int), np.zeros((3, 5), int))


def test_labels_must_be_integers() -> None:
    with pytest.raises(UserError, match="prediction holds float64 values; expected integers"):
        compare(np.zeros((2, 2), int), np.zeros((2, 2)))
    with pytest.raises(UserError, match="ground truth holds bool values"):
        compare(np.zeros((2, 2), bool), None)


def test_labels_must_not_be_negative() -> None:
    with pytest.raises(UserError, match="prediction holds the negative label -3"):
        compare(draw("11"), np.array([[1, -3]]))


def test_no_image_at_all() -> None:
    with pytest.raises(UserError, match="no image was scored"):
        summarize([])


# --- as text and JSON ------------------------------------------------------------------------


def test_summary_survives_json_and_reads_well() -> None:
    summary = summarize([compare(draw("11.2"), draw("11.."))])
    record = json.loads(json.dumps(summary.as_dict()))
    assert record["ap"]["0.50"] == record["ap50"] == 0.5
    assert record["ap"]["0.75"] == record["ap75"]
    assert record["mean_ap"] == summary.mean_ap
    assert list(record["ap"]) == [f"{threshold:.2f}" for threshold in THRESHOLDS]
    lines = str(summary).splitlines()
    assert lines[1].split() == ["cells", "in", "the", "truth", "2"]
    assert lines[-1].split() == ["AP", "at", "IoU", "0.95", "0.500"]
    assert len({len(line) for line in lines}) == 1, "the columns are aligned"


# --- against brute force, and properties -----------------------------------------------------

shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def pairs(draw_: st.DrawFn) -> tuple[Labels, Labels]:
    """Draw two small label images, the second often a disturbed copy of the first."""
    shape = draw_(shapes)
    ids = st.sampled_from([0, 1, 2, 5, 200])
    truth = draw_(hnp.arrays(np.uint16, shape, elements=ids))
    other = draw_(hnp.arrays(np.int64, shape, elements=ids))
    disturbed = draw_(hnp.arrays(bool, shape))
    return truth, np.where(disturbed & draw_(hnp.arrays(bool, shape)), other, truth)


def brute_force(truth: Labels, prediction: Labels, threshold: float) -> tuple[int, float]:
    """Return matches at IoU >= threshold and the sum of IoU > 0.5, cell by cell, dense."""
    cells, found = (np.setdiff1d(labels, [0]) for labels in (truth, prediction))
    iou = np.zeros((len(cells), len(found)))
    for i, a in enumerate(cells):
        for j, b in enumerate(found):
            in_a, in_b = truth == a, prediction == b
            iou[i, j] = (in_a & in_b).sum() / (in_a | in_b).sum()
    rows, columns = linear_sum_assignment(iou >= threshold, maximize=True)
    return int((iou[rows, columns] >= threshold).sum()), float(iou[iou > 0.5].sum())


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_counts_equal_brute_force(pair: tuple[Labels, Labels]) -> None:
    truth, prediction = pair
    score = compare(truth, prediction)
    for tp, threshold in zip(score.tp, THRESHOLDS, strict=True):
        expected, matched_iou = brute_force(truth, prediction, threshold)
        assert tp == expected
        assert score.matched_iou == pytest.approx(matched_iou)
    assert score.n_true == np.setdiff1d(truth, [0]).size
    assert score.pixels_both == ((truth > 0) & (prediction > 0)).sum()
    assert score.pixels_either == ((truth > 0) | (prediction > 0)).sum()


@settings(deadline=None)
@given(pairs(), st.permutations([1, 3, 4, 70_000]))
def test_other_ids_change_nothing(pair: tuple[Labels, Labels], ids: list[int]) -> None:
    truth, prediction = pair
    renamed = np.zeros(prediction.shape, np.uint32)
    for old, new in zip((1, 2, 5, 200), ids, strict=True):
        renamed[prediction == old] = new
    # Only the order of a floating-point sum may differ.
    score, other = compare(truth, prediction), compare(truth, renamed)
    assert other.matched_iou == pytest.approx(score.matched_iou)
    assert replace(other, matched_iou=score.matched_iou) == score


@settings(deadline=None)
@given(pairs())
def test_swapping_truth_and_prediction_swaps_fp_and_fn(pair: tuple[Labels, Labels]) -> None:
    score, swapped = compare(*pair), compare(*reversed(pair))
    assert (swapped.tp, swapped.fp, swapped.fn) == (score.tp, score.fn, score.fp)
    assert swapped.pixels_true == score.pixels_predicted
    assert summarize([swapped]).pq == pytest.approx(summarize([score]).pq)
    assert summarize([swapped]).dice == summarize([score]).dice


@settings(deadline=None)
@given(st.lists(pairs(), min_size=1, max_size=4))
@pytest.mark.slow
def test_scores_stay_in_range_and_ap_falls_with_the_threshold(
    image_pairs: list[tuple[Labels, Labels]],
) -> None:
    summary = summarize(compare(*pair) for pair in image_pairs)
    assert list(summary.ap) == sorted(summary.ap, reverse=True)
    values = (*summary.ap, summary.mean_ap, summary.pq, summary.iou, summary.dice)
    assert all(0 <= value <= 1 for value in values)
    assert summary.iou <= summary.dice


def test_a_megapixel_with_a_thousand_cells_is_fast() -> None:
    # 32 x 32 cells of 24 x 24 pixels, the prediction moved by two: IoU 22 * 22 / 668 = 0.72.
    ids = np.zeros((1000, 1000), np.int32)
    row, column = np.indices(ids.shape)
    inside = (row % 31 < 24) & (column % 31 < 24)
    ids[inside] = (1 + row // 31 * 40 + column // 31)[inside]
    moved = np.roll(ids, (2, 2), axis=(0, 1))
    start = time.perf_counter()
    score = compare(ids, moved)
    seconds = time.perf_counter() - start
    assert score.n_true > 1000
    assert score.tp[THRESHOLDS.index(0.7)] > 1000
    assert score.tp[THRESHOLDS.index(0.75)] < 60, "only what the border cut"
    assert seconds < 1.0, "0.1 s is expected; ten times that means a dense loop"


# --- classes ----------------------------------------------------------------------------

NAMES = ("background", "nucleus", "vessel")


def test_classes_by_hand() -> None:
    truth = draw("""
        ..11
        ..11
        2222
    """)
    prediction = draw("""
        ..1.
        ..11
        2212
    """)
    score = compare_classes(truth, prediction, NAMES)
    assert (score.both, score.true, score.predicted) == ((4, 3, 3), (4, 4, 4), (5, 4, 3))
    summary = summarize_classes([score])
    assert summary.iou == {"background": 4 / 5, "nucleus": 3 / 5, "vessel": 3 / 4}
    assert summary.mean_iou == pytest.approx((4 / 5 + 3 / 5 + 3 / 4) / 3)
    assert summary.accuracy == 10 / 12
    assert json.loads(json.dumps(summary.as_dict())) == {
        "n_images": 1,
        "mean_iou": summary.mean_iou,
        "accuracy": summary.accuracy,
        "iou": summary.iou,
    }
    assert "IoU of nucleus         0.600" in str(summary)


def test_pixels_of_classes_are_summed_before_they_are_divided() -> None:
    all_right = compare_classes(np.ones((9, 10), int), np.ones((9, 10), int), NAMES)
    all_wrong = compare_classes(np.ones((1, 10), int), np.zeros((1, 10), int), NAMES)
    summary = summarize_classes([all_right, all_wrong])
    assert summary.iou == {"background": 0.0, "nucleus": 0.9, "vessel": None}
    assert summary.mean_iou == pytest.approx(0.45)  # of those that occur
    assert summary.accuracy == 0.9
    assert summary.n_images == 2
    assert "IoU of vessel           none" in summary.table()


def test_classes_that_are_missing_are_all_misses() -> None:
    truth = draw("..11")
    assert summarize_classes([compare_classes(truth, truth, NAMES)]).mean_iou == 1
    missing = summarize_classes([compare_classes(truth, None, NAMES)])
    assert missing.iou == {"background": 0.0, "nucleus": 0.0, "vessel": None}
    assert missing.accuracy == 0


def test_classes_that_cannot_be_compared() -> None:
    classes = np.zeros((3, 3), int)
    with pytest.raises(UserError, match=r"prediction has the shape \(2, 3\).*same image"):
        compare_classes(classes, classes[:2], NAMES)
    with pytest.raises(
        UserError, match="ground truth holds the class 3; there are names for 0 to 2"
    ):
        compare_classes(classes + 3, classes, NAMES)
    with pytest.raises(UserError, match="holds float64 values"):
        compare_classes(classes, classes / 2, NAMES)
    with pytest.raises(UserError, match="nothing to summarize"):
        summarize_classes([])


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, 6), elements=st.integers(0, 2)),
    hnp.arrays(np.uint8, (4, 6), elements=st.integers(0, 2)),
)
def test_classes_against_brute_force(truth: Labels, prediction: Labels) -> None:
    iou = summarize_classes([compare_classes(truth, prediction, NAMES)]).iou
    for value, name in enumerate(NAMES):
        either = ((truth == value) | (prediction == value)).sum()
        both = ((truth == value) & (prediction == value)).sum()
        assert iou[name] == (both / either if either else None)


def test_cells_that_were_found_are_told_in_the_order_of_their_ids() -> None:
    truth = np.zeros((10, 30), int)
    truth[2:8, 1:7], truth[2:8, 11:17], truth[2:8, 21:27] = 9, 3, 5
    predicted = np.zeros_like(truth)
    predicted[2:8, 1:5] = 1  # 24 of 36 pixels of cell 9
    predicted[2:8, 12:18] = 2  # 30 of 42 of cell 3
    predicted[2:8, 25:29] = 7  # 12 of 48 of cell 5
    assert found_cells(truth, predicted).tolist() == [True, False, True]
    assert found_cells(truth, np.zeros_like(truth)).tolist() == [False] * 3
    assert found_cells(np.zeros_like(truth), predicted).tolist() == []
