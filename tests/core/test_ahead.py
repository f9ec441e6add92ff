"""Items that a thread makes in advance: in order, bounded, with their errors, and ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from napari_unet_cells.core.ahead import ahead


def test_all_items_come_in_order() -> None:
    assert list(ahead(iter(range(100)), 3)) == list(range(100))
    assert list(ahead([])) == []


def test_no_more_are_made_than_were_asked_for_in_advance() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    taken = ahead(items(), 2)
    for number in taken:
        time.sleep(0.002)
        assert number + 1 <= len(made) <= number + 3
    assert len(made) == 20


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    threads: list[str] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        threads.append(threading.current_thread().name)
        yield 1
        second.set()
        yield 2

    taken = ahead(items())
    assert next(taken) == 1
    assert second.wait(5)
    assert list(taken) == [2]
    assert threads != [threading.current_thread().name]


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    taken = ahead(items(), 5)
    assert next(taken) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(taken)


def test_items_that_cannot_be_begun_are_an_error() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        next(ahead(Broken()))


def test_an_error_that_nobody_asked_for_is_dropped_with_the_rest() -> None:
    failed = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        failed.set()
        raise OSError("the disk is gone")

    before = threading.active_count()
    taken = ahead(items())
    assert next(taken) == 1
    assert failed.wait(5)
    taken.close()
    assert threading.active_count() == before


def test_closing_ends_the_thread_and_the_generator() -> None:
    ended: list[str] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(threading.current_thread().name)

    before = threading.active_count()
    taken = ahead(items(), 2)
    assert next(taken) == 1
    assert threading.active_count() == before + 1
    taken.close()
    assert threading.active_count() == before
    assert len(ended) == 1
