"""Strokes on label images: what they change, and that they change nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_unet_cells.core import edits
from napari_unet_cells.core.edits import (
    SMALLEST,
    delete,
    draw,
    fill_holes,
    id_at,
    merge,
    smooth,
    split_along,
    split_by_distance,
)
from napari_unet_cells.errors import UserError


def plane_of(*rows):
    """Make a plane of rows of digits."""
    return np.array([[int(digit) for digit in row.replace(".", "0")] for row in rows], np.uint16)


def applied(plane, edit):
    """Paint an edit on a copy, and check that it is as small as it says."""
    assert len(edit.rows) == len(edit.columns) == len(edit.values) > 0
    assert len(set(zip(edit.rows.tolist(), edit.columns.tolist(), strict=True))) == len(edit.rows)
    assert (plane[edit.rows, edit.columns] != edit.values).all()
    assert edit.highest == edit.values.max()
    after = plane.astype(np.int64)
    after[edit.rows, edit.columns] = edit.values
    return after


def disc(shape, center, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def n_pieces(mask):
    return ndimage.label(mask)[1]


def test_the_piece_at_a_point_is_found():
    plane = plane_of("..1..", ".11..", "...1.", "1...2")
    assert edits.piece_at(plane, (0, 0)) is None
    assert edits.piece_at(plane, (9, 9)) is None
    top, left, mask = edits.piece_at(plane, (1.2, 0.8))
    assert (top, left) == (0, 1)
    np.testing.assert_array_equal(mask, [[0, 1, 0], [1, 1, 0], [0, 0, 1]])


@pytest.fixture
def pair():
    """Two discs that became one cell, 5, beside another one, 7."""
    plane = np.zeros((60, 90), np.uint16)
    plane[disc(plane.shape, (30, 25), 12) | disc(plane.shape, (30, 43), 10)] = 5
    plane[disc(plane.shape, (30, 70), 9)] = 7
    return plane


# --- merge ---------------------------------------------------------------------------------


def test_a_piece_above_the_limit_is_given_up_before_it_is_whole(monkeypatch):
    plane = np.kron(np.eye(400), np.ones((2, 2))).astype(np.uint16)  # a diagonal
    looked = []
    label = ndimage.label
    monkeypatch.setattr(
        ndimage, "label", lambda part, *how: looked.append(part.size) or label(part, *how)
    )
    assert edits.piece_at(plane, (400, 400), 150) is None
    assert max(looked) < 200**2
    assert edits.piece_at(plane, (400, 400), 799) is None
    top, left, mask = edits.piece_at(plane, (400, 400), 800)
    assert (top, left, mask.shape) == (0, 0, (800, 800))


def test_a_line_merges_into_the_first_cell_that_it_meets():
    plane = plane_of("11.22", "11.22", ".....", "33.44")
    assert (
        applied(plane, merge(plane, [(0, 4), (0, 0)])).tolist()
        == plane_of("22.22", "22.22", ".....", "33.44").tolist()
    )
    through_three = [(-5, 0.4), (3, 0), (3, 9)]
    assert (
        applied(plane, merge(plane, through_three)).tolist()
        == plane_of("11.22", "11.22", ".....", "11.11").tolist()
    )


def test_points_merge_what_is_under_them_and_nothing_between():
    plane = plane_of("1.2.3")
    after = applied(plane, merge(plane, [(0, 4), (0, 0)], joined=False))
    assert after.tolist() == [[3, 0, 2, 0, 3]]


@pytest.mark.parametrize("path", [[(0, 0), (1, 1)], [(1, 2), (0, 2)], [(-9, -9), (-9, 20)]])
def test_fewer_than_two_cells_are_not_merged(path):
    plane = plane_of("11.22", "11.22")
    with pytest.raises(UserError, match="no two cells to merge"):
        merge(plane, path)


# --- split ---------------------------------------------------------------------------------


def test_a_line_cuts_a_cell_without_a_gap():
    plane = plane_of(".....", "11111", "11111", "11111", "22222")
    after = applied(plane, split_along(plane, [(0, 1), (4, 1)], 9))
    assert after.tolist() == plane_of(".....", "91111", "91111", "91111", "22222").tolist()
    # Begun and ended in the background, a diagonal cuts too.
    after = applied(plane, split_along(plane, [(0, 0), (4, 4)], 9))
    assert n_pieces(after == 1) == n_pieces(after == 9) == 1
    assert ((after == 1) | (after == 9)).sum() == 15


def test_a_line_across_several_cells_cuts_each_and_the_largest_part_keeps_the_id(pair):
    after = applied(pair, split_along(pair, [(27, 0), (27, 89)], 8))
    assert set(np.unique(after)) == {0, 5, 7, 8, 9}
    for kept, new, was in ((5, 8, 5), (7, 9, 7)):
        assert (after == kept).sum() > (after == new).sum() > 0
        assert ((after == kept) | (after == new)).tolist() == (pair == was).tolist()


def test_a_line_that_winds_makes_several_parts(pair):
    after = applied(pair, split_along(pair, [(5, 20), (55, 20), (55, 30), (5, 30)], 8))
    assert set(np.unique(after)) == {0, 5, 7, 8, 9}
    assert (after == 8).sum() >= (after == 9).sum()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ([(30, 20), (30, 60)], "does not cut through"),  # begins in the middle of the cell
        ([(2, 2), (2, 80)], "no cell under the line"),
        ([(18, 0), (18, 60)], "does not cut through"),  # takes one pixel off the top
    ],
)
def test_a_line_that_separates_nothing_says_so(pair, path, sentence):
    with pytest.raises(UserError, match=sentence):
        split_along(pair, path, 8)


def test_a_ring_is_not_cut_by_crossing_one_of_its_sides():
    ring = (disc((40, 40), (20, 20), 15) & ~disc((40, 40), (20, 20), 8)).astype(np.uint8)
    with pytest.raises(UserError, match="does not cut through"):
        split_along(ring, [(20, 0), (20, 20)], 2)
    assert split_along(ring, [(20, 0), (20, 40)], 2).highest == 2


def test_a_click_cuts_at_the_waist(pair):
    after = applied(pair, split_by_distance(pair, (30, 25), 8))
    assert after[30, 25] == 5  # the larger disc keeps the id
    assert after[30, 43] == 8
    assert ((after == 5) | (after == 8)).tolist() == (pair == 5).tolist()
    border = np.flatnonzero(np.diff(after[30, 25:44])) + 25
    assert abs(border[0] - 36) <= 1  # where the circles meet


@pytest.mark.parametrize("radius", [1, 3, 8, 25])
def test_a_round_cell_has_no_waist(radius):
    plane = disc((60, 60), (30, 30), radius).astype(np.uint16)
    with pytest.raises(UserError, match="no waist"):
        split_by_distance(plane, (30, 30), 2)


def test_of_pieces_that_lie_apart_the_clicked_one_is_split_off():
    plane = plane_of("111.1", "111.1", ".....", "1....")
    assert (
        applied(plane, split_by_distance(plane, (0, 4), 2)).tolist()
        == plane_of("111.2", "111.2", ".....", "1....").tolist()
    )
    assert (
        applied(plane, split_by_distance(plane, (0, 0), 2)).tolist()
        == plane_of("111.2", "111.2", ".....", "2....").tolist()
    )


def test_a_piece_larger_than_the_first_window_is_found_whole():
    plane = np.zeros((500, 700), np.uint16)
    plane[10:490, 20:40] = plane[470:490, 20:690] = plane[10:490, 660:690] = 3
    after = applied(plane, split_along(plane, [(250, 0), (250, 60)], 4))
    assert set(np.unique(after[10:240, 20:40])) == {4}
    assert (after[:, 41:] == plane[:, 41:]).all()


# --- delete, fill, smooth ------------------------------------------------------------------


def test_delete_takes_all_pieces_of_one_cell():
    plane = plane_of("1.2", "..2", "1..")
    assert applied(plane, delete(plane, (0, 0))).tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]


def test_delete_takes_all_cells_that_a_line_crosses():
    plane = np.array([[1, 1, 0, 2], [3, 0, 0, 2], [1, 0, 4, 4]])
    left = applied(plane, delete(plane, [(0, 0), (0, 3)]))
    assert left.tolist() == [[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 4, 4]]
    with pytest.raises(UserError, match="no cell under the line"):
        delete(plane, [(1, 1), (1, 2)])


def test_holes_are_filled_but_not_the_cells_in_them():
    plane = plane_of(".......", ".11111.", ".1...1.", ".1.2.1.", ".1...1.", ".11111.", ".......")
    after = applied(plane, fill_holes(plane, (1, 1)))
    assert after[3, 3] == 2
    assert (after[1:6, 1:6] == 1).sum() == 24
    assert (after[0] == 0).all()
    with pytest.raises(UserError, match="no background that could be filled"):
        fill_holes(plane, (3, 3))


def test_a_bay_is_no_hole():
    plane = plane_of("1111", "1..1", "1..1")
    with pytest.raises(UserError, match="no background"):
        fill_holes(plane, (0, 0))
    with pytest.raises(UserError, match="no background"):
        fill_holes(plane[:, :3], (0, 0))


def test_smoothing_takes_spikes_and_fills_notches(pair):
    pair[30, 46:62] = 5  # a spike that touches 7
    pair[10:24, 24] = 0
    after = applied(pair, smooth(pair, (30, 30)))
    assert (after[30, 56:61] == 0).all()
    assert after[22, 24] == 5
    assert (after == 7).tolist() == (pair == 7).tolist()
    assert n_pieces(after == 5) == 1


def test_smoothing_keeps_the_largest_part_and_refuses_threads(pair):
    bridge = np.zeros((40, 90), np.uint16)
    bridge[disc(bridge.shape, (20, 20), 12) | disc(bridge.shape, (20, 65), 9)] = 1
    bridge[20, 20:65] = 1
    after = applied(bridge, smooth(bridge, (20, 20)))
    assert after[20, 20] == 1
    assert after[20, 65] == 0
    assert n_pieces(after == 1) == 1
    thread = plane_of("111111")
    thread = np.pad(thread, 5)
    with pytest.raises(UserError, match="too thin"):
        smooth(thread, (5, 7))
    with pytest.raises(UserError, match="as smooth as it can be"):
        smooth(np.ones((30, 30), np.uint8), (3, 3))


def test_a_cell_at_the_border_of_the_plane_keeps_its_corner():
    plane = np.zeros((60, 60), np.uint16)
    plane[:30, :30] = 1
    plane[10, 30:40] = 1
    after = applied(plane, smooth(plane, (0, 0)))
    assert (after[:25, 0] == 1).all()
    assert (after[0, :25] == 1).all()
    assert (after[:, 35:] == 0).all()


# --- new -----------------------------------------------------------------------------------


def test_a_drawn_cell_leaves_the_others_alone(pair):
    after = applied(pair, draw(pair, [(10, 60), (10, 88), (50, 88), (50, 60)], 8))
    assert (after == 7).tolist() == (pair == 7).tolist()
    assert (after == 8).sum() == 40 * 28 - (pair == 7).sum()


def test_an_outline_that_runs_on_leaves_no_gap():
    angles = np.linspace(0, 2.2 * np.pi, 200)
    path = np.stack([30 + 20 * np.sin(angles), 30 + 20 * np.cos(angles)], 1)
    after = applied(np.zeros((60, 60), np.uint8), draw(np.zeros((60, 60), np.uint8), path, 1))
    expected = disc((60, 60), (30, 30), 20)
    assert (after.astype(bool) != expected).sum() < 30
    backwards = draw(np.zeros((60, 60), np.uint8), path[::-1], 1)
    assert len(backwards.rows) == pytest.approx(len(np.nonzero(after)[0]), abs=10)


def test_what_an_old_cell_divides_is_one_cell():
    plane = np.zeros((30, 30), np.uint16)
    plane[:, 10] = 1
    after = applied(plane, draw(plane, [(5, 5), (5, 25), (20, 25), (20, 5)], 2))
    assert n_pieces(after == 2) == 1
    assert (after[:, :11] == plane[:, :11]).all()


@pytest.mark.parametrize(
    "path", [[(3, 3)], [(3, 3), (3, 9)], [(3, 3), (3, 4), (4, 4)], [(-9, -9), (-9, -1), (-1, -1)]]
)
def test_hardly_a_pixel_is_no_cell(path):
    with pytest.raises(UserError, match="Hardly any background"):
        draw(np.zeros((20, 20), np.uint16), path, 1)


def test_an_outline_may_leave_the_plane():
    after = draw(np.zeros((20, 20), np.uint16), [(-50, 10), (10, 70), (70, 10), (10, -50)], 1)
    assert len(after.rows) == 400


# --- all -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stroke",
    [
        delete,
        fill_holes,
        smooth,
        lambda plane, point: split_by_distance(plane, point, 9),
    ],
)
@pytest.mark.parametrize("point", [(0, 4), (-1, 0), (0, 99), (-0.6, 0)])
def test_where_there_is_no_cell_it_is_said(stroke, point):
    plane = plane_of("11..", "11..", "....")
    assert id_at(plane, point) == 0
    with pytest.raises(UserError, match="no cell under the mouse"):
        stroke(plane, point)


def test_a_turned_plane_of_a_stack_is_treated_alike(pair):
    turned = np.asfortranarray(pair).T
    path = np.array([(27, 0), (27, 89)])
    straight = applied(pair, split_along(pair, path, 8))
    assert (straight == applied(turned, split_along(turned, path[:, ::-1], 8)).T).all()
    assert (
        applied(pair, delete(pair, (30, 25))) == applied(turned, delete(turned, (25, 30))).T
    ).all()


sides = st.integers(1, 24)
planes = st.tuples(sides, sides).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 1, 2]))
)
places = st.tuples(st.floats(-3, 27), st.floats(-3, 27))
paths = st.lists(places, min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(planes, paths)
def test_a_split_shares_out_each_cell_and_a_merge_gives_it_back(plane, path):
    try:
        edit = split_along(plane, path, 3)
    except UserError:
        return
    after = applied(plane, edit)
    assert ((after > 0) == (plane > 0)).all()
    for was in (1, 2):
        ids = set(np.unique(after[plane == was]).tolist())
        assert not ids & set(np.unique(after[plane != was]).tolist())  # ids are unique
        for new in ids - {1, 2}:
            assert (after == new).sum() >= SMALLEST
            assert n_pieces(after == new) == 1
        if len(ids) > 1:
            points = [np.argwhere(after == i)[0] for i in sorted(ids)]
            assert (applied(after, merge(after, points, joined=False)) == was)[plane == was].all()


@settings(max_examples=150, deadline=None)
@given(planes, places)
def test_what_is_clicked_changes_and_nothing_else(plane, point):
    label = id_at(plane, point)
    for stroke in (delete, fill_holes, smooth, lambda p, at: split_by_distance(p, at, 3)):
        try:
            after = applied(plane, stroke(plane, point))
        except UserError:
            continue
        others = (plane != label) & (plane != 0)
        assert (after[others] == plane[others]).all()
        assert (after[plane == 0] == 0).all() or stroke in (fill_holes, smooth)


@settings(max_examples=150, deadline=None)
@given(planes, st.lists(places, min_size=3, max_size=8))
def test_a_new_cell_is_one_piece_of_background(plane, path):
    try:
        after = applied(plane, draw(plane, path, 9))
    except UserError:
        return
    assert (after[plane > 0] == plane[plane > 0]).all()
    assert (after == 9).sum() >= SMALLEST
    assert n_pieces(after == 9) == 1
