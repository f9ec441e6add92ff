"""Timers of a form, as its controller sees them: without Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Part of a `QTimer` that a controller uses; the names are those of Qt."""

    def start(self) -> None:
        """Start to wait, from the beginning where it waits already."""

    def stop(self) -> None:
        """End without the action."""

    def isActive(self) -> bool:
        """Whether it waits."""


class MakesTimers(Protocol):
    """View that makes timers for its controller."""

    def timer(self, milliseconds: int, action: Callable[[], None], repeats: bool = False) -> Timer:
        """Make a timer that calls an action in the GUI thread, once or again and again."""
