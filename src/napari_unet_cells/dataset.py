"""Annotated images on disk, as training and evaluation read them.

::

    FOLDER/images/NAME.png    grey, RGB or (as TIFF) several channels
    FOLDER/masks/NAME.png     one integer a cell, 0 is background; or classes 0, 1, 2, ...
    FOLDER/index.json         a record an image: name, kind, split ("train" or "val")

Without an `index.json` every image that has a mask belongs to the split "train".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import IMAGE_SUFFIXES, read_image

#: Ids are counted in arrays as long as the highest of them; higher ones are renumbered.
_HIGHEST_ID = 2**20


@dataclass(frozen=True)
class Item:
    """One annotated image, not yet read."""

    image: Path
    mask: Path
    kind: str
    split: str

    @property
    def name(self) -> str:
        """Name of the set and of the image in it, such as ``dsb2018/0a1b``."""
        return f"{self.image.parent.parent.name}/{self.image.stem}"

    def read(self, classes: Sequence[str] = ()) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Read image (y, x) or (y, x, channels) and mask (y, x).

        Parameters
        ----------
        classes : sequence of str
            Names of the classes that the mask holds; without names it holds cells.

        Raises
        ------
        UserError
            Where a file cannot be read, the two do not fit each other, or the mask holds
            more classes than there are names.
        """
        image = read_image(self.image)
        mask = read_image(self.mask)
        if image.axes not in ("YX", "YXC", "CYX") or mask.axes != "YX":
            raise UserError(
                f"{self.image} has axes {image.axes} and its mask {mask.axes}. Annotated images "
                "are single planes, grey, RGB or of several channels, with a grey mask: save one "
                "plane of each."
            )
        pixels = np.moveaxis(image.data, 0, -1) if image.axes == "CYX" else image.data
        if pixels.shape[:2] != mask.data.shape:
            raise UserError(
                f"{self.mask} is {_size(mask.data)} pixels and its image "
                f"{_size(pixels)}. Export the mask again from the image it belongs to."
            )
        return pixels, _checked_mask(self.mask, mask.data, classes)


def _size(data: NDArray[Any]) -> str:
    return f"{data.shape[0]} x {data.shape[1]}"


def _checked_mask(path: Path, mask: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int32]:
    if mask.dtype.kind not in "bui" or mask.min(initial=0) < 0:
        raise UserError(
            f"{path} is not a label image: it holds {mask.dtype} values from {mask.min():g}. A "
            "mask has whole numbers: 0 for the background, and one number for each cell."
        )
    highest = mask.max(initial=0)
    if classes and highest >= len(classes):
        raise UserError(
            f"{path} holds the value {int(highest)}, and the classes {', '.join(classes)} are the "
            f"values 0 to {len(classes) - 1}. Save the mask with these values, or name all classes."
        )
    if highest > _HIGHEST_ID:
        mask = np.unique(mask, return_inverse=True)[1].reshape(mask.shape) + (mask.min() > 0)
    return mask.astype(np.int32)


def read_items(folders: Sequence[str | Path], split: str | None = None) -> list[Item]:
    """Items of one or several annotated folders, in the order of their indices.

    Parameters
    ----------
    folders : paths
    split : "train", "val" or None
        None takes all.

    Raises
    ------
    UserError
        Where a folder is not laid out as this module says, or nothing is left.
    """
    items = [item for folder in folders for item in _folder_items(Path(folder))]
    chosen = [item for item in items if split is None or item.split == split]
    if not chosen:
        names = ", ".join(str(folder) for folder in folders)
        if not items:
            raise UserError(f"There is no image with a mask of the same name in {names}.")
        others = ", ".join(sorted({item.split for item in items}))
        raise UserError(
            f"No image of the split '{split}' in {names}; there is {others}. An index.json says "
            "which image belongs to which split; without one, all belong to 'train'."
        )
    return chosen


def _folder_items(folder: Path) -> list[Item]:
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise UserError(
            f"{folder} is not an annotated data set: it needs the folders images and masks "
            "with files of the same names."
        )
    index = folder / "index.json"
    if index.is_file():
        return [_record_item(folder, record) for record in _read_index(index)]
    masks = {path.stem: path for path in _images_in(folder / "masks")}
    return [
        Item(image, masks[image.stem], "unknown", "train")
        for image in _images_in(folder / "images")
        if image.stem in masks
    ]


def _images_in(folder: Path) -> list[Path]:
    """List the images, without what file managers leave (``.DS_Store``, ``._a.png``)."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(path for path in paths if not path.name.startswith("."))


def _read_index(index: Path) -> list[dict[str, Any]]:
    try:
        records = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{index} cannot be read as JSON: {error}.") from error
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and "name" in record for record in records
    ):
        raise UserError(f"{index} must be a list of records, each with the name of its image.")
    return records


def _record_item(folder: Path, record: dict[str, Any]) -> Item:
    name = str(record["name"])
    return Item(
        image=folder / "images" / name,
        mask=folder / "masks" / name,
        kind=str(record.get("kind", "unknown")),
        split=str(record.get("split", "train")),
    )
