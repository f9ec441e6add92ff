"""Keep what tifffile logs from the user, who gets a sentence instead."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import tifffile


@contextlib.contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile's log lines off this thread's stderr: the user gets a sentence instead."""
    thread = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = tifffile.logger()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
