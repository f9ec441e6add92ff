"""OME-Zarr and movies in the list: chosen, opened, corrected, and opened after a restart."""

from __future__ import annotations

import csv
import json
from typing import Any

import napari
import numpy as np
import pytest
import tifffile
import zarr

from napari_unet_cells.batch.corrected import files_due
from napari_unet_cells.batch.image_list import ImageList, read_list
from napari_unet_cells.batch.marks import read_marks
from napari_unet_cells.batch.request import Request
from napari_unet_cells.corrections.restoring import sessions
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.layers import zarr_result
from napari_unet_cells.layers.metadata import OURS, PART_OF, ZARR
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.layers.selection import review_problem, source_image
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.widgets.export.large_table import open_large_table
from napari_unet_cells.widgets.folder.dialog import FolderDialog

pytestmark = [pytest.mark.gui, pytest.mark.timeout(300)]

PLUGIN = "napari-unet-cells"


def write_zarr(path: Any, pixels: Any) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", data=pixels, chunks=(64, 64), dimension_names=("y", "x"))
    place = [
        {"type": "scale", "scale": [0.5, 0.5]},
        {"type": "translation", "translation": [100.0, -20.0]},
    ]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": place}]
    image: Any = {"name": "s", "axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "day1"
    folder.mkdir()
    still = simulate_nuclei((120, 160), seed=1)[0]
    tifffile.imwrite(folder / "n1.tif", still)
    write_zarr(folder / "slide.ome.zarr", simulate_nuclei((120, 160), seed=2)[0])
    movie = np.stack([np.roll(still, (t, 2 * t), (0, 1)) for t in range(3)])
    tifffile.imwrite(folder / "movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    return folder


@pytest.fixture
def dock(make_napari_viewer, images, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    viewer = make_napari_viewer()
    viewer.open(str(images / "n1.tif"), plugin="napari")
    return viewer.window.add_plugin_dock_widget(PLUGIN)[1]


def begin(qtbot, dock, monkeypatch, images, **chosen):
    """Answer the dialog, and wait until the list is done."""
    sentences = []

    def run(dialog):
        for name, value in chosen.items():
            dialog.fields.widgets[name].value = value
        sentences.append(dialog.settings.text())
        dialog.accept()
        return dialog.result()

    monkeypatch.setattr(FolderDialog, "exec", run)
    dock.folder.ask()
    qtbot.waitUntil(lambda: not dock.folder.running, timeout=200_000)
    dock.folder._viewer.layers.clear()
    return sentences[0]


def open_row(qtbot, dock, name):
    dock.folder.list.opened.emit(name)
    settle(qtbot, dock)


def settle(qtbot, dock):
    section = dock.folder
    threads = (section.opening, section.marking, section.reporting)
    qtbot.waitUntil(
        lambda: not any(thread.running for thread in threads) and section.correcting.idle,
        timeout=120_000,
    )


def read_pages(qtbot, table):
    shown = table.controller
    qtbot.waitUntil(lambda: not shown.busy and shown.page is not None, timeout=60_000)


def texts(dock):
    return {row.name: row.text for row in dock.folder.controller.rows}


def on_disk(images, name):
    folder = images.with_name("day1_cells") / f"{name}.ome.zarr"
    return np.asarray(label_levels(folder, "cells")[0])


def erase_first(dock):
    cells = dock.folder.correcting.pair.cells
    cells.data_setitem(np.nonzero(cells.data == 1), 0)
    return cells.data.copy()


def test_results_as_ome_zarr_are_opened_corrected_and_found_again(
    qtbot, dock, images, monkeypatch, make_napari_viewer
):
    (images / "movie.tif").unlink()
    sentence = begin(qtbot, dock, monkeypatch, images, format="ome-zarr")
    assert "written as OME-Zarr" in sentence
    output = images.with_name("day1_cells")
    assert read_list(output).request.format == "ome-zarr"
    assert [row.can_open for row in dock.folder.controller.rows] == [True, True]
    before = on_disk(images, "slide")
    open_row(qtbot, dock, "slide")
    viewer, pair = dock.folder._viewer, dock.folder.correcting.pair
    image = viewer.layers[0]
    assert source_image(pair.cells, viewer.layers) == image
    assert not review_problem(pair.cells)
    corner = (7.0, 11.0)
    assert np.allclose(pair.cells.data_to_world(corner), image.data_to_world(corner))
    assert np.array_equal(pair.cells.data, before)
    labels = erase_first(dock)
    open_row(qtbot, dock, "n1")
    assert np.array_equal(on_disk(images, "slide"), labels)
    versions = LabelVersions(output / "slide.ome.zarr")
    assert versions.numbers == [1]  # and what was found is in it
    assert set(read_marks(output).corrected) == {"slide"}
    row = dock.folder.controller.row("slide")
    assert row.text == f"{len(np.unique(labels)) - 1} cells, corrected"
    with (output / "slide_cells.csv").open() as file:
        assert len(list(csv.DictReader(file))) == row.cells
    record = json.loads((output / "slide.json").read_text())
    assert (record["cells"], record["corrected_by_hand"]) == (row.cells, True)
    assert "slide.ome.zarr" in record["files"]
    assert [one for one in sessions() if not one.exported.complete] == []
    open_row(qtbot, dock, "slide")
    assert np.array_equal(dock.folder.correcting.pair.cells.data, labels)
    dock.folder.list.next_button.click()
    settle(qtbot, dock)
    assert set(read_marks(output).approved) == {"slide"}
    dock.folder.controller.output = None  # as after a restart
    dock.folder.open()
    qtbot.waitUntil(lambda: len(texts(dock)) == 2 and not dock.folder.looking.running)
    assert texts(dock)["slide"] == row.text
    assert dock.folder.controller.row("slide").approved
    proposed = []
    monkeypatch.setattr(FolderDialog, "exec", lambda dialog: proposed.append(dialog.values))
    dock.folder.ask()
    assert [values.format for values in proposed] == ["ome-zarr"]
    dock.folder.list.run_button.click()
    qtbot.waitUntil(lambda: not dock.folder.running, timeout=200_000)
    assert np.array_equal(on_disk(images, "slide"), labels)


def test_cells_beyond_what_is_edited_at_once_stay_on_the_disk(qtbot, dock, images, monkeypatch):
    monkeypatch.setattr(zarr_result, "MOST_SIDE", 1000)
    (images / "movie.tif").unlink()
    write_zarr(images / "slide.ome.zarr", np.tile(simulate_nuclei((120, 160), seed=2)[0], (9, 1)))
    begin(qtbot, dock, monkeypatch, images, format="ome-zarr")
    output = images.with_name("day1_cells")
    open_row(qtbot, dock, "slide")
    viewer, pair = dock.folder._viewer, dock.folder.correcting.pair
    assert pair.cells.multiscale
    assert pair.cells.metadata[OURS][ZARR] == str(output / "slide.ome.zarr")
    table, slide = open_large_table(viewer, pair.cells), pair.cells
    read_pages(qtbot, table)
    assert table.controller.page.state.path == output / "slide_cells.csv"
    assert table.controller.page.state.is_true
    assert np.allclose(pair.cells.data_to_world((7, 11)), viewer.layers[0].data_to_world((7, 11)))
    part = dock.correct.part.controller
    part.press()
    qtbot.waitUntil(lambda: viewer.layers.selection.active.metadata[OURS].get(PART_OF) is not None)
    qtbot.waitUntil(lambda: not part._runner.running)
    layer = viewer.layers.selection.active
    first = int(np.unique(layer.data)[1])
    layer.data_setitem(np.nonzero(layer.data == first), 0)
    part.press()
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=20_000)
    qtbot.waitUntil(lambda: not part._runner.running)
    read_pages(qtbot, table)
    assert "Out of date" in table.message.text()
    assert table.update_button.text() == "Bring up to date"
    table.update_button.click()
    read_pages(qtbot, table)
    assert table.controller.page.state.is_true
    settle(qtbot, dock)
    n = int(np.count_nonzero(np.unique(on_disk(images, "slide"))))
    assert texts(dock)["slide"] == f"{n} cells, corrected"
    assert files_due(output, "slide")  # picture and record follow when the image is left
    assert "The table (page Export) is out of date." in part._sentence
    dock.folder.list.save_button.click()
    settle(qtbot, dock)
    assert "cell changed. The table holds it." in part._sentence
    assert not files_due(output, "slide")
    read_pages(qtbot, table)
    assert table.controller.page.state.is_true
    with (output / "slide_cells.csv").open() as file:
        rows = {int(row["label"]) for row in csv.DictReader(file)}
    assert rows == set(np.unique(on_disk(images, "slide")).tolist()) - {0}
    assert not list(output.glob("slide.csv"))
    assert slide in viewer.layers
    open_row(qtbot, dock, "n1")
    assert not (on_disk(images, "slide") == first).any()
    assert set(read_marks(output).corrected) == {"slide"}
    assert texts(dock)["slide"].endswith("corrected")
    assert not files_due(output, "slide")
    record = json.loads((output / "slide.json").read_text())
    assert (record["cells"], record["corrected_by_hand"]) == (n, True)
    with (output / "cells.csv").open() as file:
        joined = [row["label"] for row in csv.DictReader(file) if row["image"] == "slide"]
    assert {int(label) for label in joined} == rows


def test_movies_of_a_list_are_tracked_and_shown(qtbot, dock, images, monkeypatch):
    sentence = begin(qtbot, dock, monkeypatch, images, track=True)
    assert "cells of movies tracked" in sentence
    output = images.with_name("day1_cells")
    assert [row.can_open for row in dock.folder.controller.rows] == [True] * 3, texts(dock)
    assert sorted(path.name for path in output.glob("*_tracks.csv")) == ["movie_tracks.csv"]
    open_row(qtbot, dock, "slide")  # TIFF masks of an OME-Zarr
    viewer, cells = dock.folder._viewer, dock.folder.correcting.pair.cells
    assert np.allclose(cells.data_to_world((7, 11)), viewer.layers[0].data_to_world((7, 11)))
    ((_, attributes, _),) = open_result(output / "slide_cells.tif")
    assert (attributes["scale"], attributes["translate"]) == ([0.5, 0.5], [100.0, -20.0])
    assert attributes["units"] == ["micrometer"] * 2
    open_row(qtbot, dock, "movie")
    viewer = dock.folder._viewer
    cells = dock.folder.correcting.pair.cells
    qtbot.waitUntil(lambda: any(isinstance(x, napari.layers.Tracks) for x in viewer.layers))
    tracks = next(x for x in viewer.layers if isinstance(x, napari.layers.Tracks))
    assert {1} <= set(np.unique(cells.data).tolist())
    assert set(tracks.data[:, 0].astype(int)) <= set(np.unique(cells.data).tolist())
    erase_first(dock)
    open_row(qtbot, dock, "n1")
    assert not any(isinstance(x, napari.layers.Tracks) for x in viewer.layers)
    with (output / "movie_tracks.csv").open() as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    assert labels
    assert "1" not in labels


def shown_tracks(viewer):
    return [layer for layer in viewer.layers if isinstance(layer, napari.layers.Tracks)]


def rows_of_tracks(output):
    with (output / "movie_tracks.csv").open() as file:
        return {int(row["label"]): row for row in csv.DictReader(file)}


def test_movies_that_are_written_as_ome_zarr_are_tracked_too(qtbot, dock, images, monkeypatch):
    (images / "slide.ome.zarr" / "zarr.json").unlink()
    (images / "n1.tif").unlink()
    sentence = begin(qtbot, dock, monkeypatch, images, track=True, format="ome-zarr")
    assert "cells of movies tracked, written as OME-Zarr" in sentence
    output = images.with_name("day1_cells")
    n = len(rows_of_tracks(output))
    assert texts(dock)["movie"] == f"{n} cells"
    assert n == on_disk(images, "movie").max()
    open_row(qtbot, dock, "movie")
    viewer = dock.folder._viewer
    qtbot.waitUntil(lambda: bool(shown_tracks(viewer)))
    (tracks,) = shown_tracks(viewer)
    assert set(tracks.data[:, 0].astype(int)) == set(rows_of_tracks(output))
    erase_first(dock)
    dock.folder.list.save_button.click()
    settle(qtbot, dock)
    assert set(rows_of_tracks(output)) == set(range(2, n + 1))
    assert texts(dock)["movie"] == f"{n - 1} cells, corrected"
    # as one that is corrected part by part: its frames are not read at once
    viewer.layers.clear()
    settle(qtbot, dock)
    monkeypatch.setattr(zarr_result, "MOST_PIXELS", 1000)
    open_row(qtbot, dock, "movie")
    assert dock.folder.correcting.pair.cells.multiscale
    viewer.dims.set_current_step(0, 1)
    part = dock.correct.part.controller
    part.press()
    qtbot.waitUntil(lambda: viewer.layers.selection.active.metadata[OURS].get(PART_OF) is not None)
    qtbot.waitUntil(lambda: not part._runner.running)
    layer = viewer.layers.selection.active
    layer.data_setitem(np.nonzero(layer.data == 2), 0)
    part.press()
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=20_000)
    qtbot.waitUntil(lambda: not part._runner.running)
    settle(qtbot, dock)
    dock.folder.list.save_button.click()
    settle(qtbot, dock)
    assert not files_due(output, "movie")
    assert texts(dock)["movie"] == f"{n - 1} cells, corrected"
    row = rows_of_tracks(output)[2]
    assert (row["frames"], row["missing"]) == ("2", "1")
    assert set(rows_of_tracks(output)) == set(range(2, n + 1))
    assert shown_tracks(viewer) == []


@pytest.mark.parametrize("kind", ["tiff", "ome-zarr"])
def test_channels_that_only_the_user_knows_open_and_are_corrected(qtbot, dock, images, kind):
    for path in (images / "movie.tif", images / "n1.tif"):
        path.unlink()
    pixels = np.stack([np.zeros((120, 160), np.uint8), simulate_nuclei((120, 160), seed=3)[0]])
    tifffile.imwrite(images / "c.tif", pixels, photometric="minisblack")
    output = images.with_name("day1_cells")
    asked = Request(channel=1, axes="CYX", format=kind)
    dock.folder._show_list()
    dock.folder.controller.start(ImageList((str(images / "c.tif"),), "cells", asked), output)
    qtbot.waitUntil(lambda: not dock.folder.running, timeout=200_000)
    dock.folder._viewer.layers.clear()
    open_row(qtbot, dock, "c")
    viewer, pair = dock.folder._viewer, dock.folder.correcting.pair
    image: Any = source_image(pair.cells, viewer.layers)
    assert np.array_equal(image.data, pixels[1])
    labels = erase_first(dock)
    dock.folder.correcting.save()
    settle(qtbot, dock)
    saved = tifffile.imread(output / "c_cells.tif") if kind == "tiff" else on_disk(images, "c")
    assert np.array_equal(saved, labels)
    assert set(read_marks(output).corrected) == {"c"}
    with (output / "c_cells.csv").open() as file:
        means = [float(row["intensity_mean"]) for row in csv.DictReader(file)]
    assert len(means) == len(np.unique(labels)) - 1
    assert min(means) > 0  # of the channel that was segmented; the other one is dark
