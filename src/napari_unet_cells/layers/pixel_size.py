"""Pixel size of an image layer: its own, its file's, or what the user typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_unet_cells.files import pixel_size_of
from napari_unet_cells.layers.metadata import INPUT, file_of
from napari_unet_cells.layers.protocols import ImageLayer, SavedLayer


@dataclass(frozen=True)
class PixelSize:
    """Height and width of a pixel; without a physical unit `unit` is "pixel"."""

    y: float
    x: float
    unit: str


def typed_pixel_size(image: SavedLayer | None) -> PixelSize | None:
    """Pixel size that the user typed for an image; None without one."""
    typed = None if image is None else image.metadata.get(INPUT, {}).get("pixel_size")
    return None if typed is None else PixelSize(*typed)


def image_pixel_size(image: ImageLayer) -> Callable[[], PixelSize]:
    """Pixel size of an image layer: its own, else its file's, else the typed one.

    Returns
    -------
    callable
        Returns it. It may read a file and needs no layer, so any thread may call it.
    """
    y, x = (float(size) for size in image.scale[-2:])
    own = PixelSize(y, x, str(image.units[-1]))
    return partial(known_pixel_size, own, file_of(image), typed_pixel_size(image))


def known_pixel_size(size: PixelSize, path: Path | None, typed: PixelSize | None) -> PixelSize:
    """Choose the first pixel size that is known: the layer's, its file's, the typed one."""
    if size != PixelSize(1.0, 1.0, "pixel"):
        return size
    if path is not None:
        in_file, unit = pixel_size_of(path)
        if in_file is not None:
            return PixelSize(in_file[0], in_file[1], unit)
    return typed or size
