"""Training crops: geometry, intensity and noise changed at random, target classes drawn.

Python time is what starves a network here, so all of it works on 8 bit as long as it can:
Pillow warps image and mask, one look-up table holds gamma, contrast and inversion, and
noise and shading come from banks that are drawn once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageFilter
from scipy import ndimage

from napari_unet_cells.core.labels import UNKNOWN
from napari_unet_cells.core.normalize import Limits, normalize, percentile_limits
from napari_unet_cells.core.predict import in_bytes
from napari_unet_cells.training.intensity import (
    ANY_INTENSITY,
    CLASS_INTENSITY,
    MILD_INTENSITY,
    SAME_INTENSITY,
    IntensityLimits,
    look_up_table,
    recolour,
)
from napari_unet_cells.training.synthetic.simulate import simulate

BACKGROUND, CELL, BOUNDARY = 0, 1, 2

#: Pixels along the edges of crops in a `Mosaic` in which nothing is learned.
SEAM = 4

#: Beyond these the pixels of an image tell nothing any more.
ZOOMS = (0.3, 5.0)

#: Cells whose interior would vanish under a boundary of two pixels get one of one pixel.
THIN_BOUNDARY_BELOW = 14.0

#: Classes that are rarer weigh no more than this part of all pixels would.
RAREST = 1e-3


@dataclass(frozen=True)
class Annotated:
    """One annotated plane, ready for cropping.

    Attributes
    ----------
    image : uint8 array, (y, x) or (y, x, channels)
        Normalised with the limits of the whole plane, 0..255.
    mask : int32 array, (y, x)
        Instance labels (or classes, where `AugmentOptions.instances` is False).
    diameter : float
        Median diameter of the cells in pixels (of a disc of the same area), 0 without cells
        and for classes.
    modality : str
        As the data set names it.
    weight : uint8 array, (y, x), or None
        What each pixel counts in the loss; 0 is not looked at. None counts all alike.
    distance : uint8 array, (y, x), or None
        See `boundary_distance`; None for classes.
    zoom : float
        At which the network sees it, where `AugmentOptions.zooms` go around that.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.int32]
    diameter: float
    modality: str
    weight: NDArray[np.uint8] | None = None
    distance: NDArray[np.uint8] | None = None
    zoom: float = 1.0


def annotate(
    image: NDArray[Any],
    mask: NDArray[np.int32],
    modality: str = "unknown",
    instances: bool = True,
    limits: Limits | None = None,
    weight: NDArray[np.uint8] | None = None,
) -> Annotated:
    """Prepare an image and its mask for cropping.

    Parameters
    ----------
    image : array, (y, x) or (y, x, channels), any real dtype
    mask : int32 array, (y, x)
    modality : str
    instances : bool
        Whether the mask holds cells; else classes.
    limits : Limits, optional
        Of the plane that the image was cut out of; by default its own.
    weight : uint8 array, (y, x), optional
    """
    limits = limits or percentile_limits(image)
    values = np.zeros(image.shape, np.float32) if limits is None else normalize(image, limits)
    if values.shape[2:] == (3,) and not (np.ptp(values, axis=2) > 0.02).any():
        values = values.mean(axis=2)  # a grey image saved as RGB: a third of the work
    areas = np.bincount(mask.ravel() if instances else [])[1:]
    areas = areas[areas > 0]
    diameter = float(np.sqrt(np.median(areas) * 4 / np.pi)) if areas.size else 0.0
    pixels = in_bytes(values)
    distance = boundary_distance(mask) if instances else None
    return Annotated(pixels, mask, diameter, modality, weight, distance)


def class_weights(planes: Sequence[Annotated], n_classes: int) -> tuple[float, ...]:
    """Weigh a class by the inverse square root of its part of all pixels.

    ::

        w(c) = p(c)^-1/2 / sum over c of p(c)^1/2        p(c) at least `RAREST`

    So the mean weight of a pixel is 1 and a class of 1 % weighs ten times as much as one of
    100 %; the whole inverse would make of every doubtful pixel the rarest class.

    Parameters
    ----------
    planes : sequence of Annotated
        With masks of classes.
    n_classes : int

    Returns
    -------
    tuple of float
        One a class.
    """
    counts = sum(np.bincount(plane.mask.ravel(), minlength=UNKNOWN + 1) for plane in planes)
    counts = np.asarray(counts)[:n_classes]  # what is unknown belongs to no class
    part = counts / max(counts.sum(), 1)
    weights = np.maximum(part, RAREST) ** -0.5
    return tuple(float(weight) for weight in weights / max((part * weights).sum(), RAREST))


def boundary_classes(mask: NDArray[np.integer[Any]], width: int = 1) -> NDArray[np.uint8]:
    """Background, cell and boundary from instance labels.

    A pixel of a cell is boundary where another label, the background included, lies
    within `width` pixels of it (in the 8-neighbourhood).

    Parameters
    ----------
    mask : integer array, (y, x)
        0 is background, every cell its own integer.
    width : int
        Pixels.

    Returns
    -------
    uint8 array, (y, x)
        `BACKGROUND`, `CELL`, `BOUNDARY`.
    """
    edge = _edges(mask)
    for _ in range(width - 1):
        edge = _dilated(edge)
    classes = (mask > 0).astype(np.uint8)
    classes[edge & (mask > 0)] = BOUNDARY
    return classes


def boundary_distance(mask: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Distance of each pixel to the boundary of its cell, as a fraction of the largest.

    Every cell, small or large, has the value 1 where it is deepest, so that a seed of each
    can be found with one threshold. The border of the plane is no boundary.

    Parameters
    ----------
    mask : integer array, (y, x)
        0 is background, every cell its own integer.

    Returns
    -------
    uint8 array, (y, x)
        In units of 1/255; 0 is background.
    """
    cells = mask > 0
    if not cells.any():
        return np.zeros(mask.shape, np.uint8)
    inside = cells & ~_edges(mask)
    # Without any edge, one cell fills the plane.
    distance = np.ones(mask.shape) if inside.all() else ndimage.distance_transform_edt(inside)
    distance += 0.5  # pixels at the boundary belong to the cell as well
    numbers = mask[cells]
    deepest = np.zeros(int(numbers.max()) + 1)
    np.maximum.at(deepest, numbers, distance[cells])
    depth = np.zeros(mask.shape, np.uint8)
    depth[cells] = np.round(distance[cells] / deepest[numbers] * 255)
    return depth


def _edges(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with another label among their eight neighbours."""
    edge = np.zeros(mask.shape, bool)
    for here, there in _NEIGHBOURS:
        differ = mask[here] != mask[there]
        edge[here] |= differ
        edge[there] |= differ
    return edge


def _dilated(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grown = pixels.copy()
    for here, there in _NEIGHBOURS:
        grown[here] |= pixels[there]
        grown[there] |= pixels[here]
    return grown


_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (
    ((_HEAD, _ALL), (_TAIL, _ALL)),
    ((_ALL, _HEAD), (_ALL, _TAIL)),
    ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    ((_HEAD, _TAIL), (_TAIL, _HEAD)),
)


@dataclass(frozen=True)
class AugmentOptions:
    """Options for drawing and augmenting crops.

    Attributes
    ----------
    size : int
        Side of the crop in pixels.
    channels : int
        1 gives grey crops, 3 RGB; of other numbers the planes must have as many.
    instances : bool
        True: masks hold instances and become three classes. False: masks are classes.
    diameters : (float, float)
        Range, in pixels, into which half of the crops that are not mild are rescaled, uniform
        in its logarithm.
    window : (float, float) or None
        Median diameters, in pixels, into which the other half is zoomed as it will be when the
        network is used, give or take a quarter (see `cell_diameter.zoom_for`). None leaves those
        images as they are, give or take as much.
    weights : tuple of float
        Loss weight of background, cell, boundary and of boundary between touching cells. A
        boundary that weighs more than what lies outside is drawn too wide, and cells too large.
    class_weights : tuple of float
        Loss weight of each class where masks are classes; empty weighs all alike.
    zooms : (float, float) or None
        Crops of images whose scale is known (`Annotated.zoom`) are rescaled by this range around
        it, uniform in its logarithm, and neither `diameters` nor other intensities are drawn: one
        modality is learned, and not all there are.
    distance : bool
        Whether the distance to the boundary is a target beside the classes.
    mild : float
        Part of the crops, 0 to 1, with mild augmentation only: zoomed as they will be when the
        network is used, with nearly unchanged intensities. With many of them at the end of a
        training, the network fits what there is; the others keep it from fitting only that.
    synthetic : float
        Part of the crops, 0 to 1, of simulated images, each drawn for one crop alone; of grey or
        RGB images and cells only.
    """

    size: int = 256
    channels: int = 3
    instances: bool = True
    diameters: tuple[float, float] = (7.0, 110.0)
    window: tuple[float, float] | None = None
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 2.0)
    class_weights: tuple[float, ...] = ()
    zooms: tuple[float, float] | None = None
    distance: bool = False
    mild: float = 0.0
    synthetic: float = 0.0


#: Diameters, in pixels, of simulated cells; of larger ones too few would lie in the image.
SIMULATED = (5.0, 80.0)

#: How far a crop's zoom strays from that of use (standard deviation of its logarithm).
STRAY, MILD_STRAY = 0.25, 0.15


@dataclass
class Cropper:
    """Draws batches of augmented crops from annotated planes.

    Modalities are drawn with the square root of their frequency, so that a rare one is seen
    often enough to be learned; among the images of one, an image of four times as many
    crops is drawn twice as often, since there is more to learn from it.
    """

    planes: list[Annotated]
    options: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        """Draw the banks of noise and shading, and the probability of each plane."""
        rng = np.random.default_rng(0)
        side = self.options.size
        self._noise = rng.standard_normal((side * 3, side * 3), dtype=np.float32)
        self._shading = [_shading(rng, side) for _ in range(24)]
        self._probability = _probabilities(self.planes, self.options)

    def batch(self, n: int, seed: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Draw one batch; the same seed gives the same batch.

        Returns
        -------
        images : float32 array, (n, size, size, channels), in [0, 1]
        targets : uint8 array, (n, size, size); with `distance` (n, size, size, 2)
            Classes; and distances, see `boundary_distance`.
        weights : float32 array, (n, size, size)
            Of the loss, see `AugmentOptions`. Beyond the plane image and mask are mirrored,
            which is as good to learn from.
        """
        rng = np.random.default_rng(seed)
        options = self.options
        images = np.empty((n, options.size, options.size, options.channels), np.float32)
        channels = (2,) if options.distance else ()
        targets = np.empty((n, options.size, options.size, *channels), np.uint8)
        weights = np.empty((n, options.size, options.size), np.float32)
        for i in range(n):
            images[i], targets[i], weights[i] = self._crop(self._plane(rng), rng)
        return images, targets, weights

    def _plane(self, rng: np.random.Generator) -> Annotated:
        if self.options.synthetic and rng.random() < self.options.synthetic:
            image, mask, world = simulate(rng, self.options.size, diameters=SIMULATED)
            return annotate(image, mask, f"simulated-{world.appearance}")
        return self.planes[rng.choice(len(self.planes), p=self._probability)]

    def _crop(self, plane: Annotated, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        options = self.options
        tilted = False
        if options.zooms is not None:
            limits = SAME_INTENSITY
            zoom = plane.zoom * float(np.exp(rng.uniform(*np.log(options.zooms))))
        elif options.mild and rng.random() < options.mild:
            limits = MILD_INTENSITY
            zoom = _usual_zoom(plane.diameter, options, rng, MILD_STRAY)
        else:
            limits = ANY_INTENSITY if options.instances else CLASS_INTENSITY
            zoom = _draw_zoom(plane.diameter, options, rng)
            tilted = rng.random() < 0.4
        image, mask, weight, distance = _warp(plane, zoom, options.size, tilted, rng)
        pixels = self._intensity(image, limits, rng)
        if pixels.ndim == 2:
            pixels = pixels[..., np.newaxis]
        if options.channels == 1 and pixels.shape[2] > 1:
            pixels = pixels.mean(axis=2, keepdims=True)
        target, weights = self._target(mask, plane.diameter * zoom)
        if options.distance:
            assert distance is not None, "planes come from `annotate`"
            target = np.stack([target, distance], axis=2)
        return pixels, target, weights if weight is None else weights * weight

    def _target(self, mask: NDArray[np.int32], diameter: float) -> tuple[Any, Any]:
        if not self.options.instances:
            # What nobody annotated is no class, and its weight is 0.
            classes = np.where(mask == UNKNOWN, 0, mask).astype(np.uint8)
            by_class = np.array(self.options.class_weights or (1.0,) * 256, np.float32)
            return classes, by_class[classes] * (mask != UNKNOWN)
        classes = boundary_classes(mask, width=1 if diameter < THIN_BOUNDARY_BELOW else 2)
        background, cell, boundary, touching = self.options.weights
        weights = np.array([background, cell, boundary], np.float32)[classes]
        between = np.zeros(mask.shape, bool)
        for here, there in _NEIGHBOURS:
            meet = (mask[here] != mask[there]) & (mask[here] > 0) & (mask[there] > 0)
            between[here] |= meet
            between[there] |= meet
        weights[_dilated(between)] = touching
        return classes, weights

    def _intensity(
        self, image: NDArray[np.uint8], limits: IntensityLimits, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Change colour, blur, gamma, contrast, shading and noise; in [0, 1]."""
        if limits.any_colour:
            image = recolour(image, rng)
        if rng.random() < limits.blurred:
            blur = ImageFilter.GaussianBlur(float(rng.uniform(0.4, limits.widest_blur)))
            image = _with_pillow(image, lambda picture: picture.filter(blur))
        invert = rng.random() < limits.inverted
        pixels = look_up_table(rng, limits, invert)[image]
        side = self.options.size
        grey = pixels.ndim == 2
        if rng.random() < limits.shaded:
            shading = self._shading[rng.integers(len(self._shading))]
            pixels *= shading if grey else shading[..., np.newaxis]
        if rng.random() < limits.hazy:
            haze = self._shading[rng.integers(len(self._shading))]
            haze = haze * np.float32(rng.uniform(0.0, limits.most_haze))
            haze = haze if grey else haze[..., np.newaxis]
            pixels += haze * (1 - pixels)
        if rng.random() < limits.noisy:
            y, x = rng.integers(0, side * 2, 2)
            strength = np.float32(rng.uniform(0.005, limits.most_noise))
            noise = self._noise[y : y + side, x : x + side] * strength
            pixels += noise if grey else noise[..., np.newaxis]
        np.clip(pixels, 0.0, 1.0, out=pixels)
        return pixels


@dataclass
class Mosaic(Cropper):
    """Draws crops that are laid side by side: as many pixels, of several places.

    Crops that are larger than what was annotated are mostly empty. Between the crops nothing is
    learned, since what lies beyond is of another image.

    Attributes
    ----------
    tiles : int
        Crops along a side. The size in the options is that of one.
    side : int
        Of the whole in pixels.
    """

    tiles: int = 1
    side: int = 256

    def batch(self, n: int, seed: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Draw one batch of n mosaics; see `Cropper.batch`."""
        images, targets, weights = super().batch(n * self.tiles**2, seed)
        if self.tiles > 1:
            for edge in (slice(None, SEAM), slice(-SEAM, None)):
                weights[:, edge] = weights[:, :, edge] = 0
        return self._laid(images, n), self._laid(targets, n), self._laid(weights, n)

    def _laid(self, crops: NDArray[Any], n: int) -> NDArray[Any]:
        tiles, size = self.tiles, crops.shape[1]
        rows = crops.reshape(n, tiles, tiles, size, size, *crops.shape[3:]).swapaxes(2, 3)
        whole = rows.reshape(n, tiles * size, tiles * size, *crops.shape[3:])
        left = self.side - tiles * size
        return np.pad(whole, [(0, 0), (0, left), (0, left), *[(0, 0)] * (whole.ndim - 3)])


def _probabilities(planes: Sequence[Annotated], options: AugmentOptions) -> NDArray[np.float64]:
    """How often each plane is drawn; see `Cropper`."""
    modalities = np.array([plane.modality for plane in planes])
    sizes = np.array([_crops_in(plane, options) ** 0.5 for plane in planes])
    probability = np.zeros(len(planes))
    for modality in set(modalities.tolist()):
        those = modalities == modality
        probability[those] = np.sqrt(those.sum()) * sizes[those] / sizes[those].sum()
    return np.asarray(probability / probability.sum())


def _crops_in(plane: Annotated, options: AugmentOptions) -> float:
    """How many crops a plane holds at the scale at which it will be seen, at least one."""
    zoom = plane.zoom if options.zooms else _zoom_of_use(plane.diameter, options)
    return max(1.0, plane.mask.size * zoom**2 / options.size**2)


def _zoom_of_use(diameter: float, options: AugmentOptions) -> float:
    """Zoom that brings cells of a diameter into the window; 1 where either is not known."""
    if diameter == 0 or options.window is None:
        return 1.0
    return float(np.clip(diameter, *options.window)) / diameter


def _shading(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Smooth illumination between about 0.5 and 1.1, from a grid of 3 x 3 random values."""
    grid = PILImage.fromarray(rng.uniform(0.5, 1.1, (3, 3)).astype(np.float32))
    return np.asarray(grid.resize((side, side), PILImage.Resampling.BICUBIC))


def _draw_zoom(diameter: float, options: AugmentOptions, rng: np.random.Generator) -> float:
    """Half of the crops stay near the scale of use, half go anywhere in `diameters`."""
    if diameter == 0 or rng.random() < 0.5:
        return _usual_zoom(diameter, options, rng)
    low, high = np.log(options.diameters)
    return float(np.clip(np.exp(rng.uniform(low, high)) / diameter, *ZOOMS))


def _usual_zoom(
    diameter: float, options: AugmentOptions, rng: np.random.Generator, stray: float = STRAY
) -> float:
    """Near the scale at which the network is used."""
    usual = _zoom_of_use(diameter, options)
    return float(np.clip(usual * np.exp(rng.normal(0.0, stray)), *ZOOMS))


def _warp(
    plane: Annotated, zoom: float, size: int, tilted: bool, rng: np.random.Generator
) -> tuple[
    NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint8] | None, NDArray[np.uint8] | None
]:
    """Cut a turned, flipped and rescaled square out of image, mask, weight and distance."""
    angle = rng.uniform(0, 2 * np.pi) if tilted else rng.integers(4) * np.pi / 2
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    matrix[:, 0] *= rng.choice((-1.0, 1.0))
    reach = float(np.abs(matrix).sum(axis=1).max() * size / 2) + 2
    centre = _draw_centre(plane, reach, rng)
    image, corner = _padded_window(plane.image, centre, reach)
    mask, _ = _padded_window(plane.mask, centre, reach)
    step = int(1 / zoom) if zoom < 0.67 else 1
    if step > 1:  # Pillow's warp reads single pixels: average first, against aliasing
        image = _with_pillow(image, lambda picture: picture.reduce(step))
    origin = np.array(centre[::-1]) - corner[::-1] - matrix @ np.array([size / 2, size / 2])

    def coefficients(divisor: int) -> tuple[float, ...]:
        (a, b), (d, e) = matrix / divisor
        return (a, b, origin[0] / divisor, d, e, origin[1] / divisor)

    resampling = PILImage.Resampling.BILINEAR if zoom < 2 else PILImage.Resampling.BICUBIC
    warped = _with_pillow(
        image,
        lambda picture: picture.transform(
            (size, size), PILImage.Transform.AFFINE, coefficients(step), resampling
        ),
    )

    def unscaled(
        values: NDArray[Any], resampling: PILImage.Resampling = PILImage.Resampling.NEAREST
    ) -> NDArray[Any]:
        picture = PILImage.fromarray(values).transform(
            (size, size), PILImage.Transform.AFFINE, coefficients(1), resampling
        )
        return np.asarray(picture)

    weight = distance = None
    if plane.weight is not None:
        weight = unscaled(_padded_window(plane.weight, centre, reach)[0])
    if plane.distance is not None:
        window, _ = _padded_window(plane.distance, centre, reach)
        distance = unscaled(window, PILImage.Resampling.BILINEAR)
    return warped, unscaled(mask), weight, distance


def _with_pillow(
    image: NDArray[np.uint8], change: Callable[[PILImage.Image], PILImage.Image]
) -> NDArray[np.uint8]:
    """Change an image (y, x) or (y, x, channels); Pillow knows grey and RGB only."""
    if image.shape[2:] in ((), (3,)):
        return np.asarray(change(PILImage.fromarray(image)))
    channels = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    return np.stack([np.asarray(change(PILImage.fromarray(one))) for one in channels], axis=2)


def _draw_centre(plane: Annotated, reach: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point on a cell, if one of a dozen random points hits one, moved inside the plane.

    Sparse images would otherwise give mostly empty crops, and where pixels are not looked at
    nothing is to be learned.
    """
    shape = np.array(plane.mask.shape)
    points = (rng.random((12, 2)) * shape).astype(int)
    wanted = plane.mask[points[:, 0], points[:, 1]] > 0
    if plane.weight is not None:
        wanted = plane.weight[points[:, 0], points[:, 1]] > 0
    hits = points[wanted]
    point = hits[0] if len(hits) else points[0]
    inset = np.minimum(reach, shape * 0.4)
    y, x = np.clip(point, inset, shape - inset)
    return float(y), float(x)


def _padded_window(
    array: NDArray[Any], centre: tuple[float, float], reach: float
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Window around `centre`, mirrored where it leaves the plane, and its corner (y, x)."""
    low = np.floor(np.array(centre) - reach).astype(int)
    high = np.ceil(np.array(centre) + reach).astype(int)
    shape = np.array(array.shape[:2])
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, shape)
    window = array[inside_low[0] : inside_high[0], inside_low[1] : inside_high[1]]
    before, after = inside_low - low, high - inside_high
    if before.any() or after.any():
        width = [(int(b), int(a)) for b, a in zip(before, after, strict=True)]
        window = np.pad(window, width + [(0, 0)] * (array.ndim - 2), mode="symmetric")
    return np.ascontiguousarray(window), low
