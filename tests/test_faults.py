"""`scripts/faults.py`: each write of three works fails once, and that it would see what is lost."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX"),
]

SCRIPTS = Path(__file__).parent.parent / "scripts"

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_whichever_write_fails_nothing_is_lost_and_it_is_said(run_alone: Run) -> None:
    done = run_alone(str(SCRIPTS / "faults.py"), "corrections", "checkpoint", "parts")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.findall(
        r"^(\w+) +(\w+) +(\d+) faults, +(\d+) sentences, 0 lost$", done.stdout, re.M
    )
    assert [(work, fault) for work, fault, _, _ in counted] == [
        ("corrections", "disk"),
        ("corrections", "memory"),
        ("checkpoint", "disk"),
        ("checkpoint", "memory"),
        ("parts", "disk"),
        ("parts", "memory"),
    ]
    assert all(int(faults) >= 20 for _, _, faults, _ in counted), done.stdout
    assert all(int(sentences) >= 10 for _, _, _, sentences in counted), done.stdout


_BAD = """
import sys
from pathlib import Path
import faults, interrupted_works

def work(folder, say):
    path = folder / "list.txt"
    for number in range(1, 4):
        {write}
        say(number)

def look(folder, said):
    path = folder / "list.txt"
    text = path.read_text() if path.exists() else "0"
    interrupted_works.expect(text == str(int(said[-1]) if said else 0), f"it says '{{text}}'")

faults.WORKS["bad"] = interrupted_works.Victim(work, look, 1.0)
count = faults.fault_all("bad", "disk")
print(count.faults, len(count.lost))
"""

_HALF = (
    "file = open(path, 'w'); file.flush(); __import__('os').fsync(file); file.write(str(number))"
)
_WHOLE = """
        from napari_unet_cells.files.atomic import atomic_write
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(str(number))
"""


@pytest.mark.parametrize(("write", "is_lost"), [(_HALF, True), (_WHOLE, False)])
def test_what_is_half_written_is_seen(run_alone: Run, write: str, is_lost: bool) -> None:
    done = run_alone("-c", _BAD.format(write=write.strip()))
    assert done.stderr == ""
    faults, lost = map(int, done.stdout.split())
    assert faults >= 3
    assert bool(lost) == is_lost
