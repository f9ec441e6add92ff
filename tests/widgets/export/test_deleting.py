"""Cells deleted from the table of a large result, without a window."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.metadata import CELLS, OURS, PART_OF, result_metadata
from napari_unet_cells.segmentation.zarr_table import TableState, bring_up_to_date, state_of
from napari_unet_cells.widgets.export.cell_on_disk import DiskCell
from napari_unet_cells.widgets.export.deleting import Changed, Deleting

pytestmark = pytest.mark.gui

#: Two planes of squares, which have the same numbers in both.
LABELS = np.zeros((2, 200, 200), np.uint16)
for _number in range(25):
    _top, _left = 40 * (_number // 5) + 5, 40 * (_number % 5) + 5
    LABELS[:, _top : _top + 30, _left : _left + 30] = _number + 1


class Thread:
    """Does a job when it is told to."""

    def __init__(self) -> None:
        self.job: Any = None

    @property
    def running(self) -> bool:
        return self.job is not None

    def start(self, job: Any) -> None:
        self.job = job

    def do(self, deleting: Deleting) -> Changed:
        job, self.job = self.job, None
        (event,) = job(threading.Event())
        assert isinstance(event, Changed)
        deleting.receive(event)
        return event


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(label_zarr, "COARSEST", 64)
    folder = tmp_path / "slide_cells.ome.zarr"
    make(folder)
    return folder


def make(folder: Path, **record: str) -> None:
    """Make the result, as a run does."""
    made = LabelZarr(folder, LABELS.shape, "zyx", 512, Scale(None, "pixel", None))
    made.create(CELLS, np.uint16)
    for plane in range(2):
        made.write(CELLS, (plane,), (slice(0, 200), slice(0, 200)), LABELS[plane])
    made.finish(CELLS, {"cells": 25, **record}, {})
    for _ in bring_up_to_date(folder):
        pass


def cell(number: int) -> DiskCell:
    """Cell of plane 1 of a layer with an axis that is not stored."""
    y, x = (40 * at + 5 for at in divmod(number - 1, 5))
    return DiskCell(number, (0, 1), (slice(y, y + 30), slice(x, x + 30)))


def test_cells_go_and_come_back_the_last_one_first(folder: Path) -> None:
    thread = Thread()
    deleting = Deleting(lambda: folder, tuple, thread)
    for number in (3, 4):
        assert deleting.delete((1, number), cell(number), 1) == ""
        event = thread.do(deleting)
        assert event.sentence == f"Cell {number} deleted; Ctrl+Z brings it back."
        assert event.levels[0].shape == (1, 2, 200, 200)
    assert deleting.gone == {(1, 3), (1, 4)}
    left = label_levels(folder, CELLS)[0].read((slice(None),) * 3)
    expected = LABELS.copy()
    expected[1][np.isin(expected[1], (3, 4))] = 0
    np.testing.assert_array_equal(left, expected)
    state = state_of(folder)
    assert deleting.sentence(state) == (
        "Out of date: cells were deleted since this table was written."
    )
    assert deleting.take_back(1) == ""
    assert thread.do(deleting).sentence == "Cell 4 is back."
    assert deleting.gone == {(1, 3)}
    assert "deleted and brought back since" in deleting.sentence(state_of(folder))
    assert deleting.take_back(1) == ""
    thread.do(deleting)
    left = label_levels(folder, CELLS)[0].read((slice(None),) * 3)
    np.testing.assert_array_equal(left, LABELS)
    assert deleting.take_back(1).startswith("No cell was deleted here")
    assert thread.job is None
    assert LabelVersions(folder).last == 4


def test_what_is_known_of_versions_is_kept_from_cell_to_cell(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = np.array(LABELS[1], np.int64)
    edited = np.where(before == 9, 0, before)
    assert LabelVersions(folder).replace((1,), (slice(0, 200),) * 2, before, edited, 25) == 1
    thread, read = Thread(), list[int]()
    deleting, version = Deleting(lambda: folder, tuple, thread), LabelVersions.version
    monkeypatch.setattr(
        LabelVersions, "version", lambda of, number: (read.append(number), version(of, number))[1]
    )
    for number, expected in ((3, {1}), (4, {2}), (5, {3})):
        read.clear()
        assert deleting.delete((1, number), cell(number), 1) == ""
        thread.do(deleting)
        assert set(read) == expected | {number - 1}  # that which is written is read for all levels


def test_beside_parts_it_is_said_how_often_cells_were_changed(
    folder: Path,
) -> None:
    thread = Thread()
    deleting = Deleting(lambda: folder, tuple, thread)
    deleting.delete((1, 3), cell(3), 1)
    thread.do(deleting)
    before = LABELS[0, :40, :40].astype(np.int64)
    box = (slice(0, 40), slice(0, 40))
    LabelVersions(folder).replace((0,), box, before, np.zeros_like(before), 25)
    assert deleting.sentence(state_of(folder)) == (
        "Out of date: cells were changed 2 times since this table was written."
    )
    assert deleting.sentence(TableState(folder, True)) == ""


def test_a_cell_that_others_lie_over_does_not_keep_the_older_ones_away(folder: Path) -> None:
    thread = Thread()
    deleting = Deleting(lambda: folder, tuple, thread)
    for number in (3, 5):
        deleting.delete((1, number), cell(number), 1)
        thread.do(deleting)
    box = cell(5).box
    nothing = np.zeros((30, 30), np.int64)
    drawn = nothing.copy()
    drawn[4, 4] = 26
    LabelVersions(folder).replace((1,), box, nothing, drawn, 26)

    def undo() -> str:
        assert deleting.take_back(1) == ""
        job, thread.job = thread.job, None
        (event,) = job(threading.Event())
        return deleting.receive(event)

    covered = (
        "Cell 5 was not brought back: other cells were drawn where it was. Delete them in a part "
        "(page Correct) to have it back."
    )
    deleting.delete((1, 26), DiskCell(26, (0, 1), box), 1)
    thread.do(deleting)
    assert undo() == "Cell 26 is back."
    assert undo() == f"{covered} Ctrl+Z goes on to the cell before it."
    assert undo() == "Cell 3 is back."
    assert undo() == covered  # the only one that is left
    assert deleting.gone == {(1, 5)}
    LabelVersions(folder).replace((1,), box, drawn, nothing, 26)
    assert undo() == "Cell 5 is back."
    left = label_levels(folder, CELLS)[0].read((slice(None),) * 3)
    np.testing.assert_array_equal(left, LABELS)


@pytest.mark.parametrize("seen_by", ["page", "undo", "delete"])
def test_what_was_deleted_is_forgotten_once_the_result_is_another(
    folder: Path, seen_by: str
) -> None:
    thread = Thread()
    deleting = Deleting(lambda: folder, tuple, thread)
    deleting.delete((1, 3), cell(3), 1)
    thread.do(deleting)
    shutil.rmtree(folder)
    make(folder, date="2026-11-30T14:00:00+00:00")
    expected = LABELS.copy()
    if seen_by == "page":
        deleting.look(LabelVersions(folder).run)
    elif seen_by == "undo":
        assert deleting.take_back(1) == ""
        job, thread.job = thread.job, None
        (event,) = job(threading.Event())
        assert "was made anew since it was deleted" in deleting.receive(event)
    else:
        deleting.delete((0, 4), DiskCell(4, (0, 0), cell(4).box), 1)
        thread.do(deleting)
        expected[0][expected[0] == 4] = 0
    assert deleting.gone == ({(0, 4)} if seen_by == "delete" else frozenset())
    left = label_levels(folder, CELLS)[0].read((slice(None),) * 3)
    np.testing.assert_array_equal(left, expected)
    if seen_by != "delete":
        assert deleting.take_back(1).startswith("No cell was deleted here")
        before = LABELS[0, :40, :40].astype(np.int64)
        box = (slice(0, 40), slice(0, 40))
        LabelVersions(folder).replace((0,), box, before, np.zeros_like(before), 25)
        assert "cells were changed" in deleting.sentence(state_of(folder))


def test_while_a_part_is_edited_or_one_is_being_deleted_none_goes(folder: Path) -> None:
    metadata = result_metadata(CELLS, "", {})
    metadata[OURS][PART_OF] = {"zarr": str(folder)}
    layers = [Labels(np.ones((4, 4), np.uint8), name="cells part", metadata=metadata)]
    thread = Thread()
    deleting = Deleting(lambda: folder, lambda: layers, thread)
    said = deleting.delete((1, 3), cell(3), 1)
    assert said.startswith("A part of these cells is being edited. Put 'cells part' back first")
    assert thread.job is None
    layers.clear()
    assert deleting.delete((1, 3), cell(3), 1) == ""
    first = thread.job
    assert deleting.delete((1, 3), cell(3), 1) == ""  # the key is held down
    assert thread.job is first
    thread.do(deleting)
    metadata[OURS][PART_OF] = {"zarr": str(folder)}
    layers.append(Labels(np.ones((4, 4), np.uint8), name="cells part", metadata=metadata))
    assert "is being edited" in deleting.take_back(1)
