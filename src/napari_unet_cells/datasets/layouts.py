"""Match images with masks, in folders that were made by hand.

See the table in `datasets.annotated_images`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import IMAGE_SUFFIXES

#: Names of folders with images and with masks; any of the one goes with any of the other.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw")
MASK_FOLDERS = ("masks", "mask", "labels", "label")

#: What may follow the name of the image in the name of its mask: Cellpose's, and others'.
MASK_ENDS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_gt")

#: What may follow a name in that of the image only, as in Cellpose's own data sets.
IMAGE_ENDS = ("_img", "_image", "_raw")

#: Folder -> split. "test" serves as validation where there is no "val".
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "val",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a dataset, or worth knowing.

    Attributes
    ----------
    severity : "error" or "note"
        An error keeps the dataset from being read; a note does not.
    file : Path
        What it is about.
    sentence : str
        Names the file and the way out.
    """

    severity: Literal["error", "note"]
    file: Path
    sentence: str


@dataclass(frozen=True)
class Pair:
    """An image and its mask; `split` is "train", "val", or empty where nothing says it."""

    image: Path
    mask: Path
    split: str = ""


@dataclass(frozen=True)
class Found:
    """Images and masks found in a folder."""

    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]


def find_pairs(folder: Path) -> Found:
    """Pair the images of a folder with their masks, in the order of their names.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    UserError
        Where the folder has none of the layouts.
    """
    found = _in_two_folders(folder) or _in_split_folders(folder) or _side_by_side(folder)
    if found is None:
        raise _unknown_layout(folder)
    return found


def _in_two_folders(folder: Path, split: str = "") -> Found | None:
    images = _first_folder(folder, IMAGE_FOLDERS)
    masks = _first_folder(folder, MASK_FOLDERS)
    if images is None or masks is None:
        return None
    return _paired(images_in(images), images_in(masks), split)


def _first_folder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _in_split_folders(folder: Path) -> Found | None:
    splits = {name: split for name, split in SPLIT_FOLDERS.items() if (folder / name).is_dir()}
    notes = []
    if "test" in splits and list(splits.values()).count("val") > 1:
        del splits["test"]
        sentence = f"{folder / 'test'} is left out: validation images are in another folder."
        notes.append(Finding("note", folder / "test", sentence))
    parts = []
    for name, split in splits.items():
        part = _in_two_folders(folder / name, split) or _side_by_side(folder / name, split)
        if part is not None:
            parts.append(part)
    if not parts:
        return None
    notes.extend(finding for part in parts for finding in part.findings)
    return Found(tuple(pair for part in parts for pair in part.pairs), tuple(notes))


def _side_by_side(folder: Path, split: str = "") -> Found | None:
    """Pair images with masks in the same folder; None where there is not one pair."""
    if not folder.is_dir():
        return None
    files = images_in(folder)
    masks = [path for path in files if path.stem.lower().endswith(MASK_ENDS)]
    images = [path for path in files if path not in masks]
    found = _paired(images, masks, split)
    return found if found.pairs else None


def images_in(folder: Path) -> list[Path]:
    """List the images, without what file managers leave (``.DS_Store``, ``._a.png``)."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(path for path in paths if not path.name.startswith("."))


def _paired(images: Sequence[Path], masks: Sequence[Path], split: str) -> Found:
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.stem, []).append(mask)
    pairs: list[Pair] = []
    findings: list[Finding] = list(_same_names(images, by_stem))
    used: set[Path] = set()
    for image in images:
        fitting = _masks_for(image, by_stem)
        used.update(fitting)
        if len(fitting) == 1:
            pairs.append(Pair(image, fitting[0], split))
        elif fitting:
            names = " and ".join(mask.name for mask in fitting)
            sentence = f"{image} has two masks: {names}. Keep one of them."
            findings.append(Finding("error", image, sentence))
        else:
            sentence = f"{image} has no mask and is left out."
            findings.append(Finding("note", image, sentence))
    for mask in masks:
        if mask not in used:
            sentence = f"{mask} belongs to no image and is left out."
            findings.append(Finding("note", mask, sentence))
    return Found(tuple(pairs), tuple(findings))


def _masks_for(image: Path, by_stem: dict[str, list[Path]]) -> list[Path]:
    if image.stem in by_stem:
        return by_stem[image.stem]
    bare = [image.stem.removesuffix(end) for end in IMAGE_ENDS if image.stem.endswith(end)]
    names = [*bare, *(name + end for name in (image.stem, *bare) for end in MASK_ENDS)]
    return [mask for name in names for mask in by_stem.get(name, ())]


def _same_names(images: Sequence[Path], by_stem: dict[str, list[Path]]) -> Iterator[Finding]:
    """Two images of one name, such as a.png and a.tif, would get one mask."""
    seen: dict[str, Path] = {}
    for image in images:
        other = seen.setdefault(image.stem, image)
        if other is not image and _masks_for(image, by_stem):
            sentence = (
                f"{image} and {other.name} have one name, and so one mask. Rename or remove one "
                "of them."
            )
            yield Finding("error", image, sentence)


def _unknown_layout(folder: Path) -> UserError:
    if folder.is_dir() and any(folder.glob("*_seg.npy")):
        return UserError(
            f"{folder} holds Cellpose's _seg.npy files only. They are not read, since opening one "
            "can run any program that is hidden in it. Save the masks from Cellpose as TIFF or "
            "PNG: File > Save masks."
        )
    return UserError(
        f"{folder} is not an annotated data set: it needs the folders images and masks with files "
        "of the same names, or masks named NAME_masks.tif beside the images NAME.tif."
    )
