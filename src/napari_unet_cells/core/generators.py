"""Run a generator for what it returns, or pass what it yields on in other words."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

_Event = TypeVar("_Event")
_Other = TypeVar("_Other")
_Result = TypeVar("_Result")


def result_of(steps: Generator[Any, None, _Result]) -> _Result:
    """Run a generator to its end, and give what it returns; what it yields is dropped."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


def translated(
    steps: Generator[_Event, None, _Result], word: Callable[[_Event], _Other]
) -> Generator[_Other, None, _Result]:
    """Yield each event of a generator in another form, and return what it returns.

    Closing this one closes the generator too, so that it can undo what it has begun.

    Parameters
    ----------
    steps : generator
    word : callable
        Gives the other form of an event.
    """
    try:
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                result: _Result = end.value
                return result
            yield word(event)
    finally:
        steps.close()
