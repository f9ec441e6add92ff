"""A model is converted in a process of its own, and what goes wrong there is a sentence here."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes import conversion
from napari_unet_cells.models.runtimes.conversion import FailedConversion, converted

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed"
)

_CONVERT = """
import json, sys
from pathlib import Path
from napari_unet_cells.models.catalogue import find_model
from napari_unet_cells.models.runtimes.conversion import converted
graph = converted(find_model(Path(sys.argv[1])))
names = ("tensorflow", "keras", "openvino")
print(json.dumps([graph.precision, len(graph.weights), [n for n in names if n in sys.modules]]))
"""


@pytest.mark.network
@needs_openvino
def test_this_process_loads_nothing_for_it(tiny_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, str(tiny_model)],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    precision, size, loaded = json.loads(done.stdout.splitlines()[-1])
    assert (precision, loaded) == ("float32", [])
    assert size > 500_000


@pytest.mark.slow
def test_what_the_process_said_last_is_the_reason(tmp_path: Path) -> None:
    problem = conversion._run(tmp_path / "none.keras", tmp_path)
    assert problem.startswith("napari_unet_cells.errors.UserError: There is no model")


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import os; os.abort()", r"exit code -?\d+"), ("import time; time.sleep(60)", "timed out")],
)
@pytest.mark.slow
def test_a_crash_and_a_process_that_hangs_are_sentences(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, reason: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(conversion, "LONGEST_SECONDS", 5.0)
    with pytest.raises(FailedConversion, match=reason):
        converted(find_model(tiny_model))
