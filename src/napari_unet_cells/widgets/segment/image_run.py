"""One run whose result is held in memory: what it says, shows, and ends with. No Qt here.

`WholeRun` shows its tiles and replaces all of a result, `PartRun` shows nothing before its end and
replaces a part of one::

    thread    Opened  Started  Progress ...  Ended        Step.ADD  Step.SHOW  Step.SELECT
    window    device  begin    tiles         put to its layers      shown      active, and said
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.segmentation.messages import (
    describe_memory,
    describe_part,
    describe_progress,
    describe_result,
    describe_start,
)
from napari_unet_cells.segmentation.part_run import Where
from napari_unet_cells.segmentation.pipeline import Progress, Separating, Started
from napari_unet_cells.segmentation.run import Finished
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.widgets.runner import Job
from napari_unet_cells.widgets.segment.channels import drop_unmade, show_projection
from napari_unet_cells.widgets.segment.jobs import (
    LAST_STEPS,
    Ended,
    Projected,
    Step,
    Task,
    There,
    end_again,
    end_of,
    end_part_again,
    run_on_part,
    run_whole,
)
from napari_unet_cells.widgets.segment.live import adopt
from napari_unet_cells.widgets.segment.part_ending import PartEnded, PartThere
from napari_unet_cells.widgets.segment.results import ResultLayers
from napari_unet_cells.widgets.segment.view import View

if TYPE_CHECKING:
    from napari.viewer import Viewer


#: What a run says before its first tile, which may take a minute.
READING = "Reading the image."
ESTIMATING = "Estimating the cell size."

#: How often the end of a run is computed again in a thread while somebody goes on painting.
MOST_PASSES = 2

EndedT = TypeVar("EndedT", Ended, PartEnded)


class ImageRun(ABC, Generic[EndedT]):
    """A run from the press of the button to its result.

    It owns the layers of the result, and an end that is not all shown yet.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    view : View
    task : Task
        It is not held, nor are the pixels in it: its thread does it, see `job`.
    go_on : callable
        Starts one more job of this run, such as `Runs.go_on`.
    on_shown : callable
        Is called when the result is shown, just before it is said.

    Attributes
    ----------
    results : ResultLayers
    """

    def __init__(
        self,
        viewer: Viewer,
        view: View,
        task: Task,
        go_on: Callable[[Job], None],
        on_shown: Callable[[], None],
    ) -> None:
        self._viewer, self._view = viewer, view
        self._go_on, self._on_shown = go_on, on_shown
        self.results = ResultLayers(viewer, task.chosen.layer, task.chosen.shown)
        self._estimates = not task.values.diameter
        self._ended: EndedT | None = None
        self._passes = 0
        self._started = 0.0
        self._remark = ""

    @abstractmethod
    def job(self, task: Task) -> Job:
        """Give what its thread does, for the results that are there now."""

    def receive(self, event: object) -> None:
        """Take over what happened."""
        if isinstance(event, Projected):
            if event.layer in self._viewer.layers:
                show_projection(event.layer, event.levels)
        elif isinstance(event, Opened):
            self._view.show_device(event.device)
            self._view.say(ESTIMATING if self._estimates else READING)
        elif isinstance(event, Started):
            self._started = time.monotonic()
            self._view.say(describe_start(event.details.diameter))
            if not event.details.diameter_given:
                self._view.show_diameter(event.details.diameter)
        elif isinstance(event, Progress):
            # The bar first: it paints at once whatever waits in the window, and a canvas with
            # a new layer would make one long stop of two short ones.
            seconds = time.monotonic() - self._started
            text = describe_progress(event.done, event.total, seconds)
            self._view.show_progress(event.done / event.total, text)
        elif isinstance(event, MemoryFull):
            self._remark = describe_memory(event)
            self._view.say(self._remark)
            self._view.show_device(event.network.device)
        elif isinstance(event, Separating):
            self._view.show_progress(1.0, "separating the cells")
        elif isinstance(event, Step):
            self._take_step(event)

    def _take_step(self, step: Step) -> None:
        if self._ended is None:  # the end is made anew, and its steps come after it
            return
        if step is Step.SHOW:
            self.results.show_cells()
        elif step is Step.SELECT:
            self.results.select()
            ended, self._ended = self._ended, None
            self._on_shown()
            self._view.say(f"{self._describe(ended)}\n{self._remark}".strip())
            self._offer_size(ended)

    @abstractmethod
    def _describe(self, ended: EndedT) -> str:
        """Say what was found."""

    def _offer_size(self, ended: EndedT) -> None:
        """Offer another cell size, where what was said names one."""

    def ended_early(self, word: str) -> None:
        """Say what is left of it, where it was cancelled; one that has its result ends with it."""
        if not self._show_result():
            self._end_early(word.lower())
            self._view.say(self._describe_rest(word))

    @abstractmethod
    def _describe_rest(self, word: str) -> str:
        """Say what is left without a result."""

    def failed(self) -> None:
        """Show its result, where it has one, else mark what is left; why it failed is said."""
        if not self._show_result():
            self._end_early("failed")

    def _show_result(self) -> bool:
        """Take the last steps at once; whether it has its result."""
        if self._ended is None:
            return False
        for step in LAST_STEPS:
            self._take_step(step)
        return True

    def _end_early(self, word: str) -> None:
        self.results.end_early(word)
        drop_unmade(self._viewer)


class WholeRun(ImageRun[Ended]):
    """A run on all of the planes that were chosen; it shows each tile.

    It also owns an end that is complete and in no layer yet: whatever happens, it will be shown.
    See `ImageRun` for the parameters.
    """

    _owed: Finished | None = None

    def job(self, task: Task) -> Job:
        """Give what its thread does, for the results that are there now."""
        return partial(run_whole, task, self._there(task.planes.shape))

    def _there(self, shape: tuple[int, ...]) -> There:
        """Find what it is going to replace."""
        cells = self.results.target(shape)
        removed = self.results.removed(shape) if cells is None else None
        there = There(cells, removed, self.results.corrected_classes(shape))
        for layer in (there.cells, *there.classes):
            if layer is not None:
                adopt(layer)
        return there

    def receive(self, event: object) -> None:
        """Take over what happened."""
        super().receive(event)
        if isinstance(event, Started):
            self.results.begin(event)
        elif isinstance(event, Progress) or event is Step.TILES:
            self.results.refresh()
        elif isinstance(event, Ended):
            self._finish(event)

    def _finish(self, ended: Ended) -> None:
        """Put the end into its layers; where somebody painted meanwhile, a bit later."""
        self._owed = ended.event
        outdated = self.results.outdated(ended.event, ended.change, ended.left)
        if outdated is None:
            self._put(ended)
        elif self._passes == MOST_PASSES:  # somebody goes on painting
            self._settle()
        else:
            self._passes += 1
            adopt(outdated)
            there = There(outdated, None, [outdated])
            self._go_on(partial(end_again, ended.event, there))

    def _put(self, ended: Ended, beside: bool = False) -> None:
        self._owed = None
        is_change = self.results.finish(ended.event, ended.change, ended.left, beside)
        self._ended = ended if is_change else replace(ended, change=None)

    def _settle(self, beside: bool = False) -> None:
        """Show the result that is owed now, in the window's own time.

        Parameters
        ----------
        beside : bool
            In a layer of its own, for which nothing is computed.
        """
        event = self._owed
        assert event is not None
        target = None if beside else self.results.outdated(event, None, None)
        ended = Ended(event, None)
        if target is not None:
            try:
                adopt(target)
                ended = end_of(event, There(target, None, [target]))
            except Exception:  # such as for lack of memory
                logging.getLogger(__name__).exception("the result comes in a layer of its own")
                beside = True
        self._put(ended, beside)

    def _describe(self, ended: Ended) -> str:
        result, change = ended.event.result, ended.change
        if change is not None and result.cells is not None:
            # what was corrected counts as it is
            result = replace(result, n_cells=change.n_cells)
        return describe_result(result)

    def _offer_size(self, ended: Ended) -> None:
        details = ended.event.result.details
        if details.diameter_unsure and details.other_diameter:
            self._view.offer_size(details.other_diameter)

    def ended_early(self, word: str) -> None:
        """Say what is left of it, where it was cancelled; one that has its result ends with it."""
        if self._owed is not None:
            self._settle()
        super().ended_early(word)

    def _describe_rest(self, word: str) -> str:
        if self.results.shown:
            return f"{word}. The classes of the finished tiles are kept."
        return f"{word} before the first tile was done."

    def failed(self) -> None:
        """Show its result, where it has one, else mark what is left; why it failed is said."""
        if self._owed is not None:  # it failed to put its result into labels that were painted on
            self._settle(beside=True)
        super().failed()


class PartRun(ImageRun[PartEnded]):
    """A run on a part of a plane, which is put into the results that are there.

    See `ImageRun` for the other parameters.

    Parameters
    ----------
    where : Where
    """

    def __init__(
        self,
        viewer: Viewer,
        view: View,
        task: Task,
        where: Where,
        go_on: Callable[[Job], None],
        on_shown: Callable[[], None],
    ) -> None:
        super().__init__(viewer, view, task, go_on, on_shown)
        self._where = where
        self._shown = task.chosen.shown or ()
        axes = stack_axes(task.chosen.layer)
        self._lengths = (*(axis.length for axis in axes), *task.planes.shape[-2:])

    def job(self, task: Task) -> Job:
        """Give what its thread does, for the results that are there now."""
        return partial(run_on_part, task, self._where, self._there())

    def _there(self) -> PartThere:
        """Find the results that it is put into."""
        there = self.results.part_there(self._lengths, self._shown)
        there.adopt()
        return there

    def receive(self, event: object) -> None:
        """Take over what happened."""
        super().receive(event)
        if isinstance(event, PartEnded):
            self._finish(event)

    def _finish(self, ended: PartEnded) -> None:
        """Put the end into its layers; where somebody painted meanwhile, a bit later."""
        there, found = self._there(), ended.found
        if not ended.fits(there.target(found)):
            if self._passes < MOST_PASSES:
                self._passes += 1
                self._go_on(partial(end_part_again, found, there))
                return
            ended = PartEnded.of(found, there)  # somebody goes on painting
        self._ended = ended
        if ended.change is None:
            self.results.begin_part(ended)
        else:
            self.results.put_part(ended, there)

    def _take_step(self, step: Step) -> None:
        ended = self._ended
        if step is Step.ADD and ended is not None and ended.change is None:
            self.results.add_part(ended)
        super()._take_step(step)

    def _describe(self, ended: PartEnded) -> str:
        change = ended.change
        if change is None:
            assert ended.event is not None
            return describe_result(ended.event.result)
        is_change = bool(change.before.differing(change.after))
        return describe_part(ended.found, change.n_cells, is_change)

    def _describe_rest(self, word: str) -> str:
        return f"{word}. Nothing was changed."
