"""Marks of a person on results: kept on the disk, and respected by every later run."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.batch.marks import MARKS, UnreadableMarks, mark, read_marks
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import Note, UnitDone
from napari_unet_cells.files import file_set, read_image
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings


def test_marks_are_set_and_taken_back(tmp_path: Path) -> None:
    assert read_marks(tmp_path).approved == {}
    mark(tmp_path, "a", approved=True)
    mark(tmp_path, "b", approved=True, corrected=True)
    assert read_marks(tmp_path).approved.keys() == {"a", "b"}
    marks = mark(tmp_path, "b", approved=False)
    assert marks == read_marks(tmp_path)
    assert (set(marks.approved), set(marks.corrected)) == ({"a"}, {"b"})


def test_no_mark_is_lost_where_several_are_set_at_once(tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(20)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: mark(tmp_path, name, approved=True), names))
    assert read_marks(tmp_path).approved.keys() == set(names)


def test_marks_that_cannot_be_read_are_not_none(tmp_path: Path) -> None:
    (tmp_path / MARKS).write_text("{")
    with pytest.raises(UnreadableMarks, match="which says what you approved, cannot be read"):
        read_marks(tmp_path)


def run(images: Path, output: Path, **request: Any) -> tuple[dict[str, UnitDone], list[str]]:
    batch = BatchRun(find_units([str(images)], output), output, "bright", Request(**request))
    events = list(batch.events())
    batch.close()
    notes = [event.text for event in events if isinstance(event, Note)]
    return {event.unit.name: event for event in events if isinstance(event, UnitDone)}, notes


def cells(output: Path, name: str) -> bytes:
    return (output / f"{name}_cells.tif").read_bytes()


@pytest.mark.usefixtures("threshold_model")
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_approved_stays_whatever_the_settings_are(
    images: Path, tmp_path: Path, overwrite: bool
) -> None:
    output = tmp_path / "out"
    run(images, output)
    before = {name: cells(output, name) for name in ("n0", "n1", "n2")}
    mark(output, "n1", approved=True)
    other = {"settings": Settings(min_size=400), "overwrite": overwrite}
    done, notes = run(images, output, **other)
    assert (done["n1"].kept, done["n1"].before, done["n1"].problem) == ("approved", True, "")
    assert cells(output, "n1") == before["n1"]
    for name in ("n0", "n2"):
        assert (done[name].kept, done[name].why) == ("", "other settings: min-size")
        assert cells(output, name) != before[name]
    assert [note for note in notes if "stays as it is, such as n1" in note]
    mark(output, "n1", approved=False)
    assert run(images, output, **other)[0]["n1"].why == "other settings: min-size"
    assert cells(output, "n1") != before["n1"]


@pytest.mark.usefixtures("threshold_model")
@pytest.mark.parametrize(("overwrite", "kept"), [(False, "corrected"), (True, "")])
def test_what_was_corrected_stays_unless_it_may_be_replaced(
    images: Path, tmp_path: Path, overwrite: bool, kept: str
) -> None:
    output = tmp_path / "out"
    run(images, output)
    labels = np.asarray(read_image(output / "n1_cells.tif").data)
    tifffile.imwrite(output / "n1_cells.tif", np.where(labels == 1, 0, labels))
    mark(output, "n1", corrected=True)
    corrected = cells(output, "n1")
    done, _ = run(images, output, settings=Settings(min_size=400), overwrite=overwrite)
    assert (done["n1"].kept, done["n1"].problem) == (kept, "")
    assert (cells(output, "n1") == corrected) == bool(kept)


@pytest.mark.usefixtures("threshold_model")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["approved", "corrected"])
@pytest.mark.parametrize("first", [True, False], ids=["first mark", "later mark"])
def test_what_is_marked_while_it_is_segmented_stays(
    images: Path, tmp_path: Path, kind: str, overwrite: bool, first: bool
) -> None:
    output = tmp_path / "out"
    run(images, output)
    if not first:
        mark(output, "n0", approved=True)
    before = {path.name: path.read_bytes() for path in output.glob("n1*")}
    asked = Request(Settings(min_size=400), overwrite=overwrite)
    batch = BatchRun(find_units([str(images)], output), output, "bright", asked)
    done = {}
    for event in batch.events():
        if isinstance(event, PixelsDone) and event.path.stem == "n1":
            mark(output, "n1", **{kind: True})
        if isinstance(event, UnitDone):
            done[event.unit.name] = event
    assert f"It was {kind} by you while it was segmented" in done["n1"].problem
    assert {path.name: path.read_bytes() for path in output.glob("n1*")} == before
    assert done["n2"].problem == ""
    assert run(images, output, settings=Settings(min_size=400))[0]["n1"].kept == kind


@pytest.mark.usefixtures("threshold_model")
def test_a_mark_waits_until_the_results_are_replaced(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    run(images, output)
    mark(output, "n0", approved=True)
    held = []
    move_out = file_set._move_out

    def move(done: Path) -> None:
        if any(done.glob("n?.json")):  # not the report
            descriptor = open_lock(output / ".marks.unet-cells.lock")
            held.append(not try_lock(descriptor))
            os.close(descriptor)
        move_out(done)

    monkeypatch.setattr(file_set, "_move_out", move)
    run(images, output, settings=Settings(min_size=400))
    assert held == [True, True]
    mark(output, "n0", approved=False)  # nobody holds it any more


@pytest.mark.usefixtures("threshold_model")
def test_nothing_is_replaced_where_the_marks_cannot_be_read(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(images, output)
    before = cells(output, "n1")
    (output / MARKS).write_text("{")
    done, _ = run(images, output, settings=Settings(min_size=400), overwrite=True)
    assert {"cannot be read" in one.problem for one in done.values()} == {True}
    assert cells(output, "n1") == before


def test_a_mark_on_results_that_are_gone_keeps_nothing(
    images: Path, tmp_path: Path, threshold_model: list[ModelCard], write_image: Callable[..., Path]
) -> None:
    output = tmp_path / "out"
    run(images, output)
    mark(output, "n1", approved=True)
    (output / "n1_cells.tif").unlink()
    done, _ = run(images, output)
    assert (done["n1"].kept, done["n1"].why) == ("", "n1_cells.tif is missing")
    assert len(threshold_model) == 4
    write_image(images / "n2.tif", seed=9)
    mark(output, "n2", approved=True)
    assert run(images, output)[0]["n2"].kept == "approved"


@pytest.mark.usefixtures("threshold_model")
def test_a_mark_on_labels_that_were_emptied_keeps_nothing(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(images, output)
    whole = cells(output, "n1")
    mark(output, "n1", approved=True)
    (output / "n1_cells.tif").write_bytes(b"")
    done, _ = run(images, output)
    assert done["n1"].why == "n1_cells.tif is empty"
    assert cells(output, "n1") == whole


@pytest.mark.usefixtures("threshold_model")
def test_an_empty_table_does_not_cost_labels_that_were_approved(
    images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(images, output)
    tifffile.imwrite(output / "n1_cells.tif", np.ones((120, 160), np.uint16))
    mine = cells(output, "n1")
    mark(output, "n1", approved=True, corrected=True)
    (output / "n1_cells.csv").write_bytes(b"")
    run(images, output, overwrite=True)
    assert cells(output, "n1") == mine
