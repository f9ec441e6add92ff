"""Edit whole cells of a plane: merge, split, delete, fill, smooth, draw a new one.

Nothing is painted here: every function gives the pixels that become others, an `Edit`, or says
in a sentence why there is nothing to do. Cells that are not meant never change::

    merge           split along       split            fill            smooth        new

    a a - b b       a a a a a         a a . b b        a a a a         a . a .       . . . .
    a a - b b       - - - - -         a a a b b        a . b a         a a a a       . n n .
        v           b b b b b         a a . b b        a a b a         a a a a       c n n .
    a a   a a                         at the waist     . is filled     the outline   c stays

A cell is the pixels of one id in the plane, also where they lie apart. A piece of it is what
hangs together by the sides of the pixels. Splitting, filling and smoothing look at the pieces
under the mouse and work in a window around them that grows until it holds them; merging and
deleting mean all pieces of a cell, and compare the whole plane, which at 4096 x 4096 pixels of
16 bits takes 4 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from napari_unet_cells.core.lines import pixels_along, pixels_at, pixels_inside
from napari_unet_cells.core.masks import bounding_box
from napari_unet_cells.core.waist import two_peaks
from napari_unet_cells.errors import UserError

#: Pixels; what is smaller is a slip of the hand and no cell.
SMALLEST = 3

#: Pixels; half the side of the window in which a piece is looked for first.
_WINDOW = 32

#: Pixels of the standard deviation with which outlines are smoothed, and its part of the cell's
#: diameter between the two.
_LEAST_SMOOTHING, _MOST_SMOOTHING, _SMOOTHING = 1.0, 5.0, 1 / 15

Plane = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Edit:
    """The pixels of a plane that become others.

    Attributes
    ----------
    rows, columns : intp arrays, (n,)
        Each pixel once, n above 0.
    values : int64 array, (n,)
        Their new ids, each another one than before. They may be more than the labels' data type
        holds: numpy would wrap them in silence, so check `highest` before writing.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: NDArray[np.int64]

    @property
    def highest(self) -> int:
        """The highest id that is written."""
        return int(self.values.max())


def id_at(plane: Plane, point: ArrayLike) -> int:
    """Id of the cell at a point; 0 on the background and outside of the plane.

    Parameters
    ----------
    plane : integer array, (y, x)
    point : (y, x)
        In pixels, whose middles are whole numbers.
    """
    y, x = (int(value) for value in np.rint(np.asarray(point, float)))
    inside = 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]
    return int(plane[y, x]) if inside else 0


def piece_at(
    plane: Plane, point: ArrayLike, limit: int | None = None
) -> tuple[int, int, NDArray[np.bool_]] | None:
    """Find the piece of a cell at a point, pixels that touch at a corner included.

    Parameters
    ----------
    plane : integer array, (y, x)
    point : (y, x)
    limit : int, optional
        Pixels of height and of width up to which pieces are found; a larger one is given up as
        soon as it is known to be.

    Returns
    -------
    (int, int, bool array) or None
        Top and left of the mask in the plane, and the mask; None on the background, and of a
        piece above the limit.
    """
    if not id_at(plane, point):
        return None
    y, x = np.rint(np.asarray(point, float)).astype(int).tolist()
    piece = _Piece.within(plane, y, x, True, limit or max(plane.shape))
    return None if piece is None else (piece.top, piece.left, piece.mask)


def merge(plane: Plane, path: ArrayLike, joined: bool = True) -> Edit:
    """Give all cells under a line, or at some points, the id of the first of them.

    They need not touch each other.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : array_like, (n, 2)
        Corners (y, x) of the line.
    joined : bool
        Whether the line between the corners counts, too; else the corners alone.

    Raises
    ------
    UserError
        Where there are fewer than two cells.
    """
    rows, columns = pixels_along(path, plane.shape) if joined else pixels_at(path, plane.shape)
    ids = [label for label in dict.fromkeys(plane[rows, columns].tolist()) if label]
    if len(ids) < 2:
        raise UserError(
            "There are no two cells to merge under the line. Draw it through all cells that are "
            "to become one."
        )
    pixels = np.flatnonzero(np.isin(plane, ids[1:]) if len(ids) > 2 else plane == ids[1])
    return _painted(plane, pixels, ids[0])


def split_along(plane: Plane, path: ArrayLike, new_id: int) -> Edit:
    """Cut all cells that a line crosses.

    The pixels of the line go to the nearer part, the larger one of two that are as near, and so
    do parts below `SMALLEST`. The largest part of each piece that is cut keeps the id.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : array_like, (n, 2)
        Corners (y, x) of the line.
    new_id : int
        Of the first new part; further ones count up from it.

    Raises
    ------
    UserError
        Where the line separates nothing.
    """
    rows, columns = pixels_along(path, plane.shape)
    met = plane[rows, columns] != 0
    rows, columns = rows[met], columns[met]
    if not len(rows):
        raise UserError("There is no cell under the line. Draw it right across a cell.")
    edits: list[Edit] = []
    while len(rows):
        piece = _Piece.at(plane, int(rows[0]), int(columns[0]))
        here = piece.holds(rows, columns)
        line = np.zeros_like(piece.mask)
        line[rows[here] - piece.top, columns[here] - piece.left] = True
        parts = _cut(piece.mask, line)
        edit = _numbered(piece, parts, new_id)
        if edit is not None:
            edits.append(edit)
            new_id = edit.highest + 1
        rows, columns = rows[~here], columns[~here]
    if not edits:
        raise UserError(
            "The line does not cut through the cell. Begin it before the cell, and end it behind."
        )
    return Edit(
        np.concatenate([edit.rows for edit in edits]),
        np.concatenate([edit.columns for edit in edits]),
        np.concatenate([edit.values for edit in edits]),
    )


def split_by_distance(plane: Plane, point: ArrayLike, new_id: int) -> Edit:
    """Cut a cell in two at its waist; the larger part keeps the id.

    The two parts grow from the two most distinct peaks of the distance to the border, down to
    where they meet (seeded watershed, Vincent and Soille 1991). How distinct a peak is: how far
    the way from it to a higher one goes down. Of a cell in several pieces the piece at the
    point is one part, and all others are the other.

    Parameters
    ----------
    plane : integer array, (y, x)
    point : (y, x)
    new_id : int

    Raises
    ------
    UserError
        Where there is no cell, or it has no waist.
    """
    piece = _clicked(plane, point)
    whole = np.flatnonzero(plane == piece.label)
    if len(whole) > piece.area:
        rows, columns = np.divmod(whole, plane.shape[1])
        inside = piece.holds(rows, columns)
        moved = inside if 2 * piece.area <= len(whole) else ~inside
        return _painted(plane, whole[moved], new_id)
    distance = ndimage.distance_transform_edt(np.pad(piece.mask, 1))[1:-1, 1:-1]
    seeds = two_peaks(distance, piece.mask)
    if seeds is None:
        raise UserError(
            "The cell has no waist at which it could be split. Draw a line across it instead."
        )
    parts = watershed(-distance, seeds, mask=piece.mask)
    edit = _numbered(piece, parts, new_id)
    assert edit is not None
    return edit


def delete(plane: Plane, path: ArrayLike) -> Edit:
    """Make the cell at a point background, or all cells under a line.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : array_like, (2,) or (n, 2)
        A point (y, x), or the corners of the line.

    Raises
    ------
    UserError
        Where there is no cell.
    """
    corners = np.asarray(path, float)
    if corners.ndim == 1:
        return _painted(plane, np.flatnonzero(plane == _label(plane, corners)), 0)
    rows, columns = pixels_along(corners, plane.shape)
    ids = [label for label in dict.fromkeys(plane[rows, columns].tolist()) if label]
    if not ids:
        raise UserError("There is no cell under the line. Draw it through the cells to delete.")
    return _painted(plane, np.flatnonzero(np.isin(plane, ids)), 0)


def fill_holes(plane: Plane, point: ArrayLike) -> Edit:
    """Give a cell the background that it encloses; other cells in its holes stay.

    Parameters
    ----------
    plane : integer array, (y, x)
    point : (y, x)

    Raises
    ------
    UserError
        Where there is no cell, or it encloses no background.
    """
    piece = _clicked(plane, point, corners=True)
    outside, _ = ndimage.label(np.pad(~piece.mask, 1, constant_values=True))
    enclosed = (outside != outside[0, 0])[1:-1, 1:-1]
    holes = enclosed & (piece.of(plane) == 0)
    if not holes.any():
        raise UserError("The cell encloses no background that could be filled.")
    return piece.painted(holes, piece.label)


def smooth(plane: Plane, point: ArrayLike) -> Edit:
    """Smooth the outline of a cell: a Gaussian of its mask, cut at one half.

    The standard deviation is a fifteenth of the diameter. The cell grows over background only;
    should it break, the largest part of it stays.

    Parameters
    ----------
    plane : integer array, (y, x)
    point : (y, x)

    Raises
    ------
    UserError
        Where there is no cell, it is too thin, or as smooth as it can be.
    """
    piece = _clicked(plane, point, corners=True)
    diameter = 2 * np.sqrt(piece.area / np.pi)
    sigma = float(np.clip(_SMOOTHING * diameter, _LEAST_SMOOTHING, _MOST_SMOOTHING))
    piece = piece.grown(int(np.ceil(3 * sigma)), plane.shape)
    # Nearest: a cell that is cut by the border of the plane goes on behind it.
    blurred = ndimage.gaussian_filter(piece.mask.astype(np.float32), sigma, mode="nearest")
    kept = _largest((blurred > 0.5) & (piece.mask | (piece.of(plane) == 0)))
    if np.count_nonzero(kept) < SMALLEST:
        raise UserError("The cell is too thin to be smoothed: nothing of it would be left.")
    if np.array_equal(kept, piece.mask):
        raise UserError("The outline of the cell is as smooth as it can be.")
    changed = kept != piece.mask
    return piece.painted(changed, np.where(kept, piece.label, 0)[changed])


def draw(plane: Plane, path: ArrayLike, new_id: int) -> Edit:
    """Make a cell of the background within an outline.

    A pixel lies within where the outline goes round its middle, once or more (nonzero winding
    number): an end that runs beyond the beginning leaves no gap. Cells that are there already
    stay; where they divide the new one, its largest part is taken.

    Parameters
    ----------
    plane : integer array, (y, x)
    path : array_like, (n, 2)
        Corners (y, x) of the outline; the last one is joined to the first.
    new_id : int

    Raises
    ------
    UserError
        Where fewer than `SMALLEST` pixels of background lie within.
    """
    top, left, inside = pixels_inside(np.asarray(path, float), plane.shape)
    height, width = inside.shape
    free = _largest(inside & (plane[top : top + height, left : left + width] == 0))
    if np.count_nonzero(free) < SMALLEST:
        raise UserError(
            "Hardly any background lies within the outline, and other cells are not painted "
            "over. Draw around the cell with the mouse button held down."
        )
    return _Piece(top, left, free, new_id).painted(free, new_id)


# --- pieces -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Piece:
    """Pixels of one id that hang together.

    Attributes
    ----------
    top, left : int
        Where the mask lies in its plane.
    mask : bool array, (y, x)
    label : int
    """

    top: int
    left: int
    mask: NDArray[np.bool_]
    label: int

    @classmethod
    def at(cls, plane: Plane, y: int, x: int, corners: bool = False) -> _Piece:
        """Find the piece of a pixel; with `corners`, pixels hang together by these, too."""
        piece = cls.within(plane, y, x, corners, max(plane.shape))
        assert piece is not None
        return piece

    @classmethod
    def within(cls, plane: Plane, y: int, x: int, corners: bool, limit: int) -> _Piece | None:
        """Find a piece up to some pixels of height and width; None where it is larger."""
        structure = ndimage.generate_binary_structure(2, 2 if corners else 1)
        height, width = plane.shape
        label = plane[y, x]
        top, bottom = max(0, y - _WINDOW), min(height, y + _WINDOW + 1)
        left, right = max(0, x - _WINDOW), min(width, x + _WINDOW + 1)
        while True:
            parts, _ = ndimage.label(plane[top:bottom, left:right] == label, structure)
            mask = parts == parts[y - top, x - left]
            higher, wider = bottom - top, right - left
            goes_on = (
                top > 0 and bool(mask[0].any()),
                bottom < height and bool(mask[-1].any()),
                left > 0 and bool(mask[:, 0].any()),
                right < width and bool(mask[:, -1].any()),
            )
            box = bounding_box(mask)
            if max(box[0].stop - box[0].start, box[1].stop - box[1].start) > limit:
                return None
            if not any(goes_on):
                break
            top = max(0, top - higher * goes_on[0])
            bottom = min(height, bottom + higher * goes_on[1])
            left = max(0, left - wider * goes_on[2])
            right = min(width, right + wider * goes_on[3])
        return cls(top + box[0].start, left + box[1].start, mask[box], int(label))

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    def of(self, plane: Plane) -> Plane:
        """Give the window of a plane that the mask covers."""
        height, width = self.mask.shape
        return plane[self.top : self.top + height, self.left : self.left + width]

    def holds(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether pixels of the plane belong to the piece."""
        y, x = rows - self.top, columns - self.left
        height, width = self.mask.shape
        held: NDArray[np.bool_] = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        held[held] = self.mask[y[held], x[held]]
        return held

    def grown(self, margin: int, shape: tuple[int, ...]) -> _Piece:
        """Give the piece with a margin, as far as the plane of `shape` reaches."""
        height, width = self.mask.shape
        before = min(margin, self.top), min(margin, self.left)
        after = (
            min(margin, shape[0] - self.top - height),
            min(margin, shape[1] - self.left - width),
        )
        mask = np.pad(self.mask, tuple(zip(before, after, strict=True)))
        return _Piece(self.top - before[0], self.left - before[1], mask, self.label)

    def painted(self, where: NDArray[np.bool_], values: ArrayLike) -> Edit:
        """Give the edit that paints pixels of the window."""
        rows, columns = np.nonzero(where)
        ids = np.broadcast_to(np.asarray(values, np.int64), rows.shape)
        return Edit(rows + self.top, columns + self.left, ids)


def _label(plane: Plane, point: ArrayLike) -> int:
    label = id_at(plane, point)
    if label == 0:
        raise UserError("There is no cell under the mouse. Click on a cell itself.")
    return label


def _clicked(plane: Plane, point: ArrayLike, corners: bool = False) -> _Piece:
    _label(plane, point)
    y, x = np.rint(np.asarray(point, float)).astype(int).tolist()
    return _Piece.at(plane, y, x, corners)


def _painted(plane: Plane, pixels: NDArray[np.intp], label: int) -> Edit:
    """Give the edit that paints flat indices of a plane."""
    rows, columns = np.divmod(pixels, plane.shape[1])
    return Edit(rows, columns, np.full(len(pixels), label, np.int64))


def _numbered(piece: _Piece, parts: NDArray[np.integer[Any]], new_id: int) -> Edit | None:
    """Give all but the largest part of a piece new ids, in the order of their sizes.

    Parameters
    ----------
    piece : _Piece
    parts : integer array, of the size of its mask
        1 to n, 0 elsewhere.
    new_id : int

    Returns
    -------
    Edit or None
        None of a single part.
    """
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    if len(order) < 2:
        return None
    ids = np.zeros(len(sizes), np.int64)
    ids[order[1:]] = new_id + np.arange(len(order) - 1)
    new = ids[parts]
    return piece.painted(new > 0, new[new > 0])


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest part that hangs together by sides."""
    parts, n = ndimage.label(mask)
    if n < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    largest: NDArray[np.bool_] = parts == 1 + int(np.argmax(sizes[1:]))
    return largest


def _cut(piece: NDArray[np.bool_], line: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    """Parts 1 to n of a piece on the sides of a line, which they share among them.

    All grow by a pixel at a time; what two of them reach at once goes to the larger one, so
    that the cut is as straight as the line.
    """
    parts, _ = ndimage.label(piece & ~line)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    ranks = np.zeros(len(sizes), np.int32)
    whole = np.flatnonzero(sizes >= SMALLEST)  # crumbs at a ragged outline are no cells
    ranks[whole[np.argsort(sizes[whole], kind="stable")]] = np.arange(1, len(whole) + 1)
    shared: NDArray[np.integer[Any]] = ranks[parts]
    by_sides = ndimage.generate_binary_structure(2, 1)
    free = piece & (shared == 0)
    while len(whole) and free.any():
        window = bounding_box(free, margin=1)
        near = free[window]
        shared[window][near] = ndimage.maximum_filter(shared[window], footprint=by_sides)[near]
        free[window] = near & (shared[window] == 0)
    return shared
