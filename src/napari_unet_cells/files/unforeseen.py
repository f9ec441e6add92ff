"""Errors that nobody foresaw: a sentence for the user, and the rest in a file for the report."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import traceback
from datetime import datetime
from pathlib import Path

from napari_unet_cells.untrusted.names import is_link
from napari_unet_cells.untrusted.rules import printable

#: Name of the file, in the folder of the results; it grows by one error after the other.
ERRORS = "napari-unet-cells-errors.log"

#: Bytes from which on nothing is added.
_LONGEST = 10_000_000


def unforeseen(error: BaseException, folder: Path) -> str:
    """Note an error in a file and say it in a sentence.

    Parameters
    ----------
    error : BaseException
    folder : Path
        Where the file lies; where the disk refuses it, the sentence does without.
    """
    why = printable(f"{type(error).__name__}: {error}", 200).rstrip(".: ")
    said = f"It failed in a way that nobody foresaw ({why})."
    path = folder / ERRORS
    if not _noted(error, path):
        return f"{said} Please report it."
    return f"{said} Please report it with the file {path}."


def _noted(error: BaseException, path: Path) -> bool:
    from napari_unet_cells import __version__

    lines = traceback.format_exception(error)
    system = f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
    command = printable(" ".join(sys.argv), 1000)
    text = f"{datetime.now().astimezone().isoformat()}\n{system}\n{command}\n{''.join(lines)}\n"
    with contextlib.suppress(OSError):
        if is_link(path) or (path.exists() and not path.is_file()):
            return False  # what is written there would land elsewhere
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            if file.tell() < _LONGEST:
                file.write(text)
        return True
    return False
