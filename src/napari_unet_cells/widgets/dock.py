"""Dock of the plugin: four pages in the order of the work, above what belongs to all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_unet_cells.engine.engine import Engine, shared_engine, training_engine
from napari_unet_cells.widgets.closing import EndWhenClosed
from napari_unet_cells.widgets.correct.autosave import Autosave
from napari_unet_cells.widgets.correct.class_dialog import ClassesDialog, add_strokes_layer
from napari_unet_cells.widgets.correct.restore import RestoreBanner
from napari_unet_cells.widgets.correct.section import CorrectSection
from napari_unet_cells.widgets.export.large_table import look_at_large_tables
from napari_unet_cells.widgets.export.section import ExportSection
from napari_unet_cells.widgets.folder.at_hand import AtHand, at_hand
from napari_unet_cells.widgets.folder.section import FolderSection
from napari_unet_cells.widgets.opening import open_drops
from napari_unet_cells.widgets.page import Page
from napari_unet_cells.widgets.preferences import Shortcuts, load_preferences
from napari_unet_cells.widgets.retrain.section import RetrainSection
from napari_unet_cells.widgets.segment.channels import chosen_plane
from napari_unet_cells.widgets.segment.section import SegmentSection
from napari_unet_cells.widgets.status_line import StatusLine
from napari_unet_cells.widgets.wiring import Wired

if TYPE_CHECKING:
    import napari.viewer

#: Docks that are open; the child process ends with the last of them.
_open_docks: set[int] = set()


class UNetCellsDock(Wired, QWidget):
    """Segment, correct, export, retrain.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.setObjectName("unet_cells_dock")
        load_preferences()
        open_drops()
        engine, training = shared_engine(), training_engine()
        self.segment = SegmentSection(napari_viewer, engine)
        self.correct = CorrectSection(napari_viewer, engine, self.segment, training)
        self.export = ExportSection(napari_viewer)
        self.retrain = RetrainSection(napari_viewer, training, engine)
        self.folder = FolderSection(napari_viewer, self._at_hand, self)
        self.autosave = Autosave(napari_viewer, self)
        self.banner = RestoreBanner(napari_viewer)
        self.status = StatusLine(self.segment.device_label, self.autosave.saved_at)
        self._lay_out()
        self._connect()
        self._shortcuts = Shortcuts(
            napari_viewer,
            {
                "segment_key": self.segment.start,
                "cancel_key": self.segment.worker.cancel,
                "table_key": self.export.show_table,
                "next_key": self.correct.review.next,
                "approve_key": self.correct.review.approve,
            },
        )
        self._close_with(engine, training)

    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        self.tabs.setObjectName("unet_cells_tabs")
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(False)
        self._pages: dict[str, SegmentSection | CorrectSection | ExportSection | RetrainSection] = {
            "Segment": self.segment,
            "Correct": self.correct,
            "Export": self.export,
            "Retrain": self.retrain,
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 0)
        layout.addWidget(self.banner)
        layout.addWidget(self.tabs, 1)
        for name, section in self._pages.items():
            self.tabs.addTab(Page(section), name)
            # Below the pages, where no page is so long that it is out of sight.
            layout.addWidget(section.message)
        layout.addWidget(self.segment.run_bar)
        layout.addWidget(self.status)
        self._show_message()

    def open(self, name: str) -> None:
        """Show a page, such as "Correct"."""
        self.tabs.setCurrentIndex(list(self._pages).index(name))

    def _at_hand(self) -> AtHand:
        """Give model and options of the image at hand, for a list of images."""
        return at_hand(self._viewer, self.segment.values, self.segment.controller.selected)

    def _show_message(self, *_: object) -> None:
        """Show what the page that is open has to say."""
        for index, section in enumerate(self._pages.values()):
            section.message.setVisible(index == self.tabs.currentIndex())

    def _connect(self) -> None:
        self.correct.counted.connect(self._count_approved)
        self.correct.classes_wanted.connect(self._paint_classes)
        # A tool may be taken by its key, and what it says stands on this page.
        self.correct.tools.taken.connect(partial(self.open, "Correct"))
        self.tabs.currentChanged.connect(self._show_message)
        self.tabs.currentChanged.connect(self._warm_up)
        self.segment.followed.connect(self.status.follow)
        self.segment.folder_button.clicked.connect(self.folder.open)
        self.autosave.saved.connect(self.status.show_saved)
        model_form, worker = self.segment.model_form, self.segment.worker
        model_form.changed.connect(self.retrain.show_model_in_use)
        self.retrain.show_model_in_use(model_form.model_box.currentText())
        self.retrain.is_busy = lambda: worker.running
        self.retrain.retrained.connect(lambda name: model_form.list_models())
        self.retrain.kept.connect(model_form.list_models)
        self.retrain.used.connect(model_form.list_models)
        self.retrain.comparing_changed.connect(self._comparing_changed)
        self.retrain.running_changed.connect(self.correct.learning.controller.pause)
        self.correct.learning.models_changed.connect(model_form.list_models)
        self.export.dataset_written.connect(self.retrain.choose_dataset)
        self.retrain.dataset_wanted.connect(self.export.ask_dataset)
        self.autosave.left.connect(self.banner.refresh)
        self.segment.came_back.connect(self.banner.refresh)
        self.folder.saved.connect(self.banner.refresh)
        self.folder.saved.connect(look_at_large_tables)
        self.folder.followed.connect(self.correct.part.controller.table_followed)
        self.export.table_followed.connect(self.correct.part.controller.table_followed)

    def _count_approved(self, approved: int, regions: int) -> None:
        index = list(self._pages).index("Correct")
        self.tabs.setTabText(index, f"Correct {approved}/{regions}" if regions else "Correct")
        said = f"{approved} of {regions} regions approved" if regions else ""
        self.tabs.setTabToolTip(index, said)

    def _paint_classes(self) -> None:
        dialog = ClassesDialog(self)
        if dialog.exec():
            values = self.segment.values
            image, all_planes = values.image, values.stack.all_planes
            shown = None if image is None else chosen_plane(self._viewer, image, all_planes)
            add_strokes_layer(self._viewer, image, dialog.values, shown)

    def _warm_up(self, index: int) -> None:
        """Make the network ready to learn while the user fills in the form, or corrects."""
        if list(self._pages)[index] == "Correct":
            self.correct.learning.controller.make_ready()
        if list(self._pages)[index] == "Retrain":
            self.retrain.fill_models()  # there may be one that learned while the user corrected
            self.retrain.warm_up()

    def _comparing_changed(self, running: bool) -> None:
        """Keep the one network for the comparison, and warm up that of the next run afterwards."""
        self.segment.button.setEnabled(not running and not self.segment.worker.running)
        if not running:
            self.segment.controller.choose_model(self.segment.model_form.model_box.currentText())

    def _close_with(self, *engines: Engine) -> None:
        """Stop the work when the dock is destroyed.

        Hiding the dock leaves it alive; the end of the window destroys it, without a closeEvent,
        and the X of its title bar does with `EndWhenClosed`.
        """
        # Minutes of training are not thrown away: it ends now, and the best so far is kept.
        EndWhenClosed(
            self,
            self.segment.worker.cancel,
            self.folder.worker.cancel,
            self.retrain.finish,
            busy=lambda: self.retrain.worker.running,
        )
        key = id(self)
        _open_docks.add(key)
        self.wiring.at_end(_close, key, engines)
        self.wiring.at_end(self._shortcuts.unbind)
        workers = [w for part in (self.segment, self.retrain) for w in (part.worker, part.warming)]
        for worker in (*workers, self.retrain.comparing):
            self.wiring.at_end(worker.stop)


def _close(key: int, engines: tuple[Engine, ...]) -> None:
    """End the child processes with the last dock."""
    _open_docks.discard(key)
    if not _open_docks:
        for engine in engines:
            engine.close()
