"""Parts of a label image of an OME-Zarr that are replaced: each time a version, and all or nothing.

::

    slide_cells.ome.zarr/labels/cells/
        0 1 2 ...                 the labels
        versions/000001.npz       a part, as it was and as it is; it appears whole
                 000001.done      all levels hold it; the largest id that was used until then

Who is killed before the first file appears has changed nothing; who is killed after it has not lost
the part, as the next to open the labels writes it into all levels (`settle`). A later version may
put back what an earlier one has replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.mode import halve_by_mode
from napari_unet_cells.core.resample import Box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.array_file import write_arrays
from napari_unet_cells.files.atomic import atomic_write, sync, write_failure
from napari_unet_cells.files.label_levels import label_levels, largest_id
from napari_unet_cells.files.lock import open_lock, try_lock
from napari_unet_cells.files.synced_store import synced
from napari_unet_cells.files.zarr_metadata import zarr_record, zarr_run
from napari_unet_cells.untrusted.arrays import read_arrays
from napari_unet_cells.untrusted.label_version import Version, parse_version
from napari_unet_cells.untrusted.result_record import parse_record
from napari_unet_cells.untrusted.rules import Malformed

#: Versions that are searched for one of a part whose writing failed, where it is not known when the
#: part was taken.
_LOOKED_AT = 20


@dataclass(frozen=True)
class LabelVersions:
    """Versions of a label image.

    Attributes
    ----------
    folder : Path
        Of the OME-Zarr.
    name : str
        Of the label image.
    """

    folder: Path
    name: str = "cells"

    @property
    def _image(self) -> Path:
        return self.folder / "labels" / self.name

    @property
    def _versions(self) -> Path:
        return self._image / "versions"

    def file_of(self, number: int) -> Path:
        """File of a version."""
        return self._versions / f"{number:06}.npz"

    def _mark(self, number: int) -> Path:
        return self._versions / f"{number:06}.done"

    @property
    def numbers(self) -> list[int]:
        """Numbers of the versions that are there, rising."""
        if not self._versions.is_dir():
            return []
        names = (path.stem for path in self._versions.glob("[0-9]*.npz"))
        return sorted(int(name) for name in names if name.isdecimal())

    def version(self, number: int) -> Version:
        """Read a version.

        Raises
        ------
        UserError
            Where it is damaged, or not of these labels.
        """
        path, finest = self.file_of(number), label_levels(self.folder, self.name)[0]
        try:
            return parse_version(read_arrays(path), finest.shape, finest.dtype)
        except (OSError, Malformed) as error:
            raise UserError(
                f"The version {path} cannot be read: it {error}. The labels are as they were "
                "before it. Remove that file to edit them again."
            ) from error

    def settle(self) -> bool:
        """Write versions into the labels that a program left before it had done so.

        Returns
        -------
        bool
            Whether there were any.

        Raises
        ------
        UserError
        """
        if all(self._mark(number).exists() for number in self.numbers):
            return False
        with self._alone():
            return self._settle()

    def _settle(self) -> bool:
        """Write the first version that is not done, and all after it, which were made upon it."""
        numbers = self.numbers
        left = [number for number in numbers if not self._mark(number).exists()]
        for number in numbers:
            if left and number >= left[0]:
                self._apply(number)
        return bool(left)

    @property
    def run(self) -> str:
        """Run that made the labels, and its date: another one has given its ids to other cells.

        Empty where nothing is said of it.
        """
        try:
            date = parse_record(zarr_record(self._image)).document.get("date", "")
        except Malformed:
            date = ""
        return f"{zarr_run(self.folder)} {date}".strip()

    @property
    def last(self) -> int:
        """Number of the last version, also of one whose file somebody removed; 0 without any."""
        marks = self._versions.glob("[0-9]*.done") if self._versions.is_dir() else ()
        names = [path.stem for path in marks if path.stem.isdecimal()]
        return max([0, *self.numbers, *map(int, names)])

    def n_given(self) -> int:
        """Give a number that no id which the run has given is above.

        That is the number of its cells. Where the labels cannot hold it, they are a stack of an
        earlier version, whose planes are each numbered from 1; that, or an unknown number, has the
        ids read.
        """
        finest = label_levels(self.folder, self.name)[0]
        try:
            n_cells = parse_record(zarr_record(self._image)).document.get("cells")
        except Malformed:
            n_cells = None
        if isinstance(n_cells, int) and n_cells <= np.iinfo(finest.dtype).max:
            return n_cells
        return largest_id(finest)

    def n_used(self, n_cells: int) -> int:
        """Give the largest id that was ever used, of so many that a run has made.

        An id that the labels cannot hold was none: an earlier version counted the cells of all
        planes of a stack as its ids.
        """
        numbers, marked = self.numbers, self._marked(self.last)
        known = [self.version(numbers[-1]).n_used] if numbers else []
        largest = np.iinfo(label_levels(self.folder, self.name)[0].dtype).max
        return max(n_cells, *(one for one in (marked, *known) if one <= largest), 0)

    def _marked(self, number: int) -> int:
        """Read the largest id from the mark of a version; 0 where it says none."""
        try:
            text = self._mark(number).read_bytes()[:20]
        except OSError:
            return 0
        return int(text) if text.isdigit() and len(text) < 19 else 0

    def put_back(
        self, plane: Sequence[int], box: Box, taken: NDArray[Any], since: int | None = None
    ) -> NDArray[Any] | None:
        """Give what a part has become since it was taken, where a version of it was written then.

        What failed after its version was there, or was killed, is on the disk all the same, and so
        is what was put back while its layer was changed: what is edited next goes on from that, and
        what is taken back is taken back there too.

        Parameters
        ----------
        plane : sequence of int
        box : (slice, slice)
        taken : integer array, (y, x)
        since : int, optional
            See `last`, as it was before the part was taken. Where it is not known, a version counts
            only if what it has led to is still on the disk: the same pixels may have been there
            before, and an older version have replaced those.

        Returns
        -------
        integer array, (y, x), or None
            None where there is no such version, or a later one has put back what was taken.

        Raises
        ------
        UserError
            Where a version or the labels cannot be read.
        """
        now, numbers = taken, self.numbers
        looked_at = numbers[-_LOOKED_AT:] if since is None else [n for n in numbers if n > since]
        for number in looked_at:
            version = self.version(number)
            is_of_it = (version.plane, version.box) == (tuple(plane), box)
            if is_of_it and np.array_equal(version.before, now):
                now = version.after
        if np.array_equal(now, taken):
            return None
        if since is None:
            finest = label_levels(self.folder, self.name)[0]
            return now if np.array_equal(finest.read((*plane, *box)), now) else None
        return now

    def replace(
        self,
        plane: Sequence[int],
        box: Box,
        taken: NDArray[Any],
        edited: NDArray[Any],
        n_used: int,
        last: int | None = None,
    ) -> int:
        """Replace what was edited in a part, and keep what was there as a version.

        Parameters
        ----------
        plane : sequence of int
        box : (slice, slice)
        taken : integer array, (y, x)
            The part as it was when it was taken: pixels that are the same in `edited` stay as they
            are on the disk.
        edited : integer array, (y, x)
        n_used : int
            The largest id that was ever used, these included.
        last : int, optional
            See `last`, as it was when `n_used` was read: else two programs would give one id twice.

        Returns
        -------
        int
            Number of the version; 0 where nothing was edited.

        Raises
        ------
        UserError
            Where the disk refuses, or somebody else is replacing something. What is on the disk is
            either as before or, at the latest after `settle`, as edited.
        """
        changed = taken != edited
        if not changed.any():
            return 0
        with self._alone():
            self._settle()
            if last is not None and last != self.last:
                raise UserError(
                    f"Another program has put a part of {self.folder.name} back meanwhile. Try "
                    "again."
                )
            finest = label_levels(self.folder, self.name)[0]
            if int(edited.max()) > np.iinfo(finest.dtype).max:
                raise UserError(
                    f"{self.folder.name} has no ids left for new cells: it holds numbers of "
                    f"{8 * finest.dtype.itemsize} bits, and all were given. Nothing was written. "
                    "Export what you edited as a TIFF (page Export) to keep it. Without the new "
                    "cells the rest can be put back."
                )
            before = finest.read((*plane, *box))
            after = np.where(changed, edited, before).astype(finest.dtype)
            number = self.last + 1
            with self._said():
                self._versions.mkdir(exist_ok=True)
            with suppress(OSError):  # on Windows a folder cannot be opened, and need not be
                sync(self._image)
            arrays = {
                "plane": np.array(plane, np.int64),
                "start": np.array([box[0].start, box[1].start], np.int64),
                "before": before,
                "after": after,
                "n_used": np.array(n_used, np.int64),
            }
            write_arrays(self.file_of(number), arrays)
            self._apply(number)
        return number

    def _apply(self, number: int) -> None:
        """Write a version into all levels; it does no harm to do so again."""
        import zarr

        version = self.version(number)
        plane, (rows, columns) = version.plane, version.box
        with self._said():
            labels, box = version.after, (rows, columns)
            levels = label_levels(self.folder, self.name)
            for level in range(len(levels)):
                array: Any = zarr.open_array(synced(self._image / str(level)), mode="r+")
                if level:
                    fine = levels[level - 1]
                    y, x = (slice(side.start // 2, -(-side.stop // 2)) for side in box)
                    twice = slice(2 * y.start, 2 * y.stop), slice(2 * x.start, 2 * x.stop)
                    labels, box = halve_by_mode(fine.read((*plane, *twice))), (y, x)
                array[(*plane, *box)] = labels
            with atomic_write(self._mark(number), overwrite=True) as temporary:
                temporary.write_text(str(version.n_used))

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_failure(self.folder, error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other programs from the labels."""
        with self._said():
            descriptor = open_lock(self._image / "versions.lock")
        try:
            if not try_lock(descriptor):
                raise UserError(
                    f"{self.folder.name} is being changed by another program. Wait until that is "
                    "done, and try again."
                )
            yield
        finally:
            os.close(descriptor)
