"""Draw the pictures of the README from the real program: ``make screenshots``.

Everything is done as a user does it, in a napari window, with the model that ships.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
import tifffile
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.metadata import CELLS
from napari_unet_cells.layers.zarr_result import zarr_attributes, zarr_levels
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date
from napari_unet_cells.widgets.dock import UNetCellsDock
from napari_unet_cells.widgets.export.large_table import LargeTable
from napari_unet_cells.widgets.export.values import DatasetValues
from napari_unet_cells.widgets.folder.at_hand import AtHand

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main() -> None:
    """Draw every state of the dock that the README shows; the user's own folder stays as it is."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_UNET_CELLS_HOME"] = home
        draw_all()


def draw_all() -> None:
    """Draw one picture after the other."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1380, 860)
    dock = viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]
    segment = dock.segment
    picture(viewer, "empty")
    viewer.open_sample("napari-unet-cells", "simulated_nuclei")
    wait(lambda: segment.device_label.text()[:3] in ("CPU", "GPU"))
    segment.button.click()
    wait(lambda: not segment.worker.running)
    picture(viewer, "done")
    with tempfile.TemporaryDirectory() as folder:
        picture_of_export(viewer, dock, Path(folder))
    clear(viewer)
    picture_of_stack(viewer, dock)
    clear(viewer)
    large = np.tile(simulate_nuclei((512, 512), seed=2)[0], (9, 9))
    viewer.add_image(large, name="slide", scale=(0.5, 0.5), units=("um", "um"))
    segment.button.click()
    wait(lambda: segment.progress.value() > 300)
    picture(viewer, "running")
    segment.cancel_button.click()
    picture(viewer, "cancelled")
    clear(viewer)
    viewer.add_image(np.zeros((64, 64)), name="empty channel")
    segment.button.click()
    wait(lambda: not segment.worker.running)
    picture(viewer, "failed")
    clear(viewer)
    pictures_of_the_loop(viewer, dock)
    clear(viewer)
    with tempfile.TemporaryDirectory() as folder:
        picture_of_folder(viewer, dock, Path(folder))
    clear(viewer)
    picture_of_table(viewer, dock)
    clear(viewer)
    with tempfile.TemporaryDirectory() as folder:
        picture_of_large_table(viewer, dock, Path(folder))
    viewer.close()


def clear(viewer: napari.Viewer) -> None:
    """Remove all layers; napari 0.9 crashes if others come before it has drawn."""
    viewer.layers.clear()
    wait(lambda: False, timeout=0.3)


def pictures_of_the_loop(viewer: napari.Viewer, dock: UNetCellsDock) -> None:
    """Review, export what was approved, retrain."""
    image = simulate_nuclei((1200, 1400), seed=4)[0]
    viewer.add_image(image, name="nuclei")
    dock.segment.button.click()
    wait(lambda: not dock.segment.worker.running)
    dock.open("Correct")
    review = dock.correct.review
    review.review_button.click()
    for _ in range(5):
        wait(lambda: False, timeout=0.6)
        review.approve()
    review.uncertainty_box.click()
    wait(lambda: False, timeout=8)  # the notifications are gone by then
    picture(viewer, "review")
    with tempfile.TemporaryDirectory() as folder:
        cells = viewer.layers["nuclei cells"]
        dock.export.export_dataset(DatasetValues(cells, Path(folder, "corrections")))
        wait(lambda: not dock.export.worker.running)
        review.review_button.click()
        review.uncertainty_box.setChecked(False)
        dock.open("Retrain")
        dock.retrain.minutes_box.setValue(0.5)
        dock.retrain.button.click()
        wait(lambda: dock.retrain.progress.value() > 700)
        dock.retrain.dataset_edit.setText("corrections")
        picture(viewer, "retrain")
        wait(lambda: not dock.retrain.worker.running)
    dock.open("Segment")


def picture_of_table(viewer: napari.Viewer, dock: UNetCellsDock) -> None:
    """Show the table of the cells. It stays open: it would be in the next pictures."""
    viewer.open_sample("napari-unet-cells", "simulated_nuclei")
    dock.segment.button.click()
    wait(lambda: not dock.segment.worker.running)
    dock.export.table_button.click()
    wait(lambda: False, timeout=12)  # the notification of the picture before is gone by then
    dock.banner.later()  # it offers the corrections of the picture before
    wait(lambda: False, timeout=0.5)
    picture(viewer, "table")


def picture_of_large_table(viewer: napari.Viewer, dock: UNetCellsDock, folder: Path) -> None:
    """Show the table of a result that is too large for a layer in memory, and a cell of it."""
    image, cells = write_large_result(folder)
    size = {"scale": (0.5, 0.5), "units": ("um", "um")}
    viewer.add_image(image, name="slide", **size)
    levels = list(zarr_levels(cells))
    layer = viewer.add_labels(levels, multiscale=True, **zarr_attributes(cells, None))
    layer.name = "slide cells"
    wait(lambda: False, timeout=3)
    dock.open("Export")
    dock.export.table_button.click()
    table = viewer.window._qt_window.findChild(LargeTable)
    wait(lambda: not table.controller.busy)
    table.controller.show_from(30_000)
    wait(lambda: not table.controller.busy and table.columns._counted is not None)
    table.view.selectRow(3)
    wait(lambda: False, timeout=3)
    picture(viewer, "large-table")


def write_large_result(folder: Path) -> tuple[NDArray[np.uint16], Path]:
    """Write 17,408 x 17,408 pixels and their cells, which no network has to find first."""
    side, times = 1024, 17
    fields = [
        simulate_nuclei((side, side), diameter=30 + n, seed=n, density=0.3) for n in range(24)
    ]
    kinds = np.random.default_rng(0).integers(len(fields), size=(times, times))
    counts = np.array([int(masks.max()) for _, masks in fields])[kinds]
    before = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
    image = np.block([[fields[kind][0] for kind in row] for row in kinds.tolist()])
    tifffile.imwrite(folder / "slide.tif", image, tile=(512, 512), compression="zlib")
    cells = folder / "slide_cells.ome.zarr"
    made = LabelZarr(cells, image.shape, "yx", side, Scale((0.5, 0.5), "micrometer", None))
    made.create(CELLS, np.uint32)
    for row, column in np.ndindex(times, times):
        masks = fields[kinds[row, column]][1].astype(np.uint32)
        y, x = (slice(side * at, side * (at + 1)) for at in (row, column))
        made.write(CELLS, (), (y, x), np.where(masks > 0, masks + before[row, column], 0))
    source = {"path": str(folder / "slide.tif"), "shape": image.shape, "axes": "YX"}
    size = {"y": 0.5, "x": 0.5, "unit": "micrometer"}
    made.finish(CELLS, {"cells": int(counts.sum()), "source": source, "pixel_size": size}, {})
    for _ in bring_up_to_date(cells):
        pass
    return image, cells


def picture_of_folder(viewer: napari.Viewer, dock: UNetCellsDock, folder: Path) -> None:
    """Segment a folder, correct one image of it, approve some."""
    images = folder / "day1"
    images.mkdir()
    for n in range(6):
        pixels = simulate_nuclei((400, 500), seed=n)[0]
        tifffile.imwrite(images / f"field{n + 1}.tif", pixels)
    (images / "field7.tif").write_bytes(b"II*\0cut off")
    section = dock.folder
    section._show_list()
    at_hand = AtHand(dock.segment.values)
    section.controller.start(at_hand.chosen([str(images)]), folder / "day1_cells")
    wait(lambda: not section.running)
    section.correcting.open("field1")
    wait(lambda: section.correcting.pair is not None and section.correcting.idle)
    assert section.correcting.pair is not None
    cells = section.correcting.pair.cells
    cells.data_setitem(np.nonzero(cells.data == 1), 0)
    for _ in range(2):
        section.correcting.approve_and_next()
        wait(lambda: section.correcting.idle and not section.marking.running)
    shown = section.list
    assert shown is not None
    shown.view.scrollToBottom()
    wait(lambda: False, timeout=8)  # the notifications are gone by then
    picture(viewer, "folder")
    shown.parentWidget().destroyOnClose()
    wait(lambda: section.list is None, timeout=5)


def picture_of_stack(viewer: napari.Viewer, dock: UNetCellsDock) -> None:
    """Show what is asked for a stack with channels."""
    planes = [simulate_nuclei((256, 256), seed=seed)[0] for seed in range(8)]
    stack = np.stack(planes).reshape(4, 2, 256, 256)
    viewer.add_image(stack, name="stack", axis_labels=("z", "c", "y", "x"))
    dock.segment.image_form.stack_form.planes_box.setCurrentIndex(1)
    picture(viewer, "stack")


def picture_of_export(viewer: napari.Viewer, dock: UNetCellsDock, folder: Path) -> None:
    """Press the export button, draw the dialog as it proposes a name, and accept it."""

    def look(dialog: QFileDialog) -> None:
        pixels = dialog.grab()
        pixels.save(str(IMAGES / "export.png"))
        dialog.reject()

    def find() -> None:
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, QFileDialog) and widget.isVisible():
                look(widget)
                return
        QTimer.singleShot(100, find)

    QApplication.instance().setAttribute(_DONT_USE_NATIVE_DIALOGS)
    layer = viewer.layers["simulated nuclei"]
    layer._source = layer.source.model_copy(update={"path": str(folder / "nuclei.tif")})
    QTimer.singleShot(500, find)
    dock.export.button.click()


def picture(viewer: napari.Viewer, name: str) -> None:
    """Save the whole window."""
    wait(lambda: False, timeout=0.6)
    viewer.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)


def wait(ready: Callable[[], bool], timeout: float = 120) -> None:
    """Let the window live until something is ready."""
    end = time.monotonic() + timeout
    while not ready() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    from qtpy.QtCore import Qt

    _DONT_USE_NATIVE_DIALOGS = Qt.ApplicationAttribute.AA_DontUseNativeDialogs
    main()
