"""The reader: labels in their place, whatever wrote the file."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import EXPORTERS, Export
from napari_unet_cells.files import write_labels
from napari_unet_cells.layers.export_source import (
    ExportSource,
    export_record,
    export_source,
    pixel_size,
)
from napari_unet_cells.layers.metadata import CELLS, CLASSES, INPUT, OURS, is_ours, result_metadata
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.layers.reader import (
    PATTERNS,
    class_colors,
    get_reader,
    open_result,
    prefer_reader,
)
from napari_unet_cells.layers.transforms import describe_transform

PROVENANCE = {"program": "napari-unet-cells", "classes": ["background", "cell", "boundary"]}

TURNED: dict[str, Any] = {
    "scale": [0.5, 0.25], "translate": [3.0, 4.0], "rotate": [[0.8, -0.6], [0.6, 0.8]],
    "shear": [0.2], "affine": [[1.0, 0.1, 5.0], [0.0, 1.0, 6.0], [0.0, 0.0, 1.0]],
    "units": ["micrometer", "micrometer"], "axis_labels": ["y", "x"],
}  # fmt: skip


def flat(n):
    """Transform of a layer of `n` axes that nobody moved."""
    return {
        "scale": [1.0] * n, "translate": [0.0] * n, "rotate": np.eye(n).tolist(),
        "shear": [0.0] * (n * (n - 1) // 2), "affine": np.eye(n + 1).tolist(),
        "units": ["pixel"] * n, "axis_labels": [str(axis) for axis in range(-n, 0)],
    }  # fmt: skip


@pytest.fixture
def cells():
    return np.random.default_rng(0).integers(0, 9, (6, 8)).astype(np.uint16)


def open_one(path):
    reader = get_reader(str(path))
    assert reader is not None
    ((labels, attributes, kind),) = reader(str(path))
    assert kind == "labels"
    return labels, attributes


def export(path, labels, record, axes="YX", size=None):
    size = size or PixelSize(0.5, 0.25, "micrometer")
    return EXPORTERS["mask"].write(path, Export(labels, size, record, axes), False)[0]


def test_a_stack_of_files_is_left_to_others():
    assert get_reader(["a_cells.tif", "b_cells.tif"]) is None


def test_result_without_a_record_has_its_pixel_size_and_its_maker(tmp_path, cells):
    path = write_labels(
        tmp_path / "a_cells.tif", cells, pixel_size=(0.5, 0.25), unit="um", provenance=PROVENANCE
    )
    labels, attributes = open_one(path)
    np.testing.assert_array_equal(labels, cells)
    assert labels.dtype == np.uint16
    assert labels.flags.writeable
    assert attributes["name"] == "a_cells"
    assert attributes["scale"] == pytest.approx([0.5, 0.25])
    assert attributes["units"] == ["micrometer", "micrometer"]
    assert attributes["axis_labels"] == ["y", "x"]
    expected = result_metadata(CELLS, "", PROVENANCE, digest(cells))
    assert attributes["metadata"] == expected
    assert "colormap" not in attributes


@pytest.mark.parametrize(
    ("axes", "scale", "units"),
    [
        ("TYX", [1, 0.5, 0.25], ["pixel", "micrometer", "micrometer"]),
        ("ZYX", [2, 0.5, 0.25], ["micrometer"] * 3),
        ("TZYX", [1, 2, 0.5, 0.25], ["pixel", "micrometer", "micrometer", "micrometer"]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_stacks_have_names_and_steps_of_their_axes(tmp_path, axes, scale, units, dtype):
    shape = {"TYX": (3, 6, 8), "ZYX": (3, 6, 8), "TZYX": (3, 2, 6, 8)}[axes]
    stack = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    stack[..., 0, 0] = np.iinfo(dtype).max
    path = write_labels(
        tmp_path / "a_cells.tif", stack, axes=axes, pixel_size=(0.5, 0.25),
        unit="um", z_step=2 if "Z" in axes else None, provenance={},
    )  # fmt: skip
    labels, attributes = open_one(path)
    np.testing.assert_array_equal(labels, stack)
    assert labels.dtype == dtype
    assert attributes["scale"] == pytest.approx(scale)
    assert attributes["units"] == units
    assert attributes["axis_labels"] == list(axes.lower())


@pytest.mark.parametrize("kept_in", ["both", "file", "json"])
def test_an_export_lies_where_it_was(tmp_path, cells, kept_in):
    record = {**PROVENANCE, "transform": TURNED, "layer": "a cells", "corrected_by_hand": False}
    path = export(tmp_path / "a_cells.tif", cells, record)
    if kept_in == "file":
        path.with_suffix(".json").unlink()
    if kept_in == "json":  # another program wrote the file anew
        tifffile.imwrite(path, cells)
    _, attributes = open_one(path)
    assert {name: attributes[name] for name in TURNED} == TURNED
    ours = attributes["metadata"][OURS]
    assert ours["provenance"] == PROVENANCE
    assert ours["digest"] == digest(cells)


def test_singleton_axes_come_back(tmp_path, cells):
    transform = flat(4) | {"translate": [7.0, 3.0, 0.0, 0.0]}
    path = export(tmp_path / "plane_cells.tif", cells, {"transform": transform})
    labels, attributes = open_one(path)
    assert labels.shape == (1, 1, 6, 8)
    assert attributes["translate"] == [7, 3, 0, 0]
    times = export(
        tmp_path / "times_cells.tif", np.stack([cells, cells]), {"transform": transform}, "TYX"
    )
    assert open_one(times)[0].shape == (2, 1, 6, 8)


def test_labels_that_lay_in_pixels_keep_the_size_that_the_file_knows(tmp_path, cells):
    path = export(tmp_path / "a_cells.tif", cells, {"transform": flat(2)})
    _, attributes = open_one(path)
    assert attributes["scale"] == [1, 1]
    assert attributes["units"] == ["pixel", "pixel"]
    assert attributes["metadata"][INPUT] == {"pixel_size": (0.5, 0.25, "micrometer")}


@pytest.mark.parametrize(
    "broken",
    [
        {"scale": [1.0]},
        {"scale": [0.0, 1.0]},
        {"scale": "no"},
        {"affine": [[1.0]]},
        {"translate": [None, 1.0]},
        {"units": ["pixel"]},
        {"axis_labels": 3},
    ],
)
def test_a_record_that_somebody_broke_is_left_aside(tmp_path, cells, broken):
    path = export(tmp_path / "a_cells.tif", cells, {"transform": TURNED | broken})
    _, attributes = open_one(path)
    assert attributes["scale"] == pytest.approx([0.5, 0.25])
    assert "translate" not in attributes


@pytest.mark.parametrize("text", ["{", "[1]", '{"model": "of somebody else"}', "\xff"])
def test_a_json_that_is_no_record_is_left_aside(tmp_path, cells, text):
    path = tmp_path / "a_cells.tif"
    tifffile.imwrite(path, cells)
    path.with_suffix(".json").write_bytes(text.encode("latin-1"))
    labels, attributes = open_one(path)
    np.testing.assert_array_equal(labels, cells)
    assert attributes["metadata"] == {}
    assert attributes["scale"] == [1, 1]
    assert attributes["units"] == ["pixel", "pixel"]


def test_what_was_corrected_stays_corrected(tmp_path, cells):
    record = {**PROVENANCE, "transform": TURNED, "corrected_by_hand": True}
    labels, attributes = open_one(export(tmp_path / "a_cells.tif", cells, record))
    made = attributes["metadata"][OURS]
    source = ExportSource(labels, "YX", "a", made, TURNED, None)
    size = PixelSize(1, 1, "pixel")
    assert export_record(source, size)["corrected_by_hand"] is True


def test_classes_have_their_colors(tmp_path):
    classes = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    path = write_labels(tmp_path / "a_classes.tif", classes, provenance=PROVENANCE)
    labels, attributes = open_one(path)
    assert labels.dtype == np.uint8
    assert attributes["colormap"] == class_colors(3)
    assert attributes["metadata"] == result_metadata(CLASSES, "", PROVENANCE)


@pytest.mark.parametrize(
    ("name", "record", "role"),
    [
        ("a_classes.tif", {}, CLASSES),
        ("a_cells.tif", {}, CELLS),
        ("anything.tif", {}, CELLS),
        ("anything.tif", {"layer": "a classes"}, CLASSES),
        ("anything.tif", {"layer": "a classes", "role": "cells"}, CELLS),
        ("anything.tif", {"role": "classes"}, CLASSES),
    ],
)
def test_the_role_is_recorded_or_named(tmp_path, cells, name, record, role):
    path = write_labels(tmp_path / name, cells, provenance={**PROVENANCE, **record})
    ((_, attributes, _),) = open_result(path)
    assert attributes["metadata"][OURS]["role"] == role
    assert attributes["metadata"][OURS]["provenance"] == PROVENANCE


@pytest.mark.parametrize(
    ("stored", "opened"),
    [("uint8", "uint16"), ("int16", "uint16"), ("int32", "uint16"), ("uint32", "uint16")],
)
def test_cells_have_room_for_new_ids(tmp_path, cells, stored, opened):
    path = tmp_path / "a_cells.tif"
    tifffile.imwrite(path, cells.astype(stored))
    labels, _ = open_one(path)
    assert labels.dtype == opened
    np.testing.assert_array_equal(labels, cells)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((6, 8, 3), np.uint8), "colours or channels"),
        (np.zeros((6, 8), np.float32), "numbers with fractions"),
        (np.full((6, 8), -1, np.int16), "negative numbers"),
    ],
)
def test_an_image_with_the_name_of_a_result_is_refused(tmp_path, pixels, problem):
    path = tmp_path / "a_cells.tif"
    tifffile.imwrite(path, pixels)
    with pytest.raises(UserError, match=rf"a_cells\.tif holds {problem}, not labels\. Save its"):
        open_one(path)


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a_cells.tif"
    path.write_bytes(b"%PDF")
    with pytest.raises(UserError, match=r"a_cells\.tif is not a TIFF"):
        open_one(path)
    with pytest.raises(UserError, match="does not exist"):
        open_one(tmp_path / "b_cells.tif")


def test_our_names_are_preferred_before_all_tiffs():
    chosen = {"*.tif": "napari", "*_cells.tif": "other"}
    preferred = prefer_reader(chosen, "ours")
    assert list(preferred)[:3] == ["*_cells.tiff", "*_classes.tif", "*_classes.tiff"]
    assert {name: preferred[name] for name in chosen} == chosen
    assert prefer_reader(preferred, "ours") == preferred
    assert not any(fnmatch.fnmatch("a.tif", pattern) for pattern in PATTERNS)


def test_record_of_the_batch_beside_its_results_is_not_needed(tmp_path, cells):
    path = write_labels(tmp_path / "a_cells.tif", cells, provenance=PROVENANCE)
    (tmp_path / "a.json").write_text(json.dumps({"transform": TURNED}))
    _, attributes = open_one(path)
    assert attributes["scale"] == [1, 1]


# --- in napari -------------------------------------------------------------------------------


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def preferred(viewer):
    """Add our names to what the user chose; settings begin and end with the viewer."""
    from napari.settings import get_settings

    plugins = get_settings().plugins
    plugins.extension2reader = prefer_reader({"*.tif": "napari"}, "napari-unet-cells")


def drop(viewer, path):
    """Do what a file dropped on the canvas does; a question would fail the test."""
    from qtpy.QtCore import QUrl

    qt_viewer = viewer.window._qt_viewer
    qt_viewer._open_from_list_of_urls_data(
        [QUrl.fromLocalFile(str(path))], stack=False, choose_plugin=False
    )


@pytest.fixture
def questions(monkeypatch):
    """Texts of the questions that napari asks, each answered by Cancel."""
    from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
    from qtpy.QtWidgets import QLabel

    asked = []

    def cancel(dialog):
        asked.append("\n".join(label.text() for label in dialog.findChildren(QLabel)))
        return 0

    monkeypatch.setattr(QtReaderDialog, "exec_", cancel)
    return asked


@pytest.mark.gui
def test_napari_asks_where_nothing_is_preferred(viewer, questions, tmp_path, cells):
    path = write_labels(tmp_path / "a_cells.tif", cells, provenance=PROVENANCE)
    drop(viewer, path)
    assert len(questions) == 1  # its own reader claims every TIFF, too
    assert len(viewer.layers) == 0


@pytest.mark.gui
@pytest.mark.usefixtures("preferred")
def test_a_dropped_result_opens_as_labels_in_its_place(viewer, questions, tmp_path, cells):
    record = {**PROVENANCE, "transform": TURNED, "corrected_by_hand": False}
    drop(viewer, export(tmp_path / "a_cells.tif", cells, record))
    drop(viewer, export(tmp_path / "a_classes.tif", cells.astype(np.uint8), record))
    assert questions == []
    layer, classes = viewer.layers
    assert [layer.name, classes.name] == ["a_cells", "a_classes"]
    assert {type(layer).__name__, type(classes).__name__} == {"Labels"}
    np.testing.assert_array_equal(layer.data, cells)
    assert is_ours(layer)
    assert layer.source.reader_plugin == "napari-unet-cells"
    found = describe_transform(layer)
    assert found.keys() == TURNED.keys()
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        np.testing.assert_allclose(found[name], TURNED[name], atol=1e-12)
    assert (found["units"], found["axis_labels"]) == (TURNED["units"], TURNED["axis_labels"])
    np.testing.assert_allclose(classes.get_color(1)[:3], np.array([0x2C, 0xA2, 0x5F]) / 255)
    assert classes.get_color(0) is None  # background is not drawn
    layer.data_setitem((np.array([0]), np.array([0])), 300)  # can be corrected
    source = export_source(layer, viewer.layers)
    size = pixel_size(source)
    assert size == PixelSize(0.5, 0.25, "micrometer")
    assert export_record(source, size)["corrected_by_hand"] is True


@pytest.mark.gui
@pytest.mark.usefixtures("preferred")
def test_other_tiffs_open_without_us(viewer, questions, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 8), np.uint8))
    drop(viewer, tmp_path / "a.tif")
    assert questions == []
    assert viewer.layers[0].source.reader_plugin == "napari"


@pytest.mark.gui
@pytest.mark.usefixtures("preferred")
def test_our_sentence_reaches_the_user_with_the_way_out(viewer, questions, tmp_path):
    tifffile.imwrite(tmp_path / "a_cells.tif", np.zeros((6, 8), np.float32))
    drop(viewer, tmp_path / "a_cells.tif")
    (question,) = questions
    assert "UserError: a_cells.tif holds numbers with fractions, not labels." in question
    assert "Choose reader for" in question  # napari's own reader is left to choose
