"""Image planes in the pixels of labels, with napari's own transforms."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_unet_cells.layers.aligned_plane import AlignedPlane, LabelsGrid, aligned_plane

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def grid_of(labels, world, index=(None, None)):
    return LabelsGrid.of(labels, index, labels.ndim - 2, labels.ndim - 1, world)


def gradient(shape=(30, 40)):
    return np.arange(np.prod(shape), dtype=float).reshape(shape)


def test_the_same_grid_gives_the_plane_itself():
    place = {"scale": (0.5, 0.5), "translate": (3, 4)}
    image = Image(gradient(), **place)
    found = aligned_plane(image, grid_of(Labels(np.zeros((30, 40), int), **place), (0, 0)))
    assert found is not None
    assert found.zoom == pytest.approx(1)
    assert not isinstance(found.image, AlignedPlane)
    np.testing.assert_array_equal(found.image[2:5, 3:6], gradient()[2:5, 3:6])


def test_a_finer_grid_is_interpolated_and_beside_the_image_nothing_is_known():
    image = Image(gradient(), scale=(2, 2), translate=(10, 20))
    found = aligned_plane(image, grid_of(Labels(np.zeros((100, 100), int)), (0, 0)))
    assert found is not None
    assert found.zoom == pytest.approx(0.5)
    assert found.image is found
    assert found.shape == (100, 100)
    seen = found[0:100, 0:100]
    assert seen[12, 24] == gradient()[1, 2]
    assert seen[13, 24] == (gradient()[1, 2] + gradient()[2, 2]) / 2
    assert np.isnan(seen[:9]).all()
    assert np.isnan(seen[:, :19]).all()
    assert np.isfinite(seen[10:69, 20:99]).all()
    np.testing.assert_array_equal(found[12:40:7, 24:30], seen[12:40:7, 24:30])
    assert found.covers((12, 24))
    assert not found.covers((5, 24))


def test_axes_may_be_exchanged_and_colours_stay():
    pixels = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    image = Image(pixels, rgb=True, affine=[[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    found = aligned_plane(image, grid_of(Labels(np.zeros((40, 30), int)), (0, 0)))
    assert found is not None
    assert found.shape == (40, 30, 3)
    np.testing.assert_allclose(found[0:40, 0:30], pixels.transpose(1, 0, 2))


def test_the_plane_of_a_stack_is_that_of_the_labels_and_of_the_sliders():
    stack = np.stack([np.stack([gradient() + 10 * z + c for z in range(3)]) for c in range(2)])
    image = Image(stack, scale=(1, 2, 1, 1))
    plane = Labels(np.zeros((1, 30, 40), int), scale=(2, 1, 1), translate=(4, 0, 0))
    grid = grid_of(plane, (1, 0, 5, 5), (0, None, None))
    found = aligned_plane(image, grid)
    assert found is not None
    np.testing.assert_array_equal(found.image[0:30, 0:40], stack[1, 2])
    beyond = grid_of(plane, (4, 0, 5, 5), (0, None, None))
    assert aligned_plane(image, beyond) is None


def test_labels_that_cut_through_the_planes_have_none():
    image = Image(np.zeros((3, 30, 40)))
    labels = Labels(np.zeros((3, 30, 40), int))
    grid = LabelsGrid.of(labels, (None, 5, None), 0, 2, (0, 5, 0))
    assert aligned_plane(image, grid) is None
    flat = LabelsGrid.of(Labels(np.zeros((30, 40), int)), (None, None), 0, 1, (0, 0))
    assert aligned_plane(image, flat) is None  # more axes than the viewer would have
