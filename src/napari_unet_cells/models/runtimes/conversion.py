"""Convert a model for OpenVINO, in a process of its own: it needs TensorFlow.

The process that predicts must not load TensorFlow: it may hold PyTorch, or a window, and both end
in a crash beside it (docs/architecture.md, 0). So this module starts itself::

    python -m napari_unet_cells.models.runtimes.conversion MODEL.keras FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from napari_unet_cells.errors import UserError
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.derived import DerivedGraph, read_graph

#: What nothing takes: importing TensorFlow on a busy computer took 20 seconds.
LONGEST_SECONDS = 300.0

#: Name of the file in the folder.
_NAME = "graph"


class FailedConversion(UserError):
    """The process gave no graph."""


def converted(card: ModelCard) -> DerivedGraph:
    """Convert a model in 32-bit floats, in a process that is started for it.

    Parameters
    ----------
    card : ModelCard

    Raises
    ------
    FailedConversion
    """
    with tempfile.TemporaryDirectory() as folder:
        problem = _run(card.path.absolute(), Path(folder))
        graph = read_graph(Path(folder, f"{_NAME}.float32.xml"), card)
    if graph is None:
        raise FailedConversion(problem or "another model lay in its place meanwhile")
    return graph


def _run(model: Path, folder: Path) -> str:
    """Run the process; give the last line that it said where it failed."""
    name = "napari_unet_cells.models.runtimes.conversion"
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}  # nothing is computed
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", name, str(model), str(folder)],
            env=os.environ | {"PYTHONPATH": python_path()} | quiet | hidden,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines and done.returncode > 0 else f"exit code {done.returncode}"


def python_path() -> str:
    """Give a child process what this one finds, but for the empty entry.

    That stands for the current folder, where a stray queue.py would shadow the standard library.
    """
    here = str(Path(__file__).parents[3])
    return os.pathsep.join(
        dict.fromkeys([p for p in sys.path if isinstance(p, str) and p] + [here])
    )


def main() -> None:
    """Convert the model that is named, into the folder that is named."""
    from napari_unet_cells.models.runtimes.openvino import convert

    model, folder = map(Path, sys.argv[1:])
    card = find_model(model)
    convert(card).write(folder, _NAME, card)


if __name__ == "__main__":
    main()
