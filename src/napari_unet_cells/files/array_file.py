"""Arrays in one file: compressed, which appears whole or not at all, or as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.untrusted.arrays import read_arrays
from napari_unet_cells.untrusted.rules import Malformed


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an .npz file, replacing an older one.

    Raises
    ------
    UserError
        Where the disk refuses.
    """
    with atomic_write(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def write_numbered(path: Path, arrays: Iterable[NDArray[Any]]) -> None:
    """Write arrays without names as an .npz file, until the disk has them.

    `untrusted.arrays.numbered_arrays` reads them.

    Raises
    ------
    OSError
        Where the disk refuses; what is there then is no file for anyone.
    """
    with open(path, "wb") as file:
        np.savez(file, *arrays)
        file.flush()
        os.fsync(file.fileno())


def load_arrays(path: Path, folder: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Parameters
    ----------
    path : Path
    folder : Path
        That is to be removed where the file is damaged.

    Raises
    ------
    UserError
        Where the file is missing or damaged.
    """
    try:
        return read_arrays(path)
    except (OSError, Malformed) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Remove the folder {folder} and start again."
        ) from error
