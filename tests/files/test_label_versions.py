"""Parts of labels on the disk that are replaced: whole, at all levels, after a kill too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.mode import halve_by_mode
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_versions, label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.files.pixel_size import Scale

LABELS = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((50, 40))).astype(np.uint16)

#: Neither its sides nor its corners are even.
BOX = np.s_[33:120, 17:101]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelVersions:
    monkeypatch.setattr(label_zarr, "COARSEST", 32)
    labels = LabelZarr(tmp_path / "a.ome.zarr", LABELS.shape, "yx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    labels.write("cells", (), (slice(0, 150), slice(0, 160)), LABELS)
    labels.finish("cells", {}, {})
    return LabelVersions(tmp_path / "a.ome.zarr")


def levels_of(versions: LabelVersions) -> list[NDArray[Any]]:
    return [np.asarray(level) for level in label_levels(versions.folder, "cells")]


def edited() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Give a part as it was and as it is, and the plane with it."""
    taken = LABELS[BOX].astype(np.int64)
    new = taken.copy()
    new[new == 6] = 0
    new[40:60, 30:50] = 99
    whole = LABELS.copy()
    whole[BOX] = new
    return taken, new, whole


def coarse(whole: NDArray[Any], tmp_path: Path) -> list[NDArray[Any]]:
    labels = LabelZarr(tmp_path / "b.ome.zarr", whole.shape, "yx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    labels.write("cells", (), (slice(0, 150), slice(0, 160)), whole)
    labels.finish("cells", {}, {})
    return levels_of(LabelVersions(labels.folder))


def test_a_part_is_replaced_at_all_levels_and_what_was_there_is_kept(
    written: LabelVersions, tmp_path: Path
) -> None:
    taken, new, whole = edited()
    assert written.n_used(12) == 12
    assert written.replace((), BOX, taken, new, 99) == 1
    for one, other in zip(levels_of(written), coarse(whole, tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)
    version = written.version(1)
    assert (version.box, version.plane, version.n_used) == (BOX, (), 99)
    np.testing.assert_array_equal(version.before, taken)
    np.testing.assert_array_equal(version.after, new)
    assert (written.numbers, written.n_used(12)) == ([1], 99)
    # and back, which is a version too
    assert written.replace((), BOX, new, taken, 99) == 2
    np.testing.assert_array_equal(levels_of(written)[0], LABELS)
    assert written.replace((), BOX, taken, taken, 99) == 0
    assert written.numbers == [1, 2]


def test_what_another_program_put_back_meanwhile_is_not_numbered_twice(
    written: LabelVersions,
) -> None:
    taken, new, _ = edited()
    last = written.last
    written.replace((), BOX, taken, new, 99)
    with pytest.raises(UserError, match=r"has put a part of .* back meanwhile\. Try again"):
        written.replace((), BOX, new, taken, 99, last)
    assert written.numbers == [1]
    assert written.replace((), BOX, new, taken, 99, written.last) == 2


def test_a_version_whose_file_is_removed_keeps_its_number_and_its_ids(
    written: LabelVersions,
) -> None:
    taken, new, _ = edited()
    written.replace((), BOX, taken, taken + 20, 99)
    written.replace((), BOX, taken + 20, new, 120)
    written.file_of(2).unlink()
    assert (written.numbers, written.last, written.n_used(12)) == ([1], 2, 120)
    assert written.replace((), BOX, new, taken, 120) == 3
    written.file_of(3).with_suffix(".done").write_bytes(b"\xff")
    assert written.n_used(12) == 120


def test_a_part_is_known_by_its_newest_version(written: LabelVersions) -> None:
    taken, new, _ = edited()
    assert written.put_back((), BOX, taken) is None
    written.replace((), BOX, taken, new, 99)
    np.testing.assert_array_equal(written.put_back((), BOX, taken), new)
    assert written.put_back((), BOX, new) is None  # taken since
    assert written.put_back((), np.s_[33:119, 17:101], taken[:-1]) is None
    written.replace((), BOX, new, taken, 99)
    assert written.put_back((), BOX, taken) is None  # as the second version left it


def test_a_version_from_before_a_part_was_taken_is_none_of_it(written: LabelVersions) -> None:
    taken, new, _ = edited()
    larger = np.s_[30:125, 10:110]
    written.replace((), BOX, taken, new, 99)
    np.testing.assert_array_equal(written.put_back((), BOX, taken, 0), new)
    assert written.put_back((), BOX, taken, 1) is None
    # in another box it is made as it was before: the first version is not what is there now
    there = levels_of(written)[0][larger].astype(np.int64)
    written.replace((), larger, there, LABELS[larger].astype(np.int64), 99)
    np.testing.assert_array_equal(levels_of(written)[0], LABELS)
    assert written.put_back((), BOX, taken) is None
    assert written.put_back((), BOX, taken, 2) is None
    # of any number since
    for number in range(label_versions._LOOKED_AT + 1):
        one, other = (taken, new) if number % 2 == 0 else (new, taken)
        written.replace((), BOX, one, other, 99)
    np.testing.assert_array_equal(written.put_back((), BOX, taken, 2), new)


def test_of_two_edits_of_one_part_both_count(written: LabelVersions) -> None:
    taken, new, _ = edited()
    other = taken.copy()
    other[:5] = 77
    written.replace((), BOX, taken, new, 99)
    written.replace((), BOX, taken, other, 99)
    now = levels_of(written)[0][BOX]
    assert (now[:5] == 77).all()
    np.testing.assert_array_equal(now[5:], new[5:])


@pytest.mark.parametrize("n_writes", [0, 1, 3])
def test_killed_while_it_is_written_it_is_finished_by_the_next(
    written: LabelVersions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_writes: int
) -> None:
    taken, new, whole = edited()
    before, halved = levels_of(written), []

    def killed(labels: NDArray[Any]) -> NDArray[Any]:
        halved.append(labels)
        if len(halved) >= n_writes:
            raise KeyboardInterrupt
        return halve_by_mode(labels)

    with monkeypatch.context() as patch:
        patch.setattr(label_versions, "halve_by_mode", killed)
        if not n_writes:
            patch.setattr(LabelVersions, "_apply", lambda *values: killed(taken))
        with pytest.raises(KeyboardInterrupt):
            written.replace((), BOX, taken, new, 99)
    assert not all(
        np.array_equal(one, other)
        for one, other in zip(levels_of(written), coarse(whole, tmp_path), strict=True)
    )
    assert np.array_equal(levels_of(written)[0], before[0]) == (n_writes == 0)
    again = LabelVersions(written.folder)
    assert again.settle()
    assert not again.settle()
    for one, other in zip(levels_of(again), coarse(whole, tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_version_that_cannot_be_written_changes_nothing(
    written: LabelVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, new, _ = edited()

    def full(*values: Any) -> None:
        raise UserError("The disk is full.")

    monkeypatch.setattr(label_versions, "write_arrays", full)
    with pytest.raises(UserError, match="The disk is full"):
        written.replace((), BOX, taken, new, 99)
    np.testing.assert_array_equal(levels_of(written)[0], LABELS)
    assert written.numbers == []


def test_ids_that_do_not_fit_and_other_programs_are_sentences(written: LabelVersions) -> None:
    taken, new, _ = edited()
    new[0, 0] = 70_000
    with pytest.raises(UserError, match="no ids left for new cells"):
        written.replace((), BOX, taken, new, 70_000)
    with pytest.raises(UserError, match=r"Nothing was written\. Export what you edited as a TIFF"):
        written.replace((), BOX, taken, new, 70_000)
    descriptor = open_lock(written.folder / "labels" / "cells" / "versions.lock")
    assert try_lock(descriptor)
    new[0, 0] = 70
    with pytest.raises(UserError, match="is being changed by another program"):
        written.replace((), BOX, taken, new, 99)
    np.testing.assert_array_equal(levels_of(written)[0], LABELS)


def test_what_is_settled_late_does_not_undo_what_came_after_it(written: LabelVersions) -> None:
    taken, new, _ = edited()
    later = new.copy()
    later[40:60, 30:50] = 88  # upon what the first one has drawn
    written.replace((), BOX, taken, new, 99)
    written.replace((), BOX, new, later, 99)
    expected = levels_of(written)
    versions = written.folder / "labels" / "cells" / "versions"
    (versions / "000001.done").unlink()  # as if its program had been slow to say so
    assert written.settle()
    for one, other in zip(levels_of(written), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (levels_of(written)[0][BOX][40:60, 30:50] == 88).all()


def test_labels_that_cannot_be_read_are_never_taken_for_background(
    written: LabelVersions,
) -> None:
    taken, new, _ = edited()
    (shard,) = (written.folder / "labels" / "cells" / "0" / "c" / "0").iterdir()
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.ome\.zarr"):
        written.replace((), BOX, taken, new, 99)
    assert written.numbers == []
    level = label_levels(written.folder, "cells")[0]
    with pytest.raises(UserError, match=r"a\.ome\.zarr"):
        level.read(BOX)
    with pytest.warns(UserWarning, match="cannot be read are not shown"):
        assert not level[BOX].any()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("start", [140, 17], "outside of the labels"),
        ("start", [-1, 0], "outside of the labels"),
        ("start", [33, 17, 0], "3 numbers where 2 belong"),
        ("plane", [0], "1 numbers where 0 belong"),
        ("after", [[1, 2]], "do not fit each other"),
        ("before", [[0.5]], "whole ones"),
        ("more", [1], "other arrays"),
    ],
)
def test_a_version_that_is_none_is_a_sentence_and_changes_nothing(
    written: LabelVersions, name: str, value: Any, problem: str
) -> None:
    taken, new, _ = edited()
    written.replace((), BOX, taken, new, 99)
    before = levels_of(written)
    arrays = dict(np.load(written.file_of(1)))
    dtype = float if name == "before" else np.int64
    np.savez(written.file_of(1), **(arrays | {name: np.array(value, dtype)}))
    (written.folder / "labels" / "cells" / "versions" / "000001.done").unlink()
    with pytest.raises(UserError, match=problem):
        written.settle()
    for one, other in zip(levels_of(written), before, strict=True):
        np.testing.assert_array_equal(one, other)
