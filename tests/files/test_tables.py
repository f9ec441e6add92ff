"""Tables as CSV: what other programs read is what was measured."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from napari_unet_cells.core.measure import measure
from napari_unet_cells.errors import UserError
from napari_unet_cells.files import FileExists, write_table


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
