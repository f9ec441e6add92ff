"""Sessions that a napari left which was closed, or killed: what is offered, and what comes back.

Nothing is restored by halves: a state counts only if every region that it names is whole. Of a
session that holds none what can be read comes back, with a sentence that says what does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from operator import lt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Place, Review, describe_regions
from napari_unet_cells.corrections.autosave import (
    Session,
    adopt,
    window_of,
)
from napari_unet_cells.corrections.exported import NOT_EXPORTED, Coverage, coverage_of
from napari_unet_cells.corrections.session_files import (
    Damaged,
    File,
    Packed,
    discard,
    free_sessions,
    id_of,
    moved,
    owned,
    read_file,
    read_header,
    saves_in,
    sessions_folder,
    unlink,
)
from napari_unet_cells.corrections.times import when
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import INPUT
from napari_unet_cells.untrusted.rules import Malformed, printable
from napari_unet_cells.untrusted.session import SaveHeader

#: Bytes of all sessions together from which on the user is warned.
MUCH = 2 * 1024**3


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
    for folder in free_sessions():
        if saves_in(folder):
            summaries.append(_summary(folder))
        else:
            discard(folder)
    oldest = datetime.min.replace(tzinfo=datetime.now().astimezone().tzinfo)
    return sorted(summaries, key=lambda s: s.date or oldest, reverse=True)


def too_much(summaries: Iterable[Summary]) -> str:
    """Warn in a sentence where sessions take much space on the disk; else empty."""
    size = sum(summary.size for summary in summaries)
    if size <= MUCH:
        return ""
    return (
        f"All kept corrections take {size / 1024**3:.1f} GB in {sessions_folder()}. Restore and "
        "export, or discard, those that you no longer need."
    )


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
                exported=coverage_of(folder, header),
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
        See `description.describe`.
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
        adopt(self.review, self.session)


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
        labels[window_of(review.grid, place)] = packed.pixels(review.grid[place[1]].shape)
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
            made[window_of(grid, place)] = regions[place].pixels(grid[place[1]].shape)
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
