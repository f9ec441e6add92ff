"""Waist of a cell: the two peaks of the distance to its border that it lies between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

#: Pixels by which the narrowest place between two halves must be narrower than the half that is
#: narrower (both measured from the border): less is the roughness of an outline.
WAIST = 0.75


def two_peaks(distance: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.int32] | None:
    """Mark the highest peak of a piece with 1 and the most distinct other one with 2.

    Every peak has a basin, all that the flood from it reaches first. Where the basins meet
    highest they are joined first; the lower of the two peaks is as distinct as it stands above
    that saddle.

    Parameters
    ----------
    distance : float array, (y, x)
        To the border of the piece.
    mask : bool array, (y, x)
        The piece.

    Returns
    -------
    int32 array, of the size of `mask`, or None
        None where no other peak is more distinct than `WAIST`.
    """
    summits, n = ndimage.label(local_maxima(distance) & mask, np.ones((3, 3)))
    if n < 2:
        return None
    basins = watershed(-distance, summits, mask=mask)
    heights = np.concatenate([[0.0], ndimage.maximum(distance, summits, range(1, n + 1))])
    peak = list(range(n + 1))  # of what was joined to it; itself where it is the highest

    def highest(basin: int) -> int:
        while peak[basin] != basin:
            peak[basin] = peak[peak[basin]]
            basin = peak[basin]
        return basin

    most, second = WAIST, 0
    for one, other, saddle in _saddles(distance, basins):
        lower, higher = sorted((highest(one), highest(other)), key=lambda b: (heights[b], -b))
        if lower == higher:
            continue
        peak[lower] = higher
        if heights[lower] - saddle > most:
            most, second = heights[lower] - saddle, lower
    if not second:
        return None
    seeds = np.zeros(mask.shape, np.int32)
    seeds[summits == highest(second)] = 1
    seeds[summits == second] = 2
    return seeds


def _saddles(
    distance: NDArray[np.float64], basins: NDArray[np.integer[Any]]
) -> Sequence[tuple[int, int, float]]:
    """Where basins meet: both, and the height there; from the highest down."""
    met: dict[tuple[int, int], float] = {}
    for here, there in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        one, other = basins[here], basins[there]
        border = (one != other) & (one > 0) & (other > 0)
        low = np.minimum(distance[here], distance[there])[border]
        pairs = zip(one[border].tolist(), other[border].tolist(), low.tolist(), strict=True)
        for first, second, height in pairs:
            pair = min(first, second), max(first, second)
            met[pair] = max(met.get(pair, 0.0), height)
    return sorted(((*pair, height) for pair, height in met.items()), key=lambda s: -s[2])
