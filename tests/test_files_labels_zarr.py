"""Labels as OME-Zarr: filled tile by tile, there when they are finished, never half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import (
    FileExists,
    find_images,
    labels_zarr,
    pixel_size_of,
    read_image,
    read_provenance,
    write_labels_zarr,
    zarr_levels,
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_zarr, "_CHUNK", 64)
    monkeypatch.setattr(labels_zarr, "_SMALLEST_LEVEL", 100)


def ids(*shape: int, dtype: str = "uint32") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 2**8, shape).astype(dtype) << (
        8 * (dtype == "uint32")
    )


def write(path: Path, data: NDArray[Any], **options: Any) -> Path:
    labels = write_labels_zarr(path, data.shape, data.dtype, **{"provenance": {}, **options})
    for start in range(0, data.shape[-2], 100):  # tiles that are no chunks
        part = (..., slice(start, start + 100), slice(None))
        labels.array[part] = data[part]
    return labels.finish()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    data = ids(333, 250, dtype=dtype)
    path = write(
        tmp_path / "a_cells",
        data,
        pixel_size=(0.5, 0.25),
        unit="um",
        provenance={"model": "cells", "when": np.float32(2)},
    )
    assert path == tmp_path / "a_cells.zarr"
    image = read_image(path)
    np.testing.assert_array_equal(np.asarray(image.data), data)
    assert image.data.dtype == data.dtype
    assert (image.axes, image.pixel_size, image.unit) == ("YX", (0.5, 0.25), "micrometer")
    assert pixel_size_of(path) == ((0.5, 0.25), "micrometer")
    assert read_provenance(path) == {"model": "cells", "when": 2.0}
    assert [p.name for p in tmp_path.iterdir()] == ["a_cells.zarr"]


def test_each_level_keeps_every_second_label(tmp_path: Path) -> None:
    data = ids(333, 250)
    path = write(tmp_path / "a.zarr", data, pixel_size=(0.5, 0.25), unit="nm")
    levels = zarr_levels(path)
    assert [level.shape for level in levels] == [(333, 250), (167, 125), (84, 63)]
    for level, array in enumerate(levels):
        np.testing.assert_array_equal(array[:], data[:: 2**level, :: 2**level])
        assert array.dtype == data.dtype
        expected = (0.5 * 2**level, 0.25 * 2**level)
        assert pixel_size_of(path / str(level)) == (expected, "nanometer")


def test_a_stack_has_its_step(tmp_path: Path) -> None:
    data = ids(2, 3, 120, 90, dtype="uint16")
    size: dict[str, Any] = {"pixel_size": (0.5, 0.5), "unit": "micrometer", "z_step": 2.0}
    path = write(tmp_path / "a.zarr", data, axes="TZYX", **size)
    image = read_image(path)
    assert (image.axes, image.z_step, image.pixel_size) == ("TZYX", 2.0, (0.5, 0.5))
    assert [level.shape for level in zarr_levels(path)] == [(2, 3, 120, 90), (2, 3, 60, 45)]


def test_it_follows_the_specification(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", ids(120, 90), pixel_size=(0.5, 0.25), unit="mm")
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 2
    (image,) = group.attrs["multiscales"]
    assert image["version"] == group.attrs["image-label"]["version"] == "0.4"
    assert image["axes"] == [
        {"name": "y", "type": "space", "unit": "millimeter"},
        {"name": "x", "type": "space", "unit": "millimeter"},
    ]
    assert image["datasets"][1] == {
        "path": "1",
        "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5]}],
    }
    assert (path / "0" / "1" / "0").is_file()  # nested chunks, as 0.4 recommends


def test_without_a_pixel_size_there_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", ids(20, 10))
    assert (pixel_size_of(path), read_provenance(path)) == ((None, "pixel"), {})


def test_it_is_there_when_it_is_finished(tmp_path: Path) -> None:
    labels = write_labels_zarr(tmp_path / "a_cells.zarr", (20, 10), "uint8", provenance={"a": 1})
    labels.array[:5] = 3
    assert labels.array[:].any()
    with pytest.raises(UserError, match="is a folder without images"):
        find_images([tmp_path])
    assert labels.finish({"a": 2}) == tmp_path / "a_cells.zarr"
    assert read_provenance(labels.path) == {"a": 2}
    with pytest.raises(UserError, match="holds results only"):
        find_images([tmp_path])


def test_what_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    labels = write_labels_zarr(tmp_path / "a.zarr", (20, 10), "uint8", provenance={})
    assert list(tmp_path.iterdir())
    labels.discard()
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", ids(20, 10))
    with pytest.raises(FileExists, match=r"a\.zarr exists already"):
        write_labels_zarr(path, (20, 10), "uint8", provenance={})
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]

    other = write_labels_zarr(path, (30, 20), "uint8", provenance={}, overwrite=True)
    assert read_image(path).data.shape == (20, 10)  # until the other is finished
    other.finish()
    assert read_image(path).data.shape == (30, 20)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    labels = write_labels_zarr(tmp_path / "a.zarr", (20, 10), "uint8", provenance={})
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileExists):
        labels.finish()
    assert not list((tmp_path / "a.zarr").iterdir())


def test_a_run_that_was_killed_is_not_in_the_way(tmp_path: Path) -> None:
    write_labels_zarr(tmp_path / "a.zarr", (20, 10), "uint8", provenance={}).array[:] = 7
    again = write_labels_zarr(tmp_path / "a.zarr", (30, 20), "uint16", provenance={})
    assert not again.array[:].any()
    again.finish()
    assert read_image(tmp_path / "a.zarr").data.shape == (30, 20)


def test_a_folder_that_is_a_file_and_a_strange_unit_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file, not a folder"):
        write_labels_zarr(tmp_path / "file" / "a.zarr", (2, 2), "uint8", provenance={})
    options: dict[str, Any] = {"pixel_size": (1, 1), "unit": "furlong", "provenance": {}}
    with pytest.raises(UserError, match="'furlong' is no unit of length"):
        write_labels_zarr(tmp_path / "a.zarr", (2, 2), "uint8", **options)
    (tmp_path / "b.zarr").touch()
    with pytest.raises(FileExists):
        write_labels_zarr(tmp_path / "b.zarr", (2, 2), "u1", provenance={}, overwrite=True)


@pytest.mark.parametrize(
    ("shape", "axes", "dtype", "error"),
    [
        ((2, 2), "ZYX", "u1", ValueError),
        ((2, 2), "XY", "u1", ValueError),
        ((2, 2), "YX", "i4", TypeError),
    ],
)
def test_axes_and_types_that_do_not_fit(
    tmp_path: Path, shape: tuple[int, ...], axes: str, dtype: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        write_labels_zarr(tmp_path / "a.zarr", shape, dtype, axes=axes, provenance={})
