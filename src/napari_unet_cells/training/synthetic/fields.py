"""Smooth random fields, blurs and distances, fast enough to be drawn for every training crop."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from scipy import ndimage

Field = NDArray[np.float32]
"""Grey values of float32, (y, x)."""

#: Side of the banks of noise in pixels.
_BANK = 1024


def resized(field: Field, shape: tuple[int, int]) -> Field:
    """Interpolate a field to another height and width (bicubic, or means where it shrinks)."""
    picture = PILImage.fromarray(field)
    return np.array(picture.resize((shape[1], shape[0]), PILImage.Resampling.BICUBIC))


@cache
def _bank(sigma: float) -> Field:
    """Draw noise once for all images, which take windows of it: drawing is what takes time."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((_BANK, _BANK), np.float32)
    if sigma:
        noise = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    scaled: Field = noise / noise.std()
    return scaled


def _window(rng: np.random.Generator, sigma: float, shape: tuple[int, int]) -> Field:
    """Take a window at a random place, turned or mirrored; the bank repeats beyond its end."""
    bank = _bank(sigma)
    bank = bank[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    height, width = shape
    y, x = (int(rng.integers(0, max(_BANK - n, _BANK // 2))) for n in shape)
    if y + height <= _BANK and x + width <= _BANK:
        return bank[y : y + height, x : x + width]
    return bank.take(range(y, y + height), 0, mode="wrap").take(range(x, x + width), 1, mode="wrap")


def white_noise(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Give noise of mean 0 and standard deviation 1, each pixel on its own."""
    return _window(rng, 0.0, shape)


def grains(rng: np.random.Generator, shape: tuple[int, int], width: float) -> Field:
    """Give noise of mean 0 and standard deviation of about 1 whose grains are `width` pixels wide.

    Parameters
    ----------
    rng : Generator
    shape : (int, int)
    width : float
        Below 1.5 each pixel is a grain of its own.
    """
    if width < 1.5:
        return white_noise(rng, shape)
    # Blurred by one pixel on a coarse grid, which is as round as on the fine one.
    step = width / 2.2
    high, wide = (n / step for n in shape)
    coarse = _window(rng, 1.0, (int(np.ceil(high)) + 3, int(np.ceil(wide)) + 3))
    y, x = rng.uniform(1, 2, 2)
    return np.array(
        PILImage.fromarray(np.ascontiguousarray(coarse)).resize(
            (shape[1], shape[0]), PILImage.Resampling.BICUBIC, (x, y, x + wide, y + high)
        )
    )


def blurred(field: Field, sigma: float) -> Field:
    """Blur with a Gaussian; a wide one on fewer pixels, which nobody sees.

    Parameters
    ----------
    field : float32 array, (y, x)
    sigma : float
        Standard deviation in pixels.
    """
    if sigma < 0.2:
        return field
    step = int(sigma / 1.25)
    if step < 2:
        out: Field = ndimage.gaussian_filter(field, sigma, truncate=3.0, mode="nearest")
        return out
    height, width = field.shape
    small = PILImage.fromarray(field).resize(
        (max(1, width // step), max(1, height // step)), PILImage.Resampling.BOX
    )
    wide = ndimage.gaussian_filter(np.asarray(small), sigma / step, truncate=3.0, mode="nearest")
    return resized(wide, (height, width))


def edges_of(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the outermost pixels of each cell: those beside another label."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (labels > 0)


def depth_of(inside: NDArray[np.bool_]) -> Field:
    """Approximate the distance to the nearest pixel outside, in pixels, within a seventh.

    The mean of the chessboard and the taxicab distance: octagons for circles, at a tenth of the
    time that the exact distance takes.
    """
    if inside.all():
        return np.full(inside.shape, max(inside.shape), np.float32)
    chessboard = ndimage.distance_transform_cdt(inside, "chessboard")
    taxicab = ndimage.distance_transform_cdt(inside, "taxicab")
    depth: Field = (chessboard + taxicab).astype(np.float32) / 2
    return depth


class Warp:
    """A smooth displacement of points, the same for all that lie close to each other.

    Parameters
    ----------
    rng : Generator
    side : float
        Of the square, from 0 on, that holds the points; beside it they move as at its rim.
    wavelength, amplitude : float
        Pixels; a larger amplitude than a sixth of the wavelength would fold the plane.
    """

    def __init__(
        self, rng: np.random.Generator, side: float, wavelength: float, amplitude: float
    ) -> None:
        n = int(np.ceil(side / wavelength)) + 2
        self._grid = rng.standard_normal((2, n, n), np.float32)
        self._grid *= np.float32(min(amplitude, wavelength / 6))
        self._wavelength = wavelength

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move points (n, 2)."""
        last = self._grid.shape[1] - 1.001
        at = np.clip(points / self._wavelength + 0.5, 0, last)
        low = at.astype(int)
        part = at - low
        # The smooth step keeps outlines free of kinks where cells of the grid meet.
        part = part * part * (3 - 2 * part)
        (y, x), (v, u) = low.T, part.T
        grid = self._grid
        upper = grid[:, y, x] * (1 - u) + grid[:, y, x + 1] * u
        lower = grid[:, y + 1, x] * (1 - u) + grid[:, y + 1, x + 1] * u
        moved: NDArray[np.float64] = points + (upper * (1 - v) + lower * v).T
        return moved
