"""Finding images: files, folders, patterns, and our own results left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import find_images, read_image, write_labels


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    names = (
        "cell10.tif cell2.TIF cell1.png notes.txt .hidden.tif ._cell1.png cell1_cells.tif "
        "cell1_classes.tif deep/cell3.tif deep/deeper/cell4.jpg only/a_cells.tif none/readme.md"
    )
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    for name in ("cell1_cells.tif", "cell1_classes.tif", "only/a_cells.tif"):
        write_labels(
            tmp_path / name, np.ones((4, 4), np.uint8), provenance={"v": 1}, overwrite=True
        )
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["."], "cell1.png cell2.TIF cell10.tif"),
        (["cell10.tif", "."], "cell10.tif cell1.png cell2.TIF"),
        (["cell1_cells.tif", "notes.txt"], "cell1_cells.tif notes.txt"),
        (["*.tif"], "cell10.tif"),
        (["*_cells.tif"], "cell1_cells.tif"),
        (["cell[12].*"], "cell1.png cell2.TIF"),
        (["**"], "cell1.png cell2.TIF cell10.tif deep/cell3.tif deep/deeper/cell4.jpg"),
        (["**/*.jpg"], "deep/deeper/cell4.jpg"),
        (["deep/../cell1.png", "cell1.png"], "deep/../cell1.png"),
        ([], ""),
    ],
)
def test_images_are_found(plate: Path, asked: list[str], found: str) -> None:
    assert find_images(plate / name for name in asked) == [plate / name for name in found.split()]


def test_only_what_we_wrote_is_left_out_not_what_is_named_so(plate: Path) -> None:
    """HeLa_cells.tif is a good name for an image."""
    (plate / "HeLa_cells.tif").touch()
    found = find_images([plate])
    assert plate / "HeLa_cells.tif" in found
    assert plate / "cell1_cells.tif" not in found


def test_a_name_that_looks_like_a_pattern_is_a_name(plate: Path) -> None:
    odd = plate / "cell[1].tif"
    odd.touch()
    assert find_images([str(odd)]) == [odd]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("nowhere.tif", r"nowhere\.tif does not exist"),
        ("none", "is a folder without images"),
        ("*.bmp", r"\*\.bmp matches no image"),
        ("only", r"holds results only \(a_cells\.tif\)\. To segment such a file, name it"),
        ("x" * 300, "does not exist"),
    ],
)
def test_nothing_found_is_reported(plate: Path, asked: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_images([plate / "cell1.png", plate / asked])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_not_said_to_be_missing(plate: Path) -> None:
    os.mkfifo(plate / "pipe.tif")
    found = find_images([plate / "pipe.tif"])
    assert found == [plate / "pipe.tif"]
    with pytest.raises(UserError, match="is a pipe or a device, not a file"):
        read_image(found[0])
    assert plate / "pipe.tif" not in find_images([plate])
