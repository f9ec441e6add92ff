"""Runs of a batch: what is done stays done, what changed begins anew, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_unet_cells.batch import one_image, work
from napari_unet_cells.batch import run as batch_run
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import Note, UnitDone
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, read_image
from napari_unet_cells.models.card import ModelCard
from napari_unet_cells.segmentation.pipeline import Settings

pytestmark = pytest.mark.usefixtures("threshold_model")


def run(
    images: Path | str | list[Path], output: Path, model: str = "bright", **request: Any
) -> list[UnitDone]:
    named = [str(path) for path in (images if isinstance(images, list) else [images])]
    batch = BatchRun(find_units(named, output), output, model, Request(**request))
    events = list(batch.events())
    batch.close()
    return [event for event in events if isinstance(event, UnitDone)]


def contents(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder, without times; the clock of the runs stands still."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): re.sub(rb'"mtime_ns": \d+', b"", path.read_bytes())
        for path in files
        if path.name != "report.html"
    }


def test_every_image_has_its_results_and_all_a_table_and_a_report(
    images: Path, tmp_path: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    output = tmp_path / "out"
    done = run(images, output)
    assert [unit.unit.name for unit in done] == ["n0", "n1", "n2"]
    assert [unit.problem for unit in done] == ["", "", ""]
    endings = (".json", "_cells.csv", "_cells.tif", "_classes.tif", "_outlines.jpg")
    expected = {f"n{n}{ending}" for n in range(3) for ending in endings}
    assert set(os.listdir(output)) == expected | {"cells.csv", "report.html"}

    counts = [
        int(np.max(np.asarray(read_image(output / f"n{n}_cells.tif").data))) for n in (0, 1, 2)
    ]
    assert [unit.record and unit.record.cells for unit in done] == counts
    rows = (output / "cells.csv").read_text().splitlines()
    assert rows[0].startswith("image,label,area,")
    assert [row.split(",")[0] for row in rows[1:]] == [
        f"n{n}" for n, count in enumerate(counts) for _ in range(count)
    ]
    record = json.loads((output / "n1.json").read_text())
    assert schema_faults(record) == []
    assert record["batch"]["outputs"].keys() == set(endings[1:])


def test_what_is_done_is_not_done_again(
    images: Path,
    tmp_path: Path,
    threshold_model: list[ModelCard],
    write_image: Callable[..., Path],
) -> None:
    output = tmp_path / "out"
    run(images, output)
    before = {path: path.stat().st_mtime_ns for path in output.glob("n*")}
    assert len(threshold_model) == 3
    again = run(images, output)
    assert [unit.before for unit in again] == [True] * 3
    assert len(threshold_model) == 3
    assert {path: path.stat().st_mtime_ns for path in output.glob("n*")} == before
    write_image(images / "n3.tif", seed=3)
    (new,) = [unit for unit in run(images, output) if not unit.before]
    assert new.unit.name == "n3"


def touched(images: Path, output: Path) -> dict[str, Any]:
    os.utime(images / "n1.tif", ns=(10**18, 10**18))
    return {}


def other_pixels(images: Path, output: Path) -> dict[str, Any]:
    shutil.copy(images / "n2.tif", images / "n1.tif")
    return {}


def other_size(images: Path, output: Path) -> dict[str, Any]:
    tifffile.imwrite(images / "n1.tif", np.asarray(read_image(images / "n2.tif").data)[:90])
    return {}


def no_table(images: Path, output: Path) -> dict[str, Any]:
    (output / "n1_cells.csv").unlink()
    return {}


def other_setting(images: Path, output: Path) -> dict[str, Any]:
    return {"settings": Settings(diameter=20.0)}


def other_model(images: Path, output: Path) -> dict[str, Any]:
    return {"model": "other"}


def empty_labels(images: Path, output: Path) -> dict[str, Any]:
    (output / "n1_cells.tif").write_bytes(b"")
    return {}


def no_record(images: Path, output: Path) -> dict[str, Any]:
    for path in output.glob("n1*"):
        path.unlink()
    return {}


@pytest.mark.parametrize(
    ("change", "anew", "why"),
    [
        (touched, [], ""),
        (other_pixels, ["n1"], "the image was changed"),
        (other_size, ["n1"], "the image was changed"),
        (no_table, ["n1"], "n1_cells.csv is missing"),
        (empty_labels, ["n1"], "n1_cells.tif is empty"),
        (other_setting, ["n0", "n1", "n2"], "other settings: diameter"),
        (other_model, ["n0", "n1", "n2"], "the model is another one"),
        (no_record, ["n1"], ""),
    ],
)
def test_what_changed_begins_anew_and_says_so(
    images: Path, tmp_path: Path, change: Callable[..., dict[str, Any]], anew: list[str], why: str
) -> None:
    output = tmp_path / "out"
    run(images, output)
    options = change(images, output)
    again = run(images, output, **options)
    assert [unit.problem for unit in again] == ["", "", ""]
    assert sorted(unit.unit.name for unit in again if not unit.before) == anew
    assert {unit.why for unit in again if not unit.before} == ({why} if anew else set())
    fresh = tmp_path / "fresh"
    run(images, fresh, **options)
    assert contents(output) == contents(fresh)


def test_what_the_user_corrected_is_never_replaced_unasked(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(images, output)
    corrected = output / "n1_cells.tif"
    tifffile.imwrite(corrected, np.ones((120, 160), np.uint16))
    mine = corrected.read_bytes()

    assert all(unit.before for unit in run(images, output))  # nothing changed: it is done
    assert all(unit.before for unit in run(images, output, overwrite=True))
    assert corrected.read_bytes() == mine

    other_pixels(images, output)
    (bad,) = [unit for unit in run(images, output) if unit.problem]
    assert "It would begin anew (the image was changed), but " in bad.problem
    assert "n1_cells.tif was changed since the batch wrote it, and was kept" in bad.problem
    assert corrected.read_bytes() == mine
    assert [unit.problem for unit in run(images, output, overwrite=True)] == ["", "", ""]
    assert corrected.read_bytes() != mine


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:500]), "it cannot be read any more"),
        (lambda file: file.write_text("no image at all"), "it cannot be read any more"),
        (
            lambda file: tifffile.imwrite(file, np.ones((7, 9), np.uint8)),
            "it is of another size, 7 x 9",
        ),
    ],
)
def test_labels_that_are_none_any_more_are_listed_and_kept(
    images: Path, tmp_path: Path, spoil: Callable[[Path], Any], words: str
) -> None:
    output = tmp_path / "out"
    run(images, output)
    labels = output / "n1_cells.tif"
    spoil(labels)
    mine = labels.read_bytes()
    (bad,) = [unit for unit in run(images, output) if unit.problem]
    assert bad.unit.name == "n1"
    assert f"n1_cells.tif was changed since the batch wrote it: {words}" in bad.problem
    assert labels.read_bytes() == mine
    labels.unlink()
    again = run(images, output)
    assert [unit.before for unit in again] == [True, True, False]
    fresh = tmp_path / "fresh"
    run(images, fresh)
    assert contents(output) == contents(fresh)


def test_an_empty_file_beside_labels_that_were_corrected_does_not_cost_them(
    images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(images, output)
    corrected = output / "n1_cells.tif"
    tifffile.imwrite(corrected, np.ones((120, 160), np.uint16))
    mine = corrected.read_bytes()
    (output / "n1_cells.csv").write_bytes(b"")
    (bad,) = [unit for unit in run(images, output) if unit.problem]
    assert "It would begin anew (n1_cells.csv is empty), but " in bad.problem
    assert "n1_cells.tif was changed since the batch wrote it, and was kept" in bad.problem
    assert corrected.read_bytes() == mine


@pytest.mark.parametrize("name", ["n1_cells.tif", "n1.json", "n1_outlines.jpg"])
def test_files_of_others_are_kept(images: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_bytes(b"{}")
    done = run(images, output)
    assert [unit.unit.name for unit in done if unit.problem] == ["n1"]
    assert f"{name} exists and was kept; --overwrite replaces it" in done[1].problem
    assert (output / name).read_bytes() == b"{}"


@pytest.mark.parametrize("name", ["report.html", "cells.csv"])
def test_a_report_and_a_table_of_others_are_kept(images: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_text("mine")
    with pytest.raises(FileExists, match=name):
        run(images, output)
    assert os.listdir(output) == [name]
    run(images, output, overwrite=True)
    assert (output / name).read_text() != "mine"


def test_an_image_is_not_replaced_by_the_table(images: Path, tmp_path: Path) -> None:
    (images / "report.html").write_bytes((images / "n0.tif").read_bytes())
    with pytest.raises(UserError, match=r"report\.html is one of the images"):
        run([images / "n0.tif", images / "report.html"], images)


def test_results_do_not_depend_on_the_other_images(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.iterdir())
    run(paths, tmp_path / "a")
    run(paths[::-1], tmp_path / "b")
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    del first["cells.csv"], second["cells.csv"]  # in the order of the inputs
    assert first == second


@pytest.mark.parametrize("error", [RuntimeError("x"), MemoryError(), OSError(5, "I/O"), KeyError()])
def test_one_bad_image_is_listed_and_the_rest_is_done(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(path: Path, allow_missing_chunks: bool) -> Any:
        if path.name == "n1.tif":
            raise error
        return read_image(path, allow_missing_chunks)

    with monkeypatch.context() as patch:
        patch.setattr(one_image, "read_image", read)
        done = run(images, tmp_path / "out")
    assert [bool(unit.problem) for unit in done] == [False, True, False]
    rows = (tmp_path / "out" / "cells.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"n0", "n2"}
    assert "<h2>What failed</h2>" in (tmp_path / "out" / "report.html").read_text()
    again = run(images, tmp_path / "out")
    assert [unit.before for unit in again] == [True, True, False]
    assert [unit.problem for unit in again] == ["", "", ""]


def test_an_image_that_is_gone_is_a_sentence(images: Path, tmp_path: Path) -> None:
    units = find_units([str(images)], tmp_path / "out")
    (images / "n1.tif").unlink()
    batch = BatchRun(units, tmp_path / "out", "bright")
    done = [event for event in batch.events() if isinstance(event, UnitDone)]
    assert "n1.tif does not exist" in done[1].problem
    assert [unit.problem for unit in (done[0], done[2])] == ["", ""]


def test_a_disk_that_is_gone_ends_the_run_in_a_sentence(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one vain computation and one sentence for each of ten thousand images."""
    output = tmp_path / "out"
    batch = BatchRun(find_units([str(images)], output), output, "bright")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        fsync(descriptor)
        raise OSError(28, "No space left on device")

    ended: list[UnitDone] = []

    def follow() -> None:
        for event in batch.events():
            if isinstance(event, UnitDone):
                ended.append(event)
            elif not ended:
                monkeypatch.setattr(os, "fsync", full)
                monkeypatch.setattr("tempfile.TemporaryFile", full_file)

    with pytest.raises(UserError, match="Nothing can be written to the folder"):
        follow()
    assert [unit.unit.name for unit in ended] == ["n0"]
    assert "the disk of" in ended[0].problem
    assert [name for name in os.listdir(output) if name.startswith("n")] == []


def full_file(**_: object) -> Any:
    raise OSError(28, "No space left on device")


def test_a_run_that_is_stopped_has_a_report_and_goes_on(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    batch = BatchRun(find_units([str(images)], output), output, "bright")
    events = batch.events()
    for event in events:
        if isinstance(event, UnitDone):
            break
    for event in events:  # in the middle of the next one
        assert isinstance(event, PixelsDone)
        break
    events.close()
    batch.close()
    report = (output / "report.html").read_text()
    assert "<b>1</b> image done" in report
    assert "<b>2</b> not done yet" in report
    assert "The same command goes on where it was." in report
    assert not list(output.glob(".*"))

    assert [unit.before for unit in run(images, output)] == [True, False, False]
    run(images, tmp_path / "fresh")
    assert contents(output) == contents(tmp_path / "fresh")


def test_options_that_cannot_be_are_refused_before_anything_is_made(
    images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="There is no runtime 'onnx'"):
        run(images, tmp_path / "out", runtime="onnx")
    with pytest.raises(UserError, match="A table is csv or parquet"):
        run(images, tmp_path / "out", table="xlsx")
    assert not (tmp_path / "out").exists()


def test_parquet(images: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = run(images, tmp_path / "out", table="parquet")
    table = parquet.read_table(tmp_path / "out" / "cells.parquet").to_pydict()
    assert len(table["label"]) == sum(unit.record.cells for unit in done)
    assert set(table["image"]) == {"n0", "n1", "n2"}
    assert not list((tmp_path / "out").glob("*.csv"))


def test_a_model_on_a_worker_must_be_the_same(threshold_model: list[ModelCard]) -> None:
    model = work.Model(Path("nowhere.keras"), "bright", "ab" * 32)
    assert work.model_card(model).name == "bright"
    with pytest.raises(UserError, match="The model bright is another one here"):
        work.model_card(replace(model, sha256="ee" * 32))


def test_the_results_of_another_image_of_the_same_name_are_kept(
    images: Path, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    output = tmp_path / "out"
    run(images, output)
    before = contents(output)
    other = tmp_path / "other"
    other.mkdir()
    write_image(other / "n1.tif", seed=8)
    (bad,) = run(other, output)
    assert "is the record of another image, " in bad.problem
    assert str(images / "n1.tif") in bad.problem
    del before["cells.csv"]
    assert {name: contents(output)[name] for name in before} == before
    (done,) = run(other, output, overwrite=True)
    assert done.problem == ""
    moved = tmp_path / "moved"
    images.rename(moved)
    assert [unit.before for unit in run(moved, output) if not unit.problem] == [True, True]


def test_other_options_of_the_same_model_begin_anew(
    images: Path, tmp_path: Path, threshold_model: list[ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of its card, which can be edited."""
    run(images, tmp_path / "out")
    card = threshold_model[0]
    changed = replace(card, instances=replace(card.instances, min_size=200))
    for module in (batch_run, work):
        monkeypatch.setattr(module, "find_model", lambda name: changed)
    work.model_card.cache_clear()
    again = run(images, tmp_path / "out")
    assert [unit.why for unit in again] == ["other settings: card"] * 3


def test_a_table_that_a_spreadsheet_spoiled_is_listed_and_the_others_are_joined(
    images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(images, output)
    (output / "n1_cells.csv").write_text("label;area\n1;2,5\n")
    batch = BatchRun(find_units([str(images)], output), output, "bright")
    list(batch.events())
    batch.close()
    assert "n1_cells.csv cannot be read as a table" in batch.done["n1"].problem
    rows = (output / "cells.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"n0", "n2"}
    assert "n1_cells.csv cannot be read" in (output / "report.html").read_text()


def test_a_table_of_another_kind_that_is_not_ours_is_kept(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    output = tmp_path / "out"
    run(images, output)
    (output / "n1_cells.parquet").write_bytes(b"mine")
    done = {unit.unit.name: unit for unit in run(images, output, table="parquet")}
    assert "n1_cells.parquet exists and was kept" in done["n1"].problem
    assert (output / "n1_cells.parquet").read_bytes() == b"mine"
    assert done["n0"].problem == ""


def test_a_unit_that_another_run_did_meanwhile_is_done(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    units = find_units([str(images / "n0.tif")], output)
    original = read_image

    def read(path: Path, allow_missing_chunks: bool) -> Any:
        monkeypatch.setattr(one_image, "read_image", original)
        run(images / "n0.tif", output)
        return original(path, allow_missing_chunks)

    monkeypatch.setattr(one_image, "read_image", read)
    (done,) = [
        event for event in BatchRun(units, output, "bright").events() if isinstance(event, UnitDone)
    ]
    assert (done.problem, done.before) == ("", True)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no such names")
@pytest.mark.parametrize("stem", [b"n" * 225, b"caf\xe9", b"a\nb"])
def test_names_that_are_hard_to_write_are_done_once(
    images: Path, tmp_path: Path, stem: bytes
) -> None:
    folder, output = tmp_path / "hard", tmp_path / "out"
    folder.mkdir()
    os.rename(os.fsencode(images / "n0.tif"), os.fsencode(folder) + b"/" + stem + b".tif")
    (done,) = run(folder, output)
    assert done.problem == ""
    assert len((output / "cells.csv").read_bytes().splitlines()) > 2
    (again,) = run(folder, output)
    assert again.before


def test_images_of_earlier_runs_that_are_not_named_now_are_mentioned(
    images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(images, output)
    batch = BatchRun(find_units([str(images / "n1.tif")], output), output, "bright")
    notes = [event.text for event in batch.events() if isinstance(event, Note)]
    assert len(notes) == 1
    assert "results of 2 images that you did not name now, such as n0." in notes[0]
    batch = BatchRun(find_units([str(images)], output), output, "bright")
    assert not [event for event in batch.events() if isinstance(event, Note)]


# --- killed ------------------------------------------------------------------------------

_RUN = """
import sys
from pathlib import Path
import pytest
from conftest import use_threshold
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
use_threshold(pytest.MonkeyPatch())
output = Path(sys.argv[2])
run = BatchRun(find_units([sys.argv[1]], output), output, "bright")
print("ready", flush=True)
list(run.events())
run.close()
"""


def start(images: Path, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, str(images), str(output)]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
@pytest.mark.timeout(600)
def test_a_run_that_is_killed_ten_times_has_the_result_of_an_undisturbed_one(
    images: Path, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    for n in range(3, 40):
        write_image(images / f"n{n}.tif", seed=n, shape=(90, 110))
    began = time.monotonic()
    run(images, tmp_path / "fresh")
    whole = time.monotonic() - began
    output, seed = tmp_path / "out", random.randrange(10**6)
    chance = random.Random(seed)
    done = []
    for _ in range(10):
        with start(images, output) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.random() * whole / 6)
            process.send_signal(signal.SIGKILL)
        done.append(len(list(output.glob("n*.json"))))
    assert done == sorted(done), seed
    assert done[-1] > 0, seed
    final = run(images, output)
    assert sum(unit.before for unit in final) == done[-1], seed
    assert [unit.problem for unit in final if unit.problem] == [], seed
    assert contents(output) == contents(tmp_path / "fresh"), seed
