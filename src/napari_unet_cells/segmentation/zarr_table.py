"""The tables beside an OME-Zarr, kept true to labels of which parts are put back.

::

    slide_cells.csv                        a row a cell
    slide_cells.parquet                    the same, where a run wrote it
    slide_cells.ome.zarr/labels/cells/versions/
        000001.npz 000002.npz              parts that were put back, see `files.label_versions`
        table.json table-parquet.json      up to which of them a table was brought, and its stamp
        table-as-segmented.csv             the table as the run wrote it

Cells that a version changed are measured again, in the labels and the image as they are now, and
where they are: in what their row covered, and in what versions changed of them since. Where there
is no table, or versions are gone, all cells are.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.generators import result_of, translated
from napari_unet_cells.core.measure import Table
from napari_unet_cells.files import write_json, write_together
from napari_unet_cells.files.atomic import atomic_write
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.table_pages import TablePages, stamp_of
from napari_unet_cells.files.tables import as_text, csv_of_parquet, is_table, write_parquet_like
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.zarr_cells import ZarrCells, boxes_in, joined, windows_of
from napari_unet_cells.segmentation.zarr_place import table_beside
from napari_unet_cells.untrusted.json_text import read_json
from napari_unet_cells.untrusted.rules import Malformed
from napari_unet_cells.untrusted.table_note import TableNote, parse_table_note

#: Rows that are copied at once.
_ROWS = 5_000

#: A row by its plane and id.
_Key = tuple[int, ...]

#: Boxes of cells by their plane, see `zarr_cells.boxes_in`.
_Found = dict[tuple[int, ...], list[NDArray[np.int64]]]


@dataclass(frozen=True)
class TableState:
    """State of a table: which of the labels that it lies beside it does not hold yet.

    Attributes
    ----------
    path : Path
    is_there : bool
    behind : tuple of int
        Versions that were made since it was written.
    is_known : bool
        All of these are there; else nobody knows which cells they changed.
    """

    path: Path
    is_there: bool
    behind: tuple[int, ...] = ()
    is_known: bool = True

    @property
    def is_true(self) -> bool:
        """Whether it has a row for each cell as it is."""
        return self.is_there and not self.behind

    def problem(self) -> str:
        """Say why it is not true; empty where it is."""
        if not self.is_there:
            return f"There is no table {self.path.name} beside the result."
        n = len(self.behind)
        if not n:
            return ""
        # a version does not say whether a part was put back or a cell was deleted
        times = "" if n == 1 else f" {n:,} times"
        return f"Out of date: cells were changed{times} since this table was written."


@dataclass(frozen=True)
class Brought:
    """A table is true again.

    Attributes
    ----------
    path : Path
    n_measured, n_gone : int
        Cells that were measured, and rows of cells that are gone.
    problem : str
        Why intensities were left empty; else empty.
    """

    path: Path
    n_measured: int
    n_gone: int
    problem: str = ""

    def describe(self) -> str:
        """Say what was done."""
        cells = "1 cell" if self.n_measured == 1 else f"{self.n_measured:,} cells"
        said = f"Up to date: {cells} measured"
        if self.n_gone:
            said += f", {self.n_gone:,} gone"
        return f"{said}. {self.problem}".strip()


def state_of(folder: Path) -> TableState:
    """Find out what the table beside an OME-Zarr holds.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    """
    return _state(LabelVersions(folder), None)


def _state(versions: LabelVersions, last: int | None, path: Path | None = None) -> TableState:
    """Find out what a table holds of the versions up to `last`; of all without it."""
    path = path or table_beside(versions.folder)
    if not path.is_file():
        return TableState(path, False)
    note = _note_of(versions.folder, path)
    known = note.version if note is not None and note.stamp == stamp_of(path) else 0
    behind = tuple(range(known + 1, (versions.last if last is None else last) + 1))
    return TableState(path, True, behind, set(behind) <= set(versions.numbers))


def _written(versions: LabelVersions) -> int:
    """Give the last version that, with all before it, is in the labels.

    One is there before its pixels are: what is measured meanwhile may be as it was before it.
    """
    last = versions.last  # first, as a version may come at any time
    left = [
        one for one in versions.numbers if not versions.file_of(one).with_suffix(".done").exists()
    ]
    return min([last, *(number - 1 for number in left)])


@dataclass(frozen=True)
class Bringing:
    """Tables beside an OME-Zarr that are to be made true.

    Attributes
    ----------
    versions : LabelVersions
    last : int
        The last version that the labels hold.
    csv : TableState
    parquet : TableState or None
        None where there is none.
    """

    versions: LabelVersions
    last: int
    csv: TableState
    parquet: TableState | None = None

    @classmethod
    def of(cls, folder: Path) -> Bringing:
        """Look at the tables beside an OME-Zarr; what was put back is written into it before.

        Raises
        ------
        UserError
            Where the labels cannot be read or written.
        """
        versions = LabelVersions(folder)
        versions.settle()
        last = _written(versions)
        csv = _state(versions, last)
        path = csv.path.with_suffix(".parquet")
        parquet = _state(versions, last, path) if is_table(path) else None
        return cls(versions, last, csv, parquet)

    @property
    def states(self) -> tuple[TableState, ...]:
        """States of the tables, the CSV first: also where it has to be made."""
        return (self.csv,) if self.parquet is None else (self.csv, self.parquet)

    @property
    def are_true(self) -> bool:
        """Whether there is nothing to do."""
        return all(state.is_true for state in self.states)

    def write(self, paths: Mapping[Path, Path]) -> Generator[float, None, Brought]:
        """Write the tables as they have to be, each into a file of its own.

        Parameters
        ----------
        paths : mapping of Path to Path
            Where each of the tables is written to.

        Yields
        ------
        float
            The part that is done, 0 to 1.

        Raises
        ------
        UserError
            Where something cannot be read or written.
        """
        folder = self.versions.folder
        cells = ZarrCells.open(folder)
        for state in self.states if self.last else ():
            # as it is, to be refused before time is spent; without any it is one of no table
            note = _note_of(folder, state.path) or TableNote(0, (0, 0))
            _write_note(folder, state.path, note)
        for state in self.states if self.last else ():  # without versions it is that of the run
            if state.is_there:
                _keep_original(state.path, folder)
        target = paths[self.csv.path]
        base = self.csv if self.csv.is_there or self.parquet is None else self.parquet
        if base.is_there and base.is_known:
            with _as_csv(base.path, target) as source:
                brought = yield from _changed_measured(
                    cells, self.versions, base.behind, source, target
                )
        else:
            brought = yield from _all_measured(cells, target)
        if self.parquet is not None:
            like = self.parquet.path
            write_parquet_like(paths[like], rows_of(target, cells.pixel_size), like)
        return Brought(self.csv.path, brought.n_measured, brought.n_gone, brought.problem)

    def note(self) -> None:
        """Note up to which version the tables were brought, once they have their names."""
        if self.last:  # without versions there is nothing to note
            note_tables(self.versions.folder, self.last)


def note_tables(folder: Path, version: int) -> None:
    """Note that the tables beside an OME-Zarr hold all cells as they are in a version."""
    csv = table_beside(folder)
    for path in (csv, csv.with_suffix(".parquet")):
        if path.is_file():
            _write_note(folder, path, TableNote(version, stamp_of(path)))


def bring_up_to_date(folder: Path) -> Generator[float, None, Brought]:
    """Make the tables beside an OME-Zarr true; the CSV is written where it is not there.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.

    Yields
    ------
    float
        The part that is done, 0 to 1. A generator that is closed leaves the tables as they were.

    Raises
    ------
    UserError
        Where something cannot be read or written; the tables are as they were.
    """
    bringing = Bringing.of(folder)
    if bringing.are_true:
        return Brought(bringing.csv.path, 0, 0)
    with _appearing([state.path for state in bringing.states]) as paths:
        brought = yield from bringing.write(paths)
    bringing.note()
    return brought


@contextmanager
def _appearing(targets: Sequence[Path]) -> Iterator[Mapping[Path, Path]]:
    """Let files appear once they are whole: several all at once, or none of them."""
    if len(targets) == 1:
        with atomic_write(targets[0], overwrite=True) as temporary:
            yield {targets[0]: temporary}
        return
    with write_together(targets, overwrite=True) as hidden:
        yield {target: hidden / target.name for target in targets}


@contextmanager
def _as_csv(table: Path, beside: Path) -> Iterator[Path]:
    """Give a table as CSV: one in Parquet is written as such for the time being."""
    if table.suffix == ".csv":
        yield table
        return
    copy = beside.with_name(f"{beside.name}.old")
    try:
        csv_of_parquet(table, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _versions_folder(folder: Path) -> Path:
    return folder / "labels" / CELLS / "versions"


def _note_file(folder: Path, table: Path) -> Path:
    kind = "" if table.suffix == ".csv" else table.suffix.replace(".", "-")
    return _versions_folder(folder) / f"table{kind}.json"


def _write_note(folder: Path, table: Path, note: TableNote) -> None:
    write_json(_note_file(folder, table), note.document(), overwrite=True)


def _note_of(folder: Path, table: Path) -> TableNote | None:
    try:
        return parse_table_note(read_json(_note_file(folder, table)))
    except (OSError, Malformed):
        return None  # all versions count as not known to the table, which does no harm


def _keep_original(path: Path, folder: Path) -> None:
    """Keep the table of the run, once."""
    kept = _versions_folder(folder) / f"table-as-segmented{path.suffix}"
    if kept.exists():
        return
    try:
        os.link(path, kept)  # the table is replaced as a whole, so this one stays what it is
    except OSError:  # a disk without such links
        with atomic_write(kept, overwrite=True) as temporary:
            shutil.copyfile(path, temporary)


# --- what was put back ----------------------------------------------------------------------


def _changed_measured(
    cells: ZarrCells,
    versions: LabelVersions,
    behind: Sequence[int],
    source: Path,
    target: Path,
) -> Generator[float, None, Brought]:
    """Measure the cells that versions changed, and write a table with their rows replaced."""
    pages = yield from _opened(source)
    found = _changed(versions, behind)
    # None stands for a cell that is gone
    lines: dict[_Key, bytes | None] = {
        (*plane, label): None
        for plane, parts in found.items()
        for label in joined(parts)[0].tolist()
    }
    yield from _with_old_boxes(pages, cells, lines.keys(), found)
    windows = [
        (plane, *window) for plane, parts in found.items() for window in windows_of(*joined(parts))
    ]
    for done, (plane, window, ids) in enumerate(windows):
        lines |= dict(_lines(cells.measured(plane, window, ids), pages.names))
        yield 0.2 + 0.3 * (done + 1) / len(windows)
    n_gone = yield from _rewritten(pages, lines, target)
    n_measured = sum(line is not None for line in lines.values())
    return Brought(target, n_measured, n_gone, cells.problem if n_measured else "")


def _changed(versions: LabelVersions, behind: Sequence[int]) -> _Found:
    """Find which cells versions changed, and where: by plane, see `boxes_in`."""
    found: _Found = {}
    for number in behind:
        version = versions.version(number)
        differs = version.before != version.after
        parts = found.setdefault(version.plane, [])
        for labels in (version.before, version.after):
            parts.append(boxes_in(np.where(differs, labels, 0), version.box))
    return found


def _with_old_boxes(
    pages: TablePages, cells: ZarrCells, keys: Collection[_Key], found: _Found
) -> Generator[float, None, None]:
    """Add what the rows of cells cover: a cell may have another piece outside of what changed."""
    n, names = len(pages), [f"bbox_{axis}_{end}" for axis in "yx" for end in ("min", "max")]
    steps = np.repeat(cells.pixel_size, 2)
    limits = np.repeat(cells.finest.shape[-2:], 2)
    for start in range(0, n, _ROWS):
        stop = min(n, start + _ROWS)
        lines = enumerate(pages.text(slice(start, stop)), start)
        rows = [row for row, line in lines if pages.key(line) in keys]
        if rows:
            table = pages.page(np.array(rows, np.intp)).columns
            planes = [table[name] for name in (*pages.stack, "label")]
            sides = np.stack([table[name] for name in names], axis=1) / steps
            boxes = np.clip(np.rint(sides).astype(np.int64), 0, limits)
            for (*plane, label), box in zip(zip(*planes, strict=True), boxes, strict=True):
                found[tuple(map(int, plane))].append(np.array([[label, *box]], np.int64))
        yield 0.2 * stop / n


def _opened(path: Path) -> Generator[float, None, TablePages]:
    return (yield from translated(TablePages.open(path), lambda _: 0.0))


def rows_of(path: Path, pixel_size: tuple[float, float]) -> Iterator[Table]:
    """Read a table, some rows at a time; without any, one that is empty."""
    pages = opened_at_once(path)
    for start in range(0, max(1, len(pages)), _ROWS):
        yield pages.page(np.arange(start, min(len(pages), start + _ROWS)), pixel_size)


def opened_at_once(path: Path) -> TablePages:
    """Find the rows of a table; see `TablePages.open`."""
    return result_of(TablePages.open(path))


def _lines(table: Table, names: Sequence[str]) -> Iterator[tuple[_Key, bytes]]:
    """Give rows as they stand in a table with these columns; what it has not is left empty."""
    n = len(table)
    columns = [
        as_text(table.columns[name]) if name in table.columns else [""] * n for name in names
    ]
    keys = zip(*(table.columns[name].tolist() for name in (*table.stack, "label")), strict=True)
    for key, row in zip(keys, zip(*columns, strict=True), strict=True):
        yield key, ",".join([*row, table.unit]).encode()


def _header(names: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([*names, "unit"])
    return text.getvalue().encode()


def _rewritten(
    pages: TablePages, lines: dict[_Key, bytes | None], target: Path
) -> Generator[float, None, int]:
    """Write a table again with other rows of some cells; new ones come last.

    Returns
    -------
    int
        Rows of cells that are gone.
    """
    n, n_gone, left = len(pages), 0, dict(lines)
    with open(target, "wb") as file:
        file.write(_header(pages.names))
        for start in range(0, n, _ROWS):
            for line in pages.text(slice(start, min(n, start + _ROWS))):
                key = pages.key(line)
                row = left.pop(key, None) if key in lines else line
                if row is None:
                    n_gone += 1
                else:
                    file.write(row + b"\n")
            yield 0.5 + 0.5 * min(n, start + _ROWS) / n
        file.writelines(row + b"\n" for _, row in sorted(left.items()) if row is not None)
    return n_gone


# --- all cells ------------------------------------------------------------------------------


def _all_measured(cells: ZarrCells, path: Path) -> Generator[float, None, Brought]:
    n, names = 0, None
    with open(path, "wb") as file, closing(cells.all()) as steps:
        for done, table in steps:
            if table is not None:
                if names is None:
                    names = tuple(table.columns)
                    file.write(_header(names))
                file.writelines(row + b"\n" for _, row in _lines(table, names))
                n += len(table)
            yield done
    return Brought(path, n, 0, cells.problem)
