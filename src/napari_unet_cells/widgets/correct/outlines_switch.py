"""Switch between filled cells and outlines of the labels at hand, by a button and a key.

No Qt here. napari draws the outlines: they are its `Labels.contour`, which the layer controls
change as well, so the layer is asked and never the button.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from napari_unet_cells.layers.metadata import CELLS, OURS
from napari_unet_cells.layers.selection import labels_for
from napari_unet_cells.settings import recall, remember
from napari_unet_cells.widgets.bound_keys import bind, unbind
from napari_unet_cells.widgets.correct.keys import OUTLINES_KEY
from napari_unet_cells.widgets.wiring import Wiring

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

#: Pixels of an outline, and cells of a smaller diameter in pixels have the thinner one.
THICK, THIN, SMALL = 2, 1, 14

#: Key of the remembered choice.
REMEMBERED = "outlines"


class OutlinesView(Protocol):
    """Form with the button."""

    def show_outlines(self, shown: bool, problem: str) -> None:
        """Press the button or not; `problem` says why it does nothing, empty where it does."""


class OutlinesSwitch:
    """Shows the cells as outlines or filled; new cells come as the user left it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    view : OutlinesView
    wiring : Wiring
        Of the view.
    """

    def __init__(self, viewer: ViewerModel, view: OutlinesView, wiring: Wiring) -> None:
        self._viewer, self._view = viewer, view
        self._layer: Any = None
        self._wanted = recall(REMEMBERED) is True
        self._followed = wiring.part()
        layers = viewer.layers
        wiring.connect(self._inserted, layers.events.inserted)
        wiring.connect(self._follow, layers.selection.events.active, layers.events.removed)
        self._follow()

    def toggle(self, layer: object = None) -> None:
        """Show outlines where the cells are filled, and the other way round."""
        if self._layer is None:
            return
        self._wanted = not self._layer.contour
        remember(REMEMBERED, self._wanted)
        self._layer.contour = width_for(self._layer) if self._wanted else 0

    def _inserted(self, event: Any) -> None:
        made = event.value.metadata.get(OURS, {})
        if self._wanted and made.get("role") == CELLS and not event.value.contour:
            event.value.contour = width_for(event.value)
        self._follow()

    def _follow(self, event: object = None) -> None:
        layers = self._viewer.layers
        layer: Any = labels_for(layers.selection.active, layers, self._layer)
        if layer is not self._layer:
            self._followed.release()
            self._layer = layer
            if layer is not None:
                self._followed.connect(self._show, layer.events.contour)
                self._followed.at_end(unbind, bind(layer, {OUTLINES_KEY: self._take}))
        self._show()

    def _take(self, layer: Labels) -> None:
        """Do what the button does; a function of its own, because napari shows its docstring."""
        self.toggle()

    def _show(self, event: object = None) -> None:
        problem = "" if self._layer is not None else "There are no cells yet. Press Segment."
        self._view.show_outlines(bool(self._layer is not None and self._layer.contour), problem)


def width_for(layer: Labels) -> int:
    """Width of the outlines in pixels: thinner where a run found small cells."""
    made = layer.metadata.get(OURS, {}).get("provenance", {})
    diameter = made.get("parameters", {}).get("scale", {}).get("diameter")
    return THIN if diameter and diameter < SMALL else THICK
