"""Estimate the cell diameter of an image, and the zoom at which a network should see it.

The network predicts windows of the image at several zooms. At the right zoom it finds many cells
of a familiar size with high confidence; zoomed in too far it finds pieces of cells with low
confidence, and zoomed out too far nothing::

    score(z) = trust(z) * good^2 / (good + bad)

    good, bad   sum over the cells of  area / window * max(0, confidence - 0.5)^3
                good: cells of 16 to 50 pixels across at this zoom that do not reach
                from one side of the window to the other;  bad: all others
    confidence  mean over a cell of the largest class probability
    trust       prior of a zoom: lower for extreme ones, which are rarely needed

The estimate is the median diameter of the cells at the zoom with the highest score. Powers and
limits were chosen on training images at a quarter of to four times their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.core.instances import InstanceOptions, label_cells
from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.core.predict import MemoryFull, Network, Output, predict_plane
from napari_unet_cells.core.resample import NormalizedPlane, scaled_shape

#: Zooms and their trust, from far to near: each finds the centre of the next window.
ZOOMS = {0.125: 0.5, 0.25: 0.8, 0.5: 1.0, 1.0: 1.0, 2.0: 0.7, 4.0: 0.25}

#: Past its maximum the score only falls. Where the best score is above this and the score has
#: halved since, the remaining zooms are skipped, which saves a quarter of all pixels. On the
#: validation images at half, once and twice their size no estimate changed.
SURE = 0.002

#: Side of the window, in pixels that the network sees.
WINDOW = 512

#: If the centre is emptier than this fraction of the densest part, the next window moves there. Not
#: always: the densest part is often an artefact.
LEAST_BUSY = 0.3

#: A window with a shorter side is skipped: it holds too few cells.
SMALLEST_WINDOW = 24

GOOD_DIAMETERS = (16.0, 50.0)

LEAST_CONFIDENCE = 0.5

#: Maximum zoom; it makes 20 pixels of 5.
LARGEST_ZOOM = 4.0


def diameters_of(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Diameter in pixels of a disc of the same area, for every cell of a label image."""
    areas = np.bincount(labels.ravel())[1:]
    diameters: NDArray[np.float64] = np.sqrt(areas[areas > 0] * (4 / np.pi))
    return diameters


def zoom_for(diameter: float, window: tuple[float, float]) -> float:
    """Zoom that brings the median cell diameter into a model's range.

    Parameters
    ----------
    diameter : float
        Pixels; 0 where it is not known.
    window : (float, float)
        Of `ModelCard.diameter_window`, in pixels; (0, 0) where the model has none.

    Returns
    -------
    float
        1 within the range, and where the change would be less than 10 %.
    """
    if diameter <= 0 or window[1] <= 0:
        return 1.0
    zoom = min(max(diameter, window[0]), window[1]) / diameter
    return 1.0 if 0.9 < zoom < 1.1 else min(zoom, LARGEST_ZOOM)


def estimate_diameter(
    plane: ImageArray, network: Network, limits: Limits, options: InstanceOptions
) -> float:
    """Estimate the median diameter of the cells of a plane.

    Parameters
    ----------
    plane : array, (y, x) or (y, x, c)
        Only windows of it are read; it may be lazy.
    network : Network
        With the classes cell and boundary.
    limits : Limits
        Of the whole plane.
    options : InstanceOptions
        Of the network.

    Returns
    -------
    float
        Pixels of the plane; 0 where no cell was found.
    """
    best, diameter = 0.0, 0.0
    centre: tuple[float, float] = (plane.shape[0] / 2, plane.shape[1] / 2)
    for zoom, trust in ZOOMS.items():
        window = _Window.around(centre, (plane.shape[0], plane.shape[1]), zoom)
        if min(window.scaled) < SMALLEST_WINDOW:
            continue
        pixels = np.asarray(plane[window.part])
        probabilities, network = _probabilities(pixels, network, limits, window.scaled)
        score, median = _judge(probabilities, options)
        if score * trust > best:
            best, diameter = score * trust, median / zoom
        elif best > SURE and score * trust < best / 2:
            break
        # Zoomed out, small cells are visible as contrast only.
        seen = probabilities[0] if score > 0 else _contrast(pixels, limits, window.scaled)
        centre = window.next_centre(seen)
    return diameter


@dataclass(frozen=True)
class _Window:
    """A part of the plane, and the size at which the network sees it."""

    part: tuple[slice, slice]
    scaled: tuple[int, int]

    @classmethod
    def around(cls, centre: tuple[float, float], shape: tuple[int, int], zoom: float) -> _Window:
        side = int(WINDOW / zoom)
        part = []
        for middle, size in zip(centre, shape, strict=True):
            length = min(side, size)
            start = int(min(max(0.0, middle - length / 2), size - length))
            part.append(slice(start, start + length))
        y, x = part
        return cls((y, x), scaled_shape((y.stop - y.start, x.stop - x.start), zoom))

    def next_centre(self, seen: NDArray[Any]) -> tuple[float, float]:
        """Centre of the window of the next zoom, in pixels of the plane.

        The same centre; or, where it is empty, that of the half-sized window with the largest sum.
        """
        height, width = self.scaled
        share = ndimage.uniform_filter(
            seen.astype(np.float32), (height // 2, width // 2), mode="constant"
        )
        y, x = height // 2, width // 2
        if share[y, x] < LEAST_BUSY * share.max():
            y, x = np.unravel_index(share.argmax(), share.shape)
        rows, columns = self.part
        return (
            rows.start + (y + 0.5) * (rows.stop - rows.start) / height,
            columns.start + (x + 0.5) * (columns.stop - columns.start) / width,
        )


def _contrast(pixels: NDArray[Any], limits: Limits, scaled: tuple[int, int]) -> NDArray[np.float32]:
    """Local contrast of a window: difference of each pixel from the mean around it."""
    whole = (slice(0, scaled[0]), slice(0, scaled[1]))
    image = NormalizedPlane(pixels, limits, scaled).read(whole).mean(axis=2)
    contrast: NDArray[np.float32] = np.abs(image - ndimage.uniform_filter(image, 9))
    return contrast


def _probabilities(
    pixels: NDArray[Any], network: Network, limits: Limits, scaled: tuple[int, int]
) -> tuple[NDArray[np.uint8], Network]:
    """Probabilities of a window, and the network to go on with: another one after full memory."""
    out = Output.empty((pixels.shape[0], pixels.shape[1]), network.probabilities, scaled)
    for event in predict_plane(pixels, network, limits, out, scaled):
        if isinstance(event, MemoryFull):
            network = event.network
    return out.probabilities, network


def _judge(probabilities: NDArray[np.uint8], options: InstanceOptions) -> tuple[float, float]:
    """Score of a window (formula above) and median cell diameter in its pixels."""
    labels = label_cells(probabilities, options)
    n = int(labels.max())
    if n == 0:
        return 0.0, 0.0
    cell, boundary = probabilities[:2].astype(np.int16)
    sureness = np.maximum(np.maximum(cell, boundary), 255 - cell - boundary)
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    sums = np.bincount(labels.ravel(), sureness.ravel(), minlength=n + 1)[1:]
    weights = np.maximum(sums / areas / 255 - LEAST_CONFIDENCE, 0) ** 3 * areas / labels.size
    diameters = np.sqrt(areas * (4 / np.pi))
    known = (diameters >= GOOD_DIAMETERS[0]) & (diameters <= GOOD_DIAMETERS[1])
    known &= ~_spanning(labels, n)
    good, every = float(weights[known].sum()), float(weights.sum())
    return (good**2 / every if every > 0 else 0.0), float(np.median(diameters))


def _spanning(labels: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Find the cells (1 to n) that reach across the window, whose width is therefore not known.

    Zoomed out, a small image full of cells looks like one bright square.
    """
    spanning = np.zeros(n + 1, bool)
    for lines in (labels, labels.T):
        spanning[np.intersect1d(lines[0], lines[-1])] = True
    return spanning[1:]
