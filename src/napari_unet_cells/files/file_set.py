"""Files that belong together appear all at once, or not at all, whatever happens meanwhile.

::

    DIR/.KEY-OWNER.part/    a.tif a.json    written here; removed where that fails
    DIR/.KEY-OWNER.whole/   a.tif a.json    renamed once every file is whole: now the set counts
    DIR/                    a.tif a.json    and is moved out, one file after the other

KEY tells sets by their names, OWNER is the process that writes. Of a process that was killed before
the renaming nothing is left but a hidden folder, which the next one that writes into DIR removes;
what was killed after it, the next one that looks for the set moves out (`finish_sets`). Where files
may be replaced, the folder is named ``.replace`` and knows which versions of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
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
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.names import is_link
from napari_unet_cells.untrusted.rules import Malformed, mapping, pair, whole

#: Endings of the folder of a set: not whole yet, whole, and whole where it may replace older files.
_PART, _NEW, _REPLACES = ".part", ".whole", ".replace"

_FOLDER = re.compile(
    r"\.(?P<key>[0-9a-f]{16})-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}"
    r"(?P<ending>\.part|\.whole|\.replace)"
)

#: Seconds after which the folder of another computer counts as left: nobody writes that long.
_STALE = 86_400.0

#: In a folder of `_REPLACES`: size and time of the files that it may replace.
_STAMPS = ".stamps.json"


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
        Replace older files; links are not, since what they name would be left behind.

    Raises
    ------
    FileExists
        Where a target exists and `overwrite` is False; nothing is written then.
    UserError
        Where the disk refuses.
    """
    paths = [Path(target) for target in targets]
    finish_sets(paths)
    refuse_existing(paths, overwrite)
    for path in paths:
        refuse_link(path)
        check_target(path, path, overwrite)
    folder = paths[0].parent
    part = folder / f".{_key(paths)}-{_owner()}-{secrets.token_hex(4)}{_PART}"
    try:
        part.mkdir()
        with _said_of(folder, part):
            yield part
        refuse_existing(paths, overwrite)  # another program may have been faster
        done = part.with_suffix(_REPLACES if overwrite else _NEW)
        if overwrite:
            (part / _STAMPS).write_text(json.dumps(_stamps(paths)))
        os.rename(part, done)
        _move_out(done)
    except OSError as error:
        raise write_failure(paths[0], error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def finish_sets(targets: Sequence[Path]) -> None:
    """Move out what is left of a set that was whole when its program was killed.

    To be called before a set is looked for, else a half of it would be taken for all. What killed
    programs left of other sets in the folder before they were whole is removed.

    Parameters
    ----------
    targets : sequence of Path
        As `write_together` takes them.
    """
    _finish(targets[0].parent, _key(targets))


def finish_all(folder: Path) -> None:
    """Do as `finish_sets` for all sets of a folder, whose names nobody knows yet."""
    _finish(folder, None)


def _finish(folder: Path, key: str | None) -> None:
    with contextlib.suppress(OSError):
        for path in _sets_in(folder):
            found = _FOLDER.fullmatch(path.name)
            if found is None or is_link(path) or not _is_left(path, found):
                continue
            if found["ending"] == _PART:
                shutil.rmtree(path, ignore_errors=True)
            elif key in (None, found["key"]):
                with contextlib.suppress(FileExists, OSError):
                    _move_out(path)


#: Folder that was looked through last, the time of its last change then, and its sets. A batch asks
#: for each of thousands of images that are done.
_looked: dict[Path, tuple[int, list[Path]]] = {}

#: Nanoseconds; what changed a shorter time ago may have changed again without a new time.
_SETTLED = 2_000_000_000


def _sets_in(folder: Path) -> list[Path]:
    """List the folders of sets in a folder, which is looked through again where it has changed."""
    changed = folder.stat().st_mtime_ns
    if folder in _looked and _looked[folder][0] == changed:
        return _looked[folder][1]
    found = list(folder.glob(".*-*-*-*-*"))
    _looked.clear()
    if time.time_ns() - changed > _SETTLED:
        _looked[folder] = (changed, found)
    return found


def _key(paths: Sequence[Path]) -> str:
    names = "\0".join(path.name for path in paths)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]


def _owner() -> str:
    import psutil  # here, and not by everyone who looks for a model

    return f"{_host()}-{os.getpid()}-{round(psutil.Process().create_time())}"


def _host() -> str:
    return hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:8]


def _is_left(path: Path, found: re.Match[str]) -> bool:
    """Whether the process that wrote a folder is gone; of another computer, whether it is old."""
    if found["host"] != _host():
        return time.time() - path.lstat().st_mtime > _STALE
    import psutil

    try:
        started = psutil.Process(int(found["pid"])).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    return abs(started - int(found["start"])) > 2


def refuse_link(path: Path) -> None:
    """Refuse a symbolic link, which would be written through or replaced.

    Raises
    ------
    UserError
    """
    if is_link(path):
        raise UserError(
            f"{path} is a link to another place, and was left as it is. Remove the link, or choose "
            "another folder."
        )


@contextlib.contextmanager
def _said_of(folder: Path, part: Path) -> Iterator[None]:
    """Let errors name the folder that the user knows."""
    try:
        yield
    except UserError as error:
        said = str(error).replace(str(part.absolute()), str(folder.absolute()))
        error.args = (said.replace(str(part), str(folder)),)
        raise


def _stamps(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Size and time of change of the files that are there."""
    stamps = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            stamps[path.name] = (found.st_size, found.st_mtime_ns)
    return stamps


def _move_out(done: Path) -> None:
    """Move the files of a whole set to where they belong, also where Ctrl+C comes in between."""
    stopped: KeyboardInterrupt | None = None
    while True:
        try:
            _move_each(done)
            break
        except KeyboardInterrupt as interrupt:
            stopped = interrupt
    if stopped is not None:
        raise stopped


def _move_each(done: Path) -> None:
    """Move the files; where one would replace what it may not, none of the set stays there."""
    may_replace, moved = _known_stamps(done), list[Path]()
    files = [path for path in done.iterdir() if path.name != _STAMPS]
    # A record says that the others are there, so it comes last.
    for path in sorted(files, key=lambda path: (path.suffix == ".json", path.name)):
        target = done.parent / path.name
        now = _stamps([target]).get(target.name)
        if now is not None and may_replace.get(target.name) != now:
            for other in moved:
                other.unlink(missing_ok=True)
            shutil.rmtree(done, ignore_errors=True)
            raise FileExists(target)
        if now is not None:
            shutil.copymode(target, path)
        replace_or_claim(path, target, overwrite=now is not None)
        moved += [target] if now is None else []
    shutil.rmtree(done, ignore_errors=True)


def _known_stamps(done: Path) -> dict[str, tuple[int, int]]:
    if done.suffix != _REPLACES:
        return {}
    try:
        return mapping(pair(whole(0, 2**63 - 1)))(read_json(done / _STAMPS))
    except (OSError, Malformed):
        return {}
