"""The Export section in a napari window: labels, format, one button."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QPushButton

from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import session_of
from napari_unet_cells.corrections.large_regions import note_approved
from napari_unet_cells.export.exporters import EXPORTERS
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    OURS,
    PART_OF,
    REVIEW,
    ZARR,
    image_id,
    result_metadata,
)
from napari_unet_cells.widgets.export import section as section_module
from napari_unet_cells.widgets.export.section import ExportSection
from napari_unet_cells.widgets.export.table import open_table
from napari_unet_cells.widgets.export.values import DatasetValues, ExportValues, large_result

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer()
    labels = np.zeros((40, 60), np.uint16)
    labels[2:10, 3:15], labels[20:30, 30:50] = 1, 2
    image = viewer.add_image(labels * 100, name="DAPI")
    review = Review(labels)
    made = result_metadata(CELLS, image_id(image), {})
    viewer.add_labels(labels, name="DAPI cells", metadata=made | {REVIEW: review})
    return viewer


@pytest.fixture
def section(viewer, qtbot) -> ExportSection:
    section = ExportSection(viewer)
    qtbot.addWidget(section)
    return section


def choose(section, name):
    section.format_box.setCurrentIndex(list(EXPORTERS).index(name))


def typed(monkeypatch, path) -> list[tuple[str, str]]:
    asked = []

    def ask(parent, title, proposed, *_, **__):
        asked.append((title, proposed))
        return str(path), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    return asked


def ended(qtbot, section):
    qtbot.waitUntil(lambda: not section.worker.running, timeout=10_000)


@pytest.mark.parametrize("there", [True, False])
def test_the_format_that_is_chosen_is_written(qtbot, viewer, section, tmp_path, monkeypatch, there):
    if not there:
        viewer.layers.remove("DAPI")
    asked = typed(monkeypatch, tmp_path / "cells.csv")
    choose(section, "table")
    section.button.click()
    ended(qtbot, section)
    ((title, proposed),) = asked
    assert title == "Export as Table CSV"
    assert Path(proposed).name == "DAPI_cells.csv"
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert len(lines) == 3
    assert ("intensity_mean" in lines[0]) == there
    assert section.message.text().startswith("Written: cells.csv")
    assert ("is gone" in section.message.text()) != there


def test_the_mask_says_nothing_of_intensities(qtbot, viewer, section, tmp_path):
    viewer.layers.remove("DAPI")
    section.export(ExportValues(viewer.layers["DAPI cells"], "mask", tmp_path / "mask.tif"))
    ended(qtbot, section)
    assert tifffile.imread(tmp_path / "mask.tif").max() == 2
    assert "intensities" not in section.message.text()


def test_the_last_format_is_proposed_again(qtbot, viewer, section, tmp_path, monkeypatch):
    assert section.values.format == "mask"
    typed(monkeypatch, tmp_path / "out.zip")
    choose(section, "rois")
    section.button.click()
    ended(qtbot, section)
    again = ExportSection(viewer)
    qtbot.addWidget(again)
    assert again.values.format == "rois"
    assert again.format_box.currentText() == "ImageJ ROIs"


def test_a_format_of_another_version_is_forgotten(qtbot, viewer, home):
    home.mkdir()
    (home / "choices.json").write_text(json.dumps({"export_format": "bmp"}))
    section = ExportSection(viewer)
    qtbot.addWidget(section)
    assert section.values.format == "mask"


def test_every_format_has_a_tooltip_of_its_own(section):
    said = set()
    for row, name in enumerate(EXPORTERS):
        choose(section, name)
        assert section.format_box.toolTip() == EXPORTERS[name].about
        assert section.button.toolTip().startswith(EXPORTERS[name].about)
        said.add(section.format_box.itemData(row, Qt.ItemDataRole.ToolTipRole))
    assert said == {exporter.about for exporter in EXPORTERS.values()}
    assert len(said) == len(EXPORTERS)


def test_without_labels_the_buttons_say_why_they_are_off(viewer, section):
    assert section.button.isEnabled()
    viewer.layers.remove("DAPI cells")
    for button in (section.button, section.dataset_button, section.table_button):
        assert not button.isEnabled()
        assert button.toolTip() == "There are no labels yet. Press Segment first."
    assert section.open_button.isEnabled()


def test_classes_that_are_half_done_are_not_exported(viewer, section):
    provenance = {"complete": False}
    classes = Labels(
        np.ones((40, 60), np.uint8),
        name="DAPI classes",
        metadata=result_metadata(CLASSES, "", provenance),
    )
    viewer.add_layer(classes)
    viewer.layers.selection.active = classes
    assert section.labels_box.layer is classes
    for button in (section.button, section.dataset_button, section.table_button):
        assert not button.isEnabled()
        assert "'DAPI classes' holds only the part of the image" in button.toolTip()

    classes.name = "DAPI classes (cancelled)"
    assert "'DAPI classes (cancelled)' holds" in section.button.toolTip()

    del classes.metadata[OURS]["provenance"]["complete"]
    classes.visible = False  # as the end of a run hides them
    assert section.button.isEnabled()


class Dialog:
    """A dialog in which the user accepts another name."""

    seen: list[Path]

    def __init__(self, proposed, parent):
        self.seen.append(proposed.folder)
        self.folder = proposed.folder.with_name("mine")

    def exec(self):
        self.folder.mkdir()
        return 1

    def deleteLater(self):
        pass


def test_approved_regions_go_to_a_new_folder(qtbot, viewer, section, tmp_path, monkeypatch):
    monkeypatch.setattr(section_module, "DatasetDialog", Dialog)
    monkeypatch.setattr(Dialog, "seen", [], raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    section.dataset_button.click()
    assert "No region of 'DAPI cells' is approved yet" in section.message.text()
    assert Dialog.seen == []
    review = viewer.layers["DAPI cells"].metadata[REVIEW]
    review.approve(next(iter(review)))
    written: list[str] = []
    section.dataset_written.connect(written.append)

    section.dataset_button.click()
    ended(qtbot, section)

    assert Dialog.seen == [tmp_path / "cells_dataset"]
    assert written == [str(tmp_path / "mine")]
    assert "1 region added to" in section.message.text()
    assert len(list((tmp_path / "mine" / "masks").iterdir())) == 1
    (exported,) = session_of(viewer.layers["DAPI cells"].metadata[REVIEW]).exports
    assert exported.is_there  # and need not be restored
    next((tmp_path / "mine" / "masks").iterdir()).unlink()
    assert not exported.is_there


def test_every_control_says_what_it_does(qtbot, viewer, section):
    table = open_table(viewer, viewer.layers["DAPI cells"])
    qtbot.waitUntil(lambda: not table.measuring.busy, timeout=20_000)
    for page in (section, table):
        controls = [*page.findChildren(QPushButton), *page.findChildren(QComboBox)]
        assert len(controls) >= 3
        assert [control.objectName() for control in controls if not control.toolTip()] == []


def test_all_fits_a_small_screen(section):
    section.message.setVisible(False)  # the dock shows it below the pages
    section.resize(300, 500)
    section.layout().activate()
    assert section.minimumSizeHint().width() <= 300
    assert section.sizeHint().height() <= 500
    cut = [b.text() for b in section.findChildren(QPushButton) if b.width() < b.sizeHint().width()]
    assert cut == []


# --- a large result, which is read from the disk


@pytest.fixture
def large(viewer, section, tmp_path, monkeypatch):
    """Show cells that are read from an OME-Zarr beside their image."""
    monkeypatch.setattr(label_zarr, "COARSEST", 32)
    labels = np.asarray(viewer.layers["DAPI cells"].data)
    image = tmp_path / "slide.tif"
    tifffile.imwrite(image, labels * 100)
    folder = tmp_path / "slide_cells.ome.zarr"
    made = LabelZarr(folder, labels.shape, "yx", 512, Scale(None, "pixel", None))
    made.create(CELLS, np.uint16)
    made.write(CELLS, (), (slice(0, 40), slice(0, 60)), labels)
    source = {"path": str(image), "shape": [40, 60], "axes": "YX"}
    made.finish(CELLS, {"cells": 2, "source": source, "classes": ["background", "cell"]}, {})
    metadata = result_metadata(CELLS, "an image", {})
    metadata[OURS][ZARR] = str(folder)
    levels = list(label_levels(folder, CELLS))
    layer = viewer.add_labels(levels, multiscale=True, name="slide cells", metadata=metadata)
    assert section.labels_box.layer == layer
    return folder


def test_a_large_result_is_written_as_a_mask_and_a_table(
    qtbot, viewer, section, large, tmp_path, monkeypatch
):
    labels = np.asarray(viewer.layers["DAPI cells"].data)
    typed(monkeypatch, tmp_path / "out.tif")
    choose(section, "mask")
    section.button.click()
    assert not section.cancel_button.isHidden()
    ended(qtbot, section)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.series[0].asarray(), labels)
    assert json.loads((tmp_path / "out.json").read_text())["layer"] == "slide cells"
    assert section.message.text().startswith("Written: out.tif and out.json")
    assert section.cancel_button.isHidden()
    typed(monkeypatch, tmp_path / "out.csv")
    choose(section, "table")
    section.button.click()
    ended(qtbot, section)
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["label", "1", "2"]
    assert float(rows[1].split(",")[rows[0].split(",").index("intensity_mean")]) == 100


@pytest.mark.parametrize(
    ("name", "file"), [("rois", "a.zip"), ("geojson", "a.geojson"), ("coco", "a.json")]
)
def test_outlines_of_a_large_result_are_written(
    qtbot, section, large, tmp_path, monkeypatch, name, file
):
    typed(monkeypatch, tmp_path / file)
    choose(section, name)
    section.button.click()
    assert not section.cancel_button.isHidden()
    ended(qtbot, section)
    assert section.message.text() == f"Written: {file} in {tmp_path}"
    path = tmp_path / file
    if name == "rois":
        with zipfile.ZipFile(path) as written:
            assert sorted(written.namelist()) == ["1.roi", "2.roi"]
    else:
        key = "features" if name == "geojson" else "annotations"
        assert len(json.loads(path.read_text())[key]) == 2


def test_that_a_part_is_being_edited_is_said(qtbot, viewer, section, large, tmp_path, monkeypatch):
    metadata = result_metadata(CELLS, "", {})
    metadata[OURS][PART_OF] = {"zarr": str(large), "plane": []}
    part = viewer.add_labels(np.ones((4, 4), np.uint8), name="slide cells part", metadata=metadata)
    assert large_result(part) is None
    section.labels_box.setCurrentIndex(section.labels_box.findText("slide cells"))
    typed(monkeypatch, tmp_path / "out.geojson")
    choose(section, "geojson")
    section.button.click()
    ended(qtbot, section)
    assert section.message.text().endswith(
        f"{tmp_path}. What you edited in 'slide cells part' is not in it: put it back first"
    )


@pytest.mark.parametrize(
    ("name", "title", "way_out"),
    [
        (
            "pair",
            "Image and mask TIFF",
            "For that take a part: press 'Edit this part' on the page Correct, and export the "
            "layer of the part.",
        ),
        (
            "tracks",
            "Tracks CSV",
            "Its cells are not linked over time, so it has no tracks.",
        ),
    ],
)
def test_what_a_large_result_is_not_written_as_is_said(
    section, large, monkeypatch, tmp_path, name, title, way_out
):
    asked = typed(monkeypatch, tmp_path / "out")
    choose(section, name)
    section.button.click()
    assert asked == []
    assert section.message.text() == (
        "Of so large a result Mask TIFF, Table CSV, ImageJ ROIs, QuPath GeoJSON or COCO JSON is "
        f"written, not {title}. {way_out}"
    )


def test_the_tracks_of_a_large_movie_are_written(qtbot, viewer, section, tmp_path, monkeypatch):
    monkeypatch.setattr(label_zarr, "COARSEST", 32)
    folder = tmp_path / "movie_cells.ome.zarr"
    labels = np.zeros((3, 40, 60), np.uint16)
    labels[:, 5:9, 5:9], labels[1:, 20:24, 30:34] = 1, 2
    made = LabelZarr(folder, labels.shape, "tyx", 512, Scale(None, "pixel", None))
    made.create(CELLS, np.uint16)
    for frame, plane in enumerate(labels):
        made.write(CELLS, (frame,), (slice(0, 40), slice(0, 60)), plane)
    known = {"cells": 2, "tracks": {"parents": [[2, 1]]}}
    made.finish(CELLS, known, {})
    metadata = result_metadata(CELLS, "an image", known)
    metadata[OURS][ZARR] = str(folder)
    levels = list(label_levels(folder, CELLS))
    viewer.add_labels(levels, multiscale=True, name="movie cells", metadata=metadata)
    section.labels_box.setCurrentIndex(section.labels_box.findText("movie cells"))
    typed(monkeypatch, tmp_path / "out_tracks.csv")
    choose(section, "tracks")
    section.button.click()
    ended(qtbot, section)
    assert section.message.text() == f"Written: out_tracks.csv in {tmp_path}"
    header, *rows = (tmp_path / "out_tracks.csv").read_text().splitlines()
    assert header.startswith("label,parent,daughters,t_first,t_last")
    # both are there in the second frame, so one is no daughter of the other
    assert [row.split(",")[:5] for row in rows] == [
        ["1", "0", "0", "0", "2"],
        ["2", "0", "0", "1", "2"],
    ]
    asked = typed(monkeypatch, tmp_path / "out")
    choose(section, "challenge")
    section.button.click()
    assert asked == []
    said = section.message.text()
    assert "COCO JSON or Tracks CSV is written, not Cell Tracking Challenge" in said
    assert "For that take a part" in said


def test_a_large_export_that_is_cancelled_leaves_nothing(
    qtbot, section, large, monkeypatch, tmp_path
):
    typed(monkeypatch, tmp_path / "out.tif")
    choose(section, "mask")
    section.button.click()
    section.cancel_button.click()
    assert section.message.text() == "Cancelled; nothing was written."
    assert section.cancel_button.isHidden()
    assert section.button.isEnabled()
    qtbot.waitUntil(
        lambda: not [path for path in tmp_path.iterdir() if "part" in path.name], timeout=10_000
    )
    assert not (tmp_path / "out.tif").exists()


def test_approved_regions_of_a_large_result_go_into_a_dataset(
    qtbot, viewer, section, large, tmp_path
):
    layer, folder = viewer.layers["slide cells"], tmp_path / "dataset"
    written = []
    section.dataset_written.connect(written.append)
    section.export_dataset(DatasetValues(layer, folder))
    ended(qtbot, section)
    assert "No region of 'slide cells' is approved yet" in section.message.text()
    assert written == []
    review = Review(np.asarray(viewer.layers["DAPI cells"].data))
    review.approve(((), 0))
    note_approved(large, (), (slice(0, 40), slice(0, 60)), review)
    section.export_dataset(DatasetValues(layer, folder))
    ended(qtbot, section)
    assert section.message.text() == f"1 region added to {folder}."
    assert written == [str(folder)]
    (mask,) = (folder / "masks").iterdir()
    np.testing.assert_array_equal(
        tifffile.imread(mask), np.asarray(viewer.layers["DAPI cells"].data)
    )
