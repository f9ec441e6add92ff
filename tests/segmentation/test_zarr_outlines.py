"""Outlines of cells on the disk: those of the same labels in memory, or no file at all."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.core.outlines import outlines
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import EXPORTERS, Export
from napari_unet_cells.export.outline_formats import coco_file, geojson_file, roi_file
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.atomic import FileExists
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.pixel_size import PixelSize
from napari_unet_cells.segmentation import zarr_cells, zarr_outlines
from napari_unet_cells.segmentation.zarr_export import LargeExport, write_outlines

OPEN: dict[str, Any] = {"rois": roi_file, "geojson": geojson_file, "coco": coco_file}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(zarr_cells, "SIDE", 64)


def plane_of(seed: int) -> NDArray[np.uint16]:
    """Cells of 12 x 12 in a jumble, some with holes, in pieces, or wider than a block."""
    rng = np.random.default_rng(seed)
    plane = np.zeros((200, 300), np.uint16)
    for number in rng.permutation(200) + 1:
        y, x = rng.integers(0, (195, 295))
        plane[y : y + 12, x : x + 12] = number
    plane[60:68, 20:150] = 300  # over two borders of blocks
    plane[62:64, 60:70] = 0
    plane[100:130, 60:70], plane[130:134, 70:80] = 301, 301  # they touch at a corner
    plane[5:9, 5:9], plane[150:154, 280:284] = 302, 302  # farther apart than a block
    return plane


def written(folder: Path, labels: NDArray[np.uint16]) -> Path:
    zarr = folder / "slide_cells.ome.zarr"
    made = LabelZarr(zarr, labels.shape, "zyx"[3 - labels.ndim :], 512, Scale(None, "pixel", None))
    made.create("cells", np.uint16)
    for index in np.ndindex(labels.shape[:-2]):
        made.write("cells", index, (slice(0, 200), slice(0, 300)), labels[index])
    source = {"path": str(folder / "slide.tif"), "shape": [200, 300], "axes": "YX"}
    made.finish("cells", {"cells": 302, "model": {"name": "m"}, "source": source}, {})
    return zarr


def export_of(zarr: Path, name: str, replace: bool = False) -> LargeExport:
    return LargeExport(zarr, (zarr.parent / name,), replace, "slide cells", {"scale": [1.0, 1.0]})


def end(steps: Generator[float, None, None]) -> None:
    done = list(steps)
    assert done == sorted(done)
    assert (done[0] > 0, done[-1]) == (True, 1.0)


def of_rois(path: Path) -> Any:
    with zipfile.ZipFile(path) as file:
        return sorted((name, file.read(name)) for name in file.namelist())


def of_geojson(path: Path) -> Any:
    document = json.loads(path.read_text())
    features = document.pop("features")
    return document, sorted(map(json.dumps, features))


def of_coco(path: Path) -> Any:
    document = json.loads(path.read_text())
    annotations = document.pop("annotations")
    assert [one.pop("id") for one in annotations] == list(range(1, len(annotations) + 1))
    assert document.pop("info")["provenance"]["model"] == {"name": "m"}
    return document, sorted(map(json.dumps, annotations))


READ: dict[str, Callable[[Path], Any]] = {"rois": of_rois, "geojson": of_geojson, "coco": of_coco}


@pytest.mark.parametrize("n_planes", [1, 2])
@pytest.mark.parametrize("name", OPEN)
def test_they_are_those_of_the_exporter_of_small_results(
    tmp_path: Path, name: str, n_planes: int
) -> None:
    labels = plane_of(0) if n_planes == 1 else np.stack([plane_of(0), plane_of(1)])
    zarr = written(tmp_path, labels)
    large = export_of(zarr, "large")
    end(write_outlines(large, OPEN[name]))
    record = {"source": {"path": "slide.tif"}, "model": {"name": "m"}}
    export = Export(labels, PixelSize(1, 1, "pixel"), record, "ZYX"[3 - labels.ndim :])
    (small,) = EXPORTERS[name].write(tmp_path / "small", export, False)
    one, other = READ[name](large.targets[0]), READ[name](small)
    assert len(one) + len(one[-1]) > 150
    assert one == other


def test_what_was_put_back_is_in_them(tmp_path: Path) -> None:
    labels = plane_of(0)
    zarr = written(tmp_path, labels)
    before = labels[:40, :40].astype(np.int64)
    LabelVersions(zarr).replace(
        (), (slice(0, 40), slice(0, 40)), before, np.where(before > 0, 0, before), 302
    )
    end(write_outlines(export_of(zarr, "a.json"), coco_file))
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["info"]["provenance"]["corrected_by_hand"] is True
    left = np.setdiff1d(np.where(np.indices(labels.shape).max(axis=0) < 40, 0, labels), [0])
    assert sorted(one["label"] for one in document["annotations"]) == left.tolist()


def test_what_is_put_back_meanwhile_leaves_no_file(tmp_path: Path) -> None:
    labels = plane_of(0)
    zarr = written(tmp_path, labels)
    steps = write_outlines(export_of(zarr, "a.zip"), roi_file)
    for _ in range(3):
        next(steps)
    before = labels[:40, :40].astype(np.int64)
    box = (slice(0, 40), slice(0, 40))
    LabelVersions(zarr).replace((), box, before, np.zeros_like(before), 302)
    with pytest.raises(UserError, match=r"cells of slide_cells\.ome\.zarr were changed meanwhile"):
        list(steps)
    assert list(tmp_path.iterdir()) == [zarr]


@pytest.mark.parametrize("name", OPEN)
def test_who_stops_leaves_nothing(tmp_path: Path, name: str) -> None:
    zarr = written(tmp_path, plane_of(0))
    steps = write_outlines(export_of(zarr, "a"), OPEN[name])
    assert max(next(steps) for _ in range(25)) > 0.3  # some are written
    steps.close()
    assert list(tmp_path.iterdir()) == [zarr]


def test_what_is_there_is_replaced_only_where_it_may_be(tmp_path: Path) -> None:
    zarr = written(tmp_path, plane_of(0))
    (tmp_path / "a.geojson").write_text("mine")
    with pytest.raises(FileExists):
        end(write_outlines(export_of(zarr, "a.geojson"), geojson_file))
    assert (tmp_path / "a.geojson").read_text() == "mine"
    end(write_outlines(export_of(zarr, "a.geojson", replace=True), geojson_file))
    assert json.loads((tmp_path / "a.geojson").read_text())["type"] == "FeatureCollection"


@pytest.mark.parametrize(("spare", "n_traced"), [(-1, 0), (0, 1)])
def test_more_than_the_format_holds_are_refused_before_and_while_they_are_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int, n_traced: int
) -> None:
    labels = plane_of(0)
    traced: list[Any] = []
    monkeypatch.setattr(
        zarr_outlines, "outlines", lambda labels: traced.append(0) or outlines(labels)
    )
    zarr, most = written(tmp_path, labels), len(np.unique(labels)) - 1 + spare
    steps = write_outlines(export_of(zarr, "a.zip"), roi_file, most, "QuPath GeoJSON")
    with pytest.raises(
        UserError, match=f"outlines or more, and other .* {most:,} of them. Choose QuPath GeoJSON"
    ):
        list(steps)
    assert bool(traced) is bool(n_traced)
    assert list(tmp_path.iterdir()) == [zarr]


def test_a_cell_in_pieces_too_far_apart_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_outlines, "MOST_PIXELS", 30_000)
    zarr = written(tmp_path, plane_of(0))
    with pytest.raises(UserError, match=r"Cell 302 lies in pieces .* rows 5 to 154"):
        list(write_outlines(export_of(zarr, "a.json"), coco_file))
    assert list(tmp_path.iterdir()) == [zarr]


@pytest.mark.parametrize("step", [1, 10**12])  # ids near each other, and far apart
def test_boxes_are_those_of_the_pixels(step: int) -> None:
    labels = plane_of(0).astype(np.int64) * step
    found = zarr_cells.boxes_in(labels, (slice(1000, 1200), slice(50, 350)))
    expected = []
    for label in np.unique(labels[labels > 0]).tolist():
        y, x = np.nonzero(labels == label)
        sides = [y.min() + 1000, y.max() + 1001, x.min() + 50, x.max() + 51]
        expected.append([label, *sides])
    np.testing.assert_array_equal(found, expected)
    nothing = np.zeros((4, 4), np.uint16)
    assert zarr_cells.boxes_in(nothing, (slice(0, 4), slice(0, 4))).shape == (0, 5)


def test_labels_without_a_cell_are_a_file_without_one(tmp_path: Path) -> None:
    zarr = written(tmp_path, np.zeros((200, 300), np.uint16))
    for name in OPEN:
        end(write_outlines(export_of(zarr, name), OPEN[name]))
    assert json.loads((tmp_path / "geojson").read_text())["features"] == []
    assert json.loads((tmp_path / "coco").read_text())["annotations"] == []
    assert of_rois(tmp_path / "rois") == []


def test_memory_does_not_grow_with_the_labels(tmp_path: Path) -> None:
    peaks = []
    for n_times in (4, 16):
        folder = tmp_path / str(n_times)
        folder.mkdir()
        zarr = folder / "slide_cells.ome.zarr"
        plane = np.tile(plane_of(0), (n_times, 1)).astype(np.int64)
        # in each repetition the cells have numbers of their own
        plane += np.repeat(np.arange(n_times) * 302, 200)[:, np.newaxis] * (plane > 0)
        made = LabelZarr(zarr, plane.shape, "yx", 2048, Scale(None, "pixel", None))
        made.create("cells", np.uint16)
        made.write("cells", (), (slice(0, 200 * n_times), slice(0, 300)), plane.astype(np.uint16))
        made.finish("cells", {"cells": int(plane.max())}, {})
        steps = write_outlines(export_of(zarr, "a.geojson"), geojson_file)
        next(steps)  # libraries are loaded
        tracemalloc.start()
        end_of = list(steps)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert end_of[-1] == 1.0
    assert peaks[1] < 1.5 * peaks[0]
