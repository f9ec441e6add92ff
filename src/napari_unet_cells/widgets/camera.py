"""Move the view of a viewer to a point of a layer, and find points on its canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size

if TYPE_CHECKING:
    from napari.components import ViewerModel


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
    camera, before = camera_of(viewer), viewer.dims.ndim - points.shape[1]
    rows, columns = (axis - before for axis in viewer.dims.displayed[-2:])
    height, width = canvas_size(viewer)
    down, right = camera.orientation2d
    y = (points[:, rows] - camera.center[-2]) * camera.zoom * (1 if down == "down" else -1)
    x = (points[:, columns] - camera.center[-1]) * camera.zoom * (1 if right == "right" else -1)
    return np.stack([x + width / 2, y + height / 2], axis=1)
