"""Dialog that asks for the folder of a dataset, and makes a new one."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.datasets.index import INDEX
from napari_unet_cells.widgets.controls import wrapped_label
from napari_unet_cells.widgets.export.values import DatasetFolder
from napari_unet_cells.widgets.fields import Fields

#: Pixels; a path of usual length is seen as a whole.
WIDTH = 480


class DatasetDialog(QDialog):
    """Asks for a dataset: one that is there, or the name of a new one.

    Dialogs for folders cannot make a folder on every desktop, so here the name is typed, and the
    folder is made when the user accepts.

    Parameters
    ----------
    proposed : DatasetFolder
    parent : QWidget, optional
    """

    def __init__(self, proposed: DatasetFolder, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("dataset_dialog")
        self.setWindowTitle("Approved regions to a dataset")
        self.fields = Fields(proposed)
        self.fields.native("parent").setObjectName("dataset_parent")
        self.fields.native("name").setObjectName("dataset_name")
        browse = QPushButton("Choose...")
        browse.setToolTip("Choose the folder, or a dataset to add to.")
        browse.clicked.connect(self._browse)
        self.note = wrapped_label("dataset_note")
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.add_button = self.buttons.button(kinds.Ok)
        self.add_button.setText("Add the regions")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.fields.add_to(form)
        form.insertRow(1, "", browse)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addStretch()
        layout.addWidget(self.buttons)
        self.setMinimumWidth(WIDTH)
        self.fields.changed.connect(self._describe)
        self._describe()

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        return self.fields.values.folder

    def _describe(self) -> None:
        self.note.setText(self.fields.values.describe())
        self.add_button.setEnabled(self.fields.values.problem() is None)

    def _browse(self, checked: bool = False) -> None:
        start = self.fields.values.folder
        start = start if start.is_dir() else start.parent
        chosen = QFileDialog.getExistingDirectory(self, "Choose a folder", str(start))
        if chosen:
            self.choose(Path(chosen))

    def choose(self, folder: Path) -> None:
        """Take a dataset, or a folder to make one in."""
        if (folder / INDEX).is_file():
            known = DatasetFolder.of(folder)
            self.fields.widgets["name"].value = known.name
            folder = Path(known.parent)
        self.fields.widgets["parent"].value = str(folder)

    def accept(self) -> None:
        """Make the folder; where the disk refuses, it is said and the dialog stays."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            self.note.setText(
                f"The folder cannot be made: {error.strerror or error}. Choose another one."
            )
            return
        super().accept()
