"""Drop-down list of layers that follows the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
    QWidget,
)

from napari_unet_cells.widgets.wiring import Wired

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


class LayerBox(Wired, QComboBox):
    """Shows the layers that `accepts` names and selects the one that `choose` names.

    A name that is too long is cut in its middle, where names of files are most alike; the
    tooltip has all of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    accepts : callable (layers) -> list of layers
    choose : callable (active layer, layers, layer shown so far) -> layer or None
        Asked whenever another layer becomes active or the list changes.
    """

    def __init__(
        self,
        viewer: Viewer,
        accepts: Callable[[Iterable[Layer]], list[Layer]],
        choose: Callable[[Layer | None, Iterable[Layer], Layer | None], Layer | None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts, self._choose = viewer, accepts, choose
        self._layers: list[Layer] = []
        # A long name must not widen the dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._of_layers = self.wiring.part()
        events = viewer.layers.events
        self.wiring.connect(self._refill, events.inserted, events.removed, events.reordered)
        self.wiring.connect(self._follow, viewer.layers.selection.events.active)
        self._refill()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the box with the middle of a long name left out."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self._shortened(option)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _shortened(self, option: QStyleOptionComboBox) -> str:
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        # The label keeps some pixels of the field free.
        room = field.width() - 6
        cut: str = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideMiddle, room
        )
        return cut

    def event(self, event: QEvent) -> bool:
        """Begin the tooltip with the whole name."""
        if event.type() == QEvent.Type.ToolTip and self.currentText():
            QToolTip.showText(event.globalPos(), f"{self.currentText()}\n{self.toolTip()}", self)
            return True
        return bool(super().event(event))

    def setEnabled(self, enabled: bool) -> None:
        """Follow the active layer again, which may have changed meanwhile."""
        super().setEnabled(enabled)
        if enabled:
            self._select(self.layer)

    def _refill(self, event: object = None) -> None:
        current = self.layer
        self._of_layers.release()
        self._layers = self._accepts(self._viewer.layers)
        self._of_layers.connect(self._rename, *(layer.events.name for layer in self._layers))
        # One signal, at the end: for a moment no layer is chosen, which nobody should see.
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        self._select(current)
        self.blockSignals(False)
        self.currentIndexChanged.emit(self.currentIndex())

    def _follow(self, event: object = None) -> None:
        # The active layer is None for a moment whenever it changes.
        if self.isEnabled() and self._viewer.layers.selection.active is not None:
            self._select(self.layer)

    def _select(self, current: Layer | None) -> None:
        active = self._viewer.layers.selection.active if self.isEnabled() else None
        chosen = self._choose(active, self._viewer.layers, current)
        if chosen in self._layers:
            self.setCurrentIndex(self._layers.index(chosen))

    def _rename(self, event: object = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)
