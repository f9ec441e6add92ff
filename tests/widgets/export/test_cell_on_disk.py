"""Cells of labels on the disk: their windows, and the lines around them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import Hole, LabelLevel, label_levels, with_hole
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.widgets.export import cell_on_disk
from napari_unet_cells.widgets.export.cell_lines import BRIGHT, Lines, Mapping, cell_lines
from napari_unet_cells.widgets.export.cell_on_disk import DiskCell, ReadCell, read_cell

pytestmark = pytest.mark.gui

#: Two cells that touch; the box of each holds pixels of the other.
PLANE = np.zeros((400, 600), np.uint16)
PLANE[100:180, 200:300] = 7
PLANE[140:260, 260:380] = 8
BOX = (slice(100, 180), slice(200, 300))
BOXES = np.array([[100.0, 200, 180, 300]])


def levels_of(folder: Path, shape: tuple[int, ...] = (400, 600), n_before: int = 0) -> list[Any]:
    made = LabelZarr(folder, shape, "zyx"[3 - len(shape) :], 512, Scale(None, "pixel", None))
    made.create("cells", np.uint16)
    made.write("cells", (1,) * (len(shape) - 2), (slice(0, 400), slice(0, 600)), PLANE)
    made.finish("cells", {"cells": 8}, {})
    return list(label_levels(folder, "cells", n_before))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_zarr, "COARSEST", 64)


def read(levels: list[LabelLevel], cell: DiskCell) -> ReadCell:
    (event,) = read_cell(levels, cell, threading.Event())
    assert isinstance(event, ReadCell)
    assert event.cell == cell
    return event


def drawn(lines: Lines | None, size: tuple[int, int]) -> NDArray[np.uint8]:
    assert lines is not None
    canvas = np.zeros(size, np.uint8)
    height, width = lines.pixels.shape
    canvas[lines.top : lines.top + height, lines.left : lines.left + width] = lines.pixels
    return canvas


@pytest.mark.parametrize("n_axes", [2, 3, 4])
def test_the_window_holds_its_cell_alone(tmp_path: Path, n_axes: int) -> None:
    """Also of a stack, and where the layer has an axis that is not stored."""
    shape = (400, 600) if n_axes == 2 else (2, 400, 600)
    levels = levels_of(tmp_path / "a.ome.zarr", shape, int(n_axes == 4))
    plane = {2: (), 3: (1,), 4: (0, 1)}[n_axes]
    found = read(levels, DiskCell(7, plane, BOX))
    assert (found.window.start, found.window.factor) == ((100, 200), 1)
    np.testing.assert_array_equal(found.window.labels, np.where(PLANE[BOX] == 7, 7, 0))
    assert found.cell.cells.planes.shape == (1, n_axes - 2)
    if n_axes == 3:
        assert not read(levels, DiskCell(7, (0,), BOX)).window.labels.any()


def test_of_a_large_cell_a_coarser_level_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = levels_of(tmp_path / "a.ome.zarr")
    monkeypatch.setattr(cell_on_disk, "MOST_PIXELS", 80 * 100 // 4)
    found = read(levels, DiskCell(7, (), BOX))
    assert (found.window.start, found.window.factor) == ((100, 200), 2)
    assert found.window.labels.shape == (40, 50)
    monkeypatch.setattr(cell_on_disk, "MOST_PIXELS", 1)  # there is no level so coarse
    assert read(levels, DiskCell(7, (), BOX)).window.factor == levels[-1].factor


def test_what_is_edited_in_a_part_is_not_seen_here(tmp_path: Path) -> None:
    levels = levels_of(tmp_path / "a.ome.zarr")
    hole = Hole((), (slice(0, 300), slice(0, 400)), np.array([8]))
    assert not read(with_hole(levels, hole), DiskCell(7, (), BOX)).window.labels.any()


@pytest.mark.parametrize("zoom", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("factor", [1, 2])
def test_lines_are_those_of_labels_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoom: float, factor: int
) -> None:
    levels = levels_of(tmp_path / "a.ome.zarr")
    monkeypatch.setattr(cell_on_disk, "MOST_PIXELS", 80 * 100 // factor**2)
    found = read(levels, DiskCell(7, (), BOX))
    mapping = Mapping(np.array([80.2, 170.7]), np.array([[0, 1], [1, 0]]) / zoom, (300, 500))
    expected = drawn(cell_lines(PLANE, np.array([7]), BOXES, mapping), mapping.size)
    lines = found.window.lines(np.array([7]), BOXES, mapping)
    got = drawn(lines, mapping.size)
    assert (expected == BRIGHT).sum() > 100
    if factor == 1:
        np.testing.assert_array_equal(got, expected)
    else:  # a border between two pixels of the coarse level is off by one pixel at most
        places = [np.argwhere(one == BRIGHT) for one in (got, expected)]
        ends = [(at.min(axis=0), at.max(axis=0)) for at in places]
        np.testing.assert_allclose(ends[0], ends[1], atol=zoom)
    exchanged = Mapping(mapping.origin[::-1], mapping.step[::-1], mapping.size)
    lines = found.window.transposed.lines(np.array([7]), BOXES[:, [1, 0, 3, 2]], exchanged)
    other = cell_lines(PLANE.T, np.array([7]), BOXES[:, [1, 0, 3, 2]], exchanged)
    if factor == 1:
        np.testing.assert_array_equal(drawn(lines, mapping.size), drawn(other, mapping.size))
