"""Tables as CSV, for Excel, R and pandas."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table
from napari_unet_cells.files.atomic import PathLike, atomic_write, with_ending

#: Significant digits of a number that is not whole.
DIGITS = 12


def table_path(path: PathLike) -> Path:
    """Give the file that `write_table` writes: ``.csv`` is appended where it is missing."""
    return with_ending(path, frozenset({".csv"}), ".csv")


def write_table(path: PathLike, table: Table, overwrite: bool = False) -> Path:
    """Write a table of cells as CSV, atomically.

    The first line names the columns as `measure.Table` does, whatever the unit, so that one
    script reads all tables; the unit of length stands in the last column, ``unit``. Commas
    between the fields, points in the numbers, UTF-8; what is no number (NaN) is left empty.

    Parameters
    ----------
    path : str or os.PathLike
        The target; ``.csv`` is appended where it is missing.
    table : Table
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file as written, with its ending.

    Raises
    ------
    FileExists
        If the file exists and `overwrite` is False. Nothing is changed.
    UserError
        If it cannot be written; an older file stays whole.
    """
    target = table_path(path)
    columns = [_as_text(column) for column in table.columns.values()]
    unit = [table.unit] * len(table)
    with (
        atomic_write(target, overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.columns, "unit"])
        writer.writerows(zip(*columns, unit, strict=True))
    return target


def _as_text(column: NDArray[Any]) -> list[str]:
    if column.dtype.kind != "f":
        return [str(value) for value in column.tolist()]
    return ["" if np.isnan(value) else f"{value:.{DIGITS}g}" for value in column.tolist()]
