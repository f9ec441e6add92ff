"""Errors that nobody foresaw: a sentence for the user, and the rest in a file for the report."""

from __future__ import annotations

import contextlib
import errno
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

#: The way out of what disks and systems refuse; anything else that they raise is noted.
_WAYS_OUT = {
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOSPC: "Free some space.",
    errno.EROFS: "Choose a folder that can be written to.",
    errno.EACCES: "Choose another place, or ask for the right to use this one.",
    errno.EPERM: "Choose another place, or ask for the right to use this one.",
    errno.ELOOP: "It is a link that leads to itself: name what it should lead to.",
    errno.EIO: "The disk or the network drive failed: copy the files elsewhere, and try again.",
    errno.EMFILE: "Close other programs, and try again.",
    errno.ENFILE: "Close other programs, and try again.",
} | {
    getattr(errno, name): text
    for name, text in (
        ("EDQUOT", "Free some space."),
        ("ESTALE", "The network drive lost it: look whether it is still there, and try again."),
    )
    if hasattr(errno, name)  # Windows has not all of them
}

#: Bytes from which on nothing is added.
_LONGEST = 10_000_000


def unforeseen(error: BaseException, folder: Path) -> str:
    """Say an error in a sentence; what is no failure of the machine is noted in a file as well.

    Parameters
    ----------
    error : BaseException
    folder : Path
        Where the file lies; where the disk refuses it, the sentence does without.
    """
    refused = _refused(error)
    if refused:
        return refused
    why = printable(f"{type(error).__name__}: {error}", 200).rstrip(".: ")
    said = f"It failed in a way that nobody foresaw ({why})."
    path = folder / ERRORS
    if not _noted(error, path):
        return f"{said} Please report it."
    return f"{said} Please report it with the file {path}."


def _refused(error: BaseException) -> str:
    """Say what a disk or a system refused, and the way out; empty for any other error."""
    if not isinstance(error, OSError) or error.errno not in _WAYS_OUT:
        return ""
    why = str(error.strerror or error).rstrip(".")
    named = error.filename if error.filename2 is None else error.filename2
    # Both may be bytes, or the number of a file that is open.
    path = printable(os.fsdecode(named), 200) if isinstance(named, str | bytes) else "A file"
    return f"{path} could not be used: {why}. {_WAYS_OUT[error.errno]}"


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
