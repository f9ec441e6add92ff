"""Chunks that are not stored are not read, and the pixels are those that zarr gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet_cells.files import read_image
from napari_unet_cells.files.lazy import LazyArray
from napari_unet_cells.files.stored_chunks import StoredChunks, stored_only

EVERY = slice(None)


def made(path: Path, shape: tuple[int, ...], n_stored: int, **options: Any) -> LazyArray:
    """Write an array, of which some chunks are stored, and open it."""
    rng = np.random.default_rng(3)
    chunks = options.pop("chunks")
    array = zarr.create_array(path, shape=shape, chunks=chunks, **options)
    grid = options.get("shards") or chunks
    counts = [-(-n // chunk) for n, chunk in zip(shape, grid, strict=True)]
    for number in rng.permutation(int(np.prod(counts)))[:n_stored]:
        place = np.unravel_index(number, counts)
        part = tuple(
            slice(at * chunk, min(n, (at + 1) * chunk))
            for at, chunk, n in zip(place, grid, shape, strict=True)
        )
        size = [side.stop - side.start for side in part]
        array[part] = rng.integers(1, 200, size).astype(array.dtype)
    found = read_image(path, allow_missing_chunks=True).data
    assert isinstance(found, LazyArray)
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    read: list[Any] = []
    get = zarr.Array.__getitem__
    monkeypatch.setattr(
        zarr.Array, "__getitem__", lambda array, key: (read.append(key), get(array, key))[1]
    )
    return read


V2 = {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
DOTS = {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "."}}
V3 = {"zarr_format": 3}
SHARDS = {"zarr_format": 3, "shards": (32, 32)}

PLANE = [
    (slice(None, None, 7), slice(None, None, 7)),
    (slice(14, 80, 7), slice(None, None, 7)),
    (slice(3, 60), slice(50, 140)),
    (slice(33, 34), slice(0, 150, 40)),
    (slice(None, None, 45), slice(None, None, 45)),  # over whole chunks
    (EVERY, EVERY),
    (slice(5, 5), EVERY),
    (4, slice(None, None, 3)),
    (5, 6),
    (slice(90, None, None), slice(-20, None)),
]


@pytest.mark.parametrize("n_stored", [0, 1, 5, 30])
@pytest.mark.parametrize("options", [V2, DOTS, V3, SHARDS], ids=["v2", "dots", "v3", "shards"])
@pytest.mark.parametrize("fill", [0, 9])
def test_a_plane_is_the_same(
    tmp_path: Path, options: dict[str, Any], n_stored: int, fill: int
) -> None:
    chunks = (16, 16) if "shards" in options else (16, 24)
    n_stored = min(n_stored, 19) if "shards" in options else n_stored
    data = made(
        tmp_path / "a.zarr", (100, 150), n_stored, chunks=chunks, dtype="u2", fill_value=fill,
        **options,
    )  # fmt: skip
    found = stored_only(data)
    assert isinstance(found, LazyArray)
    assert isinstance(found.stored, StoredChunks)
    for key in PLANE:
        pixels = np.asarray(found[key])
        np.testing.assert_array_equal(pixels, data[key])
        assert pixels.dtype == data.dtype


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((3, 100, 150), (1, 16, 24)),
        ((5, 100, 150), (2, 16, 24)),
        ((1, 2, 100, 150), (1, 1, 16, 24)),
        ((100, 150, 3), (16, 24, 3)),
        ((100, 150, 4), (16, 24, 4)),
        ((100, 150, 3), (16, 24, 1)),
        ((2, 100, 150, 3), (1, 16, 24, 3)),
        ((100, 40, 2), (16, 24, 2)),
    ],
)
def test_planes_of_stacks_and_colours_are_the_same(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    data = made(tmp_path / "a.zarr", shape, 9, chunks=chunks, dtype="f4", fill_value=np.nan)
    found = stored_only(data)
    n = len(data.shape)
    color = (EVERY,) if shape[-1] in (2, 3, 4) else ()
    for key in PLANE[:7]:
        plane = (*([1] * (n - 2 - len(color))), *key)
        one_color = () if not color else (*plane, 1)
        for one in ((*plane, *color), (..., *key, *color), one_color, (0, ...), (-1, ...)):
            np.testing.assert_array_equal(found[one], data[one])
    if n > 2 and not color:
        with pytest.raises(IndexError):
            found[9, ::3, ::3]


@pytest.mark.parametrize("shape", [(100, 150), (2, 100, 150), (100, 150, 3)])
def test_only_what_is_stored_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    chunks = {2: (10, 10), 3: (1, 10, 10)}[len(shape)] if shape[-1] != 3 else (10, 10, 3)
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=shape, chunks=chunks, dtype="u1")
    before = (1,) if shape[0] == 2 else ()
    array[(*before, slice(20, 30), slice(40, 60))] = 7  # two chunks side by side
    array[(*before, slice(70, 80), slice(0, 10))] = 8
    data = read_image(path).data
    found, read = stored_only(data), counted(monkeypatch)
    key = (*before, slice(None, None, 3), slice(None, None, 3))
    pixels = np.asarray(found[key])
    assert len(read) == 2
    assert [part[len(before) : len(before) + 2] for part in read] == [
        (slice(21, 28, 3), slice(42, 58, 3)),
        (slice(72, 79, 3), slice(0, 10, 3)),
    ]
    read.clear()
    np.testing.assert_array_equal(pixels, data[key])
    if before:
        read.clear()
        assert not np.asarray(found[0, ::3, ::3]).any()
        assert read == []


def test_what_is_mostly_there_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(tmp_path / "a.zarr", (100, 100), 60, chunks=(10, 10), dtype="u1")
    found, read = stored_only(data), counted(monkeypatch)
    assert np.asarray(found[::3, ::3]).any()
    assert len(read) == 1


def test_other_arrays_stay_as_they_are(tmp_path: Path) -> None:
    pixels: Any = np.zeros((4, 4))
    assert stored_only(pixels) is pixels
    whole = made(tmp_path / "whole.zarr", (20, 20), 4, chunks=(10, 10), dtype="u1")
    assert stored_only(whole) is whole
    store = zarr.storage.MemoryStore()
    array: Any = zarr.create_array(store, shape=(20, 20), chunks=(10, 10), dtype="u1")
    memory = LazyArray(array, (), tmp_path, "zarr")
    assert stored_only(memory) is memory


def test_a_damaged_chunk_is_said(tmp_path: Path) -> None:
    data = made(tmp_path / "a.zarr", (100, 150), 1, chunks=(16, 24), dtype="u2")
    (chunk,) = [path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(b"no chunk")
    with pytest.raises(Exception, match=r"a\.zarr"):
        stored_only(data)[...]
