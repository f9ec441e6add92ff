"""The one dock: sections in the order of the work."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet_cells.engine import Engine, shared_engine
from napari_unet_cells.widgets.export import ExportSection
from napari_unet_cells.widgets.opening import open_drops
from napari_unet_cells.widgets.preferences import Shortcuts, load_preferences
from napari_unet_cells.widgets.section import Section
from napari_unet_cells.widgets.segment import SegmentSection
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    import napari.viewer

#: Pixels; narrower, the names of layers cannot be told apart.
MINIMUM_WIDTH = 300

#: Docks that are open; the child process ends with the last of them.
_open_docks: set[int] = set()


class UNetCellsDock(QWidget):
    """Segment, correct, export.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setObjectName("unet_cells_dock")
        load_preferences()
        open_drops()
        engine = shared_engine()
        self.segment = SegmentSection(napari_viewer, engine)
        self.export = ExportSection(napari_viewer)
        layout = QVBoxLayout(self)
        for title, content in (("Segment", self.segment), ("Export", self.export)):
            layout.addWidget(Section(title, content))
        layout.addStretch()
        self.setMinimumWidth(MINIMUM_WIDTH)
        self._shortcuts = Shortcuts(
            napari_viewer,
            {
                "segment_key": self.segment.start,
                "cancel_key": self.segment.worker.cancel,
                "table_key": self.export.show_table,
            },
        )
        self._close_with(engine)

    def _close_with(self, engine: Engine) -> None:
        """Stop the work when the dock is destroyed.

        Hiding the dock leaves it alive; the X of its title bar and the end of the window
        destroy it, without a closeEvent.
        """
        key = id(self)
        _open_docks.add(key)
        workers = [weakref.ref(w) for w in (self.segment.worker, self.segment.warming)]
        shortcuts = self._shortcuts

        def close(*_: object) -> None:  # must not touch the dock, which is gone
            for reference in workers:
                _stop(reference())
            shortcuts.unbind()
            _open_docks.discard(key)
            if not _open_docks:
                engine.close()

        self.destroyed.connect(close)


def _stop(worker: Worker | None) -> None:
    if worker is not None and worker.stop_event is not None:
        worker.stop_event.set()
