"""Result layers of one run: their place, when they appear, which can be edited."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Review
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    INPUT,
    OURS,
    REVIEW,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.reader import class_colors
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import Started
from napari_unet_cells.segmentation.run import Adjusted, Finished

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer


def preload() -> None:
    """Import what napari's first labels layer needs, off the GUI thread.

    Else the window would stand still for half a second in the middle of the first run. A
    layer made here would do too, but its units are not made for two threads (pint).
    """
    for module in ("pandas", "skimage.color.colorconv"):
        importlib.import_module(module)


class ResultLayers:
    """Makes new layers for a run, in the place that the image had when it started.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    shown : sequence of int, or None
        Index of the plane that is segmented along the axes before (y, x); None for all.
    """

    def __init__(self, viewer: Viewer, image: Image, shown: Sequence[int] | None = ()) -> None:
        self._viewer = viewer
        self._name, self._image = image.name, image_id(image)
        self._place = place_of(image, shown)
        # When the labels are saved, the image and its typed pixel size may be gone.
        told = image.metadata.get(INPUT, {}).get("pixel_size")
        self._told = {} if told is None else {INPUT: {"pixel_size": told}}
        self._single = len(shown or ())
        self._details: RunDetails
        self._review: Review
        self._array: NDArray[Any] | None = None
        self._classes: Any = None
        self.cells: Any = None

    def begin(self, event: Started) -> None:
        """Remember where the tiles will be written; the layer comes with the first of them."""
        self._array, self._details = self._placed(event.classes), event.details

    def _placed(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Give labels of one plane of a stack its other axes, with a length of 1."""
        return labels.reshape((1,) * self._single + labels.shape)

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

    @property
    def adjustable(self) -> bool:
        """Whether the cells are still there to be changed."""
        return self.cells is not None and self.cells in self._viewer.layers

    def ended_with(self, layer: Layer) -> bool:
        """Whether a layer that was removed was the last of those that were made here."""
        made = [one for one in (self._classes, self.cells) if one is not None]
        return layer in made and not any(one in self._viewer.layers for one in made)

    @property
    def cells_digest(self) -> int:
        """Checksum of the cells as they were made."""
        return int(self.cells.metadata[OURS]["digest"])

    def finish(self, event: Finished) -> None:
        """Add the cells, editable and active; the classes stay below them, hidden."""
        result, self._review = event.result, event.review
        self._details = result.details
        if self._classes is None:  # a stack of planes without contrast has no tiles
            self._add_classes()
        self._classes.metadata.update(self._made(CLASSES))
        if result.cells is None:
            self._classes.metadata[REVIEW] = event.review
            self._classes.editable = True  # the user corrects the classes
            self._viewer.layers.selection.active = self._classes
            return
        self._classes.visible = False
        self._add_cells(result.cells, event.cells_digest, event.review)

    def replace(self, event: Adjusted) -> None:
        """Show cells that were separated anew; what was corrected by hand stays as it is."""
        self._details = replace(self._details, options=event.options)
        event.review.take_uncertainty(self._review)
        if event.corrected or event.cells.dtype != self.cells.data.dtype:
            self.cells.visible = False
            self._add_cells(event.cells, event.cells_digest, event.review)
            return
        # In place: a new array would leave the undo history with the old one.
        np.copyto(self.cells.data, event.cells)
        self.cells.metadata.update(self._made(CELLS, event.cells_digest) | {REVIEW: event.review})
        self.cells.refresh(extent=False)

    def _made(self, role: str, checksum: int | None = None) -> dict[str, Any]:
        return result_metadata(role, self._image, self._details.provenance(), checksum)

    def _add_cells(self, cells: NDArray[Any], checksum: int, review: Review) -> None:
        self.cells = self._viewer.add_labels(
            self._placed(cells) if cells.ndim == 2 else cells,
            name=f"{self._name} cells",
            metadata=self._told | self._made(CELLS, checksum) | {REVIEW: review},
            **self._place,
        )
        self._viewer.layers.selection.active = self.cells

    def _add_classes(self) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        assert self._array is not None
        active, card = self._viewer.layers.selection.active, self._details.card
        self._classes = self._viewer.add_labels(
            self._array,
            name=f"{self._name} classes",
            metadata=self._told | self._made(CLASSES),
            colormap=DirectLabelColormap(color_dict=class_colors(len(card.classes), card.colors)),
            **self._place,
        )
        # A fresh layer without history: nothing is lost by taking its tools away.
        self._classes.editable = False
        # A run does not take the active layer from the user.
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
