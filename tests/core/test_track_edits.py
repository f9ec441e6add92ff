"""New cells of an edit in a movie get the ids of tracks that are missing in the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import Edit
from napari_unet_cells.core.track_edits import name_by_tracks

WIDE = np.s_[4:14, 2:22]
LEFT, RIGHT = np.s_[4:14, 2:12], np.s_[4:14, 12:22]


def frame(**cells: Any) -> NDArray[np.uint16]:
    """Draw cells: ``_3=LEFT``."""
    plane = np.zeros((20, 40), np.uint16)
    for name, window in cells.items():
        plane[window] = int(name[1:])
    return plane


def named(
    edit: Edit,
    plane: NDArray[Any],
    before: Sequence[NDArray[Any]] = (),
    after: Sequence[NDArray[Any]] = (),
    parents: Mapping[int, int] | None = None,
) -> NDArray[Any]:
    """Give the frame after an edit that was named."""
    found = name_by_tracks(edit, plane, before, after, parents or {})
    pixels = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert len(set(pixels)) == len(pixels)
    assert (plane[found.rows, found.columns] != found.values).all()
    result = plane.copy()
    result[found.rows, found.columns] = found.values
    return result


def halves(plane: NDArray[Any]) -> tuple[int, int]:
    """Give the ids of the halves of the wide cell, which are all that is there."""
    left, right = int(plane[8, 5]), int(plane[8, 18])
    assert (plane > 0).sum() == 200
    assert np.unique(plane).tolist() == sorted({0, left, right})
    return left, right


def split(plane: NDArray[Any], new_id: int = 99) -> Edit:
    """Cut the wide cell in two; the left half is new, or the right one."""
    edit = edits.split_along(plane, [(0, 11.5), (19, 11.5)], new_id)
    assert set(edit.values.tolist()) == {new_id}
    return edit


def test_a_half_gets_the_id_of_the_track_that_is_missing() -> None:
    for left, right in ((1, 2), (2, 1)):
        beside = frame(**{f"_{left}": LEFT, f"_{right}": RIGHT})
        for plane in (frame(_1=WIDE), frame(_2=WIDE)):
            for around in (([beside], []), ([], [beside]), ([beside], [beside])):
                assert halves(named(split(plane), plane, *around)) == (left, right)


def test_a_gap_of_two_frames_is_looked_into_and_the_nearest_frame_counts() -> None:
    plane, beside = frame(_1=WIDE), frame(_1=LEFT, _2=RIGHT)
    assert halves(named(split(plane), plane, [plane, beside])) == (1, 2)
    farther = frame(_1=LEFT, _7=RIGHT)
    assert halves(named(split(plane), plane, [beside, farther])) == (1, 2)
    assert halves(named(split(plane), plane, [plane, farther])) == (1, 7)


def test_a_track_that_is_in_the_frame_is_no_candidate() -> None:
    plane = frame(_1=WIDE, _2=np.s_[4:14, 28:38])
    result = named(split(plane), plane, [frame(_1=LEFT, _2=RIGHT)])
    assert sorted(np.unique(result).tolist()) == [0, 1, 2, 99]
    assert (result[:, 28:] == plane[:, 28:]).all()


def test_what_no_track_covers_stays_new() -> None:
    plane = frame(_1=WIDE)
    for before in ([], [frame()], [frame(_1=WIDE)], [frame(_1=LEFT, _5=np.s_[4:6, 12:22])]):
        assert sorted(np.unique(named(split(plane), plane, before)).tolist()) == [0, 1, 99]


def test_where_a_cell_divides_in_the_next_frame_the_halves_are_its_daughters() -> None:
    plane = frame(_1=WIDE)
    after = frame(_3=LEFT, _4=RIGHT)
    result = named(split(plane), plane, [frame(_1=WIDE)], [after], {3: 1, 4: 1})
    assert halves(result) == (3, 4)


def test_a_cell_that_was_drawn_or_found_is_the_one_of_the_frames_around() -> None:
    plane, around = frame(_1=LEFT), frame(_1=LEFT, _2=RIGHT)
    drawn = edits.draw(plane, [(4, 12), (4, 21), (13, 21), (13, 12)], 50)
    assert set(drawn.values.tolist()) == {50}
    result = named(drawn, plane, [around], [around])
    assert sorted(np.unique(result).tolist()) == [0, 1, 2]
    assert (result == 1).sum() == (plane == 1).sum()


def test_edits_without_new_cells_stay_as_they_are() -> None:
    plane = frame(_1=LEFT, _2=RIGHT)
    around = [frame(_1=LEFT, _5=RIGHT)]
    for edit in (edits.merge(plane, [(8, 5), (8, 15)]), edits.delete(plane, (8, 5))):
        assert name_by_tracks(edit, plane, around, around, {}) is edit
