"""Trainings with PyTorch: as a command, in a process that never loads TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.runtimes import library
from napari_unet_cells.sample_data import simulate_nuclei

_TRAIN = """
import json, sys
from napari_unet_cells.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, [n for n in ("keras", "tensorflow", "torch") if n in sys.modules]]))
"""


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Make three annotated images, the last one for validation."""
    folder = tmp_path / "simulated"
    for i in range(3):
        made = simulate_nuclei((96, 96), diameter=16, seed=i)
        for kind, pixels in zip(("images", "masks"), made, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{i}.tif", pixels.astype(np.uint16))
    records = [{"name": f"{i}.tif", "split": "train" if i < 2 else "val"} for i in range(3)]
    (folder / "index.json").write_text(json.dumps(records))
    return folder


@pytest.mark.torch
def test_a_training_with_pytorch_never_loads_tensorflow(tmp_path: Path, annotated: Path) -> None:
    model = tmp_path / "m.keras"
    size = ("--alpha", "0.125", "--decoder", "16,16,8", "--batch", "1")
    arguments = ("train", annotated, "-o", model, *size, "--steps", "20", "--backend", "torch")

    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, ["keras", "torch"]]
    checkpoint = json.loads((tmp_path / "m.checkpoint" / "state.json").read_text())
    assert (checkpoint["step"], checkpoint["options"]["backend"]) == (20, "torch")
    card = json.loads(model.with_suffix(".json").read_text())
    assert card["halo"] == 144
    # TensorFlow, which is the reference, measured it in a process of its own.
    assert card["scores"]["val"]["all"]["n_images"] == 1


def test_without_pytorch_a_sentence_says_how_to_go_on(
    tmp_path: Path, annotated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_unet_cells.training import backends
    from napari_unet_cells.training.train import train as run
    from napari_unet_cells.training.trainer import TrainOptions

    monkeypatch.setattr(backends, "installed", lambda name: False)
    with pytest.raises(UserError, match=r"^PyTorch is not installed.*install torch'.*--backend"):
        next(run([annotated], tmp_path / "m.keras", TrainOptions(backend="torch")))


def test_every_backend_computes_with_a_library_that_excludes_the_others() -> None:
    from napari_unet_cells.training.backends import BACKENDS

    assert [backend.library for backend in BACKENDS.values()] == list(library.TITLES)


def test_the_command_line_knows_every_backend() -> None:
    from napari_unet_cells.cli.train import BACKEND_NAMES
    from napari_unet_cells.training.backends import BACKENDS

    assert set(BACKEND_NAMES) == set(BACKENDS)
