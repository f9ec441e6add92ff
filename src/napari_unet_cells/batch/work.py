"""Do one unit of a batch, in whatever process: it needs nothing but the job that it is given."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from napari_unet_cells.batch.finished import Earlier, look_back
from napari_unet_cells.batch.one_image import OneImage, PixelsDone, result_paths
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.segment_files import problem_of
from napari_unet_cells.batch.units import Unit
from napari_unet_cells.engine.opening import open_network
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import make_folder
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.file_set import finish_sets
from napari_unet_cells.files.stamp import stamp_of
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.untrusted.unit_record import UnitRecord


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


@dataclass(frozen=True)
class Job:
    """One unit, and all that is needed to do it on another computer with the same folders."""

    unit: Unit
    output: Path
    model: Model
    request: Request


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
    """

    unit: Unit
    record: UnitRecord | None = None
    problem: str = ""
    before: bool = False
    why: str = ""


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
    results = result_paths(job.output / job.unit.name, card, job.request.table, True)
    finish_sets(results)
    return look_back(job.unit.path, results, job.model.sha256, job.request.decisive())


def done_before(job: Job, card: ModelCard) -> UnitDone | None:
    """Say that a unit needs no work: it was done before, or is known to fail; else None."""
    unit = job.unit
    if unit.problem:
        return UnitDone(unit, problem=unit.problem)
    try:
        found = earlier(job, card)
    except (UserError, OSError):
        return None  # the work will say it
    return None if found.record is None else UnitDone(unit, found.record, before=True)


def do(job: Job) -> UnitDone:
    """Do a unit, whatever happens: a problem of it is a sentence."""
    steps = step_by_step(job)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            done: UnitDone = end.value
            return done


def step_by_step(job: Job) -> Generator[PixelsDone, None, UnitDone]:
    """Do a unit as `do` does, and say how far it is."""
    try:
        return (yield from _steps(job))
    except Exception as error:
        return UnitDone(job.unit, problem=problem_of(error, job.output))


def _steps(job: Job) -> Generator[PixelsDone, None, UnitDone]:
    unit, request = job.unit, job.request
    if unit.problem:
        raise UserError(unit.problem)
    card = model_card(job.model)
    try:
        # Before it is read: who changes it meanwhile, has it done again.
        stamp = stamp_of(unit.path)
        found = earlier(job, card)
    except OSError as error:
        raise read_failure(unit.path, error) from error
    except UserError:
        if not request.overwrite:
            raise
        found = Earlier()
    if found.record is not None:
        return UnitDone(unit, found.record, before=True)
    target = job.output / unit.name
    make_folder(target.parent)
    request = replace(request, overwrite=request.overwrite or bool(found.why))
    segmenter = Segmenter(card, lambda card: open_network(card, request.runtime))
    image = OneImage(unit.path, target, card, request, stamp)
    written = yield from image.segment(segmenter)
    return UnitDone(unit, written.record, why=found.why)
