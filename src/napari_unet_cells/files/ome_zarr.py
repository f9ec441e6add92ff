"""OME-Zarr and plain zarr arrays: read where they are sliced, at full resolution."""

from __future__ import annotations

from pathlib import Path

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import damaged
from napari_unet_cells.files.image import Image
from napari_unet_cells.files.lazy import LazyArray
from napari_unet_cells.files.pixel_size import zarr_scale
from napari_unet_cells.files.zarr_metadata import (
    KIND,
    MissingChunks,
    missing_chunks,
    zarr_image,
)


def read_zarr(path: Path, allow_missing_chunks: bool = False) -> Image:
    """Open the first image of a zarr folder; arguments and errors as `read_image` says."""
    found = zarr_image(path)
    stored = _open(found.levels[0], path)
    # Chunks of zeros are left out by most programs. Without any it is most likely damage; labels
    # may be all zero.
    missing = MissingChunks(0, 0) if found.is_labels else missing_chunks(found.levels[0])
    if missing.n and missing.n == missing.total and not allow_missing_chunks:
        raise UserError(
            f"{path.name} describes an image and holds none of its {missing.total} chunks: all "
            "pixels would be read as zeros. Copy the whole folder again; --allow-missing-chunks "
            "on the command line reads it all the same."
        )
    dropped = tuple(
        axis
        for axis, (name, length) in enumerate(zip(found.axes, stored.shape, strict=True))
        if length == 1 and name not in "YX"
    )
    axes = "".join(name for axis, name in enumerate(found.axes) if axis not in dropped)
    scale = zarr_scale(found.lengths)
    return Image(
        LazyArray(stored, dropped, path, KIND),
        axes,
        scale.pixel_size,
        scale.unit,
        path,
        scale.z_step,
        found.n_images,
        found.channel_names,
        _said(missing),
        found.place,
        found.is_guessed,
    )


def _open(folder: Path, path: Path) -> ImageArray:
    import zarr  # takes half a second

    try:
        return zarr.open_array(folder, mode="r")
    except Exception as error:
        raise damaged(path, KIND, error) from error


def _said(missing: MissingChunks) -> str:
    """Say which chunks are missing; empty where none is."""
    if not missing.n:
        return ""
    named = ", ".join(missing.named) + (", ..." if missing.n > len(missing.named) else "")
    return f"{missing.n} of {missing.total} chunks are missing ({named}) and count as empty"
