"""The files and folders of `autosave`: what they look like, and who owns them.

A file is written once, appears whole or not at all, and holds regions of one labels layer,
each with its checksum::

    magic | length, checksum of the header | header: JSON, deflated | regions, zstd

A folder is named after its session, and while a process saves into it also after that
process. So a session is claimed by renaming its folder, which only one process can do::

    20261103-173200-a1b2c3                       nobody saves into it
    20261103-173200-a1b2c3.4711-1793727120       process 4711, started at that second

In a folder that several computers share, a process of another one seems dead, and what it
saves is offered to be restored. No harm is done: who loses a session that way makes a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write
from napari_unet_cells.settings import user_folder
from napari_unet_cells.untrusted.regular import open_regular
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping, whole
from napari_unet_cells.untrusted.session import (
    FIRST_MADE,
    FileHeader,
    SaveHeader,
    parse_file_header,
    parse_save_header,
    unpack_header,
)

#: Newest format that is read; the first one is written where it is enough.
FORMAT = 2

#: What the run made.
MADE = FIRST_MADE

#: Start of the name of a folder that is being deleted.
DELETED = ".deleted-"

_MAGIC = b"UNCELLS\n"
_LENGTHS = struct.Struct("<QI")
_SAVE = re.compile(r"save-(\d{6,})\.labels")
_MADE = re.compile(r"made(-\d{6,})?\.labels")
_FOLDER = re.compile(r"(\d{8}-\d{6}-[0-9a-f]{6})(?:\.(\d+)-(\d+))?")


class Damaged(Exception):
    """A file does not hold what it should."""


def sessions_folder() -> Path:
    """Folder of all sessions; who writes into it makes it."""
    return user_folder() / "sessions"


@dataclass(frozen=True)
class Packed:
    """Pixels of one region, compressed."""

    data: bytes
    dtype: str
    crc: int

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Packed:
        """Compress labels (y, x) of any integer data type."""
        little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
        data = bytes(imagecodecs.zstd_encode(little.tobytes(), level=1))
        return cls(data, little.dtype.str, zlib.crc32(data))

    def pixels(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Labels (y, x) as they were packed, in their data type.

        Raises
        ------
        Damaged
            Where there are not as many pixels.
        """
        dtype = np.dtype(self.dtype)
        size = shape[0] * shape[1] * dtype.itemsize
        try:
            pixels = imagecodecs.zstd_decode(self.data, out=size)
            labels: NDArray[Any] = np.frombuffer(pixels, dtype).reshape(shape)
        except (ValueError, RuntimeError) as error:
            raise Damaged(f"a region is damaged ({error})") from error
        return labels


@dataclass(frozen=True)
class File:
    """A file as it was read: its header, and those of its regions that are whole.

    Attributes
    ----------
    header : FileHeader
    save : SaveHeader or None
        None for a file of what the program made.
    regions : mapping of Place to Packed
    """

    header: FileHeader
    save: SaveHeader | None
    regions: Mapping[Place, Packed]


def write_file(path: Path, header: Mapping[str, Any], regions: Mapping[Place, Packed]) -> None:
    """Write a new file.

    Raises
    ------
    UserError
        Where the disk refuses; nothing is left of the file then.
    """
    table = [[*plain(place), p.dtype, len(p.data), p.crc] for place, p in regions.items()]
    text = json.dumps({"format": 1, **header, "table": table}, default=str)
    packed = zlib.compress(text.encode(), 1)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC + _LENGTHS.pack(len(packed), zlib.crc32(packed)) + packed)
        for region in regions.values():
            file.write(region.data)


def _read_document(file: Any) -> Mapping[str, Any]:
    start = file.read(len(_MAGIC) + _LENGTHS.size)
    if len(start) < len(_MAGIC) + _LENGTHS.size or not start.startswith(_MAGIC):
        raise Damaged("it is no file of a session")
    length, crc = _LENGTHS.unpack(start[len(_MAGIC) :])
    # a damaged length must not ask for all of the memory
    packed = file.read(min(length, os.fstat(file.fileno()).st_size))
    if len(packed) != length or zlib.crc32(packed) != crc:
        raise Damaged("its header is damaged")
    document = plain_mapping(unpack_header(packed))
    if whole(0, 10**6)(document.get("format")) > FORMAT:
        raise Damaged("a newer version of the program made it")
    return document


def read_header(path: Path) -> SaveHeader:
    """Read the header of a save and nothing else.

    Raises
    ------
    Damaged
        Where it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return parse_save_header(_read_document(file))
    except (OSError, UserError, Malformed) as error:
        raise Damaged(str(error)) from error


def read_file(path: Path) -> File:
    """Read a file; regions that are damaged are left out."""
    regions: dict[Place, Packed] = {}
    try:
        with open_regular(path) as file:
            document = _read_document(file)
            header, left = parse_file_header(document), os.fstat(file.fileno()).st_size
            for row in header.table:
                data = file.read(min(row.size, left))
                if len(data) == row.size and zlib.crc32(data) == row.crc:
                    regions[row.place] = Packed(data, row.dtype.str, row.crc)
            save = parse_save_header(document) if "state" in document else None
    except (OSError, UserError, Malformed) as error:
        raise Damaged(str(error)) from error
    return File(header, save, regions)


def plain(place: Place) -> list[Any]:
    """Give a place as JSON holds it."""
    return [list(place[0]), place[1]]


def saves_in(folder: Path) -> dict[int, Path]:
    """Files of the saves by their numbers, the newest first."""
    try:
        found = {
            int(m[1]): folder / name for name in os.listdir(folder) if (m := _SAVE.fullmatch(name))
        }
    except OSError:
        return {}
    return dict(sorted(found.items(), reverse=True))


def made_name(number: int) -> str:
    """Name of the file of what the program made later, first used by the save of a number."""
    return f"made-{number:06d}.labels"


def unlink_unused(folder: Path) -> None:
    """Delete files of what the program made that no save names any more."""
    with contextlib.suppress(Damaged, OSError):
        used = {read_header(path).made for path in saves_in(folder).values()}
        found = [name for name in os.listdir(folder) if _MADE.fullmatch(name)]
        unlink(folder / name for name in found if name not in used)


def owned(name: str) -> str:
    """Name of a session's folder while this process saves into it."""
    return f"{name}.{os.getpid()}-{round(psutil.Process().create_time())}"


def is_free(folder: Path) -> bool:
    """Whether no running process saves into a session."""
    found = _FOLDER.fullmatch(folder.name)
    if found is None:
        return False
    if found[2] is None:
        return True
    try:
        process = psutil.Process(int(found[2]))
        # the clock may have been set since, by less than a process number comes again
        same = abs(process.create_time() - int(found[3])) <= 2
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def moved(folder: Path, name: str) -> Path | None:
    """Rename a session's folder; None where another process was faster, or it is gone."""
    target = folder.with_name(name)
    if target == folder:
        return folder if folder.is_dir() else None
    try:
        os.rename(folder, target)
    except OSError:
        return None
    return target


def id_of(folder: Path) -> str:
    """Name of a session, whoever owns it."""
    return folder.name.partition(".")[0]


def unlink(paths: Iterable[Path]) -> None:
    """Delete files; one that is gone or cannot be deleted does no harm."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def free_sessions() -> list[Path]:
    """Folders of the sessions that no process saves into; what is half deleted goes."""
    folder = sessions_folder()
    found = []
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if name.startswith(DELETED):
            shutil.rmtree(folder / name, ignore_errors=True)
        elif is_free(folder / name):
            found.append(folder / name)
    return found


def discard(folder: Path) -> None:
    """Delete a session that nobody saves into; killed meanwhile, it is gone all the same."""
    deleted = moved(folder, DELETED + folder.name)
    if deleted is not None:
        shutil.rmtree(deleted, ignore_errors=True)
