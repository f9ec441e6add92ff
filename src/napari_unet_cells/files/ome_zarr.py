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
    is_metadata,
    missing_chunks,
    zarr_image,
)


def read_zarr(path: Path, allow_missing_chunks: bool = False) -> Image:
    """Open the first image of a zarr folder; arguments and errors as `read_image` says."""
    found = zarr_image(path)
    stored = _open(found.levels[0], path)
    # chunks of zeros may be left out: an image has others, labels may be all zero
    if not found.is_labels and all(map(is_metadata, found.levels[0].iterdir())):
        raise UserError(
            f"{path.name} describes an image and holds none of its pixels: they would be read as "
            "zeros. Copy the whole folder again."
        )
    if not found.is_labels and not allow_missing_chunks:
        _check_chunks(path, found.levels[0])
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
    )


def _open(folder: Path, path: Path) -> ImageArray:
    import zarr  # takes half a second

    try:
        return zarr.open_array(folder, mode="r")
    except Exception as error:
        raise damaged(path, KIND, error) from error


def _check_chunks(path: Path, folder: Path) -> None:
    """Refuse an array of which chunks are missing: they would be read as zeros."""
    missing = missing_chunks(folder)
    if missing.n:
        named = ", ".join(missing.named) + (", ..." if missing.n > len(missing.named) else "")
        raise UserError(
            f"{path.name} lacks {missing.n} of its {missing.total} chunks ({named}), which would "
            "be read as zeros. Copy the whole folder again; or, where the program that wrote it "
            "leaves out chunks that are empty, use --allow-missing-chunks."
        )
