"""Locks of the operating system on files: nothing stale stays behind when a program ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

#: A link that was put there meanwhile is not followed, and a pipe not waited for.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

#: What the system says of a lock that another program holds; all else is a disk without locks.
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def open_lock(path: Path) -> int:
    """Open a file to lock it, and make it where it is missing; gives its descriptor.

    Raises
    ------
    OSError
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)


def try_lock(descriptor: int) -> bool:
    """Lock a file until its descriptor is closed; False where another program holds the lock.

    On a disk without locks nobody is kept out.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True
