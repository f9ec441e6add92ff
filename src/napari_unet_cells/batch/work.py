"""Do one unit of a batch, in whatever process: it needs nothing but the job that it is given."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from napari_unet_cells.batch.finished import Earlier, kept_by_user, look_back, put_record_back
from napari_unet_cells.batch.marks import MarksThen, UnreadableMarks, read_marks
from napari_unet_cells.batch.one_image import OneImage, PixelsDone, result_paths
from napari_unet_cells.batch.one_zarr import OneZarr
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.segment_files import problem_of
from napari_unet_cells.batch.units import Unit
from napari_unet_cells.core.generators import result_of
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, make_folder
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.file_set import finish_sets
from napari_unet_cells.files.stamp import stamp_of
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.untrusted.unit_record import Stamp, UnitRecord


@dataclass(frozen=True)
class Model:
    """A model as every worker finds it: by its file, else by its name."""

    path: Path
    name: str
    sha256: str

    @classmethod
    def of(cls, card: ModelCard) -> Model:
        """Give that of a card."""
        return cls(card.path.absolute(), card.name, card.sha256)


class Task(Protocol):
    """Work for an executor: done in any process, and whatever happens it says how it ended."""

    @property
    def name(self) -> str:
        """Name, which no other task has."""

    @property
    def output(self) -> Path:
        """Folder of the results, which a worker must see."""

    @property
    def model(self) -> Model:
        """Model that a worker must have."""

    def steps(self) -> Generator[PixelsDone, None, Any]:
        """Do it step by step, and return how it ended; no exception comes out."""

    def failed(self, problem: str) -> Any:
        """Say that it could not be done."""


@dataclass(frozen=True)
class Job:
    """One unit, and all that is needed to do it on another computer with the same folders."""

    unit: Unit
    output: Path
    model: Model
    request: Request

    @property
    def name(self) -> str:
        """Name of the unit."""
        return self.unit.name

    def steps(self) -> Generator[PixelsDone, None, UnitDone]:
        """Do it; a problem becomes a sentence."""
        try:
            return (yield from _steps(self))
        except FileExists as error:  # another run may have been faster
            done = done_before(self, model_card(self.model))
            return done or self.failed(problem_of(error, self.output))
        except Exception as error:
            return self.failed(problem_of(error, self.output))

    def failed(self, problem: str) -> UnitDone:
        """Say that it could not be done."""
        return UnitDone(self.unit, problem=problem)


@dataclass(frozen=True)
class UnitDone:
    """A unit was done, now or before, or failed.

    Attributes
    ----------
    unit : Unit
    record : UnitRecord or None
        None where there was a problem.
    problem : str
        A sentence, empty where all went well.
    before : bool
        It was done by an earlier run.
    why : str
        Why it began anew; empty where it did not.
    kept : str
        See `Earlier`.
    """

    unit: Unit
    record: UnitRecord | None = None
    problem: str = ""
    before: bool = False
    why: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Note:
    """A sentence for the user about the run as a whole."""

    text: str


@lru_cache(maxsize=1)
def model_card(model: Model) -> ModelCard:
    """Find a model, once a process.

    Raises
    ------
    UserError
        Where it is not there, or is another one.
    """
    card = find_model(model.path if model.path.is_file() else model.name)
    if card.sha256 != model.sha256:
        raise UserError(
            f"The model {model.name} is another one here, {card.path} (sha256 {card.sha256[:12]} "
            f"instead of {model.sha256[:12]}). Copy the same file to every computer."
        )
    return card


def earlier(job: Job, card: ModelCard) -> Earlier:
    """Find out what an earlier run left of a unit; see `look_back` for the errors."""
    results = result_paths(job.output / job.unit.name, card, job.request, True)
    finish_sets(results if job.request.format == "tiff" else results[-2:])
    settings = job.request.decisive(card)
    try:
        found = look_back(job.unit.path, results, job.model.sha256, settings)
    except UserError:
        if (kept := _kept(job, results)) is None:
            raise
        return kept
    return found if found.record is not None else _kept(job, results) or found


def _kept(job: Job, results: list[Path]) -> Earlier | None:
    """Give the results that a person marked, whatever the settings are now."""
    marks, overwrite = read_marks(job.output), job.request.overwrite
    kept = kept_by_user(job.unit.path, results, marks, job.unit.name, overwrite)
    if kept is not None:  # a run was begun before, and will not go on
        put_record_back(results[-1])
    return kept


def done_before(job: Job, card: ModelCard) -> UnitDone | None:
    """Say that a unit needs no work: it was done before, or is known to fail; else None."""
    unit = job.unit
    if unit.problem:
        return UnitDone(unit, problem=unit.problem)
    try:
        found = earlier(job, card)
    except (UserError, OSError):
        return None  # the work will say it
    if found.record is None:
        return None
    return UnitDone(unit, found.record, before=True, kept=found.kept)


def do(task: Task) -> Any:
    """Do a task, and say how it ended."""
    return result_of(task.steps())


def _steps(job: Job) -> Generator[PixelsDone, None, UnitDone]:
    found = begin(job)
    if found.record is not None:
        return UnitDone(job.unit, found.record, before=True, kept=found.kept)
    card = model_card(job.model)
    segmenter = Segmenter(card, lambda card: open_network(card, job.request.runtime))
    if job.request.format == "ome-zarr":
        written = yield from zarr_of(job, found).segment(segmenter.open(card))
    else:
        request = _replacing(job, found)
        unmarked = found.marks.unchanged
        image = OneImage(job.unit.path, _target(job), card, request, found.stamp, unmarked)
        written = yield from image.segment(segmenter)
    return UnitDone(job.unit, written.record, why=found.why)


@dataclass(frozen=True)
class Begun(Earlier):
    """Rest of an earlier run of a unit that is about to be done, its image, and its marks."""

    stamp: Stamp = field(default_factory=lambda: Stamp(0, 0))
    marks: MarksThen = field(default_factory=lambda: MarksThen(Path(), "", "", ""))


def begin(job: Job) -> Begun:
    """Look at the image and at what an earlier run left, and make the folder of the results.

    Raises
    ------
    UserError
        Where the unit cannot be done.
    """
    unit = job.unit
    if unit.problem:
        raise UserError(unit.problem)
    card = model_card(job.model)
    marks = MarksThen.read(job.output, unit.name)
    try:
        # Before it is read: who changes it meanwhile, has it done again.
        stamp = stamp_of(unit.path)
        found = earlier(job, card)
    except OSError as error:
        raise read_failure(unit.path, error) from error
    except UserError as error:
        if not job.request.overwrite or isinstance(error, UnreadableMarks):
            raise
        found = Earlier()
    make_folder(_target(job).parent)
    return Begun(found.record, found.why, found.begun, found.kept, stamp, marks)


def zarr_of(job: Job, found: Begun) -> OneZarr:
    """Give the image of a job as one that is written as an OME-Zarr."""
    card, request = model_card(job.model), _replacing(job, found)
    begun, unmarked = found.begun, found.marks.unchanged
    return OneZarr(job.unit.path, _target(job), card, request, found.stamp, begun, unmarked)


def _replacing(job: Job, found: Begun) -> Request:
    overwrite = job.request.overwrite or found.may_replace
    return replace(job.request, overwrite=overwrite)


def _target(job: Job) -> Path:
    return job.output / job.unit.name
