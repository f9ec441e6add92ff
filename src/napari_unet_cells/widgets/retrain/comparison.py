"""Cells of a new model as outlines above a result: what they are compared with is not touched.

No Qt here. `Comparison.job` runs the new model on the image of a result, as the result's record
says it was made; the section runs the job in a thread and gives its last event to `show`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.layers.metadata import (
    CELLS,
    COMPARISON,
    INPUT,
    OURS,
    image_id,
    result_metadata,
)
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.layers.transforms import place_of
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.messages import describe_difference
from napari_unet_cells.segmentation.pipeline import Event, Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.segment import Opened, Segmenter

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_unet_cells.widgets.runner import Job

#: Width in pixels and colour of the outlines.
CONTOUR, COLOR = 2, "#ffd400"


@dataclass(frozen=True)
class Compared:
    """A new model has segmented the image of a result.

    Attributes
    ----------
    result : Result
    counts : (int, int)
        Cells of the old result as it is now, corrections and all, and of the new model.
    sentence : str
        How they differ.
    """

    result: Result
    counts: tuple[int, int]
    sentence: str


class Comparison:
    """Compares the result that is looked at with another model; one comparison at a time.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
        Whose child segments.

    Attributes
    ----------
    layer : napari labels layer, or None
        The outlines of the last comparison.
    """

    def __init__(self, viewer: Viewer, engine: Engine) -> None:
        self._viewer, self._engine = viewer, engine
        self.layer: Labels | None = None
        self._old: Labels | None = None

    def result(self) -> Labels | None:
        """Cells to compare with: the active ones, else those of the active image, else the top."""
        cells = [layer for layer in self._viewer.layers if _made(layer).get("role") == CELLS]
        active = self._viewer.layers.selection.active
        if active in cells:
            return next(layer for layer in cells if layer == active)
        image = "" if active is None else _made(active).get("image") or image_id(active)
        of_image = [layer for layer in cells if _made(layer).get("image") == image]
        shown = [layer for layer in of_image or cells if layer.visible]
        return next(iter(reversed(shown or of_image or cells)), None)

    def job(self, model: str) -> Job:
        """Prepare a run of a model on the image of the result.

        Raises
        ------
        UserError
            Where there is nothing to compare, or the model is gone.
        """
        card = find_model(model)
        if not card.makes_cells:
            raise UserError(f"{model} finds no single cells, so no outlines can be compared.")
        cells = self.result()
        if cells is None:
            raise UserError("There is no result to compare with. Segment an image first.")
        image = source_image(cells, self._viewer.layers)
        if image is None:
            raise UserError(f"The image of '{cells.name}' is not open any more. Open it again.")
        self._old = cells
        provenance = _made(cells).get("provenance", {})
        shown = provenance.get("source", {}).get("plane")
        planes, source = planes_for(image, shown), describe_source(image, shown)
        settings = _settings_of(provenance)
        before = cells.data

        def job(stop: threading.Event) -> Generator[object, None, None]:
            segmenter = Segmenter(card, lambda card: self._engine.open(card, stop))
            for event in segmenter.events(planes, settings, source):
                yield _compared(event, model, before)

        return job

    def show(self, compared: Compared) -> None:
        """Add the outlines of the new model's cells; the layer in use stays the active one."""
        from napari.utils.colormaps import DirectLabelColormap

        old, cells = self._old, compared.result.cells
        if old is None or old not in self._viewer.layers or cells is None:
            return
        made, active = _made(old), self._viewer.layers.selection.active
        details = compared.result.details
        typed = {INPUT: old.metadata[INPUT]} if INPUT in old.metadata else {}
        self.layer = self._viewer.add_labels(
            cells.reshape(old.data.shape),
            name=f"{old.name} ({details.card.name})",
            metadata=typed
            | result_metadata(COMPARISON, made.get("image", ""), details.provenance()),
            colormap=DirectLabelColormap(color_dict={None: COLOR, 0: "transparent"}),
            **place_of(old),
        )
        self.layer.contour = CONTOUR
        # Nobody corrects by mistake what goes again.
        self.layer.editable = False
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active

    def remove(self) -> None:
        """Take the outlines away: one layer only, as several in one turn can crash Mesa."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


def _made(layer: Any) -> Mapping[str, Any]:
    made: Mapping[str, Any] = layer.metadata.get(OURS, {})
    return made


def _settings_of(provenance: Mapping[str, Any]) -> Settings:
    """Give the settings of a run as its record tells them; thresholds are each model's own."""
    parameters = provenance.get("parameters", {})
    scale = parameters.get("scale", {})
    return Settings(
        diameter=None if scale.get("estimated", True) else scale.get("diameter"),
        link=parameters.get("linked_along_axis"),
        test_time_augmentation=bool(parameters.get("test_time_augmentation", False)),
    )


def _compared(event: Opened | Event, model: str, before: NDArray[Any]) -> Opened | Event | Compared:
    if not isinstance(event, Result) or event.cells is None:
        return event
    after = event.cells.reshape(before.shape)
    counts = (_count(before), _count(after))
    return Compared(event, counts, describe_difference(before, after, model))


def _count(labels: NDArray[Any]) -> int:
    return int(np.count_nonzero(np.unique(labels)))
