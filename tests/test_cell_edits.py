"""Changes to whole cells: what is meant changes, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet_cells import cell_edits
from napari_unet_cells.errors import UserError
from napari_unet_cells.sample_data import simulate_nuclei


def plane() -> np.ndarray:
    """Give a dumbbell (1), a ring (2) with a cell (3) in its hole, and a bar (4)."""
    labels = np.zeros((60, 90), np.uint16)
    y, x = np.mgrid[:60, :90]
    for centre in (12, 28):
        labels[(y - 15) ** 2 + (x - centre) ** 2 < 100] = 1
    ring = (y - 40) ** 2 + (x - 20) ** 2
    labels[ring < 200] = 2
    labels[ring < 90] = 0
    labels[ring < 20] = 3
    labels[30:34, 50:80] = 4
    return labels


def applied(labels: np.ndarray, edit: cell_edits.Edit | None) -> np.ndarray:
    assert edit is not None
    rows, columns, values = edit.changes(labels)
    after = labels.copy()
    after[rows, columns] = values
    return after


def areas(labels: np.ndarray) -> dict[int, int]:
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def test_merge_gives_all_pixels_to_the_first():
    labels = plane()
    after = applied(labels, cell_edits.merge(labels, [4, 2]))
    assert areas(after) == {
        1: areas(labels)[1],
        3: areas(labels)[3],
        4: areas(labels)[4] + areas(labels)[2],
    }
    assert cell_edits.merge(labels, [4, 4]) is None


def test_many_cells_are_merged_as_few_are():
    labels = simulate_nuclei((200, 200), seed=2)[1]
    ids = sorted(areas(labels))
    after = applied(labels, cell_edits.merge(labels, ids))
    assert areas(after) == {ids[0]: sum(areas(labels).values())}


def test_ids_along_a_line_come_in_its_order():
    labels = plane()
    assert cell_edits.ids_along(labels, [(40, 89), (40, 0)]) == [2, 3]
    assert cell_edits.ids_along(labels, [(32, 60), (-50, 60)]) == [4]
    assert cell_edits.ids_along(labels, [(0, 0)]) == []
    assert cell_edits.ids_along(labels, [(-5, 700)]) == []


def test_split_along_a_line_leaves_no_gap_and_keeps_the_largest_part():
    labels = plane()
    after = applied(labels, cell_edits.split_along(labels, [(25, 60), (40, 62)], 9))
    assert areas(after)[4] + areas(after)[9] == areas(labels)[4]
    assert areas(after)[4] > areas(after)[9]
    assert (after[(labels != 4)] == labels[labels != 4]).all()


def test_a_line_over_two_cells_splits_both():
    labels = np.zeros((40, 40), np.uint16)
    labels[5:35, 2:18], labels[5:35, 22:38] = 1, 2
    after = applied(labels, cell_edits.split_along(labels, [(20, 0), (20, 39)], 3))
    assert sorted(areas(after)) == [1, 2, 3, 4]
    assert set(np.unique(after[:, :20])) - {0} <= {1, 3}


def test_a_line_that_does_not_cut_through_says_so():
    with pytest.raises(UserError, match="does not cut through"):
        cell_edits.split_along(plane(), [(32, 60), (32, 62)], 9)
    with pytest.raises(UserError, match="no cell under the line"):
        cell_edits.split_along(plane(), [(0, 0), (0, 5)], 9)


def test_split_at_the_waist():
    labels = plane()
    after = applied(labels, cell_edits.split_at_waist(labels, (15, 12), 9))
    halves = areas(after)[1], areas(after)[9]
    assert sum(halves) == areas(labels)[1]
    assert min(halves) > 0.4 * sum(halves)
    with pytest.raises(UserError, match="no waist"):
        cell_edits.split_at_waist(labels, (40, 20), 9)


def test_delete_leaves_background():
    labels = plane()
    after = applied(labels, cell_edits.delete(labels, (40, 20)))
    assert sorted(areas(after)) == [1, 2, 4]


@pytest.mark.parametrize(
    "act", [cell_edits.delete, cell_edits.fill_holes, cell_edits.smooth], ids=lambda f: f.__name__
)
def test_a_click_beside_the_cells_says_so(act):
    for point in ((0, 0), (-3, 10), (1e6, 2)):
        with pytest.raises(UserError, match="no cell under the mouse"):
            act(plane(), point)


def test_holes_are_filled_around_other_cells():
    labels = plane()
    after = applied(labels, cell_edits.fill_holes(labels, (40, 8)))
    assert areas(after)[3] == areas(labels)[3]
    assert after[40, 27] == 2
    with pytest.raises(UserError, match="no hole"):
        cell_edits.fill_holes(labels, (32, 60))


def test_smoothing_takes_a_spike_and_spares_the_neighbours():
    labels = plane()
    labels[15, 38:48] = 1  # a spike of one pixel's width
    labels[10:20, 40:46] = np.where(labels[10:20, 40:46] == 0, 5, labels[10:20, 40:46])
    after = applied(labels, cell_edits.smooth(labels, (15, 12)))
    assert after[15, 46] == 0
    assert (after[labels == 5] == 5).all()
    assert areas(after)[1] > 0.9 * (areas(labels)[1] - 10)
    thin = np.zeros((20, 20), np.uint8)
    thin[10, 5:15] = 1
    with pytest.raises(UserError, match="too thin"):
        cell_edits.smooth(thin, (10, 10))


def test_a_drawn_cell_never_covers_another():
    labels = plane()
    outline = [(25, 45), (25, 85), (40, 85), (40, 45)]
    after = applied(labels, cell_edits.draw(labels, outline, 70_000).__class__(
        *(getattr(cell_edits.draw(labels, outline, 9), n) for n in ("rows", "columns", "after"))
    ))  # fmt: skip
    assert areas(after)[4] == areas(labels)[4]
    assert areas(after)[9] > 400
    assert cell_edits.draw(labels, outline, 70_000).after.max() == 70_000  # not wrapped
    with pytest.raises(UserError, match="Hardly a pixel"):
        cell_edits.draw(labels, [(31, 60), (31, 62), (32, 62)], 9)


@given(seed=st.integers(0, 20), column=st.integers(2, 117))
def test_what_was_split_is_the_same_again_once_it_is_merged(seed, column):
    labels = simulate_nuclei((120, 120), seed=seed)[1].astype(np.uint16)
    path = [(0, column), (119, column)]
    try:
        edit = cell_edits.split_along(labels, path, int(labels.max()) + 1)
    except UserError:
        return
    split = applied(labels, edit)
    assert ((split > 0) == (labels > 0)).all()
    untouched = ~np.isin(labels, cell_edits.ids_along(labels, path))
    assert (split[untouched] == labels[untouched]).all()
    for label in cell_edits.ids_along(labels, path):
        parts = np.unique(split[labels == label]).tolist()
        others = [part for part in parts if part != label]
        if others:
            split = applied(split, cell_edits.merge(split, [label, *others]))
    np.testing.assert_array_equal(split, labels)
