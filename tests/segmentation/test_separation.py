"""Cells block by block while tiles arrive: those of the plane in one piece, in bounded memory."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.instances import InstanceOptions
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.resample import scaled_shape
from napari_unet_cells.core.tiling import TileGrid
from napari_unet_cells.errors import OutOfMemory
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import pipeline, separation
from napari_unet_cells.segmentation.kept_fragments import KeptFragments
from napari_unet_cells.segmentation.pipeline import Settings, segment_planes
from napari_unet_cells.segmentation.result import Fragments, Result
from napari_unet_cells.segmentation.separation import (
    RowPages,
    Separated,
    Separation,
    Workers,
    cuts_of,
)

OPTIONS = InstanceOptions(min_size=6)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separation, "ONE_PIECE", 50_000)
    monkeypatch.setattr(separation, "LONGEST_BLOCK", 150)
    monkeypatch.setattr(RowPages, "HEIGHT", 64)


def nuclei(shape: tuple[int, int], density: float = 0.3) -> NDArray[np.uint8]:
    """Probabilities of simulated nuclei, and how deep a pixel lies in one."""
    labels: NDArray[Any] = simulate_nuclei(shape, seed=3, density=density)[1]
    inner = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    boundary = (labels > 0) & ~inner
    depth = ndimage.distance_transform_edt((labels > 0) & inner)
    noise = np.random.default_rng(0).normal(0, 4, shape)
    cell = np.where(labels > 0, np.where(boundary, 50, 240), 8)
    values = np.stack([cell, boundary * 200, ndimage.gaussian_filter(20.0 * depth, 1) + noise])
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def separated(
    probabilities: NDArray[np.uint8], grid: TileGrid, shape: tuple[int, int], zoom: float = 1.0
) -> tuple[Separated, int]:
    """Let the tiles arrive; the cells, and the most bytes of probabilities that were held."""
    most = 0
    with Workers() as workers:
        work = Separation(grid, shape, 3, OPTIONS, zoom, workers)
        for tile in grid:
            part = (slice(None), *tile.write)
            work.probabilities[part] = probabilities[part]
            most = max(most, work.probabilities.n_bytes)
            work.arrived(tile)
        return work.finish(), most


def test_rows_are_held_until_they_are_freed() -> None:
    values = np.random.default_rng(0).integers(0, 255, (2, 200, 90), np.uint8)
    pages = RowPages(2, (200, 90))
    assert not pages[slice(0, 200), slice(0, 90)].any()
    pages[slice(None), slice(10, 150), slice(0, 50)] = values[:, 10:150, :50]
    pages[slice(None), slice(60, 200), slice(50, 90)] = values[:, 60:, 50:]
    np.testing.assert_array_equal(pages[slice(70, 140), slice(5, 80)], values[:, 70:140, 5:80])
    held = pages.n_bytes
    pages.free(127)
    assert pages.n_bytes == held - 2 * 64 * 90
    np.testing.assert_array_equal(pages[slice(64, 150), slice(0, 50)], values[:, 64:150, :50])
    assert not pages[slice(0, 64), slice(0, 50)].any()


@pytest.mark.parametrize("density", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("tile", [200, 333, 1024])
def test_the_cells_are_those_of_one_piece(density: float, tile: int) -> None:
    probabilities = nuclei((500, 620), density)
    grid = TileGrid.plan((500, 620), 16, 32, tile)
    assert cuts_of((500, 620)) == ([125, 250, 375], [124, 248, 372, 496])
    found, _ = separated(probabilities, grid, (500, 620))
    whole = Fragments.of(probabilities, OPTIONS, (500, 620), 1.0)
    fragments = found.fragments.unpacked()
    np.testing.assert_array_equal(fragments.base, whole.base)
    np.testing.assert_array_equal(fragments.present, whole.present)
    np.testing.assert_array_equal(found.cells, whole.cells(OPTIONS))
    assert found.n == found.cells.max() > 20


@pytest.mark.parametrize("zoom", [0.6, 1.7])
def test_a_plane_that_was_zoomed_has_the_same_cells(zoom: float) -> None:
    shape = (470, 640)
    scaled = scaled_shape(shape, zoom)
    probabilities = nuclei(scaled)
    found, _ = separated(probabilities, TileGrid.plan(scaled, 16, 32, 300), shape, zoom)
    whole = Fragments.of(probabilities, OPTIONS, shape, zoom)
    fragments = found.fragments.unpacked()
    assert found.n == whole.counted(OPTIONS)[1]
    np.testing.assert_array_equal(found.cells, whole.cells(OPTIONS))
    np.testing.assert_array_equal(fragments.base, whole.base)
    np.testing.assert_array_equal(fragments.present, whole.present)


def test_ids_are_in_reading_order_and_each_is_one_region() -> None:
    found, _ = separated(nuclei((500, 620)), TileGrid.plan((500, 620), 16, 32, 200), (500, 620))
    ids, first = np.unique(found.cells, return_index=True)
    assert list(ids) == list(range(found.n + 1))
    assert (np.diff(first[1:]) > 0).all()
    assert all(ndimage.label(found.cells == i)[1] == 1 for i in ids[1::7])


def test_only_the_rows_around_a_tile_of_a_huge_plane_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(separation, "EXACT", 100_000)
    shape = (3000, 200)
    grid = TileGrid.plan(shape, 16, 32, 200)
    probabilities = nuclei(shape)
    found, most = separated(probabilities, grid, shape)
    whole = Fragments.of(probabilities, OPTIONS, shape, 1.0)
    np.testing.assert_array_equal(found.cells, whole.cells(OPTIONS))
    assert found.n > 0
    assert most < 0.2 * probabilities.nbytes


@pytest.mark.parametrize("width", [10, 40, 120])
@pytest.mark.parametrize("tile", [200, 450])
def test_plateaus_of_any_width_have_the_cells_of_one_piece(width: int, tile: int) -> None:
    """Cells that are all plateau, and the ground between them: distance 0 but for some peaks."""
    depth = np.zeros((500, 620))
    rng = np.random.default_rng(width)
    for y, x in rng.integers(0, (500, 620), (30, 2)):
        depth[y, x] = 40_000
    depth = np.clip(ndimage.gaussian_filter(depth, width / 10), 0, 255)
    y, x = np.mgrid[:500, :620]
    inside = (np.hypot(y % width - width / 2, x % (3 * width) - width / 2) < 0.7 * width) | (y < 90)
    cell = np.where(inside, 250, 0)
    probabilities = np.stack([cell, 0 * cell, depth]).astype(np.uint8)
    grid = TileGrid.plan((500, 620), 16, 32, tile)
    found, _ = separated(probabilities, grid, (500, 620))
    whole = Fragments.of(probabilities, OPTIONS, (500, 620), 1.0)
    np.testing.assert_array_equal(found.fragments.unpacked().base, whole.base)
    np.testing.assert_array_equal(found.cells, whole.cells(OPTIONS))
    assert found.n > 0


def test_a_plane_that_is_one_plateau_is_done_in_one_piece() -> None:
    probabilities = np.full((3, 400, 400), 200, np.uint8)
    probabilities[1] = 0
    found, _ = separated(probabilities, TileGrid.plan((400, 400), 16, 32, 200), (400, 400))
    assert found.n == 1
    assert (found.cells == 1).all()
    assert len(found.fragments.blocks) == 1


def test_a_large_plane_keeps_its_fragments_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = nuclei((500, 620))
    grid = TileGrid.plan((500, 620), 16, 32, 333)
    opened, _ = separated(probabilities, grid, (500, 620))
    monkeypatch.setattr(separation, "KEPT_OPEN", 100_000)
    packed, _ = separated(probabilities, grid, (500, 620))
    np.testing.assert_array_equal(packed.cells, opened.cells)
    one, other = KeptFragments([opened.fragments]), KeptFragments([packed.fragments])
    assert other.n_bytes < one.n_bytes / 5
    one.pack()
    assert one.n_bytes == other.n_bytes
    np.testing.assert_array_equal(one[0].base, other[0].base)


@pytest.mark.parametrize("zoom", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("exact", [True, False])
def test_a_large_plane_that_was_zoomed_has_the_same_cells_compressed(
    zoom: float, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (470, 640)
    scaled = scaled_shape(shape, zoom)
    probabilities = nuclei(scaled)
    grid = TileGrid.plan(scaled, 16, 32, 300)
    opened, _ = separated(probabilities, grid, shape, zoom)
    monkeypatch.setattr(separation, "KEPT_OPEN", 100_000)
    monkeypatch.setattr(separation, "EXACT", 10**9 if exact else 10_000)
    packed, _ = separated(probabilities, grid, shape, zoom)
    assert all(isinstance(block.pixels, bytes) for block in packed.fragments.blocks)
    assert opened.n == packed.n > 20
    np.testing.assert_array_equal(packed.cells, opened.cells)
    one, other = opened.fragments.unpacked(), packed.fragments.unpacked()
    np.testing.assert_array_equal(other.present, one.present)
    np.testing.assert_array_equal(other.base, one.base)


def test_the_pixels_of_a_huge_plane_are_compressed_while_tiles_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(separation, "EXACT", 100_000)
    monkeypatch.setattr(separation, "KEPT_OPEN", 100_000)
    monkeypatch.setattr(separation, "LONGEST_BLOCK", 500)
    monkeypatch.setattr(separation, "usable_cores", lambda: 1)
    shape = (3000, 500)
    grid = TileGrid.plan(shape, 16, 32, 200)
    probabilities = nuclei(shape)
    with Workers() as workers:
        work = Separation(grid, shape, 3, OPTIONS, 1.0, workers)
        tracemalloc.start()
        try:
            for tile in grid:
                part = (slice(None), *tile.write)
                work.probabilities[part] = probabilities[part]
                work.arrived(tile)
            workers.submit(int).result()  # the one thread has done all blocks before
            held = tracemalloc.get_traced_memory()[0] - work.probabilities.n_bytes
        finally:
            tracemalloc.stop()
        found = work.finish()
    assert found.n > 100
    assert held < 0.5 * found.cells.size  # a number of a pixel is a byte, or two


def test_what_no_tile_was_written_for_is_background() -> None:
    with Workers() as workers:
        grid = TileGrid.plan((300, 400), 16, 32, 200)
        found = Separation(grid, (300, 400), 3, OPTIONS, 1.0, workers).finish()
    assert found.n == 0
    assert not found.cells.any()


def test_an_error_in_a_block_is_the_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(separation, "separate_block", full)
    with pytest.raises(MemoryError):
        separated(nuclei((300, 400)), TileGrid.plan((300, 400), 16, 32, 200), (300, 400))


CARD = ModelCard("stand-in", "none", ("background", "cell", "boundary"), 1, 4, 4, "0" * 64)


def bright(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Everything bright is cell; no memory for large tiles."""
    if batch.shape[1] > 150:
        raise OutOfMemory
    cell = np.rint(255 * batch).astype(np.uint8)
    return np.concatenate([batch > 0.4, cell, np.zeros_like(cell)], axis=-1).astype(np.uint8)


def results(image: NDArray[Any], *, link: int | None = None) -> Result:
    network = FunctionNetwork(bright, stride=4, halo=4, max_tile=200)
    axes = "ZYX" if image.ndim == 3 else "YX"
    events = segment_planes(planes_of(image, axes), network, CARD, Settings(link=link))
    *_, result = events
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("stack", [False, True])
def test_a_run_that_goes_on_with_smaller_tiles_has_the_cells_of_one_piece(
    stack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(2).random((2, 450, 333)), (0, 5, 5))
    image = image if stack else image[0]
    by_blocks = results(image, link=0 if stack else None)
    monkeypatch.setattr(separation, "ONE_PIECE", 10**9)
    whole = results(image, link=0 if stack else None)
    assert by_blocks.n_cells == whole.n_cells > 10
    np.testing.assert_array_equal(by_blocks.cells, whole.cells)
    for one, other in zip(by_blocks.fragments, whole.fragments, strict=True):
        np.testing.assert_array_equal(one.base, other.base)


def test_a_large_stack_keeps_its_fragments_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small each of its planes is."""
    image = ndimage.gaussian_filter(np.random.default_rng(2).random((3, 300, 333)), (0, 5, 5))
    opened = results(image)
    monkeypatch.setattr(pipeline, "KEPT_OPEN", 2 * 300 * 333)
    packed = results(image)
    assert packed.n_cells == opened.n_cells > 10
    np.testing.assert_array_equal(packed.cells, opened.cells)
    assert isinstance(packed.fragments, KeptFragments)
    assert isinstance(opened.fragments, KeptFragments)
    assert packed.fragments.n_bytes < opened.fragments.n_bytes / 3
    for one, other in zip(packed.fragments, opened.fragments, strict=True):
        np.testing.assert_array_equal(one.base, other.base)


def test_a_run_that_is_cancelled_leaves_no_thread() -> None:
    before = threading.active_count()
    image = ndimage.gaussian_filter(np.random.default_rng(2).random((450, 333)), 5)
    network = FunctionNetwork(bright, stride=4, halo=4, max_tile=100)
    events = segment_planes(planes_of(image), network, CARD)
    for _ in range(12):
        next(events)
    assert threading.active_count() > before
    events.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
