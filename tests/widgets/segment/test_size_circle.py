"""The circle of the cell size over the image."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent

from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.napari_versions import camera_of

pytestmark = pytest.mark.gui


@pytest.fixture
def dock(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((200, 300)), name="nuclei")
    return viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]


def move(circle, start: QPoint, end: QPoint) -> None:
    """Drag by events alone: QTest does not hold a button while it moves the mouse."""
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier

    def event(kind, place):
        return QMouseEvent(
            kind, QPointF(place), circle.mapToGlobal(QPointF(place)), left, left, none
        )

    circle.mousePressEvent(event(QEvent.Type.MouseButtonPress, start))
    circle.mouseMoveEvent(event(QEvent.Type.MouseMove, end))


def test_the_circle_shows_the_size_and_drawing_it_out_sets_it(dock):
    form, button = dock.segment.model_form, dock.segment.model_form.circle_button
    form.diameter_box.setValue(40)
    button.click()
    circle = dock.segment._circle
    assert circle.parentWidget() is canvas(dock)
    assert circle.diameter == 40
    radius, middle = circle.width() // 2, circle.rect().center()
    move(circle, middle + QPoint(radius - 7, 0), middle + QPoint(2 * (radius - 6), 0))
    assert form.diameter_box.value() == pytest.approx(80, rel=0.1)
    assert circle.diameter == pytest.approx(80, rel=0.1)
    form.diameter_box.setValue(55)
    assert circle.diameter == 55


def test_inside_it_is_moved_and_the_size_stays(dock):
    form = dock.segment.model_form
    form.diameter_box.setValue(60)
    form.circle_button.click()
    circle = dock.segment._circle
    before, middle = circle.geometry().center(), circle.rect().center()
    move(circle, middle, middle + QPoint(20, 10))
    assert circle.geometry().center() - before == QPoint(20, 10)
    assert form.diameter_box.value() == 60


def test_it_follows_the_zoom_and_the_image(dock):
    form, viewer = dock.segment.model_form, dock._viewer
    form.diameter_box.setValue(60)
    form.circle_button.click()
    width = dock.segment._circle.width()
    camera_of(viewer).zoom *= 2
    assert dock.segment._circle.width() == pytest.approx(2 * width, abs=15)
    viewer.layers.clear()
    assert dock.segment._circle is None
    viewer.add_image(np.zeros((40, 50)))
    assert dock.segment._circle is not None


def test_it_is_there_on_its_page_and_in_two_dimensions_only(dock):
    dock.segment.model_form.circle_button.click()
    assert dock.segment._circle is not None
    dock.open("Correct")
    assert dock.segment._circle is None
    dock.open("Segment")
    assert dock.segment._circle is not None
    dock._viewer.dims.ndisplay = 3
    assert dock.segment._circle is None
    dock._viewer.dims.ndisplay = 2
    assert dock.segment._circle is not None
