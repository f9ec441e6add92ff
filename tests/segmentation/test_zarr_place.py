"""Where the result of a large image goes, and whether it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.zarr_place import (
    Place,
    folder_beside,
    name_of,
    place_for,
    table_beside,
    table_of,
)
from napari_unet_cells.segmentation.zarr_request import ZarrRequest, run_key
from napari_unet_cells.untrusted.zarr_nodes import RUN

CARD = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)


@pytest.mark.parametrize(
    ("path", "name", "folder"),
    [
        ("day/slide.ome.zarr", "slide", "day"),
        ("day/slide.zarr", "slide", "day"),
        ("day/plate.zarr/B/3/0", "plate_B_3_0", "day"),
        ("day/a.b.OME.TIF", "a.b", "day"),
        ("day/scan.png", "scan", "day"),
    ],
)
def test_a_result_is_called_as_its_image_and_lies_beside_it(
    path: str, name: str, folder: str, tmp_path: Path
) -> None:
    assert name_of(tmp_path / path) == name
    assert folder_beside(tmp_path / path) == tmp_path / folder


def test_a_result_is_found_again_and_one_of_other_settings_stays(tmp_path: Path) -> None:
    image = tmp_path / "slide.zarr"
    zarr.create_array(image, data=np.zeros((8, 8), np.uint8))
    small, large = (ZarrRequest(Settings(diameter=size)) for size in (8.0, 30.0))
    first = tmp_path / "slide_cells.ome.zarr"
    assert place_for(image, tmp_path, CARD, small) == Place(first)
    assert table_of(first) == tmp_path / "slide_cells.csv"

    made: Any = zarr.open_group(first, mode="w")
    made.attrs[RUN] = run_key(image, CARD, small)
    assert place_for(image, tmp_path, CARD, small) == Place(first, True, None)
    second = tmp_path / "slide_cells-2.ome.zarr"
    assert place_for(image, tmp_path, CARD, large) == Place(second)

    # a table that somebody else wrote keeps its name
    (tmp_path / "slide_cells-2.csv").write_text("mine")
    assert place_for(image, tmp_path, CARD, large).output.name == "slide_cells-3.ome.zarr"
    (tmp_path / "slide_cells-2.csv").unlink()

    zarr.create_array(image, data=np.ones((8, 8), np.uint8), overwrite=True)
    (image / "more").write_text("the image is another one")
    assert place_for(image, tmp_path, CARD, small) == Place(second)


def test_the_table_of_a_list_is_called_after_the_image(tmp_path: Path) -> None:
    own, table = tmp_path / "n1.ome.zarr", tmp_path / "n1_cells.csv"
    assert table_beside(own) == tmp_path / "n1.csv"
    (tmp_path / "n1.json").write_text(json.dumps({"files": ["n1.ome.zarr", "n1_cells.csv"]}))
    assert table_beside(own) == table  # also where it has to be made
    (tmp_path / "n1.csv").write_text("of somebody else")
    assert table_beside(own) == table

    # without its record it is found where it is there
    (tmp_path / "n1.json").write_text("[")
    (tmp_path / "n1.csv").unlink()
    table.write_text("label")
    assert table_beside(own) == table

    # and no other image's, whose name ends as the results of one image do
    result = tmp_path / "n1_cells.ome.zarr"
    assert table_beside(result) == table
    (tmp_path / "n1_cells.json").write_text(json.dumps({"files": [result.name]}))
    assert table_beside(result) == tmp_path / "n1_cells_cells.csv"
    (tmp_path / "n1_cells.json").write_text(json.dumps({"files": ["other"]}))
    (tmp_path / "n1_cells_cells.csv").write_text("label")
    assert table_beside(result) == table
