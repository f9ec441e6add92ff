"""`scripts/kills.py`: a few kills of each kind, and that it would see what is lost."""

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


def test_nothing_is_lost_by_a_kill_at_any_moment(run_alone: Run) -> None:
    done = run_alone(str(SCRIPTS / "kills.py"), "20")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.findall(r"^(\w+) +(\d+) kills, +(\d+) at work, +(\d+) amid", done.stdout, re.M)
    assert [kind for kind, _, _, _ in counted] == [
        "corrections",
        "dataset",
        "batch",
        "checkpoint",
        "model",
    ]
    assert [kills for _, kills, _, _ in counted] == ["4"] * 5
    assert sum(int(midway) for _, _, midway, _ in counted) >= 8, done.stdout
    amid = {kind: int(number) for kind, _, _, number in counted}
    assert amid == {"corrections": 2, "dataset": 1, "batch": 1, "checkpoint": 2, "model": 2}


_LOSE = """
import json, random, sys
from dataclasses import replace
from pathlib import Path
import kills

def lose(folder):
    match sys.argv[1]:
        case "corrections":
            for path in folder.rglob("save-*.labels"):
                path.unlink()
        case "dataset":
            (folder / "dataset" / "index.json").write_text("[]")
        case "batch":
            record = next((folder / "out").glob("n*.json"))  # of a set that is whole
            record.with_name(f"{record.stem}_cells.csv").unlink()
        case "checkpoint":
            counts = json.loads((folder / "checkpoint" / "state.json").read_text())["slot"]
            (folder / "checkpoint" / counts / "weights.npz").write_bytes(b"half")
        case "model":
            (folder / "models" / "mine.json").unlink()

folder = Path(sys.argv[2])
victim = replace(kills.VICTIMS[sys.argv[1]], window=1.0)
if sys.argv[1] == "batch":
    kills.write_images(folder)
said = []
while not said:
    said, _ = kills.kill_one(victim, folder, random.Random(1))
victim.look(folder, said)
print("all is there")
lose(folder)
try:
    victim.look(folder, said)
except (kills.Lost, kills.UserError):
    print("lost")
"""


@pytest.mark.parametrize("name", ["corrections", "dataset", "batch", "checkpoint", "model"])
def test_what_is_lost_is_seen(run_alone: Run, tmp_path: Path, name: str) -> None:
    done = run_alone("-c", _LOSE, name, str(tmp_path))
    assert (done.stderr, done.stdout) == ("", "all is there\nlost\n")
