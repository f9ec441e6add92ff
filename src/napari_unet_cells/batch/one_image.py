"""Segment one image and write its results: the same for a handful of files and for a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.batch.overview import histograms, picture_of
from napari_unet_cells.batch.request import Request
from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.measure import Table, measure
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.files import (
    Image,
    read_image,
    refuse_existing,
    write_json,
    write_labels,
    write_together,
)
from napari_unet_cells.files.file_set import finish_sets
from napari_unet_cells.files.pictures import write_jpeg
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.results import result_record
from napari_unet_cells.files.stamp import stamp_of
from napari_unet_cells.files.tables import TABLES
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX, AxisPlace
from napari_unet_cells.layers.metadata import CELLS, CLASSES
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.chosen_planes import chosen_planes, source_of, with_told_axes
from napari_unet_cells.segmentation.messages import describe_doubt, describe_tracks
from napari_unet_cells.segmentation.pipeline import Progress
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Segmenter, link_axis
from napari_unet_cells.segmentation.tracked import check_tracking, tracked
from napari_unet_cells.untrusted.unit_record import BATCH, Stamp, UnitRecord


@dataclass(frozen=True)
class PixelsDone:
    """Progress within a file; `fraction` lies between 0 and 1."""

    path: Path
    fraction: float


@dataclass(frozen=True)
class Written:
    """The results of an image are on the disk.

    Attributes
    ----------
    files : tuple of Path
    summary : str
        Such as "214 cells in 1.9 s".
    diameter : float
        That similar images begin with, see `Settings`; 0 where it is a guess.
    record : UnitRecord or None
        Where a batch asked for one.
    """

    files: tuple[Path, ...]
    summary: str
    diameter: float
    record: UnitRecord | None = None


@dataclass(frozen=True)
class OneImage:
    """One image and its results.

    Attributes
    ----------
    path : Path
    target : Path
        Of the results, without an ending.
    card : ModelCard
    request : Request
    stamp : Stamp or None
        Of the image, for the record of a batch; where there is one, a picture is written too.
    unmarked : callable
        Gives what is entered before the results are replaced, and left after; see `MarksThen`.
    """

    path: Path
    target: Path
    card: ModelCard
    request: Request
    stamp: Stamp | None = None
    unmarked: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def results(self) -> list[Path]:
        """Files that are written, the record last."""
        return result_paths(self.target, self.card, self.request, self.stamp is not None)

    def segment(self, segmenter: Segmenter) -> Generator[PixelsDone, None, Written]:
        """Segment it step by step, and return what was written.

        Raises
        ------
        UserError
            Where the image, the options and the model do not fit, or the disk refuses.
        """
        # Before the network runs in vain.
        finish_sets(self.results)
        refuse_existing(self.results, self.request.overwrite)
        asked = self.request
        image = with_told_axes(read_image(self.path, asked.allow_missing_chunks), asked.axes)
        planes, axes = chosen_planes(image, asked.channel, asked.projection, asked.plane)
        link = link_axis(planes, image.axes, self.request.link)
        if asked.track is not None:
            makes_cells = self.card.makes_cells
            check_tracking(axes, planes.shape[0], makes_cells, image.is_guessed)
        settings = replace(self.request.settings, link=link)
        notes = [] if image.n_images == 1 else [f"only the first of {image.n_images} images"]
        notes += [image.missing] * bool(image.missing)
        source = source_of(self.path, image, planes)
        # Closed here: where a signal comes while it is thrown away, nobody would hear of it.
        with closing(segmenter.events(planes, settings, source)) as events:
            for event in events:
                if isinstance(event, Progress):
                    yield PixelsDone(self.path, event.done / event.total)
                elif isinstance(event, MemoryFull):
                    notes.append(f"memory full, went on with tiles of {event.tile} pixels")
                elif isinstance(event, Result):
                    result = event if asked.track is None else tracked(event, asked.track)
                    return self._write(result, image, planes, axes, notes)
        raise AssertionError("the last event is a Result")

    def _write(
        self, result: Result, image: Image, planes: Planes, axes: str, notes: Sequence[str]
    ) -> Written:
        """Write all results, or none of the new ones."""
        scale = scale_of(image, self.request.pixel_size)
        size, unit = scale.pixel_size, scale.unit
        summary = _summary(result, notes)
        targets = self.results
        names = [path.name for path in targets[:-1]]
        table = None
        if result.cells is not None:
            channels = measured_channels(planes, image)
            table = measure(result.cells, channels, size or (1.0, 1.0), unit, axes)
        with ExitStack() as held, write_together(targets, self.request.overwrite) as folder:
            self._write_labels(folder, result, axes, image)
            write, ending = TABLES[self.request.table], self.request.table
            if table is not None:
                write(folder / self._name(f"_cells.{ending}"), table)
            if result.tracks is not None:
                tracks = result.tracks.table(size or (1.0, 1.0), unit)
                write(folder / self._name(f"_tracks.{ending}"), tracks)
            noted = self._noted(folder, planes, result, table, summary)
            record = result_record(
                result.provenance,
                size,
                unit,
                cells=None if result.cells is None else result.n_cells,
                files=names,
                **({} if noted is None else {BATCH: noted.document()}),
            )
            write_json(folder / targets[-1].name, record)
            held.enter_context(self.unmarked())
        diameter = 0.0 if result.details.diameter_unsure else result.diameter
        return Written(tuple(targets), summary, diameter, noted)

    def _write_labels(self, folder: Path, result: Result, axes: str, image: Image) -> None:
        scale = scale_of(image, self.request.pixel_size)
        size, unit = scale.pixel_size, scale.unit
        for role, labels in ((CELLS, result.cells), (CLASSES, result.classes)):
            if labels is None:
                continue
            place = place_on(image, axes)
            record = result_record(result.provenance, size, unit, role=role, **place)
            write_labels(
                folder / self._name(f"_{role}.tif"),
                labels,
                axes=tiff_axes(axes),
                pixel_size=size,
                unit=unit,
                z_step=scale.z_step,
                provenance=record,
            )

    def _noted(
        self, folder: Path, planes: Planes, result: Result, table: Table | None, summary: str
    ) -> UnitRecord | None:
        """Draw the picture, and note what a batch wants to know of the unit."""
        if self.stamp is None:
            return None
        write_jpeg(folder / self._name(PICTURE), picture_of(planes, result, table))
        outputs = {ending: folder / path.name for ending, path in by_ending(self.results).items()}
        area, intensity = histograms(table)
        return UnitRecord(
            model=self.card.sha256,
            input=self.stamp,
            source=jsonable(os.path.realpath(self.path)),
            settings=self.request.decisive(self.card),
            outputs={name: stamp_of(path) for name, path in outputs.items()},
            summary=summary,
            cells=None if result.cells is None else result.n_cells,
            shape=result.classes.shape,
            area=area,
            intensity=intensity,
            unit="pixel" if table is None else table.unit,
            device=result.device,
            seconds=result.seconds,
        )

    def _name(self, ending: str) -> str:
        return _named(self.target, ending).name


#: Axes that a label TIFF can name.
_TIFF_AXES = frozenset({"YX", "ZYX", "TYX", "TZYX"})


def tiff_axes(axes: str) -> str:
    """Axes that a label TIFF gets; pages along others are written as planes."""
    return axes if axes in _TIFF_AXES else "ZYX"


def scale_of(image: Image, told: float | None) -> Scale:
    """Give the pixel size of a file; where it does not state it, what was told."""
    if image.pixel_size is None and told is not None:
        return Scale((told, told), "micrometer", image.z_step)
    return Scale(image.pixel_size, image.unit, image.z_step)


def place_on(image: Image, axes: str) -> dict[str, Any]:
    """Transform that puts the labels on the image as a reader opens it.

    napari's readers give pictures and TIFFs a scale of one pixel. An OME-Zarr states steps, shifts
    and units of its axes; where it states none, nothing is said.
    """
    letters = axes.lower()
    if image.path.is_dir() or image.path.suffix.lower() == ZARR_SUFFIX:
        if not image.place:
            return {}
        places = [image.place.get(letter, AxisPlace(1.0)) for letter in letters]
    else:
        places = [AxisPlace(1.0)] * len(axes)
    n = len(axes)
    return {
        "transform": {
            "scale": [place.step for place in places],
            "translate": [place.origin for place in places],
            "rotate": np.eye(n).tolist(),
            "shear": [0.0] * (n * (n - 1) // 2),
            "affine": np.eye(n + 1).tolist(),
            "units": [place.known_unit for place in places],
            "axis_labels": list(letters),
        }
    }


#: Ending of a folder with all label images of an image.
OME_ZARR = ".ome.zarr"

#: Ending of the small picture with outlines that a batch writes.
PICTURE = "_outlines.jpg"


def measured_channels(planes: Planes, image: Image) -> ImageArray | Mapping[str, ImageArray]:
    """Image for the table: an array of the labels' shape, or one for each colour or channel."""
    key = tuple(planes.fixed.get(axis, slice(None)) for axis in range(len(image.data.shape)))
    if isinstance(planes.data, ManyChannels):
        axis, raw = planes.data.axis, planes.data.data
        names = image.channel_names or [f"channel {n}" for n in range(raw.shape[axis])]
        return {names[n]: raw[(*key[:axis], n, *key[axis + 1 :])] for n in planes.data.channels}
    if not planes.color:
        pixels: ImageArray = planes.data[key]
        return pixels
    colors = ("red", "green", "blue") if planes.channels == 3 else range(planes.channels)
    return {str(name): planes.data[(*key[:-1], c)] for c, name in enumerate(colors)}


def _summary(result: Result, notes: Sequence[str]) -> str:
    made = "classes" if result.cells is None else f"{result.n_cells} cells"
    n_planes = prod(result.classes.shape[:-2])
    if result.tracks is not None:
        made = f"{describe_tracks(result.tracks)} in {n_planes} frames"
    elif n_planes > 1:
        made += f" in {n_planes} planes"
    made += f" in {result.seconds:.1f} s"
    if result.details.diameter_unsure:
        notes = [*notes, f"{describe_doubt(result.details)[:-1]}, --diameter sets it"]
    return f"{made} ({'; '.join(notes)})" if notes else made


def result_paths(
    target: Path, card: ModelCard, request: Request | None = None, picture: bool = False
) -> list[Path]:
    """Files of one image, the record last; `target` is their path without an ending."""
    request = request or Request()
    table = [f"_cells.{request.table}"] if card.makes_cells else []
    table += [f"_tracks.{request.table}"] if request.track is not None else []
    labels = ["_cells.tif", "_classes.tif"] if card.makes_cells else ["_classes.tif"]
    if request.format == "ome-zarr":
        labels = [OME_ZARR]
    endings = [*labels, *table, *([PICTURE] if picture else []), ".json"]
    return [_named(target, ending) for ending in endings]


def by_ending(results: Sequence[Path]) -> dict[str, Path]:
    """Give the files of an image, without the record, by what follows the name of the image."""
    stem = results[-1].name.removesuffix(".json")
    return {path.name.removeprefix(stem): path for path in results[:-1]}


def _named(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)
