"""Form that chooses the model, the cell diameter, test-time augmentation and the part."""

from __future__ import annotations

from dataclasses import replace

from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSizePolicy, QWidget

from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.models.catalogue import DEFAULT_MODEL, default_model, installed_models
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.about import AboutDialog, tooltip
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.segment.values import SegmentValues

#: Pixels of the image; where nothing says how wide cells are.
USUAL_DIAMETER = 30.0

#: Pixels; height and width of the round buttons at the end of a row.
ROUND = 22


class ModelForm(QWidget):
    """Model, cell diameter, test-time augmentation, part; `changed` names another model."""

    changed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._cards: dict[str, ModelCard] = {}
        self._about: AboutDialog | None = None
        self._running = False
        self._estimated = 0.0
        self._build()
        self.show_diameter()
        self.model_box.currentTextChanged.connect(self._model_changed)
        self.about_button.clicked.connect(self._open_about)

    def _build(self) -> None:
        self.fields = Fields(SegmentValues(), model={"choices": [""]})
        self.model_box = self.fields.native("model")
        self.model_box.setObjectName("model_box")
        self.diameter_box = self.fields.native("diameter")
        self.diameter_box.setObjectName("diameter_box")
        self.diameter_box.setSuffix(" px")
        self.diameter_box.setDecimals(0)
        self.augment_box = self.fields.native("augment")
        self.augment_box.setObjectName("augment_box")
        self.where_box = self.fields.native("where")
        self.where_box.setObjectName("where_box")
        # One letter, so that names of models have room; who cannot see it hears the words.
        self.about_button = _round_button("i", "about_model", "About this model")
        self.circle_button = _round_button("○", "size_circle_button", "Show the cell size")
        self.circle_button.setCheckable(True)
        self.circle_button.setToolTip(
            "Show the cell size as a circle in the image: move it onto a cell, and draw its line "
            "out to fit."
        )
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Model", _row(self.model_box, self.about_button))
        label = self.fields.widgets["diameter"].label
        form.addRow(label, _row(self.diameter_box, self.circle_button))
        self.fields.add_to(form, "augment", "where")
        align_labels(form)

    def fill(self) -> None:
        """List the models for the first time; a default that is not installed is said."""
        preferred = preferences().default_model
        if preferred and preferred not in installed_models():
            show_warning(
                f"There is no model '{preferred}', which the preferences name as the default. "
                "Change it under File > Preferences."
            )
        self.list_models(default_model())

    def list_models(self, chosen: str = "") -> None:
        """List the models that are installed now.

        Parameters
        ----------
        chosen : str
            The one to select; by default that of before. It is warmed up where it is another.
        """
        before = self.model_box.currentText()
        self._cards = installed_models()
        self.model_box.blockSignals(True)
        self.fields.widgets["model"].choices = list(self._cards)
        for row, card in enumerate(self._cards.values()):
            self.model_box.setItemData(row, tooltip(card), Qt.ItemDataRole.ToolTipRole)
        for wanted in (chosen, before, default_model(), DEFAULT_MODEL):
            if wanted in self._cards:
                self.model_box.setCurrentText(wanted)
                break
        self.model_box.blockSignals(False)
        self._show_card()
        if self.model_box.currentText() != before:
            self._model_changed(self.model_box.currentText())

    def _model_changed(self, name: str) -> None:
        self._show_card()
        self._show_augment()
        self.changed.emit(name)

    @property
    def values(self) -> SegmentValues:
        """Values of the form, for an image that is not chosen here."""
        values = self.fields.values
        return replace(values, model=values.model or "")

    @property
    def card(self) -> ModelCard | None:
        """Card of the chosen model; None where none is installed."""
        return self._cards.get(self.model_box.currentText())

    def _show_card(self) -> None:
        """Describe the chosen model in the tooltip, and in the window where it is open."""
        card = self.card
        self.model_box.setToolTip("" if card is None else tooltip(card))
        self.about_button.setEnabled(card is not None)
        self.about_button.setToolTip(
            "No model is installed" if card is None else "About this model: what it is good for"
        )
        if self._about is None:
            return
        if card is None:
            self._about.close()
        else:
            self._about.show_card(card)

    def _open_about(self) -> None:
        if self._about is None:
            self._about = AboutDialog(self)
        self._show_card()
        self._about.show()
        self._about.raise_()
        self._about.activateWindow()  # Escape closes it

    def show_diameter(self, estimated: float = 0.0) -> None:
        """Show what 0, the special value, stands for."""
        self._estimated = estimated
        text = f"auto: {estimated:.0f} px" if estimated else "auto"
        self.diameter_box.setSpecialValueText(text)

    @property
    def shown_diameter(self) -> float:
        """Diameter that is typed, else the estimated one, else that of the model's cells."""
        card = self.card
        trained = 0.0 if card is None else card.typical_diameter
        return self.values.diameter or self._estimated or trained or USUAL_DIAMETER

    def show_running(self, running: bool) -> None:
        """Keep the form from being changed during a run."""
        self._running = running
        self.model_box.setEnabled(not running)
        self.diameter_box.setEnabled(not running)
        self.where_box.setEnabled(not running)
        self._show_augment()

    def _show_augment(self) -> None:
        """Offer the choice where it changes something: only networks of cells are augmented."""
        card = self.card
        self.augment_box.setEnabled(not self._running and card is not None and card.makes_cells)


def _round_button(text: str, name: str, spoken: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setAccessibleName(spoken)
    button.setFixedSize(ROUND, ROUND)
    button.setStyleSheet(f"font-weight: bold; padding: 0px; border-radius: {ROUND // 2}px;")
    return button


def _row(wide: QWidget, button: QPushButton) -> QHBoxLayout:
    wide.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    row = QHBoxLayout()
    row.addWidget(wide, 1)
    row.addWidget(button)
    return row
