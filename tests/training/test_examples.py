"""Training examples: cells that share an id, and planes at the scale of the network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_unet_cells.core.normalize import Limits
from napari_unet_cells.datasets.annotated_images import AnnotatedImage
from napari_unet_cells.training.cell_sizes import zooms_by_image
from napari_unet_cells.training.crops import AugmentOptions, Cropper
from napari_unet_cells.training.examples import TrainingExample, separated

WINDOW = (18.0, 36.0)


def example_of(mask: np.ndarray, source: str) -> TrainingExample:
    item = AnnotatedImage(Path("a.tif"), Path("b.tif"), "unknown", "train", source=source)
    image = (mask > 0).astype(np.uint8) * 200
    return TrainingExample(item, image, mask, Limits(0, 255), (slice(None), slice(None)), None)


def discs(shape: tuple[int, int], diameter: int, ids: Iterator[int]) -> np.ndarray:
    """Lay discs on a lattice, numbered as `ids` says."""
    mask = np.zeros(shape, np.int32)
    y, x = np.ogrid[: shape[0], : shape[1]]
    step = diameter + 6
    for cy in range(step, shape[0] - step, step):
        for cx in range(step, shape[1] - step, step):
            mask[(y - cy) ** 2 + (x - cx) ** 2 <= (diameter / 2) ** 2] = next(ids)
    return mask


def ones() -> Iterator[int]:
    return itertools.repeat(1)


def numbers() -> Iterator[int]:
    return itertools.count(1)


def test_a_mask_of_black_and_white_becomes_cells():
    white = discs((120, 120), 16, ones())
    cells = separated(white)

    expected = discs((120, 120), 16, numbers())
    assert ((cells > 0) == (white > 0)).all()
    assert len(np.unique(cells)) == len(np.unique(expected)) > 10
    pairs = np.unique(np.stack([cells, expected])[:, expected > 0], axis=1)
    assert pairs.shape[1] == len(np.unique(expected)) - 1


def test_cells_that_touch_and_those_with_stray_pixels_stay_as_they_are():
    mask = np.zeros((60, 60), np.int32)
    mask[5:25, 5:25], mask[5:25, 25:45] = 3, 7  # two that touch
    mask[50:52, 50:52] = 3  # stray pixels
    np.testing.assert_array_equal(separated(mask), mask)
    mask[30:48, 5:25] = 7  # a second cell of the same number
    cells = separated(mask)
    assert len(np.unique(cells)) == 4
    assert (cells[mask == 3] == 3).all()


def test_images_of_cells_of_two_sizes_are_each_seen_at_their_scale():
    small = example_of(discs((256, 256), 20, numbers()), "small")
    large = example_of(discs((512, 512), 110, numbers()), "large")
    zooms = zooms_by_image([small, large], WINDOW)

    assert zooms.get("small", zooms[""]) == 1.0
    np.testing.assert_allclose(zooms.get("large", zooms[""]), 36 / 110, rtol=0.05)
    planes = [e.annotated(True, zooms.get(e.item.source, zooms[""])) for e in (small, large)]
    for plane in planes:
        options = AugmentOptions(size=128, zooms=(1.0, 1.0))
        _, classes, _ = Cropper([plane], options).batch(4, (0,))
        # The boundary of a cell of 20 to 36 pixels is a quarter of it; of 110 it were a tenth.
        assert 0.15 < (classes == 2).sum() / (classes > 0).sum() < 0.5


def test_images_of_about_one_size_are_seen_at_one_scale():
    examples = [example_of(discs((256, 256), d, numbers()), str(d)) for d in (40, 50, 56)]
    assert list(zooms_by_image(examples, WINDOW)) == [""]
    assert zooms_by_image([], WINDOW) == {"": 1.0}
