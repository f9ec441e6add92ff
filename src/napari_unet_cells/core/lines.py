"""Pixels of a plane along a line that was drawn, and within an outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Rows and columns, (n,) each.
Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]


def pixels_at(points: ArrayLike, shape: tuple[int, ...]) -> Pixels:
    """Find the pixels of those points that lie in a plane, in order.

    Parameters
    ----------
    points : array_like, (n, 2)
        (y, x), in pixels, whose middles are whole numbers.
    shape : tuple of int
        Of the plane.
    """
    rows, columns = np.floor(np.asarray(points, float).reshape(-1, 2) + 0.5).astype(np.intp).T
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[inside], columns[inside]


def pixels_along(path: ArrayLike, shape: tuple[int, ...]) -> Pixels:
    """Find the pixels of a line within a plane, in order.

    Each touches the next at least by a corner, so parts that hang together by sides cannot do so
    across it.

    Parameters
    ----------
    path : array_like, (n, 2)
        Corners (y, x) of the line.
    shape : tuple of int
        Of the plane.
    """
    corners = np.floor(np.asarray(path, float).reshape(-1, 2) + 0.5)
    steps = np.diff(corners, axis=0)
    counts = np.abs(steps).max(axis=1, initial=0).astype(np.intp)
    which = np.repeat(np.arange(len(steps)), counts)
    # Pixel k of a side with n steps lies k / n on the way; its last is the first of the next.
    k = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    passed = corners[:-1][which] + steps[which] * k[:, np.newaxis] / counts[which][:, np.newaxis]
    return pixels_at(np.concatenate([passed, corners[-1:]]), shape)


def pixels_inside(
    corners: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[int, int, NDArray[np.bool_]]:
    """Find the pixels of a plane whose middle an outline goes round.

    Every side that crosses the row of a pixel to the left of it counts, downward 1 and upward
    -1; the pixel is inside where they do not cancel out.

    Parameters
    ----------
    corners : float array, (n, 2)
        (y, x) of the outline; the last one is joined to the first.
    shape : tuple of int
        Of the plane.

    Returns
    -------
    top, left : int
        Where the window lies in the plane.
    inside : bool array, (y, x)
        The window.
    """
    limits = np.array(shape[:2])
    first = np.clip(np.ceil(corners.min(axis=0)), 0, limits).astype(int)
    last = np.clip(np.floor(corners.max(axis=0)) + 1, first, limits).astype(int)
    (top, left), (height, width) = first.tolist(), (last - first).tolist()
    following = np.roll(corners, -1, axis=0)
    ends = np.clip(np.ceil(np.stack([corners[:, 0], following[:, 0]])), top, top + height)
    begins, counts = ends.min(axis=0).astype(int), np.abs(ends[1] - ends[0]).astype(int)
    side = np.repeat(np.arange(len(corners)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - begins, counts)
    (y0, x0), (y1, x1) = corners[side].T, following[side].T
    crossing = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0)) - left
    turns = np.zeros((height, width + 1), np.int32)
    at = np.clip(crossing, 0, width).astype(int)
    np.add.at(turns, (rows - top, at), np.where(y1 > y0, 1, -1))
    return top, left, np.cumsum(turns[:, :width], axis=1) != 0
