"""Movies that are tracked into OME-Zarrs: as into TIFFs, killed in between, and once corrected."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.batch import corrected, together
from napari_unet_cells.batch.corrected import files_due, with_tracks_of_result, write_corrected
from napari_unet_cells.batch.corrected_parts import count_parts, follow_parts
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.processes import Processes
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun, Executor, here
from napari_unet_cells.batch.track_tables import TrackTables
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import read_image
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.zarr_metadata import zarr_record
from napari_unet_cells.layers.zarr_result import zarr_attributes, zarr_cells
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.tracking import TrackingOptions

pytest.importorskip("laptrack")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(image: Path, output: Path, execute: Executor = here, **request: Any) -> UnitDone:
    values = {"format": "ome-zarr", "plane": "all", "track": TrackingOptions()}
    asked = Request(**{"settings": Settings(diameter=20.0), **values, **request})
    batch = BatchRun(find_units([str(image)], output), output, "cells-fast", asked, execute)
    (done,) = [event for event in batch.events() if isinstance(event, UnitDone)]
    batch.close()
    return done


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of nuclei that walk to the right."""
    image, _ = simulate_nuclei((160, 260), seed=4)
    frames = np.stack([np.roll(image, 3 * n, axis=1)[:, 20:] for n in range(4)])
    path = tmp_path_factory.mktemp("movie") / "m.tif"
    metadata: dict[str, Any] = {"axes": "TYX", "unit": "um"}
    tifffile.imwrite(path, frames, imagej=True, metadata=metadata, resolution=(2.0, 2.0))
    return path


@pytest.fixture(scope="module")
def whole(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert run(movie, output).problem == ""
    return output


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def labels_of(output: Path) -> NDArray[Any]:
    return np.asarray(read_image(output / "m.ome.zarr" / "labels" / "cells").data)


def rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        return [{key: str(value) for key, value in row.items()} for row in table.to_pylist()]
    with path.open() as file:
        return list(csv.DictReader(file))


def document(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "m.json").read_text())
    return found


def check_same(first: Path, second: Path) -> None:
    np.testing.assert_array_equal(labels_of(first), labels_of(second))
    for name in ("m_cells.csv", "m_tracks.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    one, other = document(first), document(second)
    for key in ("cells", "files", "tracks", "parameters"):
        assert one[key] == other[key]


def test_it_is_what_a_run_that_writes_tiffs_gives(
    movie: Path, whole: Path, tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    done = run(movie, tmp_path, format="tiff")
    assert done.record is not None
    found = document(whole)
    assert schema_faults(found) == []
    theirs = document(tmp_path)
    assert found["cells"] == theirs["cells"] == done.record.cells
    assert {"m_tracks.csv", "m_cells.csv"} <= set(found["files"])
    assert found["parameters"]["linked_along_axis"] == 0
    cells = labels_of(whole)
    tiff = tifffile.imread(tmp_path / "m_cells.tif")
    pairs = np.unique(np.stack([cells.ravel(), tiff.ravel()]).astype(int), axis=1)
    assert pairs.shape[1] == found["cells"] + 1  # the same cells, in the same tracks
    name = dict(pairs.T.tolist())
    for table, keys in (("cells", ("label", "t")), ("tracks", ("label",))):
        mine, tiffs = (rows(folder / f"m_{table}.csv") for folder in (whole, tmp_path))
        for row in mine:
            row["label"] = str(name[int(row["label"])])
            if "parent" in row:
                row["parent"] = str(name[int(row["parent"])])
        by_key = [
            sorted(some, key=lambda row: [int(row[key]) for key in keys]) for some in (mine, tiffs)
        ]
        assert by_key[0] == by_key[1]
    report = (whole / "report.html").read_text()
    summary = report[report.index(" tracks") - 10 :]
    assert f"{found['cells']} tracks" in summary
    assert " in 4 frames" in summary


def test_tracks_go_on_over_the_frames(whole: Path) -> None:
    cells = labels_of(whole)
    long = [row for row in rows(whole / "m_tracks.csv") if row["frames"] == "4"]
    assert len(long) > 10
    # 9 pixels of half a µm; cells that the border cuts go less far
    moves = [float(row["displacement"]) for row in long]
    assert np.median(moves) == pytest.approx(4.5, abs=0.5)
    for row in long:
        assert row["unit"] == "micrometer"
        assert all((plane == int(row["label"])).any() for plane in cells)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_two_workers_of_whom_one_is_killed_give_the_same(
    movie: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "HUGE_BYTES", 1)
    values: dict[str, Any] = {"plane": "all", "track": TrackingOptions(), "format": "ome-zarr"}
    asked = Request(Settings(diameter=20.0), **values)
    units = find_units([str(movie)], tmp_path)
    batch = BatchRun(units, tmp_path, "cells-fast", asked, Processes(2))
    killed = False
    for event in batch.events():
        assert not isinstance(event, UnitDone) or event.problem == ""
        workers = psutil.Process().children()
        if isinstance(event, PixelsDone) and not killed and len(workers) >= 2:
            workers[-1].kill()
            killed = True
    batch.close()
    assert killed
    check_same(whole, tmp_path)


_RUN = "import sys; from napari_unet_cells.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_run_that_is_killed_gives_the_same_tracks(
    movie: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _RUN, "batch", str(movie), "-o", str(tmp_path), "--track"]
    command += ["--model", "cells-fast", "--format", "ome-zarr", "--diameter", "20"]
    for seconds in (2.0, 2.5, 3.5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    assert run(movie, tmp_path).problem == ""
    check_same(whole, tmp_path)


# --- corrected ------------------------------------------------------------------------------


def a_long_track(output: Path) -> int:
    return next(int(row["label"]) for row in rows(output / "m_tracks.csv") if row["frames"] == "4")


def track(output: Path, label: int, kind: str = "csv") -> dict[str, str] | None:
    found = [row for row in rows(output / f"m_tracks.{kind}") if row["label"] == str(label)]
    return found[0] if found else None


def test_tracks_follow_the_cells_that_were_corrected(output: Path) -> None:
    labels, n = labels_of(output), document(output)["cells"]
    label = a_long_track(output)
    labels[3][labels[3] == label] = 0
    record = write_corrected(output, "m", labels, document(output))
    assert record.cells == n
    row = track(output, label)
    assert row is not None
    assert (row["t_last"], row["frames"]) == ("2", "3")
    labels[labels == label] = 0
    assert write_corrected(output, "m", labels, document(output)).cells == n - 1
    assert track(output, label) is None
    assert "m_tracks.csv" in document(output)["files"]
    assert zarr_attributes(output / "m.ome.zarr", zarr_cells(output / "m.ome.zarr"))["metadata"]


def made_of(output: Path) -> dict[str, Any]:
    """Give the record that a layer of the cells has, once it is opened again."""
    folder = output / "m.ome.zarr"
    metadata = zarr_attributes(folder, zarr_cells(folder))["metadata"]
    made: dict[str, Any] = metadata["napari_unet_cells"]["provenance"]
    return made


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_tracks_that_were_made_anew_or_undone_stand_in_the_ome_zarr(
    movie: Path, tmp_path: Path, ngff: str
) -> None:
    output = tmp_path / "out"
    assert run(movie, output, ngff=ngff).problem == ""
    labels, made = labels_of(output), made_of(output)
    first, second = (int(row["label"]) for row in rows(output / "m_tracks.csv")[:2])
    labels[:2][labels[:2] == second] = 0
    labels[2:][labels[2:] == first] = 0
    write_corrected(output, "m", labels, made | {"tracks": {"parents": [[second, first]]}})
    assert made_of(output)["tracks"] == {"parents": [[second, first]]}
    row = track(output, second)
    assert row is not None
    assert row["parent"] == str(first)
    cells = zarr_record(output / "m.ome.zarr" / "labels" / "cells")
    assert isinstance(cells, dict)
    assert cells["cells"] == max(int(row["label"]) for row in rows(output / "m_tracks.csv"))
    undone = {key: value for key, value in made.items() if key != "tracks"}
    undone["parameters"] = made["parameters"] | {"linked_along_axis": None}
    write_corrected(output, "m", labels, undone)
    assert "tracks" not in made_of(output)
    assert made_of(output)["parameters"]["linked_along_axis"] is None
    assert not (output / "m_tracks.csv").exists()
    assert "m_tracks.csv" not in document(output)["files"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt("killed"), UserError("The disk is full.")])
def test_tracks_of_labels_that_were_not_replaced_are_not_those_of_the_result(
    output: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    labels, before = labels_of(output), made_of(output)
    assert with_tracks_of_result(output, "m", before) == before
    first, second = (int(row["label"]) for row in rows(output / "m_tracks.csv")[:2])
    edited = np.where(labels == first, 0, labels)
    made = before | {"tracks": {"parents": [[second, first]]}}

    def stopped(*_: object) -> None:
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(corrected, "put_back_planes", stopped)
        with pytest.raises(type(stop)):
            write_corrected(output, "m", edited, made)
    assert not files_due(output, "m")
    left = made_of(output)
    assert (left == before) == isinstance(stop, UserError)
    assert with_tracks_of_result(output, "m", left) == before
    put_back(output, 0, lambda part: part.__setitem__(np.s_[:3, :4], 9999))
    replace = LabelVersions.replace

    def once(versions: LabelVersions, *values: Any) -> int:
        replace(versions, *values)
        raise UserError("The disk is full.")

    with monkeypatch.context() as patch:  # labels that were replaced in part have the new ones
        patch.setattr(LabelVersions, "replace", once)
        with pytest.raises(UserError):
            write_corrected(output, "m", edited, made)
    assert files_due(output, "m")
    assert made_of(output)["tracks"] == made["tracks"]
    (output / "m.json").write_text("{")
    assert with_tracks_of_result(output, "m", left) == left


def put_back(output: Path, frame: int, edit: Callable[[NDArray[Any]], None]) -> None:
    """Edit a part as its layer does."""
    box = slice(0, 160), slice(0, 240)
    before = labels_of(output)[frame].astype(np.int64)
    edited = before.copy()
    edit(edited)
    versions = LabelVersions(output / "m.ome.zarr")
    used = max(versions.n_used(versions.n_given()), int(edited.max()))
    assert versions.replace((frame,), box, before, edited, used)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tracks_follow_the_parts_that_are_put_back(
    movie: Path, whole: Path, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "out"
    if kind == "csv":
        shutil.copytree(whole, output)
    else:
        pytest.importorskip("pyarrow")
        assert run(movie, output, table=kind).problem == ""
    n, label = document(output)["cells"], a_long_track(whole)
    put_back(output, 3, lambda part: part.__setitem__(part == label, 0))
    counted = count_parts(output, "m")
    assert counted is not None
    assert counted.cells == n  # it is in the frames before
    put_back(output, 0, lambda part: part.__setitem__(np.s_[:3, :4], n + 1))
    assert files_due(output, "m")
    followed = follow_parts(output, "m")
    assert (followed.record.cells, followed.problem) == (n + 1, "")
    row = track(output, label, kind)
    assert row is not None
    assert (row["t_last"], row["frames"]) == ("2", "3")
    drawn = track(output, n + 1, kind)
    assert drawn is not None
    assert (drawn["t_first"], drawn["t_last"], float(drawn["area_mean"])) == ("0", "0", 3.0)
    assert f"m_tracks.{kind}" in document(output)["files"]
    # the others are what the labels in memory give, too
    labels = labels_of(output)
    before = rows(output / f"m_tracks.{kind}")
    write_corrected(output, "m", labels, document(output))
    after = rows(output / f"m_tracks.{kind}")
    assert [row["label"] for row in after] == [row["label"] for row in before]
    for one, other in zip(after, before, strict=True):
        for name in one.keys() - {"unit"}:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-9)


@pytest.mark.parametrize("damaged", [{"parents": [[1]]}, [3], None])
def test_where_the_parents_in_a_record_are_damaged_tracks_have_none(
    output: Path, damaged: object
) -> None:
    good = document(output)
    tracks = {row["label"] for row in rows(output / "m_tracks.csv")}
    put_back(output, 0, lambda part: part.__setitem__(np.s_[:3, :4], 9999))
    (output / "m.json").write_text(json.dumps(good | {"tracks": damaged}))
    assert follow_parts(output, "m").record.cells == good["cells"] + 1
    followed = rows(output / "m_tracks.csv")
    assert {row["label"] for row in followed} == tracks | {"9999"}
    assert {row["parent"] for row in followed} <= {"", "0"}
    write_corrected(output, "m", labels_of(output))
    assert {row["label"] for row in rows(output / "m_tracks.csv")} == tracks | {"9999"}


def test_a_table_that_no_run_has_written_stays(tmp_path: Path) -> None:
    (tmp_path / "m_tracks.csv").write_text("mine")
    found = TrackTables.of(tmp_path, "m", ["csv"], (), {"tracks": {"parents": []}})
    assert not found.writes
    assert found.written == ()
    found.remove_gone()
    assert (tmp_path / "m_tracks.csv").read_text() == "mine"
    ours = TrackTables.of(tmp_path, "m", ["csv"], ("_tracks.csv",), {})
    assert not ours.writes
    assert ours.endings_gone("m") == ("_tracks.csv",)
    ours.remove_gone()
    assert not (tmp_path / "m_tracks.csv").exists()
    new = TrackTables.of(tmp_path, "m", ["csv"], (), {"tracks": {"parents": []}})
    assert new.written == (tmp_path / "m_tracks.csv",)
