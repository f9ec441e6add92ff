"""Track the cells of a run on a movie: ids of labels become those of tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.tracking import TrackingOptions, require_laptrack, track_cells


def check_tracking(
    axes: str, n_frames: int, makes_cells: bool = True, is_guessed: bool = False
) -> None:
    """Refuse what has no tracks, before time is spent on it.

    Parameters
    ----------
    axes : str
        Of the labels, such as "TYX".
    n_frames : int
        Along the first of them.
    makes_cells : bool
        Whether the model does.
    is_guessed : bool
        Whether the file does not name its axes, so that nothing says which is time.

    Raises
    ------
    UserError
    """
    require_laptrack()
    if not makes_cells:
        raise UserError(
            "The model makes classes only, and tracks are those of cells. Choose another model."
        )
    letters = axes.upper()
    if is_guessed:
        letters = letters.replace("T", "?")
    if letters == "YX" or (letters == "TYX" and n_frames < 2):
        raise UserError(
            "It is a single frame, and tracks need two or more. Leave the tracking out, or save "
            "all frames as one file with the axis T."
        )
    if letters == "ZYX":
        raise UserError(
            "Its planes follow z, not time (axes ZYX). Link them along z instead, or save it with "
            "its frames along the axis T, as Fiji does under Image > Properties."
        )
    if set(letters) >= {"T", "Z"}:
        raise UserError(
            f"Cells are tracked in movies of single planes (axes TYX), and this one has the axes "
            f"{letters}. Save one of its z planes, or a projection along z, as a movie."
        )
    if letters != "TYX":
        raise UserError(
            f"Nothing says that its planes follow time (axes {letters}). Save it with its frames "
            "along the axis T, as Fiji does under Image > Properties."
        )


def tracked(result: Result, options: TrackingOptions) -> Result:
    """Give the result of a run with the cells of a movie tracked.

    Parameters
    ----------
    result : Result
        Its cells (t, y, x); these are overwritten where the ids of the tracks fit into them.
    options : TrackingOptions

    Raises
    ------
    UserError
        See `track_cells`.
    """
    cells = result.cells
    assert cells is not None
    found = track_cells(cells, options)
    named = cells if cells.dtype == found.dtype else np.empty(cells.shape, found.dtype)
    for number, plane in enumerate(cells):
        named[number] = found.renamed(number, plane)
    details = replace(result.details, link=0, parents=found.tracks.parents)
    n = len(found.tracks)
    return replace(result, cells=named, details=details, n_cells=n, tracks=found.tracks)
