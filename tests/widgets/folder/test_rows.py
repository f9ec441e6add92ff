"""Rows of the list, without Qt."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from napari_unet_cells.batch.background import Began, Done
from napari_unet_cells.batch.image_list import ImageList, save_list
from napari_unet_cells.batch.marks import mark
from napari_unet_cells.batch.request import Request
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import write_json
from napari_unet_cells.files.stamp import stamp_of
from napari_unet_cells.untrusted.folder_record import MarksRecord
from napari_unet_cells.widgets.folder import rows as rows_module
from napari_unet_cells.widgets.folder.rows import Found, Row, State, for_window, look

ROW = Row("a", Path("/data/a.tif"))


def test_a_row_follows_its_image() -> None:
    waiting = ROW.with_run(True)
    assert (ROW.text, waiting.text, waiting.can_open) == ("not done", "waiting", False)
    running = waiting.began(Began("a", 0.4))
    assert (running.state, running.text) == (State.RUNNING, "segmenting, 40%")
    assert running.with_run(False) == ROW
    done = running.ended(Done("a", "", "1,204 cells in 2.0 s", 1204))
    assert (done.text, done.can_open) == ("1,204 cells", True)
    assert done.with_run(True).with_run(False) == done
    marked = done.marked(MarksRecord({"a": "today"}, {"a": "today"}))
    assert (marked.approved, marked.text) == (True, "1,204 cells, corrected")
    failed = running.ended(Done("a", "No."))
    assert (failed.text, failed.can_open) == ("failed: No.", False)
    assert failed.with_run(False) == failed
    assert failed.with_run(True).text == "waiting"


@pytest.mark.parametrize("how", ["approved", "corrected"])
def test_what_a_person_marked_is_done_after_a_run_over_it_was_cancelled(how: str) -> None:
    done = ROW.ended(Done("a", "", "7 cells in 1.0 s", 7))
    running = done.began(Began("a", 0.4))
    assert running.with_run(False).text == "not done"
    marks = MarksRecord(
        {"a": "today"} if how == "approved" else {}, {"a": "today"} if how == "corrected" else {}
    )
    ended = running.marked(marks).with_run(False)
    assert (ended.state, ended.cells, ended.fraction) == (State.DONE, 7, 0.0)
    assert ended.can_open
    never = ROW.began(Began("a", 0.4)).marked(marks)
    assert never.with_run(False).text == "not done"  # it has no result


@pytest.mark.parametrize(
    "said",
    [
        "a was kept. Choose another folder for the results; --overwrite replaces it.",
        "a was kept. --overwrite replaces it; or choose another folder.",
        "a exists and was kept; --overwrite replaces it.",
        "It is a stack. Say which: --plane all segments every plane, --plane 0 the first one.",
        "9 cells (the size is a guess, --diameter sets it)",
    ],
)
def test_no_option_of_the_command_line_is_named(said: str) -> None:
    assert "--" not in for_window(said)


def record(output: Path, name: str, image: Path, cells: int) -> None:
    stamp = {"size": 1, "mtime_ns": 1}
    batch = {"input": stamp, "settings": {}, "outputs": {}, "summary": f"{cells} cells in 1.0 s"}
    document = {"model": {"sha256": "ab" * 32}, "cells": cells, "source": {"path": str(image)}}
    write_json(output / f"{name}.json", document | {"batch": batch})
    (output / f"{name}_cells.tif").touch()


def test_a_list_is_found_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, output = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for name in "abcd":
        (images / f"{name}.tif").touch()
    named = (str(images), str(tmp_path / "gone.tif"))
    save_list(output, ImageList(named, "cells", said="Model cells."))
    record(output, "a", images / "a.tif", 3)
    record(output, "b", images / "b.tif", 7)
    (output / "b_cells.tif").unlink()
    mark(output, "a", approved=True)
    monkeypatch.setattr(rows_module, "_AT_ONCE", 3)
    found = list(look(output))
    assert [(one.first, len(one.rows), one.said) for one in found] == [
        (True, 3, "Model cells."),
        (False, 1, "Model cells."),
    ]
    assert "gone.tif does not exist" in found[0].problems[0]
    assert found[1].problems == ()
    rows = [row for one in found for row in one.rows]
    assert [(row.name, row.state, row.approved) for row in rows] == [
        ("a", State.DONE, True),
        ("b", State.LEFT, False),
        ("c", State.LEFT, False),
        ("d", State.LEFT, False),
    ]
    assert rows[0].cells == 3


@pytest.mark.parametrize("how", ["approved", "corrected", ""])
def test_what_a_person_marked_is_found_after_a_run_over_it_was_cancelled(
    tmp_path: Path, how: str
) -> None:
    image, output = tmp_path / "a.tif", tmp_path / "out"
    image.touch()
    save_list(output, ImageList((str(image),), "cells", Request(format="ome-zarr")))
    zarr = output / "a.ome.zarr"
    zarr.mkdir()
    (zarr / "zarr.json").write_text("{}")
    record(output, "a", image, 7)
    found = json.loads((output / "a.json").read_text())
    outputs = {".ome.zarr": asdict(stamp_of(zarr))}
    (output / ".a.ome.zarr.part").mkdir()
    (output / ".a.ome.zarr.part" / "plan.json").touch()
    (zarr / "c").touch()  # as a part that was put back since
    begun = found["batch"] | {"begun": True, "outputs": outputs}
    write_json(output / "a.json", found | {"batch": begun, "replaces": found}, overwrite=True)
    if how:
        mark(output, "a", approved=how == "approved", corrected=how == "corrected")
    ((row,),) = (one.rows for one in look(output))
    if how:
        assert (row.state, row.cells, row.said) == (State.DONE, 7, "7 cells in 1.0 s")
        assert row.text == ("7 cells, corrected" if how == "corrected" else "7 cells")
    else:  # the next run replaces it
        assert row.state is State.LEFT


def test_an_empty_list_is_found_too(tmp_path: Path) -> None:
    save_list(tmp_path, ImageList((str(tmp_path / "gone.tif"),), "cells"))
    (found,) = look(tmp_path)
    assert isinstance(found, Found)
    assert (found.rows, len(found.problems)) == ((), 1)


def test_a_folder_without_a_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no list of images"):
        list(look(tmp_path))


def test_results_of_another_format_are_none(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image, output = tmp_path / "in" / "a.tif", tmp_path / "out"
    image.touch()
    save_list(output, ImageList((str(image),), "cells", Request(format="ome-zarr")))
    record(output, "a", image, 3)
    (found,) = look(output)
    assert (found.format, found.rows[0].state) == ("ome-zarr", State.LEFT)
    (output / "a.ome.zarr").mkdir()
    (found,) = look(output)
    assert found.rows[0].can_open
    assert found.rows[0].cells_file(output) == output / "a.ome.zarr"
