"""A large result as a BigTIFF and a CSV: whole and in order, or not at all."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.core.mode import halve_by_mode
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr, large_label_tiff, read_image, read_provenance
from napari_unet_cells.files.atomic import FileExists
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.segmentation.zarr_export import LargeExport, write_mask, write_table
from napari_unet_cells.segmentation.zarr_place import table_of
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date

TRANSFORM = {"scale": [1.0, 1.0]}


def labels_of(n_planes: int) -> NDArray[np.uint16]:
    """Make planes of 300 x 500 with cells of 10 x 10."""
    plane = np.zeros((300, 500), np.uint16)
    for number in range(300):
        y, x = divmod(number, 25)
        plane[20 * y + 4 : 20 * y + 14, 20 * x + 4 : 20 * x + 14] = number + 1
    return np.stack([plane, plane[:, ::-1]]) if n_planes == 2 else plane


def written(folder: Path, labels: NDArray[np.uint16]) -> Path:
    zarr = folder / "slide_cells.ome.zarr"
    axes = "zyx"[3 - labels.ndim :]
    made = LabelZarr(zarr, labels.shape, axes, 512, Scale((0.5, 0.25), "micrometer", None))
    made.create("cells", np.uint16)
    for index in np.ndindex(labels.shape[:-2]):
        made.write("cells", index, (slice(0, 300), slice(0, 500)), labels[index])
    size = {"y": 0.5, "x": 0.25, "unit": "micrometer"}
    made.finish("cells", {"cells": 300, "pixel_size": size, "model": {"name": "m"}}, {})
    return zarr


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(large_label_tiff, "TILE", 64)


def export_of(zarr: Path, *names: str, replace: bool = False) -> LargeExport:
    targets = tuple(zarr.parent / name for name in names)
    return LargeExport(zarr, targets, replace, "slide cells", TRANSFORM)


def end(steps: Generator[float, None, Any]) -> list[float]:
    done = list(steps)
    assert done == sorted(done)
    return done


@pytest.mark.parametrize("n_planes", [1, 2])
def test_labels_are_the_same_at_all_scales_and_say_what_they_are(
    tmp_path: Path, n_planes: int
) -> None:
    labels = labels_of(n_planes)
    zarr = written(tmp_path, labels)
    assert end(write_mask(export_of(zarr, "mask.tif", "mask.json")))[-1] == 1.0
    path = tmp_path / "mask.tif"
    with tifffile.TiffFile(path) as file:
        assert (file.is_bigtiff, file.pages.first.is_tiled) == (True, True)
        levels = file.series[0].levels
        assert len(levels) == 3
        np.testing.assert_array_equal(levels[0].asarray(), labels)
        half = [halve_by_mode(plane) for plane in labels.reshape(-1, 300, 500)]
        np.testing.assert_array_equal(levels[1].asarray().reshape(len(half), 150, 250), half)
    image = read_image(path)
    np.testing.assert_array_equal(np.asarray(image.data), labels)
    assert (image.axes, image.pixel_size, image.unit) == (
        "ZYX"[3 - labels.ndim :],
        (0.5, 0.25),
        "micrometer",
    )
    record = read_provenance(path)
    assert record["model"] == {"name": "m"}
    assert (record["corrected_by_hand"], record["layer"]) == (False, "slide cells")
    assert (tmp_path / "mask.json").is_file()


def test_what_was_put_back_is_in_both(tmp_path: Path) -> None:
    labels = labels_of(1)
    zarr = written(tmp_path, labels)
    end(bring_up_to_date(zarr))
    after = labels[:40, :40].astype(np.int64)
    before = after.copy()
    after[after == 1] = 0
    LabelVersions(zarr).replace((), (slice(0, 40), slice(0, 40)), before, after, 300)
    end(write_mask(export_of(zarr, "mask.tif", "mask.json")))
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "mask.tif"), np.where(labels == 1, 0, labels)
    )
    assert read_provenance(tmp_path / "mask.tif")["corrected_by_hand"] is True
    assert len(table_of(zarr).read_text().splitlines()) == 301
    end(write_table(export_of(zarr, "out.csv")))
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 300
    assert rows[1].startswith("2,")


def test_cells_that_are_changed_meanwhile_leave_no_mask(tmp_path: Path) -> None:
    labels = labels_of(1)
    zarr = written(tmp_path, labels)
    there = set(tmp_path.iterdir())
    before = labels[:40, :40].astype(np.int64)
    steps = write_mask(export_of(zarr, "mask.tif", "mask.json"))
    next(steps)
    window = (slice(0, 40), slice(0, 40))
    LabelVersions(zarr).replace((), window, before, np.where(before == 1, 0, before), 300)
    with pytest.raises(UserError, match=r"mask.tif was not written: cells of slide_cells"):
        end(steps)
    assert set(tmp_path.iterdir()) == there
    end(write_mask(export_of(zarr, "mask.tif", "mask.json")))
    assert not (tifffile.imread(tmp_path / "mask.tif") == 1).any()


def test_who_stops_leaves_nothing(tmp_path: Path) -> None:
    zarr = written(tmp_path, labels_of(1))
    before = set(tmp_path.iterdir())
    steps = write_mask(export_of(zarr, "mask.tif", "mask.json"))
    next(steps)
    steps.close()
    assert set(tmp_path.iterdir()) == before


def test_what_is_there_is_replaced_only_where_it_may_be(tmp_path: Path) -> None:
    zarr = written(tmp_path, labels_of(1))
    for name in ("mask.tif", "out.csv"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(FileExists):
        end(write_mask(export_of(zarr, "mask.tif", "mask.json")))
    with pytest.raises(FileExists):
        end(write_table(export_of(zarr, "out.csv")))
    assert (tmp_path / "mask.tif").read_text() == (tmp_path / "out.csv").read_text() == "mine"
    end(write_mask(export_of(zarr, "mask.tif", "mask.json", replace=True)))
    assert tifffile.imread(tmp_path / "mask.tif").shape == (300, 500)


def test_labels_that_cannot_be_read_are_no_background(tmp_path: Path) -> None:
    zarr = written(tmp_path, labels_of(1))
    for chunk in (zarr / "labels/cells/0/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"slide_cells\.ome\.zarr"):
        end(write_mask(export_of(zarr, "mask.tif", "mask.json")))
    assert not (tmp_path / "mask.tif").exists()
