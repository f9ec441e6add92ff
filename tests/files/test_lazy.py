"""A TIFF of more than a quarter of the free memory stays on the disk, and is still complete."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import LazyArray, read_image
from napari_unet_cells.files import tiff as tiff_module


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 250, shape, endpoint=True).astype(dtype)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4000))


# name -> (stored array, arguments of tifffile.imwrite, axes)
LARGE: dict[str, tuple[NDArray[Any], dict[str, Any], str]] = {
    "plain": (pixels(90, 70), {}, "YX"),
    "big endian": (pixels(90, 70), {"byteorder": ">"}, "YX"),
    "big tiff": (pixels(90, 70), {"bigtiff": True}, "YX"),
    "strips": (pixels(90, 70), {"rowsperstrip": 16, "compression": "zlib"}, "YX"),
    "tiles": (pixels(90, 70), {"tile": (32, 32), "compression": "lzw"}, "YX"),
    "float": (pixels(90, 70, dtype="float32"), {"compression": "zlib"}, "YX"),
    "rgb": (pixels(90, 70, 3, dtype="uint8"), {"photometric": "rgb"}, "YXC"),
    "rgb tiles": (
        pixels(90, 70, 3, dtype="uint8"),
        {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"},
        "YXC",
    ),
    "ImageJ": (pixels(4, 90, 70), {"imagej": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
    "OME": (
        pixels(4, 90, 70),
        {"ome": True, "compression": "zlib", "metadata": {"axes": "CYX"}},
        "CYX",
    ),
    "OME, one plane": (
        pixels(1, 1, 90, 70),
        {"ome": True, "compression": "zlib", "metadata": {"axes": "TZYX"}},
        "YX",
    ),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", LARGE)
def test_a_large_tiff_stays_on_the_disk(tmp_path: Path, name: str) -> None:
    stored, options, axes = LARGE[name]
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, stored, **options)

    image = read_image(path)

    assert isinstance(image.data, LazyArray)
    expected = stored.squeeze()
    assert (image.axes, image.data.shape, image.data.dtype) == (axes, expected.shape, stored.dtype)
    assert image.data.dtype.isnative
    assert image.data[3:5, 10:20].dtype == image.data.dtype
    np.testing.assert_array_equal(image.data[3:5, 10:20], expected[3:5, 10:20])
    np.testing.assert_array_equal(np.asarray(image.data), expected)


def test_with_memory_enough_it_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(90, 70))
    assert isinstance(read_image(tmp_path / "a.tif").data, np.ndarray)


@pytest.mark.usefixtures("little_memory")
def test_a_tiff_of_one_large_strip_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(90, 70), compression="zlib", rowsperstrip=90)
    assert isinstance(read_image(path).data, LazyArray)
    monkeypatch.setattr(tiff_module, "_LARGEST_CHUNK", 4000)
    assert isinstance(read_image(path).data, np.ndarray)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("percent", [1, 30, 70, 99])
@pytest.mark.parametrize("name", ["plain", "strips", "tiles", "ImageJ", "OME"])
def test_a_large_tiff_that_ends_too_early_is_never_read(
    tmp_path: Path, name: str, percent: int
) -> None:
    stored, options, _ = LARGE[name]
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, stored, **options)
    assert isinstance(read_image(path).data, LazyArray)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(UserError, match=r"^large\.tif .*(ends too early|damaged).*\."):
        np.asarray(read_image(path).data)


@pytest.mark.usefixtures("little_memory")
def test_a_damaged_strip_is_a_sentence_when_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, pixels(96, 70), compression="zlib", rowsperstrip=32)
    with tifffile.TiffFile(path) as tif:
        last = tif.pages.first.dataoffsets[-1]
    raw = bytearray(path.read_bytes())
    raw[last : last + 500] = bytes(500)
    path.write_bytes(raw)
    image = read_image(path)
    assert image.data[:64].any()
    with pytest.raises(UserError, match=r"large\.tif cannot be read as a TIFF: it is damaged"):
        image.data[64:]


def test_channels_have_the_names_that_a_tiff_gives_them(tmp_path: Path) -> None:
    stack, path = pixels(2, 30, 20), tmp_path / "a.tif"
    named = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, stack, ome=True, metadata=named)
    assert read_image(path).channel_names == ("DAPI", "GFP")
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX", "Labels": ["a", "b"]})
    assert read_image(path).channel_names == ("a", "b")
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX"})
    assert read_image(path).channel_names == ()
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX", "Labels": ["a", "b"]})
    assert read_image(path).channel_names == ()
