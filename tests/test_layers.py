"""What layers tell, on napari's own layer classes without a window."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels, Points

from napari_unet_cells import layers as facts
from napari_unet_cells.errors import UserError

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def result(image, role=facts.CELLS, **place):
    metadata = facts.result_metadata(role, facts.image_id(image), {"version": "1"})
    return Labels(np.zeros((6, 8), np.uint16), name="result", metadata=metadata, **place)


@pytest.fixture
def image():
    return Image(np.random.default_rng(0).random((6, 8)), name="nuclei")


def test_only_images_that_are_not_ours_are_offered(image):
    ours = Image(np.zeros((6, 8)), metadata=facts.result_metadata("heat map", "?", {}))
    assert facts.image_layers([image, ours, result(image), Points()]) == [image]


def test_the_image_follows_the_active_layer(image):
    other = Image(np.zeros((4, 4)), name="other")
    cells = result(image)
    layers = [image, cells, other]
    assert facts.image_for(other, layers) is other
    assert facts.image_for(cells, layers, current=other) is image  # its source, not the shown one
    assert facts.image_for(None, layers, current=image) is image
    assert facts.image_for(None, layers) is other  # the topmost
    assert facts.image_for(cells, [cells, other], current=image) is other  # the source is gone
    assert facts.image_for(None, [cells]) is None


def test_labels_follow_the_active_layer(image):
    first, second = result(image), result(image)
    assert facts.labels_for(first, [image, first, second]) is first
    assert facts.labels_for(image, [image, first, second], current=first) is first
    assert facts.labels_for(image, [image, first, second]) is second
    assert facts.labels_for(image, [image]) is None


def test_place_of_an_image_puts_labels_on_it():
    image = Image(
        np.zeros((6, 8)), scale=(0.5, 0.25), translate=(3, 4), rotate=30, shear=[0.2],
        affine=[[1, 0.1, 5], [0, 1, 6], [0, 0, 1]], units=("um", "um"), axis_labels=("y", "x"),
    )  # fmt: skip
    labels = Labels(np.zeros((6, 8), np.uint8), **facts.place_of(image))
    for point in ((0, 0), (5, 7)):
        np.testing.assert_allclose(labels.data_to_world(point), image.data_to_world(point))
    assert labels.axis_labels == ("y", "x")
    json.dumps(facts.describe_transform(labels))


def test_stacks_are_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"'stack' is a stack \(3 x 6 x 8\).*Split Stack"):
        facts.plane_of(Image(np.zeros((3, 6, 8)), name="stack"))


def test_planes_come_at_full_resolution():
    rgb = Image(np.zeros((40, 50, 3), np.uint8), rgb=True)
    assert facts.plane_of(rgb).shape == (40, 50, 3)
    levels = Image([np.zeros((40, 50)), np.zeros((20, 25))], multiscale=True)
    assert facts.plane_of(levels).shape == (40, 50)


def test_pixel_size_comes_from_the_layer_else_from_its_file(tmp_path, image):
    assert facts.pixel_size(image) == facts.PixelSize(1.0, 1.0, "pixel")
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, np.zeros((6, 8), np.uint8), imagej=True, resolution=(4, 4), metadata={"unit": "um"}
    )
    image._source = image.source.model_copy(update={"path": str(path)})
    labels = result(image)
    assert facts.pixel_size(labels, image) == facts.PixelSize(0.25, 0.25, "micrometer")
    scaled = result(image, scale=(2, 3), units=("nm", "nm"))
    assert facts.pixel_size(scaled, image) == facts.PixelSize(2.0, 3.0, "nanometer")


def test_record_tells_corrected_from_untouched_labels(image):
    made = np.arange(48, dtype=np.uint16).reshape(6, 8)
    metadata = facts.result_metadata(
        facts.CELLS, facts.image_id(image), {"version": "1"}, facts.digest(made)
    )
    layer = Labels(made.copy(), metadata=metadata)
    size = facts.PixelSize(1, 1, "pixel")
    assert facts.export_record(layer, size)["corrected_by_hand"] is False
    layer.data_setitem((np.array([0]), np.array([0])), 7)
    assert facts.export_record(layer, size)["corrected_by_hand"] is True
    layer.undo()
    assert facts.export_record(layer, size)["corrected_by_hand"] is False
    foreign = facts.export_record(Labels(made), size)
    assert foreign["corrected_by_hand"] is None  # not ours: we cannot know
    json.dumps(foreign)
