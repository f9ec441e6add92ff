"""Nothing is overwritten or half written, whatever the disk does."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
    atomic_write,
    check_folder,
    make_folder,
    refuse_existing,
    write_json,
    write_labels,
)


def disks(n: int, dtype: str = "uint16") -> NDArray[Any]:
    """Label image of 40 x 60 pixels whose highest id is n."""
    labels = np.zeros((40, 60), dtype)
    labels[5:15, 5:15] = 1
    labels[20:30, 40:55] = n
    return labels


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Make a file that holds work."""
    path = tmp_path / "work.txt"
    path.write_text("old")
    return path


def test_a_file_appears_whole_and_with_normal_rights(tmp_path: Path) -> None:
    target = tmp_path / "new.keras"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".keras"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["new.keras"]
    (tmp_path / "usual").touch()
    assert target.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, OSError, UserError])
def test_after_a_failure_the_old_file_is_whole_and_nothing_else_is_left(
    old: Path, failure: type[BaseException]
) -> None:
    expected = UserError if failure is OSError else failure
    with pytest.raises(expected), atomic_write(old, overwrite=True) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert old.read_text() == "old"
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    target = tmp_path / "cells.tif"
    if not links:
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with pytest.raises(FileExists), atomic_write(target) as temporary:  # noqa: PT012
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["cells.tif"]


def refuse(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"

    monkeypatch.setattr(os, "replace", refuse(errno.EIO))
    with pytest.raises(UserError, match="b was not written"), atomic_write(tmp_path / "b"):
        pass
    assert os.listdir(tmp_path) == ["a"]  # no empty b


DISK_FAILURES = {
    errno.ENOSPC: r"the disk of .* is full\. Free some space",
    errno.EDQUOT: r"your share of the disk",
    errno.EACCES: r"may not be written to",
    errno.EROFS: r"read-only disk\. Choose another folder",
    errno.EIO: r"the disk refused it \(Input/output error\)",
}


@pytest.mark.parametrize("number", DISK_FAILURES)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_gets_a_sentence(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    monkeypatch.setattr(os, step, refuse(number))
    with pytest.raises(UserError, match=DISK_FAILURES[number]):
        write_json(old.with_suffix(".json"), {}, overwrite=True)
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize("highest", [65535, 65536])
def test_a_mask_that_the_disk_cannot_take_leaves_the_old_one(tmp_path: Path, highest: int) -> None:
    """A real failure in the middle of tifffile's writing, by a limit on file sizes."""
    target = write_labels(tmp_path / "m.tif", disks(2), provenance={})
    before = target.read_bytes()
    script = f"""
import resource
import numpy as np
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_labels
labels = np.random.default_rng(0).integers(0, {highest}, (500, 500), endpoint=True)
labels[0, 0] = {highest}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_labels({str(target)!r}, labels, provenance={{}}, overwrite=True)
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "m.tif was not written: the disk of" in done.stdout
    assert "so large a file" in done.stdout
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.tif"]


def test_targets_that_cannot_be(old: Path) -> None:
    folder = old.parent
    with pytest.raises(UserError, match=r"there is no folder .*nowhere\. Make it"):
        write_json(folder / "nowhere" / "a.json", {})
    with pytest.raises(UserError, match=r"work\.txt is not a folder"):
        write_json(old / "a.json", {})
    with pytest.raises(UserError, match="name is too long"):
        write_json(folder / ("a" * 300), {})
    with pytest.raises(UserError, match="is a folder, not a file"):
        write_json(folder, {})
    with pytest.raises(UserError, match="is a folder, not a file"), atomic_write(folder, True):
        pass
    assert os.listdir(folder) == [old.name]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder read-only to root")
def test_a_read_only_folder() -> None:
    with pytest.raises(UserError, match=r"^m\.tif was not written: .*/proc"):
        write_labels("/proc/m.tif", disks(2), provenance={})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows other rights")
def test_a_folder_and_a_file_without_write_permission(unprivileged: Path) -> None:
    old = unprivileged / "old.txt"
    old.write_text("old")
    old.chmod(0o444)
    assert not os.access(old, os.W_OK)
    with pytest.raises(UserError, match="write-protected"), atomic_write(old, True):
        pass
    old.parent.chmod(0o555)
    with pytest.raises(UserError, match="may not be written"), atomic_write(old.parent / "a"):
        pass
    old.parent.chmod(0o755)
    assert old.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights there")
def test_a_link_stays_a_link_and_rights_stay(old: Path) -> None:
    old.chmod(0o640)
    link = old.parent / "link.txt"
    link.symlink_to(old)
    with atomic_write(link, overwrite=True) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert old.read_text() == "new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_existing_files_are_refused_before_the_work(tmp_path: Path) -> None:
    there = tmp_path / "a.csv"
    refuse_existing([there, tmp_path / "b.csv"])
    there.write_bytes(b"old")
    with pytest.raises(FileExists, match=r"a\.csv exists already") as caught:
        refuse_existing([tmp_path / "b.csv", str(there)])
    assert caught.value.path == there
    refuse_existing([there], overwrite=True)


def test_a_folder_that_is_not_there_is_asked_for_and_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path)
    with pytest.raises(UserError, match=r"There is no folder .*/no\. Make it"):
        check_folder(tmp_path / "no")
    assert not (tmp_path / "no").exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"There is no folder .*/file"):
        check_folder(tmp_path / "file")


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="is a link, and what it leads to is not there"):
        make_folder(tmp_path / "link")


def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(
    unprivileged: Path,
) -> None:
    folder = unprivileged / "read-only"
    folder.mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"Nothing can be written to the folder .*read-only"):
        check_folder(folder)
