"""Sets of files: all or none, also where the program is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, write_together
from napari_unet_cells.files.atomic import atomic_write


def targets(folder: Path) -> tuple[Path, Path]:
    return folder / "a.tif", folder / "a.json"


def write(folder: Path, text: str, overwrite: bool = False) -> None:
    with write_together(targets(folder), overwrite) as part:
        for target in targets(folder):
            (part / target.name).write_text(text)
            assert not target.exists() or overwrite


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_they_appear_together_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "new")
    assert contents(tmp_path) == {"a.tif": "new", "a.json": "new"}
    with pytest.raises(FileExists, match=r"a\.tif exists already"):
        write(tmp_path, "newer")
    assert contents(tmp_path) == {"a.tif": "new", "a.json": "new"}
    write(tmp_path, "newer", overwrite=True)
    assert contents(tmp_path) == {"a.tif": "newer", "a.json": "newer"}


def test_a_file_that_is_left_out_is_not_made(tmp_path: Path) -> None:
    with write_together(targets(tmp_path)) as part:
        (part / "a.json").write_text("new")
    assert contents(tmp_path) == {"a.json": "new"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "error", [UserError("full"), MemoryError(), KeyboardInterrupt(), RuntimeError("x")]
)
def test_after_a_failure_all_is_as_it_was(
    tmp_path: Path, error: BaseException, overwrite: bool
) -> None:
    if overwrite:
        write(tmp_path, "old")
    before = contents(tmp_path)
    with (  # noqa: PT012
        pytest.raises(type(error)),
        write_together(targets(tmp_path), overwrite) as part,
    ):
        (part / "a.tif").write_text("half")
        raise error
    assert contents(tmp_path) == before


def test_a_file_of_another_program_stays(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(FileExists, match=r"a\.json exists already"),
        write_together(targets(tmp_path)) as part,
    ):
        for target in targets(tmp_path):
            (part / target.name).write_text("ours")
        (tmp_path / "a.json").write_text("theirs")
    assert contents(tmp_path) == {"a.json": "theirs"}


def test_an_error_names_the_folder_that_the_user_knows(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError) as caught,
        write_together(targets(tmp_path)) as part,
        atomic_write(part / "a.tif"),
    ):
        raise OSError(28, os.strerror(28))
    assert f"the disk of {tmp_path} is full" in str(caught.value)


def test_names_that_no_disk_takes_are_refused_before_the_work(tmp_path: Path) -> None:
    entered = False
    with (
        pytest.raises(UserError, match="its name is longer than 255 bytes"),
        write_together((tmp_path / ("\u00e9" * 126 + ".tif"), tmp_path / "a.json")),
    ):
        entered = True
    assert not entered


def test_what_is_protected_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, "old")
    (tmp_path / "a.tif").unlink()
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(UserError, match="is a folder, not a file"):
        write(tmp_path, "new", overwrite=True)
    assert (tmp_path / "a.json").read_text() == "old"


def test_what_lies_behind_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out" / "a.tif").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExists):
        write(tmp_path / "out", "new")
    write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"
    assert contents(tmp_path / "out") == {"a.tif": "new", "a.json": "new"}


KILLED = """
import os, sys
from pathlib import Path
from napari_unet_cells.files import file_set

folder, step, overwrite = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
calls = 0

def counted(function):
    def call(*arguments, **options):
        global calls
        if calls == step:
            os.kill(os.getpid(), 9)
        calls += 1
        return function(*arguments, **options)
    return call

os.rename = counted(os.rename)
file_set.replace_or_claim = counted(file_set.replace_or_claim)
with file_set.write_together((folder / "a.tif", folder / "a.json"), overwrite) as part:
    for name in ("a.tif", "a.json"):
        (part / name).write_text("new")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_set_is_whole_after_a_kill_and_one_more_try(
    tmp_path: Path, step: int, overwrite: bool
) -> None:
    if overwrite:
        write(tmp_path, "old")
    arguments = [sys.executable, "-c", KILLED, str(tmp_path), str(step), str(overwrite)]
    assert subprocess.run(arguments, timeout=120).returncode == -9
    if step == 0:  # before it counted
        shown = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
        assert {path.read_text() for path in shown} == ({"old"} if overwrite else set())
        write(tmp_path, "again", overwrite)
        expected = "again"
        (left,) = tmp_path.glob(".*.part")
        os.utime(left, (time.time() - 10**6,) * 2)
    else:
        expected = "new"
    with pytest.raises(FileExists):
        write(tmp_path, "later")
    assert contents(tmp_path) == {"a.tif": expected, "a.json": expected}
