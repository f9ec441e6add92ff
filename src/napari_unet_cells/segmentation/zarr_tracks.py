"""Track the cells of a movie that is segmented block by block, before any label is written.

::

    blocks --> cells of each frame: places and sizes     one block is in memory at a time
           --> links (laptrack)                          some numbers a cell in memory
           --> tracks.npz, and ids of tracks by cell     then the blocks write these, once

No label ever has another id than that of its track: what is killed before has written none, and
goes on from these files after.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.tracks import FrameCells, Tracks
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.array_file import load_arrays, write_arrays
from napari_unet_cells.segmentation.block_store import BlockStore
from napari_unet_cells.tracking import MOST_CELLS, TrackingOptions, track_frames

#: Columns of `Tracks` that are kept.
_COLUMNS = ("track", "frame", "y", "x", "area")


def refuse_crowd(frame: int, n_cells: int) -> None:
    """Refuse a frame with more cells than can be tracked, as soon as they are counted.

    Raises
    ------
    UserError
    """
    if n_cells > MOST_CELLS:
        raise UserError(
            f"Frame {frame} has more than {MOST_CELLS:,} cells, and cells are tracked frame by "
            "frame, in up to so many. Leave the tracking out, or save a part of the movie as an "
            "image of its own."
        )


def refuse_crowds(store: BlockStore, frames: Iterable[int] | None = None) -> None:
    """Refuse a movie that is to be tracked, as soon as the blocks of a frame have too many cells.

    Parameters
    ----------
    store : BlockStore
        Some of whose blocks are segmented.
    frames : iterable of int, optional
        Frames that are looked at; all by default.

    Raises
    ------
    UserError
    """
    if store.plan.track is None:
        return
    n = len(store.blocks)
    for frame in range(prod(store.planes)) if frames is None else frames:
        numbers = range(frame * n, (frame + 1) * n)
        done = (number for number in numbers if store.is_done(number))
        refuse_crowd(frame, sum(store.index(number).n_owned for number in done))


def track_blocks(store: BlockStore) -> None:
    """Track the cells of all frames, and keep what was found; nothing is done where it is there.

    Parameters
    ----------
    store : BlockStore
        Of a movie (t, y, x) whose blocks are numbered.

    Raises
    ------
    UserError
        See `tracking.track_cells`.
    """
    if store.plan.track is None or store.tracks_file.exists():
        return
    counts = [store.numbering(frame).n_cells for frame in range(prod(store.planes))]
    for frame, n_cells in enumerate(counts):
        refuse_crowd(frame, n_cells)
    frames = [_frame(store, frame, n_cells) for frame, n_cells in enumerate(counts)]
    found = track_frames(frames, TrackingOptions(**store.plan.track))
    for frame, (n_cells, known) in enumerate(zip(counts, found.names, strict=True)):
        names = np.zeros(n_cells + 1, np.int64)
        names[list(known)] = list(known.values())
        write_arrays(store.track_names(frame), {"names": names})
    tracks = found.tracks
    pairs = np.array(sorted(tracks.parents.items()), np.int64).reshape(-1, 2)
    columns = {name: getattr(tracks, name) for name in _COLUMNS}
    write_arrays(store.tracks_file, {**columns, "parents": pairs})  # last: all of it is there


def tracks_of(store: BlockStore) -> Tracks | None:
    """Read the tracks that `track_blocks` has kept; None of a run that tracks nothing."""
    if store.plan.track is None:
        return None
    arrays = load_arrays(store.tracks_file, store.folder)
    parents = MappingProxyType(dict(arrays["parents"].tolist()))
    columns = {name: arrays[name] for name in _COLUMNS}
    return Tracks(**columns, parents=parents, n_frames=prod(store.planes))


def track_ids(store: BlockStore, frame: int, ids: NDArray[Any]) -> NDArray[Any]:
    """Give the ids of tracks for those that cells of a frame were numbered with.

    Of a run that tracks nothing they stay.
    """
    if store.plan.track is None:
        return ids
    named: NDArray[Any] = load_arrays(store.track_names(frame), store.folder)["names"][ids]
    return named


def _frame(store: BlockStore, frame: int, n_cells: int) -> FrameCells:
    """Find places and sizes of the cells of a frame, as `FrameCells.of` its labels does."""
    sums = np.zeros((3, n_cells + 1))  # pixels, rows and columns: whole numbers, so exact
    blocks, numbering = store.blocks, store.numbering(frame)
    indices = partial(store.remembering().of_plane, frame)
    for block in range(len(blocks)):
        labels, _ = store.pixels(frame * len(blocks) + block)
        lut = numbering.lut(block, blocks, indices)
        rows, columns = blocks.block(block).core
        _add(sums, lut[labels], rows.start, columns.start)
    label = np.flatnonzero(sums[0, 1:]) + 1
    area, y, x = sums[:, label]
    return FrameCells(label.astype(np.int64), y / area, x / area, area.astype(np.int64))


def _add(sums: NDArray[np.float64], ids: NDArray[np.int64], top: int, left: int) -> None:
    """Add the pixels of a block, which begins in a row and a column."""
    pixels = np.flatnonzero(ids)
    rows, columns = np.divmod(pixels, ids.shape[1])
    at, n = ids.ravel()[pixels], sums.shape[1]
    sums[0] += np.bincount(at, minlength=n)
    sums[1] += np.bincount(at, rows + top, minlength=n)
    sums[2] += np.bincount(at, columns + left, minlength=n)
