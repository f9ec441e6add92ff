"""Layers that the controls of the Segment section act on, from the one that is active."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from napari_unet_cells.layers.metadata import CELLS, OURS, image_id
from napari_unet_cells.widgets.segment.found_layers import layers_of
from napari_unet_cells.widgets.segment.live import bare, current

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer


class Selected:
    """Finds the layers that the user means; it keeps none of them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    last : callable
        Gives the cells of the last run, or None: they are meant where no layer is active.
    """

    def __init__(self, viewer: Viewer, last: Callable[[], Labels | None]) -> None:
        self._viewer, self._last = viewer, last

    @property
    def cells(self) -> Labels | None:
        """Cells that the controls act on: the active ones, else those of the active image."""
        layers = self._viewer.layers
        active = bare(layers.selection.active)
        if active is None:
            last = self._last()
            return last if last in layers else None
        made = active.metadata.get(OURS)
        if made is not None and made.get("role") == CELLS:
            return cast("Labels", active)
        return next(iter(layers_of(self._viewer, self.image, CELLS)), None)

    @property
    def followed(self) -> Labels | None:
        """Result whose undo history is followed: active classes of their own, else `cells`."""
        active = bare(self._viewer.layers.selection.active)
        return self.cells if active is None or current(active) is None else active

    @property
    def image(self) -> str:
        """Image that is active, or that an active result is of; see `layers.metadata.image_id`."""
        active = bare(self._viewer.layers.selection.active)
        if active is None:
            return ""
        made = active.metadata.get(OURS)
        return image_id(active) if made is None else made.get("image", "")
