"""Widgets around a form: napari's window, and the canvas on which it draws the image."""

from __future__ import annotations

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QWidget


def main_window(widget: QWidget) -> QMainWindow | None:
    """Find napari's window; a dock that floats is a window of its own."""
    parent = widget.parentWidget()
    while parent is not None and not (
        isinstance(parent, QMainWindow) and parent.centralWidget() is not None
    ):
        parent = parent.parentWidget()
    return parent


def canvas(widget: QWidget) -> QWidget | None:
    """Find the canvas of the window that a widget is docked in."""
    window = main_window(widget)
    return None if window is None else window.centralWidget().findChild(QOpenGLWidget)


def focus_canvas(widget: QWidget) -> None:
    """Give the keyboard to the image, so that Ctrl+Z and the layer's own keys work at once."""
    found = canvas(widget)
    if found is not None:
        found.setFocus()
