"""Whether a file is still what it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet_cells.files import read_image, stamp
from napari_unet_cells.files.stamp import is_unchanged, stamp_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(b"pixels")
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_a_file_that_was_touched_or_copied_is_the_same(file: Path, tmp_path: Path) -> None:
    before = stamp_of(file)
    assert (before.size, before.mtime_ns) == (6, 10**18)
    os.utime(file, ns=(10**18, 2 * 10**18))
    assert is_unchanged(file, before)
    assert is_unchanged(Path(shutil.copy(file, tmp_path / "b.tif")), before)


@pytest.mark.parametrize("content", [b"pixelz", b"pixels and more", b""])
def test_other_content_is_a_change(file: Path, content: bytes) -> None:
    before = stamp_of(file)
    assert is_unchanged(file, before)
    file.write_bytes(content)
    assert not is_unchanged(file, before)


def test_of_a_long_file_size_and_time_decide(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "LONGEST_READ", 3)
    before = stamp_of(file)
    assert before.digest == ""
    assert is_unchanged(file, before)
    os.utime(file, ns=(10**18, 2 * 10**18))
    assert not is_unchanged(file, before)


def test_every_file_of_a_folder_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    (folder / "0" / "c").mkdir(parents=True)
    for name in ("zarr.json", "0/zarr.json", "0/c/0"):
        (folder / name).write_bytes(b"12")
    before = stamp_of(folder)
    assert before.size == 6
    assert is_unchanged(folder, before)
    os.rename(folder / "0/c/0", folder / "0/c/1")
    assert not is_unchanged(folder, before)
    os.rename(folder / "0/c/1", folder / "0/c/0")
    assert is_unchanged(folder, before)
    os.utime(folder / "0/c/0", ns=(10**18, 10**18))
    assert not is_unchanged(folder, before)


def test_what_is_gone_is_no_change_but_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stamp_of(tmp_path / "gone")


def divided(folder: Path, names: tuple[str, ...] = ("a.ome.tif", "b.ome.tif")) -> list[Path]:
    """Write an OME-TIFF of two planes that lie in a file each."""
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:'
        f"00000000-0000-0000-0000-00000000000{z}</UUID></TiffData>"
        for z, name in enumerate(names)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06" UUID="urn:uuid:00000000-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels '
        'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="7" SizeZ="2" SizeC="1" '
        f'SizeT="1">{planes}</Pixels></Image></OME>'
    )
    paths = [folder / name for name in ("a.ome.tif", "b.ome.tif")]
    for value, path in enumerate(paths):
        pixels = np.full((7, 9), value, np.uint8)
        tifffile.imwrite(path, pixels, description=xml, metadata=None)
        os.utime(path, ns=(10**18, 10**18))
    return paths


def test_every_file_of_a_divided_ome_tiff_counts(tmp_path: Path) -> None:
    first, second = divided(tmp_path)
    assert read_image(first).data.shape == (2, 7, 9)
    before = stamp_of(first)
    assert before.size == first.stat().st_size + second.stat().st_size
    os.utime(second, ns=(10**18, 2 * 10**18))
    assert is_unchanged(first, before)
    (tmp_path / "copy").mkdir()
    copies = [Path(shutil.copy(path, tmp_path / "copy")) for path in (first, second)]
    assert is_unchanged(copies[0], before)
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    assert not is_unchanged(first, before)
    copies[1].unlink()
    assert not is_unchanged(copies[0], before)


def test_a_name_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "b.ome.tif").write_bytes(b"of somebody else")
    first, _ = divided(tmp_path / "in", ("a.ome.tif", "../b.ome.tif"))
    assert stamp_of(first).size == first.stat().st_size


def test_an_ome_tiff_that_is_damaged_has_a_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"II*\0 and nothing else")
    before = stamp_of(path)
    assert is_unchanged(path, before)
    path.write_bytes(b"II*\0 and other bytes")
    assert not is_unchanged(path, before)
