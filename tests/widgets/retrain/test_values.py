"""Values of the Retrain section's form, without Qt and without a window."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_unet_cells.models.catalogue import DEFAULT_MODEL, find_model
from napari_unet_cells.training.events import RetrainOptions
from napari_unet_cells.widgets.retrain.values import STARTS, RetrainValues


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.retrain.values; "
        "assert not {'qtpy', 'napari', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_prevents_a_retraining_is_said():
    values = RetrainValues("corrections", DEFAULT_MODEL)
    assert values.problem() is None
    assert "no dataset to learn from" in (replace(values, dataset=" ").problem() or "")
    assert "No model is installed" in (replace(values, base="").problem() or "")
    assert "There is no model 'gone'" in (replace(values, base="gone").problem() or "")
    assert "not from 'nothing'" in (replace(values, start="nothing").problem() or "")
    for minutes in (0.0, -1.0, float("nan")):
        assert "longer than 0 minutes" in (replace(values, minutes=minutes).problem() or "")


@pytest.mark.parametrize("start", STARTS)
def test_the_request_names_paths_and_options(start, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # on Windows
    values = RetrainValues(" ~/corrections ", DEFAULT_MODEL, start, 2.5)
    request = values.request()
    assert request["dataset"] == str(tmp_path / "corrections")
    assert request["base"] == str(find_model(DEFAULT_MODEL).path)
    assert Path(request["output"]) == tmp_path / "models" / f"{DEFAULT_MODEL}-2.keras"
    assert RetrainOptions(**request["options"]) == RetrainOptions(minutes=2.5, start=start)
