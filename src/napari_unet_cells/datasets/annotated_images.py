"""Read annotated images from disk, for training and evaluation.

| layout | images | masks | made by |
|---|---|---|---|
| two folders | ``images/NAME.png`` | ``masks/NAME.png``, also ``labels/``, ``NAME_mask`` | hand |
| the same, divided | ``train/images/NAME.tif`` | ``train/masks/NAME.tif``; ``val/`` | StarDist |
| side by side | ``NAME.tif``, ``NAME_img.png`` | ``NAME_masks.tif``, ``NAME_mask.tif`` | Cellpose |
| with a list | as ``index.json`` says | as ``index.json`` says | `dataset_writer`, and hand |

Images are grey, RGB or (as TIFF) of several channels. Masks hold one integer a cell, 0 is
background; or classes 0, 1, 2, ..., where 255 is a pixel that nobody annotated. Folders may be
named image, imgs, img or raw, and mask, labels or label; what may follow the names stands in
`datasets.layouts`. Cellpose's ``_seg.npy`` is not read: opening a pickle can run a program.

``index.json`` is a list with a record an image: name, kind (the modality), split ("train" or
"val"); those that `dataset_writer` writes say much more. Without a list, and where a record has
no split, an image is trained on. In folders made by hand all pixels count as approved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import measure

from napari_unet_cells.core.labels import UNKNOWN, makes_cells
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.regions import Region
from napari_unet_cells.datasets.holdout import Member, decide, enough
from napari_unet_cells.datasets.index import (
    INDEX,
    current,
    first_path,
    image_path,
    mask_path,
    read_index,
)
from napari_unet_cells.datasets.layouts import find_pairs
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import Image, read_image
from napari_unet_cells.untrusted.dataset_record import DatasetRecord
from napari_unet_cells.untrusted.regular import open_regular

#: Ids are counted in arrays as long as the highest of them; higher ones are renumbered.
_HIGHEST_ID = 2**20

#: First bytes of a JPEG.
_JPEG = b"\xff\xd8\xff"

#: A mask of more numbers than `_GREYS`, in pieces of fewer pixels than `_SMALLEST_MEAN` on average,
#: is a picture: its grey values are no numbers of cells.
_GREYS, _SMALLEST_MEAN = 100, 4


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotated image, not yet read.

    Attributes
    ----------
    image, mask : Path
    modality : str
        Microscopy and object, such as "fluorescence nuclei"; as the data set calls it.
    split : "train" or "val"
    limits : Limits or None
        Of the plane that the image was cut out of; None where its own are to be taken.
    inside : Region or None
        The approved pixels of the image; the others are context. None where all are.
    first : Path or None
        The labels as a run first made them, where they are there.
    classes : tuple of str
        Names of the model's classes; empty where the data set does not say it.
    colors : tuple of str
        Colours of classes that the user defined, such as "#ff8800"; else empty.
    source : str
        Names the image that it was cut from, the same for all its regions.
    region : str
        Names the region, the same for all its versions.
    folder : str
        Name of the data set.
    """

    image: Path
    mask: Path
    modality: str
    split: str
    limits: Limits | None = None
    inside: Region | None = None
    first: Path | None = None
    classes: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    source: str = ""
    region: str = ""
    folder: str = ""

    @property
    def name(self) -> str:
        """Name of the set and of the image in it, such as ``dsb2018/0a1b``."""
        return f"{self.folder or self.image.parent.parent.name}/{self.image.stem}"

    def read(self, classes: Sequence[str] = ()) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Read image (y, x) or (y, x, channels) and mask (y, x).

        Parameters
        ----------
        classes : sequence of str
            Names of the classes that the mask holds; without names it holds cells. Of
            classes, `UNKNOWN` stays in the mask.

        Raises
        ------
        UserError
            Where a file cannot be read, the two do not fit each other, or the mask holds
            other classes than these.
        """
        return self.arrays_of(*self.read_files(), classes)

    def read_files(self) -> tuple[Image, Image]:
        """Read the files of image and mask, with what they hold besides; see `arrays_of`.

        Raises
        ------
        UserError
            Where a file cannot be read.
        """
        return read_image(self.image), read_image(self.mask)

    def arrays_of(
        self, image: Image, mask: Image, classes: Sequence[str] = ()
    ) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Give what `read` returns of files that `read_files` read; errors as there."""
        self._check_classes(classes)
        if image.axes not in ("YX", "YXC", "CYX") or mask.axes != "YX":
            raise UserError(
                f"{self.image} has axes {image.axes} and its mask {mask.axes}. Annotated images "
                "are single planes, grey, RGB or of several channels, with a grey mask: save one "
                "plane of each."
            )
        pixels, labels = np.asarray(image.data), np.asarray(mask.data)
        pixels = np.moveaxis(pixels, 0, -1) if image.axes == "CYX" else pixels
        if pixels.shape[:2] != labels.shape:
            raise UserError(
                f"{self.mask} is {_size(labels)} pixels and its image "
                f"{_size(pixels)}. Export the mask again from the image it belongs to."
            )
        self._check_inside(labels)
        _check_labels(self.mask, labels)
        _check_kept(self.mask)
        if not classes:
            _check_cells(self.mask, labels)
        if classes:
            _check_values(self.mask, labels, classes, strokes=bool(self.classes))
        return pixels, self._renumbered(labels)

    def read_first(self) -> NDArray[np.int32] | None:
        """Read the labels (y, x) as the run first made them, with ids as `read` gives them.

        Returns
        -------
        int32 array, or None
            None where they are not kept.

        Raises
        ------
        UserError
            Where the file cannot be read.
        """
        if self.first is None:
            return None
        first = np.asarray(read_image(self.first).data)
        _check_labels(self.first, first)
        return self._renumbered(first)

    def _renumbered(self, labels: NDArray[Any]) -> NDArray[np.int32]:
        """Give ids lower numbers where they are too high, in the mask and in `first` alike."""
        files = [path for path in (self.mask, self.first) if path is not None]
        if len(files) == 1 and labels.max(initial=0) <= _HIGHEST_ID:
            return labels.astype(np.int32)
        used = [np.unique(np.asarray(read_image(path).data)) for path in files]
        ids = np.unique(np.concatenate(used))
        if ids[-1] <= _HIGHEST_ID:
            return labels.astype(np.int32)
        ranks = np.searchsorted(ids, labels).astype(np.int32)
        return ranks if ids[0] == 0 else ranks + np.int32(1)

    def _check_inside(self, labels: NDArray[Any]) -> None:
        if self.inside is None:
            return
        inside, (height, width) = self.inside, labels.shape
        rows = 0 <= inside.top < inside.bottom <= height
        columns = 0 <= inside.left < inside.right <= width
        if not (rows and columns):
            raise UserError(
                f"{self.mask} is {_size(labels)} pixels, and its approved region reaches beyond "
                f"that. {INDEX} belongs to another file of this name: copy the whole folder again."
            )

    def _check_classes(self, classes: Sequence[str]) -> None:
        """Refuse a data set of classes where cells are asked for, or other classes."""
        cells = makes_cells(self.classes)
        if not self.classes or (cells and not classes):
            return
        if cells != (not classes) or (classes and len(classes) != len(self.classes)):
            wanted = f"the classes {', '.join(classes)}" if classes else "cells"
            held = "cells" if cells else f"the classes {', '.join(self.classes)}"
            raise UserError(
                f"{self.mask} holds {held}, and {wanted} are asked for. Choose a data set of the "
                "same classes."
            )


def _size(data: NDArray[Any]) -> str:
    return f"{data.shape[0]} x {data.shape[1]}"


def _check_labels(path: Path, mask: NDArray[Any]) -> None:
    if mask.dtype.kind not in "bui" or mask.min(initial=0) < 0:
        raise UserError(
            f"{path} is not a label image: it holds {mask.dtype} values from {mask.min():g}. A "
            "mask has whole numbers: 0 for the background, and one number for each cell."
        )


def _check_kept(path: Path) -> None:
    """Refuse a mask in a JPEG: along each cell it has other numbers than were saved."""
    with suppress(OSError), open_regular(path) as file:
        if file.read(len(_JPEG)) == _JPEG:
            raise UserError(
                f"{path} is a JPEG, which changes the numbers of a mask. Save the mask as a TIFF "
                "or PNG from the program that made it."
            )


def _check_cells(path: Path, mask: NDArray[Any]) -> None:
    """Refuse a picture: nearly each of its pixels would be a cell of its own."""
    if len(np.unique(mask)) <= _GREYS:
        return
    pixels, pieces = np.count_nonzero(mask), int(measure.label(mask, connectivity=2).max())
    if pixels < _SMALLEST_MEAN * pieces:
        raise UserError(
            f"{path} is no mask of cells: what has one number in it is {pixels / pieces:.1f} "
            "pixels large on average. Put the labels there, and the picture among the images."
        )


def _check_values(path: Path, mask: NDArray[Any], classes: Sequence[str], strokes: bool) -> None:
    """Refuse values that are no classes.

    A mask of 0 and 255 alone is ImageJ's way to say no and yes, unless we know that it holds
    strokes: there it says that one class was painted, and the rest was not looked at.
    """
    values = np.unique(mask)
    bad = values[(values >= len(classes)) & (values != UNKNOWN)]
    if not bad.size and not strokes and set(values.tolist()) <= {0, UNKNOWN}:
        bad = values[values == UNKNOWN]
    if bad.size:
        raise UserError(
            f"{path} holds the value {int(bad[-1])}, and the classes {', '.join(classes)} are the "
            f"values 0 to {len(classes) - 1}. Save the mask with these values, or name all classes."
        )


def read_annotated_images(
    folders: Sequence[str | Path], split: str | None = None
) -> list[AnnotatedImage]:
    """Read the indices of one or several annotated folders, in order, but no pixels.

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
    items = [item for folder in folders for item in _folder_images(Path(folder))]
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


def held_out(items: Sequence[AnnotatedImage]) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Divide annotated images into those to train on and those to validate on.

    Where any is of the split "val", these are held out. Else one in five is, as
    `holdout` says, and of fewer than five regions none.

    Parameters
    ----------
    items : sequence of AnnotatedImage

    Returns
    -------
    train, val : list of AnnotatedImage
    """
    splits = [item.split for item in items]
    if "val" not in splits:
        members = [member_of(item) for item in items]
        if enough(members):
            splits = decide(members)
    sides = list(zip(items, splits, strict=True))
    return (
        [item for item, split in sides if split != "val"],
        [item for item, split in sides if split == "val"],
    )


def member_of(item: AnnotatedImage, split: str = "") -> Member:
    """Give what decides whether an image is held out; `split` where it is decided already."""
    return Member(item.source, f"{item.source}/{item.region}", item.modality, split)


def _folder_images(folder: Path) -> list[AnnotatedImage]:
    records = read_index(folder)
    if records is not None:
        return [annotated_image_of(folder, record) for record in current(records)]
    found = find_pairs(folder)
    for finding in found.findings:
        if finding.severity == "error":
            raise UserError(finding.sentence)
    return [
        AnnotatedImage(
            pair.image,
            pair.mask,
            "unknown",
            pair.split or "train",
            source=_file_key(folder, pair.image),
            region=pair.image.stem,
            folder=folder.absolute().name,
        )
        for pair in found.pairs
    ]


def annotated_image_of(folder: Path, record: DatasetRecord) -> AnnotatedImage:
    """Make an annotated image of a record."""
    first = first_path(folder, record)
    return AnnotatedImage(
        image=image_path(folder, record),
        mask=mask_path(folder, record),
        modality=record.modality,
        split=record.split or "train",
        limits=record.limits,
        inside=record.inside,
        first=first if first.is_file() else None,
        classes=record.classes,
        colors=record.colors,
        source=source_key(record.source) or _file_key(folder, image_path(folder, record)),
        region=Path(record.name).stem.removesuffix(f"-v{record.version}"),
        folder=folder.absolute().name,
    )


def source_key(source: Mapping[str, Any]) -> str:
    """Tell one source image of a record from others: by its content, path or layer."""
    known = (source.get(key) for key in ("sha256", "path", "pixels", "layer"))
    return next((str(value) for value in known if value), "")


def _file_key(folder: Path, image: Path) -> str:
    """Name a source that is known by its file in the data set only, wherever that lies."""
    return f"{folder.absolute().name}/{image.relative_to(folder).as_posix()}"
