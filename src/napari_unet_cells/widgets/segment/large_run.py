"""One run on a large image as the Segment section sees it: its job, its events, its end. No Qt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet_cells.batch.large_image import (
    Asked,
    Begun,
    BlockDone,
    LookedAt,
    Made,
    MemoryShort,
    Sample,
    follow,
)
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.engine.process import Cancelled
from napari_unet_cells.layers.metadata import image_id
from napari_unet_cells.segmentation.messages import describe_left, describe_start
from napari_unet_cells.widgets.segment.channels import drop_unmade, show_projection
from napari_unet_cells.widgets.segment.found_layers import hide_previews
from napari_unet_cells.widgets.segment.jobs import Projected, projected
from napari_unet_cells.widgets.segment.large_image import (
    Grown,
    LargeLayers,
    NoFolder,
    Shown,
    checked,
    describe_ended,
    describe_made,
    large_events,
    place_looked_at,
    samples_of,
)
from napari_unet_cells.widgets.segment.view import RunDisplay
from napari_unet_cells.widgets.segment.view_run import (
    Previewed,
    Revealed,
    ViewRun,
)

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

#: What is said until the first block is begun.
READING = "Reading the image, of which all blocks are segmented in one way."


class LargeRun:
    """A run on a large image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer
    shown : tuple of int, or None
        See `LargeLayers`.
    asked : Asked
    display : RunDisplay
    before : ViewRun or None
        A look at what is in view, which comes first.
    """

    def __init__(
        self,
        viewer: Viewer,
        image: Image,
        shown: tuple[int, ...] | None,
        asked: Asked,
        display: RunDisplay,
        before: ViewRun | None = None,
    ) -> None:
        self._before = before
        self._viewer, self._imaged, self._asked, self._display = viewer, image, asked, display
        self.refused: NoFolder | None = None
        self._shown = shown
        self._single = shown is not None
        self._n_before = len(shown or ())
        self._layers = LargeLayers(viewer, image, shown)
        self._begun: Begun | None = None
        self._made: Made | None = None
        self._fraction = self._first = 0.0
        self._started = 0.0
        self._place: tuple[float, ...] | None = None
        self._remark = ""
        self._look()

    def events(self, engine: Engine, stop: threading.Event) -> Generator[object, None, None]:
        """Do it; this is a thread."""
        refused = checked(self._asked)
        if refused is not None:
            yield refused
            return
        levels = yield from projected(self._imaged)
        if self._before is not None:
            self._before.take(levels)
            try:
                yield from self._before.events(engine, stop)
            except Cancelled:
                raise
            except Exception:  # whatever a reader raises: it is a look only, and the run goes on
                logging.getLogger(__name__).warning("what is in view was not seen", exc_info=True)
        samples: tuple[Sample, ...] = ()
        try:
            samples = samples_of(self._imaged, self._shown, self._asked)
        except Exception:  # the process reads the file by itself
            logging.getLogger(__name__).warning("the layer was not read", exc_info=True)
        asked = replace(self._asked, samples=samples)
        events = follow(asked, lambda: self._place, stop)
        yield from large_events(events, self._asked.model, self._n_before)

    def _look(self) -> None:
        """Note where the user looks, for the process."""
        if self._imaged in self._viewer.layers:
            place = place_looked_at(self._viewer, self._imaged)
            self._place = place[-2:] if self._single else place

    def receive(self, event: object) -> None:
        """Take over what happened."""
        self._look()
        if isinstance(event, Projected):
            if event.layer in self._viewer.layers:
                show_projection(event.layer, event.levels)
        elif isinstance(event, LookedAt):
            said = f"reading the whole image, {100 * event.fraction:.0f} %"
            self._display.show_progress(event.fraction, said)
        elif isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, NoFolder):
            self.refused = event
        elif isinstance(event, BlockDone):
            self._progress(event)
        elif isinstance(event, MemoryShort):
            self._remark = event.text
            self._display.say(event.text)
        elif isinstance(event, Grown):
            self._layers.grow(event)
        elif isinstance(event, Shown):
            self._layers.show(event.role)
        elif isinstance(event, Previewed) and self._before is not None:
            self._before.add(event)
        elif isinstance(event, Revealed) and self._before is not None:
            self._before.reveal()
        elif isinstance(event, Made):
            self._made = event
            hide_previews(self._viewer, image_id(self._imaged))

    def _begin(self, event: Begun) -> None:
        self._display.show_progress(0.0, "")  # that the image was read is not that it is segmented
        self._begun = event
        self._fraction = self._first = event.fraction
        self._started = time.monotonic()
        said = f"{describe_start(event.diameter)} The result grows in {event.output}."
        if event.note:
            said = f"{said} The run {event.note}."
        self._display.say(said)
        if event.diameter:
            self._display.show_diameter(event.diameter)

    def _progress(self, event: BlockDone) -> None:
        now = time.monotonic()
        self._fraction = event.fraction
        new, left = event.fraction - self._first, 1 - event.fraction
        seconds = (now - self._started) * left / new if new > 0 else 0.0
        text = describe_left(event.fraction, seconds) if left > 0 else "writing the table"
        self._display.show_progress(event.fraction, text)
        if self._layers.refresh(event.box, now):
            hide_previews(self._viewer, image_id(self._imaged))

    def finished(self) -> None:
        """Say what came of it."""
        if self._made is not None:
            self._layers.select()
            if self._made.device:
                self._display.show_device(self._made.device)
            self._display.say(f"{describe_made(self._made)}\n{self._remark}".strip())

    def ended_early(self, word: str) -> None:
        """Say what is left of it, where it was cancelled."""
        drop_unmade(self._viewer)
        if self._made is None and self._begun is not None and self._begun.output.exists():
            self._display.say("The run had come to its end. Press Segment to see the result.")
            return
        if self._made is None:
            self._layers.end_early(word.lower())
        self._display.say(describe_ended(self._begun, self._fraction, word))

    def failed(self) -> None:
        """Mark what is left of it; why it failed is said."""
        drop_unmade(self._viewer)
        self._layers.end_early("failed")
