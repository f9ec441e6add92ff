"""Generators that are run for their result, or whose events are passed on in another form."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from napari_unet_cells.core.generators import result_of, translated


def counting(log: list[str]) -> Generator[int, None, str]:
    try:
        yield 1
        yield 2
        log.append("ended")
        return "three"
    finally:
        log.append("closed")


def failing() -> Generator[int, None, str]:
    yield 1
    raise OSError("the disk is full")


def test_the_result_of_a_generator_comes_after_all_of_its_steps() -> None:
    log: list[str] = []
    assert result_of(counting(log)) == "three"
    assert log == ["ended", "closed"]


def test_events_are_translated_and_the_result_is_returned() -> None:
    words: list[str] = []

    def told() -> Generator[str, None, str]:
        return (yield from translated(counting([]), "{} of 2".format))

    def followed() -> Generator[str, None, None]:
        words.append((yield from told()))

    assert list(followed()) == ["1 of 2", "2 of 2"]
    assert words == ["three"]


def test_closing_a_translation_closes_the_generator_at_once() -> None:
    log: list[str] = []
    steps = counting(log)  # kept, so that it is not closed by being forgotten
    told = translated(steps, str)
    assert next(told) == "1"
    assert log == []
    told.close()
    assert log == ["closed"]


def test_errors_of_the_generator_are_passed_on() -> None:
    with pytest.raises(OSError, match="the disk is full"):
        result_of(failing())
    with pytest.raises(OSError, match="the disk is full"):
        list(translated(failing(), str))
