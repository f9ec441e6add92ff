"""Correct the images of a list one after another: open, save, approve, next.

No Qt here. What was corrected goes into the result when the user leaves the image, approves it or
presses Save; until then it is kept as the corrections of every other layer are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from napari_unet_cells.batch.corrected import write_corrected
from napari_unet_cells.batch.corrected_parts import PartsFollowed, count_parts, following_parts
from napari_unet_cells.batch.finished import read_unit_record
from napari_unet_cells.batch.marks import read_marks
from napari_unet_cells.core.labels import digest_in_file
from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import note_written
from napari_unet_cells.corrections.restoring import Restored
from napari_unet_cells.corrections.times import when
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.untrusted.unit_record import UnitRecord
from napari_unet_cells.widgets.folder.controller import FolderController
from napari_unet_cells.widgets.folder.pair import (
    Found,
    OpenPair,
    ReadPair,
    add_cells,
    add_image,
    cells_in,
    is_part_of,
    open_cells,
    part_of,
    pixels_of,
    read_pair,
    record_of,
    show_cells,
)
from napari_unet_cells.widgets.folder.rows import Row, State
from napari_unet_cells.widgets.runner import Runner
from napari_unet_cells.widgets.wiring import Wiring

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer


class View(Protocol):
    """The window as `Correcting` sees it."""

    def show_open(self, name: str) -> None:
        """Show which image is open; empty for none."""

    def give_back(self) -> None:
        """Give the keyboard from the list to the image: the keys of the tools begin there."""

    def warn(self, sentence: str) -> None:
        """Say what prevents something, also as a notification."""

    def tell(self, sentence: str) -> None:
        """Say what was done without being asked for."""

    def project(self, image: Image) -> None:
        """Compute an image that is empty until its channels are projected."""

    def corrections_saved(self) -> None:
        """Tell others that corrections lie in a result now."""

    def show_following(self, sentence: str, going: bool = True) -> None:
        """Say how far the table of an image is that others wait for; empty once it is done.

        While it is going it can be left, see `Correcting.leave_table`.
        """

    def parts_followed(self, folder: Path) -> None:
        """Tell others that the table of an OME-Zarr holds the parts that were put back."""


class Step(Enum):
    """Remaining step of an opening, in a turn of the window of its own."""

    CELLS = "cells"
    SHOW = "show"
    CLOSE = "close"


@dataclass(frozen=True, eq=False)
class ToSave:
    """Cells that are open, to be put into their result.

    Attributes
    ----------
    pair : OpenPair
    labels : integer array
    review : Review or None
        Of these labels.
    made : mapping
        Their record, with the tracks as they are.
    approving : bool
        Whether they are approved then: that needs the file to be the one that was opened.
    busy : bool
        Whether a run is about to replace the file.
    """

    pair: OpenPair
    labels: NDArray[Any]
    review: Review | None
    made: Mapping[str, Any]
    approving: bool = False
    busy: bool = False


@dataclass(frozen=True, eq=False)
class Saved:
    """The cells of an image are in its result.

    Attributes
    ----------
    pair : OpenPair
    record : UnitRecord or None
        None where nothing had been changed.
    checksum : int
        Of the labels.
    tracks : mapping or None
        Of their record.
    problem : str
        What is to be said of it; else empty.
    due : bool
        See `OpenPair`.
    all_of_it : bool
        Table and picture too; else the number of cells alone.
    left : bool
        The user has the table follow later.
    """

    pair: OpenPair
    record: UnitRecord | None
    checksum: int
    tracks: Any = None
    problem: str = ""
    due: bool = False
    all_of_it: bool = True
    left: bool = False


#: Seconds from one event that says how far a table is to the next.
_OFTEN = 0.1


@dataclass(frozen=True)
class Following:
    """The table of an image follows the parts that were put back; `fraction` of it does."""

    name: str
    fraction: float


@dataclass(frozen=True, eq=False)
class _Approval:
    """Approval of an image that waits for the thread."""

    name: str
    approve: Callable[[str, bool], object]

    def __call__(self) -> None:
        self.approve(self.name, True)


class Correcting:
    """The image of the list that is open, and how its cells go back.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    controller : FolderController
    view : View
    runner : Runner
        Its answers come to `receive`, `ended`, `failed`.

    Attributes
    ----------
    pair : OpenPair or None
    wiring : Wiring
        To the layers whose cells stay on the disk.
    """

    def __init__(
        self, viewer: Viewer, controller: FolderController, view: View, runner: Runner
    ) -> None:
        self._viewer, self._controller = viewer, controller
        self._view, self._runner = view, runner
        self.pair: OpenPair | None = None
        self.wiring = Wiring()
        self._watched: dict[Layer, Wiring] = {}
        self._before: OpenPair | None = None
        #: Others whose cells are open beside the pair.
        self._beside: list[OpenPair] = []
        self._read: ReadPair | None = None
        self._found = Found()
        self._output = Path()
        self._then: list[Callable[[], object]] = []
        self._wanted = ""
        #: The image that an approval goes on to.
        self._next = ""
        #: Set once the table that follows now is to follow later.
        self._later = threading.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be opened, saved or marked."""
        return not (self._runner.running or self._then or self._wanted)

    # --------------------------------------------------------------- what the user does

    def open(self, name: str) -> None:
        """Open an image and its cells; what was corrected in the one before is saved first."""
        row, output = self._controller.row(name), self._controller.output
        if self._runner.running:
            self._wanted = name
            return
        if row is None or output is None or not row.can_open:
            return
        there = self._open_pair(name)
        if self._is_being_edited(self.pair) and there is not self.pair:
            return
        if there is None:
            self._output = output
            self._start(partial(_open, self._to_save(self.pair), output, row))
        elif self.pair is None or self.pair is there:
            self._keep_open(there)
        else:
            self._start(partial(_only_save, self._to_save(self.pair)))
            self._then.insert(0, partial(self._keep_open, there))

    def _open_pair(self, name: str) -> OpenPair | None:
        """Give an image of the list whose cells are open, also as somebody dragged them in."""
        row, output = self._controller.row(name), self._controller.output
        if row is None or output is None:
            return None
        known = self._beside if self.pair is None else [self.pair, *self._beside]
        for pair in known:
            if (pair.name, pair.output) == (name, output) and pair.cells in self._viewer.layers:
                return pair
        there = open_cells(self._viewer, row.cells_file(output))
        file = row.cells_file(output)
        return None if there is None else OpenPair(name, output, there, file=file)

    def _keep_open(self, pair: OpenPair) -> None:
        """Take a layer that is open already; the pair so far stays open beside it."""
        if pair.cells not in self._viewer.layers:
            return
        open_now = self._beside if self.pair is None else [*self._beside, self.pair]
        self._beside = [one for one in open_now if one.cells is not pair.cells]
        self.pair = pair
        self._watch(pair.cells)
        self._viewer.layers.selection.active = pair.cells
        self._view.show_open(pair.name)
        self._view.give_back()

    def save(self) -> None:
        """Put the cells as they are now into the result."""
        if self._runner.running:
            self._then.append(self.save)
        elif self.pair is not None:
            self._start(partial(_only_save, self._to_save(self.pair)))

    def leave_table(self) -> None:
        """Go on without the table that follows now; it is due the next time.

        An approval that waits for it is given up: it would be one of a table that is not true.
        """
        self._later.set()

    def approve(self, name: str, approved: bool) -> None:
        """Mark an image as right, once what was corrected in it is saved; or take that back."""
        if approved and self._runner.running:
            self._then.append(_Approval(name, self.approve))
            return
        pair = self._open_pair(name) if approved else None
        if self._is_being_edited(pair):
            return  # and the list shows the mark as it was
        if pair is None:
            self._controller.approve(name, approved)
            return
        self._start(partial(_only_save, self._to_save(pair, approving=True)))
        self._then.insert(0, _Approval(name, self._controller.approve))

    def approve_and_next(self) -> None:
        """Approve the image that is open, and open the next one that is not approved."""
        if self.pair is None or self.pair.output != self._controller.output:
            following = self._next_after(None)
        else:
            if self._is_being_edited(self.pair):
                return
            following = self._next_after(self.pair.name)
            self.approve(self.pair.name, True)
        if following is not None:
            self._wanted = self._next = following.name
            self._go_on()

    def _next_after(self, name: str | None) -> Row | None:
        """Row of the next image that waits for approval, from the top after the last one."""
        rows = self._controller.rows
        start = 1 + next((i for i, row in enumerate(rows) if row.name == name), -1)
        ordered = [*rows[start:], *rows[:start]]
        return next((r for r in ordered if r.can_open and not r.approved and r.name != name), None)

    def _is_being_edited(self, pair: OpenPair | None) -> bool:
        """Whether a part of cells on the disk is open, which is said: it would stay behind."""
        if pair is None or part_of(self._viewer, pair) is None:
            return False
        self._view.warn(
            f"A part of {pair.name} is being edited. Put it back first (page Correct), or remove "
            "its layer to give it up."
        )
        return True

    def _start(self, job: Any) -> None:
        self._runner.start(job)

    def _to_save(
        self, pair: OpenPair | None, approving: bool = False
    ) -> Callable[[], Generator[Saved | Following, None, None]]:
        """Take cells that are open, to be saved in a thread where they were changed."""
        if pair is None or pair.cells not in self._viewer.layers:
            return _nothing
        row = self._controller.row(pair.name)
        running = row is not None and row.state is State.RUNNING
        busy = running and pair.output == self._controller.output
        if pair.is_on_disk:
            self._later = threading.Event()
            return partial(_follow_parts, pair, self._later)
        made, review = record_of(pair.cells), fitting_review(pair.cells)
        return partial(_save, ToSave(pair, pixels_of(pair.cells), review, made, approving, busy))

    # ------------------------------------------------------------- what the thread answers

    def receive(self, event: object) -> None:
        """Take over what was saved or read."""
        if isinstance(event, Following):
            self._view.show_following(
                f"The table of {event.name} follows what you corrected: {event.fraction:.0%}"
            )
        elif isinstance(event, Saved):
            self._view.show_following(
                f"The table of {event.pair.name} does not follow yet; it does when you save or "
                "leave the image the next time."
                if event.left
                else "",
                going=False,
            )
            self._note_saved(event)
            if event.left:
                self._give_up_approval(event.pair.name)
        elif isinstance(event, ReadPair):
            self._read, self._found = event, add_image(self._viewer, event)
            if self._found.problem:
                self._view.warn(self._found.problem)
            if event.restored is not None:
                self._view.tell(_taken_up(event.name, event.restored))
        elif event is Step.CELLS and self._read is not None:
            self._add_cells(self._read)
        elif event is Step.SHOW and self._read is not None and self.pair is not None:
            show_cells(self._viewer, self.pair.cells, self._read, self._found.image)
            self._read = None
            self._view.show_open(self.pair.name)
            self._view.give_back()
        elif event is Step.CLOSE:
            self._close()

    def _give_up_approval(self, name: str) -> None:
        """Leave an image without the approval that waits for its table, and open none for it."""
        kept = [one for one in self._then if not (isinstance(one, _Approval) and one.name == name)]
        if len(kept) == len(self._then):
            return
        self._then = kept
        if self._wanted == self._next:
            self._wanted = ""
        self._view.warn(
            f"{name} was not approved, as you cancelled its table, which does not follow what you "
            "corrected yet. Approve it again, and let the table follow."
        )

    def _note_saved(self, event: Saved) -> None:
        saved = event.pair.saved(event.checksum, event.tracks, event.due)
        if self.pair is not None and self.pair.cells is event.pair.cells:
            self.pair = saved
        elif event.pair.cells in self._viewer.layers:
            others = [one for one in self._beside if one.cells is not event.pair.cells]
            self._beside = [*others, saved]
        if event.problem:
            self._view.warn(event.problem)
        if event.record is not None:
            if event.pair.output == self._controller.output:
                show = self._controller.corrected if event.all_of_it else self._controller.counted
                show(event.pair.name, event.record)
            if event.all_of_it:
                self._view.corrections_saved()
            if event.all_of_it and event.pair.is_on_disk and not event.due:
                self._view.parts_followed(event.pair.target)

    def _add_cells(self, read: ReadPair) -> None:
        cells = add_cells(self._viewer, read, self._found.image)
        added = (*self._found.added, cells)
        self._before = self.pair
        output, file = self._output, read.target
        self.pair = OpenPair(
            read.name, output, cells, added, read.checksum, read.tracks, file, read.due
        )
        self._watch(cells)
        if self._found.image is not None:
            self._view.project(self._found.image)

    def _close(self) -> None:
        """Remove the layers of the image before; what was corrected in them is saved.

        Last of all: where no layer is left for a moment and the next image is drawn alone, the
        OpenGL of vispy ends in a segmentation fault (napari 0.9.2 with Mesa).
        """
        pair, self._before = self._before, None
        for layer in () if pair is None else reversed(pair.added):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        if pair is not None and pair.cells in self._viewer.layers:
            self._beside.append(pair)

    def layer_removed(self, layer: Layer) -> None:
        """Forget the pair whose cells the user removed; note a part that was put back."""
        if layer in self._watched:
            self._watched.pop(layer).release()
        for pair in (*self._beside, *(() if self.pair is None else (self.pair,))):
            if is_part_of(layer, pair):
                self._note(pair)
        self._beside = [one for one in self._beside if one.cells != layer]
        if self.pair is not None and layer == self.pair.cells:
            self.pair = None
            self._view.show_open("")

    def _watch(self, cells: Layer) -> None:
        """Note also what is deleted on the disk: the table of the cells shows them anew then."""
        if cells not in self._watched:
            self._watched[cells] = self.wiring.part()
            self._watched[cells].connect(self._changed, cells.events.data)

    def _changed(self, event: Any) -> None:
        """Mark the image whose cells on the disk are shown anew, if they were changed."""
        for pair in (*self._beside, *(() if self.pair is None else (self.pair,))):
            if pair.cells is event.source and pair.is_on_disk:
                self._note(pair)

    def _note(self, pair: OpenPair) -> None:
        """Mark an image as corrected where a part of its cells was put back, or one deleted."""
        if self._runner.running:
            self._then.append(partial(self._note, pair))
        else:
            self._start(partial(_only_save, partial(_count_parts, pair)))

    def ended(self) -> None:
        """Go on with what the user wanted meanwhile."""
        self._go_on()

    def _go_on(self) -> None:
        while self._then and not self._runner.running:
            self._then.pop(0)()
        if self._wanted and not self._runner.running:
            wanted, self._wanted = self._wanted, ""
            self.open(wanted)

    def failed(self, problem: str) -> None:
        """Say what prevents it; layers stay as they are."""
        self._view.show_following("")
        self._then.clear()
        self._wanted = ""
        self._view.warn(problem)


def _taken_up(name: str, restored: Restored) -> str:
    """Say which corrections were taken up again."""
    said = (
        f"Your corrections of '{name}' from {when(restored.date)} were not in the result yet and "
        "were taken up again."
    )
    return f"{said} {restored.problem}".strip()


# --- in the thread -----------------------------------------------------------------------


def _nothing() -> Generator[Saved, None, None]:
    yield from ()


def _save(job: ToSave) -> Generator[Saved, None, None]:
    """Put labels into the result where they differ from it."""
    pair, labels = job.pair, job.labels
    checksum = digest_in_file(labels)
    tracks = job.made.get("tracks")
    same = checksum == pair.checksum and tracks == pair.tracks and not pair.due
    if job.approving or not same:
        if job.busy:
            raise UserError(
                f"{pair.name} is being segmented anew, so your cells were neither saved nor "
                "approved. They stay open, and no other image was opened. Pause the list and save "
                "then, or export them to a file of their own."
            )
        _check_unchanged(pair, checksum)
    if same:
        yield Saved(pair, None, checksum, tracks)
        return
    noted = None if job.review is None else note_written(pair.target, labels, job.review)
    record = write_corrected(pair.output, pair.name, labels, job.made)
    if noted is not None:
        noted(*_written_to(pair))
    yield Saved(pair, record, checksum, tracks)


def _written_to(pair: OpenPair) -> tuple[Path, ...]:
    """Files by which corrections are known to be in a result; none stands for the result."""
    if not pair.is_zarr:
        return ()
    versions = LabelVersions(pair.target)
    return (versions.file_of(versions.last),)


def _count_parts(pair: OpenPair) -> Generator[Saved, None, None]:
    """Count the cells anew where a part was put back, see `widgets.correct.part_controller`.

    Table and picture follow when the image is left: measuring takes longer.
    """
    last = LabelVersions(pair.target).last
    if last <= (pair.checksum or 0):
        yield Saved(pair, None, last, due=pair.due)
        return
    record, problem = None, ""
    try:
        record = count_parts(pair.output, pair.name)
    except UserError as error:
        problem = str(error)
    yield Saved(pair, record, last, None, problem, due=True, all_of_it=False)


def _follow_parts(
    pair: OpenPair, later: threading.Event
) -> Generator[Saved | Following, None, None]:
    """Bring up to date what belongs to cells of which parts were put back.

    Where napari is closed meanwhile, or the user has it follow later, it ends with the next step,
    and is due the next time.

    Nothing is lost where that fails: the parts are on the disk. So it is said, and no other image
    has to wait for it.
    """
    last = LabelVersions(pair.target).last
    if last <= (pair.checksum or 0) and not pair.due:
        yield Saved(pair, None, last)
        return
    try:
        steps, told = following_parts(pair.output, pair.name), 0.0
        with contextlib.closing(steps):
            while True:
                try:
                    done = next(steps)
                except StopIteration as end:
                    followed: PartsFollowed = end.value
                    break
                if later.is_set():
                    noted = read_unit_record(pair.output / f"{pair.name}.json")
                    yield Saved(pair, noted, last, None, due=True, all_of_it=False, left=True)
                    return
                if time.monotonic() >= told + _OFTEN:
                    told = time.monotonic()
                    yield Following(pair.name, done)
    except UserError as error:
        if pair.name not in read_marks(pair.output).corrected:
            raise
        said = (
            f"What you put back into {pair.name} is on the disk, but its table, its picture and "
            f"the number of cells in the list do not follow. {error} Then press Save."
        )
        record = read_unit_record(pair.output / f"{pair.name}.json")
        yield Saved(pair, record, last, None, said, due=True)
        return
    yield Saved(pair, followed.record, last, None, followed.problem)


def _check_unchanged(pair: OpenPair, checksum: int) -> None:
    """Refuse where the file holds other cells by now than those that were opened.

    Another napari, or a batch, wrote them; nobody saw them beside the image here.

    Raises
    ------
    UserError
    """
    if pair.checksum is None or not pair.target.exists():
        return
    if digest_in_file(cells_in(pair.target)) not in (pair.checksum, checksum):
        raise UserError(
            f"{pair.target} holds other cells than when you opened it: another napari or a batch "
            "replaced them. Nothing was saved or approved, and yours stay open. Export them to a "
            "file of their own if you need them, remove their layer, and open the image again."
        )


def _only_save(
    save: Callable[[], Generator[Saved | Following, None, None]], stop: threading.Event
) -> Generator[object, None, None]:
    yield from save()


def _open(
    save: Callable[[], Generator[Saved | Following, None, None]],
    output: Path,
    row: Row,
    stop: threading.Event,
) -> Generator[object, None, None]:
    yield from save()
    yield read_pair(output, row)
    yield from Step
