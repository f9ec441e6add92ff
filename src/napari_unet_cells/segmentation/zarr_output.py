"""Output of a run that writes an OME-Zarr: one program at a time, and a name once it is whole.

::

    .NAME.ome.zarr.lock      held by the program that writes it
    .NAME.ome.zarr.part/     what it has made, see `block_store`
        plan.json            published.json from when the result gets its name
        result.zarr
    .NAME.ome.zarr.older     what was there before, until the result is
    NAME.ome.zarr            the result
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import FileExists, write_failure
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.zarr_plan import parse_plan

#: Name of the plan, and from when the result gets its name.
PLAN, PUBLISHED = "plan.json", "published.json"

#: Name of the result until then.
RESULT = "result.zarr"

#: Locks of the runs that this process has begun, by their hidden folders.
_held: dict[Path, int] = {}


def hidden_folder(output: Path) -> Path:
    """Hidden folder in which a run makes an output."""
    return output.with_name(f".{output.name}.part")


def output_of(folder: Path) -> Path:
    """Give the output that a run makes in a hidden folder."""
    return folder.with_name(folder.name.removeprefix(".").removesuffix(".part"))


def older_of(output: Path) -> Path:
    """Name that an older output has while the new one gets its name."""
    return output.with_name(f".{output.name}.older")


@contextmanager
def said_of(folder: Path) -> Iterator[Path]:
    """Give the output of a run; what the disk refuses is said of it, not of its hidden folder."""
    output = output_of(folder)
    try:
        yield output
    except OSError as error:
        raise write_failure(output, error) from error


# --- one program at a time ----------------------------------------------------------------


def hold(output: Path) -> Path:
    """Keep other programs from an output until the run ends, or this process does.

    Returns
    -------
    Path
        The hidden folder; `release` takes it.

    Raises
    ------
    UserError
        Where another program writes it.
    """
    folder = hidden_folder(output)
    held = folder.absolute()
    if held in _held:
        return folder
    with said_of(held):
        descriptor = open_lock(_lock_of(held))
    if not try_lock(descriptor):
        os.close(descriptor)
        raise UserError(
            f"{output} is being written by another run. Wait until that is done, or choose another "
            "folder."
        )
    _held[held] = descriptor
    return folder


def release(folder: Path) -> None:
    """Let other programs go on with a run; what is done is kept.

    Parameters
    ----------
    folder : Path
        The hidden one.
    """
    descriptor = _held.pop(folder.absolute(), None)
    if descriptor is not None:
        _remove_lock(folder)
        os.close(descriptor)


def is_running(output: Path) -> bool:
    """Whether a run, in any process, is making a result that will have this place."""
    folder = hidden_folder(output.absolute())
    if folder in _held:
        return True
    if not _lock_of(folder).exists():
        return False
    with said_of(folder):
        descriptor = open_lock(_lock_of(folder))
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _remove_lock(folder: Path) -> None:
    with suppress(OSError):
        _lock_of(folder).unlink()


# --- what was begun -----------------------------------------------------------------------


def is_begun(output: Path) -> bool:
    """Whether a run was begun whose result did not get the name of the output yet."""
    folder = hidden_folder(output)
    return (folder / PLAN).exists() or (folder / RESULT).exists()


def begun_key(output: Path) -> str | None:
    """Give the key of the run that was begun for an output; None where none has done anything."""
    folder = hidden_folder(output)
    for name in (PLAN, PUBLISHED):
        try:
            return parse_plan(read_json(folder / name)).key
        except FileNotFoundError:
            continue
        except (OSError, Malformed):
            return ""  # whoever can read it may go on with it
    return None


def discard(output: Path) -> None:
    """Throw away what a run has made for an output that it may not replace any more."""
    remove(hidden_folder(output))


def remove(folder: Path) -> None:
    """Remove the hidden folder of a run, and its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    release(folder)
    _remove_lock(folder)  # where another process holds it, which planned the run


# --- the name -----------------------------------------------------------------------------


def give_name(made: Path, output: Path, overwrite: bool) -> None:
    """Let the result appear; what was there before goes once it is there. See `settle`.

    Parameters
    ----------
    made : Path
        The result, in the hidden folder.
    output : Path
    overwrite : bool
        Whether what was there may be replaced.

    Raises
    ------
    FileExists
        Where it may not.
    """
    older = older_of(output)
    if os.path.lexists(output) and not overwrite:
        raise FileExists(output)
    os.rename(made.with_name(PLAN), made.with_name(PUBLISHED))
    try:
        if os.path.lexists(output):
            os.rename(output, older)
        os.rename(made, output)
    except OSError:
        if os.path.lexists(older) and not os.path.lexists(output):
            os.rename(older, output)
        os.rename(made.with_name(PUBLISHED), made.with_name(PLAN))
        raise
    shutil.rmtree(older, ignore_errors=True)


def settle(output: Path) -> None:
    """Finish what a run left that was killed while its result got its name; it must be held."""
    folder, older = hidden_folder(output), older_of(output)
    published = folder / PUBLISHED
    with said_of(folder):
        if os.path.lexists(older):
            if os.path.lexists(output):
                shutil.rmtree(older, ignore_errors=True)
            else:
                os.rename(older, output)
        if published.exists():
            if (folder / RESULT).exists():
                os.rename(published, folder / PLAN)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def tidy(output: Path) -> None:
    """Finish what a run left that was killed while its result got its name.

    Raises
    ------
    UserError
        Where it is being written.
    """
    if not hidden_folder(output).exists():
        return
    folder = hold(output)
    try:
        settle(output)
    finally:
        release(folder)
