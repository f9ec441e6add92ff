"""Values of the Export section's form, without Qt and without a window."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet_cells.export.exporters import EXPORTERS
from napari_unet_cells.widgets.export.values import (
    DatasetValues,
    ExportValues,
    file_names,
    labels_problem,
)

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.export.values; "
        "assert not {'qtpy', 'napari', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def labels() -> Labels:
    return Labels(np.ones((6, 8), np.uint8), name="mine")


def test_labels_that_cannot_be_written_are_said(labels):
    assert labels_problem(labels) is None
    assert labels_problem(None) == "There are no labels yet. Press Segment first."
    deep = Labels(np.ones((2, 2, 2, 6, 8), np.uint8), name="deep")
    assert "'deep' has several levels or more axes" in (labels_problem(deep) or "")


@pytest.mark.parametrize("name", EXPORTERS)
def test_no_file_is_replaced_unless_it_may_be(labels, tmp_path, name):
    exporter = EXPORTERS[name]
    values = ExportValues(labels, name, tmp_path / f"out{exporter.suffix}")
    assert values.problem() is None
    assert not values.existing
    first = exporter.targets(tmp_path / f"out{exporter.suffix}")[0]
    first.write_bytes(b"precious")

    assert values.existing == (first,)
    assert values.problem() == f"{first.name} kept; nothing was written."
    assert replace(values, replace=True).problem() is None


def test_what_is_missing_is_said(labels, tmp_path):
    values = ExportValues(labels, "mask", tmp_path / "out.tif")
    assert values.problem() is None
    assert "no labels yet" in (replace(values, labels=None).problem() or "")
    assert "no file to write to" in (replace(values, path=None).problem() or "")
    assert "no file to write to" in (replace(values, path=Path()).problem() or "")
    assert "no format 'bmp'. Choose one of mask," in (replace(values, format="bmp").problem() or "")


def test_a_dataset_needs_labels_and_a_folder(labels, tmp_path):
    values = DatasetValues(labels, tmp_path / "new")
    assert values.problem() is None
    assert "no labels yet" in (replace(values, labels=None).problem() or "")
    assert "no folder" in (replace(values, folder=None).problem() or "")
    (tmp_path / "new").write_bytes(b"")
    assert "new is a file" in (values.problem() or "")


def test_several_files_are_listed():
    assert file_names((Path("a/x.tif"), Path("a/x.json"))) == "x.tif and x.json"
