"""Description of the chosen model: a window that stays open beside the work, and tooltips."""

from __future__ import annotations

import html

from qtpy.QtGui import QTextOption
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.description import about, about_text

#: Pixels: five columns of scores fit beside each other, and below a laptop's screen is room.
SIZE = (560, 620)


class AboutDialog(QDialog):
    """A card in words, to be read while the user goes on working.

    Parameters
    ----------
    parent : QWidget, optional
        With which it is destroyed, and whose theme it has.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("about_dialog")
        self._described = ""
        self.text = QTextBrowser()
        self.text.setObjectName("about_text")
        self.text.setAccessibleName("About this model")
        self.text.setOpenLinks(False)  # what a card says is shown, never followed
        # The path of a model file is one long word.
        self.text.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        buttons = QDialogButtonBox()
        # The standard button has a black cross, which is not seen on a dark theme.
        buttons.addButton("Close", QDialogButtonBox.ButtonRole.RejectRole)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
        self.resize(*SIZE)

    def show_card(self, card: ModelCard) -> None:
        """Show another model from its beginning; the same one stays where it was read."""
        self.setWindowTitle(f"About the model {card.path.stem}")
        described = about(card)
        if described != self._described:
            self._described = described
            self.text.setHtml(described)


def tooltip(card: ModelCard) -> str:
    """Give the short description with its lines as they are, and nothing of it taken for HTML."""
    return f'<p style="white-space: pre">{html.escape(about_text(card))}</p>'
