"""Compute the next items of an iterator in a thread, while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


def ahead(items: Iterable[_Item], n: int = 1) -> Generator[_Item, None, None]:
    """Give the items of an iterator, which a thread takes from it in advance.

    Closing waits for the item that is being made.

    Parameters
    ----------
    items : iterable
        Only the thread takes from it, and closes it where it is a generator.
    n : int
        Items that are ready, or being made, before they are asked for.

    Raises
    ------
    BaseException
        That of the iterator, in its turn.
    """
    ready: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
    room, stop = threading.Semaphore(n), threading.Event()

    def work() -> None:
        source: Iterator[_Item] | None = None
        try:
            source = iter(items)
            while True:
                room.acquire()
                if stop.is_set():
                    break
                try:
                    ready.put(("item", next(source)))
                except StopIteration:
                    break
        except BaseException as error:
            ready.put(("error", error))
            return
        finally:
            if isinstance(source, Generator):
                source.close()
        ready.put(("end", None))

    thread = threading.Thread(target=work, daemon=True, name="unet-cells-ahead")
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "item":
                room.release()
                yield item  # type: ignore[misc]
            elif kind == "error":
                assert isinstance(item, BaseException)
                raise item
            else:
                return
    finally:
        stop.set()
        room.release()
        thread.join()
