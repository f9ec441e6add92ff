"""Camera and canvas of the viewer of whichever napari is installed, and of the ones before."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size


@pytest.mark.gui
def test_those_of_this_napari(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.eye(2))
    qtbot.wait(50)
    canvas = viewer.window._qt_viewer.canvas
    native = canvas.native
    assert canvas_size(viewer) == (native.height(), native.width())

    native.resize(native.width() // 2, native.height() // 3)
    qtbot.wait(50)

    assert canvas_size(viewer) == (native.height(), native.width())

    def pixel() -> float:
        """Pixels of the canvas that one of the image takes."""
        place = canvas.view.transform * canvas.view.scene.transform
        return float(np.linalg.norm(place.map([1, 0]) - place.map([0, 0])))

    before = pixel()
    camera_of(viewer).zoom *= 2
    qtbot.wait(50)
    assert pixel() == pytest.approx(2 * before)


def test_the_names_of_other_versions() -> None:
    new = SimpleNamespace(
        scene=SimpleNamespace(camera="c"), canvas=SimpleNamespace(size=(0, 20.6)), camera="old"
    )
    assert (camera_of(new), canvas_size(new)) == ("c", (1, 20))
    old = SimpleNamespace(camera="c", _canvas_size=(30, 0))
    assert (camera_of(old), canvas_size(old)) == ("c", (30, 1))
