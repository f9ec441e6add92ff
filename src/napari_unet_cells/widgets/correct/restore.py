"""Corrections of a napari that ended or was killed, offered to be restored."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet_cells.corrections.autosave import (
    Restored,
    Summary,
    discard,
    restore,
    sessions,
    too_much,
    when,
)
from napari_unet_cells.files import axes_of
from napari_unet_cells.layers.image_planes import pixels_of
from napari_unet_cells.layers.metadata import (
    CLASSES,
    INPUT,
    OURS,
    REVIEW,
    file_of,
    image_id,
    set_input_metadata,
)
from napari_unet_cells.layers.reader import class_colors
from napari_unet_cells.layers.selection import image_layers
from napari_unet_cells.widgets.segment.channels import split_channels
from napari_unet_cells.widgets.worker import Worker

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer


class RestoreBanner(QWidget):
    """Says which corrections can be restored; hidden where there are none.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    #: The labels layer that was restored.
    restored = Signal(object)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.setObjectName("restore_banner")
        self._viewer = viewer
        self._offered: list[Summary] = []
        self._later: set[str] = set()
        self.worker = Worker(self)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.box = QComboBox()
        self.box.setToolTip("Corrections of several images can be restored, one after the other")
        # a long file name must not widen the dock
        self.box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.buttons = {name: QPushButton(name) for name in ("Restore", "Discard", "Later")}
        self.buttons["Restore"].setToolTip(
            "Open the image and the labels as they were at the last save"
        )
        self.buttons["Discard"].setToolTip("Delete these corrections for ever")
        self.buttons["Later"].setToolTip("Keep them, and ask again at the next start")
        self._lay_out()
        self.box.currentIndexChanged.connect(self._show_chosen)
        self.buttons["Restore"].clicked.connect(self.restore)
        self.buttons["Discard"].clicked.connect(self.discard)
        self.buttons["Later"].clicked.connect(self.later)
        self.worker.progressed.connect(self._add)
        self.worker.failed.connect(self._failed)
        self.refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        for button in self.buttons.values():
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.box)
        layout.addWidget(self.text)
        layout.addLayout(row)

    @property
    def chosen(self) -> Summary | None:
        """The corrections that the buttons are about."""
        index = self.box.currentIndex()
        return self._offered[index] if 0 <= index < len(self._offered) else None

    def refresh(self) -> None:
        """Look again for corrections that can be restored."""
        found = sessions()
        self._offered = [s for s in found if _key(s) not in self._later]
        self._too_much = too_much(found)
        self.box.blockSignals(True)
        self.box.clear()
        for summary in self._offered:
            date = "" if summary.date is None else f", {when(summary.date)}"
            self.box.addItem(f"{summary.name or summary.folder.name}{date}")
        self.box.blockSignals(False)
        self.box.setVisible(len(self._offered) > 1)
        self._show_chosen()

    def _show_chosen(self, *_: object) -> None:
        chosen = self.chosen
        # without a parent it would open a window of its own until the dock takes it in
        if chosen is None or self.parent() is not None:
            self.setVisible(chosen is not None)
        if chosen is None:
            return
        said = f"{chosen.sentence()} {self._too_much}".strip()
        # a long file name must not widen the dock: it may be broken at these places
        self.text.setText(said.replace("_", "_\u200b").replace("-", "-\u200b"))
        self.buttons["Restore"].setVisible(not chosen.problem)
        self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for widget in (self.box, *self.buttons.values()):
            widget.setEnabled(enabled)

    def restore(self) -> None:
        """Restore the chosen corrections; reading them takes a thread a moment."""
        if self.chosen is None or self.worker.running:
            return
        self._enable(False)
        self.worker.start(partial(_read, self.chosen.folder))

    def discard(self) -> None:
        """Delete the chosen corrections, after one more question."""
        chosen = self.chosen
        if chosen is None:
            return
        what = f"of '{chosen.name}' " if chosen.name else ""
        answer = QMessageBox.question(
            self,
            "Discard corrections?",
            f"The corrections {what}will be deleted for ever. Discard them?",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.No,
        )
        if answer == QMessageBox.StandardButton.Yes:
            discard(chosen.folder)
            self.refresh()

    def later(self) -> None:
        """Ask for none of them again before the next start."""
        self._later |= {_key(summary) for summary in self._offered}
        self.refresh()

    def _add(self, event: object) -> None:
        if isinstance(event, Restored):
            layer = add_restored(self._viewer, event)
            self.refresh()
            self.restored.emit(layer)

    def _failed(self, problem: str) -> None:
        show_warning(problem)
        self.refresh()


def _key(summary: Summary) -> str:
    """Identify a session whoever owned it."""
    return summary.folder.name.partition(".")[0]


def _read(folder: Path, stop: threading.Event) -> Generator[object, None, None]:
    """Restore a session; this is the thread."""
    yield restore(folder)


def add_restored(viewer: Viewer, restored: Restored) -> Labels:
    """Add restored labels to a viewer, and their image where it is not open.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    restored : Restored

    Returns
    -------
    napari labels layer
        Editable and active; its corrections are saved where they were saved before.
    """
    described = restored.description
    image, problem = _image_of(viewer, described.get("image"))
    metadata: dict[str, Any] = dict(described["metadata"])
    ours = dict(metadata.get(OURS, {}))
    if image is not None:
        ours["image"] = image_id(image)
    metadata |= {OURS: ours, REVIEW: restored.review}
    attributes: dict[str, Any] = {"name": described["name"], **described["place"]}
    if ours.get("role") == CLASSES:
        attributes["colormap"] = _class_colormap(ours, int(restored.labels.max()))
    restored.adopt()
    layer = viewer.add_labels(restored.labels, metadata=metadata, **attributes)
    viewer.layers.selection.active = layer
    if said := " ".join(filter(None, (problem, restored.problem))):
        show_warning(said)
    return layer


def _class_colormap(ours: Mapping[str, Any], highest: int) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    n_named = len(ours.get("provenance", {}).get("classes") or ())
    return DirectLabelColormap(color_dict=class_colors(max(n_named, highest + 1)))


def _image_of(viewer: Viewer, described: Mapping[str, Any] | None) -> tuple[Image | None, str]:
    """Give the open image of restored labels, else open its file; and a sentence if neither."""
    if described is None:
        return None, ""
    path = described.get("path")
    if path is None:
        return None, (
            f"The labels were restored without their image '{described['name']}', which came "
            "from no file. Open it by hand to see both."
        )
    is_it = partial(_is_image, described=described)
    image = next(filter(is_it, image_layers(viewer.layers)), None)
    if image is not None:
        return image, ""
    if not Path(path).exists():
        return None, (
            f"The labels were restored without their image: there is no {path} any more. Where "
            "it was moved, open it by hand to see both."
        )
    try:
        image = _open(viewer, Path(path), described)
    except Exception as error:  # whatever the reader of some plugin raises
        return None, f"The labels were restored without their image: {path} was not read ({error})."
    return image, "" if image is not None else (
        f"The labels were restored, but {path} holds no image of their size any more."
    )


def _is_image(layer: Image, described: Mapping[str, Any]) -> bool:
    told = described.get("told") or {}
    same_file = file_of(layer)
    return (
        same_file is not None
        and same_file.absolute() == Path(described["path"])
        and list(pixels_of(layer).shape) == described["shape"]
        and layer.metadata.get(INPUT, {}).get("channel") == told.get("channel")
    )


def _open(viewer: Viewer, path: Path, described: Mapping[str, Any]) -> Image | None:
    """Open an image in the place it had, its channels split if they were."""
    plugin = described.get("reader") or "napari"
    opened = [layer for layer in viewer.open(str(path), plugin=plugin) if _is_plain_image(layer)]
    told = dict(described.get("told") or {})
    shape = described["shape"]
    channel = told.pop("channel", None)
    if channel is not None:
        return _open_channel(viewer, opened, described, channel, told)
    image = next((i for i in opened if list(pixels_of(i).shape) == shape), None)
    if image is not None:
        _put(image, described, told)
    return image


def _open_channel(
    viewer: Viewer,
    opened: list[Image],
    described: Mapping[str, Any],
    channel: int,
    told: Mapping[str, Any],
) -> Image | None:
    for layer in opened:
        axis = _channel_axis(layer, described["shape"], Path(described["path"]))
        if axis is None:
            continue
        before = set(viewer.layers)
        image = split_channels(viewer, layer, axis, channel)
        for made in set(viewer.layers) - before:
            _put(made, described, told)
        return image
    return None


def _channel_axis(layer: Image, shape: list[int], path: Path) -> int | None:
    """Axis without which a layer has a shape; of several that which the file names."""
    whole = list(pixels_of(layer).shape)
    axes = [a for a in range(len(whole) - 2) if whole[:a] + whole[a + 1 :] == shape]
    letters = axes_of(path) if len(axes) > 1 else ""
    named = [axis for axis in axes if letters[axis : axis + 1] == "C"]
    return next(iter(named or axes), None)


def _is_plain_image(layer: Layer) -> bool:
    return layer in image_layers([layer])


def _put(image: Image, described: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Put an image where it lay, and let it know what the user had told of it."""
    for name, value in (described.get("place") or {}).items():
        setattr(image, name, value)
    set_input_metadata(image, **told)
