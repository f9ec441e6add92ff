"""Segment what is in view of a large image, at the resolution of the screen. No Qt.

What is found is shown in a layer of its own, which a later run hides: it is a preview, and no
result that is corrected.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.levels import level_in_view
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, stack_axes
from napari_unet_cells.layers.metadata import OURS, PREVIEW, image_id
from napari_unet_cells.layers.transforms import place_of_part
from napari_unet_cells.segmentation.messages import describe_count, describe_duration
from napari_unet_cells.segmentation.pipeline import Progress, Settings
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.run import Finished, run
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.widgets.napari_versions import add_hidden, canvas_size
from napari_unet_cells.widgets.segment.channels import drop_unmade, show_projection
from napari_unet_cells.widgets.segment.found_layers import hide_previews, previews
from napari_unet_cells.widgets.segment.jobs import Projected, projected
from napari_unet_cells.widgets.segment.values import SegmentValues
from napari_unet_cells.widgets.segment.view import RunDisplay
from napari_unet_cells.widgets.segment.where import canvas_on

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

#: Pixels of the view below which no cell is looked for.
LEAST_DIAMETER = 4.0

#: Pixels of a level without coarser ones that are gone through for a view.
MOST_READ = 2**26


@dataclass(frozen=True, eq=False)
class Previewed:
    """End of a run on what is in view; `result` is None where nothing but one value is."""

    result: Result | None


@dataclass(frozen=True)
class Revealed:
    """The layer of what was found is to be seen, in a turn of the window of its own."""


class ViewRun:
    """A run on what is in view.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : SegmentValues
    image : napari image layer
    shown : sequence of int, or None
        Index of the plane along the axes before (y, x).
    display : RunDisplay

    Raises
    ------
    UserError
        Where nothing can be segmented there.
    """

    def __init__(
        self,
        viewer: Viewer,
        values: SegmentValues,
        image: Image,
        shown: Sequence[int],
        display: RunDisplay,
    ) -> None:
        self._viewer, self._name, self._image = viewer, image.name, image_id(image)
        self._imaged = image
        self._display = display
        self._ended: Previewed | None = None
        self._layer: Labels | None = None
        n = len(stack_axes(image))
        levels: list[ImageArray] = list(image.data) if image.multiscale else [image.data]
        shapes = [(int(level.shape[n]), int(level.shape[n + 1])) for level in levels]
        view = level_in_view(canvas_on(viewer, image), shapes, canvas_size(viewer))
        if view is None:
            raise UserError(
                f"Nothing of '{image.name}' is in view. Move the view onto it: the house below "
                "the list of layers shows all."
            )
        self.view = view
        height, width = (side.stop - side.start for side in view.box)
        if view.step > 1 and height * width > MOST_READ:
            raise UserError(
                f"'{image.name}' holds no copies at lower resolutions, so too much would have to "
                "be read for this view. Zoom in, or choose Whole image under Where."
            )
        self._index = tuple(shown)
        self._level = levels[view.level]
        #: The same, or what an empty layer will hold.
        self._taken: ImageArray | None = None
        self._is_rgb = bool(getattr(image, "rgb", False))
        self._place = place_of_part(image, self._index, view.origin, view.factors)
        self._n_before = n
        self._source = describe_source(image, self._index)
        self._settings, self._model = self._scaled(values.settings), values.model

    def _scaled(self, settings: Settings) -> Settings:
        """Give the settings in pixels that are looked at."""
        factor = self.view.factors[0]
        if settings.diameter is not None:
            seen = max(LEAST_DIAMETER, settings.diameter / factor)
            settings = replace(settings, diameter=seen)
        return replace(settings, link=None)

    def events(self, engine: Engine, stop: threading.Event) -> Generator[object, None, None]:
        """Do it; this is a thread.

        Yields
        ------
        Opened, Started, Progress, MemoryFull, Separating
            As a run on all of an image.
        Projected
            First, where the layer is empty yet.
        Previewed, Revealed
            Last: napari takes a while to add a layer, and again to draw it.
        """
        if self._taken is None:
            self.take((yield from projected(self._imaged)))
        pixels = self._pixels()
        if (pixels == pixels.reshape(-1)[0]).all():
            yield Previewed(None)
            return
        planes = Planes(pixels, self._is_rgb)
        for event in run(engine, self._model, planes, self._settings, self._source, stop):
            yield Previewed(event.result) if isinstance(event, Finished) else event
        yield Revealed()

    def take(self, levels: Sequence[ImageArray] | None) -> None:
        """Look at these levels of the image; at those of its layer where there are none."""
        self._taken = self._level if levels is None else levels[self.view.level]

    def _pixels(self) -> NDArray[Any]:
        level = self._level if self._taken is None else self._taken
        return np.asarray(level[(*self._index, *self.view.part)])

    def receive(self, event: object) -> None:
        """Take over what happened."""
        if isinstance(event, Projected):
            if event.layer in self._viewer.layers:
                show_projection(event.layer, event.levels)
        elif isinstance(event, Opened):
            self._display.show_device(event.device)
        elif isinstance(event, Progress):
            self._display.show_progress(event.done / event.total, "")
        elif isinstance(event, Previewed):
            self._ended = event
            self.add(event)
        elif isinstance(event, Revealed):
            self.reveal()

    def finished(self) -> None:
        """Say what came of it."""
        if self._ended is not None:
            self._display.say(self.describe(self._ended))

    def ended_early(self, word: str) -> None:
        """Say that nothing is left of it."""
        drop_unmade(self._viewer)
        self._display.say(f"{word}. Nothing was changed.")

    def failed(self) -> None:
        """Leave everything as it is; why it failed is said."""
        drop_unmade(self._viewer)

    def add(self, previewed: Previewed) -> None:
        """Put what was found into the layer of an earlier look, else into a new, hidden one."""
        result, layer = previewed.result, next(iter(previews(self._viewer, self._image)), None)
        if result is None:
            hide_previews(self._viewer, self._image)
            return
        labels = result.classes if result.cells is None else result.cells
        labels = labels.reshape((1,) * self._n_before + labels.shape)
        if layer is None:
            layer = self._added(labels)
        else:  # to remove a layer may take napari seconds, where the image is one of dask
            layer.visible = False
            layer.data = labels
            for name, value in self._place.items():
                setattr(layer, name, value)
        layer.editable = False
        self._layer = layer

    def _added(self, labels: NDArray[Any]) -> Labels:
        from napari.layers import Labels as LabelsLayer

        layer = LabelsLayer(
            labels,
            name=f"{self._name} preview",
            metadata={OURS: {"role": PREVIEW, "image": self._image}},
            **self._place,
        )
        add_hidden(self._viewer, layer)
        return layer

    def reveal(self) -> None:
        """Show what was added."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._layer.visible = True

    def describe(self, previewed: Previewed) -> str:
        """Say what was found, and at which resolution."""
        result, factor = previewed.result, self.view.factors[0]
        if result is None:
            return "All that is in view has one value: there is nothing to find."
        what = "Classes" if result.cells is None else describe_count(result.n_cells)
        said = f"{what} in view in {describe_duration(result.seconds, digits=1)}, as a preview"
        if factor >= 1.5:
            said += f" at 1/{factor:.0f} of the resolution: zoom in for smaller cells"
        return f"{said}. Whole image (under Where) segments and keeps all."
