"""Intensity augmentation of training crops: limits of gamma, contrast, colour, blur, haze, noise.

One 8-bit look-up table holds gamma, contrast and inversion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from skimage import color


@dataclass(frozen=True)
class IntensityLimits:
    """Limits of the intensity augmentation of a crop.

    Attributes
    ----------
    any_colour : bool
        Whether grey becomes colour, colour grey, and stains others; see `recolour`.
    blurred, inverted, shaded, hazy, noisy, contrast_changed : float
        Part of the crops, 0 to 1, that are; `shaded` ones are unevenly illuminated, `hazy` ones
        have an uneven background on top, `contrast_changed` ones have other gamma and limits.
    widest_blur : float
        Largest standard deviation in pixels.
    most_haze, most_noise : float
        Largest haze, and largest standard deviation of the noise, where the image reaches from 0
        to 1.
    gamma : float
        Standard deviation of the logarithm of the exponent.
    black, white : (float, float)
        Ranges of the intensities that become 0 and 1.
    """

    any_colour: bool
    blurred: float
    widest_blur: float
    inverted: float
    shaded: float
    hazy: float
    most_haze: float
    noisy: float
    most_noise: float
    contrast_changed: float
    gamma: float
    black: tuple[float, float]
    white: tuple[float, float]


#: For images of modalities that the network was not trained on.
ANY_INTENSITY = IntensityLimits(
    any_colour=True,
    blurred=0.3,
    widest_blur=2.2,
    inverted=0.3,
    shaded=0.3,
    hazy=0.2,
    most_haze=0.4,
    noisy=0.5,
    most_noise=0.12,
    contrast_changed=0.7,
    gamma=0.45,
    black=(-0.1, 0.15),
    white=(0.7, 1.6),
)

#: For classes, which may differ in their brightness.
CLASS_INTENSITY = replace(
    ANY_INTENSITY,
    widest_blur=1.8,
    hazy=0.0,
    most_haze=0.0,
    most_noise=0.08,
    gamma=0.35,
    white=(0.75, 1.3),
)

#: Of one modality, from one microscope.
SAME_INTENSITY = replace(
    CLASS_INTENSITY, any_colour=False, widest_blur=1.0, inverted=0.0, shaded=0.0
)

#: Mild augmentation: where people draw an outline depends on how bright and how sharp a cell is.
MILD_INTENSITY = replace(
    SAME_INTENSITY,
    blurred=0.1,
    widest_blur=0.8,
    noisy=0.3,
    most_noise=0.04,
    contrast_changed=0.4,
    gamma=0.15,
    black=(-0.05, 0.06),
    white=(0.9, 1.12),
)


def look_up_table(
    rng: np.random.Generator, limits: IntensityLimits, invert: bool
) -> NDArray[np.float32]:
    """256 intensities to [0, 1] with another gamma and other limits."""
    values = np.linspace(0.0, 1.0, 256, dtype=np.float32)
    if rng.random() < limits.contrast_changed:
        values = values ** np.float32(np.exp(rng.normal(0.0, limits.gamma)))
        low, high = rng.uniform(*limits.black), rng.uniform(*limits.white)
        values = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.ascontiguousarray(1.0 - values if invert else values, dtype=np.float32)


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Grey from colour, colour from grey, or other stains; most grey images stay as they are.

    Channels that are not colours stay: each means something else to the network.
    """
    chance = rng.random()
    if image.ndim == 3 and image.shape[2] != 3:
        return image
    if image.ndim == 2:
        if chance > 0.12:
            return image
        # Fluorescence is often saved as an RGB image in the colour of its dye.
        dye = rng.uniform(0.0, 1.0, 3)
        dye /= dye.max()
        return (image[..., np.newaxis] * dye.astype(np.float32)).astype(np.uint8)
    if chance < 0.2:
        mix = rng.dirichlet((3.0, 3.0, 3.0)).astype(np.float32)
        return (image @ mix).astype(np.uint8)
    if chance < 0.4:
        image = stained_otherwise(image, rng)
    elif chance < 0.65:
        image = restained(image, rng)
    elif chance > 0.9:
        image = image[..., rng.permutation(3)]
    return image


def stained_otherwise(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """More or less of a stain multiplies the optical density: a power of the intensity."""
    power = np.exp(rng.normal(0.0, 0.25, 3))
    table = np.linspace(0.0, 1.0, 256)[:, np.newaxis] ** power * rng.uniform(204, 255, 3)
    return np.stack([table.astype(np.uint8)[image[..., c], c] for c in range(3)], axis=2)


#: Colours of a dye of nuclei, of another dye, and of what is left, as optical densities (rows).
COUNTERSTAINS = tuple(
    matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    for matrix in (
        color.rgb_from_hed,  # haematoxylin and eosin; its third is DAB
        color.rgb_from_hdx,  # haematoxylin and DAB
        color.rgb_from_hax,  # haematoxylin and AEC
        color.rgb_from_hpx,  # haematoxylin and PAS
        color.rgb_from_gdx,  # methyl green and DAB
        color.rgb_from_fgx,  # Feulgen and light green
    )
)

#: Optical density of 8-bit intensities; that of 0 is not infinite.
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


def restained(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Tissue in haematoxylin and eosin as if other dyes had been taken.

    The optical density is divided among the dyes (Ruifrok and Johnston 2001, colour
    deconvolution) and each gets another colour and strength. In a quarter of the draws the
    second dye is that of the nuclei, as in immunohistochemistry of a nuclear protein.
    """
    dyes = COUNTERSTAINS[rng.integers(len(COUNTERSTAINS))]
    if rng.random() < 0.25:
        dyes = dyes[[1, 0, 2]]
    dyes = dyes + rng.normal(0.0, 0.05, (3, 3))
    dyes = dyes * np.exp(rng.normal(0.0, 0.3, (3, 1)))
    change = (np.linalg.inv(_HAEMATOXYLIN_EOSIN) @ dyes).astype(np.float32)
    density = np.maximum(_DENSITY[image] @ change, 0)
    intensity: NDArray[np.uint8] = (np.exp(-density) * 255).astype(np.uint8)
    return intensity


#: With a third row at right angles to both dyes, which takes what neither explains.
_HAEMATOXYLIN_EOSIN = np.vstack(
    [COUNTERSTAINS[0][:2], np.cross(COUNTERSTAINS[0][0], COUNTERSTAINS[0][1])]
)
