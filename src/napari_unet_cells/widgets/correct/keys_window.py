"""Window that lists all keys."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QWidget

from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.correct.keys import all_keys


class KeysWindow(QDialog):
    """Lists the keys beside the work: it stays open, and its Escape closes it.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of U-Net Cells")
        self.setObjectName("keys_window")
        layout = QGridLayout(self)
        layout.setHorizontalSpacing(16)
        layout.setVerticalSpacing(3)
        where = ""
        for row in all_keys(preferences()):
            if row.where != where:
                where = row.where
                title = QLabel(where.capitalize())
                title.setStyleSheet("font-weight: bold; padding-top: 6px;")
                layout.addWidget(title, layout.rowCount(), 0, 1, 2)
            line = layout.rowCount()
            layout.addWidget(QLabel(row.key), line, 0, Qt.AlignmentFlag.AlignRight)
            layout.addWidget(QLabel(row.does), line, 1)
        changed = QLabel("Those that work anywhere can be changed: File > Preferences.")
        layout.addWidget(changed, layout.rowCount(), 0, 1, 2)
