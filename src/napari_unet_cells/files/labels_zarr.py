"""A label image that is too large for one TIFF: an OME-Zarr, filled tile by tile.

::

    name.zarr.part   0 is filled ...          nobody takes it for a result
    name.zarr        0, 1, 2 ... finished     each level half as wide, every second label kept
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from napari_unet_cells.files.atomic import FileExists, PathLike, make_folder, write_failure
from napari_unet_cells.files.labels import PROVENANCE_KEY, scale_to_write
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.files.zarr_metadata import ZARR_SUFFIX

_VERSION = "0.4"  # what most programs read today
_CHUNK = 1024
_SMALLEST_LEVEL = 1024
_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True, eq=False)
class LabelsZarr:
    """A label image on the disk that is being written.

    It belongs to one thread at a time: tiles that share a chunk must not be written at once.

    Attributes
    ----------
    path : Path
        Where it will be found once it is finished.
    array : zarr.Array
        The full resolution, all 0 in the beginning. It can be read meanwhile, until `finish`.
    """

    path: Path
    array: Any
    _group: Any
    _axes: str
    _scale: Scale
    _record: Mapping[str, Any]
    _overwrite: bool

    def finish(self, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the coarser levels and let the image appear under its name.

        Parameters
        ----------
        provenance : mapping, optional
            Instead of what was said in the beginning.

        Returns
        -------
        Path
            The finished image; `array` must not be used any more.

        Raises
        ------
        FileExists
            Where something of its name has appeared meanwhile and may not be replaced.
        UserError
            Where the disk refuses.
        """
        record = self._record if provenance is None else jsonable(provenance)
        try:
            n_levels = self._write_levels()
            self._group.attrs.put(self._attributes(n_levels, record))
            self._publish()
        except OSError as error:
            raise write_failure(self.path, error) from error
        return self.path

    def discard(self) -> None:
        """Remove what was written; an image that was there before stays."""
        shutil.rmtree(_unfinished(self.path), ignore_errors=True)

    def _write_levels(self) -> int:
        """Keep every second label, chunk by chunk, until a level fits on a screen."""
        finer, n = self.array, 1
        while max(finer.shape[-2:]) > _SMALLEST_LEVEL:
            shape = (*finer.shape[:-2], *(-(-length // 2) for length in finer.shape[-2:]))
            coarser = _new_array(self._group, str(n), shape, finer.dtype)
            for region in _chunks(shape, coarser.chunks):
                *planes, y, x = region
                twice = (slice(2 * side.start, 2 * side.stop, 2) for side in (y, x))
                coarser[region] = finer[(*planes, *twice)]
            finer, n = coarser, n + 1
        return n

    def _attributes(self, n_levels: int, record: Mapping[str, Any]) -> dict[str, Any]:
        axes = self._axes.lower()
        described: list[dict[str, str]] = [{"name": a, "type": _AXIS_TYPES[a]} for a in axes]
        sizes = dict.fromkeys(axes, 1.0)
        if self._scale.pixel_size is not None:
            sizes |= dict(zip("yx", self._scale.pixel_size, strict=True))
            if "z" in axes and self._scale.z_step is not None:
                sizes["z"] = self._scale.z_step
            known = "yx" if self._scale.z_step is None else "zyx"
            for axis in described:
                if axis["name"] in known:
                    axis["unit"] = self._scale.unit
        levels = [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": [sizes[a] * (2**level if a in "yx" else 1) for a in axes],
                    }
                ],
            }
            for level in range(n_levels)
        ]
        image = {"version": _VERSION, "name": self.path.stem, "axes": described, "datasets": levels}
        return {
            "multiscales": [image],
            "image-label": {"version": _VERSION},
            PROVENANCE_KEY: dict(record),
        }

    def _publish(self) -> None:
        """Give the folder its name; an older one is moved out of the way first, then removed."""
        older = self.path.with_name(f".{self.path.name}.older")
        if self.path.exists():
            if not self._overwrite:
                raise FileExists(self.path)
            shutil.rmtree(older, ignore_errors=True)
            os.rename(self.path, older)
        os.rename(_unfinished(self.path), self.path)
        shutil.rmtree(older, ignore_errors=True)


def write_labels_zarr(
    path: PathLike,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    axes: str = "YX",
    pixel_size: tuple[float, float] | None = None,
    unit: str = "pixel",
    z_step: float | None = None,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> LabelsZarr:
    """Begin a label image as OME-Zarr 0.4, to be filled tile by tile.

    ::

        labels = write_labels_zarr("a_cells.zarr", (50_000, 50_000), "uint32", provenance={})
        for tile in tiles:
            labels.array[tile.write] = ...
        labels.finish()

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.zarr`` is appended where it is missing. Its folder is made.
    shape : tuple of int
        One length per letter of `axes`.
    dtype : dtype
        Of the labels: uint8, uint16 or uint32.
    axes : str
        Of TZCYX, in this order, the last two YX.
    pixel_size, unit, z_step, provenance, overwrite
        As of `write_labels`.

    Returns
    -------
    LabelsZarr
        To be filled, then finished or discarded.

    Raises
    ------
    FileExists
        If there is such a folder or file and `overwrite` is False.
    UserError
        If it cannot be written, or the unit is none of length.
    ValueError, TypeError
        If `axes` do not fit the shape, or the labels are no unsigned integers.
    """
    target = Path(path)
    if target.suffix.lower() != ZARR_SUFFIX:
        target = target.with_name(target.name + ZARR_SUFFIX)
    in_order = "".join(axis for axis in "TZCYX" if axis in axes)
    if len(axes) != len(shape) or axes != in_order or not axes.endswith("YX"):
        raise ValueError(f"axes {axes!r} do not describe labels of shape {shape}")
    if np.dtype(dtype).kind != "u":
        raise TypeError(f"labels must be unsigned integers, not {np.dtype(dtype)}")
    scale = scale_to_write(target, pixel_size, unit, z_step)
    if target.is_file():
        raise FileExists(target)
    if target.exists() and not overwrite:
        raise FileExists(target)
    make_folder(target.absolute().parent)
    group, array = _begin(target, shape, dtype)
    return LabelsZarr(target, array, group, axes, scale, jsonable(provenance), overwrite)


def _begin(target: Path, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[Any, Any]:
    import zarr  # takes half a second

    try:
        shutil.rmtree(_unfinished(target), ignore_errors=True)  # of a run that was killed
        group = zarr.create_group(_unfinished(target), zarr_format=2)
        return group, _new_array(group, "0", shape, dtype)
    except OSError as error:
        raise write_failure(target, error) from error


def _unfinished(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _new_array(group: Any, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(*(1 for _ in shape[:-2]), *(min(_CHUNK, length) for length in shape[-2:])),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def _chunks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Iterate over the regions of the chunks of an array."""
    starts = (range(0, length, step) for length, step in zip(shape, chunks, strict=True))
    for corner in product(*starts):
        yield tuple(slice(at, at + step) for at, step in zip(corner, chunks, strict=True))
