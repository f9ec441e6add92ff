"""The line under the mouse while a stroke is drawn."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.viewer import Viewer

COLOR = (1.0, 1.0, 1.0, 0.9)


class StrokeLine:
    """A line in the scene that is no layer: it takes no selection and no place in the undo.

    napari has no public way to draw such a line; where its inner parts are others than they
    were, none is drawn, and the stroke works all the same.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._visual: Any = None

    def show(self, path: list[Any]) -> None:
        """Draw a path of world coordinates, (ndim,) each."""
        with contextlib.suppress(AttributeError, ImportError):
            points = np.array([point[-2:][::-1] for point in path], np.float32)
            if self._visual is None:
                from vispy.scene.visuals import Line

                scene = self._viewer.window._qt_viewer.canvas.view.scene
                self._visual = Line(points, COLOR, width=2, parent=scene)
                self._visual.order = 10**6
            self._visual.set_data(points)
            self._visual.visible = True

    def hide(self) -> None:
        """Take the line away."""
        if self._visual is not None:
            self._visual.visible = False
