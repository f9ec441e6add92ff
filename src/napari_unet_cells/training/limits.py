"""Most minutes, steps, crops and seeds of a training: what is more cannot be kept or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from napari_unet_cells.untrusted.rules import shown

#: Of each option the most that a checkpoint keeps, an array has room for, or a library takes.
MOST: Mapping[str, int] = {
    "minutes": 525_600,  # a year
    "steps": 10**9,
    "batch": 10_000,
    "seed": 2**32 - 1,
}


class Budget(Protocol):
    """Options of a training or a retraining that have a most."""

    @property
    def minutes(self) -> float:
        """Time to learn."""

    @property
    def steps(self) -> int | None:
        """Steps instead of the minutes."""

    @property
    def batch(self) -> int:
        """Crops in a step."""

    @property
    def seed(self) -> int:
        """Of what is drawn."""


def too_much(options: Budget) -> str | None:
    """Say which option is more than any training can have, naming it first."""
    for name, most in MOST.items():
        value = getattr(options, name)
        if value is not None and not value <= most:
            return f"{name} must be at most {most}, not {shown(value)}."
    return None
