"""Tables, picture and record of an OME-Zarr follow the parts of its cells that are put back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_unet_cells.batch import corrected_parts
from napari_unet_cells.batch.corrected import files_due
from napari_unet_cells.batch.corrected_parts import count_parts, follow_parts, following_parts
from napari_unet_cells.batch.finished import read_unit_record
from napari_unet_cells.batch.marks import read_marks
from napari_unet_cells.batch.request import Request
from napari_unet_cells.batch.run import BatchRun
from napari_unet_cells.batch.units import find_units
from napari_unet_cells.core.measure import measure
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.sample_data import simulate_nuclei
from napari_unet_cells.segmentation.pipeline import Settings
from napari_unet_cells.segmentation.zarr_table import bring_up_to_date, state_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(folder: Path, output: Path, table: str = "csv") -> None:
    settings = Settings(diameter=20.0)
    asked = Request(settings, format="ome-zarr", table=table)
    batch = BatchRun(find_units([str(folder)], output), output, "cells-fast", asked)
    assert [one for one in batch.events() if getattr(one, "problem", "")] == []
    batch.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "in").mkdir()
    tifffile.imwrite(folder / "in" / "s.tif", simulate_nuclei((200, 300), seed=4)[0])
    run(folder / "in", folder / "csv")
    run(folder / "in", folder / "parquet", "parquet")
    return folder


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "csv", tmp_path / "out"))


def labels_of(output: Path) -> NDArray[Any]:
    return np.asarray(label_levels(output / "s.ome.zarr", "cells")[0])


def put_back(output: Path, edit: Callable[[NDArray[Any]], None], box: Any = None) -> None:
    """Edit a part as its layer does."""
    box = box or (slice(0, 200), slice(0, 300))
    before = labels_of(output)[box].astype(np.int64)
    edited = before.copy()
    edit(edited)
    versions = LabelVersions(output / "s.ome.zarr")
    used = max(versions.n_used(versions.n_given()), int(edited.max()))
    assert versions.replace((), box, before, edited, used)


def erase(*ids: int) -> Callable[[NDArray[Any]], None]:
    return lambda part: part.__setitem__(np.isin(part, ids), 0)


def draw(part: NDArray[Any]) -> None:
    part[:3, :4] = 1000


def rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        return [{key: str(value) for key, value in row.items()} for row in table.to_pylist()]
    with path.open() as file:
        return list(csv.DictReader(file))


def check(output: Path, kind: str = "csv") -> None:
    """See that all that is said of the image is of the labels as they are."""
    labels = labels_of(output)
    noted = read_unit_record(output / "s.json")
    assert noted is not None
    table = measure(labels, tifffile.imread(noted.source))
    found = {int(row["label"]): row for row in rows(output / f"s_cells.{kind}")}
    assert sorted(found) == table.columns["label"].tolist()
    for name in ("area", "intensity_mean", "centroid_x"):
        mine = [float(found[label][name]) for label in sorted(found)]
        np.testing.assert_allclose(mine, table.columns[name], rtol=1e-9)
    record = json.loads((output / "s.json").read_text())
    n = len(table.columns["label"])
    assert (record["cells"], noted.cells, noted.summary) == (n, n, f"{n} cells, corrected")
    assert noted.area is not None
    assert sum(noted.area.counts) == n
    assert record["corrected_by_hand"] is True
    assert not files_due(output, "s")


def files(output: Path) -> dict[str, bytes]:
    kept = ("s_cells.csv", "s_cells.parquet", "s_outlines.jpg", "s.json")
    return {name: (output / name).read_bytes() for name in kept if (output / name).exists()}


def test_cells_are_counted_at_once_and_the_rest_follows(
    output: Path, schema_faults: Callable[[Any], list[str]]
) -> None:
    before, n = files(output), len(np.unique(labels_of(output))) - 1
    assert count_parts(output, "s") is None
    assert not read_marks(output).corrected
    put_back(output, erase(1, 2))
    put_back(output, draw)
    put_back(output, erase(3), (slice(0, 100), slice(0, 300)))
    assert files_due(output, "s")
    record = count_parts(output, "s")
    assert record is not None
    assert (record.cells, record.summary) == (n - 2, f"{n - 2} cells, corrected")
    assert set(read_marks(output).corrected) == {"s"}
    assert read_unit_record(output / "s.json") == record
    assert schema_faults(json.loads((output / "s.json").read_text())) == []
    assert count_parts(output, "s") is None  # they are counted
    put_back(output, lambda part: part.__setitem__(np.s_[:3, :4], 0))  # drawn, and taken back
    record = count_parts(output, "s")
    assert record is not None
    assert record.cells == n - 3
    after = files(output)
    assert {name for name in before if before[name] != after[name]} == {"s.json"}
    assert files_due(output, "s")
    followed = follow_parts(output, "s")
    assert (followed.record.cells, followed.problem) == (n - 3, "")
    check(output)
    assert state_of(output / "s.ome.zarr").is_true
    assert schema_faults(json.loads((output / "s.json").read_text())) == []
    after = files(output)
    assert {name for name in before if before[name] != after[name]} == set(before)
    assert follow_parts(output, "s").record == followed.record
    assert files(output) == after
    assert count_parts(output, "s") is None


def test_a_table_in_parquet_follows_and_none_is_made_beside_it(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    output = Path(shutil.copytree(made / "parquet", tmp_path / "out"))
    types = pytest.importorskip("pyarrow.parquet").read_schema(output / "s_cells.parquet")
    names = set(files(output))
    put_back(output, erase(1, 5))
    put_back(output, draw)
    follow_parts(output, "s")
    check(output, "parquet")
    assert set(files(output)) == names == {"s_cells.parquet", "s_outlines.jpg", "s.json"}
    now = pytest.importorskip("pyarrow.parquet").read_schema(output / "s_cells.parquet")
    assert now.equals(types)
    assert not [path for path in output.iterdir() if path.name.endswith((".old", ".part"))]
    put_back(output, erase(6))
    follow_parts(output, "s")
    check(output, "parquet")


def test_all_tables_that_were_written_follow(made: Path, output: Path) -> None:
    pytest.importorskip("pyarrow")
    shutil.copy(made / "parquet" / "s_cells.parquet", output)
    put_back(output, erase(2))
    follow_parts(output, "s")
    check(output)
    check(output, "parquet")
    (output / "s_cells.parquet").write_bytes(b"of another program")
    put_back(output, erase(3))
    follow_parts(output, "s")
    check(output)
    assert (output / "s_cells.parquet").read_bytes() == b"of another program"


@pytest.mark.parametrize("late", ["write_jpeg", "write_json"])
def test_what_fails_leaves_all_as_it_was_and_due(
    made: Path, output: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    pytest.importorskip("pyarrow")
    shutil.copy(made / "parquet" / "s_cells.parquet", output)
    put_back(output, erase(2))
    before = files(output)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(corrected_parts, late, full)
        with pytest.raises(UserError, match=r"is full\. Free some space"):
            follow_parts(output, "s")
    assert files(output) == before
    assert files_due(output, "s")
    assert set(read_marks(output).corrected) == {"s"}  # no run replaces it
    follow_parts(output, "s")
    check(output)
    check(output, "parquet")


def test_who_ends_it_in_the_middle_leaves_all_as_it_was(output: Path) -> None:
    put_back(output, erase(2))
    version = output / "s.ome.zarr" / "labels" / "cells" / "versions"
    for path in version.glob("*.npz"):
        path.unlink()  # so that all cells are measured
    before = files(output)
    other = Path(shutil.copytree(output, output.parent / "other"))
    n_steps = sum(1 for _ in following_parts(other, "s"))
    assert n_steps >= 2
    for n in range(1, n_steps + 1):
        steps = following_parts(output, "s")
        done = [next(steps) for _ in range(n)]
        assert done == sorted(done)
        steps.close()
        assert files(output) == before
        assert files_due(output, "s")
        assert not list(output.glob(".*.part"))
    follow_parts(output, "s")
    check(output)


def test_without_the_image_the_picture_stays_and_that_is_said(tmp_path: Path) -> None:
    image, output = tmp_path / "in" / "s.tif", tmp_path / "out"
    image.parent.mkdir()
    tifffile.imwrite(image, simulate_nuclei((100, 100), seed=4)[0])
    run(image.parent, output)
    image.unlink()
    picture, n = files(output)["s_outlines.jpg"], len(rows(output / "s_cells.csv"))
    put_back(output, erase(2), (slice(0, 100), slice(0, 100)))
    followed = follow_parts(output, "s")
    stays = "The picture of s stays as it was, as its image cannot be read."
    assert followed.problem == stays
    assert followed.record.cells == n - 1 == len(rows(output / "s_cells.csv"))
    put_back(output, draw, (slice(0, 100), slice(0, 100)))
    followed = follow_parts(output, "s")
    assert "the image of the cells, is not there any more" in followed.problem
    assert followed.problem.endswith(stays)
    assert followed.record.cells == n == len(rows(output / "s_cells.csv"))
    assert files(output)["s_outlines.jpg"] == picture


def test_a_table_that_was_brought_up_to_date_is_taken_as_it_is(output: Path) -> None:
    put_back(output, erase(2))
    follow_parts(output, "s")
    put_back(output, erase(3))
    for _ in bring_up_to_date(output / "s.ome.zarr"):
        pass
    stamp = (output / "s_cells.csv").stat()
    follow_parts(output, "s")
    check(output)
    assert (output / "s_cells.csv").stat().st_ino == stamp.st_ino
