"""The planes of an image that are segmented, one after another, each read when it is its turn.

::

    data      (t, z, c, y, x)      any array that can be sliced
    fixed     {2: 0}               the channel that was chosen, or the plane that is shown
    planes    (t, z) of (y, x)     what is left
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.channels import (
    PROJECTIONS,
    SAMPLED_PLANES,
    ManyChannels,
    channel_numbers,
    list_channels,
)
from napari_unet_cells.core.normalize import Limits, percentile_limits
from napari_unet_cells.errors import UserError

#: Values that are read at a time where all of a plane are looked at.
_STRIP = 2**24

#: A plane with less than this part of the usual contrast is not stretched any further: in a
#: plane without cells the noise would become cells.
LEAST_CONTRAST = 0.5


@dataclass(frozen=True)
class Plane:
    """One plane of a larger array; a part of it is read when it is asked for.

    Attributes
    ----------
    data : array
    index : tuple of int
        Of the axes before (y, x).
    channels : int
        0 for grey, else how many channels of the last axis are used; an alpha channel is not.
    """

    data: ImageArray
    index: tuple[int, ...]
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths, (y, x) or (y, x, c)."""
        start = len(self.index)
        height, width = self.data.shape[start : start + 2]
        return (height, width, self.channels) if self.channels else (height, width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        pixels = np.asarray(self.data[(*self.index, *(key if isinstance(key, tuple) else (key,)))])
        if pixels.dtype.kind == "b":
            pixels = pixels.view(np.uint8)
        return pixels[..., : self.channels] if self.channels else pixels


@dataclass(frozen=True)
class Planes:
    """The planes of an image.

    Attributes
    ----------
    data : array, (..., y, x) or (..., y, x, c)
        May be lazy: only what is segmented is read.
    color : bool
        The last axis holds the channels of one plane: RGB, RGBA, or what a network of
        several channels was trained on.
    fixed : mapping of int to int
        Axis and index of what was chosen: a channel, or the plane that is shown.

    Raises
    ------
    UserError
        Where the image is empty, not of real numbers, or has no planes.
    """

    data: ImageArray
    color: bool = False
    fixed: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what has no planes of real numbers."""
        dtype, shape = np.dtype(self.data.dtype), tuple(self.data.shape)
        if dtype.kind not in "buif":
            raise UserError(
                f"The image has the data type {dtype}, not real numbers. Convert it first, "
                "for example to its magnitude or to float32."
            )
        if len(shape) < 2 + self.color:
            raise UserError(
                f"The image has the shape {shape}, and a plane has height and width. Open an "
                "image of at least two dimensions."
            )
        if prod(shape) == 0:
            raise UserError(f"The image is empty: its shape is {shape}.")

    @property
    def _leading(self) -> int:
        return len(self.data.shape) - 2 - self.color

    @property
    def free(self) -> tuple[int, ...]:
        """Axes of the data along which the planes follow each other."""
        return tuple(axis for axis in range(self._leading) if axis not in self.fixed)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the free axes, and of y and x: the shape of the labels."""
        lengths = tuple(self.data.shape)
        return tuple(lengths[axis] for axis in self.free) + lengths[self._leading :][:2]

    @property
    def channels(self) -> int:
        """Channels of a plane, without alpha; 0 for grey."""
        if not self.color:
            return 0
        n = int(self.data.shape[-1])
        return 3 if n == 4 and not isinstance(self.data, ManyChannels) else n

    def __len__(self) -> int:
        """Count the planes."""
        return prod(self.shape[:-2])

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Iterate over the indices of the planes along the free axes, in order."""
        return product(*(range(n) for n in self.shape[:-2]))

    def plane(self, index: tuple[int, ...]) -> Plane:
        """Give the plane at an index of the free axes."""
        at = dict(self.fixed) | dict(zip(self.free, index, strict=True))
        return Plane(self.data, tuple(at[axis] for axis in range(self._leading)), self.channels)

    @property
    def lazy(self) -> bool:
        """Whether reading may take long: everything but an array in memory."""
        source = self.data.data if isinstance(self.data, ManyChannels) else self.data
        return not isinstance(source, np.ndarray)


#: One channel, or several: by number, from 0, or by name.
Channels = int | str | Sequence[int | str]


def planes_of(
    image: ArrayLike | ImageArray,
    axes: str | None = None,
    channel: Channels | None = None,
    projection: str | None = None,
    names: Sequence[str] = (),
) -> Planes:
    """Find the planes of an array.

    Parameters
    ----------
    image : array
        Numpy, dask or zarr; lists are made one.
    axes : str, optional
        One letter an axis, such as "TZCYX"; a last "C" holds colours. By default (y, x), or
        (y, x, 3) or (y, x, 4).
    channel : int, str, or a sequence of them, optional
        Along "C" where it is not the last axis: numbers from 0, or names. Several are projected,
        or become the channels of one image.
    projection : str, optional
        "max" or "mean" of the chosen channels, by default of all; see `core.channels.ManyChannels`.
    names : sequence of str, optional
        Of the channels.

    Raises
    ------
    UserError
        Where the axes do not fit the image, or do not say enough.
    """
    data = image if isinstance(image, ImageArray) else np.asarray(image)
    several = projection is not None or not isinstance(channel, int | str | None)
    if axes is None:
        if several:
            raise UserError("Say which axis holds the channels, for example axes='CYX'.")
        return _guessed(data)
    axes = axes.upper()
    if len(axes) != len(data.shape) or len(set(axes)) < len(axes) or not {"Y", "X"} <= set(axes):
        raise UserError(
            f"The axes '{axes}' do not fit an image of the shape {tuple(data.shape)}: one letter "
            "for each axis, with Y and X among them, such as 'ZYX' or 'TCYX'."
        )
    color = axes.endswith("YXC")
    if not (axes.endswith("YX") or color):
        raise UserError(f"The axes '{axes}' must end in YX, or in YXC for colour images.")
    if several and (color or "C" not in axes):
        has = "colours" if color else "no axis of channels"
        raise UserError(f"The image has {has} (axes {axes}), and no channels to choose from.")
    if "C" not in axes or color:
        if color and channel is not None:
            raise UserError(
                f"There is no channel {channel} to choose: the image has colours, which are "
                f"segmented together (axes {axes}). Leave the channel out, or save the channels as "
                "such, not as colours."
            )
        # A name may be right: the names of a single channel are not known here.
        if isinstance(channel, int) and channel != 0:
            raise UserError(
                f"There is no channel {channel} to choose: the image has one channel, number 0 "
                f"(axes {axes}). Leave the channel out."
            )
        return Planes(data, color)
    return _of_channels(data, axes, channel, projection, names)


def _of_channels(
    data: ImageArray,
    axes: str,
    channel: Channels | None,
    projection: str | None,
    names: Sequence[str],
) -> Planes:
    """Planes of the channels that were chosen."""
    axis = axes.index("C")
    n = int(data.shape[axis])
    if projection not in (None, *PROJECTIONS):
        raise UserError(f"The projection is {' or '.join(PROJECTIONS)}, not '{projection}'.")
    if channel is None and (n == 1 or projection is not None):
        channel = range(n)
    if channel is None:
        which = list_channels(n, names)
        raise UserError(
            f"The image has {n} channels (axes {axes}). Choose one of them, {which}, or several: "
            "their projection (max or mean), or all in one image."
        )
    numbers = channel_numbers(channel, n, names)
    if len(numbers) == 1:
        return Planes(data, fixed={axis: numbers[0]})
    together = ManyChannels(data, axis, numbers, projection or "")
    return Planes(together, color=projection is None, fixed={axis: 0})


def many_channels(planes: Planes) -> dict[str, Any]:
    """Describe which channels were projected or put together, for the record; else empty."""
    data = planes.data
    if not isinstance(data, ManyChannels):
        return {}
    projection = {"projection": data.projection} if data.projection else {}
    return {"channels": list(data.channels), **projection}


def _guessed(data: ImageArray) -> Planes:
    shape = tuple(data.shape)
    if len(shape) == 3 and shape[2] in (3, 4):
        return Planes(data, color=True)
    if len(shape) > 2:
        raise UserError(
            f"The image has the shape {shape}, and it is not known what its axes are. Say it, for "
            "example axes='ZYX' for a stack, 'CYX' for channels, 'YXC' for colours."
        )
    return Planes(data)


def check_pixels(plane: Plane) -> None:
    """Refuse a plane in memory that holds no image.

    NaN is let through: where tiles were stitched it marks what no tile covered, and
    `normalize` makes it background.

    Raises
    ------
    UserError
        Where a value is infinite, none is a number, or all are the same.
    """
    pixels = plane[:, :]
    n = pixels.size
    if pixels.dtype.kind == "f":
        infinite = int(np.count_nonzero(np.isinf(pixels)))
        if infinite:
            raise UserError(
                f"{infinite} of the image's {n} values are infinite. Replace them first, for "
                "example with numpy.nan_to_num."
            )
        pixels = pixels[~np.isnan(pixels)]
        if not pixels.size:
            raise UserError("No value of the image is a number, all are NaN. Is it the right one?")
    if n > max(1, plane.channels) and pixels.min() == pixels.max():
        raise UserError(
            f"The image is constant: every value is {pixels.flat[0]}. Is it the right channel?"
        )


def limits_of(plane: Plane, usual: float = 0.0) -> Limits | None:
    """Intensities of a plane that become 0 and 1.

    Parameters
    ----------
    plane : Plane
    usual : float
        `usual_contrast` of its stack; see `LEAST_CONTRAST`.

    Returns
    -------
    Limits or None
        None for a plane of a stack where all pixels are the same, and for one without numbers.
    """
    limits = percentile_limits(plane)
    if limits is None and not usual:
        low, high = _range_of(plane)
        if low > high:  # it holds no numbers
            return None
        # A few bright pixels, which the sample missed; a single pixel has no contrast to
        # stretch, and is segmented all the same.
        return Limits(low, high if low < high else low + max(1.0, abs(low)))
    if limits is not None and limits.high - limits.low < LEAST_CONTRAST * usual:
        return Limits(limits.low, limits.low + usual)
    return limits


def refuse_constant(plane: Plane) -> None:
    """Refuse a plane, of any size, that holds no image: see `check_pixels`.

    Raises
    ------
    UserError
        Where no value is a number, or all are the same.
    """
    if plane.shape[0] * plane.shape[1] == 1 or percentile_limits(plane) is not None:
        return
    low, high = _range_of(plane)
    if low > high:
        raise UserError("No value of the image is a number, all are NaN. Is it the right one?")
    if low == high:
        raise UserError(f"The image is constant: every value is {low:g}. Is it the right channel?")


def _range_of(plane: Plane) -> tuple[float, float]:
    """Find the lowest and the highest value of a plane, a few rows at a time."""
    rows = max(1, _STRIP // max(1, plane.shape[1] * max(1, plane.channels)))
    low, high = np.inf, -np.inf
    for top in range(0, plane.shape[0], rows):
        pixels = plane[top : top + rows, :]
        if pixels.dtype.kind == "f":
            pixels = pixels[np.isfinite(pixels)]
        if pixels.size:
            low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    return low, high


def usual_contrast(planes: Planes) -> float:
    """Median difference of the limits over some planes of a stack; 0 for a single plane."""
    return 0.0 if len(planes) < 2 else float(np.median([c for c, _ in _sampled(planes)] or [0.0]))


def typical_plane(planes: Planes) -> Plane:
    """Give the plane of the highest contrast among some of a stack."""
    if len(planes) < 2:
        return planes.plane(next(planes.indices()))
    return max(_sampled(planes), key=lambda found: found[0])[1]


def _sampled(planes: Planes) -> list[tuple[float, Plane]]:
    indices = list(planes.indices())
    step = max(1, len(indices) // SAMPLED_PLANES)
    found = []
    for index in indices[step // 2 :: step]:
        plane = planes.plane(index)
        limits = percentile_limits(plane)
        found.append((0.0 if limits is None else limits.high - limits.low, plane))
    return found
