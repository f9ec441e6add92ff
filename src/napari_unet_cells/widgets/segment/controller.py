"""State of the runs of the Segment section, and what each event changes in the viewer.

No Qt here. The section owns the window and the threads; it hands over what the user chose and what
the threads answer, and shows what it is told through `View`::

    SegmentSection --values--> SegmentController --job--> Runner (a thread)
          ^                      |    |     ^                 |
          +------- View ---------+    |     +----- Answer ----+
                                      +--> ResultLayers --> viewer
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.core.regions import Place
from napari_unet_cells.corrections.autosave import Session, session_of
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.corrections.left_results import keep, keep_soon
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, planes_for, stack_axes
from napari_unet_cells.layers.metadata import CELLS, OURS, RESULTS, fitting_review, image_id
from napari_unet_cells.layers.selection import review_problem
from napari_unet_cells.segmentation.earlier import (
    EarlierResult,
    EarlierResults,
    Left,
    RemovedLayer,
    brought_back,
)
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.messages import (
    describe_count,
    describe_memory,
    describe_part,
    describe_progress,
    describe_result,
    describe_start,
)
from napari_unet_cells.segmentation.part_run import FoundPart, Where, run_part
from napari_unet_cells.segmentation.pipeline import Progress, Separating, Started
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    adjust,
)
from napari_unet_cells.segmentation.run import Finished, open_model, run
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.settings import remember
from napari_unet_cells.widgets.segment.channels import (
    Projection,
    choose_channel,
    chosen_plane,
    drop_unmade,
    show_projection,
    shown_plane,
    split_channels,
    split_of,
    unmade,
)
from napari_unet_cells.widgets.segment.earlier_results import (
    BroughtBack,
    Choice,
    add_again,
    described_as,
    left_in,
    pack,
    removed_lists,
)
from napari_unet_cells.widgets.segment.large_image import (
    MOST_SIDE,
    asked_for,
    is_large,
)
from napari_unet_cells.widgets.segment.large_run import READING as LARGE_READING
from napari_unet_cells.widgets.segment.large_run import LargeRun
from napari_unet_cells.widgets.segment.live import (
    adopt,
    bare,
    current,
    current_result,
    follow,
    is_for,
    own,
    put,
    shown_result,
)
from napari_unet_cells.widgets.segment.part_ending import PartEnded, PartThere
from napari_unet_cells.widgets.segment.results import (
    ResultLayers,
    layers_of,
    preload,
    replaced,
    same_classes,
)
from napari_unet_cells.widgets.segment.values import (
    NO_CHANNELS,
    VISIBLE,
    SegmentValues,
    StackValues,
)
from napari_unet_cells.widgets.segment.view_run import ViewRun
from napari_unet_cells.widgets.segment.where import part_of_image

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_unet_cells.widgets.worker import Job

#: What a run says before its first tile, which may take a minute.
WARMING = "The network is warming up; the run starts by itself."
READING = "Reading the image."
ESTIMATING = "Estimating the cell size."

#: How often the end of a run is computed again in a thread while somebody goes on painting.
MOST_PASSES = 2


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
        """Show the part that is done, 0 to 1, and say it; at 0 that something is being done."""

    def show_stack(self, stack: StackValues) -> None:
        """Choose planes and linking in the form of a channel that was split off."""

    def offer_adjustment(self, options: InstanceOptions, zoom: float, median_area: float) -> None:
        """Show the options of a run; see `AdjustForm.show_options`."""

    def show_adjustable(self, problem: str | None) -> None:
        """Show whether the selected cells can be adjusted, and why not; None without cells."""

    def show_results(self, choice: Choice) -> None:
        """Show the results of the image, of which one can be chosen."""

    def layer_came_back(self) -> None:
        """Tell others that corrections need not be restored, since their layer is back."""

    def ask_folder(self, sentence: str) -> Path | None:
        """Ask for a folder, for a reason; None where the user has none."""

    def start_again(self) -> None:
        """Press Segment again, for the user."""


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


@dataclass(frozen=True, eq=False)
class Projected:
    """Pixels of a projection, for the layer that waits for them."""

    layer: Image
    levels: Sequence[ImageArray]


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Cells of a layer that were separated again."""

    layer: Labels
    options: InstanceOptions
    change: Replacement


@dataclass(frozen=True)
class There:
    """Results of an image that are there when a run begins.

    Attributes
    ----------
    cells : napari labels layer, or None
    removed : napari labels layer, or None
        Cells, where their layer was removed.
    classes : list of napari labels layers
        Classes that somebody corrected.
    """

    cells: Labels | None
    removed: Labels | None
    classes: list[Labels]


@dataclass(frozen=True, eq=False)
class Ended:
    """End of a run, and what it changes in the cells that are there."""

    event: Finished
    change: Replacement | None
    left: Left | None = None


class Step(Enum):
    """Remaining step of the layers of a run, in a turn of the window of its own."""

    TILES = "tiles"
    ADD = "add"
    SHOW = "show"
    SELECT = "select"


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
    packing : threading.Thread or None
        Packs the layer that was removed last.
    """

    def __init__(self, viewer: Viewer, engine: Engine, view: View, runners: Runners) -> None:
        self._viewer, self._engine, self._view, self._runners = viewer, engine, view, runners
        self.number = 0
        self.results: ResultLayers | None = None
        self._model = ""
        self._warm = False
        self._offered: Origin | None = None
        self._offered_of: Labels | None = None
        self._started = 0.0
        self._remark = ""
        self._estimates = True
        self._choice: Choice | None = None
        self._ended: Ended | PartEnded | None = None
        self._part: Callable[[], PartThere] | None = None
        self._owed: Finished | None = None
        self._passes = 0
        self.packing: threading.Thread | None = None
        self._large: LargeRun | ViewRun | None = None
        #: Folders that the user chose for results that cannot be written where they should go.
        self._folders: dict[Path, Path] = {}

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

    def start(self, values: SegmentValues) -> bool:
        """Segment; what prevents it is said in a sentence.

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
        # Before the split: it changes the axes of the viewer, and with them the sliders.
        assert values.image is not None
        try:
            where = part_of_image(self._viewer, values.image, values.where)
        except UserError as error:
            self._view.warn(str(error))
            return False
        self._large = None
        if is_large(values.image):
            return self._start_large(values, where)
        shown = _plane_of_channel(self._viewer, values)
        job = self._job(values, self._split(values), shown, where)
        self._remark, self._passes = "", 0
        self._ended = self._owed = None
        self._view.show_progress(0.0, "")
        self._estimates = not values.diameter
        self._view.say(READING if self._warm else WARMING)
        self._runners.run.start(job)
        return True

    def _start_large(self, values: SegmentValues, where: Where | None) -> bool:
        """Segment an image whose result goes to the disk, see `start`."""
        if where is not None and values.where != VISIBLE:
            self._view.warn(
                f"Of an image beyond {MOST_SIDE:,} x {MOST_SIDE:,} pixels what is in view is "
                "segmented, or all of it. Choose Visible part or Whole image under Where."
            )
            return False
        if where is not None:
            return self._start_view(values)
        try:
            asked = asked_for(self._viewer, values, self._folders)
        except UserError as error:
            self._view.warn(str(error))
            return False
        shown = _plane_of_channel(self._viewer, values)
        layer = self._split(values)
        try:
            before = self._view_run(values, layer, shown)
        except UserError:  # nothing of it is in view
            before = None
        self._begin_large(LargeRun(self._viewer, layer, shown, asked, self._view, before))
        self._view.say(LARGE_READING)
        return True

    def _start_view(self, values: SegmentValues) -> bool:
        """Segment what is in view of a large image, see `start`."""
        shown = _plane_of_channel(self._viewer, values)
        try:
            run = self._view_run(values, self._split(values), shown)
        except UserError as error:
            self._view.warn(str(error))
            return False
        self._begin_large(run)
        self._view.say(READING if self._warm else WARMING)
        return True

    def _view_run(
        self, values: SegmentValues, layer: Image, shown: tuple[int, ...] | None
    ) -> ViewRun:
        index = shown_plane(self._viewer, layer) if shown is None else shown
        return ViewRun(self._viewer, values, layer, index, self._view)

    def _begin_large(self, run: LargeRun | ViewRun) -> None:
        self._large, self._ended, self._owed = run, None, None
        self.number += 1
        number, engine = self.number, self._engine

        def job(stop: threading.Event) -> Generator[object, None, None]:
            for event in run.events(engine, stop):
                yield Answer(number, event)

        self._view.show_progress(0.0, "")
        self._runners.run.start(job)

    def _split(self, values: SegmentValues) -> Image:
        """Give the layer of the channel that the user chose, split off where that is to be done."""
        stack, image = values.stack, values.image
        chosen = Projection(stack.projection, stack.channels) if stack.projection else None
        if stack.channel_axis is not None:
            layer = split_channels(
                self._viewer, image, stack.channel_axis, stack.channel, stack.names, chosen
            )
        elif stack.n_split:
            layer = choose_channel(self._viewer, image, stack.channel, chosen)
        else:
            return image
        if layer is not image:
            # The form shows the new layer, and what it had for another image of as many axes.
            self._view.show_stack(values.stack)
        return layer

    def _job(
        self,
        values: SegmentValues,
        layer: Image,
        shown: tuple[int, ...] | None,
        where: Where | None,
    ) -> Job:
        """Prepare the next run: planes to read, and where their results lie."""
        stack, settings, engine = values.stack, values.settings, self._engine
        planes, source = planes_for(layer, shown), describe_source(layer, shown)
        waiting, split = unmade(layer), split_of(layer)
        seen = shown_plane(self._viewer, layer)
        self.results = ResultLayers(self._viewer, layer, shown)
        lengths = (*(axis.length for axis in stack_axes(layer)), *planes.shape[-2:])
        self._part = (
            None if where is None else partial(self.results.part_there, lengths, shown or ())
        )
        there = self._there(planes.shape) if self._part is None else self._part_there()
        self.number += 1
        number = self.number

        def job(stop: threading.Event) -> Generator[object, None, None]:
            if stack.memory:
                axis = stack.channel_axis
                remember(stack.memory, NO_CHANNELS if axis is None else axis)
            used = planes
            if waiting is not None and split is not None:
                levels = waiting.compute(split, seen)
                used = replace(planes, data=levels[0])
                yield Answer(number, Projected(layer, levels))
            common = engine, values.model, used, settings, source
            if isinstance(there, There):
                yield from _run_all(number, run(*common, stop), there)
            else:
                assert where is not None
                known = there.known_diameter
                yield from _run_part(number, run_part(*common, where, stop, known), there)

        return job

    def _part_there(self) -> PartThere:
        """Find the results that a part is put into."""
        assert self._part is not None
        there = self._part()
        there.adopt()
        return there

    def _there(self, shape: tuple[int, ...]) -> There:
        """Find what a run is going to replace."""
        assert self.results is not None
        cells = self.results.target(shape)
        removed = self.results.removed(shape) if cells is None else None
        there = There(cells, removed, self.results.corrected_classes(shape))
        for layer in (there.cells, *there.classes):
            if layer is not None:
                adopt(layer)
        return there

    def receive(self, answer: object) -> None:
        """Take over what a run says."""
        assert isinstance(answer, Answer)
        event, results = answer.event, self.results
        if answer.run != self.number:
            return
        if self._large is not None:
            self._large.receive(event)
            return
        if results is None:
            return
        if isinstance(event, Projected):
            if event.layer in self._viewer.layers:
                show_projection(event.layer, event.levels)
        elif isinstance(event, Opened):
            self.warmed(event)
            self._view.say(ESTIMATING if self._estimates else READING)
        elif isinstance(event, Started):
            self._started = time.monotonic()
            self._view.say(describe_start(event.details.diameter))
            if self._part is None:  # of a part nothing is shown before its end
                results.begin(event)
            if not event.details.diameter_given:
                self._view.show_diameter(event.details.diameter)
        elif isinstance(event, Progress):
            # The bar first: it paints at once whatever waits in the window, and a canvas with
            # a new layer would make one long stop of two short ones.
            seconds = time.monotonic() - self._started
            text = describe_progress(event.done, event.total, seconds)
            self._view.show_progress(event.done / event.total, text)
            if self._part is None:
                results.refresh()
        elif isinstance(event, MemoryFull):
            self._remark = describe_memory(event)
            self._view.say(self._remark)
            self._view.show_device(event.network.device)
        elif isinstance(event, Separating):
            self._view.show_progress(1.0, "separating the cells")
        elif isinstance(event, Ended):
            self._finish(event, results)
        elif isinstance(event, PartEnded):
            self._finish_part(event, results)
        elif isinstance(event, Step):
            self._take_step(event, results)

    def _finish(self, ended: Ended, results: ResultLayers) -> None:
        """Put the end of a run into its layers; where somebody painted meanwhile, a bit later.

        Until then it is owed: whatever happens, a result that is complete is shown.
        """
        self._owed = ended.event
        outdated = results.outdated(ended.event, ended.change, ended.left)
        if outdated is None:
            self._put(ended, results)
        elif self._passes == MOST_PASSES:  # somebody goes on painting
            self._settle()
        else:
            self._passes += 1
            adopt(outdated)
            there = There(outdated, None, [outdated])
            self._runners.run.start(partial(_end_again, self.number, ended.event, there))

    def _finish_part(self, ended: PartEnded, results: ResultLayers) -> None:
        """Put the end of a run on a part into its layers, see `_finish`."""
        there = self._part_there()
        found = ended.found
        if not ended.fits(there.target(found)):
            if self._passes < MOST_PASSES:
                self._passes += 1
                self._runners.run.start(partial(_end_part_again, self.number, found, there))
                return
            ended = PartEnded.of(found, there)  # somebody goes on painting
        self._ended = ended
        if ended.change is None:
            results.begin_part(ended)
        else:
            results.put_part(ended, there)

    def _put(self, ended: Ended, results: ResultLayers, beside: bool = False) -> None:
        self._owed = None
        is_change = results.finish(ended.event, ended.change, ended.left, beside)
        self._ended = ended if is_change else replace(ended, change=None)

    def _settle(self, beside: bool = False) -> None:
        """Show the result that is owed now, in the window's own time.

        Parameters
        ----------
        beside : bool
            In a layer of its own, for which nothing is computed.
        """
        event, results = self._owed, self.results
        assert event is not None
        assert results is not None
        target = None if beside else results.outdated(event, None, None)
        ended = Ended(event, None)
        if target is not None:
            try:
                adopt(target)
                ended = _ended(event, There(target, None, [target]))
            except Exception:  # such as for lack of memory
                logging.getLogger(__name__).exception("the result comes in a layer of its own")
                beside = True
        self._put(ended, results, beside)

    def _take_step(self, step: Step, results: ResultLayers) -> None:
        if step is Step.TILES:
            results.refresh()
        elif self._ended is None:  # the end is made anew, and its steps come after it
            return
        elif step is Step.ADD:
            if isinstance(self._ended, PartEnded) and self._ended.change is None:
                results.add_part(self._ended)
        elif step is Step.SHOW:
            results.show_cells()
        else:
            results.select()
            self._say_result()

    def _say_result(self) -> None:
        ended, self._ended = self._ended, None
        assert ended is not None
        self._offered_of = None  # what is said now is said of these cells
        self.look()
        event, change = ended.event, ended.change
        if isinstance(ended, PartEnded) and change is not None:
            is_change = bool(change.before.differing(change.after))
            said = describe_part(ended.found, change.n_cells, is_change)
            self._view.say(f"{said}\n{self._remark}".strip())
            return
        assert event is not None
        result = event.result
        if change is not None and result.cells is not None:
            # what was corrected counts as it is
            result = replace(result, n_cells=change.n_cells)
        self._view.say(f"{describe_result(result)}\n{self._remark}".strip())

    # ------------------------------------------------------------------ how it ends

    def cancelled(self) -> None:
        """Say what is left of a run that was cancelled; one that has its result ends with it."""
        if self._large is not None:
            self._large.ended_early("Cancelled")
            return
        if self._owed is not None:
            self._settle()
        if self._show_result():
            return
        kept = self.results is not None and self.results.shown
        self._end_early("cancelled")
        if self._part is not None:
            self._view.say("Cancelled. Nothing was changed.")
            return
        self._view.say(
            "Cancelled. The classes of the finished tiles are kept."
            if kept
            else "Cancelled before the first tile was done."
        )

    def _show_result(self) -> bool:
        """Take the last steps of a run at once; whether it has its result."""
        if self._ended is None or self.results is None:
            return False
        for step in (Step.ADD, Step.SHOW, Step.SELECT):
            self._take_step(step, self.results)
        return True

    def finished(self) -> None:
        """Say what came of a run whose result went to the disk."""
        run = self._large
        if run is None:
            return
        run.finished()
        if self._engine.pid is None:  # it died in the look at what is in view
            self.choose_model(self._model)
        refused = run.refused if isinstance(run, LargeRun) else None
        if refused is not None:
            self._view.say(str(refused))
            folder = self._view.ask_folder(str(refused))
            if folder is not None:
                self._folders[refused.folder] = folder
                self._view.start_again()

    def failed(self) -> None:
        """Start a fresh child for the next press, where the last one died."""
        if self._large is not None:
            self._large.failed()
            if self._engine.pid is None:
                self.choose_model(self._model)
            return
        if self._owed is not None:  # it failed to put its result into labels that were painted on
            self._settle(beside=True)
        if not self._show_result():
            self._end_early("failed")
        if self._engine.pid is None:
            self.choose_model(self._model)

    def _end_early(self, word: str) -> None:
        if self.results is not None:
            self.results.end_early(word)
        drop_unmade(self._viewer)

    # ----------------------------------------------------------------- after the run

    @property
    def selected(self) -> Labels | None:
        """Cells that the controls act on: the active ones, else those of the active image."""
        layers = self._viewer.layers
        active = bare(layers.selection.active)
        if active is None:
            last = None if self.results is None else self.results.cells
            return last if last in layers else None
        made = active.metadata.get(OURS)
        if made is not None and made.get("role") == CELLS:
            return cast("Labels", active)
        return next(iter(layers_of(self._viewer, self._image_selected, CELLS)), None)

    @property
    def followed(self) -> Labels | None:
        """Result whose undo history is followed: active classes of their own, else `selected`."""
        active = bare(self._viewer.layers.selection.active)
        return self.selected if active is None or current(active) is None else active

    @property
    def _image_selected(self) -> str:
        """Image that is active, or that an active result is of; see `layers.metadata.image_id`."""
        active = bare(self._viewer.layers.selection.active)
        if active is None:
            return ""
        made = active.metadata.get(OURS)
        return image_id(active) if made is None else made.get("image", "")

    @property
    def adjust_problem(self) -> str | None:
        """Say why the selected cells cannot be adjusted; empty where they can, None without."""
        layer = self.selected
        if layer is None or self._runners.run.running:
            return None
        problem = review_problem(layer)
        if problem:
            return problem
        state = current(layer)
        if state is not None and state.origin.is_of_parts:
            return (
                "A part of these cells comes from a run of its own, so they cannot be adjusted "
                "together. To adjust them, segment the whole image (under Where)."
            )
        if state is None or not state.origin.fragments:
            return (
                "These cells were opened from a file; run Segment to adjust them."
                if state is None or state.origin.details is None
                else "What is needed to adjust these cells was given up for memory; run Segment."
            )
        return ""

    @property
    def adjustable(self) -> bool:
        """Whether the selected cells can be separated anew."""
        return self.adjust_problem == ""

    def look(self, event: object = None) -> None:
        """Follow the selected cells, and what undo and redo made of them."""
        followed = self.followed
        if followed is not None:
            own(followed)
            shown = shown_result(followed)
            if follow(followed):
                if self._part is not None:
                    self._view.say("")  # undo or redo: what was said of the part is not so
                if shown is not None:
                    self._keep_left(followed, shown)
        problem = self.adjust_problem
        layer = self.selected if problem == "" else None
        if layer is not None:
            state = current(layer)
            assert state is not None
            self._offer(layer, state.origin)
        self._view.show_adjustable(problem)
        self._show_results()

    def _keep_left(self, layer: Labels, result: EarlierResult) -> None:
        """Keep on the disk what undo or redo took away, where a person had made it."""
        review = fitting_review(layer)
        if review is None or not result.was_left or current_result(layer) is result:
            return
        description = described_as(layer, self._viewer, result)
        left = replace(result.left, approved=result.approved)
        keep_soon(result, left, description, session_of(review).exports)

    def _show_results(self) -> None:
        running = self._runners.run.running
        choice = Choice.of(self._viewer, None if running else self._results)
        if choice != self._choice:
            self._choice = choice
            self._view.show_results(choice)

    def _offer(self, layer: Labels, origin: Origin) -> None:
        if origin is self._offered or origin.options is None:
            return
        if layer is self._offered_of:
            self._view.say("")  # undo or redo: the cells that were counted are not these
        self._offered, self._offered_of = origin, layer
        zoom = origin.fragments.zoom
        self._view.offer_adjustment(origin.options, zoom, origin.median_area)

    def fragments_of(self, layer: Labels) -> KeptFragments:
        """Give the fragments of each plane of the run that made a layer, where they are kept."""
        state = current(layer) if layer in self._viewer.layers else None
        return KeptFragments() if state is None else state.origin.fragments

    def adjust(self, options: InstanceOptions) -> None:
        """Separate the selected cells anew, except what was corrected or approved."""
        layer = self.selected
        if layer is None or not self.adjustable:
            return
        follow(layer)
        state, review = current(layer), fitting_review(layer)
        assert state is not None
        if review is None:
            self._view.warn(
                f"The pixels of '{layer.name}' were replaced by others of another size. Run "
                "Segment to adjust the cells."
            )
            return
        approved = frozenset(review.approved)
        job = partial(_adjust, self.number, layer, state, approved, options)
        self._runners.adjusting.start(job)

    def adjusting_failed(self, problem: str) -> None:
        """Say why cells were not separated anew, or a result did not come back."""
        self._view.warn(problem)
        self._choice = None  # the list shows what was chosen
        self.look()

    def show_adjusted(self, answer: object) -> None:
        """Show cells that were separated anew, unless another run has begun since."""
        assert isinstance(answer, Answer)
        event = answer.event
        if isinstance(event, BroughtBack):
            self._show_brought_back(answer.run, event)
            return
        if isinstance(event, Unpacked):
            if event.results.removed is event.removed:
                layer = add_again(self._viewer, event.results, event.labels)
                self._view.layer_came_back()
                self._go_to(layer, event.result)
            return
        assert isinstance(event, Adjusted)
        layer, change = event.layer, event.change
        is_there = layer in self._viewer.layers and current(layer) is change.old
        if answer.run != self.number or not is_there:
            return
        if not is_for(change, layer):  # corrected or approved meanwhile
            if layer is self.selected:
                self.adjust(event.options)
            return
        # The sliders are where the user put them.
        self._offered, self._offered_of = change.new.origin, layer
        put(layer, change)
        self._view.say(describe_count(change.n_cells))

    # --------------------------------------------------------------- earlier results

    @property
    def _results(self) -> EarlierResults | None:
        """Results of the selected labels; where those were removed, of the selected image."""
        layer = self.followed
        if layer is not None:
            results = layer.metadata.get(RESULTS)
            is_its = isinstance(results, EarlierResults) and results.layer is layer
            return results if is_its else None
        return next(iter(removed_lists(self._viewer, self._image_selected)), None)

    def choose_result(self, number: int) -> None:
        """Bring an earlier result of the selected cells back.

        Parameters
        ----------
        number : int
            From the newest, which is 0.
        """
        results = self._results
        if results is None or self._runners.run.running or number >= len(results.items):
            return
        layer, result = results.layer, results.items[-1 - number]
        self._choice = None  # the list shows what was chosen, whether it comes or not
        if results.removed is not None:
            self._runners.adjusting.start(partial(_unpack, self.number, results, result))
            return
        if layer not in self._viewer.layers:
            self._viewer.add_layer(layer)  # it was removed, and not packed
        self._go_to(layer, result)

    def _go_to(self, layer: Labels, result: EarlierResult) -> None:
        self._viewer.layers.selection.active = layer
        layer.visible = True
        self._bring_back(layer, result)

    def _bring_back(self, layer: Labels, result: EarlierResult) -> None:
        shown, state, review = adopt(layer), current(layer), fitting_review(layer)
        if shown is None or shown is result or state is None or review is None:
            self.look()
            return
        description = describe(layer, self._viewer.layers)
        now = _Shown(shown, state, dict(review.approved), description, session_of(review))
        job = partial(_bring_back, self.number, layer, result, now)
        self._runners.adjusting.start(job)

    def _show_brought_back(self, run: int, event: BroughtBack) -> None:
        layer, change = event.layer, event.change
        is_there = layer in self._viewer.layers and current(layer) is change.old
        if run != self.number or not is_there:
            self.look()
            return
        if not is_for(change, layer):  # corrected or approved meanwhile
            self._bring_back(layer, event.result)
            return
        event.show()
        self.look()
        is_classes = change.new.origin.is_classes
        said = "Classes" if is_classes else describe_count(change.n_cells)
        self._view.say(f"{said}, as you left them. Ctrl+Z takes this back.")

    def layer_removed(self, layer: Layer) -> None:
        """Forget what was said of a result whose last layer is gone."""
        results = self.results
        if results is not None and not self._runners.run.running and results.ended_with(layer):
            self._view.say("")
        kept = bare(layer).metadata.get(RESULTS)
        if isinstance(kept, EarlierResults) and kept.layer is bare(layer):
            adopt(kept.layer)
            self.packing = threading.Thread(target=_pack, args=(kept, pack(kept.layer)))
            self.packing.start()
        if self._offered_of is bare(layer):
            self._offered_of = None
        if results is not None and results.cells is bare(layer):
            results.cells = None  # its pixels are not held


def _plane_of_channel(viewer: Viewer, values: SegmentValues) -> tuple[int, ...] | None:
    """Index of the plane to segment, without the axis of the channels; None for all planes."""
    shown = chosen_plane(viewer, values.image, values.stack.all_planes)
    axis = values.stack.channel_axis
    if shown is None or axis is None:
        # A single plane a channel is not a stack.
        return () if axis is not None and not values.stack.left else shown
    return shown[:axis] + shown[axis + 1 :]


def _ended(event: object, there: There) -> Ended:
    """Give the end of a run; where there are results already, with their replacement."""
    assert isinstance(event, Finished)
    target, removed = there.cells, there.removed
    if event.result.cells is None:
        same = (layer for layer in there.classes if same_classes(layer, event))
        target, removed = next(same, None), None
    state = None if target is None else current(target)
    review = None if target is None else fitting_review(target)
    if target is None or state is None or review is None:
        return Ended(event, None, None if removed is None else left_in(removed))
    approved = dict(review.approved)
    change = replaced(target, state, approved, event)
    return Ended(event, change, _left(change, approved))


def _ended_or_owed(event: object, there: There) -> Ended:
    """Give the end of a run; without what it changes where that cannot be computed."""
    try:
        return _ended(event, there)
    except Exception:  # minutes of work are not lost for it: it is tried once more
        logging.getLogger(__name__).exception("what a result changes was not computed")
        assert isinstance(event, Finished)
        return Ended(event, None)


def _run_all(number: int, events: Iterator[object], there: There) -> Generator[Answer, None, None]:
    is_first = True
    for event in events:
        ended = isinstance(event, Finished)
        yield Answer(number, _ended_or_owed(event, there) if ended else event)
        if isinstance(event, Progress) and is_first:
            is_first = False
            yield Answer(number, Step.TILES)
    yield from _last_steps(number)


def _run_part(
    number: int, events: Iterator[object], there: PartThere
) -> Generator[Answer, None, None]:
    for event in events:
        ended = PartEnded.of(event, there) if isinstance(event, FoundPart) else event
        yield Answer(number, ended)
    yield from _last_steps(number)


def _end_part_again(
    number: int, found: FoundPart, there: PartThere, stop: threading.Event
) -> Generator[object, None, None]:
    yield Answer(number, PartEnded.of(found, there))
    yield from _last_steps(number)


def _last_steps(number: int) -> Generator[Answer, None, None]:
    yield from (Answer(number, step) for step in (Step.ADD, Step.SHOW, Step.SELECT))


def _end_again(
    number: int, event: Finished, there: There, stop: threading.Event
) -> Generator[object, None, None]:
    yield Answer(number, _ended(event, there))
    yield from _last_steps(number)


def _left(change: Replacement, approved: Mapping[Place, str]) -> Left:
    """Give what a replacement leaves, its fragments compressed."""
    change.old.origin.fragments.pack()
    return Left.of(change.before, change.old, approved)


def _warm_up(engine: Engine, name: str, stop: threading.Event) -> Generator[object, None, None]:
    yield from open_model(engine, name, stop)
    preload()  # while the user looks at the image: the imports would hold up the child's start


def _adjust(
    number: int,
    layer: Labels,
    state: ResultState,
    approved: frozenset[Place],
    options: InstanceOptions,
    stop: threading.Event,
) -> Generator[object, None, None]:
    yield Answer(number, Adjusted(layer, options, adjust(layer.data, state, approved, options)))


def _pack(results: EarlierResults, removed: RemovedLayer) -> None:
    """Pack what is in a layer that was removed, and let go of the layer; this is a thread."""
    layer = results.layer
    left = left_in(layer)
    if left is None or results.layer is not layer:
        return
    removed.result.leave(left)
    results.removed, results.layer = removed, None


@dataclass(frozen=True, eq=False)
class Unpacked:
    """Labels of a layer that was removed, and the result that is wanted in it."""

    results: EarlierResults
    removed: RemovedLayer
    labels: NDArray[Any]
    result: EarlierResult


def _unpack(
    number: int, results: EarlierResults, result: EarlierResult, stop: threading.Event
) -> Generator[object, None, None]:
    removed = results.removed
    if removed is not None:
        labels = removed.result.left.labels.unpacked()
        yield Answer(number, Unpacked(results, removed, labels, result))


def _bring_back(
    number: int,
    layer: Labels,
    result: EarlierResult,
    shown: _Shown,
    stop: threading.Event,
) -> Generator[object, None, None]:
    change = brought_back(layer.data, shown.state, shown.approved, result.left)
    left = _left(change, shown.approved)
    keep(shown.result, left, shown.description, shown.session.exports)
    yield Answer(number, BroughtBack(layer, result, change, left))


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a layer shows when an earlier result comes back into it."""

    result: EarlierResult
    state: ResultState
    approved: Mapping[Place, str]
    description: Mapping[str, Any]
    session: Session
