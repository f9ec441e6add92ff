"""Drop-down list of the results of an image."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

from napari_unet_cells.segmentation.earlier import MOST
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.segment.earlier_results import Choice

TOOLTIP = (
    "The results of this image. A run replaces what you have not corrected; the earlier results "
    "come back from here as you left them, with your corrections, and Ctrl+Z takes that back.\n"
    f"Kept until the image is closed: the last {MOST}, and all that you corrected."
)

#: Pixels beside the names in the open list, for the frame and the scroll bar.
MARGIN = 24


class _Box(QComboBox):
    """Tells when its list is going to open."""

    opening = Signal()

    def showPopup(self) -> None:
        self.opening.emit()
        super().showPopup()


class ResultBox(QWidget):
    """Shows which result of the image is shown; it is hidden where there is no other.

    `chosen` comes with the number of the result that the user chose, from the newest; `opening`
    before the list opens, since what was corrected or undone is noticed a moment later.
    """

    chosen = Signal(int)
    opening = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.box = _Box()
        self.box.setObjectName("result_box")
        self.box.setPlaceholderText("removed; choose one")
        self.box.setToolTip(TOOLTIP)
        # By its longest entry the form would be wider than a narrow dock.
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Result", self.box)
        align_labels(form)
        self.box.activated.connect(self.chosen)
        self.box.opening.connect(self.opening)
        self.setVisible(False)

    def show_choice(self, choice: Choice) -> None:
        """Offer the results of an image."""
        self.box.clear()
        self.box.addItems(choice.names)
        for number, name in enumerate(choice.names):
            self.box.setItemData(number, name, Qt.ItemDataRole.ToolTipRole)
        self.box.setCurrentIndex(choice.shown)
        self.box.setToolTip(self.box.currentText() + "\n" + TOOLTIP if choice.names else TOOLTIP)
        # The list may be wider than the dock.
        self.box.view().setMinimumWidth(self.box.view().sizeHintForColumn(0) + MARGIN)
        self.setVisible(bool(choice.names))
