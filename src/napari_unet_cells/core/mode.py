"""Labels at half the size: of four pixels the label that most of them have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def halved_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of a plane (y, x) at half the size; an odd line at the end counts."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def halve_by_mode(labels: NDArray[Any]) -> NDArray[Any]:
    """Give each square of 2 x 2 pixels its most frequent label; of equals the first in it.

    Parameters
    ----------
    labels : array, (y, x)
        A line at the end that is not one of two counts twice.

    Returns
    -------
    array of `halved_shape`
    """
    height, width = labels.shape
    if height % 2 or width % 2:
        labels = np.pad(labels, ((0, height % 2), (0, width % 2)), mode="edge")
    a, b, c, d = (labels[y::2, x::2] for y in (0, 1) for x in (0, 1))
    mode = a.copy()
    a_is_alone = (a != b) & (a != c) & (a != d)
    np.copyto(mode, b, where=a_is_alone & ((b == c) | (b == d)))
    np.copyto(mode, c, where=a_is_alone & (b != c) & (c == d))
    return mode
