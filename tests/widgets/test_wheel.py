"""The wheel over a column of controls scrolls it and changes no value."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QScrollArea,
    QScrollBar,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.widgets.wheel import WheelGuard

pytestmark = pytest.mark.gui


def turn_wheel(widget: QWidget, notches: int = -1) -> None:
    centre = QPointF(widget.rect().center())
    event = QWheelEvent(
        centre,
        QPointF(widget.mapToGlobal(widget.rect().center())),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def value_of(widget: QWidget) -> object:
    return widget.currentIndex() if isinstance(widget, QComboBox) else widget.value()


@pytest.fixture
def area(qtbot):
    """Scroll area of a column that is far higher than it, at the top."""
    area, column = QScrollArea(), QWidget()
    layout = QVBoxLayout(column)
    combo = QComboBox()
    combo.addItems(["a", "b", "c"])
    combo.setCurrentIndex(1)
    for widget in (QSpinBox(), QDoubleSpinBox(), QSlider(Qt.Orientation.Horizontal), combo):
        if not isinstance(widget, QComboBox):
            widget.setValue(5)
        layout.addWidget(widget)
    filler = QLabel()
    filler.setFixedHeight(2000)
    layout.addWidget(filler)
    area.setWidget(column)
    area.setWidgetResizable(True)
    area.resize(300, 200)
    qtbot.addWidget(area)
    area.show()
    qtbot.waitExposed(area)
    assert area.verticalScrollBar().value() == 0
    return area


VALUES = [QSpinBox, QDoubleSpinBox, QSlider, QComboBox]


@pytest.mark.parametrize("kind", VALUES)
def test_without_the_guard_a_value_changes(area, kind):
    widget = area.widget().findChild(kind)
    before = value_of(widget)
    turn_wheel(widget)
    assert value_of(widget) != before


@pytest.mark.parametrize("kind", VALUES)
def test_the_wheel_scrolls_and_changes_no_value(area, kind):
    WheelGuard(area.widget())
    widget = area.widget().findChild(kind)
    widget.setFocus()
    before = value_of(widget)
    turn_wheel(widget)
    assert value_of(widget) == before
    assert area.verticalScrollBar().value() > 0


def test_a_control_that_is_added_later_is_guarded(qtbot, area):
    WheelGuard(area.widget())
    inner = QWidget()
    layout = QVBoxLayout(inner)
    late = QSpinBox()
    late.setValue(5)
    layout.addWidget(late)
    area.widget().layout().insertWidget(0, inner)
    qtbot.waitUntil(late.isVisible)
    turn_wheel(late)
    assert late.value() == 5
    assert area.verticalScrollBar().value() > 0


def test_the_wheel_over_a_drawing_scrolls(qtbot, area):
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    WheelGuard(area.widget())
    canvas = FigureCanvasQTAgg(Figure(figsize=(2, 1)))
    area.widget().layout().insertWidget(0, canvas)
    qtbot.waitUntil(canvas.isVisible)
    turn_wheel(canvas)
    assert area.verticalScrollBar().value() > 0


def test_scroll_bars_keep_the_wheel(area):
    WheelGuard(area.widget())
    turn_wheel(area.verticalScrollBar())
    assert area.verticalScrollBar().value() > 0


def test_no_control_of_the_dock_follows_the_wheel(qtbot, make_napari_viewer):
    from napari_unet_cells.widgets.dock import UNetCellsDock

    dock = UNetCellsDock(make_napari_viewer())
    qtbot.addWidget(dock)
    controls = [
        widget
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider)
        for widget in dock.findChildren(kind)
        if not isinstance(widget, QScrollBar)
    ]
    assert len(controls) > 8
    before = [value_of(widget) for widget in controls]
    for widget in controls:
        turn_wheel(widget)
        turn_wheel(widget, 1)
        turn_wheel(widget, -1)
    assert [value_of(widget) for widget in controls] == before
