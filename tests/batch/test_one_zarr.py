"""Results as an OME-Zarr: by one process, by several, killed in between, the same."""

from __future__ import annotations

import json
import os
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
import zarr
from numpy.typing import NDArray

from napari_unet_cells.batch import one_zarr, together
from napari_unet_cells.batch.corrected_parts import count_parts
from napari_unet_cells.batch.finished import read_unit_record
from napari_unet_cells.batch.marks import mark
from napari_unet_cells.batch.one_image import PixelsDone
from napari_unet_cells.batch.processes import Processes
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun, Executor, here
from napari_unet_cells.batch.together import is_huge
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.batch.work import UnitDone
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import find_images, read_image
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.pipeline import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DIAMETER = Settings(diameter=20.0)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an OME-Zarr of several blocks."""
    tile, _ = simulate_nuclei((700, 1000), seed=1)
    path = tmp_path_factory.mktemp("slides") / "slide.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    pixels = np.tile(tile, (2, 5))
    group.create_array("0", data=pixels, chunks=(512, 512))
    place = [{"type": "scale", "scale": [0.5, 0.5]}]
    place += [{"type": "translation", "translation": [100.0, -20.0]}]
    levels = [{"path": "0", "coordinateTransformations": place}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image: Any = {"version": "0.4", "axes": axes, "datasets": levels}
    group.attrs.put({"multiscales": [image]})
    return path


def run(image: Path, output: Path, execute: Executor = here, **request: Any) -> list[UnitDone]:
    asked = Request(**{"settings": DIAMETER, "format": "ome-zarr", **request})
    batch = BatchRun(find_units([str(image)], output), output, "cells-fast", asked, execute)
    done = [event for event in batch.events() if isinstance(event, UnitDone)]
    batch.close()
    return done


def labels(path: Path, role: str = "cells") -> NDArray[Any]:
    return np.asarray(read_image(path / "labels" / role).data)


def check_same(first: Path, second: Path) -> None:
    """Compare the results of two runs, without times."""
    for role in ("cells", "classes"):
        one, other = (labels(path / "slide.ome.zarr", role) for path in (first, second))
        np.testing.assert_array_equal(one, other)
    for name in ("cells.csv", "slide_cells.csv", "slide_outlines.jpg"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    records = [json.loads((path / "slide.json").read_text()) for path in (first, second)]
    for key in ("cells", "parameters", "model", "files"):
        assert records[0][key] == records[1][key]
    assert records[0]["batch"]["area"] == records[1]["batch"]["area"]


@pytest.fixture(scope="module")
def whole(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segment it in one process, undisturbed."""
    output = tmp_path_factory.mktemp("whole")
    (done,) = run(slide, output)
    assert done.problem == ""
    return output


def test_labels_table_picture_and_record_belong_together(
    whole: Path, slide: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    names = {"slide.ome.zarr", "slide_cells.csv", "slide_outlines.jpg", "slide.json"}
    assert set(os.listdir(whole)) == names | {"cells.csv", "report.html"}
    cells = labels(whole / "slide.ome.zarr")
    assert cells.shape == (1400, 5000)
    stated = read_image(whole / "slide.ome.zarr" / "labels" / "cells").place
    assert stated == read_image(slide).place
    assert stated["y"] == (0.5, 100.0, "micrometer")
    record = json.loads((whole / "slide.json").read_text())
    assert schema_faults(record) == []
    assert record["cells"] == len(np.unique(cells)) - 1 > 100
    rows = (whole / "slide_cells.csv").read_text().splitlines()
    assert len(rows) == record["cells"] + 1
    assert rows[1].endswith(",micrometer")
    areas = np.bincount(cells.ravel())[1:]
    assert [int(row.split(",")[2]) for row in rows[1:]] == areas.tolist()
    assert sum(record["batch"]["area"]["counts"]) == record["cells"]
    picture = np.asarray(read_image(whole / "slide_outlines.jpg").data)
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 120)
    assert yellow.mean() > 0.005
    report = (whole / "report.html").read_text()
    assert f"<b>{record['cells']:,}</b> cells" in report


def test_the_result_is_no_image_for_another_batch(whole: Path) -> None:
    with pytest.raises(UserError, match="holds results only"):
        find_images([whole])


def test_what_is_done_is_not_done_again(
    whole: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_zarr, "segment_to_zarr", None)
    (done,) = run(slide, whole)
    assert done.before


def test_other_settings_begin_anew_and_what_was_there_stays_until_it_is_done(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, simulate_nuclei((120, 130), seed=1)[0])
    output = tmp_path / "out"
    (first,) = run(small, output)
    before = labels(output / "small.ome.zarr")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("x")

    changed = Settings(diameter=20.0, min_size=380)
    with monkeypatch.context() as patch:
        patch.setattr(one_zarr.OneZarr, "_keep", fail)
        (failed,) = run(small, output, settings=changed)
    assert "nobody foresaw" in failed.problem
    np.testing.assert_array_equal(labels(output / "small.ome.zarr"), before)
    # what is there is of other settings: it must not be taken for the result
    (again,) = run(small, output, settings=changed)
    assert (again.problem, again.before) == ("", False)
    assert again.record is not None
    assert first.record is not None
    assert again.record.cells < first.record.cells
    assert again.record.cells == len(np.unique(labels(output / "small.ome.zarr"))) - 1


def test_who_is_killed_before_the_record_is_written_only_writes_the_rest(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, simulate_nuclei((120, 130), seed=1)[0])

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(one_zarr.OneZarr, "_complete", killed)
        with pytest.raises(Killed):
            run(small, tmp_path / "out")
    assert (tmp_path / "out" / "small.ome.zarr").is_dir()
    monkeypatch.setattr(one_zarr, "segment_to_zarr", None)
    (done,) = run(small, tmp_path / "out")
    assert done.problem == ""
    assert done.record is not None
    assert done.record.cells == labels(tmp_path / "out" / "small.ome.zarr").max()
    (again,) = run(small, tmp_path / "out")
    assert again.before


def put_back(output: Path) -> None:
    """Draw a cell into the result and mark it, as who corrects a part of it does."""
    versions, box = LabelVersions(output / "small.ome.zarr"), (slice(0, 9), slice(0, 9))
    before = labels(versions.folder)[box].astype(np.int64)
    assert versions.replace((), box, before, np.full_like(before, 999), 999)
    mark(output, "small", corrected=True)


def approve(output: Path) -> None:
    mark(output, "small", approved=True)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Segment a small image."""
    path = tmp_path / "small.tif"
    tifffile.imwrite(path, simulate_nuclei((120, 130), seed=1)[0])
    (done,) = run(path, tmp_path / "out")
    assert done.problem == ""
    return path


CHANGED = Settings(diameter=20.0, min_size=380)


@pytest.mark.parametrize("at_once", [False, True], ids=["one process", "together"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("act", [put_back, approve])
def test_what_is_marked_while_it_is_segmented_stays(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], None],
    overwrite: bool,
    at_once: bool,
) -> None:
    monkeypatch.setattr(together, "HUGE_BYTES", 1 if at_once else 2**30)
    output = tmp_path / "out"
    record, table = (output / name for name in ("small.json", "small_cells.csv"))
    before = record.read_text(), table.read_text()
    asked = Request(CHANGED, format="ome-zarr", overwrite=overwrite)
    batch = BatchRun(find_units([str(small)], output), output, "cells-fast", asked)
    problem, drawn = "", None
    for event in batch.events():
        if isinstance(event, PixelsDone) and drawn is None:
            act(output)
            drawn = labels(output / "small.ome.zarr")
        if isinstance(event, UnitDone):
            problem = event.problem
    batch.close()
    assert "by you while it was segmented" in problem
    np.testing.assert_array_equal(labels(output / "small.ome.zarr"), drawn)
    assert (record.read_text(), table.read_text()) == before
    assert not list(output.glob(".small*"))
    (again,) = run(small, output, settings=CHANGED)
    assert again.kept == ("corrected" if act is put_back else "approved")


def test_what_is_corrected_after_a_run_was_cancelled_stays(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    known = read_unit_record(output / "small.json")
    assert known is not None
    assert known.cells is not None
    for n in range(2):  # the second one goes on with the first one
        asked = Request(CHANGED, format="ome-zarr")
        batch = BatchRun(find_units([str(small)], output), output, "cells-fast", asked)
        events = batch.events()
        assert any(isinstance(event, PixelsDone) for event in events), n
        events.close()
        batch.close()
    begun = read_unit_record(output / "small.json")
    assert begun is not None
    assert begun.begun
    put_back(output)
    counted = count_parts(output, "small")
    assert counted is not None
    assert counted.cells == known.cells + 1
    drawn = labels(output / "small.ome.zarr")
    (done,) = run(small, output, settings=CHANGED)
    assert (done.problem, done.kept) == ("", "corrected")
    np.testing.assert_array_equal(labels(output / "small.ome.zarr"), drawn)


@pytest.mark.parametrize("act", [put_back, approve])
def test_what_is_marked_after_a_run_was_killed_is_kept_with_its_record(
    small: Path, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    output = tmp_path / "out"
    before = (output / "small.json").read_text()
    asked = Request(CHANGED, format="ome-zarr")
    batch = BatchRun(find_units([str(small)], output), output, "cells-fast", asked)
    events = batch.events()
    assert any(isinstance(event, PixelsDone) for event in events)
    events.close()
    batch.close()
    act(output)
    (done,) = run(small, output, settings=CHANGED)
    assert done.kept
    assert (output / "small.json").read_text() == before


def test_files_of_others_are_kept(tmp_path: Path) -> None:
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, simulate_nuclei((120, 130), seed=1)[0])
    (tmp_path / "out" / "small.ome.zarr").mkdir(parents=True)
    (done,) = run(small, tmp_path / "out")
    assert "small.ome.zarr exists and was kept" in done.problem
    assert os.listdir(tmp_path / "out" / "small.ome.zarr") == []


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_stacks_and_versions(tmp_path: Path, ngff: str) -> None:
    image, _ = simulate_nuclei((120, 130), seed=1)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([image] * 3), imagej=True, metadata={"axes": "ZYX"})
    (done,) = run(path, tmp_path / "out", plane="all", ngff=ngff)
    assert done.problem == ""
    assert labels(tmp_path / "out" / "stack.ome.zarr").shape == (3, 120, 130)
    (bad,) = run(path, tmp_path / "other", plane="all", link="z")
    assert "not linked across planes in an OME-Zarr" in bad.problem


# --- several workers on one image ---------------------------------------------------------


def test_what_is_huge(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(b"12345")
    assert not is_huge(slide)
    assert not is_huge(file)
    monkeypatch.setattr(together, "HUGE_PIXELS", 7_000_000)
    monkeypatch.setattr(together, "HUGE_BYTES", 5)
    assert is_huge(slide)
    assert is_huge(file)
    assert not is_huge(tmp_path / "gone")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_two_workers_of_whom_one_is_killed_segment_one_image_together(
    slide: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "HUGE_PIXELS", 1)
    units = find_units([str(slide)], tmp_path)
    asked = Request(DIAMETER, format="ome-zarr")
    batch = BatchRun(units, tmp_path, "cells-fast", asked, Processes(2))
    killed, fractions = False, []
    for event in batch.events():
        if isinstance(event, UnitDone):
            assert event.problem == ""
            continue
        assert isinstance(event, PixelsDone)
        fractions.append(event.fraction)
        workers = psutil.Process().children()
        if not killed and len(workers) >= 2:
            workers[-1].kill()
            killed = True
    batch.close()
    assert killed
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    check_same(whole, tmp_path)


def test_a_block_that_cannot_be_read_fails_the_image_in_a_sentence(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "HUGE_PIXELS", 1)

    def steps(tasks: Any) -> Any:
        for task in tasks:
            if task.stage == "segment" and task.number == 1:
                yield task.failed("The disk is gone.")
            else:
                yield from here([task])

    (done,) = run(slide, tmp_path / "out", steps)
    assert done.problem == "The disk is gone."
    (done,) = run(slide, tmp_path / "out")
    assert done.problem == ""


_RUN = """
import sys
from napari_unet_cells.cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_run_that_is_killed_goes_on_and_the_result_is_the_same(
    slide: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _RUN, "batch", str(slide), "-o", str(tmp_path)]
    command += ["--model", "cells-fast", "--format", "ome-zarr", "--diameter", "20"]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(1.5)
            process.send_signal(signal.SIGKILL)
    (done,) = run(slide, tmp_path)
    assert done.problem == ""
    check_same(whole, tmp_path)
    assert not list(tmp_path.glob(".*"))
