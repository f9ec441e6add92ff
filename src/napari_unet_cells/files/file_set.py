"""Files that belong together appear all at once, or not at all, whatever happens meanwhile.

::

    DIR/.KEY-1f3a.part/   a.tif a.json     written here; removed where that fails
    DIR/.KEY.whole/       a.tif a.json     renamed once every file is whole: now the set counts
    DIR/                  a.tif a.json     and is moved out, one file after the other

A program that is killed before the renaming leaves nothing but a hidden folder, which is removed a
day later; killed after it, the next one that writes this set moves out what is left. A set that may
replace older files is named ``.replace`` instead of ``.whole``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import (
    FileExists,
    PathLike,
    check_target,
    refuse_existing,
    replace_or_claim,
    write_failure,
)
from napari_unet_cells.untrusted.names import is_link

#: Endings of the folder of a set that is whole, by whether it may replace older files.
_NEW, _REPLACES = ".whole", ".replace"

#: Seconds after which what was left half written is removed: nobody writes that long.
_STALE = 86_400.0


@contextlib.contextmanager
def write_together(targets: Iterable[PathLike], overwrite: bool = False) -> Iterator[Path]:
    """Write files that belong together: all of them, or none.

    Yields a hidden folder on the same disk, for the block to write the files into under the names
    of their targets; one that it leaves out is not made::

        with write_together((mask, record)) as folder:
            write_labels(folder / mask.name, labels, provenance=made)
            write_json(folder / record.name, made)

    If the block raises, nothing is left of them and older files are as they were.

    Parameters
    ----------
    targets : iterable of str or os.PathLike
        In one folder, which is there.
    overwrite : bool
        Replace older files.

    Raises
    ------
    FileExists
        Where a target exists and `overwrite` is False; nothing is written then.
    UserError
        Where the disk refuses.
    """
    paths = [Path(target) for target in targets]
    folder = paths[0].parent
    key = hashlib.sha256("\0".join(path.name for path in paths).encode(errors="replace"))
    name = folder / f".{key.hexdigest()[:16]}"
    _tidy_up(name)
    refuse_existing(paths, overwrite)
    for path in paths:
        check_target(path, path, overwrite)
    part = name.with_name(f"{name.name}-{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        with _said_of(folder, part):
            yield part
        refuse_existing(paths, overwrite)  # another program may have been faster
        whole = name.with_name(name.name + (_REPLACES if overwrite else _NEW))
        os.rename(part, whole)
        _move_out(whole, overwrite)
    except OSError as error:
        raise write_failure(paths[0], error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _said_of(folder: Path, part: Path) -> Iterator[None]:
    """Let errors name the folder that the user knows."""
    try:
        yield
    except UserError as error:
        said = str(error).replace(str(part.absolute()), str(folder.absolute()))
        error.args = (said.replace(str(part), str(folder)),)
        raise


def _tidy_up(name: Path) -> None:
    """Finish what was whole when a program was killed, and remove what was not."""
    for ending, overwrite in ((_NEW, False), (_REPLACES, True)):
        whole = name.with_name(name.name + ending)
        if whole.is_dir() and not is_link(whole):
            with contextlib.suppress(OSError, FileExists):
                _move_out(whole, overwrite)
    for part in name.parent.glob(f"{name.name}-*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.lstat().st_mtime > _STALE:
                shutil.rmtree(part, ignore_errors=True)


def _move_out(whole: Path, overwrite: bool) -> None:
    """Move the files of a set to where they belong; where one may not, none stays there."""
    moved: list[Path] = []
    try:
        for path in sorted(whole.iterdir()):
            target = whole.parent / path.name
            replace_or_claim(path, target, overwrite)
            moved.append(target)
    except FileExistsError as error:
        for target in moved:
            target.unlink(missing_ok=True)
        shutil.rmtree(whole, ignore_errors=True)
        raise FileExists(target) from error
    whole.rmdir()
