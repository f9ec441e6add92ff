"""The fit of what makes a cell, on images whose best options are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.metrics import compare, summarize
from napari_unet_cells.training.calibrate import fit_instances


def example(bridge: int):
    """Draw two cells joined by a bridge whose probability of "cell" is given (0 to 255)."""
    truth = np.zeros((60, 60), np.int32)
    truth[10:30, 10:29] = 1
    truth[10:30, 31:50] = 2
    probabilities = np.zeros((2, 60, 60), np.uint8)
    probabilities[0][truth > 0] = 250
    probabilities[0][10:30, 29:31] = bridge
    probabilities[1][10:30, 29:31] = 255 - bridge
    return probabilities, truth


def score(examples, options):
    return summarize(compare(t, label_cells(p, options)) for p, t in examples).ap50


def test_a_higher_split_is_found_where_it_separates():
    examples = [example(bridge=215)]  # a valley of 35 / 255 = 0.14
    start = InstanceOptions(smoothing=0.5)
    assert score(examples, start) < 1
    fitted = fit_instances(examples, start)
    assert score(examples, fitted) == 1
    assert fitted.split > start.split


def test_a_lower_split_is_found_where_it_joins():
    probabilities, truth = example(bridge=170)  # a valley of 80 / 255 = 0.31
    truth[10:30, 10:50] = 1
    examples = [(probabilities, truth)]
    start = InstanceOptions(smoothing=0.5)
    assert score(examples, start) < 1
    fitted = fit_instances(examples, start)
    assert score(examples, fitted) == 1
    assert fitted.split < start.split


def test_nothing_changes_where_nothing_is_better():
    examples = [example(bridge=0)]
    assert score(examples, InstanceOptions()) == 1
    assert fit_instances(examples) == InstanceOptions()


def squares(*cells: tuple[int, int, int]):
    """Draw 20 pixels wide cells: probability (0 to 255), columns drawn, columns in truth."""
    truth = np.zeros((40, 30 * len(cells)), np.int32)
    probabilities = np.zeros((2, *truth.shape), np.uint8)
    for i, (probability, drawn, true) in enumerate(cells):
        left = 30 * i + 5
        truth[10:30, left : left + true] = i + 1
        probabilities[0, 10:30, left : left + drawn] = probability
    return probabilities, truth


def test_a_probability_threshold_is_found_that_drops_debris():
    examples = [squares((240, 20, 20), (190, 20, 0), (235, 20, 20))]
    start = InstanceOptions(smoothing=0)
    assert score(examples, start) < 1
    fitted = fit_instances(examples, start)
    assert score(examples, fitted) == 1
    assert fitted.min_probability > 190 / 255


def test_roughly_outlined_cells_are_not_dropped():
    """Without them AP at IoU 0.75 would rise, for nothing would be predicted that is none."""
    rough = squares((240, 20, 20), (190, 12, 20))
    start = InstanceOptions(smoothing=0)
    dropped = replace(start, min_probability=0.8)
    kept_75, dropped_75 = (
        summarize([compare(rough[1], label_cells(rough[0], options))]).ap75
        for options in (start, dropped)
    )
    assert kept_75 < dropped_75
    fitted = fit_instances([rough], start)
    assert score([rough], fitted) == 1
