"""Export section of the dock: labels as files for other programs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.regions import describe_regions
from napari_unet_cells.corrections.approved_regions import Approved, approved_of
from napari_unet_cells.corrections.autosave import note_written
from napari_unet_cells.corrections.dataset_writer import Added, Unchanged, add, files_of
from napari_unet_cells.corrections.large_regions import large_approved
from napari_unet_cells.errors import UserError
from napari_unet_cells.export.exporters import (
    EXPORTERS,
    Export,
    ImageChannels,
    image_channels,
    proposed_path,
)
from napari_unet_cells.layers.export_source import (
    ExportSource,
    export_record,
    export_source,
    pixel_size,
    plane_step,
)
from napari_unet_cells.layers.metadata import fitting_review
from napari_unet_cells.layers.selection import labels_for, labels_layers, source_path
from napari_unet_cells.layers.transforms import describe_transform
from napari_unet_cells.segmentation.zarr_export import LargeExport
from napari_unet_cells.segmentation.zarr_table import state_of
from napari_unet_cells.settings import LAST_DATASET, preferences, recall, remember
from napari_unet_cells.widgets.export.dataset_dialog import DatasetDialog
from napari_unet_cells.widgets.export.large_formats import LARGE_EXPORTS, MOVIE_EXPORTS
from napari_unet_cells.widgets.export.large_table import (
    LargeTable,
    look_at_large_tables,
    open_large_table,
)
from napari_unet_cells.widgets.export.measurement import fragments_of, means_of
from napari_unet_cells.widgets.export.table import open_table
from napari_unet_cells.widgets.export.values import (
    DatasetFolder,
    DatasetValues,
    ExportValues,
    file_names,
    labels_problem,
    large_remark,
    large_result,
    unfinished_problem,
)
from napari_unet_cells.widgets.fields import Fields
from napari_unet_cells.widgets.form_labels import align_labels
from napari_unet_cells.widgets.layer_box import LayerBox
from napari_unet_cells.widgets.opening import ask_and_open
from napari_unet_cells.widgets.wiring import Wired, emitters
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

#: Key of `recall`: format that was exported to last.
LAST_FORMAT = "export_format"

#: Events of a labels layer after which its run may have come to its end.
_STATE_EVENTS = ("name", "visible", "editable")


class ExportSection(Wired, QWidget):
    """Labels, a list of formats, and one button; the table; datasets.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: Folder of a dataset that regions were added to.
    dataset_written = Signal(str)
    #: Folder of an OME-Zarr whose table holds all cells as they are.
    table_followed = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._remark = ""
        self._counts = Counter[str]()
        self._dataset: Path | None = None
        self._tables = WeakSet[LargeTable]()
        # Not a daemon: closing napari waits until the file is written.
        self.worker = Worker(self, daemon=False)
        self._of_labels = self.wiring.part()
        self._build()
        self._lay_out()
        self._connect()
        self._follow_labels()

    def _build(self) -> None:
        self.labels_box = LayerBox(self._viewer, labels_layers, labels_for)
        self.labels_box.setObjectName("export_labels_box")
        self.labels_box.setToolTip("The labels to export. It follows the layer list.")
        last = recall(LAST_FORMAT)
        self.fields = Fields(ExportValues(format=last) if last in EXPORTERS else ExportValues())
        self.format_box = self.fields.native("format")
        self.format_box.setObjectName("export_format_box")
        for row, exporter in enumerate(EXPORTERS.values()):
            self.format_box.setItemData(row, exporter.about, Qt.ItemDataRole.ToolTipRole)
        self.button = QPushButton("Export...")
        self.button.setObjectName("export_button")
        self.dataset_button = QPushButton("Approved regions to a dataset...")
        self.dataset_button.setObjectName("export_dataset_button")
        self.table_button = QPushButton("Show table")
        self.table_button.setObjectName("table_button")
        self.open_button = QPushButton("Open result...")
        self.open_button.setObjectName("open_result_button")
        self.open_button.setToolTip("Open saved labels at their original position.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setObjectName("cancel_export_button")
        self.cancel_button.setToolTip("Stop; no file is written.")
        self.cancel_button.setVisible(False)
        self.message = QLabel("")
        self.message.setObjectName("export_message")
        self.message.setWordWrap(True)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Labels", self.labels_box)
        self.fields.add_to(form)
        align_labels(form)
        beside = QHBoxLayout()
        for button in (self.table_button, self.open_button):
            beside.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.dataset_button)
        layout.addLayout(beside)
        layout.addWidget(self.cancel_button)
        layout.addWidget(self.message)

    def _connect(self) -> None:
        self.button.clicked.connect(self._ask)
        self.dataset_button.clicked.connect(self.ask_dataset)
        self.table_button.clicked.connect(self.show_table)
        self.open_button.clicked.connect(lambda: ask_and_open(self._viewer, self))
        self.fields.changed.connect(self._show_usable)
        self.labels_box.currentIndexChanged.connect(self._follow_labels)
        self.worker.progressed.connect(self._receive)
        self.worker.failed.connect(self._failed)
        self.worker.done.connect(self._done)
        self.worker.cancelled.connect(self._cancelled)
        self.cancel_button.clicked.connect(lambda: self.worker.cancel())

    @property
    def values(self) -> ExportValues:
        """Labels and format that a press of the button would take now."""
        return replace(self.fields.values, labels=self.labels_box.layer)

    def _follow_labels(self, *_: object) -> None:
        """Turn to the chosen labels, whose run may go on."""
        self._of_labels.release()
        layer = self.labels_box.layer
        if layer is not None:
            self._of_labels.connect(self._show_usable, *emitters(layer, _STATE_EVENTS))
        self._show_usable()

    def _show_usable(self, *_: object) -> None:
        about = self.values.exporter.about
        missing = self._missing()
        reason = (
            "A file is being written. Wait until it is done." if self.worker.running else missing
        )
        self.format_box.setToolTip(about)
        for button, does in (
            (self.button, f"{about} You are asked for the file's name."),
            (
                self.dataset_button,
                "Add the regions that you approved, or your scribbles, to a folder that a network "
                "can be retrained on.",
            ),
        ):
            button.setEnabled(not reason)
            button.setToolTip(reason or does)
        self.table_button.setEnabled(not missing)
        key = preferences().table_key
        self.table_button.setToolTip(
            missing
            or "Measure every cell"
            + (f" ({key})" if key else "")
            + "; a row shows its cell, and Delete removes it."
        )

    def _missing(self) -> str:
        """Say why the chosen labels are nothing to write or to measure; empty where they are."""
        layer = self.labels_box.layer
        problem = labels_problem(None) if layer is None else unfinished_problem(layer)
        return problem or ""

    def show_table(self, *_: object) -> None:
        """Open the table of the chosen labels below the canvas, or bring it to the front."""
        missing = self._missing()
        if missing:
            self._warn(missing)
            return
        layer = self.labels_box.layer
        try:
            if large_result(layer) is not None:
                self._follow_table(open_large_table(self._viewer, layer))
            else:
                open_table(self._viewer, layer)
        except UserError as error:
            self._warn(str(error))

    def _follow_table(self, table: LargeTable) -> None:
        if table not in self._tables:
            self._tables.add(table)
            table.is_true.connect(self.table_followed)

    def _ask(self, checked: bool = False) -> None:
        """Ask for the file, and write it."""
        values = self.values
        layer, exporter = values.labels, values.exporter
        problem = values.labels_problem()
        if problem is not None:
            self._warn(problem)
            return
        assert layer is not None
        proposed = proposed_path(
            source_path(layer, self._viewer.layers), layer.name, exporter.suffix
        )
        path, _ = QFileDialog.getSaveFileName(
            self,
            f"Export as {exporter.title}",
            str(proposed),
            exporter.filter,
            # Qt would ask for the name as it was typed, before its extension is added; the
            # question is asked below for the files that would really be replaced.
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if path:
            self.export(replace(values, path=Path(path)))

    def export(self, values: ExportValues) -> None:
        """Write labels in the background; the user is asked before a file is replaced."""
        if values.existing and not values.replace:
            values = replace(values, replace=self._may_replace(values.existing))
        problem = values.problem()
        if problem is not None:
            self._warn(problem)
            return
        assert values.labels is not None
        remember(LAST_FORMAT, values.format)
        if values.large is not None:
            self._export_large(values, values.large)
            return
        source = export_source(values.labels, self._viewer.layers)
        channels = image_channels(values.labels, self._viewer.layers)
        self._remark = channels.problem if values.exporter.measures else ""
        self.message.setText("writing...")
        means = means_of(fragments_of(values.labels), source.labels.shape)
        self.worker.start(partial(_write, values, source, channels, means))
        self._show_usable()

    def _export_large(self, values: ExportValues, folder: Path) -> None:
        """Write a large result, which takes a while and can be cancelled."""
        assert values.labels is not None
        assert values.path is not None
        self._remark = large_remark(folder, self._viewer.layers)
        export = LargeExport(
            folder,
            values.exporter.targets(values.path),
            values.replace,
            values.labels.name,
            describe_transform(values.labels),
        )
        self.message.setText("writing...")
        self.worker.start(partial(_write_large, values.format, export))
        self.cancel_button.setVisible(True)
        self._show_usable()

    def _cancelled(self) -> None:
        self.cancel_button.setVisible(False)
        look_at_large_tables()
        self.message.setText("Cancelled; nothing was written.")
        self._show_usable()

    def ask_dataset(self, checked: bool = False) -> None:
        """Ask for the folder of a dataset, and add the approved regions."""
        layer = self.labels_box.layer
        if layer is None:
            self._warn(str(labels_problem(None)))
            return
        problem = unfinished_problem(layer)
        if problem is not None:
            self._warn(problem)
            return
        if large_result(layer) is None and self._approved(layer) is None:
            return
        path = source_path(layer, self._viewer.layers)
        dialog = DatasetDialog(DatasetFolder.proposed(recall(LAST_DATASET), path), self)
        if dialog.exec():
            self.export_dataset(DatasetValues(layer, dialog.folder))
        dialog.deleteLater()

    def export_dataset(self, values: DatasetValues) -> None:
        """Add approved regions to a dataset in the background."""
        problem = values.problem()
        if problem is not None:
            self._warn(problem)
            return
        large = large_result(values.labels)
        if large is not None and values.labels is not None and values.folder is not None:
            self._add(partial(_add_large, large, values.labels.name), values.folder)
            return
        approved = self._approved(values.labels)
        if approved is not None and values.folder is not None:
            self._add(partial(_add, approved), values.folder)

    def _approved(self, layer: Labels) -> Approved | None:
        """Take the approved regions; where there are none, it is said."""
        try:
            return approved_of(layer, self._viewer.layers)
        except UserError as error:
            self._warn(str(error))
            return None

    def _add(self, job: Callable[..., Generator[object, None, None]], folder: Path) -> None:
        self._counts = Counter[str]()
        self._dataset = folder
        self.message.setText("writing...")
        self.worker.start(partial(job, folder))
        self._show_usable()

    def _may_replace(self, existing: tuple[Path, ...]) -> bool:
        names = file_names(existing)
        exist = "exists" if len(existing) == 1 else "exist"
        question = f"{names} {exist} already in {existing[0].parent}. Replace?"
        answer = QMessageBox.question(self, "Replace?", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _receive(self, event: object) -> None:
        if isinstance(event, Added | Unchanged):
            self._counts[type(event).__name__] += 1
            self.message.setText(f"writing region {event.done} of {event.total}...")
            return
        if isinstance(event, float):
            self.message.setText(f"writing... {100 * event:.0f} %")
            return
        if isinstance(event, _Followed):
            self.table_followed.emit(event.folder)
            return
        assert isinstance(event, tuple)
        sentence = f"Written: {file_names(event)} in {event[0].parent}"
        if self._remark:
            sentence = f"{sentence}. {self._remark}"
        self.message.setText(sentence)
        show_info(sentence)

    def _done(self) -> None:
        self.cancel_button.setVisible(False)
        look_at_large_tables()  # a table that is exported is brought up to date before
        if self._dataset is not None:
            added, same = self._counts["Added"], self._counts["Unchanged"]
            sentence = f"{describe_regions(added)} added to {self._dataset}"
            if same:
                sentence = f"{sentence}; {describe_regions(same)} were there already"
            self.message.setText(f"{sentence}.")
            show_info(f"{sentence}. Retrain learns from them.")
            self.dataset_written.emit(str(self._dataset))
            self._dataset = None
        self._show_usable()

    def _warn(self, sentence: str) -> None:
        self.message.setText(sentence)
        show_warning(sentence)

    def _failed(self, problem: str) -> None:
        self.cancel_button.setVisible(False)
        look_at_large_tables()
        self.message.setText(problem)
        show_error(problem)
        self._dataset = None
        self._show_usable()


@dataclass(frozen=True)
class _Followed:
    """The table beside an OME-Zarr holds all cells as they are."""

    folder: Path


def _write(
    values: ExportValues,
    source: ExportSource,
    channels: ImageChannels,
    means: Mapping[str, ImageArray],
    stop: threading.Event,
) -> Generator[object, None, None]:
    assert values.path is not None
    size = pixel_size(source)
    export = Export(
        source.labels,
        size,
        export_record(source, size),
        source.axes,
        channels.arrays,
        plane_step(source, size),
        means,
    )
    labels: Any = values.labels
    review = fitting_review(labels) if values.exporter.holds_cells else None
    target = values.exporter.targets(values.path)[0]
    written = None if review is None else note_written(target, labels.data, review)
    files = values.exporter.write(values.path, export, values.replace)
    if written is not None:
        written(*files)
    yield files


def _write_large(
    name: str, export: LargeExport, stop: threading.Event
) -> Generator[object, None, None]:
    yield from {**LARGE_EXPORTS, **MOVIE_EXPORTS}[name](export)
    if state_of(export.folder).is_true:
        yield _Followed(export.folder)
    yield export.targets


def _add(approved: Approved, folder: Path, stop: threading.Event) -> Generator[object, None, None]:
    remember(LAST_DATASET, str(folder))
    written = note_written(folder, approved.labels, approved.review, approved.dates)
    files: list[Path] = []
    for event in add(folder, approved):
        files += files_of(folder, event)
        yield event
    written(*files)


def _add_large(
    zarr: Path, name: str, folder: Path, stop: threading.Event
) -> Generator[object, None, None]:
    remember(LAST_DATASET, str(folder))
    yield from add(folder, large_approved(zarr, name))
