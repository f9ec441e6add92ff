"""Tell units that are done, and still are what they would be now, from those that are to be done.

The record of a unit, ``NAME.json``, appears together with its results or not at all, so there is no
list of its own that could tell something else than the files::

    NAME.json    image, model and settings as they are now, files there?   yes: done
                                                                           no: begins anew
    a file that the user changed since is never replaced without --overwrite; labels that can be
    read no more are listed, and an empty file is none
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_unet_cells.batch.one_image import OME_ZARR, by_ending
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, read_image, write_json
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.stamp import is_unchanged
from napari_unet_cells.segmentation.zarr_output import is_begun
from napari_unet_cells.untrusted.folder_record import MarksRecord
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping, printable
from napari_unet_cells.untrusted.unit_record import Stamp, UnitRecord, parse_unit_record


@dataclass(frozen=True)
class Earlier:
    """Rest of an earlier run of a unit.

    Attributes
    ----------
    record : UnitRecord or None
        Of a unit that is done; None where it is to be done.
    why : str
        Why it begins anew, such as "the image was changed"; empty where it just begins.
    begun : UnitRecord or None
        Of a unit that was left in the middle; its files may be replaced.
    kept : str
        Why it stays as it is although it would begin anew: "approved" or "corrected".
    """

    record: UnitRecord | None = None
    why: str = ""
    begun: UnitRecord | None = None
    kept: str = ""

    @property
    def may_replace(self) -> bool:
        """Whether the results that are there are of no use any more."""
        return bool(self.why) or self.begun is not None


def look_back(path: Path, results: list[Path], model: str, settings: Mapping[str, Any]) -> Earlier:
    """Find out what an earlier run left of a unit.

    Parameters
    ----------
    path : Path
        Of the image.
    results : list of Path
        The files of the unit, its record last.
    model : str
        Sha256.
    settings : mapping
        See `Request.decisive`.

    Raises
    ------
    UserError
        Where it begins anew, and a file that would be replaced was changed by somebody else; or
        where labels were changed to what is no result any more.
    OSError
        Where the disk refuses.
    """
    found = read_unit_record(results[-1])
    if found is None:
        return Earlier()
    if not found.begun and _is_of_another(path, found):
        raise UserError(
            f"{results[-1]} is the record of another image, {printable(found.source, 1000)}, and "
            "was kept. Choose another folder for the results; --overwrite replaces it."
        )
    if found.begun:
        why = "; ".join(_differences(path, found, model, settings, []))
        return Earlier(None, why, found if not why else None)
    files = by_ending(results)
    lost = [*_lost(files, found.outputs)]
    why = "; ".join(_differences(path, found, model, settings, lost))
    if not why:
        for ending, file in files.items():
            _refuse_damaged(file, found.outputs.get(ending), found.shape)
        return Earlier(found)
    for ending, file in files.items():
        _refuse_changed(file, found.outputs.get(ending), why)
    return Earlier(None, why)


def _is_of_another(path: Path, found: UnitRecord) -> bool:
    """Whether a record is of another image; one that was moved has its content still."""
    here = jsonable(os.path.realpath(path))
    return bool(found.source) and found.source != here and not is_unchanged(path, found.input)


def _lost(files: Mapping[str, Path], outputs: Mapping[str, Stamp]) -> Iterator[str]:
    """Say which of the results are not there any more, or hold nothing."""
    there = {ending: file for ending, file in files.items() if ending in outputs}
    gone = [file.name for file in there.values() if not file.exists()]
    empty = [file.name for ending, file in there.items() if _is_empty(file, outputs[ending])]
    if gone:
        yield f"{', '.join(gone)} is missing"
    if empty:
        yield f"{', '.join(empty)} is empty"


def _is_empty(file: Path, stamp: Stamp) -> bool:
    """Whether nothing is left of a file or a folder in which something was."""
    if not file.exists() or not stamp.size:
        return False
    return not any(file.iterdir()) if file.is_dir() else not file.stat().st_size


def _refuse_damaged(file: Path, stamp: Stamp | None, shape: tuple[int, ...]) -> None:
    """Refuse to take labels for results that are none any more; what was corrected still is one.

    Who corrects labels changes the size of their file nearly always, and so does what damages a
    copy; of the others nothing is read, however many there are.
    """
    if stamp is None or file.suffix != ".tif" or file.stat().st_size == stamp.size:
        return
    try:
        found = tuple(length for length in read_image(file).data.shape if length != 1)
    except UserError as error:
        problem = f"it cannot be read any more. {error}"
    else:
        if found == tuple(length for length in shape if length != 1):
            return
        problem = f"it is of another size, {' x '.join(map(str, found))} pixels."
    raise UserError(
        f"{file.name} was changed since the batch wrote it: {problem} It was kept. Put the right "
        "file there, or delete it to have the image done anew."
    )


def _refuse_changed(file: Path, stamp: Stamp | None, why: str) -> None:
    """Refuse to replace a file that is not ours, or not as we wrote it."""
    if not file.exists() or (stamp is not None and _is_empty(file, stamp)):
        return
    if stamp is None:
        raise FileExists(file)
    if not is_unchanged(file, stamp):
        raise UserError(
            f"It would begin anew ({why}), but {file} was changed since the batch wrote it, and "
            "was kept. --overwrite replaces it; or choose another folder."
        )


def kept_by_user(
    path: Path, results: list[Path], marks: MarksRecord, name: str, overwrite: bool
) -> Earlier | None:
    """Give the results of a unit that a person approved or corrected; None where nobody did.

    Parameters
    ----------
    path : Path
        Of the image.
    results : list of Path
        See `look_back`.
    marks : MarksRecord
        On the results in the folder.
    name : str
        Of the unit.
    overwrite : bool
        What was corrected may be replaced; what was approved never is.
    """
    kept = "approved" if name in marks.approved else ""
    if not kept and name in marks.corrected and not overwrite:
        kept = "corrected"
    found = _record_of(results) if kept else None
    if found is None or found.begun or _is_of_another(path, found):
        return None
    files = by_ending(results)
    there = {ending: file for ending, file in files.items() if ending in found.outputs}
    if not all(file.exists() for file in there.values()):
        return None
    # Only labels can be what a person corrected: an empty table does not cost them.
    labels = {ending: file for ending, file in there.items() if file.suffix in (".tif", ".zarr")}
    if any(_is_empty(file, found.outputs[ending]) for ending, file in labels.items()):
        return None
    return Earlier(found, kept=kept)


def read_unit_record(path: Path) -> UnitRecord | None:
    """Read the record of a unit; None where there is none that a batch wrote."""
    try:
        return parse_unit_record(read_json(path))
    except (Malformed, FileNotFoundError, NotADirectoryError):
        return None


def _record_of(results: list[Path]) -> UnitRecord | None:
    """Read the record of the results that are there, also where a run was begun since."""
    found = read_unit_record(results[-1])
    if found is None or not found.begun:
        return found
    before = record_before(results[-1])
    return None if before is None else parse_unit_record(before)


#: Entry of the record of a run that was begun: the record of what was there, and stays until the
#: run is done.
REPLACES = "replaces"


def has_name(zarr: Path, begun: UnitRecord) -> bool:
    """Whether the OME-Zarr of a run that was begun got its name: only the rest is left.

    Parameters
    ----------
    zarr : Path
    begun : UnitRecord
        What was noted when it was begun.
    """
    if not zarr.is_dir() or is_begun(zarr):
        return False
    older = begun.outputs.get(OME_ZARR)
    return older is None or not is_unchanged(zarr, older)


def record_before(record: Path) -> dict[str, Any] | None:
    """Give the record of the results that a run is about to replace; None where it did, or none is.

    Parameters
    ----------
    record : Path
        Of the unit.
    """
    zarr = record.with_name(record.name.removesuffix(".json") + OME_ZARR)
    try:
        document: dict[str, Any] = plain_mapping(read_json(record))
        begun = parse_unit_record(document)
        before: dict[str, Any] = plain_mapping(document.get(REPLACES))
        if begun is None or not begun.begun or parse_unit_record(before) is None:
            return None
    except (Malformed, OSError):
        return None
    return None if has_name(zarr, begun) else before


def put_record_back(record: Path) -> None:
    """Write the record again of the results that a run was about to replace, where there is one.

    Parameters
    ----------
    record : Path
        Of the unit.
    """
    before = record_before(record)
    if before is not None:
        write_json(record, before, overwrite=True)


def _differences(
    path: Path, found: UnitRecord, model: str, settings: Mapping[str, Any], lost: list[str]
) -> Iterator[str]:
    if not is_unchanged(path, found.input):
        yield "the image was changed"
    if found.model != model:
        yield "the model is another one"
    changed = ", ".join(_changed(found.settings, settings))
    if changed:
        yield f"other settings: {changed}"
    yield from lost


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Name the settings that differ, as the command line does."""
    flat = [_flat(one) for one in (before, now)]
    for key in sorted(flat[0].keys() | flat[1].keys()):
        values = [settings.get(key) for settings in flat]
        # an option that another version does not know is one that nobody chose
        if values[0] != values[1] and any(value not in (None, False, "") for value in values):
            yield key.replace("_", "-")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    inner = settings.get("settings")
    outer = {key: value for key, value in settings.items() if key != "settings"}
    return outer | (dict(inner) if isinstance(inner, Mapping) else {})
