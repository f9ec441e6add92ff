"""The review form in a real napari window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import RegionGrid, Review, State
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    OURS,
    REGIONS,
    REVIEW,
    UNCERTAINTY,
    is_ours,
    result_metadata,
)
from napari_unet_cells.layers.selection import image_layers
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.details import RunDetails
from napari_unet_cells.segmentation.pipeline import Started
from napari_unet_cells.segmentation.replacing import replace_cells
from napari_unet_cells.segmentation.result import Result
from napari_unet_cells.segmentation.run import Finished
from napari_unet_cells.widgets.correct.review_controller import ReviewController
from napari_unet_cells.widgets.correct.review_drawing import COLORS, CURRENT_COLOR
from napari_unet_cells.widgets.correct.review_form import ReviewForm
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.segment.live import current, put
from napari_unet_cells.widgets.segment.results import ResultLayers

pytestmark = pytest.mark.gui

SHAPE = (120, 160)
GRID = RegionGrid(SHAPE, (2, 2))

#: Means of the regions of one plane; the second is the most uncertain, then the fourth.
DOUBTS = np.array([[10, 200], [50, 100]], np.uint8)

#: A place that is rotated, sheared and stretched, in micrometers.
PLACE = {
    "scale": (0.5, 0.25),
    "translate": (30, -20),
    "rotate": 30,
    "units": ("micrometer", "micrometer"),
}


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch):
    monkeypatch.setattr(ReviewController, "_told_cut", False)
    return make_napari_viewer(show=True)


@pytest.fixture
def told(monkeypatch):
    """Collect what the user is told."""
    sentences: list[str] = []
    for name in ("show_info", "show_warning"):
        module = "napari_unet_cells.widgets.correct.review_form"
        monkeypatch.setattr(f"{module}.{name}", sentences.append)
    return sentences


@pytest.fixture
def form(viewer):
    form = ReviewForm(viewer)
    viewer.window.add_dock_widget(form, name="review", area="right")
    return form


def squares(shape=SHAPE):
    labels = np.zeros(shape, np.uint16)
    labels[..., 10:30, 10:30] = 1
    labels[..., 10:30, 100:120] = 2
    return labels


def doubts(planes=()):
    """Uncertainty at a sixth of the height and an eighth of the width of the labels."""
    one = DOUBTS.repeat(10, axis=0).repeat(10, axis=1)
    return np.broadcast_to(one, (*planes, 20, 20)).copy()


def add_cells(viewer, labels=None, uncertainty=True, **place):
    labels = squares() if labels is None else labels
    seen = doubts(labels.shape[:-2]) if uncertainty else None
    metadata = result_metadata(CELLS, "none", {})
    metadata[REVIEW] = Review(labels, seen, GRID)
    return viewer.add_labels(labels, name="cells", metadata=metadata, **place)


def review_of(layer):
    return layer.metadata[REVIEW]


def helpers(viewer, role):
    return [layer for layer in viewer.layers if layer.metadata.get(OURS, {}).get("role") == role]


def colors(viewer):
    """Colours of the four regions, and that of the current one."""
    (lines,) = helpers(viewer, REGIONS)
    return lines.edge_color[:16:4], lines.edge_color[-1]


def settle(qtbot, form):
    """Wait until all is looked at and drawn."""
    qtbot.wait(150)
    qtbot.waitUntil(lambda: not form.controller.busy, timeout=5_000)


def has_keyboard(form):
    """Whether the canvas would get what is typed, were this the active window."""
    return isinstance(form.window().focusWidget(), QOpenGLWidget)


# ------------------------------------------------------------------ on and off


def test_the_grid_is_there_while_review_is_on(qtbot, viewer, form):
    cells = add_cells(viewer)
    assert form.bar.text() == "0 of 4 regions approved"
    assert not helpers(viewer, REGIONS)

    form.review_button.click()

    (lines,) = helpers(viewer, REGIONS)
    assert list(viewer.layers) == [cells, lines]
    assert viewer.layers.selection.active is cells
    assert viewer.layers.selection == {cells}
    assert has_keyboard(form)
    assert is_ours(lines)
    of_regions, current = colors(viewer)
    np.testing.assert_allclose(of_regions, [COLORS[State.UNSEEN]] * 4)
    np.testing.assert_allclose(current, CURRENT_COLOR)

    form.review_button.click()
    assert list(viewer.layers) == [cells]
    assert viewer.layers.selection.active is cells


def test_the_lines_lie_within_the_regions(viewer, form):
    add_cells(viewer, **PLACE)
    form.review_button.click()
    (lines,) = helpers(viewer, REGIONS)
    ends = np.stack([lines.data[:, 0], lines.data.sum(axis=1)])
    for number, region in enumerate(GRID):
        y, x = ends[:, 4 * number : 4 * number + 4].reshape(-1, 2).T
        assert region.top - 0.5 == pytest.approx(y.min())
        assert region.bottom - 0.5 == pytest.approx(y.max())
        assert region.left - 0.5 == pytest.approx(x.min())
        assert region.right - 0.5 == pytest.approx(x.max())
    np.testing.assert_allclose(
        lines.data_to_world((3, 4)), viewer.layers["cells"].data_to_world((3, 4))
    )


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (lambda viewer: None, "There are no labels yet"),
        (lambda viewer: viewer.add_image(np.eye(9)), "There are no labels yet"),
        (lambda viewer: viewer.add_labels([squares(), squares()[::2, ::2]]), "lies in a file"),
        (
            lambda viewer: setattr(viewer.add_labels(squares()), "editable", False),
            "cannot be edited",
        ),
    ],
    ids=["nothing", "image", "levels", "locked"],
)
def test_where_nothing_can_be_reviewed_tooltips_say_why(qtbot, viewer, form, told, add, reason):
    add(viewer)
    settle(qtbot, form)
    for widget in (
        form.review_button, form.next_button, form.approve_button, form.uncertainty_box,
    ):  # fmt: skip
        assert not widget.isEnabled()
        assert reason in widget.toolTip()
    assert form.bar.text() == ""
    before = list(viewer.layers)
    form.next()
    form.approve()
    form.uncertainty_box.click()
    assert list(viewer.layers) == before
    assert all(reason in sentence for sentence in told)
    assert len(told) == 2


def test_a_failure_stands_below_the_buttons(viewer, form, told):
    assert form.note.isHidden()
    add_cells(viewer)
    form.review_button.click()
    form.controller.fail("The memory is full.")
    assert form.note.text() == "The memory is full."
    assert not form.note.isHidden()


def test_buttons_name_their_keys(form):
    assert form.next_button.text() == "Next  N"
    assert form.approve_button.text() == "Approve and next  Shift+N"
    assert form.review_button.objectName() == "review_button"
    assert form.next_button.objectName() == "review_next_button"
    assert form.approve_button.objectName() == "review_approve_button"
    assert form.bar.objectName() == "review_bar"


def test_labels_of_other_origin_get_a_review_of_what_they_are(qtbot, viewer, form):
    labels = squares().astype(np.int64)
    layer = viewer.add_labels(labels)
    assert REVIEW not in layer.metadata
    form.review_button.click()
    assert form.bar.text() == "Looking at the labels..."
    qtbot.waitUntil(lambda: REVIEW in layer.metadata, timeout=5_000)
    np.testing.assert_array_equal(review_of(layer).made(((), 0)), labels)
    assert form.bar.text() == "0 of 1 regions approved"
    assert helpers(viewer, REGIONS)
    assert not form.uncertainty_box.isEnabled()
    assert "segmented in this session" in form.uncertainty_box.toolTip()


def test_next_waits_for_a_review_that_is_being_made(qtbot, viewer, form):
    viewer.add_labels(squares())
    form.next()
    assert form.review_button.isChecked()
    qtbot.waitUntil(lambda: form.controller.gone_to == ((), 0), timeout=5_000)


# ------------------------------------------------------------------ next


def region_in_view(viewer, layer):
    """Corners of the view, in pixels of a layer that is not rotated."""
    camera = camera_of(viewer)
    size = np.divide(canvas_size(viewer), camera.zoom)
    corners = np.array(camera.center[-2:]) + np.array([[-0.5], [0.5]]) * size
    point = np.array(viewer.dims.point, float)
    data = []
    for corner in corners:
        point[-2:] = corner
        data.append(layer.world_to_data(point))
    return np.array(data)[:, -2:]


def test_next_goes_to_the_most_uncertain_region(qtbot, viewer, form):
    cells = add_cells(viewer, scale=(0.5, 0.5), translate=(7, 9))
    before = camera_of(viewer).zoom
    for number in (1, 3, 2, 0, 1):  # passed ones come again when there are no others
        form.next_button.click()
        region = GRID[number]
        (top, left), (bottom, right) = region_in_view(viewer, cells)
        middle = (region.top + region.bottom - 1) / 2, (region.left + region.right - 1) / 2
        assert ((top + bottom) / 2, (left + right) / 2) == pytest.approx(middle)
        filled = max(60 / (bottom - top), 80 / (right - left))
        assert filled == pytest.approx(0.9)
        assert viewer.layers.selection.active is cells
        assert has_keyboard(form)
    assert form.review_button.isChecked()
    assert camera_of(viewer).zoom > before


def test_next_in_a_place_that_is_rotated(viewer, form):
    cells = add_cells(viewer, **PLACE)
    form.next()
    np.testing.assert_allclose(
        camera_of(viewer).center[-2:], cells.data_to_world((29.5, 119.5)), atol=1e-6
    )
    assert form.controller.place() == ((), 1)


def stack():
    labels = squares((3, *SHAPE))
    layer = {"scale": (2.0, 0.5, 0.5), "translate": (10, 0, 0)}
    seen = doubts((3,))
    seen[2, :10, :10] = 255
    metadata = {REVIEW: Review(labels, seen, GRID)}
    return labels, layer | {"metadata": metadata}


def test_next_in_a_stack_turns_to_the_plane(qtbot, viewer, form):
    labels, place = stack()
    cells = viewer.add_labels(labels, name="cells", **place)
    viewer.dims.set_point(0, 10)
    form.next()
    assert viewer.dims.point[0] == 14
    assert form.controller.place() == ((2,), 0)
    (lines,) = helpers(viewer, REGIONS)
    assert (lines.data[:, 0, 0] == 2).all()
    assert form.bar.text() == "0 of 12 regions approved"

    form.approve()
    assert review_of(cells).state(((2,), 0)) is State.APPROVED
    assert form.controller.place() == ((0,), 1)
    np.testing.assert_allclose(colors(viewer)[0], [COLORS[State.UNSEEN]] * 4)
    viewer.dims.set_point(0, 14)
    settle(qtbot, form)
    np.testing.assert_allclose(colors(viewer)[0][0], COLORS[State.APPROVED])
    assert (helpers(viewer, REGIONS)[0].data[:, 0, 0] == 2).all()


def test_one_plane_of_a_stack_is_reviewed_where_it_lies(viewer, form):
    viewer.add_image(np.zeros((5, *SHAPE)), scale=(2, 1, 1))
    cells = add_cells(viewer, squares((1, *SHAPE)), scale=(2, 1, 1), translate=(6, 0, 0))
    viewer.dims.set_point(0, 0)
    form.next()
    assert viewer.dims.point[0] == 6
    assert form.controller.place() == ((0,), 1)
    assert viewer.layers.selection.active is cells


def test_next_turns_to_the_plane_from_a_view_in_3d(viewer, form):
    labels, place = stack()
    viewer.add_labels(labels, **place)
    form.review_button.click()
    viewer.dims.ndisplay = 3
    form.next()
    assert viewer.dims.ndisplay == 2
    assert form.controller.place() == ((2,), 0)
    viewer.dims.order = (1, 0, 2)
    form.next()
    assert viewer.dims.displayed == (1, 2)
    assert form.controller.place() == ((0,), 1)


# ------------------------------------------------------------------ approve


def test_approving_goes_on_until_all_is_done(qtbot, viewer, form, told):
    cells = add_cells(viewer)
    counts, changes = [], []
    form.counted.connect(lambda *counted: counts.append(counted))
    form.changed.connect(changes.append)
    form.next_button.click()
    for n, number in enumerate((1, 3, 2, 0), 1):
        assert form.controller.place() == ((), number)
        assert form.approve_button.text() == "Approve and next  Shift+N"
        form.approve_button.click()
        assert review_of(cells).state(((), number)) is State.APPROVED
        assert form.bar.text() == f"{n} of 4 regions approved"
        assert (form.bar.value(), form.bar.maximum()) == (n, 4)
        assert changes == [cells] * n
        assert viewer.layers.selection.active is cells
        assert has_keyboard(form)
    assert counts[-4:] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told == ["All 4 regions are approved."]
    np.testing.assert_allclose(colors(viewer)[0], [COLORS[State.APPROVED]] * 4)

    assert form.approve_button.text() == "Withdraw approval  Shift+N"
    form.approve_button.click()
    assert form.approve_button.text() == "Approve and next  Shift+N"
    assert form.bar.text() == "3 of 4 regions approved"
    assert counts[-1] == (3, 4)
    assert changes == [cells] * 5
    assert form.controller.place() == ((), 0)


def test_the_region_in_the_middle_of_the_view_is_approved(qtbot, viewer, form):
    cells = add_cells(viewer)
    form.next()
    camera_of(viewer).center = (0, 100, 20)
    settle(qtbot, form)
    (lines,) = helpers(viewer, REGIONS)
    ends = lines.data[-8:, 0]
    assert ends[:, 0].min() > 59
    assert ends[:, 1].max() < 80
    form.approve()
    assert list(review_of(cells).approved) == [((), 2)]
    assert form.controller.place() == ((), 3)  # the second was passed


def test_approving_while_review_is_off_starts_it(viewer, form):
    cells = add_cells(viewer)
    assert not form.approve_button.isEnabled()
    assert "Press Review first" in form.approve_button.toolTip()
    form.approve()
    assert not review_of(cells).approved
    assert form.controller.place() == ((), 1)
    assert form.approve_button.isEnabled()


def test_the_user_is_told_once_of_cells_that_a_border_cuts(viewer, form, told):
    labels = squares()
    labels[50:70, 100:110] = 3
    add_cells(viewer, labels)
    form.next()
    form.approve()
    form.approve()
    (sentence,) = told
    assert "completed from outside" in sentence


def test_nobody_is_told_of_cells_where_there_are_classes(viewer, form, told):
    layer = add_cells(viewer, np.ones(SHAPE, np.uint8))
    layer.metadata[OURS]["role"] = CLASSES
    form.next()
    form.approve()
    assert not told


# ------------------------------------------------------------------ edits


def test_edits_turn_a_region_orange_and_undoing_them_back(qtbot, viewer, form):
    cells = add_cells(viewer)
    form.next()
    place = form.controller.place()
    settle(qtbot, form)
    cells.mode = "paint"
    cells.paint((5, 105), 7)
    cells.paint((5, 110), 8)
    settle(qtbot, form)
    assert review_of(cells).state(place) is State.EDITED
    np.testing.assert_allclose(colors(viewer)[0][1], COLORS[State.EDITED])
    np.testing.assert_allclose(colors(viewer)[0][0], COLORS[State.UNSEEN])

    cells.undo()
    settle(qtbot, form)
    assert review_of(cells).is_edited(place)
    cells.undo()
    settle(qtbot, form)
    assert not review_of(cells).is_edited(place)
    np.testing.assert_allclose(colors(viewer)[0][1], COLORS[State.UNSEEN])
    cells.redo()
    settle(qtbot, form)
    assert review_of(cells).is_edited(place)


def test_the_keyboard_undoes_after_every_step(qtbot, viewer, form):
    cells = add_cells(viewer)
    before = cells.data.copy()
    form.next_button.click()
    cells.data_setitem((np.array([5]), np.array([105])), 7)
    assert (cells.data != before).any()
    canvas = form.window().focusWidget()
    qtbot.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(cells.data, before)


def test_edits_are_seen_while_review_is_off_and_in_other_planes(qtbot, viewer, form):
    labels, place = stack()
    cells = viewer.add_labels(labels, **place)
    settle(qtbot, form)
    viewer.dims.set_point(0, 10)
    for z in (0, 1):
        cells.data_setitem((np.array([z]), np.array([100]), np.array([9])), 5)
    settle(qtbot, form)
    edited = [place for place in review_of(cells) if review_of(cells).is_edited(place)]
    assert edited == [((0,), 2), ((1,), 2)]


def test_turning_to_another_plane_is_no_edit(qtbot, viewer, form):
    labels, place = stack()
    viewer.add_labels(labels, **place)
    settle(qtbot, form)
    viewer.dims.set_point(0, 10)
    viewer.dims.set_point(0, 12)
    assert not form.controller.edited.busy


def test_an_edit_is_known_at_the_moment_of_approval(viewer, form):
    cells = add_cells(viewer)
    form.next()
    cells.data_setitem((np.array([5]), np.array([105])), 7)
    form.approve()
    assert review_of(cells).is_edited(((), 1))


# ------------------------------------------------------------------ uncertainty


@pytest.mark.parametrize("place", [{}, PLACE], ids=["plain", "rotated"])
def test_the_heat_map_lies_over_the_same_ground_below_the_labels(qtbot, viewer, form, place):
    image = viewer.add_image(np.zeros(SHAPE), **place)
    cells = add_cells(viewer, **place)
    form.uncertainty_box.click()
    (heat,) = helpers(viewer, UNCERTAINTY)
    assert list(viewer.layers) == [image, heat, cells]
    assert viewer.layers.selection.active is cells
    for corner, of_labels in (((-0.5, -0.5), (-0.5, -0.5)), ((19.5, 19.5), (119.5, 159.5))):
        np.testing.assert_allclose(heat.data_to_world(corner), cells.data_to_world(of_labels))
    assert heat.units == cells.units
    assert image_layers(viewer.layers) == [image]
    form.review_button.click()
    form.uncertainty_box.click()
    assert heat not in viewer.layers
    assert form.review_button.isChecked()


def test_a_large_heat_map_is_thinned_out_in_its_place(viewer, form, monkeypatch):
    monkeypatch.setattr("napari_unet_cells.widgets.correct.review_drawing.LARGEST_HEAT", 9)
    cells = add_cells(viewer, **PLACE)
    form.uncertainty_box.click()
    (heat,) = helpers(viewer, UNCERTAINTY)
    assert heat.data.shape == (7, 7)  # every third of 20
    np.testing.assert_allclose(heat.data_to_world((-0.5, -0.5)), cells.data_to_world((-0.5, -0.5)))
    np.testing.assert_allclose(
        heat.data_to_world((0.5, 1.5)), cells.data_to_world((3 * 6 - 0.5, 6 * 8 - 0.5))
    )


def test_the_heat_map_of_a_stack_has_its_planes(viewer, form):
    labels, place = stack()
    cells = viewer.add_labels(labels, **place)
    form.uncertainty_box.click()
    (heat,) = helpers(viewer, UNCERTAINTY)
    assert heat.data.shape == (3, 20, 20)
    np.testing.assert_allclose(heat.data_to_world((2, 19.5, -0.5)),
                               cells.data_to_world((2, 119.5, -0.5)))  # fmt: skip
    assert viewer.dims.nsteps[0] == 3


# ------------------------------------------------------------------ layers come and go


def test_the_form_follows_the_active_labels(qtbot, viewer, form):
    first = add_cells(viewer)
    second = viewer.add_labels(squares((200, 160)), name="others")
    second.metadata[REVIEW] = Review(second.data)
    viewer.layers.selection.active = first
    form.review_button.click()
    form.uncertainty_box.click()
    form.next()
    form.approve()
    assert form.bar.text() == "1 of 4 regions approved"

    viewer.layers.selection.active = second
    settle(qtbot, form)
    assert form.bar.text() == "0 of 1 regions approved"
    assert len(helpers(viewer, REGIONS)) == 1
    assert not helpers(viewer, UNCERTAINTY)
    assert viewer.layers.selection.active is second

    viewer.layers.selection.active = helpers(viewer, REGIONS)[0]
    settle(qtbot, form)
    assert form.bar.text() == "0 of 1 regions approved"
    form.next()
    assert viewer.layers.selection.active is second

    viewer.layers.selection.active = first
    settle(qtbot, form)
    assert form.bar.text() == "1 of 4 regions approved"
    assert len(helpers(viewer, UNCERTAINTY)) == 1


def test_lines_and_heat_map_move_with_the_labels(qtbot, viewer, form):
    cells = add_cells(viewer)
    form.review_button.click()
    form.uncertainty_box.click()
    cells.scale = (3, 2)
    cells.translate = (5, 5)
    settle(qtbot, form)
    for role in (REGIONS, UNCERTAINTY):
        (layer,) = helpers(viewer, role)
        np.testing.assert_allclose(
            layer.data_to_world((-0.5, -0.5)), cells.data_to_world((-0.5, -0.5))
        )
    assert viewer.layers.selection.active is cells


@pytest.mark.parametrize("role", [REGIONS, UNCERTAINTY])
def test_a_helper_that_the_user_removes_stays_away(qtbot, viewer, form, role):
    add_cells(viewer)
    form.review_button.click()
    form.uncertainty_box.click()
    viewer.layers.remove(helpers(viewer, role)[0])
    settle(qtbot, form)
    assert form.review_button.isChecked() == (role != REGIONS)
    assert form.uncertainty_box.isChecked() == (role != UNCERTAINTY)
    assert len(viewer.layers) == 2
    form.review_button.setChecked(True)
    form.uncertainty_box.setChecked(True)
    assert len(viewer.layers) == 3


@pytest.mark.parametrize("everything", [False, True])
def test_removing_the_labels_removes_what_was_drawn(qtbot, viewer, form, everything):
    cells = add_cells(viewer)
    form.uncertainty_box.click()
    form.next()
    if everything:
        viewer.layers.select_all()
        viewer.layers.remove_selected()
    else:
        viewer.layers.remove(cells)
    settle(qtbot, form)
    assert not list(viewer.layers)
    assert form.bar.text() == ""
    assert not form.review_button.isEnabled()
    assert not form.review_button.isChecked()
    add_cells(viewer)
    assert form.bar.text() == "0 of 4 regions approved"


def test_a_new_array_of_another_shape_is_reviewed_anew(qtbot, viewer, form):
    cells = add_cells(viewer)
    form.review_button.click()
    cells.data = squares((200, 160))
    settle(qtbot, form)
    qtbot.waitUntil(lambda: review_of(cells).fits(cells.data), timeout=5_000)
    settle(qtbot, form)
    assert form.bar.text() == "0 of 1 regions approved"


def test_labels_that_cannot_be_edited_end_the_review(qtbot, viewer, form):
    add_cells(viewer)
    form.review_button.click()
    viewer.add_labels(squares(), name="classes").editable = False
    settle(qtbot, form)
    assert not form.review_button.isChecked()
    assert "cannot be edited" in form.review_button.toolTip()
    assert not helpers(viewer, REGIONS)


@pytest.mark.parametrize("making", [False, True])
def test_closing_the_dock_clears_up(qtbot, viewer, form, making):
    if making:
        cells = viewer.add_labels(squares((2000, 2000)))
    else:
        cells = add_cells(viewer)
        form.uncertainty_box.click()
    form.next()
    viewer.window.remove_dock_widget(form)
    destroyed = []
    form.destroyed.connect(lambda: destroyed.append(True))
    form.deleteLater()
    qtbot.waitUntil(lambda: bool(destroyed), timeout=5_000)
    qtbot.waitUntil(lambda: list(viewer.layers) == [cells], timeout=5_000)
    cells.data_setitem((np.array([5]), np.array([15])), 7)
    cells.scale = (2, 2)
    camera_of(viewer).zoom = 3
    viewer.layers.remove(cells)
    qtbot.wait(200)


def test_closing_the_window_while_reviewing(qtbot, make_napari_viewer):
    viewer = make_napari_viewer()
    form = ReviewForm(viewer)
    viewer.window.add_dock_widget(form)
    add_cells(viewer)
    form.uncertainty_box.click()
    form.next()
    viewer.close()
    qtbot.wait(200)


# ------------------------------------------------------------------ of a run


def result_layers(viewer, classes=False):
    """Add the layers of a run, as the Segment section does."""
    image = viewer.add_image(np.zeros(SHAPE), name="image")
    layers = ResultLayers(viewer, image, ())
    made = squares()
    card = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")
    details = RunDetails(card=card, options=None if classes else card.instances)
    layers.begin(Started((made > 0).astype(np.uint8), details))
    layers.refresh()
    labels = (made > 0).astype(np.uint8) if classes else made
    review = Review(labels, doubts(), GRID)
    cells = None if classes else made.copy()
    result = Result(cells, (made > 0).astype(np.uint8), details, 2)
    layers.finish(Finished(result, digest(made), 400.0, review))
    layers.show_cells()
    layers.select()
    return layers, review


@pytest.mark.parametrize("classes", [False, True])
def test_the_layer_of_a_run_holds_its_review(viewer, form, classes):
    _, review = result_layers(viewer, classes)
    layer = viewer.layers.selection.active
    assert layer.name == ("image classes" if classes else "image cells")
    assert review_of(layer) is review
    assert form.review_button.isEnabled()
    assert sum(REVIEW in layer.metadata for layer in viewer.layers) == 1


def test_cells_that_are_separated_anew_keep_approvals_and_corrections(qtbot, viewer, form):
    layers, review = result_layers(viewer)
    cells = layers.cells
    form.next()
    form.approve()
    assert form.bar.text() == "1 of 4 regions approved"
    cells.data_setitem((np.array([0]), np.array([0])), 9)
    settle(qtbot, form)
    edited = [place for place in review if review.is_edited(place)]
    before, state = cells.data.copy(), current(cells)
    assert state is not None
    anew = np.zeros_like(before)
    anew[100:110, 10:20] = 1

    put(cells, replace_cells(cells.data, state, set(review.approved), anew, state.origin))
    settle(qtbot, form)

    assert cells.data[0, 0] == 9
    assert cells.data[105, 15]
    assert review_of(cells) is review
    assert form.bar.text() == "1 of 4 regions approved"
    assert [place for place in review if review.is_edited(place)] == edited
    cells.undo()
    settle(qtbot, form)
    np.testing.assert_array_equal(cells.data, before)
    assert len(helpers(viewer, REGIONS)) == 1
