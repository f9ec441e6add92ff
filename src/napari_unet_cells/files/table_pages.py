"""A table of cells of any length in a CSV, of which the rows that are asked for are read.

::

    label,area,...,unit          header
    1,52.5,...,micrometer        the byte at which each row begins is kept: 8 bytes a cell
    2,61,...,micrometer    <---- a page is read from its place; a column to sort by, once

Only tables as `files.tables` writes them are read: numbers and one word, without quotes.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.measure import Table
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.failures import read_failure

#: Bytes that are searched for the ends of rows at once.
_CHUNK = 2**22

#: Rows that are taken apart at once: other threads come to their turn in between.
_ROWS = 5_000

#: The column behind the numbers.
_UNIT = "unit"


@dataclass(frozen=True, eq=False)
class TablePages:
    """Rows of a table on the disk.

    Attributes
    ----------
    path : Path
    names : tuple of str
        Of the columns, but for the unit.
    begins : int64 array, (rows + 1,)
        Byte at which each row begins; the last is the end of the file.
    unit : str
        Of length; "pixel" where there are no rows.
    stamp : (int, int)
        Size and time of change of the file when it was opened.
    """

    path: Path
    names: tuple[str, ...]
    begins: NDArray[np.int64]
    unit: str
    stamp: tuple[int, int]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.begins) - 1

    @property
    def stack(self) -> tuple[str, ...]:
        """Columns that say the plane, see `measure.Table`: those between label and area."""
        return self.names[1 : self.names.index("area")]

    @classmethod
    def open(cls, path: Path) -> Generator[float, None, TablePages]:
        """Find the rows of a table.

        Yields
        ------
        float
            The part that is done, 0 to 1.

        Raises
        ------
        UserError
            Where it cannot be read, or is no table of cells.
        """
        try:
            stamp = stamp_of(path)
            with open(path, "rb") as file:
                header = file.readline()
                names = _names(path, header)
                parts = [np.array([len(header)], np.int64)]
                at = len(header)
                while chunk := file.read(_CHUNK):
                    found = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
                    parts.append(found + (at + 1))
                    at += len(chunk)
                    yield at / max(1, stamp[0])
        except OSError as error:
            raise read_failure(path, error) from error
        begins = np.concatenate(parts)
        if begins[-1] < at:  # the last row has no end of line
            begins = np.append(begins, at)
        pages = cls(path, names, begins, "pixel", stamp)
        if not len(pages):
            return pages
        return cls(path, names, begins, pages.page(np.zeros(1, np.intp)).unit, stamp)

    def page(self, rows: NDArray[np.intp], pixel_size: tuple[float, float] = (1.0, 1.0)) -> Table:
        """Read some rows, in the order in which they are asked for.

        Parameters
        ----------
        rows : integer array, (n,)
        pixel_size : (float, float)
            Of the table.

        Raises
        ------
        UserError
            Where it cannot be read, or was changed since it was opened.
        """
        fields = [self._fields(line) for line in self._lines(rows)]
        columns = {
            name: _numbers(self.path, [row[at] for row in fields])
            for at, name in enumerate(self.names)
        }
        unit = fields[0][-1].decode() if fields else self.unit
        return Table(columns, pixel_size, unit, self.stack)

    def column(self, name: str) -> Generator[float, None, NDArray[np.float64]]:
        """Read one column of all rows, NaN where it is empty; see `open` for what is yielded."""
        at, n = self.names.index(name), len(self)
        values = np.empty(n)
        for start in range(0, n, _ROWS):
            rows = slice(start, min(n, start + _ROWS))
            fields = [self._fields(line)[at] for line in self.text(rows)]
            values[rows] = _numbers(self.path, fields)
            yield rows.stop / n
        return values

    def text(self, rows: slice) -> list[bytes]:
        """Read rows that follow each other, as they stand in the file."""
        first, last = int(self.begins[rows.start]), int(self.begins[rows.stop])
        with self._opened() as file:
            file.seek(first)
            return [line.rstrip(b"\r\n") for line in file.read(last - first).splitlines()]

    def key(self, line: bytes) -> tuple[int, ...]:
        """Give the plane and the label of a row as it stands in the file.

        Raises
        ------
        UserError
            Where it is no row of this table.
        """
        label, *plane = self._fields(line)[: len(self.stack) + 1]
        try:
            return (*map(int, plane), int(label))
        except ValueError as error:
            raise _no_table(self.path, "a label is no whole number") from error

    def _lines(self, rows: NDArray[np.intp]) -> Iterator[bytes]:
        with self._opened() as file:
            for row in rows.tolist():
                file.seek(int(self.begins[row]))
                yield file.read(int(self.begins[row + 1] - self.begins[row])).rstrip(b"\r\n")

    def _opened(self) -> Any:
        try:
            if stamp_of(self.path) != self.stamp:
                raise UserError(
                    f"{self.path.name} was changed by another program. Open the table again."
                )
            return open(self.path, "rb")
        except OSError as error:
            raise read_failure(self.path, error) from error

    def _fields(self, line: bytes) -> list[bytes]:
        fields = line.split(b",")
        if len(fields) != len(self.names) + 1:
            raise _no_table(self.path, f"a row has {len(fields)} fields")
        return fields


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _names(path: Path, header: bytes) -> tuple[str, ...]:
    try:
        (names,) = csv.reader([header.decode("utf-8-sig").rstrip("\r\n")])
    except (ValueError, csv.Error) as error:
        raise _no_table(path, "its first line names no columns") from error
    if names[:1] != ["label"] or names[-1:] != [_UNIT] or "area" not in names:
        raise _no_table(path, "its first line does not begin with 'label' and end with 'unit'")
    return tuple(names[:-1])


def _numbers(path: Path, fields: list[bytes]) -> NDArray[Any]:
    """Give fields as whole numbers where all are, else as floats."""
    try:
        return np.array([int(field) for field in fields], np.int64)
    except ValueError:
        pass
    try:
        return np.array([float(field) if field else np.nan for field in fields])
    except ValueError as error:
        raise _no_table(path, "a field is no number") from error


def _no_table(path: Path, why: str) -> UserError:
    return UserError(
        f"{path.name} is no table of cells any more ({why}): another program may have changed it. "
        "Give it another name, and measure the cells again."
    )
