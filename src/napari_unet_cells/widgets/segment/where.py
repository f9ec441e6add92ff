"""The part of an image that the user wants to have segmented: in view, or inside of drawn shapes.

No Qt here. What is found are polygons in the pixels of the image, whatever rotates, scales or
flips its layer or that of the shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.parts import touches_plane
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import pixels_of, stack_axes
from napari_unet_cells.layers.transforms import world_matrix
from napari_unet_cells.segmentation.part_run import Where
from napari_unet_cells.widgets.camera import in_world
from napari_unet_cells.widgets.napari_versions import canvas_size, is_grid
from napari_unet_cells.widgets.segment.values import DRAWN, VISIBLE

if TYPE_CHECKING:
    from napari.layers import Image, Shapes
    from napari.viewer import Viewer

#: Corners of the polygon that stands for an ellipse.
CORNERS = 180

#: Kinds of shapes that enclose nothing.
LINES = ("line", "path")


def part_of_image(viewer: Viewer, image: Image, where: str) -> Where | None:
    """Find the part of an image that was chosen.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    where : str
        One of `values.WHERE`.

    Returns
    -------
    Where or None
        None for the whole image.

    Raises
    ------
    UserError
        Where there is no such part; the sentence says why.
    """
    if where == VISIBLE:
        return Where("visible part", [canvas_on(viewer, image)])
    if where == DRAWN:
        return Where("drawn shapes", _in_shapes(viewer, image))
    return None


def canvas_on(viewer: Viewer, image: Image) -> NDArray[np.float64]:
    """Give the corners of the canvas in the pixels of an image, (4, 2).

    Raises
    ------
    UserError
        Where no part of a plane of it is in view; the sentence says why.
    """
    dims = viewer.dims
    if dims.ndisplay != 2:
        raise UserError(
            "In three dimensions no part of a plane is in view. Switch to 2D (the second button "
            "below the list of layers), or choose Whole image under Where."
        )
    if set(dims.displayed) != {dims.ndim - 2, dims.ndim - 1}:
        raise UserError(
            "The view looks at the stack from the side. Roll its axes back until height and "
            "width are shown, or choose Whole image under Where."
        )
    if is_grid(viewer):
        raise UserError(
            "In the grid each layer has a view of its own. Switch the grid off, or choose Whole "
            "image under Where."
        )
    height, width = canvas_size(viewer)
    corners = [(0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height))]
    seen = _pixels(image, np.stack([in_world(viewer, corner) for corner in corners]))
    if not touches_plane([seen], _shape(image)):
        raise UserError(
            f"Nothing of '{image.name}' is in view. Move the view onto it (the house below the "
            "list of layers shows all), or choose Whole image under Where."
        )
    return seen


def _in_shapes(viewer: Viewer, image: Image) -> list[NDArray[np.float64]]:
    """Give the outlines of all shapes that are shown, in the pixels of an image."""
    from napari.layers import Shapes

    layers = [layer for layer in viewer.layers if isinstance(layer, Shapes) and layer.nshapes]
    if not layers:
        raise UserError(
            "No shape is drawn. Add a shapes layer (the polygon above the list of layers), and "
            "draw around what you want to have segmented."
        )
    shown = [layer for layer in layers if layer.visible]
    if not shown:
        raise UserError(
            f"The shapes in '{layers[-1].name}' are hidden. Show that layer (the eye beside its "
            "name), or choose another part under Where."
        )
    kinds = [(layer, *shape) for layer in shown for shape in _here(viewer, layer)]
    if not kinds:
        raise UserError(
            "The shapes lie in other planes of the stack. Turn to theirs, or draw one here."
        )
    lines = next((layer for layer, kind, _ in kinds if kind in LINES), None)
    if lines is not None:
        raise UserError(
            f"A line in '{lines.name}' encloses nothing. Draw rectangles, ellipses or polygons "
            "instead, and delete the line or hide its layer."
        )
    # All points at once: an outline that was drawn by hand has hundreds.
    ends = np.cumsum([len(points) for _, _, points in kinds])[:-1]
    polygons = np.split(_pixels(image, np.concatenate([points for *_, points in kinds])), ends)
    if not touches_plane(polygons, _shape(image)):
        raise UserError(
            f"The shapes lie beside '{image.name}'. Draw them onto it, or choose another image."
        )
    return polygons


def _here(viewer: Viewer, layer: Shapes) -> list[tuple[str, NDArray[np.float64]]]:
    """Give kind and outline of the shapes in the plane that is shown.

    The outlines are points along all axes of the viewer, (n, axes).
    """
    point, n = np.array(viewer.dims.point, float), layer.ndim
    shown = np.rint(np.asarray(layer.world_to_data(point[-n:]), float))[:-2]
    matrix = world_matrix(layer)
    found = []
    for kind, corners in zip(layer.shape_type, layer.data, strict=True):
        outline = np.asarray(corners, float)
        if (np.rint(outline[:, :-2]) != shown).any():
            continue
        outline = _ellipse(outline) if kind == "ellipse" else outline
        points = np.tile(point, (len(outline), 1))
        points[:, -n:] = outline @ matrix[:-1, :-1].T + matrix[:-1, -1]
        found.append((str(kind), points))
    return found


def _ellipse(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the outline of the ellipse in a rectangle, given by its four corners in turn."""
    middle = box.mean(axis=0)
    one, other = (box[1] - box[0]) / 2, (box[2] - box[1]) / 2
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)[:, np.newaxis]
    outline: NDArray[np.float64] = middle + np.cos(angle) * one + np.sin(angle) * other
    return outline


def _pixels(image: Image, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows and columns of an image at points of the world, (n, 2)."""
    matrix = np.linalg.inv(world_matrix(image))
    pixels: NDArray[np.float64] = points[:, -image.ndim :] @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return pixels[:, -2:]


def _shape(image: Image) -> tuple[int, int]:
    first = len(stack_axes(image))
    height, width = pixels_of(image).shape[first : first + 2]
    return int(height), int(width)
