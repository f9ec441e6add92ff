"""Metadata, choice and transforms of layers, on napari's own layer classes without a window."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels, Points
from napari.utils._proxies import PublicOnlyProxy

from napari_unet_cells.core.labels import digest
from napari_unet_cells.errors import UserError
from napari_unet_cells.layers.export_source import export_record, export_source, pixel_size
from napari_unet_cells.layers.image_planes import describe_source, planes_for, stack_axes
from napari_unet_cells.layers.metadata import (
    CELLS,
    CLASSES,
    image_id,
    result_metadata,
    set_input_metadata,
)
from napari_unet_cells.layers.pixel_size import PixelSize, image_pixel_size, typed_pixel_size
from napari_unet_cells.layers.selection import cells_of, image_for, image_layers, labels_for
from napari_unet_cells.layers.transforms import describe_transform, place_of, place_without

# napari is loaded, so these share the process of the windows and never that of TensorFlow.
pytestmark = pytest.mark.gui


def result(image, role=CELLS, **place):
    metadata = result_metadata(role, image_id(image), {"version": "1"})
    return Labels(np.zeros((6, 8), np.uint16), name="result", metadata=metadata, **place)


@pytest.fixture
def image():
    return Image(np.random.default_rng(0).random((6, 8)), name="nuclei")


def test_only_images_that_are_not_ours_are_offered(image):
    ours = Image(np.zeros((6, 8)), metadata=result_metadata("heat map", "?", {}))
    assert image_layers([image, ours, result(image), Points()]) == [image]


def test_the_image_follows_the_active_layer(image):
    other = Image(np.zeros((4, 4)), name="other")
    cells = result(image)
    layers = [image, cells, other]
    assert image_for(other, layers) is other
    assert image_for(cells, layers, current=other) is image  # its source, not the shown one
    assert image_for(None, layers, current=image) is image
    assert image_for(None, layers) is other  # the topmost
    assert image_for(cells, [cells, other], current=image) is other  # the source is gone
    assert image_for(None, [cells]) is None


def test_labels_follow_the_active_layer(image):
    first, second = result(image), result(image)
    assert labels_for(first, [image, first, second]) is first
    assert labels_for(image, [image, first, second], current=first) is first
    assert labels_for(image, [image, first, second]) is second
    assert labels_for(image, [image]) is None


def test_the_active_layer_may_be_a_proxy_as_plugins_get_it(image):
    other = Image(np.zeros((4, 4)), name="other")
    first, second = result(image), result(image)
    active = PublicOnlyProxy(first)
    assert active is not first
    assert labels_for(active, [first, second]) is first
    assert image_for(PublicOnlyProxy(image), [image, other]) is image


def test_place_of_an_image_puts_labels_on_it():
    image = Image(
        np.zeros((6, 8)), scale=(0.5, 0.25), translate=(3, 4), rotate=30, shear=[0.2],
        affine=[[1, 0.1, 5], [0, 1, 6], [0, 0, 1]], units=("um", "um"), axis_labels=("y", "x"),
    )  # fmt: skip
    labels = Labels(np.zeros((6, 8), np.uint8), **place_of(image))
    for point in ((0, 0), (5, 7)):
        np.testing.assert_allclose(labels.data_to_world(point), image.data_to_world(point))
    assert labels.axis_labels == ("y", "x")
    json.dumps(describe_transform(labels))


def placed_like(labels, image, labels_index, image_index):
    np.testing.assert_allclose(
        labels.data_to_world(labels_index), image.data_to_world(image_index), atol=1e-9
    )


TURNED = {
    "scale": (2, 0.5, 0.25), "translate": (7, 3, 4),
    "rotate": [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]],
    "affine": [[1, 0, 0, 5], [0, 1, 0.1, 6], [0, 0, 1, 7], [0, 0, 0, 1]],
}  # fmt: skip


def test_labels_of_one_plane_lie_in_this_plane():
    image = Image(np.random.default_rng(0).random((5, 6, 8)), **TURNED)
    labels = Labels(np.zeros((1, 6, 8), np.uint8), **place_of(image, (3,)))
    placed_like(labels, image, (0, 2, 5), (3, 2, 5))
    assert [(axis.axis, axis.length) for axis in stack_axes(image)] == [(0, 5)]
    assert planes_for(image, (3,)).shape == (6, 8)
    assert planes_for(image, None).shape == (5, 6, 8)
    assert describe_source(image, (3,))["plane"] == [3]


@pytest.mark.parametrize("place", [{}, TURNED], ids=["plain", "turned"])
def test_a_channel_lies_where_its_stack_lies(place):
    stack = Image(np.zeros((5, 6, 8)), axis_labels=("c", "y", "x"), **place)
    assert stack_axes(stack)[0].is_channel
    channel = Image(np.zeros((6, 8)), **place_without(stack, 0))
    for index in ((0, 0), (5, 7)):
        expected = stack.data_to_world((2, *index))[1:]
        np.testing.assert_allclose(channel.data_to_world(index), expected)
    assert channel.axis_labels == ("y", "x")
    np.testing.assert_allclose(channel.scale, stack.scale[1:])


def test_planes_come_at_full_resolution():
    rgb = Image(np.zeros((40, 50, 3), np.uint8), rgb=True)
    assert planes_for(rgb, ()).shape == (40, 50)
    assert stack_axes(rgb) == ()
    levels = Image([np.zeros((40, 50)), np.zeros((20, 25))], multiscale=True)
    assert planes_for(levels, ()).shape == (40, 50)


def tiff(path, size):
    resolution = (1 / size, 1 / size)
    pixels = np.zeros((6, 8), np.uint8)
    tifffile.imwrite(path, pixels, imagej=True, resolution=resolution, metadata={"unit": "um"})
    image = Image(pixels, name=path.stem)
    image._source = image.source.model_copy(update={"path": str(path)})
    return image


def size_of(layer, layers):
    return pixel_size(export_source(layer, layers))


def test_pixel_size_comes_from_the_layer_else_from_its_file(tmp_path):
    image = tiff(tmp_path / "image.tif", 0.25)
    plain = Labels(np.zeros((6, 8), np.uint16))
    assert size_of(plain, [image, plain]) == PixelSize(1.0, 1.0, "pixel")  # not its labels
    labels = result(image)
    assert size_of(labels, [image, labels]) == PixelSize(0.25, 0.25, "micrometer")
    scaled = result(image, scale=(2, 3), units=("nm", "nm"))
    assert size_of(scaled, [image, scaled]) == PixelSize(2.0, 3.0, "nanometer")


def test_pixel_size_is_never_that_of_another_image(tmp_path):
    image, other = tiff(tmp_path / "image.tif", 0.25), tiff(tmp_path / "other.tif", 0.1)
    labels = result(image)
    assert size_of(labels, [image, other]).x == 0.25
    assert size_of(labels, [other]) == PixelSize(1.0, 1.0, "pixel")  # its image is gone
    provenance = {"source": describe_source(image)}
    metadata = result_metadata(CELLS, image_id(image), provenance)
    labels = Labels(np.zeros((6, 8), np.uint16), metadata=metadata)
    assert size_of(labels, [other]).x == 0.25  # the provenance knows the file


def test_the_user_tells_what_neither_layer_nor_file_knows(tmp_path):
    image = Image(np.zeros((6, 8)), name="plain")
    labels = result(image)
    assert image_pixel_size(image)() == PixelSize(1.0, 1.0, "pixel")
    set_input_metadata(image, pixel_size=(0.3, 0.3, "micrometer"))
    told = PixelSize(0.3, 0.3, "micrometer")
    assert image_pixel_size(image)() == size_of(labels, [image, labels]) == told
    file = tiff(tmp_path / "image.tif", 0.25)
    set_input_metadata(file, pixel_size=(0.3, 0.3, "micrometer"))
    assert image_pixel_size(file)().x == 0.25  # the file knows better
    set_input_metadata(image, pixel_size=None)
    assert typed_pixel_size(image) is None


@pytest.mark.parametrize(
    ("shape", "labels", "axes", "exported"),
    [
        ((6, 8), None, "YX", (6, 8)),
        ((1, 6, 8), None, "YX", (6, 8)),
        ((4, 6, 8), None, "ZYX", (4, 6, 8)),
        ((4, 6, 8), ("t", "y", "x"), "TYX", (4, 6, 8)),
        ((3, 4, 6, 8), None, "TZYX", (3, 4, 6, 8)),
        ((3, 1, 6, 8), None, "TYX", (3, 6, 8)),
    ],
)
def test_stacks_are_exported_with_their_axes(shape, labels, axes, exported):
    layer = Labels(np.zeros(shape, np.uint16), axis_labels=labels)
    source = export_source(layer, [])
    assert source.axes == axes
    assert source.labels.shape == exported


def test_levels_and_five_axes_are_not_exported():
    for layer in (
        Labels(np.zeros((2, 2, 2, 6, 8), int), name="stack"),
        Labels([np.zeros((60, 80), int), np.zeros((30, 40), int)], multiscale=True, name="stack"),
    ):
        with pytest.raises(UserError, match="'stack' has several levels or more axes than"):
            export_source(layer, [])


def test_record_tells_corrected_from_untouched_labels(image):
    made = np.arange(48, dtype=np.uint16).reshape(6, 8)
    metadata = result_metadata(CELLS, image_id(image), {"version": "1"}, digest(made))
    layer = Labels(made.copy(), metadata=metadata)
    size = PixelSize(1, 1, "pixel")

    def corrected(layer):
        record = export_record(export_source(layer, [image]), size)
        json.dumps(record)
        return record["corrected_by_hand"]

    assert corrected(layer) is False
    layer.data_setitem((np.array([0]), np.array([0])), 7)
    assert corrected(layer) is True
    layer.undo()
    assert corrected(layer) is False
    assert corrected(Labels(made)) is None  # not ours: we cannot know


def test_the_cells_of_an_image_are_those_that_were_found_in_it(image):
    other = Image(np.zeros((4, 4)))

    below, above = result(image), result(image)
    drawn = Labels(np.zeros((4, 4), np.uint8))
    layers = [other, below, image, result(image, CLASSES), above, drawn, result(other)]
    assert cells_of(image, layers) == [below, above]
    assert cells_of(PublicOnlyProxy(image), layers) == [below, above]
    assert cells_of(below, layers) == cells_of(image, [below]) == []
