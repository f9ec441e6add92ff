"""Outlines over the canvas of a real window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet_cells.widgets.export.cell_lines import BRIGHT
from napari_unet_cells.widgets.export.table import open_table
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    stack = np.zeros((2, 60, 80), np.uint16)
    stack[:, 10:20, 10:20], stack[0, 30:50, 40:60] = 1, 2
    viewer.add_labels(stack, name="cells")
    viewer.dims.set_point(0, 0)
    return viewer


@pytest.fixture
def table(qtbot, viewer):
    table = open_table(viewer, viewer.layers["cells"])
    qtbot.waitUntil(lambda: not table.measuring.busy, timeout=20_000)
    qtbot.waitUntil(table.isVisible, timeout=5_000)
    return table


def lines(table):
    picture = table.outlines.picture
    return None if picture is None or not picture.isVisible() else picture.lines


def corner(viewer, y, x):
    """Place on the canvas of the corner of a pixel."""
    camera, (height, width) = camera_of(viewer), canvas_size(viewer)
    return (
        (y - 0.5 - camera.center[-2]) * camera.zoom + height / 2,
        (x - 0.5 - camera.center[-1]) * camera.zoom + width / 2,
    )


def bright(table):
    found = lines(table)
    y, x = np.nonzero(found.pixels == BRIGHT)
    return found.top + y.min(), found.left + x.min()


def test_the_cell_of_a_row_is_outlined_where_it_is_seen(qtbot, viewer, table):
    assert lines(table) is None
    table.view.selectRow(1)  # cell 2 in plane 0
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=5_000)
    np.testing.assert_allclose(bright(table), corner(viewer, 30, 40), atol=1.5)

    camera = camera_of(viewer)
    camera.zoom *= 1.7
    camera.center = (0, 45, 55)
    expected = corner(viewer, 30, 40)
    qtbot.waitUntil(lambda: np.allclose(bright(table), expected, atol=1.5), timeout=5_000)


def test_outlines_go_with_the_plane_the_layer_and_the_table(qtbot, viewer, table):
    def seen(there):
        qtbot.waitUntil(lambda: (lines(table) is not None) == there, timeout=5_000)

    layer = viewer.layers["cells"]
    table.view.selectRow(1)
    seen(True)
    viewer.dims.set_point(0, 1)  # cell 2 is not there
    seen(False)
    viewer.dims.set_point(0, 0)
    seen(True)
    layer.visible = False
    seen(False)
    layer.visible = True
    seen(True)
    table.parentWidget().hide()
    seen(False)
    table.parentWidget().show()
    seen(True)
    table.delete_button.click()
    viewer.layers.remove(layer)
    seen(False)


def test_a_closed_table_takes_its_outlines_along(qtbot, viewer, table):
    table.view.selectRow(1)
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=5_000)
    picture = table.outlines.picture
    gone = []
    picture.destroyed.connect(lambda: gone.append(True))
    table.parentWidget().destroyOnClose()
    qtbot.waitUntil(lambda: bool(gone), timeout=5_000)


def test_an_edit_is_followed(qtbot, viewer, table):
    layer = viewer.layers["cells"]
    table.view.selectRow(1)
    qtbot.waitUntil(lambda: lines(table) is not None, timeout=5_000)
    before = np.count_nonzero(lines(table).pixels == BRIGHT)
    block = np.mgrid[0:1, 30:50, 50:60]
    layer.data_setitem(tuple(axis.ravel() for axis in block), 0)  # the right half of the cell
    qtbot.waitUntil(
        lambda: np.count_nonzero(lines(table).pixels == BRIGHT) < 0.9 * before, timeout=5_000
    )
