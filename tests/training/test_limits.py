"""What no training can have, said before it begins."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from napari_unet_cells.training.events import RetrainOptions
from napari_unet_cells.training.limits import MOST, too_much
from napari_unet_cells.untrusted.checkpoint import parse_state


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"minutes": math.inf}, "minutes must be at most 525600, not inf."),
        ({"minutes": math.nan}, "minutes must be at most 525600, not nan."),
        ({"steps": 10**9 + 1}, "steps must be at most 1000000000, not 1000000001."),
        ({"batch": 10**20}, f"batch must be at most 10000, not {10**20}."),
        ({"seed": 2**32}, "seed must be at most 4294967295, not 4294967296."),
    ],
)
def test_what_is_too_much_is_named(change: dict[str, Any], sentence: str) -> None:
    options = RetrainOptions()
    assert too_much(options) is None
    assert too_much(replace(options, **change)) == sentence


def test_numbers_of_any_length_are_said_in_a_line() -> None:
    assert len(too_much(replace(RetrainOptions(), seed=10**4000)) or "") < 100


def test_the_most_is_a_training_and_a_checkpoint_keeps_it() -> None:
    options = RetrainOptions(MOST["minutes"], MOST["steps"], batch=MOST["batch"], seed=MOST["seed"])
    assert options.problem() is None
    document = {"options": {}, "curve": [], "step": options.steps, "seconds": 60 * options.minutes}
    assert parse_state(document).step == options.steps
