"""Stamps of files and folders: whether one is still what it was, without reading all of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_unet_cells.files.quiet import quiet_tifffile
from napari_unet_cells.untrusted.ome_xml import parse_ome
from napari_unet_cells.untrusted.unit_record import Stamp

#: Bytes up to which a file is read to know its content; beyond, its size and time must do.
LONGEST_READ = 256_000_000


def stamp_of(path: Path) -> Stamp:
    """Note the state of a file, or of a folder with all that is in it.

    The other files of an OME-TIFF that is divided into several count as a part of it.

    Raises
    ------
    OSError
        Where it is not there, or the disk refuses.
    """
    if path.is_dir():
        return _stamp_of_folder(path)
    files = [path, *_others(path)]
    size, mtime_ns = _state_of(files)
    return Stamp(size, mtime_ns, "" if size > LONGEST_READ else _digest_of(files))


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
    files = [path, *_others(path)]
    size, mtime_ns = _state_of(files)
    if size != stamp.size:
        return False
    return mtime_ns == stamp.mtime_ns or (
        bool(stamp.digest) and stamp.size <= LONGEST_READ and _digest_of(files) == stamp.digest
    )


def _others(path: Path) -> list[Path]:
    """Find the other files of an OME-TIFF; what cannot be read has none."""
    if not path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        return []
    import tifffile

    path.stat()  # that it is not there is an error of its own
    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            names = parse_ome(tif.ome_metadata or "").files if tif.is_ome else ()
    except Exception:  # tifffile has many kinds; whoever reads the pixels says it
        return []
    others = (path.with_name(name) for name in names if name != path.name)
    return [other for other in others if other.is_file()]


def _state_of(files: Sequence[Path]) -> tuple[int, int]:
    """Give the size of files together, and their newest time."""
    found = [path.stat() for path in files]
    return sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)


def _digest_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            if len(files) == 1:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(path.name.encode(errors="surrogateescape"))
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


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
