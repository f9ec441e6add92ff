"""Places of a large result in the order of the network's uncertainty, the most uncertain first.

::

    slide_cells.ome.zarr/labels/cells/uncertainty.npz      the mean of each square of 512 pixels:
                                                           1 less the margin between the two most
                                                           probable classes, in units of 1/255
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.plane_blocks import UNIT
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.untrusted.approved_windows import ApprovedWindow
from napari_unet_cells.untrusted.arrays import read_arrays
from napari_unet_cells.untrusted.rules import Malformed


def uncertainty_file(folder: Path) -> Path:
    """File of the uncertainty in an OME-Zarr."""
    return folder / "labels" / CELLS / "uncertainty.npz"


def uncertain_places(folder: Path, shape: tuple[int, ...]) -> list[ApprovedWindow]:
    """Give the squares of a large result that hold something, the most uncertain first.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    shape : tuple of int
        Of its labels, (..., y, x).

    Raises
    ------
    UserError
        Where the uncertainty was not kept, or is damaged.
    """
    means = _read(folder, shape)
    height, width = shape[-2:]
    order = np.argsort(-means.ravel().astype(np.int64), kind="stable")
    places = []
    for at in order[: int(np.count_nonzero(means))].tolist():
        *plane, row, column = (int(i) for i in np.unravel_index(at, means.shape))
        rows = row * UNIT, min(height, (row + 1) * UNIT)
        columns = column * UNIT, min(width, (column + 1) * UNIT)
        places.append(ApprovedWindow(tuple(plane), rows, columns, ""))
    return places


def _read(folder: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    path = uncertainty_file(folder)
    try:
        means = read_arrays(path).get("uncertainty")
    except FileNotFoundError as error:
        raise UserError(
            f"{folder.name} does not say where the network was unsure: it was made before that was "
            "kept. Go through it from one end to the other, or segment the image again."
        ) from error
    except (OSError, Malformed) as error:
        raise UserError(
            f"{path} cannot be read: it {error}. Go through the cells from one end to the other."
        ) from error
    size = (*shape[:-2], *(-(-length // UNIT) for length in shape[-2:]))
    if means is None or means.dtype != np.uint8 or means.shape != size:
        raise UserError(
            f"{path} is of other labels. Remove it, and go through the cells from one end to the "
            "other."
        )
    return means
