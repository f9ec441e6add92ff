"""The tracks of a movie without a window: what is tracked, shown, undone and kept."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_unet_cells import tracking
from napari_unet_cells.core import edits
from napari_unet_cells.core.labels import digest
from napari_unet_cells.core.regions import Review
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.metadata import CELLS, CLASSES, OURS, REVIEW, result_metadata
from napari_unet_cells.layers.reader import open_result
from napari_unet_cells.layers.selection import labels_for
from napari_unet_cells.layers.writer import write_layer
from napari_unet_cells.widgets.correct.labels_plane import LabelsPlane
from napari_unet_cells.widgets.correct.tools_controller import _named
from napari_unet_cells.widgets.correct.tracks_controller import (
    TracksController,
    record_of_tracks,
    tracking_problem,
)
from napari_unet_cells.widgets.wiring import Wiring

pytest.importorskip("laptrack")

# No window is opened, but napari is loaded: not with TensorFlow in one process.
pytestmark = pytest.mark.gui

MOTHER, LEFT, RIGHT = np.s_[10:22, 10:30], np.s_[10:22, 8:19], np.s_[10:22, 21:32]
OTHER = np.s_[30:42, 50:62]


def movie(frames=5):
    """One cell divides in the third frame, another one is missing in the fourth."""
    labels = np.zeros((frames, 50, 80), np.uint16)
    for t in range(frames):
        if t < 2:
            labels[t][MOTHER] = 2
        else:
            labels[t][LEFT], labels[t][RIGHT] = 3, 1
        if t != 3:
            labels[t][OTHER] = 9 - t
    return labels


class View:
    """Form that keeps what it is told."""

    def __init__(self, timers):
        self.timer = timers.timer
        self.state = None

    def show_tracking(self, state):
        self.state = state


class Runner:
    """Runs a job when the test says so, in its own thread."""

    def __init__(self):
        self.job = None
        self.receive = self.done = self.failed = lambda *_: None

    @property
    def running(self):
        return self.job is not None

    def start(self, job):
        self.job = job

    def stop(self):
        self.job = None

    def run(self):
        if self.job is None:
            return
        try:
            for event in self.job(threading.Event()):
                self.receive(event)
        except UserError as error:
            self.job = None
            self.failed(str(error))
        else:
            self.job = None
            self.done()


class Bench:
    """A viewer with a controller."""

    def __init__(self, timers):
        self.timers, self.viewer, self.view = timers, ViewerModel(), View(timers)
        self.tracking, self.reading, self.wiring = Runner(), Runner(), Wiring()
        self.labels = None
        self.controller = TracksController(
            self.viewer, self.view, self.tracking, self.reading, self.at_hand, self.wiring
        )
        for runner, receive, done in (
            (self.tracking, self.controller.found, self.controller.ended),
            (self.reading, self.controller.read, self.controller.read_ended),
        ):
            runner.receive, runner.done, runner.failed = receive, done, self.controller.failed

    def at_hand(self):
        layers = self.viewer.layers
        self.labels = labels_for(layers.selection.active, layers, self.labels)
        return self.labels

    def settle(self):
        for _ in range(20):
            self.timers.settle()
            if not (self.tracking.running or self.reading.running):
                return
            self.tracking.run()
            self.reading.run()
        raise AssertionError("it never ends")

    def track(self):
        self.controller.track()
        self.settle()

    def tracks(self) -> Any:
        found = [one for one in self.viewer.layers if type(one).__name__ == "Tracks"]
        assert len(found) < 2
        return found[0] if found else None

    def rows(self):
        return {(int(track), int(t)) for track, t in self.tracks().data[:, :2]}


@pytest.fixture
def bench(timers):
    return Bench(timers)


@pytest.fixture
def cells(bench):
    """Cells of a run, that were reviewed."""
    labels = movie()
    made = {"parameters": {"instances": {"min_size": 1}, "linked_along_axis": None}}
    layer = bench.viewer.add_labels(
        labels, name="cells", axis_labels=("t", "y", "x"), scale=(1, 0.5, 2), translate=(0, 7, 9)
    )
    layer.metadata.update(result_metadata(CELLS, "", made, digest(labels)))
    layer.metadata[REVIEW] = Review(labels)
    bench.settle()
    return layer


def tracked():
    """Give the labels of the movie with the ids of tracks."""
    labels = np.zeros((5, 50, 80), np.uint16)
    labels[:2][(slice(None), *MOTHER)] = 1
    labels[2:][(slice(None), *LEFT)], labels[2:][(slice(None), *RIGHT)] = 3, 4
    labels[[0, 1, 2, 4]] += np.where(movie()[0] == 9, 2, 0).astype(np.uint16)
    return labels


def same_cells(one, other):
    """Whether two stacks of labels are the same but for the names of ids."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def test_cells_get_the_ids_of_tracks_and_a_layer_shows_them_in_their_place(bench, cells):
    before = cells.data.copy()
    assert bench.view.state.shown
    assert bench.view.state.problem == ""
    assert bench.tracks() is None
    bench.controller.track()
    assert bench.view.state.running
    bench.settle()
    assert same_cells(cells.data, tracked())
    layer, ids = bench.tracks(), set(np.unique(cells.data).tolist()) - {0}
    assert {track for track, _ in bench.rows()} == ids
    assert len(ids) == 4
    assert bench.rows() == {(int(i), t) for t in range(5) for i in np.unique(cells.data[t]) if i}
    mother, left, right = cells.data[0, 15, 15], cells.data[2, 15, 10], cells.data[2, 15, 28]
    assert layer.graph == {int(left): [int(mother)], int(right): [int(mother)]}
    np.testing.assert_allclose(layer.scale, cells.scale)
    np.testing.assert_allclose(layer.translate, cells.translate)
    assert layer.visible
    assert layer.name == "cells tracks"
    assert bench.viewer.layers.selection.active is cells
    assert bench.view.state.sentence == "4 tracks with 1 division."
    cells.undo()
    np.testing.assert_array_equal(cells.data, before)
    bench.settle()
    assert not layer.visible
    assert "not tracked any more" in bench.view.state.sentence
    assert record_of_tracks(cells) is None
    cells.redo()
    bench.settle()
    assert bench.tracks() is layer
    assert layer.visible
    assert bench.view.state.sentence == "4 tracks with 1 division."
    assert bench.rows() >= {(int(mother), 0), (int(left), 4)}
    assert bench.tracks().graph == layer.graph


def test_deleting_and_merging_are_followed_and_undone(bench, cells):
    bench.track()
    rows, graph = bench.rows(), dict(bench.tracks().graph)
    left, right = int(cells.data[2, 15, 10]), int(cells.data[2, 15, 28])

    def edit(t, make):
        plane = LabelsPlane(cells, (t, None, None), 1, 2)
        plane.paint(_named(plane, make(plane.labels)))
        bench.settle()

    edit(3, lambda plane: edits.delete(plane, (15, 10)))
    assert bench.rows() == rows - {(left, 3)}
    assert bench.tracks().graph == graph
    edit(2, lambda plane: edits.merge(plane, [(15, 10), (15, 28)]))
    assert bench.rows() == rows - {(left, 3), (right, 2)}
    assert bench.tracks().graph == graph
    cells.undo()
    cells.undo()
    bench.settle()
    assert bench.rows() == rows
    for t in (2, 3, 4):  # a daughter goes altogether
        edit(t, lambda plane: edits.delete(plane, (15, 28)))
    assert bench.rows() == {row for row in rows if row[0] != right}
    assert set(bench.tracks().graph) == {left}
    assert bench.view.state.sentence == "3 tracks."


def test_a_cell_that_is_split_or_drawn_gets_the_id_of_its_track_in_one_step(bench, cells):
    bench.track()
    ids = tracked_ids = cells.data.copy()
    left, right, other = int(ids[2, 15, 10]), int(ids[2, 15, 28]), int(ids[0, 35, 55])
    plane = LabelsPlane(cells, (3, None, None), 1, 2)
    plane.paint(edits.merge(plane.labels, [(15, 10), (15, 28)]))
    joined = cells.data[3] == left
    cells.data_setitem((np.full(36, 3), *np.nonzero(np.ones((12, 3)))), cells.data[3, 0, 0])
    at = np.nonzero(joined | (movie()[0][None][0] == 2))  # the cell in one piece
    cells.data_setitem((np.full(len(at[0]), 3), *at), left)
    bench.settle()
    edit = edits.split_along(plane.labels, [(5, 20), (30, 20)], 99)
    plane.paint(_named(plane, edit))
    assert cells.data[3, 15, 10] == left
    assert cells.data[3, 15, 28] == right
    assert set(np.unique(cells.data[3]).tolist()) == {0, left, right}
    drawn = edits.draw(plane.labels, [(30, 50), (30, 61), (41, 61), (41, 50)], 99)
    plane.paint(_named(plane, drawn))
    assert cells.data[3, 35, 55] == other
    bench.settle()
    assert {track for track, t in bench.rows() if t == 3} == {left, right, other}
    cells.undo()
    bench.settle()
    assert {track for track, t in bench.rows() if t == 3} == {left, right}
    assert tracked_ids is ids


def test_new_cells_of_untracked_movies_stay_new(bench, cells):
    plane = LabelsPlane(cells, (3, None, None), 1, 2)
    drawn = edits.draw(plane.labels, [(30, 50), (30, 61), (41, 61), (41, 50)], 99)
    assert _named(plane, drawn) is drawn
    bench.track()
    assert _named(plane, drawn) is not drawn
    cells.undo()
    assert _named(plane, drawn) is drawn


def test_an_edit_while_the_cells_are_tracked_is_not_lost(bench, cells):
    before = cells.data.copy()
    bench.controller.track()
    cells.data_setitem((np.array([0]), np.array([0]), np.array([0])), 44)
    before[0, 0, 0] = 44
    bench.settle()
    # the job looked at the labels when it began to run, after the stroke; so paint once more
    bench.controller.track()
    job, bench.tracking.job = bench.tracking.job, None
    events = list(job(threading.Event()))
    cells.data_setitem((np.array([0]), np.array([0]), np.array([1])), 45)
    shown = cells.data.copy()
    for event in events:
        bench.controller.found(event)
    bench.controller.ended()
    np.testing.assert_array_equal(cells.data, shown)
    assert "changed while they were tracked" in bench.view.state.sentence


def test_tracks_that_the_user_removed_stay_away_until_she_tracks_again(bench, cells):
    bench.track()
    bench.viewer.layers.remove(bench.tracks())
    cells.data_setitem((np.array([0]), np.array([0]), np.array([0])), 44)
    bench.settle()
    assert bench.tracks() is None
    bench.track()
    assert (44, 0) in bench.rows()
    bench.viewer.layers.remove(cells)
    bench.settle()
    assert bench.tracks() is None
    assert not bench.view.state.shown


def test_tracks_that_the_user_hid_stay_hidden(bench, cells):
    bench.track()
    bench.tracks().visible = False
    cells.undo()
    bench.settle()
    cells.redo()
    bench.settle()
    assert not bench.tracks().visible


def test_tracks_follow_the_place_of_their_labels(bench, cells):
    bench.track()
    cells.scale = (1, 3, 3)
    cells.translate = (0, 1, 2)
    np.testing.assert_allclose(bench.tracks().scale, (1, 3, 3))
    np.testing.assert_allclose(bench.tracks().translate, (0, 1, 2))


def test_saved_labels_have_their_tracks_when_they_are_opened_again(bench, cells, tmp_path):
    bench.track()
    rows, graph = bench.rows(), dict(bench.tracks().graph)
    data, state, _ = cells.as_layer_data_tuple()
    state["metadata"] = cells.metadata
    mask, _ = write_layer(str(tmp_path / "a.tif"), data, state)
    with tifffile.TiffFile(mask) as tif:
        assert tif.series[0].axes == "TYX"
    bench.viewer.layers.clear()
    bench.settle()
    assert bench.tracks() is None
    (opened,) = open_result(mask)
    bench.viewer.add_labels(opened[0], **opened[1])
    bench.settle()
    assert bench.rows() == rows
    assert bench.tracks().graph == graph
    assert bench.view.state.sentence == "4 tracks with 1 division."


def test_labels_of_other_origin_are_tracked_twice_with_the_same_ids(bench):
    layer = bench.viewer.add_labels(movie(), name="mask")
    bench.track()
    assert same_cells(layer.data, tracked())
    first = layer.data.copy()
    bench.track()
    np.testing.assert_array_equal(layer.data, first)
    layer.undo()
    np.testing.assert_array_equal(layer.data, movie())


def test_what_cannot_be_tracked_is_said(bench, monkeypatch):
    viewer = bench.viewer
    plane = viewer.add_labels(movie()[0])
    bench.settle()
    assert not bench.view.state.shown
    stack = viewer.add_labels(movie(), axis_labels=("z", "y", "x"), name="stack")
    bench.settle()
    assert bench.view.state.shown
    assert "planes follow z, not time" in bench.view.state.problem
    bench.controller.track()
    assert "planes follow z, not time" in bench.view.state.sentence
    assert not bench.tracking.running
    assert "has 4 axes" in tracking_problem(viewer.add_labels(movie()[None]))
    assert "single frame" in tracking_problem(viewer.add_labels(movie()[:1]))
    assert tracking_problem(plane)
    classes = viewer.add_labels(movie(), name="classes")
    classes.metadata.update(result_metadata(CLASSES, "", {}))
    viewer.layers.selection.active = classes
    bench.settle()
    assert not bench.view.state.shown
    empty = viewer.add_labels(movie() * 0, name="empty")
    bench.track()
    assert bench.view.state.sentence == "0 tracks."
    assert bench.tracks() is None
    assert empty.data.max() == 0
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    bench.track()
    assert "laptrack, which is not installed" in bench.view.state.sentence
    assert stack.metadata.get(OURS) is None


def test_a_file_that_says_z_is_believed(bench, tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, movie().astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    made = {"source": {"path": str(path)}}
    layer = bench.viewer.add_labels(movie(), name="cells")
    layer.metadata.update(result_metadata(CELLS, "", made))
    bench.track()
    assert "follow z, not time" in bench.view.state.sentence
    assert record_of_tracks(layer) is None


def test_nothing_is_left_when_the_form_ends(bench, cells):
    bench.track()
    bench.wiring.release()
    rows = bench.rows()
    cells.data_setitem((np.array([0]), np.array([0]), np.array([0])), 44)
    bench.settle()
    assert bench.rows() == rows
