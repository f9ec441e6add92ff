"""Form that chooses the image, its pixel size, cell diameter, channel and planes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_unet_cells.files import FileAxes, file_axes
from napari_unet_cells.files.pixel_size import SYMBOLS
from napari_unet_cells.layers.metadata import file_of, set_input_metadata
from napari_unet_cells.layers.pixel_size import PixelSize, image_pixel_size, typed_pixel_size
from napari_unet_cells.layers.selection import image_for, image_layers
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.layer_box import LayerBox
from napari_unet_cells.widgets.segment.stack_form import StackForm
from napari_unet_cells.widgets.segment.values import PixelSizeValues
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer


class ImageForm(QWidget):
    """The image to segment; `changed` comes when another one is chosen.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._layer: Any = None
        self._looking = Worker(self)
        self.image_box = LayerBox(viewer, image_layers, image_for)
        self.image_box.setToolTip("The image to segment. It follows the active layer.")
        self.fields = Fields(PixelSizeValues())
        self.pixel_size = self.fields.native("width")
        self.pixel_size.setObjectName("pixel_size")
        self.pixel_size.setSpecialValueText("unknown")
        self.pixel_size.setEnabled(False)
        self.stack_form = StackForm()
        form = QFormLayout()
        form.addRow("Image", self.image_box)
        self.fields.add_to(form)
        align_labels(form)
        align_labels(self.stack_form.form)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.stack_form)
        self.image_box.currentIndexChanged.connect(self._show_image)
        self.pixel_size.editingFinished.connect(self._keep_pixel_size)
        self._looking.progressed.connect(self._show_file)
        self._show_image()

    @property
    def layer(self) -> Image | None:
        """The chosen layer, or None."""
        return self.image_box.layer

    def _show_image(self, *_: object) -> None:
        """Show what is known of the chosen image."""
        layer = self.layer
        if layer is self._layer:  # the list was filled again
            return
        self._layer = layer
        self.stack_form.show_layer(layer)
        self.pixel_size.setEnabled(False)
        self.pixel_size.setValue(0.0)
        if layer is not None:  # its file may lie on a slow disk
            size, path = image_pixel_size(layer), file_of(layer)
            self._looking.start(partial(_look, layer, size, path))
        self.changed.emit()

    def _show_file(self, event: object) -> None:
        assert isinstance(event, _Looked)
        if event.image is not self.layer:
            return
        self.stack_form.show_file(event.axes)
        known = event.size.unit != "pixel"
        told = known and event.size == typed_pixel_size(event.image)
        self.pixel_size.setEnabled(told or not known)
        unit = event.size.unit if known else "micrometer"
        self.pixel_size.setSuffix(f" {SYMBOLS.get(unit, unit)}")
        self.pixel_size.setValue(event.size.x if known else 0.0)
        self.pixel_size.setToolTip(
            "Width of a pixel, from the layer or its file."
            if known and not told
            else "Neither the layer nor its file states the width of a pixel: type it here."
        )

    def _keep_pixel_size(self) -> None:
        values = self.fields.values
        if self.layer is not None and self.pixel_size.isEnabled() and values.problem() is None:
            set_input_metadata(self.layer, pixel_size=values.told)


@dataclass(frozen=True)
class _Looked:
    """What the file of an image says."""

    image: Image
    size: PixelSize
    axes: FileAxes


def _look(
    image: Image, size: Callable[[], PixelSize], path: Path | None, stop: threading.Event
) -> Generator[_Looked, None, None]:
    yield _Looked(image, size(), FileAxes() if path is None else file_axes(path))
