"""Options of a retraining, and its outcome in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.training.events import (
    Retrained,
    RetrainOptions,
    Verdict,
    describe_outcome,
)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"minutes": 0.0}, "minutes must be above 0."),
        ({"minutes": math.nan}, "minutes must be above 0."),
        ({"steps": 0}, "steps must be at least 1, and is 0."),
        ({"start": ""}, "start must be model, encoder, imagenet or a file of weights."),
        ({"batch": 0}, "batch must be at least 1, and is 0."),
        ({"seed": -1}, "seed must not be negative, and is -1."),
        ({"minutes": math.inf}, "minutes must be at most 525600, not inf."),
        ({"validations": -1}, "validations must not be negative, and is -1."),
    ],
)
def test_options_say_what_is_wrong_with_them(change: dict[str, Any], sentence: str) -> None:
    options = RetrainOptions()
    assert options.problem() is None
    assert replace(options, **change).problem() == sentence


CARD = ModelCard(
    "cells-2",
    "none",
    ("background", "cell", "boundary"),
    1,
    1,
    0,
    sha256="",
    parent={"name": "cells", "sha256": ""},
)
MEASURED = Retrained(CARD, 0.6, 0.8, 1.0, 60.0, 5, (0.55, 0.65), (0.7, 0.85))


@pytest.mark.parametrize(
    ("change", "verdict", "end"),
    [
        ({}, Verdict.BETTER, "and it is better: AP50 0.80 (0.70 to 0.85) on 5 held-out images"),
        ({"after_interval": (0.65, 0.85)}, Verdict.TIE, "That is no clear difference."),
        ({"before": 0.79, "before_interval": (0.1, 0.2)}, Verdict.TIE, "no clear difference."),
        ({"before": 0.8, "before_interval": (0.7, 0.85)}, Verdict.TIE, "no clear difference."),
        ({"after_interval": None}, Verdict.TIE, "and cells 0.60 (0.55 to 0.65)"),
        ({"before": 0.9}, Verdict.WORSE, "is made, but it is worse: AP50 0.80"),
        ({"held_out": 2}, Verdict.TOO_FEW, "AP50 0.80 on 2 held-out images, and cells 0.60. So"),
        ({"held_out": 1, "before": 0.9}, Verdict.TOO_FEW, "on 1 held-out image, and cells 0.90."),
        (
            {"mixture": 0.0},
            Verdict.KEPT,
            "with the weights of cells: what was learned did no better on",
        ),
        (
            {"mixture": 0.0, "before": None, "after": None, "held_out": 0},
            Verdict.KEPT,
            "did no better on the regions themselves. Correct more regions",
        ),
        ({"before": None}, Verdict.UNMEASURED, "is made: AP50 0.80 (0.70 to 0.85)"),
        ({"before": None, "after": None}, Verdict.UNMEASURED, "No image was held out"),
    ],
)
def test_only_a_clear_gain_on_several_images_speaks_for_a_new_model(
    change: dict[str, Any], verdict: Verdict, end: str
) -> None:
    done = replace(MEASURED, **change)
    assert done.verdict == verdict
    sentence = describe_outcome(done)
    assert sentence.startswith("cells-2 is made")
    assert end in sentence
    assert "default" not in sentence
