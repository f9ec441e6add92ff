"""A look at what is in view of a large image: at the resolution of the screen, and in its place."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import OURS, PREVIEW, image_id
from napari_unet_cells.layers.selection import image_layers, labels_layers
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import run as run_module
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.segment import view_run
from napari_unet_cells.widgets.segment.found_layers import hide_previews
from napari_unet_cells.widgets.segment.values import SegmentValues, StackValues
from napari_unet_cells.widgets.segment.view_run import ViewRun

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def squares_are_cells(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)


ENGINE: Any = SimpleNamespace(open=lambda card, stop: FunctionNetwork(squares_are_cells))


class Window:
    """Keeps what it is told to say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def show_device(self, device: str) -> None:
        """Show nothing."""

    def show_diameter(self, estimated: float) -> None:
        """Show nothing."""

    def show_progress(self, done: float, text: str) -> None:
        """Show nothing."""


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "find_model", lambda name: CARD)


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = (100, 100)
    else:  # napari before 0.9
        viewer._canvas_size = (100, 100)
    return viewer


def pyramid() -> list[NDArray[np.uint8]]:
    """Draw a plane of 800 x 800 with squares of 32 pixels, 40 apart, and its coarser levels."""
    plane = np.zeros((800, 800), np.uint8)
    for top in range(0, 800, 40):
        for left in range(0, 800, 40):
            plane[top + 4 : top + 36, left + 4 : left + 36] = 100
    return [plane[::step, ::step] for step in (1, 2, 4)]


def look_at(viewer: Any, middle: tuple[float, float], zoom: float) -> None:
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, *middle), zoom


def run(viewer: Any, image: Any, shown: tuple[int, ...] = ()) -> Window:
    window = Window()
    values = SegmentValues(image, StackValues(stack_axes(image)), "cells", diameter=32)
    view = ViewRun(viewer, values, image, shown, window)
    for event in view.events(ENGINE, threading.Event()):
        view.receive(event)
    view.finished()
    return window


@pytest.mark.parametrize("zoom", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 0.25), "translate": (7, -3), "rotate": 30}])
def test_cells_lie_where_the_image_shows_them(viewer: Any, zoom: float, place: Any) -> None:
    image = viewer.add_image(pyramid(), multiscale=True, name="slide", **place)
    look_at(viewer, tuple(image.data_to_world((400, 400))), zoom / image.scale[1])
    window = run(viewer, image)
    layer = viewer.layers["slide preview"]
    factor = round(layer.scale[0] / image.scale[0])
    assert factor == round(1 / zoom) or place  # turned, more of it is in view
    n = len(np.unique(layer.data)) - 1
    assert n > 3
    assert window.said[-1].startswith(f"{n} cells in view in ")
    assert ("1/" in window.said[-1]) == (factor > 1)
    assert layer.data.size < 4 * 1.1 * (100 * 100) * (2 if place else 1) ** 2 + 1000
    # each pixel of a cell lies on a square
    pixels = np.argwhere(layer.data > 0)
    world = np.stack([layer.data_to_world(pixel) for pixel in pixels[:: max(1, len(pixels) // 99)]])
    rows, columns = np.rint([image.world_to_data(point) for point in world]).astype(int).T
    assert (image.data[0][rows, columns] == 100).mean() > 0.97


def test_a_plane_of_a_stack_is_looked_at(viewer: Any) -> None:
    planes = np.stack([np.zeros((800, 800), np.uint8), pyramid()[0]])
    image = viewer.add_image(planes, name="stack")
    look_at(viewer, (400, 400), 1.0)
    assert run(viewer, image, (0,)).said == [
        "All that is in view has one value: there is nothing to find."
    ]
    assert len(viewer.layers) == 1
    run(viewer, image, (1,))
    layer = viewer.layers["stack preview"]
    assert layer.data.shape[0] == 1
    assert layer.translate[0] == 1


def test_a_later_look_replaces_the_one_before_and_is_no_result(viewer: Any) -> None:
    image = viewer.add_image(pyramid(), multiscale=True, name="slide")
    for middle in (100, 600):
        look_at(viewer, (middle, middle), 1.0)
        run(viewer, image)
    layer = viewer.layers["slide preview"]
    assert len(viewer.layers) == 2
    assert layer.translate[0] > 500
    assert layer.visible
    assert layer.metadata[OURS]["role"] == PREVIEW
    assert not layer.editable
    assert labels_layers(viewer.layers) == []
    assert image_layers(viewer.layers) == [image]
    hide_previews(viewer, "another image")
    assert layer.visible
    hide_previews(viewer, image_id(image))
    assert not layer.visible


def test_what_cannot_be_looked_at_is_a_sentence(viewer: Any, monkeypatch: Any) -> None:
    image = viewer.add_image(pyramid()[0], name="slide")
    look_at(viewer, (400, 400), 0.1)
    run(viewer, image)  # pixels are left out
    assert viewer.layers["slide preview"].scale[0] == 10
    monkeypatch.setattr(view_run, "MOST_READ", 1000)
    with pytest.raises(UserError, match="holds no copies at lower resolutions"):
        run(viewer, image)
    look_at(viewer, (5000, 5000), 1.0)
    with pytest.raises(UserError, match="Nothing of 'slide' is in view"):
        run(viewer, image)
