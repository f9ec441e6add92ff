"""Make controls that many forms have: buttons with a name and a tooltip, and lines of text."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QPushButton


def named_button(text: str, name: str, tooltip: str = "") -> QPushButton:
    """Make a button that tests and scripts find by its object name.

    Parameters
    ----------
    text : str
    name : str
        See `QObject.objectName`.
    tooltip : str
    """
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tooltip)
    return button


def wrapped_label(name: str) -> QLabel:
    """Make an empty label for sentences, which wrap rather than widen the dock.

    Parameters
    ----------
    name : str
        See `QObject.objectName`.
    """
    label = QLabel("")
    label.setObjectName(name)
    label.setWordWrap(True)
    return label
