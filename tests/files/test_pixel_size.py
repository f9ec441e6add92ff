"""The pixel size: found where a file states one that can be believed, and else none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import pixel_size, pixel_size_of, read_image

MICRO = "\N{MICRO SIGN}m"


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    high = 1 if dtype == "bool" else 250
    return np.random.default_rng(0).integers(0, high, shape, endpoint=True).astype(dtype)


def ome(axes: str = "YX", **attributes: object) -> dict[str, Any]:
    return {"ome": True, "metadata": {"axes": axes, **attributes}}


def imagej(y: float, x: float, **metadata: object) -> dict[str, Any]:
    return {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": metadata}


def plain(per_unit: float, unit: str) -> dict[str, Any]:
    return {"resolution": (per_unit, per_unit), "resolutionunit": unit}


# name -> (arguments of tifffile.imwrite, pixel size (y, x), unit)
SCALES: dict[str, tuple[dict[str, Any], tuple[float, float] | None, str]] = {
    "ImageJ micron": (imagej(0.5, 0.1625, unit="micron"), (0.5, 0.1625), "micrometer"),
    "ImageJ um": (imagej(0.2, 0.2, unit="um"), (0.2, 0.2), "micrometer"),
    "ImageJ escaped": (imagej(0.2, 0.2, unit="\\u00B5m"), (0.2, 0.2), "micrometer"),
    "ImageJ nm": (imagej(65.0, 65.0, unit="nm"), (65.0, 65.0), "nanometer"),
    "ImageJ two units": (imagej(500.0, 0.5, unit="um", yunit="nm"), (0.5, 0.5), "micrometer"),
    "ImageJ cm": (imagej(1e-4, 1e-4, unit="cm"), (1.0, 1.0), "micrometer"),
    "ImageJ 300 dpi": (imagej(1 / 300, 1 / 300, unit="inch"), None, "pixel"),
    "ImageJ pixel": (imagej(1.0, 1.0, unit="pixel"), None, "pixel"),
    "ImageJ no unit": (imagej(0.5, 0.5), None, "pixel"),
    "ImageJ strange unit": (imagej(0.5, 0.5, unit="furlong"), None, "pixel"),
    "OME default unit": (ome(PhysicalSizeX=0.1, PhysicalSizeY=0.3), (0.3, 0.1), "micrometer"),
    "OME nm": (
        ome(PhysicalSizeX=65, PhysicalSizeXUnit="nm", PhysicalSizeY=66, PhysicalSizeYUnit="nm"),
        (66.0, 65.0),
        "nanometer",
    ),
    "OME two units": (
        ome(PhysicalSizeX=0.5, PhysicalSizeXUnit=MICRO, PhysicalSizeY=5e-4, PhysicalSizeYUnit="mm"),
        (0.5, 0.5),
        "micrometer",
    ),
    "OME zero": (ome(PhysicalSizeX=0.0, PhysicalSizeY=0.0), None, "pixel"),
    "OME only x": (ome(PhysicalSizeX=0.1), None, "pixel"),
    "plain cm": (plain(20000, "CENTIMETER"), (0.5, 0.5), "micrometer"),
    "plain cm, 72 dpi": (plain(28.35, "CENTIMETER"), None, "pixel"),
    "plain cm, 300 dpi": (plain(118, "CENTIMETER"), None, "pixel"),
    "plain cm, 1 per cm": (plain(1, "CENTIMETER"), None, "pixel"),
    "plain inch": (plain(50000, "INCH"), None, "pixel"),
    "plain without unit": (plain(2, "NONE"), None, "pixel"),
}


@pytest.mark.parametrize("name", SCALES)
def test_the_pixel_size_is_found(tmp_path: Path, name: str) -> None:
    options, size, unit = SCALES[name]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels(30, 20), **options)

    image = read_image(path)

    assert image.unit == unit
    assert image.pixel_size == (size if size is None else pytest.approx(size, rel=1e-8))
    assert pixel_size_of(path) == (image.pixel_size, image.unit)


def test_the_distance_of_planes_is_found(tmp_path: Path) -> None:
    stack = pixels(4, 30, 20)
    options = imagej(0.1, 0.1, unit="um", spacing=0.75, axes="ZYX")
    tifffile.imwrite(tmp_path / "ij.tif", stack, **options)
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 750}
    options = ome(axes="ZYX", PhysicalSizeZUnit="nm", **sizes)
    tifffile.imwrite(tmp_path / "ome.tif", stack, **options)
    assert read_image(tmp_path / "ij.tif").z_step == pytest.approx(0.75)
    assert read_image(tmp_path / "ome.tif").z_step == pytest.approx(0.75)


def test_the_pixel_size_is_found_without_reading_pixels(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels(500, 500), **imagej(0.2, 0.1, unit="um"))
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    path.write_bytes(path.read_bytes()[:start])  # not one pixel left

    with pytest.raises(UserError):
        read_image(path)
    size, unit = pixel_size_of(path)
    assert (size, unit) == ((0.2, 0.1), "micrometer")


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\x08\0\0\0\xff\xff", b"hello", None])
def test_no_pixel_size_is_no_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "image.tif"
    if content is not None:
        path.write_bytes(content)
    assert pixel_size_of(path) == (None, "pixel")
    assert pixel_size_of(tmp_path) == (None, "pixel")


def test_every_unit_alias_is_one_that_can_be_written() -> None:
    for name, _ in pixel_size.UNIT_ALIASES.values():
        assert name in pixel_size.MICROMETERS
        assert name in pixel_size.IMAGEJ_UNITS
        assert name in pixel_size.OME_UNITS
