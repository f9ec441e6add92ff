"""The list that the dock keeps beside the results of its batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_unet_cells.batch.image_list import (
    LIST,
    ImageList,
    read_list,
    results_folder,
    save_list,
)
from napari_unet_cells.batch.request import Request
from napari_unet_cells.errors import UserError
from napari_unet_cells.segmentation.pipeline import Settings

REQUEST = Request(
    Settings(diameter=31.0, min_size=40, split=0.7, fill_holes=False, test_time_augmentation=True),
    channel=(0, 2),
    projection="max",
    plane="all",
    link="Z",
    pixel_size=0.5,
    runtime="openvino",
)


def test_a_list_comes_back_as_it_was(tmp_path: Path) -> None:
    chosen = ImageList(("/data/day1", "/data/b.tif"), "cells", REQUEST, "Model cells.")
    save_list(tmp_path / "new" / "results", chosen)
    assert read_list(tmp_path / "new" / "results") == chosen
    other = ImageList(("/data/day2",), "cells-fast")
    save_list(tmp_path / "new" / "results", other)
    assert read_list(tmp_path / "new" / "results") == other


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text('{"program": "other"}')
    with pytest.raises(UserError, match="was damaged, or is of another program"):
        save_list(tmp_path, ImageList(("/data",), "cells"))
    assert (tmp_path / LIST).read_text() == '{"program": "other"}'


def test_a_folder_without_a_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no list of images"):
        read_list(tmp_path)


def test_results_go_beside_the_images_never_among_them(tmp_path: Path) -> None:
    images = tmp_path / "day1"
    images.mkdir()
    (images / "a.tif").touch()
    zarr = images / "plate.zarr"
    zarr.mkdir()
    for named in (images, images / "a.tif", zarr):
        assert results_folder([str(named)]) == tmp_path / "day1_cells"


def test_beside_a_whole_disk_is_no_place_for_results(tmp_path: Path) -> None:
    disk = tmp_path.anchor
    for named in (disk, f"{disk}a.tif"):
        assert results_folder([named]) == Path.home() / "images_cells"
    for n in range(1, len(str(tmp_path))):  # as a path is typed
        assert results_folder([str(tmp_path)[:n]]).name.endswith("_cells")
