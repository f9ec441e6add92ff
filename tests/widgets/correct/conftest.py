"""Timers without Qt, for controllers that are tested without a window."""

from __future__ import annotations

import pytest


class HandTimer:
    """Timer whose time is over when the test says so."""

    def __init__(self, action, repeats):
        self.action, self.repeats, self.active = action, repeats, False

    def start(self):
        self.active = True

    def stop(self):
        self.active = False

    def isActive(self):
        return self.active


class HandTimers:
    """Makes timers for a controller; `settle` lets the time go by."""

    def __init__(self):
        self.made: list[HandTimer] = []

    def timer(self, milliseconds, action, repeats=False):
        self.made.append(HandTimer(action, repeats))
        return self.made[-1]

    def settle(self, most=1000):
        for _ in range(most):
            waiting = [timer for timer in self.made if timer.active]
            if not waiting:
                return
            for timer in waiting:
                timer.active = timer.repeats
                timer.action()
        raise AssertionError("some timer never stops")


@pytest.fixture
def timers():
    return HandTimers()
