"""Background learning from approved regions, after which labels nobody touched are made anew.

No Qt here. Files, the child that trains and the pixels are left to threads::

    approved --> queued, one at a time --> `teaching.teach` in a thread --> Learned, Redone
                                                                                      |
    one undo step <-- `teaching.replacement` in a thread <-- the region in view is not being
                                                             corrected

A region that is approved while it learns waits; of several only the last one matters, since all
that is approved is learned from at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari_unet_cells.corrections.approved_regions import Approved, approved_of
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.layers.metadata import OURS, fitting_review
from napari_unet_cells.layers.selection import labels_layers, source_image
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import lend
from napari_unet_cells.segmentation.replacing import ResultState
from napari_unet_cells.settings import recall, remember
from napari_unet_cells.widgets.correct.teaching import (
    Kept,
    Learned,
    Placed,
    Redone,
    School,
    Target,
    Wanted,
    copy_of,
    replacement,
    teach,
    warm_up,
)
from napari_unet_cells.widgets.runner import CancellableRunner, Runner
from napari_unet_cells.widgets.segment.live import (
    adopt,
    bare,
    current,
    follow,
    is_for,
    put,
    steps_back,
)
from napari_unet_cells.widgets.timers import MakesTimers
from napari_unet_cells.widgets.wiring import PIXEL_EVENTS, Wiring, emitters

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


#: Key of `settings.recall`: whether it learns.
LAST_LEARNING = "learn_while_correcting"

#: Milliseconds between two looks whether the region in view is being corrected.
LOOK = 300

#: Pixels, of all planes, up to which a result is done anew after each update.
LARGEST = 32_000_000

#: What is said while the graphs are made, once for each base.
WARMING = "The network is made ready to learn; what you approve meanwhile counts."

#: What is said then, and when an update begins, for the first time and later.
READY = "Ready: approve a region, and the network learns from it."
BEGINNING = "Learning from what you approved..."
FIRST = "Learning from what you approved; making the network ready for it takes longest..."

#: What is said while the new labels wait.
CORRECTING = "The cells change as soon as you leave the region that you correct."
UNDONE = (
    "You took steps back. The cells change after your next correction or approval; until then you "
    "can still redo."
)


@dataclass(frozen=True)
class LearningState:
    """State of the learning as the form shows it.

    Attributes
    ----------
    on : bool
    sentence : str
        Empty where there is nothing to say.
    model : str
        Name of the model of the session; empty where there is none.
    """

    on: bool = False
    sentence: str = ""
    model: str = ""


class LearningView(MakesTimers, Protocol):
    """Form that shows how the learning goes."""

    def show_learning(self, state: LearningState) -> None:
        """Bring box, sentence and buttons in line with a state."""

    def tell_models(self) -> None:
        """Tell others that the list of models changed."""


@dataclass(frozen=True)
class LearningRunners:
    """The threads: one that learns, one that puts the result in its place, one that copies."""

    teaching: CancellableRunner
    placing: CancellableRunner
    keeping: Runner


class Learning:
    """Learns after each approved region, where the user wants it to.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    engine : Engine
        Whose child trains.
    view : LearningView
    runners : LearningRunners
        Their events come to `receive`, `placed` and `kept`.
    at_hand : callable () -> labels layer or None
        Labels that are reviewed.
    at_work : callable (layer) -> bool
        Whether the region in view was changed and is not approved.
    chosen : callable () -> str
        Name of the model that is chosen for the next run.

    Attributes
    ----------
    school : School
        Models and datasets of the session.
    wiring : Wiring
        To the labels that were done anew last; to be released at the end.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        engine: Engine,
        view: LearningView,
        runners: LearningRunners,
        at_hand: Callable[[], Labels | None],
        at_work: Callable[[Labels], bool],
        chosen: Callable[[], str],
    ) -> None:
        self._viewer, self._engine, self._view, self._runners = viewer, engine, view, runners
        self._at_hand, self._at_work, self._chosen = at_hand, at_work, chosen
        self.school, self.wiring = School(), Wiring()
        self._on = bool(recall(LAST_LEARNING))
        self._paused = self._warming = self._is_ready = False
        self._queued: Labels | None = None
        self._now: Labels | None = None
        self._redone: Redone | None = None
        self._model: ModelCard | None = None
        self._sentence = ""
        self._told_of: tuple[Labels, ResultState, str] | None = None
        self._look = view.timer(LOOK, self._place, repeats=True)
        self._show()

    # ---------------------------------------------------------------------- what is shown

    def _show(self, sentence: str | None = None) -> None:
        if sentence is not None:
            self._sentence = sentence
        model = "" if self._model is None else self._model.name
        self._view.show_learning(LearningState(self._on, self._sentence, model))

    @property
    def busy(self) -> bool:
        """Whether it learns, or is about to put what it found in its place."""
        runners = self._runners
        return runners.teaching.running or runners.placing.running or self._redone is not None

    # ---------------------------------------------------------------- what the user does

    def switch(self, on: bool) -> None:
        """Learn from now on, also in the next session, or no more; what was learned stays."""
        self._on = on
        remember(LAST_LEARNING, on)
        if not on:
            self._end()
            self._show("")
            return
        self._show("")
        layer = self._at_hand()
        review = None if layer is None else fitting_review(layer)
        if layer is not None and review is not None and review.approved:
            self.approved(layer)
        else:
            self._warm_up(layer)

    def make_ready(self) -> None:
        """Warm up where it learns anyway and there is something to correct, before an approval."""
        layer = self._at_hand()
        if self._on and not self._is_ready and layer is not None:
            self._warm_up(layer)

    def _warm_up(self, layer: Labels | None) -> None:
        if self._paused or self._runners.teaching.running:
            return
        name, chosen = self._name_of(layer), self._chosen()
        self._warming = True
        self._show(WARMING)
        self._runners.teaching.start(partial(warm_up, self._engine, self.school, name, chosen))

    def approved(self, layer: Any) -> None:
        """Learn from the approved regions of a labels layer, and of others of the same model."""
        if self._on:
            self._queued = bare(layer)
            self._go_on()

    def pause(self, paused: bool) -> None:
        """Stand back for a training that the user started, and go on after it."""
        self._paused = paused
        # The graphs that are made to warm up serve the retraining as well.
        if paused and self._runners.teaching.running and not self._warming:
            self._queued = self._queued or self._now
            self._runners.teaching.cancel()
            self._show("Learning from your corrections goes on after the retraining.")
        elif not paused:
            self._go_on()

    def keep(self) -> None:
        """Copy the model of the session to the models of the user."""
        if self._model is not None and not self._runners.keeping.running:
            self._runners.keeping.start(partial(copy_of, self._model))

    def drop(self) -> None:
        """Forget what was learned; the labels that it made stay."""
        if self._model is None:
            return
        name = self._model.name
        self._end()
        self.school.forget(self._model)
        self._model = None
        self._view.tell_models()
        self._show(f"{name} is gone. The labels stay as they are; Ctrl+Z takes them back.")

    def _end(self) -> None:
        self._queued = self._now = self._redone = None
        self._look.stop()
        self._runners.teaching.cancel()
        self._runners.placing.cancel()

    # ------------------------------------------------------------------------- learning

    def _go_on(self) -> None:
        """Begin with what is queued, unless something else is trained."""
        layer = self._queued
        if layer is None or self._paused or self._runners.teaching.running:
            return
        self._queued = None
        if layer not in self._viewer.layers:
            return
        try:
            wanted = self._wanted(layer)
        except UserError as error:
            self._show(f"Nothing was learned. {error}")
            return
        self._now, self._warming = layer, False
        self._show(BEGINNING if self._is_ready else FIRST)
        self._runners.teaching.start(partial(teach, self._engine, self.school, wanted))

    def _name_of(self, layer: Any) -> str:
        """Name of the model that made labels; of others that of the model that is chosen."""
        made = {} if layer is None else layer.metadata.get(OURS, {}).get("provenance", {})
        return str(made.get("model", {}).get("name", "")) or self._chosen()

    def _wanted(self, layer: Labels) -> Wanted:
        name = self._name_of(layer)
        known = self.school.names(name)
        approved, without = [], []
        for other in labels_layers(self._viewer.layers):
            review = fitting_review(other)
            if review is None or (other != layer and self._name_of(other) not in known):
                continue
            if review.approved:
                approved += self._taken(other, must=other == layer)
            else:
                without.append(review)
        mine = next((one for one in approved if one.review is fitting_review(layer)), None)
        target = None if mine is None else self._target(layer, mine)
        return Wanted(name, self._chosen(), tuple(approved), tuple(without), target)

    def _taken(self, layer: Any, must: bool) -> list[Approved]:
        """Take the approved regions of a layer; of another one than that at hand if they can be."""
        try:
            return [approved_of(layer, self._viewer.layers)]
        except UserError:
            if must:
                raise
            return []

    def _target(self, layer: Labels, approved: Approved) -> Target | None:
        """Say how the result is done anew; None where it cannot be, or would take too long."""
        adopt(layer)
        state, image = current(layer), source_image(layer, self._viewer.layers)
        if state is None or image is None:
            return None
        provenance = state.origin.provenance
        shown = provenance.get("source", {}).get("plane")
        planes, source = planes_for(image, shown), describe_source(image, shown)
        left = "The image is large" if layer.data.size > LARGEST else ""
        if state.origin.is_of_parts:  # the rest was not asked for, or is of another model
            left = "Only a part of the image was segmented"
            if state.origin.began_whole:
                left = "A part of these cells comes from a run of its own"
        return Target(
            layer,
            planes,
            source,
            provenance,
            state.origin.fragments,
            left,
            len(approved.dates) == len(approved.review),
            approved,
            steps_back(layer),
        )

    def receive(self, event: object) -> None:
        """Take over what the thread that learns says."""
        if isinstance(event, str):
            self._show(event)
        elif isinstance(event, Learned):
            self._is_ready = True
            lend(event.card)
            is_new = self._model is None or self._model.name != event.card.name
            self._model = event.card
            if is_new:
                self._view.tell_models()
            self._show(event.sentence)
        elif isinstance(event, Redone):
            self._redone = event
            self._show(CORRECTING)

    def ended(self) -> None:
        """Put what was found in its place, and go on with what was approved meanwhile."""
        self._now = None
        if self._warming:
            self._warming, self._is_ready = False, True
            self._show(READY)
        if self._redone is not None:
            self._look.start()
            self._place()
        self._go_on()

    def failed(self, problem: str) -> None:
        """Say why nothing was learned; the next region that is approved begins anew."""
        self._now, self._warming = None, False
        self._show(problem)
        self._go_on()

    # ------------------------------------------------------------ the result in its place

    def _place(self) -> None:
        """Have the labels replaced that nobody touched, unless the region in view is at work."""
        redone = self._redone
        if redone is None or self._runners.placing.running:
            return
        layer = redone.target.layer
        if layer not in self._viewer.layers:
            self._drop_redone("")
            return
        if self._waits(redone.target):
            return
        follow(layer)
        state, review = current(layer), fitting_review(layer)
        if state is None or review is None or not self.school.made_it(redone, state):
            # A run of the user's own, or an earlier result that came back: it stays.
            self._drop_redone("")
            return
        approved = frozenset(review.approved)
        self._runners.placing.start(partial(replacement, redone, state, approved))

    def _waits(self, target: Target) -> bool:
        """Whether the user is at work in labels: corrects, or goes back and forth in the history.

        New labels are a step of the history, after which what was taken back cannot be redone.
        """
        layer = target.layer
        undone = steps_back(layer) not in (0, target.undone)
        waits = undone or self._at_work(layer)
        sentence = UNDONE if undone else CORRECTING
        if waits and sentence != self._sentence and not self._runners.teaching.running:
            self._show(sentence)
        return waits

    def _drop_redone(self, sentence: str) -> None:
        self._redone = None
        self._look.stop()
        self._show(sentence)

    def placed(self, event: object) -> None:
        """Put new labels into their layer, if they are those that it was made for."""
        assert isinstance(event, Placed)
        redone, layer = event.redone, event.redone.target.layer
        if redone is not self._redone or layer not in self._viewer.layers:
            return
        fits = current(layer) is event.change.old and is_for(event.change, layer)
        if not fits or self._waits(redone.target):
            return  # corrected or approved meanwhile: the timer tries again
        put(layer, event.change)
        self.school.note_placed(event.change.new)
        self._drop_redone(redone.sentence)
        self._told_of = layer, event.change.new, redone.sentence
        self.wiring.release()
        self.wiring.connect(self._stepped, *emitters(layer, PIXEL_EVENTS))

    def _stepped(self, event: object = None) -> None:
        """Say no more that Ctrl+Z takes labels back which an undo took back already."""
        if self._told_of is None:
            return
        layer, state, sentence = self._told_of
        if current(layer) is not state:
            self._told_of = None
            self.wiring.release()
            if self._sentence == sentence:
                self._show("")

    def placing_failed(self, problem: str) -> None:
        """Say why the labels were not replaced; they stay as they were."""
        self._drop_redone(problem)

    def kept(self, event: object) -> None:
        """Say under which name the model of the session was kept."""
        assert isinstance(event, Kept)
        self._view.tell_models()
        self._show(f"Kept as {event.card.name}; it stands in the list of models.")

    def keeping_failed(self, problem: str) -> None:
        """Say why the model was not kept."""
        self._show(problem)
