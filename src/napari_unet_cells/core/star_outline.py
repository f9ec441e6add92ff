"""Find the best star-shaped outline around a point, by dynamic programming in polar samples.

An outline has one radius for each of `DIRECTIONS` directions. It is the closed path through
the table of samples with the largest sum of evidence, less a penalty where it bends::

            radius ->                u(d, r)  evidence that the outline of the cell passes
    d   . . . # . . . .                       through sample r of direction d
    i   . . # . . . . .
    r   . . . # . . . .              maximal  sum over d of
    .   . . . . # . . .                         u(d, r_d) - bend * (r_d+1 - r_d)^2
    v   . . . # . . . .              with     |r_d+1 - r_d| <= STEEPEST
                                     (the last direction is next to the first)

A network judges pixel by pixel and may miss a cell; along a whole outline weak evidence adds
up. The evidence weighs the fall of the probabilities from inside to outside, the class
boundary, the edges of the image, and how likely the size is.

References
----------
.. [1] Baggett et al., "Whole cell segmentation in solid tissue sections", Cytometry Part A 67,
   2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon

#: Number of directions, and of samples along each.
DIRECTIONS, SAMPLES = 48, 44

#: Length of a sample, in diameters of the cell: the longest radius is 1.2 of them.
SAMPLE = 1 / 36

#: Samples by which the radii of two neighbouring directions may differ.
STEEPEST = 3

#: Samples inside and outside over which a fall is measured.
_SIDE = 4

#: Evidence of a sample that no outline may pass through.
_NEVER = -4.0

#: Intensities, 0 to 1: edges below it are not stretched to full evidence.
_LEAST_EDGE = 0.05


@dataclass(frozen=True)
class Weights:
    """Weights of the kinds of evidence.

    Attributes
    ----------
    fall : float
        Of the probability of "cell" or "boundary", from inside to outside.
    boundary : float
        The probability of "boundary".
    darker, brighter : float
        Of the image, from inside to outside: the steepest edge counts 1.
    inside : float
        Sum along the radius of the probability of "cell" or "boundary" less a half: the
        outline shall hold what is more likely cell than not.
    shallow : float
        Taken off: how deep the network says that the outline lies in a cell.
    crossed : float
        Taken off: the sum of "boundary" along the radius.
    size : float
        Taken off, times the squared logarithm of the radius by the expected one.
    larger : float
        Added to the logarithm of the expected radius.
    blocked : float
        Added where another cell, or the border of the image, is next.
    bend : float
        Taken off, times the squared difference of neighbouring radii in samples.
    """

    fall: float
    boundary: float
    darker: float
    brighter: float
    inside: float
    shallow: float
    crossed: float
    size: float
    larger: float
    blocked: float
    bend: float


def star_outlines(
    image: NDArray[np.float32],
    probabilities: NDArray[np.uint8],
    free: NDArray[np.bool_],
    centre: tuple[int, int],
    diameter: float,
    weights: Sequence[Weights],
) -> NDArray[np.bool_]:
    """Find the best outline around a point for each set of weights.

    Parameters
    ----------
    image : float32 array, (y, x)
        In [0, 1].
    probabilities : uint8 array, (2 or 3, y, x)
        Of cell and of boundary, and the distance where there is one, in units of 1/255.
    free : bool array, (y, x)
        Where the cell may lie.
    centre : (int, int)
        Row and column of a free pixel inside of the cell.
    diameter : float
        Expected, in pixels.
    weights : sequence of Weights

    Returns
    -------
    bool array, (n, y, x)
        The pixels inside of each outline, all free.
    """
    radii = (np.arange(SAMPLES) + 1) * (SAMPLE * diameter)
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    unit = np.stack([np.sin(angles), np.cos(angles)])
    points = np.reshape(centre, (2, 1, 1)) + unit[:, :, np.newaxis] * radii
    evidence = _evidence(image, probabilities, points, diameter)
    blocked = _blocked(free, points)
    utility = np.stack([_utility(evidence, blocked, one) for one in weights])
    paths = _best_paths(utility, np.array([one.bend for one in weights]))
    masks = np.zeros((len(weights), *free.shape), bool)
    for mask, path in zip(masks, paths, strict=True):
        rows, columns = np.reshape(centre, (2, 1)) + unit * radii[path]
        mask[polygon(rows, columns, mask.shape)] = True
        mask &= free
        mask[centre] = True
    return masks


def _evidence(
    image: NDArray[np.float32],
    probabilities: NDArray[np.uint8],
    points: NDArray[np.float64],
    diameter: float,
) -> NDArray[np.float32]:
    """Sample what the first eight of `Weights` weigh, (8, directions, samples)."""
    sigma = max(0.5, diameter / 30)
    cell, boundary, *distance = probabilities.astype(np.float32) / 255
    foreground = np.minimum(cell + boundary, 1)

    def sampled(plane: NDArray[np.float32], sigma: float = sigma) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(plane, sigma) if sigma else plane
        values: NDArray[np.float32] = ndimage.map_coordinates(
            smooth, points, order=1, mode="nearest"
        )
        return values

    within = sampled(foreground)
    edge = _fall(sampled(image))
    edge /= max(float(np.abs(edge).max()), _LEAST_EDGE)
    line = sampled(boundary, 0)
    along = 2 * SAMPLE * np.arange(1, SAMPLES + 1, dtype=np.float32)
    return np.stack(
        [
            _fall(within),
            line,
            np.maximum(edge, 0),
            np.maximum(-edge, 0),
            np.cumsum((within - 0.5) * along, axis=1) * (2 * SAMPLE),
            -sampled(distance[0] if distance else cell),
            -np.cumsum(line, axis=1) * (2 * SAMPLE),
            np.broadcast_to(np.log(along), line.shape),
        ]
    )


def _fall(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over some samples before each one, less that over some samples behind it."""
    padded = np.pad(values, ((0, 0), (_SIDE, _SIDE)), mode="edge")
    sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1, dtype=np.float32)
    before = sums[:, _SIDE : _SIDE + SAMPLES] - sums[:, :SAMPLES]
    first = 2 * _SIDE + 1
    behind = sums[:, first : first + SAMPLES] - sums[:, _SIDE + 1 : _SIDE + 1 + SAMPLES]
    fall: NDArray[np.float32] = ((before - behind) / _SIDE).astype(np.float32)
    return fall


def _blocked(free: NDArray[np.bool_], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which samples another cell, or the border of the image, cuts off the centre."""
    rows, columns = np.rint(points).astype(np.intp)
    height, width = free.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    there = free[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    blocked: NDArray[np.bool_] = np.maximum.accumulate(~(inside & there), axis=1)
    return blocked


def _utility(
    evidence: NDArray[np.float32], blocked: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float32]:
    """Sum the evidence of one set of weights, (directions, samples)."""
    *factors, size, larger, bonus, _ = astuple(weights)
    utility = np.tensordot(np.array(factors, np.float32), evidence[:7], 1)
    utility -= size * (evidence[7] - larger) ** 2
    utility[blocked] = _NEVER
    rows = np.flatnonzero(blocked.any(axis=1))
    first = blocked[rows].argmax(axis=1)
    utility[rows[first > 0], first[first > 0] - 1] += bonus
    utility[rows[first == 0], 0] = 0  # the centre itself touches another cell
    return utility


def _best_paths(utility: NDArray[np.float32], bends: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find the best closed path through each of n tables (n, directions, samples).

    Going round twice and taking the middle closes the path: by then the way does not remember
    where it began.
    """
    n, directions, samples = utility.shape
    steps = np.arange(-STEEPEST, STEEPEST + 1)
    penalty = (bends[:, np.newaxis] * steps**2).astype(np.float32)
    best = utility[:, 0]
    back = np.zeros((2 * directions, n, samples), np.int8)
    for i in range(1, 2 * directions):
        padded = np.pad(best, ((0, 0), (STEEPEST, STEEPEST)), constant_values=-np.inf)
        ways = np.stack(
            [padded[:, k : k + samples] - penalty[:, k, np.newaxis] for k in range(len(steps))]
        )
        back[i] = steps[ways.argmax(axis=0)]
        best = ways.max(axis=0) + utility[:, i % directions]
    path = np.empty((2 * directions, n), np.intp)
    path[-1] = best.argmax(axis=1)
    for i in range(2 * directions - 1, 0, -1):
        path[i - 1] = path[i] + back[i, np.arange(n), path[i]]
    half = directions // 2
    middle = path[half : half + directions]
    closed: NDArray[np.intp] = np.roll(middle, half, axis=0).T
    return closed
