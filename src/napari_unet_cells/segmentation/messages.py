"""Sentences about a run: progress, full memory, result, how another model differs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.metrics import THRESHOLDS, compare
from napari_unet_cells.core.predict import MemoryFull
from napari_unet_cells.core.tracks import Tracks
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.part_run import FoundPart
from napari_unet_cells.segmentation.result import Result


def describe_start(diameter: float) -> str:
    """Say what a run looks for, such as "Looking for cells of about 19 px.".

    Parameters
    ----------
    diameter : float
        Of a cell, in pixels; 0 where it is not known.
    """
    return f"Looking for cells of about {diameter:.0f} px." if diameter else "Segmenting."


def describe_progress(done: int, total: int, seconds: float) -> str:
    """Give progress and remaining time, such as "37 % - 4 s left".

    Parameters
    ----------
    done, total : int
        Pixels.
    seconds : float
        Since the first tile was sent.
    """
    percent = f"{100 * done // total} %"
    if not 0 < done < total:
        return percent
    left = seconds * (total - done) / done
    return f"{percent} - {describe_duration(left)} left"


def describe_left(fraction: float, seconds: float) -> str:
    """Give a part that is done and the time that is left, as `describe_progress`."""
    percent = f"{100 * fraction:.0f} %"
    return f"{percent} - {describe_duration(seconds)} left" if seconds else percent


def describe_tracks(tracks: Tracks) -> str:
    """Count tracks and divisions, such as "57 tracks with 12 divisions"."""
    n, divisions = len(tracks), tracks.n_divisions
    said = f"{n} track{'' if n == 1 else 's'}"
    return f"{said} with {divisions} division{'' if divisions == 1 else 's'}" if divisions else said


def describe_memory(event: MemoryFull) -> str:
    """Give tile size and device that a run goes on with after the memory was full."""
    return (
        f"The memory was full; the run went on in tiles of {event.tile} pixels on "
        f"{event.network.device}."
    )


def describe_result(result: Result) -> str:
    """Give the result of a run, such as "214 cells in 1.9 s on CPU, 2 threads"."""
    planes = "" if result.classes.ndim == 2 else f", {len(_flat(result.classes))} planes,"
    part = " in the part" if result.details.parts else ""
    time = f"{describe_duration(result.seconds, digits=1)} on {result.device}"
    made = f"{_made(result)}{part}{planes} in {time}"
    if result.cells is not None and result.n_cells == 0:
        return f"{made}. Is the right channel chosen, and are cells visible in it?"
    notes = []
    if result.cells is not None and result.cells.dtype == np.uint32:
        notes.append("So many ids need 32 bits, which napari redraws more slowly.")
    if result.details.diameter_unsure:
        doubt = describe_doubt(result.details)
        notes.append(
            f"{doubt} If the outlines are wrong, type the cell size, or draw the circle beside it "
            "onto a cell, and segment again."
        )
    return ". ".join([made, *([" ".join(notes)] if notes else [])])


def describe_part(found: FoundPart, n_cells: int, is_change: bool) -> str:
    """Give the end of a run on a part, such as "12 cells in the part, 214 in all, in 0.4 s".

    Parameters
    ----------
    found : FoundPart
    n_cells : int
        Of the whole result.
    is_change : bool
        Whether the labels differ from what they were.
    """
    details, cells = found.details, found.cells
    time = f"{describe_duration(details.seconds or 0.0, digits=1)} on {details.device}"
    if cells is None:
        made = f"{len(details.card.classes)} classes in the part in {time}"
    else:
        n = describe_count(int(np.count_nonzero(cells.taken)))
        made = f"{n} in the part, {n_cells} in all, in {time}"
    return f"{made}. {'Ctrl+Z takes this back.' if is_change else 'Nothing changed.'}"


def describe_doubt(details: RunDetails) -> str:
    """Say that the cell diameter is a guess, such as "The cell size of 12 px is a guess."."""
    other = details.other_diameter
    rival = f"; it may be {other:.0f} px" if other else ""
    return f"The cell size of {details.diameter:.0f} px is a guess{rival}."


def describe_difference(before: NDArray[Any], after: NDArray[Any], model: str) -> str:
    """Count the cells in which a result and those of another model differ.

    Parameters
    ----------
    before, after : integer arrays, (..., y, x)
        Cells that overlap by an IoU of 0.9 or more count as the same.
    model : str
        Name of the model that found `after`.
    """
    planes = zip(_flat(before), _flat(after), strict=True)
    scores = [compare(old, new) for old, new in planes]
    same = sum(score.tp[THRESHOLDS.index(0.9)] for score in scores)
    old, new = (sum(getattr(s, name) for s in scores) for name in ("n_true", "n_predicted"))
    return (
        f"{model} finds {describe_count(new)}, the result has {old}. The same in both: {same}. "
        f"Without a match: {new - same} of {model}, {old - same} of the result."
    )


def _made(result: Result) -> str:
    if result.cells is None:
        return f"{len(result.details.card.classes)} classes"
    return describe_count(result.n_cells)


def describe_count(n: int) -> str:
    """Give a number of cells with its noun, such as "1 cell"."""
    return "1 cell" if n == 1 else f"{n} cells"


def _flat(classes: NDArray[Any]) -> NDArray[Any]:
    return classes.reshape(-1, *classes.shape[-2:])


def describe_duration(seconds: float, digits: int = 0) -> str:
    """Give a time, such as "1.9 s" or "3 min 20 s"."""
    if seconds < 60:
        return f"{max(seconds, 10**-digits):.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
