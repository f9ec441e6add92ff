"""Dialog of a new list: which images, where the results go, and how they are segmented."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.batch.image_list import results_folder
from napari_unet_cells.files.reading import IMAGE_SUFFIXES
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.folder.at_hand import AtHand
from napari_unet_cells.widgets.folder.values import FolderValues

#: Pixels; a path of usual length is seen as a whole.
WIDTH = 560


class FolderDialog(QDialog):
    """Asks for the images of a list.

    Parameters
    ----------
    proposed : FolderValues
    at_hand : AtHand
        Model and options, for a sentence.
    parent : QWidget, optional
    """

    def __init__(
        self, proposed: FolderValues, at_hand: AtHand, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("folder_dialog")
        self.setWindowTitle("Segment a folder")
        self.at_hand = at_hand
        self._own_output = False
        self.fields = Fields(proposed)
        self.fields.native("images").setObjectName("folder_images")
        self.fields.native("output").setObjectName("folder_output")
        self.folder_button = QPushButton("Folder...")
        self.files_button = QPushButton("Files...")
        self.output_button = QPushButton("Another folder for the results...")
        self.settings = QLabel(at_hand.sentence)
        self.note = QLabel("")
        self.note.setObjectName("folder_note")
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.start_button = self.buttons.button(kinds.Ok)
        self.start_button.setText("Start")
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.fields.add_to(form)
        self.fields.native("format").setObjectName("folder_format")
        self.fields.native("track").setObjectName("folder_track")
        row = QHBoxLayout()
        for button in (self.folder_button, self.files_button):
            row.addWidget(button)
        form.insertRow(1, "", row)
        form.insertRow(3, "", self.output_button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for label in (self.settings, self.note):
            label.setWordWrap(True)
            layout.addWidget(label)
        layout.addStretch()
        layout.addWidget(self.buttons)
        self.setMinimumWidth(WIDTH)

    def _connect(self) -> None:
        self.folder_button.clicked.connect(self._ask_folder)
        self.files_button.clicked.connect(self._ask_files)
        self.output_button.clicked.connect(self._ask_output)
        self.fields.widgets["images"].changed.connect(self._propose)
        self.fields.native("output").textEdited.connect(self._own)
        for name in ("format", "track"):
            self.fields.widgets[name].changed.connect(self._say)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)

    @property
    def values(self) -> FolderValues:
        """Images and results as they are named now."""
        return self.fields.values

    def choose(self, *named: str) -> None:
        """Take a folder, or files; the results go beside them."""
        if named:
            self.fields.widgets["images"].value = FolderValues.of(named).images

    def _propose(self, *_: object) -> None:
        """Name a folder for the results of these images, unless the user named one."""
        named = self.values.named
        if named and not self._own_output:
            self.fields.widgets["output"].value = str(results_folder(named))
        self.note.setText("")

    def _say(self, *_: object) -> None:
        """Say with what the images are segmented now."""
        self.settings.setText(self.asked.sentence)
        self.note.setText("")

    @property
    def asked(self) -> AtHand:
        """Model and options, with what is chosen here."""
        return self.at_hand.asked(self.values)

    def _own(self, *_: object) -> None:
        """Keep the folder for the results that the user named."""
        self._own_output = True

    def _ask_folder(self, checked: bool = False) -> None:
        named = self.values.named
        chosen = QFileDialog.getExistingDirectory(
            self, "Choose a folder of images", named[0] if named else ""
        )
        self.choose(*filter(None, (chosen,)))

    def _ask_files(self, checked: bool = False) -> None:
        named = self.values.named
        kinds = " ".join(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
        chosen, _ = QFileDialog.getOpenFileNames(
            self, "Choose images", named[0] if named else "", f"Images ({kinds});;All files (*)"
        )
        self.choose(*chosen)

    def _ask_output(self, checked: bool = False) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Choose a folder for the results", str(self.values.folder.parent)
        )
        if chosen:
            self._own()
            self.fields.widgets["output"].value = chosen

    def accept(self) -> None:
        """Take the list; what is wrong with it is said, and the dialog stays."""
        problem = self.asked.problem() or self.values.problem()
        if problem is not None:
            self.note.setText(problem)
            return
        super().accept()
