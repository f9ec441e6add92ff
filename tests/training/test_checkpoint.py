"""Checkpoints on a disk that has no room, or holds other files; `test_trainer.py` resumes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.training.checkpoint import Checkpoint, Progress

OPTIONS: dict[str, Any] = {
    "architecture": "unet_mini",
    "build": {},
    "classes": ["background", "cell", "boundary"],
    "channels": 1,
    "distance": True,
    "backend": "tensorflow",
}
WEIGHTS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)]


class Steps:
    """Steps whose state is one file."""

    def save(self, folder: Path) -> None:
        (folder / "model.weights.h5").write_text("state")

    def load(self, folder: Path) -> None:
        assert (folder / "model.weights.h5").read_text() == "state"


def saved(folder: Path, step: int = 3) -> Checkpoint:
    checkpoint = Checkpoint(folder, OPTIONS)
    steps: Any = Steps()
    checkpoint.save(steps, WEIGHTS, Progress(step, 1.5, [(step, 0.1, float("nan"), None)]))
    return checkpoint


def restored(folder: Path) -> tuple[Progress, list[Any]]:
    steps: Any = Steps()
    return Checkpoint(folder, OPTIONS).restore(steps)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    saved(tmp_path)
    progress, average = restored(tmp_path)
    assert (progress.step, progress.seconds) == (3, 1.5)
    assert np.isnan(progress.curve[0][2])
    for found, expected in zip(average, WEIGHTS, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_is_written_where_the_disk_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = saved(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    needed = sum(weights.nbytes for weights in WEIGHTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    steps: Any = Steps()
    with pytest.raises(UserError, match=r"cannot be written to .* \(No space left on device\)"):
        checkpoint.save(steps, WEIGHTS, Progress(4, 2.0, []))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert restored(tmp_path)[0].step == 3


def test_a_training_that_begins_anew_without_room_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(UserError, match="--resume goes on from the last one"):
        saved(tmp_path, 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert restored(tmp_path)[0].step == 3
    monkeypatch.undo()
    saved(tmp_path, 1)
    assert restored(tmp_path)[0].step == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["b"]


@pytest.mark.parametrize(
    "changed",
    [{"slot": "../../elsewhere"}, {"step": "x"}, {"seconds": -1}, {"curve": 5}, {"options": None}],
)
def test_a_state_that_makes_no_sense_is_a_sentence(tmp_path: Path, changed: dict[str, Any]) -> None:
    saved(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**state, **changed}))
    with pytest.raises(UserError, match=rf"is damaged \({next(iter(changed))} must be"):
        restored(tmp_path)


def test_an_average_that_claims_too_much_is_a_sentence(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "a" / "average.npz").write_bytes(b"no numbers")
    with pytest.raises(UserError, match=r"is damaged .* Train again without resuming"):
        restored(tmp_path)


_FULL = """
import resource, sys
import numpy as np
from test_checkpoint import Checkpoint, OPTIONS, Progress, Steps, UserError, WEIGHTS
from pathlib import Path
checkpoint = Checkpoint(Path(sys.argv[1]), OPTIONS)
checkpoint.restore(Steps())
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    progress = Progress(4, 2.0, [(4, 0.1, 0.5, None)] * 99)
    checkpoint.save(Steps(), [np.zeros(int(sys.argv[2]))], progress)
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("values", [1000, 10], ids=["weights", "state"])
def test_a_disk_that_fills_up_while_it_is_written_leaves_the_one_before(
    tmp_path: Path, values: int
) -> None:
    saved(tmp_path)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path), str(values)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The checkpoint cannot be written to" in done.stdout
    assert "--resume goes on from the last one" in done.stdout
    assert restored(tmp_path)[0].step == 3
    saved(tmp_path, 5)  # what was broken off is not in the way
    assert restored(tmp_path)[0].step == 5
