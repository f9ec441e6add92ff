"""The protocols against napari's own layer classes, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels, Points

from napari_unet_cells.core.arrays import ImageArray
from napari_unet_cells.layers.protocols import ImageLayer, LabelsLayer, Layer, SavedLayer

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def multiscale() -> Image:
    return Image([np.zeros((8, 8)), np.zeros((4, 4))], multiscale=True)


@pytest.mark.parametrize("image", [Image(np.zeros((3, 4))), multiscale()], ids=["one", "levels"])
def test_an_image_of_napari_has_what_an_image_layer_must_have(image: Image) -> None:
    assert isinstance(image, ImageLayer)
    assert isinstance(image.data, ImageArray)


def test_labels_of_napari_have_what_a_labels_layer_must_have() -> None:
    labels = Labels(np.zeros((3, 4), np.uint8))
    assert isinstance(labels, LabelsLayer)
    assert not isinstance(labels, ImageLayer)  # no colours


def test_other_layers_are_layers_too() -> None:
    assert isinstance(Points(), Layer)


def test_the_transform_of_a_layer_is_one() -> None:
    layer = Labels(np.zeros((3, 4), np.uint8), affine=[[1, 0.1, 5], [0, 1, 6], [0, 0, 1]])
    np.testing.assert_array_equal(layer.affine.affine_matrix[:-1, :-1], [[1, 0.1], [0, 1]])
    assert layer.source.path is None
    assert layer.source.reader_plugin is None


def test_an_array_is_no_layer() -> None:
    assert not isinstance(np.zeros((3, 4)), SavedLayer)
