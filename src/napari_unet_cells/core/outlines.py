"""Labels as polygons that run along the edges of pixels, and so lose nothing.

::

    . . . . .        Every side of a pixel between two labels is a crack; cracks run with
    . a a b .        their own pixel on the right (y points down):
    . a a b .
    . . . . .            (1,1) > (3,1) > (3,3) > (1,3) > (1,1)    a
                         (3,1) > (4,1) > (4,3) > (3,3) > (3,1)    b

Where a crack ends, the next one belongs to the same pixel if it can (turn right), else to the
pixel ahead (straight on), else to the one on the left of that (turn left). So pixels that touch
at a corner only are not connected, and a region of connected pixels has one outer ring and, for
each hole, an inner one that runs the other way. A ring that comes to a corner twice is cut there:
no ring touches itself, as the Simple Features standard (ISO 19125) asks of polygons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as label_regions

#: Corners (x, y), one a row; closed in thought, the first is not repeated.
Ring = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one label in a plane.

    Attributes
    ----------
    label : int
    polygons : tuple of tuples of int32 arrays, (corners, 2)
        One polygon for each connected part (by sides, not corners), from top to bottom: its
        outer ring, then its holes. Corners are (x, y) of the upper left corner of a pixel; outer
        rings turn clockwise as seen, holes the other way.
    """

    label: int
    polygons: tuple[tuple[Ring, ...], ...]

    @property
    def area(self) -> int:
        """Number of pixels; holes turn the other way and so count negative."""
        return sum(_signed_area(ring) for polygon in self.polygons for ring in polygon) // 2

    def moved(self, rows: int, columns: int) -> Outline:
        """Give the outline of the same pixels farther down and to the right."""
        step = np.array([columns, rows], np.int32)
        polygons = tuple(tuple(ring + step for ring in polygon) for polygon in self.polygons)
        return Outline(self.label, polygons)


#: Takes outlines of a plane, known by its index along the axes before (y, x), such as {"Z": 3}.
AddOutlines = Callable[[Mapping[str, int], Iterable[Outline]], None]


def outlines(labels: NDArray[np.integer]) -> list[Outline]:
    """Trace the labels of a plane.

    Filling the polygons gives back the same pixels, none more and none less.

    Parameters
    ----------
    labels : integer array, (y, x)
        0 is background.

    Returns
    -------
    list of Outline
        In the order of the labels.
    """
    # Numbered here, the parts of one label are told apart; a border spares all edge cases.
    parts = label_regions(labels, background=0, connectivity=1)
    label_of = np.zeros(parts.max(initial=0) + 1, np.int64)
    label_of[parts] = labels
    cracks = _Cracks.find(np.pad(parts, 1))
    polygons: dict[int, list[Ring]] = {}
    for part, ring in cracks.rings():
        rings = polygons.setdefault(part, [])
        # The outer ring of a part is the only one that turns clockwise.
        rings.insert(0, ring) if _signed_area(ring) > 0 else rings.append(ring)
    found: dict[int, list[tuple[Ring, ...]]] = {}
    for part, rings in sorted(polygons.items()):
        found.setdefault(int(label_of[part]), []).append(tuple(rings))
    return [Outline(label, tuple(whole)) for label, whole in sorted(found.items())]


# Directions, clockwise: the crack runs along this side of its pixel.
_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (y, x), the way a crack of this side runs
_OUTSIDE = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (y, x), of its pixel
_START = ((0, 0), (0, 1), (1, 1), (1, 0))  # (y, x), from the pixel's upper left corner


@dataclass
class _Cracks:
    """All cracks of a plane, in rows of top, right, bottom and left sides.

    Attributes
    ----------
    parts : int array, (y, x)
        With a border of zeros.
    y, x : int arrays, (cracks,)
        Their pixels.
    side : int8 array, (cracks,)
    follower : int array, (cracks,)
        Which crack comes next.
    """

    parts: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    side: NDArray[np.int8]
    follower: NDArray[np.int64]

    @classmethod
    def find(cls, parts: NDArray[np.int64]) -> _Cracks:
        width = parts.shape[1]
        flat = parts.ravel()
        inside = np.flatnonzero(flat)
        at = [  # pixels with a crack on each side, in rising order
            inside[flat[inside] != flat[inside + dy * width + dx]] for dy, dx in _OUTSIDE
        ]
        first = np.cumsum([0, *map(len, at)])

        def number(side: int, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
            position: NDArray[np.int64] = first[side] + np.searchsorted(at[side], pixels)
            return position

        followers = []
        for side, pixels in enumerate(at):
            right, left = (side + 1) % 4, (side - 1) % 4
            dy, dx = _AHEAD[side]
            ahead = pixels + dy * width + dx
            dy, dx = _OUTSIDE[side]
            beside = ahead + dy * width + dx
            turns_right = flat[ahead] != flat[pixels]
            turns_left = ~turns_right & (flat[beside] == flat[pixels])
            follower = number(side, np.where(turns_right | turns_left, 0, ahead))
            follower[turns_right] = number(right, pixels[turns_right])
            follower[turns_left] = number(left, beside[turns_left])
            followers.append(follower)
        pixels = np.concatenate(at)
        sides = np.repeat(np.arange(4, dtype=np.int8), [len(part) for part in at])
        return cls(parts, pixels // width, pixels % width, sides, np.concatenate(followers))

    def rings(self) -> Iterator[tuple[int, Ring]]:
        """Iterate over the rings, each with its part, in the order of their first top sides."""
        order, ends = self._in_order()
        start = np.array(_START)[self.side[order]]
        # The border of zeros is taken off again.
        y = self.y[order] + start[:, 0] - 1
        x = self.x[order] + start[:, 1] - 1
        corners = np.stack([x, y], axis=1).astype(np.int32)
        parts = self.parts[self.y[order], self.x[order]]
        begins = np.append(0, ends)[:-1]
        is_corner = self._turns(order, begins, ends)
        twice = self._visited_twice(y, x, is_corner, begins)
        for begin, end, again in zip(begins.tolist(), ends.tolist(), twice.tolist(), strict=True):
            ring = corners[begin:end][is_corner[begin:end]]
            part = int(parts[begin])
            if again:
                yield from ((part, cut) for cut in _cut(ring))
            else:
                yield part, ring

    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cracks ring after ring, and where each ring ends.

        Every ring has top sides, and the cracks are numbered by sides, top ones first.
        """
        follower = self.follower.tolist()
        seen = bytearray(len(follower))
        order: list[int] = []
        ends: list[int] = []
        for begin in range(int(np.count_nonzero(self.side == _TOP))):
            if seen[begin]:
                continue
            crack = begin
            while not seen[crack]:
                seen[crack] = 1
                order.append(crack)
                crack = follower[crack]
            ends.append(len(order))
        return np.array(order, np.int64), np.array(ends, np.int64)

    def _turns(
        self, order: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each crack, in order, runs another way than that before it."""
        sides = self.side[order]
        before = np.roll(sides, 1)
        before[begins] = sides[ends - 1]
        turns: NDArray[np.bool_] = sides != before
        return turns

    def _visited_twice(
        self,
        y: NDArray[np.int64],
        x: NDArray[np.int64],
        is_corner: NDArray[np.bool_],
        begins: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Whether each ring comes to some corner twice."""
        n_corners = (self.parts.shape[0] + 1) * (self.parts.shape[1] + 1)
        ring = np.searchsorted(begins, np.flatnonzero(is_corner), side="right") - 1
        codes = ring * n_corners + (y * (self.parts.shape[1] + 1) + x)[is_corner]
        in_order = np.argsort(codes, kind="stable")
        same = np.flatnonzero(np.diff(codes[in_order]) == 0)
        twice = np.zeros(len(begins), bool)
        twice[ring[in_order[same]]] = True
        return twice


def _cut(ring: Ring) -> Iterator[Ring]:
    """Cut a ring where it touches itself."""
    stack: list[tuple[int, int]] = []
    position: dict[tuple[int, int], int] = {}
    for corner in map(tuple, ring.tolist()):
        if corner in position:
            loop = stack[position[corner] :]
            del stack[position[corner] :]
            for passed in loop:
                del position[passed]
            yield np.array(loop, np.int32)
        position[corner] = len(stack)
        stack.append(corner)
    yield np.array(stack, np.int32)


def _signed_area(ring: Ring) -> int:
    """Twice the area, above 0 where the ring turns clockwise as seen (shoelace formula)."""
    x, y = ring.astype(np.int64).T
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def fill(polygons: Sequence[Sequence[Ring]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels inside of polygons, by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of sequences of int arrays, (corners, 2)
        As `Outline.polygons`, with sides along the pixels' edges.
    shape : (int, int)

    Returns
    -------
    bool array, (y, x)
    """
    # +1 where a vertical side begins and -1 where it ends: summed down, the crossings of each row.
    sides = np.zeros((shape[0] + 1, shape[1] + 1), np.int64)
    for ring in (ring for polygon in polygons for ring in polygon):
        (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
        upright = x0 == x1
        np.add.at(sides, (np.minimum(y0, y1)[upright], x0[upright]), 1)
        np.add.at(sides, (np.maximum(y0, y1)[upright], x0[upright]), -1)
    crossings = np.cumsum(np.cumsum(sides, axis=0), axis=1)[:-1, :-1]
    inside: NDArray[np.bool_] = crossings % 2 == 1
    return inside
