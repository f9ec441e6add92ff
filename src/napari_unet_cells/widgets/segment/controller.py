"""State of the runs of the Segment section, and what each event changes in the viewer.

No Qt here. The section owns the window and the threads; it hands over what the user chose and what
the threads answer, and shows what it is told through `View`::

    SegmentSection --values--> SegmentController --job--> Runner (a thread)
          ^                      |    |     ^                 |
          +------- View ---------+    |     +----- Answer ----+
                                      +--> ResultLayers --> viewer
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.segmentation.messages import (
    describe_change,
    describe_count,
    describe_memory,
    describe_progress,
    describe_result,
)
from napari_unet_cells.segmentation.pipeline import Progress, Separating, Started
from napari_unet_cells.segmentation.result import Fragments
from napari_unet_cells.segmentation.run import Adjusted, Finished, adjust, open_model, run
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.settings import remember
from napari_unet_cells.widgets.segment.channels import chosen_plane, split_channels
from napari_unet_cells.widgets.segment.results import ResultLayers, preload
from napari_unet_cells.widgets.segment.values import NO_CHANNELS, SegmentValues, StackValues

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from napari_unet_cells.widgets.worker import Job


class View(Protocol):
    """The window as the controller sees it."""

    def say(self, sentence: str) -> None:
        """Show a sentence below the button."""

    def warn(self, sentence: str) -> None:
        """Say what prevents something, also as a notification."""

    def inform(self, sentence: str) -> None:
        """Say something as a notification alone."""

    def show_device(self, device: str) -> None:
        """Show what computes, or how far it is."""

    def show_diameter(self, estimated: float) -> None:
        """Show the diameter that was estimated, in pixels."""

    def show_progress(self, done: float, text: str) -> None:
        """Show the part that is done, 0 to 1, and say it."""

    def show_stack(self, stack: StackValues) -> None:
        """Choose planes and linking in the form of a channel that was split off."""

    def offer_adjustment(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show the options of a run; see `AdjustForm.show_options`."""


class Runner(Protocol):
    """A thread for one job at a time; see `widgets.worker.Worker`."""

    @property
    def running(self) -> bool:
        """Whether a job was started and has not ended."""

    def start(self, job: Job) -> None:
        """Start a job; one that still runs is stopped."""


@dataclass(frozen=True)
class Runners:
    """The threads of a section, one for each kind of work."""

    run: Runner
    warming: Runner
    adjusting: Runner
    comparing: Runner


@dataclass(frozen=True)
class Answer:
    """An event of a job, and the number of the run that it belongs to."""

    run: int
    event: object


class SegmentController:
    """Run after run: which image, which results, what may be adjusted.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
    view : View
    runners : Runners
        Their answers come to `receive`, `warmed`, `show_adjusted`.

    Attributes
    ----------
    number : int
        Of the last run; answers of earlier ones are dropped.
    results : ResultLayers or None
        Of the last run.
    """

    def __init__(self, viewer: Viewer, engine: Engine, view: View, runners: Runners) -> None:
        self._viewer, self._engine, self._view, self._runners = viewer, engine, view, runners
        self.number = 0
        self.results: ResultLayers | None = None
        self._model = ""
        self._warm = False
        self._link: int | None = None
        self._fragments: tuple[Fragments, ...] = ()
        self._before: NDArray[Any] | None = None
        self._started = 0.0
        self._remark = ""

    # ------------------------------------------------------------------- the network

    def choose_model(self, name: str) -> None:
        """Warm the network up while the user looks at the image."""
        self._model, self._warm = name, False
        if name:
            self._view.show_device("warming up...")
            self._runners.warming.start(partial(_warm_up, self._engine, name))

    def warmed(self, event: object) -> None:
        """Show what the network computes on."""
        assert isinstance(event, Opened)
        self._warm = True
        self._view.show_device(event.device)

    def warming_failed(self, problem: str) -> None:
        """Say why the network cannot be used."""
        self._view.show_device("not ready")
        self._view.warn(problem)

    # ----------------------------------------------------------------------- the run

    def start(self, values: SegmentValues, compare: bool = False) -> bool:
        """Segment; what prevents it is said in a sentence.

        Parameters
        ----------
        values : SegmentValues
        compare : bool
            Say how much the cells differ from those of the run before, see `compare`.

        Returns
        -------
        bool
            Whether it was started.
        """
        if self._runners.run.running:
            return False
        problem = values.problem()
        if problem is not None:
            self._view.warn(problem)
            return False
        results = self.results
        usable = compare and results is not None and results.adjustable
        self._before = results.cells.data if usable and results is not None else None
        # Before the split: it changes the axes of the viewer, and with them the sliders.
        shown = _plane_of_channel(self._viewer, values)
        job = self._job(values, self._split(values), shown)
        self._fragments, self._remark = (), ""
        self._view.show_progress(0.0, "")
        self._view.say("" if self._warm else "The network is warming up; the run starts by itself.")
        self._runners.run.start(job)
        return True

    def _split(self, values: SegmentValues) -> Image:
        """Split the channels where the user chose one, and give its layer; else the image."""
        axis = values.stack.channel_axis
        if axis is None:
            return values.image
        stack = values.stack
        layer = split_channels(
            self._viewer, values.image, axis, stack.channel, stack.names, stack.projection
        )
        # The form shows the new layer, and what it had for another image of as many axes.
        self._view.show_stack(values.stack)
        return layer

    def _job(self, values: SegmentValues, layer: Image, shown: tuple[int, ...] | None) -> Job:
        """Prepare the next run: planes to read, and where their results lie."""
        stack, settings, engine = values.stack, values.settings, self._engine
        planes, source = planes_for(layer, shown), describe_source(layer, shown)
        self.results = ResultLayers(self._viewer, layer, shown)
        self._link = stack.link
        self.number += 1
        number = self.number

        def job(stop: threading.Event) -> Generator[object, None, None]:
            if stack.memory:
                axis = stack.channel_axis
                remember(stack.memory, NO_CHANNELS if axis is None else axis)
            yield from _numbered(number, run(engine, values.model, planes, settings, source, stop))

        return job

    def receive(self, answer: object) -> None:
        """Take over what a run says."""
        assert isinstance(answer, Answer)
        event, results = answer.event, self.results
        if answer.run != self.number or results is None:
            return
        if isinstance(event, Opened):
            self.warmed(event)
        elif isinstance(event, Started):
            self._started = time.monotonic()
            self._view.say("")
            results.begin(event)
            if not event.details.diameter_given:
                self._view.show_diameter(event.details.diameter)
        elif isinstance(event, Progress):
            # The bar first: it paints at once whatever waits in the window, and a canvas with
            # a new layer would make one long stop of two short ones.
            seconds = time.monotonic() - self._started
            text = describe_progress(event.done, event.total, seconds)
            self._view.show_progress(event.done / event.total, text)
            results.refresh()
        elif isinstance(event, MemoryFull):
            self._remark = describe_memory(event)
            self._view.say(self._remark)
            self._view.show_device(event.network.device)
        elif isinstance(event, Separating):
            self._view.show_progress(1.0, "separating the cells")
        elif isinstance(event, Finished):
            self._finish(event, results)

    def _finish(self, event: Finished, results: ResultLayers) -> None:
        results.finish(event)
        self._view.say(f"{describe_result(event.result)}\n{self._remark}".strip())
        self._fragments = event.result.fragments
        options = event.result.options
        if options is not None:
            self._view.offer_adjustment(options, self._fragments[0].zoom, event.median_area)

    # ------------------------------------------------------------------ how it ends

    def compare(self) -> None:
        """Compare the cells with those of the run before, where `start` was asked to."""
        before, self._before = self._before, None
        if before is None or self.results is None or not self.results.adjustable:
            return
        after = self.results.cells.data
        if before.shape == after.shape:
            self._runners.comparing.start(partial(_compared, before, after))

    def cancelled(self) -> None:
        """Say what is left of a run that was cancelled."""
        kept = self.results is not None and self.results.shown
        self._view.say(
            "Cancelled. The classes of the finished tiles are kept."
            if kept
            else "Cancelled before the first tile was done."
        )

    def failed(self) -> None:
        """Start a fresh child for the next press, where the last one died."""
        if self._engine.pid is None:
            self.choose_model(self._model)

    # ----------------------------------------------------------------- after the run

    @property
    def adjustable(self) -> bool:
        """Whether the cells of the last run can be separated anew."""
        usable = bool(self._fragments) and self.results is not None and self.results.adjustable
        return usable and not self._runners.run.running

    def adjust(self, options: InstanceOptions) -> None:
        """Separate the cells anew."""
        if self.results is None or not self.results.adjustable or not self._fragments:
            return
        job = partial(
            _adjust,
            self.number,
            self._fragments,
            options,
            self._link,
            self.results.cells.data,
            self.results.cells_digest,
        )
        self._runners.adjusting.start(job)

    def show_adjusted(self, answer: object) -> None:
        """Show cells that were separated anew, unless another run has begun since."""
        assert isinstance(answer, Answer)
        event, results = answer.event, self.results
        assert isinstance(event, Adjusted)
        if answer.run != self.number or results is None or not results.adjustable:
            return
        results.replace(event)
        self._view.say(describe_count(event.n_cells))
        if event.corrected:
            self._view.inform("The cells you have corrected were kept in their own layer, hidden.")

    def layer_removed(self, layer: Layer) -> None:
        """Forget what was said of a result whose last layer is gone."""
        results = self.results
        if results is not None and not self._runners.run.running and results.ended_with(layer):
            self._view.say("")


def _plane_of_channel(viewer: Viewer, values: SegmentValues) -> tuple[int, ...] | None:
    """Index of the plane to segment, without the axis of the channels; None for all planes."""
    shown = chosen_plane(viewer, values.image, values.stack.all_planes)
    axis = values.stack.channel_axis
    if shown is None or axis is None:
        # A single plane a channel is not a stack.
        return () if axis is not None and not values.stack.left else shown
    return shown[:axis] + shown[axis + 1 :]


def _numbered(number: int, events: Iterator[object]) -> Generator[Answer, None, None]:
    for event in events:
        yield Answer(number, event)


def _warm_up(engine: Engine, name: str, stop: threading.Event) -> Generator[object, None, None]:
    preload()
    yield from open_model(engine, name, stop)


def _adjust(
    number: int,
    fragments: tuple[Fragments, ...],
    options: InstanceOptions,
    link: int | None,
    shown: NDArray[Any],
    shown_digest: int,
    stop: threading.Event,
) -> Generator[object, None, None]:
    yield Answer(number, adjust(fragments, options, link, shown, shown_digest))


def _compared(
    before: NDArray[Any], after: NDArray[Any], stop: threading.Event
) -> Generator[object, None, None]:
    yield describe_change(before, after)
