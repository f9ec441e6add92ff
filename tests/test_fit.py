"""The fit of what makes a cell, on images whose best options are known."""

from __future__ import annotations

import numpy as np

from napari_unet_cells.fit import fit_instances
from napari_unet_cells.instances import InstanceOptions, label_cells
from napari_unet_cells.metrics import compare, summarize


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
