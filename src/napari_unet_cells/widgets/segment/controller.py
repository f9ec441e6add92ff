"""Coordinate the Segment section: which run is going, and what follows the selected cells.

No Qt here. The section owns the window and the threads; it hands over what the user chose and what
the threads answer, and shows what it is told through `View`::

    SegmentSection --values--> SegmentController --job--> Runs (a thread)
          ^                      |    |     ^               |
          |                      |    |     +--- Answer ----+
          +------- View ---------+    +--> a run: WholeRun, PartRun, LargeRun, ViewRun
                                      +--> Adjusting, GoingBack: after the run
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.part_run import Where
from napari_unet_cells.segmentation.segment import Opened
from napari_unet_cells.widgets.runner import Job
from napari_unet_cells.widgets.segment.adjusting import Adjusted, Adjusting
from napari_unet_cells.widgets.segment.chosen_image import choose_image
from napari_unet_cells.widgets.segment.going_back import GoingBack
from napari_unet_cells.widgets.segment.image_run import READING, PartRun, WholeRun
from napari_unet_cells.widgets.segment.jobs import Task, warm_up
from napari_unet_cells.widgets.segment.large_image import is_large
from napari_unet_cells.widgets.segment.large_run import READING as LARGE_READING
from napari_unet_cells.widgets.segment.large_run import LargeRun
from napari_unet_cells.widgets.segment.large_start import LargeStart
from napari_unet_cells.widgets.segment.live import bare, current, follow, own, shown_result
from napari_unet_cells.widgets.segment.results import ResultLayers
from napari_unet_cells.widgets.segment.runs import Answer, Runs
from napari_unet_cells.widgets.segment.selected import Selected
from napari_unet_cells.widgets.segment.values import SegmentValues
from napari_unet_cells.widgets.segment.view import Runners, View
from napari_unet_cells.widgets.segment.view_run import ViewRun
from napari_unet_cells.widgets.segment.where import part_of_image

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.viewer import Viewer


#: What a run says first where the network is not ready, which may take a minute.
WARMING = "The network is warming up; the run starts by itself."


class SegmentController:
    """Starts runs, hands their events on, and keeps what is shown in step with the selection.

    It owns the run that is going or was the last, and whether the network is warm.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    engine : Engine
    view : View
    runners : Runners
        Their answers come to `receive`, `warmed`, `show_adjusted`.
    """

    def __init__(self, viewer: Viewer, engine: Engine, view: View, runners: Runners) -> None:
        self._viewer, self._engine, self._view = viewer, engine, view
        self._warming = runners.warming
        self._runs = Runs(runners.run)
        self._selected = Selected(viewer, self._last_cells)
        after = viewer, view, self._selected, self._runs, runners.adjusting
        self._adjusting = Adjusting(*after)
        self._going_back = GoingBack(*after, self.look)
        self._large = LargeStart(viewer, view)
        self._model = ""
        self._warm = False
        self._run: WholeRun | PartRun | LargeRun | ViewRun | None = None
        #: The last run whose result is held in memory.
        self._image_run: WholeRun | PartRun | None = None

    # ------------------------------------------------------------------- the network

    def choose_model(self, name: str) -> None:
        """Warm the network up while the user looks at the image."""
        self._model, self._warm = name, False
        if name:
            self._view.show_device("warming up...")
            self._warming.start(partial(warm_up, self._engine, name))

    def warmed(self, event: object) -> None:
        """Show what the network computes on."""
        assert isinstance(event, Opened)
        self._warm = True
        self._view.show_device(event.device)

    def warming_failed(self, problem: str) -> None:
        """Say why the network cannot be used."""
        self._view.show_device("not ready")
        self._view.warn(problem)

    def _replace_dead_child(self) -> None:
        """Start a fresh child for the next press, where the last one died."""
        if self._engine.pid is None:
            self.choose_model(self._model)

    # ----------------------------------------------------------------------- the run

    @property
    def number(self) -> int:
        """Number of the last run; answers of earlier ones are dropped."""
        return self._runs.number

    @property
    def results(self) -> ResultLayers | None:
        """Layers of the last run whose result is held in memory."""
        return None if self._image_run is None else self._image_run.results

    def start(self, values: SegmentValues) -> bool:
        """Segment; what prevents it is said in a sentence.

        Returns
        -------
        bool
            Whether it was started.
        """
        if self._runs.running:
            return False
        problem = values.problem()
        if problem is not None:
            self._view.warn(problem)
            return False
        assert values.image is not None
        try:
            # Before a channel is split off: that changes the axes of the viewer.
            where = part_of_image(self._viewer, values.image, values.where)
            large = self._large.run(values, where) if is_large(values.image) else None
        except UserError as error:
            self._view.warn(str(error))
            return False
        if large is None:
            self._start_in_memory(values, where)
        else:
            self._start_large(large)
        return True

    def _start_in_memory(self, values: SegmentValues, where: Where | None) -> None:
        chosen = choose_image(self._viewer, values, self._view)
        task = Task.of(self._engine, self._viewer, values, chosen)
        common = self._runs.go_on, self._say_of_new_cells
        run: WholeRun | PartRun
        if where is None:
            run = WholeRun(self._viewer, self._view, task, *common)
        else:
            run = PartRun(self._viewer, self._view, task, where, *common)
        self._run = self._image_run = run
        self._begin(run.job(task), READING if self._warm else WARMING)

    def _start_large(self, run: LargeRun | ViewRun) -> None:
        self._run = run
        reading = READING if self._warm else WARMING
        is_whole = isinstance(run, LargeRun)
        self._begin(partial(run.events, self._engine), LARGE_READING if is_whole else reading)

    def _begin(self, job: Job, sentence: str) -> None:
        self._view.show_progress(0.0, "")
        self._view.say(sentence)
        self._runs.begin(job)

    def receive(self, answer: object) -> None:
        """Take over what a run says."""
        assert isinstance(answer, Answer)
        if self._runs.is_late(answer) or self._run is None:
            return
        if isinstance(answer.event, Opened):
            self._warm = True
        self._run.receive(answer.event)

    def _say_of_new_cells(self) -> None:
        """Show what can be done with the cells of a run, of which will be said what they are."""
        self._adjusting.forget_layer()
        self.look()

    # ------------------------------------------------------------------ how it ends

    def finished(self) -> None:
        """Say what came of a run whose result went to the disk, or was only looked at."""
        run = self._run
        if isinstance(run, (LargeRun, ViewRun)):  # others said it with their last step
            run.finished()
            self._replace_dead_child()  # where it died in the look at what is in view
            self._large.ask_where_refused(run)

    def cancelled(self) -> None:
        """Say what is left of a run that was cancelled; one that has its result ends with it."""
        if self._run is not None:
            self._run.ended_early("Cancelled")

    def failed(self) -> None:
        """Mark what is left of a run, and make ready for the next press."""
        if self._run is not None:
            self._run.failed()
        self._replace_dead_child()

    # ----------------------------------------------------------------- after the run

    @property
    def selected(self) -> Labels | None:
        """Cells that the controls act on; see `Selected.cells`."""
        return self._selected.cells

    @property
    def followed(self) -> Labels | None:
        """Result whose undo history is followed; see `Selected.followed`."""
        return self._selected.followed

    def _last_cells(self) -> Labels | None:
        return None if self.results is None else self.results.cells

    def look(self, event: object = None) -> None:
        """Follow the selected cells, and what undo and redo made of them."""
        followed = self._selected.followed
        if followed is not None:
            own(followed)
            shown = shown_result(followed)
            if follow(followed):
                if isinstance(self._image_run, PartRun):
                    self._view.say("")  # undo or redo: what was said of the part is not so
                if shown is not None:
                    self._going_back.keep_undone(followed, shown)
        self._adjusting.offer()
        self._going_back.show_list()

    def fragments_of(self, layer: Labels) -> KeptFragments:
        """Give the fragments of each plane of the run that made a layer, where they are kept."""
        state = current(layer) if layer in self._viewer.layers else None
        return KeptFragments() if state is None else state.origin.fragments

    @property
    def adjust_problem(self) -> str | None:
        """Say why the selected cells cannot be adjusted; empty where they can, None without."""
        return self._adjusting.problem

    @property
    def adjustable(self) -> bool:
        """Whether the selected cells can be separated anew."""
        return self.adjust_problem == ""

    def adjust(self, options: InstanceOptions) -> None:
        """Separate the selected cells anew, except what was corrected or approved."""
        self._adjusting.adjust(options)

    def choose_result(self, number: int) -> None:
        """Bring an earlier result of the selected cells back; see `GoingBack.choose`."""
        self._going_back.choose(number)

    def show_adjusted(self, answer: object) -> None:
        """Show cells that were separated anew, or a result that comes back."""
        assert isinstance(answer, Answer)
        after = self._adjusting if isinstance(answer.event, Adjusted) else self._going_back
        after.show(answer)

    def adjusting_failed(self, problem: str) -> None:
        """Say why cells were not separated anew, or a result did not come back."""
        self._view.warn(problem)
        self._going_back.forget_list()  # it shows what was chosen
        self.look()

    @property
    def packing(self) -> threading.Thread | None:
        """The thread that packs the layer that was removed last."""
        return self._going_back.packing

    def layer_removed(self, layer: Layer) -> None:
        """Pack a layer that can come back; of a result without layers nothing is said."""
        results = self.results
        if results is not None and not self._runs.running and results.ended_with(layer):
            self._view.say("")
        self._going_back.pack_removed(layer)
        self._adjusting.forget_layer(layer)
        if results is not None and results.cells is bare(layer):
            results.cells = None  # its pixels are not held
