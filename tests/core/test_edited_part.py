"""A part of a plane that is taken out, edited and put back: which cells, and which ids."""

from __future__ import annotations

import numpy as np

from napari_unet_cells.core.edited_part import TakenPart

PLANE = np.zeros((40, 60), np.int64)
PLANE[5:10, 5:10] = 7
PLANE[12:16, 5:10] = 9
PLANE[5:15, 25:35] = 12  # cut by the right side of the part
PLANE[0:3, 0:3] = 3  # at the border of the plane: whole
PLANE[19:22, 10:14] = 5  # cut below

BOX = np.s_[0:20, 0:30]
PART = TakenPart.of(PLANE[BOX], BOX, (40, 60))


def test_cells_that_go_on_beyond_the_part_are_left_out() -> None:
    assert PART.cut.tolist() == [5, 12]
    assert np.unique(PART.editable).tolist() == [0, 3, 7, 9]


def test_of_the_whole_plane_no_cell_is_cut() -> None:
    whole = TakenPart.of(PLANE, np.s_[0:40, 0:60], (40, 60))
    assert whole.cut.tolist() == []
    np.testing.assert_array_equal(whole.editable, PLANE)


def test_what_is_not_edited_stays_as_it_was() -> None:
    labels, n_used = PART.edited(PART.editable, 12)
    np.testing.assert_array_equal(labels, PART.labels)
    assert n_used == 12


def test_new_cells_get_ids_that_were_never_used() -> None:
    shown = PART.editable.copy()
    shown[shown == 7] = 0  # deleted
    shown[1:4, 12:15] = 10  # drawn, with numbers that the tools found free in the part
    shown[6:9, 12:15] = 12  # which is the id of a cell that is cut
    shown[shown == 9] = 3  # merged
    labels, n_used = PART.edited(shown, 40)
    assert np.unique(labels).tolist() == [0, 3, 5, 12, 41, 42]
    assert n_used == 42
    assert (labels[1:4, 12:15] == 41).all()
    assert (labels[6:9, 12:15] == 42).all()
    assert (labels[PLANE[BOX] == 9] == 3).all()
    assert (labels[PLANE[BOX] == 12] == 12).all()


def test_a_cell_that_is_cut_keeps_its_pixels() -> None:
    shown = PART.editable.copy()
    shown[4:16, 20:30] = 50
    labels, _ = PART.edited(shown, 50)
    assert (labels[5:15, 25:30] == 12).all()
    assert (labels[5:15, 20:25] == 51).all()


def test_the_number_of_a_deleted_cell_does_not_come_back_for_another_one() -> None:
    shown = PART.editable.copy()
    shown[shown == 9] = 0  # deleted: 9 is the largest number in the part, and napari's next one
    shown[1:4, 12:15] = 9
    shown[5:10, 5:8] = 0  # 7 loses some pixels, and stays 7
    labels, n_used = PART.edited(shown, 40)
    assert np.unique(labels).tolist() == [0, 3, 5, 7, 12, 41]
    assert (labels[1:4, 12:15] == 41).all()
    assert n_used == 41


def test_what_was_put_back_meanwhile_keeps_its_numbers() -> None:
    shown = PART.editable.copy()
    shown[shown == 9] = 0
    shown[1:4, 12:15] = 30
    first, n_used = PART.edited(shown, 40)
    now = TakenPart(PART.box, first, PART.cut)
    shown[PART.labels == 9] = 9  # taken back
    shown[1:6, 12:15] = 30  # grown
    shown[6:8, 12:15] = 31  # beside it
    labels, n_used = now.edited(shown, n_used, PART.editable)
    assert np.unique(labels).tolist() == [0, 3, 5, 7, 9, 12, 41, 42]
    assert (labels[1:6, 12:15] == 41).all()
    assert (labels[6:8, 12:15] == 42).all()
    assert n_used == 42
