"""Bring what belongs to an OME-Zarr up to date once parts of its cells were put back.

The labels are on the disk already, see `files.label_versions`; what follows them appears all at
once, or not at all::

    NAME.ome.zarr                            the labels, in several versions
    NAME_cells.csv NAME_cells.parquet        those that were written of it: changed cells measured
    NAME_tracks.csv                          of a movie that was tracked
    NAME_outlines.jpg NAME.json              picture, number of cells, histograms

The record says of which version they are: of who is killed before that they are due
(`batch.corrected.files_due`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.batch.corrected import (
    LABEL_VERSION,
    diameter_of,
    files_due,
    kinds_of,
    record_of_result,
)
from napari_unet_cells.batch.marks import mark
from napari_unet_cells.batch.one_image import OME_ZARR, PICTURE
from napari_unet_cells.batch.one_zarr import draw_stack
from napari_unet_cells.batch.overview import Gathered
from napari_unet_cells.batch.track_tables import TRACKS, TrackTables
from napari_unet_cells.core.generators import result_of, translated
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.table_tracks import FramesOfTables
from napari_unet_cells.core.tracks import parents_of
from napari_unet_cells.files import write_json, write_together
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.pictures import write_jpeg
from napari_unet_cells.files.tables import TABLES
from napari_unet_cells.segmentation.zarr_cells import ZarrCells
from napari_unet_cells.segmentation.zarr_table import Bringing, rows_of
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed, number, pair
from napari_unet_cells.untrusted.unit_record import BATCH, UnitRecord


@dataclass(frozen=True)
class PartsFollowed:
    """Record of an OME-Zarr whose tables, picture and record are true again.

    Attributes
    ----------
    record : UnitRecord
        As it is now.
    problem : str
        Why intensities were left empty, and the picture stayed; else empty.
    """

    record: UnitRecord
    problem: str = ""


def count_parts(output: Path, name: str) -> UnitRecord | None:
    """Note that parts were put back, and how many cells there are now; the rest follows later.

    Of a cell that is gone from a part it is not looked whether it has another piece elsewhere: that
    is seen when the table follows.

    Parameters
    ----------
    output : Path
        Folder of the results of a batch.
    name : str
        Of the image.

    Returns
    -------
    UnitRecord or None
        As it is now; None where no part was put back since.

    Raises
    ------
    UserError
        Where something cannot be read or written.
    """
    versions = LabelVersions(output / f"{name}{OME_ZARR}")
    last = versions.last
    if not last:
        return None
    mark(output, name, corrected=True)
    known, document = record_of_result(output, name)
    stated = document.get(_COUNTED, document.get(LABEL_VERSION, 0))
    since = stated if isinstance(stated, int) else 0
    if since >= last:
        return None
    new = range(since + 1, last + 1)
    if not set(new) <= set(versions.numbers):  # somebody removed one: the table will tell
        return known
    # whether a track is in another frame still, the table will tell
    n = (known.cells or 0) + (0 if TRACKS in document else _more(versions, new))
    n = max(0, n)
    noted = replace(known, cells=n, summary=_summary(n))
    made = document | {"cells": n, "corrected_by_hand": True, _COUNTED: last}
    record = output / f"{name}.json"
    write_json(record, made | {BATCH: noted.document()}, overwrite=True)
    return noted


def _more(versions: LabelVersions, numbers: Iterable[int]) -> int:
    """Count cells that came with versions, less those that went."""
    first: dict[tuple[int, ...], bool] = {}
    last: dict[tuple[int, ...], bool] = {}
    for one in numbers:
        version = versions.version(one)
        before, after = (
            set(np.unique(labels).tolist()) - {0} for labels in (version.before, version.after)
        )
        for label in before | after:
            key = (*version.plane, label)
            first.setdefault(key, label in before)
            last[key] = label in after
    return sum(last.values()) - sum(first.values())


def follow_parts(output: Path, name: str) -> PartsFollowed:
    """Bring tables, picture and record up to date once parts were put back; see `following_parts`.

    Parameters
    ----------
    output : Path
    name : str
    """
    return result_of(following_parts(output, name))


def following_parts(output: Path, name: str) -> Generator[float, None, PartsFollowed]:
    """Bring tables, picture and record up to date once parts were put back, step by step.

    Who closes it before its end leaves tables, picture and record as they were. It is marked as
    corrected first. Where all is true already, nothing is written.

    Parameters
    ----------
    output : Path
        Folder of the results of a batch.
    name : str
        Of the image.

    Yields
    ------
    float
        The part that is done, 0 to 1.

    Raises
    ------
    UserError
        Where something cannot be read or written; tables, picture and record are as they were.
    """
    mark(output, name, corrected=True)
    known, document = record_of_result(output, name)
    if not files_due(output, name):
        return PartsFollowed(known)
    folder = output / f"{name}{OME_ZARR}"
    bringing, cells = Bringing.of(folder), ZarrCells.open(folder)
    kinds, problem = kinds_of(output, name, known), cells.problem
    tables = [state.path for state in bringing.states]
    picture, record = output / f"{name}{PICTURE}", output / f"{name}.json"
    of_tracks = TrackTables.of(output, name, kinds, known.outputs, document)
    targets = [path for path in tables if path.suffix[1:] in kinds]
    targets += [*of_tracks.written, picture, record]
    with write_together(targets, overwrite=True) as hidden:
        table = bringing.csv.path
        if not (bringing.are_true and "csv" in kinds):
            paths = {path: hidden / path.name for path in tables}
            brought = yield from translated(bringing.write(paths), _of_measuring)
            table, problem = paths[bringing.csv.path], brought.problem
        gathered = Gathered((cells.finest.shape[-2], cells.finest.shape[-1]))
        n, frames, rows = 0, FramesOfTables(), rows_of(table, cells.pixel_size)
        for some in gathered.watch(frames.watch(rows) if of_tracks.has_tracks else rows):
            n += len(some)
            yield _MEASURING  # and it can be closed here
        if of_tracks.has_tracks:
            parents = parents_of(parse_record(document).document.get(TRACKS))
            found = frames.tracks(parents, cells.finest.shape[0])
            n, unit = len(found), gathered.unit
            for path in of_tracks.written:
                of_kind = TABLES[path.suffix[1:]]
                of_kind(hidden / path.name, found.table(cells.pixel_size, unit))
        if "csv" not in kinds:  # it was needed for the others only
            table.unlink()
        if cells.planes is not None:
            view, limits = gathered.view(diameter_of(document)), _limits(document)
            write_jpeg(hidden / picture.name, draw_stack(cells.planes, cells.finest, view, limits))
        else:
            kept = f"The picture of {name} stays as it was, as its image cannot be read."
            problem = f"{problem} {kept}".strip()
        area, intensity = gathered.histograms()
        noted = replace(known, cells=n, summary=_summary(n), area=area, intensity=intensity)
        files = [folder.name, *(path.name for path in targets[:-1])]
        made = document | {"cells": n, "files": files, "corrected_by_hand": True}
        made |= {LABEL_VERSION: bringing.last, BATCH: noted.document()}
        made.pop(_COUNTED, None)
        write_json(hidden / record.name, made)
    bringing.note()
    return PartsFollowed(noted, problem)


#: Part of the time that measuring takes; the rest is reading the tables again.
_MEASURING = 0.9


def _of_measuring(done: float) -> float:
    return _MEASURING * done


def _summary(n: int) -> str:
    return f"{n} cells, corrected"


#: Entry of a record: version of the labels up to which `cells` counts, where tables are older.
_COUNTED = "counted_version"


def _limits(document: Mapping[str, Any]) -> Limits | None:
    """Intensities that are black and white, as the run had them; None where it says none."""
    with suppress(Malformed, KeyError, TypeError):
        found = document["parameters"]["normalization"]["limits"]
        low, high = pair(number())(found)
        return Limits(low, high)
    return None
