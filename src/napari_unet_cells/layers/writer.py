"""Labels layers as TIFFs that keep their size and place: napari's writer for File > Save.

It gets attributes instead of a layer, and cannot ask the user. napari asks before it replaces a
file that was named with its extension, and before no other::

    "a.tif"  exists   -> replaced, with the record of ours beside it
    "a"      a.tif is there   -> a-2.tif, a-2.json

A script looks like a dialog: a file that it names with its extension is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import write_result
from napari_unet_cells.files.tiff import TIFF_SUFFIXES
from napari_unet_cells.layers.export_source import (
    export_record,
    export_source,
    pixel_size,
    plane_step,
)
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.layers.protocols import SavedLayer
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed

#: Called with path, labels and metadata before labels are saved; the answer is called after that.
observers: list[Callable[[Path, ImageArray, Mapping[str, Any]], Callable[[], None]]] = []


def write_layer(path: str, data: ImageArray, attributes: Mapping[str, Any]) -> list[str]:
    """Write one labels layer as a TIFF, and its record as a JSON of the same name.

    Parameters
    ----------
    path : str
        As typed; ``.tif`` is appended where it has no TIFF ending.
    data : integer array, (y, x), or up to (t, z, y, x)
    attributes : mapping
        Of the layer, as ``layer.as_layer_data_tuple()`` gives them.

    Returns
    -------
    list of str
        The TIFF and the JSON as written. Their name ends in ``-2``, or a higher number,
        where napari had not asked about a file of that name.

    Raises
    ------
    UserError
        Where the layer has several levels or more than four axes, or the disk refuses.
    """
    layer = _layer(data, attributes)
    source = export_source(layer, ())
    size = pixel_size(source)
    size = PixelSize(abs(size.y), abs(size.x), size.unit)  # a mirrored layer
    record = export_record(source, size)
    mask, replaces = _target(Path(path))
    observed = [observe(mask, data, layer.metadata) for observe in observers]
    written = write_result(
        mask,
        source.labels,
        record,
        axes=source.axes,
        scale=Scale((size.y, size.x), size.unit, plane_step(source, size)),
        overwrite=replaces,
    )
    for saved in observed:
        saved()
    return [str(path) for path in written]


def _layer(data: ImageArray, attributes: Mapping[str, Any]) -> SavedLayer:
    """Make a layer of pixels and attributes; what is not among them has napari's default."""
    name = attributes.get("name", "labels")
    if attributes.get("multiscale", False):
        raise UserError(
            f"'{name}' was not saved: it has several levels of resolution. Save a layer of its "
            "full resolution."
        )
    n = len(data.shape)
    if not 2 <= n <= 4:
        raise UserError(
            f"'{name}' was not saved: it has {n} axes, and a TIFF of labels holds (y, x) up to "
            "(t, z, y, x). Save one position of it, or choose napari's own kind of file."
        )
    known = {
        "scale": np.ones(n),
        "translate": np.zeros(n),
        "rotate": np.eye(n),
        "shear": np.zeros(n * (n - 1) // 2),
        "affine": np.eye(n + 1),
        "units": ("pixel",) * n,
        "axis_labels": tuple(str(axis) for axis in range(-n, 0)),
        "metadata": {},
        "multiscale": False,
        **attributes,
        "name": name,
    }
    known["affine"] = SimpleNamespace(affine_matrix=known["affine"])
    return SimpleNamespace(data=data, ndim=n, **known)


def _target(path: Path) -> tuple[Path, bool]:
    """Give the TIFF to write, and whether it may replace one."""
    is_named = path.suffix.lower() in TIFF_SUFFIXES
    mask = path if is_named else path.with_name(f"{path.name}.tif")
    if is_named and mask.exists() and _may_replace(mask.with_suffix(".json")):
        return mask, True
    names = chain([mask.name], (f"{mask.stem}-{n}{mask.suffix}" for n in count(2)))
    return next(free for free in map(mask.with_name, names) if _is_free(free)), False


def _is_free(mask: Path) -> bool:
    return not mask.exists() and not mask.with_suffix(".json").exists()


def _may_replace(beside: Path) -> bool:
    """Whether a JSON beside a mask is its record, which goes with it, or not there."""
    try:
        record = read_json(beside)
    except FileNotFoundError:
        return True
    except (OSError, Malformed):
        return False
    return isinstance(record, dict) and {"transform", "pixel_size"} <= record.keys()
