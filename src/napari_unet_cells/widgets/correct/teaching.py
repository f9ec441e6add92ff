"""Jobs of `learning`: write the dataset, tune a model of the session, segment the image again.

A session of each base model has a folder of its own among the temporary files::

    FOLDER/approved regions/    a dataset, see `corrections.growing_dataset`
    FOLDER/3/NAME (learning).keras    the model after the third update, with its card
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.regions import Place, Review, describe_regions
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.corrections.growing_dataset import GrowingDataset, approved_diameter
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.engine.process import Cancelled
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CLASSES
from napari_unet_cells.models.card import MAX_DIAMETER, ModelCard
from napari_unet_cells.models.catalogue import (
    find_model,
    install,
    installed_models,
    next_name,
    take_back,
)
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.replacing import (
    Origin,
    Replacement,
    ResultState,
    replace_cells,
    replace_classes,
)
from napari_unet_cells.segmentation.result import Result, cells_of
from napari_unet_cells.segmentation.run import Finished, finished
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.training.events import Retrained, StepDone, event_of_dict

if TYPE_CHECKING:
    from napari.layers import Labels

#: What the name of a model of the session adds to that of its base.
SUFFIX = " (learning)"

#: Seconds of learning in an update.
SECONDS = 10.0

#: Beginning of the folder of a session, and days after which one that a killed program left goes.
PREFIX, STALE_DAYS = "napari-unet-cells-learning-", 7


@dataclass(frozen=True, eq=False)
class Target:
    """Labels that are to be done anew, and how.

    Attributes
    ----------
    layer : napari labels layer
    planes : Planes
    source : mapping
        For the record, see `describe_source`.
    provenance : mapping
        Of the labels as they are.
    fragments : object
        Of the run that they come from: labels of another one are not replaced.
    left : str
        Why it is left to the user; empty where the program does it.
    is_done : bool
        Whether every region is approved, so that nothing is left to be done anew.
    approved : Approved
        Regions of these labels.
    undone : int
        Steps of their history that were taken back then.
    """

    layer: Labels
    planes: Planes
    source: dict[str, Any]
    provenance: Mapping[str, Any]
    fragments: object
    left: str
    is_done: bool
    approved: Approved
    undone: int = 0

    @property
    def settings(self) -> Settings:
        """Settings of the run before; the cell size is that of the approved cells."""
        parameters = self.provenance.get("parameters", {})
        known = parameters.get("scale", {}).get("diameter") or None
        of_cells = self.approved.made.get("role") != CLASSES
        measured = approved_diameter(self.approved) if of_cells else 0.0
        return Settings(
            diameter=min(measured, MAX_DIAMETER) or known,
            link=parameters.get("linked_along_axis"),
            test_time_augmentation=bool(parameters.get("test_time_augmentation", False)),
        )


@dataclass(frozen=True, eq=False)
class Wanted:
    """One update: what is learned from, and what is done anew afterwards.

    Attributes
    ----------
    name : str
        Of the model that made the labels.
    chosen : str
        Of the model that is chosen, where that one is gone.
    approved : tuple of Approved
    without : tuple of Review
        Of labels in which nothing is approved.
    target : Target or None
    """

    name: str
    chosen: str
    approved: tuple[Approved, ...]
    without: tuple[Review, ...]
    target: Target | None


@dataclass(frozen=True, eq=False)
class Learned:
    """A model of the session was made."""

    card: ModelCard
    sentence: str


@dataclass(frozen=True, eq=False)
class Redone:
    """A model of the session has segmented an image.

    Attributes
    ----------
    target : Target
    event : Finished
    sentence : str
        For when the labels are in their place.
    """

    target: Target
    event: Finished
    sentence: str


@dataclass(frozen=True, eq=False)
class Placed:
    """New labels for a layer, of which what was corrected or approved is left as it was."""

    redone: Redone
    change: Replacement


@dataclass(frozen=True)
class Kept:
    """A model of the session was copied to those of the user."""

    card: ModelCard


@dataclass
class Lesson:
    """Dataset and last model of one base in this session."""

    base: ModelCard
    folder: Path
    dataset: GrowingDataset
    model: ModelCard | None = None
    number: int = 0

    def next_path(self) -> Path:
        """Give a path for the model after the next update; only that of the last one stays."""
        last = "" if self.model is None else self.model.path.parent.name
        for number in range(1, self.number + 1):
            if str(number) != last:
                shutil.rmtree(self.folder / str(number), ignore_errors=True)
        self.number += 1
        folder = self.folder / str(self.number)
        folder.mkdir()
        return folder / f"{self.base.name}{SUFFIX}.keras"


@dataclass
class School:
    """Lessons of a session.

    Attributes
    ----------
    lessons : dict of str to Lesson
        By the sha256 of their base.
    budget : mapping
        Of an update: ``minutes``, or ``steps`` for measurements, which no other work changes.
    """

    lessons: dict[str, Lesson] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=lambda: {"minutes": SECONDS / 60})
    _placed: Any = None

    def names(self, name: str) -> set[str]:
        """Give all names under which labels of one base are known: its own, and while it learns."""
        base = name.removesuffix(SUFFIX)
        return {base, f"{base}{SUFFIX}"}

    def lesson(self, name: str, chosen: str) -> Lesson:
        """Give the lesson of the model that made some labels; a new one where there is none.

        Parameters
        ----------
        name : str
            Of that model; it may be one of the session.
        chosen : str
            Of the one that is taken where that is not installed any more.
        """
        for lesson in self.lessons.values():
            if name == f"{lesson.base.name}{SUFFIX}":
                return lesson
        known = installed_models()
        base = known.get(name.removesuffix(SUFFIX)) or find_model(chosen.removesuffix(SUFFIX))
        if base.sha256 not in self.lessons:
            _remove_stale()
            try:
                folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            except OSError as error:
                raise UserError(
                    f"There is no room for what is learned ({error}). Free some space for "
                    "temporary files."
                ) from error
            dataset = GrowingDataset(folder / "approved regions")
            self.lessons[base.sha256] = Lesson(base, folder, dataset)
        return self.lessons[base.sha256]

    def made_it(self, redone: Redone, state: ResultState) -> bool:
        """Whether labels are those that were to be done anew, or come from learning since."""
        fragments = state.origin.fragments
        return fragments is redone.target.fragments or (
            self._placed is not None and fragments is self._placed
        )

    def note_placed(self, state: ResultState) -> None:
        """Remember labels that came from learning."""
        self._placed = state.origin.fragments

    def forget(self, model: ModelCard) -> None:
        """Forget what a base learned, and remove its files."""
        for key, lesson in list(self.lessons.items()):
            if lesson.model is not None and lesson.model.name == model.name:
                del self.lessons[key]
                take_back(model.name)
                shutil.rmtree(lesson.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove all files, and list the models no more."""
        for lesson in self.lessons.values():
            if lesson.model is not None:
                take_back(lesson.model.name)
            shutil.rmtree(lesson.folder, ignore_errors=True)
        self.lessons.clear()


def _remove_stale() -> None:
    """Remove what a killed program left days ago."""
    before = time.time() - STALE_DAYS * 24 * 3600
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < before:
                    shutil.rmtree(folder, ignore_errors=True)


def warm_up(
    engine: Engine, school: School, name: str, chosen: str, stop: threading.Event
) -> Generator[object, None, None]:
    """Have the base made ready, so that the first update takes no longer than the next."""
    engine.prepare(str(school.lesson(name, chosen).base.path), stop)
    yield from ()


def teach(
    engine: Engine, school: School, wanted: Wanted, stop: threading.Event
) -> Generator[object, None, None]:
    """Learn from what is approved, and segment the image of the target with what came of it.

    Yields
    ------
    str
        What goes on, for the user.
    Learned, Redone
    """
    lesson = school.lesson(wanted.name, wanted.chosen)
    n = lesson.dataset.update(wanted.approved, wanted.without)
    if n == 0:
        yield ""
        return
    regions = describe_regions(n)
    request = _request(lesson, school.budget)
    library = ""
    for values in engine.retrain(request, stop, threading.Event(), "approve another region"):
        event = event_of_dict(values)
        if isinstance(event, StepDone):
            yield f"Learning from {regions}: {event.done:.0%}"
        elif isinstance(event, Retrained):
            library = str(values.get("library", ""))
            done = event
    if not lesson.folder.is_dir():  # what was learned was dropped meanwhile
        raise Cancelled
    if done.mixture == 0:
        yield (
            f"What was learned from {regions} does no better there than {lesson.base.name}, and is "
            "not used."
        )
        return
    lesson.model = done.card
    yield Learned(done.card, f"Learned from {regions}.")
    yield from _redone(engine, wanted.target, done.card, library, regions, stop)


def _request(lesson: Lesson, budget: Mapping[str, float]) -> dict[str, Any]:
    request = {
        "dataset": str(lesson.dataset.folder),
        "base": str(lesson.base.path),
        "output": str(lesson.next_path()),
        "options": {**budget, "validations": 0, "seed": lesson.number},
        "derive": False,
    }
    if lesson.model is not None:
        request["since"] = str(lesson.model.path)
    return request


def _redone(
    engine: Engine,
    target: Target | None,
    card: ModelCard,
    library: str,
    regions: str,
    stop: threading.Event,
) -> Generator[object, None, None]:
    if target is None:
        return
    if target.is_done:
        yield (
            f"Learned from {regions}. All of this image is approved and stays; for the next one "
            f"choose {card.name} on the page Segment."
        )
        return
    if target.left:
        yield (
            f"Learned from {regions}. {target.left}: choose {card.name} on the page Segment "
            "and press Segment to find its cells anew."
        )
        return
    yield f"Learned from {regions}; looking at the image again..."
    # In the child that trained: it holds the library, and nothing is converted for another one.
    segmenter = Segmenter(card, lambda card: engine.open(card, stop, runtime=library))
    sentence = (
        f"Learned from {regions}: the labels that you did not touch are of {card.name}. Ctrl+Z "
        "takes that back."
    )
    planes, settings = target.planes, target.settings
    for event in segmenter.events(planes, settings, target.source, uncertainty=True):
        if isinstance(event, Result):
            yield Redone(target, finished(event, len(planes.fixed)), sentence)


def replacement(
    redone: Redone, state: ResultState, approved: Collection[Place], stop: threading.Event
) -> Generator[Placed, None, None]:
    """Put the labels of a model into a result, except what was corrected or approved."""
    shown, event = redone.target.layer.data, redone.event
    if event.result.cells is None:
        origin = Origin.of(event)
        change = replace_classes(shown, state, approved, event.result.classes, origin)
    else:
        cells, origin = _adjusted(event, state.origin)
        change = replace_cells(shown, state, approved, cells, origin)
    yield Placed(redone, change)


def _adjusted(event: Finished, before: Origin) -> tuple[NDArray[np.integer[Any]], Origin]:
    """Separate cells with the thresholds that the user chose for those before."""
    origin, cells = Origin.of(event), event.result.cells
    assert cells is not None
    assert origin.options is not None
    chosen, first = before.options, before.first
    if chosen is None or first is None or chosen == first:
        return cells, origin
    moved = {name: value for name, value in vars(chosen).items() if value != getattr(first, name)}
    if "min_size" in moved and before.details is not None and before.details.zoom:
        zoom = event.result.details.zoom / before.details.zoom
        moved["min_size"] = round(moved["min_size"] * zoom**2)
    options = replace(origin.options, **moved)
    fragments = tuple(origin.fragments)
    cells, _ = cells_of(fragments, options, cells.shape, origin.link, origin.first)
    return cells, origin.with_options(options)


def copy_of(model: ModelCard, stop: threading.Event) -> Generator[Kept, None, None]:
    """Copy a model of the session to those of the user."""
    yield Kept(install(model, next_name(model.name.removesuffix(SUFFIX))))
