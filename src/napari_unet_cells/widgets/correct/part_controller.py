"""A part of labels on the disk that is edited in a layer of its own, and put back. No Qt.

::

    slide cells       read from the disk -----+---------------------- + a version
                                              | Edit this part        ^ Put back
    slide cells part                          +--> a layer in memory --+

Meanwhile the part is not seen in the layer that is read from the disk, but for the cells that its
border cuts: these stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.edited_part import TakenPart
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import Review, describe_regions
from napari_unet_cells.core.resample import Box
from napari_unet_cells.corrections.autosave import note_written
from napari_unet_cells.corrections.large_regions import approved_windows, note_approved
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import (
    Hole,
    LabelLevel,
    label_levels,
    with_hole,
)
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.layers.metadata import (
    CELLS,
    OURS,
    PART_OF,
    REVIEW,
    TAKEN,
    ZARR,
    fitting_review,
    result_metadata,
)
from napari_unet_cells.layers.transforms import place_of_part
from napari_unet_cells.segmentation.uncertain_places import uncertain_places
from napari_unet_cells.segmentation.zarr_output import is_running
from napari_unet_cells.untrusted.approved_windows import ApprovedWindow
from napari_unet_cells.widgets.camera import centre_on
from napari_unet_cells.widgets.napari_versions import (
    Locked,
    add_hidden,
    camera_of,
    canvas_size,
    levels_of,
)
from napari_unet_cells.widgets.runner import Job, Runner
from napari_unet_cells.widgets.segment.channels import shown_plane
from napari_unet_cells.widgets.segment.live import bare
from napari_unet_cells.widgets.segment.where import canvas_on

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

    from napari_unet_cells.widgets.wiring import Wiring

#: Pixels a side that are edited at once.
MOST_SIDE = 4096

#: Pixels around what is in view that belong to the part: cells there are whole.
MARGIN = 64

#: Part of the view that a place fills.
FILLS = 0.9

#: Part of a place that is approved, from which on it is not shown any more.
APPROVED = 0.5

#: Said of the table once a part was put back.
OUT_OF_DATE = "The table (page Export) is out of date."

EDIT, PUT_BACK = "Edit this part", "Put back"


@dataclass(frozen=True)
class PartState:
    """Button and sentence that the form shows.

    Attributes
    ----------
    shown : bool
    action : str
        `EDIT` or `PUT_BACK`.
    enabled : bool
    sentence : str
    """

    shown: bool = False
    action: str = EDIT
    enabled: bool = False
    sentence: str = ""


class PartView(Protocol):
    """Form that shows the state."""

    def show_part(self, state: PartState) -> None:
        """Bring button and sentence in line with a state."""


@dataclass(frozen=True, eq=False)
class Taken:
    """A part of labels that was read from the disk, after version `last` of those of a run."""

    source: Labels
    plane: tuple[int, ...]
    part: TakenPart
    labels: NDArray[Any]
    review: Review
    checksum: int
    last: int
    run: str


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Places of labels on the disk that are not approved, the most uncertain first."""

    source: Labels
    places: tuple[ApprovedWindow, ...]


class Step(Enum):
    """Remaining step, in a turn of the window of its own: napari takes a while for each."""

    REVEAL = "reveal"
    REMOVE = "remove"
    SAY = "say"


@dataclass(frozen=True, eq=False)
class PutBack:
    """A part is on the disk, as version `number`; 0 where nothing was edited.

    `shown` is what the layer was, `hole` the part, and `left_out` says that something was drawn on
    cells that the border cuts, `n_approved` how many regions were approved.
    """

    layer: Labels
    number: int
    n_changed: int
    levels: tuple[LabelLevel, ...]
    shown: NDArray[Any]
    hole: Hole
    left_out: bool = False
    n_approved: int = 0


class PartController:
    """Takes parts of labels on the disk, and puts them back.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    view : PartView
    runner : Runner
        Its answers come to `receive`, `ended`, `failed`.
    labels : callable () -> labels layer or None
        Those at hand.
    wiring : Wiring
    """

    def __init__(
        self,
        viewer: Viewer,
        view: PartView,
        runner: Runner,
        labels: Callable[[], Labels | None],
        wiring: Wiring,
    ) -> None:
        self._viewer, self._view, self._runner, self._labels = viewer, view, runner, labels
        self._sentence = ""
        self._said_of: Any = None
        self._layer: Any = None
        self._ended: PutBack | None = None
        #: Part that is being put back.
        self._busy: Locked | None = None
        #: Places that were shown, by the OME-Zarr that they are of.
        self._passed: dict[str, set[ApprovedWindow]] = {}
        layers = viewer.layers
        wiring.connect(self.look, layers.selection.events.active, layers.events.inserted)
        wiring.connect(self._removed, layers.events.removed)

    # --- what is at hand --------------------------------------------------------------------

    @property
    def at_hand(self) -> Labels | None:
        """Labels on the disk, or a part of such; None without."""
        layer = bare(self._labels())
        made = {} if layer is None else layer.metadata.get(OURS, {})
        if layer is None or PART_OF in made:
            return layer
        is_cells = ZARR in made and made.get("role") == CELLS
        return layer if is_cells and Path(made[ZARR]).parent.suffix != ".part" else None

    def look(self, event: object = None) -> None:
        """Show what can be done with the labels at hand."""
        layer = self.at_hand
        if layer is not self._said_of:
            self._sentence, self._said_of = "", layer
        is_part = layer is not None and PART_OF in layer.metadata[OURS]
        self._view.show_part(
            PartState(
                layer is not None or bool(self._sentence),
                PUT_BACK if is_part else EDIT,
                layer is not None and not self._runner.running,
                self._sentence,
            )
        )

    def _say(self, sentence: str) -> None:
        self._sentence, self._said_of = sentence, self.at_hand
        self.look()

    def press(self) -> None:
        """Take the part that is in view of the labels at hand, or put the part at hand back."""
        layer = self.at_hand
        if layer is None or self._runner.running:
            return
        try:
            job = self._putting(layer) if PART_OF in layer.metadata[OURS] else self._taking(layer)
        except UserError as error:
            self._say(str(error))
            return
        self._runner.start(job)
        self.look()

    # --- the next place -----------------------------------------------------------------------

    def show_uncertain(self) -> None:
        """Go to the place where the network was least sure, of those that are not approved."""
        layer = self.at_hand
        if layer is None or self._runner.running or PART_OF in layer.metadata[OURS]:
            return
        self._runner.start(partial(_uncertain, layer, Path(layer.metadata[OURS][ZARR])))
        self.look()

    def _go(self, event: Uncertain) -> None:
        layer: Any = event.source
        if layer not in self._viewer.layers:
            return
        passed = self._passed.setdefault(layer.metadata[OURS][ZARR], set())
        left = [place for place in event.places if place not in passed]
        if not left:
            passed.clear()
            left = list(event.places)
        if not left:
            self._say("All places that hold something are approved.")
            return
        passed.add(left[0])
        self._show(layer, left[0])
        n = len(event.places)
        places = "1 place is" if n == 1 else f"{n:,} places are"
        self._say(f"Here the network was least sure. {places} not approved yet.")

    def _show(self, layer: Any, place: ApprovedWindow) -> None:
        """Bring a place into view, as a whole."""
        before = (0,) * (layer.ndim - 2 - len(place.plane)) + place.plane
        (top, bottom), (left, right) = place.rows, place.columns
        first, last = (
            np.asarray(layer.data_to_world((*before, *corner)))
            for corner in ((top, left), (bottom, right))
        )
        shown = centre_on(self._viewer, (first + last) / 2)
        extent = np.abs(last - first)[shown[-2:]]
        canvas = np.asarray(canvas_size(self._viewer), float)
        if (extent > 0).all():
            camera_of(self._viewer).zoom = float(FILLS * (canvas / extent).min())
        self._viewer.layers.selection.active = layer

    # --- taking -----------------------------------------------------------------------------

    def _taking(self, layer: Any) -> Job:
        there = layer.metadata[OURS][ZARR]
        if any(self._parts_of(there)):
            raise UserError(
                "A part of these cells is being edited. Choose its layer and put it back first."
            )
        levels = list(layer.data)
        finest = levels[0]
        box = self._box(layer, finest.shape[-2:])
        shown = shown_plane(self._viewer, layer)
        own = shown[finest.n_before :]
        return partial(_take, layer, Path(there), own, box)

    def _box(self, layer: Any, shape: tuple[int, int]) -> Box:
        """Pixels that are in view, and some around them."""
        corners = canvas_on(self._viewer, layer)
        sides = []
        for axis, length in enumerate(shape):
            start = max(0, int(np.floor(corners[:, axis].min())) - MARGIN)
            stop = min(length, int(np.ceil(corners[:, axis].max())) + 1 + MARGIN)
            if stop <= start:
                raise UserError("Nothing of the cells is in view. Move the view onto them.")
            sides.append(slice(start, stop))
        longest = max(side.stop - side.start for side in sides)
        if longest > MOST_SIDE:
            raise UserError(
                f"A part of up to {MOST_SIDE:,} x {MOST_SIDE:,} pixels is edited at once, and "
                f"{longest:,} are in view. Zoom in."
            )
        return sides[0], sides[1]

    def _parts_of(self, there: str) -> Generator[Any, None, None]:
        for layer in self._viewer.layers:
            if layer.metadata.get(OURS, {}).get(PART_OF, {}).get("zarr") == there:
                yield layer

    def receive(self, event: object) -> None:
        """Take over what a thread has done."""
        if isinstance(event, Taken):
            self._add(event)
        elif event is Step.REVEAL and self._layer in self._viewer.layers:
            self._layer.visible = True
            self._viewer.layers.selection.active = self._layer
        elif isinstance(event, Uncertain):
            self._go(event)
        elif isinstance(event, PutBack):
            self._put(event)
        elif event is Step.REMOVE:
            self._remove()
        elif event is Step.SAY:
            self._say_put()

    def _add(self, taken: Taken) -> None:
        from napari.layers import Labels as LabelsLayer

        source: Any = taken.source
        if source not in self._viewer.layers:
            return
        made = source.metadata[OURS]
        n_before = source.ndim - 2 - len(taken.plane)
        rows, columns = taken.part.box
        metadata = result_metadata(CELLS, made["image"], made["provenance"], taken.checksum)
        metadata[OURS][PART_OF] = {
            "zarr": made[ZARR],
            "plane": list(taken.plane),
            "rows": [rows.start, rows.stop],
            "columns": [columns.start, columns.stop],
            "last": taken.last,
            "run": taken.run,
        }
        start = float(rows.start), float(columns.start)
        place = place_of_part(source, (0,) * n_before + taken.plane, start)
        layer = LabelsLayer(
            taken.labels,
            name=f"{source.name} part",
            metadata=metadata | {TAKEN: taken.part, REVIEW: taken.review},
            **place,
        )
        add_hidden(self._viewer, layer)
        self._layer = layer
        hole = Hole(taken.plane, taken.part.box, taken.part.cut)
        source.data = levels_of(with_hole(source.data, hole))

    # --- putting back -----------------------------------------------------------------------

    def _putting(self, layer: Any) -> Job:
        part_of = layer.metadata[OURS][PART_OF]
        labels = np.array(layer.data)  # as it is now
        review, taken = fitting_review(layer), layer.metadata.get(TAKEN)
        self._busy = Locked(layer)  # what would be edited meanwhile would not be on the disk
        return partial(_put_back, layer, part_of, labels, taken, review)

    def _put(self, event: PutBack) -> None:
        """Show the cells on the disk again; the layer of the part goes in the next turn."""
        self._ended = event
        source = self._source(event.layer.metadata[OURS][PART_OF]["zarr"])
        if source is not None:
            source.data = levels_of(event.levels)

    def _remove(self) -> None:
        """Remove the layer, unless it holds something else by now than what was put back."""
        ended, locked, self._busy = self._ended, self._busy, None
        if ended is None or ended.layer not in self._viewer.layers:
            return
        if np.array_equal(ended.layer.data, ended.shown):
            self._viewer.layers.remove(ended.layer)
            return
        if locked is not None:
            locked.release()
        source = self._source(ended.layer.metadata[OURS][PART_OF]["zarr"])
        if source is not None:
            source.data = levels_of(with_hole(source.data, ended.hole))

    def _say_put(self) -> None:
        ended, self._ended = self._ended, None
        assert ended is not None
        if ended.layer in self._viewer.layers:
            done = f"Put back as version {ended.number}" if ended.number else "Nothing was edited"
            self._say(
                f"{done}, but the part was changed meanwhile, and stays open. Put it "
                "back again to keep that, or remove its layer to give it up."
            )
            return
        source = self._source(ended.layer.metadata[OURS][PART_OF]["zarr"])
        if source is not None:
            self._viewer.layers.selection.active = source
        what = f"{ended.n_changed} cell{'' if ended.n_changed == 1 else 's'} changed"
        said = f"Put back as version {ended.number}: {what}. {OUT_OF_DATE}"
        if ended.left_out:
            said += " What you drew on cells that the border of the part cuts was left out."
        said = said if ended.number else "Nothing was edited."
        if ended.n_approved:
            regions = describe_regions(ended.n_approved)
            said += f" {regions} approved, for a dataset (page Export)."
        self._say(said)

    def _source(self, there: str) -> Any:
        layers = (bare(layer) for layer in self._viewer.layers)
        return next(
            (
                layer
                for layer in layers
                if layer.metadata.get(OURS, {}).get(ZARR) == there
                and layer.metadata[OURS]["role"] == CELLS
            ),
            None,
        )

    def _removed(self, event: Any) -> None:
        """Show the cells on the disk again where a part of them was given up."""
        part_of = event.value.metadata.get(OURS, {}).get(PART_OF)
        if part_of is not None and not any(self._parts_of(part_of["zarr"])):
            source = self._source(part_of["zarr"])
            if source is not None and any(level.hole for level in source.data):
                source.data = levels_of(with_hole(source.data, None))
        self.look()

    def table_followed(self, folder: Path) -> None:
        """Say no more that the table of an OME-Zarr is out of date, once it is not."""
        layer = self.at_hand
        if layer is not None and layer.metadata.get(OURS, {}).get(ZARR) == str(folder):
            self._sentence = self._sentence.replace(OUT_OF_DATE, "The table holds it.")
            self.look()

    def ended(self) -> None:
        """Offer the next press."""
        self.look()

    def failed(self, problem: str) -> None:
        """Say why a part was not taken or put back; it can be tried again."""
        locked, self._busy = self._busy, None
        if locked is not None and locked.layer in self._viewer.layers:
            locked.release()
        self._say(problem)


def _take(
    layer: Labels, folder: Path, plane: tuple[int, ...], box: Box, stop: threading.Event
) -> Generator[object, None, None]:
    """Read a part from the disk; this is a thread."""
    versions = LabelVersions(folder)
    versions.settle()
    # before the labels are read: a version since is none of theirs
    last, run = versions.last, versions.run
    finest = label_levels(folder, CELLS)[0]
    part = _taken(finest, plane, box)
    labels = part.editable
    labels = labels.astype(np.promote_types(np.uint16, np.min_scalar_type(int(labels.max()))))
    labels = labels.reshape((1,) * (layer.ndim - 2) + labels.shape)
    yield Taken(layer, plane, part, labels, Review(labels), digest(labels), last, run)
    yield Step.REVEAL


def _uncertain(layer: Labels, folder: Path, stop: threading.Event) -> Generator[object, None, None]:
    """Find the places that are not approved, in their order; this is a thread."""
    shape = label_levels(folder, CELLS)[0].shape
    approved = approved_windows(folder)
    places = (
        place
        for place in uncertain_places(folder, shape)
        if sum(place.overlap(window) for window in approved) < APPROVED * place.size
    )
    yield Uncertain(layer, tuple(places))


def _put_back(
    layer: Labels,
    part_of: dict[str, Any],
    shown: NDArray[Any],
    taken: TakenPart | None,
    review: Review | None,
    stop: threading.Event,
) -> Generator[object, None, None]:
    """Write a part to the disk; this is a thread."""
    folder, plane = Path(part_of["zarr"]), tuple(part_of["plane"])
    box = slice(*part_of["rows"]), slice(*part_of["columns"])
    if is_running(folder):  # it replaces the labels, and with them what is put back now
        raise UserError(
            f"{folder.name} is being segmented anew, so nothing was put back, and the part stays "
            "open. Wait until that is done, or cancel it; export the part to keep it in any case."
        )
    versions = LabelVersions(folder)
    versions.settle()
    if versions.run != part_of.get("run", versions.run):  # an earlier program did not note it
        raise UserError(
            f"{folder.name} was segmented anew since this part was taken, and its cells are others "
            "now. Nothing was put back, and the part stays open. Export its layer to keep what you "
            "edited (page Export); remove it to edit the cells as they are now."
        )
    finest = label_levels(folder, CELLS)[0]
    if taken is None:  # it was restored after napari had ended
        if review is None:
            raise UserError(
                "It is not known any more what was edited in this layer. Save it as a TIFF "
                "(page Export), remove it, and edit the part again."
            )
        taken = _as_taken(_taken(finest, plane, box), review)
    shape = box[0].stop - box[0].start, box[1].stop - box[1].start
    if shown.shape[-2:] != shape:
        raise UserError("The layer has other pixels than the part that was taken, and stays.")
    before = taken.editable
    now = versions.put_back(plane, box, taken.labels, _last_of(part_of))
    if now is not None:  # its writing failed, or was killed, after it was kept
        taken = TakenPart(box, now.astype(np.int64), taken.cut)
    last = versions.last
    n_used = versions.n_used(versions.n_given())
    edited, n_used = taken.edited(shown.reshape(shape).astype(np.int64), n_used, before)
    written = None if review is None else note_written(folder, shown, review)
    number = versions.replace(plane, box, taken.labels, edited, n_used, last)
    n_approved = 0 if review is None else _noted(folder, plane, box, shown, review)
    left_out = bool((taken.stays & (shown.reshape(shape) != 0)).any())
    if left_out and not number and not n_approved:
        raise UserError(
            "Nothing was put back: all that you drew lies on cells that the border of the part "
            "cuts, and these stay as they are. Edit a part that holds them whole."
        )
    changed = taken.labels != edited
    n_changed = len(np.setdiff1d(np.union1d(taken.labels[changed], edited[changed]), [0]))
    if written is not None and number:
        written(versions.file_of(number))
    levels = label_levels(folder, CELLS, layer.ndim - 2 - len(plane))
    hole = Hole(plane, box, taken.cut)
    yield PutBack(layer, number, n_changed, levels, shown, hole, left_out, n_approved)
    yield Step.REMOVE
    yield Step.SAY


def _last_of(part_of: dict[str, Any]) -> int | None:
    """Give the last version when a part was taken; an earlier program did not note it."""
    last = part_of.get("last")
    return last if isinstance(last, int) else None


def _noted(
    folder: Path, plane: tuple[int, ...], box: Box, shown: NDArray[Any], review: Review
) -> int:
    """Note the approved regions of a part beside the labels, and give their number."""
    file = note_approved(folder, plane, box, review)
    if file is not None:  # they are not in the session alone any more
        note_written(file, shown, review, review.approved)()
    return len(review.approved)


def _taken(finest: LabelLevel, plane: tuple[int, ...], box: Box) -> TakenPart:
    height, width = finest.shape[-2:]
    return TakenPart.of(finest.read((*plane, *box)).astype(np.int64), box, (height, width))


def _as_taken(now: TakenPart, review: Review) -> TakenPart:
    """Give a part as it was when it was taken, which a review remembers.

    What others have put back since is not undone: only what differs from it counts as edited.
    """
    before = review.baseline.unpacked().reshape(now.labels.shape).astype(np.int64)
    return TakenPart(now.box, np.where((before == 0) & now.stays, now.labels, before), now.cut)
