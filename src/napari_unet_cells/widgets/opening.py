"""Labels from and to files, as the user meets them: Open result..., drag and drop, File > Save."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import file_of, set_input_metadata
from napari_unet_cells.layers.reader import open_result, prefer_reader
from napari_unet_cells.layers.writer import write_layer
from napari_unet_cells.settings import preferences
from napari_unet_cells.widgets.preferences import PLUGIN

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

_FILTER = "Results (*_cells.tif *_cells.tiff *_classes.tif *_classes.tiff);;TIFF (*.tif *.tiff)"


def ask_and_open(viewer: Viewer, parent: QWidget | None = None) -> list[Layer]:
    """Ask for label images and open them in their place.

    Files of any name can be chosen: who chooses them here says that they are labels. What
    cannot be opened is said in a sentence, and the others are opened.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QWidget, optional
        Over which the dialog appears.

    Returns
    -------
    list of napari labels layer
        Those that were added; empty where the user cancelled.
    """
    names, _ = QFileDialog.getOpenFileNames(parent, "Open result", _folder(viewer), _FILTER)
    return [layer for name in names for layer in open_files(viewer, name)]


def open_files(viewer: Viewer, *paths: str | Path) -> list[Layer]:
    """Open label images in their place; what cannot be opened is said in a sentence."""
    layers = []
    for path in paths:
        try:
            for labels, attributes, _ in open_result(path):
                layer = viewer.add_labels(labels, **attributes)
                set_input_metadata(layer, path=str(path))  # as napari's own readers say it
                layers.append(layer)
        except UserError as error:
            show_error(str(error))
    return layers


def open_image(viewer: Viewer, path: Path, above: Layer) -> None:
    """Open an image below a layer, which stays the active one; what prevents it is said.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    path : Path
    above : napari layer
    """
    try:
        added = viewer.open(str(path))
    except Exception as error:  # a reader may be anybody's
        show_error(
            f"{path.name} cannot be opened ({error}). Open it with File > Open, and it is found."
        )
        return
    for layer in added:
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(above))
    viewer.layers.selection.active = above


def _folder(viewer: Viewer) -> str:
    """Folder of results, else that of the newest layer that came from a file."""
    if preferences().results_folder:
        return os.path.expanduser(preferences().results_folder)
    paths = [path for layer in viewer.layers if (path := file_of(layer)) is not None]
    return str(paths[-1].parent) if paths else ""


def save_labels(path: str, data: ImageArray, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer for napari's File > Save; see `writer.write_layer`.

    napari says nowhere which files were written, so the user is told of a name that was not typed.
    """
    written = write_layer(path, data, attributes)
    typed = Path(path)
    wanted = typed.stem if typed.suffix.lower() in (".tif", ".tiff") else typed.name
    if Path(written[0]).stem != wanted:
        show_info(f"There was a file of this name; the labels were saved as {written[0]}.")
    return written


def open_drops() -> None:
    """Let results that are dropped on the viewer come to our reader, without a question.

    napari's own reader claims every TIFF, and napari asks where two do. What the user
    chose for one of our names stays.
    """
    from napari.settings import get_settings

    plugins = get_settings().plugins
    chosen = dict(plugins.extension2reader)
    preferred = prefer_reader(chosen, PLUGIN)
    if list(preferred.items()) != list(chosen.items()):
        plugins.extension2reader = preferred
