"""Labels in an OME-Zarr: valid for others, right at all scales, in the size they should have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from numpy.typing import NDArray

from napari_unet_cells.core.mode import halve_by_mode
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.files.label_zarr import LabelZarr, plane_axes
from napari_unet_cells.files.labels import read_provenance
from napari_unet_cells.files.pixel_size import NO_SCALE, Scale
from napari_unet_cells.files.zarr_metadata import AxisPlace

SIZE = Scale((0.25, 0.5), "micrometer", 2.0)
RECORD = {"program": "napari-unet-cells", "version": "1", "role": "cells"}


def made(
    folder: Path, labels: NDArray[Any], version: str, axes: str = "yx", side: int = 1024
) -> LabelZarr:
    """Write labels as cells, block by block, and finish them."""
    target = LabelZarr(folder / "a.ome.zarr", labels.shape, axes, side, SIZE, version)
    target.create("cells", labels.dtype)
    height, width = labels.shape[-2:]
    for plane in np.ndindex(labels.shape[:-2]):
        for y in reversed(range(0, height, side)):
            for x in range(0, width, side):
                part = slice(y, min(height, y + side)), slice(x, min(width, x + side))
                target.write("cells", plane, part, labels[(*plane, *part)])
    target.finish("cells", RECORD, {"properties": [{"label-value": 1, "class": "cell"}]})
    overview = np.zeros([-(-n // target.factor) for n in labels.shape[-2:]], np.uint16)
    n_planes = int(np.prod(labels.shape[:-2], dtype=int))
    planes = [overview + number for number in range(n_planes)]
    target.complete(["cells"], planes, {"program": "napari-unet-cells"})
    return target


def random_cells(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint32]:
    coarse = np.random.default_rng(seed).integers(0, 70_000, [-(-n // 9) for n in shape[-2:]])
    plane = np.repeat(np.repeat(coarse, 9, 0), 9, 1)[: shape[-2], : shape[-1]]
    return np.broadcast_to(plane, shape).astype(np.uint32)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_all_levels_are_those_of_the_whole_and_valid(tmp_path: Path, version: str) -> None:
    labels = random_cells((2500, 3001))
    target = made(tmp_path, labels, version)
    expected, level = labels, 0
    for level, shape in enumerate(target.shapes):
        array: Any = zarr.open_array(target.folder / "labels" / "cells" / str(level), mode="r")
        assert array.shape == expected.shape == shape
        np.testing.assert_array_equal(array[...], expected)
        assert (array.shards is not None) == (version == "0.5")
        expected = halve_by_mode(expected)
    assert level == 2
    yaozarrs.validate_zarr_store(str(target.folder))
    yaozarrs.validate_zarr_store(str(target.folder / "labels" / "cells"))
    if version == "0.5":  # before, a list of labels had no version
        yaozarrs.validate_zarr_store(str(target.folder / "labels"))
    assert yaozarrs.open_group(str(target.folder / "labels" / "cells")).ome_version() == version


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_beyond_those_of_blocks_are_made_at_the_end(tmp_path: Path, version: str) -> None:
    labels = np.zeros((1030, 9000), np.uint16)
    labels[:, 4000:8000] = random_cells((1030, 4000)) % 60_000
    target = made(tmp_path, labels, version)
    assert len(target.shapes) == 5
    for level in range(1, 5):
        fine, coarse = (
            np.asarray(zarr.open_array(target.folder / "labels" / "cells" / str(n))[...])
            for n in (level - 1, level)
        )
        np.testing.assert_array_equal(coarse, halve_by_mode(fine))
        assert coarse.any()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_size_units_and_record_are_read_again(tmp_path: Path, version: str) -> None:
    target = made(tmp_path, random_cells((3, 60, 50)), version, "zyx")
    path = target.folder / "labels" / "cells"
    image = read_image(path)
    assert (image.pixel_size, image.unit, image.z_step) == ((0.25, 0.5), "micrometer", 2.0)
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.data[...], random_cells((3, 60, 50)))
    assert read_provenance(path) == RECORD


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tzyx"])
@pytest.mark.parametrize("colors", [0, 3])
def test_the_small_image_lies_where_the_labels_do(
    tmp_path: Path, version: str, axes: str, colors: int
) -> None:
    shape = (2, 3, 1500, 1400)[-len(axes) :]
    target = LabelZarr(tmp_path / "a.ome.zarr", shape, axes, 1024, SIZE, version)
    n_planes = int(np.prod(shape[:-2], dtype=int))
    planes = [
        np.full((750, 700, *(colors,) * bool(colors)), number + 1, np.uint16)
        for number in range(n_planes)
    ]
    target.create("cells", np.uint8)
    target.finish("cells", RECORD, {})
    target.complete(["cells"], planes, RECORD)
    yaozarrs.validate_zarr_store(str(target.folder))
    image = read_image(target.folder)
    assert image.axes == axes.upper().replace("ZYX", "CZYX" if colors else "ZYX").replace(
        "YX", "CYX" if colors and "z" not in axes else "YX"
    )
    assert (image.pixel_size, image.unit) == ((0.5, 1.0), "micrometer")
    means = np.asarray(image.data).mean(axis=(-2, -1)).reshape(-1)
    expected = np.arange(1, n_planes + 1, dtype=float).reshape(shape[:-2])
    if colors:
        expected = np.stack([expected] * 3, axis=axes.find("z") if "z" in axes else 0)
    np.testing.assert_array_equal(means, expected.reshape(-1))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_metadata_are_those_of_label_images(tmp_path: Path, version: str) -> None:
    target = made(tmp_path, random_cells((1500, 1400)), version)
    is_old = version == "0.4"
    path = target.folder / "labels" / "cells" / (".zattrs" if is_old else "zarr.json")
    said = json.loads(path.read_text())
    said = said if is_old else said["attributes"]["ome"]
    assert said["image-label"]["properties"] == [{"label-value": 1, "class": "cell"}]
    (image,) = said["multiscales"]
    assert [axis["unit"] for axis in image["axes"]] == ["micrometer"] * 2
    first, second = (dataset["coordinateTransformations"] for dataset in image["datasets"])
    assert first == [{"type": "scale", "scale": [0.25, 0.5]}]
    assert second == [
        {"type": "scale", "scale": [0.5, 1.0]},
        {"type": "translation", "translation": [0.125, 0.25]},
    ]
    above = json.loads((target.folder / "labels" / path.name).read_text())
    assert (above if is_old else above["attributes"]["ome"])["labels"] == ["cells"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_lie_where_the_image_does(tmp_path: Path, version: str) -> None:
    place = {"t": AxisPlace(30.0, 60.0, "second"), "y": AxisPlace(0.25, 5.0, "micrometer")}
    place |= {"c": AxisPlace(7.0, 7.0), "x": AxisPlace(0.5, -7.0, "micrometer")}
    folder, shape = tmp_path / "a.ome.zarr", (2, 1030, 900)
    target = LabelZarr(folder, shape, "tyx", 1024, SIZE, version, place)
    target.create("cells", np.uint8)
    target.finish("cells", RECORD, {})
    target.complete(["cells"], [np.ones((515, 450), np.uint8)] * 2, RECORD)
    yaozarrs.validate_zarr_store(str(target.folder / "labels" / "cells"))
    cells, around = (read_image(path) for path in (folder / "labels" / "cells", folder))
    assert cells.place == {name: place[name] for name in "tyx"}
    middle = {"y": AxisPlace(0.5, 5.125, "micrometer"), "x": AxisPlace(1.0, -6.75, "micrometer")}
    assert around.place == {"t": place["t"], **middle}


def test_a_pixel_size_that_was_told_counts_where_the_image_states_none(tmp_path: Path) -> None:
    place = {"y": AxisPlace(3.0, 5.0), "x": AxisPlace(3.0)}
    target = LabelZarr(tmp_path / "a.ome.zarr", (20, 20), "yx", 1024, SIZE, place=place)
    target.create("cells", np.uint8)
    target.finish("cells", {}, {})
    cells = read_image(target.folder / "labels" / "cells")
    assert cells.place == {
        "y": AxisPlace(0.25, 5.0, "micrometer"),
        "x": AxisPlace(0.5, 0.0, "micrometer"),
    }
    untold = LabelZarr(tmp_path / "b.zarr", (20, 20), "yx", 1024, NO_SCALE, place=place)
    untold.create("cells", np.uint8)
    untold.finish("cells", {}, {})
    assert read_image(untold.folder / "labels" / "cells").place == place


def test_background_takes_no_space(tmp_path: Path) -> None:
    labels = np.zeros((2048, 2048), np.uint8)
    labels[5, 5] = 1
    target = made(tmp_path, labels, "0.5")
    chunks = [path for path in target.folder.rglob("c/*/*") if path.is_file()]
    assert {path.parts[-4:] for path in chunks} == {("0", "c", "0", "0")}


def test_without_a_size_no_unit_is_stated(tmp_path: Path) -> None:
    target = LabelZarr(tmp_path / "a.zarr", (20, 20), "yx", 1024, Scale(None, "pixel", None))
    target.create("cells", np.uint8)
    target.finish("cells", {}, {})
    target.complete(["cells"], [np.zeros((20, 20))], {})
    image = read_image(target.folder / "labels" / "cells")
    assert image.pixel_size is None
    yaozarrs.validate_zarr_store(str(target.folder / "labels" / "cells"))


def test_a_version_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"versions 0\.4 and 0\.5, not 0\.3"):
        LabelZarr(tmp_path, (2, 2), "yx", 1024, SIZE, "0.3")


@pytest.mark.parametrize(
    ("axes", "letters"),
    [
        ("YX", "yx"),
        ("ZYX", "zyx"),
        ("TYX", "tyx"),
        ("TZYX", "tzyx"),
        ("QYX", "zyx"),
    ],
)
def test_axes_are_named_as_the_format_does(axes: str, letters: str) -> None:
    assert plane_axes(axes) == letters


def test_more_axes_than_the_format_has_are_refused() -> None:
    for axes in ("QRTZYX", "ZTYX", "QZYX"):
        with pytest.raises(UserError, match=f"axes {axes} are not written as an OME-Zarr"):
            plane_axes(axes)
