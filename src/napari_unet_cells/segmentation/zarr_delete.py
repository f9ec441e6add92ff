"""Delete single cells of labels on the disk, and bring them back.

::

    row of the table --> box of the cell --> version 000007: its pixels are background
                                                        |
                          taken back --> version 000008: they are the cell again

Both are versions of the labels as a part that is put back is one (`files.label_versions`): all or
nothing, the table says that it is out of date, and no id is given twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.resample import Box
from napari_unet_cells.errors import UserError
from napari_unet_cells.files.label_levels import LabelLevel, label_levels
from napari_unet_cells.files.label_versions import LabelVersions
from napari_unet_cells.files.table_pages import stamp_of
from napari_unet_cells.segmentation.block_store import CELLS
from napari_unet_cells.segmentation.zarr_cells import MOST_PIXELS, boxes_in, joined
from napari_unet_cells.segmentation.zarr_output import is_running
from napari_unet_cells.segmentation.zarr_table import state_of

#: Pixels by which a part grows on a side that its cell touches.
_STEP = 64


class Covered(UserError):
    """Other cells have pixels of a cell that was to be brought back."""


class MadeAnew(UserError):
    """Another run has made the labels since a cell was deleted.

    Attributes
    ----------
    run : str
        See `LabelVersions.run`.
    """

    def __init__(self, sentence: str, run: str) -> None:
        super().__init__(sentence)
        self.run = run


@dataclass(frozen=True)
class Deleted:
    """A cell that was deleted from labels on the disk.

    Attributes
    ----------
    label : int
    plane : tuple of int
        Its index along the axes before (y, x).
    number : int
        Of the version.
    run : str
        That made the labels, see `LabelVersions.run`: another one counts its versions anew.
    """

    label: int
    plane: tuple[int, ...]
    number: int
    run: str = ""


class DrawnBoxes:
    """Boxes of the cells that versions have drawn, kept so that each version is read once.

    A version holds all pixels of a part, and reading some of them takes seconds; the boxes of its
    cells are a few numbers each.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int], tuple[int, ...], NDArray[np.int64]]] = {}

    def of(self, versions: LabelVersions, number: int) -> tuple[tuple[int, ...], NDArray[np.int64]]:
        """Give the plane of a version, and the boxes of what it has drawn, see `boxes_in`."""
        path = versions.file_of(number)
        known = self._kept.get(path)
        stamp = stamp_of(path) if path.exists() else (0, 0)  # that it is gone is said below
        if known is None or known[0] != stamp:  # a run begins to count anew, in other files
            version = versions.version(number)
            drawn = np.where(version.after != version.before, version.after, 0)
            known = stamp, version.plane, boxes_in(drawn, version.box)
            self._kept[path] = known
        return known[1], known[2]


def delete_cell(
    folder: Path,
    plane: tuple[int, ...],
    label: int,
    box: Box,
    stamp: tuple[int, int] | None = None,
    drawn: DrawnBoxes | None = None,
) -> Deleted:
    """Make all pixels of a cell background, as a version of the labels.

    Parameters
    ----------
    folder : Path
        The OME-Zarr.
    plane : tuple of int
    label : int
    box : (slice, slice)
        Rows and columns that hold the cell, by its row of the table.
    stamp : (int, int), optional
        Of the table that the row was read from, see `stamp_of`; by default it is the one that lies
        beside the OME-Zarr now.
    drawn : DrawnBoxes, optional
        Where what was read of versions for other cells is kept.

    Raises
    ------
    UserError
        Where it is not there any more, the table was written anew since its row was read, a run
        is going on, or the disk refuses; the labels are as they were.
    """
    versions = _free_versions(folder)
    last, run = versions.last, versions.run
    finest = label_levels(folder, CELLS)[0]
    box = _drawn_box(versions, plane, label, box, stamp, drawn or DrawnBoxes())
    box, labels = _grown(finest, plane, label, box)
    if not (labels == label).any():
        raise UserError(
            f"Cell {label:,} is gone already. Bring the table up to date to see the cells as they "
            "are."
        )
    n_used = versions.n_used(versions.n_given())
    edited = np.where(labels == label, 0, labels)
    return Deleted(label, plane, versions.replace(plane, box, labels, edited, n_used, last), run)


def take_back(folder: Path, deleted: Deleted) -> int:
    """Give a deleted cell its pixels back, as one more version.

    Parameters
    ----------
    folder : Path
    deleted : Deleted

    Returns
    -------
    int
        Number of the version.

    Raises
    ------
    Covered
        Where another cell has some of its pixels by now; the labels are as they were.
    MadeAnew
        Where another run has made the labels since; they are as it made them.
    UserError
        Where a run is going on, or the disk refuses; they are as they were, too.
    """
    versions = _free_versions(folder)
    run = versions.run
    if run != deleted.run:  # its versions have the same numbers, and its cells the same ids
        raise MadeAnew(
            f"Cell {deleted.label:,} was not brought back: {folder.name} was made anew since it "
            "was deleted, and holds other cells now. Look for it among these.",
            run,
        )
    last, gone = versions.last, versions.version(deleted.number)
    labels = label_levels(folder, CELLS)[0].read((*gone.plane, *gone.box)).astype(np.int64)
    pixels = (gone.before == deleted.label) & (gone.after == 0)
    if labels[pixels].any():
        raise Covered(
            f"Cell {deleted.label:,} was not brought back: other cells were drawn where it was. "
            "Delete them in a part (page Correct) to have it back."
        )
    n_used = versions.n_used(versions.n_given())
    edited = np.where(pixels, deleted.label, labels)
    return versions.replace(gone.plane, gone.box, labels, edited, n_used, last)


def _free_versions(folder: Path) -> LabelVersions:
    """Refuse while a run makes the result anew: what is changed meanwhile would be lost."""
    if is_running(folder):
        raise UserError(
            f"{folder.name} is being segmented anew. Wait until that is done, or cancel it."
        )
    versions = LabelVersions(folder)
    versions.settle()
    return versions


def _drawn_box(
    versions: LabelVersions,
    plane: tuple[int, ...],
    label: int,
    box: Box,
    stamp: tuple[int, int] | None,
    drawn: DrawnBoxes,
) -> Box:
    """Add what was drawn of a cell since its row was written."""
    state = state_of(versions.folder)
    # after the state: what that says is of the same file, or of one that is refused here
    if stamp is not None and not (state.is_there and stamp_of(state.path) == stamp):
        # its versions are not behind the table any more, so the old row misses what they drew
        raise UserError(
            f"Cell {label:,} was not deleted: {state.path.name} was written anew since this row "
            "was read, and the cell may have other pieces by now. The rows are read again: press "
            "Delete once more."
        )
    if not state.is_known:
        raise UserError(
            "It is not known how the cells were changed since the table was written. Bring it up "
            "to date, and delete the cell then."
        )
    y, x = box
    found = [np.array([[label, y.start, y.stop, x.start, x.stop]], np.int64)]
    for number in state.behind:
        of_plane, boxes = drawn.of(versions, number)
        if of_plane == plane:
            found.append(boxes[boxes[:, 0] == label])
    _, ((top, bottom, left, right),) = joined(found)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _grown(
    finest: LabelLevel, plane: tuple[int, ...], label: int, box: Box
) -> tuple[Box, NDArray[np.int64]]:
    """Read a part that holds all of a cell, also where its row says less than that.

    A file of somebody else may take the place of the table: of a cell that reaches the border of
    the part, a larger part is read.
    """
    sides, shape = list(box), finest.shape[-2:]
    while True:
        y, x = sides
        if (y.stop - y.start) * (x.stop - x.start) > MOST_PIXELS:
            raise _too_far(label, y, x)
        labels = finest.read((*plane, y, x)).astype(np.int64)
        grown = [
            slice(
                max(0, side.start - _STEP * ((first == label).any())),
                min(n, side.stop + _STEP * ((last == label).any())),
            )
            for side, n, first, last in (
                (y, shape[0], labels[:1], labels[-1:]),
                (x, shape[1], labels[:, :1], labels[:, -1:]),
            )
        ]
        if grown == sides:
            return (y, x), labels
        sides = grown


def _too_far(label: int, y: slice, x: slice) -> UserError:
    top, bottom, left, right = y.start, y.stop, x.start, x.stop
    return UserError(
        f"Cell {label:,} lies in pieces too far apart to be deleted at once, in rows {top:,} to "
        f"{bottom:,} and columns {left:,} to {right:,}. Delete each piece in a part: press 'Edit "
        "this part' on the page Correct."
    )
