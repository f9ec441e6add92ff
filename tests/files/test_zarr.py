"""OME-Zarr in both formats: axes, sizes and names are found, and no pixel is read too early."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import LazyArray, find_images, pixel_size_of, read_image

FORMATS: dict[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
SIZES = {"t": 1.0, "c": 1.0, "z": 0.75, "y": 0.5, "x": 0.25}


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 250, shape, endpoint=True).astype(dtype)


def multiscales(axes: str, unit: str | None = "micrometer", levels: int = 2) -> dict[str, Any]:
    described = [{"name": a, "type": TYPES[a]} for a in axes]
    for axis in described:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [SIZES[a] * (2**level if a in "yx" else 1) for a in axes],
                },
                {"type": "translation", "translation": [0.0 for _ in axes]},
            ],
        }
        for level in range(levels)
    ]
    return {"axes": described, "datasets": datasets}


def make(
    path: Path,
    data: NDArray[Any],
    axes: str = "yx",
    version: str = "0.4",
    image: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write an OME-Zarr of two levels; `more` goes beside `multiscales`."""
    group = zarr.create_group(path, zarr_format=FORMATS[version])
    chunks = (*(1 for _ in data.shape[:-2]), 32, 32)
    for level, array in enumerate((data, data[..., ::2, ::2])):
        group.create_array(str(level), data=array, chunks=chunks)
    described = {"multiscales": [image or multiscales(axes)], **more}
    group.attrs.put({"ome": {"version": version, **described}} if version == "0.5" else described)
    return path


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "tczyx"])
def test_an_image_is_found_in_both_formats(tmp_path: Path, version: str, axes: str) -> None:
    data = pixels(*(2, 3, 4, 70, 90)[-len(axes) :])
    path = make(tmp_path / "a.ome.zarr", data, axes, version)

    image = read_image(path)

    assert image.axes == axes.upper()
    assert (image.pixel_size, image.unit) == ((0.5, 0.25), "micrometer")
    assert image.z_step == (0.75 if "z" in axes else None)
    assert (image.path, image.n_images) == (path, 1)
    assert (image.data.shape, image.data.dtype) == (data.shape, data.dtype)
    np.testing.assert_array_equal(np.asarray(image.data), data)
    assert pixel_size_of(path) == ((0.5, 0.25), "micrometer")


def test_axes_of_length_one_are_dropped_and_never_y_or_x(tmp_path: Path) -> None:
    data = pixels(1, 3, 1, 1, 90)
    image = read_image(make(tmp_path / "a.zarr", data, "tczyx"))
    assert (image.axes, image.data.shape) == ("CYX", (3, 1, 90))
    np.testing.assert_array_equal(image.data[1], data[0, 1, 0])
    np.testing.assert_array_equal(image.data[..., 5:9:2], data[0, :, 0, :, 5:9:2])
    np.testing.assert_array_equal(image.data[2, 0, 3:7], data[0, 2, 0, 0, 3:7])
    np.testing.assert_array_equal(image.data[-1, ..., 0], data[0, 2, 0, :, 0])
    with pytest.raises(IndexError):
        image.data[0, 0, 0, 0]


def test_pixels_stay_on_the_disk_until_they_are_sliced(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr", pixels(70, 90))
    chunk = path / "0" / "0.0"
    assert chunk.is_file()
    image = read_image(path)
    assert isinstance(image.data, LazyArray)
    before = image.data[:32, :32]
    assert before.any()
    chunk.write_bytes(b"not what was compressed")
    assert image.data[32:, 32:].any()  # the others can still be read
    with pytest.raises(UserError, match=r"^a\.zarr cannot be read as a zarr image: it is damaged"):
        image.data[:32, :32]


@pytest.mark.parametrize("dtype", [">u2", "bool", "float32"])
def test_pixels_come_native_and_one_bit_as_grey(tmp_path: Path, dtype: str) -> None:
    stored = (pixels(40, 30) % 2).astype(dtype)
    image = read_image(make(tmp_path / "a.zarr", stored))
    expected = (
        stored.astype("u1") * 255 if dtype == "bool" else stored.astype(dtype.replace(">", ""))
    )
    assert image.data.dtype == image.data[:].dtype == expected.dtype
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(np.asarray(image.data), expected)


def test_a_scale_of_all_levels_counts_too(tmp_path: Path) -> None:
    described = multiscales("yx", "nanometer")
    described["coordinateTransformations"] = [{"type": "scale", "scale": [10.0, 100.0]}]
    path = make(tmp_path / "a.zarr", pixels(40, 30), image=described)
    assert pixel_size_of(path) == ((5.0, 25.0), "nanometer")


def test_the_place_of_the_pixels_is_known_axis_by_axis(tmp_path: Path) -> None:
    described = multiscales("tyx")
    described["axes"][0]["unit"] = "second"
    own = [{"type": "scale", "scale": [30.0, 0.5, 0.25]}]
    own += [{"type": "translation", "translation": [0.0, 3.0, -4.0]}]
    described["datasets"][0]["coordinateTransformations"] = own
    above: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, 2.0, 2.0]}]
    above += [{"type": "translation", "translation": [60.0, 0.0, 1.0]}, {"type": "identity"}]
    described["coordinateTransformations"] = above
    image = read_image(make(tmp_path / "a.zarr", pixels(2, 40, 30), image=described))
    place = {"t": (30.0, 60.0, "second"), "y": (1.0, 6.0, "micrometer")}
    assert image.place == place | {"x": (0.5, -7.0, "micrometer")}
    assert image.pixel_size == (1.0, 0.5)


def test_a_place_that_is_none_is_left_out(tmp_path: Path) -> None:
    described = multiscales("yx")
    wrong = [{"type": "scale", "scale": [0.0, 1.0]}]
    described["datasets"][0]["coordinateTransformations"] = wrong
    path = make(tmp_path / "a.zarr", pixels(40, 30), image=described)
    assert read_image(path).place == {}
    wrong = [{"type": "scale", "scale": [1e30, 1e30]}] * 11
    described["datasets"][0]["coordinateTransformations"] = wrong
    path = make(tmp_path / "b.zarr", pixels(40, 30), image=described)
    assert read_image(path).place == {}


@pytest.mark.parametrize("unit", [None, "furlong"])
def test_without_a_unit_of_length_there_is_no_pixel_size(tmp_path: Path, unit: str | None) -> None:
    path = make(tmp_path / "a.zarr", pixels(40, 30), image=multiscales("yx", unit))
    image = read_image(path)
    assert (image.pixel_size, image.unit) == (None, "pixel")
    assert pixel_size_of(path) == (None, "pixel")


@pytest.mark.parametrize("axes", [None, ["z", "y", "x"]])
def test_older_versions_have_names_of_axes_or_none(tmp_path: Path, axes: Any) -> None:
    described = {"datasets": [{"path": "0"}, {"path": "1"}]} | ({"axes": axes} if axes else {})
    path = make(tmp_path / "a.zarr", pixels(4, 40, 30), image=described)
    assert (read_image(path).axes, pixel_size_of(path)) == ("ZYX", (None, "pixel"))


def test_channels_have_their_names(tmp_path: Path) -> None:
    channels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    image = read_image(make(tmp_path / "a.zarr", pixels(2, 40, 30), "cyx", omero=channels))
    assert image.channel_names == ("DAPI", "GFP")
    image = read_image(make(tmp_path / "b.zarr", pixels(2, 40, 30), "cyx"))
    assert image.channel_names == ()


def test_a_path_within_an_image_has_its_pixel_size(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr", pixels(70, 90))
    make(path / "labels" / "cells", pixels(70, 90))
    for inside, size, shape in (
        ("0", (0.5, 0.25), (70, 90)),
        ("1", (1.0, 0.5), (35, 45)),
        ("labels/cells", (0.5, 0.25), (70, 90)),
    ):
        image = read_image(path / inside)
        assert (image.pixel_size, image.data.shape) == (size, shape)
        assert pixel_size_of(path / inside) == (size, "micrometer")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((40, 30), "YX"), ((5, 40, 30), "ZYX"), ((40, 30, 3), "YXC"), ((2, 3, 4, 40, 30), "TCZYX")],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_without_an_image_around_it(
    tmp_path: Path, shape: tuple[int, ...], axes: str, zarr_format: Any
) -> None:
    data = pixels(*shape)
    zarr.create_array(tmp_path / "a.zarr", data=data, zarr_format=zarr_format)
    image = read_image(tmp_path / "a.zarr")
    assert (image.axes, image.pixel_size, image.unit) == (axes, None, "pixel")
    np.testing.assert_array_equal(np.asarray(image.data), data)


def test_an_array_may_name_its_axes(tmp_path: Path) -> None:
    names = ("time", "y", "x")
    zarr.create_array(tmp_path / "a.zarr", data=pixels(4, 40, 30), dimension_names=names)
    assert read_image(tmp_path / "a.zarr").axes == "TYX"


def test_of_numbered_images_the_first_is_read_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_group(path, zarr_format=2).attrs.put({"bioformats2raw.layout": 3})
    zarr.create_group(path / "OME", zarr_format=2)
    for number in (0, 1, 10):
        make(path / str(number), pixels(40 + number, 30))
    image = read_image(path)
    assert (image.data.shape, image.n_images) == ((40, 30), 3)
    assert pixel_size_of(path) == ((0.5, 0.25), "micrometer")


def test_a_plate_and_a_well_name_an_image_to_choose(tmp_path: Path) -> None:
    path = tmp_path / "plate.zarr"
    wells = [{"path": "A/1"}, {"path": "B/2"}]
    zarr.create_group(path, zarr_format=2).attrs.put({"plate": {"wells": wells}})
    fields = {"images": [{"path": "0"}, {"path": "1"}]}
    zarr.create_group(path / "B" / "2", zarr_format=2).attrs.put({"well": fields})
    make(path / "B" / "2" / "0", pixels(40, 30))
    with pytest.raises(UserError, match=r"plate of 2 wells\. Name one .*plate\.zarr/B/2/0\.$"):
        read_image(path)
    with pytest.raises(UserError, match=r"^2 is a well of 2 fields\. .*plate\.zarr/B/2/0\.$"):
        read_image(path / "B" / "2")
    assert pixel_size_of(path) == (None, "pixel")
    assert read_image(path / "B" / "2" / "0").data.shape == (40, 30)


def _remove(*names: str) -> Any:
    def damage(path: Path) -> None:
        for name in names:
            target = path / name
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return damage


def _write(name: str, content: object) -> Any:
    return lambda path: (path / name).write_text(
        content if isinstance(content, str) else json.dumps(content)
    )


def _remove_pixels(path: Path) -> None:
    for chunk in (path / "0").glob("[0-9]*"):
        chunk.unlink()


DAMAGES = {
    "no metadata": (_remove(".zgroup", ".zattrs"), r"holds no zarr metadata .* Copy the whole"),
    "no full resolution": (_remove("0"), r"is incomplete: its full resolution, 0, is missing"),
    "no pixels": (_remove_pixels, r"holds none of its \d+ chunks"),
    "no attributes": (_remove(".zattrs"), r"without an OME-Zarr image\. Name an array in it, .*/0"),
    "no JSON": (_write(".zattrs", "{"), r"cannot be read as a zarr image: it is damaged"),
    "a list": (_write(".zattrs", [1]), r"cannot be read as a zarr image: it is damaged"),
    "no datasets": (_write(".zattrs", {"multiscales": [{}]}), r"it is damaged.*'datasets'"),
    "axes of another image": (
        _write(".zattrs", {"multiscales": [multiscales("tczyx")]}),
        r"it is damaged.*5 axes are described, and the array has 2",
    ),
    "array metadata": (_write("0/.zarray", "{}"), r"it is damaged"),
    "array of another shape": (_write("0/.zarray", {"shape": [40, 30]}), r"it is damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_zarr_is_a_sentence(tmp_path: Path, name: str) -> None:
    damage, sentence = DAMAGES[name]
    path = make(tmp_path / "a.zarr", pixels(40, 30))
    assert read_image(path).data.shape == (40, 30)
    damage(path)
    with pytest.raises(UserError, match=rf"^a\.zarr .*{sentence}.*\.$"):
        read_image(path)
    pixel_size_of(path)  # says none, and raises nothing


def test_a_zarr_is_one_image_of_its_folder(tmp_path: Path) -> None:
    inner = make(tmp_path / "a.zarr", pixels(40, 30))
    (tmp_path / "b.tif").touch()
    (tmp_path / ".hidden.zarr").mkdir()
    assert find_images([tmp_path]) == [inner, tmp_path / "b.tif"]
    assert find_images([inner]) == [inner]
    assert find_images([inner / "0"]) == [inner / "0"]
    assert find_images([tmp_path / "*.zarr"]) == [inner]


def test_metadata_need_no_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.zarr", pixels(40, 30))
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert pixel_size_of(path) == ((0.5, 0.25), "micrometer")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_that_are_missing_count_as_empty_and_are_named(
    tmp_path: Path, zarr_format: Any
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=pixels(70, 90), chunks=(32, 32), zarr_format=zarr_format)
    assert read_image(path).missing == ""
    begin, between = ("", ".") if zarr_format == 2 else ("c/", "/")
    for key in ("1 1", "0 2", "2 0", "2 2"):
        (path / (begin + between.join(key.split()))).unlink()
    names = ", ".join(begin + between.join(key) for key in ("02", "11", "20"))
    image = read_image(path)
    assert image.missing == f"4 of 9 chunks are missing ({names}, ...) and count as empty"
    assert image.data[:32, :32].any()
    assert not image.data[32:64, 32:64].any()


def test_chunks_of_zeros_that_were_never_written_are_no_damage(tmp_path: Path) -> None:
    data = pixels(64, 64)
    data[:32] = 0
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(32, 32))  # as zarr does by default
    image = read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.asarray(image.data), data)
    assert image.missing.startswith("2 of 4 chunks are missing (c/0/0, c/0/1)")


def test_an_image_without_any_chunk_is_refused_or_allowed(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(64, 64), chunks=(32, 32), dtype="u1")
    with pytest.raises(UserError, match=r"holds none of its 4 chunks: .* --allow-missing-chunks"):
        read_image(tmp_path / "a.zarr")
    image = read_image(tmp_path / "a.zarr", allow_missing_chunks=True)
    assert not np.asarray(image.data).any()


def test_labels_may_lack_chunks(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zarr", pixels(70, 90))
    labels = make(path / "labels" / "cells", pixels(70, 90), "yx", **{"image-label": {}})  # type: ignore[arg-type]
    (labels / "0" / "0.0").unlink()
    assert read_image(labels).missing == ""
    (path / "0" / "0.0").unlink()
    assert read_image(path).missing.startswith("1 of ")


def test_missing_chunks_are_not_counted_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    shape, n = (2**40, 2**12), 2**37 * 2**9
    array = zarr.create_array(path, shape=shape, dtype="u1", chunks=(8, 8), zarr_format=2)
    array[:8, :8] = np.ones((8, 8), np.uint8)
    expected = f"{n - 1} of {n} chunks are missing (0.1, 0.2, 0.3, ...) and count as empty"
    assert read_image(path).missing == expected
