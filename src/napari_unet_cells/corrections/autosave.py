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

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
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
)
from napari_unet_cells.corrections.exported import Written, begun_from
from napari_unet_cells.corrections.exported import add as add_exports
from napari_unet_cells.corrections.exported import read as read_exports
from napari_unet_cells.corrections.session_files import (
    FORMAT,
    MADE,
    Packed,
    discard,
    free_sessions,
    id_of,
    made_name,
    moved,
    owned,
    plain,
    saves_in,
    sessions_folder,
    unlink,
    unlink_unused,
    write_file,
)
from napari_unet_cells.errors import UserError

#: Saves from one that holds all regions to the next.
SAVES_A_BASE = 20


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
        See `description.describe`.
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
    copy: NDArray[Any] = labels[window_of(review.grid, place)].copy()
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
            now = labels[window_of(review.grid, place)]
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
            See `description.describe`.
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


def window_of(grid: RegionGrid, place: Place) -> tuple[int | slice, ...]:
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


def adopt(review: Review, session: Session) -> None:
    """Save further corrections of a review into a session that goes on."""
    _sessions[review] = session


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
    earlier = [] if approved is not None else begun_from(free_sessions(), path, review.baseline)

    def done(*files: Path) -> None:
        finished = written.done(*files)
        session_of(review).note_written(finished)
        for folder, before in earlier:
            add_exports(folder, [replace(before, files=finished.files)])

    return done
