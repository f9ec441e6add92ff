"""Learning while correcting, without Qt: what is learned, redone and kept, and never touched."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet_cells.core.planes import planes_of
from napari_unet_cells.core.predict import FunctionNetwork
from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.approved_regions import Approved
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import (
    CELLS,
    OURS,
    REVIEW,
    STATE,
    image_id,
    result_metadata,
)
from napari_unet_cells.models import catalogue
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.earlier import EarlierResult, Left
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.replacing import Origin, ResultState, adjust
from napari_unet_cells.segmentation.run import finished
from napari_unet_cells.segmentation.segment import Segmenter
from napari_unet_cells.settings import recall
from napari_unet_cells.training.events import Retrained, StepDone
from napari_unet_cells.widgets.correct import learning as learning_module
from napari_unet_cells.widgets.correct import teaching
from napari_unet_cells.widgets.correct.learning import Learning, LearningRunners
from napari_unet_cells.widgets.correct.teaching import Target
from napari_unet_cells.widgets.segment.live import begin, current, put

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

CLASSES = ("background", "cell", "boundary")
BASE = ModelCard("cells", "none", CLASSES, 1, 1, 0, sha256="ab" * 32, path=Path("cells.keras"))
OTHER = replace(BASE, name="others", sha256="cd" * 32)

#: Regions of an image of 600 x 600.
FIRST, SECOND, THIRD, FOURTH = (((), number) for number in range(4))


def brighter_than(threshold):
    """Make a network whose cells are what is brighter."""

    def network(batch):
        cell = (batch > threshold).astype(np.uint8)
        return np.concatenate([cell, cell * 204, np.zeros_like(cell)], axis=-1)

    return network


def picture():
    """Draw a bright square in each of four regions, and dim ones, which the base does not see."""
    image = np.zeros((600, 600), np.uint8)
    for top in (50, 350):
        for left in (50, 350):
            image[top : top + 20, left : left + 20] = 200
            image[top + 60 : top + 80, left : left + 20] = 60
    return image


def segment(viewer, image, card=BASE):
    """Add the cells that a model finds, as the Segment section does."""
    segmenter = Segmenter.of(card, FunctionNetwork(brighter_than(0.5)))
    event = finished(segmenter.result(planes_of(image.data), Settings(20), uncertainty=True), 0)
    made = result_metadata(
        CELLS, image_id(image), event.result.details.provenance(), event.cells_digest
    )
    layer = viewer.add_labels(event.result.cells, metadata=made | {REVIEW: event.review})
    state = ResultState.of(Origin.of(event), event.review.baseline, event.cells_digest)
    begin(layer, EarlierResult(Left(state.made, state, {}, event.result.n_cells)))
    return layer


class Child:
    """An engine whose child learns at once, or dies."""

    def __init__(self):
        self.requests: list[dict[str, Any]] = []
        self.datasets: list[set[str]] = []
        self.prepared: list[str] = []
        self.mixture, self.problem, self.seen = 1.0, "", 0.2

    def prepare(self, base, stop):
        self.prepared.append(base)

    def retrain(self, request, stop, finish, again):
        self.requests.append(request)
        items = read_annotated_images([request["dataset"]])
        self.datasets.append({item.image.name for item in items})
        if self.problem:
            raise UserError(f"{self.problem} Close other programs and {again}.")
        yield {"event": StepDone(1, 0.1, 0.5, 1.0)}
        path = Path(request["output"])
        path.write_text("weights")
        card = replace(BASE, name=path.stem, path=path, sha256=f"{len(self.requests):064}")
        done = Retrained(card, None, None, self.mixture, 1.0)
        yield {"event": done, "library": "tensorflow"}

    def open(self, card, stop, runtime):
        assert runtime == "tensorflow"  # that of the child, which converts nothing
        return FunctionNetwork(brighter_than(self.seen))


@pytest.fixture
def setting(timers, make_thread, monkeypatch, tmp_path):
    """Give a viewer with an image and its cells, and the learning with all that it touches."""
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(teaching, "installed_models", lambda: {"cells": BASE, "others": OTHER})
    monkeypatch.setattr(teaching, "event_of_dict", lambda values: values["event"])
    monkeypatch.setattr(catalogue, "_lent", {})
    viewer, child = ViewerModel(), Child()
    engine: Any = child
    image = viewer.add_image(picture(), name="picture")
    layer = segment(viewer, image)
    made = SimpleNamespace(
        viewer=viewer, image=image, layer=layer, child=child, at_work=False, shown=[], told=[]
    )
    view = SimpleNamespace(
        timer=timers.timer,
        show_learning=made.shown.append,
        tell_models=lambda: made.told.append(sorted(catalogue._lent)),
    )
    made.teaching, made.placing, made.keeping = make_thread(), make_thread(), make_thread()
    made.learning = Learning(
        viewer,
        engine,
        view,
        LearningRunners(made.teaching, made.placing, made.keeping),
        lambda: made.layer,
        lambda layer: made.at_work,
        lambda: "cells",
    )
    learning = made.learning
    made.teaching.connect(learning.receive, learning.failed, learning.ended)
    made.placing.connect(learning.placed, learning.placing_failed)
    made.keeping.connect(learning.kept, learning.keeping_failed)
    made.folder = tmp_path
    yield made
    made.learning.school.close()
    assert catalogue._lent == {}
    assert not list(tmp_path.glob(f"{teaching.PREFIX}*"))


def approve(setting, *places, layer=None):
    layer = layer or setting.layer
    for place in places:
        layer.metadata[REVIEW].approve(place)
    setting.learning.approved(layer)


def switch_on(setting):
    setting.learning.switch(True)
    setting.teaching.work()  # the warm-up


def update(setting):
    setting.teaching.work()
    if setting.placing.running:
        setting.placing.work()


def cells_in(layer, place):
    window = layer.data[layer.metadata[REVIEW].grid[place[1]].slices]
    return len(np.unique(window)) - 1


def made_by(layer):
    return layer.metadata[OURS]["provenance"]["model"]["name"]


def test_qt_is_not_imported():
    code = (
        "import sys, napari_unet_cells.widgets.correct.learning; "
        "assert not {'qtpy', 'tensorflow', 'keras', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_off_until_the_user_wants_it_and_that_is_remembered(setting):
    assert not setting.shown[-1].on
    approve(setting, FIRST)
    assert not setting.teaching.running
    setting.layer.metadata[REVIEW].withdraw(FIRST)

    setting.learning.switch(True)
    assert setting.shown[-1].on
    assert recall(learning_module.LAST_LEARNING) is True
    assert setting.shown[-1].sentence == learning_module.WARMING
    setting.teaching.work()
    assert setting.shown[-1].sentence == learning_module.READY
    assert setting.child.prepared == ["cells.keras"]  # warmed up, and nothing learned
    assert setting.child.requests == []
    setting.learning.switch(False)
    assert recall(learning_module.LAST_LEARNING) is False


def test_where_it_learns_anyway_it_is_made_ready_before_the_first_approval(setting):
    learning = setting.learning
    learning.make_ready()
    assert not setting.teaching.running  # it is off
    learning.switch(True)
    setting.teaching.stop()  # as a new session begins, in which it is on
    learning._warming = False
    shown, setting.layer = setting.layer, None
    learning.make_ready()
    assert not setting.teaching.running  # there is nothing to correct
    setting.layer = shown
    learning.make_ready()
    assert setting.shown[-1].sentence == learning_module.WARMING
    approve(setting, FIRST)
    setting.teaching.work()
    assert (setting.child.prepared, setting.child.requests) == (["cells.keras"], [])
    update(setting)
    assert len(setting.child.requests) == 1
    learning.make_ready()
    assert not setting.teaching.running  # it is ready


def test_what_is_approved_already_is_learned_from_when_it_is_switched_on(setting):
    setting.layer.metadata[REVIEW].approve(FIRST)
    setting.learning.switch(True)
    update(setting)
    assert len(setting.child.requests) == 1
    assert made_by(setting.layer) == "cells (learning)"


def test_an_approved_region_brings_better_labels_to_the_rest_and_one_undo_takes_them_back(setting):
    layer = setting.layer
    switch_on(setting)
    layer.data[layer.data == layer.data[60, 360]] = 0  # a cell of the second region is deleted,
    layer.data[500:510, 60:70] = 77  # and one is drawn in the third
    layer.refresh()
    before = layer.data.copy()
    assert [cells_in(layer, place) for place in (FIRST, SECOND, THIRD, FOURTH)] == [1, 0, 2, 1]

    approve(setting, FIRST)
    assert np.array_equal(layer.data, before)
    update(setting)

    assert [cells_in(layer, place) for place in (FIRST, SECOND, THIRD, FOURTH)] == [1, 1, 3, 2]
    first = layer.metadata[REVIEW].grid[0].slices
    assert np.array_equal(layer.data[first], before[first])  # approved
    assert not layer.data[50:70, 350:370].any()  # deleted by the user
    assert (layer.data[500:510, 60:70] == 77).all()
    assert made_by(layer) == "cells (learning)"
    assert "cells (learning). Ctrl+Z takes that back" in setting.shown[-1].sentence
    assert list(layer.metadata[REVIEW].approved) == [FIRST]

    layer.undo()
    assert np.array_equal(layer.data, before)
    assert current(layer).origin.provenance["model"]["name"] == "cells"


def test_the_size_of_the_approved_cells_counts_more_than_what_was_known(setting):
    layer = setting.layer
    layer.data[10:40, 10:290:40] = 0
    for i in range(6):  # six cells of 30 x 30
        layer.data[200:230, 10 + 45 * i : 40 + 45 * i] = 100 + i
    layer.refresh()
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    scale = layer.metadata[OURS]["provenance"]["parameters"]["scale"]
    assert scale["diameter"] == pytest.approx(np.sqrt(900 * 4 / np.pi), abs=0.1)


def test_painted_classes_say_nothing_of_the_size_of_cells(setting):
    labels = np.zeros((600, 600), np.uint8)
    for number in range(1, 7):
        labels[10:40, 40 * number : 40 * number + 20] = number
    review = Review(labels)
    review.approve(FIRST)
    made = {"role": "classes", "provenance": {}}
    approved = Approved(labels, review, dict(review.approved), None, None, made, {}, "")
    target = Target(setting.layer, None, {}, {}, None, "", False, approved)
    assert target.settings.diameter is None
    cells = replace(target, approved=replace(approved, made={"role": "cells"}))
    assert cells.settings.diameter == pytest.approx(np.sqrt(600 * 4 / np.pi), abs=0.1)


def test_the_region_that_is_being_corrected_does_not_change_under_the_hands(setting, timers):
    switch_on(setting)
    before = setting.layer.data.copy()
    approve(setting, FIRST)
    setting.at_work = True
    setting.teaching.work()
    assert not setting.placing.running
    assert "as soon as you leave the region" in setting.shown[-1].sentence
    for timer in timers.made:
        timer.action()
    assert not setting.placing.running
    assert np.array_equal(setting.layer.data, before)

    setting.at_work = False
    next(timer for timer in timers.made if timer.active).action()
    setting.placing.work()
    assert cells_in(setting.layer, FOURTH) == 2
    assert not any(timer.active for timer in timers.made)


def test_steps_that_were_taken_back_can_be_redone_while_it_learns(setting, timers):
    layer = setting.layer
    switch_on(setting)
    layer.data_setitem((np.arange(400, 410), np.arange(400, 410)), np.full(10, 55, np.uint8))
    drawn = layer.data.copy()
    approve(setting, FIRST)
    layer.undo()  # one step too many
    setting.teaching.work()
    assert not setting.placing.running
    assert setting.shown[-1].sentence == learning_module.UNDONE
    look = next(timer for timer in timers.made if timer.active)
    look.action()
    assert not setting.placing.running
    layer.redo()
    assert np.array_equal(layer.data, drawn)

    look.action()
    setting.placing.work()
    assert cells_in(layer, FOURTH) == 3  # the stroke, the cell of before, and the new one
    assert made_by(layer) == "cells (learning)"


def test_a_step_that_was_taken_back_before_an_approval_holds_nothing_up(setting):
    layer = setting.layer
    switch_on(setting)
    layer.data_setitem((np.arange(400, 410), np.arange(400, 410)), np.full(10, 55, np.uint8))
    layer.undo()
    approve(setting, FIRST)
    update(setting)
    assert cells_in(layer, FOURTH) == 2


def test_an_undo_while_the_labels_are_computed_keeps_them_back(setting):
    layer = setting.layer
    switch_on(setting)
    layer.data_setitem((np.arange(400, 410), np.arange(400, 410)), np.full(10, 55, np.uint8))
    layer.undo()
    layer.redo()
    approve(setting, FIRST)
    setting.teaching.work()
    take = setting.placing.progressed

    def undone_meanwhile(event):
        layer.undo()
        take(event)

    setting.placing.progressed = undone_meanwhile
    setting.placing.work()
    assert made_by(layer) == "cells"
    layer.redo()
    assert 55 in layer.data


def test_the_sentence_goes_with_the_labels_that_an_undo_takes_back(setting):
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    assert "Ctrl+Z takes that back" in setting.shown[-1].sentence
    setting.layer.undo()
    assert setting.shown[-1].sentence == ""
    setting.layer.redo()
    approve(setting, SECOND)
    update(setting)
    said = setting.shown[-1].sentence
    setting.learning.keep()
    setting.keeping.work()
    setting.layer.undo()
    assert said != setting.shown[-1].sentence
    assert "Kept as" in setting.shown[-1].sentence


def test_labels_that_come_in_the_middle_of_a_stroke_are_a_step_of_their_own(setting):
    layer = setting.layer
    switch_on(setting)
    approve(setting, FIRST)
    before = layer.data.copy()
    with layer.block_history():  # as napari does while the mouse is down
        layer.data_setitem((np.arange(400, 410), np.arange(400, 410)), np.full(10, 55, np.uint8))
        update(setting)
        assert made_by(layer) == "cells (learning)"
        layer.data_setitem((np.arange(410, 420), np.arange(410, 420)), np.full(10, 55, np.uint8))
    after = layer.data.copy()
    layer.undo()
    assert np.count_nonzero(layer.data != after) == 10
    layer.undo()
    assert current(layer).origin.provenance["model"]["name"] == "cells"
    assert np.count_nonzero(layer.data != before) == 10
    layer.undo()
    assert np.array_equal(layer.data, before)


def test_a_stroke_while_the_labels_are_computed_has_them_computed_again(setting, timers):
    layer = setting.layer
    switch_on(setting)
    approve(setting, FIRST)
    setting.teaching.work()
    take = setting.placing.progressed

    def painted_meanwhile(event):
        layer.data[400:410, 500:510] = 55
        take(event)

    setting.placing.progressed = painted_meanwhile
    setting.placing.work()
    assert cells_in(layer, FOURTH) == 2  # the stroke and the cell of before
    setting.placing.progressed = take
    next(timer for timer in timers.made if timer.active).action()
    setting.placing.work()
    assert cells_in(layer, FOURTH) == 3
    assert (layer.data[400:410, 500:510] == 55).all()


def test_ten_regions_that_are_approved_while_it_learns_are_one_update_more(setting):
    switch_on(setting)
    approve(setting, FIRST)
    for place in (SECOND, THIRD, FOURTH):
        approve(setting, place)
    assert setting.teaching.running
    assert setting.child.requests == []
    setting.teaching.work()
    assert setting.teaching.running  # what was approved since
    update(setting)
    assert len(setting.child.requests) == 2
    assert not setting.teaching.running
    first, second = setting.child.requests
    assert "since" not in first
    assert second["since"] == first["output"]  # it goes on from what it has learned,
    assert second["base"] == "cells.keras"  # compared with the same base as ever
    assert [len(names) for names in setting.child.datasets] == [1, 4]


def test_a_region_that_is_withdrawn_is_learned_from_no_more(setting):
    switch_on(setting)
    approve(setting, FIRST, SECOND)
    update(setting)
    review = setting.layer.metadata[REVIEW]
    review.withdraw(FIRST)
    setting.learning.approved(setting.layer)
    update(setting)
    assert [len(names) for names in setting.child.datasets] == [2, 1]
    review.withdraw(SECOND)
    setting.learning.approved(setting.layer)
    update(setting)
    assert len(setting.child.requests) == 2  # nothing is left to learn from


def test_a_retraining_goes_first(setting):
    switch_on(setting)
    approve(setting, FIRST)
    setting.learning.pause(True)
    assert not setting.teaching.running
    approve(setting, SECOND)
    assert not setting.teaching.running
    assert "after the retraining" in setting.shown[-1].sentence
    setting.learning.pause(False)
    update(setting)
    assert [len(names) for names in setting.child.datasets] == [2]
    assert cells_in(setting.layer, FOURTH) == 2


def test_a_child_that_dies_is_said_and_nothing_is_lost(setting):
    switch_on(setting)
    before, approved = setting.layer.data.copy(), dict(setting.layer.metadata[REVIEW].approved)
    setting.child.problem = "The memory was full."
    approve(setting, FIRST)
    update(setting)
    expected = "The memory was full. Close other programs and approve another region."
    assert setting.shown[-1].sentence == expected
    assert np.array_equal(setting.layer.data, before)
    assert approved != setting.layer.metadata[REVIEW].approved
    assert not setting.shown[-1].model

    setting.child.problem = ""
    approve(setting, SECOND)
    update(setting)
    assert setting.shown[-1].model == "cells (learning)"
    assert cells_in(setting.layer, FOURTH) == 2


def test_what_is_no_better_than_the_base_changes_nothing(setting):
    switch_on(setting)
    before = setting.layer.data.copy()
    setting.child.mixture = 0.0
    approve(setting, FIRST)
    update(setting)
    assert "is not used" in setting.shown[-1].sentence
    assert np.array_equal(setting.layer.data, before)
    assert catalogue._lent == {}


def test_labels_of_a_run_of_the_users_own_stay(setting):
    switch_on(setting)
    layer = setting.layer
    approve(setting, FIRST)
    waiting = setting.teaching.take()
    own = segment(setting.viewer, setting.image)  # as another run would leave it
    state = current(own)
    layer.metadata.update(own.metadata)
    begin(layer, EarlierResult(Left(state.made, state, {}, 0)))
    setting.viewer.layers.remove(own)
    setting.teaching.start(lambda stop: waiting)
    before = layer.data.copy()
    update(setting)
    assert len(setting.child.requests) == 1
    assert np.array_equal(layer.data, before)
    assert made_by(layer) == "cells"


def test_the_sliders_stay_where_the_user_put_them(setting):
    switch_on(setting)
    layer = setting.layer
    state = current(layer)
    options = replace(state.origin.options, min_size=500)  # larger than the squares
    put(layer, adjust(layer.data, state, frozenset(), options))
    assert not layer.data.any()
    approve(setting, FIRST)
    update(setting)
    assert made_by(layer) == "cells (learning)"
    assert not layer.data.any()
    assert current(layer).origin.options.min_size == 500


def test_labels_that_are_removed_while_it_learns_do_not_matter(setting):
    switch_on(setting)
    approve(setting, FIRST)
    setting.viewer.layers.remove(setting.layer)
    update(setting)
    assert not setting.placing.running
    assert setting.shown[-1].model == "cells (learning)"
    approve(setting, SECOND)
    assert not setting.teaching.running


def test_without_its_image_nothing_is_learned_and_it_is_said(setting):
    switch_on(setting)
    setting.viewer.layers.remove(setting.image)
    approve(setting, FIRST)
    assert not setting.teaching.running
    assert "Nothing was learned. The image of" in setting.shown[-1].sentence


def test_a_second_image_adds_to_what_is_learned(setting):
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    image = setting.viewer.add_image(picture()[::-1], name="second")
    layer = segment(setting.viewer, image)
    approve(setting, SECOND, layer=layer)
    before = setting.layer.data.copy()
    update(setting)
    assert [len(names) for names in setting.child.datasets] == [1, 2]
    assert "since" in setting.child.requests[-1]
    assert cells_in(layer, FOURTH) == 2
    assert np.array_equal(setting.layer.data, before)  # done anew when something is approved in it
    setting.viewer.layers.remove(image)
    setting.viewer.layers.remove(layer)
    approve(setting, SECOND)
    update(setting)
    assert len(setting.child.datasets[-1]) == 3  # what was learned from stays


def test_labels_of_another_model_have_a_lesson_of_their_own(setting):
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    layer = segment(setting.viewer, setting.image, OTHER)
    approve(setting, SECOND, layer=layer)
    update(setting)
    assert "since" not in setting.child.requests[-1]
    assert len(setting.child.datasets[-1]) == 1
    assert sorted(catalogue._lent) == ["cells (learning)", "others (learning)"]


def test_labels_of_a_model_that_is_gone_teach_the_chosen_one(setting, monkeypatch):
    setting.layer.metadata[OURS]["provenance"]["model"]["name"] = "gone"
    monkeypatch.setattr(teaching, "find_model", {"cells": BASE}.__getitem__)
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    assert setting.child.requests[-1]["base"] == "cells.keras"


def test_of_a_large_image_the_model_is_offered_instead(setting, monkeypatch):
    monkeypatch.setattr(learning_module, "LARGEST", 1000)
    switch_on(setting)
    before = setting.layer.data.copy()
    approve(setting, FIRST)
    update(setting)
    assert "choose cells (learning) on the page Segment" in setting.shown[-1].sentence
    assert np.array_equal(setting.layer.data, before)


def test_of_a_part_of_an_image_the_rest_is_not_segmented_unasked(setting, monkeypatch):
    monkeypatch.setattr(Origin, "is_of_parts", property(lambda origin: True))
    switch_on(setting)
    before = setting.layer.data.copy()
    approve(setting, FIRST)
    update(setting)
    assert "Only a part of the image was segmented: choose" in setting.shown[-1].sentence
    assert np.array_equal(setting.layer.data, before)


def test_of_cells_of_several_runs_it_is_not_said_that_the_rest_is_missing(setting):
    switch_on(setting)
    state = current(setting.layer)
    part = {"where": "visible part", "rows": [0, 9], "columns": [0, 9], "date": "2026-01-01"}
    provenance = {**state.origin.provenance, "parts": [part]}
    setting.layer.metadata[STATE].state = replace(state, origin=Origin(None, provenance))
    before = setting.layer.data.copy()
    approve(setting, FIRST)
    update(setting)
    assert "A part of these cells comes from a run of its own" in setting.shown[-1].sentence
    assert np.array_equal(setting.layer.data, before)


def test_where_all_is_approved_the_model_is_for_the_next_image(setting):
    switch_on(setting)
    before = setting.layer.data.copy()
    approve(setting, FIRST, SECOND, THIRD, FOURTH)
    update(setting)
    assert len(setting.child.requests) == 1
    assert "for the next one choose cells (learning)" in setting.shown[-1].sentence
    assert np.array_equal(setting.layer.data, before)
    assert made_by(setting.layer) == "cells"


def test_it_never_leaves_the_user_wondering_what_goes_on(setting):
    setting.learning.switch(True)
    approve(setting, FIRST)  # while it warms up
    assert setting.shown[-1].sentence == learning_module.WARMING
    setting.teaching.work()
    assert setting.shown[-1].sentence == learning_module.BEGINNING
    setting.learning.switch(False)
    setting.learning._is_ready = False  # as after a start with the box ticked
    setting.learning._on = True
    approve(setting, SECOND)
    assert setting.shown[-1].sentence == learning_module.FIRST


def test_the_model_of_the_session_can_be_kept_or_dropped(setting):
    switch_on(setting)
    approve(setting, FIRST)
    assert setting.shown[-1].model == ""
    update(setting)
    assert setting.shown[-1].model == "cells (learning)"
    assert setting.told == [["cells (learning)"]]

    setting.learning.keep()
    setting.keeping.work()
    kept = setting.folder / "home" / "models" / "cells-2.keras"
    assert kept.read_text() == "weights"
    assert kept.with_suffix(".json").is_file()
    assert "Kept as cells-2" in setting.shown[-1].sentence

    after = setting.layer.data.copy()
    setting.learning.drop()
    assert setting.told[-1] == []
    assert setting.shown[-1].model == ""
    assert np.array_equal(setting.layer.data, after)
    assert not list(setting.folder.glob(f"{teaching.PREFIX}*"))
    assert kept.is_file()
    approve(setting, SECOND)  # begins anew
    update(setting)
    assert "since" not in setting.child.requests[-1]


def test_switched_off_it_ends_and_keeps_what_it_has(setting):
    switch_on(setting)
    approve(setting, FIRST)
    update(setting)
    approve(setting, SECOND)
    setting.learning.switch(False)
    assert not setting.teaching.running
    assert setting.shown[-1].model == "cells (learning)"
    assert not setting.learning.busy


def test_what_a_killed_program_left_goes_after_a_week(setting):
    import os
    import time

    old, new = (setting.folder / f"{teaching.PREFIX}{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
    week_ago = time.time() - 8 * 24 * 3600
    os.utime(old, (week_ago, week_ago))
    switch_on(setting)
    assert not old.exists()
    assert new.exists()
    new.rmdir()
