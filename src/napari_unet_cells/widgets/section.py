"""A part of the dock that folds away."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QSizePolicy, QToolButton, QVBoxLayout, QWidget

#: Pixels; the labels of all forms of the dock, one below the other.
LABEL_WIDTH = 100


class Section(QWidget):
    """A title that shows and hides what is below it.

    Its height follows its content, whose rows come and go during a run (superqt's
    QCollapsible keeps the height it once measured, and cuts them off).

    Parameters
    ----------
    title : str
    content : QWidget
    unfolded : bool
        Whether it is so at the start.
    """

    #: Whether it was unfolded or folded.
    folded = Signal(bool)

    def __init__(self, title: str, content: QWidget, unfolded: bool = True) -> None:
        super().__init__()
        self._content = content
        self.title = QToolButton()
        self.title.setText(title)
        self.title.setCheckable(True)
        self.title.setChecked(unfolded)
        self.title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.title.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.title.setStyleSheet("font-weight: bold; text-align: left; padding: 4px;")
        self.title.toggled.connect(self._fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(content)
        self._fold(unfolded)

    def unfold(self) -> None:
        """Show the content."""
        self.title.setChecked(True)

    def _fold(self, shown: bool) -> None:
        self._content.setVisible(shown)
        self.title.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.folded.emit(not shown)


def align_labels(form: QFormLayout) -> None:
    """Give the labels of a form the width that those of all forms have."""
    for row in range(form.rowCount()):
        item = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
        if item is not None and item.widget() is not None:
            item.widget().setMinimumWidth(LABEL_WIDTH)
