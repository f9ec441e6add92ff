"""What a disk refuses is a sentence with a way out; what nobody foresaw is noted for a report."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from napari_unet_cells.files.unforeseen import _WAYS_OUT, ERRORS, unforeseen


@pytest.mark.parametrize("number", _WAYS_OUT, ids=errno.errorcode.get)
def test_what_the_machine_refuses_is_said_with_a_way_out(number: int, tmp_path: Path) -> None:
    said = unforeseen(OSError(number, os.strerror(number), "/data/a.tif"), tmp_path)
    assert said.startswith(f"/data/a.tif could not be used: {os.strerror(number)}. ")
    assert said.endswith(_WAYS_OUT[number])
    assert not (tmp_path / ERRORS).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows finds no such file")
def test_a_real_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        (tmp_path / ("x" * 5000)).stat()
    said = unforeseen(caught.value, tmp_path)
    assert "xxx... could not be used: " in said
    assert len(said) < 400
    assert not (tmp_path / ERRORS).exists()


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "A file could"),
        (OSError(errno.ENOSPC, "No space left on device", 3), "A file could"),
        (OSError(errno.EACCES, "Permission denied", b"/a\xff"), "/a"),
        (OSError(errno.EACCES, "Permission denied", "/\x1b[2J\n"), "/ [2J could"),
        (OSError(errno.EROFS, "Read-only file system", "/from", None, "/to"), "/to could"),
    ],
)
def test_whatever_the_error_names_is_shown(error: OSError, named: str, tmp_path: Path) -> None:
    said = unforeseen(error, tmp_path)
    assert said.startswith(named)
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no number"),
        OSError("without a number"),
        # A file of ours that is missing is a defect of ours.
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"),
    ],
)
def test_what_nobody_foresaw_is_noted(error: Exception, tmp_path: Path) -> None:
    said = unforeseen(error, tmp_path)
    assert said.startswith(f"It failed in a way that nobody foresaw ({type(error).__name__}: ")
    assert said.endswith(f"Please report it with the file {tmp_path / ERRORS}.")
    assert type(error).__name__ in (tmp_path / ERRORS).read_text(encoding="utf-8")
