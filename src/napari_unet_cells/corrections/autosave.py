"""Corrections of a labels layer, kept on the disk while they are made.

Every labels layer that is corrected has a session, a folder of its own. What the run made
is written once; after that each save is one new file with the regions that changed since,
and the list of the files in which the other regions lie::

    sessions/20261103-173200-a1b2c3.4711-1793727120/     name, owner: process and its start
        made.labels          every region as the run made it
        save-000001.labels   regions 3, 4         state 1:  3 in 1, 4 in 1
        save-000002.labels   region 4             state 2:  3 in 1, 4 in 2
        save-000003.labels   (4 was undone)       state 3:  3 in 1

    a file:  magic | length, checksum | header: JSON, deflated | regions, zstd

Where the program replaces what was not corrected (the adjust controls, another run), what it
made is written once more, as `made-000004.labels`, before the save that names it.

A file appears whole or not at all and is never changed, so a process that is killed at any
moment leaves the state of its last save. A state counts only if every region that it names
is there with the checksum that it names: what is read is one state, never parts of two.

After `SAVES_A_BASE` saves comes one that holds all regions, a base. What is older than the
base before it is deleted; so there are always two from which the work can be restored.

Nothing here is deleted because it is old. A session goes when the user discards it, or when
nothing is left in it that differs from what the run made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from operator import lt
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import (
    PackedLabels,
    Place,
    RegionGrid,
    Review,
    describe_regions,
)
from napari_unet_cells.corrections.exported import NOT_EXPORTED, Coverage, Written, begun_from
from napari_unet_cells.corrections.exported import add as add_exports
from napari_unet_cells.corrections.exported import read as read_exports
from napari_unet_cells.corrections.session_files import (
    DELETED,
    FORMAT,
    MADE,
    Damaged,
    File,
    Packed,
    id_of,
    is_free,
    made_name,
    moved,
    owned,
    plain,
    read_file,
    read_header,
    saves_in,
    sessions_folder,
    unlink,
    unlink_unused,
    write_file,
)
from napari_unet_cells.corrections.times import when
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.records import jsonable
from napari_unet_cells.layers.image_planes import pixels_of
from napari_unet_cells.layers.metadata import INPUT, OURS, file_of
from napari_unet_cells.layers.protocols import ImageLayer, Layer, SavedLayer
from napari_unet_cells.layers.selection import source_image
from napari_unet_cells.layers.transforms import describe_transform
from napari_unet_cells.untrusted.rules import Malformed, printable
from napari_unet_cells.untrusted.session import SaveHeader

#: Saves from one that holds all regions to the next.
SAVES_A_BASE = 20

#: Bytes of all sessions together from which on the user is warned.
MUCH = 2 * 1024**3


class NotSaved(UserError):
    """The disk refused a save; the next one holds what this one should have."""


# --- saving ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """Content of one save, taken in the thread that paints labels and written in another.

    Attributes
    ----------
    baseline : PackedLabels
        The labels as the program made them.
    values : mapping
        `Review.as_dict` at that moment.
    description : mapping
        See `describe`.
    dtype : numpy.dtype
        Of the labels.
    regions : mapping of Place to integer array, (y, x)
        Copies of the regions that may have changed.
    """

    baseline: PackedLabels
    values: Mapping[str, Any]
    description: Mapping[str, Any]
    dtype: np.dtype[Any]
    regions: Mapping[Place, NDArray[Any]]

    @classmethod
    def take(
        cls,
        labels: NDArray[Any],
        review: Review,
        places: Iterable[Place],
        description: Mapping[str, Any],
    ) -> Snapshot:
        """Copy regions of labels (..., y, x)."""
        copies = {place: copy_of(labels, review, place) for place in places}
        return cls(review.baseline, review.as_dict(), description, labels.dtype, copies)


def copy_of(labels: NDArray[Any], review: Review, place: Place) -> NDArray[Any]:
    """Copy a region (y, x) of labels (..., y, x)."""
    copy: NDArray[Any] = labels[_window(review.grid, place)].copy()
    return copy


class Session:
    """Corrections of one labels layer, in memory (compressed) and on the disk.

    It makes its folder with the first correction, and again where that was taken away.
    Any thread may save, one at a time.

    Attributes
    ----------
    folder : Path or None
        None as long as nothing was corrected.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._edited: dict[Place, Packed] = {}
        self._where: dict[Place, int] = {}
        self._base = 0
        self._since_base = 0
        self._written: Any = None
        #: What `_edited` differs from, and the file that holds it.
        self._baseline: PackedLabels | None = None
        self._made = ""
        self._retired = False
        #: Exports that no file of the folder names yet.
        self._exports: list[Written] = []
        self._lock = threading.Lock()

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs from what the run made."""
        return not self._edited

    def is_current(self, review: Review) -> bool:
        """Whether what the program made is still what was last saved of it."""
        return self._baseline is None or self._baseline is review.baseline

    def changed(
        self, labels: NDArray[Any], review: Review, places: Iterable[Place]
    ) -> Iterator[Place]:
        """Find regions that differ from the last save.

        Any thread may ask, also while somebody paints: then a region may be given that is
        the same again, and one that is painted on after the look needs another look.

        Parameters
        ----------
        labels : integer array, (..., y, x)
        review : Review
            Of these labels.
        places : iterable of Place
            Where to look.

        Yields
        ------
        Place
        """
        for place in places:
            now = labels[_window(review.grid, place)]
            if not np.array_equal(now, self._last(review.baseline, place)):
                yield place

    def save(
        self,
        labels: NDArray[Any],
        review: Review,
        places: Iterable[Place] | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> bool:
        """Save labels that nobody paints on meanwhile; see `write`.

        Parameters
        ----------
        labels : integer array, (..., y, x)
        review : Review
            Of these labels.
        places : iterable of Place, optional
            Where something may have changed; everywhere by default.
        description : mapping, optional
            See `describe`.
        """
        found = list(self.changed(labels, review, review if places is None else places))
        return self.write(Snapshot.take(labels, review, found, description or {}))

    def write(self, snapshot: Snapshot, stop: threading.Event | None = None) -> bool:
        """Save what differs from the last save, in one file.

        Where nothing is left that differs from what the run made, and nothing is approved,
        the session is deleted.

        Parameters
        ----------
        snapshot : Snapshot
        stop : threading.Event, optional
            Once it is set nothing is written: somebody else saves a newer state.

        Returns
        -------
        bool
            Whether there was anything to save.

        Raises
        ------
        NotSaved
            Where the disk refuses. The next call saves this as well.
        """
        with self._lock:
            if self._retired or (stop is not None and stop.is_set()):
                return False
            self._take(snapshot)
            if not self._edited and not snapshot.values["approved"]:
                return self._delete()
            crcs = {place: packed.crc for place, packed in self._edited.items()}
            values, baseline = snapshot.values["approved"], snapshot.baseline
            state = (crcs, values, snapshot.description, snapshot.dtype, baseline)
            if state == self._written and self.folder is not None and self.folder.is_dir():
                return False
            try:
                self._publish(snapshot)
            except (OSError, UserError) as error:
                raise _not_saved(snapshot.description, error) from error
            self._written = state
            return True

    def resume(
        self,
        folder: Path,
        edited: Mapping[Place, Packed],
        where: Mapping[Place, int],
        baseline: PackedLabels,
        made: str,
    ) -> None:
        """Continue in a folder that was restored; `made` is the file of the baseline."""
        self.folder, self._edited, self._where = folder, dict(edited), dict(where)
        self._baseline, self._made = baseline, made
        self._since_base = len(saves_in(folder))

    def claim(self) -> None:
        """Name this process as owner of the folder; where another has it, a new one is made."""
        with self._lock:
            self._retired = False
            if self.folder is not None:
                self.folder = moved(self.folder, owned(id_of(self.folder)))

    def release(self) -> None:
        """Stop saving; the folder is offered for restoring."""
        with self._lock:
            self._retired = True
            if self.folder is not None:
                # where that fails it is offered after the end of this process
                self.folder = moved(self.folder, id_of(self.folder)) or self.folder

    def discard(self) -> None:
        """Stop saving, and delete what is on the disk."""
        with self._lock:
            self._retired = True
            self._delete()

    def note_written(self, written: Written) -> None:
        """Remember that the labels were exported; where that is all, they are not offered."""
        with self._lock:
            self._exports.append(written)
            if self.folder is not None and self.folder.is_dir():
                self._write_exports(self.folder)

    @property
    def exports(self) -> tuple[Written, ...]:
        """Exports of it, the oldest first."""
        with self._lock:
            return self._all_exports()

    def _all_exports(self) -> tuple[Written, ...]:
        on_disk = () if self.folder is None else read_exports(self.folder)
        return (*on_disk, *self._exports)

    def _write_exports(self, folder: Path) -> None:
        if self._exports:
            add_exports(folder, self._exports)
            self._exports = []

    def _last(self, baseline: PackedLabels, place: Place) -> NDArray[Any]:
        """Give a region of the last save; without one, of the baseline."""
        packed = self._edited.get(place)
        if packed is None:
            return (self._baseline or baseline)[place]
        return packed.pixels(baseline.grid[place[1]].shape)

    def _take(self, snapshot: Snapshot) -> None:
        """Keep what changed, compressed; a region that was undone is not kept."""
        baseline = snapshot.baseline
        changed = dict(snapshot.regions)
        if self._baseline is not None and self._baseline is not baseline:
            # Where nothing was copied, the labels are those of the last save.
            moved_on = baseline.differing(self._baseline)
            rest = {place: self._last(baseline, place) for place in moved_on}
            changed = rest | changed
            for place in rest.keys() - self._edited.keys():
                self._edited[place] = Packed.of(rest[place])
            self._made = ""
        self._baseline = baseline
        for place, pixels in changed.items():
            if np.array_equal(pixels, baseline[place]):
                self._edited.pop(place, None)
                self._where.pop(place, None)
            elif not np.array_equal(pixels, self._last(baseline, place)):
                self._edited[place] = Packed.of(pixels)
                self._where.pop(place, None)

    def _publish(self, snapshot: Snapshot) -> None:
        """Write one file; every number is used once."""
        folder = self._ready_folder(snapshot)
        saves = saves_in(folder)
        number = max(saves, default=0) + 1
        self._write_made(folder, number, snapshot.baseline)
        self._where = {place: n for place, n in self._where.items() if n in saves}
        is_base = not self._where or self._since_base >= SAVES_A_BASE
        regions = {p: e for p, e in self._edited.items() if is_base or p not in self._where}
        where = self._where | dict.fromkeys(regions, number)
        header = {
            **({} if self._made == MADE else {"format": FORMAT, "made": self._made}),
            "number": number,
            "date": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "shape": _shape(snapshot.baseline),
            "dtype": snapshot.dtype.str,
            "facts": snapshot.description,
            "review": snapshot.values,
            "state": [[*plain(p), where[p], packed.crc] for p, packed in self._edited.items()],
        }
        write_file(folder / f"save-{number:06d}.labels", header, regions)
        self._write_exports(folder)
        self._where = where
        self._since_base += 1
        if is_base:
            unlink(path for n, path in saves.items() if n < self._base)
            unlink_unused(folder)
            self._base, self._since_base = number, 0

    def _ready_folder(self, snapshot: Snapshot) -> Path:
        """Give the folder; a new one where it was taken away."""
        if self.folder is None or not self.folder.is_dir():
            now = datetime.now()
            name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            self.folder, self._where, self._base = sessions_folder() / owned(name), {}, 0
            self._made = ""
            self.folder.mkdir(parents=True)
        return self.folder

    def _write_made(self, folder: Path, number: int, baseline: PackedLabels) -> None:
        """Write what the program made, where no file of the folder holds it."""
        if self._made and (folder / self._made).exists():
            return
        name = self._made or (made_name(number) if (folder / MADE).exists() else MADE)
        # left by a process that was killed before the save that it was written for
        unlink([folder / name])
        write_file(
            folder / name,
            {"shape": _shape(baseline), "dtype": baseline.dtype.str},
            {place: Packed.of(baseline[place]) for place in baseline.regions},
        )
        self._made = name

    def _delete(self) -> bool:
        if self.folder is None:
            return False
        # An earlier result may come back, which was exported.
        self._exports = list(self._all_exports())
        discard(self.folder)
        self.folder, self._where, self._written = None, {}, None
        self._baseline, self._made = None, ""
        return True


def _window(grid: RegionGrid, place: Place) -> tuple[int | slice, ...]:
    """Index of a region in labels (..., y, x)."""
    return (*place[0], *grid[place[1]].slices)


def _shape(baseline: PackedLabels) -> list[int]:
    return [*baseline.planes, *baseline.grid.shape]


def _not_saved(description: Mapping[str, Any], error: OSError | UserError) -> NotSaved:
    cause = error if isinstance(error, OSError) else error.__cause__
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
    return NotSaved(
        f"The corrections of '{description.get('name', 'a layer')}' could not be kept on the disk: "
        f"{why} (folder {sessions_folder()}). Until that is repaired save the labels by hand: "
        "File > Save Selected Layers. They are whole in the window, and it is tried again."
    )


# --- which session belongs to which labels -----------------------------------------------

_sessions: WeakKeyDictionary[Review, Session] = WeakKeyDictionary()


def session_of(review: Review) -> Session:
    """Return the session of a review, which follows the review from layer to layer."""
    return _sessions.setdefault(review, Session())


def note_written(
    path: Path,
    labels: NDArray[Any],
    review: Review,
    approved: Iterable[Place] | None = None,
) -> Callable[..., None]:
    """Take what labels are before they are written; call the answer when they were.

    Parameters
    ----------
    path, labels, review, approved
        See `exported.Written.of`. Any thread may call both. The answer takes the files that were
        written, where there are others than `path`.
    """
    written = Written.of(path, labels, review, approved)
    earlier = [] if approved is not None else begun_from(_free_sessions(), path, review.baseline)

    def done(*files: Path) -> None:
        finished = written.done(*files)
        session_of(review).note_written(finished)
        for folder, before in earlier:
            add_exports(folder, [replace(before, files=finished.files)])

    return done


def describe(
    layer: SavedLayer, layers: Iterable[Layer], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe a labels layer so that it can be made again.

    Parameters
    ----------
    layer : napari labels layer
    layers : iterable of layers
        Of the viewer.
    before : mapping, optional
        The last description; it knows the image also after that was removed.

    Returns
    -------
    dict
        As JSON holds it: ``name``; ``place``, the arguments of `add_labels` that put it in
        the world; ``metadata``, ours; ``image``, the same for the image, None where nothing
        is known of it.
    """
    image = source_image(layer, layers)
    ours = (OURS, INPUT)
    described: dict[str, Any] = jsonable(
        {
            "name": layer.name,
            "place": describe_transform(layer),
            "metadata": {key: layer.metadata[key] for key in ours if key in layer.metadata},
        }
    )
    if image is not None:
        return described | {"image": _describe_image(image)}
    known = before.get("image") if before else None
    return described | {"image": known or _image_in_provenance(layer)}


def _describe_image(image: ImageLayer) -> dict[str, Any]:
    path = file_of(image)
    pixels = pixels_of(image)
    described: dict[str, Any] = jsonable(
        {
            "path": None if path is None else path.absolute(),
            "name": image.name,
            "shape": pixels.shape,
            "dtype": str(pixels.dtype),
            "place": describe_transform(image),
            "told": image.metadata.get(INPUT, {}),
            "reader": image.source.reader_plugin,
        }
    )
    return described


def _image_in_provenance(layer: SavedLayer) -> dict[str, Any] | None:
    source = layer.metadata.get(OURS, {}).get("provenance", {}).get("source", {})
    if "layer" not in source:
        return None
    kept: dict[str, Any] = jsonable({key: source.get(key) for key in ("path", "shape")})
    return kept | {"name": str(source["layer"])}


# --- restoring ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Summary of a session that nobody saves into, from its newest header.

    Attributes
    ----------
    folder : Path
    date : datetime or None
        Of the last save.
    name : str
        Of the image, else of the labels; empty where nothing can be read.
    n_edited, n_approved : int
        Regions.
    size : int
        Bytes on the disk.
    problem : str
        Why it cannot be restored; empty where it can.
    exported : Coverage
        How much of it was exported or saved.
    file : str
        Path of the labels, where they were opened from a file; else empty.
    """

    folder: Path
    date: datetime | None
    name: str
    n_edited: int
    n_approved: int
    size: int
    problem: str = ""
    exported: Coverage = NOT_EXPORTED
    file: str = ""

    def sentence(self, now: datetime | None = None) -> str:
        """Describe the session in a sentence for the user."""
        if self.problem or self.date is None:
            return f"Corrections in the folder {self.folder} cannot be restored: {self.problem}."
        done = [f"{describe_regions(self.n_edited)} edited"] if self.n_edited else []
        if self.n_approved:
            count = f"{self.n_approved}" if done else describe_regions(self.n_approved)
            done.append(f"{count} approved")
        corrections = f"You have corrections from {when(self.date, now)} of '{self.name}'"
        return f"{corrections} ({', '.join(done)}). {self.exported.sentence(now)}".strip()


def sessions() -> list[Summary]:
    """List the sessions that can be restored, the newest first; only headers are read.

    What a killed process left half deleted, or without any save, is deleted.
    """
    summaries = []
    for folder in _free_sessions():
        if saves_in(folder):
            summaries.append(_summary(folder))
        else:
            discard(folder)
    oldest = datetime.min.replace(tzinfo=datetime.now().astimezone().tzinfo)
    return sorted(summaries, key=lambda s: s.date or oldest, reverse=True)


def _free_sessions() -> list[Path]:
    """Folders of the sessions that no process saves into; what is half deleted goes."""
    folder = sessions_folder()
    found = []
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if name.startswith(DELETED):
            shutil.rmtree(folder / name, ignore_errors=True)
        elif is_free(folder / name):
            found.append(folder / name)
    return found


def too_much(summaries: Iterable[Summary]) -> str:
    """Warn in a sentence where sessions take much space on the disk; else empty."""
    size = sum(summary.size for summary in summaries)
    if size <= MUCH:
        return ""
    return (
        f"All kept corrections take {size / 1024**3:.1f} GB in {sessions_folder()}. Restore and "
        "export, or discard, those that you no longer need."
    )


def discard(folder: Path) -> None:
    """Delete a session that nobody saves into; killed meanwhile, it is gone all the same."""
    deleted = moved(folder, DELETED + folder.name)
    if deleted is not None:
        shutil.rmtree(deleted, ignore_errors=True)


def _summary(folder: Path) -> Summary:
    problem = "there is no save in it"
    with contextlib.suppress(OSError):
        size = sum(entry.stat().st_size for entry in os.scandir(folder))
    for path in saves_in(folder).values():
        try:
            header = read_header(path)
            description, image = header.facts, header.facts.get("image") or {}
            name = image.get("path") or image.get("name") or description.get("name") or ""
            return Summary(
                folder,
                header.date,
                printable(Path(name).name),
                len(header.state),
                len(header.review.approved),
                size,
                exported=_coverage(folder, header),
                file=_file_in(description),
            )
        except Damaged as damage:
            problem = str(damage)
    return Summary(folder, None, "", 0, 0, size, problem)


def _file_in(description: Mapping[str, Any]) -> str:
    """Path of the file that labels were opened from; empty where they were not."""
    given = description.get("metadata", {}).get(INPUT, {})
    path = given.get("path") if isinstance(given, Mapping) else None
    return path if isinstance(path, str) else ""


def _coverage(folder: Path, header: SaveHeader) -> Coverage:
    """Compare a save to what was exported of its session."""
    regions = {row.place: row.crc for row in header.state}
    there = [written for written in read_exports(folder) if written.is_there]
    return Coverage.of(there, regions, header.review.approved)


def discard_exported(summaries: Iterable[Summary]) -> None:
    """Delete sessions that lie in files whole, the oldest first, while all take much space."""
    found = list(summaries)
    size = sum(summary.size for summary in found)
    for summary in found[::-1]:
        if size > MUCH and summary.exported.complete:
            discard(summary.folder)
            size -= summary.size


@dataclass(frozen=True)
class Restored:
    """Content of a session that was restored.

    Attributes
    ----------
    session : Session
        It goes on where it ended; see `session_of` and `adopt`.
    labels : integer array, (..., y, x)
    review : Review
    description : mapping
        See `describe`.
    date : datetime
        Of the save.
    problem : str
        What could not be restored; empty where all could.
    """

    session: Session
    labels: NDArray[Any]
    review: Review
    description: Mapping[str, Any]
    date: datetime
    problem: str

    def adopt(self) -> None:
        """Save further corrections of the restored labels into their old session."""
        _sessions[self.review] = self.session


def restore(folder: Path) -> Restored:
    """Restore the newest whole state of a session.

    Without a whole one, what can be read of the newest.

    Parameters
    ----------
    folder : Path
        Of a session that nobody saves into; this process is its owner from now on.

    Raises
    ------
    UserError
        Where another process has it, or nothing can be read. The files stay as they are.
    """
    ours = moved(folder, owned(id_of(folder)))
    if ours is None and folder.is_dir():
        raise UserError(
            f"The corrections cannot be taken over: the folder {folder} may not be renamed. See "
            "that it may be written to, and is not open in another program."
        )
    if ours is None:
        raise UserError(
            f"The corrections in {folder} are not there any more: another napari restored or "
            "discarded them."
        )
    try:
        return _restored(ours)
    except (Damaged, Malformed, MemoryError) as damage:
        back = moved(ours, id_of(ours)) or ours
        raise UserError(
            f"The corrections in {back} cannot be read ({damage or 'the memory is full'}). The "
            "folder was left as it is; a copy of it from a backup may still be whole."
        ) from damage


@dataclass(frozen=True)
class _State:
    """One save with all regions that it names, as far as they are whole."""

    header: SaveHeader
    edited: Mapping[Place, Packed]
    where: Mapping[Place, int]
    n_damaged: int


def _restored(folder: Path) -> Restored:
    unlink(folder.glob(".*.part.labels"))  # of a process that was killed while it wrote
    saves = saves_in(folder)
    state, n_newer = _newest(saves)
    header = state.header
    made, n_lost = _made(folder / header.made, state)
    review = Review.restored(
        made, header.review.grid, header.review.approved, header.review.uncertainty
    )
    labels = made.astype(header.file.dtype.newbyteorder("="))
    n_damaged = state.n_damaged
    for place, packed in state.edited.items():
        labels[_window(review.grid, place)] = packed.pixels(review.grid[place[1]].shape)
    review.look(labels, state.edited)
    session = Session()
    # where a file is damaged, the next save holds all regions anew
    where = {} if n_newer or n_damaged else state.where
    session.resume(folder, state.edited, where, review.baseline, header.made)
    problem = _problem(header, n_newer, n_damaged, n_lost)
    return Restored(session, labels, review, header.facts, header.date, problem)


def _made(path: Path, state: _State) -> tuple[NDArray[Any], int]:
    """Give what the run made, and how many regions are lost: neither there nor corrected."""
    shape, grid = state.header.file.shape, state.header.review.grid
    dtype = state.header.file.dtype
    regions: Mapping[Place, Packed] = {}
    with contextlib.suppress(Damaged):
        file = read_file(path)
        dtype, regions = file.header.dtype, file.regions
    made = np.zeros(shape, dtype.newbyteorder("="))
    n_lost = 0
    for place in product(np.ndindex(shape[:-2]), range(len(grid))):
        try:
            made[_window(grid, place)] = regions[place].pixels(grid[place[1]].shape)
        except (KeyError, Damaged):
            n_lost += place not in state.edited
    return made, n_lost


def _problem(header: SaveHeader, n_newer: int, n_damaged: int, n_lost: int) -> str:
    """Describe what could not be restored."""
    problems = []
    noted = header.file.document.get("facts")
    if isinstance(noted, Mapping) and noted.get("place") and not header.facts.get("place"):
        problems.append("Where the labels lay is not readable, so they are shown in pixels.")
    if n_newer:
        problems.append(
            "The newest file of these corrections is damaged; restored is how they were "
            f"{when(header.date)}."
        )
    if n_damaged:
        problems.append(
            "Not readable, and shown as the run made them: "
            f"{describe_regions(n_damaged)} that you had corrected."
        )
    if n_lost:
        problems.append(
            f"Not readable, and empty: {describe_regions(n_lost)} that you had not corrected."
        )
    return " ".join(problems)


def _newest(saves: Mapping[int, Path]) -> tuple[_State, int]:
    """Give the newest whole state, else the newest one, and how many newer saves there are."""
    files: dict[int, File] = {}
    why = "it is empty"
    for number, path in saves.items():
        try:
            files[number] = read_file(path)
        except Damaged as damage:
            why = str(damage)
    states = [_state(file.save, files) for file in files.values() if file.save is not None]
    if not states:
        raise Damaged(f"no save in it is whole: {why}")
    state = next((s for s in states if s.n_damaged == 0), states[0])
    return state, sum(number > state.header.number for number in saves)


def _state(header: SaveHeader, files: Mapping[int, File]) -> _State:
    edited, where = {}, {}
    grid, planes = header.review.grid, header.file.shape[:-2]
    for row in header.state:
        packed = files[row.save].regions.get(row.place) if row.save in files else None
        plane, number = row.place
        is_there = len(plane) == len(planes) and all(map(lt, plane, planes)) and number < len(grid)
        if packed is not None and packed.crc == row.crc and is_there:
            edited[row.place], where[row.place] = packed, row.save
    return _State(header, edited, where, len(header.state) - len(edited))
