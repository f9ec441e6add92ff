"""Whether a file is still what it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from napari_unet_cells.files import stamp
from napari_unet_cells.files.stamp import is_unchanged, stamp_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(b"pixels")
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_a_file_that_was_touched_or_copied_is_the_same(file: Path, tmp_path: Path) -> None:
    before = stamp_of(file)
    assert (before.size, before.mtime_ns) == (6, 10**18)
    os.utime(file, ns=(10**18, 2 * 10**18))
    assert is_unchanged(file, before)
    assert is_unchanged(Path(shutil.copy(file, tmp_path / "b.tif")), before)


@pytest.mark.parametrize("content", [b"pixelz", b"pixels and more", b""])
def test_other_content_is_a_change(file: Path, content: bytes) -> None:
    before = stamp_of(file)
    assert is_unchanged(file, before)
    file.write_bytes(content)
    assert not is_unchanged(file, before)


def test_of_a_long_file_size_and_time_decide(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "LONGEST_READ", 3)
    before = stamp_of(file)
    assert before.digest == ""
    assert is_unchanged(file, before)
    os.utime(file, ns=(10**18, 2 * 10**18))
    assert not is_unchanged(file, before)


def test_every_file_of_a_folder_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    (folder / "0" / "c").mkdir(parents=True)
    for name in ("zarr.json", "0/zarr.json", "0/c/0"):
        (folder / name).write_bytes(b"12")
    before = stamp_of(folder)
    assert before.size == 6
    assert is_unchanged(folder, before)
    os.rename(folder / "0/c/0", folder / "0/c/1")
    assert not is_unchanged(folder, before)
    os.rename(folder / "0/c/1", folder / "0/c/0")
    assert is_unchanged(folder, before)
    os.utime(folder / "0/c/0", ns=(10**18, 10**18))
    assert not is_unchanged(folder, before)


def test_what_is_gone_is_no_change_but_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stamp_of(tmp_path / "gone")
