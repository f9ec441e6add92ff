"""Move the view of a viewer to a point of a layer, and find points on its canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size, is_grid

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


def centre_on(viewer: ViewerModel, point: NDArray[np.float64]) -> list[int]:
    """Turn the sliders to a point of a layer, and bring it to the middle of the view.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    point : float array, (n,)
        World coordinates, one for each axis of the layer: the last n axes of the viewer.

    Returns
    -------
    list of int
        The axes of the point that are displayed, in the order in which they are.
    """
    dims, camera = viewer.dims, camera_of(viewer)
    before = dims.ndim - len(point)
    hidden = [axis for axis in range(len(point)) if before + axis not in dims.displayed]
    if hidden:
        dims.set_point([before + axis for axis in hidden], [float(point[a]) for a in hidden])
    shown = [axis - before for axis in dims.displayed if axis >= before]
    camera.center = (*camera.center[: 3 - len(shown)], *(float(point[axis]) for axis in shown))
    return shown


#: Part of the canvas that a layer takes which the view is fitted to, as napari does it.
FITTED = 0.95


def fit_to(viewer: ViewerModel, layer: Layer) -> None:
    """Fit the view to a layer, whatever else is open; in 3D and side by side to all layers.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari layer
        One of the viewer's.
    """
    if viewer.dims.ndisplay != 2 or is_grid(viewer):
        viewer.reset_view()
        return
    low, high = viewer.layers.get_extent([layer]).world
    before = viewer.dims.ndim - len(low)
    shown = [axis - before for axis in viewer.dims.displayed]
    if min(shown) < 0 or not np.isfinite([low, high]).all():
        viewer.reset_view()
        return
    size = (high - low)[shown]
    camera, canvas = camera_of(viewer), np.asarray(canvas_size(viewer), float)
    camera.center = (0.0, *((low + high) / 2)[shown].tolist())
    camera.zoom = float(FITTED * (canvas / np.where(size > 0, size, 1.0)).min())


def middle_of_view(viewer: ViewerModel) -> NDArray[np.float64]:
    """World coordinates of the middle of the view, one for each axis of the viewer."""
    point = np.array(viewer.dims.point, float)
    shown = list(viewer.dims.displayed)
    point[shown] = camera_of(viewer).center[-len(shown) :]
    return point


def on_canvas(viewer: ViewerModel, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on the canvas of points in the world, as the camera shows them in two dimensions.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    points : float array, (n, axes)
        World coordinates along the last axes of the viewer.

    Returns
    -------
    float array, (n, 2)
        x and y in pixels of the canvas, as the mouse counts them.
    """
    before = viewer.dims.ndim - points.shape[1]
    rows, columns = (axis - before for axis in viewer.dims.displayed[-2:])
    height, width = canvas_size(viewer)
    middle, (down, right) = camera_of(viewer).center, _pixels_of_a_unit(viewer)
    y = (points[:, rows] - middle[-2]) * down + height / 2
    x = (points[:, columns] - middle[-1]) * right + width / 2
    return np.stack([x, y], axis=1)


def in_world(viewer: ViewerModel, pos: tuple[float, float]) -> NDArray[np.float64]:
    """Point in the world, along all axes of the viewer, of a place (x, y) on the canvas."""
    rows, columns = viewer.dims.displayed[-2:]
    height, width = canvas_size(viewer)
    middle, (down, right) = camera_of(viewer).center, _pixels_of_a_unit(viewer)
    point = np.array(viewer.dims.point, float)
    point[rows] = (pos[1] - height / 2) / down + middle[-2]
    point[columns] = (pos[0] - width / 2) / right + middle[-1]
    return point


def _pixels_of_a_unit(viewer: ViewerModel) -> tuple[float, float]:
    """Pixels of the canvas, down and to the right, of a unit of the world."""
    camera = camera_of(viewer)
    down, right = camera.orientation2d
    return (
        camera.zoom if down == "down" else -camera.zoom,
        camera.zoom if right == "right" else -camera.zoom,
    )
