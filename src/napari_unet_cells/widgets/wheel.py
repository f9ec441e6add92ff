"""Let the mouse wheel scroll a column of controls, and never change a value in it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QScrollBar,
    QWidget,
)

#: Widgets that take a turn of the wheel for a new value.
_VALUES = (QAbstractSlider, QAbstractSpinBox, QComboBox)


class WheelGuard(QObject):
    """Pass the wheel on from the controls of a column to what scrolls it.

    A value that changes under a hand that only wanted to scroll changes results in silence.
    Controls that are added later are guarded, too.

    Parameters
    ----------
    column : QWidget
        Also the parent that keeps the guard.
    """

    def __init__(self, column: QWidget) -> None:
        super().__init__(column)
        self._watch(column)

    def _watch(self, widget: QWidget) -> None:
        for each in (widget, *widget.findChildren(QWidget)):
            each.installEventFilter(self)  # a second time changes nothing
            if _takes_wheel(each) and each.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                each.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Send the wheel to the scroll area where it would change a value."""
        if event.type() == QEvent.Type.ChildPolished:
            child = event.child()
            if isinstance(child, QWidget):
                self._watch(child)
        elif event.type() == QEvent.Type.Wheel and _takes_wheel(watched):
            _scroll_around(watched, event)
            return True
        return False


def _scroll_around(widget: QWidget, event: QEvent) -> None:
    """Let the nearest scroll area have the wheel instead of a widget in it."""
    around = widget.parentWidget()
    while around is not None and not isinstance(around, QAbstractScrollArea):
        around = around.parentWidget()
    if around is not None:
        QApplication.sendEvent(around.viewport(), event.clone())
    event.accept()


def _takes_wheel(widget: QObject) -> bool:
    """Tell whether the wheel over a widget does something else than scroll the column.

    A drawing of matplotlib takes it and does nothing with it; it is told by its class's name,
    so that matplotlib need not be loaded.
    """
    if isinstance(widget, _VALUES):
        return not isinstance(widget, QScrollBar)
    return any(cls.__name__ == "FigureCanvasQT" for cls in type(widget).__mro__)
