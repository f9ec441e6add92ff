"""What napari has no public name for, in whichever napari is installed, and in ones before."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet_cells.widgets.napari_versions import (
    Locked,
    add_hidden,
    camera_of,
    canvas_size,
    levels_of,
)


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


@pytest.mark.gui
def test_layers_that_are_added_hidden_get_the_tools_with_the_first_one(make_napari_viewer, qtbot):
    from napari.layers import Labels

    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.eye(20))
    layer = Labels(np.zeros((20, 20), int), name="cells")
    add_hidden(viewer, layer)
    assert viewer.layers[-1] is layer
    assert (layer.visible, viewer.layers.selection.active) == (False, image)
    made = viewer.window._qt_viewer.canvas._layer_overlay_to_visual[layer]
    polygon, stroke = layer._overlays["polygon"], layer._overlays.get("brush_stroke")
    assert polygon not in made

    layer.visible = True
    viewer.layers.selection.active = layer
    assert polygon not in made
    layer.mode = "polygon"
    qtbot.wait(20)

    assert polygon in made
    assert stroke is None or stroke in made
    assert polygon.enabled
    polygon.points = [(2, 2), (2, 9), (9, 9)]
    polygon.add_polygon_to_labels(layer)
    assert layer.data[3, 7] == layer.selected_label


@pytest.mark.gui
def test_the_next_layer_is_active_again_also_where_one_was_refused() -> None:
    from napari.components import ViewerModel
    from napari.layers import Labels

    viewer = ViewerModel()
    add_hidden(viewer, Labels(np.zeros((4, 4), int)))
    assert viewer.layers.selection.active is None
    refusing = SimpleNamespace(visible=True, events=None)
    with pytest.raises(TypeError):
        add_hidden(viewer, refusing)
    image = viewer.add_image(np.eye(4))
    assert viewer.layers.selection.active is image


@pytest.mark.gui
def test_the_newest_steps_of_undo_are_kept_where_there_is_room_for_no_more() -> None:
    from napari.layers import Labels

    layer = Labels(np.zeros((1, 200), int))
    n_steps = layer._undo_history.maxlen
    assert n_steps is not None
    for at in range(n_steps):
        layer.data_setitem((np.array([0]), np.array([at])), 1)
    assert len(layer._undo_history) == n_steps
    locked = Locked(layer)
    layer.data_setitem((np.array([0]), np.array([n_steps])), 1)  # by a program
    locked.release()
    assert len(layer._undo_history) == n_steps
    for left in range(n_steps, 0, -1):  # from the newest on; the oldest step is the one that went
        layer.undo()
        assert np.flatnonzero(layer.data[0]).tolist() == list(range(left))
    layer.undo()
    assert layer.data.sum() == 1


@pytest.mark.gui
@pytest.mark.parametrize("n", [1, 2])
def test_levels_of_a_movie_are_its_levels_also_where_there_is_one(make_napari_viewer, n) -> None:
    from napari.layers import Labels

    viewer = make_napari_viewer()
    levels = [np.zeros((5, 64 // 2**level, 64 // 2**level), np.uint8) for level in range(n)]
    layer = Labels(levels_of(levels), multiscale=True, translate=(0, 1, 2))
    add_hidden(viewer, layer)
    for _ in range(2):
        assert layer.multiscale
        assert layer.ndim == 3
        assert [level.shape for level in layer.data] == [level.shape for level in levels]
        layer.data = levels_of(levels)
