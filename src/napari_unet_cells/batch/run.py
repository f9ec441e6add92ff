"""Run a batch: find out what is done, have the rest done, and write the table and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_unet_cells.batch.one_image import PICTURE, PixelsDone, result_paths
from napari_unet_cells.batch.report import REPORT, Report, is_report, write_report
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.segment_files import spare_inputs
from napari_unet_cells.batch.together import is_huge, segment_together
from napari_unet_cells.batch.units import Units
from napari_unet_cells.batch.work import Job, Model, Note, Task, UnitDone, done_before
from napari_unet_cells.files import FileExists, make_folder
from napari_unet_cells.files.file_set import finish_all
from napari_unet_cells.files.tables import (
    TABLES,
    TablePart,
    check_table_kind,
    is_table,
    join_tables,
)
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.table import chosen_runtime

#: Does tasks in any order; gives `PixelsDone`, `Note`, and what each task returned.
Executor = Callable[[Sequence[Task]], Iterable[Any]]

#: Seconds from one report of a run that goes on to the next, and how much longer than it takes.
REPORT_EVERY, REPORT_SHARE = 60.0, 20.0


def here(tasks: Sequence[Task]) -> Iterator[Any]:
    """Do tasks in this process, one after another."""
    for task in tasks:
        yield (yield from task.steps())


@dataclass
class BatchRun:
    """One run of a batch.

    Parameters
    ----------
    units : Units
    output : Path
        Folder of the results, made where it is missing.
    model : str or Path
        Name of an installed model, or a `.keras` file.
    request : Request
    execute : callable
        Does the units that are left.
    reports : bool
        Write the table of all cells and the report; not where others do other parts at once.
    """

    units: Units
    output: Path
    model: str | Path
    request: Request = field(default_factory=Request)
    execute: Executor = here
    reports: bool = True
    #: How units ended, by their names.
    done: dict[str, UnitDone] = field(default_factory=dict, init=False)
    _card: ModelCard | None = field(default=None, init=False)
    _report_at: float = field(default=0.0, init=False)

    def events(self) -> Generator[PixelsDone | UnitDone | Note, None, None]:
        """Do all units that are not done.

        Yields
        ------
        PixelsDone
            While a unit is computed in this process.
        UnitDone
            Once for each unit, in the order in which they end; those that were done before first.
        Note
            Where there is something to be said of the run as a whole.

        Raises
        ------
        UserError
            Where the model, the folder or an option cannot be used, before anything is
            computed; and where nothing can be written any more.
        """
        jobs = self._prepared()
        yield from self._mention_others()
        left = []
        for job in jobs:
            done = done_before(job, self._known_card)
            if done is None:
                left.append(job)
            else:
                yield self._noted(done)
        yield from self._mention_kept()
        self._report("It goes on.")
        for event in self._work(left):
            if isinstance(event, UnitDone):
                yield self._noted(event)
                if event.problem:
                    make_folder(self.output)  # full, or gone? then all the others would fail too
                self._report_now_and_then()
            else:
                yield event

    def _work(self, jobs: Sequence[Job]) -> Iterator[Any]:
        """Have the jobs done: small images each by one worker, then huge ones by all of them."""
        alone = self.execute is here or self.request.format == "tiff"
        huge = [] if alone else [job for job in jobs if is_huge(job.unit.path)]
        small = [job for job in jobs if job not in huge]
        if small:
            yield from self.execute(small)
        for job in huge:
            yield (yield from segment_together(job, self.execute))

    def close(self) -> None:
        """Write the table of all cells and the report, of what is done.

        Raises
        ------
        UserError
            Where the disk refuses.
        """
        if self._card is None or not self.reports:  # it did not begin, or others go on
            return
        kind = self.request.table
        try:
            if self._table and (parts := self._parts(kind)):
                self._leave_out(join_tables(self.output / self._table, parts))
                self._join_others(kind)
        finally:
            self._report("It was stopped. The same command goes on where it was.")

    def _parts(self, kind: str) -> list[TablePart]:
        """Tables of the images that are done, of one kind."""
        return [
            TablePart(self._table_of(done, kind), {"image": done.unit.name, **done.unit.columns})
            for unit in self.units.units
            if (done := self.done.get(unit.name)) is not None and done.record is not None
        ]

    def _join_others(self, kind: str) -> None:
        """Write the tables of all cells anew that runs with another ``--table`` have left.

        They follow corrections, as those of each image do; not where one of these is not there.
        """
        for other in TABLES:
            target, parts = self.output / f"cells.{other}", self._parts(other)
            if other == kind or not all(is_table(part.path) for part in parts):
                continue
            if is_table(target) and (other != "parquet" or find_spec("pyarrow") is not None):
                join_tables(target, parts)

    def _leave_out(self, problems: Mapping[Path, str]) -> None:
        """List the images whose tables cannot be read as failed."""
        for name, done in list(self.done.items()):
            if done.record is not None and self._table_of(done) in problems:
                said = problems[self._table_of(done)]
                self.done[name] = replace(done, record=None, problem=said)

    @property
    def _known_card(self) -> ModelCard:
        assert self._card is not None, "it is known from `_prepared` on"
        return self._card

    @property
    def _table(self) -> str:
        return f"cells.{self.request.table}" if self._known_card.makes_cells else ""

    def _table_of(self, done: UnitDone, kind: str = "") -> Path:
        return self.output / f"{done.unit.name}_cells.{kind or self.request.table}"

    def _prepared(self) -> list[Job]:
        """Check what can be checked before anything is computed."""
        check_table_kind(self.request.table)
        chosen_runtime(self.request.runtime)
        card = find_model(self.model)
        output = self.output.absolute()
        kind = self.request.table
        units = self.units.units
        asked = [self.request.for_image(unit.path) for unit in units]
        results = [
            path
            for unit, request in zip(units, asked, strict=True)
            for path in result_paths(output / unit.name, card, request, True)
        ]
        table = output / f"cells.{kind}"
        spare_inputs([unit.path for unit in units], [*results, table, output / REPORT])
        make_folder(output)
        # A person may have put other files into a set than a batch writes, such as tracks.
        for folder in {path.parent for path in results}:
            finish_all(folder)
        if self.reports:
            self._refuse_others([output / REPORT, table])
        self._card = card
        model = Model.of(card)
        return [Job(unit, output, model, one) for unit, one in zip(units, asked, strict=True)]

    def _refuse_others(self, files: Sequence[Path]) -> None:
        """Refuse to replace a report or a table that is not ours; only we write both."""
        if self.request.overwrite or is_report(files[0]):
            return
        for path in files:
            if path.exists():
                raise FileExists(path)

    def _mention_others(self) -> Iterator[Note]:
        """Say that images of earlier runs will not be in the table and the report."""
        if not self.reports:
            return
        names = {unit.name for unit in self.units.units}
        others = sorted(
            path.stem
            for path in self.output.glob("*.json")
            if path.stem not in names and (self.output / f"{path.stem}{PICTURE}").exists()
        )
        if others:
            n = "1 image" if len(others) == 1 else f"{len(others)} images"
            yield Note(
                f"{self.output} holds results of {n} that you did not name now, such as "
                f"{others[0]}. They stay, but {REPORT} and the table of all cells are about the "
                "images of this run only."
            )

    def _mention_kept(self) -> Iterator[Note]:
        """Say which images stay as they are though they would begin anew."""
        kept = [name for name, done in self.done.items() if done.kept]
        if kept:
            one = len(kept) == 1
            stay = "1 image stays as it is" if one else f"{len(kept)} images stay as they are"
            yield Note(
                f"{stay}, such as {kept[0]}, because you approved or corrected what was found, "
                "although it would be segmented anew now (another image, model or option)."
            )

    def _noted(self, done: UnitDone) -> UnitDone:
        self.done[done.unit.name] = done
        return done

    def _report_now_and_then(self) -> None:
        """Write the report, unless that was a short time ago: it takes longer the more is done."""
        if time.monotonic() >= self._report_at:
            self._report("It goes on.")

    def _report(self, stopped: str) -> None:
        if not self.reports:
            return
        began = time.monotonic()
        report = Report(
            self._known_card,
            self.request.decisive(),
            self.units.units,
            self.done,
            self.units.problems,
            self._table,
            stopped,
        )
        write_report(self.output, report)
        now = time.monotonic()
        self._report_at = now + max(REPORT_EVERY, REPORT_SHARE * (now - began))
