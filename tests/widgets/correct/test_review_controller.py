"""The controller of the review without a window, and the state that it gives to the form."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.regions import RegionGrid, Review, State
from napari_unet_cells.layers.metadata import CELLS, OURS, REGIONS, REVIEW, result_metadata
from napari_unet_cells.widgets.camera import in_world, on_canvas
from napari_unet_cells.widgets.correct.review_controller import ReviewController
from napari_unet_cells.widgets.correct.review_state import ReviewState
from napari_unet_cells.widgets.napari_versions import camera_of, canvas_size
from napari_unet_cells.widgets.wiring import Wiring

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui

SHAPE = (120, 160)
GRID = RegionGrid(SHAPE, (2, 2))

#: Means of the regions; the second is the most uncertain, then the fourth.
DOUBTS = np.array([[10, 200], [50, 100]], np.uint8)


class View:
    """Form that keeps what it is told; a review is made when the test calls `finish`."""

    def __init__(self, timers):
        self.timer = timers.timer
        self.state = ReviewState()
        self.told: list[str] = []
        self.changed: list[object] = []
        self.labels = None
        self.focused = 0

    @property
    def making(self):
        return self.labels is not None

    def show_state(self, state):
        self.state = state

    def tell_changed(self, layer):
        self.changed.append(layer)

    def make_review(self, labels):
        self.labels = labels

    def stop_making(self):
        self.labels = None

    def inform(self, sentence):
        self.told.append(sentence)

    warn = inform

    def focus_canvas(self):
        self.focused += 1

    def window_probe(self):
        return lambda: True


@pytest.fixture
def viewer(monkeypatch):
    monkeypatch.setattr(ReviewController, "_told_cut", False)
    monkeypatch.setattr(ReviewController, "_told_parts", False)
    return ViewerModel()


@pytest.fixture
def view(timers):
    return View(timers)


@pytest.fixture
def wiring():
    return Wiring()


@pytest.fixture
def controller(viewer, view, wiring):
    return ReviewController(viewer, view, wiring)


def squares():
    labels = np.zeros(SHAPE, np.uint16)
    labels[10:30, 10:30] = 1
    labels[10:30, 100:120] = 2
    return labels


def add_cells(viewer):
    labels = squares()
    doubts = DOUBTS.repeat(10, axis=0).repeat(10, axis=1)
    metadata = result_metadata(CELLS, "none", {}) | {REVIEW: Review(labels, doubts, GRID)}
    return viewer.add_labels(labels, name="cells", metadata=metadata)


def lines(viewer):
    return [one for one in viewer.layers if one.metadata.get(OURS, {}).get("role") == REGIONS]


def test_next_goes_where_the_network_was_least_sure(viewer, view, controller):
    controller.next()
    assert view.told == ["There are no labels yet. Press Segment, or open a result."]
    cells = add_cells(viewer)
    assert (view.state.on, view.state.regions) == (False, 4)
    for number in (1, 3, 2, 0, 1):
        controller.next()
        assert controller.place() == controller.gone_to == ((), number)
        assert viewer.layers.selection.active is cells
    assert view.state.on
    assert len(lines(viewer)) == 1
    assert view.focused > 0


def test_places_on_the_canvas_and_in_the_world_are_each_other_s_inverse(viewer):
    viewer.add_image(np.zeros((3, 40, 60)), scale=(2, 0.5, 0.25))
    viewer.dims.set_point(0, 4)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0, 7, 5), 3.0
    height, width = canvas_size(viewer)
    np.testing.assert_allclose(in_world(viewer, (width / 2 + 6, height / 2)), [4, 7, 7])
    camera.orientation2d = ("up", "left")
    np.testing.assert_allclose(in_world(viewer, (width / 2 + 6, height / 2 + 3)), [4, 6, 3])
    viewer.dims.order = (1, 2, 0)
    for pos in ((0.0, 0.0), (12.5, 80.0)):
        point = in_world(viewer, pos)
        np.testing.assert_allclose(on_canvas(viewer, point[np.newaxis]), [pos])


def test_approving_goes_on_and_can_be_taken_back(viewer, view, controller):
    cells = add_cells(viewer)
    review = cells.metadata[REVIEW]
    controller.next()
    for n in range(4):
        assert view.state.approved == n
        assert not view.state.approved_here
        controller.approve()
    assert view.told == ["All 4 regions are approved."]
    assert view.changed == [cells] * 4
    assert view.state.approved_here
    controller.approve()
    assert (view.state.approved, view.state.approved_here) == (3, False)
    assert len(review.approved) == 3


def test_approving_what_was_not_segmented_is_warned_of_once(viewer, view, controller):
    cells = add_cells(viewer)
    height, width = cells.data.shape
    part = {"rows": [0, height], "columns": [0, width // 2], "date": "today"}
    cells.metadata[OURS]["provenance"] |= {"date": "today", "parts": [part]}
    controller.next()
    assert controller.gone_to == ((), 1)  # to the right of the part
    controller.approve()
    controller.approve()
    assert [told for told in view.told if "Only a part of this region" in told] == view.told[:1]


def test_a_review_is_made_of_labels_that_have_none(viewer, view, controller):
    layer = viewer.add_labels(squares(), name="painted")
    controller.next()
    assert view.labels is layer.data
    assert view.state.counted == "Looking at the labels..."
    controller.take_review(Review(layer.data))
    assert controller.gone_to == ((), 0)
    assert view.state.counted == "0 of 1 regions approved"
    assert not view.making


def test_a_review_that_fits_no_more_is_dropped(viewer, view, controller):
    layer = viewer.add_labels(squares())
    controller.switch(True)
    made = Review(layer.data)
    layer.data = np.zeros((50, 60), np.uint16)
    controller.take_review(made)
    assert REVIEW not in layer.metadata


def test_no_two_layers_are_removed_in_one_turn(viewer, view, controller, timers):
    add_cells(viewer)
    controller.switch(True)
    controller.show_uncertainty(True)
    assert len(viewer.layers) == 3
    removed = []
    viewer.layers.events.removed.connect(lambda event: removed.append(event.value))
    viewer.add_labels(np.zeros((50, 60), np.uint16), name="others")
    controller.refresh()
    assert len(removed) == 1
    assert not any(layer.visible for layer in viewer.layers if layer.name.startswith("cells unc"))
    timers.settle()
    assert len(removed) == 2
    controller.refresh()
    assert len(removed) == 2


def test_a_failure_ends_the_review_and_is_said(viewer, view, controller, timers):
    viewer.add_labels(squares())
    controller.switch(True)
    controller.fail("The memory is full.")
    assert not view.state.on
    assert not view.making
    assert view.state.note == "The memory is full."
    assert view.told == ["The memory is full."]
    timers.settle()
    assert view.state.note == ""


def test_edits_are_found_when_all_is_quiet(viewer, view, controller, timers):
    cells = add_cells(viewer)
    review = cells.metadata[REVIEW]
    timers.settle()
    cells.data_setitem((np.array([5]), np.array([105])), 7)
    assert controller.busy
    assert review.state(((), 1)) is State.UNSEEN
    timers.settle()
    assert review.state(((), 1)) is State.EDITED
    cells.undo()
    timers.settle()
    assert review.state(((), 1)) is State.UNSEEN


def test_removed_lines_end_the_review(viewer, view, controller, timers):
    add_cells(viewer)
    controller.switch(True)
    viewer.layers.remove(lines(viewer)[0])
    timers.settle()
    assert not view.state.on
    assert not lines(viewer)
    controller.show_uncertainty(True)
    assert view.state.heat
    assert len(viewer.layers) == 2
    viewer.layers.remove(viewer.layers[0])
    assert not view.state.heat


def test_after_the_end_nothing_is_heard(viewer, view, controller, wiring, timers):
    cells = add_cells(viewer)
    timers.settle()
    wiring.release()
    before = view.state
    cells.data_setitem((np.array([5]), np.array([105])), 7)
    cells.editable = False
    viewer.layers.remove(cells)
    assert not controller.busy
    assert view.state is before


# --- the state -----------------------------------------------------------------------------


def test_controls_say_what_they_do_or_why_they_cannot():
    state = ReviewState(on=True, regions=4, approved=1, heat_known=True)
    assert state.problem() is None
    assert all(control.usable for control in state.controls.values())
    assert list(state.controls) == ["review", "next", "approve", "uncertainty"]
    assert state.counted == "1 of 4 regions approved"

    off = ReviewState(regions=4)
    assert off.controls["approve"].tooltip == "Press Review first."
    assert "segmented in this session" in off.controls["uncertainty"].tooltip
    assert [control.usable for control in off.controls.values()] == [True, True, False, False]

    locked = ReviewState(why_not="'cells' cannot be edited.", on=True, heat_known=True)
    assert locked.problem() == "'cells' cannot be edited."
    assert {control.tooltip for control in locked.controls.values()} == {locked.problem()}
    assert not any(control.usable for control in locked.controls.values())


@pytest.mark.parametrize(
    ("state", "counted", "note"),
    [
        (ReviewState(), "", ""),
        (ReviewState(making=True, regions=3), "Looking at the labels...", ""),
        (ReviewState(making=True, failure="No."), "", "No."),
        (ReviewState(regions=3), "0 of 3 regions approved", ""),
    ],
)
def test_the_bar_says_how_far_it_is_and_the_note_what_failed(state, counted, note):
    assert (state.counted, state.note) == (counted, note)


def test_the_button_withdraws_where_the_region_is_approved():
    assert ReviewState().approve_text == "Approve and next"
    assert ReviewState(approved_here=True).approve_text == "Withdraw approval"
