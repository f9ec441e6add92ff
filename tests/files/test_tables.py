"""Tables as CSV: what other programs read is what was measured."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_unet_cells.core.measure import measure
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, write_table
from napari_unet_cells.files.tables import (
    TABLES,
    TablePart,
    check_table_kind,
    join_tables,
    write_parquet,
    write_tables,
)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (20, 30)) * 40_000
    image = rng.random((20, 30)) * 1e6
    image[labels == 80_000] = np.nan
    channels = {'µ, "quoted"': image, "whole": (image > 5e5).astype(np.uint64) * (2**64 - 1)}
    return measure(labels, channels, (0.1, 0.1), "micrometer")


def test_all_columns_come_back_with_their_digits(tmp_path, table):
    path = write_table(tmp_path / "cells", table)
    assert path == tmp_path / "cells.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*table.columns, "unit"]
    assert len(rows) == len(table) == 3
    for name, column in table.columns.items():
        read = [float(row[name]) if row[name] else np.nan for row in rows]
        np.testing.assert_allclose(read, column.astype(float), rtol=1e-11, err_msg=name)
    assert {row["unit"] for row in rows} == {"micrometer"}
    assert rows[1]["label"] == "80000"
    assert rows[1]['intensity_mean_µ,_"quoted"'] == ""  # no number
    assert rows[0]["intensity_max_whole"] == str(2**64 - 1)


def test_pandas_reads_it(tmp_path, table):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(write_table(tmp_path / "cells.v2", table))
    assert frame["area"].dtype == float
    np.testing.assert_allclose(frame["area"], table.columns["area"])
    assert frame['intensity_mean_µ,_"quoted"'].isna().tolist() == [False, True, False]


def test_endings_are_appended_not_replaced(tmp_path, table):
    assert write_table(tmp_path / "cells.v2", table).name == "cells.v2.csv"
    assert write_table(tmp_path / "CELLS.CSV", table).name == "CELLS.CSV"


def test_a_table_without_rows_has_its_header(tmp_path):
    path = write_table(tmp_path / "none", measure(np.zeros((3, 3), int)))
    (line,) = path.read_text().splitlines()
    assert line.startswith("label,area,area_pixels,centroid_y,centroid_x,bbox_y_min")
    assert line.endswith(",solidity,unit")


def test_nothing_is_replaced_unasked(tmp_path, table):
    path = write_table(tmp_path / "cells.csv", table)
    path.write_text("mine")
    with pytest.raises(FileExists, match=r"cells\.csv exists already"):
        write_table(tmp_path / "cells", table)
    assert path.read_text() == "mine"
    write_table(tmp_path / "cells", table, overwrite=True)
    assert path.read_text().startswith("label,")
    assert [file.name for file in tmp_path.iterdir()] == ["cells.csv"]


def test_a_missing_folder_is_said_in_a_sentence(tmp_path, table):
    with pytest.raises(UserError, match="there is no folder"):
        write_table(tmp_path / "nowhere" / "cells.csv", table)


# --- Parquet, and many tables in one ------------------------------------------------------


def test_parquet_keeps_types(tmp_path, table):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_parquet(tmp_path / "cells", table)
    assert path == tmp_path / "cells.parquet"
    read = parquet.read_table(path).to_pydict()
    assert list(read) == [*table.columns, "unit"]
    assert read["label"] == table.columns["label"].tolist()
    np.testing.assert_array_equal(read["area"], table.columns["area"])
    assert set(read["unit"]) == {"micrometer"}
    with pytest.raises(FileExists):
        write_parquet(path, table)


def test_without_pyarrow_a_sentence_says_so(monkeypatch, tmp_path, table):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_table_kind("csv")
    with pytest.raises(UserError, match=r"need the library pyarrow.*--table csv"):
        check_table_kind("parquet")
    with pytest.raises(UserError, match="A table is csv or parquet, not 'xlsx'"):
        check_table_kind("xlsx")


@pytest.fixture
def parts(tmp_path):
    """Write tables of one and of two channels, of both kinds, one of them without rows."""
    labels = np.zeros((2, 9, 9), np.uint8)
    labels[:, 1:3, 1:3], labels[0, 5:8, 5:8] = 1, 2
    image = labels[0] * 10.0

    def make(kind):
        pytest.importorskip("pyarrow") if kind == "parquet" else None
        tables = {
            "one": measure(labels[0], image),
            "none": measure(labels[0] * 0, image),
            "two": measure(labels[1], {"a": image, "b": image}, (0.5, 0.5), "micrometer"),
        }
        found = []
        for name, table in tables.items():
            path = TABLES[kind](tmp_path / f"{name}.{kind}", table)
            more = {"well": "B2"} if name == "two" else {}
            found.append(TablePart(path, {"image": f"{name}, \u00b5", **more}))
        return found

    return make


def test_tables_are_joined_below_each_other(tmp_path, parts):
    path = tmp_path / "all.csv"
    assert join_tables(path, parts("csv")) == {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["one, \u00b5", "one, \u00b5", "two, \u00b5"]
    assert [row["well"] for row in rows] == ["", "", "B2"]
    assert [row["label"] for row in rows] == ["1", "2", "1"]
    assert [row["intensity_mean"] for row in rows] == ["10", "20", ""]
    assert [row["intensity_mean_b"] for row in rows] == ["", "", "10"]
    assert [row["unit"] for row in rows] == ["pixel", "pixel", "micrometer"]


def test_parquet_is_joined_with_its_types(tmp_path, parts):
    found = parts("parquet")
    path = tmp_path / "all.parquet"
    assert join_tables(path, found) == {}
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(path).to_pydict()
    assert read["image"] == ["one, \u00b5", "one, \u00b5", "two, \u00b5"]
    assert read["well"] == [None, None, "B2"]
    assert read["label"] == [1, 2, 1]
    assert read["intensity_mean"] == [10.0, 20.0, None]
    assert read["intensity_mean_b"] == [None, None, 10.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("label,area\n1,2,3\n", "a row has 3 fields, and the header 2"),
        ("label;area\n1;2,5\n", "no columns 'label' and 'area'"),
        ("", "does not exist"),
    ],
)
def test_a_damaged_table_is_left_out_and_said(tmp_path, parts, content, said):
    found = parts("csv")
    if content:
        found[0].path.write_text(content)
    else:
        found[0].path.unlink()
    problems = join_tables(tmp_path / "all.csv", found)
    assert list(problems) == [found[0].path]
    assert said in problems[found[0].path]
    assert (tmp_path / "all.csv").read_text().count("\n") == 2


def test_what_a_spreadsheet_adds_does_no_harm(tmp_path, parts):
    """A mark at the beginning and empty lines at the end."""
    found = parts("csv")
    text = found[0].path.read_text(encoding="utf-8")
    found[0].path.write_text(f"\ufeff{text}\n\n", encoding="utf-8")
    assert join_tables(tmp_path / "all.csv", found) == {}
    rows = (tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith('"one, \u00b5",,1,')


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=HYPERLINK(A1)", "./=HYPERLINK(A1)"),
        ("+1+cmd|' /C calc'!A0", "./+1+cmd|' /C calc'!A0"),
        ("-dilution 2", "./-dilution 2"),
        ("@SUM(1)", "./@SUM(1)"),
        ("\uff1d1+1", "./\uff1d1+1"),
        ("-12.5", "-12.5"),
        ("day=1/a-b", "day=1/a-b"),
    ],
)
def test_no_name_is_a_formula_of_a_spreadsheet(tmp_path, parts, kind, name, written):
    found = [replace(part, values={"image": name}) for part in parts(kind)]
    assert join_tables(tmp_path / f"all.{kind}", found) == {}
    if kind == "csv":
        with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
            assert {row["image"] for row in csv.DictReader(file)} == {written}
    else:  # its columns are texts by their type
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(tmp_path / "all.parquet")["image"].to_pylist()
        assert set(read) == {name}
    assert tmp_path / written == tmp_path / name


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_that_are_no_utf_8_are_written(tmp_path, parts, kind):
    found = [replace(part, values={"image": "caf\udce9"}) for part in parts(kind)]
    assert join_tables(tmp_path / f"all.{kind}", found) == {}
    if kind == "csv":
        assert "caf\\udce9,1," in (tmp_path / "all.csv").read_text()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_parts_are_written_as_they_come(tmp_path, table, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    halves = [
        replace(table, columns={name: column[part] for name, column in table.columns.items()})
        for part in (slice(0, 2), slice(2, None))
    ]
    one = TABLES[kind](tmp_path / f"one.{kind}", table)
    many = write_tables(tmp_path / f"many.{kind}", iter(halves))
    if kind == "csv":
        assert many.read_bytes() == one.read_bytes()
    else:
        import pyarrow.parquet

        read = [pyarrow.parquet.read_table(path).to_pandas() for path in (one, many)]
        assert read[0].equals(read[1])  # pandas takes NaN for the same as NaN
