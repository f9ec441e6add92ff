"""How far a tuning goes from its base."""

from __future__ import annotations

import pytest

from napari_unet_cells.training.mixing import MIXTURES, Measurement, how_far


@pytest.mark.parametrize(
    ("base", "scores", "cells", "mixture"),
    [
        (0.06, (0.80, 0.60, 0.40, 0.20), 60, 1.0),  # the gain is clear: all the way
        (0.06, (0.70, 0.81, 0.40, 0.20), 60, 0.75),  # or as far as is as good as the best
        (0.06, (0.80, 0.81, 0.40, 0.20), 60, 1.0),
        (0.58, (0.91, 0.91, 0.90, 0.78), 21, 1.0),
        (0.72, (0.72, 0.74, 0.75, 0.69), 54, 0.5),  # a gain within the error, and less is none
        (0.64, (0.68, 0.68, 0.64, 0.64), 20, 0.25),
        (0.55, (0.31, 0.55, 0.55, 0.55), 10, 0.0),  # no better than the base
        (0.55, (0.31, 0.50, 0.50, 0.50), 10, 0.0),
        (0.0, (0.0, 0.0, 0.0, 0.0), 10, 1.0),  # a base that finds nothing is nothing to keep
        (0.5, (0.61, 0.62, 0.6, 0.6), 0, 0.75),  # classes, whose error is not known: the best one
        (0.5, (0.6, 0.6, 0.6, 0.6), 0, 1.0),
    ],
)
def test_it_goes_no_further_from_the_base_than_the_held_out_cells_say(base, scores, cells, mixture):
    def measured(score):
        return Measurement(score, (0.0, 1.0), 1, cells)

    found = dict(zip(MIXTURES, map(measured, scores), strict=True))
    assert how_far(found, measured(base)) == mixture


def measured(scores):
    """Scores on one held-out region of 16 cells, by the mixture."""
    found = (Measurement(score, (0.0, 1.0), 1, 16) for score in scores)
    return dict(zip(MIXTURES, found, strict=True))


#: On one held-out region, where half of the way and all of it can hardly be told apart.
DOUBTFUL = (0.30, 0.26, 0.31, 0.27)


@pytest.mark.parametrize(
    ("base", "mixture"), [(0.0, 1.0), (0.19, 1.0), (0.24, 1.0), (0.26, 0.25), (0.3, 0.5)]
)
def test_a_base_that_does_not_know_such_cells_is_left_behind(base, mixture):
    assert how_far(measured(DOUBTFUL), Measurement(base, (0.0, 1.0), 1, 16)) == mixture


def test_nothing_is_left_behind_for_what_is_no_better():
    found = measured((0.20, 0.25, 0.22, 0.20))
    assert how_far(found, Measurement(0.20, (0.0, 1.0), 1, 16)) == 0.75


@pytest.mark.parametrize(
    ("base", "scores", "cells", "held_out", "learned_from"),
    [
        (0.73, (0.77, 0.81, 0.76, 0.77), 131, 0.75, 0.25),  # tissue that the base knows as well
        (0.83, (0.94, 0.92, 0.92, 0.91), 47, 1.0, 1.0),
        (0.83, (0.88, 0.87, 0.87, 0.84), 47, 0.25, 0.25),
        (0.76, (0.92, 0.90, 0.90, 0.89), 255, 1.0, 1.0),
        (0.95, (1.0, 1.0, 0.97, 0.96), 20, 1.0, 0.25),  # one mistake less, which is all there was
        (0.70, (0.80, 0.78, 0.75, 0.70), 60, 0.5, 0.5),  # never one that is no better
        (0.60, (0.70, 0.69, 0.67, 0.59), 131, 1.0, 0.5),  # clear, but most mistakes are still made
        (0.40, (0.50, 0.47, 0.45, 0.43), 190, 1.0, 0.25),  # unsure regions of tissue that it knows
        (0.30, (0.60, 0.52, 0.44, 0.36), 131, 1.0, 0.75),
        (0.24, (0.60, 0.52, 0.44, 0.36), 131, 1.0, 1.0),  # little to lose
        (0.60, (0.66, 0.68, 0.62, 0.61), 0, 0.75, 0.75),  # classes: the best one
        (0.10, (0.40, 0.39, 0.30, 0.20), 131, 1.0, 1.0),
        (0.10, (0.35, 0.42, 0.30, 0.20), 131, 0.75, 0.75),
    ],
)
def test_a_gain_on_what_was_learned_from_counts_where_half_of_the_mistakes_went(
    base, scores, cells, held_out, learned_from
):
    def measured(score):
        return Measurement(score, (0.0, 1.0), 4, cells)

    found = dict(zip(MIXTURES, map(measured, scores), strict=True))
    assert how_far(found, measured(base)) == held_out
    assert how_far(found, measured(base), learned_from=True) == learned_from
