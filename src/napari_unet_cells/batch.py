"""Many files, one after another; a bad one is reported and the rest is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_unet_cells.engine import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
    Image,
    make_folder,
    read_image,
    write_json,
    write_labels,
)
from napari_unet_cells.nets import ModelCard, find_model
from napari_unet_cells.predict import Network, TileDone
from napari_unet_cells.segmentation import Result, check_plane, segment_plane


@dataclass(frozen=True)
class PixelsDone:
    """Part of a file is segmented; `fraction` lies between 0 and 1."""

    path: Path
    fraction: float


@dataclass(frozen=True)
class FileDone:
    """A file is done, or could not be.

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
    paths: Sequence[Path], output: Path, model: str | Path, overwrite: bool = False
) -> Iterator[PixelsDone | FileDone]:
    """Segment files into ``STEM_cells.tif``, ``STEM_classes.tif`` and ``STEM.json``.

    Parameters
    ----------
    paths : sequence of Path
    output : Path
        Folder, made where it is missing.
    model : str or Path
        Name of an installed model, or a `.keras` file.
    overwrite : bool
        Replace results of an earlier run; else such a file is a problem.

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
    network = open_network(card)
    for path in paths:
        try:
            yield from _segment_file(path, output / stems[path], card, network, overwrite)
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


def _spare_inputs(paths: Sequence[Path], results: Sequence[Path]) -> None:
    """Refuse to replace an image by the result of another one, even where --overwrite is set."""
    inputs = {path.resolve() for path in paths}
    for result in results:
        if result.resolve() in inputs:
            raise UserError(
                f"{result} is one of the images, and a result would be written there. Choose "
                "another folder for the results."
            )


def _stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Names for the results, refusing two images that would write the same files."""
    stems: dict[Path, str] = {}
    first: dict[str, Path] = {}  # some disks know no difference between A.tif and a.tif
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


def _segment_file(
    path: Path, target: Path, card: ModelCard, network: Network, overwrite: bool
) -> Iterator[PixelsDone | FileDone]:
    names = _result_paths(target, card)
    if not overwrite:
        for existing in filter(Path.exists, names):
            raise FileExists(existing)  # before the network runs for nothing
    image = read_image(path)
    source = {"path": str(path.resolve()), "shape": image.data.shape, "axes": image.axes}
    if image.axes not in ("YX", "YXC"):
        size = " x ".join(map(str, image.data.shape))
        raise UserError(
            f"It is a stack or has several channels (axes {image.axes}, {size}). One plane is "
            "segmented at a time, grey or RGB: save a plane, a channel or a projection from Fiji."
        )
    plane = check_plane(image.data)
    for event in segment_plane(plane, network, card, source=source):
        if isinstance(event, TileDone):
            yield PixelsDone(path, event.pixels_done / event.pixels_total)
        elif isinstance(event, Result):
            written = _write(event, image, target, overwrite)
            made = "classes" if event.cells is None else f"{event.n_cells} cells"
            summary = f"{made} in {event.provenance['seconds']:.1f} s"
            if image.n_images > 1:
                summary += f" (only the first of the file's {image.n_images} images)"
            yield FileDone(path, written, summary)


def _result_paths(target: Path, card: ModelCard) -> list[Path]:
    endings = ["_cells.tif"] * card.makes_cells + ["_classes.tif", ".json"]
    return [target.with_name(target.name + ending) for ending in endings]


def _write(result: Result, image: Image, target: Path, overwrite: bool) -> tuple[Path, ...]:
    """Write all results, or, where there were none before, none."""
    written: list[Path] = []
    try:
        for ending, labels in (("_cells.tif", result.cells), ("_classes.tif", result.classes)):
            if labels is None:
                continue
            path = write_labels(
                target.with_name(target.name + ending),
                labels,
                pixel_size=image.pixel_size,
                unit=image.unit,
                provenance=result.provenance,
                overwrite=overwrite,
            )
            written.append(path)
        record = {
            **result.provenance,
            "cells": None if result.cells is None else result.n_cells,
            "pixel_size": image.pixel_size,
            "unit": image.unit,
            "files": [path.name for path in written],
        }
        written.append(write_json(f"{target}.json", record, overwrite=overwrite))
    except UserError:
        if not overwrite:  # a half would be in the way of the next run
            for path in written:
                path.unlink(missing_ok=True)
        raise
    return tuple(written)
