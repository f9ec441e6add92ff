"""Page of the dock: a column that scrolls up and down only."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_unet_cells.widgets.wheel import WheelGuard

#: Pixels; narrower, the names of layers cannot be told apart, and the title of the dock is cut off.
MINIMUM_WIDTH = 316


class Page(QScrollArea):
    """One step of the work. It is never narrower than what it holds.

    On a laptop's screen it need not scroll; on a smaller one it can.

    Parameters
    ----------
    content : QWidget
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column = QWidget()
        layout = QVBoxLayout(column)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(content)
        layout.addStretch()
        self.setWidget(column)
        WheelGuard(column)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the width of the column, which changes with what is shown."""
        handled = bool(super().eventFilter(watched, event))
        column = self.widget()
        if event.type() == QEvent.Type.LayoutRequest and watched == column:
            edges = self.contentsMargins()
            beside = self.verticalScrollBar().sizeHint().width() + edges.left() + edges.right()
            needed = column.minimumSizeHint().width() + beside
            self.setMinimumWidth(max(MINIMUM_WIDTH, needed))
        return handled
