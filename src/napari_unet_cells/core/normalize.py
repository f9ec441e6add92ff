"""Intensity limits, once per plane, and the map to [0, 1] that every network sees.

The limits come from the whole plane and never from a tile: a tile of background would
otherwise be stretched until its noise looks like cells, and neighbouring tiles would
disagree (docs/architecture.md, 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet_cells.core.arrays import ImageArray

#: Percentiles of the plane that become 0 and 1.
LOW, HIGH = 1.0, 99.8

#: About as many pixels are looked at; more would cost time and not move a percentile.
SAMPLE_PIXELS = 2_000_000

#: Pixels that are normalised together.
_STRIP = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Intensities that are mapped to 0 and to 1, in the units of the image."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse limits that would divide by zero."""
        if not self.low < self.high:
            raise ValueError(f"limits must rise, got {self.low} to {self.high}")


def percentile_limits(plane: ImageArray, low: float = LOW, high: float = HIGH) -> Limits | None:
    """Percentiles of one plane, from a regular sample of at most about two megapixels.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, channel), any real dtype
        The channels of a colour image share their limits, which keeps the hue.
    low, high : float
        Percentiles, 0 to 100.

    Returns
    -------
    Limits or None
        None where the finite pixels all have one value, or where there are none.
        An almost empty plane, whose percentiles coincide, gets its minimum and maximum.
    """
    height, width = plane.shape[:2]
    step = sample_step(height, width)
    sample = np.asarray(plane[::step, ::step]).ravel()
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return None
    at_low, at_high = _percentiles(sample, (low, high))
    if at_low < at_high:
        return Limits(at_low, at_high)
    at_low, at_high = float(sample.min()), float(sample.max())
    return Limits(at_low, at_high) if at_low < at_high else None


def sample_step(height: int, width: int) -> int:
    """Rows and columns from one pixel of the sample of a plane to the next."""
    return max(1, math.ceil(math.sqrt(height * width / SAMPLE_PIXELS)))


def _percentiles(values: NDArray[Any], percents: tuple[float, float]) -> list[float]:
    """`np.percentile`; of small unsigned integers by counting them, in a third of the time."""
    if values.dtype not in (np.uint8, np.uint16):
        return [float(v) for v in np.percentile(values.astype(np.float64), percents)]
    upto = np.cumsum(np.bincount(values))
    places = np.array(percents) / 100 * (len(values) - 1)
    first = np.floor(places)
    low = np.searchsorted(upto, first, side="right")
    high = np.searchsorted(upto, np.ceil(places), side="right")
    return [float(v) for v in low + (high - low) * (places - first)]


def normalize(pixels: NDArray[Any], limits: Limits) -> NDArray[np.float32]:
    """Map `limits` to 0 and 1, clip what lies outside; NaN becomes 0.

    Parameters
    ----------
    pixels : array of any shape and real dtype
    limits : Limits

    Returns
    -------
    float32 array of the same shape, within [0, 1]
    """
    if pixels.ndim < 2 or pixels.size <= _STRIP:
        return _normalized(pixels, limits)
    # What is worked on stays in the cache.
    out = np.empty(pixels.shape, np.float32)
    rows = max(1, _STRIP * len(pixels) // pixels.size)
    for top in range(0, len(pixels), rows):
        out[top : top + rows] = _normalized(pixels[top : top + rows], limits)
    return out


def _normalized(pixels: NDArray[Any], limits: Limits) -> NDArray[np.float32]:
    # What is wider than 16 bits is shifted before it loses digits: an offset of a million
    # with a contrast of one must survive.
    wide = pixels.dtype.itemsize > 2
    values: NDArray[Any] = pixels.astype(np.float64 if wide else np.float32)
    np.subtract(values, limits.low, out=values)
    np.multiply(values, 1.0 / (limits.high - limits.low), out=values)
    np.clip(values, 0.0, 1.0, out=values)
    if pixels.dtype.kind == "f":
        np.nan_to_num(values, copy=False, nan=0.0)
    return values.astype(np.float32, copy=False)
