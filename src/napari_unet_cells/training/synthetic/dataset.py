"""Simulated images and masks as a dataset on disk, with a contact sheet.

::

    FOLDER/images/sim-0000.png    grey, or RGB with a pale tint, 8 bit
    FOLDER/masks/sim-0000.png     16 bit, 0 is background, each cell its own number
    FOLDER/index.json             a record an image: kind, split, number of cells, its world
    FOLDER/sheet.png              images beside their outlines, to look at
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from napari_unet_cells.datasets.index import write_index
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import atomic_write, make_folder
from napari_unet_cells.training.synthetic.fields import edges_of
from napari_unet_cells.training.synthetic.simulate import simulate
from napari_unet_cells.training.synthetic.world import World, check_kinds
from napari_unet_cells.untrusted.rules import shown

SHEET = "sheet.png"

#: Sides of images in pixels: a smaller one holds no cell to learn from, a larger one could hold
#: more cells of 5 pixels than a mask of 16 bit has numbers.
SMALLEST, LARGEST = 64, 1024

#: Images whose records are a list that can be read again.
MOST = 50_000

#: One image in so many is held out for validation.
HELD_OUT = 5

#: Of the contact sheet: images, and pixels of the side of each.
SHEET_IMAGES, SHEET_SIDE, SHEET_COLUMNS = 40, 256, 5

#: Colour of outlines that those who see no red or no green can tell from grey (Okabe and Ito).
OUTLINE = (230, 159, 0)


@dataclass(frozen=True)
class Simulated:
    """One image is written.

    Attributes
    ----------
    name : str
        Of its files.
    cells : int
    world : World
    """

    name: str
    cells: int
    world: World


def write_dataset(
    folder: str | Path, n: int, seed: int = 0, kinds: Collection[str] = (), size: int = 256
) -> Generator[Simulated, None, None]:
    """Simulate images into a new folder.

    Image i is made of the seed and i alone: a larger dataset of the same seed begins with the
    images of a smaller one. Where it is stopped, those that were written are a valid dataset.

    Parameters
    ----------
    folder : path
        Made; one that is there must be empty.
    n : int
        How many images.
    seed : int
    kinds : collection of str
        Shapes and appearances to choose from; where none of a table is named, all of it.
    size : int
        Side of the images in pixels.

    Yields
    ------
    Simulated
        For each image.

    Raises
    ------
    UserError
        Where an option is out of its range, or the folder is not empty or cannot be written to.
    """
    folder = Path(folder)
    _check(folder, n, seed, size)
    check_kinds(kinds)
    return _written(folder, n, seed, kinds, size)


def _written(
    folder: Path, n: int, seed: int, kinds: Collection[str], size: int
) -> Generator[Simulated, None, None]:
    for part in (folder, folder / "images", folder / "masks"):
        make_folder(part)
    records: list[dict[str, Any]] = []
    tiles: list[NDArray[np.uint8]] = []
    try:
        for i in range(n):
            image, mask, world = simulate(np.random.default_rng((seed, i)), size, kinds)
            name = f"sim-{i:0{max(4, len(str(n - 1)))}}.png"
            _write_picture(folder / "images" / name, image)
            _write_picture(folder / "masks" / name, mask.astype(np.uint16))
            cells = int(mask.max())
            records.append(_record(name, i, seed, cells, world))
            if len(tiles) < SHEET_IMAGES:
                tiles.append(_tile(image, mask))
            yield Simulated(name, cells, world)
    finally:
        if records:
            write_index(folder, records)
            _write_picture(folder / SHEET, _sheet(tiles))


def _check(folder: Path, n: int, seed: int, size: int) -> None:
    if n < 1:
        raise UserError(f"At least 1 image must be asked for, not {n}.")
    if n > MOST:
        raise UserError(
            f"One dataset can have {MOST} images, not {shown(n)}. Simulate further ones with "
            "another seed into another folder."
        )
    if seed < 0:
        raise UserError(f"The seed must not be negative, and {seed} is.")
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"Images can have {SMALLEST} to {LARGEST} pixels a side, not {size}.")
    try:
        holds_files = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be read ({error.strerror or error}). Choose another one."
        ) from error
    if holds_files:
        raise UserError(
            f"The folder {folder} is not empty and was left as it is. Choose a new folder."
        )


def _record(name: str, i: int, seed: int, cells: int, world: World) -> dict[str, Any]:
    return {
        "name": name,
        "height": world.size,
        "width": world.size,
        "kind": f"simulated-{world.appearance}",
        "cells": cells,
        "split": "val" if i % HELD_OUT == HELD_OUT - 1 else "train",
        "seed": [seed, i],
        "world": world.as_dict(),
    }


def _write_picture(path: Path, pixels: NDArray[Any]) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        PILImage.fromarray(pixels).save(temporary, "PNG")


def _tile(image: NDArray[np.uint8], mask: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Put an image beside itself with outlines, no larger than the sheet has room for."""
    grey = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    outlined = grey.copy()
    outlined[edges_of(mask)] = OUTLINE
    pair = [grey, outlined]
    side = image.shape[0]
    if side > SHEET_SIDE:
        # Cut, not made smaller: single pixels are what is to be looked at.
        pair = [one[:SHEET_SIDE, :SHEET_SIDE] for one in pair]
    return np.concatenate([np.pad(one, ((1, 1), (1, 1), (0, 0))) for one in pair], axis=1)


def _sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay tiles in rows; what is left of the last one is black."""
    columns = min(SHEET_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    blank = [np.zeros_like(tiles[0])] * (rows * columns - len(tiles))
    grid = np.stack([*tiles, *blank]).reshape(rows, columns, *tiles[0].shape)
    return np.concatenate(np.concatenate(grid, axis=1), axis=1)
