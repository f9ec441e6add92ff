"""Runs of the Segment section without Qt: a viewer without a window, and threads that wait."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from itertools import permutations
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.autosave import session_of
from napari_unet_cells.corrections.left_results import keep_soon, settle
from napari_unet_cells.corrections.restoring import restore
from napari_unet_cells.corrections.session_files import sessions_folder
from napari_unet_cells.layers.image_planes import stack_axes
from napari_unet_cells.layers.metadata import CELLS, OURS, REVIEW, image_id, result_metadata
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation import part_run as part_run_module
from napari_unet_cells.segmentation import pipeline as pipeline_module
from napari_unet_cells.segmentation import run as run_module
from napari_unet_cells.segmentation.cell_diameter import Estimate
from napari_unet_cells.segmentation.pipeline import Progress
from napari_unet_cells.segmentation.replacing import pack_replacement
from napari_unet_cells.settings import recall
from napari_unet_cells.widgets.segment import going_back as going_back_module
from napari_unet_cells.widgets.segment import jobs as jobs_module
from napari_unet_cells.widgets.segment.channels import shown_plane
from napari_unet_cells.widgets.segment.controller import SegmentController
from napari_unet_cells.widgets.segment.jobs import Ended, Step
from napari_unet_cells.widgets.segment.live import current, current_result, put
from napari_unet_cells.widgets.segment.results import replaced
from napari_unet_cells.widgets.segment.runs import Answer
from napari_unet_cells.widgets.segment.values import SegmentValues, StackValues
from napari_unet_cells.widgets.segment.view import Runners

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

CARD = ModelCard("cells", "none", ("background", "cell", "boundary"), 1, 1, 0, sha256="")


def squares_are_cells(batch):
    cell = (batch > 0.5).astype(np.uint8)
    return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)


def two_squares():
    image = np.zeros((40, 50), np.uint8)
    image[5:15, 5:15] = image[20:35, 20:40] = 100
    return image


class Window:
    """Writes down what it is told to show."""

    def __init__(self) -> None:
        self.shown = []

    def __getattr__(self, name):
        """Give a method of this name."""
        return lambda *values: self.shown.append((name, *values))

    def last(self, name):
        return [said[1:] for said in self.shown if said[0] == name][-1]


class Controlled(SegmentController):
    """A controller with its window and its threads at hand."""

    def __init__(self, viewer: Any, engine: Any, window: Any, runners: Any) -> None:
        super().__init__(viewer, engine, window, runners)
        self.engine, self.window, self.runners = engine, window, runners


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def controller(viewer, make_thread, monkeypatch):
    for module in (run_module, part_run_module):
        monkeypatch.setattr(module, "find_model", lambda name: CARD)
    network = FunctionNetwork(squares_are_cells)
    engine = SimpleNamespace(open=lambda card, stop: network, pid=1)
    runners = Runners(make_thread(), make_thread(), make_thread())
    return Controlled(viewer, engine, Window(), runners)


def names(viewer):
    return [layer.name for layer in viewer.layers]


def finish(controller):
    """Let the run come to its end."""
    while controller.runners.run.running:  # again where somebody painted meanwhile
        for answer in controller.runners.run.end():
            controller.receive(answer)


def end_of(answers):
    """Give the end of a run among its answers."""
    return next(answer.event for answer in answers if isinstance(answer.event, Ended))


def values_of(image, **stack):
    return SegmentValues(image, StackValues(stack_axes(image), **stack), "cells", diameter=10)


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.segment.controller; "
        "assert not {'qtpy', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_shows_its_tiles_and_ends_with_cells(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    assert controller.start(values_of(image))
    assert controller.window.last("say") == (
        "The network is warming up; the run starts by itself.",
    )
    assert not controller.adjustable

    finish(controller)

    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert viewer.layers["nuclei cells"].data.max() == 2
    assert not viewer.layers["nuclei classes"].visible
    assert controller.window.last("show_device") == ("a function",)
    assert controller.window.last("say")[0].startswith("2 cells in ")
    assert controller.window.last("show_progress") == (1.0, "separating the cells")
    assert controller.window.last("offer_adjustment") == (CARD.instances, 1.0, 200.0)
    assert controller.adjustable


def test_a_run_says_what_it_does_until_the_first_tile(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(replace(values_of(image), diameter=0))
    while controller.window.last("show_progress")[0] == 0.0:
        controller.receive(next(controller.runners.run.events))
    controller.runners.run.events = None
    controller.cancelled()
    said = [values[0] for name, *values in controller.window.shown if name == "say"]
    assert said == [
        "The network is warming up; the run starts by itself.",
        "Estimating the cell size.",
        "Segmenting.",  # this model knows no size
        "Cancelled. The classes of the finished tiles are kept.",
    ]

    controller.start(values_of(image))
    assert controller.window.last("say") == ("Reading the image.",)
    finish(controller)
    assert controller.window.last("say")[0].startswith("2 cells in ")


@pytest.mark.parametrize(("other", "offered"), [(40.0, [(40.0,)]), (0.0, [])])
def test_where_the_size_is_a_guess_the_other_one_is_offered(
    viewer, controller, monkeypatch, other, offered
):
    guess = Estimate(14.0, unsure=True, other=other)
    monkeypatch.setattr(pipeline_module, "estimate_diameter", lambda *_: guess)
    monkeypatch.setattr(
        run_module, "find_model", lambda name: replace(CARD, diameter_window=(14.0, 20.0))
    )
    values = values_of(viewer.add_image(two_squares(), name="nuclei"))
    controller.start(replace(values, diameter=0))
    finish(controller)
    shown = controller.window.shown
    assert [tuple(said) for name, *said in shown if name == "offer_size"] == offered
    assert "The cell size of 14 px is a guess" in controller.window.last("say")[0]
    assert [name for name, *_ in shown if name in ("say", "offer_size")][-1] == (
        "offer_size" if other else "say"  # what is said takes the offer away
    )


def receive_until(controller, kind):
    """Let a run go on until an answer of a kind, such as `Ended` or a `Step`, was taken over."""
    for answer in controller.runners.run.events:
        controller.receive(answer)
        if answer.event is kind or (isinstance(kind, type) and isinstance(answer.event, kind)):
            return
    raise AssertionError(f"no {kind}")


def test_layers_come_hidden_then_are_shown_then_active(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    receive_until(controller, Progress)
    classes = viewer.layers["nuclei classes"]
    assert (classes.visible, viewer.layers.selection.active) == (False, image)
    receive_until(controller, Step.TILES)
    assert (classes.visible, viewer.layers.selection.active) == (True, image)
    receive_until(controller, Ended)
    cells = viewer.layers["nuclei cells"]
    assert (classes.visible, cells.visible) == (True, False)
    assert viewer.layers.selection.active is image
    receive_until(controller, Step.SHOW)
    assert (classes.visible, cells.visible) == (False, True)
    assert viewer.layers.selection.active is image
    receive_until(controller, Step.SELECT)
    assert viewer.layers.selection.active is cells
    assert cells.editable
    assert controller.window.last("say")[0].startswith("2 cells in ")


@pytest.mark.parametrize("last", [Ended, Step.SHOW])
def test_a_run_that_is_cancelled_with_its_result_there_ends_with_it(viewer, controller, last):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    receive_until(controller, last)
    controller.runners.run.events = None
    controller.cancelled()
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert [layer.visible for layer in viewer.layers] == [True, False, True]
    assert viewer.layers.selection.active is viewer.layers["nuclei cells"]
    assert controller.window.last("say")[0].startswith("2 cells in ")
    assert controller.adjustable


def test_tiles_of_a_run_that_is_cancelled_before_they_were_shown_are_shown(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    receive_until(controller, Progress)
    controller.runners.run.events = None
    controller.cancelled()
    assert names(viewer) == ["nuclei", "nuclei classes (cancelled)"]
    assert viewer.layers[1].visible
    assert controller.window.last("say")[0].startswith("Cancelled. The classes of")


def test_cells_that_are_removed_before_they_are_shown_stay_away(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    receive_until(controller, Ended)
    cells = viewer.layers["nuclei cells"]
    viewer.layers.remove(cells)
    controller.layer_removed(cells)
    finish(controller)
    assert names(viewer) == ["nuclei", "nuclei classes"]
    assert viewer.layers["nuclei classes"].visible
    assert viewer.layers.selection.active is image


def test_what_the_last_run_kept_is_given_for_its_cells_only(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    (kept,) = controller.fragments_of(cells)
    assert kept.base.shape == cells.data.shape
    assert len(controller.fragments_of(viewer.layers["nuclei classes"])) == 0
    viewer.layers.remove(cells)
    assert len(controller.fragments_of(cells)) == 0


def test_what_prevents_a_run_is_said_and_nothing_is_split(viewer, controller):
    data = np.stack([two_squares()] * 2)
    image = viewer.add_image(data, name="two")
    assert not controller.start(values_of(image, channel_axis=0, channel=5))
    assert "There is no channel 6" in controller.window.last("warn")[0]
    assert names(viewer) == ["two"]
    assert not controller.runners.run.running


def test_a_channel_is_split_off_when_the_run_starts(viewer, controller, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    image = viewer.add_image(np.stack([two_squares() * 0, two_squares()]), name="two")
    values = values_of(image, channel_axis=0, channel=1)
    assert recall(values.stack.memory) is None
    assert controller.start(values)
    assert names(viewer) == ["two channel 1", "two channel 2"]
    assert controller.window.last("show_stack") == (values.stack,)
    finish(controller)
    assert names(viewer)[-1] == "two channel 2 cells"
    assert recall(values.stack.memory) == 0


LENGTHS = {"T": 2, "Z": 3, "C": 2}

#: Every order of every one, two or three axes before (y, x).
ORDERS = ["".join(o) for n in (1, 2, 3) for o in permutations("TZC", n)]


def counted_stack(axes):
    """Make a stack where each plane has its own number of squares, and give the numbers."""
    numbers = np.arange(1, 1 + prod(LENGTHS[a] for a in axes)).reshape([LENGTHS[a] for a in axes])
    data = np.zeros((*numbers.shape, 24, 44), np.uint8)
    for index, n in np.ndenumerate(numbers):
        for square in range(n):
            y, x = 2 + 7 * (square // 6), 1 + 7 * (square % 6)
            data[index][y : y + 5, x : x + 5] = 100
    return data, numbers


def move_sliders(viewer, image, at):
    first = viewer.dims.ndim - image.ndim
    for axis, value in enumerate(image.data_to_world((*at, 0, 0))[: len(at)]):
        viewer.dims.set_point(first + axis, value)


def press_at(controller, data, at, axis, channel, other=False):
    """Show a stack at a position and segment; give the layer that is segmented."""
    viewer = controller._viewer = ViewerModel()
    if other:
        viewer.add_image(np.zeros((5, 4, 6, 24, 44)), name="other")
    image = viewer.add_image(data, name="stack", scale=(*[2.5, 3, 7][: len(at)], 1, 1))
    move_sliders(viewer, image, at)
    assert shown_plane(viewer, image) == at
    assert controller.start(values_of(image, channel_axis=axis, channel=channel))
    return viewer.layers.selection.active


@pytest.mark.parametrize("axes", ORDERS)
def test_what_is_shown_is_segmented(controller, axes):
    data, numbers = counted_stack(axes)
    axis = axes.index("C") if "C" in axes else None
    seen = set()
    for at in np.ndindex(numbers.shape):
        for channel in range(LENGTHS["C"] if "C" in axes else 1):
            layer = press_at(controller, data, at, axis, channel)
            found = end_of(controller.runners.run.end()).event.result.n_cells
            wanted = tuple(channel if i == axis else index for i, index in enumerate(at))
            assert found == numbers[wanted]
            # The sliders still show this plane.
            shown = tuple(index for i, index in enumerate(at) if i != axis)
            assert shown_plane(controller._viewer, layer) == shown
            seen.add(found)
    assert seen == set(range(1, 1 + numbers.size))


@pytest.mark.parametrize("axes", ORDERS)
def test_cells_lie_on_the_plane_that_is_shown_also_beside_another_stack(controller, axes):
    data, numbers = counted_stack(axes)
    axis = axes.index("C") if "C" in axes else None
    at = tuple(n - 1 for n in numbers.shape)
    layer = press_at(controller, data, at, axis, 0, other=True)
    finish(controller)
    cells = controller._viewer.layers[-1]
    assert cells.name == f"{layer.name} cells"
    wanted = tuple(0 if i == axis else index for i, index in enumerate(at))
    assert len(np.unique(cells.data)) - 1 == numbers[wanted]
    shown = tuple(index for i, index in enumerate(at) if i != axis)
    assert shown_plane(controller._viewer, layer) == shown
    corner = layer.data_to_world((*shown, 0, 0))
    np.testing.assert_allclose(cells.data_to_world((0,) * cells.ndim), corner)


def three_channels():
    other = np.zeros((40, 50), np.uint8)
    other[20:35, 2:12] = 4
    return np.stack([two_squares(), np.roll(two_squares(), 3, axis=0), other])


def test_chosen_channels_together_have_the_cells_of_each(viewer, controller):
    image = viewer.add_image(three_channels(), name="three")
    assert controller.start(
        values_of(image, channel_axis=0, projection="max", channels=(0, 2), names=("A", "B", "C"))
    )
    waiting = viewer.layers["three max of A, C"]
    assert not waiting.data.any()  # its thread computes it
    finish(controller)
    assert waiting.data.max() == 1
    cells = viewer.layers["three max of A, C cells"]
    assert cells.data.max() == 3
    source = cells.metadata[OURS]["provenance"]["source"]
    assert (source["channels"], source["projection"]) == ([0, 2], "max")


def test_another_projection_and_another_channel_need_no_file(viewer, controller):
    image = viewer.add_image(three_channels(), name="three")
    controller.start(values_of(image, channel_axis=0, channel=0))
    finish(controller)
    channel = viewer.layers["three channel 1"]
    controller.start(values_of(channel, n_split=3, projection="mean", channels=(1, 2)))
    finish(controller)
    assert viewer.layers["three mean of channel 2, channel 3 cells"].data.max() > 0
    assert not viewer.layers["three channel 1 cells"].visible
    controller.start(values_of(channel, n_split=3, channel=2))
    finish(controller)
    assert viewer.layers["three channel 3 cells"].data.max() == 1
    before = names(viewer)
    controller.start(values_of(channel, n_split=3, channel=0))  # once more
    finish(controller)
    assert names(viewer) == before


def test_a_projection_of_a_run_that_was_cancelled_is_no_black_image(viewer, controller):
    image = viewer.add_image(three_channels(), name="three")
    controller.start(values_of(image, channel_axis=0, projection="max", channels=(0, 2)))
    controller.runners.run.events = None
    controller.cancelled()
    assert names(viewer) == ["three channel 1", "three channel 2", "three channel 3"]
    assert all(layer.visible for layer in viewer.layers)


def test_a_second_press_waits_for_the_first(viewer, controller):
    image = viewer.add_image(two_squares())
    assert controller.start(values_of(image))
    assert not controller.start(values_of(image))
    assert controller.number == 1


def test_answers_of_an_earlier_run_are_dropped(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    late = controller.runners.run.end()
    assert end_of(late)
    controller.start(values_of(image))

    for answer in late:
        controller.receive(answer)

    assert names(viewer) == ["nuclei"]
    finish(controller)
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]


def adjusted(controller, **options) -> Answer:
    controller.adjust(replace(CARD.instances, **options))
    (answer,) = controller.runners.adjusting.end()
    return answer


def test_cells_are_separated_anew_in_their_layer(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    cells = viewer.layers["nuclei cells"]

    controller.show_adjusted(adjusted(controller, min_size=150))

    assert names(viewer).count("nuclei cells") == 1
    assert np.unique(cells.data).tolist() == [0, 2]
    made = cells.metadata[OURS]["provenance"]["parameters"]["instances"]
    assert made["min_size"] == 150
    assert controller.window.last("say") == ("1 cell",)


def segmented(viewer, controller, image=None):
    """Cells of a run, with the state that the section keeps in view."""
    image = viewer.add_image(two_squares() if image is None else image, name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    return viewer.layers["nuclei cells"]


def correct(layer, y, x, label):
    layer.data_setitem((np.array([y]), np.array([x])), label)


def test_corrected_cells_are_kept_in_their_layer(viewer, controller):
    cells = segmented(viewer, controller)
    correct(cells, 5, 5, 0)  # the smaller cell was cut
    correct(cells, 0, 0, 9)
    before = cells.data.copy()
    review = cells.metadata[REVIEW]

    controller.show_adjusted(adjusted(controller, min_size=150))
    np.testing.assert_array_equal(cells.data > 0, before > 0)

    controller.show_adjusted(adjusted(controller, min_size=900))
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert cells.metadata[REVIEW] is review
    assert not cells.data[20:35, 20:40].any()  # nobody corrected the larger one
    np.testing.assert_array_equal(cells.data[:16, :16], before[:16, :16])

    cells.undo()
    np.testing.assert_array_equal(cells.data, before)


def test_cells_that_stay_keep_their_numbers(viewer, controller):
    cells = segmented(viewer, controller)
    number = cells.data[30, 30]
    assert number == 2
    controller.show_adjusted(adjusted(controller, min_size=150))
    assert cells.data[30, 30] == number
    assert not cells.data[10, 10]


def test_approved_regions_are_kept_and_stay_approved(viewer, controller):
    large = np.zeros((600, 600), np.uint8)
    large[10:20, 10:20] = large[500:510, 500:520] = 100
    cells = segmented(viewer, controller, large)
    review = cells.metadata[REVIEW]
    first, last = ((), 0), ((), len(review) - 1)
    review.approve(first)
    before = cells.data.copy()

    controller.show_adjusted(adjusted(controller, min_size=250))

    assert cells.data[15, 15]
    assert not cells.data[505, 510]
    assert list(review.approved) == [first]
    assert not review.is_edited(last)
    controller.show_adjusted(adjusted(controller))
    np.testing.assert_array_equal(cells.data, before)
    assert list(review.approved) == [first]


def test_one_slider_is_one_step_of_undo_and_back_again_is_none(viewer, controller):
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 9)
    corrected = cells.data.copy()
    for min_size in (120, 140, 160):
        controller.show_adjusted(adjusted(controller, min_size=min_size))
    cells.undo()
    np.testing.assert_array_equal(cells.data, corrected)
    cells.redo()
    assert not cells.data[10, 10]

    controller.show_adjusted(adjusted(controller))
    np.testing.assert_array_equal(cells.data, corrected)
    cells.undo()  # the correction, since the slider is where it was
    assert cells.data[0, 0] == 0


def test_undo_goes_back_to_where_a_slider_began_to_move(viewer, controller):
    """Its first steps may change no cell, and are no step of undo."""
    cells = segmented(viewer, controller)
    made = cells.data.copy()
    for min_size in (13, 14):
        controller.show_adjusted(adjusted(controller, min_size=min_size))
        np.testing.assert_array_equal(cells.data, made)
    controller.show_adjusted(adjusted(controller, min_size=900))
    assert not cells.data.any()
    cells.undo()
    controller.look()
    np.testing.assert_array_equal(cells.data, made)
    assert controller.window.last("offer_adjustment")[0] == CARD.instances


def test_undo_keeps_another_slider_where_it_was_put(viewer, controller):
    cells = segmented(viewer, controller)
    controller.show_adjusted(adjusted(controller, split=0.99))
    controller.show_adjusted(adjusted(controller, split=0.99, min_size=13))
    controller.show_adjusted(adjusted(controller, split=0.99, min_size=900))
    assert not cells.data.any()
    cells.undo()
    controller.look()
    options = controller.window.last("offer_adjustment")[0]
    assert options == replace(CARD.instances, split=0.99)


def test_tracking_after_a_slider_is_a_step_of_its_own(viewer, controller):
    image = viewer.add_image(np.stack([two_squares()] * 2), name="nuclei")
    controller.start(values_of(image, all_planes=True))
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    controller.show_adjusted(adjusted(controller, min_size=150))
    labels, state = cells.data.copy(), current(cells)
    named = np.where(labels > 0, labels + 5, 0).astype(labels.dtype)
    nothing = np.zeros(labels.shape, bool)
    origin = state.origin.tracked({})
    put(cells, pack_replacement(labels, state, (), origin, (named, nothing, nothing)))
    np.testing.assert_array_equal(cells.data, named)
    cells.undo()
    np.testing.assert_array_equal(cells.data, labels)


def test_the_controls_follow_undo_and_redo(viewer, controller):
    cells = segmented(viewer, controller)
    made = cells.metadata[OURS]
    review = cells.metadata[REVIEW]
    correct(cells, 0, 0, 9)
    controller.show_adjusted(adjusted(controller, min_size=150))
    n_shown = len(controller.window.shown)
    controller.look()
    assert controller.window.shown[n_shown:] == [("show_adjustable", "")]  # nothing has moved
    adjusted_made = cells.metadata[OURS]
    assert adjusted_made != made

    assert controller.window.last("say")[0].endswith("cells")
    cells.undo()
    cells.undo()
    controller.look()
    assert controller.window.last("say") == ("",)  # the count was that of other cells
    assert controller.window.last("offer_adjustment")[0] == CARD.instances
    assert cells.metadata[OURS] == made
    assert not review.is_edited(((), 0))

    # The correction was undone, so nothing is frozen.
    controller.show_adjusted(adjusted(controller, min_size=900))
    assert not cells.data.any()
    cells.undo()
    controller.look()
    assert controller.window.last("offer_adjustment")[0].min_size == 12
    cells.redo()
    controller.look()
    assert controller.window.last("offer_adjustment")[0].min_size == 900


def test_what_was_corrected_while_the_thread_worked_is_kept(viewer, controller):
    cells = segmented(viewer, controller)
    late = adjusted(controller, min_size=900)
    correct(cells, 0, 0, 9)

    controller.show_adjusted(late)

    assert cells.data[10, 10]
    (again,) = controller.runners.adjusting.end()
    controller.show_adjusted(again)
    assert cells.data[0, 0] == 9
    assert not cells.data[10, 10]


def test_ids_beyond_the_data_type_are_held_and_the_corrections_with_them(viewer, controller):
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 65535)
    correct(cells, 5, 5, 0)
    before = cells.data.copy()
    run_again(viewer, controller)  # its cell 1 cannot be called so
    assert cells.data.dtype == np.uint32
    assert cells.data[10, 17] == 65536
    np.testing.assert_array_equal(cells.data[:16, :15], before[:16, :15])
    cells.undo()
    np.testing.assert_array_equal(cells.data, before)


def test_each_image_has_its_controls(viewer, controller):
    first = segmented(viewer, controller)
    other = np.zeros((40, 50), np.uint8)
    other[5:15, 5:15] = 100
    second = viewer.add_image(other, name="other")
    controller.start(values_of(second))
    finish(controller)
    controller.show_adjusted(adjusted(controller, min_size=150))
    assert not viewer.layers["other cells"].data.any()

    viewer.layers.selection.active = first
    controller.look()
    assert controller.window.last("offer_adjustment")[0] == CARD.instances
    controller.show_adjusted(adjusted(controller, min_size=250))
    assert np.unique(first.data).tolist() == [0, 2]

    viewer.layers.selection.active = second  # the image of the other cells
    controller.look()
    assert controller.window.last("offer_adjustment")[0].min_size == 150


def test_a_new_controller_finds_the_results_of_the_last(viewer, controller, make_thread):
    cells = segmented(viewer, controller)
    window = Window()
    runners = Runners(make_thread(), make_thread(), make_thread())
    again = Controlled(viewer, controller.engine, window, runners)
    again.look()
    assert again.adjustable
    assert window.last("offer_adjustment") == (CARD.instances, 1.0, 200.0)
    again.show_adjusted(adjusted(again, min_size=150))
    assert not cells.data[10, 10]


def test_cells_of_a_file_say_why_they_cannot_be_adjusted(viewer, controller):
    metadata = result_metadata(CELLS, "", {}, 5)
    viewer.add_labels(np.zeros((4, 5), np.uint16), metadata=metadata)
    controller.look()
    (problem,) = controller.window.last("show_adjustable")
    assert problem == "These cells were opened from a file; run Segment to adjust them."
    viewer.layers.clear()
    controller.look()
    assert controller.window.last("show_adjustable") == (None,)


def test_a_second_run_replaces_what_was_not_corrected(viewer, controller):
    cells = segmented(viewer, controller)
    image = viewer.layers["nuclei"]
    correct(cells, 5, 5, 0)
    before = cells.data.copy()
    cells.visible = False
    image.data = np.roll(two_squares(), 5, axis=1)
    first = cells.metadata[OURS]["provenance"]["date"]

    controller.start(values_of(image))
    finish(controller)

    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert len(np.unique(cells.data)) - 1 == 3  # the corrected one, half of one, and the moved one
    assert controller.window.last("say")[0].startswith("3 cells in ")  # and not the run's two
    assert cells.visible
    assert viewer.layers.selection.active is cells
    assert cells.data[5, 5] == 0
    np.testing.assert_array_equal(cells.data[:16, :15], before[:16, :15])
    np.testing.assert_array_equal(cells.data[20:35, 25:45] > 0, True)
    assert not cells.data[20:35, 20:25].any()
    np.testing.assert_array_equal(viewer.layers["nuclei classes"].data, image.data > 0)
    cells.undo()
    controller.look()
    np.testing.assert_array_equal(cells.data, before)
    assert cells.metadata[OURS]["provenance"]["date"] == first


def paint_before_the_end(controller, cells):
    """Let a run go on to its end, and paint while that is on its way to the window."""
    for answer in controller.runners.run.events:
        if isinstance(answer.event, Ended):
            correct(cells, 0, 0, 9)
        controller.receive(answer)
        if isinstance(answer.event, Ended):
            return


def test_what_is_painted_before_the_end_has_a_thread_make_it_anew(viewer, controller):
    cells = segmented(viewer, controller)
    controller.start(values_of(viewer.layers["nuclei"]))
    first = controller.runners.run.events
    paint_before_the_end(controller, cells)
    painted = cells.data.copy()
    # Nothing was computed in the window: another job of the same run does.
    assert controller.runners.run.events is not first
    np.testing.assert_array_equal(cells.data, painted)

    finish(controller)

    assert cells.data[0, 0] == 9
    assert controller.window.last("say")[0].startswith("3 cells in ")
    cells.undo()  # the run
    np.testing.assert_array_equal(cells.data, painted)


def test_a_run_that_is_cancelled_while_it_is_made_anew_shows_its_result(viewer, controller):
    cells = segmented(viewer, controller)
    viewer.layers["nuclei"].data = np.roll(two_squares(), 5, axis=1)
    controller.start(values_of(viewer.layers["nuclei"]))
    paint_before_the_end(controller, cells)
    painted = cells.data.copy()
    controller.runners.run.events = None
    controller.cancelled()
    assert cells.data[0, 0] == 9
    assert not np.array_equal(cells.data, painted)
    assert viewer.layers.selection.active is cells
    assert controller.window.last("say")[0].startswith("3 cells in ")
    cells.undo()
    np.testing.assert_array_equal(cells.data, painted)


def test_a_hand_that_never_rests_sees_the_result(viewer, controller):
    cells = segmented(viewer, controller)
    controller.start(values_of(viewer.layers["nuclei"]))
    paint_before_the_end(controller, cells)
    passes = 0
    while controller.runners.run.running and passes < 9:
        passes += 1
        for answer in controller.runners.run.end():
            if isinstance(answer.event, Ended):
                correct(cells, 0, passes, 9)
            controller.receive(answer)
    assert passes == 2
    np.testing.assert_array_equal(cells.data[0, :4], [9, 9, 9, 0])
    assert controller.window.last("say")[0].startswith("3 cells in ")


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_result_that_cannot_be_put_into_painted_cells_lies_beside_them(
    viewer, controller, monkeypatch, how
):
    cells = segmented(viewer, controller)
    viewer.layers["nuclei"].data = np.roll(two_squares(), 5, axis=1)

    def full(*_):
        raise MemoryError

    controller.start(values_of(viewer.layers["nuclei"]))
    paint_before_the_end(controller, cells)
    painted = cells.data.copy()
    monkeypatch.setattr(jobs_module, "replaced", full)
    with pytest.raises(MemoryError):
        controller.runners.run.end()
    controller.runners.run.events = None
    getattr(controller, how)()
    np.testing.assert_array_equal(cells.data, painted)
    made = viewer.layers["nuclei cells [1]"]
    np.testing.assert_array_equal(made.data > 0, viewer.layers["nuclei"].data > 0)
    assert made.visible
    assert viewer.layers.selection.active is made
    assert controller.window.last("say")[0].startswith("2 cells in ")
    assert names(viewer)[1] == "nuclei classes"  # not "failed"


def test_a_run_whose_change_cannot_be_computed_still_has_its_result(
    viewer, controller, monkeypatch
):
    segmented(viewer, controller)
    tries = []

    def full_at_first(*values):
        tries.append(1)
        if len(tries) == 1:
            raise MemoryError
        return replaced(*values)

    monkeypatch.setattr(jobs_module, "replaced", full_at_first)
    controller.start(values_of(viewer.layers["nuclei"]))
    finish(controller)
    assert len(tries) == 2
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert controller.window.last("say")[0].startswith("2 cells in ")


def test_what_is_said_is_of_the_cells_that_are_shown(viewer, controller):
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 9)
    controller.start(values_of(viewer.layers["nuclei"]))
    answers = controller.runners.run.end()
    viewer.layers.remove(cells)  # with the corrected cell
    for answer in answers:
        controller.receive(answer)
    assert viewer.layers["nuclei cells"].data.max() == 2
    assert controller.window.last("say")[0].startswith("2 cells in ")


def test_what_is_corrected_during_a_second_run_is_kept(viewer, controller):
    cells = segmented(viewer, controller)
    controller.start(values_of(viewer.layers["nuclei"]))
    answers = controller.runners.run.end()
    correct(cells, 10, 10, 0)
    cells.metadata[REVIEW].approve(((), 0))
    before = cells.data.copy()
    for answer in answers:
        controller.receive(answer)
    finish(controller)
    np.testing.assert_array_equal(cells.data, before)
    assert controller.window.last("say")[0].startswith("2 cells in ")


def run_again(viewer, controller, shift=5):
    """Segment the image once more, its cells moved to the right."""
    image = viewer.layers["nuclei"]
    image.data = np.roll(two_squares(), shift, axis=1)
    controller.start(values_of(image))
    finish(controller)


def test_a_second_run_says_what_it_found(viewer, controller):
    segmented(viewer, controller)
    controller.look()
    controller.start(values_of(viewer.layers["nuclei"]))
    for answer in controller.runners.run.events:
        controller.receive(answer)
    controller.runners.run.events = None  # the thread ends, and the controls come back
    controller.look()
    assert controller.window.last("say")[0].startswith("2 cells in ")


def bring_back(controller, number):
    controller.choose_result(number)
    for answer in controller.runners.adjusting.end():
        controller.show_adjusted(answer)


def offered(controller):
    """Results in the list, the newest first, and which is shown."""
    choice = controller.window.last("show_results")[0]
    return [name.partition(", ")[2] for name in choice.names], choice.shown


def test_the_first_result_comes_back_and_undo_brings_the_second_again(viewer, controller):
    cells = segmented(viewer, controller)
    assert offered(controller) == ([], -1)
    first = cells.data.copy()
    correct(cells, 5, 5, 0)
    left = cells.data.copy()
    cells.metadata[REVIEW].approve(((), 0), "then")
    cells.metadata[REVIEW].withdraw(((), 0))
    run_again(viewer, controller)
    second = cells.data.copy()
    assert offered(controller) == (
        ["corrected (cells, 10 px)", "2 cells, corrected (cells, 10 px)"],
        0,
    )

    bring_back(controller, 1)

    np.testing.assert_array_equal(cells.data, left)
    assert controller.window.last("say")[0] == "2 cells, as you left them. Ctrl+Z takes this back."
    assert offered(controller)[1] == 1
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert cells.metadata[OURS]["digest"] == digest(first)
    cells.undo()
    controller.look()
    np.testing.assert_array_equal(cells.data, second)
    assert offered(controller)[1] == 0
    cells.undo()  # the second run
    controller.look()
    np.testing.assert_array_equal(cells.data, left)
    cells.undo()  # the correction
    np.testing.assert_array_equal(cells.data, first)
    for _ in range(3):
        cells.redo()
    controller.look()
    np.testing.assert_array_equal(cells.data, left)
    assert offered(controller)[1] == 1


def test_what_was_corrected_in_a_result_comes_back_with_it(viewer, controller):
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    bring_back(controller, 1)
    correct(cells, 0, 0, 9)
    corrected = cells.data.copy()
    bring_back(controller, 0)
    assert not cells.data[0, 0]
    controller.look()
    assert offered(controller) == (
        ["2 cells (cells, 10 px)", "3 cells, corrected (cells, 10 px)"], 0
    )  # fmt: skip
    bring_back(controller, 1)
    np.testing.assert_array_equal(cells.data, corrected)
    # It is held by the next run and by the sliders, too.
    controller.show_adjusted(adjusted(controller, min_size=900))
    assert cells.data[0, 0] == 9
    assert not cells.data[10, 10]
    run_again(viewer, controller)
    assert cells.data[0, 0] == 9


def test_what_is_corrected_in_a_result_that_is_not_shown_is_on_the_disk(
    viewer, controller, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    correct(cells, 0, 0, 9)
    corrected = cells.data.copy()
    bring_back(controller, 1)
    (folder,) = sessions_folder().iterdir()
    np.testing.assert_array_equal(restore(folder).labels, corrected)


def test_what_undo_takes_away_of_a_result_that_had_come_back_is_on_the_disk(
    viewer, controller, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path))
    threads = []
    monkeypatch.setattr(
        going_back_module, "keep_soon", lambda *values: threads.append(keep_soon(*values))
    )
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 9)
    corrected = cells.data.copy()
    made = cells.metadata[OURS]["provenance"]["date"]
    run_again(viewer, controller)
    bring_back(controller, 1)
    review = cells.metadata[REVIEW]
    session = session_of(review)
    session.save(cells.data, review, None, {})
    settle(current_result(cells), session)  # as the saving of the layer does
    for folder in sessions_folder().iterdir():
        shutil.rmtree(folder)
    cells.undo()
    controller.look()
    (thread,) = threads
    thread.join()
    (folder,) = sessions_folder().iterdir()
    restored = restore(folder)
    np.testing.assert_array_equal(restored.labels, corrected)
    assert restored.description["metadata"][OURS]["provenance"]["date"] == made


def test_approvals_are_those_of_the_result_also_with_undo_and_redo(viewer, controller):
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    review, place = cells.metadata[REVIEW], ((), 0)
    review.approve(place, "today")
    bring_back(controller, 1)
    assert not review.approved
    cells.undo()
    controller.look()
    assert review.approved == {place: "today"}
    cells.redo()
    controller.look()
    assert not review.approved
    bring_back(controller, 0)
    assert review.approved == {place: "today"}
    # Undo of the run itself: what is approved was looked at in another result.
    for _ in range(3):
        cells.undo()
    controller.look()
    assert not review.approved
    cells.redo()
    controller.look()
    assert review.approved == {place: "today"}


def test_a_result_that_came_back_can_be_adjusted_and_undo_ends_there(viewer, controller):
    cells = segmented(viewer, controller)
    first = cells.data.copy()
    run_again(viewer, controller)
    bring_back(controller, 1)
    controller.show_adjusted(adjusted(controller, min_size=150))
    assert not cells.data[10, 10]
    assert cells.data[30, 21]  # of the first run
    cells.undo()
    np.testing.assert_array_equal(cells.data, first)


def test_the_same_cells_once_more_are_another_result(viewer, controller):
    cells = segmented(viewer, controller)
    run_again(viewer, controller, shift=0)
    controller.look()
    assert offered(controller)[1] == 0
    bring_back(controller, 1)
    assert offered(controller)[1] == 1
    cells.undo()
    controller.look()
    assert offered(controller)[1] == 0


def test_what_is_corrected_while_a_result_comes_back_is_left_in_the_other(viewer, controller):
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    controller.choose_result(1)
    (late,) = controller.runners.adjusting.end()
    correct(cells, 0, 0, 9)
    controller.show_adjusted(late)
    for answer in controller.runners.adjusting.end():
        controller.show_adjusted(answer)
    assert not cells.data[0, 0]
    bring_back(controller, 0)
    assert cells.data[0, 0] == 9


def remove(viewer, controller, layer):
    viewer.layers.remove(layer)
    controller.layer_removed(layer)
    controller.packing.join()
    viewer.layers.selection.active = viewer.layers["nuclei"]
    controller.look()


def test_a_removed_layer_comes_back_with_its_corrections(viewer, controller):
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 9)
    review = cells.metadata[REVIEW]
    review.look(cells.data, [((), 0)])  # as the review does
    review.approve(((), 0), "today")
    cells.name, cells.opacity = "mine", 0.3
    left = cells.data.copy()
    remove(viewer, controller, cells)
    assert offered(controller) == (["3 cells, corrected (cells, 10 px)"], -1)
    viewer.layers.selection.events.active.connect(controller.look)  # as the section does
    gone = weakref.ref(cells)
    del cells
    gc.collect()
    assert gone() is None  # and no pixels

    bring_back(controller, 0)
    controller.look()
    back = viewer.layers["mine"]
    assert ("layer_came_back",) in controller.window.shown
    np.testing.assert_array_equal(back.data, left)
    assert back.opacity == 0.3
    assert back.metadata[REVIEW] is review  # whose session goes on
    assert review.approved == {((), 0): "today"}
    assert offered(controller) == ([], -1)
    controller.show_adjusted(adjusted(controller, min_size=900))
    assert back.data[0, 0] == 9


def test_an_earlier_result_comes_back_into_a_removed_layer(viewer, controller):
    cells = segmented(viewer, controller)
    first = cells.data.copy()
    run_again(viewer, controller)
    second = cells.data.copy()
    remove(viewer, controller, cells)
    assert len(offered(controller)[0]) == 2
    bring_back(controller, 1)
    for answer in controller.runners.adjusting.end():
        controller.show_adjusted(answer)
    back = viewer.layers["nuclei cells"]
    np.testing.assert_array_equal(back.data, first)
    back.undo()
    controller.look()
    np.testing.assert_array_equal(back.data, second)
    assert offered(controller)[1] == 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_after_the_layer_was_removed_goes_on_with_its_list(viewer, controller, packed):
    cells = segmented(viewer, controller)
    correct(cells, 0, 0, 9)
    left = cells.data.copy()
    if packed:
        remove(viewer, controller, cells)
    else:
        viewer.layers.remove(cells)
    run_again(viewer, controller)
    new = viewer.layers["nuclei cells"]
    assert new is not cells
    assert len(offered(controller)[0]) == 2
    second = new.data.copy()
    bring_back(controller, 1)
    np.testing.assert_array_equal(new.data, left)
    new.undo()
    np.testing.assert_array_equal(new.data, second)


def test_each_image_has_its_results_and_a_new_dock_finds_them(viewer, controller, make_thread):
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    other = viewer.add_image(two_squares(), name="other")
    controller.start(values_of(other))
    finish(controller)
    assert offered(controller) == ([], -1)
    runners = Runners(make_thread(), make_thread(), make_thread())
    again = Controlled(viewer, controller.engine, Window(), runners)
    again.look()
    viewer.layers.selection.active = cells
    again.look()
    assert len(offered(again)[0]) == 2
    viewer.layers.remove("nuclei")  # the cells of an image that is gone have theirs
    viewer.layers.selection.active = cells
    again.look()
    bring_back(again, 1)
    assert cells.data[10, 10]


def test_a_cancelled_run_and_one_that_is_on_its_way_are_no_results(viewer, controller):
    cells = segmented(viewer, controller)
    controller.start(values_of(viewer.layers["nuclei"]))
    controller.look()
    controller.choose_result(0)
    assert not controller.runners.adjusting.running
    controller.runners.run.events = None
    controller.cancelled()
    controller.look()
    assert offered(controller) == ([], -1)
    run_again(viewer, controller)
    assert len(offered(controller)[0]) == 2
    assert viewer.layers.selection.active is cells


def test_restored_cells_are_the_first_of_the_results(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    labels = np.zeros((40, 50), np.uint16)
    labels[25:35, 25:35] = 4
    metadata = result_metadata(CELLS, image_id(image), {"model": {"name": "old"}}, digest(labels))
    metadata[REVIEW] = Review(labels)
    cells = viewer.add_labels(labels.copy(), name="nuclei cells", metadata=metadata)
    controller.start(values_of(image))
    finish(controller)
    assert viewer.layers["nuclei cells"] is cells
    assert controller.window.last("show_results")[0].names[1] == "1 cell (old)"
    bring_back(controller, 1)
    np.testing.assert_array_equal(cells.data, labels)


def test_a_copy_of_a_layer_has_results_and_a_review_of_its_own(viewer, controller):
    cells = segmented(viewer, controller)
    run_again(viewer, controller)
    first = cells.data.copy()
    copied = viewer.add_labels(cells.data.copy(), name="copy", metadata=cells.metadata)
    controller.look()
    assert len(offered(controller)[0]) == 2
    copied.metadata[REVIEW].approve(((), 0), "today")
    assert not cells.metadata[REVIEW].approved
    bring_back(controller, 1)
    correct(copied, 0, 0, 9)
    assert copied.data[10, 10]
    np.testing.assert_array_equal(cells.data, first)
    assert current(cells) is not current(copied)

    viewer.layers.selection.active = cells
    controller.look()
    assert offered(controller)[1] == 0
    bring_back(controller, 1)
    assert not cells.data[0, 0]
    np.testing.assert_array_equal(cells.metadata[REVIEW].baseline.unpacked(), cells.data)


def test_planes_of_a_stack_have_lists_of_their_own(viewer, controller):
    image = viewer.add_image(np.stack([two_squares()] * 3), name="nuclei")
    made = []
    for z in (0, 2, 2):
        viewer.dims.set_point(0, z)
        controller.start(values_of(image))
        finish(controller)
        made.append((controller.results.cells, len(offered(controller)[0])))
    assert made[1][0] is made[2][0] is not made[0][0]
    assert [n for _, n in made] == [0, 0, 2]


TISSUE = ModelCard("tissue", "none", ("background", "stroma"), 1, 1, 0, sha256="")


@pytest.fixture
def tissue(controller, monkeypatch):
    """Use a model of classes alone."""
    monkeypatch.setattr(run_module, "find_model", lambda name: TISSUE)

    def classes(batch):
        return np.concatenate([batch > 0.5, np.zeros_like(batch)], axis=-1).astype(np.uint8)

    network = FunctionNetwork(classes)
    controller.engine.open = lambda card, stop: network
    return controller


def test_corrected_classes_are_kept_by_a_further_run(viewer, tissue):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    finish(tissue)
    classes = viewer.layers["slide classes"]
    assert names(viewer) == ["slide", "slide classes"]
    made = classes.data.copy()
    correct(classes, 10, 10, 0)
    correct(classes, 2, 2, 1)
    before = classes.data.copy()

    image.data = np.roll(two_squares(), 5, axis=1)
    tissue.start(values_of(image))
    finish(tissue)

    assert names(viewer) == ["slide", "slide classes"]
    assert viewer.layers["slide classes"] is classes is viewer.layers.selection.active
    wanted = (image.data > 0).astype(np.uint8)
    wanted[10, 10], wanted[2, 2] = 0, 1
    np.testing.assert_array_equal(classes.data, wanted)
    assert classes.editable
    assert classes.visible
    assert classes.metadata[REVIEW].is_edited(((), 0))
    assert offered(tissue) == (["classes, corrected (tissue, 10 px)"] * 2, 0)
    classes.undo()
    tissue.look()
    np.testing.assert_array_equal(classes.data, before)
    assert offered(tissue)[1] == 1
    bring_back(tissue, 0)
    np.testing.assert_array_equal(classes.data, wanted)
    for _ in range(4):
        classes.undo()
    np.testing.assert_array_equal(classes.data, made)


def test_approved_regions_of_classes_are_kept(viewer, tissue):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    answers = tissue.runners.run.end()
    for answer in answers:
        tissue.receive(answer)
    classes = viewer.layers["slide classes"]
    before = classes.data.copy()
    image.data = np.roll(two_squares(), 5, axis=1)
    tissue.start(values_of(image))
    classes.metadata[REVIEW].approve(((), 0), "today")  # while the run goes on
    finish(tissue)
    np.testing.assert_array_equal(classes.data, before)
    assert classes.metadata[REVIEW].approved == {((), 0): "today"}


def test_classes_that_nobody_corrected_are_replaced_and_come_back(viewer, tissue):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    finish(tissue)
    first = viewer.layers["slide classes"].data.copy()
    image.data = np.roll(two_squares(), 5, axis=1)
    tissue.start(values_of(image))
    finish(tissue)
    classes = viewer.layers["slide classes"]
    np.testing.assert_array_equal(classes.data, image.data > 0)
    bring_back(tissue, 1)
    np.testing.assert_array_equal(classes.data, first)
    classes.undo()
    np.testing.assert_array_equal(classes.data, image.data > 0)


def test_a_cancelled_run_leaves_corrected_classes_alone(viewer, tissue):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    finish(tissue)
    classes = viewer.layers["slide classes"]
    correct(classes, 2, 2, 1)
    before = classes.data.copy()
    tissue.start(values_of(image))
    for _ in range(3):
        tissue.receive(next(tissue.runners.run.events))
    tissue.runners.run.events = None
    tissue.cancelled()
    np.testing.assert_array_equal(classes.data, before)
    assert names(viewer) == ["slide", "slide classes", "slide classes (cancelled)"]
    tissue.start(values_of(image))
    finish(tissue)
    assert names(viewer) == ["slide", "slide classes"]


def test_corrected_classes_of_another_model_stay_in_their_layer(viewer, tissue, monkeypatch):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    finish(tissue)
    classes = viewer.layers["slide classes"]
    correct(classes, 2, 2, 1)
    before = classes.data.copy()
    other = replace(TISSUE, classes=("background", "gland"))
    monkeypatch.setattr(run_module, "find_model", lambda name: other)
    tissue.start(values_of(image))
    finish(tissue)
    np.testing.assert_array_equal(classes.data, before)
    assert len(viewer.layers) == 3
    np.testing.assert_array_equal(viewer.layers[-1].data, image.data > 0)


def test_classes_of_each_plane_are_a_result_of_their_own(viewer, tissue):
    planes = np.stack([two_squares(), np.roll(two_squares(), 3, axis=1), two_squares()])
    image = viewer.add_image(planes, name="slide")
    made = []
    for z in (0, 1):
        viewer.dims.set_point(0, z)
        tissue.start(values_of(image))
        finish(tissue)
        made.append(viewer.layers.selection.active)
    assert made[0] is not made[1]
    assert [layer.translate[0] for layer in made] == [0, 1]
    for layer, plane in zip(made, planes, strict=False):
        np.testing.assert_array_equal(layer.data[0], plane > 0)
    assert offered(tissue) == ([], -1)
    tissue.start(values_of(image, all_planes=True))
    finish(tissue)
    assert len([n for n in names(viewer) if "classes" in n]) == 3


def test_a_model_of_cells_does_not_write_into_classes_of_another(viewer, tissue, monkeypatch):
    image = viewer.add_image(two_squares(), name="slide")
    tissue.start(values_of(image))
    finish(tissue)
    classes = viewer.layers["slide classes"]
    before = classes.data.copy()
    monkeypatch.setattr(run_module, "find_model", lambda name: CARD)
    tissue.engine.open = lambda card, stop: FunctionNetwork(squares_are_cells)
    image.data = np.roll(two_squares(), 5, axis=1)
    tissue.start(values_of(image))
    finish(tissue)
    np.testing.assert_array_equal(classes.data, before)
    assert "slide cells" in names(viewer)


@pytest.mark.parametrize("is_corrected", [False, True])
def test_classes_whose_layer_was_removed_during_the_run_are_shown(viewer, tissue, is_corrected):
    image = viewer.add_image(two_squares(), name="slide")
    if is_corrected:
        tissue.start(values_of(image))
        finish(tissue)
        correct(viewer.layers["slide classes"], 2, 2, 1)
    tissue.start(values_of(image))
    answers = tissue.runners.run.end()
    at = next(i for i, answer in enumerate(answers) if isinstance(answer.event, Ended))
    for answer in answers[:at]:
        tissue.receive(answer)
    viewer.layers.remove(viewer.layers[-1])
    for answer in answers[at:]:
        tissue.receive(answer)
    assert names(viewer) == ["slide", "slide classes"]
    classes = viewer.layers["slide classes"]
    assert classes.data[2, 2] == is_corrected
    assert classes.data[10, 10]
    assert classes.editable


def test_a_result_that_does_not_come_back_is_said_and_the_list_tells_what_is_shown(
    viewer, controller
):
    segmented(viewer, controller)
    run_again(viewer, controller)
    shown = controller.window.last("show_results")
    controller.choose_result(1)
    controller.runners.adjusting.events = None
    n_shown = len(controller.window.shown)
    controller.adjusting_failed("The disk is full.")
    assert controller.window.last("warn") == ("The disk is full.",)
    assert ("show_results", *shown) in controller.window.shown[n_shown:]


@pytest.mark.parametrize("linked", [False, True])
def test_a_stack_is_adjusted_plane_by_plane(viewer, controller, linked):
    stack = np.stack([two_squares()] * 3)
    image = viewer.add_image(stack, name="nuclei")
    controller.start(values_of(image, all_planes=True, link=0 if linked else None))
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    cells.data_setitem((np.array([1]), np.array([5]), np.array([5])), 0)
    before = cells.data.copy()

    controller.show_adjusted(adjusted(controller, min_size=900))

    # A cell that is linked is one cell, corrected in all planes.
    assert cells.data[:, 10, 10].astype(bool).tolist() == [linked, True, linked]
    np.testing.assert_array_equal(cells.data[1, :16], before[1, :16])
    assert not cells.data[:, 25, 25].any()
    cells.undo()
    np.testing.assert_array_equal(cells.data, before)


def test_planes_of_a_stack_have_cells_of_their_own_and_one_layer_of_classes(viewer, controller):
    image = viewer.add_image(np.stack([two_squares()] * 3), name="nuclei")
    for z in (0, 2, 2):
        viewer.dims.set_point(0, z)
        controller.start(values_of(image))
        finish(controller)
    assert [name.partition(" [")[0] for name in names(viewer)] == [
        "nuclei", "nuclei classes", "nuclei cells", "nuclei cells",
    ]  # fmt: skip
    assert viewer.layers["nuclei classes"].translate[0] == 2


def test_cells_of_a_stack_and_of_a_plane_of_it_do_not_lie_over_each_other(viewer, controller):
    image = viewer.add_image(np.stack([two_squares()] * 3), name="nuclei")
    made = []
    for all_planes in (True, False, False):
        viewer.dims.set_point(0, len(made))
        controller.start(values_of(image, all_planes=all_planes))
        finish(controller)
        made.append(controller.results.cells)
    stack, *planes = made
    assert not stack.visible
    assert [layer.visible for layer in planes] == [True, True]
    controller.start(values_of(image, all_planes=True))
    finish(controller)
    assert controller.results.cells is stack
    assert stack.visible
    assert [layer.visible for layer in planes] == [False, False]


def test_cells_of_an_earlier_run_are_not_adjusted_any_more(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    late = adjusted(controller, min_size=150)
    controller.start(values_of(image))
    finish(controller)
    before = [layer.data.copy() for layer in viewer.layers]

    controller.show_adjusted(late)
    assert not controller.runners.adjusting.running

    for layer, data in zip(viewer.layers, before, strict=True):
        np.testing.assert_array_equal(layer.data, data)


@pytest.mark.parametrize(("tiles", "said"), [(0, "before the first tile"), (3, "are kept")])
def test_a_cancelled_run_says_what_is_left(viewer, controller, tiles, said):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    for _ in range(tiles):  # the network, the start, the first tile
        controller.receive(next(controller.runners.run.events))
    controller.runners.run.events = None
    controller.cancelled()
    assert said in controller.window.last("say")[0]
    assert not controller.adjustable
    assert names(viewer)[1:] == ["nuclei classes (cancelled)"] * bool(tiles)

    controller.start(values_of(image))
    finish(controller)
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]


def test_the_classes_of_a_run_that_failed_are_named_so(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    for _ in range(3):
        controller.receive(next(controller.runners.run.events))
    controller.runners.run.events = None
    controller.failed()
    assert names(viewer) == ["nuclei", "nuclei classes (failed)"]


def test_cells_whose_fragments_were_freed_say_why_they_cannot_be_adjusted(viewer, controller):
    cells = segmented(viewer, controller)
    current(cells).origin.fragments.forget()
    controller.look()
    assert "given up for memory" in controller.window.last("show_adjustable")[0]


def test_a_result_that_is_deleted_is_not_spoken_of(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    viewer.layers.events.removed.connect(lambda event: controller.layer_removed(event.value))
    controller.start(values_of(image))
    finish(controller)
    assert controller.adjustable
    viewer.layers.remove("nuclei cells")
    assert not controller.adjustable
    assert controller.window.last("say") != ("",)
    viewer.layers.remove("nuclei classes")
    assert controller.window.last("say") == ("",)


def test_a_network_that_died_is_warmed_up_again(controller):
    controller.choose_model("cells")
    (opened,) = controller.runners.warming.end()
    controller.warmed(opened)
    assert controller.window.last("show_device") == ("a function",)
    controller.failed()
    assert not controller.runners.warming.running  # the child lives
    controller.engine.pid = None
    controller.failed()
    assert controller.runners.warming.running
    assert controller.window.last("show_device") == ("warming up...",)


# A part of the image


UPPER = np.array([(0, 0), (0, 49), (18, 49), (18, 0)], float)  # the first of the two squares


def start_part(controller, viewer, image, polygon=UPPER, **stack):
    """Segment what lies in a polygon, which is not left in the viewer."""
    shapes = viewer.add_shapes([polygon], shape_type="polygon")
    viewer.layers.selection.active = image
    started = controller.start(replace(values_of(image, **stack), where="drawn"))
    viewer.layers.remove(shapes)
    return started


def test_a_part_without_a_result_begins_one_as_large_as_the_image(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    assert start_part(controller, viewer, image)
    finish(controller)
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    cells, classes = viewer.layers["nuclei cells"], viewer.layers["nuclei classes"]
    np.testing.assert_array_equal(cells.data[:19] > 0, two_squares()[:19] > 0)
    assert not cells.data[19:].any()
    assert not classes.data[19:].any()
    assert cells.visible
    assert viewer.layers.selection.active is cells
    (part,) = cells.metadata[OURS]["provenance"]["parts"]
    assert part["where"] == "drawn shapes"
    assert "segment the whole image" in controller.adjust_problem

    controller.start(values_of(image))
    finish(controller)
    assert cells.data[30, 30] > 0
    assert controller.adjustable
    assert "parts" not in cells.metadata[OURS]["provenance"]


def test_a_part_is_put_into_the_result_as_one_step_that_is_taken_back(viewer, controller):
    pixels = two_squares()
    image = viewer.add_image(pixels, name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    cells, classes = viewer.layers["nuclei cells"], viewer.layers["nuclei classes"]
    before = cells.data.copy()
    pixels[...] = 0
    pixels[8:18, 20:30] = 100
    assert start_part(controller, viewer, image)
    finish(controller)
    assert names(viewer) == ["nuclei", "nuclei classes", "nuclei cells"]
    assert np.unique(cells.data).tolist() == [0, before[30, 30], before.max() + 1]
    np.testing.assert_array_equal(cells.data[19:], before[19:])
    assert classes.data[10, 25] == 1
    assert classes.data[30, 30] == 1  # beside the part
    assert classes.data[10, 10] == 0
    assert controller.window.last("say")[0].startswith("1 cell in the part, 2 in all, in ")
    assert not controller.adjustable

    cells.undo()
    controller.look()
    np.testing.assert_array_equal(cells.data, before)
    assert controller.adjustable
    assert controller.window.last("say") == ("",)
    assert "parts" not in cells.metadata[OURS]["provenance"]
    cells.redo()
    controller.look()
    assert cells.data[10, 25] > 0
    assert "parts" in cells.metadata[OURS]["provenance"]


def test_what_was_painted_while_a_part_was_segmented_stays(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    start_part(controller, viewer, image)
    answers = controller.runners.run.end()
    cells.data_setitem((np.array([2, 2]), np.array([30, 31])), 77)
    for answer in answers:
        controller.receive(answer)
    assert controller.runners.run.running  # made anew, in a thread
    finish(controller)
    assert (cells.data[2, 30:32] == 77).all()
    assert cells.data[8, 8] > 0


def test_a_layer_that_is_removed_meanwhile_is_begun_anew(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    start_part(controller, viewer, image)
    viewer.layers.remove("nuclei cells")
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    assert cells.data[8, 8] > 0
    assert not cells.data[19:].any()
    assert viewer.layers["nuclei classes"].data[30, 30] == 1


def test_a_part_that_is_cancelled_changes_nothing(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    controller.start(values_of(image))
    finish(controller)
    cells = viewer.layers["nuclei cells"]
    before, history = cells.data.copy(), len(cells._undo_history)
    viewer.layers["nuclei classes"].name = "classes"
    start_part(controller, viewer, image)
    receive_until(controller, Progress)
    controller.runners.run.events.close()
    controller.runners.run.events = None
    controller.cancelled()
    assert controller.window.last("say") == ("Cancelled. Nothing was changed.",)
    np.testing.assert_array_equal(cells.data, before)
    assert len(cells._undo_history) == history
    assert names(viewer) == ["nuclei", "classes", "nuclei cells"]


@pytest.mark.parametrize("all_planes", [True, False])
def test_a_part_of_a_stack_is_put_into_its_plane(viewer, controller, all_planes):
    pixels = np.stack([two_squares()] * 3)
    image = viewer.add_image(pixels, name="stack", scale=(2, 1, 1))
    viewer.dims.set_point(0, 2.0)
    controller.start(values_of(image, all_planes=all_planes))
    finish(controller)
    cells = viewer.layers["stack cells"]
    before = cells.data.copy()
    pixels[:, :20] = 0
    start_part(controller, viewer, image)
    finish(controller)
    assert len([layer for layer in viewer.layers if layer.name.startswith("stack cells")]) == 1
    at = 1 if all_planes else 0
    assert not cells.data[at, :19].any()
    np.testing.assert_array_equal(cells.data[at, 19:], before[at, 19:])
    if all_planes:
        np.testing.assert_array_equal(cells.data[[0, 2]], before[[0, 2]])
        start = replace(values_of(image, all_planes=True), where="visible")
        assert not controller.start(start)
        assert "A part is segmented in the plane" in controller.window.last("warn")[0]


def test_a_part_of_a_second_image_leaves_the_first_alone(viewer, controller):
    first = viewer.add_image(two_squares(), name="first")
    controller.start(values_of(first))
    finish(controller)
    second = viewer.add_image(two_squares(), name="second")
    start_part(controller, viewer, second)
    finish(controller)
    assert viewer.layers["first cells"].data.max() == 2
    assert viewer.layers["second cells"].data.max() == 1


def test_a_part_that_is_not_there_is_said_and_nothing_starts(viewer, controller):
    image = viewer.add_image(two_squares(), name="nuclei")
    assert not controller.start(replace(values_of(image), where="drawn"))
    assert "No shape is drawn" in controller.window.last("warn")[0]
    assert not controller.runners.run.running
    assert names(viewer) == ["nuclei"]
