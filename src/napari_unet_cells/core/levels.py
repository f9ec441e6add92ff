"""Level of a multiscale plane that has the resolution of the screen, and its part in view.

::

    level 0    ################    a plane of 16 pixels on a canvas of 4
    level 1    ########            half of the pixels: still finer than the canvas
    level 2    ####                this one
    level 3    ##                  too coarse
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.resample import Box

#: A level may be so many times as coarse as the screen.
MOST_COARSE = 1.5


@dataclass(frozen=True)
class LevelView:
    """Pixels of a level that are in view.

    Attributes
    ----------
    level : int
    step : int
        Every so many pixels of the level are looked at; 1 but for images without coarse levels.
    box : (slice, slice)
        Rows and columns of the level.
    factors : (float, float)
        Height and width of a pixel that is looked at, in pixels of the finest level.
    """

    level: int
    step: int
    box: Box
    factors: tuple[float, float]

    @property
    def origin(self) -> tuple[float, float]:
        """Middle of the first pixel that is looked at, in pixels of the finest level."""
        y, x = (
            (side.start + 0.5) * factor / self.step - 0.5
            for side, factor in zip(self.box, self.factors, strict=True)
        )
        return y, x

    @property
    def part(self) -> Box:
        """Slices of the level, with their step."""
        y, x = (slice(side.start, side.stop, self.step) for side in self.box)
        return y, x


def level_in_view(
    corners: NDArray[np.float64], shapes: Sequence[tuple[int, int]], canvas: tuple[int, int]
) -> LevelView | None:
    """Find the level that has the resolution of the screen, and which pixels of it are in view.

    Parameters
    ----------
    corners : float array, (n, 2)
        Of the canvas, in rows and columns of the finest level.
    shapes : sequence of (int, int)
        Of the levels, the finest first.
    canvas : (int, int)
        Height and width in pixels of the screen.

    Returns
    -------
    LevelView or None
        None where no pixel is in view.
    """
    first, last = corners.min(axis=0), corners.max(axis=0)
    in_view = sqrt(float(np.prod(np.maximum(last - first, 1e-9))) / (canvas[0] * canvas[1]))
    ratios = [shapes[0][0] / max(1, shape[0]) for shape in shapes]
    fine = [number for number, ratio in enumerate(ratios) if ratio <= max(1, MOST_COARSE * in_view)]
    level = fine[-1]
    step = max(1, floor(in_view / ratios[level]))
    factors = [whole / own for whole, own in zip(shapes[0], shapes[level], strict=True)]
    box = []
    for start, stop, factor, length in zip(first, last, factors, shapes[level], strict=True):
        low, high = max(0, floor((start + 0.5) / factor)), min(length, ceil((stop + 0.5) / factor))
        if low >= high:
            return None
        box.append(slice(low, high))
    return LevelView(level, step, (box[0], box[1]), (factors[0] * step, factors[1] * step))
