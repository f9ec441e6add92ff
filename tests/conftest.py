"""Fixtures of several tests (a tiny model, an empty home), and the refusal of a bare pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    import pwd

from napari_unet_cells.models.runtimes.library import claim, installed

_MAKE_MODEL = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from pathlib import Path
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import save_model
from napari_unet_cells.models import architectures
from napari_unet_cells.models.runtimes.library import claim
claim("tensorflow")
import keras
keras.utils.set_random_seed(0)
model = architectures.build("mobilenet_unet", 3, 3, alpha=0.25)
save_model(model, ModelCard(
    name="tiny", architecture="mobilenet_unet", classes=("background", "cell", "boundary"),
    channels=3, stride=16, halo=160, sha256="", description="Untrained.",
    diameters=(10.0, 40.0), path=Path(sys.argv[1]),
))
"""


#: Markers of the tests that need a process of their own.
KINDS = ("gui", "network", "torch")

_MIXED = (
    "Tests that open a window (marker gui), that load TensorFlow (marker network) and that load "
    "PyTorch (marker torch) end in a segmentation fault in one process: run `make test` for all, "
    'or `pytest -m gui`, `pytest -m torch` and `pytest -m "not gui and not torch"` for each kind.'
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to run two kinds in one process, once ``-m`` and ``-k`` have chosen."""
    if sum(any(item.get_closest_marker(kind) for item in items) for kind in KINDS) > 1:
        raise pytest.UsageError(_MIXED)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have Keras compute with PyTorch in the process of its tests; it is an extra."""
    if item.get_closest_marker("torch"):
        if not installed("torch"):
            pytest.skip("the extra 'torch' is not installed")
        claim("torch")


SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def run_alone() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python on its own, where it finds the scripts: this process must not be forked."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(SCRIPTS), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=280,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a valid, untrained model of three classes; its card lies beside it.

    In a process of its own: the one that opens windows must never load TensorFlow.
    """
    path = tmp_path_factory.mktemp("models") / "tiny.keras"
    subprocess.run([sys.executable, "-c", _MAKE_MODEL, str(path)], check=True, timeout=120)
    return path


@pytest.fixture(scope="session")
def schema_faults() -> Callable[[Any], list[str]]:
    """Give a function that says what is wrong with the record of a result."""
    from jsonschema import Draft202012Validator

    from napari_unet_cells.files.results import SCHEMA

    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))

    def faults(record: Any) -> list[str]:
        return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(record)]

    return faults


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Give a folder to a user who may not write everywhere: where root runs the tests, `nobody`."""
    folder = Path(tempfile.mkdtemp(prefix="unprivileged-"))  # pytest's are closed to others
    try:
        if sys.platform == "win32" or os.geteuid() != 0:
            yield folder
            return
        nobody = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, nobody, -1)
        os.setresuid(nobody, nobody, 0)  # with a way back
        try:
            yield folder
        finally:
            os.setresuid(0, 0, 0)
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests away from the user's own models and settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path_factory.mktemp("home")))
        yield
