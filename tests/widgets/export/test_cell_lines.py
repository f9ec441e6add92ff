"""Outlines of chosen cells as a picture of the canvas, without a window."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from napari_unet_cells.widgets.export.cell_lines import (
    BRIGHT,
    CLEAR,
    DARK,
    Mapping,
    cell_lines,
)

pytestmark = pytest.mark.gui


def plane() -> np.ndarray:
    labels = np.zeros((40, 60), np.uint16)
    labels[10:20, 10:20], labels[10:20, 20:30], labels[30:38, 50:58] = 1, 2, 3
    return labels


def boxes(labels, ids) -> np.ndarray:
    found = [np.nonzero(labels == i) for i in ids]
    return np.array([[y.min(), x.min(), y.max() + 1, x.max() + 1] for y, x in found], float)


def drawn(ids, mapping, labels=None) -> np.ndarray:
    """Whole canvas."""
    labels = plane() if labels is None else labels
    canvas = np.zeros(mapping.size, np.uint8)
    lines = cell_lines(labels, np.array(ids), boxes(labels, ids), mapping)
    if lines is not None:
        height, width = lines.pixels.shape
        canvas[lines.top : lines.top + height, lines.left : lines.left + width] = lines.pixels
    return canvas


def at_zoom(zoom, origin=(-0.5, -0.5), size=(200, 300)) -> Mapping:
    return Mapping(np.array(origin, float), np.array([[0, 1 / zoom], [1 / zoom, 0]]), size)


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.export.cell_lines; "
        "assert not {'qtpy', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("zoom", [1, 4])
def test_a_line_runs_within_the_cell_and_dark_around_it(zoom):
    canvas = drawn([1], at_zoom(zoom))
    y, x = np.nonzero(canvas == BRIGHT)
    assert (y.min(), y.max() + 1) == (10 * zoom, 20 * zoom)
    assert (x.min(), x.max() + 1) == (10 * zoom, 20 * zoom)
    side = 10 * zoom
    assert len(y) == 4 * side - 4 + 4 * (side - 2) - 4  # two pixels wide at every zoom
    dark_y, dark_x = np.nonzero(canvas == DARK)
    assert (dark_y.min(), dark_x.min()) == (10 * zoom - 1, 10 * zoom - 1)
    assert canvas[15 * zoom, 15 * zoom] == CLEAR
    assert canvas[15 * zoom, 25 * zoom] == CLEAR  # the neighbour is not chosen


def test_several_cells_are_outlined_and_others_not():
    canvas = drawn([1, 2], at_zoom(1))
    assert canvas[15, 19] == canvas[15, 20] == BRIGHT  # between two chosen cells
    assert canvas[34, 50] == CLEAR
    assert (drawn([1, 2, 3], at_zoom(1))[34, 50]) == BRIGHT


def test_it_follows_the_camera():
    moved = at_zoom(2, origin=(4.5, -10.5))
    canvas = drawn([1], moved)
    y, x = np.nonzero(canvas == BRIGHT)
    assert (y.min(), x.min()) == ((10 - 5) * 2, (10 + 10) * 2)


def test_cells_out_of_view_cost_nothing():
    labels = plane()
    away = at_zoom(1, origin=(1000, 1000))
    assert cell_lines(labels, np.array([1]), boxes(labels, [1]), away) is None
    none = np.empty(0, int)
    assert cell_lines(labels, none, np.empty((0, 4)), at_zoom(1)) is None


def test_only_the_part_around_the_cells_is_looked_at():
    labels = plane()
    lines = cell_lines(labels, np.array([3]), boxes(labels, [3]), at_zoom(1))
    assert lines is not None
    assert lines.pixels.shape == (14, 14)
    assert (lines.top, lines.left) == (27, 47)


def test_a_rotated_layer_is_outlined_where_it_lies():
    step = np.array([[1.0, 0.0], [0.0, 1.0]])  # rows to the right, columns downward
    turned = Mapping(np.array([-0.5, -0.5]), step, (100, 100))
    straight = drawn([3], at_zoom(1, size=(100, 100)))
    np.testing.assert_array_equal(drawn([3], turned), straight.T)
    oblique = Mapping(np.array([0.0, 20.0]), np.array([[0.6, 0.8], [0.8, -0.6]]), (100, 100))
    canvas = drawn([1], oblique)
    assert 40 < np.count_nonzero(canvas == BRIGHT) < 90


def test_ten_thousand_cells_are_outlined_in_one_frame():
    labels = np.arange(1, 10_001, dtype=np.uint16).reshape(100, 100)
    labels = np.repeat(np.repeat(labels, 40, 0), 40, 1)
    ids = np.arange(1, 10_001)
    first = np.stack(np.divmod(ids - 1, 100), axis=1) * 40.0
    mapping = at_zoom(0.25, size=(900, 1000))
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        lines = cell_lines(labels, ids, np.hstack([first, first + 40]), mapping)
        spent.append(time.perf_counter() - begin)
    assert lines is not None
    assert min(spent) < 0.15  # 0.03 s on an idle machine; nothing grows with the cells
