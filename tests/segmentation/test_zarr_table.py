"""The table beside an OME-Zarr: what it holds of what was put back, and how it is made true."""

from __future__ import annotations

import errno
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table, measure
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import label_zarr
from napari_unet_cells.files.label_levels import label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.label_zarr import LabelZarr
from napari_unet_cells.files.pixel_size import Scale
from napari_unet_cells.files.table_pages import TablePages
from napari_unet_cells.files.tables import write_tables
from napari_unet_cells.segmentation import zarr_cells, zarr_table
from napari_unet_cells.segmentation.zarr_place import table_of
from napari_unet_cells.segmentation.zarr_table import (
    Brought,
    TableState,
    bring_up_to_date,
    state_of,
)

SIZE, UNIT = (0.5, 0.25), "micrometer"
N_CELLS = 64


def squares() -> NDArray[np.uint16]:
    """Make 8 x 8 squares of 20 x 12 pixels, 30 apart."""
    plane = np.zeros((240, 240), np.uint16)
    for number in range(N_CELLS):
        top, left = 30 * (number // 8) + 5, 30 * (number % 8) + 5
        plane[top : top + 20, left : left + 12] = number + 1
    return plane


class Slide:
    """An image, its cells in an OME-Zarr, and their table."""

    def __init__(self, folder: Path, stack: bool = False, channels: int = 1) -> None:
        plane = squares()
        self.labels = np.stack([plane, plane[::-1]]) if stack else plane
        shape = self.labels.shape[:-2] + (channels,) * (channels > 1) + plane.shape
        self.pixels = np.random.default_rng(1).integers(0, 60_000, shape, np.uint16)
        self.axes = "Z" * stack + "C" * (channels > 1) + "YX"
        self.image, self.zarr = folder / "slide.tif", folder / "slide_cells.ome.zarr"
        tifffile.imwrite(self.image, self.pixels, metadata={"axes": self.axes}, ome=True)
        made = LabelZarr(
            self.zarr, self.labels.shape, "z" * stack + "yx", 512, Scale(SIZE, UNIT, None)
        )
        made.create("cells", np.uint16)
        for index in np.ndindex(self.labels.shape[:-2]):
            made.write("cells", index, (slice(0, 240), slice(0, 240)), self.labels[index])
        source: dict[str, Any] = {"path": str(self.image), "shape": shape, "axes": self.axes}
        if channels > 1:
            source["fixed"] = {"C": 1}
        size = {"y": SIZE[0], "x": SIZE[1], "unit": UNIT}
        record = {"cells": N_CELLS, "source": source, "pixel_size": size}
        made.finish("cells", record, {})
        self.channels = channels
        self.write_table()

    @property
    def measured(self) -> Table:
        """What the table has to hold."""
        pixels = self.pixels[..., 1, :, :] if self.channels > 1 else self.pixels
        return measure(self.labels, pixels, SIZE, UNIT, "Z" * (self.labels.ndim - 2) + "YX")

    def write_table(self) -> None:
        write_tables(self.table, [self.measured])

    @property
    def table(self) -> Path:
        return table_of(self.zarr)

    def put_back(self, edit: Any, plane: tuple[int, ...] = (), stop: int = 100) -> None:
        """Edit a part of 100 x 100 from (30, 30), as its layer does."""
        box = slice(30, 30 + stop), slice(30, 30 + stop)
        key: Any = (*plane, *box)
        part: Any = self.labels[key].copy()
        before = part.astype(np.int64)
        edit(part)
        self.labels[key] = part
        versions = LabelVersions(self.zarr)
        used = max(versions.n_used(N_CELLS), int(part.max()))
        assert versions.replace(plane, box, before, part.astype(np.int64), used)
        np.testing.assert_array_equal(np.asarray(label_levels(self.zarr, "cells")[0]), self.labels)

    def check(self) -> None:
        """See that the table has the rows of the labels, in whatever order."""
        *_, pages = [*run(TablePages.open(self.table))]
        found = pages.page(np.arange(len(pages))).columns
        expected = self.measured.columns
        assert list(found) == list(expected)
        names = [name for name in ("label", "z") if name in found]
        orders = [np.lexsort([one[name] for name in names]) for one in (found, expected)]
        assert len(pages) == len(expected["label"])
        for name in expected:
            mine, theirs = found[name][orders[0]], expected[name][orders[1]]
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, err_msg=name)


def run(steps: Generator[Any, None, Any]) -> Generator[Any, None, None]:
    yield (yield from steps)


def brought(slide: Slide) -> Brought:
    *parts, last = [*run(bring_up_to_date(slide.zarr))]
    assert parts == sorted(parts)
    assert all(0 <= part <= 1 for part in parts)
    assert isinstance(last, Brought)
    return last


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_zarr, "COARSEST", 128)
    monkeypatch.setattr(zarr_cells, "SIDE", 64)


@pytest.fixture(params=["plane", "stack", "channels"])
def slide(request: pytest.FixtureRequest, tmp_path: Path) -> Slide:
    kind = request.param
    return Slide(tmp_path, kind == "stack", 3 if kind == "channels" else 1)


def edit(part: NDArray[np.uint16]) -> None:
    """Delete a cell, cut off a piece of another one, and draw a new one."""
    ids = np.unique(part[10:80, 10:80])[1:].tolist()
    part[part == ids[0]] = 0
    part[:20, :][part[:20, :] == ids[1]] = 0
    part[60:64, 60:70] = N_CELLS + 1


def test_the_table_of_a_run_is_true_until_something_is_put_back(slide: Slide) -> None:
    slide.check()
    assert state_of(slide.zarr).is_true
    assert brought(slide) == Brought(slide.table, 0, 0)
    plane = (1,) * (slide.labels.ndim - 2)
    before = slide.table.read_bytes()
    slide.put_back(edit, plane)
    state = state_of(slide.zarr)
    assert (state.is_true, state.behind, state.is_known) == (False, (1,), True)
    assert state.problem() == "Out of date: cells were changed since this table was written."
    assert slide.table.read_bytes() == before  # nobody changes it unasked


def test_what_was_put_back_is_measured_again_and_the_rest_is_kept(slide: Slide) -> None:
    plane = (1,) * (slide.labels.ndim - 2)
    original = slide.table.read_bytes()
    slide.put_back(edit, plane)
    made = brought(slide)
    slide.check()
    assert (made.n_gone, made.problem) == (1, "")
    assert 1 <= made.n_measured <= 4
    cells = "1 cell" if made.n_measured == 1 else f"{made.n_measured} cells"
    assert made.describe() == f"Up to date: {cells} measured, 1 gone."
    assert state_of(slide.zarr).is_true
    kept = slide.zarr / "labels/cells/versions/table-as-segmented.csv"
    assert kept.read_bytes() == original
    rows = set(original.splitlines()) & set(slide.table.read_bytes().splitlines())
    assert len(rows) >= len(original.splitlines()) - 4

    # again, with a cell that was deleted and comes back, and a smaller part
    slide.put_back(lambda part: part.__setitem__(np.s_[60:64, 60:70], 0), plane)
    slide.put_back(lambda part: part.__setitem__(np.s_[10:14, 10:12], N_CELLS + 1), plane, 40)
    assert state_of(slide.zarr).behind == (2, 3)
    brought(slide)
    slide.check()
    assert kept.read_bytes() == original


def parquet_of(slide: Slide) -> Path:
    return slide.table.with_suffix(".parquet")


def check_parquet(slide: Slide) -> None:
    """See that the table in Parquet has the rows of the labels, with the types that it had."""
    parquet, expected = pytest.importorskip("pyarrow.parquet"), slide.measured.columns
    table = parquet.read_table(parquet_of(slide))
    other = write_tables(parquet_of(slide).with_name("other.parquet"), [slide.measured])
    assert table.schema.equals(parquet.read_schema(other))
    other.unlink()
    found = table.to_pydict()
    names = [name for name in ("label", "z") if name in found]
    orders = [np.lexsort([one[name] for name in names]) for one in (found, expected)]
    for name, values in expected.items():
        mine, theirs = np.asarray(found[name])[orders[0]], values[orders[1]]
        assert len(mine) == len(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, err_msg=name)
    assert set(found["unit"]) == {UNIT}


def test_a_table_in_parquet_is_brought_with_it(slide: Slide) -> None:
    pytest.importorskip("pyarrow")
    write_tables(parquet_of(slide), [slide.measured])
    plane = (1,) * (slide.labels.ndim - 2)
    slide.put_back(edit, plane)
    brought(slide)
    slide.check()
    check_parquet(slide)
    slide.put_back(lambda part: part.__setitem__(np.s_[60:64, 60:70], 0), plane)
    slide.table.unlink()  # then the CSV is made of the other one
    assert brought(slide).n_measured <= 2
    slide.check()
    check_parquet(slide)
    stamp = parquet_of(slide).stat().st_mtime_ns
    brought(slide)
    assert parquet_of(slide).stat().st_mtime_ns == stamp


def test_where_the_run_wrote_parquet_alone_the_csv_is_made_of_it(slide: Slide) -> None:
    pytest.importorskip("pyarrow")
    write_tables(parquet_of(slide), [slide.measured])
    slide.table.unlink()
    brought(slide)  # nothing was put back yet
    slide.check()
    check_parquet(slide)


def test_who_is_stopped_leaves_both_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    slide = Slide(tmp_path)
    write_tables(parquet_of(slide), [slide.measured])
    slide.put_back(edit)
    old = [path.read_bytes() for path in (slide.table, parquet_of(slide))]
    for part in (0.5, 1.0):
        steps = bring_up_to_date(slide.zarr)
        while next(steps) < part:
            pass
        steps.close()
        assert [path.read_bytes() for path in (slide.table, parquet_of(slide))] == old
        assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []
    brought(slide)
    check_parquet(slide)


def test_a_parquet_that_is_no_table_of_cells_is_left_alone(tmp_path: Path) -> None:
    slide = Slide(tmp_path)
    parquet_of(slide).write_bytes(b"of another program")
    slide.put_back(edit)
    brought(slide)
    slide.check()
    assert parquet_of(slide).read_bytes() == b"of another program"


def test_a_cell_with_another_piece_outside_of_the_part_keeps_it(slide: Slide) -> None:
    plane = (1,) * (slide.labels.ndim - 2)

    def draw_pieces(part: NDArray[np.uint16]) -> None:
        part[2:4, 2:4] = part[190:194, 200:204] = N_CELLS + 1

    slide.put_back(draw_pieces, plane, 210)
    brought(slide)
    slide.check()  # with the piece far away

    slide.put_back(lambda part: part.__setitem__(np.s_[2:4, 2:4], 0), plane)
    made = brought(slide)
    assert (made.n_measured, made.n_gone) == (1, 0)
    slide.check()

    slide.put_back(lambda part: part.__setitem__(np.s_[2:4, 2:4], N_CELLS + 1), plane, 40)
    slide.put_back(lambda part: part.__setitem__(np.s_[96:98, 0:3], N_CELLS + 1), plane)
    assert brought(slide).n_measured == 1
    slide.check()


def test_pieces_farther_apart_than_can_be_measured_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Slide(tmp_path)
    monkeypatch.setattr(zarr_cells, "MOST_PIXELS", 20_000)
    slide.put_back(edit)
    brought(slide)  # cells as they are
    slide.put_back(lambda part: part.__setitem__(np.s_[190:194, 200:204], 1), (), 210)
    old = slide.table.read_bytes()
    with pytest.raises(UserError, match=r"Cell 1 lies in pieces too far apart .* try again\."):
        brought(slide)
    assert slide.table.read_bytes() == old
    slide.table.unlink()
    with pytest.raises(UserError, match="Cell 1 lies in pieces too far apart"):
        brought(slide)
    assert not slide.table.exists()


def test_a_table_that_is_gone_is_measured_anew(slide: Slide) -> None:
    slide.labels[..., 200:204, 6:9] = 1  # cells need not hang together
    for index in np.ndindex(slide.labels.shape[:-2]):
        array: Any = zarr.open_array(slide.zarr / "labels/cells/0", mode="r+")
        array[index] = slide.labels[index]
    slide.table.unlink()
    state = state_of(slide.zarr)
    assert not state.is_true
    assert "There is no table slide_cells.csv" in state.problem()
    made = brought(slide)
    assert made.n_measured == len(slide.measured)
    slide.check()
    assert state_of(slide.zarr).is_true


def test_versions_that_are_gone_have_all_cells_measured(slide: Slide) -> None:
    plane = (0,) * (slide.labels.ndim - 2)
    slide.put_back(edit, plane)
    LabelVersions(slide.zarr).file_of(1).unlink()
    state = state_of(slide.zarr)
    assert (state.is_true, state.is_known) == (False, False)
    brought(slide)
    slide.check()


def test_a_table_that_somebody_else_wrote_since_is_not_taken_for_true(slide: Slide) -> None:
    plane = (0,) * (slide.labels.ndim - 2)
    old = slide.table.read_bytes()
    slide.put_back(edit, plane)
    brought(slide)
    assert state_of(slide.zarr).is_true
    slide.table.write_bytes(old)  # such as from a backup
    assert state_of(slide.zarr).behind == (1,)
    brought(slide)
    slide.check()


def test_a_part_that_is_put_back_meanwhile_leaves_the_table_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    made: list[TableState] = []

    def put_back_then(*details: Any) -> TableState:
        made.append(TableState(*details))
        if len(made) == 1:  # once it is known what is to be measured
            slide.put_back(lambda part: part.__setitem__(np.s_[70:74, 70:74], N_CELLS + 2))
        return made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(zarr_table, "TableState", put_back_then)
        brought(slide)
    assert made[0].behind == (1,)
    assert state_of(slide.zarr).behind == (2,)
    brought(slide)
    slide.check()
    assert state_of(slide.zarr).is_true


def test_a_version_that_is_being_written_is_not_taken_for_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    old = np.asarray(label_levels(slide.zarr, "cells")[0])
    slide.put_back(lambda part: part.__setitem__(np.s_[70:74, 70:74], N_CELLS + 2))
    array: Any = zarr.open_array(slide.zarr / "labels/cells/0", mode="r+")
    array[:] = old  # its file is there, its pixels are not yet
    (slide.zarr / "labels/cells/versions/000002.done").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(LabelVersions, "settle", lambda versions: False)  # it came after that
        brought(slide)
    assert state_of(slide.zarr).behind == (2,)
    brought(slide)
    slide.check()


def test_who_is_stopped_leaves_the_table(tmp_path: Path) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    old = slide.table.read_bytes()
    steps = bring_up_to_date(slide.zarr)
    while next(steps) < 0.5:
        pass
    steps.close()
    assert slide.table.read_bytes() == old
    assert state_of(slide.zarr).behind == (1,)
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []


@pytest.mark.parametrize("is_row", [False, True])
def test_a_line_that_is_no_row_is_said_and_stays(tmp_path: Path, is_row: bool) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    old = slide.table.read_bytes()
    old += b"x" + old.splitlines(keepends=True)[-1] if is_row else b"\n"
    slide.table.write_bytes(old)
    with pytest.raises(UserError, match=r"slide_cells\.csv is no table of cells any more"):
        brought(slide)
    assert slide.table.read_bytes() == old


def test_where_nothing_can_be_noted_nothing_is_measured(tmp_path: Path) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    old = slide.table.read_bytes()
    (slide.zarr / "labels/cells/versions/table.json").mkdir()
    with pytest.raises(UserError, match=r"table\.json"):
        brought(slide)
    assert slide.table.read_bytes() == old
    slide.table.unlink()
    with pytest.raises(UserError, match=r"table\.json"):
        brought(slide)
    assert not slide.table.exists()


def test_beside_labels_that_cannot_be_written_all_cells_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Slide(tmp_path)
    slide.table.unlink()

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        brought(slide)
    slide.check()
    assert state_of(slide.zarr).is_true


def test_without_the_image_intensities_are_empty_and_that_is_said(tmp_path: Path) -> None:
    slide = Slide(tmp_path)
    slide.put_back(edit)
    slide.image.unlink()
    made = brought(slide)
    assert "slide.tif, the image of the cells, is not there any more" in made.problem
    *_, pages = [*run(TablePages.open(slide.table))]
    *_, means = [*run(pages.column("intensity_mean"))]
    assert np.count_nonzero(np.isnan(means)) == made.n_measured > 0
    *_, areas = [*run(pages.column("area_pixels"))]
    assert sorted(areas) == sorted(slide.measured.columns["area_pixels"])
