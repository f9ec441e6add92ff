"""The result layers of one run: where they lie, when they appear, what can be edited."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet_cells.layers import (
    CELLS,
    CLASSES,
    image_id,
    place_of,
    result_metadata,
)
from napari_unet_cells.predict import Output
from napari_unet_cells.run import Finished

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Colours of the classes: background is not drawn, later classes repeat.
CLASS_COLORS = ("#00000000", "#2ca25f", "#fdae61", "#5e9cd3", "#d7503d", "#9e6ebd")


def preload() -> None:
    """Import what napari's first labels layer needs, off the GUI thread.

    Else the window would stand still for half a second in the middle of the first run. A
    layer made here would do too, but its units are not made for two threads (pint).
    """
    for module in ("pandas", "skimage.color.colorconv"):
        importlib.import_module(module)


def class_colors(n: int) -> dict[int | None, str]:
    """Colours of `n` classes, as napari takes them: what is no class is not drawn."""
    others = CLASS_COLORS[1:]
    colors: dict[int | None, str] = {None: CLASS_COLORS[0], 0: CLASS_COLORS[0]}
    colors.update({index: others[(index - 1) % len(others)] for index in range(1, n)})
    return colors


class ResultLayers:
    """Makes new layers for a run, in the place that the image had when it started.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    """

    def __init__(self, viewer: Viewer, image: Any) -> None:
        self._viewer = viewer
        self._name, self._image = image.name, image_id(image)
        self._place = place_of(image)
        self._out: Output | None = None
        self._provenance: dict[str, Any] = {}
        self._classes: Any = None

    def begin(self, out: Output, provenance: dict[str, Any]) -> None:
        """Remember where the tiles will be written; the layer comes with the first of them."""
        self._out, self._provenance = out, provenance

    def refresh(self) -> None:
        """Show the tiles that were written since the last call."""
        if self._classes is None:
            self._add_classes()
        elif self._classes in self._viewer.layers:
            self._classes.refresh(extent=False)

    @property
    def shown(self) -> bool:
        """Whether any tile was shown."""
        return self._classes is not None

    def finish(self, event: Finished) -> None:
        """Add the cells, editable and active; the classes stay below them, hidden."""
        result = event.result
        self._classes.metadata.update(result_metadata(CLASSES, self._image, result.provenance))
        if result.cells is None:
            self._classes.editable = True  # the classes are what she corrects
            self._viewer.layers.selection.active = self._classes
            return
        self._classes.visible = False
        cells = self._viewer.add_labels(
            result.cells,
            name=f"{self._name} cells",
            metadata=result_metadata(CELLS, self._image, result.provenance, event.cells_digest),
            **self._place,
        )
        self._viewer.layers.selection.active = cells

    def _add_classes(self) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        assert self._out is not None
        active = self._viewer.layers.selection.active
        self._classes = self._viewer.add_labels(
            np.asarray(self._out.classes),
            name=f"{self._name} classes",
            metadata=result_metadata(CLASSES, self._image, self._provenance),
            colormap=DirectLabelColormap(color_dict=class_colors(len(self._provenance["classes"]))),
            **self._place,
        )
        # A fresh layer without history: nothing is lost by taking its tools away.
        self._classes.editable = False
        # A run does not take the user's layer from under her hands.
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
