"""An image block by block into an OME-Zarr: the cells are those of the plane in one piece."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core import normalize, sampled
from napari_unet_cells.core.measure import Table, measure
from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork, MemoryFull
from napari_unet_cells.errors import OutOfMemory, UserError
from napari_unet_cells.files import FileExists, find_images, read_image
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.labels import read_provenance
from napari_unet_cells.files.lazy import LazyArray
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation import to_zarr, views, zarr_request
from napari_unet_cells.segmentation.block_store import BlockStore
from napari_unet_cells.segmentation.pipeline import Settings, segment_planes
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.to_zarr import (
    Looking,
    UnitDone,
    Work,
    ZarrDone,
    ZarrRequest,
    finish,
    number_units,
    prepare,
    segment_to_zarr,
    segment_unit,
    write_unit,
)
from napari_unet_cells.segmentation.zarr_cells import ZarrCells
from napari_unet_cells.segmentation.zarr_output import release
from napari_unet_cells.training.crops import BOUNDARY, annotate, boundary_classes
from napari_unet_cells.training.synthetic.simulate import simulate

CARD = ModelCard(
    "drawn", "none", ("background", "cell", "boundary"), 3, 8, 8, "ab" * 32, distance=True
)


def drawn_probabilities(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take the colours of the image for what a network would give: cell, boundary, distance."""
    values = np.rint(255 * batch).astype(np.uint8)
    background = 255 - np.minimum(values[..., 0].astype(int) + values[..., 1], 255)
    classes = np.argmax(np.stack([background, values[..., 0], values[..., 1]]), axis=0)
    return np.concatenate([classes[..., np.newaxis].astype(np.uint8), values], axis=-1)


NETWORK = FunctionNetwork(
    drawn_probabilities, stride=8, halo=8, channels=3, probabilities=3, max_tile=96
)


def drawn(kind: str, seed: int, size: int = 300) -> NDArray[np.uint8]:
    """Image (y, x, 3) whose colours are the probabilities of a simulated plane, with noise."""
    if kind == "nuclei":
        density = np.random.default_rng(seed).uniform(0.05, 0.6)
        mask = simulate_nuclei((size, size), seed=seed, density=density)[1].astype(np.int32)
    else:
        mask = simulate(np.random.default_rng(seed), size, (kind,), (8.0, 40.0))[1]
    distance = annotate(np.zeros((size, size), np.float32), mask).distance
    edges = np.where(boundary_classes(mask) == BOUNDARY, 0.8, 0.0)
    boundary = ndimage.gaussian_filter(edges, 0.7)
    cell = np.where(mask > 0, 0.97 - boundary, 0.05)
    noise = np.random.default_rng(seed + 1).normal(0, 0.02, mask.shape)
    depth = ndimage.gaussian_filter(distance / 255, 1.0) + noise
    image = np.stack([cell, boundary, depth], axis=-1)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelCard]:
    """Stand-in models, and blocks of 64 pixels."""
    models = {"drawn": replace(CARD, diameters=(8.0, 25.0))}

    def find(model: str | Path) -> ModelCard:
        return models.get(str(model), models["drawn"])

    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": NETWORK)
    monkeypatch.setattr(to_zarr, "find_model", find)
    monkeypatch.setattr(zarr_request, "side_of_blocks", lambda shape, zoom: 64)
    monkeypatch.setattr(to_zarr, "_last", [])
    return models


def saved(folder: Path, image: NDArray[Any]) -> Path:
    path = folder / "in" / "image.zarr"
    zarr.create_array(path, data=image, chunks=(64, 64, *image.shape[2:]), overwrite=True)
    return path


def run(image: Path, output: Path, **request: Any) -> tuple[ZarrDone, list[Table]]:
    tables: list[Table] = []
    *_, done = segment_to_zarr(image, output, "drawn", ZarrRequest(**request), tables=tables.extend)
    assert isinstance(done, ZarrDone)
    return done, tables


def labels_of(output: Path, name: str = "cells", level: int = 0) -> NDArray[Any]:
    pixels: NDArray[Any] = np.asarray(zarr.open_array(output / "labels" / name / str(level))[...])
    return pixels


def in_one_piece(image: NDArray[Any], card: ModelCard, settings: Settings | None = None) -> Result:
    *_, result = segment_planes(planes_of(image), NETWORK, card, settings)
    assert isinstance(result, Result)
    return result


def same_cells(one: NDArray[Any], other: NDArray[Any]) -> int:
    """Count the cells that are the same, pixel by pixel, under whatever id."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]).astype(np.int64), axis=1)
    alone = [np.bincount(ids)[ids] == 1 for ids in pairs]
    return int((alone[0] & alone[1] & (pairs > 0).all(axis=0)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nuclei", "round", "rods", "colonies", "spread", "sheet"])
@pytest.mark.parametrize(("seed", "diameter"), [(1, None), (2, 30.0), (3, 10.0)])
def test_blocks_give_the_cells_of_one_piece(
    tmp_path: Path, small_blocks: dict[str, ModelCard], kind: str, seed: int, diameter: float | None
) -> None:
    """Also where the network sees the image smaller or larger than it is."""
    card = small_blocks["drawn"] = replace(
        small_blocks["drawn"], diameter_window=(18.0, 22.0) if diameter else (0.0, 0.0)
    )
    image, settings = drawn(kind, seed, 240), Settings(diameter=diameter)
    whole = in_one_piece(image, card, settings)
    assert (whole.zoom == 1) == (diameter is None)
    done, tables = run(saved(tmp_path, image), tmp_path / "out.zarr", settings=settings)
    cells = labels_of(done.path)
    assert whole.n_cells > 3
    assert abs(done.n_cells - whole.n_cells) <= 0.001 * whole.n_cells
    assert same_cells(whole.cells, cells) >= 0.999 * whole.n_cells
    assert done.problems == ()
    assert np.array_equal(cells > 0, whole.cells > 0)
    # resampled by Pillow, a tie between two classes may fall either way
    differ = labels_of(done.path, "classes") != whole.classes
    assert np.mean(differ) < (0.001 if diameter else 1e-9)
    # ids from 1 to n, each for one cell, and the table knows all of them
    ids = np.unique(cells)
    np.testing.assert_array_equal(ids, np.arange(done.n_cells + 1))
    np.testing.assert_array_equal(np.concatenate([t.columns["label"] for t in tables]), ids[1:])
    areas = np.concatenate([t.columns["area_pixels"] for t in tables])
    np.testing.assert_array_equal(areas, np.bincount(cells.ravel())[1:])


def test_the_table_is_that_of_the_written_labels(tmp_path: Path) -> None:
    image = drawn("nuclei", 5)
    done, tables = run(saved(tmp_path, image), tmp_path / "out.zarr", pixel_size=0.5)
    colors = {name: image[..., c] for c, name in enumerate(("red", "green", "blue"))}
    whole = measure(labels_of(done.path), colors, (0.5, 0.5), "micrometer")
    for name, column in whole.columns.items():
        found = np.concatenate([table.columns[name] for table in tables])
        np.testing.assert_allclose(found, column, rtol=1e-9, atol=1e-9, err_msg=name)
    assert {table.unit for table in tables} == {"micrometer"}


def big_cell(shape: tuple[int, int] = (450, 470)) -> NDArray[np.uint8]:
    """Draw a cell that no window holds, and two small ones."""
    image = np.zeros((*shape, 3), np.uint8)
    image[20:440, 30:450, ::2] = 255
    image[60:400, 70:410] = 0
    image[200:220, 200:220, ::2] = 255
    image[2:12, 2:12, ::2] = 255
    return image


def test_a_cell_that_no_block_sees_whole_is_one_cell_and_reported(tmp_path: Path) -> None:
    path = saved(tmp_path, big_cell())
    done, _ = run(path, tmp_path / "out.zarr")
    cells = labels_of(done.path)
    ring = np.zeros(cells.shape, bool)
    ring[20:440, 30:450] = True
    ring[60:400, 70:410] = False
    assert len(np.unique(cells[ring])) == 1
    assert cells[ring][0] > 0
    assert cells[210, 210] not in (0, cells[ring][0])
    assert cells[5, 5] not in (0, cells[ring][0])
    (problem,) = done.problems
    assert problem.startswith("1 cells are so large that no block of the image held all of them")
    assert "(y 20 x 30)" in problem


def test_a_cell_that_the_margin_does_not_hold_is_looked_at_again(
    tmp_path: Path, small_blocks: dict[str, ModelCard]
) -> None:
    small_blocks["drawn"] = replace(CARD, diameters=(8.0, 10.0))  # a margin of 32
    image = np.zeros((300, 300, 3), np.uint8)
    image[100:190, 60:150, ::2] = 255  # reaches 32 pixels beyond each of the blocks around
    done, _ = run(saved(tmp_path, image), tmp_path / "out.zarr")
    assert done.problems == ()
    assert done.n_cells == 1
    np.testing.assert_array_equal(labels_of(done.path) > 0, image[..., 0] > 0)


def test_units_in_any_order_give_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn("sheet", 4, 200))
    first, _ = run(path, tmp_path / "a.zarr")
    work = prepare(path, tmp_path / "b.zarr", "drawn", ZarrRequest())
    assert work.todo == tuple(range(work.total))
    for number in reversed(work.todo):
        segment_unit(work.folder, number)
    number_units(work.folder)
    for number in np.random.default_rng(0).permutation(work.total).tolist():
        assert write_unit(work.folder, number).number == number
    second = finish(work.folder)
    np.testing.assert_array_equal(labels_of(first.path), labels_of(second.path))
    assert not work.folder.exists()


def test_steps_that_come_too_early_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn("nuclei", 1, 100))
    work = prepare(path, tmp_path / "b.zarr", "drawn", ZarrRequest())
    segment_unit(work.folder, 0)
    with pytest.raises(UserError, match="3 of 4 blocks are not segmented yet"):
        number_units(work.folder)
    for number in work.todo:
        segment_unit(work.folder, number)
    number_units(work.folder)
    write_unit(work.folder, 2)
    with pytest.raises(UserError, match="3 of 4 blocks are not written yet"):
        finish(work.folder)
    assert not (tmp_path / "b.zarr").exists()


def test_a_huge_image_is_looked_at_once_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, drawn("colonies", 2, 200))
    expected, _ = run(path, tmp_path / "whole.zarr")
    monkeypatch.setattr(zarr_request, "HUGE", 1000)
    monkeypatch.setattr(views, "HUGE", 1000)
    monkeypatch.setattr(normalize, "SAMPLE_PIXELS", 10_000)
    monkeypatch.setattr(sampled, "STRIP", 64)
    read: list[Any] = []
    get = LazyArray.__getitem__
    note = read.append
    monkeypatch.setattr(LazyArray, "__getitem__", lambda a, key: note(key) or get(a, key))
    output = tmp_path / "out.zarr"
    steps = segment_to_zarr(path, output, "drawn")
    looked = list(takewhile(lambda event: not isinstance(event, Work), steps))
    assert looked == [Looking(part) for part in (64 / 200, 128 / 200, 192 / 200, 1.0)]
    strided = [key for key in read if getattr(key[0], "step", None) not in (None, 1)]
    assert len(strided) == len(looked)  # and for nothing that follows
    *_, done = steps
    assert isinstance(done, ZarrDone)
    assert done.n_cells == expected.n_cells
    again: Any = segment_to_zarr(path, output, "drawn", ZarrRequest(overwrite=True))
    assert isinstance(next(again), Looking)
    again.close()
    assert not list(tmp_path.glob(".out.zarr*"))  # nobody has to wait for it
    assert prepare(path, tmp_path / "other.zarr", "drawn").total == done.n_blocks


@pytest.mark.parametrize("allowed", [False, True])
def test_chunks_that_are_not_stored_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    path = tmp_path / "in.zarr"
    array = zarr.create_array(path, shape=(400, 500, 3), chunks=(20, 20, 3), dtype="u1")
    monkeypatch.setattr(zarr_request, "HUGE", 1000)
    monkeypatch.setattr(views, "HUGE", 1000)
    monkeypatch.setattr(normalize, "SAMPLE_PIXELS", 10_000)
    monkeypatch.setattr(sampled, "STRIP", 100)
    if not allowed:  # none at all is most likely damage
        with pytest.raises(UserError, match=r"none of its 500 chunks.*allow-missing-chunks"):
            prepare(path, tmp_path / "out.zarr", "drawn")
    array[220:320, 100:200] = drawn("nuclei", 6, 100)
    request = ZarrRequest(allow_missing_chunks=allowed)
    plans, read = [], list[Any]()
    get = zarr.Array.__getitem__
    for sparse in (False, True):
        with monkeypatch.context() as patch:
            if not sparse:
                patch.setattr(zarr_request, "stored_only", lambda data: data)
            patch.setattr(
                zarr.Array, "__getitem__", lambda a, key: (read.append(key), get(a, key))[1]
            )
            read.clear()
            work = prepare(path, tmp_path / f"{sparse}.zarr", "drawn", request)
        plans.append(BlockStore.open(work.folder).plan)
        release(work.folder)
        strided = [key for key in read if getattr(key[0], "step", None) not in (None, 1)]
        assert len(strided) == (5 if sparse else 4)  # rows of chunks; strips
        columns = {(key[1].start or 0, key[1].stop or 500) for key in strided}
        assert all(100 <= start < stop <= 200 for start, stop in columns) == sparse
    for name in ("limits", "details", "scaled", "options", "shape"):
        assert getattr(plans[0], name) == getattr(plans[1], name)


@pytest.mark.parametrize("projection", ["max", "mean"])
def test_of_channels_too_only_what_is_stored_is_looked_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: dict[str, ModelCard],
    projection: str,
) -> None:
    small_blocks["drawn"] = replace(CARD, channels=1)

    def bright(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        return drawn_probabilities(np.repeat(batch, 3, axis=3))

    network = replace(NETWORK, function=bright, channels=1)
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": network)
    path = tmp_path / "in.zarr"
    array = zarr.create_array(path, shape=(2, 400, 500), chunks=(1, 20, 20), dtype="u1")
    for channel, top in enumerate((220, 100)):
        array[channel, top : top + 100, 100:200] = drawn("nuclei", channel, 100)[..., 0]
    monkeypatch.setattr(zarr_request, "HUGE", 1000)
    settings = Settings(diameter=20.0)
    request = ZarrRequest(settings, projection=projection, axes="CYX")
    plans, read = [], list[Any]()
    get = zarr.Array.__getitem__
    for sparse in (False, True):
        read.clear()
        with monkeypatch.context() as patch:
            if not sparse:
                patch.setattr(zarr_request, "stored_only", lambda data: data)
            patch.setattr(
                zarr.Array, "__getitem__", lambda a, key: (read.append(key), get(a, key))[1]
            )
            work = prepare(path, tmp_path / f"{sparse}.zarr", "drawn", request)
        plans.append(BlockStore.open(work.folder).plan)
        release(work.folder)
        assert read
        wide = [key for key in read if (key[-1].stop or 500) - (key[-1].start or 0) > 120]
        assert bool(wide) != sparse
    assert plans[0].limits == plans[1].limits
    assert plans[0].details == plans[1].details


def until(steps: Iterator[Any], n: int) -> None:
    """Take the first events of a run, and break it off."""
    for _, _event in zip(range(n), steps, strict=False):
        pass
    steps.close()  # type: ignore[attr-defined]


def test_a_run_that_was_broken_off_goes_on_with_the_same_result(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn("colonies", 2, 200))
    whole, tables = run(path, tmp_path / "whole.zarr")
    output = tmp_path / "out.zarr"
    total = whole.n_blocks
    while list((tmp_path / ".out.zarr.part" / "blocks").glob("*.index.npz"))[total - 1 :] == []:
        until(segment_to_zarr(path, output, "drawn"), 4)
    until(segment_to_zarr(path, output, "drawn"), 6)  # while they are written
    assert not output.exists()
    again: list[Table] = []
    work, *events = segment_to_zarr(path, output, "drawn", tables=again.extend)
    assert isinstance(work, Work)
    assert work.todo == ()
    assert work.note == f"goes on after {total} of {total} blocks"
    assert {event.stage for event in events if isinstance(event, UnitDone)} == {"write"}
    np.testing.assert_array_equal(labels_of(output), labels_of(whole.path))
    for one, other in zip(tables, again, strict=True):
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[name])


def test_finished_blocks_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 200)), tmp_path / "out.zarr"
    until(segment_to_zarr(path, output, "drawn"), 6)
    seen: list[tuple[int, ...]] = []

    def counted(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen.append(batch.shape)
        return drawn_probabilities(batch)

    network = replace(NETWORK, function=counted)
    work, *_ = segment_to_zarr(path, output, "drawn", network=network)
    assert isinstance(work, Work)
    assert 0 < len(work.todo) < work.total
    n_resumed = len(seen)
    seen.clear()
    list(segment_to_zarr(path, tmp_path / "other.zarr", "drawn", network=network))
    assert 0 < n_resumed < len(seen)


@pytest.mark.parametrize("change", ["image", "model", "settings", "nothing"])
def test_what_changed_begins_anew_and_is_said(
    tmp_path: Path, small_blocks: dict[str, ModelCard], change: str
) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 200)), tmp_path / "out.zarr"
    until(segment_to_zarr(path, output, "drawn"), 6)
    settings = Settings(likely_diameter=17.0)  # an expectation is no setting
    if change == "image":
        saved(tmp_path, drawn("nuclei", 3, 200))
    elif change == "model":
        small_blocks["drawn"] = replace(small_blocks["drawn"], sha256="cd" * 32)
    elif change == "settings":
        settings = Settings(min_size=30)
    work = prepare(path, output, "drawn", ZarrRequest(settings))
    if change == "nothing":
        assert len(work.todo) < work.total
        assert work.note.startswith("goes on after")
    else:
        assert len(work.todo) == work.total
        assert work.note.endswith("changed since the last run: begun anew")


def test_a_half_made_folder_of_a_killed_run_is_begun_anew(tmp_path: Path) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr"
    folder = tmp_path / ".out.zarr.part"
    folder.mkdir()
    (folder / "plan.json").write_text('{"key": "')
    done, _ = run(path, output)
    assert done.n_cells > 0
    assert not folder.exists()


def test_an_output_is_not_replaced_unasked(tmp_path: Path) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr"
    first, _ = run(path, output)
    with pytest.raises(FileExists):
        run(path, output)
    again, _ = run(path, output, overwrite=True)
    assert again.n_cells == first.n_cells
    assert sorted(child.name for child in tmp_path.iterdir()) == ["in", "out.zarr"]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("out", "does not end in .zarr"),
        ("in/image.zarr", "would lie in the image"),
        ("in/image.zarr/out.zarr", "would lie in the image"),
        ("nowhere/out.zarr", "There is no folder"),
    ],
)
def test_outputs_that_cannot_be_are_refused(tmp_path: Path, output: str, sentence: str) -> None:
    path = saved(tmp_path, drawn("nuclei", 2, 100))
    with pytest.raises(UserError, match=sentence):
        run(path, tmp_path / output)


def test_a_zarr_that_claims_to_be_endless_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.zarr"
    zarr.create_array(path, shape=(10**6, 10**6), chunks=(1024, 1024), dtype="u2")
    with pytest.raises(UserError, match="claims to be 1,000,000 x 1,000,000 pixels"):
        run(path, tmp_path / "out.zarr", allow_missing_chunks=True)


def test_a_plane_that_is_mostly_not_there_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is not asked where nothing is."""
    path = tmp_path / "empty.zarr"
    array = zarr.create_array(path, shape=(500, 450, 3), chunks=(50, 50, 3), dtype="u1")
    image = drawn("nuclei", 6, 100)
    array[300:400, 200:300] = image
    seen: list[tuple[int, ...]] = []

    def counted(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen.append(batch.shape)
        return drawn_probabilities(batch)

    network = replace(NETWORK, function=counted)
    *_, done = segment_to_zarr(path, tmp_path / "out.zarr", "drawn", network=network)
    assert isinstance(done, ZarrDone)
    assert done.n_cells > 0
    assert done.n_blocks == 8 * 8
    assert 0 < len(seen) < 40 * 16  # of 64 blocks with 16 tiles each
    written = sum(len(names) for _, _, names in os.walk(done.path))
    assert written < 60  # empty chunks are not


def test_planes_of_a_stack_are_numbered_each_on_its_own(
    tmp_path: Path, small_blocks: dict[str, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bright(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        cell = (batch > 0.5).astype(np.float32)
        return drawn_probabilities(np.concatenate([cell, 0 * cell, cell], axis=3))

    small_blocks["drawn"] = replace(CARD, channels=1)
    network = replace(NETWORK, function=bright, channels=1)
    stack = np.stack([simulate_nuclei((100, 100), seed=seed)[0] for seed in (1, 2)])
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": network)
    path = tmp_path / "stack.zarr"
    zarr.create_array(path, data=stack, chunks=(1, 50, 50), dimension_names=("z", "y", "x"))
    with pytest.raises(UserError, match="stack of 2 planes"):
        run(path, tmp_path / "out.zarr")
    monkeypatch.setattr(to_zarr, "MAX_UINT16", 1)
    monkeypatch.setattr(to_zarr, "ROOM", 100)
    done, tables = run(path, tmp_path / "out.zarr", plane="all")
    cells = labels_of(done.path)
    assert cells.shape == stack.shape
    assert np.iinfo(cells.dtype).max >= 100 * done.n_cells > 255  # cells that are drawn get ids
    rows = {name: np.concatenate([t.columns[name] for t in tables]) for name in ("z", "label")}
    for z in (0, 1):
        ids = np.unique(cells[z])[1:]
        np.testing.assert_array_equal(ids, np.arange(1, len(ids) + 1))
        np.testing.assert_array_equal(rows["label"][rows["z"] == z], ids)
    assert done.n_cells == len(rows["label"])


def test_a_model_of_classes_writes_classes_only(
    tmp_path: Path, small_blocks: dict[str, ModelCard]
) -> None:
    small_blocks["drawn"] = replace(CARD, classes=("background", "cell"), distance=False)
    done, tables = run(saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr")
    assert done.n_cells == 0
    assert tables == []
    assert labels_of(done.path, "classes").any()
    assert not (done.path / "labels" / "cells").exists()


def test_memory_that_is_short_is_survived(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn("nuclei", 2, 200))
    whole, _ = run(path, tmp_path / "whole.zarr")

    def short(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        if batch.shape[1] > 130:
            raise OutOfMemory
        return drawn_probabilities(batch)

    network = replace(NETWORK, function=short, max_tile=400)
    events = list(segment_to_zarr(path, tmp_path / "out.zarr", "drawn", network=network))
    assert sum(isinstance(event, MemoryFull) for event in events) == 1
    np.testing.assert_array_equal(labels_of(tmp_path / "out.zarr"), labels_of(whole.path))


def test_a_full_disk_is_a_sentence_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 200)), tmp_path / "out.zarr"
    whole, _ = run(path, tmp_path / "whole.zarr")
    write, written = LabelZarr.write, []

    def full(self: LabelZarr, *values: Any) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(values)
        write(self, *values)

    monkeypatch.setattr(LabelZarr, "write", full)
    with pytest.raises(UserError, match=r"out.zarr was not written: the disk of .* is full"):
        run(path, output)
    assert not output.exists()
    monkeypatch.setattr(LabelZarr, "write", write)
    work, *_ = segment_to_zarr(path, output, "drawn")
    assert isinstance(work, Work)
    assert work.todo == ()
    np.testing.assert_array_equal(labels_of(output), labels_of(whole.path))


class Killed(BaseException):
    """Stand for the end of a process."""


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_run_that_is_killed_while_its_result_gets_its_name_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """At each of the renamings: an older result or the new one is there afterwards, whole."""
    path, output = saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr"
    older, _ = run(path, output, settings=Settings(min_size=200))
    rename, renamed = os.rename, []

    def killed(one: Path, other: Path) -> None:
        renamed.append(other)
        if len(renamed) == n:
            raise Killed
        rename(one, other)

    monkeypatch.setattr(os, "rename", killed)
    remove = shutil.rmtree
    if n == 4:  # after the last one
        monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: killed(path, path))
    with pytest.raises(Killed):
        run(path, output, overwrite=True)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", remove)
    with pytest.raises(FileExists):  # whatever is asked next, what was there is there
        run(path, output)
    assert labels_of(output).max() >= older.n_cells > 0
    done, _ = run(path, output, overwrite=True)
    assert labels_of(output).max() == done.n_cells > older.n_cells
    left = {child.name for child in tmp_path.iterdir()}
    assert left == {"in", "out.zarr"}


_HOLD = """
import sys, time
from pathlib import Path
from napari_unet_cells.segmentation.zarr_output import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(output)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is being written by another run"):
            run(path, output)
        other.kill()
    done, _ = run(path, output)
    assert done.n_cells > 0
    assert {child.name for child in tmp_path.iterdir()} == {"in", "out.zarr"}


def test_an_image_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path, output = saved(tmp_path, drawn("nuclei", 2, 200)), tmp_path / "out.zarr"
    steps = segment_to_zarr(path, output, "drawn")
    for _ in range(5):
        next(steps)
    saved(tmp_path, drawn("nuclei", 3, 200))
    with pytest.raises(UserError, match="has changed while it was segmented"):
        list(steps)
    assert not output.exists()


def test_what_may_be_replaced_is_asked_again(tmp_path: Path) -> None:
    """A run that was begun before the output was there goes on once it may be replaced."""
    path, output = saved(tmp_path, drawn("nuclei", 2, 100)), tmp_path / "out.zarr"
    until(segment_to_zarr(path, output, "drawn"), 3)
    output.mkdir()
    with pytest.raises(FileExists):
        run(path, output)
    done, _ = run(path, output, overwrite=True)
    assert done.n_cells > 0


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((80, 80, 3), 7, np.uint8), "The image is constant: every value is 7"),
        (np.full((80, 80, 3), np.nan, np.float32), "No value of the image is a number"),
    ],
)
def test_an_image_of_nothing_is_refused(tmp_path: Path, image: NDArray[Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        run(saved(tmp_path, image), tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"pixel_size": 0}, "pixel size must be above 0, not 0"),
        ({"pixel_size": float("nan")}, "pixel size must be above 0, not nan"),
        ({"plane": "foo"}, "plane is a number or all, not 'foo'"),
        ({"version": "0.3"}, "versions 0.4 and 0.5, not 0.3"),
    ],
)
def test_options_that_cannot_be_are_refused(request_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ZarrRequest(**request_)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("told", ["CYX", "?CYX", "C?YX"])
def test_channels_that_only_the_user_knows_are_segmented(
    tmp_path: Path,
    small_blocks: dict[str, ModelCard],
    monkeypatch: pytest.MonkeyPatch,
    told: str,
    version: str,
) -> None:
    def bright(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
        cell = (batch > 0.5).astype(np.float32)
        return drawn_probabilities(np.concatenate([cell, 0 * cell, cell], axis=3))

    small_blocks["drawn"] = replace(CARD, channels=1)
    network = replace(NETWORK, function=bright, channels=1)
    for module in (to_zarr, zarr_request):
        monkeypatch.setattr(module, "open_network", lambda card, runtime="": network)
    stack = np.stack([simulate_nuclei((100, 130), seed=seed)[0] for seed in (1, 2, 3)])
    alone = stack if "?" in told else stack[0]
    at = told.index("C")
    pixels = np.stack([np.zeros_like(alone), alone], axis=at)  # the other channel holds nothing
    path, single = tmp_path / "a.tif", tmp_path / "b.tif"
    size: dict[str, Any] = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="minisblack", **size)
    tifffile.imwrite(single, alone, photometric="minisblack", **size)
    assert set(read_image(path).axes) <= {*"QIYX"}  # nobody knows
    asked: dict[str, Any] = {"plane": "all" if "?" in told else None, "version": version}
    expected, rows = run(single, tmp_path / "alone.ome.zarr", **asked)
    asked |= {"axes": told, "channel": 1}
    until(segment_to_zarr(path, tmp_path / "out.ome.zarr", "drawn", ZarrRequest(**asked)), 3)
    done, tables = run(path, tmp_path / "out.ome.zarr", **asked)
    assert done.n_cells == expected.n_cells > 3
    for name in ("cells", "classes"):
        labels = done.path / "labels" / name
        np.testing.assert_array_equal(labels_of(done.path, name), labels_of(expected.path, name))
        yaozarrs.validate_zarr_store(str(labels))
        one, other = (read_image(one / "labels" / name) for one in (done.path, expected.path))
        assert one.axes == other.axes == ("ZYX" if "?" in told else "YX")
        assert (one.pixel_size, one.unit) == ((0.25, 0.5), "micrometer")
        assert one.place == other.place
    for mine, theirs in zip(tables, rows, strict=True):
        for column in theirs.columns:
            np.testing.assert_array_equal(mine.columns[column], theirs.columns[column])
    yaozarrs.validate_zarr_store(str(done.path))
    record = read_provenance(done.path / "labels" / "cells")
    axes = read_image(path).axes
    assert record["source"]["axes"] == f"{axes[:at]}C{axes[at + 1 :]}"
    assert record["source"]["fixed"] == {"C": 1}
    opened = ZarrCells.open(done.path)
    assert opened.problem == ""
    assert opened.planes is not None
    index = next(opened.planes.indices())
    first = stack[0].astype(float)
    np.testing.assert_array_equal(opened.planes.plane(index)[:50, :60].squeeze(), first[:50, :60])


def test_without_saying_the_channels_nothing_is_taken_for_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 60, 70), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match="a stack of 2 planes"):
        run(path, tmp_path / "out.zarr", channel=None)
    keys = {
        zarr_request.run_key(path, CARD, ZarrRequest(channel=0, axes=axes)) for axes in ("", "CYX")
    }
    assert len(keys) == 2


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, drawn("nuclei", 2, 100))
    with pytest.raises(UserError, match="its name is too long"):
        run(path, tmp_path / f"{'x' * 246}.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_result_says_how_it_was_made(tmp_path: Path, version: str, schema_faults: Any) -> None:
    path = saved(tmp_path, drawn("nuclei", 2, 100))
    done, _ = run(path, tmp_path / "out.ome.zarr", version=version, pixel_size=0.25)
    for name in ("cells", "classes"):
        record = read_provenance(done.path / "labels" / name)
        assert schema_faults(json.loads(json.dumps(record))) == []
        assert record["role"] == name
        assert "complete" not in record
        assert record["device"] == "a function"
        assert record["seconds"] >= 0
        assert record["model"]["name"] == "drawn"
        assert record["source"]["path"] == str(path)
        assert record["pixel_size"] == {"y": 0.25, "x": 0.25, "unit": "micrometer"}
    assert read_provenance(done.path / "labels" / "cells")["cells"] == done.n_cells
    image = read_image(done.path / "labels" / "cells")
    assert image.pixel_size == (0.25, 0.25)
    assert image.unit == "micrometer"
    np.testing.assert_array_equal(
        np.moveaxis(read_image(done.path).data[...], 0, -1), read_image(path).data[...]
    )
    assert read_provenance(done.path)["cells"] == done.n_cells
    with pytest.raises(UserError, match="holds results only"):
        find_images([tmp_path])


#: Segments a plane of 64 megapixels with the fast model, and says the most memory that was used.
_LARGE = """
import json, resource, sys
from pathlib import Path
import numpy as np, zarr
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.to_zarr import segment_to_zarr
folder = Path(sys.argv[1])
part = simulate_nuclei((1000, 1000), seed=1)[0]
array = zarr.create_array(
    folder / "a.zarr", shape=(8000, 8000), chunks=(1000, 1000), dtype=part.dtype
)
for y in range(0, 8000, 1000):
    array[y:y + 1000] = np.tile(part, (1, 8))
*_, done = segment_to_zarr(folder / "a.zarr", folder / "out.zarr", "cells-fast")
if sys.platform == "linux":  # what getrusage says holds that of the process that started this one
    told = Path("/proc/self/status").read_text()
    peak = int(told.partition("VmHWM:")[2].split()[0]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak": peak, "cells": done.n_cells, "blocks": done.n_blocks}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="its memory is read in another way")
def test_64_megapixels_need_little_memory(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", _LARGE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=800,
    ).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["peak"] < 1.2e9, found
    assert found["blocks"] == 9
    assert found["cells"] > 20_000
    assert len(np.unique(labels_of(tmp_path / "out.zarr", level=3))) > 1000
