"""Open regular files only: a pipe would be waited for, a device may have no end."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from napari_unet_cells.errors import UserError

#: A pipe is opened without waiting for somebody to write into it, and then refused.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; a link to one is followed.

    Raises
    ------
    UserError
        Where it is a pipe, a device or a socket.
    OSError
        Where the system refuses.
    """
    try:
        file = open(path, "rb", opener=_opened_at_once)  # noqa: SIM115  the caller closes it
    except ValueError as error:  # a zero byte in the name
        raise UserError(f"{str(path)!r} is no name of a file.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(
            f"{path} is a pipe or a device, not a file. Save its content to a file first."
        )
    return file


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | _AT_ONCE)


def read_bytes(path: Path, longest: int) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises
    ------
    UserError
        Where it is longer, or no regular file.
    OSError
        Where the system refuses.
    """
    with open_regular(path) as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise UserError(f"{path} is longer than {longest // 2**20} MB, too long for what it is.")
    return content
