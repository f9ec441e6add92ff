"""The process that does the batch of the dock: ``python -m ...batch.background_child FOLDER``.

It reads which images and options from the folder of the results, says how it goes on as frames on
its standard output, and ends when its input does: it was told to stop, or the window is gone. What
is half written then is removed; the next run goes on after it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from napari_unet_cells.batch.image_list import read_list
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import Units, find_units
from napari_unet_cells.batch.work import Job, Note, Task, UnitDone
from napari_unet_cells.engine.followed import serve
from napari_unet_cells.engine.frames import write_frame

#: It stands back for the window and for the child that segments what is looked at.
NICENESS = 10

#: Seconds between two reports of the progress within an image.
_EVERY = 0.1

#: On the command line: segment nothing, write the table and the report.
REPORT = "--report"

#: Images that one frame lists.
_A_FRAME = 200


def events_of(output: Path, report_only: bool = False) -> Iterator[dict[str, Any]]:
    """Do the batch of a folder, and say what happens as JSON holds it.

    Parameters
    ----------
    output : Path
        Of the results.
    report_only : bool
        Segment nothing; write the table of all cells and the report.

    Raises
    ------
    UserError
        Where it cannot begin, or nothing can be written any more.
    """
    chosen = read_list(output)
    units = find_units(chosen.named, output)
    yield from listed(units)
    execute = _none if report_only else _one_by_one
    run = BatchRun(units, output, chosen.model, chosen.request, execute)
    names = {unit.path: unit.name for unit in units.units}
    said_at = 0.0
    try:
        with closing(run.events()) as events:
            for event in events:
                if isinstance(event, PixelsDone) and event.fraction > 0:
                    if time.monotonic() < said_at:
                        continue
                    said_at = time.monotonic() + _EVERY
                yield _described(event, names)
    finally:
        run.close()


def _one_by_one(tasks: Sequence[Task]) -> Iterator[Any]:
    """Do tasks in this process, and say which one begins."""
    for task in tasks:
        assert isinstance(task, Job)
        yield PixelsDone(task.unit.path, 0.0)
        yield (yield from task.steps())


def _none(tasks: Sequence[Task]) -> Iterator[Any]:
    """Do nothing."""
    yield from ()


def listed(units: Units) -> Iterator[dict[str, Any]]:
    """Describe the images of a batch, and what is said of names that stand for none."""
    rows = [[unit.name, str(unit.path), unit.problem] for unit in units.units]
    for start in range(0, len(rows), _A_FRAME):
        yield {"event": "units", "units": rows[start : start + _A_FRAME], "first": start == 0}
    for sentence in units.problems:
        yield {"event": "missing", "text": sentence}
    for sentence in units.notes:
        yield {"event": "note", "text": sentence}


def _described(event: PixelsDone | UnitDone | Note, names: dict[Path, str]) -> dict[str, Any]:
    if isinstance(event, PixelsDone):
        return {"event": "pixels", "name": names[event.path], "fraction": event.fraction}
    if isinstance(event, Note):
        return {"event": "note", "text": event.text}
    record = event.record
    return {
        "event": "done",
        "name": event.unit.name,
        "problem": event.problem,
        "summary": "" if record is None else record.summary,
        "cells": None if record is None else record.cells,
        "before": event.before,
        "why": event.why,
        "kept": event.kept,
    }


def _say(output: Path, outbox: BinaryIO, report_only: bool) -> None:
    """Do the batch, and write what happens."""
    for event in events_of(output, report_only):
        write_frame(outbox, event)


if __name__ == "__main__":
    serve(partial(_say, Path(sys.argv[1]), report_only=REPORT in sys.argv[2:]), NICENESS)
