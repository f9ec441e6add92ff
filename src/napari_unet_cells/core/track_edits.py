"""Ids for cells that an edit makes in a frame of a movie: those of tracks that are missing there.

A cell that is split off, drawn or found is a new one in its plane, and in a movie mostly not: it is
the cell that is there in the frames before and after::

    before    1 1 . 2 2        the frame     1 1 1 1 1        split       1 1 . n n
    after     1 1 . 2 2                      (2 is missing)   becomes     1 1 . 2 2

So the id is chosen with the edit, in the same step of undo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.edits import Edit, Plane

#: Part of a cell that a track has to cover in a frame beside it.
LEAST_COVERED = 0.3

#: What counts more: a daughter of the cell that was split, and the id that a piece has already.
_DAUGHTER, _STAYS = 0.25, 0.01


@dataclass(frozen=True, eq=False)
class Piece:
    """Pixels of the frame that become a cell, and its id so far."""

    label: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


def name_by_tracks(
    edit: Edit,
    plane: Plane,
    before: Sequence[Plane],
    after: Sequence[Plane],
    parents: Mapping[int, int],
) -> Edit:
    """Give the new cells of an edit the ids of tracks that are missing in the frame.

    Parameters
    ----------
    edit : Edit
        Of `plane`.
    plane : integer array, (y, x)
        The frame as it is.
    before, after : sequences of integer arrays (y, x)
        Frames around it, the nearest first.
    parents : mapping of int to int
        See `core.tracks.Tracks`.

    Returns
    -------
    Edit
        The same pixels, and where halves of a cell change places those of its other half.
    """
    fresh = [one for one in np.unique(edit.values).tolist() if one > 0 and not (plane == one).any()]
    if not fresh:
        return edit
    pieces = [Piece(one, *_where(edit, one)) for one in fresh]
    source = _source(edit, plane, fresh)
    if source:
        pieces.append(_rest(edit, plane, source))
    names = _assigned(pieces, plane, before, after, source, parents)
    return _renamed(edit, plane, pieces, names)


def _where(edit: Edit, label: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    here = edit.values == label
    return edit.rows[here], edit.columns[here]


def _source(edit: Edit, plane: Plane, fresh: Sequence[int]) -> int:
    """Give the cell that the new ones were split off; 0 where they were drawn."""
    at = np.isin(edit.values, fresh)
    ids, areas = np.unique(plane[edit.rows[at], edit.columns[at]], return_counts=True)
    return int(ids[np.argmax(areas)])


def _rest(edit: Edit, plane: Plane, source: int) -> Piece:
    """Give what the edit leaves of a cell."""
    left = plane == source
    left[edit.rows, edit.columns] = False
    return Piece(source, *np.nonzero(left))


def _assigned(
    pieces: Sequence[Piece],
    plane: Plane,
    before: Sequence[Plane],
    after: Sequence[Plane],
    source: int,
    parents: Mapping[int, int],
) -> list[int]:
    """Choose an id for each piece: the tracks that cover them most, each once."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    covered = [Counter[int]() for _ in pieces]
    for frames in (before, after):
        _count(covered, pieces, plane, frames, source)
    known = sorted({one for counts in covered for one in counts})
    # Each piece may keep the id that it has: a column of its own.
    gain = np.zeros((len(pieces), len(known) + len(pieces)))
    for row, (piece, counts) in enumerate(zip(pieces, covered, strict=True)):
        for one, part in counts.items():
            bonus = _DAUGHTER if parents.get(one) == source and source else 0.0
            bonus += _STAYS if one == piece.label else 0.0
            gain[row, known.index(one)] = part + bonus
        if piece.label not in known:
            gain[row, len(known) + row] = _STAYS
    rows, columns = linear_sum_assignment(gain, maximize=True)
    names = [piece.label for piece in pieces]
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if column < len(known) and gain[row, column] > 0:
            names[row] = known[column]
    return _unique(names, pieces)


def _unique(names: list[int], pieces: Sequence[Piece]) -> list[int]:
    """Give back its own id to a piece whose name another one kept."""
    while len(set(names)) < len(names):
        twice = next(one for one, n in Counter(names).items() if n > 1)
        row = next(i for i, name in enumerate(names) if name == twice != pieces[i].label)
        names[row] = pieces[row].label
    return names


def _count(
    covered: Sequence[Counter[int]],
    pieces: Sequence[Piece],
    plane: Plane,
    frames: Sequence[Plane],
    source: int,
) -> None:
    """Add the parts of the pieces that tracks cover in the nearest frame that has them."""
    seen: set[int] = set()
    for frame in frames:
        found: set[int] = set()
        for counts, piece in zip(covered, pieces, strict=True):
            ids, areas = np.unique(frame[piece.rows, piece.columns], return_counts=True)
            for one, n in zip(ids.tolist(), areas.tolist(), strict=True):
                part = n / len(piece.rows)
                is_free = one == source or one in seen or not (plane == one).any()
                if one > 0 and one not in seen and part >= LEAST_COVERED and is_free:
                    counts[one] += part
                    found.add(one)
        seen |= found


def _renamed(edit: Edit, plane: Plane, pieces: Sequence[Piece], names: Sequence[int]) -> Edit:
    """Write the names into the edit; the rest of a cell joins it where it gets another id."""
    values = edit.values.copy()
    rows, columns, new = [edit.rows], [edit.columns], [values]
    for piece, name in zip(pieces, names, strict=True):
        if name == piece.label:
            continue
        values[edit.values == piece.label] = name
        if not (edit.values == piece.label).any():
            rows.append(piece.rows)
            columns.append(piece.columns)
            new.append(np.full(len(piece.rows), name, np.int64))
    y, x, ids = np.concatenate(rows), np.concatenate(columns), np.concatenate(new)
    changed = plane[y, x] != ids  # a half may have the id of the whole
    return Edit(y[changed], x[changed], ids[changed])
