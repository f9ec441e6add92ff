"""Chunks are on the disk before the mark that says so: a power cut may come at any moment."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.synced_store import synced

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the names of open files are read from /proc"
)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files and folders that were flushed, in order."""
    names: list[str] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


def chunks_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file() and "/c/" in str(path)}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_a_block_writes_is_on_the_disk(
    tmp_path: Path, version: str, flushed: list[str]
) -> None:
    pixels = np.full((512, 512), 7, np.uint16)
    labels = LabelZarr(
        tmp_path / "a.zarr", (512, 512), "yx", 512, Scale(None, "pixel", None), version
    )
    labels.create("cells", np.uint16)
    labels.write("cells", (), (slice(0, 512), slice(0, 512)), pixels)
    level = labels.folder / "labels" / "cells" / "0"
    files = {str(path) for path in level.rglob("*") if path.is_file()}
    assert len(files) >= 2  # the metadata and a chunk
    assert files <= set(flushed)
    assert str(level) in flushed


def test_a_version_is_done_when_its_chunks_are_on_the_disk(
    tmp_path: Path, flushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = LabelZarr(tmp_path / "a.zarr", (600, 600), "yx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    labels.finish("cells", {}, {})
    taken = np.zeros((600, 600), np.int64)
    box = np.s_[0:600, 0:600]
    flushed.clear()
    LabelVersions(labels.folder).replace((), box, taken, taken + 5, 5)
    chunks = chunks_in(labels.folder)
    assert len(chunks) == 4
    done = next(at for at, name in enumerate(flushed) if name.endswith(".part.done"))
    assert chunks <= set(flushed[:done])
    # and back: the chunks of nothing but background go, and their folders know it
    flushed.clear()
    LabelVersions(labels.folder).replace((), box, taken + 5, taken, 5)
    assert not chunks_in(labels.folder)
    done = next(at for at, name in enumerate(flushed) if name.endswith(".part.done"))
    assert {str(Path(chunk).parent) for chunk in chunks} <= set(flushed[:done])


def test_an_array_reads_what_was_written(tmp_path: Path) -> None:
    array: Any = zarr.create_array(synced(tmp_path / "a"), shape=(10,), dtype=np.uint8)
    array[2:5] = 3
    np.testing.assert_array_equal(np.asarray(zarr.open_array(tmp_path / "a"))[1:6], [0, 3, 3, 3, 0])
