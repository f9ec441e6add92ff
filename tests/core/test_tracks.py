"""Tracks are read off labels and parents, whatever was done to the labels meanwhile."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from napari_unet_cells.core.tracks import FrameCells, Tracks, parents_of, record_of
from napari_unet_cells.errors import UserError


def frame(*cells: tuple[int, int, int], shape: tuple[int, int] = (20, 40)) -> NDArray[np.uint16]:
    """Draw squares of 4 x 4: id, top, left."""
    plane = np.zeros(shape, np.uint16)
    for label, top, left in cells:
        plane[top : top + 4, left : left + 4] = label
    return plane


def tracks(*planes: NDArray[Any], parents: dict[int, int] | None = None) -> Tracks:
    return Tracks.of([FrameCells.of(plane) for plane in planes], parents or {})


DIVIDING = (
    frame((1, 2, 10), (5, 10, 30)),
    frame((1, 2, 12)),
    frame((2, 2, 8), (3, 2, 16), (5, 13, 34)),
)


def test_the_cells_of_a_frame_are_found_with_their_places() -> None:
    cells = FrameCells.of(frame((7, 2, 10), (3, 10, 30)))
    assert cells.label.tolist() == [3, 7]
    assert cells.area.tolist() == [16, 16]
    assert_allclose(cells.y, [11.5, 3.5])
    assert_allclose(cells.x, [31.5, 11.5])
    assert len(cells) == 2


def test_ids_beyond_any_table_are_found_too() -> None:
    plane = frame((1, 2, 10), (2, 10, 30)).astype(np.int64)
    plane[plane == 2] = 2**40
    cells = FrameCells.of(plane)
    assert cells.label.tolist() == [1, 2**40]
    assert_allclose(cells.x, [11.5, 31.5])
    assert cells.area.tolist() == [16, 16]


def test_an_empty_frame_has_no_cells() -> None:
    assert len(FrameCells.of(frame())) == 0


@pytest.mark.parametrize("plane", [np.zeros((4, 4)), np.full((4, 4), -1), np.zeros((2, 4, 4), int)])
def test_what_is_no_plane_of_labels_is_refused(plane: NDArray[Any]) -> None:
    with pytest.raises(UserError, match=r"Frame 3 holds no labels.*Choose the cells"):
        FrameCells.of(plane, 3)


def test_tracks_are_sorted_and_know_gaps_and_parents() -> None:
    found = tracks(*DIVIDING, parents={2: 1, 3: 1})
    assert found.track.tolist() == [1, 1, 2, 3, 5, 5]
    assert found.frame.tolist() == [0, 1, 2, 2, 0, 2]
    assert found.ids.tolist() == [1, 2, 3, 5]
    assert (len(found), found.n_frames, found.n_divisions) == (4, 3, 1)
    assert dict(found.parents) == {2: 1, 3: 1}


def test_parents_that_the_labels_contradict_are_left_out() -> None:
    gone, late = frame((5, 10, 30)), frame((1, 2, 2), (2, 2, 8), (3, 2, 16))
    parents = {2: 1, 3: 1, 9: 1, 5: 8}
    assert tracks(DIVIDING[0], DIVIDING[1], late, parents=parents).parents == {}
    assert tracks(gone, gone, DIVIDING[2], parents=parents).parents == {}
    # one daughter was deleted: the other one still has its parent
    left = tracks(DIVIDING[0], DIVIDING[1], frame((2, 2, 8)), parents=parents)
    assert left.parents == {2: 1}
    assert left.n_divisions == 0


def test_a_table_has_one_row_a_track_in_units_of_length() -> None:
    table = tracks(*DIVIDING, parents={2: 1, 3: 1}).table((2.0, 0.5), "micrometer")
    columns = {name: column.tolist() for name, column in table.columns.items()}
    assert table.unit == "micrometer"
    assert columns["label"] == [1, 2, 3, 5]
    assert columns["parent"] == [0, 1, 1, 0]
    assert columns["daughters"] == [2, 0, 0, 0]
    assert columns["t_first"] == [0, 2, 2, 0]
    assert columns["t_last"] == [1, 2, 2, 2]
    assert columns["frames"] == [2, 1, 1, 2]
    assert columns["missing"] == [0, 0, 0, 1]
    assert columns["x_first"] == [11.5 * 0.5, 9.5 * 0.5, 17.5 * 0.5, 31.5 * 0.5]
    assert columns["y_last"] == [7.0, 7.0, 7.0, 29.0]
    assert_allclose(columns["displacement"], [1.0, 0, 0, np.hypot(6, 2)])
    assert_allclose(columns["path"], [1.0, 0, 0, np.hypot(6, 2)])
    assert columns["area_mean"] == [16.0] * 4


def test_the_path_is_longer_than_the_way_there_and_back() -> None:
    columns = tracks(frame((1, 2, 2)), frame((1, 2, 12)), frame((1, 2, 2))).table().columns
    assert columns["displacement"].tolist() == [0]
    assert columns["path"].tolist() == [20]


def test_a_movie_without_cells_has_no_tracks_and_a_table_without_rows() -> None:
    found = tracks(frame(), frame())
    assert (len(found), found.n_divisions, found.n_frames) == (0, 0, 2)
    table = found.table()
    assert len(table) == 0
    assert "parent" in table.columns


def test_parents_survive_a_record() -> None:
    kept = parents_of(json.loads(json.dumps(record_of({12: 3, 4: 3}))))
    assert dict(kept) == {12: 3, 4: 3}
    assert dict(parents_of(None)) == {}
