"""Corrected cells go into the results of a batch: all files of an image at once, and stay there."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.batch import corrected
from napari_unet_cells.batch.corrected import (
    AS_SEGMENTED,
    files_due,
    result_files,
    write_corrected,
)
from napari_unet_cells.batch.marks import MARKS, read_marks
from napari_unet_cells.batch.one_image import OME_ZARR, result_paths
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import file_set, read_image
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.labels import read_provenance
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.tracking import TrackingOptions
from napari_unet_cells.untrusted.unit_record import BATCH

pytestmark = pytest.mark.usefixtures("threshold_model")


def run(images: Path, output: Path, **request: Any) -> dict[str, UnitDone]:
    batch = BatchRun(find_units([str(images)], output), output, "bright", Request(**request))
    events = list(batch.events())
    batch.close()
    return {event.unit.name: event for event in events if isinstance(event, UnitDone)}


@pytest.fixture
def output(images: Path, tmp_path: Path) -> Path:
    run(images, tmp_path / "out")
    return tmp_path / "out"


def labels_of(path: Path) -> NDArray[Any]:
    return np.asarray(read_image(path).data[...])


def without_first(output: Path, name: str = "n1") -> NDArray[Any]:
    labels = labels_of(output / f"{name}_cells.tif")
    return np.where(labels == 1, 0, labels).astype(labels.dtype)


def state(output: Path) -> dict[str, bytes]:
    files = (path for path in output.rglob("*") if path.is_file() and "lock" not in path.name)
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_all_that_is_said_of_an_image_is_that_of_the_corrected_cells(
    output: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    before = state(output)
    found = labels_of(output / "n1_cells.tif")
    labels = without_first(output)
    n = len(np.unique(labels)) - 1
    record = write_corrected(output, "n1", labels)
    assert (record.cells, record.summary) == (n, f"{n} cells, corrected")
    assert np.array_equal(labels_of(output / "n1_cells.tif"), labels)
    assert np.array_equal(labels_of(output / AS_SEGMENTED / "n1_cells.tif"), found)
    with (output / "n1_cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == list(range(2, n + 2))
    old = before["n1_cells.csv"].decode().splitlines()
    assert (output / "n1_cells.csv").read_text().splitlines() == [old[0], *old[2:]]
    document = json.loads((output / "n1.json").read_text())
    assert schema_faults(document) == []
    assert (document["cells"], document["corrected_by_hand"]) == (n, True)
    made = read_provenance(output / "n1_cells.tif")
    assert (made["corrected_by_hand"], made["role"]) == (True, "cells")
    assert made["model"] == document["model"]
    assert read_marks(output).corrected.keys() == {"n1"}
    after = state(output)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"n1_cells.tif", "n1_cells.csv", "n1_outlines.jpg", "n1.json"}


def test_the_table_of_all_cells_follows_with_the_next_run(images: Path, output: Path) -> None:
    record = write_corrected(output, "n1", without_first(output))
    done = run(images, output)
    assert (done["n1"].before, done["n1"].record) == (True, record)
    rows = (output / "cells.csv").read_text().splitlines()
    assert len([row for row in rows if row.startswith("n1,")]) == record.cells
    assert f"{record.summary}" in (output / "report.html").read_text()


@pytest.mark.parametrize("marks", [True, False])
def test_no_run_replaces_it(images: Path, output: Path, marks: bool) -> None:
    labels = without_first(output)
    write_corrected(output, "n1", labels)
    if not marks:  # somebody deleted them: the files alone tell it
        (output / "marks.unet-cells.json").unlink()
    done = run(images, output, settings=Settings(min_size=400))
    assert done["n0"].why == "other settings: min-size"
    assert done["n1"].kept == ("corrected" if marks else "")
    assert ("was changed since the batch wrote it" in done["n1"].problem) == (not marks)
    assert np.array_equal(labels_of(output / "n1_cells.tif"), labels)


def test_what_was_found_is_kept_through_many_corrections(output: Path) -> None:
    found = labels_of(output / "n1_cells.tif")
    for label in (1, 2, 3):
        now = labels_of(output / "n1_cells.tif")
        write_corrected(output, "n1", np.where(now == label, 0, now))
    assert np.array_equal(labels_of(output / AS_SEGMENTED / "n1_cells.tif"), found)


def test_what_was_found_is_kept_of_images_of_one_name(
    write_image: Callable[..., Path], tmp_path: Path
) -> None:
    for n, day in enumerate(("day1", "day2")):
        (tmp_path / day).mkdir()
        write_image(tmp_path / day / "a.tif", n)
    output = tmp_path / "out"
    batch = BatchRun(find_units([str(tmp_path / "day*" / "*.tif")], output), output, "bright")
    list(batch.events())
    batch.close()
    names = [str(Path(day, "a")) for day in ("day1", "day2")]
    found = {name: labels_of(output / f"{name}_cells.tif") for name in names}
    assert not np.array_equal(found[names[0]], found[names[1]])
    for name in names:
        write_corrected(output, name, without_first(output, name))
    for name in names:
        kept = labels_of(output / AS_SEGMENTED / f"{name}_cells.tif")
        assert np.array_equal(kept, found[name])


def test_a_stack_of_channels_is_measured_in_its_channel(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    stack = np.zeros((3, 2, 64, 64), np.uint8)
    stack[:, 1, 10:30, 10:30] = stack[:, 1, 40:60, 40:60] = 200
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": "ZCYX"}}
    tifffile.imwrite(tmp_path / "in" / "s.tif", stack, **options)
    output = tmp_path / "out"
    done = run(tmp_path / "in", output, channel=1, plane="all")
    assert done["s"].problem == ""
    labels = labels_of(output / "s_cells.tif")
    assert labels.shape == (3, 64, 64)
    labels[0] = 0
    before = (output / "s_cells.csv").read_text().splitlines()
    record = write_corrected(output, "s", labels)
    assert (record.cells, record.summary) == (4, "4 cells, corrected")  # two in each plane
    after = (output / "s_cells.csv").read_text().splitlines()
    assert after[0] == before[0]
    assert set(after[1:]) < set(before[1:])
    assert len(after) < len(before)


def test_cells_that_are_linked_along_an_axis_count_once(tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run(movie(tmp_path), output, plane="all", link="T")
    assert (done["s"].problem, done["s"].record and done["s"].record.cells) == ("", 2)
    labels = labels_of(output / "s_cells.tif")
    labels[0] = 0
    assert write_corrected(output, "s", labels).cells == 2


def movie(folder: Path) -> Path:
    """Make a folder with a movie of three frames, in which two cells stay where they are."""
    (folder / "in").mkdir()
    stack = np.zeros((3, 64, 64), np.uint8)
    stack[:, 10:30, 10:30] = stack[:, 40:60, 40:60] = 200
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(folder / "in" / "s.tif", stack, **options)
    return folder / "in"


def test_tracks_that_were_made_since_are_written(
    tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    output = tmp_path / "out"
    run(movie(tmp_path), output, plane="all")
    labels = labels_of(output / "s_cells.tif")
    labels[labels == 2] = 5
    found = json.loads((output / "s.json").read_text())
    parameters = {**found["parameters"], "linked_along_axis": 0}
    made = {**found, "parameters": parameters, "tracks": {"parents": [[5, 1]]}}
    assert write_corrected(output, "s", labels, made).cells == 2  # tracks, in three planes
    document = json.loads((output / "s.json").read_text())
    assert schema_faults(document) == []
    for record in (document, read_provenance(output / "s_cells.tif")):
        assert record["tracks"] == {"parents": [[5, 1]]}
        assert record["parameters"]["linked_along_axis"] == 0
    assert table_of(output / "s_tracks.csv", "label", "t_last") == [["1", "2"], ["5", "2"]]
    assert "s_tracks.csv" in document["files"]
    assert write_corrected(output, "s", labels).cells == 2  # who does not say leaves them
    assert write_corrected(output, "s", labels, found).cells == 6  # the tracking was undone
    document = json.loads((output / "s.json").read_text())
    assert "tracks" not in document
    assert "s_tracks.csv" not in document["files"]
    assert not (output / "s_tracks.csv").exists()


def table_of(path: Path, *columns: str) -> list[list[str]]:
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        return [[str(row[column]) for column in columns] for row in table.to_pylist()]
    with path.open() as file:
        return [[row[column] for column in columns] for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tracks_of_a_batch_follow_the_corrected_cells(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("laptrack")
    output = tmp_path / "out"
    asked: dict[str, Any] = {"plane": "all", "table": kind, "track": TrackingOptions()}
    (done,) = run(movie(tmp_path), output, **asked).values()
    assert (done.problem, done.record and done.record.cells) == ("", 2)
    labels = labels_of(output / "s_cells.tif")
    labels[2][labels[2] == 2] = 0
    files = set(state(output))
    assert write_corrected(output, "s", labels).cells == 2
    assert set(state(output)) == files | {os.path.join(AS_SEGMENTED, "s_cells.tif"), MARKS}
    tracks = table_of(output / f"s_tracks.{kind}", "label", "t_last")
    assert tracks == [["1", "2"], ["2", "1"]]
    made = json.loads((output / "s.json").read_text())
    del made["tracks"]  # as after another run, which numbers each plane on its own
    made["parameters"]["linked_along_axis"] = None
    assert write_corrected(output, "s", labels, made).cells == 5
    assert not (output / f"s_tracks.{kind}").exists()
    (again,) = run(tmp_path / "in", output, **asked).values()  # the marks keep it
    assert again.record is not None
    assert np.array_equal(labels_of(output / "s_cells.tif"), labels)


@pytest.mark.parametrize("last", ["csv", "parquet"])
def test_tables_of_other_runs_follow_too(images: Path, tmp_path: Path, last: str) -> None:
    pytest.importorskip("pyarrow")
    output = tmp_path / "out"
    first = {"csv": "parquet", "parquet": "csv"}[last]
    run(images, output, table=first)
    run(images, output, table=last)
    labels = without_first(output)
    record = write_corrected(output, "n1", labels)
    kept = [str(label) for label in np.unique(labels)[1:]]
    assert len(kept) == record.cells
    for kind in (first, last):
        assert [row[0] for row in table_of(output / f"n1_cells.{kind}", "label")] == kept
        assert f"n1_cells.{kind}" in json.loads((output / "n1.json").read_text())["files"]
    run(images, output, table=last)  # as the report of a list is written
    for kind in (first, last):
        names = [row[0] for row in table_of(output / f"cells.{kind}", "image")]
        assert names.count("n1") == record.cells
    (output / f"n1_cells.{first}").write_bytes(b"of another program")
    write_corrected(output, "n1", np.where(labels == 2, 0, labels))
    assert (output / f"n1_cells.{first}").read_bytes() == b"of another program"
    assert len(table_of(output / f"n1_cells.{last}", "label")) == len(kept) - 1


def test_tables_of_tracks_of_other_runs_follow_too(tmp_path: Path) -> None:
    pytest.importorskip("laptrack")
    pytest.importorskip("pyarrow")
    output = tmp_path / "out"
    asked: dict[str, Any] = {"plane": "all", "track": TrackingOptions()}
    for kind in ("parquet", "csv"):
        run(movie(tmp_path) if kind == "parquet" else tmp_path / "in", output, table=kind, **asked)
    labels = labels_of(output / "s_cells.tif")
    labels[2][labels[2] == 2] = 0
    write_corrected(output, "s", labels)
    for kind in ("csv", "parquet"):
        tracks = table_of(output / f"s_tracks.{kind}", "label", "t_last")
        assert tracks == [["1", "2"], ["2", "1"]]
    made = json.loads((output / "s.json").read_text())
    assert {"s_tracks.csv", "s_tracks.parquet"} <= set(made["files"])
    del made["tracks"]
    made["parameters"]["linked_along_axis"] = None
    write_corrected(output, "s", labels, made)
    assert list(output.glob("s_tracks.*")) == []


def test_a_table_of_tracks_that_is_not_of_the_batch_stays(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(movie(tmp_path), output, plane="all")
    (output / "s_tracks.csv").write_text("of another program")
    labels = labels_of(output / "s_cells.tif")
    labels[2][labels[2] == 2] = 0
    write_corrected(output, "s", labels)
    made = {**json.loads((output / "s.json").read_text()), "tracks": {"parents": []}}
    write_corrected(output, "s", labels, made)
    assert (output / "s_tracks.csv").read_text() == "of another program"
    record = json.loads((output / "s.json").read_text())
    assert record["tracks"] == {"parents": []}
    assert "s_tracks.csv" not in record["files"]
    write_corrected(output, "s", labels)
    assert (output / "s_tracks.csv").read_text() == "of another program"


def test_a_batch_moves_out_tracked_corrections_of_a_killed_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files are others than those that the batch writes."""
    output, asked = tmp_path / "out", {"plane": "all"}
    run(movie(tmp_path), output, **asked)
    labels = labels_of(output / "s_cells.tif")
    labels[labels == 2] = 5
    made = {**json.loads((output / "s.json").read_text()), "tracks": {"parents": []}}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(file_set, "_move_out", killed)
        patch.setattr(file_set, "_owner", lambda: f"{file_set._host()}-{ended.pid}-1")
        with pytest.raises(KeyboardInterrupt):
            write_corrected(output, "s", labels, made)
    assert not (output / "s_tracks.csv").exists()
    run(tmp_path / "in", output, **asked)
    assert np.array_equal(labels_of(output / "s_cells.tif"), labels)
    assert table_of(output / "s_tracks.csv", "label") == [["1"], ["5"]]


def gone(images: Path, output: Path) -> None:
    (images / "n1.tif").unlink()


def smaller(images: Path, output: Path) -> None:
    tifffile.imwrite(images / "n1.tif", np.zeros((50, 60), np.uint8))


def no_record(images: Path, output: Path) -> None:
    (output / "n1.json").unlink()


def damaged_record(images: Path, output: Path) -> None:
    (output / "n1.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gone, "n1.tif"),
        (smaller, "has 50 x 60 pixels now, and these cells have 120 x 160"),
        (no_record, "n1.json, the record of the result, cannot be read"),
        (damaged_record, "n1.json, the record of the result, cannot be read"),
    ],
)
def test_what_cannot_be_saved_is_said_and_changes_nothing(
    images: Path, output: Path, change: Callable[[Path, Path], None], said: str
) -> None:
    labels = without_first(output)
    change(images, output)
    before = state(output)
    with pytest.raises(UserError, match=said):
        write_corrected(output, "n1", labels)
    assert state(output) == before


def test_a_full_disk_changes_nothing(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, before = without_first(output), state(output)

    def full(path: Path, pixels: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corrected, "write_jpeg", full)
    with pytest.raises(UserError, match=r"is full\. Free some space"):
        write_corrected(output, "n1", labels)
    after = state(output)
    kept = {name for name in after if name.startswith(AS_SEGMENTED)}
    assert {name: after[name] for name in before} == before
    assert kept == {os.path.join(AS_SEGMENTED, "n1_cells.tif")}
    assert read_marks(output).corrected == {}


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Three planes of two cells each, whose labels lie in an OME-Zarr."""
    (tmp_path / "stacks").mkdir()
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[:, 10:24, 10:24], pixels[:, 40:56, 40:56] = 255, 255
    tifffile.imwrite(tmp_path / "stacks" / "s.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    output = tmp_path / "out"
    run(tmp_path / "stacks", output, plane="all")
    found = labels_of(output / "s_cells.tif")
    labels = LabelZarr(output / "s.ome.zarr", found.shape, "zyx", 512, Scale(None, "pixel", None))
    labels.create("cells", np.uint16)
    for number, plane in enumerate(found):
        labels.write("cells", (number,), (slice(0, 64), slice(0, 64)), plane)
    labels.finish("cells", {"cells": int(found.max())}, {})
    record = json.loads((output / "s.json").read_text())
    outputs = record[BATCH]["outputs"]
    outputs[OME_ZARR] = outputs.pop("_cells.tif")  # as a batch that writes OME-Zarr says it
    (output / "s.json").write_text(json.dumps(record))
    (output / "s_cells.tif").unlink()
    return output


def zarr_labels(output: Path) -> NDArray[Any]:
    return np.asarray(label_levels(output / "s.ome.zarr", "cells")[0])


def test_a_full_disk_leaves_the_labels_of_an_ome_zarr_as_they_were(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = zarr_labels(stack)
    assert found.max() > 0
    before = state(stack)

    def full(path: Path, pixels: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corrected, "write_jpeg", full)
    with pytest.raises(UserError, match=r"is full\. Free some space"):
        write_corrected(stack, "s", np.where(found == found[0].max(), 0, found))
    np.testing.assert_array_equal(zarr_labels(stack), found)
    after = state(stack)
    assert {name: after[name] for name in before} == before
    assert read_marks(stack).corrected == {}


@pytest.mark.parametrize("stop", [KeyboardInterrupt("killed"), UserError("The disk is full.")])
@pytest.mark.parametrize("n_planes", [1, 3])
def test_files_of_an_ome_zarr_that_was_replaced_in_part_are_due(
    stack: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, n_planes: int
) -> None:
    found = zarr_labels(stack)
    labels = np.where(found == found[0].max(), 0, found)
    labels[1:, 30:34, 5:9] = found.max()
    table = (stack / "s_cells.csv").read_bytes()
    assert not files_due(stack, "s")
    replace, numbers = LabelVersions.replace, []

    def stopped(versions: LabelVersions, *values: Any) -> int:
        if len(numbers) == n_planes:
            raise stop
        numbers.append(replace(versions, *values))
        return numbers[-1]

    def not_written(path: Path, document: object) -> None:
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(LabelVersions, "replace", stopped)
        patch.setattr(corrected, "write_json", not_written)
        with pytest.raises(type(stop)):
            write_corrected(stack, "s", labels)
    assert len(numbers) == n_planes
    assert np.array_equal(zarr_labels(stack), labels) == (n_planes == 3)
    assert (stack / "s_cells.csv").read_bytes() == table
    assert set(read_marks(stack).corrected) == {"s"}  # no run replaces it
    assert files_due(stack, "s")
    write_corrected(stack, "s", labels)
    assert not files_due(stack, "s")
    np.testing.assert_array_equal(zarr_labels(stack), labels)
    assert (stack / "s_cells.csv").read_bytes() != table
    (stack / "s.json").write_text("{")
    assert not files_due(stack, "s")


def test_the_files_are_those_of_a_batch(tmp_path: Path, threshold_model: list[ModelCard]) -> None:
    card = ModelCard("bright", "none", ("background", "cell", "boundary"), 1, 16, 32, "ab" * 32)
    batch = result_paths(tmp_path / "a", card, Request(), picture=True)
    assert result_files(tmp_path, "a") == batch
