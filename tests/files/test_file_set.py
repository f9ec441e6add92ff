"""Sets of files: all or none, also where the program is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, file_set, write_together
from napari_unet_cells.files.atomic import atomic_write, replace_or_claim
from napari_unet_cells.files.file_set import finish_sets


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
    with pytest.raises(UserError, match="is a link to another place, and was left as it is"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"
    assert os.listdir(tmp_path / "out") == ["a.tif"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    write(tmp_path, "old")
    (tmp_path / "a.tif").chmod(0o600)
    write(tmp_path, "new", overwrite=True)
    assert (tmp_path / "a.tif").stat().st_mode & 0o777 == 0o600


def test_ctrl_c_while_files_are_moved_out_leaves_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def move(path: Path, target: Path, overwrite: bool) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace_or_claim(path, target, overwrite)

    monkeypatch.setattr(file_set, "replace_or_claim", move)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "new")
    assert len(calls) == 3
    assert contents(tmp_path) == {"a.tif": "new", "a.json": "new"}


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
        (part / name).write_text("newer")
"""


def killed(folder: Path, step: int, overwrite: bool) -> None:
    arguments = [sys.executable, "-c", KILLED, str(folder), str(step), str(overwrite)]
    assert subprocess.run(arguments, timeout=120).returncode == -9
    assert any(path.name.startswith(".") for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_set_is_whole_after_a_kill_and_one_more_look(
    tmp_path: Path, step: int, overwrite: bool
) -> None:
    if overwrite:
        write(tmp_path, "old")
    killed(tmp_path, step, overwrite)
    finish_sets(targets(tmp_path))
    if step > 0:  # it counted
        assert contents(tmp_path) == {"a.tif": "newer", "a.json": "newer"}
    else:
        assert contents(tmp_path) == ({"a.tif": "old", "a.json": "old"} if overwrite else {})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_what_a_person_changed_since_a_kill_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, "old")
    killed(tmp_path, 1, overwrite=True)  # before the first file was moved
    (tmp_path / "a.tif").write_text("corrected by hand")
    with pytest.raises(FileExists):
        write(tmp_path, "later")
    assert (tmp_path / "a.tif").read_text() == "corrected by hand"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "a.json"}


def test_a_set_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with write_together(targets(tmp_path)) as part:
        (part / "a.tif").write_text("first")
        write(tmp_path, "second")  # of this process, which runs
        assert (part / "a.tif").exists()
        for target in targets(tmp_path):
            target.unlink()
    assert contents(tmp_path) == {"a.tif": "first"}


def test_a_folder_that_has_not_changed_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch asks for each of thousands of images in it."""
    looked = []
    original = Path.glob

    def glob(self: Path, pattern: str) -> Any:
        looked.append(self)
        return original(self, pattern)

    monkeypatch.setattr(Path, "glob", glob)
    finish_sets([tmp_path / "a.json"])
    finish_sets([tmp_path / "a.json"])
    assert len(looked) == 2  # it was made just now
    os.utime(tmp_path, ns=(10**18, 10**18))
    for name in ("a.json", "b.json", "c.json"):
        finish_sets([tmp_path / name])
    assert len(looked) == 3
    (tmp_path / "new").touch()
    finish_sets([tmp_path / "a.json"])
    assert len(looked) == 4
