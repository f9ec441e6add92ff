"""The image that is open, saved and approved without a window: the thread waits for the test."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet_cells.batch.corrected_parts import PartsFollowed
from napari_unet_cells.batch.marks import mark, read_marks
from napari_unet_cells.core.labels import digest_in_file
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.results import write_result
from napari_unet_cells.layers.metadata import INPUT, OURS, PART_OF, ZARR
from napari_unet_cells.untrusted.unit_record import Stamp, UnitRecord
from napari_unet_cells.widgets.folder import correcting as correcting_module
from napari_unet_cells.widgets.folder.correcting import Correcting
from napari_unet_cells.widgets.folder.pair import OpenPair
from napari_unet_cells.widgets.folder.rows import Row, State


class Window:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.told: list[str] = []
        self.followed: list[str] = []
        self.following: list[str] = []
        self.open = ""
        self.given_back = 0

    def show_open(self, name: str) -> None:
        self.open = name

    def give_back(self) -> None:
        self.given_back += 1

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)

    def project(self, image: object) -> None:
        pass

    def corrections_saved(self) -> None:
        pass

    def show_following(self, sentence: str, going: bool = True) -> None:
        self.following.append(sentence)

    def parts_followed(self, folder: Path) -> None:
        self.followed.append(folder.name)


class Controller:
    """A list of the images a, b and c, all done, which notes what is approved."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.rows = [Row(name, output / f"{name}.tif", State.DONE, cells=2) for name in "abc"]
        self.approved: list[tuple[str, bool]] = []
        self.corrections: list[tuple[str, int | None]] = []
        self.counts: list[tuple[str, int | None]] = []

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def approve(self, name: str, approved: bool) -> None:
        self.approved.append((name, approved))

    def corrected(self, name: str, record: Any) -> None:
        self.corrections.append((name, getattr(record, "cells", None)))

    def counted(self, name: str, record: Any) -> None:
        self.counts.append((name, record.cells))


class Desk:
    """The image that is open, over the results of a batch."""

    def __init__(self, output: Path, make_thread: Any) -> None:
        self.viewer, self.window = ViewerModel(), Window()
        self.thread = make_thread(must_end=True)  # what is being saved is not cancelled
        self.output, self.controller = output, Controller(output)
        controller: Any = self.controller
        viewer: Any = self.viewer
        self.correcting = Correcting(viewer, controller, self.window, self.thread)
        self.thread.connect(self.correcting.receive, self.correcting.failed, self.correcting.ended)
        self.saved: list[str] = []
        self.made: list[dict[str, Any]] = []

    def layer(self, name: str) -> Labels:
        """Add the cells of an image as a layer, as somebody does who drags the file in."""
        path = self.output / f"{name}_cells.tif"
        known = {OURS: {"role": "cells", "provenance": {}}, INPUT: {"path": str(path)}}
        layer = Labels(cells(), name=f"{name}_cells", metadata=known)
        self.viewer.add_layer(layer)
        return layer

    def open(self, name: str) -> Labels:
        """Have an image open as a click on it leaves it."""
        layer = self.layer(name)
        checksum = digest_in_file(cells())
        self.correcting.pair = OpenPair(name, self.output, layer, (layer,), checksum)
        return layer

    def let_run(self) -> None:
        """Let the thread do what it was given, and what follows from that."""
        while self.thread.running:
            self.thread.work()


def cells() -> NDArray[Any]:
    labels = np.zeros((40, 50), np.uint16)
    labels[5:10, 5:10], labels[20:30, 20:30] = 1, 2
    return labels


def put(output: Path, name: str, labels: NDArray[Any]) -> None:
    record = {"program": "napari-unet-cells", "role": "cells"}
    mask = output / f"{name}_cells.tif"
    scale = Scale(None, "pixel", None)
    write_result(mask, labels, record, axes="YX", scale=scale, overwrite=True)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_thread: Any) -> Desk:
    monkeypatch.setenv("NAPARI_UNET_CELLS_HOME", str(tmp_path / "home"))
    desk = Desk(tmp_path, make_thread)

    def write(output: Path, name: str, labels: NDArray[Any], *made: Any) -> object:
        put(output, name, labels)
        desk.saved.append(name)
        desk.made += made
        return SimpleNamespace()

    monkeypatch.setattr(correcting_module, "write_corrected", write)
    for name in "abc":
        put(tmp_path, name, cells())
    return desk


def open_on_disk(desk: Desk, name: str) -> Labels:
    """Have an image open whose cells stay in an OME-Zarr."""
    file = desk.output / f"{name}.ome.zarr"
    labels = LabelZarr(file, (40, 50), "yx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    labels.write("cells", (), (slice(0, 40), slice(0, 50)), cells())
    labels.finish("cells", {"cells": 2}, {})
    known = {OURS: {"role": "cells", ZARR: str(file)}}
    layer = Labels(cells(), name=name, metadata=known)
    desk.viewer.add_layer(layer)
    desk.correcting.pair = OpenPair(name, desk.output, layer, (layer,), 0, None, file)
    return layer


def take_part(desk: Desk, name: str) -> Labels:
    """Have all of the cells open to be edited."""
    made = {"role": "cells", PART_OF: {"zarr": str(desk.output / f"{name}.ome.zarr")}}
    layer = Labels(cells(), name=f"{name} part", metadata={OURS: made})
    desk.viewer.add_layer(layer)
    return layer


def put_back(desk: Desk, name: str, layer: Labels) -> None:
    """Write a part without its second cell, and remove its layer, as pressing Put back does."""
    box = slice(0, 40), slice(0, 50)
    taken = cells().astype(np.int64)
    versions = LabelVersions(desk.output / f"{name}.ome.zarr")
    versions.replace((), box, taken, np.where(taken == 2, 0, taken), 2)
    desk.viewer.layers.remove(layer)
    desk.correcting.layer_removed(layer)


def erase(layer: Labels) -> None:
    layer.data = np.where(layer.data == 1, 0, layer.data).astype(layer.data.dtype)


def test_what_was_corrected_is_saved_once(desk: Desk) -> None:
    layer = desk.open("a")
    erase(layer)
    layer.data = layer.data.astype(np.uint32)  # in the file ids are as small as they can be
    for _ in range(2):
        desk.correcting.save()
        desk.let_run()
    layer.data = np.where(layer.data == 2, 3, layer.data)
    desk.correcting.save()
    desk.let_run()
    assert (desk.saved, desk.window.warnings) == (["a", "a"], [])


@pytest.mark.parametrize("approving", [False, True])
def test_cells_that_somebody_else_wrote_are_not_replaced(desk: Desk, approving: bool) -> None:
    layer = desk.open("a")
    others = np.full((40, 50), 9, np.uint16)
    put(desk.output, "a", others)
    if approving:  # nothing was corrected, and what lies there was never seen
        desk.correcting.approve("a", True)
    else:
        erase(layer)
        desk.correcting.save()
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == ([], [])
    (warning,) = desk.window.warnings
    assert warning.startswith(f"{desk.output / 'a_cells.tif'} holds other cells than when you")
    assert "Export them to a file of their own" in warning
    assert layer in desk.viewer.layers


def test_what_nobody_else_wrote_is_approved_once_it_is_saved(desk: Desk) -> None:
    erase(desk.open("a"))
    desk.correcting.approve("a", True)
    assert desk.controller.approved == []
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == (["a"], [("a", True)])


@pytest.mark.parametrize("act", ["open", "save", "approve", "next"])
def test_an_image_that_is_segmented_anew_stays_open(desk: Desk, act: str) -> None:
    layer = desk.open("a")
    erase(layer)
    desk.controller.rows[0] = replace(desk.controller.rows[0], state=State.RUNNING)
    correcting = desk.correcting
    acts = {
        "open": lambda: correcting.open("b"),
        "save": correcting.save,
        "approve": lambda: correcting.approve("a", True),
        "next": correcting.approve_and_next,
    }
    acts[act]()
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == ([], [])
    (warning,) = desk.window.warnings
    assert warning.startswith("a is being segmented anew")
    assert list(desk.viewer.layers) == [layer]
    assert correcting.pair is not None
    assert correcting.pair.cells is layer
    assert correcting.idle


def test_an_image_that_is_segmented_anew_is_left_where_nothing_was_corrected(desk: Desk) -> None:
    desk.open("a")
    desk.controller.rows[0] = replace(desk.controller.rows[0], state=State.RUNNING)
    desk.correcting.save()
    desk.let_run()
    assert (desk.saved, desk.window.warnings) == ([], [])


def test_the_pair_before_is_saved_where_cells_that_are_open_are_taken(desk: Desk) -> None:
    a, b = desk.open("a"), desk.layer("b")
    erase(a)
    desk.correcting.open("b")
    assert desk.window.open == ""
    desk.let_run()
    assert (desk.saved, desk.window.open) == (["a"], "b")
    assert desk.window.given_back == 1
    assert desk.viewer.layers.selection.active == b
    assert list(desk.viewer.layers) == [a, b]
    desk.correcting.open("a")  # as it was left, it needs no other save
    desk.let_run()
    desk.correcting.save()
    desk.let_run()
    assert (desk.saved, desk.window.open) == (["a", "b"], "a")


def test_the_pair_stays_where_it_cannot_be_saved(desk: Desk) -> None:
    a, _ = desk.open("a"), desk.layer("b")
    erase(a)
    put(desk.output, "a", np.full((40, 50), 9, np.uint16))
    desk.correcting.open("b")
    desk.let_run()
    assert len(desk.window.warnings) == 1
    assert desk.correcting.pair is not None
    assert desk.correcting.pair.cells is a


def test_cells_that_are_open_beside_the_pair_are_saved_before_they_are_approved(
    desk: Desk,
) -> None:
    desk.open("a")
    erase(desk.layer("b"))
    desk.correcting.approve("b", True)
    assert desk.controller.approved == []
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == (["b"], [("b", True)])
    desk.correcting.approve("b", True)
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == (["b"], [("b", True)] * 2)
    desk.correcting.approve("c", True)  # not open
    assert desk.controller.approved[2:] == [("c", True)]


def test_nothing_is_approved_in_a_list_that_is_not_the_one_of_the_pair(
    desk: Desk, tmp_path: Path
) -> None:
    desk.open("a")
    desk.controller.output = tmp_path / "other"
    desk.correcting.approve_and_next()
    assert desk.thread.running  # it opens the first one
    assert desk.controller.approved == []
    desk.let_run()
    assert desk.controller.approved == []


def test_an_approval_waits_for_the_thread(desk: Desk) -> None:
    desk.open("a")
    erase(desk.layer("b"))
    desk.correcting.save()
    desk.correcting.approve("b", True)
    assert desk.controller.approved == []
    desk.let_run()
    assert (desk.saved, desk.controller.approved) == (["b"], [("b", True)])


def test_tracks_are_saved_with_the_cells_also_alone(desk: Desk) -> None:
    layer = desk.open("a")
    made = {"tracks": {"parents": [[2, 1]]}}
    layer.metadata[OURS] = {**layer.metadata[OURS], "provenance": made}
    for _ in range(2):
        desk.correcting.save()
        desk.let_run()
    assert (desk.saved, desk.made) == (["a"], [made])


@pytest.mark.parametrize("act", ["open", "open beside", "approve", "next"])
def test_an_image_of_which_a_part_is_being_edited_stays_open(desk: Desk, act: str) -> None:
    layer = open_on_disk(desk, "a")
    if act == "open beside":
        desk.layer("b")
    part = take_part(desk, "a")
    there = list(desk.viewer.layers)
    if act == "approve":
        desk.correcting.approve("a", True)
    elif act == "next":
        desk.correcting.approve_and_next()
    else:
        desk.correcting.open("b")
    assert not desk.thread.running
    assert desk.correcting.idle
    assert desk.window.warnings == [
        "A part of a is being edited. Put it back first (page Correct), or remove its layer to "
        "give it up."
    ]
    assert list(desk.viewer.layers) == there
    assert desk.correcting.pair is not None
    assert desk.correcting.pair.cells is layer
    assert desk.controller.approved == []
    desk.viewer.layers.remove(part)
    desk.correcting.layer_removed(part)  # given up: nothing was corrected
    desk.let_run()
    assert not read_marks(desk.output).corrected
    desk.correcting.approve("a", True)
    desk.let_run()
    assert desk.controller.approved == [("a", True)]


def test_an_image_is_marked_as_corrected_when_a_part_is_put_back(desk: Desk) -> None:
    open_on_disk(desk, "a")
    part = take_part(desk, "a")
    assert not read_marks(desk.output).corrected
    put_back(desk, "a", part)
    desk.let_run()
    assert set(read_marks(desk.output).corrected) == {"a"}
    assert desk.correcting.pair is not None
    assert desk.correcting.pair.checksum == 1


def test_an_image_is_marked_and_counted_when_a_cell_is_deleted_from_its_table(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = open_on_disk(desk, "a")
    desk.correcting.open("a")  # in a list that is opened over cells that are open
    monkeypatch.setattr(correcting_module, "count_parts", counted)
    box, taken = (slice(0, 40), slice(0, 50)), cells().astype(np.int64)
    for n, without in enumerate((np.where(taken == 2, 0, taken), taken * 0), 1):
        LabelVersions(desk.output / "a.ome.zarr").replace((), box, taken, without, 2)
        layer.data = without.astype(np.uint16)  # as `LargeTable` shows them
        desk.let_run()
        assert set(read_marks(desk.output).corrected) == {"a"}
        assert desk.controller.counts == [("a", 2 - one) for one in range(1, n + 1)]
    layer.data = layer.data.copy()  # shown anew, and nothing was changed
    desk.let_run()
    assert len(desk.controller.counts) == 2
    desk.viewer.layers.remove(layer)
    desk.correcting.layer_removed(layer)
    layer.data = layer.data.copy()
    assert not desk.thread.running


def counted(output: Path, name: str) -> UnitRecord:
    """Mark an image as corrected, and count one cell less for each version."""
    mark(output, name, corrected=True)
    return record_of(2 - LabelVersions(output / f"{name}.ome.zarr").last)


def test_a_part_that_is_put_back_while_the_thread_is_busy_is_marked_then(desk: Desk) -> None:
    open_on_disk(desk, "a")
    part = take_part(desk, "a")
    desk.correcting.save()
    put_back(desk, "a", part)
    desk.let_run()
    assert set(read_marks(desk.output).corrected) == {"a"}


def test_a_part_of_an_image_that_is_open_beside_is_marked_too(desk: Desk) -> None:
    open_on_disk(desk, "a")
    b = desk.layer("b")
    desk.correcting.open("b")
    desk.let_run()
    assert desk.correcting.pair is not None
    assert desk.correcting.pair.cells is b
    put_back(desk, "a", take_part(desk, "a"))
    desk.let_run()
    assert set(read_marks(desk.output).corrected) == {"a"}


def test_files_that_a_killed_program_has_left_due_are_written_when_the_image_is_left(
    desk: Desk,
) -> None:
    desk.open("a")
    assert desk.correcting.pair is not None
    desk.correcting.pair = replace(desk.correcting.pair, due=True)
    desk.correcting.save()
    desk.let_run()
    assert desk.saved == ["a"]
    desk.correcting.save()
    desk.let_run()
    assert desk.saved == ["a"]


def record_of(n: int) -> UnitRecord:
    return UnitRecord("ab" * 32, Stamp(0, 0), {}, {}, cells=n)


def test_a_part_that_is_put_back_is_counted_and_the_rest_follows_when_it_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_on_disk(desk, "a")
    desk.layer("b")
    followed: list[str] = []

    def follow(output: Path, name: str) -> Generator[float, None, PartsFollowed]:
        yield 0.25
        followed.append(name)
        return PartsFollowed(record_of(1), "No image.")

    monkeypatch.setattr(correcting_module, "count_parts", lambda *_: record_of(5))
    monkeypatch.setattr(correcting_module, "following_parts", follow)
    put_back(desk, "a", take_part(desk, "a"))
    desk.let_run()
    assert (desk.controller.counts, followed) == ([("a", 5)], [])
    assert desk.window.followed == []
    desk.correcting.open("b")
    desk.let_run()
    assert (followed, desk.window.warnings) == (["a"], ["No image."])
    assert desk.window.followed == ["a.ome.zarr"]
    assert desk.controller.corrections == [("a", 1)]
    said = "The table of a follows what you corrected: 25%"
    assert [one for one in desk.window.following if one] == [said]
    assert desk.window.following[-1] == ""
    desk.correcting.open("a")
    desk.let_run()
    assert followed == ["a"]


@pytest.mark.parametrize("then", ["save", "b"])
def test_a_table_that_takes_long_can_follow_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    open_on_disk(desk, "a")
    desk.layer("b")
    closed: list[str] = []

    def follow(output: Path, name: str) -> Generator[float, None, PartsFollowed]:
        try:
            for n in range(100):
                yield n / 100
        finally:
            closed.append(name)
        return PartsFollowed(record_of(1))

    monkeypatch.setattr(correcting_module, "_OFTEN", 0.0)
    monkeypatch.setattr(correcting_module, "count_parts", lambda *_: record_of(5))
    monkeypatch.setattr(correcting_module, "read_unit_record", lambda *_: record_of(5))
    monkeypatch.setattr(correcting_module, "following_parts", follow)
    put_back(desk, "a", take_part(desk, "a"))
    desk.let_run()
    receive, told = desk.correcting.receive, list[str]()

    def press(event: object) -> None:
        receive(event)
        told.extend(desk.window.following[-1:])
        if told[-1].endswith(" 3%") and not closed:
            desk.correcting.leave_table()

    desk.thread.connect(press, desk.correcting.failed, desk.correcting.ended)
    desk.correcting.save() if then == "save" else desk.correcting.open("b")
    desk.let_run()
    assert closed == ["a"]
    assert not any(said.endswith(" 5%") for said in told)
    assert any("does not follow yet; it does when you save or leave" in said for said in told)
    assert (desk.window.followed, desk.window.warnings) == ([], [])
    assert desk.controller.counts[-1] == ("a", 5)  # as they were counted
    assert desk.controller.corrections == []
    pair = desk.correcting.pair
    assert pair is not None
    if then == "b":
        assert pair.name == "b"  # which did not wait
        return
    assert pair.due
    desk.correcting.save()  # and now it may take its time
    desk.let_run()
    assert closed == ["a", "a"]
    assert desk.window.followed == ["a.ome.zarr"]
    assert desk.controller.corrections == [("a", 1)]


@pytest.mark.parametrize("act", ["mark", "next", "mark while it is saved", "mark while b opens"])
def test_an_image_is_not_approved_where_its_table_is_to_follow_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    open_on_disk(desk, "a")
    desk.layer("c")
    followed = list[str]()
    cancels = True

    def follow(output: Path, name: str) -> Generator[float, None, PartsFollowed]:
        yield 0.5
        if cancels:
            desk.correcting.leave_table()
        yield 0.6
        followed.append(name)
        return PartsFollowed(record_of(1))

    monkeypatch.setattr(correcting_module, "count_parts", lambda *_: record_of(5))
    monkeypatch.setattr(correcting_module, "read_unit_record", lambda *_: record_of(5))
    monkeypatch.setattr(correcting_module, "following_parts", follow)
    monkeypatch.setattr(correcting_module, "read_pair", lambda *_: "read")
    put_back(desk, "a", take_part(desk, "a"))
    desk.let_run()
    if act == "next":
        desk.correcting.approve_and_next()
    elif act == "mark while it is saved":
        desk.correcting.save()
        desk.correcting.approve_and_next()
    elif act == "mark while b opens":
        desk.correcting.open("b")
        desk.correcting.approve("a", True)
    else:
        desk.correcting.approve("a", True)
        desk.correcting.open("c")  # which the user asks for by herself
    desk.let_run()
    assert (desk.controller.approved, followed) == ([], [])
    (said,) = desk.window.warnings
    assert said.startswith("a was not approved, as you cancelled its table")
    assert desk.correcting.idle
    assert desk.window.open == ("c" if act == "mark" else "")
    if act != "next":
        return
    cancels = False
    desk.correcting.approve("a", True)
    desk.let_run()
    assert (desk.controller.approved, followed) == ([("a", True)], ["a"])


def test_what_does_not_follow_is_said_keeps_nobody_and_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_on_disk(desk, "a")
    desk.layer("b")

    def fail(output: Path, name: str) -> PartsFollowed:
        mark(output, name, corrected=True)
        raise UserError("The disk is full. Free some space.")

    monkeypatch.setattr(correcting_module, "following_parts", fail)
    put_back(desk, "a", take_part(desk, "a"))
    desk.let_run()
    desk.window.warnings.clear()
    for _ in range(2):
        desk.correcting.save()
        desk.let_run()
    said = (
        "What you put back into a is on the disk, but its table, its picture and the number of "
        "cells in the list do not follow. The disk is full. Free some space. Then press Save."
    )
    assert desk.window.warnings == [said] * 2
    assert desk.window.followed == []
    desk.correcting.open("b")
    desk.let_run()
    assert desk.correcting.pair is not None
    assert desk.correcting.pair.name == "b"
