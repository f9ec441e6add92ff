"""Dialog in which the user names classes to paint and chooses their colours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.corrections.scribbles import (
    OwnClass,
    OwnClasses,
    layer_arguments,
    proposed_color,
    stroke_colors,
)
from napari_unet_cells.errors import UserError
from napari_unet_cells.settings import recall, remember

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

#: Key of `settings`.
_LAST = "own_classes"


class ClassesDialog(QDialog):
    """Rows of name and colour.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes to paint")
        self._rows: list[tuple[QLineEdit, QPushButton]] = []
        explanation = QLabel(
            "Paint a few scribbles of each class, including the background. Training ignores "
            "pixels that are not painted."
        )
        explanation.setWordWrap(True)
        self._column = QVBoxLayout()
        add = QPushButton("Add a class")
        add.clicked.connect(lambda: self.add("", proposed_color(len(self._rows))))
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        self.problem = QLabel("")
        self.problem.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(explanation)
        layout.addLayout(self._column)
        for widget in (add, self.problem, buttons):
            layout.addWidget(widget)
        for own in OwnClasses.from_saved(recall(_LAST)).classes:
            self.add(own.name, own.color)

    def add(self, name: str, color: str) -> None:
        """Add a row."""
        edit, button = QLineEdit(name), QPushButton()
        edit.setPlaceholderText("name")
        button.setFixedWidth(40)
        button.setToolTip("Choose the colour")
        _show_color(button, color)
        button.clicked.connect(partial(self._choose_color, button))
        row = QHBoxLayout()
        row.addWidget(edit)
        row.addWidget(button)
        self._column.addLayout(row)
        self._rows.append((edit, button))

    @property
    def values(self) -> OwnClasses:
        """Classes that are filled in; rows without a name do not count."""
        return OwnClasses(
            tuple(
                OwnClass(edit.text().strip(), str(button.property("color")))
                for edit, button in self._rows
                if edit.text().strip()
            )
        )

    def _choose_color(self, button: QPushButton, checked: bool = False) -> None:
        chosen = QColorDialog.getColor(QColor(button.property("color")), self)
        if chosen.isValid():
            _show_color(button, chosen.name())

    def _accept(self) -> None:
        values = self.values
        if problem := values.problem():
            self.problem.setText(problem)
            return
        remember(_LAST, values.to_saved())
        self.accept()


def add_strokes_layer(
    viewer: Viewer, image: Image | None, classes: OwnClasses, shown: tuple[int, ...] | None
) -> Labels | None:
    """Add a layer to paint classes in, ready for the first stroke; None where it cannot be.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari image layer or None
    classes : OwnClasses
    shown : tuple of int, optional
        See `layers.image_planes.planes_for`.
    """
    from napari.utils.colormaps import DirectLabelColormap

    if image is None:
        show_warning("There is no image to paint on. Open one: File > Open Files.")
        return None
    try:
        arguments = layer_arguments(image, classes, shown)
    except UserError as error:
        show_warning(str(error))
        return None
    made = next(iter(arguments["metadata"].values()))
    data = arguments.pop("data")
    colormap = DirectLabelColormap(color_dict=stroke_colors(made))
    layer = viewer.add_labels(data, colormap=colormap, **arguments)
    layer.selected_label = 1
    layer.mode = "paint"
    named = ", ".join(f"{value} {own.name}" for value, own in enumerate(classes.classes, 1))
    show_info(f"Paint a few scribbles of each class (labels: {named}). Then export the regions.")
    return layer


def _show_color(button: QPushButton, color: str) -> None:
    button.setProperty("color", color)
    button.setStyleSheet(f"background-color: {color};")
