"""Put cells that a person corrected in the place of those that a batch found.

::

    as_segmented/a_cells.tif    the cells as the batch found them: copied first, once
    marks.unet-cells.json       "corrected", so that no run replaces what follows
    a_cells.tif a_cells.csv a_outlines.jpg a.json      all at once, or none of them; of a
                                movie that was tracked also a_tracks.csv

Of an OME-Zarr the other files are written first, but do not appear yet; then the labels are
replaced in their place, plane by plane, and what was there is kept as versions in it
(`files.label_versions`); then the other files appear. The record says of which version they are: of
who is killed in between they are due (`files_due`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_unet_cells.batch.finished import record_before
from napari_unet_cells.batch.marks import mark, read_marks
from napari_unet_cells.batch.one_image import (
    OME_ZARR,
    PICTURE,
    measured_channels,
    place_on,
    scale_of,
    tiff_axes,
)
from napari_unet_cells.batch.overview import histograms, picture_with
from napari_unet_cells.batch.track_tables import TRACKS, TrackTables
from napari_unet_cells.core.measure import Table, measure
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.tracks import FrameCells, Tracks, parents_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    Image,
    make_folder,
    read_image,
    write_json,
    write_labels,
    write_together,
)
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.label_planes import put_back_planes
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import replace_record
from napari_unet_cells.files.pictures import write_jpeg
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import OF_ONE_FILE, result_record
from napari_unet_cells.files.stamp import is_unchanged
from napari_unet_cells.files.tables import TABLES, is_table
from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.layers.metadata import CELLS
from napari_unet_cells.segmentation.chosen_planes import chosen_planes, with_told_axes
from napari_unet_cells.segmentation.replacing import count_cells
from napari_unet_cells.segmentation.zarr_output import is_running
from napari_unet_cells.segmentation.zarr_table import note_tables
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed, plain_mapping
from napari_unet_cells.untrusted.unit_record import BATCH, UnitRecord, parse_unit_record

#: Folder, among the results, of cells as the batch found them, of images that were corrected.
AS_SEGMENTED = "as_segmented"


def write_corrected(
    output: Path, name: str, labels: NDArray[Any], made: Mapping[str, Any] | None = None
) -> UnitRecord:
    """Replace the cells of an image, and with them its table, picture and record.

    Parameters
    ----------
    output : Path
        Folder of the results of a batch.
    name : str
        Of the image.
    labels : integer array
        Of the shape of those that the batch wrote.
    made : mapping, optional
        Record of these labels, which may have been tracked since; its tracks are written.

    Returns
    -------
    UnitRecord
        As it is now.

    Raises
    ------
    UserError
        Where the image is gone or another one, or the disk refuses; the results are as they were.
        Of an OME-Zarr, planes that were replaced before stay so, and it stays marked as corrected.
    """
    correction = _Correction.of(output, name, labels, made)
    _keep_original(output, name, correction.known)
    last = correction.versions.last
    was = name in read_marks(output).corrected
    mark(output, name, corrected=True)  # before: no run may come in between
    try:
        return correction.write()
    except UserError:
        if not was and correction.versions.last == last:
            with contextlib.suppress(UserError):
                mark(output, name, corrected=False)
        raise


def files_due(output: Path, name: str) -> bool:
    """Whether table, picture and record of an OME-Zarr are of labels that were corrected since.

    So left by a program that was killed, or found the disk full, while it replaced them. Where the
    record cannot be read nothing is known to be due.

    Parameters
    ----------
    output : Path
        Folder of the results of a batch.
    name : str
        Of the image.
    """
    last = LabelVersions(output / f"{name}{OME_ZARR}").last
    if not last:
        return False
    try:
        written = plain_mapping(read_json(output / f"{name}.json")).get(LABEL_VERSION, 0)
    except (OSError, Malformed):
        return False
    return not isinstance(written, int) or written < last


def result_files(output: Path, name: str, table: str = "csv", tracked: bool = False) -> list[Path]:
    """Files of an image as one set, see `files.file_set`: the same for a batch and a correction."""
    tables = [f"{_CELLS}.{table}", *([f"_tracks.{table}"] if tracked else [])]
    endings = (_LABELS, "_classes.tif", *tables, PICTURE, ".json")
    return [output / f"{name}{ending}" for ending in endings]


def kinds_of(output: Path, name: str, known: UnitRecord) -> list[str]:
    """Kinds of the tables that were written of the cells of an image, that of the last run first.

    A run with another ``--table`` leaves the one that is there.
    """
    first = "parquet" if f"{_CELLS}.parquet" in known.outputs else "csv"
    others = (kind for kind in TABLES if kind != first)
    return [first, *(one for one in others if is_table(output / f"{name}{_CELLS}.{one}"))]


@dataclass(frozen=True, eq=False)
class _Correction:
    """Corrected labels of an image, with all that is needed to write them."""

    output: Path
    name: str
    labels: NDArray[Any]
    known: UnitRecord
    document: Mapping[str, Any]
    image: Image
    planes: Planes
    axes: str

    @classmethod
    def of(
        cls, output: Path, name: str, labels: NDArray[Any], made: Mapping[str, Any] | None
    ) -> _Correction:
        known, found = record_of_result(output, name)
        document = _with_tracks(found, made or found)
        image = read_image(Path(known.source), bool(known.settings.get("allow_missing_chunks")))
        chosen = known.settings
        image = with_told_axes(image, str(chosen.get("axes") or ""))
        channel = chosen.get("channel")
        channel = tuple(channel) if isinstance(channel, list) else channel
        planes, axes = chosen_planes(image, channel, chosen.get("projection"), chosen.get("plane"))
        if labels.shape != planes.shape:
            there, here = (" x ".join(map(str, one)) for one in (planes.shape, labels.shape))
            raise UserError(
                f"{known.source} has {there} pixels now, and these cells have {here}. They were "
                "not put into the result; export them to a file of their own."
            )
        return cls(output, name, labels, known, document, image, planes, axes)

    @property
    def scale(self) -> Scale:
        told = self.known.settings.get("pixel_size")
        return scale_of(self.image, float(told) if isinstance(told, int | float) else None)

    def write(self) -> UnitRecord:
        return self._write_zarr() if self.is_zarr else self._write_files()

    @property
    def is_zarr(self) -> bool:
        """Whether the labels lie in an OME-Zarr."""
        return OME_ZARR in self.known.outputs

    @property
    def versions(self) -> LabelVersions:
        """Versions of the labels of an OME-Zarr; of others there are none."""
        return LabelVersions(self.output / f"{self.name}{OME_ZARR}")

    @property
    def _kinds(self) -> list[str]:
        """Kinds of tables that were written of the cells; that of the last run first."""
        return kinds_of(self.output, self.name, self.known)

    def _write_zarr(self) -> UnitRecord:
        size, unit = self.scale.pixel_size, self.scale.unit
        channels = measured_channels(self.planes, self.image)
        table = measure(self.labels, channels, size or (1.0, 1.0), unit, self.axes)
        kinds, of_tracks = self._kinds, self._track_tables
        files = [self.output / f"{self.name}{_CELLS}.{kind}" for kind in kinds]
        files += [self.output / f"{self.name}{PICTURE}", self.output / f"{self.name}.json"]
        targets = [*files[:-2], *of_tracks.written, *files[-2:]]
        noted = self._noted(table, of_tracks.endings_gone(self.name))
        with write_together(targets, overwrite=True) as folder:
            for kind, target in zip(kinds, files, strict=False):
                TABLES[kind](folder / target.name, table)
            self._write_tracks(folder, of_tracks.written)
            diameter = diameter_of(self.document)
            drawn = picture_with(self.planes, self.labels, table, diameter)
            write_jpeg(folder / targets[-2].name, drawn)
            names = [self.versions.folder.name, *(target.name for target in targets[:-1])]
            with self._tracks_noted():
                put_back_planes(self.versions.folder, self.labels)
                last = self.versions.last
                record = self._record(noted, names) | {LABEL_VERSION: last}
                write_json(folder / targets[-1].name, record)
        of_tracks.remove_gone()
        if last:
            note_tables(self.versions.folder, last)
        return noted

    def _write_files(self) -> UnitRecord:
        size, unit = self.scale.pixel_size, self.scale.unit
        channels = measured_channels(self.planes, self.image)
        table = measure(self.labels, channels, size or (1.0, 1.0), unit, self.axes)
        kind, *other_kinds = self._kinds
        of_tracks = self._track_tables
        tracked = of_tracks.files[1:]
        targets = result_files(self.output, self.name, kind, of_tracks.is_named)
        others = [self.output / f"{self.name}{_CELLS}.{one}" for one in other_kinds]
        targets[-2:-2] = [*others, *tracked]
        names = [target.name for target in targets]
        noted = self._noted(table, of_tracks.endings_gone(self.name))
        with write_together(targets, overwrite=True) as folder:
            self._write_labels(folder / names[0])
            TABLES[kind](folder / names[2], table)
            for path in others:
                TABLES[path.suffix[1:]](folder / path.name, table)
            self._write_tracks(folder, of_tracks.written)
            diameter = diameter_of(self.document)
            drawn = picture_with(self.planes, self.labels, table, diameter)
            write_jpeg(folder / names[-2], drawn)
            gone = {path.name for path in of_tracks.files} if not of_tracks.writes else ()
            there = [name for name in names[:-1] if name not in gone]
            write_json(folder / names[-1], self._record(noted, there))
        of_tracks.remove_gone()
        return noted

    @property
    def _track_tables(self) -> TrackTables:
        """Tables of tracks that were written, and whether these cells have tracks."""
        outputs = self.known.outputs
        return TrackTables.of(self.output, self.name, self._kinds, outputs, self.document)

    def _write_tracks(self, folder: Path, targets: Sequence[Path]) -> None:
        """Write the tracks of the labels as all tables of tracks there are."""
        if targets:
            found = self._tracks(self.scale.pixel_size or (1.0, 1.0), self.scale.unit)
        for path in targets:
            TABLES[path.suffix[1:]](folder / path.name, found)

    @contextlib.contextmanager
    def _tracks_noted(self) -> Iterator[None]:
        """Note in an OME-Zarr which tracks its labels have: who opens it asks it alone.

        That is before the labels, which tell what of it is true. Where these cannot be written, and
        none was, it is as before.
        """
        cells, last, before = self.versions.folder / "labels" / CELLS, self.versions.last, None
        with contextlib.suppress(Malformed):  # a damaged one is read as none
            made = plain_mapping(zarr_record(cells))
            new = _with_tracks(made, self.document)
            if new != made:
                replace_record(cells, new)
                before = made
        try:
            yield
        except (UserError, OSError):
            if before is not None and self.versions.last == last:
                with contextlib.suppress(UserError, Malformed):
                    replace_record(cells, before)
            raise

    def _tracks(self, size: tuple[float, float], unit: str) -> Table:
        """Describe the tracks, one row for each."""
        frames = [FrameCells.of(plane, number) for number, plane in enumerate(self.labels)]
        # it may be of the file as it is, with parents that make no sense
        parents = parents_of(parse_record(self.document).document.get(_TRACKS))
        return Tracks.of(frames, parents).table(size, unit)

    def _record(self, noted: UnitRecord, files: list[str]) -> dict[str, Any]:
        """Describe how the cells were made, as a run does."""
        return {
            **self.document,
            "cells": noted.cells,
            "files": files,
            "corrected_by_hand": True,
            BATCH: noted.document(),
        }

    def _write_labels(self, path: Path) -> None:
        scale = self.scale
        made = {key: value for key, value in self.document.items() if key not in OF_ONE_FILE}
        place = place_on(self.image, self.axes)
        others = {"role": CELLS, "corrected_by_hand": True, **place}
        write_labels(
            path,
            self.labels,
            axes=tiff_axes(self.axes),
            pixel_size=scale.pixel_size,
            unit=scale.unit,
            z_step=scale.z_step,
            provenance=result_record(made, scale.pixel_size, scale.unit, **others),
        )

    def _noted(self, table: Table, gone: Collection[str]) -> UnitRecord:
        """Describe the corrected cells; the files keep the stamps of those that the batch wrote.

        So a batch sees by the files alone that somebody changed them, and replaces none. Those
        whose endings are `gone` are there no more.
        """
        n = count_cells(self.labels, _linked_axis(self.document, self.labels.ndim))
        area, intensity = histograms(table)
        summary = f"{n} cells, corrected"
        outputs = {end: stamp for end, stamp in self.known.outputs.items() if end not in gone}
        return replace(
            self.known, cells=n, summary=summary, area=area, intensity=intensity, outputs=outputs
        )


_CELLS = "_cells"

#: Entry of a record: version of the labels that the other files are of.
LABEL_VERSION = "label_version"

_LABELS = f"{_CELLS}.tif"

#: Entries of a record, the second one of its parameters.
_TRACKS, _LINKED = TRACKS, "linked_along_axis"


def record_of_result(output: Path, name: str) -> tuple[UnitRecord, dict[str, Any]]:
    """Read what the batch noted of an image, and the whole record that it stands in.

    Raises
    ------
    UserError
        Where there is none of cells.
    """
    path = output / f"{name}.json"
    try:
        document: dict[str, Any] = plain_mapping(read_json(path))
        if not is_running(output / f"{name}{OME_ZARR}"):  # else none but that run writes it
            document = record_before(path) or document
    except (OSError, Malformed) as error:
        raise UserError(
            f"{path}, the record of the result, cannot be read ({error}). The cells were not put "
            "into the result; export them to a file of their own."
        ) from error
    known = None
    with contextlib.suppress(Malformed):
        known = parse_unit_record(document)
    if known is None or known.begun or known.cells is None:
        raise UserError(f"{path} is no record of cells that a batch found.")
    return known, document


def with_tracks_of_result(output: Path, name: str, made: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the record of the labels of an OME-Zarr with the tracks that the result says of them.

    Those of a correction are noted in the OME-Zarr before its labels are replaced: of who was
    killed in between they are of labels that never came. Not to be asked where files are due.

    Parameters
    ----------
    output : Path
        Folder of the results of a batch.
    name : str
        Of the image.
    made : mapping
        As it stands in the OME-Zarr. Where the record of the result cannot be read it stays.
    """
    try:
        _, document = record_of_result(output, name)
    except UserError:
        return made
    return _with_tracks(made, parse_record(document).document)


def _keep_original(output: Path, name: str, known: UnitRecord) -> None:
    """Copy the cells that the batch found, where they are in their place still."""
    cells, stamp = output / f"{name}{_LABELS}", known.outputs.get(_LABELS)
    try:
        if stamp is None or not is_unchanged(cells, stamp):
            return
        kept = output / AS_SEGMENTED / f"{name}{_LABELS}"  # with the folders of a pattern
        make_folder(kept.parent)
        with atomic_write(kept, overwrite=True) as temporary:
            shutil.copyfile(cells, temporary)
    except OSError as error:
        raise read_failure(cells, error) from error


def _with_tracks(document: Mapping[str, Any], made: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a record with the tracks, and the linked axis, of another one; or without any."""
    others = {key: value for key, value in document.items() if key != _TRACKS}
    tracks = {_TRACKS: made[_TRACKS]} if _TRACKS in made else {}
    ours, theirs = document.get("parameters"), made.get("parameters")
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and _LINKED in theirs:
        others["parameters"] = {**ours, _LINKED: theirs[_LINKED]}
    return {**others, **tracks}


def _linked_axis(document: Mapping[str, Any], ndim: int) -> int | None:
    """Axis along which cells have one number; without any each plane is numbered on its own."""
    parameters = document.get("parameters")
    linked = parameters.get(_LINKED) if isinstance(parameters, Mapping) else None
    axis = 0 if _TRACKS in document else linked
    return axis if isinstance(axis, int) and 0 <= axis < ndim - 2 else None


def diameter_of(document: Mapping[str, Any]) -> float:
    """Diameter of the cells as the run saw them; 0 where it is not known."""
    parameters = document.get("parameters")
    scale = parameters.get("scale") if isinstance(parameters, Mapping) else None
    diameter = scale.get("diameter") if isinstance(scale, Mapping) else None
    return float(diameter) if isinstance(diameter, int | float) else 0.0
