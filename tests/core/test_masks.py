"""Masks of pixels: area and bounding box."""

from __future__ import annotations

import numpy as np

from napari_unet_cells.core.masks import area_of, bounding_box


def test_a_bounding_box_has_a_margin_within_the_plane() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3, 4] = mask[5, 11] = True
    assert bounding_box(mask) == (slice(3, 6), slice(4, 12))
    assert bounding_box(mask, 4) == (slice(0, 10), slice(0, 16))


def test_the_area_is_the_number_of_pixels() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2] = True
    assert area_of(mask) == 2
