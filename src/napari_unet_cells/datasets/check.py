"""Summarize a dataset and find its errors, before an hour of training does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.labels import UNKNOWN, holds_cells
from napari_unet_cells.datasets.annotated_images import AnnotatedImage, annotated_image_of
from napari_unet_cells.datasets.index import (
    INDEX,
    current,
    first_path,
    image_path,
    mask_path,
    read_index,
)
from napari_unet_cells.datasets.layouts import Finding, find_pairs
from napari_unet_cells.datasets.split import records_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image
from napari_unet_cells.untrusted.dataset_record import DatasetRecord

#: Pieces up to which a mask of one number may be one cell with a few stray pixels.
_STRAY_PIECES = 2

#: Part of the pixels that have the largest value, from which on it is said.
_OVEREXPOSED = 0.2


def check(folder: str | Path) -> list[Finding]:
    """Look for all that is wrong with a dataset; every file is read.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of Finding
        Errors keep the dataset, or a part of it, from being used; notes do not.
    """
    folder = Path(folder)
    try:
        records = read_index(folder)
        findings = [] if records is not None else list(find_pairs(folder).findings)
        if any(finding.severity == "error" for finding in findings):
            return findings
        listed = records_of(folder)
        items = [annotated_image_of(folder, record) for record in current(listed)]
    except UserError as error:
        return [Finding("error", folder, str(error))]
    if records is not None:
        findings.extend(_unlisted(folder, records))
    findings.extend(_in_images(folder, items))
    return findings


def _in_images(folder: Path, items: Sequence[AnnotatedImage]) -> Iterator[Finding]:
    if not items:
        sentence = f"{folder} holds no image with a mask. Approve regions and export them into it."
        yield Finding("error", folder, sentence)
        return
    class_lists = {item.classes for item in items if item.classes}
    if len(class_lists) > 1:
        listed = "; ".join(", ".join(names) for names in sorted(class_lists))
        sentence = (
            f"{folder} mixes masks of different classes ({listed}), and one model cannot learn "
            "all. Export them to a dataset each."
        )
        yield Finding("error", folder, sentence)
    annotated, bad = False, False
    shared: list[Path] = []
    for item in items:
        try:
            holds_something, found = _look_at(item, shared)
            annotated = holds_something or annotated
            bad = bad or any(finding.severity == "error" for finding in found)
            yield from found
        except UserError as error:
            bad = True
            yield Finding("error", item.mask, str(error))
    if shared:
        n = f"mask {shared[0]} gives" if len(shared) == 1 else f"{len(shared)} masks give"
        sentence = (
            f"In {folder}, the {n} all cells the same number: those that touch are learned as one "
            "cell. Give each cell a number of its own (in Fiji: Analyze Particles, Count Masks)."
        )
        yield Finding("note", shared[0], sentence)
    if not annotated and not bad:
        sentence = (
            f"The masks of {folder} hold no cell at all: there is nothing to learn from. Export "
            "regions with cells as well."
        )
        yield Finding("error", folder, sentence)


def _look_at(item: AnnotatedImage, shared: list[Path]) -> tuple[bool, list[Finding]]:
    """Whether any pixel is of a cell, or of a class, and what is wrong with the pixels.

    Every file of the image is read. Its mask is added to `shared` where its cells share a number.
    """
    cells = holds_cells(item.classes)
    files = item.read_files()
    pixels, mask = item.arrays_of(*files, () if cells else item.classes)
    first = item.read_first()
    if first is not None and first.shape != mask.shape:
        raise UserError(
            f"{item.first} is {first.shape[0]} x {first.shape[1]} pixels and its mask "
            f"{mask.shape[0]} x {mask.shape[1]}. Remove the file, or export the region again."
        )
    values = np.unique(mask)
    # Strokes of the background alone are annotated as well.
    annotated = bool((values > 0).any() if cells else (values != UNKNOWN).any())
    if cells and np.count_nonzero(values) == 1 and ndimage.label(mask)[1] > _STRAY_PIECES:
        shared.append(item.mask)
    found = [_only_the_first(file) for file in files]
    found += [_look_at_pixels(item.image, pixels, annotated), _cut_off(item.image, pixels)]
    return annotated, [finding for finding in found if finding is not None]


def _only_the_first(file: Image) -> Finding | None:
    """Say that a file holds more than is used of it."""
    if file.n_images == 1:
        return None
    sentence = (
        f"{file.path} holds {file.n_images} images, and only the first one is used. Save each as a "
        "file of its own to use them all."
    )
    return Finding("note", file.path, sentence)


def _look_at_pixels(path: Path, pixels: NDArray[Any], annotated: bool) -> Finding | None:
    """Find what no network can learn from: no number at all, or one value everywhere."""
    is_number = np.isfinite(pixels) if pixels.dtype.kind == "f" else np.ones(pixels.shape, bool)
    n_bad = pixels.size - int(np.count_nonzero(is_number))
    numbers = pixels[is_number]
    if numbers.size == 0 or numbers.min() == numbers.max():
        said = "holds no number (NaN everywhere)"
        if numbers.size:
            said = f"holds the value {numbers[0]:g} everywhere"
        severity: Literal["error", "note"] = "error" if annotated or not numbers.size else "note"
        sentence = f"{path} {said}: there is nothing to see in it. Save the image again."
        return Finding(severity, path, sentence)
    if n_bad:
        sentence = f"{path} holds {n_bad} values that are no numbers, which count as background."
        return Finding("note", path, sentence)
    return None


def _cut_off(path: Path, pixels: NDArray[Any]) -> Finding | None:
    """Find pixels that were brighter than the file can say; 8 bits may be a drawn picture."""
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize < 2:
        return None
    most = np.iinfo(pixels.dtype).max
    part = np.count_nonzero(pixels == most) / pixels.size
    if part < _OVEREXPOSED:
        return None
    sentence = (
        f"{path} is overexposed: {part:.0%} of its pixels have the largest value that it can hold, "
        f"{most}, and show nothing. Expose for a shorter time, or leave it out."
    )
    return Finding("note", path, sentence)


def _unlisted(folder: Path, records: Sequence[DatasetRecord]) -> Iterator[Finding]:
    """Files that the list does not know: leftovers of an export that was killed, mostly."""
    known = {path for r in records for path in (image_path(folder, r), mask_path(folder, r))}
    known |= {first_path(folder, record) for record in records}
    for name in ("images", "masks", "first"):
        part = folder / name
        for path in sorted(part.iterdir()) if part.is_dir() else ():
            hidden = path.name.startswith(".")
            if path in known or not path.is_file() or (hidden and ".part" not in path.name):
                continue
            sentence = f"{path} is not listed in {INDEX} and is not used; it can be removed."
            yield Finding("note", path, sentence)


@dataclass(frozen=True)
class Summary:
    """Counts of the regions and images of a dataset.

    Attributes
    ----------
    n : int
        Images or regions, without those that newer versions replaced.
    n_replaced : int
        Older versions.
    n_sources : int
        Images that they were cut from.
    splits, modalities : mapping of str to int
        Numbers of regions; those that are undecided count under "undecided".
    classes : tuple of str
        Of the first that names any.
    """

    n: int
    n_replaced: int
    n_sources: int
    splits: dict[str, int]
    modalities: dict[str, int]
    classes: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a sentence."""
        sides = ", ".join(f"{n} {split}" for split, n in self.splits.items())
        older = f"; {self.n_replaced} older versions are kept" if self.n_replaced else ""
        regions = "1 region" if self.n == 1 else f"{self.n} regions"
        images = "1 image" if self.n_sources == 1 else f"{self.n_sources} images"
        return f"{regions} of {images} ({sides}){older}"


def summarize(folder: str | Path) -> tuple[Summary, list[DatasetRecord]]:
    """Count what a dataset holds; no image is read.

    Parameters
    ----------
    folder : path

    Returns
    -------
    summary : Summary
    records : list of DatasetRecord
        Without those that newer versions replaced.

    Raises
    ------
    UserError
        Where the dataset cannot be read.
    """
    folder = Path(folder)
    records = records_of(folder)
    newest = current(records)
    items = [annotated_image_of(folder, record) for record in newest]
    return (
        Summary(
            len(newest),
            len(records) - len(newest),
            len({item.source for item in items}),
            dict(sorted(Counter(r.split or "undecided" for r in newest).items())),
            dict(sorted(Counter(item.modality for item in items).items())),
            next((item.classes for item in items if item.classes), ()),
        ),
        newest,
    )
