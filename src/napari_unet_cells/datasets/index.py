"""The list of a dataset's images: ``FOLDER/index.json``, a record an image.

::

    [{"name": "a.tif", "kind": "nuclei", "split": "train", ...}, ...]

The list is only ever replaced as a whole. Programs that change it take the folder's lock
first, read it again, and so lose nothing that another one wrote meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.untrusted.dataset_record import MOST_RECORDS, DatasetRecord, parse_record
from napari_unet_cells.untrusted.json_text import LONGEST, read_json
from napari_unet_cells.untrusted.names import is_link
from napari_unet_cells.untrusted.rules import Malformed

INDEX = "index.json"
LOCK = ".index.lock"

#: Seconds; another program holds the lock for as long as it writes one region.
PATIENCE = 30.0


def read_index(folder: Path) -> list[DatasetRecord] | None:
    """Read the records of a dataset, older versions among them.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of DatasetRecord, or None
        None where there is no index.

    Raises
    ------
    UserError
        Where the index cannot be read, or a record makes no sense, such as a name that leads out
        of the folder.
    """
    index = folder / INDEX
    if not index.exists():
        return None
    try:
        document = read_json(index)
    except (OSError, Malformed) as error:
        why = str(error).rstrip(".")
        raise UserError(f"{index} cannot be read: {why}.") from error
    if not isinstance(document, list) or len(document) > MOST_RECORDS:
        raise UserError(
            f"{index} must be a list of records, each with the name of its image, at most "
            f"{MOST_RECORDS}."
        )
    records = [_record(index, one) for one in document]
    seen: set[str] = set()
    for record in records:
        # Files of one name in two cases are one file under Windows and macOS.
        name = record.name.casefold()
        if name in seen:
            raise UserError(f"{index} names {record.name} twice. Leave one of the two out.")
        seen.add(name)
    return records


def _record(index: Path, document: object) -> DatasetRecord:
    try:
        return parse_record(document)
    except Malformed as error:
        raise UserError(
            f"{index} cannot be used: a record {error}. Correct it there, or export the region "
            "again."
        ) from error


def current(records: Sequence[DatasetRecord]) -> list[DatasetRecord]:
    """Leave out what a newer version replaced."""
    return [record for record in records if not record.replaced_by]


def image_path(folder: Path, record: DatasetRecord) -> Path:
    """Image of a record: as it says, else in ``images/``."""
    return folder / (record.image or f"images/{record.name}")


def mask_path(folder: Path, record: DatasetRecord) -> Path:
    """Mask of a record: as it says, else of the image's name in ``masks/``."""
    return folder / (record.mask or f"masks/{record.name}")


def first_path(folder: Path, record: DatasetRecord) -> Path:
    """Labels of a record as the run made them; they may not be there."""
    return folder / "first" / record.name


def write_index(folder: Path, records: Sequence[DatasetRecord | Mapping[str, Any]]) -> None:
    """Replace the list; the old one stays whole until the new one is.

    Raises
    ------
    UserError
        Where the disk refuses, the list would be too long to be read again, or it is a link: it
        would be written elsewhere.
    """
    _refuse_link(folder / INDEX)
    documents = [one.document if isinstance(one, DatasetRecord) else one for one in records]
    text = json.dumps(jsonable(documents), indent=1, ensure_ascii=False, allow_nan=False)
    content = f"{text}\n".encode()
    if len(content) > LONGEST or len(documents) > MOST_RECORDS:
        raise UserError(
            f"The dataset {folder} is full: its list would be longer than {LONGEST // 2**20} MB or "
            f"{MOST_RECORDS} regions, and is as it was. Add further regions to another folder."
        )
    with atomic_write(folder / INDEX, overwrite=True) as temporary:
        temporary.write_bytes(content)


def _refuse_link(path: Path) -> None:
    if is_link(path):
        raise UserError(
            f"{path} is a link to another place, and what is written there would not be in the "
            "dataset. Replace it by a copy."
        )


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
    _refuse_link(folder / LOCK)
    try:
        descriptor = open_lock(folder / LOCK)
    except OSError as error:
        raise UserError(
            f"Nothing can be written to the dataset {folder} ({error.strerror or error}). "
            "Choose another folder."
        ) from error
    try:
        until = time.monotonic() + PATIENCE
        while not try_lock(descriptor):
            if time.monotonic() > until:
                raise UserError(
                    f"Another program is writing to the dataset {folder}. Try again when it is "
                    "done."
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
