"""Arrays of .npz files whose headers may lie."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet_cells.untrusted.arrays import numbered_arrays, read_arrays
from napari_unet_cells.untrusted.rules import Malformed


def with_header(path: Path, header: str, content: bytes = b"12345678") -> Path:
    packed = header.encode("latin1")
    with zipfile.ZipFile(path, "w") as archive:
        start = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(packed))
        archive.writestr("arr_0.npy", start + packed + content)
    return path


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "f2", "<i8", "u1", "?", ">f4"])
@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back(tmp_path: Path, dtype: str, compressed: bool) -> None:
    arrays = [np.arange(12).reshape(3, 4).astype(dtype), np.ones((), dtype), np.zeros((0,), dtype)]
    arrays.append(np.asfortranarray(arrays[0]))
    save: Any = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", *arrays)
    for found, expected in zip(numbered_arrays(tmp_path / "a.npz"), arrays, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    np.savez(tmp_path / "b.npz", x=arrays[0])
    assert set(read_arrays(tmp_path / "b.npz")) == {"x"}
    with pytest.raises(Malformed, match="no array 'arr_0'"):
        numbered_arrays(tmp_path / "b.npz")


SHAPE = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"
LIES = {
    "10^12 values": (SHAPE % "(1000000000000,)", "claims 8000000000000 bytes and holds 8"),
    "10^30 values": (SHAPE % "(10**30,)", "makes no sense"),
    "a wide axis": (SHAPE % f"({10**30},)", "shape.0. must be a whole number"),
    "an endless axis": (SHAPE % "(1e999,)", "shape.0. must be"),
    "a negative axis": (SHAPE % "(-1,)", "shape.0. must be"),
    "40 axes": (SHAPE % f"({'1,' * 40})", "a list of 0 to 8 values"),
    "no shape": ("{'descr': '<f8', 'fortran_order': False}", "has no 'shape'"),
    "9,000 brackets": ("[" * 9000, "a header of|has 9000 bytes"),
    "900 brackets": ("[" * 900 + "]" * 900, "makes no sense|object"),
    "objects": (SHAPE.replace("<f8", "|O") % "(1,)", "other than plain numbers"),
    "a structure": ("{'descr': [('a', '<f8')]}", "descr must be a text"),
    "a program": ("__import__('os').getcwd()", "makes no sense"),
    "nothing": ("", "makes no sense"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_header_is_refused(tmp_path: Path, name: str) -> None:
    header, words = LIES[name]
    with pytest.raises(Malformed, match=words):
        read_arrays(with_header(tmp_path / "a.npz", header))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, np.arange(1000))
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(Malformed, match=r"no \.npz file"):
            read_arrays(path)
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(Malformed, match=r"no \.npz file"):
        read_arrays(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_unet_cells.untrusted.arrays.MOST_BYTES", 10**6)
    np.savez_compressed(tmp_path / "a.npz", np.zeros(10**6))
    assert (tmp_path / "a.npz").stat().st_size < 10**5
    with pytest.raises(Malformed, match="more than"):
        read_arrays(tmp_path / "a.npz")
