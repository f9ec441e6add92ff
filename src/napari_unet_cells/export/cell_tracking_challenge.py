"""Tracks in the layout of the Cell Tracking Challenge, which many programs read and score.

::

    NAME/01_RES/mask000.tif ...    labels of each frame, 16 bits
    NAME/01_RES/res_track.txt      L B E P: track, its first and last frame, its parent or 0

A track is there in every frame from the first to the last one, so one with a gap becomes two, the
former the parent of the latter, as is the rule there for cells that come back.

References
----------
.. [1] Maska et al., "The Cell Tracking Challenge: 10 years of objective benchmarking", Nature
   Methods 20, 2023.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.core.tracks import FrameCells, Tracks
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import make_folder
from napari_unet_cells.files.file_set import write_together

#: Folder of the results for the first movie of a dataset.
FOLDER = "01_RES"

TRACKS = "res_track.txt"

_MOST = 65_535

_MASK = re.compile(r"mask\d{3,}\.tif")


@dataclass(frozen=True)
class Segment:
    """A line of `TRACKS`, and the track and the frames that it is made of."""

    label: int
    begin: int
    end: int
    parent: int
    track: int


def challenge_folder(path: Path) -> Path:
    """Give the folder of the results for a name that the user chose."""
    return path / FOLDER


def segments(tracks: Tracks) -> list[Segment]:
    """Cut tracks where they have gaps; ids stay those of the tracks where they fit into 16 bits.

    Raises
    ------
    UserError
        Where there are too many.
    """
    starts = tracks.starts.tolist()
    pieces: list[tuple[int, int, int]] = []
    for first, stop in pairwise(starts):
        frames = tracks.frame[first:stop]
        cuts = [0, *(np.flatnonzero(np.diff(frames) > 1) + 1).tolist(), stop - first]
        for begin, end in pairwise(cuts):
            pieces.append((int(tracks.track[first]), int(frames[begin]), int(frames[end - 1])))
    labels = _labels([track for track, _, _ in pieces])
    last = {track: label for (track, _, _), label in zip(pieces, labels, strict=True)}
    found = list[Segment]()
    for (track, begin, end), label in zip(pieces, labels, strict=True):
        if found and found[-1].track == track:
            parent = found[-1].label
        else:
            parent = last.get(tracks.parents.get(track, 0), 0)
        found.append(Segment(label, begin, end, parent, track))
    return found


def _labels(tracks: list[int]) -> list[int]:
    """Give each piece of a track an id: the first one that of the track, where these fit."""
    if len(tracks) > _MOST:
        raise UserError(
            f"There are {len(tracks)} tracks (those with gaps count as several), and the 16-bit "
            f"masks of the Cell Tracking Challenge hold {_MOST}. Export a part of the movie."
        )
    free = iter(range(max(tracks, default=0) + 1, _MOST + 1))
    labels = []
    for before, track in zip([0, *tracks], tracks, strict=False):
        label = track if track != before else next(free, _MOST + 1)
        if label > _MOST:  # they do not fit: numbered anew
            return list(range(1, len(tracks) + 1))
        labels.append(label)
    return labels


def write_challenge(
    path: Path,
    labels: NDArray[Any],
    parents: Mapping[int, int],
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a movie of labels whose ids are those of tracks.

    Parameters
    ----------
    path : Path
        Folder of the dataset, made where it is missing.
    labels : integer array, (t, y, x)
    parents : mapping of int to int
        See `core.tracks.Tracks.of`.
    overwrite : bool
        Replace an earlier export.

    Returns
    -------
    tuple of Path
        `TRACKS`, and the masks.

    Raises
    ------
    FileExists
        Where there is one, and `overwrite` is False.
    UserError
        Where there are too many tracks, masks of a longer movie, or the disk refuses.
    """
    tracks = Tracks.of([FrameCells.of(plane, n) for n, plane in enumerate(labels)], parents)
    lines = segments(tracks)
    folder = challenge_folder(path)
    digits = max(3, len(str(len(labels) - 1)))
    names = [TRACKS, *(f"mask{number:0{digits}}.tif" for number in range(len(labels)))]
    make_folder(folder)
    _refuse_others(folder, names)
    targets = tuple(folder / name for name in names)
    with write_together(targets, overwrite) as temporary:
        for name, mask in zip(names[1:], _masks(labels, lines), strict=True):
            tifffile.imwrite(
                temporary / name, mask, photometric="minisblack", compression="zlib", metadata=None
            )
        rows = sorted((s.label, s.begin, s.end, s.parent) for s in lines)
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (temporary / TRACKS).write_text(text, encoding="ascii")
    return targets


def _refuse_others(folder: Path, names: list[str]) -> None:
    """Refuse a folder with masks that would be taken for some of this movie."""
    others = sorted(p.name for p in folder.glob("mask*.tif") if _MASK.fullmatch(p.name))
    left = [name for name in others if name not in names]
    if left:
        raise UserError(
            f"{folder} holds masks of another movie, such as {left[0]}, which would be taken for "
            "frames of this one. Choose another name, or remove that folder first."
        )


def _masks(labels: NDArray[Any], lines: list[Segment]) -> Iterator[NDArray[np.uint16]]:
    """Draw the segments frame by frame."""
    for number, plane in enumerate(labels):
        here = sorted((s.track, s.label) for s in lines if s.begin <= number <= s.end)
        olds = np.array([0, *(track for track, _ in here)], np.int64)
        news = np.array([0, *(label for _, label in here)], np.uint16)
        yield news[np.searchsorted(olds, plane)]
