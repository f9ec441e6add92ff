"""Options of a retraining, and its outcome in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from napari_unet_cells.training.events import RetrainOptions


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"minutes": 0.0}, "minutes must be above 0."),
        ({"minutes": math.nan}, "minutes must be above 0."),
        ({"steps": 0}, "steps must be at least 1, and is 0."),
        ({"start": ""}, "start must be model, encoder, imagenet or a file of weights."),
        ({"batch": 0}, "batch must be at least 1, and is 0."),
        ({"seed": -1}, "seed must not be negative, and is -1."),
    ],
)
def test_options_say_what_is_wrong_with_them(change: dict[str, Any], sentence: str) -> None:
    options = RetrainOptions()
    assert options.problem() is None
    assert replace(options, **change).problem() == sentence
