"""Write files that appear whole or not at all, and never replace another one unasked."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from napari_unet_cells.errors import UserError

PathLike: TypeAlias = str | os.PathLike[str]


#: Bytes that a file system takes for a name.
_LONGEST_NAME = 255


class FileExists(UserError):
    """The file to be written is there already, and nobody allowed its replacement.

    Parameters
    ----------
    path : str or os.PathLike
        The existing file.

    Attributes
    ----------
    path : Path
        The existing file, under the name it would have been written: with its extension.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        super().__init__(
            f"{self.path.name} exists already in {self.path.absolute().parent} and was left "
            "as it is. Choose another name, or allow it to be replaced."
        )


def refuse_existing(targets: Iterable[PathLike], overwrite: bool = False) -> None:
    """Refuse to replace files, and names that no disk takes, before time is spent on them.

    Parameters
    ----------
    targets : iterable of str or os.PathLike
        With their endings.
    overwrite : bool
        They may be replaced.

    Raises
    ------
    FileExists
        For the first target that exists, unless `overwrite`.
    UserError
        For the first target whose name is too long.
    """
    for target in targets:
        name = os.path.basename(os.fspath(target))
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise UserError(
                f"{name[:40]}... was not written: its name is longer than {_LONGEST_NAME} bytes, "
                "which no disk takes. Choose a shorter name."
            )
        if not overwrite and os.path.lexists(target):
            raise FileExists(target)


@contextlib.contextmanager
def atomic_write(path: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Let a file appear whole or not at all.

    Yields a temporary file beside the target, with the target's ending, for any library
    to write to; at the end of the block it is flushed to the disk and takes the target's
    name::

        with atomic_write("model.keras") as temporary:
            model.save(temporary)

    If the block raises, the temporary file is removed and an older target stays as it is.
    Without `overwrite`, a target that another program makes meanwhile is not replaced.

    Parameters
    ----------
    path : str or os.PathLike
        The target. A symbolic link is followed.
    overwrite : bool
        Replace an existing file.

    Yields
    ------
    Path
        The temporary file; it exists and is empty.

    Raises
    ------
    FileExists
        If the target exists and `overwrite` is False.
    UserError
        If the disk refuses: folder missing or read-only, disk full, name too long, ...
        An `OSError` that the block raises is taken for such a refusal.
    """
    target = Path(path)
    try:
        real = Path(os.path.realpath(target))
        check_target(target, real, overwrite)
        temporary = _create_beside(real)
        try:
            yield temporary
            sync(temporary)
            replace_or_claim(temporary, real, overwrite)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        # on Windows a folder cannot be opened, and need not be
        with contextlib.suppress(OSError):
            sync(real.parent)
    except FileExistsError as error:
        raise FileExists(target) from error
    except OSError as error:
        raise write_failure(target, error) from error


def check_target(target: Path, real: Path, overwrite: bool) -> None:
    """Refuse a folder, a file that is there unless `overwrite`, and one that is protected."""
    if real.is_dir():
        raise UserError(f"{target} is a folder, not a file. Add a file name to it.")
    if not real.exists():
        return
    if not overwrite:
        raise FileExists(target)
    if not os.access(real, os.W_OK):
        raise UserError(f"{target} is write-protected and was left as it is. Choose another name.")


def _create_beside(real: Path) -> Path:
    """Make an empty hidden file on the target's disk, with the rights of a normal new file."""
    # mkstemp would make it readable by its owner only; a name of fixed length, so that it
    # is not the temporary file whose name is too long
    temporary = real.with_name(f".{secrets.token_hex(6)}.part{real.suffix[:12]}")
    with open(temporary, "xb"):
        pass
    with contextlib.suppress(OSError):
        shutil.copymode(real, temporary)
    return temporary


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_or_claim(temporary: Path, real: Path, overwrite: bool) -> None:
    """Give a finished file its name; without `overwrite` only a name that is free.

    Raises
    ------
    FileExistsError
        Where it is not.
    OSError
        Where the disk refuses.
    """
    if overwrite:
        os.replace(temporary, real)
        return
    try:
        os.link(temporary, real)
        temporary.unlink()
    except FileExistsError:
        raise
    except OSError:
        # no hard links on this disk (FAT, some network shares): claim the name, then move
        with open(real, "xb"):
            pass
        try:
            os.replace(temporary, real)
        except OSError:
            real.unlink(missing_ok=True)
            raise


_READ_ONLY = "the folder {folder} may not be written to, or another program holds the file open"
_WRITE_FAILURES = {
    errno.EACCES: (_READ_ONLY, "Choose another folder, or close the other program"),
    errno.EPERM: (_READ_ONLY, "Choose another folder, or close the other program"),
    errno.EROFS: ("the folder {folder} is on a read-only disk", "Choose another folder"),
    errno.ENOSPC: ("the disk of {folder} is full", "Free some space or choose another disk"),
    errno.EDQUOT: (
        "your share of the disk of {folder} is used up",
        "Free some space or choose another disk",
    ),
    errno.EFBIG: (
        "the disk of {folder} does not take so large a file",
        "Choose another disk or a smaller region",
    ),
    errno.ENOENT: ("there is no folder {folder}", "Make it, or choose another folder"),
    errno.ENOTDIR: ("{folder} is not a folder", "Choose another folder"),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter name"),
    errno.EINVAL: ("its name holds a character that this disk refuses", "Choose another name"),
}


def write_failure(target: Path, error: OSError) -> UserError:
    """Say why the operating system does not let a file or folder be written."""
    reason, way_out = _WRITE_FAILURES.get(
        error.errno or 0,
        (
            f"the disk refused it ({error.strerror or error})",
            "See that the disk is connected and not full, or choose another one",
        ),
    )
    folder = target.absolute().parent
    return UserError(f"{target.name} was not written: {reason.format(folder=folder)}. {way_out}.")


def with_ending(path: PathLike, suffixes: frozenset[str], default: str) -> Path:
    """Append an ending, never replace one: ``cells.v2`` becomes ``cells.v2.tif``."""
    target = Path(path)
    if not target.name or os.path.isdir(target):
        raise UserError(f"{target} is a folder, not a file. Add a file name to it.")
    return target if target.suffix.lower() in suffixes else target.with_name(target.name + default)


def check_folder(folder: PathLike) -> None:
    """See that a folder is there and that files can be written in it; nothing is made.

    Asked before hours are spent on what will be written there.

    Raises
    ------
    UserError
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f"There is no folder {folder}. Make it, or choose another one.")
    make_folder(folder)


def make_folder(folder: PathLike) -> None:
    """Make a folder where it is missing and see that files can be written in it.

    Asked before hours are spent on what will be written there.

    Raises
    ------
    UserError
        Where it cannot be made or written to, or is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder. Choose a folder.")
    if folder.is_symlink() and not folder.exists():
        raise UserError(
            f"{folder} is a link, and what it leads to is not there. Choose another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"?")
    except OSError as error:
        raise UserError(
            f"Nothing can be written to the folder {folder} ({error.strerror or error}). "
            "Choose another one."
        ) from error
