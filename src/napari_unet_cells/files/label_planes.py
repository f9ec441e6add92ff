"""Labels of all planes that were edited in one layer, put back into an OME-Zarr.

Of each plane the part that was changed becomes a version, see `label_versions`.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.masks import bounding_box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions


def put_back_planes(folder: Path, labels: NDArray[Any]) -> Path | None:
    """Write labels in the place of those that are there, and keep these as versions.

    Parameters
    ----------
    folder : Path
        Of the OME-Zarr.
    labels : integer array, (..., y, x)
        Of the shape of those that are there.

    Returns
    -------
    Path or None
        File of the last version; None where nothing differs.

    Raises
    ------
    UserError
        Where the labels cannot be read or written, or do not fit.
    """
    versions = LabelVersions(folder)
    versions.settle()
    finest = label_levels(folder, versions.name)[0]
    if labels.shape != finest.stored.shape:
        raise UserError(f"The labels in {folder} are of another size. Nothing was written.")
    n_used = max(versions.n_used(versions.n_given()), int(labels.max(initial=0)))
    number = 0
    for plane in product(*map(range, labels.shape[:-2])):
        there = finest.read((*plane, slice(None), slice(None)))
        edited = labels[plane]
        differs = there != edited
        if differs.any():
            box = bounding_box(differs)
            part = there[box].astype(np.int64)
            number = versions.replace(plane, box, part, edited[box].astype(np.int64), n_used)
    return versions.file_of(number) if number else None
