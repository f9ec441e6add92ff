"""Small pictures of the list, read and shrunk in a thread: a list may have thousands."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap

from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.widgets.worker import Worker

#: Pixels of the longest side of a picture in the list.
SIDE = 96


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """Picture of an image; without pixels where its file cannot be read."""

    name: str
    pixels: NDArray[np.uint8] | None


def read_thumbnail(path: Path) -> NDArray[np.uint8] | None:
    """Read a picture and shrink it to at most `SIDE` pixels; None where it cannot be read."""
    try:
        pixels = np.asarray(read_image(path).data[...])
    except (UserError, MemoryError):
        return None
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        return None
    step = max(1, -(-max(pixels.shape[:2]) // SIDE))
    height, width = (max(1, length // step) for length in pixels.shape[:2])
    step_y, step_x = (min(step, length) for length in pixels.shape[:2])
    squares = pixels[: height * step_y, : width * step_x].reshape(height, step_y, width, step_x, 3)
    return np.ascontiguousarray(squares.mean(axis=(1, 3)).astype(np.uint8))


class Thumbnails(QObject):
    """Pictures by the names of their images; `came` names one that was read.

    Parameters
    ----------
    parent : QObject
    """

    came = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._icons: dict[str, QIcon | None] = {}
        self._wanted: dict[str, Path] = {}
        self.worker = Worker(self)
        self.worker.progressed.connect(self._take)
        self.worker.done.connect(self._read)

    def get(self, name: str, path: Path) -> QIcon | None:
        """Give the picture of an image; None where it is not read yet, which it soon will be."""
        if name not in self._icons:
            self._icons[name] = None
            self._wanted[name] = path
            self._read()
        return self._icons[name]

    def forget(self, name: str = "") -> None:
        """Forget the picture of an image, which was drawn anew; without a name all."""
        if name:
            self._icons.pop(name, None)
        else:
            self._icons.clear()
            self._wanted.clear()

    def _read(self) -> None:
        if self._wanted and not self.worker.running:
            wanted, self._wanted = self._wanted, {}
            self.worker.start(partial(_read, wanted))

    def _take(self, event: object) -> None:
        assert isinstance(event, Thumbnail)
        if event.pixels is None:
            return
        height, width = event.pixels.shape[:2]
        image = QImage(
            event.pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
        )
        self._icons[event.name] = QIcon(QPixmap.fromImage(image))
        self.came.emit(event.name)


def _read(wanted: Mapping[str, Path], stop: threading.Event) -> Generator[Thumbnail, None, None]:
    for name, path in wanted.items():
        yield Thumbnail(name, read_thumbnail(path))
