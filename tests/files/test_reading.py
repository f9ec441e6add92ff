"""Reading: pixels and axes survive; a file that is no image gets a sentence."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as pillow

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image


def pixels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    high = 1 if dtype == "bool" else 250
    return np.random.default_rng(0).integers(0, high, shape, endpoint=True).astype(dtype)


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


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [pillow.fromarray(np.full((30, 20), v, np.uint8)).convert("RGB") for v in (10, 200)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    image = read_image(tmp_path / "film.webp")
    assert (image.axes, image.data.shape, image.n_images) == ("YXC", (30, 20, 3), 2)
    assert np.all(image.data[...] == 10)


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_the_pictures_of_an_animation_are_counted(tmp_path: Path, ending: str) -> None:
    frames = [pillow.fromarray(np.full((30, 20), v, np.uint8)) for v in (10, 100, 200)]
    frames[0].save(tmp_path / f"one{ending}")
    frames[0].save(tmp_path / f"film{ending}", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / f"one{ending}").n_images == 1
    assert read_image(tmp_path / f"film{ending}").n_images == 3


def test_an_animation_too_large_to_be_counted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [pillow.fromarray(np.full((30, 20), v, np.uint8)) for v in (10, 100)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr("napari_unet_cells.files.pictures._LARGEST_ANIMATION", 10)
    with pytest.raises(UserError, match=r"film\.gif is an animation of more than"):
        read_image(tmp_path / "film.gif")


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    pillow.fromarray(pixels(30, 20, dtype="uint8")).save(tmp_path / "really_a_png.tif", "PNG")
    tifffile.imwrite(tmp_path / "really_a_tiff.png", pixels(30, 20))
    assert read_image(tmp_path / "really_a_png.tif").data.dtype == np.uint8
    assert read_image(tmp_path / "really_a_tiff.png").data.dtype == np.uint16


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


def test_complex_numbers_are_no_intensities(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(8, 9).astype(np.complex64))
    with pytest.raises(UserError, match=r"a\.tif has the data type complex64, not real numbers\."):
        read_image(tmp_path / "a.tif")
