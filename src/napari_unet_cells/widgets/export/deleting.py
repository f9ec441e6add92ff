"""Delete cells from the table of a large result, and bring them back. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.layers.metadata import CELLS
from napari_unet_cells.layers.protocols import Layer
from napari_unet_cells.segmentation.zarr_delete import (
    Covered,
    Deleted,
    DrawnBoxes,
    MadeAnew,
    delete_cell,
    take_back,
)
from napari_unet_cells.segmentation.zarr_table import TableState
from napari_unet_cells.widgets.export.cell_on_disk import DiskCell
from napari_unet_cells.widgets.export.values import is_part_of
from napari_unet_cells.widgets.runner import Job, Runner

#: Plane and id of a row of the table.
Key = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Changed:
    """A cell on the disk was deleted, or brought back.

    Attributes
    ----------
    key : tuple of int
    deleted : Deleted
    back : int
        Version by which it was brought back; 0 where it was deleted.
    levels : tuple of LabelLevel
        The labels as they are now.
    """

    key: Key
    deleted: Deleted
    back: int
    levels: tuple[LabelLevel, ...]

    @property
    def sentence(self) -> str:
        """Say what was done."""
        if self.back:
            return f"Cell {self.deleted.label:,} is back."
        return f"Cell {self.deleted.label:,} deleted; Ctrl+Z brings it back."


@dataclass(frozen=True)
class Kept:
    """A cell that was not brought back, as others lie where it was, or the result is another one.

    Attributes
    ----------
    key : tuple of int
    problem : str
    run : str or None
        That has made the result anew, see `LabelVersions.run`; None where none has.
    """

    key: Key
    problem: str
    run: str | None = None


class Deleting:
    """Deletes cells of an OME-Zarr one by one, and brings them back, the last one first.

    Parameters
    ----------
    folder : callable () -> Path
        The OME-Zarr.
    layers : callable () -> iterable of layers
        All layers of the viewer.
    runner : Runner
        Its answers come to `receive`. Its thread comes to its end also where napari is closed.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        layers: Callable[[], Iterable[Layer]],
        runner: Runner,
    ) -> None:
        self._folder, self._layers, self._runner = folder, layers, runner
        self._deleted: list[Changed] = []
        self._drawn = DrawnBoxes()
        #: Versions that were made here: of cells that went, and of cells that came back.
        self._went, self._came = set[int](), set[int]()
        #: Run whose cells these are.
        self._run = ""

    @property
    def gone(self) -> frozenset[Key]:
        """Rows of the cells that were deleted here and not brought back."""
        return frozenset(one.key for one in self._deleted)

    def problem(self) -> str:
        """Say why nothing can be changed now; empty where it can."""
        folder = self._folder()
        part = next((one.name for one in self._layers() if is_part_of(one, folder)), None)
        if part is None:
            return ""
        return (
            f"A part of these cells is being edited. Put '{part}' back first (page Correct), or "
            "delete the cell there."
        )

    def delete(
        self, key: Key, cell: DiskCell, n_before: int, stamp: tuple[int, int] | None = None
    ) -> str:
        """Delete a cell.

        Parameters
        ----------
        key : tuple of int
        cell : DiskCell
        n_before : int
            Axes of its plane that are not stored, see `LabelLevel.n_before`.
        stamp : (int, int), optional
            Of the table that its row was read from, see `delete_cell`.

        Returns
        -------
        str
            Why it is not done; else empty.
        """
        drawn = self._drawn
        return self._start(partial(_delete, self._folder(), key, cell, n_before, stamp, drawn))

    def take_back(self, n_before: int) -> str:
        """Bring the cell back that was deleted last; see `delete`.

        One that others lie over comes after all the rest, so that none is out of reach.
        """
        if not self._deleted:
            return "No cell was deleted here that could be brought back."
        return self._start(partial(_take_back, self._folder(), self._deleted[-1], n_before))

    def _start(self, job: Job) -> str:
        if self._runner.running:
            return ""  # a key that is held down; its row is chosen still
        problem = self.problem()
        if not problem:
            self._runner.start(job)
        return problem

    def look(self, run: str) -> None:
        """Forget what was deleted from labels of another run, whose ids are other cells now.

        Parameters
        ----------
        run : str
            That made the labels, see `LabelVersions.run`.
        """
        if run != self._run:
            self._deleted, self._went, self._came = [], set(), set()
            self._run = run

    def receive(self, event: Changed | Kept) -> str:
        """Note what a thread has done, and say it."""
        if isinstance(event, Kept) and event.run is not None:
            self.look(event.run)
            return event.problem
        if isinstance(event, Kept):
            # not given up: what lies over it may be gone once its turn comes again
            self._deleted.sort(key=lambda one: one.key != event.key)
            others = len(self._deleted) > 1
            return event.problem + " Ctrl+Z goes on to the cell before it." * others
        self.look(event.deleted.run)
        if event.back:
            self._deleted = [one for one in self._deleted if one.key != event.key]
            self._came.add(event.back)
        else:
            self._deleted.append(event)
            self._went.add(event.deleted.number)
        return event.sentence

    def sentence(self, state: TableState) -> str:
        """Say why a table is not true, in words of cells where all that changed them was this."""
        behind = set(state.behind)
        if not behind or behind - self._went - self._came:
            return state.problem()
        what = "deleted" if not behind & self._came else "deleted and brought back"
        return f"Out of date: cells were {what} since this table was written."


def _delete(
    folder: Path,
    key: Key,
    cell: DiskCell,
    n_before: int,
    stamp: tuple[int, int] | None,
    drawn: DrawnBoxes,
    stop: threading.Event,
) -> Generator[object, None, None]:
    deleted = delete_cell(folder, cell.plane[n_before:], cell.label, cell.box, stamp, drawn)
    yield Changed(key, deleted, 0, label_levels(folder, CELLS, n_before))


def _take_back(
    folder: Path, before: Changed, n_before: int, stop: threading.Event
) -> Generator[object, None, None]:
    try:
        number = take_back(folder, before.deleted)
    except Covered as covered:
        yield Kept(before.key, str(covered))
        return
    except MadeAnew as anew:
        yield Kept(before.key, str(anew), anew.run)
        return
    yield Changed(before.key, before.deleted, number, label_levels(folder, CELLS, n_before))
