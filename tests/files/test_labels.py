"""Labels and records: no id is clipped, size and provenance come back."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
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


def disks(n: int, dtype: str = "uint16") -> NDArray[Any]:
    """Label image of 40 x 60 pixels whose highest id is n."""
    labels = np.zeros((40, 60), dtype)
    labels[5:15, 5:15] = 1
    labels[20:30, 40:55] = n
    return labels


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
    with pytest.raises(UserError, match=r"pixel size \(0, 1\) is not of two positive"):
        write_labels(target, disks(2), pixel_size=(0, 1), unit="um", provenance={})
    with pytest.raises(TypeError, match="float64"):
        write_labels(target, disks(2).astype(float), provenance={})
    for axes in ("ZYX", "XY", "Y"):
        with pytest.raises(ValueError, match="do not describe"):
            write_labels(target, disks(2), axes=axes, provenance={})
    assert os.listdir(tmp_path) == []


def test_provenance_of_other_files(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "other.tif", disks(2), imagej=True)
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
