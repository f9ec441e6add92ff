"""The list of a dataset's images: ``FOLDER/index.json``, a record an image.

::

    [{"name": "a.tif", "kind": "nuclei", "split": "train", ...}, ...]

The list is only ever replaced as a whole. Programs that change it take the folder's lock
first, read it again, and so lose nothing that another one wrote meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write
from napari_unet_cells.files.records import jsonable

INDEX = "index.json"
LOCK = ".index.lock"

#: Seconds; another program holds the lock for as long as it writes one region.
PATIENCE = 30.0

Record: TypeAlias = dict[str, Any]


def read_index(folder: Path) -> list[Record] | None:
    """Read the records of a dataset, older versions among them.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of dict, or None
        None where there is no index.

    Raises
    ------
    UserError
        Where the index cannot be read, or names no files of its folder.
    """
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        records = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{index} cannot be read as JSON: {error}.") from error
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and isinstance(record.get("name"), str) for record in records
    ):
        raise UserError(f"{index} must be a list of records, each with the name of its image.")
    seen: set[str] = set()
    for record in records:
        for key in ("name", "image", "mask"):
            _check_inside(index, record.get(key))
        # Files of one name in two cases are one file under Windows and macOS.
        name = record["name"].casefold()
        if name in seen:
            raise UserError(f"{index} names {record['name']} twice. Leave one of the two out.")
        seen.add(name)
    return records


def _check_inside(index: Path, name: Any) -> None:
    """Refuse a name that leads out of the folder, as one from a stranger's index may."""
    path = PurePosixPath(str(name or "x").replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(f"{index} names {name}, which is no file of its folder.")


def current(records: Sequence[Record]) -> list[Record]:
    """Leave out what a newer version replaced."""
    return [record for record in records if not record.get("replaced_by")]


def image_path(folder: Path, record: Mapping[str, Any]) -> Path:
    """Image of a record: as it says, else in ``images/``."""
    return folder / str(record.get("image") or f"images/{record['name']}")


def mask_path(folder: Path, record: Mapping[str, Any]) -> Path:
    """Mask of a record: as it says, else of the image's name in ``masks/``."""
    return folder / str(record.get("mask") or f"masks/{record['name']}")


def first_path(folder: Path, record: Mapping[str, Any]) -> Path:
    """Labels of a record as the run made them; they may not be there."""
    return folder / "first" / str(record["name"])


def write_index(folder: Path, records: Sequence[Record]) -> None:
    """Replace the list; the old one stays whole until the new one is.

    Raises
    ------
    UserError
        Where the disk refuses.
    """
    text = json.dumps(jsonable(records), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(folder / INDEX, overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other programs from changing a dataset meanwhile.

    The operating system holds the lock and lets go of it when the program ends, however that
    happens: nothing stale stays behind. On a disk without locks nobody is kept out.

    Raises
    ------
    UserError
        Where another program keeps it for longer than `PATIENCE`.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"Nothing can be written to the dataset {folder} ({error.strerror or error}). "
            "Choose another folder."
        ) from error
    try:
        until = time.monotonic() + PATIENCE
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise UserError(
                    f"Another program is writing to the dataset {folder}. Try again when it is "
                    "done."
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


#: What the system says of a lock that another program holds; all else is a disk without locks.
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


def _try_lock(descriptor: int) -> bool:
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
