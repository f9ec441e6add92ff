"""Files in, files out: pixels, axes, pixel size and provenance survive; mistakes get a sentence."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_unet_cells import files
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
    atomic_write,
    find_images,
    pixel_size_of,
    read_image,
    read_provenance,
    write_json,
    write_labels,
)

MICRO = "\N{MICRO SIGN}m"
PROVENANCE = {
    "model": "cells-fast",
    "sha256": "ab" * 32,
    "source": 'C:\\data\\Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} = "1"\n<&>.tif',
    "scores": [0.5, None, True],
}


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    high = 1 if dtype == "bool" else 250
    return np.random.default_rng(0).integers(0, high, shape, endpoint=True).astype(dtype)


def disks(n: int, dtype: str = "uint16") -> NDArray[Any]:
    """Label image of 40 x 60 pixels whose highest id is n."""
    labels = np.zeros((40, 60), dtype)
    labels[5:15, 5:15] = 1
    labels[20:30, 40:55] = n
    return labels


# --- reading: axes and pixels -----------------------------------------------------------

# name -> (stored array, arguments of tifffile.imwrite, axes, how to get what must be read)
TIFFS: dict[str, tuple[NDArray[Any], dict[str, Any], str, Any]] = {
    "grey": (pixels(30, 20), {}, "YX", lambda a: a),
    "float": (pixels(30, 20, dtype="float32"), {}, "YX", lambda a: a),
    "big endian": (pixels(30, 20), {"byteorder": ">"}, "YX", lambda a: a),
    "big tiff": (pixels(30, 20), {"bigtiff": True}, "YX", lambda a: a),
    "one pixel": (pixels(1, 1), {}, "YX", lambda a: a),
    "one row": (pixels(1, 20), {"imagej": True}, "YX", lambda a: a),
    "one column": (pixels(20, 1), {"ome": True}, "YX", lambda a: a),
    "tiles, lzw": (pixels(70, 90), {"tile": (32, 32), "compression": "lzw"}, "YX", lambda a: a),
    "1 bit": (pixels(30, 20, dtype="bool"), {}, "YX", lambda a: a.astype("uint8") * 255),
    "rgb": (pixels(30, 20, 3, dtype="uint8"), {"photometric": "rgb"}, "YXC", lambda a: a),
    "rgb of 16 bits": (pixels(30, 20, 3), {"photometric": "rgb"}, "YXC", lambda a: a),
    "rgb, ImageJ": (pixels(30, 20, 3, dtype="uint8"), {"imagej": True}, "YXC", lambda a: a),
    "rgb, OME": (
        pixels(30, 20, 3, dtype="uint8"),
        {"ome": True, "photometric": "rgb"},
        "YXC",
        lambda a: a,
    ),
    "rgba": (
        pixels(30, 20, 4, dtype="uint8"),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        "YXC",
        lambda a: a[..., :3],
    ),
    "planar rgb": (
        pixels(3, 30, 20, dtype="uint8"),
        {"photometric": "rgb", "planarconfig": "separate"},
        "YXC",
        lambda a: np.moveaxis(a, 0, -1),
    ),
    "grey and alpha": (
        pixels(30, 20, 2, dtype="uint8"),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        "YX",
        lambda a: a[..., 0],
    ),
    "five samples": (
        pixels(30, 20, 5),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "CYX",
        lambda a: np.moveaxis(a, -1, 0),
    ),
    "stack": (
        pixels(4, 30, 20),
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ZYX",
        lambda a: a,
    ),
    "hyperstack": (
        pixels(2, 1, 3, 30, 20),
        {"imagej": True, "metadata": {"axes": "TZCYX"}},
        "TCYX",
        lambda a: a[:, 0],
    ),
    "OME stack": (
        pixels(1, 4, 2, 30, 20),
        {"ome": True, "metadata": {"axes": "TZCYX"}},
        "ZCYX",
        lambda a: a[0],
    ),
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_is_read_with_its_axes(tmp_path: Path, name: str) -> None:
    stored, options, axes, expect = TIFFS[name]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, stored, **options)

    image = read_image(str(path))

    expected = expect(stored)
    np.testing.assert_array_equal(image.data, expected)
    assert image.data.dtype == expected.dtype
    assert image.data.dtype.isnative
    assert (image.axes, image.path, image.n_images) == (axes, path, 1)
    assert (image.pixel_size, image.unit, image.z_step) == (None, "pixel", None)


def test_an_indexed_tiff_becomes_rgb_but_a_false_colour_ramp_stays_an_intensity(
    tmp_path: Path,
) -> None:
    stored = pixels(30, 20, dtype="uint8")
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "lut.tif", stored, photometric="palette", colormap=green)
    mixed = np.random.default_rng(1).integers(0, 2**16, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "indexed.tif", stored, photometric="palette", colormap=mixed)

    ramp, indexed = read_image(tmp_path / "lut.tif"), read_image(tmp_path / "indexed.tif")

    assert (ramp.axes, indexed.axes) == ("YX", "YXC")
    np.testing.assert_array_equal(ramp.data, stored)
    np.testing.assert_array_equal(indexed.data, (mixed.T >> 8)[stored])


def test_of_several_images_the_first_is_read_and_the_others_are_counted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(pixels(30, 20))
        writer.write(pixels(10, 10))
    image = read_image(tmp_path / "two.tif")
    assert (image.data.shape, image.n_images) == ((30, 20), 2)


@pytest.mark.parametrize(
    ("name", "mode", "axes", "dtype"),
    [
        ("a.png", "L", "YX", "uint8"),
        ("a.PNG", "RGB", "YXC", "uint8"),
        ("a.png", "RGBA", "YXC", "uint8"),
        ("a.png", "LA", "YX", "uint8"),
        ("a.png", "P", "YXC", "uint8"),
        ("a.png", "1", "YX", "uint8"),
        ("a.png", "I;16", "YX", "uint16"),
        ("a.bmp", "L", "YX", "uint8"),
        ("a.pgm", "I;16", "YX", "uint16"),
        ("a.jpg", "L", "YX", "uint8"),
        ("a.jpeg", "CMYK", "YXC", "uint8"),
    ],
)
def test_a_picture_is_read(tmp_path: Path, name: str, mode: str, axes: str, dtype: str) -> None:
    grey = pillow.fromarray(pixels(30, 20, dtype="uint16" if mode == "I;16" else "uint8"))
    picture = grey if mode == "I;16" else grey.convert("RGB").convert(mode)
    picture.save(tmp_path / name)

    image = read_image(tmp_path / name)

    assert (image.axes, image.data.dtype, image.pixel_size) == (axes, np.dtype(dtype), None)
    assert image.data.shape == (30, 20, 3)[: len(axes)]
    if not name.endswith(("jpg", "jpeg")):
        plain = picture.convert("RGB" if axes == "YXC" else "L") if mode != "I;16" else picture
        np.testing.assert_array_equal(image.data, np.asarray(plain))


def test_a_colour_png_of_16_bits_keeps_all_of_them(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    stored = pixels(30, 20, 3) + np.uint16(1000)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(stored))
    with pillow.open(tmp_path / "deep.png") as picture:
        assert np.asarray(picture).dtype == np.uint8  # what would be lost

    image = read_image(tmp_path / "deep.png")

    assert image.axes == "YXC"
    np.testing.assert_array_equal(image.data, stored)


def test_an_animation_has_a_time_axis(tmp_path: Path) -> None:
    frames = [pillow.fromarray(np.full((30, 20), v, np.uint8)).convert("RGB") for v in (10, 200)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    image = read_image(tmp_path / "film.webp")
    assert (image.axes, image.data.shape) == ("TYXC", (2, 30, 20, 3))
    assert image.data[:, 0, 0, 0].tolist() == [10, 200]


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    pillow.fromarray(pixels(30, 20, dtype="uint8")).save(tmp_path / "really_a_png.tif", "PNG")
    tifffile.imwrite(tmp_path / "really_a_tiff.png", pixels(30, 20))
    assert read_image(tmp_path / "really_a_png.tif").data.dtype == np.uint8
    assert read_image(tmp_path / "really_a_tiff.png").data.dtype == np.uint16


# --- reading: pixel size ----------------------------------------------------------------


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


# --- reading: bad input -----------------------------------------------------------------

WHOLE: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "plain": (pixels(300, 200), {}),
    "strips": (pixels(300, 200), {"rowsperstrip": 16}),
    "zlib": (pixels(300, 200), {"compression": "zlib"}),
    "lzw tiles": (pixels(300, 200), {"compression": "lzw", "tile": (64, 64)}),
    # the decoder fills up what is missing in silence
    "jpeg": (pixels(300, 200, dtype="uint8"), {"compression": "jpeg"}),
    # the page directories lie at the end: fewer planes in silence
    "planes": (pixels(5, 100, 100), {}),
    "ImageJ planes": (pixels(5, 100, 100), {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "compressed planes": (pixels(5, 100, 100), {"compression": "zlib"}),
    # the description lies at the end: no axes and no pixel size, in silence
    "OME": (pixels(5, 100, 100), {"ome": True, "compression": "zlib"}),
    "big tiff": (pixels(300, 200), {"bigtiff": True, "compression": "zlib"}),
}


@pytest.mark.parametrize("percent", [1, 30, 70, 99])
@pytest.mark.parametrize("name", WHOLE)
def test_a_tiff_that_ends_too_early_is_never_read(tmp_path: Path, name: str, percent: int) -> None:
    stored, options = WHOLE[name]
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, stored, **options)
    assert read_image(path).data.shape == stored.shape

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])

    with pytest.raises(UserError, match=r"^cells\.tif .*(ends too early|damaged).*\."):
        read_image(path)


def test_a_cut_imagej_stack_behind_one_page_is_not_read_as_that_page(tmp_path: Path) -> None:
    """ImageJ stores stacks above 4 GB so: one directory in front, all planes behind it."""
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, pixels(100, 100), imagej=True)
    raw = path.read_bytes()
    assert b"images=1\n" in raw
    path.write_bytes(raw.replace(b"images=1\n", b"slices=7\n"))
    with pytest.raises(UserError, match=r"stack\.tif .* ends too early"):
        read_image(path)
    # the same file with the six other planes behind it is whole
    path.write_bytes(path.read_bytes() + pixels(6, 100, 100).astype(">u2").tobytes())
    assert read_image(path).data.shape == (7, 100, 100)


def test_missing_planes_are_not_zeros(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "set.ome.tif"
    tifffile.imwrite(path, pixels(4, 30, 20), ome=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(b'SizeZ="4"', b'SizeZ="9"'))
    # what tifffile makes of it
    assert not tifffile.imread(path)[4:].any()
    assert caplog.records
    caplog.clear()

    with pytest.raises(UserError, match=r"set\.ome\.tif describes 9 planes, of which 5 are miss"):
        read_image(path)
    assert not caplog.records  # the sentence is enough


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("damage", ["half of the strips", "all positions zero"])
def test_missing_strips_are_not_zeros(tmp_path: Path, compression: str | None, damage: str) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(
        path, pixels(400, 300) + np.uint16(1), rowsperstrip=40, compression=compression
    )
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for tag in (tif.pages.first.tags["StripOffsets"], tif.pages.first.tags["StripByteCounts"]):
            assert tag.count == 10
            if damage == "half of the strips":
                struct.pack_into("<I", raw, tag.offset + 4, 5)
            else:
                size = {3: 2, 4: 4}[tag.dtype] * tag.count
                raw[tag.valueoffset : tag.valueoffset + size] = bytes(size)
    path.write_bytes(raw)
    assert (tifffile.imread(path) == 0).any()  # what tifffile makes of it

    with pytest.raises(UserError, match=r"cells\.tif .* ends too early"):
        read_image(path)


BAD = {
    "a text.tif": (b"Hello, I am a text.", r"not a TIFF, .* a text file"),
    "page.tif": (b"<!DOCTYPE html><html>", r"not a TIFF, .* a web page"),
    "zeros.tif": (bytes(5000), r"not a TIFF, .* zeros only"),
    "noise.png": (b"\x01\x02\x03\x80" * 20, r"not a PNG, .* something else"),
    "empty.tif": (b"", r"is empty \(0 bytes\)"),
    "empty.png": (b"", r"is empty \(0 bytes\)"),
    "no pages.tif": (b"II*\0\0\0\0\0", r"TIFF without a page"),
    "header.tif": (b"II*\0", r"ends too early"),
    "movie.czi": (b"ZISRAWFILE", r"'\.czi'.*Fiji"),
    "no ending": (b"II*\0\0\0\0\0", r"'nothing'.*Fiji"),
    "loop.tif": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", r"cannot be read as a TIFF"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_image_is_named_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(name)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("name", ["cells.png", "cells.jpg"])
def test_a_picture_that_ends_too_early_is_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pillow.fromarray(pixels(300, 200, dtype="uint8")).save(path)
    assert read_image(path).data.shape == (300, 200)
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(UserError, match=rf"{name} cannot be read as a (PNG|JPEG): .* too early"):
        read_image(path)


def test_a_damaged_tiff_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, pixels(300, 200), compression="zlib")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 2000] = bytes(2000)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"cells\.tif cannot be read as a TIFF: it is damaged"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.tif does not exist"):
        read_image(tmp_path / "nowhere.tif")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / ("x" * 300 + ".tif"))


def test_a_large_picture_is_read_and_a_huge_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "large.png"
    pillow.fromarray(pixels(300, 200, dtype="uint8")).save(path)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 40_000)  # 60,000 is above, but not twice
    assert read_image(path).data.shape == (300, 200)
    assert not recwarn.list
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(UserError, match=r"large\.png has more pixels .* save it as a TIFF"):
        read_image(path)


def test_too_little_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "huge.tif", pixels(30, 20))

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", no_memory)
    with pytest.raises(UserError, match=r"huge\.tif does not fit into this computer's memory"):
        read_image(tmp_path / "huge.tif")


# --- writing labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "highest", "stored", "kind"),
    [
        ("uint8", 3, "uint8", "imagej"),
        ("bool", 1, "uint8", "imagej"),
        ("uint16", 3, "uint16", "imagej"),
        ("int32", 3, "uint16", "imagej"),
        ("int64", 65535, "uint16", "imagej"),
        ("uint32", 214, "uint16", "imagej"),
        ("int64", 65536, "uint32", "ome"),
        ("uint32", 4294967295, "uint32", "ome"),
    ],
)
def test_no_label_is_clipped(
    tmp_path: Path, dtype: str, highest: int, stored: str, kind: str
) -> None:
    labels = disks(highest, dtype)
    path = write_labels(
        tmp_path / "cells.tif",
        labels,
        pixel_size=(0.325, 0.1625),
        unit="micrometer",
        provenance=PROVENANCE,
    )

    with tifffile.TiffFile(path) as tif:
        assert {"imagej": tif.is_imagej, "ome": tif.is_ome}[kind]
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert not tif.pages.first.is_tiled  # ImageJ's own reader has no tiles
        assert (tif.series[0].axes, tif.series[0].dtype) == ("YX", np.dtype(stored))
        np.testing.assert_array_equal(tif.asarray(), labels.astype(stored))
    image = read_image(path)
    assert (image.pixel_size, image.unit) == ((0.325, 0.1625), "micrometer")
    assert read_provenance(path) == PROVENANCE


def test_fiji_finds_pixel_size_and_provenance(tmp_path: Path) -> None:
    """What ImageJ's own TIFF decoder looks at: tags 282, 283, 296 and the description."""
    path = write_labels(
        tmp_path / "m.tif",
        disks(2),
        pixel_size=(0.5, 0.25),
        unit="\N{GREEK SMALL LETTER MU}m",
        provenance={"model": "cells-fast"},
    )
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages.first.tags
        assert tags["XResolution"].value == (4, 1)
        assert tags["YResolution"].value == (2, 1)
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE
        lines = tags["ImageDescription"].value.splitlines()
        assert lines[0].startswith("ImageJ=")
        assert "unit=um" in lines
        assert 'napari_unet_cells={"model":"cells-fast"}' in lines
        assert '"model": "cells-fast"' in (tif.imagej_metadata or {})["Info"]


def test_an_ome_tiff_has_size_and_resolution_and_keeps_its_name(tmp_path: Path) -> None:
    path = write_labels(
        tmp_path / "cells.tif", disks(70000, "int32"), pixel_size=(500, 250), unit="nm",
        provenance=PROVENANCE,
    )  # fmt: skip
    assert path == tmp_path / "cells.tif"
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata or ""
        assert 'PhysicalSizeX="250' in xml
        assert 'PhysicalSizeYUnit="nm"' in xml
        assert tif.pages.first.tags["XResolution"].value == (40000, 1)
        assert tif.pages.first.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
    assert read_provenance(path) == PROVENANCE
    assert pixel_size_of(path) == ((500.0, 250.0), "nanometer")


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize(("axes", "shape"), [("ZYX", (3, 40, 3)), ("TZYX", (4, 3, 8, 9))])
def test_stacks_are_written_with_their_axes(
    tmp_path: Path, dtype: str, axes: str, shape: tuple[int, ...]
) -> None:
    labels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    labels += np.array(100_000 if dtype == "uint32" else 0, dtype)
    path = write_labels(
        tmp_path / "s.tif", labels, axes=axes, pixel_size=(0.1, 0.1), unit="um", z_step=0.3,
        provenance={},
    )  # fmt: skip
    image = read_image(path)
    assert (image.axes, image.data.dtype, image.z_step) == (axes, labels.dtype, 0.3)
    np.testing.assert_array_equal(image.data, labels)


@pytest.mark.parametrize("size", [0.107, 1 / 3, 0.0649999, 1.3e-3, 123.456])
def test_the_pixel_size_comes_back_as_it_was(tmp_path: Path, size: float) -> None:
    path = write_labels(
        tmp_path / "m.tif", disks(2), pixel_size=(size, size), unit="um", provenance={}
    )
    assert pixel_size_of(path)[0] == pytest.approx((size, size), rel=1e-9)


@pytest.mark.parametrize("highest", [2, 70000])
def test_without_a_pixel_size_none_is_invented(tmp_path: Path, highest: int) -> None:
    path = write_labels(tmp_path / "m.tif", disks(highest, "int64"), provenance={})
    assert pixel_size_of(path) == (None, "pixel")
    assert read_provenance(path) == {}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("mask", "mask.tif"),
        ("mask.v2", "mask.v2.tif"),
        ("mask.ome", "mask.ome.tif"),
        ("mask.TIFF", "mask.TIFF"),
        ("mask.ome.tif", "mask.ome.tif"),
    ],
)
def test_the_ending_is_appended_before_looking_for_an_existing_file(
    tmp_path: Path, name: str, written: str
) -> None:
    precious = tmp_path / written
    precious.write_bytes(b"a day of corrections")

    with pytest.raises(FileExists, match="exists already") as caught:
        write_labels(tmp_path / name, disks(2), provenance={})
    assert caught.value.path == precious
    assert precious.read_bytes() == b"a day of corrections"
    assert os.listdir(tmp_path) == [written]

    assert write_labels(tmp_path / name, disks(2), provenance={}, overwrite=True) == precious
    np.testing.assert_array_equal(tifffile.imread(precious), disks(2))
    assert os.listdir(tmp_path) == [written]


def test_labels_that_a_tiff_cannot_hold_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "m.tif"
    with pytest.raises(UserError, match="from -1 to 1"):
        write_labels(target, disks(-1, "int16"), provenance={})
    with pytest.raises(UserError, match="to 4294967296"):
        write_labels(target, disks(2**32, "int64"), provenance={})
    with pytest.raises(UserError, match="no pixels"):
        write_labels(target, np.zeros((0, 5), np.uint8), provenance={})
    with pytest.raises(UserError, match=r"'second' is no unit of length .* micrometer"):
        write_labels(target, disks(2), pixel_size=(1, 1), unit="second", provenance={})
    with pytest.raises(UserError, match=r"pixel size \(0, 1\) is not two positive"):
        write_labels(target, disks(2), pixel_size=(0, 1), unit="um", provenance={})
    with pytest.raises(TypeError, match="float64"):
        write_labels(target, disks(2).astype(float), provenance={})
    for axes in ("ZYX", "XY", "Y"):
        with pytest.raises(ValueError, match="do not describe"):
            write_labels(target, disks(2), axes=axes, provenance={})
    assert os.listdir(tmp_path) == []


def test_provenance_of_other_files(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "other.tif", pixels(5, 5), imagej=True)
    assert read_provenance(tmp_path / "other.tif") == {}
    (tmp_path / "text.tif").write_text("napari_unet_cells={}")
    with pytest.raises(UserError, match=r"text\.tif cannot be read as a TIFF"):
        read_provenance(tmp_path / "text.tif")
    with pytest.raises(UserError, match=r"none\.tif does not exist"):
        read_provenance(tmp_path / "none.tif")


def test_json_takes_paths_dates_and_numpy_and_stays_json(tmp_path: Path) -> None:
    when = datetime(2025, 1, 2, tzinfo=UTC)
    path = write_json(
        tmp_path / "run.1",
        {
            "p": Path("a"),
            "n": np.float32(0.5),
            "a": np.arange(2),
            "t": when,
            "x": np.nan,
            "u": MICRO,
        },
    )
    assert path == tmp_path / "run.1.json"
    text = path.read_text(encoding="utf-8")
    assert MICRO in text
    assert json.loads(text) == {
        "p": "a", "n": 0.5, "a": [0, 1], "t": "2025-01-02T00:00:00+00:00", "x": None, "u": MICRO,
    }  # fmt: skip
    with pytest.raises(FileExists):
        write_json(path, {})
    assert path.read_text(encoding="utf-8") == text
    write_json(path, {}, overwrite=True)
    assert json.loads(path.read_text()) == {}


# --- atomic writing ---------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Make a file that holds work."""
    path = tmp_path / "work.txt"
    path.write_text("old")
    return path


def test_a_file_appears_whole_and_with_normal_rights(tmp_path: Path) -> None:
    target = tmp_path / "new.keras"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".keras"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["new.keras"]
    (tmp_path / "usual").touch()
    assert target.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, OSError, UserError])
def test_after_a_failure_the_old_file_is_whole_and_nothing_else_is_left(
    old: Path, failure: type[BaseException]
) -> None:
    expected = UserError if failure is OSError else failure
    with pytest.raises(expected), atomic_write(old, overwrite=True) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert old.read_text() == "old"
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    target = tmp_path / "cells.tif"
    if not links:
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with pytest.raises(FileExists), atomic_write(target) as temporary:  # noqa: PT012
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["cells.tif"]


def refuse(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"

    monkeypatch.setattr(os, "replace", refuse(errno.EIO))
    with pytest.raises(UserError, match="b was not written"), atomic_write(tmp_path / "b"):
        pass
    assert os.listdir(tmp_path) == ["a"]  # no empty b


DISK_FAILURES = {
    errno.ENOSPC: r"the disk of .* is full\. Free some space",
    errno.EDQUOT: r"your share of the disk",
    errno.EACCES: r"may not be written to",
    errno.EROFS: r"read-only disk\. Choose another folder",
    errno.EIO: r"the disk refused it \(Input/output error\)",
}


@pytest.mark.parametrize("number", DISK_FAILURES)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_gets_a_sentence(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    monkeypatch.setattr(os, step, refuse(number))
    with pytest.raises(UserError, match=DISK_FAILURES[number]):
        write_json(old.with_suffix(".json"), {}, overwrite=True)
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize("highest", [65535, 65536])
def test_a_mask_that_the_disk_cannot_take_leaves_the_old_one(tmp_path: Path, highest: int) -> None:
    """A real failure in the middle of tifffile's writing, by a limit on file sizes."""
    target = write_labels(tmp_path / "m.tif", disks(2), provenance={})
    before = target.read_bytes()
    script = f"""
import resource
import numpy as np
from napari_unet_cells.files import UserError, write_labels
labels = np.random.default_rng(0).integers(0, {highest}, (500, 500), endpoint=True)
labels[0, 0] = {highest}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_labels({str(target)!r}, labels, provenance={{}}, overwrite=True)
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "m.tif was not written: the disk of" in done.stdout
    assert "so large a file" in done.stdout
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.tif"]


def test_targets_that_cannot_be(old: Path) -> None:
    folder = old.parent
    with pytest.raises(UserError, match=r"there is no folder .*nowhere\. Make it"):
        write_json(folder / "nowhere" / "a.json", {})
    with pytest.raises(UserError, match=r"work\.txt is not a folder"):
        write_json(old / "a.json", {})
    with pytest.raises(UserError, match="name is too long"):
        write_json(folder / ("a" * 300), {})
    with pytest.raises(UserError, match="is a folder, not a file"):
        write_json(folder, {})
    with pytest.raises(UserError, match="is a folder, not a file"), atomic_write(folder, True):
        pass
    assert os.listdir(folder) == [old.name]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder read-only to root")
def test_a_read_only_folder() -> None:
    with pytest.raises(UserError, match=r"^m\.tif was not written: .*/proc"):
        write_labels("/proc/m.tif", disks(2), provenance={})


def test_a_folder_and_a_file_without_write_permission(old: Path) -> None:
    old.chmod(0o444)
    if os.access(old, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(UserError, match="write-protected"), atomic_write(old, True):
        pass
    old.parent.chmod(0o555)
    with pytest.raises(UserError, match="may not be written"), atomic_write(old.parent / "a"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights there")
def test_a_link_stays_a_link_and_rights_stay(old: Path) -> None:
    old.chmod(0o640)
    link = old.parent / "link.txt"
    link.symlink_to(old)
    with atomic_write(link, overwrite=True) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert old.read_text() == "new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


# --- finding ----------------------------------------------------------------------------


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    names = (
        "cell10.tif cell2.TIF cell1.png notes.txt .hidden.tif ._cell1.png cell1_cells.tif "
        "cell1_classes.tif deep/cell3.tif deep/deeper/cell4.jpg only/a_cells.tif none/readme.md"
    )
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
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


# --- the room ---------------------------------------------------------------------------


def test_importing_loads_no_gui_no_network_and_no_pillow() -> None:
    script = (
        "import sys, napari_unet_cells.files; "
        "heavy = {'napari', 'qtpy', 'tensorflow', 'keras', 'skimage', 'scipy', 'PIL'}; "
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_unit_alias_is_one_that_can_be_written() -> None:
    for name, _ in files._UNIT_ALIASES.values():
        assert name in files._MICROMETERS
        assert name in files._IMAGEJ_UNITS
        assert name in files._OME_UNITS
