"""Record the three short films of the README from the real program: ``make recordings``.

A real window on a screen of its own (Xvfb), the mouse of the X server (xdotool), sample images and
the model that ships. A film counts frames, not seconds: each step of the mouse is a frame, and
where the program computes, frames are taken now and then. So a slow computer makes the same films.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.widgets.camera import on_canvas
from napari_unet_cells.widgets.canvas import canvas
from napari_unet_cells.widgets.dock import UNetCellsDock
from napari_unet_cells.widgets.export.dataset_dialog import DatasetDialog
from napari_unet_cells.widgets.napari_versions import camera_of

RECORDINGS = Path(__file__).parent.parent / "docs" / "recordings"

#: Pixels of the screen, and those of a film.
SCREEN, FILM = (1280, 720), (896, 504)

#: Frames a second, and seconds that the program gets for each.
RATE, PACE = 8, 0.05

#: Bytes that a film may have.
LARGEST = 3_000_000

#: Corners (x, y) of the pointer, from its tip.
POINTER = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))


class Film:
    """Frames of the screen with the pointer drawn on them."""

    def __init__(self) -> None:
        self._frames: list[Image.Image] = []
        self.pointer = (SCREEN[0] // 2, SCREEN[1] // 2)
        self.pressed = False

    def take(self) -> None:
        """Let the window live for a moment, and take a frame."""
        live(PACE)
        self._frames.append(self._shot())

    def hold(self, seconds: float) -> None:
        """Take frames for a time of the film."""
        for _ in range(round(seconds * RATE)):
            self.take()

    def until(self, ready: Callable[[], bool], seconds: float, timeout: float = 60) -> None:
        """Take frames until something is ready, and keep as many as fill a time of the film."""
        taken: list[Image.Image] = []
        end = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > end:
                self._shot().save("stuck.png")
                raise TimeoutError("The program did not come to its end; see stuck.png.")
            live(0.2)
            taken.append(self._shot())
        wanted = min(len(taken), round(seconds * RATE))
        which = np.linspace(0, max(0, len(taken) - 1), wanted).astype(int).tolist()
        self._frames += [taken[index] for index in which]

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return len(self._frames)

    def drop_after(self, n_frames: int) -> None:
        """Drop the frames after the first ones."""
        del self._frames[n_frames:]

    def _shot(self) -> Image.Image:
        screen = QApplication.primaryScreen()
        grabbed = screen.grabWindow(0).toImage().convertToFormat(QImage.Format.Format_RGB888)
        width, height = grabbed.width(), grabbed.height()
        bits = grabbed.constBits()
        bits.setsize(grabbed.sizeInBytes())
        rows = np.frombuffer(bits, np.uint8).reshape(height, -1)[:, : 3 * width]
        image = Image.fromarray(rows.reshape(height, width, 3).copy())
        draw, (x, y) = ImageDraw.Draw(image), self.pointer
        if self.pressed:
            draw.ellipse((x - 13, y - 13, x + 13, y + 13), outline="#ffb000", width=4)
        draw.polygon([(x + a, y + b) for a, b in POINTER], fill="white", outline="black")
        return image.resize(FILM, Image.Resampling.LANCZOS)

    def save(self, path: Path) -> None:
        """Write a GIF: frames that are alike become one that is shown longer."""
        shown: list[Image.Image] = []
        durations: list[int] = []
        for frame in self._frames:
            if shown and np.array_equal(np.asarray(shown[-1]), np.asarray(frame)):
                durations[-1] += 1000 // RATE
            else:
                shown.append(frame)
                durations.append(1000 // RATE)
        durations[-1] += 1500
        some = shown[:: max(1, len(shown) // 6)]
        strip = Image.new("RGB", (FILM[0], FILM[1] * len(some)))
        for index, frame in enumerate(some):
            strip.paste(frame, (0, FILM[1] * index))
        # One palette: colours that differ from frame to frame would flicker, and cost much.
        palette = strip.quantize(80, dither=Image.Dither.NONE)
        frames = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in shown]
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(
            path,
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            optimize=False,
            disposal=1,
        )
        size, seconds = path.stat().st_size, sum(durations) / 1000
        print(f"{path.name}: {seconds:.0f} s, {len(frames)} frames, {size / 1e6:.1f} MB")
        if size > LARGEST:
            raise SystemExit(f"{path.name} has more than {LARGEST / 1e6:.0f} MB. Make it shorter.")


class Hand:
    """Mouse and keyboard of the X server, filmed."""

    def __init__(self, film: Film) -> None:
        self._film = film

    def move(self, x: float, y: float, steps: int = 5) -> None:
        """Move the pointer to a place on the screen."""
        first = np.array(self._film.pointer)
        for step in range(1, steps + 1):
            part = step / steps
            at = first + (np.array((x, y)) - first) * part * part * (3 - 2 * part)
            self._film.pointer = (round(at[0]), round(at[1]))
            xdotool("mousemove", *map(str, self._film.pointer))
            self._film.take()

    def press(self, button: str = "mousedown") -> None:
        """Press the left button, or let it go."""
        self._film.pressed = button == "mousedown"
        xdotool(button, "1")
        self._film.take()

    def click(self, widget: QWidget | tuple[float, float]) -> None:
        """Click the middle of a widget, or a place on the screen."""
        place = middle(widget) if isinstance(widget, QWidget) else widget
        self.move(*place)
        self.press()
        self.press("mouseup")
        self._film.hold(0.4)

    def drag(self, places: list[tuple[float, float]]) -> None:
        """Drag along places on the screen."""
        self.move(*places[0])
        self.press()
        for place in places[1:]:
            self.move(*place, steps=3)
        self.press("mouseup")
        self._film.hold(0.6)


def xdotool(*arguments: str) -> None:
    """Tell the X server of the mouse."""
    subprocess.run(["xdotool", *arguments], check=True)


def middle(widget: QWidget) -> tuple[float, float]:
    """Place of a widget on the screen."""
    place = widget.mapToGlobal(widget.rect().center())
    return place.x(), place.y()


def live(seconds: float) -> None:
    """Let the window live for a time."""
    end = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= end:
            return
        time.sleep(0.005)


def wait(ready: Callable[[], bool], timeout: float = 300) -> None:
    """Let the window live until something is ready, without a film."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("the program did not come to its end")
        live(0.05)


class Stage:
    """Window with the dock, and a film of it."""

    def __init__(self, viewer: napari.Viewer, dock: UNetCellsDock) -> None:
        self.viewer, self.dock = viewer, dock
        self.film = Film()
        self.hand = Hand(self.film)

    def find(self, name: str) -> QWidget:
        """Widget of the dock by its objectName."""
        found: QWidget | None = self.dock.findChild(QWidget, name)
        assert found is not None, name
        return found

    def tab(self, name: str) -> tuple[float, float]:
        """Place of the tab of a page on the screen."""
        bar = self.dock.tabs.tabBar()
        names = [bar.tabText(index).split(" ")[0] for index in range(bar.count())]
        place = bar.mapToGlobal(bar.tabRect(names.index(name)).center())
        return place.x(), place.y()

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Place on the screen of a pixel of the image."""
        below = canvas(self.dock)
        assert below is not None
        (x, y), *_ = on_canvas(self.viewer, np.array([[row, column]], float))
        place = below.mapToGlobal(QPoint(round(x), round(y)))
        return place.x(), place.y()

    def key(self, key: Any, *modifiers: Any) -> None:
        """Press a key in the image."""
        below = canvas(self.dock)
        assert below is not None
        below.setFocus()
        QTest.keyClick(below, key, *modifiers)
        self.film.hold(0.4)

    def look_at(self, row: float, column: float, zoom: float) -> None:
        """Bring a pixel to the middle, in some frames."""
        camera = camera_of(self.viewer)
        first = np.array([*camera.center[-2:], np.log(camera.zoom)])
        for part in np.linspace(0, 1, 5)[1:]:
            y, x, log = first + (np.array([row, column, np.log(zoom)]) - first) * part
            camera.center, camera.zoom = (y, x), float(np.exp(log))
            self.film.take()

    def segment(self, seconds: float) -> None:
        """Press the button, and film the run for a time."""
        self.hand.click(self.find("segment_button"))
        self.film.until(lambda: not self.dock.segment.worker.running, seconds)
        self.film.hold(0.6)


@contextlib.contextmanager
def stage(image: NDArray[Any], name: str) -> Iterator[Stage]:
    """Open a window with an image and the dock, the model ready."""
    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window
    window.setGeometry(0, 0, *SCREEN)
    low, high = np.percentile(image, (1, 99.5))
    viewer.add_image(image, name=name, contrast_limits=(low, high), gamma=0.6)
    dock = viewer.window.add_plugin_dock_widget("napari-unet-cells")[1]
    wait(lambda: dock.segment.device_label.text()[:3] in ("CPU", "GPU"))
    viewer.reset_view()
    live(1.0)
    yield Stage(viewer, dock)
    viewer.close()
    live(0.5)


def dim_some(image: NDArray[Any], truth: NDArray[Any], n: int, seed: int) -> list[int]:
    """Make some nuclei in the middle so dim that the network misses them; give their ids."""
    rng = np.random.default_rng(seed)
    inner = np.unique(truth[130:-130, 130:-130])
    chosen: list[int] = rng.choice(inner[inner > 0], n, replace=False).tolist()
    floor = np.percentile(image, 20)
    for label in chosen:
        own = truth == label
        image[own] = floor + 0.12 * (image[own].astype(float) - floor)
    return chosen


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean row and column of a mask."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def segment_and_click() -> None:
    """Segment an image, and add dim cells that were missed by a click."""
    image, truth = simulate_nuclei((512, 512), seed=2, noise=0.03)
    dim = dim_some(image, truth, 20, seed=1)
    with stage(image, "nuclei") as on:
        on.film.hold(0.8)
        on.segment(2.5)
        on.film.hold(0.8)
        cells = on.viewer.layers["nuclei cells"]
        missed = [i for i in dim if np.mean(cells.data[truth == i] > 0) < 0.2]
        on.look_at(256, 256, 2.0)
        on.key(Qt.Key.Key_O)
        on.hand.click(on.tab("Correct"))
        on.hand.click(on.find("add_tool_button"))
        added = 0
        for label in missed:
            added += _add(on, cells, centre(truth == label))
            if added == 3:
                break
        on.film.save(RECORDINGS / "segment-and-click.gif")


def _add(on: Stage, cells: Any, place: tuple[float, float]) -> bool:
    """Click a missed cell; where nothing is found, no frame of it is kept."""
    before, n_frames = int(np.count_nonzero(cells.data)), on.film.n_frames
    searching = on.dock.correct.tools.searching
    on.hand.move(*on.place(*place))
    on.film.hold(1.0)
    on.hand.press()
    on.hand.press("mouseup")
    live(0.5)
    on.film.until(lambda: not searching.running, 0.5)
    found = np.count_nonzero(cells.data) != before
    if not found:
        on.film.drop_after(n_frames)
    on.film.hold(0.8 if found else 0)
    return bool(found)


def review_and_correct() -> None:
    """Go to the region the network was least sure of, put right what is wrong, approve it."""
    image, truth = simulate_nuclei((700, 900), seed=4, noise=0.03, density=0.35)
    with stage(image, "nuclei") as on:
        on.dock.segment.start()
        wait(lambda: not on.dock.segment.worker.running)
        cells = on.viewer.layers["nuclei cells"]
        on.hand.click(on.tab("Correct"))
        on.hand.click(on.find("review_button"))
        on.hand.click(on.find("review_next_button"))
        on.film.hold(0.8)
        on.key(Qt.Key.Key_O)
        row, column = camera_of(on.viewer).center[-2:]
        wrong = nearest(mistakes(cells.data, truth), row, column)
        for kind, places in wrong.items():
            one, other = (np.array(place) for place in places)
            middle_of = (one + other) / 2
            on.look_at(middle_of[0], middle_of[1], 3.5)
            on.film.hold(0.6)
            on.hand.click(on.find(f"{kind}_tool_button"))
            if kind == "split":  # across the line that joins the two
                along = (other - one)[::-1] * (1, -1)
                along = along / np.hypot(*along) * 16
                one, other = middle_of - along, middle_of + along
            on.hand.drag([on.place(*one), on.place(*middle_of), on.place(*other)])
            on.film.hold(0.5)
        for _ in range(2):
            on.hand.click(on.find("review_approve_button"))
            on.film.hold(1.0)
        on.film.save(RECORDINGS / "review-and-correct.gif")


Place = tuple[float, float]


def mistakes(cells: NDArray[Any], truth: NDArray[Any]) -> list[tuple[str, Place, Place]]:
    """Find nuclei that are one cell though they are two, and those that are two though one."""
    found: list[tuple[str, Place, Place]] = []
    for kind, whole, parts in (("split", cells, truth), ("merge", truth, cells)):
        pairs, counts = np.unique(
            np.stack([whole.ravel(), parts.ravel()]), axis=1, return_counts=True
        )
        areas = np.bincount(parts.ravel())
        inside = (pairs > 0).all(axis=0) & (counts > 0.6 * areas[pairs[1]]) & (counts > 60)
        for label in np.unique(pairs[0][inside]):
            held = pairs[1][inside & (pairs[0] == label)]
            if len(held) == 2:
                one, other = (centre(parts == part) for part in held)
                found.append((kind, one, other))
    return found


def nearest(
    found: list[tuple[str, Place, Place]], row: float, column: float
) -> dict[str, tuple[Place, Place]]:
    """Choose the nearest mistake of each kind."""
    found = sorted(found, key=lambda one: -np.hypot(one[1][0] - row, one[1][1] - column))
    return {kind: (one, other) for kind, one, other in found}


def retrain_and_compare() -> None:
    """Add approved regions to a dataset, retrain, compare both models, decide."""
    image, _ = simulate_nuclei((1200, 1400), seed=4, noise=0.03)
    with stage(image, "nuclei") as on, tempfile.TemporaryDirectory() as folder:
        on.dock.segment.start()
        wait(lambda: not on.dock.segment.worker.running)
        review = on.dock.correct.review
        review.review_button.click()
        for _ in range(6):
            live(0.8)
            review.approve()
        review.review_button.click()
        live(0.5)
        on.viewer.reset_view()
        on.hand.click(on.tab("Retrain"))
        _take_dataset(on, Path(folder))
        on.dock.retrain.minutes_box.setValue(0.4)
        on.film.hold(0.5)
        on.hand.click(on.find("retrain_button"))
        on.film.until(lambda: not on.dock.retrain.worker.running, 5.0, timeout=400)
        on.film.hold(1.2)
        on.hand.click(on.find("compare_models_button"))
        on.film.until(lambda: not on.dock.retrain.comparing.running, 2.0)
        on.look_at(400, 500, 1.6)
        on.film.hold(1.2)
        on.hand.click(on.find("keep_model_button"))
        on.film.hold(1.0)
        on.film.save(RECORDINGS / "retrain-and-compare.gif")


def _take_dataset(on: Stage, folder: Path) -> None:
    """Add the approved regions to a new dataset; the dialog blocks, so it is filmed by a timer."""
    from qtpy.QtCore import QTimer

    def accept() -> None:
        dialog = on.dock.findChild(DatasetDialog)
        if dialog is None or not dialog.isVisible():
            QTimer.singleShot(100, accept)
            return
        dialog.fields.widgets["parent"].value = str(folder)
        dialog.fields.widgets["name"].value = "my_corrections"
        on.film.hold(1.0)
        on.hand.click(dialog.add_button)

    QTimer.singleShot(100, accept)
    on.hand.click(on.find("retrain_approved_button"))
    on.film.until(lambda: not on.dock.export.worker.running, 1.0)
    wait(lambda: on.dock.retrain.dataset_edit.text() != "")


FILMS = {
    film.__name__: film for film in (segment_and_click, review_and_correct, retrain_and_compare)
}


def main() -> None:
    """Record all films, or those that are named; the user's own folder stays as it is."""
    if shutil.which("xdotool") is None:
        raise SystemExit("The films need xdotool, which moves the mouse. Install it.")
    for name in sys.argv[1:] or FILMS:
        with tempfile.TemporaryDirectory() as home:
            os.environ["NAPARI_UNET_CELLS_HOME"] = home
            FILMS[name]()


if __name__ == "__main__":
    main()
