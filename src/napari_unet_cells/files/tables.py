"""Tables as CSV, for Excel, R and pandas, or as Parquet, which needs the library pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.atomic import PathLike, atomic_write, with_ending
from napari_unet_cells.files.failures import read_failure
from napari_unet_cells.files.file_set import write_together

#: Significant digits of a number that is not whole.
DIGITS = 12

#: With these a formula begins in Excel or LibreOffice, the wide ones where a keyboard has them.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


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
    columns = [as_text(column) for column in table.columns.values()]
    unit = [table.unit] * len(table)
    with (
        atomic_write(target, overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*table.columns, "unit"])
        writer.writerows(zip(*columns, unit, strict=True))
    return target


def as_text(column: NDArray[Any]) -> list[str]:
    """Give the fields of a column as a CSV holds them; what is no number is empty."""
    if column.dtype.kind != "f":
        return [str(value) for value in column.tolist()]
    return ["" if np.isnan(value) else f"{value:.{DIGITS}g}" for value in column.tolist()]


def write_parquet(path: PathLike, table: Table, overwrite: bool = False) -> Path:
    """Write a table of cells as Parquet, atomically: the columns of `write_table`, with types.

    Arguments and errors as those of `write_table`; without pyarrow a `UserError` says so.
    """
    arrow, parquet = _arrow()
    target = with_ending(path, frozenset({".parquet"}), ".parquet")
    with atomic_write(target, overwrite) as temporary:
        parquet.write_table(_arrow_table(arrow, table), temporary)
    return target


def write_tables(path: Path, tables: Iterable[Table]) -> Path:
    """Write tables with the same columns below each other, atomically; an older file is replaced.

    One of them is in memory at a time.

    Parameters
    ----------
    path : Path
        Ends in ``.csv`` or ``.parquet``.
    tables : iterable of Table
        At least one.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    with tables_written(path, tables):
        return path


@contextmanager
def tables_written(path: Path, tables: Iterable[Table]) -> Iterator[None]:
    """Write tables as `write_tables` does, to appear when the block ends; not where it raises.

    Parameters
    ----------
    path : Path
    tables : iterable of Table
    """
    with atomic_write(path, overwrite=True) as temporary:
        (_stream_parquet if path.suffix == ".parquet" else _stream_csv)(temporary, tables)
        yield


def is_table(path: Path, *columns: str) -> bool:
    """Whether a file is a table of cells, as far as its columns tell.

    Parameters
    ----------
    path : Path
        Ends in ``.csv`` or ``.parquet``; it need not be there. Whether a Parquet is one is not
        known without the library pyarrow: then it counts as one.
    *columns : str
        That it has; those of each table of cells by default.
    """
    if not path.is_file():
        return False
    check = _check_parquet if path.suffix == ".parquet" else _check_header
    try:
        check(TablePart(path), columns or _COLUMNS)
    except UserError:
        return path.suffix == ".parquet" and find_spec("pyarrow") is None
    return True


def csv_of_parquet(source: Path, target: Path) -> None:
    """Write a table in Parquet as the CSV that `write_table` makes of it, some rows at a time.

    Raises
    ------
    UserError
        Where it cannot be read or written.
    """
    _, parquet = _arrow()
    file = _of_part(TablePart(source), lambda path: parquet.ParquetFile(path))
    with file, open(target, "w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(file.schema_arrow.names)
        for batch in _batches(source, file):
            columns = [_as_numpy(column) for column in batch.columns]
            writer.writerows(zip(*map(as_text, columns), strict=True))


def _batches(source: Path, file: Any) -> Iterator[Any]:
    """Read rows of a Parquet; what pyarrow says of a damaged one becomes a sentence."""
    steps = file.iter_batches(5_000)
    while (batch := _of_part(TablePart(source), lambda _: next(steps, None))) is not None:
        yield batch


def _as_numpy(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def write_parquet_like(target: Path, tables: Iterable[Table], like: Path) -> None:
    """Write tables below each other as Parquet, with the columns and types of another one.

    Parameters
    ----------
    target : Path
        Written as it is, not atomically.
    tables : iterable of Table
        At least one. A column of the other table that one has not is empty in its rows.
    like : Path
        The other table.

    Raises
    ------
    UserError
        Where the other table cannot be read.
    """
    arrow, parquet = _arrow()
    schema = _of_part(TablePart(like), lambda path: parquet.read_schema(path)).remove_metadata()
    with parquet.ParquetWriter(target, schema) as writer:
        for table in tables:
            part = _arrow_table(arrow, table)
            arrays = [_arrow_column(arrow, part, entry, {}) for entry in schema]
            writer.write_table(arrow.table(arrays, schema=schema))


def _stream_csv(path: Path, tables: Iterable[Table]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, table in enumerate(tables):
            if not number:
                writer.writerow([*table.columns, "unit"])
            columns = [as_text(column) for column in table.columns.values()]
            writer.writerows(zip(*columns, [table.unit] * len(table), strict=True))


def _stream_parquet(path: Path, tables: Iterable[Table]) -> None:
    arrow, parquet = _arrow()
    with ExitStack() as stack:
        writer: Any = None
        for table in tables:
            part = _arrow_table(arrow, table)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, part.schema))
            writer.write_table(part)


def _arrow_table(arrow: Any, table: Table) -> Any:
    columns = {name: arrow.array(column) for name, column in table.columns.items()}
    return arrow.table({**columns, "unit": arrow.array([table.unit] * len(table), arrow.string())})


#: What writes a table, by the ending of its file.
TABLES: Mapping[str, Callable[[Path, Table], Path]] = MappingProxyType(
    {"csv": write_table, "parquet": write_parquet}
)


def check_table_kind(kind: str) -> None:
    """Refuse a kind of table that cannot be written, before time is spent on it.

    Raises
    ------
    UserError
    """
    if kind not in TABLES:
        raise UserError(f"A table is {' or '.join(TABLES)}, not '{kind}'.")
    if kind == "parquet":
        _arrow()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Tables in Parquet need the library pyarrow, which is not installed. Install it "
            "(python -m pip install pyarrow), or choose --table csv."
        ) from error
    return pyarrow, pyarrow.parquet


@dataclass(frozen=True)
class TablePart:
    """Table of one image that becomes a part of a larger one.

    Attributes
    ----------
    path : Path
        Of the file that `write_table` or `write_parquet` wrote.
    values : mapping of str to str
        Columns that say which image it is, the same in every row.
    """

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)


def join_tables(target: Path, parts: Sequence[TablePart]) -> dict[Path, str]:
    """Put the tables of many images below each other, atomically; an older file is replaced.

    A column that a table has not is empty in its rows. In a CSV a name that a spreadsheet would
    compute as a formula begins with ``./``. One table is in memory at a time, of a CSV
    one row. A table that cannot be read is left out.

    Parameters
    ----------
    target : Path
        Its ending, ``.csv`` or ``.parquet``, is that of the parts.
    parts : sequence of TablePart

    Raises
    ------
    UserError
        Where the disk refuses.

    Returns
    -------
    dict of Path to str
        Why tables were left out, by their paths.
    """
    is_parquet = target.suffix == ".parquet"
    problems: dict[Path, str] = {}
    for part in parts:
        try:
            _check_parquet(part) if is_parquet else _check_csv(part)
        except UserError as error:
            problems[part.path] = str(error)
    good = [part for part in parts if part.path not in problems]
    with (
        write_together((target,), overwrite=True) as hidden,  # removes what a killed program left
        atomic_write(hidden / target.name) as temporary,
    ):
        (_join_parquet if is_parquet else _join_csv)(temporary, good)
    return problems


def _check_csv(part: TablePart) -> None:
    """Refuse a table that another program changed into something else."""
    _check_header(part)
    for _ in _rows(part.path):
        pass


#: Columns that each table of cells has.
_COLUMNS = ("label", "area")


def _check_header(part: TablePart, columns: Sequence[str] = _COLUMNS) -> None:
    """Refuse a CSV whose first line is that of no table of cells."""
    for row in _rows(part.path):
        if not set(columns) <= set(row):
            raise damaged_table(part.path, ValueError(f"its first line has {_none_of(columns)}"))
        return


def _check_parquet(part: TablePart, columns: Sequence[str] = _COLUMNS) -> None:
    _, parquet = _arrow()
    if not set(columns) <= set(_of_part(part, lambda path: parquet.read_schema(path)).names):
        raise damaged_table(part.path, ValueError(f"it has {_none_of(columns)}"))


def _none_of(columns: Sequence[str]) -> str:
    return f"no columns {' and '.join(map(repr, columns))}"


def damaged_table(path: Path, error: Exception) -> UserError:
    """Say that a table is none of ours any more."""
    return UserError(
        f"{path.name} cannot be read as a table ({error}): another program may have changed it. "
        "Remove it, and the image is segmented again."
    )


def _plain(text: str) -> str:
    """Make a text fit for a file: a name that is no UTF-8 holds halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _no_formula(text: str) -> str:
    """Put ``./`` before a name that a spreadsheet would compute; as a path it stays the same."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"./{text}"
    return text


def _join_csv(target: Path, parts: Sequence[TablePart]) -> None:
    names: dict[str, None] = {}
    for part in parts:
        for row in _rows(part.path):
            names |= dict.fromkeys(row)
            break
    with open(target, "w", encoding="utf-8", newline="") as file:
        own = dict.fromkeys(name for part in parts for name in part.values)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*own, *names])
        for part in parts:
            values = [_no_formula(_plain(part.values.get(name, ""))) for name in own]
            rows = _rows(part.path)
            header = {name: at for at, name in enumerate(next(rows, []))}
            places = [header.get(name, -1) for name in names]
            for row in rows:
                padded = [*row, ""]  # place -1 is that of a column which is not there
                writer.writerow([*values, *(padded[place] for place in places)])


def _rows(path: Path) -> Iterator[list[str]]:
    """Iterate over the rows of a CSV, its header first; each is as long as the header."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header: list[str] = []
            for row in csv.reader(file):
                if not row:  # an empty line
                    continue
                header = header or row
                if len(row) != len(header):
                    raise ValueError(f"a row has {len(row)} fields, and the header {len(header)}")
                yield row
    except OSError as error:
        raise read_failure(path, error) from error
    except (ValueError, csv.Error) as error:
        raise damaged_table(path, error) from error


def _join_parquet(target: Path, parts: Sequence[TablePart]) -> None:
    arrow, parquet = _arrow()
    own = dict.fromkeys(name for part in parts for name in part.values)
    schemas = [_of_part(part, lambda path: parquet.read_schema(path)) for part in parts]
    named = arrow.schema([(name, arrow.string()) for name in own])
    schema = arrow.unify_schemas(
        [named, *(known.remove_metadata() for known in schemas)], promote_options="permissive"
    )
    with ExitStack() as stack:
        writer = stack.enter_context(parquet.ParquetWriter(target, schema))
        for part in parts:
            table = _of_part(part, lambda path: parquet.read_table(path))
            arrays = [_arrow_column(arrow, table, entry, part.values) for entry in schema]
            writer.write_table(arrow.table(arrays, schema=schema))


def _arrow_column(arrow: Any, table: Any, entry: Any, values: Mapping[str, str]) -> Any:
    if entry.name in values:
        return arrow.array([_plain(values[entry.name])] * table.num_rows, entry.type)
    if entry.name in table.column_names:
        return table[entry.name].cast(entry.type)
    return arrow.nulls(table.num_rows, entry.type)


def _of_part(part: TablePart, read: Callable[[Path], Any]) -> Any:
    try:
        return read(part.path)
    except OSError as error:
        raise read_failure(part.path, error) from error
    except Exception as error:  # pyarrow's own
        raise damaged_table(part.path, error) from error
