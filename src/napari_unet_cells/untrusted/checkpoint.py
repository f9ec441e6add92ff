"""Parse ``state.json`` of the checkpoint of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_unet_cells.untrusted.rules import (
    Fields,
    Malformed,
    items,
    number,
    one_of,
    plain_mapping,
    whole,
)

#: Folders that a checkpoint is written to in turn.
SLOTS = ("a", "b")


@dataclass(frozen=True)
class CheckpointState:
    """State of a training, as a checkpoint keeps it beside the weights.

    Attributes
    ----------
    slot : str
        Folder of the weights, one of `SLOTS`; empty as version 0.1.0 wrote them.
    options : mapping
        Of the training.
    step : int
    seconds : float
    curve : tuple of (step, minutes, loss, validation loss or None)
    """

    slot: str
    options: Mapping[str, Any]
    step: int
    seconds: float
    curve: tuple[tuple[int, float, float, float | None], ...]


def parse_state(document: object) -> CheckpointState:
    """Check the state of a checkpoint, in which numbers that are not finite have become null.

    Raises
    ------
    Malformed
    """
    state = Fields(document)
    return CheckpointState(
        state.take_or("slot", one_of(SLOTS), ""),
        state.take("options", plain_mapping),
        state.take("step", _STEP),
        state.take("seconds", number(0, 1e9)),
        state.take("curve", items(_point, most=10**6)),
    )


_STEP = whole(0, 10**9)


def _point(value: object) -> tuple[int, float, float, float | None]:
    if not isinstance(value, list) or len(value) != 4:
        raise Malformed("must be a list of 4 values")
    step, minutes, loss, validation = value
    return (
        _STEP(step),
        number(0, 1e9)(minutes),
        float("nan") if loss is None else number()(loss),
        None if validation is None else number()(validation),
    )
