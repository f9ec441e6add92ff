"""Values of the dialog of a new list, without Qt."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_unet_cells.widgets.folder.values import FolderValues


def test_results_are_proposed_beside_the_images(tmp_path: Path) -> None:
    files = [str(tmp_path / "day1" / name) for name in ("a b.tif", "c.tif")]
    (tmp_path / "day1").mkdir()
    values = FolderValues.of(files)
    assert values.named == tuple(files)
    assert values.folder == tmp_path / "day1_cells"
    assert values.problem() is None
    assert FolderValues.of(()) == FolderValues()
    assert values.format == "tiff"
    assert FolderValues.of(files, "ome-zarr").format == "ome-zarr"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (FolderValues("", "/out"), "No images are chosen."),
        (FolderValues(" | ", "/out"), "No images are chosen."),
        (FolderValues("/in", " "), "There is no folder for the results."),
        (FolderValues("/in", __file__), "is a file. Choose a folder for the results."),
    ],
)
def test_what_is_wrong_is_said(values: FolderValues, said: str) -> None:
    assert said in (values.problem() or "")
