"""A plane at the scale of a network, tile by tile, and labels back at the plane's own.

Both scales are planes of whole pixels over the same ground::

    plane      |--|--|--|--|--|--|--|--|      size pixels
    network    |-----|-----|-----|-----|      scaled pixels

Pixel ``j`` of one lies over ``[j, j + 1) * (other size / own size)`` of the other.  Pillow's
resampling with a box computes any part of the whole, in pieces of a grid, so that a pixel is the
same to the last bit whatever tile or block it is read for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.normalize import Limits, normalize

Box = tuple[slice, slice]

#: Pixels along a side of what is resampled at once.
PIECE = 128

#: Pixels of the plane along an axis that a part needs, and where the part lies in them.
_Source = tuple[tuple[int, int], tuple[float, float]]

#: Rows of labels that are resized at a time: what is held of their edges is several times as large.
BAND = 256


def scaled_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Shape of a plane of `shape` (y, x) at `zoom`, at least one pixel a side."""
    return max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom))


@dataclass(frozen=True)
class NormalizedPlane:
    """A plane whose parts are read, normalised and resampled when they are asked for.

    Attributes
    ----------
    plane : array, (y, x) or (y, x, c), any real dtype
        May be lazy.
    limits : Limits
    scaled : (int, int)
        Height and width at which the plane is shown; its own for no resampling.
    """

    plane: ImageArray
    limits: Limits
    scaled: tuple[int, int]

    def read(self, part: Box) -> NDArray[np.float32]:
        """Read a part.

        Parameters
        ----------
        part : (slice, slice)
            Inside `scaled`.

        Returns
        -------
        float32 array, (y, x, c), in [0, 1]
        """
        if self.scaled == tuple(self.plane.shape[:2]):
            return self._pixels(part)
        grid = [_pieces(side, length) for side, length in zip(part, self.scaled, strict=True)]
        sources = [
            [_source(piece, length, size) for piece in pieces]
            for pieces, length, size in zip(grid, self.scaled, self.plane.shape, strict=False)
        ]
        read = tuple(slice(own[0][0][0], own[-1][0][1]) for own in sources)
        pixels = self._pixels((read[0], read[1]))
        shape = tuple(side.stop - side.start for side in part)
        out = np.empty((*shape, pixels.shape[2]), np.float32)
        for (y, rows), (x, columns) in product(*map(zip, grid, sources)):
            whole = _resampled(pixels, read, (y, x), rows, columns)
            inside = [_common(piece, side) for piece, side in zip((y, x), part, strict=True)]
            (of_y, in_y), (of_x, in_x) = inside
            out[in_y, in_x] = whole[of_y, of_x]
        return out

    def _pixels(self, part: Box) -> NDArray[np.float32]:
        pixels = normalize(np.asarray(self.plane[part]), self.limits)
        return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def read_for(part: slice, scaled: int, size: int) -> slice:
    """Give the pixels along an axis of a plane that are read for a part of the scaled one.

    That is for planes that are resampled; else they are the part.
    """
    pieces = _pieces(part, scaled)
    return slice(_source(pieces[0], scaled, size)[0][0], _source(pieces[-1], scaled, size)[0][1])


def _pieces(part: slice, length: int) -> list[slice]:
    """Pieces of a grid over an axis of the scaled plane that a part touches.

    Pillow takes a box in numbers of 32 bits, so one pixel comes out a little different from another
    box. Each pixel is always made in its own piece: whatever part is read, it is the same.
    """
    first, last = part.start // PIECE, -(-part.stop // PIECE)
    return [slice(i * PIECE, min(length, (i + 1) * PIECE)) for i in range(first, last)]


def _common(piece: slice, part: slice) -> tuple[slice, slice]:
    """Give what a piece and a part have in common, in pixels of each."""
    start, stop = max(piece.start, part.start), min(piece.stop, part.stop)
    of_piece = slice(start - piece.start, stop - piece.start)
    return of_piece, slice(start - part.start, stop - part.start)


def _resampled(
    pixels: NDArray[np.float32],
    read: Sequence[slice],
    piece: Box,
    rows: _Source,
    columns: _Source,
) -> NDArray[np.float32]:
    """Resample a piece of the scaled plane: averages where it shrinks, else interpolates."""
    (y, x) = (
        slice(own[0][0] - side.start, own[0][1] - side.start)
        for own, side in zip((rows, columns), read, strict=True)
    )
    size = (piece[1].stop - piece[1].start, piece[0].stop - piece[0].start)
    box = (columns[1][0], rows[1][0], columns[1][1], rows[1][1])
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[y, x, c])).resize(
            size, Image.Resampling.BILINEAR, box
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _source(part: slice, scaled: int, size: int) -> _Source:
    """Pixels of the plane that a part needs along one axis, and where the part lies in them."""
    ratio = size / scaled
    margin = math.ceil(max(1.0, ratio)) + 1
    low, high = part.start * ratio, min(part.stop * ratio, size)
    start = max(0, math.floor(low) - margin)
    stop = min(size, math.ceil(high) + margin)
    return (start, stop), (low - start, high - start)


def covered(part: slice, scaled: int, size: int) -> slice:
    """Pixels along one axis of a plane whose middle lies in a part of the scaled one.

    Parts that follow each other cover pixels that follow each other.
    """
    ratio = size / scaled
    return slice(math.ceil(part.start * ratio - 0.5), math.ceil(part.stop * ratio - 0.5))


def shrink(pixels: NDArray[Any], factor: int) -> NDArray[Any]:
    """Give each square of an image its mean, in the data type of the image.

    Parameters
    ----------
    pixels : array, (y, x) or (y, x, c)
    factor : int
        Side of a square in pixels; one at the end that is not whole counts what it has.
    """
    if factor == 1:
        return pixels
    starts = [np.arange(0, size, factor) for size in pixels.shape[:2]]
    sums = np.add.reduceat(pixels, starts[0], axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, starts[1], axis=1)
    heights, widths = (
        np.diff(np.append(start, size))
        for start, size in zip(starts, pixels.shape[:2], strict=True)
    )
    counts = heights[:, np.newaxis] * widths
    means = sums / counts.reshape(*counts.shape, *(1,) * (pixels.ndim - 2))
    if pixels.dtype.kind in "iu":
        means = np.rint(means)
    shrunk: NDArray[Any] = means.astype(pixels.dtype)
    return shrunk


def resize_classes(
    classes: NDArray[np.uint8], box: tuple[float, float, float, float], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resample a part of a class image; each pixel takes the class with the largest share.

    Parameters
    ----------
    classes : uint8 array, (y, x)
    box : (left, top, right, bottom)
        The part, in pixels of `classes`.
    shape : (int, int)
        Of the result.
    """
    present = np.unique(classes)
    shares = np.empty((len(present), *shape), np.uint8)
    for share, value in zip(shares, present, strict=True):
        mask = Image.fromarray((classes == value).view(np.uint8) * np.uint8(255))
        share[:] = np.asarray(mask.resize(shape[::-1], Image.Resampling.BILINEAR, box))
    largest: NDArray[np.uint8] = present[shares.argmax(axis=0)]
    return largest


def resize_labels(
    labels: NDArray[Any], shape: tuple[int, int], inside: NDArray[np.integer[Any]] | None = None
) -> NDArray[Any]:
    """Labels at another size: nearest neighbour, with the stairs at their edges smoothed.

    A pixel near an edge takes the label with the largest sum of bilinear weights among its
    four neighbours in `labels`. With `inside` it lies inside where that, interpolated, is not
    negative, and only the neighbours that lie where it does are asked: the outline is then as
    fine as what was measured, and not as the pixels of `labels`.

    Parameters
    ----------
    labels : integer array, (y, x)
    shape : (int, int)
    inside : signed integer array, (y, x), optional
        0 or more where a pixel of `labels` lies inside of what has an outline. No label may be
        both inside and outside.

    Returns
    -------
    array of `shape` and the dtype of `labels`
    """
    if labels.shape == shape:
        return labels
    whole = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    return resize_block(labels, whole, (labels.shape[0], labels.shape[1]), shape, inside)[0]


def resize_block(
    labels: NDArray[Any],
    core: Box,
    scaled: tuple[int, int],
    shape: tuple[int, int],
    inside: NDArray[np.integer[Any]] | None = None,
) -> tuple[NDArray[Any], Box]:
    """Part of what `resize_labels` makes of a plane; the parts of all blocks fit together.

    Parameters
    ----------
    labels : integer array, (y, x)
        Of a block of the plane, and of the line of pixels after it along each axis.
    core : (slice, slice)
        The block in the plane.
    scaled, shape : (int, int)
        Of the plane, as it is and as it shall be.
    inside : signed integer array, (y, x), optional
        Of the pixels of `labels`.

    Returns
    -------
    resized : array
    part : (slice, slice)
        Its place in the resized plane; empty where no pixel's neighbours begin in the block.
    """
    axes, places = [], []
    for own, size, target in zip(core, scaled, shape, strict=True):
        before, weight = _neighbours(size, target)
        place = slice(*(int(i) for i in np.searchsorted(before, (own.start, own.stop))))
        axes.append((before[place] - own.start, weight[place]))
        places.append(place)
    larger = shape[0] > scaled[0] and shape[1] > scaled[1]
    return _resized(labels, inside, axes[0], axes[1], larger), (places[0], places[1])


def neighbours_of(part: slice, scaled: int, size: int) -> slice:
    """Pixels along an axis of the scaled plane that `resize_part` needs for some of the plane."""
    before, _ = _neighbours(scaled, size)
    return slice(int(before[part.start]), min(scaled, int(before[part.stop - 1]) + 2))


def resized_of(part: slice, scaled: int, size: int) -> slice:
    """Pixels along an axis of the plane for which `resize_part` needs no more than a part.

    Parameters
    ----------
    part : slice
        Of the scaled plane.
    scaled, size : int
        Lengths of the scaled plane, and of the plane.
    """
    before, _ = _neighbours(scaled, size)
    last = part.stop - (part.stop < scaled)  # the neighbour after it lies in the part, too
    start, stop = np.searchsorted(before, (part.start, last))
    return slice(int(start), int(stop))


def resize_part(
    labels: NDArray[Any],
    window: Box,
    part: Box,
    scaled: tuple[int, int],
    shape: tuple[int, int],
    inside: NDArray[np.integer[Any]] | None = None,
) -> NDArray[Any]:
    """Give a part of what `resize_labels` makes of a plane, of which a window is there.

    Parameters
    ----------
    labels : integer array, (y, x)
        Of the window.
    window : (slice, slice)
        Its place in the scaled plane; it holds `neighbours_of` the part along each axis.
    part : (slice, slice)
        Of the resized plane.
    scaled, shape : (int, int)
        Of the plane, as it is and as it shall be.
    inside : signed integer array, (y, x), optional
        Of the window; see `resize_labels`.
    """
    if scaled == shape:
        y, x = (
            slice(one.start - other.start, one.stop - other.start)
            for one, other in zip(part, window, strict=True)
        )
        return labels[y, x]
    axes = []
    for own, there, size, target in zip(window, part, scaled, shape, strict=True):
        before, weight = _neighbours(size, target)
        axes.append((before[there] - own.start, weight[there]))
    larger = shape[0] > scaled[0] and shape[1] > scaled[1]
    return _resized(labels, inside, axes[0], axes[1], larger)


def _resized(
    labels: NDArray[Any],
    inside: NDArray[np.integer[Any]] | None,
    rows: tuple[NDArray[np.intp], NDArray[np.float32]],
    columns: tuple[NDArray[np.intp], NDArray[np.float32]],
    larger: bool,
) -> NDArray[Any]:
    (top, y_weight), (left, x_weight) = rows, columns
    below, right = (
        np.minimum(start + 1, n - 1) for start, n in zip((top, left), labels.shape, strict=True)
    )
    nearest_y = np.where(y_weight < 0.5, top, below)
    nearest_x = np.where(x_weight < 0.5, left, right)
    resized = labels[nearest_y[:, np.newaxis], nearest_x]
    if inside is None and not larger:
        return resized  # smaller cells have no stairs to smooth
    # Cells of four neighbours that differ; elsewhere the nearest is right.
    mixed = np.zeros(labels.shape, bool)
    mixed[:-1] |= labels[:-1] != labels[1:]
    mixed[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    mixed[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    for start in range(0, len(top), BAND):
        at_y, at_x = np.nonzero(mixed[top[start : start + BAND, np.newaxis], left])
        at_y += start
        four = [(y[at_y], x[at_x]) for y in (top, below) for x in (left, right)]
        corners = np.stack([labels[corner] for corner in four])
        wy, wx = y_weight[at_y], x_weight[at_x]
        weights = np.stack([(1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx])
        if inside is not None:
            values = np.stack([inside[corner] for corner in four])
            weights *= (values >= 0) == ((weights * values).sum(axis=0) >= 0)
        sums = np.stack([(weights * (corners == corner)).sum(axis=0) for corner in corners])
        chosen = sums.argmax(axis=0)
        resized[at_y, at_x] = np.take_along_axis(corners, chosen[np.newaxis], axis=0)[0]
    return resized


def _neighbours(size: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Pixel before each target pixel's middle along an axis, and the weight of the one after."""
    middle = (np.arange(target) + 0.5) * (size / target) - 0.5
    middle = np.clip(middle, 0, size - 1)
    before = np.minimum(np.floor(middle).astype(np.intp), size - 1)
    return before, (middle - before).astype(np.float32)
