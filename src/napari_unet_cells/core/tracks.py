"""Tracks: which cells of the frames of a movie are the same cell, and which are its daughters.

The id of a cell is that of its track, so a movie of labels says all but one thing, who divided::

    frame      0   1   2   3   4   5
    track 1    o---o---o                 the parent of 3 and 4
    track 2    o---o---.---o---o---o     missing in frame 2: a gap
    track 3                o---o---o
    track 4                o---o

`Tracks` is therefore made of labels and of parents, at any time, also after labels were corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table
from napari_unet_cells.errors import UserError

Plane = NDArray[np.integer[Any]]

#: Ids up to this many times the pixels of a plane are counted in a table of all ids.
_DENSE = 4


@dataclass(frozen=True, eq=False)
class FrameCells:
    """The cells of one frame.

    Attributes
    ----------
    label : int64 array, (n,)
        Ids, ascending.
    y, x : float64 arrays, (n,)
        Centroids in pixels.
    area : int64 array, (n,)
        Pixels.
    """

    label: NDArray[np.int64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    area: NDArray[np.int64]

    @classmethod
    def of(cls, plane: Plane, frame: int = 0) -> FrameCells:
        """Find the cells of a plane of labels.

        Parameters
        ----------
        plane : integer array, (y, x)
        frame : int
            Its number, for the message.

        Raises
        ------
        UserError
            Where the plane holds no labels.
        """
        if plane.ndim != 2 or plane.dtype.kind not in "ui" or plane.min(initial=0) < 0:
            raise UserError(
                f"Frame {frame} holds no labels: they are integers from 0 on, (y, x), and these "
                f"are {plane.dtype} of the shape {plane.shape}. Choose the cells, not the image."
            )
        pixels = np.flatnonzero(plane)
        found: NDArray[Any] = plane.ravel()[pixels]
        if int(found.max(initial=0)) > _DENSE * plane.size:  # a table of all ids would be too long
            named, at = np.unique(found, return_inverse=True)
            at = at + 1
        else:
            named, at = None, found.astype(np.intp)
        counts = np.bincount(at, minlength=1)
        kept = np.flatnonzero(counts)
        rows, columns = np.divmod(pixels, plane.shape[1])
        area = counts[kept]
        y, x = (np.bincount(at, side, minlength=1)[kept] / area for side in (rows, columns))
        label = kept if named is None else named
        return cls(label.astype(np.int64), y, x, area.astype(np.int64))

    def __len__(self) -> int:
        """Count the cells."""
        return len(self.label)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Cells of a movie by track, then by frame: one row for each cell and frame.

    Attributes
    ----------
    track, frame : int64 arrays, (n,)
        Id of the track, which is that of the cell, and number of the frame from 0.
    y, x : float64 arrays, (n,)
        Centroids in pixels.
    area : int64 array, (n,)
        Pixels.
    parents : mapping of int to int
        Track of a daughter to that of its parent, which ends before the daughter begins.
    n_frames : int
        Length of the movie.
    """

    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    area: NDArray[np.int64]
    parents: Mapping[int, int]
    n_frames: int

    @classmethod
    def of(cls, frames: Sequence[FrameCells], parents: Mapping[int, int]) -> Tracks:
        """Read the tracks off labels.

        Parameters
        ----------
        frames : sequence of FrameCells
            Whose ids are those of tracks.
        parents : mapping of int to int
            What was found of daughters and parents; what the labels contradict is left out, as
            where a parent was deleted, or was painted into a frame of its daughter.
        """
        numbers = np.repeat(np.arange(len(frames)), [len(cells) for cells in frames])
        track = _joined([cells.label for cells in frames], np.int64)
        order = np.lexsort((numbers, track))
        y = _joined([cells.y for cells in frames], np.float64)[order]
        x = _joined([cells.x for cells in frames], np.float64)[order]
        area = _joined([cells.area for cells in frames], np.int64)[order]
        track, numbers = track[order], numbers[order].astype(np.int64)
        fitting = MappingProxyType(_fitting(track, numbers, parents))
        return cls(track, numbers, y, x, area, fitting, len(frames))

    @property
    def starts(self) -> NDArray[np.intp]:
        """First row of each track, and the number of rows."""
        return _starts(self.track)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the tracks, ascending."""
        return self.track[self.starts[:-1]]

    def __len__(self) -> int:
        """Count the tracks."""
        return len(self.starts) - 1

    @property
    def n_divisions(self) -> int:
        """Number of tracks with two or more daughters."""
        return sum(n > 1 for n in Counter(self.parents.values()).values())

    def table(self, pixel_size: tuple[float, float] = (1.0, 1.0), unit: str = "pixel") -> Table:
        """Describe each track by one row.

        Parameters
        ----------
        pixel_size : (float, float)
            Height and width of a pixel in `unit`.
        unit : str
            Of length.

        Returns
        -------
        Table
            label
                Id of the track, and of its cell in the table of cells.
            parent, daughters
                Id of the track that divided into this one, 0 for none; number of its own.
            t_first, t_last, frames, missing
                First and last frame, counted from 0; frames in which it is there, and between
                the two in which it is not.
            y_first, x_first, y_last, x_last
                Centroids, in `unit`.
            displacement, path
                Distance of the two, and length of the way between them, in `unit`.
            area_mean
                In `unit` squared.
        """
        starts = self.starts
        first, last, ids = starts[:-1], starts[1:] - 1, self.ids
        y, x = self.y * pixel_size[0], self.x * pixel_size[1]
        steps = np.hypot(np.diff(y, prepend=0), np.diff(x, prepend=0))
        steps[first] = 0  # from another track
        n = np.diff(starts)
        span = self.frame[last] - self.frame[first] + 1
        daughters = Counter(self.parents.values())
        columns: dict[str, NDArray[Any]] = {
            "label": ids,
            "parent": np.array([self.parents.get(one, 0) for one in ids.tolist()], np.int64),
            "daughters": np.array([daughters[one] for one in ids.tolist()], np.int64),
            "t_first": self.frame[first],
            "t_last": self.frame[last],
            "frames": n,
            "missing": span - n,
            "y_first": y[first],
            "x_first": x[first],
            "y_last": y[last],
            "x_last": x[last],
            "displacement": np.hypot(y[last] - y[first], x[last] - x[first]),
            "path": _sums(steps, first),
            "area_mean": _sums(self.area * (pixel_size[0] * pixel_size[1]), first) / n,
        }
        return Table(columns, pixel_size, unit)


def parents_of(links: Mapping[str, Any] | None) -> Mapping[int, int]:
    """Read the parents of the entry `tracks` of a record, as `record_of` writes them."""
    pairs = (links or {}).get("parents", ())
    return MappingProxyType({int(child): int(parent) for child, parent in pairs})


def record_of(parents: Mapping[int, int]) -> dict[str, Any]:
    """Describe parents for a record: names of JSON are text, so they are pairs."""
    return {"parents": [[int(child), int(parent)] for child, parent in sorted(parents.items())]}


def _fitting(
    track: NDArray[np.int64], frame: NDArray[np.int64], parents: Mapping[int, int]
) -> dict[int, int]:
    """Choose the parents that end before their daughters begin."""
    starts = _starts(track)
    ids = track[starts[:-1]].tolist()
    first = dict(zip(ids, frame[starts[:-1]].tolist(), strict=True))
    last = dict(zip(ids, frame[starts[1:] - 1].tolist(), strict=True))
    return {
        child: parent
        for child, parent in sorted(parents.items())
        if child in first and parent in last and last[parent] < first[child]
    }


def _starts(track: NDArray[np.int64]) -> NDArray[np.intp]:
    """Give the first row of each track, and the number of rows."""
    return np.flatnonzero(np.r_[True, track[1:] != track[:-1], True] if len(track) else [True])


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _sums(values: NDArray[Any], first: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.add.reduceat(values, first).astype(np.float64) if len(first) else np.zeros(0)
