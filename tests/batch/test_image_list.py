"""The list that the dock keeps beside the results of its batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

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
from napari_unet_cells.tracking import TrackingOptions

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


def test_format_and_tracks_come_back_and_a_list_of_before_has_none(tmp_path: Path) -> None:
    zarr = ImageList(("/data",), "cells", Request(format="ome-zarr", axes="CYX"))
    save_list(tmp_path, zarr)
    assert read_list(tmp_path) == zarr
    tracked = Request(plane="all", track=TrackingOptions(), stills=True)
    save_list(tmp_path, ImageList(("/data",), "cells", tracked))
    assert read_list(tmp_path).request == tracked
    document = json.loads((tmp_path / LIST).read_text())
    for name in ("format", "track"):
        del document["options"][name]
    (tmp_path / LIST).write_text(json.dumps(document))
    assert read_list(tmp_path).request == Request(plane="all")


def test_only_movies_of_a_list_are_tracked(tmp_path: Path) -> None:
    movie, still = tmp_path / "movie.tif", tmp_path / "still.tif"
    pixels = np.zeros((3, 20, 20), np.uint8)
    tifffile.imwrite(movie, pixels, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(still, pixels, imagej=True, metadata={"axes": "ZYX"})
    options = TrackingOptions()
    asked = Request(plane="all", link="Z", track=options, stills=True)
    assert asked.for_image(movie) == Request(plane="all", track=options)
    assert asked.for_image(still) == Request(plane="all", link="Z")
    assert asked.for_image(tmp_path / "gone.tif") == Request(plane="all", link="Z")
    unnamed = tmp_path / "unnamed.zarr"  # its first axis is guessed to be time
    zarr.create_array(unnamed, data=np.zeros((2, 3, 20, 20), np.uint8))
    assert asked.for_image(unnamed) == Request(plane="all", link="Z")
    all_of_them = Request(plane="all", track=options)  # as the command line has it
    assert all_of_them.for_image(still) == all_of_them
    assert all_of_them.decisive() == asked.for_image(movie).decisive()


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
