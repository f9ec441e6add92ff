"""What names stand for, and what is refused before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_unet_cells.batch.units import find_units
from napari_unet_cells.errors import UserError


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("day1/a.tif", "day1/b.ome.tif", "day2/a.tif", "other/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_plate(path: Path, wells: dict[str, int], missing: str = "") -> None:
    plate = zarr.create_group(path, zarr_format=2)
    plate.attrs.put({"plate": {"wells": [{"path": well} for well in (*wells, missing) if well]}})
    for well, n in wells.items():
        group = plate.create_group(well)
        group.attrs.put({"well": {"images": [{"path": str(i)} for i in range(n)]}})
        for i in range(n):
            image = group.create_group(str(i))
            image.create_array("0", data=np.ones((8, 8), np.uint8))
            axes = [{"name": name, "type": "space"} for name in "yx"]
            image.attrs.put({"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]})


def names(*named: str, output: str = "out") -> list[str]:
    return [unit.name for unit in find_units(named, Path(output)).units]


def test_files_and_folders_have_the_names_of_their_images(days: Path) -> None:
    assert names("day1", "other/c.png") == ["a", "b", "c"]
    units = find_units(["day1"], Path("out")).units
    assert [unit.path for unit in units] == [days / "day1/a.tif", days / "day1/b.ome.tif"]


def test_a_pattern_keeps_its_folders_apart(days: Path) -> None:
    assert names("day*/*.tif") == ["day1/a", "day1/b", "day2/a"]
    assert names(str(days / "**" / "*.tif"), output="../out") == ["day1/a", "day1/b", "day2/a"]
    assert names("day1/*.tif") == ["a", "b"]


def test_two_images_that_would_be_written_as_one_are_refused(days: Path) -> None:
    with pytest.raises(UserError, match=r"day1/a\.tif and .*day2/a\.tif would both be written as"):
        find_units(["day1", "day2"], Path("out"))
    (days / "day1" / "A.png").touch()
    with pytest.raises(UserError, match=r"A\.png would both|a\.tif would both"):
        find_units(["day1"], Path("out"))


def test_an_image_that_is_named_twice_is_done_once_and_that_is_said(days: Path) -> None:
    os.symlink(days / "day1", days / "link")
    found = find_units(["day1/a.tif", "day1", "link/a.tif"], Path("out"))
    assert [unit.name for unit in found.units] == ["a", "b"]
    assert len(found.notes) == 1
    assert "2 images were named more than once, such as" in found.notes[0]
    assert not find_units(["day1"], Path("out")).notes


def test_names_of_nothing_are_problems_and_the_others_stay(days: Path) -> None:
    found = find_units(["nowhere", "day1", "*.bmp"], Path("out"))
    assert len(found.units) == 2
    assert found.problems[0] == "nowhere does not exist. Check the name and the folder."
    assert found.problems[1].startswith("*.bmp matches no image")


@pytest.mark.parametrize(
    ("named", "output"),
    [
        ("day1", "day1"),
        ("day1", "day1/deep/results"),
        (".", "day1"),
        ("**/*.tif", "results"),
        ("day*/*.tif", "day3"),
        ("*/*.tif", "results"),
    ],
)
def test_results_among_the_images_are_refused(days: Path, named: str, output: str) -> None:
    (days / "top.tif").touch()
    with pytest.raises(UserError, match="folder of the results, "):
        find_units([named], Path(output))


@pytest.mark.parametrize(
    ("named", "output"),
    [("day*/*.tif", "out"), ("day1/*.tif", "day1"), ("day1/a.tif", "day1"), ("day1", "day12")],
)
def test_results_beside_the_images_are_not(days: Path, named: str, output: str) -> None:
    assert find_units([named], Path(output)).units


def test_a_plate_stands_for_the_images_of_its_wells(days: Path) -> None:
    make_plate(days / "plate.zarr", {"A/1": 2, "B/12": 1})
    found = find_units(["plate.zarr"], Path("out")).units
    assert [unit.name for unit in found] == ["plate_A_1_0", "plate_A_1_1", "plate_B_12_0"]
    assert found[1].path == days / "plate.zarr/A/1/1"
    assert found[2].columns == {"well": "B12", "field": "0"}
    assert names("plate.zarr/A/1") == ["plate_A_1_0", "plate_A_1_1"]
    assert names("plate.zarr/A/1/1") == ["plate_A_1_1"]
    with pytest.raises(UserError, match=r"results, plate\.zarr/out, lies inside"):
        find_units(["*.zarr"], Path("plate.zarr/out"))


def test_a_well_that_is_not_there_is_a_problem_of_its_own(days: Path) -> None:
    make_plate(days / "plate.zarr", {"A/1": 1}, missing="A/2")
    first, second = find_units(["plate.zarr"], Path("out")).units
    assert first.problem == ""
    assert "lists the well A/2, and it is not there" in second.problem


def test_an_image_and_a_level_of_it_are_not_both_counted(days: Path) -> None:
    make_plate(days / "plate.zarr", {"A/1": 1})
    with pytest.raises(UserError, match=r"A/1/0/0 lies inside .*A/1/0, and both were named"):
        find_units(["plate.zarr", "plate.zarr/A/1/0/0"], Path("out"))


def test_a_series_stands_for_all_of_its_images(days: Path) -> None:
    root = zarr.create_group(days / "series.ome.zarr", zarr_format=2)
    for i in range(2):
        image = root.create_group(str(i))
        image.create_array("0", data=np.ones((8, 8), np.uint8))
        image.attrs.put({"multiscales": [{"datasets": [{"path": "0"}]}]})
    assert names("series.ome.zarr") == ["series_0", "series_1"]


def test_pictures_of_a_batch_are_no_images(days: Path) -> None:
    for stem in ("a", "b"):
        (days / "day1" / f"{stem}_outlines.jpg").touch()
    (days / "day1" / "a.json").write_text('{"program": "napari-unet-cells"}')
    tifffile.imwrite(days / "day1" / "a.tif", np.eye(3, dtype=np.uint8))
    assert names("day1") == ["a", "b", "b_outlines"]


def test_a_damaged_zarr_is_a_problem_of_its_own(days: Path) -> None:
    make_plate(days / "good.zarr", {"A/1": 1})
    bad = days / "bad.zarr"
    bad.mkdir()
    (bad / ".zattrs").write_text('{"multiscales": [{"datasets": [{"path": "../../../x"}]}]}')
    (bad / ".zgroup").write_text('{"zarr_format": 2}')
    first, second = find_units(["*.zarr"], Path("out")).units
    assert first.name == "bad"
    assert "bad.zarr cannot be read as a zarr image" in first.problem
    assert "Fiji" not in first.problem
    assert second.problem == ""
    (days / "day1" / "a.png").touch()
    with pytest.raises(UserError, match="Name one kind of them"):
        find_units(["day1"], Path("out"))
