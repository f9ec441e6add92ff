"""Layers that runs have made of an image: in memory, read from the disk, previews. No Qt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_unet_cells.layers.metadata import OURS, PREVIEW, ZARR
from napari_unet_cells.widgets.segment.live import bare

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


def results_of(viewer: Viewer, image: str, role: str) -> Iterator[Labels]:
    """Find what runs have made of an image, the topmost first.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : str
        See `layers.metadata.image_id`.
    role : str
        `CELLS`, `CLASSES` or `PREVIEW`.
    """
    for layer in reversed(viewer.layers):
        made = layer.metadata.get(OURS, {})
        if (made.get("role"), made.get("image")) == (role, image):
            yield bare(layer)


def layers_of(viewer: Viewer, image: str, role: str) -> list[Labels]:
    """Find the results that are in memory, the topmost first; see `results_of`."""
    return [layer for layer in results_of(viewer, image, role) if not layer.multiscale]


def zarr_layers(viewer: Viewer, image: str, role: str) -> list[Labels]:
    """Find the results that are read from the disk, the topmost first; see `results_of`."""
    return [layer for layer in results_of(viewer, image, role) if ZARR in layer.metadata[OURS]]


def previews(viewer: Viewer, image: str) -> list[Labels]:
    """Find what was found in a look at what is in view of an image, the lowest first."""
    return list(results_of(viewer, image, PREVIEW))[::-1]


def hide_previews(viewer: Viewer, image: str) -> None:
    """Hide what was found in a look at an image, of which there is better now."""
    for layer in previews(viewer, image):
        layer.visible = False
