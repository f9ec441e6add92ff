"""Camera and canvas of a viewer, under the names that the installed napari gives them."""

from __future__ import annotations

from typing import Any


def camera_of(viewer: Any) -> Any:
    """Camera of a viewer, which napari 0.9 moved into the viewer's scene.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Returns
    -------
    napari.components.Camera
    """
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def canvas_size(viewer: Any) -> tuple[int, int]:
    """Height and width of the canvas in pixels, at least 1.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """
    # Before napari 0.9 there is no public name for it.
    size = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    height, width = size
    return max(1, int(height)), max(1, int(width))
