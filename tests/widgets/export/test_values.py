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
from napari_unet_cells.layers.metadata import CELLS, CLASSES, result_metadata
from napari_unet_cells.widgets.export.values import (
    DatasetFolder,
    DatasetValues,
    ExportValues,
    file_names,
    labels_problem,
    unfinished_problem,
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
    first.parent.mkdir(parents=True, exist_ok=True)  # some formats are a folder
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
    many = (Path("a/res_track.txt"), *(Path(f"a/mask{n:03}.tif") for n in range(100)))
    assert file_names(many) == "res_track.txt and 100 other files"


@pytest.mark.parametrize(("role", "complete", "is_half"), [
    (CLASSES, False, True), (CLASSES, True, False), (CELLS, False, False),
])  # fmt: skip
def test_half_done_classes_are_no_result(tmp_path, role, complete, is_half):
    provenance = {} if complete else {"complete": False}
    metadata = result_metadata(role, "", provenance)
    labels = Labels(np.ones((6, 8), np.uint8), name="mine", metadata=metadata)
    for values in (ExportValues(labels, "mask", tmp_path / "x"), DatasetValues(labels, tmp_path)):
        assert ("'mine' holds only the part" in (values.problem() or "")) is is_half
    assert (unfinished_problem(labels) is not None) is is_half
    assert unfinished_problem(None) is None


def test_the_last_dataset_is_proposed_while_it_is_there(tmp_path):
    image = tmp_path / "images" / "field 12.tif"
    last = tmp_path / "last"
    new = DatasetFolder.proposed(str(last), image)
    assert new.folder == tmp_path / "images" / "field 12_dataset"
    last.mkdir()
    assert DatasetFolder.proposed(str(last), image).folder == last
    assert DatasetFolder.proposed(None, None).folder == Path.home() / "cells_dataset"


def test_what_is_wrong_with_the_folder_of_a_dataset_is_said(tmp_path):
    good = DatasetFolder(str(tmp_path), "new")
    assert good.problem() is None
    assert good.describe() == "The new folder new is made."
    (tmp_path / "new").mkdir()
    assert "which exists already" in good.describe()
    (tmp_path / "new" / "index.json").write_text("[]")
    assert good.describe() == "The regions are added to the dataset new."
    for name in ("", "  ", ".", ".."):
        assert replace(good, name=name).problem() == "The dataset has no name. Type one."
    assert "cannot hold * ?" in (replace(good, name="a?*").problem() or "")
    for parent in ("", str(tmp_path / "nowhere")):
        assert "Choose one that exists" in (replace(good, parent=parent).problem() or "")
    (tmp_path / "file").write_text("")
    assert "file is a file there" in (replace(good, name="file").problem() or "")
