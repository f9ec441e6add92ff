"""Jobs of a run in memory, as its thread does them: read, segment, and work out what changes.

The events of a run come as they are; its end comes with what it changes in the results that are
there, and after it a `Step` for each thing that the window does in a turn of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.planes import Planes
from napari_unet_cells.core.regions import Place
from napari_unet_cells.engine.engine import Engine
from napari_unet_cells.layers.image_planes import describe_source, planes_for
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.segmentation.earlier import Left
from napari_unet_cells.segmentation.part_run import FoundPart, Where, run_part
from napari_unet_cells.segmentation.pipeline import Progress
from napari_unet_cells.segmentation.replacing import Replacement
from napari_unet_cells.segmentation.run import Finished, open_model, run
from napari_unet_cells.settings import remember
from napari_unet_cells.widgets.segment.channels import (
    Projection,
    Split,
    shown_plane,
    split_of,
    unmade,
)
from napari_unet_cells.widgets.segment.chosen_image import ChosenImage
from napari_unet_cells.widgets.segment.earlier_results import left_in
from napari_unet_cells.widgets.segment.live import current
from napari_unet_cells.widgets.segment.part_ending import PartEnded, PartThere
from napari_unet_cells.widgets.segment.results import preload, replaced, same_classes
from napari_unet_cells.widgets.segment.values import NO_CHANNELS, SegmentValues

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer


@dataclass(frozen=True, eq=False)
class Projected:
    """Pixels of a projection, for the layer that waits for them."""

    layer: Image
    levels: Sequence[ImageArray]


def projected(layer: Image) -> Generator[Projected, None, Sequence[ImageArray] | None]:
    """Compute what a large layer waits for, part by part as it is asked for; this is a thread.

    Parameters
    ----------
    layer : napari image layer

    Returns
    -------
    sequence of array, or None
        Its levels; None where it holds its pixels already.
    """
    projection, split = unmade(layer), split_of(layer)
    if projection is None or split is None:
        return None
    levels = projection.compute(split)
    yield Projected(layer, levels)
    return levels


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


#: Steps that follow the end of a run.
LAST_STEPS = (Step.ADD, Step.SHOW, Step.SELECT)


@dataclass(frozen=True, eq=False)
class Task:
    """All that the thread of a run needs, as it was at the press of the button.

    Attributes
    ----------
    engine : Engine
    values : SegmentValues
    chosen : ChosenImage
    planes : Planes
    source : dict
        See `layers.image_planes.describe_source`.
    waiting : (Projection, Split) or None
        How the pixels are computed, where the layer is still empty.
    seen : tuple of int
        Index of the plane that is shown.
    """

    engine: Engine
    values: SegmentValues
    chosen: ChosenImage
    planes: Planes
    source: dict[str, Any]
    waiting: tuple[Projection, Split] | None
    seen: tuple[int, ...]

    @classmethod
    def of(cls, engine: Engine, viewer: Viewer, values: SegmentValues, chosen: ChosenImage) -> Task:
        """Take it from the viewer."""
        layer, shown = chosen.layer, chosen.shown
        planes, source = planes_for(layer, shown), describe_source(layer, shown)
        projection, split = unmade(layer), split_of(layer)
        waiting = None if projection is None or split is None else (projection, split)
        seen = shown_plane(viewer, layer)
        return cls(engine, values, chosen, planes, source, waiting, seen)

    def read(self) -> Generator[object, None, Planes]:
        """Give the planes to segment; those of a projection are computed here."""
        stack = self.values.stack
        if stack.memory:
            axis = stack.channel_axis
            remember(stack.memory, NO_CHANNELS if axis is None else axis)
        if self.waiting is None:
            return self.planes
        projection, split = self.waiting
        levels = projection.compute(split, self.seen)
        yield Projected(self.chosen.layer, levels)
        return replace(self.planes, data=levels[0])


def run_whole(task: Task, there: There, stop: threading.Event) -> Generator[object, None, None]:
    """Segment all of the planes that were chosen.

    Yields
    ------
    Projected
        First, where the layer waits for its pixels.
    Opened, Started, Progress, MemoryFull, Separating
        See `segmentation.run.run`.
    Ended
    Step
        `TILES` after the first tile, `LAST_STEPS` after the end.
    """
    planes = yield from task.read()
    values = task.values
    events = run(task.engine, values.model, planes, values.settings, task.source, stop)
    is_first = True
    for event in events:
        yield _ended_or_owed(event, there) if isinstance(event, Finished) else event
        if isinstance(event, Progress) and is_first:
            is_first = False
            yield Step.TILES
    yield from LAST_STEPS


def run_on_part(
    task: Task, where: Where, there: PartThere, stop: threading.Event
) -> Generator[object, None, None]:
    """Segment a part of a plane; see `run_whole`, in whose place `PartEnded` is the end."""
    planes = yield from task.read()
    values, known = task.values, there.known_diameter
    events: Iterator[object] = run_part(
        task.engine, values.model, planes, values.settings, task.source, where, stop, known
    )
    for event in events:
        yield PartEnded.of(event, there) if isinstance(event, FoundPart) else event
    yield from LAST_STEPS


def end_again(
    event: Finished, there: There, stop: threading.Event
) -> Generator[object, None, None]:
    """Work out the end of a run anew, for results that somebody painted on meanwhile."""
    yield end_of(event, there)
    yield from LAST_STEPS


def end_part_again(
    found: FoundPart, there: PartThere, stop: threading.Event
) -> Generator[object, None, None]:
    """Work out the end of a run on a part anew, see `end_again`."""
    yield PartEnded.of(found, there)
    yield from LAST_STEPS


def end_of(event: Finished, there: There) -> Ended:
    """Give the end of a run; where there are results already, with their replacement."""
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
    return Ended(event, change, left_by(change, approved))


def _ended_or_owed(event: Finished, there: There) -> Ended:
    """Give the end of a run; without what it changes where that cannot be computed."""
    try:
        return end_of(event, there)
    except Exception:  # minutes of work are not lost for it: it is tried once more
        logging.getLogger(__name__).exception("what a result changes was not computed")
        return Ended(event, None)


def left_by(change: Replacement, approved: Mapping[Place, str]) -> Left:
    """Give what a replacement leaves, its fragments compressed."""
    change.old.origin.fragments.pack()
    return Left.of(change.before, change.old, approved)


def warm_up(engine: Engine, name: str, stop: threading.Event) -> Generator[object, None, None]:
    """Open a model before it is needed, then import what the first result needs."""
    yield from open_model(engine, name, stop)
    preload()  # while the user looks at the image: the imports would hold up the child's start
