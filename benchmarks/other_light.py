"""What becomes of a model's scores when the same images come in another light.

The ``val`` images of annotated folders are made brighter, darker, blurred, noisy, shaded or
inverted, and segmented as they are then::

    python benchmarks/other_light.py FOLDER ... --models NAME ... --page
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import cards_of, measure, replace_section
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet_cells.core.metrics import summarize
from napari_unet_cells.core.normalize import normalize, percentile_limits
from napari_unet_cells.datasets.annotated_images import read_annotated_images
from napari_unet_cells.errors import UserError

Image = NDArray[np.float32]


def _blurred(image: Image, rng: np.random.Generator) -> Image:
    blurred: Image = ndimage.gaussian_filter(image, 1.5, axes=(0, 1))
    return blurred


def _noisy(image: Image, rng: np.random.Generator) -> Image:
    return np.asarray(image + rng.normal(0, 0.1, image.shape).astype(np.float32))


def _shaded(image: Image, rng: np.random.Generator) -> Image:
    columns = np.linspace(0.3, 1.0, image.shape[1], dtype=np.float32)
    return np.asarray(image * columns.reshape(1, -1, *(1,) * (image.ndim - 2)))


#: Of an image from 0 to 1, which the network sees clipped to that and as 8 bit.
LIGHTS: Mapping[str, Callable[[Image, np.random.Generator], Image]] = {
    "as they are": lambda image, rng: image,
    "brighter (gamma 0.5)": lambda image, rng: image**0.5,
    "darker (gamma 2)": lambda image, rng: image**2,
    "blurred (1.5 pixels)": _blurred,
    "noisy (a tenth of the range)": _noisy,
    "shaded (to three tenths at the left)": _shaded,
    "inverted": lambda image, rng: 1 - image,
}


def in_light(image: NDArray[Any], light: str) -> NDArray[np.uint8]:
    """Bring an image into a light of `LIGHTS`, as 8 bit."""
    limits = percentile_limits(image)
    if limits is None:  # nothing is to be seen in any light
        return np.zeros(image.shape, np.uint8)
    changed = LIGHTS[light](normalize(image, limits), np.random.default_rng(0))
    return np.asarray((np.clip(changed, 0, 1) * 255 + 0.5).astype(np.uint8))


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="*", type=Path, help="annotated folders")
    parser.add_argument("--models", nargs="*", help="names or .keras files (default: all shipped)")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    options = parser.parse_args()
    if not options.data:
        print("Name annotated folders: benchmarks/other_light.py FOLDER ...")
        return
    items = read_annotated_images(options.data, "val")
    rows = ["| model | images | AP at IoU 0.5 | AP at IoU 0.75 | foreground IoU |"]
    rows.append("|---" * 5 + "|")
    for card in cards_of(options.models):
        for light in LIGHTS:
            measured = measure(items, card, partial(in_light, light=light))
            found = summarize([one.score for one in measured])
            scores = (f"{value:.3f}" for value in (found.ap50, found.ap75, found.iou))
            rows.append(f"| {' | '.join((card.name, light, *scores))} |")
            print(rows[-1], flush=True)
    if options.page:
        replace_section("lights", "\n".join(rows))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
