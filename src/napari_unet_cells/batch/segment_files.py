"""Segment many files, one after another; a bad one is reported and the others are done."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import ManyChannels
from napari_unet_cells.core.measure import measure
from napari_unet_cells.core.planes import Channels, Planes, many_channels, planes_of
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
    Image,
    make_folder,
    read_image,
    refuse_existing,
    write_json,
    write_labels,
    write_table,
    write_together,
)
from napari_unet_cells.files.file_set import finish_sets
from napari_unet_cells.files.results import result_record
from napari_unet_cells.files.unforeseen import unforeseen
from napari_unet_cells.layers.metadata import CELLS, CLASSES
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.messages import describe_doubt
from napari_unet_cells.segmentation.pipeline import Progress, Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Segmenter, link_axis


@dataclass(frozen=True)
class Request:
    """Options of a batch, the same for each file.

    Attributes
    ----------
    settings : Settings
        Without `link`, which is a letter here.
    channel : int, str, or a sequence of them; or None
        Of files with several channels: numbers from 0, or names. Several are projected, or become
        one image for a model that was trained on as many.
    plane : int, "all" or None
        Of stacks: one plane, counted from 0, or every plane. None refuses a stack: a run over a
        thousand planes must be asked for.
    link : str or None
        "Z" or "T": the axis along which cells are linked across planes.
    pixel_size : float or None
        Width of a pixel in micrometers, for files that do not state it.
    overwrite : bool
        Replace results of an earlier run; else they are kept, and the image is reported.
    projection : str or None
        "max" or "mean" of the chosen channels, by default of all.
    runtime : str
        See `models.runtimes.table.open_network`.
    allow_missing_chunks : bool
        See `files.read_image`.
    """

    settings: Settings = field(default_factory=Settings)
    channel: Channels | None = None
    plane: int | str | None = None
    link: str | None = None
    pixel_size: float | None = None
    overwrite: bool = False
    projection: str | None = None
    runtime: str = ""
    allow_missing_chunks: bool = False


@dataclass(frozen=True)
class PixelsDone:
    """Progress within a file; `fraction` lies between 0 and 1."""

    path: Path
    fraction: float


@dataclass(frozen=True)
class FileDone:
    """A file was segmented, or failed.

    Attributes
    ----------
    path : Path
        Of the image.
    written : tuple of Path
        Results, empty where there was a problem.
    summary : str
        Such as "214 cells in 1.9 s".
    problem : str
        A sentence, empty where all went well.
    """

    path: Path
    written: tuple[Path, ...] = ()
    summary: str = ""
    problem: str = ""


def segment_files(
    paths: Sequence[Path], output: Path, model: str | Path, request: Request | None = None
) -> Iterator[PixelsDone | FileDone]:
    """Segment files and write labels, classes, a table and a record for each.

    For each ``NAME.tif`` these are ``NAME_cells.tif``, ``NAME_classes.tif``,
    ``NAME_cells.csv`` and ``NAME.json``.

    Parameters
    ----------
    paths : sequence of Path
    output : Path
        Folder, made where it is missing.
    model : str or Path
        Name of an installed model, or a `.keras` file.
    request : Request, optional

    Yields
    ------
    PixelsDone
        While a file is computed.
    FileDone
        Once for each file.

    Raises
    ------
    UserError
        Where the model or the folder cannot be used, before anything is computed, and
        where two files would have results of one name.
    """
    stems = _stems(paths)
    card = find_model(model)
    _spare_inputs(
        paths, [name for path in paths for name in _result_paths(output / stems[path], card)]
    )
    make_folder(output)
    segmenter = Segmenter.of(card, open_network(card, (request or Request()).runtime))
    asked = request or Request()
    for path in paths:
        file = _File(path, output / stems[path], card, asked)
        try:
            # Files of one folder are mostly alike.
            diameter = yield from file.segment(segmenter)
            asked = _expecting(asked, diameter)
        except FileExists as error:
            yield FileDone(
                path, problem=f"{error.path} exists and was kept; --overwrite replaces it."
            )
        except UserError as error:
            yield FileDone(path, problem=str(error))
        except MemoryError:
            yield FileDone(
                path, problem="It is too large for this computer's memory. Segment a part of it."
            )
        except Exception as error:  # a defect of ours or of a library must not end the others
            yield FileDone(path, problem=unforeseen(error, output))


def _spare_inputs(paths: Sequence[Path], results: Sequence[Path]) -> None:
    """Refuse to replace an image by the result of another, even with `overwrite`."""
    inputs = {os.path.realpath(path) for path in paths}
    for result in results:
        if os.path.realpath(result) in inputs:
            raise UserError(
                f"{result} is one of the images, and a result would be written there. Choose "
                "another folder for the results."
            )


def _stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Names of the results; refuse two images that would write the same files."""
    stems: dict[Path, str] = {}
    first: dict[str, Path] = {}  # some disks take A.tif and a.tif for the same file
    for path in paths:
        stem = path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
        other = first.setdefault(stem.casefold(), path)
        if other is not path:
            raise UserError(
                f"{other} and {path} would both be written as {stem}_cells.tif. Segment "
                "them into different folders."
            )
        stems[path] = stem
    return stems


@dataclass(frozen=True)
class _File:
    """One image and its results; `target` is their path without an ending."""

    path: Path
    target: Path
    card: ModelCard
    request: Request

    def segment(self, segmenter: Segmenter) -> Generator[PixelsDone | FileDone, None, float]:
        """Segment it; return the diameter that similar images begin with, see `Settings`."""
        # Before the network runs in vain.
        targets = _result_paths(self.target, self.card)
        finish_sets(targets)
        refuse_existing(targets, self.request.overwrite)
        image = read_image(self.path, self.request.allow_missing_chunks)
        planes, axes = self._planes(image)
        source: dict[str, Any] = {
            "path": os.path.realpath(self.path),
            "shape": image.data.shape,
            "axes": image.axes,
        }
        source |= many_channels(planes)
        fixed = {image.axes[axis]: index for axis, index in planes.fixed.items()}
        if "channels" in source:
            del fixed["C"]
        if fixed:
            source["fixed"] = fixed
        link = link_axis(planes, image.axes, self.request.link)
        settings = replace(self.request.settings, link=link)
        notes = [] if image.n_images == 1 else [f"only the first of {image.n_images} images"]
        diameter = 0.0
        notes += [image.missing] * bool(image.missing)
        for event in segmenter.events(planes, settings, source):
            if isinstance(event, Progress):
                yield PixelsDone(self.path, event.done / event.total)
            elif isinstance(event, MemoryFull):
                notes.append(f"memory full, went on with tiles of {event.tile} pixels")
            elif isinstance(event, Result):
                written = self._write(event, image, planes, axes)
                yield FileDone(self.path, written, _summary(event, notes))
                diameter = 0.0 if event.details.diameter_unsure else event.diameter
        return diameter

    def _planes(self, image: Image) -> tuple[Planes, str]:
        """Planes of a file, and the axes of their labels."""
        request = self.request
        planes = planes_of(
            image.data, image.axes, request.channel, request.projection, image.channel_names
        )
        plane = self.request.plane
        if len(planes) > 1 and plane is None:
            size = " x ".join(map(str, image.data.shape))
            raise UserError(
                f"It is a stack of {len(planes)} planes (axes {image.axes}, {size}). Say which: "
                "--plane all segments every plane, --plane 0 the first one."
            )
        if isinstance(plane, int) and planes.free:
            planes = replace(planes, fixed={**planes.fixed, **_at(planes, plane)})
        return planes, "".join(image.axes[axis] for axis in planes.free) + "YX"

    def _write(self, result: Result, image: Image, planes: Planes, axes: str) -> tuple[Path, ...]:
        """Write all results, or none of the new ones."""
        overwrite = self.request.overwrite
        size, unit = image.pixel_size, image.unit
        if size is None and self.request.pixel_size is not None:
            size, unit = (self.request.pixel_size,) * 2, "micrometer"
        targets = _result_paths(self.target, self.card)
        files = [path.name for path in targets[:-1]]
        with write_together(targets, overwrite) as folder:
            for role, labels in ((CELLS, result.cells), (CLASSES, result.classes)):
                if labels is None:
                    continue
                write_labels(
                    folder / _named(self.target, f"_{role}.tif").name,
                    labels,
                    axes=axes if axes in _TIFF_AXES else "ZYX",
                    pixel_size=size,
                    unit=unit,
                    z_step=image.z_step,
                    provenance=result_record(
                        result.provenance, size, unit, role=role, **self._place(axes)
                    ),
                )
            if result.cells is not None:
                table = measure(
                    result.cells, _channels(planes, image), size or (1.0, 1.0), unit, axes
                )
                write_table(folder / _named(self.target, "_cells.csv").name, table)
            n_cells = None if result.cells is None else result.n_cells
            record = result_record(result.provenance, size, unit, cells=n_cells, files=files)
            write_json(folder / targets[-1].name, record)
        return tuple(targets)

    def _place(self, axes: str) -> dict[str, Any]:
        """Transform that puts the labels on the image as napari opens it.

        napari's readers give pictures and TIFFs a scale of one pixel.
        """
        if self.path.suffix.lower() == ".zarr":
            return {}
        n = len(axes)
        return {
            "transform": {
                "scale": [1.0] * n,
                "translate": [0.0] * n,
                "rotate": np.eye(n).tolist(),
                "shear": [0.0] * (n * (n - 1) // 2),
                "affine": np.eye(n + 1).tolist(),
                "units": ["pixel"] * n,
                "axis_labels": list(axes.lower()),
            }
        }


#: Axes that a label TIFF can name; pages along other axes are written as planes.
_TIFF_AXES = frozenset({"YX", "ZYX", "TYX", "TZYX"})


def _at(planes: Planes, number: int) -> dict[int, int]:
    """Fix every free axis to select one plane, counted through all of them."""
    if not 0 <= number < len(planes):
        raise UserError(
            f"There is no plane {number}: the stack has the planes 0 to {len(planes) - 1}."
        )
    fixed = {}
    for axis, length in reversed(list(zip(planes.free, planes.shape, strict=False))):
        number, fixed[axis] = divmod(number, length)
    return fixed


def _channels(planes: Planes, image: Image) -> ImageArray | dict[str, ImageArray]:
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


def _expecting(request: Request, diameter: float) -> Request:
    """Give the request for a file that comes after one with cells of a diameter, in pixels."""
    return replace(request, settings=replace(request.settings, likely_diameter=diameter))


def _summary(result: Result, notes: Sequence[str]) -> str:
    made = "classes" if result.cells is None else f"{result.n_cells} cells"
    n_planes = prod(result.classes.shape[:-2])
    if n_planes > 1:
        made += f" in {n_planes} planes"
    made += f" in {result.seconds:.1f} s"
    if result.details.diameter_unsure:
        notes = [*notes, f"{describe_doubt(result)[:-1]}, --diameter sets it"]
    return f"{made} ({'; '.join(notes)})" if notes else made


def _result_paths(target: Path, card: ModelCard) -> list[Path]:
    made = ("_cells.tif", "_classes.tif", "_cells.csv", ".json")
    endings = made if card.makes_cells else ("_classes.tif", ".json")
    return [_named(target, ending) for ending in endings]


def _named(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)
