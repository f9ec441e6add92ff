"""Move the view of a viewer to a point of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.widgets.napari_versions import camera_of

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
