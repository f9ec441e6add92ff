"""Access to napari where it has no public name, or another one from release to release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_unet_cells.widgets.wiring import once


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


def is_grid(viewer: Any) -> bool:
    """Whether the layers are shown side by side, each in a view of its own.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    return bool(grid.enabled) and len(viewer.layers) > 1


def levels_of(levels: Sequence[Any]) -> Any:
    """Levels as a layer of several scales takes them, also where there is one alone.

    napari takes a list of one for the array in it, and an array (t, y, x) then for a list of
    planes; a long movie of small frames has one level.

    Parameters
    ----------
    levels : sequence of array
    """
    from napari.layers._multiscale_data import MultiScaleData

    return MultiScaleData(list(levels))


#: Overlays of a labels layer that show nothing until a tool is taken.
_TOOLS = ("polygon", "brush_stroke")


def add_hidden(viewer: Any, layer: Any) -> None:
    """Add a labels layer in half the time of `add_labels`, hidden, without making it active.

    What `add_labels` does at once may come later, each in a turn of its own, so that the window
    paints in between: ``layer.visible = True``, ``viewer.layers.selection.active = layer``. What
    the tools draw is made with the first tool.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Labels
    """
    layers = getattr(viewer, "__wrapped__", viewer).layers
    layer.visible = False
    if _show_tools(layer, False):
        once(layer.events.mode, lambda event: _show_tools(event.source, True))
    activates = getattr(layers, "_activate_on_insert", None)
    layers._activate_on_insert = False
    try:
        layers.append(layer)
    finally:
        layers._activate_on_insert = activates


def _show_tools(layer: Any, visible: bool) -> bool:
    """Have napari make what the tools draw, or not yet; whether there is anything like it."""
    known = getattr(layer, "_overlays", {})
    overlays = [known[name] for name in _TOOLS if name in known]
    for overlay in overlays:
        overlay.visible = visible
    return bool(overlays)


class Locked:
    """Labels that are not edited for a while; napari forgets the steps of undo of such, this not.

    Parameters
    ----------
    layer : napari labels layer

    Attributes
    ----------
    layer : napari labels layer
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self._undo = tuple(getattr(layer, "_undo_history", ()))
        self._redo = tuple(getattr(layer, "_redo_history", ()))
        layer.editable = False

    def release(self) -> None:
        """Let them be edited again, with the steps from before, and those of programs since."""
        self.layer.editable = True
        undo = getattr(self.layer, "_undo_history", None)
        redo = getattr(self.layer, "_redo_history", None)
        if undo is None or redo is None:
            return
        if not undo and not redo:
            redo.extend(self._redo)
        # It holds so many steps and no more: added on the left, they would push the newest out.
        steps = [*self._undo, *undo]
        undo.clear()
        undo.extend(steps)
