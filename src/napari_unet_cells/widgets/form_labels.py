"""Align the labels of the forms on the pages of the dock."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout

#: Pixels; the labels of all forms of the dock, one below the other.
LABEL_WIDTH = 80


def align_labels(form: QFormLayout) -> None:
    """Give the labels of a form the width that those of all forms have."""
    for row in range(form.rowCount()):
        item = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
        if item is not None and item.widget() is not None:
            item.widget().setMinimumWidth(LABEL_WIDTH)
