"""Cells that are deleted from labels on the disk: whole, as a version, and brought back as one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.mode import halve_by_mode
from napari_unet_cells.core.resample import Box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.table_pages import stamp_of
from napari_unet_cells.segmentation import zarr_delete
from napari_unet_cells.segmentation.zarr_delete import (
    DrawnBoxes,
    MadeAnew,
    delete_cell,
    take_back,
)
from napari_unet_cells.segmentation.zarr_place import table_of
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date, state_of
from napari_unet_cells.untrusted.label_version import Version

N = 300


def labels_of() -> NDArray[np.uint16]:
    """Cells of 10 x 10; 1 and 2 overlap in their boxes."""
    labels = np.zeros((300, 500), np.uint16)
    for number in range(N):
        y, x = divmod(number, 25)
        labels[20 * y + 4 : 20 * y + 14, 20 * x + 4 : 20 * x + 14] = number + 1
    labels[10:14, 14:26] = 2
    return labels


def box_of(labels: NDArray[np.uint16], label: int) -> Box:
    y, x = np.nonzero(labels == label)
    return slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1)


@pytest.fixture
def zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(label_zarr, "COARSEST", 64)
    folder = tmp_path / "slide_cells.ome.zarr"
    made = LabelZarr(folder, (300, 500), "yx", 512, Scale(None, "pixel", None))
    made.create("cells", np.uint16)
    made.write("cells", (), (slice(0, 300), slice(0, 500)), labels_of())
    made.finish("cells", {"cells": N}, {})
    for _ in bring_up_to_date(folder):
        pass
    return folder


def now(zarr: Path, level: int = 0) -> NDArray[np.int64]:
    return label_levels(zarr, "cells")[level].read((slice(None), slice(None))).astype(np.int64)


def ids_in_table(zarr: Path) -> list[int]:
    return [int(row.split(",")[0]) for row in table_of(zarr).read_text().splitlines()[1:]]


def update(zarr: Path) -> None:
    for _ in bring_up_to_date(zarr):
        pass


def test_a_cell_goes_from_all_levels_and_from_the_table_and_comes_back(zarr: Path) -> None:
    labels = labels_of()
    deleted = delete_cell(zarr, (), 2, box_of(labels, 2))
    assert (deleted.label, deleted.plane, deleted.number) == (2, (), 1)
    expected = np.where(labels == 2, 0, labels)
    np.testing.assert_array_equal(now(zarr), expected)  # and nothing of its neighbours
    np.testing.assert_array_equal(now(zarr, 1), halve_by_mode(expected))
    assert not state_of(zarr).is_true
    update(zarr)
    assert ids_in_table(zarr) == [1, *range(3, N + 1)]
    assert take_back(zarr, deleted) == 2
    np.testing.assert_array_equal(now(zarr), labels)
    np.testing.assert_array_equal(now(zarr, 1), halve_by_mode(labels))
    update(zarr)
    assert sorted(ids_in_table(zarr)) == list(range(1, N + 1))


def test_its_id_is_not_given_again(zarr: Path) -> None:
    delete_cell(zarr, (), N, box_of(labels_of(), N))
    versions = LabelVersions(zarr)
    assert versions.n_used(versions.n_given()) == N
    assert versions.version(1).n_used == N


def test_what_was_drawn_of_it_since_its_row_was_written_goes_too(zarr: Path) -> None:
    labels = labels_of()
    box = slice(200, 300), slice(300, 400)
    before = labels[box].astype(np.int64)
    after = before.copy()
    after[18:20, :10] = 2  # a piece far from the others
    LabelVersions(zarr).replace((), box, before, after, N)
    assert (now(zarr)[box] == 2).any()
    delete_cell(zarr, (), 2, box_of(labels, 2))
    assert not (now(zarr) == 2).any()
    assert (now(zarr) > 0).sum() == (labels > 0).sum() - (labels == 2).sum()


def drawn_far(zarr: Path, label: int) -> None:
    """Put a piece of a cell far from it."""
    box = slice(200, 300), slice(300, 400)
    before = now(zarr)[box]
    after = before.copy()
    after[18:20, :10] = label
    assert LabelVersions(zarr).replace((), box, before, after, N)


def test_a_version_is_read_once_for_all_cells(zarr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of()
    drawn_far(zarr, 2)
    drawn_far(zarr, 3)
    drawn_far(zarr, 5)
    boxes, read = DrawnBoxes(), list[int]()
    version = LabelVersions.version

    def counted(versions: LabelVersions, number: int) -> Version:
        read.append(number)
        return version(versions, number)

    monkeypatch.setattr(LabelVersions, "version", counted)
    delete_cell(zarr, (), 5, box_of(labels, 5), drawn=boxes)
    assert set(read) == {1, 2, 3, 4}  # the last one is written, at all scales
    assert not (now(zarr) == 5).any()
    read.clear()
    drawn_far(zarr, 3)  # one more, behind the cells of which all is known
    read.clear()
    delete_cell(zarr, (), 3, box_of(labels, 3), drawn=boxes)
    assert set(read) == {4, 5, 6}  # the deleted cell, the piece, and what is written
    assert not (now(zarr) == 3).any()
    read.clear()
    delete_cell(zarr, (), 2, box_of(labels, 2), drawn=boxes)
    assert set(read) == {6, 7}
    # of a run that made it anew the first version is another one
    shutil.rmtree(LabelVersions(zarr).file_of(1).parent)
    drawn_far(zarr, 9)
    read.clear()
    delete_cell(zarr, (), 9, box_of(labels, 9), drawn=boxes)
    assert 1 in read
    assert not (now(zarr) == 9).any()


def test_of_a_table_that_was_written_anew_the_old_row_deletes_nothing(zarr: Path) -> None:
    labels = labels_of()
    old_box, stamp = box_of(labels, 2), stamp_of(table_of(zarr))
    far = slice(200, 300), slice(300, 400)
    before = labels[far].astype(np.int64)
    after = before.copy()
    after[18:20, :10] = 2
    LabelVersions(zarr).replace((), far, before, after, N)
    update(zarr)  # by an export, or another napari: the version is not behind any more
    labels[far] = after
    with pytest.raises(UserError, match=r"Cell 2 was not deleted: slide_cells\.csv was written"):
        delete_cell(zarr, (), 2, old_box, stamp)
    np.testing.assert_array_equal(now(zarr), labels)
    delete_cell(zarr, (), 2, box_of(labels, 2), stamp_of(table_of(zarr)))
    np.testing.assert_array_equal(now(zarr), np.where(labels == 2, 0, labels))
    table_of(zarr).unlink()
    with pytest.raises(UserError, match="Cell 7 was not deleted"):
        delete_cell(zarr, (), 7, box_of(labels, 7), stamp)


def test_a_row_that_says_less_than_the_cell_holds_does_no_harm(
    zarr: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_delete, "_STEP", 3)
    labels = labels_of()
    deleted = delete_cell(zarr, (), 2, (slice(6, 9), slice(26, 30)))
    np.testing.assert_array_equal(now(zarr), np.where(labels == 2, 0, labels))
    take_back(zarr, deleted)
    np.testing.assert_array_equal(now(zarr), labels)
    corner = (slice(299, 300), slice(499, 500))  # where the labels end, it grows no further
    with pytest.raises(UserError, match="is gone already"):
        delete_cell(zarr, (), 7, corner)


def test_what_is_gone_is_not_deleted_again(zarr: Path) -> None:
    box = box_of(labels_of(), 7)
    delete_cell(zarr, (), 7, box)
    with pytest.raises(UserError, match="Cell 7 is gone already"):
        delete_cell(zarr, (), 7, box)
    assert LabelVersions(zarr).last == 1


def test_a_cell_does_not_come_back_over_others(zarr: Path) -> None:
    box = box_of(labels_of(), 7)
    deleted = delete_cell(zarr, (), 7, box)
    nothing = np.zeros((10, 10), np.int64)
    drawn = nothing.copy()
    drawn[4, 4] = N + 1
    LabelVersions(zarr).replace((), box, nothing, drawn, N + 1)
    with pytest.raises(UserError, match="Cell 7 was not brought back: other cells were drawn"):
        take_back(zarr, deleted)
    np.testing.assert_array_equal(now(zarr)[box], drawn)


def test_a_cell_does_not_come_back_into_a_result_that_was_made_anew(zarr: Path) -> None:
    labels = labels_of()
    deleted = delete_cell(zarr, (), 7, box_of(labels, 7))
    shutil.rmtree(zarr)
    made = LabelZarr(zarr, (300, 500), "yx", 512, Scale(None, "pixel", None))
    made.create("cells", np.uint16)
    made.write("cells", (), (slice(0, 300), slice(0, 500)), labels)
    made.finish("cells", {"cells": N, "date": "2026-11-30T14:00:00+00:00"}, {})
    update(zarr)
    delete_cell(zarr, (), 8, box_of(labels, 8))  # the first version of that run
    with pytest.raises(MadeAnew, match=r"slide_cells\.ome\.zarr was made anew since") as caught:
        take_back(zarr, deleted)
    assert caught.value.run == LabelVersions(zarr).run != deleted.run
    np.testing.assert_array_equal(now(zarr), np.where(labels == 8, 0, labels))
    assert LabelVersions(zarr).last == 1


def test_where_versions_are_gone_the_table_has_to_be_true_first(zarr: Path) -> None:
    labels = labels_of()
    delete_cell(zarr, (), 7, box_of(labels, 7))
    LabelVersions(zarr).file_of(1).unlink()
    with pytest.raises(UserError, match="Bring it up to date, and delete"):
        delete_cell(zarr, (), 8, box_of(labels, 8))
    assert (now(zarr) == 8).any()
    update(zarr)
    delete_cell(zarr, (), 8, box_of(labels, 8))
    assert not (now(zarr) == 8).any()


def test_while_a_run_makes_the_result_anew_nothing_is_changed(zarr: Path) -> None:
    labels = labels_of()
    lock = zarr.with_name(f".{zarr.name}.lock")
    descriptor = open_lock(lock)
    assert try_lock(descriptor)
    try:
        with pytest.raises(UserError, match=r"slide_cells\.ome\.zarr is being segmented anew"):
            delete_cell(zarr, (), 7, box_of(labels, 7))
        np.testing.assert_array_equal(now(zarr), labels)
    finally:
        os.close(descriptor)
    delete_cell(zarr, (), 7, box_of(labels, 7))  # of a run that was killed the file is left
    assert not (now(zarr) == 7).any()


def test_a_cell_in_pieces_too_far_apart_is_named(
    zarr: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_delete, "MOST_PIXELS", 99)
    with pytest.raises(UserError, match="Cell 7 lies in pieces too far apart"):
        delete_cell(zarr, (), 7, box_of(labels_of(), 7))
    assert LabelVersions(zarr).last == 0
