"""A part of labels on the disk: taken into a layer, edited, put back, given up, restored."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet_cells.core.regions import Review
from napari_unet_cells.corrections.approved_regions import approved_of
from napari_unet_cells.corrections.autosave import session_of
from napari_unet_cells.corrections.description import describe
from napari_unet_cells.corrections.large_regions import approved_windows, note_approved
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.array_file import write_arrays
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.layers.metadata import (
    CELLS,
    OURS,
    PART_OF,
    REVIEW,
    TAKEN,
    ZARR,
    fitting_review,
    result_metadata,
)
from napari_unet_cells.layers.selection import review_problem
from napari_unet_cells.segmentation.uncertain_places import uncertainty_file
from napari_unet_cells.untrusted.session import parse_save_header
from napari_unet_cells.widgets.correct import part_controller
from napari_unet_cells.widgets.correct.part_controller import (
    EDIT,
    PUT_BACK,
    PartController,
    PartState,
)
from napari_unet_cells.widgets.napari_versions import camera_of
from napari_unet_cells.widgets.wiring import Wiring

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui

#: 20 x 20 squares of 30 pixels, 40 apart, numbered row by row from 1.
PLANE = np.zeros((800, 800), np.uint16)
for _number in range(400):
    _top, _left = 40 * (_number // 20) + 5, 40 * (_number % 20) + 5
    PLANE[_top : _top + 30, _left : _left + 30] = _number + 1


class View:
    """Keeps the last state that it is to show."""

    state = PartState()

    def show_part(self, state: PartState) -> None:
        self.state = state


class Part:
    """A viewer with labels on the disk, and the controller."""

    def __init__(self, viewer: Any, folder: Path, thread: Any) -> None:
        self.viewer, self.folder = viewer, folder
        self.view, self.thread = View(), thread
        self.controller = PartController(
            viewer, self.view, self.thread, lambda: viewer.layers.selection.active, Wiring()
        )
        self.controller.look()

    def press(self) -> None:
        self.controller.press()
        if self.thread.running:
            for event in self.thread.take():
                self.controller.receive(event)
            self.controller.ended()

    @property
    def on_disk(self) -> NDArray[Any]:
        return np.asarray(label_levels(self.folder, CELLS)[0])


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_thread: Any) -> Part:
    """Show the labels with 200 x 200 of their pixels around (300, 300) in view."""
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(part_controller, "MARGIN", 10)
    folder = tmp_path / "slide_cells.ome.zarr"
    labels = LabelZarr(folder, PLANE.shape, "yx", 1024, Scale(None, "pixel", None))
    labels.create(CELLS, np.uint16)
    labels.write(CELLS, (), (slice(0, 800), slice(0, 800)), PLANE)
    labels.finish(CELLS, {"cells": 400}, {})
    viewer: Any = ViewerModel()
    if hasattr(viewer, "canvas"):
        viewer.canvas.size = (200, 200)
    else:  # napari before 0.9
        viewer._canvas_size = (200, 200)
    metadata = result_metadata(CELLS, "an image", {})
    metadata[OURS][ZARR] = str(folder)
    levels: Any = label_levels(folder, CELLS)
    layer = Labels(
        list(levels),
        multiscale=True,
        name="slide cells",
        metadata=metadata,
        scale=(0.5, 0.5),
        translate=(10, 20),
    )
    viewer.add_layer(layer)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0.0, *layer.data_to_world((300, 300))), 2.0
    return Part(viewer, folder, make_thread())


def layer_of(part: Part) -> Any:
    return part.viewer.layers["slide cells part"]


def test_the_part_in_view_is_taken_and_hidden_below(part: Part) -> None:
    source: Any = part.viewer.layers["slide cells"]
    assert part.view.state == PartState(True, EDIT, True)
    assert "Edit this part" in review_problem(source)
    part.press()
    layer = layer_of(part)
    assert part.view.state == PartState(True, PUT_BACK, True)
    assert part.viewer.layers.selection.active is layer
    assert (layer.visible, layer.editable, review_problem(layer)) == (True, True, "")
    assert fitting_review(layer) is not None
    rows, columns = layer.metadata[OURS][PART_OF]["rows"], layer.metadata[OURS][PART_OF]["columns"]
    box = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    assert 215 <= rows[1] - rows[0] <= 225
    # the squares that are whole in it, in their place
    whole = PLANE[box].copy()
    cut = np.unique(np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]]))
    whole[np.isin(whole, cut)] = 0
    np.testing.assert_array_equal(layer.data, whole)
    assert len(np.unique(whole)) - 1 == 25
    world = layer.data_to_world((0, 0))
    np.testing.assert_allclose(source.world_to_data(world), (rows[0], columns[0]))
    # what is taken is not seen below, at any level; what is cut is
    for level, factor in zip(source.data, (1, 2, 4, 8), strict=True):
        seen = np.asarray(level)
        full = np.asarray(label_levels(part.folder, CELLS)[factor.bit_length() - 1])
        inside = tuple(slice(s.start // factor + 1, s.stop // factor - 1) for s in box)
        assert set(np.unique(seen[inside])) <= {0, *cut.tolist()}
        beside = np.ones(full.shape, bool)
        beside[tuple(slice(s.start // factor, -(-s.stop // factor)) for s in box)] = False
        np.testing.assert_array_equal(seen[beside], full[beside])


def test_what_was_edited_is_put_back_as_a_version(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    ids = np.unique(layer.data)[1:].tolist()
    place = layer.metadata[OURS][PART_OF]
    box = np.s_[slice(*place["rows"]), slice(*place["columns"])]
    layer.data[layer.data == ids[0]] = 0
    layer.data[layer.data == ids[1]] = 1  # the number of a cell elsewhere
    edited = layer.data.copy()
    review = fitting_review(layer)
    assert review is not None
    part.press()

    assert [one.name for one in part.viewer.layers] == ["slide cells"]
    expected = PLANE.copy()
    expected[expected == ids[0]] = 0
    expected[expected == ids[1]] = 401  # which is new
    np.testing.assert_array_equal(part.on_disk, expected)
    np.testing.assert_array_equal(np.asarray(part.viewer.layers[0].data[0]), expected)
    assert part.view.state.sentence.startswith("Put back as version 1: 3 cells changed.")
    assert part.view.state.action == EDIT
    version = LabelVersions(part.folder).version(1)
    np.testing.assert_array_equal(version.before, PLANE[box])
    assert (edited[expected[box] == 401] == 1).all()
    assert session_of(review).exports[0].is_there

    part.press()
    part.press()  # without an edit
    assert part.view.state.sentence == "Nothing was edited."
    assert LabelVersions(part.folder).numbers == [1]


def test_a_stack_of_an_earlier_version_takes_new_cells(part: Part) -> None:
    labels = LabelZarr(part.folder, PLANE.shape, "yx", 1024, Scale(None, "pixel", None))
    labels.finish(CELLS, {"cells": 70_000}, {})  # of all planes, each numbered from 1
    assert part.on_disk.dtype == np.uint16
    box, whole = np.s_[0:800, 0:800], PLANE.astype(np.int64)
    LabelVersions(part.folder).replace((), box, whole, np.where(whole == 3, 0, whole), 70_000)
    part.press()
    layer = layer_of(part)
    layer.data[(layer.data == 0) & ~layer.metadata[TAKEN].stays] = 7000  # drawn
    part.press()
    assert part.view.state.sentence.startswith("Put back as version 2: 1 cell changed.")
    assert part.on_disk.max() == 401


def test_where_no_number_is_left_the_rest_can_be_put_back(part: Part) -> None:
    last, whole = np.iinfo(np.uint16).max, PLANE.astype(np.int64)
    box = np.s_[0:800, 0:800]
    LabelVersions(part.folder).replace((), box, whole, np.where(whole == 1, last, whole), last)
    part.press()
    layer = layer_of(part)
    ids = np.unique(layer.data)[1:].tolist()
    free = (layer.data == 0) & ~layer.metadata[TAKEN].stays
    layer.data[layer.data == ids[0]] = 0
    layer.data[free] = ids[0]  # the number of a cell that was deleted is a new one too
    with pytest.raises(UserError, match="all were given") as raised:
        part.press()
    part.controller.failed(str(raised.value))
    assert part.view.state.sentence.endswith("Without the new cells the rest can be put back.")
    assert layer in part.viewer.layers
    layer.data[layer.data == ids[0]] = 0
    part.press()
    assert part.view.state.sentence.startswith("Put back as version 2: 1 cell changed.")
    assert not (part.on_disk == ids[0]).any()


def test_regions_that_were_approved_are_noted_also_where_nothing_was_edited(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    review = fitting_review(layer)
    assert review is not None
    review.approve(((), 0), "2026-01-01")
    place = layer.metadata[OURS][PART_OF]
    part.press()
    assert part.view.state.sentence == (
        "Nothing was edited. 1 region approved, for a dataset (page Export)."
    )
    (window,) = approved_windows(part.folder)
    assert (window.plane, window.date) == ((), "2026-01-01")
    assert (window.rows, window.columns) == (tuple(place["rows"]), tuple(place["columns"]))
    assert LabelVersions(part.folder).numbers == []
    (written,) = session_of(review).exports  # else the approval would be offered again
    assert (written.is_there, written.approved) == (True, frozenset({((), 0)}))


def test_the_most_uncertain_places_are_shown_until_they_are_approved(part: Part) -> None:
    def shown() -> list[float]:
        part.controller.show_uncertain()
        for event in part.thread.take():
            part.controller.receive(event)
        part.controller.ended()
        source: Any = part.viewer.layers["slide cells"]
        centre = camera_of(part.viewer).center[-2:]
        return [round(float(at)) for at in source.world_to_data(centre)]

    means = np.array([[0, 30], [90, 60]], np.uint8)
    write_arrays(uncertainty_file(part.folder), {"uncertainty": means})
    assert shown() == [656, 256]  # the squares are of 512 pixels, of 800
    # all of it is in view: 288 x 512 pixels of half a unit in 200 of the canvas
    assert camera_of(part.viewer).zoom == pytest.approx(0.9 * 200 / 256)
    assert part.view.state.sentence == (
        "Here the network was least sure. 3 places are not approved yet."
    )
    assert shown() == [656, 656]
    assert shown() == [256, 656]
    assert shown() == [656, 256]  # again from the first
    review = Review(np.zeros((288, 512), np.uint8))
    review.approve(((), 0))
    note_approved(part.folder, (), (slice(512, 800), slice(0, 512)), review)
    assert shown() == [656, 656]
    assert "2 places are not approved yet" in part.view.state.sentence
    write_arrays(uncertainty_file(part.folder), {"uncertainty": means * 0})
    shown()
    assert part.view.state.sentence == "All places that hold something are approved."


def test_a_result_that_does_not_say_where_it_is_unsure_is_said(part: Part) -> None:
    part.controller.show_uncertain()
    with pytest.raises(UserError, match="does not say where the network was unsure"):
        list(part.thread.events)
    part.thread.events = None
    part.controller.failed("why")
    assert part.view.state.sentence == "why"


def test_a_part_that_is_given_up_is_seen_again(part: Part) -> None:
    source: Any = part.viewer.layers["slide cells"]
    part.press()
    assert not np.array_equal(np.asarray(source.data[0]), PLANE)
    part.viewer.layers.remove(layer_of(part))
    np.testing.assert_array_equal(np.asarray(source.data[0]), PLANE)
    np.testing.assert_array_equal(part.on_disk, PLANE)


def test_one_part_at_a_time_and_none_that_is_too_large(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = part.viewer.layers["slide cells"]
    part.press()
    part.viewer.layers.selection.active = source
    part.press()
    assert "put it back first" in part.view.state.sentence
    part.viewer.layers.remove(layer_of(part))
    part.viewer.layers.selection.active = source
    monkeypatch.setattr(part_controller, "MOST_SIDE", 100)
    part.press()
    assert "pixels is edited at once, and 2" in part.view.state.sentence
    assert len(part.viewer.layers) == 1


def test_a_part_whose_writing_fails_stays_and_can_be_put_back(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    part.press()
    layer = layer_of(part)
    layer.data[50:60, 50:60] = 7
    part.controller.press()
    part.thread.events = None
    assert not layer.editable  # while it is written
    part.viewer.layers.selection.active = part.viewer.layers["slide cells"]
    part.controller.failed("The disk is full.")
    part.viewer.layers.selection.active = layer
    part.controller.failed("The disk is full.")
    assert layer.editable
    assert part.view.state.sentence == "The disk is full."
    part.press()
    assert not np.array_equal(part.on_disk, PLANE)


def test_nothing_is_put_back_while_a_run_replaces_the_labels(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    layer.data[50:60, 50:60] = 7
    work = part.folder.with_name(f".{part.folder.name}.part")
    descriptor = open_lock(work.with_suffix(".lock"))
    assert try_lock(descriptor)
    try:
        with pytest.raises(UserError, match="is being segmented anew, so nothing was put back"):
            part.press()
    finally:
        os.close(descriptor)
    assert not LabelVersions(part.folder).numbers
    np.testing.assert_array_equal(part.on_disk, PLANE)
    part.controller.failed("It is being segmented anew.")
    assert layer.editable
    part.press()  # the run was cancelled
    assert LabelVersions(part.folder).numbers == [1]


def made_anew(part: Part, date: str) -> NDArray[Any]:
    """Replace the result, as a run does that gives its ids to other cells."""
    shutil.rmtree(part.folder)
    labels = LabelZarr(part.folder, PLANE.shape, "yx", 1024, Scale(None, "pixel", None))
    labels.create(CELLS, np.uint16)
    labels.write(CELLS, (), (slice(0, 800), slice(0, 800)), PLANE[::-1])
    labels.finish(CELLS, {"cells": 400, "date": date}, {})
    return np.asarray(PLANE[::-1])


@pytest.mark.parametrize("restored", [False, True])
def test_a_part_of_an_earlier_run_is_not_put_into_the_cells_of_another(
    part: Part, restored: bool
) -> None:
    made_anew(part, "2026-11-30T10:00:00+00:00")
    part.press()
    layer = layer_of(part)
    layer.data[50:60, 50:60] = 7
    if restored:  # napari ended in between
        del layer.metadata[TAKEN]
        facts = json.loads(json.dumps(describe(layer, part.viewer.layers)))
        saved: dict[str, Any] = {"format": 1, "shape": [40, 60], "dtype": "<u2", "table": []}
        saved |= {"number": 1, "date": "2026-11-30T10:30:00+00:00", "state": [], "facts": facts}
        saved["review"] = {"counts": [2, 3], "approved": [], "uncertainty": [0.0] * 6}
        known: Any = parse_save_header(saved).facts
        layer.metadata[OURS][PART_OF] = known["metadata"][OURS][PART_OF]
    there = made_anew(part, "2026-11-30T11:00:00+00:00")
    with pytest.raises(UserError, match=r"was segmented anew since this part was taken.*Export"):
        part.press()
    assert not LabelVersions(part.folder).numbers
    np.testing.assert_array_equal(part.on_disk, there)
    part.controller.failed("It was segmented anew.")
    assert layer in part.viewer.layers
    assert layer.editable
    assert (layer.data[50:60, 50:60] == 7).all()


def test_a_part_of_the_same_run_is_put_back(part: Part) -> None:
    made_anew(part, "2026-11-30T10:00:00+00:00")
    part.press()
    layer_of(part).data[50:60, 50:60] = 7
    part.press()
    assert LabelVersions(part.folder).numbers == [1]
    part.press()  # and the next one, of its labels as they are
    layer_of(part).data[70:80, 50:60] = 8
    part.press()
    assert LabelVersions(part.folder).numbers == [1, 2]


@pytest.mark.parametrize("restored", [False, True])
def test_what_is_taken_back_after_a_failed_writing_is_taken_back_on_the_disk(
    part: Part, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    part.press()
    layer = layer_of(part)
    before, ids = layer.data.copy(), np.unique(layer.data)[1:].tolist()
    layer.data[layer.data == ids[0]] = 0
    layer.data[0:4, 40:44] = 7000  # drawn
    with monkeypatch.context() as patch:
        patch.setattr(LabelVersions, "_apply", refuse)
        part.controller.press()
        events = part.thread.take()
        with pytest.raises(UserError, match="full"):
            list(events)
        part.controller.failed("The disk is full.")
    assert LabelVersions(part.folder).numbers == [1]
    if restored:  # napari was killed then
        del layer.metadata[TAKEN]
    layer.data[...] = before
    layer.data[layer.data == ids[1]] = 0
    part.press()
    expected = PLANE.copy()
    expected[expected == ids[1]] = 0
    np.testing.assert_array_equal(part.on_disk, expected)


def test_what_is_changed_while_it_is_written_is_not_lost(part: Part) -> None:
    source: Any = part.viewer.layers["slide cells"]
    part.press()
    layer = layer_of(part)
    hidden = np.asarray(source.data[0])
    ids = np.unique(layer.data)[1:].tolist()
    free = np.nonzero((layer.data == 0) & ~layer.metadata[TAKEN].stays)
    layer.data_setitem(free, 7000)  # drawn
    part.controller.press()
    events = part.thread.take()
    layer.undo()  # does nothing while it is written; what a program does is done
    assert (layer.data[free] == 7000).all()
    layer.data_setitem(np.nonzero(layer.data == ids[0]), 0)
    for event in events:
        part.controller.receive(event)
    part.controller.ended()
    assert layer in part.viewer.layers
    assert layer.editable
    assert part.view.state == PartState(
        True,
        PUT_BACK,
        True,
        "Put back as version 1, but the part was changed meanwhile, and stays open. Put it back "
        "again to keep that, or remove its layer to give it up.",
    )
    np.testing.assert_array_equal(np.asarray(source.data[0]), hidden)  # it is seen in its layer
    assert part.on_disk.max() == 401
    assert (part.on_disk == ids[0]).any()
    layer.undo()
    assert (layer.data == ids[0]).any()
    layer.undo()
    assert not (layer.data == 7000).any()
    layer.redo()
    part.controller.press()  # and again
    events = part.thread.take()
    layer.data_setitem(np.nonzero(layer.data == ids[1]), 0)
    for event in events:
        part.controller.receive(event)
    part.controller.ended()
    assert part.view.state.sentence.startswith("Nothing was edited, but the part was changed")
    part.press()
    assert [one.name for one in part.viewer.layers] == ["slide cells"]
    assert LabelVersions(part.folder).numbers == [1, 2]
    assert part.on_disk.max() == 401  # the number that it got at first
    assert not (part.on_disk == ids[1]).any()


@pytest.mark.parametrize("known", [True, False])
def test_what_is_drawn_again_after_it_was_deleted_in_another_view_is_put_back_whole(
    part: Part, known: bool
) -> None:
    def drawn() -> int:
        part.press()
        layer = layer_of(part)
        free = (layer.data == 0) & ~layer.metadata[TAKEN].stays
        layer.data[50:80, 50:80] = np.where(free[50:80, 50:80], 7000, layer.data[50:80, 50:80])
        if not known:  # it was restored, from a program that did not note it
            layer.metadata[OURS][PART_OF].pop("last", None)
            del layer.metadata[TAKEN]
        return int((layer.data == 7000).sum())

    n_pixels = drawn()
    part.press()
    assert n_pixels > 100
    assert (part.on_disk == 401).sum() == n_pixels
    camera = camera_of(part.viewer)
    camera.zoom = 2.5  # another box
    part.press()
    layer = layer_of(part)
    layer.data[layer.data == 401] = 0
    part.press()
    np.testing.assert_array_equal(part.on_disk, PLANE)
    camera.zoom = 2.0
    assert drawn() == n_pixels
    part.press()
    assert LabelVersions(part.folder).numbers == [1, 2, 3]
    assert (part.on_disk == 401).sum() == 0  # of the one that was deleted
    assert (part.on_disk == 402).sum() == n_pixels
    np.testing.assert_array_equal(np.where(part.on_disk == 402, 0, part.on_disk), PLANE)


def test_steps_of_undo_outlive_a_writing_that_failed(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    before, ids = layer.data.copy(), np.unique(layer.data)[1:].tolist()
    layer.data_setitem(np.nonzero(layer.data == ids[0]), 0)
    layer.data_setitem(np.nonzero(layer.data == ids[1]), 0)
    layer.undo()
    part.controller.press()
    part.thread.events = None
    part.controller.failed("The disk is full.")
    layer.redo()
    assert not (layer.data == ids[1]).any()
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


def test_what_is_drawn_on_cells_of_the_border_is_not_dropped_without_a_word(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    taken = layer.metadata[TAKEN]
    layer.data[taken.stays] = 7000
    part.controller.press()
    events = part.thread.take()
    with pytest.raises(UserError, match="all that you drew lies on cells that the border"):
        list(events)
    part.controller.failed("Nothing was put back.")
    assert layer in part.viewer.layers
    assert layer.editable
    ids = np.unique(taken.editable)[1:].tolist()
    layer.data[layer.data == ids[0]] = 0
    part.press()
    expected = PLANE.copy()
    expected[expected == ids[0]] = 0
    np.testing.assert_array_equal(part.on_disk, expected)
    assert part.view.state.sentence.endswith(
        "on cells that the border of the part cuts was left out."
    )


def refuse(*arguments: object) -> None:
    raise UserError("The disk is full.")


def test_a_part_that_was_restored_after_a_crash_is_put_back(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    described = describe(layer, part.viewer.layers)
    assert described["metadata"][OURS][PART_OF] == layer.metadata[OURS][PART_OF]
    ids = np.unique(layer.data)[1:].tolist()
    layer.data[layer.data == ids[0]] = 0
    del layer.metadata[TAKEN]  # it was only in memory
    part.viewer.layers.remove("slide cells")
    part.viewer.layers.selection.active = layer
    part.press()
    expected = PLANE.copy()
    expected[expected == ids[0]] = 0
    np.testing.assert_array_equal(part.on_disk, expected)
    assert len(part.viewer.layers) == 0
    assert part.view.state.sentence.startswith("Put back as version 1: 1 cell changed.")
    assert (part.view.state.shown, part.view.state.enabled) == (True, False)


def test_a_restored_part_leaves_what_was_put_back_since(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    ids = np.unique(layer.data)[1:].tolist()
    layer.data[layer.data == ids[0]] = 0
    del layer.metadata[TAKEN]  # napari had ended
    # meanwhile somebody else has put back another edit of the part
    other = PLANE.astype(np.int64)
    other[other == ids[3]] = 0
    box = np.s_[0:800, 0:800]
    LabelVersions(part.folder).replace((), box, PLANE.astype(np.int64), other, 400)
    part.press()
    expected = other.copy()
    expected[expected == ids[0]] = 0
    np.testing.assert_array_equal(part.on_disk, expected)


def test_a_part_is_not_taken_from_labels_that_cannot_be_read(part: Part) -> None:
    (shard,) = (part.folder / "labels" / CELLS / "0" / "c" / "0").iterdir()
    shard.write_bytes(shard.read_bytes()[:99])
    with pytest.raises(UserError, match=r"slide_cells\.ome\.zarr"):
        part.press()
    assert len(part.viewer.layers) == 1


def test_a_part_is_not_learned_from_and_the_way_out_is_said(part: Part) -> None:
    part.press()
    layer = layer_of(part)
    review = layer.metadata[REVIEW]
    review.approve(next(iter(review)))
    with pytest.raises(UserError, match=r"is a part of a large image, .* To retrain, save"):
        approved_of(layer, part.viewer.layers)


def test_other_labels_have_no_such_button(part: Part) -> None:
    part.viewer.add_labels(np.zeros((5, 5), np.uint8))
    assert part.view.state == PartState(False, EDIT)
    part.press()
    assert len(part.viewer.layers) == 2
