"""Several channels of an image as one image: projected, or side by side.

::

    data        (z, c, y, x)         as it was read
    projected   (z, 1, y, x)         max or mean of chosen channels, each stretched on its own
    together    (z, 1, y, x, k)      k chosen channels, for a network of as many

The axis stays, with a length of 1, so that the others keep their numbers. A part is read when it is
asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet_cells.core.arrays import ImageArray, spelt_out
from napari_unet_cells.core.normalize import SAMPLE_PIXELS, Limits, normalize, percentile_limits
from napari_unet_cells.errors import UserError

#: Ways to make one channel of several.
PROJECTIONS = ("max", "mean")

#: Planes of a stack that are looked at to learn the intensities of a channel.
SAMPLED_PLANES = 9


@dataclass(frozen=True, eq=False)
class ManyChannels:
    """An array of some channels of another one.

    Attributes
    ----------
    data : array, (..., c, ..., y, x)
        May be lazy.
    axis : int
        Of the channels, before (y, x).
    channels : tuple of int
        Those that are taken.
    projection : str
        "max" or "mean": each channel is stretched to 0 to 1 by its own percentiles first, so that
        a bright one does not hide a dim one. Empty: the channels become the last axis.
    """

    data: ImageArray
    axis: int
    channels: tuple[int, ...]
    projection: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        lengths = [int(n) for n in self.data.shape]
        lengths[self.axis] = 1
        return (*lengths, *(() if self.projection else (len(self.channels),)))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of what a part gives: float32 where channels are projected."""
        return np.dtype(np.float32 if self.projection else self.data.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        parts = spelt_out(key, self.ndim)
        last = () if self.projection else (parts.pop(),)
        at, before = parts[self.axis], parts[: self.axis]
        read = [self._channel(n, parts) for n in range(len(self.channels))]
        if self.projection:
            made = np.max(read, axis=0) if self.projection == "max" else np.mean(read, axis=0)
        else:
            made = np.stack(read, axis=-1)
        if isinstance(at, slice):
            position = sum(isinstance(part, slice) for part in before)
            made = np.expand_dims(made, position)[(*(slice(None),) * position, at)]
        part: NDArray[Any] = made[(..., *last)]
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all."""
        pixels = self[...]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def _channel(self, number: int, parts: Sequence[Any]) -> NDArray[Any]:
        key = [*parts[: self.axis], self.channels[number], *parts[self.axis + 1 :]]
        pixels = np.asarray(self.data[tuple(key)])
        if not self.projection:
            return pixels
        limits = self.limits[number]
        if limits is None:  # a channel of one value shows nothing
            return np.zeros(pixels.shape, np.float32)
        return normalize(pixels, limits)

    @cached_property
    def limits(self) -> tuple[Limits | None, ...]:
        """Intensities of each channel that become 0 and 1, the same for all planes of a stack."""
        return tuple(self._limits_of(channel) for channel in self.channels)

    def _limits_of(self, channel: int) -> Limits | None:
        lengths = [int(n) for n in self.data.shape[:-2]]
        lengths[self.axis] = 1
        indices = list(product(*(range(n) for n in lengths)))
        apart = max(1, len(indices) // SAMPLED_PLANES)
        chosen = indices[apart // 2 :: apart]
        pixels = len(chosen) * math.prod(self.data.shape[-2:])
        step = slice(None, None, max(1, math.ceil(math.sqrt(pixels / SAMPLE_PIXELS))))
        sampled = []
        for index in chosen:
            at = (*index[: self.axis], channel, *index[self.axis + 1 :])
            sampled.append(np.asarray(self.data[(*at, step, step)]))
        return percentile_limits(np.concatenate(sampled))


def channel_numbers(
    chosen: int | str | Sequence[int | str], n: int, names: Sequence[str] = ()
) -> tuple[int, ...]:
    """Numbers of channels that are chosen by number, from 0, or by name.

    Parameters
    ----------
    chosen : int, str, or a sequence of them
    n : int
        Channels of the image.
    names : sequence of str, optional
        Of all channels.

    Raises
    ------
    UserError
        Where there is no such channel, or one is chosen twice.
    """
    several = [chosen] if isinstance(chosen, int | str) else list(chosen)
    folded = [name.casefold() for name in names]
    numbers = []
    for one in several:
        if isinstance(one, str) and one.casefold() in folded:
            one = folded.index(one.casefold())
        if isinstance(one, str) or not -n <= one < n:
            raise UserError(f"There is no channel {one}: the image has {list_channels(n, names)}.")
        numbers.append(int(one) % n)
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(f"Choose each channel once, of {list_channels(n, names)}.")
    return tuple(numbers)


def list_channels(n: int, names: Sequence[str] = ()) -> str:
    """List the channels of an image for a sentence, such as "0 (DAPI), 1 (GFP)"."""
    if len(names) != n:
        return f"0 to {n - 1}"
    return ", ".join(f"{number} ({name})" for number, name in enumerate(names))
