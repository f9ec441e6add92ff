"""Drop-down list of layers that follows the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QWidget

from napari_unet_cells.widgets.wiring import Wired

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


class LayerBox(Wired, QComboBox):
    """Shows the layers that `accepts` names and selects the one that `choose` names.

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
