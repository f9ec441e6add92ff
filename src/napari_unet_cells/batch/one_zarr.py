"""Segment one image of any size into an OME-Zarr, with its table, picture and record.

The OME-Zarr is too large to appear together with the record, so that is written twice: when the run
begins, with what was there before, and when all is done::

    plan, blocks ...   NAME.json: begun   table   NAME.ome.zarr   picture, NAME.json: done
                                                  ^ who is killed here only writes the rest
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.batch.finished import (
    REPLACES,
    has_name,
    put_record_back,
    read_unit_record,
    record_before,
)
from napari_unet_cells.batch.marks import Marked
from napari_unet_cells.batch.one_image import (
    PICTURE,
    PixelsDone,
    Written,
    by_ending,
    result_paths,
)
from napari_unet_cells.batch.overview import Gathered, View, draw
from napari_unet_cells.batch.request import Request
from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.measure import Table
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import MemoryFull, Network
from napari_unet_cells.files import Image, read_image, refuse_existing, write_json, write_together
from napari_unet_cells.files.file_set import finish_sets
from napari_unet_cells.files.pictures import write_jpeg
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.results import result_record
from napari_unet_cells.files.stamp import stamp_of
from napari_unet_cells.files.tables import tables_written
from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.messages import describe_doubt, describe_tracks
from napari_unet_cells.segmentation.to_zarr import (
    CELLS,
    CLASSES,
    UnitDone,
    Work,
    ZarrDone,
    finish,
    prepare,
    segment_to_zarr,
)
from napari_unet_cells.segmentation.zarr_output import discard
from napari_unet_cells.segmentation.zarr_request import open_planes
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.unit_record import BATCH, Stamp, UnitRecord

#: Part of the time that the network and the separation take; the rest is writing.
_SEGMENTING = 0.9


@dataclass(frozen=True)
class OneZarr:
    """One image and its results; `target` is their path without an ending.

    Attributes
    ----------
    path, target : Path
    card : ModelCard
    request : Request
    stamp : Stamp
        Of the image, for the record.
    begun : UnitRecord or None
        Of a run that was left in the middle, and would do the same.
    unmarked : callable
        Gives what is entered before the results are replaced, and left after; see `MarksThen`.
    """

    path: Path
    target: Path
    card: ModelCard
    request: Request
    stamp: Stamp
    begun: UnitRecord | None = None
    unmarked: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def results(self) -> list[Path]:
        """Files that are written: the OME-Zarr, the table, the picture and the record."""
        return result_paths(self.target, self.card, self.request, True)

    @property
    def zarr(self) -> Path:
        """Folder with the labels."""
        return self.results[0]

    @property
    def _model(self) -> Path:
        return self.card.path

    def segment(self, network: Network) -> Generator[PixelsDone, None, Written]:
        """Segment it step by step in this process, and return what was written."""
        if self.is_there():
            return self.completed()
        self.refuse_others()
        gathered = self._gathered()
        notes: list[str] = []
        with ExitStack() as table:
            steps = segment_to_zarr(
                self.path,
                self.zarr,
                self._model,
                self.request.zarr_request(),
                network,
                lambda tables: self._keep(tables, gathered, table),
                appearing=lambda: self._appearing(table),
                tracks=lambda tracks: self._keep_tracks(tracks, table),
            )
            for event in steps:
                if isinstance(event, Work):
                    self.note_begin()
                elif isinstance(event, UnitDone):
                    yield PixelsDone(self.path, fraction(event.stage, event.done, event.total))
                elif isinstance(event, MemoryFull):
                    notes.append(f"memory full, went on with tiles of {event.tile} pixels")
                elif isinstance(event, ZarrDone):
                    details = replace(event.details, device=network.device)
                    return self._complete(replace(event, details=details), gathered, notes)
        raise AssertionError("the last event is a ZarrDone")

    # --- the same among several workers, see `together`

    def plan(self) -> Work:
        """Plan the run, or find one that was begun."""
        self.refuse_others()
        work = prepare(self.path, self.zarr, self._model, self.request.zarr_request())
        self.note_begin()
        return work

    def finish(self, folder: Path, seconds: float) -> Written:
        """Complete the results once all blocks are written."""
        gathered = self._gathered()
        with ExitStack() as table:
            done = finish(
                folder,
                lambda tables: self._keep(tables, gathered, table),
                lambda: self._appearing(table),
                lambda tracks: self._keep_tracks(tracks, table),
            )
        return self._complete(replace(done, seconds=seconds), gathered, [])

    # --- beginning and end

    def is_there(self) -> bool:
        """Whether the OME-Zarr of the run that was begun got its name: only the rest is left."""
        finish_sets(self.results[-2:])
        return self.begun is not None and has_name(self.zarr, self.begun)

    def refuse_others(self) -> None:
        """Refuse to replace files that are not ours."""
        refuse_existing(self.results, self.request.overwrite)

    def note_begin(self) -> None:
        """Note in the record that what will be there is ours, and the record of what is there."""
        files = by_ending(self.results)
        there = {ending: stamp_of(path) for ending, path in files.items() if path.exists()}
        if self.begun is not None:
            there = dict(self.begun.outputs)
        record = replace(self._record(), outputs=there, begun=True)
        before = self._record_there()
        known = {} if before is None else {REPLACES: before}
        known |= {
            "model": {"name": self.card.name, "sha256": record.model},
            "source": {"path": record.source},
        }
        self._write_record(record, known)

    def _record_there(self) -> Mapping[str, Any] | None:
        """Give the record of the results that are there, also where a run was begun since."""
        found = read_unit_record(self.results[-1])
        if found is None:
            return None
        if found.begun:
            return record_before(self.results[-1])
        document: Mapping[str, Any] = read_json(self.results[-1])
        return document

    def refuse_marked(self) -> None:
        """Throw away what was made where a person marked the image since; the rest is as it was.

        Raises
        ------
        Marked
        """
        with self._appearing(ExitStack()):
            pass

    @contextmanager
    def _appearing(self, table: ExitStack) -> Iterator[None]:
        """Let the table appear, and then the labels, unless a person marked the image."""
        with ExitStack() as held:
            try:
                held.enter_context(self.unmarked())
            except Marked:
                put_record_back(self.results[-1])
                discard(self.zarr)
                raise
            table.close()
            yield

    def completed(self) -> Written:
        """Write the record of an OME-Zarr that is there: its run was killed just before."""
        found = zarr_record(self.zarr / "labels" / (CELLS if self.card.makes_cells else CLASSES))
        try:
            known = parse_record(found)
        except Malformed:
            known = parse_record({})
        n_cells = known.document.get("cells") if self.card.makes_cells else None
        what = "cells" if self.request.track is None else "tracks"
        summary = "done" if n_cells is None else f"{n_cells} {what}"
        files = by_ending(self.results)
        outputs = {ending: stamp_of(path) for ending, path in files.items() if path.exists()}
        record = replace(self._record(), outputs=outputs, cells=n_cells, summary=summary)
        self._write_record(record, dict(known.document))
        return Written(tuple(self.results), summary, 0.0, record)

    def _complete(self, done: ZarrDone, gathered: Gathered, notes: Sequence[str]) -> Written:
        """Draw the picture, and write the record of all that is there."""
        n_cells = done.n_cells if self.card.makes_cells else None
        summary = self._summary(done, notes)
        picture, record_path = self.results[-2:]
        with write_together((picture, record_path), overwrite=True) as folder:
            write_jpeg(folder / picture.name, self._picture(done, gathered))
            files = by_ending(self.results) | {PICTURE: folder / picture.name}
            area, intensity = gathered.histograms()
            record = replace(
                self._record(),
                outputs={name: stamp_of(path) for name, path in files.items()},
                summary=summary,
                cells=n_cells,
                shape=self._labels().shape,
                area=area,
                intensity=intensity,
                unit=gathered.unit,
                device=done.details.device,
                seconds=done.seconds,
            )
            provenance = done.details.ended(done.details.device, done.seconds).provenance()
            self._write_record(record, provenance, folder / record_path.name)
        diameter = 0.0 if done.details.diameter_unsure else done.details.diameter
        return Written(tuple(self.results), summary, diameter, record)

    def _write_record(
        self, record: UnitRecord, provenance: Mapping[str, Any], path: Path | None = None
    ) -> None:
        names = [path.name for path in self.results[:-1]]
        known = {} if record.begun else {"cells": record.cells, "files": names}
        found, _ = self._opened()
        size, unit = found.pixel_size, found.unit
        if size is None and self.request.pixel_size is not None:
            size, unit = (self.request.pixel_size,) * 2, "micrometer"
        document = result_record(provenance, size, unit, **known)
        document |= {BATCH: record.document()}
        write_json(path or self.results[-1], document, overwrite=True)

    def _record(self) -> UnitRecord:
        settings = self.request.decisive(self.card)
        source = jsonable(os.path.realpath(self.path))
        return UnitRecord(self.card.sha256, self.stamp, settings, {}, source=source)

    def _summary(self, done: ZarrDone, notes: Sequence[str]) -> str:
        made = f"{done.n_cells} cells" if self.card.makes_cells else "classes"
        if done.tracks is not None:
            made = f"{describe_tracks(done.tracks)} in {done.tracks.n_frames} frames"
        blocks = "1 block" if done.n_blocks == 1 else f"{done.n_blocks} blocks"
        said = f"{made} in {blocks} in {done.seconds:.1f} s"
        notes = [*notes, *(problem.rstrip(".") for problem in done.problems)]
        if done.details.diameter_unsure:
            notes.append(f"{describe_doubt(done.details)[:-1]}, --diameter sets it")
        return f"{said} ({'; '.join(notes)})" if notes else said

    def _keep(self, tables: Iterator[Table], gathered: Gathered, table: ExitStack) -> None:
        """Write the table, to appear when the stack is closed, and note what is in it."""
        if self.card.makes_cells:
            table.enter_context(tables_written(self.results[1], gathered.watch(tables)))

    def _keep_tracks(self, tracks: Table, table: ExitStack) -> None:
        """Write the table of the tracks, to appear with that of the cells."""
        table.enter_context(tables_written(self.results[2], [tracks]))

    def _opened(self) -> tuple[Image, Planes]:
        found, planes, _ = open_planes(
            self.path, replace(self.request.zarr_request(), overwrite=True)
        )
        return found, planes

    def _gathered(self) -> Gathered:
        height, width = self._opened()[1].shape[-2:]
        return Gathered((height, width))

    def _labels(self) -> ImageArray:
        role = CELLS if self.card.makes_cells else CLASSES
        return read_image(self.zarr / "labels" / role).data

    def _picture(self, done: ZarrDone, gathered: Gathered) -> NDArray[np.uint8]:
        """Draw a part of the middle plane, and the outlines of its cells."""
        view = gathered.view(done.details.diameter)
        return draw_stack(self._opened()[1], self._labels(), view, done.details.limits)


def draw_stack(
    planes: Planes, labels: ImageArray, view: View, limits: Limits | None
) -> NDArray[np.uint8]:
    """Draw a part of the middle plane of labels on the disk, see `overview.draw`.

    Axes of length 1 may be left out of the labels.
    """
    index = list(planes.indices())[len(planes) // 2]
    plane = planes.plane(index)
    if len(labels.shape) < len(planes.shape):
        lengths = zip(index, planes.shape, strict=False)
        index = tuple(at for at, length in lengths if length > 1)
    return draw(plane, _PlaneOf(labels, index), view, limits)


@dataclass(frozen=True)
class _PlaneOf:
    """One plane of labels on the disk."""

    labels: ImageArray
    index: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.labels.shape[len(self.index) :])

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.labels.dtype)
        return dtype

    def __getitem__(self, key: Any, /) -> Any:
        return self.labels[(*self.index, *key)]


def fraction(stage: str, done: int, total: int) -> float:
    """Part of the work that is done, after so many blocks of a stage."""
    part = done / max(total, 1)
    return _SEGMENTING * part if stage == "segment" else _SEGMENTING + (1 - _SEGMENTING) * part
