"""The part of an image in view, or inside of drawn shapes, in the pixels of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.parts import part_inside
from napari_unet_cells.errors import UserError
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.segment.values import DRAWN, VISIBLE, WHOLE
from napari_unet_cells.widgets.segment.where import part_of_image

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

BOX = np.array([(10, 20), (10, 50), (40, 50), (40, 20)], float) - 0.5


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = (100, 200)
    else:  # napari before 0.9
        viewer._canvas_size = (100, 200)
    return viewer


def look_at(viewer: Any, centre: tuple[float, float], zoom: float) -> None:
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, *centre), zoom


def box_of(viewer: Any, image: Any, where: str, shape: tuple[int, int] = (80, 90)) -> Any:
    chosen = part_of_image(viewer, image, where)
    assert chosen is not None
    part = part_inside(chosen.polygons, shape)
    assert part is not None
    return part


def refused(viewer: Any, image: Any, where: str) -> str:
    with pytest.raises(UserError) as caught:
        part_of_image(viewer, image, where)
    return str(caught.value)


def test_the_whole_image_is_no_part(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)))
    assert part_of_image(viewer, image, WHOLE) is None


@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 0.25), "translate": (7, -3)}])
def test_what_is_in_view_is_clipped_to_the_image(viewer: ViewerModel, place: Any) -> None:
    image = viewer.add_image(np.zeros((80, 90)), **place)
    middle = np.asarray(image.data_to_world((30, 10)))
    look_at(viewer, (middle[0], middle[1]), 4 / image.scale[1])  # 200 pixels are 50 of the image
    part = box_of(viewer, image, VISIBLE)
    height = 12.5 * image.scale[1] / image.scale[0]
    assert part.mask is None
    assert part.box[1] == slice(0, 35)
    assert part.box[0].start == np.ceil(30 - height)
    assert part.box[0].stop == np.ceil(30 + height)


def test_a_flipped_layer_and_a_flipped_view_show_the_same_part(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)), scale=(-1, 1), translate=(79, 0))
    look_at(viewer, (60.0, 30.0), 10)
    assert box_of(viewer, image, VISIBLE).box == np.s_[14:24, 20:40]
    camera_of(viewer).orientation2d = ("up", "left")
    assert box_of(viewer, image, VISIBLE).box == np.s_[14:24, 20:40]


def test_of_a_turned_layer_a_turned_rectangle_is_in_view(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)), rotate=45)
    middle = np.asarray(image.data_to_world((40, 40)))
    look_at(viewer, (middle[0], middle[1]), 4)
    part = box_of(viewer, image, VISIBLE)
    assert part.mask is not None
    assert np.count_nonzero(part.mask) == pytest.approx(50 * 25, rel=0.03)


def test_of_a_transposed_view_rows_and_columns_are_not_mixed_up(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)))
    viewer.dims.order = (1, 0)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, 50.0, 30.0), 10  # column 50, row 30
    assert box_of(viewer, image, VISIBLE).box == np.s_[20:40, 45:55]


def test_what_no_part_is_in_view_of_is_refused(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((3, 80, 90)), name="stack")
    look_at(viewer, (500.0, 500.0), 4)
    assert "Nothing of 'stack' is in view" in refused(viewer, image, VISIBLE)
    viewer.dims.order = (1, 0, 2)
    assert "from the side" in refused(viewer, image, VISIBLE)
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    assert "In three dimensions" in refused(viewer, image, VISIBLE)
    viewer.dims.ndisplay = 2
    viewer.add_image(np.zeros((80, 90)))
    (viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid).enabled = True
    assert "In the grid" in refused(viewer, image, VISIBLE)


def test_rectangles_polygons_and_ellipses_are_one_part(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)))
    layer = viewer.add_shapes([BOX], shape_type="rectangle")
    assert box_of(viewer, image, DRAWN).box == np.s_[10:40, 20:50]
    layer.add([BOX], shape_type="ellipse")
    layer.add([BOX[:3] + 35], shape_type="polygon")
    part = box_of(viewer, image, DRAWN)
    assert part.box == np.s_[10:75, 20:85]
    assert part.mask is not None
    assert part.mask[:30, :30].all()
    layer.data = [(BOX, "ellipse")]
    ellipse = box_of(viewer, image, DRAWN)
    assert ellipse.mask is not None
    assert np.count_nonzero(ellipse.mask) == pytest.approx(np.pi * 15**2, rel=0.02)


def test_shapes_of_another_scale_lie_where_they_are_seen(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)), scale=(0.5, 0.5), translate=(3, 4))
    world = np.stack([image.data_to_world(corner) for corner in BOX])
    viewer.add_shapes([world * (5, 2)], shape_type="polygon", scale=(0.2, 0.5))
    assert box_of(viewer, image, DRAWN).box == np.s_[10:40, 20:50]


def test_shapes_of_a_stack_count_in_their_plane(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((3, 80, 90)), scale=(2, 1, 1))
    in_plane = np.insert(BOX, 0, 1, axis=1)
    viewer.add_shapes([in_plane], shape_type="polygon", scale=(2, 1, 1))
    viewer.dims.set_point(0, 2.0)
    assert box_of(viewer, image, DRAWN).box == np.s_[10:40, 20:50]
    viewer.dims.set_point(0, 4.0)
    assert "other planes" in refused(viewer, image, DRAWN)
    viewer.add_shapes([BOX], shape_type="polygon")  # of all planes
    assert box_of(viewer, image, DRAWN).box == np.s_[10:40, 20:50]


def test_shapes_that_enclose_nothing_here_are_refused(viewer: ViewerModel) -> None:
    image = viewer.add_image(np.zeros((80, 90)), name="nuclei")
    assert "No shape is drawn" in refused(viewer, image, DRAWN)
    layer = viewer.add_shapes(name="mine")
    assert "No shape is drawn" in refused(viewer, image, DRAWN)
    layer.add([BOX + 500], shape_type="rectangle")
    assert "lie beside 'nuclei'" in refused(viewer, image, DRAWN)
    layer.add([BOX], shape_type="path")
    assert "A line in 'mine' encloses nothing" in refused(viewer, image, DRAWN)
    layer.visible = False
    assert "'mine' are hidden" in refused(viewer, image, DRAWN)
