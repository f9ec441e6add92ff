"""Stamps of files and folders: whether one is still what it was, without reading all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from napari_unet_cells.untrusted.unit_record import Stamp

#: Bytes up to which a file is read to know its content; beyond, its size and time must do.
LONGEST_READ = 256_000_000


def stamp_of(path: Path) -> Stamp:
    """Note the state of a file, or of a folder with all that is in it.

    Raises
    ------
    OSError
        Where it is not there, or the disk refuses.
    """
    if path.is_dir():
        return _stamp_of_folder(path)
    found = path.stat()
    digest = "" if found.st_size > LONGEST_READ else _digest_of(path)
    return Stamp(found.st_size, found.st_mtime_ns, digest)


def is_unchanged(path: Path, stamp: Stamp) -> bool:
    """Whether a file or folder is what it was; one that was copied or touched only, is.

    Of a folder every file must have its size and time.

    Raises
    ------
    OSError
        Where it is not there, or the disk refuses.
    """
    if path.is_dir():
        return _stamp_of_folder(path) == stamp
    found = path.stat()
    if found.st_size != stamp.size:
        return False
    return found.st_mtime_ns == stamp.mtime_ns or (
        bool(stamp.digest) and stamp.size <= LONGEST_READ and _digest_of(path) == stamp.digest
    )


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp_of_folder(folder: Path) -> Stamp:
    """Size, newest time, and a digest of the names, sizes and times of all files."""
    digest, size, newest = hashlib.sha256(), 0, 0
    for name, found in sorted(_files_of(folder)):
        digest.update(f"{name}\0{found[0]}\0{found[1]}\0".encode(errors="surrogateescape"))
        size += found[0]
        newest = max(newest, found[1])
    return Stamp(size, newest, digest.hexdigest())


def _files_of(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            found = os.stat(path)
            inside = os.path.relpath(path, folder).replace(os.sep, "/")
            yield inside, (found.st_size, found.st_mtime_ns)
