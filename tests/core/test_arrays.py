"""What counts as an array of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet_cells.core.arrays import ImageArray, row_blocks
from napari_unet_cells.files.lazy import LazyArray

dask = pytest.importorskip("dask.array")
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS,
        dask.from_array(PIXELS),
        zarr.array(PIXELS),
        LazyArray(PIXELS, (), Path("a.tif"), "TIFF"),
    ],
    ids=["numpy", "dask", "zarr", "lazy"],
)
def test_arrays_in_memory_and_on_the_disk_are_read_by_slicing(array: ImageArray) -> None:
    assert isinstance(array, ImageArray)
    assert array.shape == (3, 4)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(array[1:, ::2]), PIXELS[1:, ::2])


@pytest.mark.parametrize("other", [[[1, 2], [3, 4]], 7, "image.tif", {"channel": PIXELS}])
def test_what_has_no_shape_is_no_array(other: object) -> None:
    assert not isinstance(other, ImageArray)


@pytest.mark.parametrize("most", [1, 50, 99, 10_000])
def test_blocks_of_rows_hold_each_row_once(most: int) -> None:
    blocks = list(row_blocks((2, 30, 10), most, slice(3, 28)))
    rows = np.concatenate([np.arange(30)[block] for block in blocks])
    assert rows.tolist() == list(range(3, 28))
    longest = max(block.stop - block.start for block in blocks)
    assert longest * 2 * 10 <= max(most, 20)
