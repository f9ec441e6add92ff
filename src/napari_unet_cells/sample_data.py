"""Images to try the plugin on: a simulator with known truth, and one of scikit-image.

The simulator makes fluorescence nuclei the way a camera sees them::

    outlines  ->  brightness, dome, chromatin  ->  haze, background, shading  ->  blur  ->  noise
    (truth)       (what is stained)                (what is not in focus)        (optics)  (camera)

The functions without parameters are contributions to napari's menu File > Open Sample; they
return what napari makes layers of, and need neither napari nor a download.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LayerData = tuple[NDArray[Any], dict[str, Any], str]
"""What napari calls LayerDataTuple: pixels, the layer's attributes, the layer's type."""

CAMERA_OFFSET = 100.0
"""Grey value of a pixel that no light reaches, as scientific cameras have it."""

NUCLEUS_GREY = 4000.0
"""Grey values that a nucleus of typical brightness stands above the camera's offset."""

_TOUCHING = 0.3  # part of the nuclei that are put beside another one
_MAX_OVERLAP = 0.12  # part of its area that a nucleus may lose to those placed before it


@dataclass(frozen=True)
class _Nucleus:
    """One nucleus: where its patch lies, its pixels in the patch, and its dome there."""

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]
    dome: NDArray[np.float64]


def simulate_nuclei(
    shape: tuple[int, int] = (512, 512),
    n: int | None = None,
    diameter: float = 20.0,
    noise: float = 0.08,
    blur: float = 1.0,
    background: float = 0.1,
    seed: int = 0,
    density: float = 0.15,
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | NDArray[np.int32]]:
    """Make a fluorescence image of nuclei and the labels that are true of it.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    n : int, optional
        Number of nuclei wanted; as `density` says by default. Fewer are made where there is
        no room for more.
    diameter : float
        Mean diameter in pixels (of the circle of the same area); single nuclei differ by 15 %.
    noise : float
        Standard deviation of the noise in a nucleus of typical brightness, as a part of that
        brightness: Poisson noise of ``1 / noise**2`` photons, and a tenth of it Gaussian read
        noise. 0 is none.
    blur : float
        Standard deviation of the Gaussian point spread function in pixels; 0 is none.
    background : float
        Mean brightness of the background (it varies by a half across the image) as a part of
        that of a typical nucleus.
    seed : int
        The same seed and parameters give the same image.
    density : float
        Part of the image that the nuclei shall cover, 0 to 1, where `n` is not given. Above
        about 0.5 there is no room for all of them.

    Returns
    -------
    image : array of uint16, shape (height, width)
        Grey values: `CAMERA_OFFSET` and `NUCLEUS_GREY` for a typical nucleus above it.
    truth : array of uint16 (int32 above 65535 nuclei), shape (height, width)
        0 is background, 1 ... the nuclei, without gaps; nuclei may touch but not overlap.

    Raises
    ------
    ValueError
        If a side, the diameter, or another parameter is out of its range.
    """
    if min(shape) < 1 or diameter <= 0:
        raise ValueError(f"shape {shape} and diameter {diameter} must be positive")
    if min(noise, blur, background) < 0 or (n is not None and n < 0):
        raise ValueError("n, noise, blur and background must not be negative")
    if not 0 <= density <= 1:
        raise ValueError(f"density {density} must lie between 0 and 1")
    rng = np.random.default_rng(seed)
    if n is None:
        n = round(density * shape[0] * shape[1] / (np.pi * diameter**2 / 4))
    truth, stain = _place_nuclei(shape, n, diameter, rng)
    light = stain * _chromatin(shape, diameter, rng) * _shading(shape, rng)
    # Light from above and below the focus: a faint glow around the nuclei.
    light += 0.06 * ndimage.gaussian_filter(light, 0.6 * diameter)
    light += background * _uneven(shape, rng)
    if blur > 0:
        light = ndimage.gaussian_filter(light, blur)
    grey = CAMERA_OFFSET + NUCLEUS_GREY * _with_noise(light, noise, rng)
    return np.clip(np.rint(grey), 0, 65535).astype(np.uint16), truth


def simulated_nuclei() -> list[LayerData]:
    """Return simulated fluorescence nuclei of about 10 micrometers, 0.5 a pixel."""
    image, _ = simulate_nuclei()
    place = {"scale": (0.5, 0.5), "units": ("micrometer", "micrometer")}
    return [(image, {"name": "simulated nuclei", **place}, "image")]


def cell() -> list[LayerData]:
    """Return one cell in quantitative phase contrast, 0.107 micrometers a pixel (CC0)."""
    place = {"scale": (0.107, 0.107), "units": ("micrometer", "micrometer")}
    return [(_scikit_image("cell"), {"name": "cell", **place}, "image")]


def simulated_stack() -> list[LayerData]:
    """Return a simulated stack (z, channel, y, x): nuclei and the cytoplasm around them."""
    pixels, _ = simulate_stack()
    place = {
        "scale": (2.0, 1.0, 0.5, 0.5),
        "units": ("micrometer", "pixel", "micrometer", "micrometer"),
        "axis_labels": ("z", "channel", "y", "x"),
    }
    return [(pixels, {"name": "simulated stack", **place}, "image")]


def simulate_stack(
    n_planes: int = 5, shape: tuple[int, int] = (256, 256), diameter: float = 20.0, seed: int = 0
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | NDArray[np.int32]]:
    """Make a stack of two channels, in focus in the middle, and the labels of the nuclei.

    Parameters
    ----------
    n_planes : int
    shape : (int, int)
        Height and width in pixels.
    diameter : float
        Mean diameter of a nucleus in pixels.
    seed : int

    Returns
    -------
    image : array of uint16, shape (z, 2, y, x)
        Nuclei, and the cytoplasm around them, which is a third as bright.
    truth : integer array, shape (y, x)
        0 is background, 1 ... the nuclei, in all planes the same.
    """
    nuclei, truth = simulate_nuclei(shape, diameter=diameter, noise=0.0, blur=0.0, seed=seed)
    rng = np.random.default_rng(seed)
    outside = ndimage.distance_transform_edt(truth == 0)
    around = np.where(truth > 0, 0.2, 1.0) * (outside < diameter / 4)
    light = np.stack([(nuclei - CAMERA_OFFSET) / NUCLEUS_GREY, 0.1 + around / 3])
    image = np.empty((n_planes, 2, *shape), np.uint16)
    for z in range(n_planes):
        blur = 1 + abs(z - n_planes // 2) * diameter / 20
        for channel in range(2):
            seen = _with_noise(ndimage.gaussian_filter(light[channel], blur), 0.08, rng)
            image[z, channel] = np.clip(np.rint(CAMERA_OFFSET + NUCLEUS_GREY * seen), 0, 65535)
    return image, truth


def _scikit_image(name: str) -> NDArray[Any]:
    """Load an image inside scikit-image's wheel; imported late, it takes a while."""
    image: NDArray[Any] = getattr(import_module("skimage.data"), name)()
    return image


def _place_nuclei(
    shape: tuple[int, int], n: int, diameter: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint16] | NDArray[np.int32], NDArray[np.float64]]:
    """Return the labels and the stain (1 in the middle of a typical nucleus)."""
    truth = np.zeros(shape, dtype=np.uint16 if n <= 65535 else np.int32)
    stain = np.zeros(shape)
    centres: list[NDArray[np.float64]] = []
    for _ in range(20 * n):
        if len(centres) == n:
            break
        centre = _choose_centre(shape, centres, diameter, rng)
        if truth[tuple(centre.astype(int))]:  # in the middle of another: not worth drawing
            continue
        nucleus = _draw_nucleus(shape, centre, diameter, rng)
        free = nucleus.mask & (truth[nucleus.window] == 0)
        if not _is_acceptable(free, nucleus.mask):
            continue
        centres.append(centre)
        truth[nucleus.window][free] = len(centres)
        stain[nucleus.window][free] = rng.lognormal(0.0, 0.3) * nucleus.dome[free]
    return truth, stain


def _choose_centre(
    shape: tuple[int, int],
    centres: list[NDArray[np.float64]],
    diameter: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return a point of the image, now and then one beside a nucleus that is there."""
    extent = np.array(shape, dtype=float)
    if centres and rng.random() < _TOUCHING:
        angle = rng.uniform(0, 2 * np.pi)
        step = diameter * rng.uniform(0.8, 1.1) * np.array([np.sin(angle), np.cos(angle)])
        beside = centres[rng.integers(len(centres))] + step
        if (beside >= 0).all() and (beside < extent).all():
            return beside
    return rng.uniform(0, extent)


def _draw_nucleus(
    shape: tuple[int, int],
    centre: NDArray[np.float64],
    diameter: float,
    rng: np.random.Generator,
) -> _Nucleus:
    """Draw an ellipse whose radius wobbles, ``r(a) = ellipse(a) * (1 + sum c_k cos(k a + p_k))``.

    It is a star domain around its centre, which lies in the image, so that the border of the
    image cannot cut it in two.
    """
    radius = diameter / 2 * np.exp(rng.normal(0, 0.15))
    elongation = rng.uniform(1.0, 1.35)  # long axis / radius; the area stays that of the circle
    tilt = rng.uniform(0, 2 * np.pi)
    orders = np.arange(2, 6)
    wobble = rng.normal(0, 0.08, orders.size) / (orders - 1)
    phases = rng.uniform(0, 2 * np.pi, orders.size)

    reach = int(np.ceil(1.5 * radius * elongation)) + 1
    first = np.maximum(centre.astype(int) - reach, 0)
    last = np.minimum(centre.astype(int) + reach + 1, shape)
    dy, dx = np.ogrid[first[0] : last[0], first[1] : last[1]]
    dy, dx = dy + 0.5 - centre[0], dx + 0.5 - centre[1]  # a pixel's centre is at its half
    along = (dx * np.cos(tilt) + dy * np.sin(tilt)) / elongation
    across = (dy * np.cos(tilt) - dx * np.sin(tilt)) * elongation
    angle = np.arctan2(across, along)
    outline = 1 + sum(
        c * np.cos(k * angle + p) for c, k, p in zip(wobble, orders, phases, strict=True)
    )
    relative = np.hypot(along, across) / (radius * np.maximum(outline, 0.3))
    mask = relative < 1
    # A nucleus is thick in the middle and flat at its rim: less light comes from there.
    dome = np.sqrt(np.clip(1 - 0.85 * relative**4, 0, 1))
    return _Nucleus((slice(first[0], last[0]), slice(first[1], last[1])), mask, dome)


def _is_acceptable(free: NDArray[np.bool_], mask: NDArray[np.bool_]) -> bool:
    """Say whether enough of a nucleus is free, and in one piece: one id is one object."""
    if not free.any() or free.sum() < (1 - _MAX_OVERLAP) * mask.sum():
        return False
    return int(ndimage.label(free)[1]) == 1


def _chromatin(
    shape: tuple[int, int], diameter: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a factor around 1: fine granules on coarse patches, as DNA stains show them."""
    texture = np.ones(shape)
    for contrast, size in ((0.10, diameter / 20), (0.12, diameter / 8)):
        grains = ndimage.gaussian_filter(rng.standard_normal(shape), size)
        texture += contrast * grains / (grains.std() or 1.0)
    return np.clip(texture, 0.2, None)


def _shading(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the illumination: 1 near the middle, about a quarter less in the corners."""
    middle = rng.uniform(0.4, 0.6, 2)
    y, x = np.linspace(0, 1, shape[0])[:, None], np.linspace(0, 1, shape[1])[None, :]
    shade: NDArray[np.float64] = 1 - 0.5 * ((y - middle[0]) ** 2 + (x - middle[1]) ** 2)
    return shade


def _uneven(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth factor 0.5 ... 1.5: a wave of about half a period in each direction."""
    frequency, phase = rng.uniform(0.3, 0.7, 2), rng.uniform(0, 1, 2)
    y = np.sin(2 * np.pi * (frequency[0] * np.linspace(0, 1, shape[0]) + phase[0]))
    x = np.sin(2 * np.pi * (frequency[1] * np.linspace(0, 1, shape[1]) + phase[1]))
    wave: NDArray[np.float64] = 1 + 0.25 * (y[:, None] + x[None, :])
    return wave


def _with_noise(
    light: NDArray[np.float64], noise: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return what a camera counts: photons are Poisson distributed, reading adds a Gaussian."""
    if noise == 0:
        return light
    photons = 1 / noise**2
    counted = rng.poisson(light * photons) / photons
    counted += rng.normal(0, noise / 10, light.shape)
    return counted
