"""Segment a handful of files, one after another; a bad one is reported, the others are done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_unet_cells.batch.one_image import OneImage, PixelsDone, result_paths
from napari_unet_cells.batch.request import Request
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, make_folder
from napari_unet_cells.files.unforeseen import unforeseen
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.segment import Segmenter


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
    ``NAME_cells.csv`` and ``NAME.json``. Each file begins with the cell diameter of the one
    before it, as files of one folder are mostly alike.

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
    asked = request or Request()
    stems = _stems(paths)
    card = find_model(model)
    spare_inputs(
        paths,
        [name for path in paths for name in result_paths(output / stems[path], card, asked)],
    )
    make_folder(output)
    segmenter = Segmenter.of(card, open_network(card, asked.runtime))
    for path in paths:
        try:
            image = OneImage(path, output / stems[path], card, asked)
            written = yield from image.segment(segmenter)
            asked = asked.expecting(written.diameter)
            yield FileDone(path, written.files, written.summary)
        except Exception as error:
            yield FileDone(path, problem=problem_of(error, output))


def problem_of(error: Exception, output: Path) -> str:
    """Say in a sentence why one image failed; what nobody foresaw is noted in a file."""
    if isinstance(error, FileExists):
        return f"{error.path} exists and was kept; --overwrite replaces it."
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "It is too large for this computer's memory. Segment a part of it."
    return unforeseen(error, output)  # a defect of ours or of a library must not end the others


def spare_inputs(paths: Sequence[Path], results: Sequence[Path]) -> None:
    """Refuse to replace an image by the result of another, even with `overwrite`.

    Raises
    ------
    UserError
    """
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
        stem = stem_of(path)
        other = first.setdefault(stem.casefold(), path)
        if other is not path:
            raise UserError(
                f"{other} and {path} would both be written as {stem}_cells.tif. Segment "
                "them into different folders."
            )
        stems[path] = stem
    return stems


def stem_of(path: Path) -> str:
    """Name of an image without its ending: also without that of an ``.ome.tif``."""
    return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
