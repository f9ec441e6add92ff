"""Let all workers of a batch segment one huge image together, block by block.

::

    plan  ->  segment block 0, 1, 2, ...  ->  number  ->  write block 0, 1, 2, ...  ->  finish
    one       any worker, any order           one         any worker, any order         one
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_unet_cells.batch.marks import MarksThen
from napari_unet_cells.batch.one_image import PixelsDone, Written
from napari_unet_cells.batch.one_zarr import fraction
from napari_unet_cells.batch.segment_files import problem_of
from napari_unet_cells.batch.work import Job, Model, Task, UnitDone, begin, zarr_of
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.zarr_metadata import is_zarr, plane_pixels
from napari_unet_cells.segmentation.to_zarr import Work, number_units, segment_unit, write_unit

#: Pixels of a plane of an OME-Zarr, and bytes of another file, from which on an image is huge.
HUGE_PIXELS, HUGE_BYTES = 2**26, 2**28

#: Failed blocks after which the others are not begun.
_MOST_FAILED = 3


def is_huge(path: Path) -> bool:
    """Whether an image is worth the work of all workers; what cannot be read is not."""
    try:
        if is_zarr(path):
            return plane_pixels(path) >= HUGE_PIXELS
        return path.stat().st_size >= HUGE_BYTES
    except (UserError, OSError):
        return False


@dataclass(frozen=True)
class StepDone:
    """A step of one image was done, or failed.

    Attributes
    ----------
    value : object
        What the step returned.
    problem : str
        A sentence, empty where all went well.
    """

    value: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Step:
    """A step of one image as a task; see the head of this module.

    Attributes
    ----------
    job : Job
        Of the image.
    stage : str
    folder : Path
        Of `Work`.
    number : int
        Of the block, where the step is one of a block.
    seconds : float
        Since the image was begun, for the last step.
    marks : MarksThen or None
        When the image was begun, for the last step.
    """

    job: Job
    stage: str
    folder: Path = Path()
    number: int = 0
    seconds: float = 0.0
    marks: MarksThen | None = None

    @property
    def name(self) -> str:
        """Name of the unit, the stage and the block."""
        return f"{self.job.name} {self.stage} {self.number}"

    @property
    def output(self) -> Path:
        """See `Task`."""
        return self.job.output

    @property
    def model(self) -> Model:
        """See `Task`."""
        return self.job.model

    def steps(self) -> Generator[PixelsDone, None, StepDone]:
        """Do it; a problem becomes a sentence."""
        yield from ()
        try:
            return StepDone(_STAGES[self.stage](self))
        except Exception as error:
            return self.failed(problem_of(error, self.output))

    def failed(self, problem: str) -> StepDone:
        """Say that it could not be done."""
        return StepDone(problem=problem)


def _plan(step: Step) -> tuple[Work | Written, str, MarksThen]:
    found = begin(step.job)
    huge = zarr_of(step.job, found)
    return (huge.completed() if huge.is_there() else huge.plan()), found.why, found.marks


def _finish(step: Step) -> Written:
    found = begin(step.job)
    if step.marks is not None:  # as they were when the image was begun
        found = replace(found, marks=step.marks)
        zarr_of(step.job, found).refuse_marked()
    if found.begun is None:
        raise UserError(
            f"{step.job.unit.path} was changed while it was segmented. Run the same command again."
        )
    return zarr_of(step.job, found).finish(step.folder, step.seconds)


_STAGES: dict[str, Callable[[Step], Any]] = {
    "plan": _plan,
    "segment": lambda step: segment_unit(step.folder, step.number),
    "number": lambda step: number_units(step.folder),
    "write": lambda step: write_unit(step.folder, step.number),
    "finish": _finish,
}


def segment_together(
    job: Job, execute: Callable[[Sequence[Task]], Any]
) -> Generator[Any, None, UnitDone]:
    """Have one image done by all workers.

    Parameters
    ----------
    job : Job
    execute : callable
        See `run.Executor`.

    Yields
    ------
    PixelsDone, Note
    """
    started = time.monotonic()
    try:
        planned, why, marks = yield from _one(execute, Step(job, "plan"))
        if isinstance(planned, Written):
            return UnitDone(job.unit, planned.record, why=why)
        total, folder = planned.total, planned.folder
        yield from _all(execute, [Step(job, "segment", folder, n) for n in planned.todo], total)
        yield from _one(execute, Step(job, "number", folder))
        yield from _all(execute, [Step(job, "write", folder, n) for n in range(total)], total)
        seconds = time.monotonic() - started
        last = Step(job, "finish", folder, seconds=seconds, marks=marks)
        written: Written = yield from _one(execute, last)
        return UnitDone(job.unit, written.record, why=why)
    except UserError as error:
        return job.failed(str(error))


def _one(execute: Callable[[Sequence[Task]], Any], step: Step) -> Generator[Any, None, Any]:
    value = None
    for event in execute([step]):
        if isinstance(event, StepDone):
            value = _checked(event).value
        else:
            yield event
    return value


def _all(
    execute: Callable[[Sequence[Task]], Any], steps: Sequence[Step], total: int
) -> Iterator[Any]:
    """Have blocks done, and say how far they are; where some fail the others end soon."""
    done, problems = total - len(steps), list[str]()
    for event in execute(steps) if steps else ():
        if not isinstance(event, StepDone):
            yield event
            continue
        if event.problem:
            problems.append(event.problem)
            if len(problems) == _MOST_FAILED:
                break
            continue
        done += 1
        yield PixelsDone(steps[0].job.unit.path, fraction(steps[0].stage, done, total))
    if problems:
        more = f" {len(problems)} blocks failed so far." if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")


def _checked(done: StepDone) -> StepDone:
    if done.problem:
        raise UserError(done.problem)
    return done
